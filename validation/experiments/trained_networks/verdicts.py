r"""From a probed stack of networks to verdicts and arrays: each network beside the empirical score of its own training set.

Where a network has not converged its eigenvalues are not compared: the row stays, with the state of the networks in its note.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from theory.subspaces import frozen_eigenvalue, predicted_singular_values, subspace_collapse_times
from validation.experiments.losing_dimensions import NAMES, Found, claim_rows, claim_shares, time_rows
from validation.experiments.shared import Row, replica_error
from validation.simulation import Prediction, judge
from validation.spectra import KINDS, BlockData, Probe

__all__ = ["COMPARED", "Sweep", "arrays", "rows"]

COMPARED = (
    0.1,
    0.01,
)  # noise variances t of the comparison: a thousand and a hundred times that of the normal directions
TOLERANCE = 0.25


@dataclass(frozen=True)
class Sweep:
    """What was seen of one stack; member i R + r is replica r of the i-th size.

    Parameters
    ----------
    data : BlockData; sizes : training set sizes P; replicas : R; t : (T,) noise variances; steps : training steps followed
    networks, empirical : probes of the members and of the empirical scores of their training sets
    losses : datasets of `validation.training.convergence`
    followed : (step, member, reference, t, subspace), the departures of `validation.experiments.shared.network_probes`
    control : probe of the population's score
    """

    data: BlockData
    sizes: tuple[int, ...]
    replicas: int
    t: np.ndarray
    steps: tuple[int, ...]
    networks: Sequence[Probe]
    empirical: Sequence[Probe]
    losses: Sequence[xr.Dataset]
    followed: np.ndarray
    control: Probe


def rows(sweep: Sweep, label: str) -> list[Row]:
    """Eigenvalues against both references, times and their order against theory, the claims as shares of networks."""
    out, t, R = [], sweep.t, sweep.replicas
    shares: dict[str, dict[int, Any]] = {"network": {}, "empirical score": {}}
    for i, P in enumerate(sweep.sizes):
        mine = slice(i * R, (i + 1) * R)
        networks, empirical = sweep.networks[mine], sweep.empirical[mine]
        out += _agreement(label, sweep.data, P, t, networks, empirical, sweep.losses[mine])
        for who, probes in (("network", networks), ("empirical score", empirical)):
            found = [Found(p, np.empty(0), np.empty(0)) for p in probes]
            out += time_rows(f"{who}, {label}", sweep.data, P, t, found, sweep.control, [])
            shares[who][P] = (R, claim_shares(t, probes))
    for who, by_size in shares.items():
        out += claim_rows(f"{who}, {label}", False, t, by_size, sweep.control)
    return out


def _agreement(label, data, P, t, networks, empirical, losses) -> list[Row]:
    """The network's mean value at noisy training points against the empirical score's, and against the population's."""
    rows = []
    for level in COMPARED:
        k = int(np.argmin(np.abs(np.log(t / level))))
        labels = [str(one["label"].values[k]) for one in losses]
        share = float(np.mean([one["share"].values[k] for one in losses]))
        excess = float(np.mean([one["excess"].values[1, k] for one in losses]))
        state = f"networks {', '.join(labels)}; share {share:.2f} of the way from memorising to the population, " + (
            f"loss on fresh points {excess:.2f} of the least"
        )
        compared = "unconverged" not in labels
        for s, name in enumerate(NAMES[:2]):
            seen = np.array([p.value["typical"][k, :, s].mean() for p in networks])
            own = np.array([p.value["typical"][k, :, s].mean() for p in empirical])
            r = data.variances[s]
            for reference, value in (("empirical score", own), ("population", np.full(len(own), t[k] / (t[k] + r)))):
                difference = seen - value
                error = replica_error(difference)
                prediction = Prediction(
                    f"{reference}, {name}", float(value.mean()), None, TOLERANCE, "measured beside it"
                )
                measured = float(seen.mean()) if compared else math.nan
                verdict = judge(prediction, measured, error)
                note = f"{verdict.reason}; {state}" if compared else f"not compared: {state}"
                quantity = f"network's eigenvalue at t = {level:g}, {name} variance, against the {reference}"
                rows.append(Row(quantity, f"{label}, P = {P}", verdict, note))
    return rows


def arrays(sweep: Sweep) -> xr.Dataset:
    """Everything that was seen, over (P, replica, ...)."""
    S, R, t, data = len(sweep.sizes), sweep.replicas, sweep.t, sweep.data

    def by_size(values: Sequence[Any]) -> np.ndarray:
        stacked = np.array(values)
        return stacked.reshape(S, R, *stacked.shape[1:])

    out: dict[str, Any] = {}
    for who, probes in (("network", sweep.networks), ("empirical", sweep.empirical)):
        frames = [p.frame / p.frame.max(axis=1, keepdims=True) for p in probes]
        out[f"{who}_frame"] = (("P", "replica", "t", "direction"), by_size(frames))
        values = [[p.value[kind].mean(axis=1) for kind in KINDS] for p in probes]
        out[f"{who}_value"] = (("P", "replica", "kind", "t", "subspace"), by_size(values))
        spectra = [[p.eigenvalues[kind].mean(axis=1) for kind in KINDS] for p in probes]
        out[f"{who}_eigenvalue"] = (("P", "replica", "kind", "t", "direction"), by_size(spectra))
    out["exact_frame"] = (("t", "direction"), sweep.control.frame / sweep.control.frame.max(axis=1, keepdims=True))
    kinds = ["typical" if kind == "typical" else "fresh" for kind in KINDS]
    out["exact_value"] = (("kind", "t", "subspace"), np.array([sweep.control.value[k].mean(axis=1) for k in kinds]))
    variances = np.array(data.variances)
    model, N = data.model, data.N
    frozen = [frozen_eigenvalue(model, P, N, t, variances) for P in sweep.sizes]
    out["frozen_value"] = (("P", "t", "subspace"), np.array(frozen))
    heuristic = [predicted_singular_values(model, P, N, t) for P in sweep.sizes]
    out["heuristic"] = (("P", "t", "subspace"), np.array(heuristic))
    times = [[subspace_collapse_times(model, P, N, level=n) for n in ("gaussian-rem", "frozen")] for P in sweep.sizes]
    out["predicted_time"] = (("P", "level", "subspace"), np.array(times))
    order = np.moveaxis(sweep.followed, 1, 0).reshape(S, R, *sweep.followed.shape[:1], *sweep.followed.shape[2:])
    out["departure"] = (("P", "replica", "step", "reference", "t", "subspace"), order)
    for name in sweep.losses[0].data_vars:
        out[f"loss_{name}"] = (
            ("P", "replica", *sweep.losses[0][name].dims),
            by_size([one[name].values for one in sweep.losses]),
        )
    coordinates = {
        "P": list(sweep.sizes),
        "t": t,
        "kind": list(KINDS),
        "subspace": list(NAMES),
        "level": ["gaussian-rem", "frozen"],
        "step": list(sweep.steps),
        "reference": ["empirical", "population"],
        "where": ["training", "fresh"],
        "dimension": ("subspace", list(data.dimensions)),
        "variance": ("subspace", list(data.variances)),
    }
    return xr.Dataset(out, coords=coordinates)
