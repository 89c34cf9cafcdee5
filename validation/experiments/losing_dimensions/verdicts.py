r"""From probed training sets to verdicts: times with errors against three levels of theory, and claims as shares.

A claim is a yes or no of one training set; what is judged is the share of training sets that show it, at the P where the
share is largest, and the exact score is asked the same question: what it shows too is geometry, not memorisation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from theory import collapse_time
from theory.finite_size import expected_participation
from theory.subspaces import (
    departure_time,
    gaussian_rem_participation,
    subspace_collapse_times,
    visible_window,
)
from validation.experiments.shared import Row
from validation.simulation import Estimate, Prediction, crossing, jackknife, judge
from validation.spectra import BlockData, Probe, last_crossing

__all__ = [
    "CLAIMS",
    "THETA",
    "T_SMALL",
    "VIEWS",
    "Found",
    "claim_rows",
    "claim_shares",
    "heuristic_rows",
    "marginal_grid",
    "time_rows",
]

THETA = 0.9  # a direction whose value is at least this is not told from noise
T_SMALL = 1e-2  # "down to small t": a hundred times the variance of the normal directions
TOLERANCE = 0.25  # of a time: the effects at stake are factors of 2 to 100
_KEPT = ("high", "low")
_OURS = "[ours: docs/derivations/losing_dimensions.md]"

VIEWS: Mapping[str, Callable[[Probe], np.ndarray]] = {
    "plain frame at the centre": lambda p: p.column / p.column.max(axis=1, keepdims=True),
    "symmetric frame at the centre": lambda p: p.symmetric_column,
    "fresh points": lambda p: p.value["fresh"].mean(axis=1),
    "typical points": lambda p: p.value["typical"].mean(axis=1),
}


def _kept(t: np.ndarray, v: np.ndarray) -> bool:
    return bool((v[_at(t, T_SMALL), :2] < THETA).all())


def _high_first(t: np.ndarray, v: np.ndarray) -> bool:
    return bool(((v[:, 0] >= THETA) & (v[:, 1] < THETA) & (t >= T_SMALL / 10) & (t < 1.0)).any())


def _lost(t: np.ndarray, v: np.ndarray) -> bool:
    return bool((v[_at(t, T_SMALL), :2] >= THETA).all())


CLAIMS = {
    "large P: the full manifold gap stays open down to t = 0.01": _kept,
    "some P: high variance is lost while low variance is kept": _high_first,
    "small P: all is lost at t = 0.01": _lost,
}


@dataclass(frozen=True, eq=False)
class Found:
    """One training set: its probe, sum w^2 at the heuristic's times (2,), and own weights of its projections (2, G)."""

    probe: Probe
    squares_at: np.ndarray
    own_weight: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it by name, as it travels and is kept."""
        found = {"squares_at": self.squares_at, "own_weight": self.own_weight}
        for each in fields(Probe):
            value = getattr(self.probe, each.name)
            if isinstance(value, dict):
                found |= {f"{each.name}.{kind}": array for kind, array in value.items()}
            else:
                found[each.name] = value
        return found

    @classmethod
    def from_arrays(cls, found: Mapping[str, np.ndarray]) -> Found:
        """The same again.

        >>> Found.from_arrays({"value.fresh": np.ones(1), "squares_at": np.ones(2)}).probe.value
        {'fresh': array([1.])}
        """
        parts: dict[str, Any] = {"value": {}, "eigenvalues": {}, "participation": {}}
        for name, array in found.items():
            of, _, kind = name.partition(".")
            if kind:
                parts[of][kind] = array
            else:
                parts[of] = array
        probe = Probe(**{each.name: parts.get(each.name) for each in fields(Probe)})
        return cls(probe, parts.get("squares_at"), parts.get("own_weight"))


def marginal_grid(data: BlockData, P: int, k: int) -> np.ndarray:
    """log t around the marginal time of subspace k, where the own weight of its projection is measured."""
    return np.log(subspace_collapse_times(data.model, P, data.N, level="marginal")[k]) + np.linspace(-4, 4, 17)


def heuristic_rows(label: str, data: BlockData, P: int, t: np.ndarray, found: Sequence[Found]) -> list[Row]:
    """The authors' heuristic at its own probe, the exact finite-P theory beside it, and the marginal level at its own."""
    rows, fine, label = [], np.logspace(-7, 2, 1801), _full(label, data.normalised, P)
    predicted = subspace_collapse_times(data.model, P, data.N, level="gaussian-rem", normalised=data.normalised)
    curve = gaussian_rem_participation(data.model, P, data.N, fine, normalised=data.normalised)
    marginal = subspace_collapse_times(data.model, P, data.N, level="marginal")
    for k, name in enumerate(_KEPT):
        half = math.exp(last_crossing(np.log(fine), np.maximum(curve[:, k], 1e-12), 0.5))
        seen = np.array([f.probe.squares[:, k] for f in found])
        estimate = _time(np.log(t), seen, lambda x, mean: last_crossing(x, mean, 0.5))
        prediction = Prediction(f"sum w² = 1/2, {name}", half, None, TOLERANCE, "[AVSP24]")
        verdict = judge(prediction, estimate.value, estimate.error)
        note = f"{verdict.reason}; predicted over measured {half / estimate.value:.2f}"
        rows.append(
            Row(f"noise at which sum w² = 1/2 at the centre, {name} variance (heuristic)", label, verdict, note)
        )
        if data.normalised:
            continue
        at = np.array([f.squares_at[k] for f in found])
        x = np.zeros(data.N)
        x[data.blocks[k].start] = math.sqrt(predicted[k])
        exact = expected_participation(data.model, P, data.N, t=float(predicted[k]), kind="clean", x=x)
        prediction = Prediction(f"sum w² at t_k, {name}", float(exact.value), None, TOLERANCE, "theory.finite_size")
        verdict = judge(prediction, at.mean(), at.std(ddof=1) / math.sqrt(len(at)))
        rows.append(Row(f"sum w² at the heuristic's t_k, {name} variance (exact finite P)", label, verdict))
        own = np.array([f.own_weight[k] for f in found])
        estimate = _time(marginal_grid(data, P, k), own, crossing)
        prediction = Prediction(f"marginal collapse, {name}", marginal[k], None, TOLERANCE, "[BBBM24]")
        verdict = judge(prediction, estimate.value, estimate.error)
        rows.append(Row(f"collapse of the data projected on the {name}-variance subspace (marginal)", label, verdict))
    return rows


