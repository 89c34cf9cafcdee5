"""Probed training sets as labelled arrays: means with errors, beside the authors' heuristic and the exact score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from theory.subspaces import predicted_singular_values, subspace_collapse_times
from validation.experiments.losing_dimensions.verdicts import CLAIMS, VIEWS, claim_shares
from validation.spectra import KINDS, BlockData, Probe

__all__ = ["beside_controls", "curves_of"]


def curves_of(data: BlockData, P: int, t: np.ndarray, probes: Sequence[Probe], trained: Probe | None) -> xr.Dataset:
    """Means over training sets with their errors at P points; `trained`, a network's probe, where there is one."""
    out: dict[str, Any] = {}

    def add(name: str, values: np.ndarray, dims: tuple[str, ...]) -> None:
        out[name] = (dims, values.mean(axis=0))
        spread = (
            values.std(axis=0, ddof=1) / math.sqrt(len(values))
            if len(values) > 1
            else np.full(values.shape[1:], np.nan)
        )
        out[f"{name}_error"] = (dims, spread)

    for name, read in {"frame": lambda p: p.frame, "symmetric": lambda p: p.symmetric}.items():
        add(name, np.array([read(p) / read(p).max(axis=1, keepdims=True) for p in probes]), ("t", "direction"))
    add("column", np.array([VIEWS["plain frame at the centre"](p) for p in probes]), ("t", "subspace"))
    add("symmetric_column", np.array([p.symmetric_column for p in probes]), ("t", "subspace"))
    add("squares", np.array([p.squares for p in probes]), ("t", "subspace"))
    by_kind = {
        "value": (lambda p, kind: p.value[kind].mean(axis=1), ("t", "subspace")),
        "eigenvalue": (lambda p, kind: p.eigenvalues[kind].mean(axis=1), ("t", "direction")),
        "squares_at": (lambda p, kind: (1 / p.participation[kind]).mean(axis=1), ("t",)),
    }
    for name, (read, dims) in by_kind.items():
        stacked = np.array([[read(p, kind) for kind in KINDS] for p in probes])
        add(name, stacked, ("kind", *dims))
    medians = [np.median(np.concatenate([p.value[kind] for p in probes], axis=1), axis=1) for kind in KINDS]
    out["value_median"] = (("kind", "t", "subspace"), np.array(medians))
    heuristic = predicted_singular_values(data.model, P, data.N, t, normalised=data.normalised)
    out["heuristic"] = (("t", "subspace"), heuristic)
    levels = [
        subspace_collapse_times(
            data.model, P, data.N, level=level, normalised=data.normalised and level == "gaussian-rem"
        )
        for level in ("gaussian-rem", "marginal", "frozen")
    ]
    out["claim_share"] = (("claim", "view"), np.array(list(claim_shares(t, probes).values())))
    out["predicted_time"] = (("level", "subspace"), np.array(levels))
    if trained is not None:
        out["network_frame"] = (("t", "direction"), trained.frame / trained.frame.max(axis=1, keepdims=True))
        out["network_value"] = (("kind", "t", "subspace"), np.array([trained.value[k].mean(axis=1) for k in KINDS]))
    return xr.Dataset(out)


def beside_controls(
    curves: Mapping[tuple, xr.Dataset], controls: Mapping[tuple, Probe], t: np.ndarray, subspaces: Sequence[str]
) -> xr.Dataset:
    """One labelled array a quantity, NaN where a size was left out, with what the exact score shows.

    curves : by (case, normalised, P); controls : by (case, normalised), of infinitely many training points
    """
    sizes = sorted({key[2] for key in curves})
    by_case = []
    labels = list(dict.fromkeys(key[0] for key in curves))
    for label in labels:
        by_norm = []
        for normalised in (False, True):
            mine = {key[2]: part for key, part in curves.items() if key[:2] == (label, normalised)}
            part = xr.concat(list(mine.values()), xr.DataArray(list(mine), dims="P", name="P"), join="outer")
            control = controls[(label, normalised)]
            part["exact_column"] = (("t", "subspace"), VIEWS["plain frame at the centre"](control))
            part["exact_symmetric_column"] = (("t", "subspace"), control.symmetric_column)
            part["exact_frame"] = (("t", "direction"), control.frame / control.frame.max(axis=1, keepdims=True))
            exact = [control.value[kind if kind != "training" else "fresh"].mean(axis=1) for kind in KINDS]
            part["exact_value"] = (("kind", "t", "subspace"), np.array(exact))
            by_norm.append(part.reindex(P=sizes))
        by_case.append(xr.concat(by_norm, xr.DataArray([False, True], dims="normalised", name="normalised")))
    data = xr.concat(by_case, xr.DataArray(labels, dims="case", name="case"))
    return data.assign_coords(
        t=t,
        kind=list(KINDS),
        subspace=list(subspaces),
        level=["gaussian-rem", "marginal", "frozen"],
        claim=list(CLAIMS),
        view=list(VIEWS),
    )
