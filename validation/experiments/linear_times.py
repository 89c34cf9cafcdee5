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
import torch
import xarray as xr

from numerics.domain import DomainError
from theory import LinearManifold, basin_radius, collapse_time, generalization_time, onset_time
from theory.drift import finite_size_value
from validation.experiments.presets import chosen
from validation.experiments.result import ExperimentResult, Row, provenance, save
from validation.extrapolation import TERMS, Estimate, Form, crossing, extrapolate, jackknife, minimum
from validation.montecarlo import Basin, Grids, Measurement, simulate
from validation.prediction import Prediction, judge

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
# fits are of the logarithm; the free term is the order that `theory.drift` leaves out: the skewness of the tilted levels
# where the REM's edge matters, 1/N^2 elsewhere (docs/derivations/finite_n_drift.md)
_KNOWN = "finite-N drift of theory.drift"
FORMS = {
    "collapse": Form(("N^-3/2",), _KNOWN),
    "onset": Form(("1/N^2",), _KNOWN),
    "basin": Form(("N^-3/2",), _KNOWN),
    "generalization": Form(("1/N^2",), _KNOWN),
}
_QUERIES = 128


@dataclass(frozen=True)
class Case:
    """A model, a load, the noise at which its basin is probed, and the sizes at which it is simulated, ascending."""

    label: str
    model: Any
    alpha: float
    t_basin: float
    sizes: tuple[int, ...]

    def patterns(self, N: int) -> int:
        """Number of training points: e^{alpha N} competitors, rounded, and the true one."""
        return round(float(np.exp(self.alpha * N))) + 1


# sizes keep every latent dimension an integer; log P runs from 5 to 11
CASES = (
    Case("alpha_D=0.5, alpha=0.2", LinearManifold(0.5), 0.2, 2.1, (26, 30, 34, 38, 42, 46, 50, 54)),
    Case("alpha_D=0.25, alpha=0.15", LinearManifold(0.25), 0.15, 2.4, (36, 40, 44, 52, 56, 60, 68, 72)),
    Case("alpha_D=1, alpha=0.25", LinearManifold(1.0), 0.25, 1.85, (20, 23, 26, 30, 33, 36, 40, 43)),
    Case(
        "alpha_D=0.5, s=(1, 0.3), alpha=0.2",
        LinearManifold(0.5, variances=[1.0, 0.3]),
        0.2,
        1.27,
        (24, 28, 32, 36, 40, 44, 48, 56),
    ),
)


@dataclass(frozen=True)
class Study:
    """What a run of this experiment is about: its claim, its cases, and what is declared of the drift with N.

    `forms` are the terms that are fitted, by quantity; `drift` the finite-N value declared beforehand (None: there is no
    such theory for these models, and the whole drift is fitted).
    """

    name: str
    claim: str
    cases: tuple[Case, ...]
    forms: Mapping[str, Form]
    drift: Callable[..., float] | None


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
        return max(64, round(queries / _QUERIES))


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
    work = [preset.replicas(N, P) * _QUERIES * P / 1e6 for _, N, P in jobs]
    done, simulated, rows, curves = 0.0, 0.0, [], []
    found: dict[str, list[dict[str, Any]]] = {case.label: [] for case in cases}
    for (case, N, P), cost in zip(jobs, work, strict=True):

        def report(replica: int, of: int, done=done, cost=cost) -> None:
            if progress:
                progress(round(done + cost * replica / of), max(1, round(sum(work))))

        path = None if folder is None else folder / "checkpoints" / f"{_slug(case.label)}_N{N}.npz"
        measured, pilot = _measure(case, N, P, preset, seed, device, workers, path, report)
        simulated += measured.seconds + pilot.seconds
        found[case.label].append({"N": N, "P": P, "estimates": _estimates(measured), "pilot": pilot})
        done += cost
    for case in cases:
        case_rows, case_curves = _compare(study, case, found[case.label], declared[case.label])
        rows += case_rows
        curves.append(case_curves)
    result = ExperimentResult(
        study.name,
        study.claim,
        rows,
        xr.concat(curves, xr.DataArray([case.label for case in cases], dims="case", name="case"), join="outer"),
        provenance(
            command=f"validation.experiments.{study.name}.run(preset={preset.name!r}, seed={seed}, device={device!r})",
            preset=vars(preset),
            seed=seed,
            seconds=round(time.perf_counter() - started, 1),
            simulation_seconds=round(simulated, 1),  # of all runs that the checkpoints come from
            workers=workers,
        ),
    )
    if folder is not None:
        save(result, figure(result), folder)
    return result


