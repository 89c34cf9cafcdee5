"""Do the times and basins of the linear theory hold? Finite-N Monte Carlo, extrapolated, against `theory`.

For each case the mean weight of the true point at a noisy point (collapse), of a training point at itself (onset) and at
a distance (basin), and the held-out likelihood (generalization optimum) are measured at several N. What theory predicts
for the drift with N is declared with the limit; one coefficient of the next order is left free.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from theory import LinearManifold, basin_radius, collapse_time, generalization_time, onset_time
from theory.finite_size import finite_size_value
from validation.experiments.shared import (
    ExperimentResult,
    Kept,
    PlantedCase,
    Row,
    chosen,
    concluded,
    save,
    side_by_side,
)
from validation.simulation import (
    QUERIES,
    TERMS,
    Form,
    Prediction,
    Size,
    estimates,
    judge,
    limit_of_logs,
    measure_sizes,
    pilot_curves,
)

__all__ = ["CASES", "FORMS", "LINEAR", "PRESETS", "THEORY", "Case", "Preset", "Study", "figure", "run"]

CLAIM = (
    "The collapse, onset and generalization times and the basin radius of the linear theory are the large-N limits of "
    "what the empirical score does."
)
TOLERANCE = 0.03
QUANTITIES = {
    "collapse": "collapse time t_c",
    "onset": "onset time t_o",
    "basin": "basin radius",
    "generalization": "optimum t_g",
}
THEORY: Mapping[str, Callable[..., float]] = {
    "collapse": lambda model, alpha, t: collapse_time(model, alpha),
    "onset": lambda model, alpha, t: onset_time(model, alpha),
    "basin": lambda model, alpha, t: basin_radius(model, alpha, t),
    "generalization": lambda model, alpha, t: generalization_time(model, alpha),
}
# fits are of the logarithm; the free term is the order that `theory.finite_size.drift` leaves out: the skewness of the
# tilted levels where the REM's edge matters, 1/N^2 elsewhere (docs/derivations/finite_n_drift.md)
_KNOWN = "finite-N drift of theory.finite_size.drift"
FORMS = {
    "collapse": Form(("N^-3/2",), _KNOWN),
    "onset": Form(("1/N^2",), _KNOWN),
    "basin": Form(("N^-3/2",), _KNOWN),
    "generalization": Form(("1/N^2",), _KNOWN),
}


@dataclass(frozen=True)
class Case(PlantedCase):
    """A model, a load, the sizes at which it is simulated, and the noise at which its basin is probed."""

    t_basin: float


# sizes keep every latent dimension an integer; log P runs from 5 to 11
CASES = (
    Case("alpha_D=0.5, alpha=0.2", LinearManifold(0.5), 0.2, (26, 30, 34, 38, 42, 46, 50, 54), 2.1),
    Case("alpha_D=0.25, alpha=0.15", LinearManifold(0.25), 0.15, (36, 40, 44, 52, 56, 60, 68, 72), 2.4),
    Case("alpha_D=1, alpha=0.25", LinearManifold(1.0), 0.25, (20, 23, 26, 30, 33, 36, 40, 43), 1.85),
    Case(
        "alpha_D=0.5, s=(1, 0.3), alpha=0.2",
        LinearManifold(0.5, variances=[1.0, 0.3]),
        0.2,
        (24, 28, 32, 36, 40, 44, 48, 56),
        1.27,
    ),
)


@dataclass(frozen=True)
class Study:
    """What a run of this experiment is about: its claim, its cases, and what is declared of the drift with N.

    `forms` are the terms that are fitted, by quantity; `drift` the finite-N value declared beforehand.
    """

    name: str
    claim: str
    cases: tuple[Case, ...]
    forms: Mapping[str, Form]
    drift: Callable[..., float]


LINEAR = Study("linear_times", CLAIM, CASES, FORMS, finite_size_value)


@dataclass(frozen=True)
class Preset:
    """How much work: the number of sizes used, N times the number of queries at each, and a cap on pattern-query pairs."""

    name: str
    sizes: int
    effort: float
    most_pairs: float

    def replicas(self, N: int, P: int) -> int:
        queries = min(self.effort / N, self.most_pairs / P)
        return max(64, round(queries / QUERIES))


PRESETS = {"quick": Preset("quick", 5, 1.5e6, 3e8), "full": Preset("full", 8, 8e6, 2.5e9)}


def run(
    preset: str | Preset = "quick",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    out: str | os.PathLike | None = None,
    device: str = "cpu",
    *,
    study: Study = LINEAR,
    cases: Sequence[Case] | None = None,
    theory: Mapping[str, Callable[..., float]] | None = None,
    workers: int | None = None,
    scheduler: Any = None,
) -> ExperimentResult:
    """Simulate every case, extrapolate, and compare with theory.

    Parameters
    ----------
    preset : "quick" (about a minute on two cores), "full" (10 to 20 minutes) or a `Preset`
    seed : int
    progress : callable (work done, total work), in millions of pattern-query pairs
    out : folder, optional
        Per-replica results go to `out`/checkpoints, from which an interrupted run resumes to the same numbers; at the end
        linear_times.csv, .nc and .png are written there.
    device : torch device
    study : models, declared forms and drift; `LINEAR`, or see `nonlinear_times`
    cases, theory : what is simulated, and which predictions it is compared with (by default the study's, and `THEORY`)
    workers : threads, by default two where there are two cores; the numbers do not depend on it
    scheduler : a dask scheduler on whose workers groups of replicas run, see `numerics.grids.run_tasks`; nor on this

    Returns
    -------
    ExperimentResult
        One row a case and quantity; curves by case, quantity and size.

    Raises
    ------
    DomainError
        Unknown preset, unwritable `out`, or a checkpoint of another run in it.
    """
    preset = chosen(preset, PRESETS)
    folder = None if out is None else Path(out)
    cases = study.cases if cases is None else cases
    workers = min(2, os.cpu_count() or 1) if workers is None else workers
    started = time.perf_counter()
    # declared before anything is drawn
    declared = {
        case.label: {q: _declare(study, q, case, {**THEORY, **(theory or {})}) for q in QUANTITIES} for case in cases
    }
    jobs = [(case, N, case.patterns(N)) for case in cases for N in case.sizes[: preset.sizes]]
    sizes = [
        Size(case.label, case.model, N, P, case.t_basin, preset.replicas(N, P), case.checkpoint(folder, N))
        for case, N, P in jobs
    ]
    common = {"seed": seed, "device": device, "workers": workers, "progress": progress, "scheduler": scheduler}
    keep = Kept(study.name, folder, preset=preset, seed=seed, device=device, sizes=sizes)
    pairs = measure_sizes(sizes, keep=keep, **common)
    found: dict[str, list[dict[str, Any]]] = {case.label: [] for case in cases}
    for (case, N, P), (measured, pilot) in zip(jobs, pairs, strict=True):
        found[case.label].append({"N": N, "P": P, "estimates": estimates(measured), "pilot": pilot})
    simulated = sum(part.seconds for pair in pairs for part in pair)
    rows, curves = [], []
    for case in cases:
        case_rows, case_curves = _compare(study, case, found[case.label], declared[case.label])
        rows += case_rows
        curves.append(case_curves)
    result = concluded(
        study.name,
        study.claim,
        rows,
        side_by_side(curves, [case.label for case in cases]),
        preset=preset,
        seed=seed,
        device=device,
        started=started,
        simulation_seconds=round(simulated, 1),  # of all runs that the checkpoints come from
        workers=workers,
    )
    if folder is not None:
        save(result, figure(result), folder)
    keep.clear()
    return result


def _declare(study: Study, quantity: str, case: Case, theory: Mapping[str, Callable[..., float]]) -> Prediction:
    value = theory[quantity](case.model, case.alpha, case.t_basin)
    name = f"{QUANTITIES[quantity]}, {case.label}"
    return Prediction(name, value, study.forms[quantity], TOLERANCE, "[AALMV25]")


def _compare(
    study: Study, case: Case, found: Sequence[Mapping[str, Any]], declared: Mapping[str, Prediction]
) -> tuple[list[Row], xr.Dataset]:
    """Fit each quantity's sizes, judge the limit, and collect the curves."""
    N, P = (np.array([entry[name] for entry in found], dtype=float) for name in ("N", "P"))
    rows, table, drift_N = [], {}, np.geomspace(N.min(), 100 * N.max(), 12)
    for quantity, prediction in declared.items():
        log_value = np.array([entry["estimates"][quantity].value for entry in found])
        sigma = np.array([entry["estimates"][quantity].error for entry in found])
        # the drift is that of the very N and P simulated: it also undoes the rounding of P
        competitors = P if quantity == "generalization" else P - 1
        expected = _drift(study, quantity, case, N, np.log(competitors) / N)
        limit = THEORY[quantity](case.model, case.alpha, case.t_basin)
        found_limit = limit_of_logs(N, log_value, sigma, prediction.correction_form, np.log(expected / limit))
        coefficients = dict.fromkeys(prediction.correction_form.free, np.nan)
        note = "too few sizes with a crossing"
        if fit := found_limit.fit:
            coefficients = fit.coefficients
            fitted = ", ".join(
                f"{term}: {c:.3g} +- {fit.covariance[i, i] ** 0.5:.2g}"
                for i, (term, c) in enumerate(coefficients.items(), 1)
            )
            note = (
                f"N = {int(fit.N[0])}..{int(fit.N[-1])}; coefficient of {fitted}; chi2/dof = {fit.chi2:.2f}/{fit.dof}"
            )
        verdict = judge(prediction, found_limit.value, found_limit.error, found_limit.p_value)
        rows.append(Row(QUANTITIES[quantity], case.label, verdict, f"{verdict.reason}; {note}"))
        for name, entry in {
            "measured": np.exp(log_value),
            "error": np.exp(log_value) * sigma,
            "finite_theory": expected,
            "drift": _drift(study, quantity, case, drift_N, np.full(drift_N.shape, case.alpha)),
            "fitted": _fitted(coefficients, drift_N),
            "limit": found_limit.value,
            "limit_error": found_limit.error,
            "theory": prediction.value,
        }.items():
            table.setdefault(name, []).append(entry)
    dimensions = {"measured": "size", "error": "size", "finite_theory": "size"}
    dimensions |= {"drift": "drift_size", "fitted": "drift_size"}
    data = {
        name: (("quantity", dimensions[name]) if name in dimensions else "quantity", np.array(entries))
        for name, entries in table.items()
    }
    data |= {"N": ("size", N), "P": ("size", P), "drift_N": ("drift_size", drift_N)}
    data |= {"log_variance": float(np.log(case.model.mean_variance))}
    coords = {"quantity": list(declared), "size": np.arange(len(N))}
    return rows, xr.Dataset(data | pilot_curves(case.model, [entry["pilot"] for entry in found]), coords=coords)


def _drift(study: Study, quantity: str, case: Case, N: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The finite-N value theory declares, at each size; a radius for the basin."""
    values = [study.drift(quantity, case.model, a, n, t=case.t_basin) for a, n in zip(alpha, N, strict=True)]
    return np.sqrt(values) if quantity == "basin" else np.array(values)


def _fitted(coefficients: Mapping[str, float], N: np.ndarray) -> np.ndarray:
    """What the fitted terms multiply the limit by."""
    return np.exp(sum(c * TERMS[term](N) for term, c in coefficients.items()))


def figure(result: ExperimentResult) -> Any:
    """Measured over limiting theoretical value against 1/N, one panel a quantity, with the declared drift and its fit."""
    from validation.experiments.linear_times.figures import times_figure

    return times_figure(result.curves, QUANTITIES, TOLERANCE)
