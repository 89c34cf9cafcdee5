r"""From trajectories to verdicts: what traps declares beforehand, identities pooled over sizes, times extrapolated.

Every quantity is judged at its limit of large N, its finite-N form declared in `FORMS`; the identities hold at every N and P.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from theory import collapse_time, onset_time
from theory.finite_size import commitment_width, finite_size_value
from validation.experiments.shared import PlantedCase, Row
from validation.experiments.traps.probes import DYNAMICS
from validation.simulation import (
    Estimate,
    Form,
    Prediction,
    Sampler,
    crossing,
    information,
    jackknife,
    judge,
    limit_of_logs,
    without_disorder,
)

__all__ = ["FORMS", "NAMES", "TOLERANCE", "compare", "declare", "start_levels"]

TOLERANCE, EXACT_TOLERANCE = 0.10, 0.03  # t_o is more than twice t_c; the identities hold at every N
_DRIFT = "finite-N drift of the collapse"
FORMS = {
    "return, SDE": Form(("N^-3/2",), _DRIFT),  # the return probability is the mean weight: its very crossing
    "return, flow": Form(("1/N",), _DRIFT),
    "commitment, SDE": Form(("1/N",), _DRIFT),
    "commitment, flow": Form(("1/N",), _DRIFT),
    "width": Form(("1/N",), "finite-N width of theory.finite_size.trajectories"),
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
_STARTS = 7  # starting levels
_DRAWS = 4000


def start_levels(case: PlantedCase) -> np.ndarray:
    """Starting levels over two and a half units of log t around the variance; not a look at theory."""
    return case.model.mean_variance * np.exp(np.linspace(-0.9, 1.6, _STARTS))


def declare(case: PlantedCase, theory: Callable[[Any, float], float]) -> dict[str, Prediction]:
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


def _estimates(m: Mapping[str, np.ndarray], case: PlantedCase, N: int, seed: int) -> dict[str, Estimate]:
    """Logarithms of the times and of the width at one size, errors by jackknife over training sets."""
    x, found, corrected = np.log(start_levels(case)), {}, _without_disorder(m, case, N, seed)
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


def compare(
    case: PlantedCase,
    sizes: Sequence[int],
    found: Sequence[Mapping[str, np.ndarray]],
    declared: Mapping[str, Prediction],
    seed: int,
) -> tuple[list[Row], xr.Dataset]:
    """Identities pooled over sizes, times extrapolated, and what the figure draws."""
    N, P, starts = (
        np.array(sizes, dtype=float),
        np.array([case.patterns(n) for n in sizes], dtype=float),
        start_levels(case),
    )
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


def _identities(
    case: PlantedCase, found: Sequence[Mapping[str, np.ndarray]], declared: Mapping[str, Prediction]
) -> list[Row]:
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


def _without_disorder(
    m: Mapping[str, np.ndarray], case: PlantedCase, N: int, seed: int
) -> Callable[[np.ndarray], np.ndarray]:
    draws = (Sampler(case.model, N, (seed, N, 1_000_000 + i)) for i in range(_DRAWS))
    return without_disorder(m["information"], float(np.mean([information(sampler) for sampler in draws])))