def _declare(study: Study, quantity: str, case: Case, theory: Mapping[str, Callable[..., float]]) -> Prediction:
    value = theory[quantity](case.model, case.alpha, case.t_basin)
    name = f"{QUANTITIES[quantity]}, {case.label}"
    return Prediction(name, value, study.forms[quantity], TOLERANCE, "[AALMV25]")


def _measure(
    case: Case,
    N: int,
    P: int,
    preset: Preset,
    seed: int,
    device: str,
    workers: int,
    checkpoint: Path | None,
    report: Callable,
) -> tuple[Measurement, Measurement]:
    """A coarse pilot over three decades of t finds the crossings, without a look at theory; then the run proper."""
    common = {"queries": _QUERIES, "workers": workers, "device": device, "dtype": torch.float32}
    scale = float(np.log(case.model.mean_variance))
    wide, low = scale + np.linspace(-3.0, 3.0, 25), scale + np.linspace(-5.0, 1.5, 27)
    radii = case.t_basin * np.exp(np.linspace(-4.0, 1.5, 23))
    grids = Grids(noisy=wide, clean=wide, heldout=low, basins=[Basin(case.t_basin, radii)])
    pilot = simulate(case.model, N, P, grids=grids, replicas=4, seed=(seed, 1), **common)
    bottom = minimum(low, pilot.heldout.mean(axis=0))
    if not np.isfinite(bottom):
        raise DomainError("case", case.label, "a case whose optimal noise lies within three decades of its variance")
    fine = Grids(
        noisy=_around(wide, pilot.noisy.mean(axis=0), case.label),
        clean=_around(wide, pilot.clean.mean(axis=0), case.label),
        heldout=np.round(bottom, 2) + np.linspace(-0.4, 0.4, 6),
        basins=[Basin(case.t_basin, np.exp(_around(np.log(radii), pilot.basins[0].mean(axis=0), case.label)))],
    )
    replicas = preset.replicas(N, P)
    main = simulate(
        case.model, N, P, grids=fine, replicas=replicas, seed=seed, checkpoint=checkpoint, progress=report, **common
    )
    return main, pilot


def _around(x: np.ndarray, weight: np.ndarray, label: str) -> np.ndarray:
    """Four points over the range where a pilot's falling curve goes from 0.7 to 0.3, rounded to absorb its last bits.

    Where it starts lower, as in a basin at a noise close to the onset, from nine tenths of the way above 1/2.
    """
    if not weight[0] > 0.55 > 0.45 > weight[-1]:
        raise DomainError("case", label, "a case whose crossings lie within three decades of its variance")
    levels = min(0.7, 0.05 + 0.9 * weight[0]), max(0.3, 0.05 + 0.9 * weight[-1])
    first, last = (np.interp(-level, -np.minimum.accumulate(weight), x) for level in levels)
    return np.round(np.linspace(first, last, 4), 2)