def time_rows(
    label: str,
    data: BlockData,
    P: int,
    t: np.ndarray,
    found: Sequence[Found],
    control: Probe,
    table: list[dict[str, Any]],
) -> list[Row]:
    """Both meanings of lost, at fresh and typical points: every time goes to `table`, the departures are judged."""
    label, log_t, probes = _full(label, data.normalised, P), np.log(t), [f.probe for f in found]
    norm = {"gaussian-rem": data.normalised}
    levels = {
        level: subspace_collapse_times(data.model, P, data.N, level=level, normalised=norm.get(level, False))
        for level in ("gaussian-rem", "marginal", "frozen")
    }
    joint = float(collapse_time(data.model, P=P, N=data.N))
    opens = visible_window(data.model, P, data.N, threshold=THETA)
    rows = []
    for kind in ("fresh", "typical"):
        exact = control.value[kind].mean(axis=1)
        mean = np.array([p.value[kind].mean(axis=1) for p in probes])  # (R, T, K)
        middle = np.array([np.median(p.value[kind], axis=1) for p in probes])
        closing = []
        for k, name in enumerate(_KEPT):

            def depart(x, values, exact=exact[:, k]):
                return last_crossing(x, np.maximum(values, 1e-12) / exact, 2.0)

            measured = {
                "departure of the mean": _time(log_t, mean[:, :, k], depart),
                "gap of the mean opens": _time(log_t, mean[:, :, k], _opens),
                "gap of the mean closes": _time(log_t, mean[:, :, k], _closes),
                "gap of the median closes": _time(log_t, middle[:, :, k], _closes),
            }
            for meaning, estimate in measured.items():
                row = {"model": label, "P": P, "subspace": name, "probe": kind, "meaning": meaning}
                row |= {"t": estimate.value, "error": estimate.error, **{n: float(v[k]) for n, v in levels.items()}}
                table.append(row | {"joint collapse": joint, "frozen level opens": float(opens[k])})
            closing.append(measured["gap of the median closes"])
            if not data.normalised and kind == "fresh":
                prediction = Prediction(f"departure, {name}", float(levels["frozen"][k]), None, TOLERANCE, _OURS)
                estimate = measured["departure of the mean"]
                verdict = judge(prediction, estimate.value, estimate.error)
                note = f"{verdict.reason}; " + "; ".join(f"{n} {v[k]:.3g}" for n, v in levels.items())
                rows.append(Row(f"departure time, {name} variance, {kind} points (frozen level)", label, verdict, note))
        if not data.normalised:
            rows.append(_order_row(label, data, P, kind, log_t, mean, exact, closing))
    return rows


