r"""How far a Jacobian is from symmetric: a gradient's is, a guided or trained network's need not be.

.. math:: \frac{\|J-J^\top\|_F}{\|J+J^\top\|_F},\qquad \|A\|_F^2=E|Av|^2,\ v=\pm1
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from numerics.domain import integer
from validation.spectra.operators import JacobianOperator

__all__ = ["asymmetry"]


def asymmetry(score: Any, x: Any, t: float, *, probes: int = 8, seed: int = 0) -> tuple[float, float]:
    """Norm of the antisymmetric part of J over that of the symmetric part, and its standard error over probes and points.

    Parameters
    ----------
    score : whatever `as_score` takes; x : (B, N) points; t : number > 0; probes : random signs a point, >= 2

    Returns
    -------
    (ratio, error), 0 for a gradient; (nan, nan) where no J^T v is to be had

    >>> asymmetry(lambda x, t: x @ torch.tensor([[-2.0, 1.0], [-1.0, -2.0]], dtype=x.dtype), torch.zeros(1, 2), 1.0)
    (0.5, 0.0)
    """
    J, probes = JacobianOperator(score, x, t), integer("probes", probes, minimum=2)
    if J.symmetric:
        return 0.0, 0.0
    if not J.has_transposed:
        return math.nan, math.nan
    generator = torch.Generator().manual_seed(seed)
    both = []
    for _ in range(probes):
        v = 2.0 * torch.randint(0, 2, (J.B, J.N), generator=generator).double().to(J.x.device) - 1
        forth, back = J(v), J.transposed(v)
        both.append(
            [(forth - back).square().sum(dim=1).cpu().numpy(), (forth + back).square().sum(dim=1).cpu().numpy()]
        )
    anti, whole = np.moveaxis(np.array(both), 1, 0).reshape(2, -1)
    ratio = float(np.sqrt(anti.mean() / whole.mean()))
    spread = (anti - ratio**2 * whole).std(ddof=1) / math.sqrt(len(anti)) / whole.mean()
    return ratio, float(spread / (2 * ratio)) if ratio > 0 else 0.0
