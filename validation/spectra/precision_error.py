r"""What reduced precision costs a product with a score's Jacobian, in units of the eigenvalues of :math:`-tJ`."""

from __future__ import annotations

import math
from typing import Any

import torch

from numerics.domain import DomainError, integer
from validation.spectra.operators import JacobianOperator
from validation.spectra.precision import PRODUCTS
from validation.spectra.score_functions import AutogradScore, as_score

__all__ = ["product_error"]


def product_error(score: Any, x: Any, t: float, kind: str, *, probes: int = 2, seed: int = 0) -> float:
    r"""Root mean square of :math:`t|J_{\mathrm{kind}}v-Jv|/|v|` over random signs v and points; for J or J^T, the larger.

    Parameters
    ----------
    score : a network, see `as_score`; x : (B, N) points; t : number > 0; kind : one of `PRODUCTS`; probes : of signs a point

    Returns
    -------
    float, 0 for scores that are no networks of torch, whose products are in float64

    Raises
    ------
    DomainError : another kind

    >>> product_error(lambda x, t: -x / t, torch.ones(1, 3), 1.0, "float32")
    0.0
    """
    if kind not in PRODUCTS:
        raise DomainError("kind", kind, ", ".join(PRODUCTS))
    face, probes = as_score(score), integer("probes", probes, minimum=1)
    if not isinstance(face, AutogradScore):
        return 0.0
    J, before = JacobianOperator(face, x, t), face.products
    generator = torch.Generator().manual_seed(seed)
    signs = 2.0 * torch.randint(0, 2, (J.B, probes, J.N), generator=generator).double().to(J.x.device) - 1
    worst = 0.0
    for act in (J.each, J.quadratic):
        found = []
        for face.products in ("float32", kind):
            found.append(act(signs))
        face.products = before
        worst = max(worst, J.t * float((found[1] - found[0]).square().mean().sqrt()))
    return worst if math.isfinite(worst) else math.inf
