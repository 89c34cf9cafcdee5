r"""Averages over a covariance spectrum: exact moments from free cumulants, and quadrature nodes for smooth functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp

from numerics.domain import DomainError, integer
from theory.models import GaussianModel, HiddenManifold, LinearManifold, StieltjesMap, atoms, continuum, covariance_law
from theory.notation import alpha_D, latent_variance

__all__ = ["covariance_moments", "covariance_nodes", "spectral_nodes"]


def covariance_moments(model: GaussianModel, order: int) -> np.ndarray | tuple[sp.Expr, ...]:
    r"""The moments :math:`\int\rho\,r^n\,dr`, n = 1..order, exactly, from the free cumulants.

    :math:`\kappa_n=\alpha_D\sum_kf_k(s_k/\alpha_D)^n` and :math:`m_n=\sum_{j=1}^n\kappa_j[x^{n-j}]M(x)^j` with
    :math:`M=1+\sum m_nx^n`; a route that shares nothing with the density but the cumulants.

    Parameters
    ----------
    model : Isotropic, Subspaces, Spectrum or LinearManifold; parameters may be sympy expressions
    order : int >= 1

    Returns
    -------
    (order,) float64 array, or a tuple of sympy expressions, in powers of squared data units

    Raises
    ------
    DomainError
        If order < 1, or alpha_D is an array.

    Notes
    -----
    The failure that looks normal: a finite sample of N eigenvalues has moments that differ by terms of order 1/N.

    >>> covariance_moments(LinearManifold(sp.Symbol("a", positive=True)), 2)
    (1, 1 + 1/a)
    """
    order = integer("order", order, minimum=1)
    if isinstance(model, LinearManifold):
        if np.ndim(model.alpha_D):
            raise DomainError("alpha_D", model.alpha_D, "one number")
        moments = _moments([_free_cumulant(model, n) for n in range(1, order + 1)])
    else:
        moments = [sum(w * value**n for w, value in atoms(model)) for n in range(1, order + 1)]
    if any(isinstance(x, sp.Expr) and not x.is_number for x in moments):
        return tuple(sp.expand(sp.nsimplify(x)) for x in moments)
    return np.array(moments, dtype=np.float64)


def _free_cumulant(model: LinearManifold, n: int) -> Any:
    kappa = StieltjesMap.free_cumulant(n).subs(alpha_D, model.alpha_D)
    total = sp.Add(
        *(f * kappa.subs(latent_variance, v) for f, v in zip(model.fractions, model.variances, strict=True) if v > 0)
    )
    return float(total) if total.is_number else total


def _moments(kappa: list) -> list:
    """Moments from free cumulants by the recursion of M(x) = C(x M(x))."""
    moments: list = [1]
    for n in range(1, len(kappa) + 1):
        power, total = [1] + [0] * n, 0
        for j in range(1, n + 1):
            # power becomes M^j up to x^(n-j), which is all that is asked of it
            power = [sum(power[i] * moments[k - i] for i in range(k + 1)) for k in range(n - j + 1)]
            total += kappa[j - 1] * power[n - j]
        moments.append(total)
    return moments[1:]


def spectral_nodes(model: GaussianModel, n: int) -> tuple[np.ndarray, np.ndarray]:
    r"""Weights and values with :math:`\int\rho(r)\,h(r)\,dr\approx\sum_iw_ih(r_i)`, atoms exact, weights of sum 1.

    One latent variance: the Gauss rule of the Marchenko-Pastur law itself, with an error of order
    :math:`e^{-2n\eta}` for h analytic in the ellipse :math:`\cosh\eta` about the bulk, at every alpha_D. Several: a
    double-exponential rule along the curve that carries the density, about 1e-14 at n = 100.

    Parameters
    ----------
    model : Isotropic, Subspaces, Spectrum or LinearManifold
    n : int >= 3
        Nodes a bulk (several latent variances: nodes a panel).

    Returns
    -------
    (weights, values) : two (M,) float64 arrays, values in increasing order and in squared data units

    Raises
    ------
    DomainError
        If n < 3, if n is too small to hold a bulk's mass to 1e-6, or a parameter is a sympy expression or an array.

    Notes
    -----
    The failure that looks normal: h = log(1+r/t) at the hard edge alpha_D = 1 with small t converges only like
    :math:`e^{-2n\sqrt t}`, because -t is close to the bulk; and where a narrow bulk nearly touches a wide one, 1e-8 may
    take n = 160. Double n and compare.
    Source: [ours: docs/derivations/jacobian.md].

    >>> weights, values = spectral_nodes(LinearManifold(0.5), 40)
    >>> round(float(np.dot(weights, values / (values + 2.0))), 12)
    0.219223593596
    """
    n = integer("n", n, minimum=3)
    law = covariance_law(model)
    if not isinstance(model, LinearManifold):
        return law.atom_masses.copy(), law.atom_values.copy()
    c = continuum(model)
    weights, values = c.nodes(n)
    return np.concatenate([law.atom_masses, weights]), np.concatenate([law.atom_values, values * c.scale])


def covariance_nodes(model: GaussianModel | HiddenManifold, n: int) -> tuple[np.ndarray, np.ndarray]:
    r"""`spectral_nodes` of the covariance of any model with one, also of a curved manifold about its mean.

    The covariance of :math:`s(Fz/\sqrt D)` given F is :math:`c^2C+v`: C that of the fields, a linear manifold's, c and v the
    linear coefficient and the residual variance of s.

    Parameters
    ----------
    model : Isotropic, Subspaces, Spectrum, LinearManifold or HiddenManifold; n : int >= 3, of `spectral_nodes`

    Returns
    -------
    (weights, values), in squared data units

    Raises
    ------
    DomainError
        As `spectral_nodes`, or another model.

    Source: Gaussian equivalence [GMKZ20].

    >>> weights, values = covariance_nodes(HiddenManifold(0.5, "tanh"), 40)
    >>> round(float(np.dot(weights, values)), 10) == round(HiddenManifold(0.5, "tanh").mean_variance, 10)
    True
    """
    if isinstance(model, HiddenManifold):
        weights, values = spectral_nodes(LinearManifold(model.alpha_D, model.variances, model.fractions), n)
        _, linear, rest = model.s.linear_and_noise(model.field_variance)
        return weights, linear**2 * values + rest
    if not isinstance(model, GaussianModel):
        allowed = "one of Isotropic, LinearManifold, Subspaces, Spectrum, HiddenManifold"
        raise DomainError("model", type(model).__name__, allowed)
    return spectral_nodes(model, n)
