r"""Covariance spectra of the Gaussian models: atoms, bulks, edges, density, distribution function and quantiles.

One vocabulary for atoms (isotropic data, subspaces, real data) and for the bulks of linear manifolds, per ambient
dimension and of total mass 1. The physics of the bulks is in `theory.models.stieltjes` and `theory.models.marchenko_pastur`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import sympy as sp

from numerics.domain import DomainError, finite
from theory.models.gaussian import GaussianModel, LinearManifold
from theory.models.marchenko_pastur import continuum
from theory.models.spectral_law import Bulk, SpectralLaw
from theory.models.stieltjes import atoms, edges_equation, stieltjes_equation
from theory.result import with_equation

__all__ = [
    "covariance_cdf",
    "covariance_density",
    "covariance_edges",
    "covariance_law",
    "covariance_quantile",
    "splitting_alpha_D",
]


def covariance_law(model: GaussianModel) -> SpectralLaw:
    r"""Atoms and bulks of a model's covariance spectrum.

    Parameters
    ----------
    model : Isotropic, Subspaces, Spectrum or LinearManifold, with numbers for parameters

    Returns
    -------
    SpectralLaw, in squared data units

    Raises
    ------
    DomainError
        If a parameter of the model is a sympy expression or an array.

    Notes
    -----
    The failure that looks normal: the law is the limit of large N. At finite N a gap narrower than the spacing of
    eigenvalues at the edges, of order :math:`N^{-2/3}` of the bulk's width, is not there to be seen.
    Source: [VASLA25] for the spectra; exact masses, means and medians [ours: docs/derivations/jacobian.md].

    >>> law = covariance_law(LinearManifold(0.25, variances=[1.0, 0.01]))
    >>> [round(bulk.mass, 6) for bulk in law.bulks], law.atom_masses.tolist()
    ([0.125, 0.125], [0.75])
    """
    if isinstance(model, LinearManifold):
        continuum(model)  # refuses an array or an expression for alpha_D
    return _law(model)


@lru_cache(maxsize=64)
def _law(model: GaussianModel) -> SpectralLaw:
    if not isinstance(model, LinearManifold):
        weights, levels = zip(*atoms(model), strict=True)
        if any(isinstance(level, sp.Expr) and not level.is_number for level in levels):
            raise DomainError(
                "variance", levels[0], "a number", "Substitute one; a formula is `covariance_density.equation(model)`"
            )
        values, label = np.unique(np.asarray(levels, dtype=float), return_inverse=True)
        masses = np.bincount(label, weights=np.asarray(weights, dtype=float))
        return SpectralLaw(values, masses / masses.sum())
    c = continuum(model)
    above = np.concatenate([[0.0], np.cumsum(c.masses)])
    medians = c.level(c.at_tail(above[:-1] + 0.5 * c.masses, np.arange(c.masses.size))).real
    rows = [c.edges[:, 0], c.edges[:, 1], c.masses, c.means, medians]
    scaled = [row * c.scale if row is not c.masses else row for row in rows]
    bulks = tuple(Bulk(*map(float, row)) for row in zip(*scaled, strict=True))[::-1]
    atom = [1 - c.rank] if c.rank < 1 else []
    return SpectralLaw(np.zeros(len(atom)), np.array(atom), bulks)


@with_equation(edges_equation)
def covariance_edges(model: GaussianModel) -> np.ndarray:
    r"""Edges of the bulks of the covariance spectrum; `covariance_edges.equation(model)` gives what they solve.

    One latent variance s: :math:`r_\pm=s(1\pm\sqrt{\alpha_D})^2/\alpha_D`. Several: :math:`r=y^2\sum_kf_ks_k/(y-s_k)^2`
    at the real roots of :math:`\alpha_D\sum_kf_ks_k^2/(y-s_k)^2=1`.

    Parameters
    ----------
    model : Isotropic, Subspaces, Spectrum or LinearManifold

    Returns
    -------
    (B, 2) float64 array of lower and upper edges in increasing order, in squared data units; B = 0 if all are atoms

    Raises
    ------
    DomainError
        If a parameter of the model is a sympy expression or an array.

    Notes
    -----
    The failure that looks normal: fewer bulks than latent variances. They merge when alpha_D passes
    `splitting_alpha_D`. Source: [VASLA25]; Silverstein and Choi (1995).

    >>> covariance_edges(LinearManifold(0.25)).tolist()
    [[1.0, 9.0]]
    """
    return covariance_law(model).edges


@with_equation(stieltjes_equation)
def covariance_density(model: GaussianModel, r: Any) -> Any:
    r"""Density of the continuous part of the covariance spectrum, :math:`\rho(r)=\frac1\pi\mathrm{Im}\,m(r+i0)`.

    :math:`m=-\alpha_D/y` with y the root in the upper half-plane of
    :math:`r=\frac y{\alpha_D}+\sum_k\frac{f_ks_ky}{y-s_k}`; one latent variance: Marchenko-Pastur,
    :math:`\frac{\alpha_D}{2\pi s}\sqrt{(r_+-r)(r-r_-)}/r`. `covariance_density.equation(model)` gives m's equation.

    Parameters
    ----------
    model : Isotropic, Subspaces, Spectrum or LinearManifold
    r : number or array, finite, in squared data units

    Returns
    -------
    float64 array of the shape of `r` (a float for a number), per ambient dimension; 0 outside the bulks, infinite at a
    hard edge. Atoms are not in it: see `covariance_law`.

    Raises
    ------
    DomainError
        If r is not finite, or a parameter of the model is a sympy expression or an array.

    Notes
    -----
    The failure that looks normal: it integrates to min(alpha_D, 1), not to 1; models of atoms give 0 everywhere.
    Source: [VASLA25]; Marchenko and Pastur (1967).

    >>> round(covariance_density(LinearManifold(0.25), 2.0), 12)
    0.052635549918
    """
    r = finite("r", r)
    rho = np.zeros(r.shape)
    if isinstance(model, LinearManifold):
        c = continuum(model)
        inside, bulk = _locate(c, r)
        rho[inside] = c.density(c.at_level(r[inside] / c.scale, bulk)) / c.scale
        if c.edges[-1, 0] == 0:
            rho[r == 0] = np.inf
    else:
        covariance_law(model)
    return _like(r, rho)


def covariance_cdf(model: GaussianModel, r: Any) -> Any:
    r"""Fraction of covariance eigenvalues at or below r, atoms included.

    In a bulk, in closed form: :math:`F(r)=1-\frac1\pi\mathrm{Im}\Big[(1-\alpha_Df_+)\log y
    +\alpha_D\sum_kf_k\Big(\log(y-s_k)+\frac{s_k}{y-s_k}\Big)\Big]` with y as in `covariance_density` and
    :math:`f_+` the fraction of positive latent variances.

    Parameters
    ----------
    model : Isotropic, Subspaces, Spectrum or LinearManifold
    r : number or array, finite, in squared data units

    Returns
    -------
    float64 array of the shape of `r` (a float for a number), in [0, 1]

    Raises
    ------
    DomainError
        If r is not finite, or a parameter of the model is a sympy expression or an array.

    Notes
    -----
    The failure that looks normal: it is accurate to 1e-15 absolutely, so that small probabilities at the lower edge
    have no relative accuracy.
    Source: [ours: docs/derivations/jacobian.md].

    >>> covariance_cdf(LinearManifold(0.25), [0.0, 9.0]).tolist()
    [0.75, 1.0]
    """
    r = finite("r", r)
    law = covariance_law(model)
    below = np.concatenate([[0.0], np.cumsum(law.masses)])
    below[-1] = 1.0
    F = np.asarray(below[np.searchsorted(law.intervals[:, 1], r, side="right")])
    if isinstance(model, LinearManifold):
        c = continuum(model)
        inside, bulk = _locate(c, r)
        F[inside] = 1 - c.tail(c.at_level(r[inside] / c.scale, bulk))
    return _like(r, F)


def covariance_quantile(model: GaussianModel, q: Any) -> Any:
    r"""Least r with :math:`F(r)\ge q`: the sorted covariance spectrum as a function of rank over N.

    Parameters
    ----------
    model : Isotropic, Subspaces, Spectrum or LinearManifold
    q : number or array in [0, 1]

    Returns
    -------
    float64 array of the shape of `q` (a float for a number), in squared data units

    Raises
    ------
    DomainError
        If q is outside [0, 1], or a parameter of the model is a sympy expression or an array.

    Notes
    -----
    The failure that looks normal: at a q where a gap opens the value jumps, and rounding of q decides its side.

    >>> covariance_quantile(LinearManifold(0.25), [0.5, 1.0]).round(6).tolist()
    [0.0, 9.0]
    """
    q = finite("q", q, allowed="numbers in [0, 1]")
    if ((q < 0) | (q > 1)).any():
        raise DomainError("q", float(q[(q < 0) | (q > 1)].flat[0]), "numbers in [0, 1]")
    law = covariance_law(model)
    cumulative = np.cumsum(law.masses)
    part = np.minimum(np.searchsorted(cumulative, q, side="left"), cumulative.size - 1)
    values = np.asarray(law.intervals[part, 0])
    if isinstance(model, LinearManifold):
        c = continuum(model)
        bulk = cumulative.size - 1 - part  # parts rise, bulks fall
        inside = bulk < len(law.bulks)
        values[inside] = c.scale * c.level(c.at_tail(1 - q[inside], bulk[inside])).real
    return _like(q, values)


def splitting_alpha_D(model: LinearManifold) -> np.ndarray:
    r"""The alpha_D below which the bulks of neighbouring latent variances are apart.

    :math:`1/\min_{s_{k+1}<y<s_k}\sum_jf_js_j^2/(y-s_j)^2`; for two latent variances
    :math:`(s_1-s_2)^2/\big((f_1s_1^2)^{1/3}+(f_2s_2^2)^{1/3}\big)^3`.

    Parameters
    ----------
    model : LinearManifold
        Its alpha_D plays no part.

    Returns
    -------
    (K-1,) float64 array for the K distinct positive latent variances in decreasing order

    Raises
    ------
    DomainError
        If the model is not a LinearManifold, or its alpha_D a sympy expression or an array.

    Notes
    -----
    The failure that looks normal: an intermediate gap that is expected from two different variances and never opens,
    at any noise level, because alpha_D is above this value. Source: [ours: docs/derivations/jacobian.md].

    >>> splitting_alpha_D(LinearManifold(0.5, variances=[1.0, 0.25])).round(12).tolist()
    [0.412765091369]
    """
    if not isinstance(model, LinearManifold):
        raise DomainError("model", type(model).__name__, "a LinearManifold")
    c = continuum(model)
    return np.array([c.split(k)[1] for k in range(c.s.size - 1)])


def _locate(c, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mask of the r strictly inside a bulk, and the bulks of those, in the decreasing order of `Continuum`."""
    x = r[..., None] / c.scale
    member = (x > c.edges[:, 0]) & (x < c.edges[:, 1])
    inside = member.any(axis=-1)
    return inside, member[inside].argmax(axis=-1)


def _like(argument: np.ndarray, result: np.ndarray) -> np.ndarray | float:
    return float(result) if argument.ndim == 0 else result
