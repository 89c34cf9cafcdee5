r"""The three derivations behind `theory.subspaces`, in sympy: what each level of theory says of one subspace.

Nothing is typed that follows from `theory.rem` or `theory.rem.gaussian`: the marginal level is the collapse of a one-point
spectrum, the frozen level the participation of the REM times a tilted variance. docs/derivations/losing_dimensions.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import sympy as sp

from theory.notation import N, beta, delta, r, t
from theory.rem import gaussian_rem, integrals

__all__ = ["FrozenLevel", "GaussianLevel", "MarginalLevel"]

L = sp.Symbol("L", positive=True)  # log P
s = sp.Symbol("s", positive=True)  # variance of the subspace's directions
d = sp.Symbol("d", positive=True)  # its dimension
q = sp.Symbol("q", positive=True)  # sum over all directions of their variance squared
c = sp.Symbol("c", nonnegative=True)  # 1, or 0 for data of fixed norm
factor = sp.Symbol("factor", positive=True)
theta = sp.Symbol("theta", positive=True)
beta_star = sp.Symbol("beta_*", positive=True)


@dataclass(frozen=True)
class GaussianLevel:
    r"""The authors' heuristic: energies :math:`-x\cdot\xi+\frac12\|\xi\|^2` at :math:`x=\sqrt t\,e_k` taken as Gaussian.

    Source: [AVSP24]. Their lower tail is in truth bounded, so that the true condensation lies elsewhere
    (docs/results/losing_dimensions.csv has it measured).
    """

    def _repr_latex_(self) -> str:
        return rf"$\displaystyle t_k={sp.latex(self.time)}$"

    @cached_property
    def energy_variance(self) -> sp.Expr:
        r""":math:`t\sigma_k^2+\frac c2\sum_i\sigma_i^4`; the last term from the fourth moment, absent at fixed norm."""
        fourth = sp.factorial2(3)  # E xi^4 / sigma^4
        return t * s + c * (fourth - 1) * q / 4

    @cached_property
    def own_time(self) -> sp.Expr:
        r"""Temperature at which `e^L` Gaussian levels of that variance condense, :math:`\sqrt{\mathrm{Var}E/2\log P}`."""
        return sp.sqrt(self.energy_variance / (2 * L))

    @cached_property
    def time(self) -> sp.Expr:
        r"""Fixed point of `own_time` in t: :math:`t_k=[\sigma_k^2+\sqrt{\sigma_k^4+4c\log P\sum\sigma_i^4}]/4\log P`.

        >>> GaussianLevel().time.subs(c, 0)
        s/(2*L)
        """
        roots = sp.solve(sp.Eq(t**2, self.own_time**2), t)
        (root,) = [x for x in roots if sp.limit(x.subs({c: 1, s: 1, L: 1}), q, sp.oo) > 0]
        return sp.simplify(root)

    @cached_property
    def singular_value(self) -> tuple[sp.Expr, sp.Expr, sp.Expr]:
        r""":math:`\lambda_k`, :math:`\frac1t-\frac1{t_k(t)}` and :math:`\frac1t-\frac1{t_0(t)}`: what the curves are made of."""
        own = self.own_time
        return 1 / (t + s), 1 / t - 1 / own, 1 / t - 1 / own.subs(s, 0)


@dataclass(frozen=True)
class MarginalLevel:
    r"""The data projected on one subspace of dimension d and variance s: :math:`2\log P=d\log(1+s/t)`."""

    def _repr_latex_(self) -> str:
        return rf"$\displaystyle t_c={sp.latex(self.time)}$"

    @cached_property
    def equation(self) -> sp.Eq:
        """Collapse of the projected data, from the general theory with a one-point spectrum."""
        information = integrals(gaussian_rem())["collapse"]
        return sp.Eq(2 * L, d * information.over([1], [s]))

    @cached_property
    def time(self) -> sp.Expr:
        """The solution.

        >>> MarginalLevel().time
        s/(exp(2*L/d) - 1)
        """
        (root,) = sp.solve(self.equation, t)
        return sp.simplify(root)

    d1, d2, s1, s2 = sp.symbols("d1 d2 s1 s2", positive=True)

    @cached_property
    def boundary(self) -> sp.Expr:
        """The ratio s1/s2 above which subspace 1 collapses first: the ratio of their times at equal variances, inverted.

        >>> MarginalLevel().boundary
        (1 - exp(2*L/d1))/(1 - exp(2*L/d2))
        """
        at = [self.time.subs({d: dk, s: sk}) for dk, sk in ((self.d1, self.s1), (self.d2, self.s2))]
        ratio = sp.simplify(at[0] / at[1])
        (value,) = sp.solve(sp.Eq(ratio, 1), self.s1)
        return sp.simplify(value / self.s2)


@dataclass(frozen=True)
class FrozenLevel:
    r"""The joint REM from a clean fresh point: what rules is a few tilted samples at :math:`\beta_*`, whatever t is."""

    def _repr_latex_(self) -> str:
        return rf"$\displaystyle -t\lambda={sp.latex(self.eigenvalue)}$"

    @cached_property
    def tilted_variance(self) -> sp.Expr:
        r"""Variance of a coordinate of variance r under the weight :math:`e^{-\beta(x-\xi)^2/2}`: :math:`r/(1+\beta r)`."""
        xi, x = sp.symbols("xi x", real=True)
        exponent = -(xi**2) / (2 * r) - beta * (x - xi) ** 2 / 2
        return sp.factor(sp.simplify(-1 / sp.diff(exponent, xi, 2)))

    @cached_property
    def variance(self) -> sp.Expr:
        r"""Mean posterior variance for :math:`t<t_{cond}`, :math:`E[1-\sum w^2]` times the tilted variance at :math:`\beta_*`.

        Weights and tilted samples are independent, so the covariance under w has that mean.

        >>> FrozenLevel().variance
        beta_**r*t/(beta_**r + 1)
        """
        spread = 1 - gaussian_rem().participation(beta_star).subs(beta, 1 / t)
        return sp.factor(spread * self.tilted_variance.subs(beta, beta_star))

    @cached_property
    def eigenvalue(self) -> sp.Expr:
        r""":math:`-t\lambda=1-v/t=1/(1+\beta_*r)`: t has dropped out."""
        return sp.factor(1 - self.variance / t)

    @cached_property
    def population(self) -> sp.Expr:
        r"""The same of the exact score, :math:`t/(t+r)`."""
        return sp.factor(1 - self.tilted_variance.subs(beta, 1 / t) / t)

    @cached_property
    def departure(self) -> sp.Expr:
        r"""The t at which frozen over population eigenvalue is `factor`; for 2, :math:`r/(1+2\beta_*r)`.

        >>> FrozenLevel().departure.subs(factor, 2)
        r/(2*beta_**r + 1)
        """
        (root,) = sp.solve(sp.Eq(self.eigenvalue, factor * self.population), t)
        return sp.factor(root)

    @cached_property
    def opening(self) -> sp.Expr:
        r"""The t at which the exact :math:`-t\lambda` is `theta`, :math:`r\theta/(1-\theta)`: the gap to noise opens below."""
        (root,) = sp.solve(sp.Eq(self.population, theta), t)
        return sp.factor(root)

    @cached_property
    def edge_entropy(self) -> sp.Expr:
        r"""Entropy times N of levels near the ground state, prefactor included, as a function of :math:`\beta`.

        :math:`\log P+N(g-\beta g')-\frac12\log(2\pi N\beta^2g'')`: the sum of :math:`e^{Ns}` over a Gaussian neighbourhood of
        the saddle, per e-fold of Boltzmann weight. Its zero is the finite-size :math:`\beta_*`.
        """
        g = gaussian_rem().g.subs(delta, 0)
        slope, curvature = sp.diff(g, beta), sp.diff(g, beta, 2)
        return L + N * (g - beta * slope) - sp.log(2 * sp.pi * N * beta**2 * curvature) / 2
