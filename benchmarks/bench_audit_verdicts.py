"""How often an audit calls Gaussian data not Gaussian, and how often it finds out data that are not.

False alarms: random Gaussian data sets with P/N from 0.2 to 100, with isotropic, linear-manifold, power-law and two-subspace
covariances. Each audit compares the four times with the theory at P and N (condensation: with the twin) and may call "not
Gaussian" in at most `validation.audit.differences.FALSE_ALARM` of all audits. Power: 12 clusters, a strongly curved manifold
(tanh), and with --images subsets of real images. Every data set has its own seed, rows go to the file one by one, and a second
call goes on.

    python benchmarks/bench_audit_verdicts.py --out docs/results/audit_verdicts                  # 200 Gaussian data sets
    python benchmarks/bench_audit_verdicts.py --out docs/results/audit_verdicts --images FILE.npz  # and subsets of FILE.npz
    python benchmarks/bench_audit_verdicts.py --sets 12 --powers 1                               # some minutes, to the screen
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.stats import beta

from validation.audit import NOT_GAUSSIAN, NOT_KNOWN, NOT_RESOLVED, GaussianReference, TimeRow, measure
from validation.data import load, split
from validation.simulation import Sampler

SPECTRA = ("isotropic", "linear manifold", "power law", "two subspaces")
SIZES = (100, 400, 1600)
IMAGES = (100, 400, 1600, 5000)
KINDS = ("onset", "collapse", "condensation", "generalization")
FIGURES = ("at_P_N", "measured", "error", "covariance_error", "verdict")
COLUMNS = ("study", "kind", "seed", "P", "N", *(f"{kind}_{name}" for kind in KINDS for name in FIGURES))
SHORT = {NOT_GAUSSIAN: "not Gaussian", NOT_KNOWN: "not known", NOT_RESOLVED: "not resolved"}


def gaussian_set(index: int, seed: int) -> tuple[str, np.ndarray]:
    """The index-th Gaussian data set: its kind and X (P, N)."""
    rng = np.random.default_rng([seed, index])
    kind = SPECTRA[index % len(SPECTRA)]
    # the ratio runs evenly through its decades, so that every part of the range is met
    ratio = 0.2 * 500 ** ((index + rng.random()) / 200 * 37 % 1)
    N = int(np.exp(rng.uniform(*np.log([8, 120 if ratio < 20 else 40]))))
    P = max(12, round(ratio * N))
    r = {
        "isotropic": lambda: np.ones(N),
        "linear manifold": lambda: _manifold(N, max(2, round(rng.uniform(0.15, 0.6) * N)), rng),
        "power law": lambda: np.arange(1, N + 1) ** -rng.uniform(0.5, 2.0),
        "two subspaces": lambda: np.repeat([1.0, rng.uniform(0.01, 0.3)], [max(1, N // 4), N - max(1, N // 4)]),
    }[kind]()
    return kind, rng.standard_normal((P, N)) * np.sqrt(r)


def _manifold(N: int, D: int, rng: np.random.Generator) -> np.ndarray:
    values = np.linalg.svd(rng.standard_normal((N, D)) / math.sqrt(D), compute_uv=False) ** 2
    return np.append(values, np.zeros(N - values.size))


def clusters(P: int, seed: int) -> np.ndarray:
    """12 clusters of width 0.2 around Gaussian centres in 20 dimensions."""
    rng = np.random.default_rng([seed, P, 1])
    return rng.standard_normal((12, 20))[rng.integers(0, 12, P)] + 0.2 * rng.standard_normal((P, 20))


def curved(P: int, seed: int) -> np.ndarray:
    """tanh(2 F z/sqrt D), D = 4 latents in N = 40."""
    rng = np.random.default_rng([seed, P, 2])
    return np.tanh(rng.standard_normal((P, 4)) @ rng.standard_normal((4, 40)))


def verdicts(X: np.ndarray, seed: int, draws: int) -> tuple[TimeRow, ...]:
    """The rows of the audit of X, without what does not bear on verdicts."""
    train, held_out = split(X.astype(np.float32), None, seed=seed)
    reference = GaussianReference.of(train, seed)
    measured = measure(train, held_out, seed=seed)
    sampler = Sampler(reference.spectrum, X.shape[1], seed)
    twin = measure(*(sampler.sample(n).float().numpy() for n in (len(train), len(held_out))), t=measured.t, seed=seed)
    return reference.times(measured, twin, min(256, len(held_out)), seed=seed, draws=draws)


def jobs(arguments: argparse.Namespace) -> Iterator[tuple[tuple[str, str, int, int], np.ndarray]]:
    """((study, kind, seed, P), X) of everything that is to be done; images are read once."""
    part, parts = arguments.part
    for index in range(part, arguments.sets, parts):
        kind, X = gaussian_set(index, arguments.seed)
        yield ("false alarms", kind, index, len(X)), X
    powers = [(name, make, P, s) for P in SIZES for s in range(arguments.powers) for name, make in MADE.items()]
    for name, make, P, seed in powers[part::parts]:
        yield ("power", name, seed, P), make(P, seed)
    if arguments.images:
        images = load(arguments.images).X
        for P, seed in [(P, s) for P in IMAGES for s in range(arguments.powers)][part::parts]:
            rows = np.random.default_rng([seed, P, 3]).choice(len(images), P, replace=False)
            yield ("power", Path(arguments.images).stem, seed, P), images[rows]


MADE = {"12 clusters": clusters, "tanh manifold": curved}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=200, help="Gaussian data sets")
    parser.add_argument("--powers", type=int, default=4, help="data sets of each other kind and size")
    parser.add_argument(
        "--draws", type=int, default=8, help="of x in the exact theory at finite size (the audit takes 32)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", help="a data set of images for the power")
    parser.add_argument(
        "--part", type=lambda s: tuple(map(int, s.split("/"))), default=(0, 1), help="k/n: every nth, from k"
    )
    parser.add_argument("--out", type=Path, help="folder for verdicts.csv")
    arguments = parser.parse_args()
    rows: list[dict[str, str]] = []
    path = arguments.out / "verdicts.csv" if arguments.out else None
    if path and path.exists():
        rows = list(csv.DictReader(path.open()))
    elif path:
        arguments.out.mkdir(parents=True, exist_ok=True)
        _append(path, ",".join(COLUMNS))
    done = {(row["study"], row["kind"], int(row["seed"]), int(row["P"])) for row in rows}
    for key, X in jobs(arguments):
        if key in done:
            continue
        start = time.perf_counter()
        found = verdicts(X, arguments.seed + key[2], arguments.draws)
        row = dict(zip(COLUMNS, [*map(str, key), str(X.shape[1])], strict=False))
        for time_row in found:
            row |= {f"{time_row.kind}_{name}": value for name, value in _figures(time_row).items()}
        rows.append(row)
        if path:
            _append(path, ",".join(row[column] for column in COLUMNS))
        said = ", ".join(f"{r.kind} {SHORT.get(r.verdict, r.verdict)}" for r in found)
        print(f"{' '.join(map(str, key))} x {X.shape[1]}: {said} ({time.perf_counter() - start:.0f} s)", flush=True)
    summary(rows)


def _figures(row: TimeRow) -> dict[str, str]:
    known = row.gaussian
    numbers = (known[0].value if known else math.nan, row.data.value, row.data.error, row.covariance)
    texts = [f"{number:.4g}" for number in numbers]
    return dict(zip(FIGURES, [*texts, SHORT.get(row.verdict, row.verdict.split(":")[0])], strict=True))


def _append(path: Path, line: str) -> None:
    with path.open("a") as file:  # one write a line: several processes may share the file
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def summary(rows: list[dict[str, str]]) -> None:
    """Rates with their 95 % intervals (Clopper and Pearson)."""

    def says(row: dict[str, str], what: str) -> bool:
        return any(row[f"{kind}_verdict"] == what for kind in KINDS)

    print(f"\n{'':42} audits  not Gaussian       95 %          not known  not resolved")
    groups: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        if row["study"] == "false alarms":
            ratio = int(row["P"]) / int(row["N"])
            low = max(edge for edge in (0.0, 1.0, 10.0) if ratio >= edge)
            groups.setdefault("Gaussian, all", []).append(row)
            groups.setdefault(f"Gaussian, P/N {'< 1' if low == 0 else '1 to 10' if low == 1 else '> 10'}", []).append(
                row
            )
            groups.setdefault(f"Gaussian, {row['kind']}", []).append(row)
        else:
            groups.setdefault(f"{row['kind']}, P = {row['P']}", []).append(row)
    for name, members in groups.items():
        n, k = len(members), sum(says(row, "not Gaussian") for row in members)
        low = beta.ppf(0.025, k, n - k + 1) if k else 0.0
        high = beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
        others = [sum(says(row, what) for row in members) for what in ("not known", "not resolved")]
        print(f"{name:42} {n:6d} {k:13d} {low:10.3f} - {high:.3f} {others[0]:14d} {others[1]:13d}")


if __name__ == "__main__":
    main()
