"""The empirical score against the bare matrix products it cannot do without, and against its peers, in one process.

Every time is divided by that of the two products x X^T and W X of the same size and precision. Calls of each method,
two in a row, alternate with two of the products; a ratio is that of the faster ones of two neighbouring pairs, and the median
over rounds is shown, with the worst relative error of the score against float64 differences on a few queries.

Peers: torch.cdist with softmax, torch's flash attention with its log-sum-exp (bias by one extra column), scikit-learn's
KernelDensity (log Z only, at N = 64, on a sixteenth of the queries). Data: isotropic, whose collapse time
t_c = 1/(P^(2/N) - 1) sets the noise levels, and a 12-dimensional manifold, where certified pruning pays.

    python benchmarks/bench_empirical_score.py --quick          # a minute
    python benchmarks/bench_empirical_score.py --out results    # all of it, to results/empirical_score.csv; can be interrupted
    python benchmarks/bench_empirical_score.py --clock cpu      # one thread, its own CPU time: a shared machine
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.neighbors import KernelDensity

from numerics.store import atomic, versions
from validation import EmpiricalScore

SIZES = ((256, 50_000, 64), (256, 50_000, 784), (64, 20_000, 3072))
QUICK = ((256, 20_000, 64), (64, 5_000, 784))
CHECKED = 4  # queries whose score is compared with brute force
BURST = 2
COLUMNS = ("part", "B", "P", "N", "dtype", "t", "t/t_c", "method", "ratio", "ms", "error", "note")
WIDTHS = (9, 4, 7, 5, 8, 9, 9, 16, 8, 9, 9, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer rounds")
    parser.add_argument("--only", type=int, help="only the size with this N")
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--out", type=Path, help="folder for empirical_score.csv")
    arguments = parser.parse_args()
    torch.set_num_threads(1 if arguments.clock == "cpu" else arguments.threads)
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    machine = (
        f"{platform.machine()}, {os.cpu_count()} CPUs, device {arguments.device}, {torch.get_num_threads()} threads"
    )
    table = Table(arguments.out, f"# {machine}, {arguments.clock} clock; {packages}")
    for key, run in Bench(arguments).groups():
        table.fill(key, run)


class Table:
    """Rows on the screen and, group by group, in `<folder>/empirical_score.csv`; what is already there is not run again."""

    def __init__(self, folder: Path | None, heading: str):
        self.path, self.heading, self.rows = None, heading, []
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            self.path = folder / "empirical_score.csv"
            if self.path.exists() and self.path.read_text().startswith(heading + "\n"):
                self.rows = list(csv.DictReader(self.path.read_text().splitlines()[1:]))
        self.show(dict(zip(COLUMNS, COLUMNS, strict=True)), *self.rows)

    def fill(self, key: tuple[str, ...], run: Callable[[], Iterator[dict]]) -> None:
        if any(tuple(row[c] for c in COLUMNS[:5]) == key for row in self.rows):
            return
        for found in run():
            self.rows.append({k: f"{v:.3g}" if isinstance(v, float) else str(v) for k, v in found.items()})
            self.show(self.rows[-1])
        if self.path:
            with atomic(self.path) as path, open(path, "w", newline="") as file:
                file.write(self.heading + "\n")
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(self.rows)

    def show(self, *rows: dict) -> None:
        for row in rows:
            print("  ".join(row[c].ljust(width) for c, width in zip(COLUMNS, WIDTHS, strict=True)), flush=True)


class Bench:
    """What is measured, as rows of the table."""

    def __init__(self, arguments: argparse.Namespace):
        self.arguments, self.device = arguments, torch.device(arguments.device)
        self.rounds = arguments.rounds or (2 if arguments.quick else 5)
        self.tick = time.thread_time if arguments.clock == "cpu" else time.perf_counter

    def groups(self) -> Iterator[tuple[tuple[str, ...], Callable[[], Iterator[dict]]]]:
        """(first columns of the rows, what yields them) of every part."""

        def group(part: str, size: tuple[int, int, int], dtype: str, run: Callable, *arguments):
            return (part, *map(str, size), dtype), partial(run, *arguments)

        for B, P, N in QUICK if self.arguments.quick else SIZES:
            if self.arguments.only in (None, N):
                for dtype in ("float32", "float64"):
                    yield group("score", (B, P, N), dtype, self.sums, B, P, N, dtype)
                if N < 1000:
                    yield group("jacobian", (1, P, N), "float32", self.jacobians, P, N)
                yield group("profile", (B, P, N), "float32", self.profiles, B, P, N)
        if self.arguments.only in (None, 64):
            for P in (5_000, 20_000) if self.arguments.quick else (12_500, 50_000, 200_000):
                yield group("pruning", (256, P, 64), "float32", self.pruning, 256, P, 64)

    def sums(self, B: int, P: int, N: int, dtype: str) -> Iterator[dict]:
        """The score, at noise levels from deep collapse to spread weights."""
        X = data("isotropic", P, N).astype(dtype)
        Y = torch.from_numpy(X).to(self.device)
        E = EmpiricalScore(X, dtype=dtype, device=self.device)
        collapse = 1 / (P ** (2 / N) - 1)
        for t in (1e-6, 0.3 * collapse, collapse, 3 * collapse, 300 * collapse):
            x = queries(X, B, t)
            q, exact = torch.from_numpy(x).to(Y), brute(X, x, t)
            methods = {"engine": (partial(E.score, x, t), B)}
            with_peers = not self.arguments.no_peers and t in (1e-6, collapse, 300 * collapse) and dtype == "float32"
            methods |= peers(Y, q, t, X) if with_peers else {}
            for name, (run, asked) in methods.items():
                found = run()
                error = worst(found, exact) if found is not None else math.nan
                ratio, ms = self.compare(run, products(Y, q), B / asked)
                note = E.statistics["method"][0] if name == "engine" else ""
                yield row("score", (B, P, N), dtype, t, name, ratio, ms, error, note, t / collapse)

    def pruning(self, B: int, P: int, N: int) -> Iterator[dict]:
        """The score on a manifold, with clusters and without, as P grows at fixed noise."""
        X = data("manifold", P, N)
        Y = torch.from_numpy(X).to(self.device)
        start = time.perf_counter()
        pruned = EmpiricalScore(X, device=self.device, clusters="auto")
        built = time.perf_counter() - start
        for t in (1e-6, 1e-3, 1e-2, 1.0):
            x = queries(X, B, t)
            q, exact = torch.from_numpy(x).to(Y), brute(X, x, t)
            for name, E in (("engine", EmpiricalScore(X, device=self.device)), ("clusters", pruned)):
                error = worst(E.score(x, t), exact)
                ratio, ms = self.compare(partial(E.score, x, t), products(Y, q))
                note = E.statistics["method"][0]
                if note == "clusters":
                    note += f", looked at {E.statistics['visited']:.2%}, left out < {E.statistics['left_out']:.0e}"
                note += f", built in {built:.1f} s" if E is pruned else ""
                yield row("pruning", (B, P, N), "float32", t, name, ratio, ms, error, note)

    def jacobians(self, P: int, N: int) -> Iterator[dict]:
        """Eigenvalues of one query, over one full covariance product X^T X."""
        X = data("isotropic", P, N)
        Y, E = torch.from_numpy(X).to(self.device), EmpiricalScore(X, device=self.device)
        collapse = 1 / (P ** (2 / N) - 1)
        for t in (1e-6, 0.01 * collapse, 0.3 * collapse, collapse, 100 * collapse):
            x = queries(X, 1, t)
            E.jacobian_eigenvalues(x, t)
            ratio, ms = self.compare(partial(E.jacobian_eigenvalues, x, t), lambda: Y.T @ Y)
            note = f"participation {float(E.participation(x, t)[0]):.0f}"
            yield row("jacobian", (1, P, N), "float32", t, "eigenvalues", ratio, ms, math.nan, note, t / collapse)

    def profiles(self, B: int, P: int, N: int) -> Iterator[dict]:
        """Forty noise levels from two products."""
        X = data("isotropic", P, N)
        Y, E = torch.from_numpy(X).to(self.device), EmpiricalScore(X, device=self.device)
        rng = np.random.default_rng(3)
        own, noise = rng.integers(P, size=B), rng.standard_normal((B, N))
        base, t = X[own].astype(np.float64), np.geomspace(1e-4, 1e3, 40)
        both = torch.from_numpy(np.concatenate([base, noise])).to(Y)
        run = partial(E.noisy_profile, base, noise, t, own=own)
        run()
        ratio, ms = self.compare(run, lambda: both @ Y.T)
        yield row("profile", (B, P, N), "float32", math.nan, "noisy_profile", ratio, ms, math.nan, "40 levels")

    def compare(self, run: Callable, bare: Callable, scale: float = 1.0) -> tuple[float, float]:
        """(median over rounds of scale * time / time of `bare`, its milliseconds)."""
        ratios, times = [], []
        for _ in range(self.rounds):
            reference = min(self.timed(bare) for _ in range(BURST))
            times.append(scale * min(self.timed(run) for _ in range(BURST)))
            ratios.append(times[-1] / reference)
        return statistics.median(ratios), 1e3 * statistics.median(times)

    def timed(self, run: Callable) -> float:
        start = self.tick()
        run()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return self.tick() - start


def row(part, size, dtype, t, method, ratio, ms, error, note, collapse=math.nan) -> dict:
    return dict(zip(COLUMNS, (part, *size, dtype, t, collapse, method, ratio, ms, error, note), strict=True))


def products(Y: torch.Tensor, q: torch.Tensor) -> Callable[[], None]:
    """The bound: both products, outputs allocated and touched before."""
    out, weights, mean = q @ Y.T, torch.full((len(q), len(Y)), 1 / len(Y)).to(Y), torch.empty_like(q)

    def bare() -> None:
        torch.mm(q, Y.T, out=out)
        torch.mm(weights, Y, out=mean)

    bare()
    return bare


def peers(Y: torch.Tensor, q: torch.Tensor, t: float, X: np.ndarray) -> dict[str, tuple[Callable, int]]:
    """Other ways to the score (KernelDensity: to log Z), and how many queries each call takes."""

    def cdist() -> np.ndarray:
        exponent = torch.cdist(q, Y).square_().div_(-2 * t)
        return ((torch.softmax(exponent, 1) @ Y - q) / t).cpu().numpy()

    N, attend = Y.shape[1], attention(Y, q, t) if Y.device.type == "cpu" else None

    def flash() -> np.ndarray:
        return ((attend()[0] - q) / t).cpu().numpy()

    methods = {"cdist + softmax": (cdist, len(q))}
    methods |= {"flash attention": (flash, len(q))} if Y.device.type == "cpu" else {}
    if N == 64 and Y.device.type == "cpu":
        tree, few = KernelDensity(bandwidth=float(np.sqrt(t))).fit(X), q[: len(q) // 16].cpu().numpy()
        methods["KernelDensity"] = (lambda: (tree.score_samples(few), None)[1]), len(few)
    return methods


def attention(Y: torch.Tensor, q: torch.Tensor, t: float) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    """Means and log Z by torch's flash attention on the CPU, with -|xi|^2/2t as a bias in one extra column."""
    N = Y.shape[1]
    extra = 8 - N % 8
    keys = torch.zeros(len(Y), N + extra, dtype=Y.dtype, device=Y.device)
    keys[:, :N], keys[:, N] = Y, -Y.square().sum(1) / 2
    asked = torch.zeros(len(q), N + extra, dtype=Y.dtype, device=Y.device)
    asked[:, :N], asked[:, N] = q, 1

    def attend() -> tuple[torch.Tensor, torch.Tensor]:
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        mean, log_sum = flash(asked[None, None], keys[None, None], keys[None, None], scale=1 / t)
        return mean[0, 0, :, :N], log_sum[0, 0] - q.square().sum(1) / (2 * t)

    return attend


def data(kind: str, P: int, N: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    if kind == "isotropic":
        return rng.standard_normal((P, N), dtype=np.float32)
    plane = rng.standard_normal((12, N), dtype=np.float32) / np.float32(12**0.5)
    latent = rng.standard_normal((P, 12), dtype=np.float32) @ plane
    return latent + np.float32(0.01) * rng.standard_normal((P, N), dtype=np.float32)


def queries(X: np.ndarray, B: int, t: float) -> np.ndarray:
    rng = np.random.default_rng(1)
    return X[rng.integers(len(X), size=B)] + np.sqrt(t) * rng.standard_normal((B, X.shape[1]))


def brute(X: np.ndarray, x: np.ndarray, t: float) -> np.ndarray:
    score = []
    for q in x[:CHECKED]:
        d = X.astype(np.float64) - q
        exponent = -np.einsum("pn,pn->p", d, d) / (2 * t)
        w = np.exp(exponent - exponent.max())
        score.append(w @ d / w.sum() / t)
    return np.array(score)


def worst(found: np.ndarray, exact: np.ndarray) -> float:
    return float((np.linalg.norm(found[: len(exact)] - exact, axis=1) / np.linalg.norm(exact, axis=1)).max())


if __name__ == "__main__":
    main()
