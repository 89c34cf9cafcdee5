r"""Do traps matter before collapse? Trajectories of the empirical score, noised and fresh, against the times of `theory`.

Training points noised to t run back under the reverse SDE and the probability flow: how many reach their own point? And
where do trajectories from pure noise commit, that is: what is the last t at which the weight of the point they end on passes
1/2? What holds at every N and P (see `validation.returns`) is checked on the same trajectories.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from theory import LinearManifold, collapse_time, onset_time
from theory.drift import finite_size_value
from theory.trajectories import commitment_width
from validation.disorder import information, without_disorder
from validation.experiments.cases import PlantedCase
from validation.experiments.presets import chosen
from validation.experiments.progress import counter
from validation.experiments.result import ExperimentResult, Row, concluded, save, side_by_side
from validation.extrapolation import Estimate, Form, crossing, jackknife, limit_of_logs
from validation.prediction import Prediction, judge
from validation.returns import DYNAMICS, measure_commitments, measure_returns
from validation.samplers import Sampler

__all__ = ["CASES", "FORMS", "PRESETS", "Case", "Preset", "figure", "run"]

CLAIM = (
    "Traps exist from t_o on but do not matter before t_c: noised training points return to themselves, and fresh "
    "trajectories commit to a training point, at the collapse time."
)
TOLERANCE, EXACT_TOLERANCE = 0.10, 0.03  # t_o is more than twice t_c; the identities hold at every N
_DRIFT = "finite-N drift of the collapse"
FORMS = {
    "return, SDE": Form(("N^-3/2",), _DRIFT),  # the return probability is the mean weight: its very crossing
    "return, flow": Form(("1/N",), _DRIFT),
    "commitment, SDE": Form(("1/N",), _DRIFT),
    "commitment, flow": Form(("1/N",), _DRIFT),
    "width": Form(("1/N",), "finite-N width of theory.trajectories"),
}
NAMES = {
    "return, SDE": "half of the SDE's trajectories return",
    "return, flow": "half of the flow's trajectories return",
    "commitment, SDE": "commitment time, SDE",
    "commitment, flow": "commitment time, flow",
    "width": "sqrt(N) x width of log commitment time, SDE",
    "identity, SDE": "SDE returns / weight of the own point",
    "identity, flow": "flow returns / weight of the point reached",
    "reversal": "commitment time, SDE / its time reversal",
}
_TOP = 100.0  # variances at which pure noise begins; from 25 commitments shift by 3 %
_BOTTOM, _STARTS = 30.0, 7  # the end at t_c/30; starting levels
_DRAWS = 4000
Case = PlantedCase
CASES = (
    Case("alpha_D=0.5, alpha=0.2", LinearManifold(0.5), 0.2, (26, 30, 34, 38, 44)),
    Case("alpha_D=0.25, alpha=0.15", LinearManifold(0.25), 0.15, (36, 40, 44, 48, 56)),
)


@dataclass(frozen=True)
class Preset:
    """How much work: cases, sizes of each, noised training points and fresh trajectories in all at
    the largest size; `weights` points a replica at which only the weights are taken."""

    name: str
    cases: int
    sizes: int
    returns: int
    fresh: int
    weights: int = 400
    replicas: int = 24

    def per_replica(self, P: int, largest: int) -> tuple[int, int]:
        """Noised points and fresh trajectories a replica: more at small sizes, where they are cheap."""
        more = min(4.0, (largest / P) ** 0.5)
        return max(2, round(more * self.returns / self.replicas)), max(2, round(more * self.fresh / self.replicas))


PRESETS = {
    "quick": Preset("quick", 1, 4, 240, 360, replicas=24),
    "full": Preset("full", 2, 5, 480, 2000, weights=800, replicas=48),
}


def run(
    preset: str | Preset = "quick",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    out: str | os.PathLike | None = None,
    device: str = "cpu",
    *,
    cases: Sequence[Case] = CASES,
    theory: Callable[[Any, float], float] = collapse_time,
) -> ExperimentResult:
    """Run trajectories for every case and size, extrapolate, and compare with the collapse time.

    Parameters
    ----------
    preset : "quick" (about a minute on two cores), "full" (some ten minutes) or a `Preset`
    seed : int
    progress : callable (work done, total work), in millions of pairs of a training point and a step of a trajectory
    out : folder, optional; traps.csv, .nc and .png are written there
    device : torch device
    cases : what is simulated
    theory : the time that is predicted, a function of model and alpha; another one is a negative control

    Returns
    -------
    ExperimentResult; curves by case and size

    Raises
    ------
    DomainError : unknown preset, unwritable `out`

    Source: [AALMV25], [BBBM24]; the identities and the width are [ours: docs/derivations/trajectories.md].
    """
    preset = chosen(preset, PRESETS)
    cases, started = tuple(cases)[: preset.cases], time.perf_counter()
    declared = {case.label: _declare(case, theory) for case in cases}  # before anything is drawn
    jobs = [(case, N, r) for case in cases for N in case.sizes[: preset.sizes] for r in range(preset.replicas)]
    work = [_cost(case, N, preset) / 1e6 for case, N, _ in jobs]
    step = counter(progress, sum(work))
    found: dict[tuple[str, int], list[dict[str, np.ndarray]]] = {}
    for (case, N, r), cost in zip(jobs, work, strict=True):
        found.setdefault((case.label, N), []).append(_replica(case, N, preset, (seed, N, r), device))
        step(cost)
    rows, curves = [], []
    for case in cases:
        sizes = case.sizes[: preset.sizes]
        stacked = [_stack(found[case.label, N]) for N in sizes]
        case_rows, case_curves = _compare(case, sizes, stacked, declared[case.label], seed)
        rows += case_rows
        curves.append(case_curves)
    result = concluded(
        "traps",
        CLAIM,
        rows,
        side_by_side(curves, [case.label for case in cases]),
        preset=preset,
        seed=seed,
        device=device,
        started=started,
        schemes={name: {"scheme": scheme, "N dlog t": step} for name, (scheme, step) in DYNAMICS.items()},
    )
    if out is not None:
        save(result, figure(result), out)
    return result


# --- one training set -------------------------------------------------------------------------------------------------


def _cost(case: Case, N: int, preset: Preset) -> float:
    P, largest = case.patterns(N), case.patterns(case.sizes[preset.sizes - 1])
    released, fresh = preset.per_replica(P, largest)
    return (len(_starts(case)) * released + 3 * fresh + preset.weights / 5) * (P + 2000) * N


def _replica(case: Case, N: int, preset: Preset, seed: tuple[int, ...], device: str) -> dict[str, np.ndarray]:
    """Every measurement on one training set with its own disorder."""
    P = case.patterns(N)
    released, fresh = preset.per_replica(P, case.patterns(case.sizes[preset.sizes - 1]))
    sampler = Sampler(case.model, N, (*seed, 0))
    X = sampler.sample(P).numpy()
    low, top = collapse_time(case.model, case.alpha) / _BOTTOM, _TOP * case.model.mean_variance
    common = {"seed": seed, "device": device}
    found = measure_returns(X, _starts(case), low, released, weights=preset.weights, **common)
    found |= measure_commitments(X, top, low, fresh, **common)
    return found | {"information": np.array(information(sampler))}


def _without_disorder(m: Mapping[str, np.ndarray], case: Case, N: int, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    draws = (Sampler(case.model, N, (seed, N, 1_000_000 + i)) for i in range(_DRAWS))
    return without_disorder(m["information"], float(np.mean([information(sampler) for sampler in draws])))


def _starts(case: Case) -> np.ndarray:
    """Starting levels over two and a half units of log t around the variance; not a look at theory."""
    return case.model.mean_variance * np.exp(np.linspace(-0.9, 1.6, _STARTS))


def _stack(replicas: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.stack([replica[name] for replica in replicas]) for name in replicas[0]}


# --- from measurements to verdicts ------------------------------------------------------------------------------------


def _declare(case: Case, theory: Callable[[Any, float], float]) -> dict[str, Prediction]:
    t_c, width = theory(case.model, case.alpha), commitment_width(case.model, case.alpha)
    values = {name: width if name == "width" else t_c for name in FORMS}
    ours = "[ours: docs/derivations/trajectories.md]"
    declared = {
        name: Prediction(f"{NAMES[name]}, {case.label}", value, FORMS[name], TOLERANCE, "[AALMV25], [BBBM24]")
        for name, value in values.items()
    }
    for name in ("identity, SDE", "identity, flow", "reversal"):
        tolerance = TOLERANCE if name == "reversal" else EXACT_TOLERANCE
        declared[name] = Prediction(f"{NAMES[name]}, {case.label}", 1.0, None, tolerance, ours)
    return declared


def _estimates(m: Mapping[str, np.ndarray], case: Case, N: int, seed: int) -> dict[str, Estimate]:
    """Logarithms of the times and of the width at one size, errors by jackknife over training sets."""
    x, found, corrected = np.log(_starts(case)), {}, _without_disorder(m, case, N, seed)
    for name in DYNAMICS:
        # E sum w^2, the SDE's exact return probability, is known from many more points than are run
        curve = m[f"reached, {name}"] - m["participation"] + m["participation, all"]
        found[f"return, {name}"] = jackknife(x, corrected(curve), crossing)
        mean = corrected(m[f"commitment, {name}"].mean(axis=1))
        found[f"commitment, {name}"] = Estimate(float(mean.mean()), float(mean.std(ddof=1) / len(mean) ** 0.5))
    log_t = m["commitment, SDE"]
    moments = np.stack([log_t.mean(axis=1), (log_t**2).mean(axis=1)], axis=1)
    found["width"] = jackknife(
        np.arange(2.0), corrected(moments), lambda _, y: 0.5 * float(np.log(N * (y[1] - y[0] ** 2)))
    )
    return found


def _compare(
    case: Case,
    sizes: Sequence[int],
    found: Sequence[Mapping[str, np.ndarray]],
    declared: Mapping[str, Prediction],
    seed: int,
) -> tuple[list[Row], xr.Dataset]:
    """Identities pooled over sizes, times extrapolated, and what the figure draws."""
    N, P, starts = np.array(sizes, dtype=float), np.array([case.patterns(n) for n in sizes], dtype=float), _starts(case)
    estimates = [_estimates(m, case, n, seed) for m, n in zip(found, sizes, strict=True)]
    rows = _identities(case, found, declared)
    t_c, t_o = collapse_time(case.model, case.alpha), onset_time(case.model, case.alpha)
    drift = [
        np.log(finite_size_value("collapse", case.model, float(np.log(p - 1) / n), n) / t_c)
        for n, p in zip(N, P, strict=True)
    ]
    width = commitment_width(case.model, case.alpha)
    widths = [
        np.log(commitment_width(case.model, float(np.log(p - 1) / n), n) / width) for n, p in zip(N, P, strict=True)
    ]
    table = {name: [] for name in ("measured", "error", "fitted", "limit", "limit_error", "theory")}
    for name, form in FORMS.items():
        y, sigma = (np.array([getattr(e[name], part) for e in estimates]) for part in ("value", "error"))
        known = np.array(widths if name == "width" else drift)
        limit = limit_of_logs(N, y, sigma, form, known)
        note, fitted = "too few sizes with a measured time", np.full(len(N), np.nan)
        if fit := limit.fit:
            fitted = np.exp(known + form.design(N) @ np.array([fit.limit, *fit.coefficients.values()]))
            note = f"N = {int(fit.N[0])}..{int(fit.N[-1])}; chi2/dof = {fit.chi2:.2f}/{fit.dof}"
            if name != "width":
                note += f"; {abs(limit.value - t_o) / limit.error:.0f} sigma from the onset time {t_o:.4g}"
        verdict = judge(declared[name], limit.value, limit.error, limit.p_value)
        rows.append(Row(NAMES[name], case.label, verdict, f"{verdict.reason}; {note}"))
        entries = (np.exp(y), np.exp(y) * sigma, fitted, limit.value, limit.error, declared[name].value)
        for key, entry in zip(table, entries, strict=True):
            table[key].append(entry)
    by_size = {key: (("quantity", "size"), np.array(table[key])) for key in ("measured", "error", "fitted")}
    by_case = {key: ("quantity", np.array(table[key])) for key in ("limit", "limit_error", "theory")}
    curves = {
        "N": ("size", N),
        "P": ("size", P),
        "start": ("level", starts, {"long_name": "noise variance at which a training point is released"}),
        "collapse_time": t_c,
        "onset_time": t_o,
    }
    for key in ("return, SDE", "return, flow", "participation, all", "clean weight"):
        values = np.stack([m[key] for m in found])
        curves[f"curve_{key}"] = (("size", "level"), values.mean(axis=1))
        curves[f"curve_{key}_error"] = (("size", "level"), values.std(axis=1, ddof=1) / values.shape[1] ** 0.5)
    quantiles = np.linspace(0.01, 0.99, 50)
    for key in ("commitment, SDE", "commitment, flow", "reversed"):
        values = np.stack([np.quantile(m[key], quantiles) for m in found])
        curves[f"quantile_{key}"] = (("size", "probability"), values, {"long_name": "log commitment time"})
    coords = {"quantity": list(FORMS), "size": np.arange(len(N)), "probability": quantiles}
    return rows, xr.Dataset(by_size | by_case | curves, coords=coords)


def _identities(case: Case, found: Sequence[Mapping[str, np.ndarray]], declared: Mapping[str, Prediction]) -> list[Row]:
    """What holds at every size, pooled over sizes and starts."""
    pairs = {
        "identity, SDE": ("return, SDE", "own weight"),
        "identity, flow": ("return, flow", "reached, flow"),
    }
    rows = []
    for name, (seen, expected) in pairs.items():
        # a replica's difference, in units of what is expected in all
        scale = sum(m[expected].mean() for m in found)
        differences = [(m[seen] - m[expected]).mean(axis=1) / scale for m in found]
        value = 1 + sum(d.mean() for d in differences)
        error = sum(d.var(ddof=1) / len(d) for d in differences) ** 0.5
        verdict = judge(declared[name], value, error)
        rows.append(Row(NAMES[name], case.label, verdict, f"{verdict.reason}; exact at every N, all sizes and starts"))
    gaps = [m["commitment, SDE"].mean(axis=1) - m["reversed"].mean(axis=1) for m in found]
    value, error = (
        np.exp(np.mean([g.mean() for g in gaps])),
        sum(g.var(ddof=1) / len(g) for g in gaps) ** 0.5 / len(gaps),
    )
    verdict = judge(declared["reversal"], float(value), float(value * error))
    open_share = np.mean([m[f"left open, {name}"].mean() for m in found for name in DYNAMICS])
    note = f"exact at every N; {open_share:.2%} of fresh trajectories uncommitted at the end"
    return [*rows, Row(NAMES["reversal"], case.label, verdict, f"{verdict.reason}; {note}")]


def figure(result: ExperimentResult) -> Any:
    """Returns against the starting noise; distribution of commitment times; extrapolations; one row of panels a case."""
    from validation.returns_figure import returns_figure

    return returns_figure(result.curves, [name for name in FORMS if name != "width"], TOLERANCE)
