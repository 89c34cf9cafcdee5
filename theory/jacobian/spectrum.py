r"""The Jacobian spectrum of the exact score, :math:`J=-(\Sigma+tI)^{-1}`: edges, density, distribution function.

It is the covariance spectrum of `theory.models.covariance` seen through :math:`r\mapsto\lambda=-1/(t+r)`, an increasing map:
normal directions sit at the lower end, :math:`-1/t`, and the largest variance at the upper. Gaps are in
`theory.jacobian.spectral_gaps`, phases in `theory.jacobian.phases`; derivation in docs/derivations/jacobian.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp

from numerics.domain import DomainError, finite, positive
from theory.models import (
    Bulk,
    GaussianModel,
    LinearManifold,
    SpectralLaw,
    continuum,
    covariance_cdf,
    covariance_density,
    covariance_law,
    stieltjes_equation,
)
from theory.notation import spectral_point
from theory.notation import t as time
from theory.result import with_equation

__all__ = ["jacobian_cdf", "jacobian_density", "jacobian_edges", "jacobian_law"]

_eigenvalue = sp.Symbol("lambda", negative=True)


def jacobian_law(model: GaussianModel, t: float) -> SpectralLaw:
    r"""Atoms and bulks of the Jacobian :math:`J=-(\Sigma+tI)^{-1}` of the exact score at time t.

    Edges, atoms and medians are images under :math:`\lambda=-1/(t+r)`; the mean of a bulk is
    :math:`-\int\frac{\rho(r)}{t+r}dr` over its mass.

    Parameters
    ----------
    model : Isotropic, Subspaces, Spectrum or LinearManifold
    t : number > 0
        VE time.

    Returns
    -------
    SpectralLaw of eigenvalues in [-1/t, 0), in inverse squared data units; normal directions are the lowest

    Raises
    ------
    DomainError
        If t is not a number > 0, or a parameter of the model is a sympy expression or an array.

    Notes
    -----
    The failure that looks normal: this is the score of the population. The empirical score of P points has it only above
    the collapse time. Source: [VASLA25].

    >>> from theory.models import LinearManifold
    >>> law = jacobian_law(LinearManifold(0.25), 1.0)
    >>> law.atom_values.tolist(), law.edges.tolist()
    ([-1.0], [[-0.5, -0.1]])
    """
    t = _one_time(t)
    law = covariance_law(model)
    bulks = []
    if isinstance(model, LinearManifold) and law.bulks:
        c = continuum(model)
        weights, values = c.panels(320)
        inverse = -weights / (t + c.scale * values)
        ends = np.searchsorted(values * c.scale, law.edges[1:, 0])
        means = [part.sum() / bulk.mass for part, bulk in zip(np.split(inverse, ends), law.bulks, strict=True)]
        for bulk, mean in zip(law.bulks, means, strict=True):
            lower, upper, median = (float(_image(t, r)) for r in (bulk.lower, bulk.upper, bulk.median))
            bulks.append(Bulk(lower, upper, bulk.mass, float(mean), median))
    return SpectralLaw(_image(t, law.atom_values), law.atom_masses, tuple(bulks))


def jacobian_edges(model: GaussianModel, t: Any) -> np.ndarray:
    r"""Edges of the bulks of the Jacobian spectrum, :math:`-1/(t+r_\pm)`.

    Parameters
    ----------
    model : Isotropic, Subspaces, Spectrum or LinearManifold
    t : number or array, > 0

    Returns
    -------
    float64 array of shape `t.shape + (B, 2)`, bulks and edges in increasing order

    Raises
    ------
    DomainError
        If t is not > 0, or a parameter of the model is a sympy expression or an array.

    Notes
    -----
    The failure that looks normal: at a hard edge (alpha_D = 1) the lower edge is at -1/t, where normal directions would be.

    >>> from theory.models import LinearManifold
    >>> jacobian_edges(LinearManifold(0.25), [1.0, 3.0]).round(6).tolist()
    [[[-0.5, -0.1]], [[-0.25, -0.083333]]]
    """
    t = positive("t", t)
    return _image(t[..., None, None], covariance_law(model).edges)


def _jacobian_equation(model: GaussianModel) -> sp.Eq:
    r"""The equation of m at :math:`z=-1/\lambda-t`; then :math:`\rho_J=\mathrm{Im}\,m/(\pi\lambda^2)`.

    >>> from theory.models import LinearManifold
    >>> _jacobian_equation(LinearManifold(sp.Symbol("alpha_D", positive=True)))
    Eq(-t - 1/lambda, alpha_D/(alpha_D + m) - 1/m)
    """
    return stieltjes_equation(model).subs(spectral_point, -1 / _eigenvalue - time)


@with_equation(_jacobian_equation)
def jacobian_density(model: GaussianModel, t: Any, lam: Any) -> Any:
    r"""Density of the continuous part of the Jacobian spectrum, :math:`\rho_J(\lambda)=\rho(-1/\lambda-t)/\lambda^2`.

    Parameters
    ----------
    model : Isotropic, Subspaces, Spectrum or LinearManifold
    t : number or array, > 0; broadcasts with `lam`
    lam : number or array, finite

    Returns
    -------
    float64 array of the broadcast shape (a float for numbers), per ambient dimension; 0 outside the bulks. Atoms are not
    in it: see `jacobian_law`.

    Raises
    ------
    DomainError
        If t is not > 0, lam not finite, or a parameter of the model is a sympy expression or an array.

    Notes
    -----
    The failure that looks normal: for :math:`r\ll t` the variance is a small difference, :math:`-1/\lambda-t`, known to
    eps t/r only. Ask `covariance_density` there. Source: [VASLA25].

    >>> from theory.models import LinearManifold
    >>> round(jacobian_density(LinearManifold(0.25), 1.0, -0.25) / 16, 12) == round(
    ...     covariance_density(LinearManifold(0.25), 3.0), 12)
    True
    """
    lam, r = _variance(model, t, lam)
    rho = np.zeros(r.shape)
    rho[r >= 0] = covariance_density(model, r[r >= 0])
    seen = rho > 0
    rho[seen] /= lam[seen] ** 2
    return float(rho) if rho.ndim == 0 else rho


def jacobian_cdf(model: GaussianModel, t: Any, lam: Any) -> Any:
    r"""Fraction of Jacobian eigenvalues at or below `lam`, atoms included: :math:`F(-1/\lambda-t)`.

    Parameters
    ----------
    model : Isotropic, Subspaces, Spectrum or LinearManifold
    t : number or array, > 0; broadcasts with `lam`
    lam : number or array, finite

    Returns
    -------
    float64 array of the broadcast shape (a float for numbers), in [0, 1]

    Raises
    ------
    DomainError
        If t is not > 0, lam not finite, or a parameter of the model is a sympy expression or an array.

    Notes
    -----
    The failure that looks normal: at `lam` equal to an atom rounding of :math:`-1/\lambda-t` decides whether it counts.

    >>> from theory.models import LinearManifold
    >>> jacobian_cdf(LinearManifold(0.25), 1.0, [-0.75, -0.05]).tolist()
    [0.75, 1.0]
    """
    lam, r = _variance(model, t, lam)
    F = np.ones(r.shape)
    F[lam < 0] = covariance_cdf(model, r[lam < 0])
    return float(F) if F.ndim == 0 else F


def _image(t: Any, r: Any) -> np.ndarray:
    return -1 / (t + np.asarray(r))


def _variance(model: GaussianModel, t: Any, lam: Any) -> tuple[np.ndarray, np.ndarray]:
    """lam, and the variance of which it is the image: -1 below -1/t, and no further up than beyond the spectrum."""
    t, lam = np.broadcast_arrays(positive("t", t), finite("lam", lam))
    beyond = 2 * covariance_law(model).intervals[-1, 1]
    r = np.full(lam.shape, beyond)
    far = lam < -1 / (t + beyond)
    r[far] = -(1 + t[far] * lam[far]) / lam[far]
    return lam, np.maximum(r, -1.0)


def _one_time(t: Any) -> float:
    if np.ndim(t):
        raise DomainError("t", t, "one number > 0")
    return float(positive("t", t, allowed="one number > 0"))
