r"""Does each class of a mixture have its own collapse, and do clones of a trajectory choose their class as predicted?

For each N training sets of two classes far apart are drawn, with :math:`P\pi_k` points of class k. The mean weight of true
points of each class, among the points of both, crosses 1/2 at the class's collapse time: that of its model at its own load
:math:`\alpha+\log(\pi_k)/N`, times the drift at N and :math:`P\pi_k` (`theory.finite_size`), nothing fitted. The excess
entropy of all is the average over classes, times the drift of its exact expectation at that size. Pairs of clones of backward
trajectories, run with the exact score from noise t, end in one class with probability :math:`\phi(t)`.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import xarray as xr

from theory import Isotropic, Mixture, cloning_probability, collapse_time, excess_entropy, speciation_time
from theory.finite_size import Estimate, collapse_curve, finite_size_value
from validation.experiments.mixtures.probes import clone_agreement, true_point_weights
from validation.experiments.shared import (
    ExperimentResult,
    Kept,
    Row,
    chosen,
    concluded,
    counter,
    measured,
    save,
    side_by_side,
)
from validation.simulation import Form, Prediction, crossing, extrapolate, jackknife, judge

__all__ = ["CASES", "PRESETS", "Preset", "TwoClasses", "figure", "run"]

CLAIM = (
    "In a mixture of well-separated classes each class is a random energy model of its own with P pi_k points: it collapses at "
    "its own time, the excess entropy is the average over classes, and clones choose a class with probability phi(t)."
)
TOLERANCE = 0.03
CLONE_DIMENSION = 4
SOURCE = "[ours: docs/derivations/mixtures.md]"
FORM = Form((), "measured over theory at its N and P pi_k, the finite-size drift of theory.finite_size included")
HALF_DISTANCE = 3.0  # means at +-3 per coordinate: nine variances, so that another class counts for less than e^-100
TIMES = np.geomspace(0.25, 6.0, 13)  # noise, in units of the variance of the wider class
F_AT = (3, 6)  # f is judged next to these noise levels, in the same units: well above collapse
CLONES = (0.3, 1.0, 3.0)  # t / t_s
_QUERIES = 64
_SAMPLES = 24  # points x behind an exact expectation
_USED = (0.02, 0.98)  # mean weights between which the curve is read for its crossing


@dataclass(frozen=True)
class TwoClasses:
    """Two isotropic classes of given weights and variances at a load, and the sizes at which they are simulated."""

    label: str
    weights: tuple[float, float]
    variances: tuple[float, float]
    alpha: float
    sizes: tuple[int, ...]

    def mixture(self, N: int) -> Mixture:
        """The classes in N dimensions."""
        means = HALF_DISTANCE * np.array([np.ones(N), -np.ones(N)])
        return Mixture(self.weights, [Isotropic(v) for v in self.variances], means=means)

    def counts(self, N: int) -> tuple[int, ...]:
        """Points of each class, P pi_k exactly: P is e^{alpha N} rounded to a multiple of 4."""
        P = 4 * round(math.exp(self.alpha * N) / 4)
        return tuple(round(P * w) for w in self.weights)


CASES = (
    TwoClasses("pi = (1/2, 1/2), r = (1, 1)", (0.5, 0.5), (1.0, 1.0), 0.3, (20, 22, 24, 26)),
    TwoClasses("pi = (3/4, 1/4), r = (1, 1/2)", (0.75, 0.25), (1.0, 0.5), 0.3, (20, 22, 24, 26)),
)


@dataclass(frozen=True)
class Preset:
    """Sizes used, training sets at each (`effort` over the number of points), and pairs of clones."""

    name: str
    sizes: int
    effort: float
    pairs: int

    def replicas(self, P: int) -> int:
        return max(64, round(self.effort / P))


PRESETS = {"quick": Preset("quick", 3, 4e4, 8_000), "full": Preset("full", 4, 6e5, 100_000)}


def run(
    preset: str | Preset = "quick",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    out: str | os.PathLike | None = None,
    device: str = "cpu",
    *,
    cases: Sequence[TwoClasses] = CASES,
    times: Callable[[Mixture, int], np.ndarray] | None = None,
    entropy: Callable[[Mixture, int, np.ndarray], np.ndarray] | None = None,
    clones: Callable[[Mixture, float], float] = cloning_probability,
    scheduler: Any = None,
) -> ExperimentResult:
    """Measure the classes' collapse, the excess entropy and the agreement of clones, and compare with theory.

    Parameters
    ----------
    preset : "quick" (some 15 s on one core), "full" (minutes) or a `Preset`
    seed : int; progress : callable (training sets done, of all); device : torch device
    out : folder, optional, for mixtures.csv, .nc and .png; an interrupted run goes on from the training sets kept there
    cases : what is simulated
    times, entropy, clones : theory on trial: (mixture, P) -> (K,) collapse times, (mixture, P, t) -> f, (mixture, t) -> phi
    scheduler : a dask scheduler on whose workers the training sets run, see `numerics.grids.run_tasks`; the numbers stay the same

    Returns
    -------
    ExperimentResult
        Rows: collapse time of each class over theory, excess entropy over theory at two noise levels, agreement of clones.

    Raises
    ------
    DomainError : unknown preset, unwritable `out`
    """
    preset = chosen(preset, PRESETS)
    started = time.perf_counter()
    times = times or (lambda mixture, P: collapse_time(mixture, P=P))
    entropy = entropy or (lambda mixture, P, t: excess_entropy(mixture, P=P, t=t))
    cases = tuple(cases)
    jobs = [(case, N) for case in cases for N in case.sizes[: preset.sizes]]
    items = [
        (case, N, (seed, number, replica))
        for number, (case, N) in enumerate(jobs)
        for replica in range(preset.replicas(sum(case.counts(N))))
    ]
    step = counter(progress, len(items))
    keep = Kept("mixtures", out, preset=preset, seed=seed, device=device, cases=cases)
    sets = measured(_one, items, shared=(device,), rows=keep(""), scheduler=scheduler, chunk=8, step=lambda _: step())
    by_size: dict[tuple[str, int], list[dict[str, np.ndarray]]] = {}
    for (case, N, _), one in zip(items, sets, strict=True):
        by_size.setdefault((case.label, N), []).append(one)
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {case.label: [] for case in cases}
    for case, N in jobs:
        weights, entropies = (
            np.array([one[name] for one in by_size[case.label, N]]) for name in ("weights", "entropies")
        )
        found[case.label].append((weights, entropies))  # (R, K, T)
    rows, curves = [], []
    for number, case in enumerate(cases):
        more, part = _memorisation(case, found[case.label], times, entropy)
        clone_rows, clone_part = _speciation(case, clones, preset.pairs, (seed, number), device)
        rows += more + clone_rows
        curves.append(part.merge(clone_part))
    made = {"preset": preset, "seed": seed, "device": device, "started": started}
    labels = [case.label for case in cases]
    result = concluded("mixtures", CLAIM, rows, side_by_side(curves, labels), **made)
    if out is not None:
        save(result, figure(result), out)
    keep.clear()
    return result


def _one(item: tuple[TwoClasses, int, tuple[int, ...]], device: str) -> dict[str, np.ndarray]:
    """The weights and the entropies of one training set."""
    case, N, seed = item
    t = TIMES * max(case.variances)
    weights, entropies = true_point_weights(case.mixture(N), case.counts(N), t, _QUERIES, seed, device)
    return {"weights": weights, "entropies": entropies}


@cache
def _drift(variance: float, count: int, N: int) -> float:
    """Finite-size over asymptotic collapse time of one class: its competitors are one fewer than its points."""
    model = Isotropic(variance)
    return finite_size_value("collapse", model, math.log(count - 1) / N, N) / collapse_time(model, P=count, N=N)


@cache
def _exact_entropy(variance: float, count: int, N: int, t: float) -> Estimate:
    """Excess entropy of one class at N and P pi_k, exact in the patterns, with the error of its average over x."""
    return collapse_curve(Isotropic(variance), P=count, N=N, t=t, samples=_SAMPLES)


def _entropy_at_size(case: TwoClasses, N: int, t: float) -> tuple[float, float]:
    """The average over classes of the exact excess entropy, and its error."""
    parts = [_exact_entropy(v, c, N, t) for v, c in zip(case.variances, case.counts(N), strict=True)]
    pi = np.array(case.weights)
    same = len({(v, c) for v, c in zip(case.variances, case.counts(N), strict=True)}) == 1  # one estimate, used twice
    errors = pi * np.array([part.error for part in parts])
    return float(pi @ [part.value for part in parts]), float(errors.sum() if same else np.hypot.reduce(errors))


def _memorisation(
    case: TwoClasses, found: Sequence[tuple[np.ndarray, np.ndarray]], times: Callable, entropy: Callable
) -> tuple[list[Row], xr.Dataset]:
    """Rows on the collapse of each class and on the excess entropy, and the curves behind them."""
    N = np.array(case.sizes[: len(found)])
    scale, K = max(case.variances), len(case.weights)
    t, rows = TIMES * scale, []
    theory = np.array([times(case.mixture(n), sum(case.counts(n))) for n in N])  # (size, K)
    drift = np.array([[_drift(v, c, int(n)) for v, c in zip(case.variances, case.counts(n), strict=True)] for n in N])
    measured, errors = np.empty((2, len(N), K))
    for i, (weights, _) in enumerate(found):
        for k in range(K):
            mean = weights[:, k].mean(axis=0)
            used = (mean > _USED[0]) & (mean < _USED[1])
            estimate = jackknife(np.log(t[used]), weights[:, k, used], crossing)
            measured[i, k], errors[i, k] = math.exp(estimate.value), math.exp(estimate.value) * estimate.error
    for k, (pi, r) in enumerate(zip(case.weights, case.variances, strict=True)):
        name = f"t_c of class {k + 1}, pi = {pi:g}, r = {r:g}, over theory"
        expected = theory[:, k] * drift[:, k]
        fit = extrapolate(N, measured[:, k] / expected, errors[:, k] / expected, FORM)
        verdict = judge(Prediction(name, 1.0, FORM, TOLERANCE, SOURCE), fit.limit, fit.error, fit.p_value)
        note = ", ".join(
            f"N = {n}, P pi = {case.counts(n)[k]}: {m:.4f} +- {e:.4f}, theory {x:.4f}, with drift {y:.4f}"
            for n, m, e, x, y in zip(N, measured[:, k], errors[:, k], theory[:, k], expected, strict=True)
        )
        rows.append(Row(name, case.label, verdict, f"{verdict.reason}; {note}"))
    pi = np.array(case.weights)
    f = np.array([(e * pi[:, None]).sum(axis=1).mean(axis=0) for _, e in found])  # (size, T)
    f_error = np.array([(e * pi[:, None]).sum(axis=1).std(axis=0, ddof=1) / len(e) ** 0.5 for _, e in found])
    f_theory = np.array([entropy(case.mixture(n), sum(case.counts(n)), t) for n in N])
    for multiple in F_AT:
        j = int(np.argmin(np.abs(TIMES - multiple)))
        name = f"excess entropy f at t = {t[j]:.2g}, over theory"
        exact, exact_error = np.transpose([_entropy_at_size(case, int(n), float(t[j])) for n in N])
        drift_f = exact / [excess_entropy(case.mixture(n), P=sum(case.counts(n)), t=t[j]) for n in N]
        expected = f_theory[:, j] * drift_f
        error = np.hypot(f_error[:, j] / f[:, j], exact_error / exact)
        fit = extrapolate(N, f[:, j] / expected, error, FORM)
        verdict = judge(Prediction(name, 1.0, FORM, TOLERANCE, SOURCE), fit.limit, fit.error, fit.p_value)
        sizes = zip(N, f[:, j], f_error[:, j], f_theory[:, j], expected, strict=True)
        note = ", ".join(f"N = {n}: {x:.4f} +- {e:.4f}, theory {y:.4f}, with drift {z:.4f}" for n, x, e, y, z in sizes)
        rows.append(Row(name, case.label, verdict, f"{verdict.reason}; {note}"))
    weight = np.array([w.mean(axis=0) for w, _ in found])  # (size, K, T)
    drawn = np.array(
        [_entropy_at_size(case, int(N[-1]), float(x))[0] if i % 2 == 0 else np.nan for i, x in enumerate(t)]
    )
    weight_error = np.array([w.std(axis=0, ddof=1) / len(w) ** 0.5 for w, _ in found])
    data = {
        "weight": (("size", "class", "t"), weight, {"long_name": "mean weight of the true point"}),
        "weight_error": (("size", "class", "t"), weight_error),
        "entropy": (("size", "t"), f, {"long_name": "excess entropy per dimension"}),
        "entropy_error": (("size", "t"), f_error),
        "entropy_theory": (("size", "t"), f_theory),
        "entropy_finite": ("t", drawn, {"long_name": "exact excess entropy at the largest size"}),
        "collapse": (("size", "class"), measured, {"units": "squared data units"}),
        "collapse_error": (("size", "class"), errors),
        "collapse_theory": (("size", "class"), theory),
        "collapse_finite": (("size", "class"), theory * drift),
        "pi": ("class", pi),
        "variance": ("class", np.array(case.variances)),
        "N": ("size", N.astype(float)),
        "P": ("size", np.array([float(sum(case.counts(n))) for n in N])),
    }
    return rows, xr.Dataset(data, coords={"t": t, "size": np.arange(len(N)), "class": np.arange(K)})


def _speciation(
    case: TwoClasses, clones: Callable, pairs: int, seed: tuple[int, int], device: str
) -> tuple[list[Row], xr.Dataset]:
    """Rows on the agreement of clones split at several fractions of the speciation time."""
    N = CLONE_DIMENSION
    mixture = case.mixture(N)
    t_s, rows, found = speciation_time(mixture), [], []
    for i, ratio in enumerate(CLONES):
        same = clone_agreement(mixture, ratio * t_s, t_s, pairs, (*seed, i), device)
        value, error = float(same.mean()), float(same.std(ddof=1) / pairs**0.5)
        name = f"clones in one class, split at {ratio:g} t_s"
        prediction = Prediction(name, float(clones(mixture, ratio * t_s)), None, TOLERANCE, "[BBBM24]")
        verdict = judge(prediction, value, error)
        rows.append(Row(name, case.label, verdict, f"{verdict.reason}; N = {N}, t_s = {t_s:.4g}, {pairs} pairs"))
        found.append((value, error))
    fine = np.geomspace(0.05, 20.0, 40)
    data = {
        "agreement": ("split", [value for value, _ in found], {"long_name": "clones that end in one class"}),
        "agreement_error": ("split", [error for _, error in found]),
        "agreement_theory": ("ratio", [float(clones(mixture, r * t_s)) for r in fine]),
    }
    return rows, xr.Dataset(data, coords={"split": list(CLONES), "ratio": fine})


def figure(result: ExperimentResult) -> Any:
    """Weights of true points by class, the excess entropy, and the agreement of clones, each with its theory."""
    from validation.experiments.mixtures.figures import mixtures_figure

    return mixtures_figure(result.curves)
