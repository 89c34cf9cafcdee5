r"""The Stieltjes equation of the linear manifold's covariance, derived in sympy from its free cumulants.

For :math:`\xi=F\,\mathrm{diag}(\sqrt s)\,z/\sqrt D` the covariance is a sum of D = alpha_D N free projections of
weight :math:`s/\alpha_D`, so that its free cumulants are :math:`\kappa_n=\alpha_D\langle(s/\alpha_D)^n\rangle`. Their
generating function inverts the Stieltjes transform :math:`m(z)=\int\rho(r)\,dr/(r-z)`. In the variable
:math:`y=-\alpha_D/m`, which has the dimension of a variance, density, edges and distribution function are short:

.. math:: z=\frac y{\alpha_D}+\Big\langle\frac{sy}{y-s}\Big\rangle,\qquad
   \text{edges: } \alpha_D\Big\langle\frac{s^2}{(y-s)^2}\Big\rangle=1,\ r=y^2\Big\langle\frac s{(y-s)^2}\Big\rangle.

At :math:`z=-t`, :math:`m=1/(t+V)` this is the saddle point of `theory.rem.gaussian`. Sources: Marchenko and Pastur (1967),
Silverstein and Choi (1995) for the edges; the variable y and the closed forms [ours: docs/derivations/jacobian.md].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property

import sympy as sp

from numerics.domain import DomainError
from theory.models.gaussian import GaussianModel, Isotropic, LinearManifold, Spectrum, Subspaces
from theory.notation import alpha_D, latent_variance, r, spectral_point

__all__ = ["StieltjesMap", "atoms", "edges_equation", "stieltjes_equation"]

m = sp.Symbol("m")  # Stieltjes transform
y = sp.Symbol("y")  # -alpha_D/m, a variance
omega = sp.Symbol("omega")  # argument of the R-transform
s, z = latent_variance, spectral_point


class StieltjesMap:
    r"""Everything that follows from the free cumulants, one latent variance at a time.

    Each property is the summand for a latent variance s; the latent average :math:`\langle\cdot\rangle=\sum_kf_k\cdot`
    of summands, with the terms of :math:`1/\alpha_D` named beside them, is the quantity.
    """

    @staticmethod
    def free_cumulant(n) -> sp.Expr:
        r""":math:`\kappa_n=\alpha_D\langle(s/\alpha_D)^n\rangle`: a compound free Poisson law."""
        return alpha_D * (s / alpha_D) ** n

    @cached_property
    def r_transform(self) -> sp.Expr:
        r""":math:`R(\omega)=\sum_{n\ge0}\kappa_{n+1}\omega^n`, summed."""
        n = sp.Symbol("n", integer=True, positive=True)
        ratio = omega * sp.simplify(self.free_cumulant(n + 1) / self.free_cumulant(n))
        assert n not in ratio.free_symbols  # the series is geometric
        return sp.factor(self.free_cumulant(1) / (1 - ratio))

    @cached_property
    def V(self) -> sp.Expr:
        r"""The part of z beside :math:`-1/m`, :math:`R(-m)`; at :math:`z=-t` it is the saddle point's V."""
        return sp.factor(self.r_transform.subs(omega, -m))

    @cached_property
    def level(self) -> sp.Expr:
        r""":math:`z-y/\alpha_D` as a function of y."""
        return sp.factor(self.V.subs(m, -alpha_D / y))

    @cached_property
    def slope(self) -> sp.Expr:
        r""":math:`dz/dy-1/\alpha_D`; minus it averages to :math:`1/\alpha_D` at the edges."""
        return sp.factor(sp.diff(self.level, y))

    @cached_property
    def edge(self) -> sp.Expr:
        r"""z at an edge, where :math:`1/\alpha_D` is minus the average slope: a sum of positive terms."""
        return sp.factor(self.level - y * self.slope)

    @cached_property
    def primitive(self) -> sp.Expr:
        r""":math:`\int m\,dz` is :math:`-\log y-\alpha_D\langle\cdot\rangle` of this; its imaginary part counts."""
        return sp.expand(sp.integrate(sp.apart(self.slope / y, y), y))

    @cached_property
    def pole_moment(self) -> sp.Expr:
        r"""What a latent variance c adds to the first moment of the eigenvalues that belong to s, per :math:`f_sf_c`.

        That moment is the residue at y = s of :math:`-z\,m\,\frac{dz}{dy}=\frac{\alpha_D}yz\frac{dz}{dy}`, whose terms are
        linear, square and mixed in the fractions: the linear ones give :math:`f_ss`, the square one a pole of third order
        without residue, the mixed ones this.
        """
        c = sp.Symbol("c", positive=True)
        level, slope = self.level / y, self.slope
        mixed = alpha_D * (level * slope.subs(s, c) + level.subs(s, c) * slope)
        return sp.factor(sp.diff(sp.cancel(mixed * (y - s) ** 2), y).subs(y, s))


