r"""Do random features learn, stop generalising and memorise when `theory.RandomFeatures` says? Exact gradient flow at
finite size.

For each N the features' second moments are formed with the noise averaged exactly (`features.py`), diagonalised, and
gradient flow from zero is followed by eigenvectors. Times are read off the mean curves: half of the way to the least
distance from the exact score (learning), the minimum of the test loss (stopping), half of the final gap between test and
training loss (memorisation), the latter also by direction. They are extrapolated with 1/N. The theory's times are read off
its curves in the same way, and each draw is asked whether it learns and memorises the directions in the theory's order.
Spectra: edges, distance of the eigenvalues' law from the limit's, and in a last case a count (`spectra.py`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from theory import Isotropic, RandomFeatures, Subspaces
from validation.experiments.shared import ExperimentResult, Row, chosen, concluded, counter, save, side_by_side
from validation.experiments.training_time.features import draw, flow
from validation.experiments.training_time.figures import training_figure
from validation.experiments.training_time.readings import learned, memorised, readings, with_gaps
from validation.experiments.training_time.spectra import distance, edges
from validation.simulation import Estimate, Form, Prediction, extrapolate, jackknife, judge, judge_order

__all__ = ["CASES", "COUNTED", "LAW", "PRESETS", "Preset", "TrainingCase", "figure", "run"]

CLAIM = (
    "Random features learn, stop generalising and memorise when the exact learning curves of the limit say; low variance "
    "is memorised first; and of the small eigenvalues N, not n, memorise, in a bulk of their own."
)
TOLERANCE = 0.05
FORM, LAW_FORM = Form(("1/N",)), Form(("1/N", "1/N^2"))
_POINTS = 60  # of the training-time grid
_SOURCE = "[ours: training_time.md]"


@dataclass(frozen=True)
class TrainingCase:
    """Data, sizes of network and training set per dimension, noise and activation."""

    label: str
    model: Any
    psi_p: int
    psi_n: int
    t: float
    activation: str

    def theory(self) -> RandomFeatures:
        return RandomFeatures(self.model, psi_p=self.psi_p, psi_n=self.psi_n, t=self.t, activation=self.activation)

    def variances(self, N: int) -> np.ndarray:
        """Of the N coordinates."""
        if isinstance(self.model, Isotropic):
            return np.full(N, float(self.model.variance))
        sizes = np.diff(np.rint(np.cumsum([0.0, *self.model.fractions]) * N)).astype(int)
        return np.repeat(self.model.variances, sizes)


CASES = (
    TrainingCase("isotropic, tanh, p = 8N, n = 3N", Isotropic(1.0), 8, 3, float(np.expm1(0.2)), "tanh"),
    TrainingCase("r = (1.6, 0.4), erf, p = 8N, n = 4N", Subspaces([0.5, 0.5], [1.6, 0.4]), 8, 4, 0.2, "erf"),
)
COUNTED = TrainingCase(
    "isotropic, tanh, p = 24N, n = 4N, t_OU = 0.01", Isotropic(1.0), 24, 4, float(np.expm1(0.02)), "tanh"
)
LAW = TrainingCase("isotropic, erf, p = 2N, n = 4N", Isotropic(1.0), 2, 4, 0.2, "erf")  # without an atom


@dataclass(frozen=True)
class Preset:
    """Sizes N and draws of each; those of the count, and of the distance of laws."""

    name: str
    sizes: tuple[int, ...]
    draws: tuple[int, ...]
    counted: tuple[int, ...]


PRESETS = {
    "quick": Preset("quick", (20, 28, 40, 56), (60, 40, 20, 10), (12, 16, 24)),
    "full": Preset("full", (50, 100, 200, 400), (64, 32, 16, 8), (16, 24, 32)),
}


def run(
    preset: str | Preset = "quick",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    out: str | os.PathLike | None = None,
    device: str = "cpu",
    *,
    cases: Sequence[TrainingCase] = CASES,
    counted: TrainingCase | None = COUNTED,
    law: TrainingCase | None = LAW,
    theory: Callable[[TrainingCase], RandomFeatures] = TrainingCase.theory,
) -> ExperimentResult:
    """Measure training times, losses and spectra of random features at several N, and compare with the limit.

    Parameters
    ----------
    preset : "quick" (some 20 s on one core), "full" (N = 50 to 400, a quarter of an hour) or a `Preset`
    seed : int; progress : callable (work done, of all); device : without effect, the matrices are small and in float64
    out : folder, optional, for training_time.csv, .nc and .png
    cases, counted, law : what is simulated: times and edges, the count, the distance of the eigenvalues' law from the limit's
    theory : what a case is compared with; another theory is the negative control

    Returns
    -------
    ExperimentResult

    Raises
    ------
    DomainError : unknown preset, unwritable `out`
    """
    preset = chosen(preset, PRESETS)
    started = time.perf_counter()
    counting = preset.counted if counted is not None else ()
    work = [(case, N, draws) for case in cases for N, draws in zip(preset.sizes, preset.draws, strict=True)]
    step = counter(progress, sum(draws * N**3 for _, N, draws in work) + sum(27 * N**3 for N in counting))
    # the law's matrices are a fourth as wide: their work is not told
    rows, curves = [], []
    for number, case in enumerate(cases):
        limit = theory(case)
        grid = _grid(limit)
        found = []
        for N, draws in zip(preset.sizes, preset.draws, strict=True):
            runs = []
            for i in range(draws):
                runs.append(_one(case, N, grid, np.random.default_rng([seed, number, N, i])))
                step(N**3)
            found.append({name: np.array([r[name] for r in runs]) for name in runs[0]})
        more, part = _compared(case, limit, grid, preset.sizes, found)
        rows += more
        curves.append(part)
    if law is not None:
        rows.append(_law(law, theory(law), preset, seed))
    if counted is not None:
        rows.append(_count(counted, theory(counted), counting, seed, step))
    data = side_by_side(curves, [case.label for case in cases])
    made = {"preset": preset, "seed": seed, "device": device, "started": started}
    result = concluded("training_time", CLAIM, rows, data, **made)
    if out is not None:
        save(result, figure(result), out)
    return result


def figure(result: ExperimentResult):
    """Spectra, learning curves and directions, each beside its limit."""
    return training_figure(result.curves)


# --- one draw ----------------------------------------------------------------------------------------------------------


def _grid(limit: RandomFeatures) -> np.ndarray:
    """Training times from before learning to after memorisation, and the end of training."""
    slow = limit.psi_p / (2 * limit.moments.Delta * limit.support[0, 0])
    fast = limit.psi_p / (2 * limit.moments.Delta * limit.support[-1, 1])
    return np.append(np.geomspace(0.05 * fast, 8 * slow, _POINTS), np.inf)


def _groups(case: TrainingCase, N: int) -> dict[str, np.ndarray]:
    r = case.variances(N)
    return {f"{value:g}": np.flatnonzero(r == value) for value in np.unique(r)}


def _one(case: TrainingCase, N: int, grid: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    made = draw(case.variances(N), case.psi_p * N, case.psi_n * N, case.t, case.activation, rng)
    return flow(made, grid, _groups(case, N))


# --- comparison ---------------------------------------------------------------------------------------------------------


def _compared(case, limit, grid, sizes, found) -> tuple[list[Row], xr.Dataset]:
    names = list(_groups(case, sizes[-1]))
    curve = limit.learning_curve(grid)
    expected = {"train": curve.train, "test": curve.test, "distance": curve.distance}
    for name in names:
        part = limit.learning_curve(grid, float(name))
        expected |= {f"train {name}": part.train, f"test {name}": part.test, f"distance {name}": part.distance}
    expected, found = with_gaps(expected), [with_gaps(f) for f in found]
    # the end of training gets a place of its own on the axis of log times
    x = np.log(np.append(grid[:-1], 1e3 * grid[-2]))
    rows = []
    for quantity, kind, statistic, is_time in readings(names):
        value = statistic(x, expected[kind])
        measured = [jackknife(x, f[kind], statistic, groups=16) for f in found]
        if is_time:
            value = np.exp(value)
            measured = [Estimate(np.exp(m.value), np.exp(m.value) * m.error) for m in measured]
        rows.append(_judged(quantity, case.label, value, measured, sizes, FORM))
    for quantity, value, measured in edges(limit, [f["eigenvalues"] for f in found], sizes):
        rows.append(_judged(quantity, case.label, value, measured, sizes, FORM))
    rows += _orders(case.label, names, x, expected, found, sizes)
    return rows, _curves(limit, grid, sizes, found, expected, names)


def _orders(label, names, x, expected, found, sizes) -> list[Row]:
    """Whether single draws, which are independent, learn and memorise the lowest and highest variance in the theory's order."""
    if len(names) < 2:
        return []
    low, high = min(names, key=float), max(names, key=float)
    rows = []
    for what, kind, statistic in (("learned", "distance", learned), ("memorised", "gap", memorised)):
        later = np.sign(statistic(x, expected[f"{kind} {high}"]) - statistic(x, expected[f"{kind} {low}"]))
        signs = []
        for f in found:
            pairs = zip(f[f"{kind} {low}"], f[f"{kind} {high}"], strict=True)
            signs.append(np.array([later * np.sign(statistic(x, b) - statistic(x, a)) for a, b in pairs]))
        right, reverse = (sum(int((s == sign).sum()) for s in signs) for sign in (1, -1))
        first = low if later > 0 else high
        prediction = Prediction(f"r = {first} is {what} first", 1.0, None, TOLERANCE, _SOURCE)
        verdict = judge_order(prediction, right, reverse, sum(map(len, signs)))
        each = ", ".join(f"{N}: {int((s == 1).sum())} of {len(s)}" for N, s in zip(sizes, signs, strict=True))
        rows.append(
            Row(f"draws in which r = {first} is {what} first", label, verdict, f"{verdict.reason}; at N = {each}")
        )
    return rows