def _estimates(measured: Measurement) -> dict[str, Estimate]:
    """Logarithms of the crossings and of the optimum, with jackknife errors over replicas."""
    g = measured.grids
    return {
        "collapse": jackknife(g.noisy, measured.noisy, crossing),
        "onset": jackknife(g.clean, measured.clean, crossing),
        "basin": jackknife(np.log(g.basins[0].delta) / 2, measured.basins[0], crossing),
        "generalization": jackknife(g.heldout, measured.heldout, minimum),
    }


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
        good = np.isfinite(log_value)
        value = error = p_form = np.nan
        coefficients = dict.fromkeys(prediction.correction_form.free, np.nan)
        note = "too few sizes with a crossing"
        if good.sum() >= 3:
            known = np.log(expected / limit)[good]
            fit = extrapolate(N[good], log_value[good], sigma[good], prediction.correction_form, known)
            value, p_form = float(np.exp(fit.limit)), fit.p_value
            error = value * fit.error
            coefficients = fit.coefficients
            fitted = ", ".join(
                f"{term}: {c:.3g} +- {fit.covariance[i, i] ** 0.5:.2g}"
                for i, (term, c) in enumerate(coefficients.items(), 1)
            )
            note = f"N = {int(N[good][0])}..{int(N[good][-1])}; coefficient of {fitted}; chi2/dof = {fit.chi2:.2f}/{fit.dof}"
        verdict = judge(prediction, value, error, p_form)
        rows.append(Row(QUANTITIES[quantity], case.label, verdict, f"{verdict.reason}; {note}"))
        for name, entry in {
            "measured": np.exp(log_value),
            "error": np.exp(log_value) * sigma,
            "finite_theory": expected,
            "drift": _drift(study, quantity, case, drift_N, np.full(drift_N.shape, case.alpha)),
            "fitted": _fitted(coefficients, drift_N),
            "limit": value,
            "limit_error": error,
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
    return rows, xr.Dataset(data | _pilot_curves(case, [entry["pilot"] for entry in found]), coords=coords)


def _drift(study: Study, quantity: str, case: Case, N: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The finite-N value theory declares, at each size; a radius for the basin. Without such a theory, the limit."""
    if study.drift is None:
        return np.array([THEORY[quantity](case.model, float(a), case.t_basin) for a in alpha])
    values = [study.drift(quantity, case.model, a, n, t=case.t_basin) for a, n in zip(alpha, N, strict=True)]
    return np.sqrt(values) if quantity == "basin" else np.array(values)


def _fitted(coefficients: Mapping[str, float], N: np.ndarray) -> np.ndarray:
    """What the fitted terms multiply the limit by."""
    return np.exp(sum(c * TERMS[term](N) for term, c in coefficients.items()))


def _pilot_curves(case: Case, pilots: Sequence[Measurement]) -> dict[str, Any]:
    """Mean curves over three decades of log(t/variance), with their errors over the pilot's replicas."""
    scale, curves = float(np.log(case.model.mean_variance)), {}
    for name in ("noisy", "clean", "heldout", "heldout_participation"):
        rows = np.array([getattr(pilot, name) for pilot in pilots])
        axis = "log_t_heldout" if name.startswith("heldout") else "log_t"
        curves[f"curve_{name}"] = (("size", axis), rows.mean(axis=1))
        curves[f"curve_{name}_error"] = (("size", axis), rows.std(axis=1, ddof=1) / rows.shape[1] ** 0.5)
        grid = getattr(pilots[0].grids, name.split("_")[0])
        curves[axis] = (axis, np.round(np.array(grid) - scale, 9), {"long_name": "log(t / mean variance)"})
    return curves


def figure(result: ExperimentResult) -> Any:
    """Measured over limiting theoretical value against 1/N, one panel a quantity, with the declared drift and its fit."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    data = result.curves
    fig = Figure(figsize=(11, 8.6), layout="constrained")
    for ax, quantity in zip(fig.subplots(2, 2).flat, data["quantity"].values, strict=True):
        for i, label in enumerate(data["case"].values):
            part, color = data.sel(case=label, quantity=quantity), f"C{i}"
            theory, limit = float(part["theory"]), float(part["limit"])
            N, dense, drift = (part[name].values for name in ("N", "drift_N", "drift"))
            drift = drift / drift[-1]
            ax.plot(1 / dense, drift, ":", color=color, lw=1.2)
            fit = limit / theory * drift * part["fitted"].values
            ax.plot(1 / dense, fit, "-", color=color, lw=1.2)
            ax.errorbar(1 / N, part["measured"] / theory, part["error"] / theory, fmt="o", ms=4, color=color, capsize=2)
            # side by side, so that the limits do not hide each other
            style = {"fmt": "s", "ms": 6, "mfc": "white", "color": color, "capsize": 3}
            ax.errorbar(-0.0012 * (i + 1), limit / theory, float(part["limit_error"]) / theory, **style)
        ax.axhspan(1 - TOLERANCE, 1 + TOLERANCE, color="0.92", zorder=0)
        ax.axhline(1.0, color="0.3", lw=1, ls="--", zorder=1)
        ax.axvline(0.0, color="0.7", lw=0.8, zorder=1)
        ax.set(xlabel="1/N", ylabel="measured / theory for N → ∞", title=QUANTITIES[str(quantity)])
    handles = [
        Line2D([], [], color=f"C{i}", marker="o", ms=4, label=str(label).replace("alpha", "α").replace("α_D", "$α_D$"))
        for i, label in enumerate(data["case"].values)
    ]
    handles += [
        Line2D([], [], color="0.3", marker="s", mfc="white", ls="", label="extrapolated, 1σ"),
        Line2D([], [], color="0.3", ls="-", label="fit: declared drift and fitted terms"),
        Line2D([], [], color="0.3", ls=":", label="theory at finite N, no fit"),
        Line2D([], [], color="0.92", lw=8, label=f"±{TOLERANCE:.0%} of the limit"),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=9)
    fig.suptitle("Crossings and optima of the empirical score at finite N, over the theory", fontsize=12)
    return fig


def _slug(label: str) -> str:
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in label)