@cache
def lowered(name: str) -> Callable:
    """A property of `StieltjesMap` as a numpy function of (y, s), real or complex."""
    return sp.lambdify((y, s), getattr(StieltjesMap(), name), modules="numpy")


@cache
def lowered_pole_moment() -> Callable:
    """`StieltjesMap.pole_moment` as a numpy function of (alpha_D, s, c)."""
    push = StieltjesMap().pole_moment
    (c,) = push.free_symbols - {alpha_D, s}
    return sp.lambdify((alpha_D, s, c), push, modules="numpy")


def stieltjes_equation(model: GaussianModel) -> sp.Eq:
    r"""The self-consistent equation of the Stieltjes transform m(z) of a model's covariance spectrum.

    :math:`z=-\frac1m+\sum_k\frac{f_ks_k}{1+s_km/\alpha_D}` for `LinearManifold` (closed only implicitly), and
    :math:`m=\sum_k\frac{w_k}{r_k-z}` for spectra of atoms.

    Parameters
    ----------
    model : GaussianModel, its parameters numbers or sympy expressions

    Returns
    -------
    sympy.Eq in the symbols m and z

    >>> stieltjes_equation(LinearManifold(sp.Symbol("alpha_D", positive=True)))
    Eq(z, alpha_D/(alpha_D + m) - 1/m)
    """
    if isinstance(model, LinearManifold):
        return sp.Eq(z, -1 / m + _latent_average(model, StieltjesMap().V))
    return sp.Eq(m, sp.Add(*(w / (value - z) for w, value in (_exact(pair) for pair in atoms(model)))))


def edges_equation(model: LinearManifold) -> tuple[sp.Eq, sp.Eq]:
    r"""The edges of the bulks: an equation for y, and the edge r as a function of its solution.

    :math:`\alpha_D\sum_kf_k\frac{s_k^2}{(y-s_k)^2}=1`, :math:`r=y^2\sum_kf_k\frac{s_k}{(y-s_k)^2}`: one root below the
    least s, one above the largest, and none or two between neighbours, where the equation's left side is convex.

    >>> edges_equation(LinearManifold(sp.Symbol("alpha_D", positive=True)))
    (Eq(alpha_D/(y - 1)**2, 1), Eq(r, y**2/(y - 1)**2))
    """
    derived = StieltjesMap()
    a = sp.sympify(model.alpha_D)
    return sp.Eq(-a * _latent_average(model, derived.slope), 1), sp.Eq(r, _latent_average(model, derived.edge))


def _latent_average(model: LinearManifold, summand: sp.Expr) -> sp.Expr:
    summand = summand.subs(alpha_D, sp.sympify(model.alpha_D))
    pairs = zip(_exact(model.fractions), _exact(model.variances), strict=True)
    return sp.Add(*(f * summand.subs(s, v) for f, v in pairs))


def _exact(numbers) -> list[sp.Expr]:
    """Floats that are whole numbers become integers, so that equations read well; the others stay what they are."""
    return [sp.Integer(int(v)) if isinstance(v, float) and v == int(v) else sp.sympify(v) for v in numbers]


def atoms(model: GaussianModel) -> list[tuple]:
    """(mass, value) pairs of a spectrum that consists of atoms, as the model holds them."""
    if isinstance(model, Isotropic):
        return [(1, model.variance)]
    if isinstance(model, Subspaces):
        rest = 1 - sum(model.fractions)
        pairs = list(zip(model.fractions, model.variances, strict=True))
        return pairs + ([(rest, 0)] if rest > 1e-12 else [])  # 1e-12: what the model allows as rounding of the sum
    if isinstance(model, Spectrum):
        return [(sp.Rational(1, model.N), value) for value in model.eigenvalues]
    raise DomainError("model", type(model).__name__, "one of Isotropic, LinearManifold, Subspaces, Spectrum")
