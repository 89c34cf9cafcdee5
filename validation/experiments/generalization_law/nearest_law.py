"""The law of the best noise floor on data as they come: t_g is the mean squared distance to the nearest training point."""

from __future__ import annotations

import numpy as np
import xarray as xr

from theory.finite_size import edge_correction
from validation.audit import measure
from validation.data import Dataset, nearest_neighbours, split
from validation.experiments.shared import Row
from validation.score import EmpiricalScore
from validation.simulation import Estimate, Outcome, Prediction, Verdict, jackknife, judge, minimum

__all__ = ["LAW", "SOURCE", "below", "law", "law_on_data"]

LAW, INSIDE = "t_g / nearest squared distance", "t_g / t_c below 1"
SOURCE = "[AALMV25]; edge: [ours: docs/derivations/trajectories.md]"
TOLERANCE = 0.05  # at one finite N and P, without an extrapolation


def law_on_data(dataset: Dataset, *, probes: int, seed: int, device: str) -> tuple[list[Row], xr.Dataset]:
    """The law at six sizes of the training set, from P/32 on, and whether t_g < t_c at the largest; judged there."""
    declared = Prediction(f"{LAW}, edge removed, {dataset.name}", 1.0, None, TOLERANCE, SOURCE)
    inside = Prediction(f"{INSIDE}, {dataset.name}", 1.0, source="[AALMV25]")
    parts = split(dataset.X, dataset.held_out, seed=seed, limit=probes, device=device)
    train, held_out = parts
    order = np.random.default_rng((seed, 5)).permutation(len(train))
    sizes = sorted({max(8, len(train) >> k) for k in range(6)})
    table = {name: np.full(len(sizes), np.nan) for name in ("t_g", "t_g_error", "d2", "ratio", "ratio_error")}
    for i, P in enumerate(sizes):
        ratio, t_g, d2 = law(np.ascontiguousarray(train[order[:P]]), held_out, device)
        table["t_g"][i], table["t_g_error"][i], table["d2"][i] = t_g.value, t_g.value * t_g.error, d2
        table["ratio"][i], table["ratio_error"][i] = ratio.value, ratio.value * ratio.error
    m = measure(train, held_out, probes=min(probes, 512), seed=seed, device=device)
    t_g, t_c = m.generalization, m.collapse
    share = t_g.value / t_c.value
    error = share * np.hypot(t_g.error / t_g.value, t_c.error / t_c.value)
    label = f"{dataset.name}, P={len(train)}, N={dataset.N}"
    edge = edge_correction(min(t_g.value / m.condensation.value, 0.99), m.N)
    value, error_of = (float(table[name][-1]) / (1 + edge) for name in ("ratio", "ratio_error"))
    verdict = judge(declared, value, error_of)
    note = f"before removing the edge's {edge:+.2%}: {table['ratio'][-1]:.5g}; errors over held-out points"
    note += f"; {parts.copies.report()}" if parts.copies.count else ""
    rows = [
        Row(LAW, label, verdict, f"{verdict.reason}; {note}"),
        Row(INSIDE, label, below(inside, share, float(error)), f"t_g = {t_g.value:.4g}, t_c = {t_c.value:.4g}"),
    ]
    curves = xr.Dataset(
        {f"data_{name}": ("subset", values) for name, values in table.items()}
        | {"data_P": ("subset", np.array(sizes, dtype=float)), "data_N": dataset.N, "data_collapse": t_c.value}
        | {"data_optimum": t_g.value, "data_t": ("point", m.t), "data_cross_entropy": ("point", m.cross_entropy.mean)}
        | {"data_own_weight": ("point", m.own_weight.mean)},
        coords={"subset": np.arange(len(sizes)), "point": np.arange(len(m.t))},
    )
    return rows, curves


def law(train: np.ndarray, held_out: np.ndarray, device: str) -> tuple[Estimate, Estimate, float]:
    """t_g over the nearest squared distance, from the same held-out points (relative errors), t_g, and the distance."""
    d2 = nearest_neighbours(train, 1, queries=held_out, device=device).squared_distance[:, 0]
    x = np.log(d2.mean()) + np.linspace(-1.5, 2.5, 33)
    cross = (
        x / 2
        - EmpiricalScore(train, device=device).clean_profile(held_out, np.exp(x))["log_partition"].T / train.shape[1]
    )
    # the extra column carries the distance through the jackknife
    both, axis = np.column_stack([cross, d2]), np.append(x, x[-1] + 1)
    ratio = jackknife(axis, both, lambda _, y: minimum(x, y[:-1]) - float(np.log(y[-1])))
    t_g = jackknife(axis, both, lambda _, y: minimum(x, y[:-1]))
    exp = [Estimate(float(np.exp(e.value)), e.error, e.reason) for e in (ratio, t_g)]
    return exp[0], exp[1], float(d2.mean())


def below(prediction: Prediction, measured: float, error: float) -> Verdict:
    """A bound instead of a value: agree or disagree where it holds, or fails, by three errors."""
    if not np.isfinite(measured + error):
        return Verdict(prediction, measured, error, Outcome.INCONCLUSIVE, "nothing was measured")
    gap = (prediction.value - measured) / error
    if abs(gap) < 3:
        return Verdict(prediction, measured, error, Outcome.INCONCLUSIVE, "closer to the bound than 3 sigma")
    reason = f"{'below' if gap > 0 else 'above'} the bound by {abs(gap):.0f} sigma"
    return Verdict(prediction, measured, error, Outcome.AGREE if gap > 0 else Outcome.DISAGREE, reason)
