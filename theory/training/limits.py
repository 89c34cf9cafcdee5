r"""Many features and many samples, :math:`\psi_p\gg\psi_n\gg1`: where the eigenvalues are, and which direction they belong to.

Both limits are taken in sympy in the equations of `theory.training.action`. A direction of variance r has

.. math:: \lambda_{gen}(r)=\psi_p\,a^2(e^{-2t}r+\Delta),\qquad
   \lambda_{mem}(r)=s^2+\frac{\psi_p}{\psi_n}v^2\frac{\Delta}{e^{-2t}r+\Delta},

the first learned, the second memorised at rate :math:`2\Delta\lambda/\psi_p`. The other :math:`n-N` eigenvalues of the
samples make the bulk of [BUBM25] about :math:`s^2+v^2\psi_p/\psi_n`, edges :math:`s^2+v^2(1\mp\sqrt{\psi_p/\psi_n})^2`;
gradient flow from zero hardly excites them. High variance is learned first, low variance is memorised first. Source: the
bulk [BUBM25]; the rate per direction [U26] for kernels, for random features [ours: docs/derivations/training_time.md].
"""

from __future__ import annotations

from functools import cache, cached_property

import numpy as np
import sympy as sp

from theory.notation import SpectralAverage, r
from theory.training.action import A, ReplicaAction, b2, g, psi_n, psi_p, s2, v2, x

__all__ = ["ManyFeatures", "bulk_edges", "learning_eigenvalue", "memorization_eigenvalue"]

level = sp.Symbol("Lambda", positive=True)  # v^2 psi_p/psi_n
ratio = sp.Symbol("R", positive=True)  # sqrt(psi_p/psi_n)
small = sp.Symbol("eta", positive=True)  # 1/psi_n, or 1/psi_p


class ManyFeatures:
    """The limits, each derived from the equations of the action."""

    @cached_property
    def bulk(self) -> tuple[sp.Expr, sp.Expr]:
        """Constraint and z of the small eigenvalues, where g is of order 1/psi_p and all averages over r drop out."""
        action, scaled = ReplicaAction(), sp.Symbol("y")
        ours = {psi_p: ratio**2 / small, psi_n: 1 / small, g: scaled * small / ratio**2}
        constraint, eigenvalue = (
            action.with_averages(e).replace(SpectralAverage, lambda h: h).subs(ours)
            for e in (action.constraint, action.eigenvalue)
        )
        constraint = sp.limit(sp.together(constraint), small, 0)
        eigenvalue = sp.limit(sp.together(eigenvalue), small, 0)
        (root,) = sp.solve(constraint, scaled)
        return sp.factor(root), sp.factor(eigenvalue.subs(scaled, root))

    @cached_property
    def edges(self) -> tuple[sp.Expr, sp.Expr]:
        """Where dz/dx = 0 in `bulk`."""
        found = [sp.factor(self.bulk[1].subs(x, root)) for root in sp.solve(sp.diff(self.bulk[1], x), x)]
        low, high = sorted(found, key=lambda e: e.subs({s2: 0, v2: 1, ratio: 3}))
        return low, high

    @cached_property
    def memorization(self) -> sp.Expr:
        r"""The pole of a direction's resolvent :math:`1/(\hat S+r\hat R)` below the bulk, for psi_p >> psi_n."""
        many = sp.limit(self.bulk[1].subs(ratio, sp.sqrt(level / v2)).subs(v2, small * v2), small, 0)  # v^2 << Lambda
        (at,) = sp.solve(b2 + A * r * x, x)  # S_hat + r R_hat = 0 at g << b^2
        return sp.factor(many.subs(x, at) - s2) + s2

    @cached_property
    def learning(self) -> sp.Expr:
        """The pole of a direction's resolvent at z of order psi_p, where x tends to 1: per psi_p."""
        action, scaled = ReplicaAction(), sp.Symbol("zeta")
        leading = sp.limit(sp.expand(action.eigenvalue.subs(sp.Symbol("m0"), 0)) / psi_p, psi_p, sp.oo)
        root = sp.solve(leading - scaled, g)[0]
        direction = (action.overlaps[sp.Symbol("S_hat")] + r * action.overlaps[sp.Symbol("R_hat")]).subs(x, 1)
        return sp.factor(sp.solve(direction.subs(g, root), scaled)[0])

    @cached_property
    def order(self) -> tuple[sp.Expr, sp.Expr]:
        """d lambda_mem/dr < 0 and d lambda_gen/dr > 0: the theorem on the order of directions."""
        return sp.factor(sp.diff(self.memorization, r)), sp.diff(self.learning, r)


@cache
def _lowered(name: str):
    many = ManyFeatures()
    if name == "edges":
        return sp.lambdify((s2, v2, ratio), many.edges, modules="numpy")
    return sp.lambdify((r, A, b2, s2, level), getattr(many, name), modules="numpy")


def bulk_edges(parameters: tuple[float, ...]) -> tuple[float, float]:
    """Edges of the bulk of sample eigenvalues at leading order, from (psi_p, psi_n, A, b2, v2, s2)."""
    p, n, _, _, v, s = parameters
    low, high = _lowered("edges")(s, v, np.sqrt(p / n))
    return float(low), float(high)


def memorization_eigenvalue(variance: np.ndarray, parameters: tuple[float, ...]) -> np.ndarray:
    """Eigenvalue of U with which a direction of given variance is memorised, at leading order."""
    p, n, a, b, v, s = parameters
    return _lowered("memorization")(np.asarray(variance, dtype=float), a, b, s, v * p / n)


def learning_eigenvalue(variance: np.ndarray, parameters: tuple[float, ...]) -> np.ndarray:
    """Eigenvalue of U with which a direction of given variance is learned, at leading order."""
    p, _, a, b, _, _ = parameters
    return p * _lowered("learning")(np.asarray(variance, dtype=float), a, b, 0.0, 0.0)
