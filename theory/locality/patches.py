"""Which patches memorise: the load of a patch, the largest patch that does not, and the diagram over noise, width and P."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from numerics.domain import finite, positive
from theory.loads import patch_load
from theory.locality.information import patch_information
from theory.models import Field

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["critical_patch", "patch_diagram"]


def critical_patch(model: Field, t: Any, P: Any, *, equivariant: bool = False) -> Any:
    r"""Largest patch that does not memorise: the largest odd width w with :math:`\frac12\sum_j\log(1+r_j/t)\le\log P_p`.

    A score that sees patches of this width still averages over many at noise t; the next larger one copies patches.

    Parameters
    ----------
    model : StationaryField or ImageCovariance
    t : number or array > 0, VE time in squared data units
    P : number or array >= 2, training images; broadcasts with t
    equivariant : bool
        Whether all places share one bag of patches, as for a convolution: P_p = P x places instead of P.

    Returns
    -------
    int or integer array: 0 where even one pixel memorises; `model.widths[-1]` where no patch does.

    Source: [KG24, HKG26].

    >>> from theory.models import StationaryField
    >>> critical_patch(StationaryField.power_law(32), [1.0, 0.25, 0.0625, 0.01], 50_000).tolist()
    [5, 3, 3, 1]
    """
    load = np.asarray(patch_load(model, P, equivariant=equivariant))
    t = positive("t", t)
    shape = np.broadcast_shapes(load.shape, t.shape)
    largest = np.zeros(shape, dtype=np.int64)
    open_ = np.ones(shape, dtype=bool)
    for width in model.widths:
        open_ = open_ & (np.asarray(patch_information(model, t, width, equivariant=equivariant)) <= load)
        if not open_.any():
            break
        largest[open_] = width
    return int(largest) if largest.ndim == 0 else largest


def patch_diagram(model: Field, t: Any, P: Any, *, widths: Any = None, equivariant: bool = False) -> xr.Dataset:
    """The phases over noise, patch and P: information, residual entropy, and the largest patch that does not memorise.

    Parameters
    ----------
    model, equivariant : as for `critical_patch`
    t : (T,) numbers > 0; P : (K,) numbers >= 2; widths : odd widths (default: all up to 15)

    Returns
    -------
    Dataset with `information` (width, t) and `residual_entropy` (width, t, P) in nats, `critical_patch` (t, P) in pixels.
    """
    import xarray as xr  # slow to import, and only needed here

    load = patch_load(model, P, equivariant=equivariant)
    t, P = np.atleast_1d(finite("t", t)), np.atleast_1d(finite("P", P))
    widths = [w for w in model.widths if w <= 15] if widths is None else list(widths)
    information = np.array([patch_information(model, t, w, equivariant=equivariant) for w in widths])
    data = xr.Dataset(
        {
            "information": (("width", "t"), information, {"units": "nats"}),
            "residual_entropy": (
                ("width", "t", "P"),
                np.maximum(0.0, np.atleast_1d(load) - information[:, :, None]),
                {"units": "nats"},
            ),
            "critical_patch": (
                ("t", "P"),
                critical_patch(model, t[:, None], P[None, :], equivariant=equivariant),
                {"units": "pixels"},
            ),
        },
        {"width": widths, "t": t, "P": P},
    )
    return data.assign_attrs(equivariant=int(equivariant), places=model.places)