def _law(case, limit, preset, seed) -> Row:
    """One less Kolmogorov's distance of the eigenvalues' law from the limit's."""
    found = []
    for N, draws in zip(preset.sizes, preset.draws, strict=True):
        each = []
        for i in range(draws):
            rng = np.random.default_rng([seed, 98, N, i])
            made = draw(case.variances(N), case.psi_p * N, case.psi_n * N, case.t, case.activation, rng)
            each.append(np.linalg.eigvalsh(made.U))
        found.append(distance(limit, each))
    measured = [Estimate(1 - e.value, e.error) for e in found]
    row = _judged("1 - Kolmogorov distance of eigenvalues", case.label, 1.0, measured, preset.sizes, LAW_FORM)
    each = ", ".join(f"{N}: {e.value:.3g} +- {e.error:.1g}" for N, e in zip(preset.sizes, found, strict=True))
    return Row(row.quantity, row.model, row.verdict, f"{row.verdict.reason}; distance at N = {each}")


def _judged(quantity, label, value, measured, sizes, form) -> Row:
    N = np.array(sizes, dtype=float)
    y, error = np.array([m.value for m in measured]), np.array([m.error for m in measured])
    prediction = Prediction(quantity, float(value), form, TOLERANCE, _SOURCE)
    good = np.isfinite(y) & np.isfinite(error) & (error > 0)
    if good.sum() < len(form.free) + 2:
        return Row(quantity, label, judge(prediction, np.nan, np.nan))
    fit = extrapolate(N[good], y[good], error[good], form)
    verdict = judge(prediction, fit.limit, fit.error, fit.p_value)
    each = ", ".join(f"{int(n)}: {v:.4g} +- {e:.1g}" for n, v, e in zip(N, y, error, strict=True))
    return Row(quantity, label, verdict, f"{verdict.reason}; at N = {each}")