def _order_row(label, data, P, kind, log_t, mean, exact, closing) -> Row:
    """Meaning (i) in one number: how much earlier (at larger t) the high-variance subspace departs than the low one."""

    def ratio(x, flat):
        values = np.maximum(flat.reshape(len(x), -1), 1e-12) / exact
        return last_crossing(x, values[:, 0], 2.0) - last_crossing(x, values[:, 1], 2.0)

    stacked = mean.reshape(len(mean), -1)
    found = _jackknife(log_t, stacked, ratio)
    high, low = departure_time(data.model, P, data.N)[:2]
    prediction = Prediction("order of departure", float(high / low), None, TOLERANCE, _OURS)
    verdict = judge(prediction, found.value, found.error)
    first = "high variance first" if found.value - 2 * found.error > 1 else "no clear order"
    second = f"{closing[0].value:.3g} +- {closing[0].error:.1g} (high), {closing[1].value:.3g} +- {closing[1].error:.1g} (low)"
    note = f"(i) {first}; (ii) the median gap closes at {second}; {verdict.reason}"
    return Row(f"order: departure time of high over low variance, {kind} points", label, verdict, note)


def _opens(x: np.ndarray, values: np.ndarray) -> float:
    return last_crossing(x, np.maximum(values, 1e-12), THETA)


def _closes(x: np.ndarray, values: np.ndarray) -> float:
    """Followed down from the widest gap, the first noise at which the value is `THETA` again; NaN if it never is."""
    lowest = int(np.argmin(values))
    shut = np.flatnonzero(values[:lowest] >= THETA)
    if values[lowest] >= THETA or shut.size == 0:
        return math.nan
    i = int(shut[-1])
    return float(x[i] + (x[i + 1] - x[i]) * (values[i] - THETA) / (values[i] - values[i + 1]))


def _time(log_t: np.ndarray, rows: np.ndarray, statistic: Callable) -> Estimate:
    """exp of a log time, with its jackknife error."""
    if len(rows) < 2:
        return Estimate(math.nan, math.nan, "one training set")
    found = jackknife(log_t, rows, statistic)
    return Estimate(math.exp(found.value), math.exp(found.value) * found.error, found.reason)


def _jackknife(log_t: np.ndarray, rows: np.ndarray, statistic: Callable) -> Estimate:
    """`_time` for a statistic of several curves at once, each row their values one after the other."""
    if len(rows) < 2:
        return Estimate(math.nan, math.nan, "one training set")
    left_out = [statistic(log_t, np.delete(rows, i, axis=0).mean(axis=0)) for i in range(len(rows))]
    value, R = statistic(log_t, rows.mean(axis=0)), len(rows)
    error = math.sqrt((R - 1) / R * np.square(np.subtract(left_out, np.mean(left_out))).sum())
    return Estimate(math.exp(value), math.exp(value) * error)


def claim_shares(t: np.ndarray, probes: Sequence[Probe]) -> dict[str, list[float]]:
    """For every claim and view the share of training sets that show it."""
    return {
        claim: [sum(holds(t, read(p)) for p in probes) / len(probes) for read in VIEWS.values()]
        for claim, holds in CLAIMS.items()
    }


def claim_rows(
    label: str,
    normalised: bool,
    t: np.ndarray,
    by_size: Mapping[int, tuple[int, Mapping[str, list[float]]]],
    control: Probe,
) -> list[Row]:
    """Each claim and view, at the P that shows it most often, with the exact score's answer in the note."""
    rows = []
    for claim, holds in CLAIMS.items():
        for i, (view, read) in enumerate(VIEWS.items()):
            best = max(by_size, key=lambda P: by_size[P][1][claim][i])
            count, share = by_size[best][0], by_size[best][1][claim][i]
            value = (share * count + 1) / (count + 2)  # Laplace's: never 0 or 1, so that it has an error
            error = math.sqrt(value * (1 - value) / (count + 3))
            verdict = judge(Prediction(claim, 1.0, None, 0.5, "[AVSP24]"), value, error)
            geometry = ", which is geometry and not memorisation" if holds is not _kept else ""
            alike = f"shows it too{geometry}" if holds(t, read(control)) else "does not show it"
            all_sizes = ", ".join(f"{by_size[P][1][claim][i]:.2f} at P = {P}" for P in by_size)
            note = f"{verdict.reason}; share of training sets {all_sizes}; the exact score (P to infinity) {alike}"
            name = f"{label}, {'fixed' if normalised else 'free'} norm"
            rows.append(Row(f"claim, {claim} ({view})", name, verdict, note))
    return rows


def _full(label: str, normalised: bool, P: int) -> str:
    return f"{label}, {'fixed' if normalised else 'free'} norm, P = {P}"


def _at(t: np.ndarray, level: float) -> int:
    return int(np.argmin(np.abs(np.log(t / level))))
