r"""The load at which a time is asked for, :math:`\alpha=\log P/N`: of a data set, of a class, of a patch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import sympy as sp

from numerics.domain import DomainError, finite, positive
from theory.engine import Engine, engine, needs_dimension
from theory.models import Field, Mixture, Spectrum

__all__ = ["load", "of_patch", "patch_load", "placed"]


def load(model: Any, alpha: Any = None, P: Any = None, N: Any = None) -> Any:
    r"""The load :math:`\alpha=\log P/N`, checked, from whichever of `alpha` and (`P`, `N`) is given."""
    if alpha is not None:
        if P is not None or N is not None:
            raise DomainError("alpha, P, N", (alpha, P, N), "either alpha, or P together with N")
        if isinstance(alpha, sp.Expr) and not alpha.is_number:
            return alpha
        return positive("alpha", alpha)
    if N is None and isinstance(model, Spectrum):
        N = model.N
    if P is None or N is None:
        raise DomainError("alpha, P, N", (alpha, P, N), "either alpha, or P together with N")
    N = positive("N", N)
    if isinstance(P, int):  # of any size
        if P < 2:
            raise DomainError("P", P, "numbers >= 2")
        return math.log(P) / N
    P = finite("P", P, allowed="numbers >= 2")
    if (P < 2).any():
        raise DomainError("P", float(P[P < 2].flat[0]), "numbers >= 2")
    return np.log(P) / N


def placed(model: Any, alpha: Any = None, P: Any = None, N: Any = None) -> tuple[Engine, Any]:
    """The engine of `model` and the checked load; mixtures and limits of power laws take N beside alpha as well."""
    if not needs_dimension(model):
        alpha = load(model, alpha, P, N)
        return engine(model), alpha
    if isinstance(model, Mixture):
        N = model.dimension(N)
    if alpha is None:
        alpha = load(model, None, P, N)
    elif P is not None:
        raise DomainError("alpha, P", (alpha, P), "either of them")
    return engine(model, N), positive("alpha", alpha)


def patch_load(model: Any, P: Any, *, equivariant: bool = False) -> Any:
    r""":math:`\log P_p`: P patches compete at one place, P times the number of places where all places share a bag.

    Source: [KG24].

    >>> from theory.models import StationaryField
    >>> round(float(patch_load(StationaryField.power_law(32), 1000, equivariant=True)), 6)  # log(1000 * 32 * 32)
    13.839227
    """
    if not isinstance(model, Field):
        raise DomainError("model", model, "a StationaryField or an ImageCovariance")
    return load(model, None, P, 1) + (math.log(model.places) if equivariant else 0.0)


def of_patch(model: Any, alpha: Any, P: Any, N: Any, patch: Any, equivariant: bool) -> tuple[Any, Any, Any, Any]:
    """Model, alpha, P and N as a score sees them: of the patch, where one is asked for."""
    if patch is None:
        if equivariant:
            raise DomainError("equivariant", equivariant, "left out without patch")
        return model, alpha, P, N
    if not isinstance(model, Field):
        raise DomainError(
            "patch", patch, "left out for this model", "Patches are those of StationaryField, ImageCovariance"
        )
    if alpha is not None or N is not None or P is None:
        raise DomainError("alpha, P, N", (alpha, P, N), "P alone with a patch", "The patch knows its N")
    seen = model.patch(patch, equivariant=equivariant)
    return seen, patch_load(model, P, equivariant=equivariant) / seen.N, None, None
