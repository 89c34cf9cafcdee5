r"""The random energy model of the empirical score, for any cumulant generating function :math:`g(\beta;\delta)`.

Everything a time needs follows from `g` by differentiation; nothing in this file knows what the data are.
Sources: [D81] for the REM, [LM24, BBBM24, AALMV25] for its use on the empirical density.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from theory.notation import alpha, beta, delta, merge, t

__all__ = ["KINDS", "RandomEnergyModel"]

KINDS = ("onset", "collapse", "condensation", "generalization")


@dataclass(frozen=True)
class RandomEnergyModel:
    r"""A REM with :math:`e^{\alpha N}` levels and :math:`g(\beta;\delta)=\lim\frac1N E_x\log E_\xi e^{-\beta\|x-\xi\|^2/2}`.

    Parameters
    ----------
    g : sympy expression in `theory.notation.beta` and `delta`

    >>> rem = RandomEnergyModel(-beta * (1 + delta) / 2)
    >>> rem.entropy
    alpha
    """

    g: sp.Expr

    @property
    def slope(self) -> sp.Expr:
        r"""Minus the mean energy per dimension, :math:`\partial_\beta g`."""
        return sp.diff(self.g, beta)

    @property
    def entropy(self) -> sp.Expr:
        r"""Entropy of the occupied levels, :math:`s=\alpha+g-\beta\,\partial_\beta g`."""
        return self._tidy(alpha + self.g - beta * self.slope)

    @property
    def condensation(self) -> sp.Eq:
        r"""The condition :math:`s(\beta_*)=0`, as an equation in :math:`\beta`."""
        return sp.Eq(self.entropy, 0)

    @property
    def free_energy(self) -> sp.Expr:
        r""":math:`\varphi=\lim\frac1N\log Z=\alpha+g(\beta)` where the entropy is positive, :math:`\beta\le\beta_*`."""
        return alpha + self.g

    def condensed_free_energy(self, beta_star: sp.Expr) -> sp.Expr:
        r""":math:`\varphi=\beta\,g'(\beta_*)` for :math:`\beta\ge\beta_*`: the lowest level rules."""
        return beta * self.slope.subs(beta, beta_star)

    def participation(self, beta_star: sp.Expr) -> sp.Expr:
        r""":math:`E\sum_\mu w_\mu^2=1-\beta_*/\beta` in the condensed phase. Source: [D81]."""
        return 1 - beta_star / beta

    @property
    def nishimori(self) -> sp.Expr:
        r""":math:`\beta\,\partial_\beta g` at :math:`\delta=1/\beta`; the Nishimori identity says it is -1/2.

        The typical occupied level then has exactly the energy of the point that generated x, so that collapse
        (the point's weight is 1/2) and condensation coincide.
        """
        return self._tidy((beta * self.slope).subs(delta, 1 / beta))

    def alpha_at(self, kind: str) -> sp.Expr:
        r"""The load :math:`\alpha` for which `kind` happens at time t.

        onset: :math:`-g(1/t;0)`; collapse: :math:`-\frac12-g(1/t;t)`; condensation, of the REM at squared distance
        :math:`\delta`: :math:`\beta g'-g` at :math:`\beta=1/t`.
        """
        at = {beta: 1 / t}
        if kind == "onset":
            return self._tidy(-self.g.subs(delta, 0).subs(at))
        if kind == "collapse":
            return self._tidy(-sp.Rational(1, 2) - self.g.subs(delta, 1 / beta).subs(at))
        if kind == "condensation":
            return self._tidy((beta * self.slope - self.g).subs(at))
        raise ValueError(f"kind = {kind!r}: it must be one of onset, collapse, condensation")

    @property
    def optimal_noise(self) -> sp.Expr:
        r"""Best noise floor :math:`t_g=-2\,\partial_\beta g(\beta_*;0)` as a function of :math:`t_{cond}=1/\beta_*`, called t.

        In the condensed phase :math:`KL(P_0\|P_t)=\frac12\log t+e/t` up to a constant, with :math:`e=-g'(\beta_*;0)`, and
        its minimum is at :math:`t=2e`: the mean squared distance per dimension to the nearest training point.
        """
        return self._tidy((-2 * self.slope).subs(delta, 0).subs(beta, 1 / t))

    @property
    def basin(self) -> sp.Eq:
        r"""Edge of the basin of a data point, :math:`\alpha+g(1/t;\delta)=-\delta/2t` (uncondensed branch), in :math:`\delta`."""
        return sp.Eq(self._tidy(alpha + self.g.subs(beta, 1 / t) + delta / (2 * t)), 0)

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle g(\\beta;\\delta)={sp.latex(self.g)}$"

    @staticmethod
    def _tidy(expression: sp.Expr) -> sp.Expr:
        return merge(expression)