def _count(case, limit, sizes, seed, step) -> Row:
    """Eigenvalues above the gap between the bulks of small ones, over N."""
    threshold = float(np.sqrt(limit.support[0, 1] * limit.support[1, 0]))
    value = float(limit.masses[1:].sum() * limit.psi_p)
    measured = []
    for N in sizes:
        counts = []
        for i in range(3):
            rng = np.random.default_rng([seed, 99, N, i])
            made = draw(case.variances(N), case.psi_p * N, case.psi_n * N, case.t, case.activation, rng)
            counts.append((np.linalg.eigvalsh(made.U) > threshold).sum() / N)
            step(9 * N**3)
        # a count is exact to one eigenvalue
        measured.append(Estimate(float(np.mean(counts)), float(max(np.std(counts, ddof=1), 0.5 / N) / np.sqrt(3))))
    row = _judged("eigenvalues above the gap, over N", case.label, value, measured, sizes, FORM)
    return Row(row.quantity, row.model, row.verdict, f"{row.note}; [BUBM25]: {case.psi_n + 1}")


def _curves(limit, grid, sizes, found, expected, names) -> xr.Dataset:
    """What the figure draws."""
    kinds = ["train", "test", "distance"]
    edges = np.geomspace(0.5 * limit.support[0, 0], 1.5 * limit.support[-1, 1], 61)
    fine = np.unique(np.concatenate([np.geomspace(low, high, 160) for low, high in limit.support] + [edges]))
    values = found[-1]["eigenvalues"]
    histogram = np.histogram(values.ravel(), edges)[0] / values.size / np.diff(np.log(edges))
    groups = [*names, *[""] * (2 - len(names))][:2]
    by_group = np.full((2, len(grid)), np.nan), np.full((2, len(grid)), np.nan), np.full((2, len(grid)), np.nan)
    for i, name in enumerate(groups):
        if name:
            by_group[0][i] = expected[f"gap {name}"]
            by_group[1][i] = found[-1][f"gap {name}"].mean(axis=0)
            by_group[2][i] = _error(found[-1][f"gap {name}"])
    density = limit.density(fine) * fine
    size = 800  # cases have different numbers of points on the fine axis
    axis = np.geomspace(fine[0], fine[-1], size)
    return xr.Dataset(
        {
            "tau": ("time", grid),
            "theory": (("kind", "time"), np.array([expected[k] for k in kinds])),
            "measured": (("size", "kind", "time"), np.array([[f[k].mean(axis=0) for k in kinds] for f in found])),
            "error": (("size", "kind", "time"), np.array([[_error(f[k]) for k in kinds] for f in found])),
            "gap_theory": (("group", "time"), by_group[0]),
            "gap": (("group", "time"), by_group[1]),
            "gap_error": (("group", "time"), by_group[2]),
            "variance": ("group", np.array([float(name) if name else np.nan for name in groups])),
            "eigenvalue": ("bin", np.sqrt(edges[1:] * edges[:-1])),
            "histogram": ("bin", histogram, {"long_name": "share of eigenvalues per unit of log eigenvalue"}),
            "axis": ("point", axis),
            "density": ("point", np.interp(axis, fine, density), {"long_name": "density times eigenvalue"}),
            "N": ("size", np.array(sizes, dtype=float)),
            "window": ("end", np.array(limit.window)),
            "atom": ("end", np.array(limit.atom)),
        },
        coords={"kind": kinds, "size": np.arange(len(sizes)), "time": np.arange(len(grid)), "group": [0, 1]},
    )


def _error(runs: np.ndarray) -> np.ndarray:
    return runs.std(axis=0, ddof=1) / np.sqrt(len(runs))
