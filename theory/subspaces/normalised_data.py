r"""The exact score of Gaussian data rescaled to a fixed norm: the population control of every normalised experiment.

With :math:`\xi=R\,g/\|g\|`, :math:`g\sim N(0,\mathrm{diag}\,\sigma_i^2)`, the posterior of :math:`u=\xi/R` given x is a
mixture over the radius :math:`\varrho=\|g\|` of Gaussians held on the unit sphere, and a Laplace transform frees the sphere:

.. math:: p(u|x)\propto\int_0^\infty\!d\varrho\,\varrho^{N-1}\!\int\frac{ds}{2\pi i}\,e^{s(1-\|u\|^2)}\,
   e^{-\varrho^2\sum u_i^2/2\sigma_i^2+b\cdot u},\qquad b=\frac{Rx}t,

so that with :math:`h_i=\sigma_i^2/(\varrho^2+2s\sigma_i^2)` every moment is a double integral of products of b h and h.
Source: [ours: docs/derivations/losing_dimensions.md].
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from numerics.domain import DomainError, finite, positive

__all__ = ["normalised_posterior"]

_SPREAD = 45.0  # radii whose weight is below e^-45 of the largest are left out


def normalised_posterior(
    variances: Any, x: Any, t: float, *, norm: float | None = None, radii: int = 48, nodes: int = 160
) -> tuple[np.ndarray, np.ndarray]:
    r"""Mean and covariance of the clean point given a noisy one, for Gaussian data rescaled to a fixed norm, in float64.

    .. math:: E[\xi|x]=R\langle b_ih_i\rangle,\quad E[\xi_i\xi_j|x]=R^2\langle\delta_{ij}h_i+b_ib_jh_ih_j\rangle

    Parameters
    ----------
    variances : (N,) numbers >= 0, at least two > 0: of the coordinates *before* rescaling
    x : (B, N), t : number > 0
    norm : R (default the root of the sum of variances)
    radii, nodes : quadrature nodes in the radius and on the contour

    Returns
    -------
    mean (B, N), covariance (B, N, N). The score is (mean - x)/t, its Jacobian covariance/t^2 - 1/t.

    Raises
    ------
    DomainError : fewer than two positive variances, wrong shapes, t <= 0

    The failure that looks normal: at the centre b = 0 and the covariance is the *prior's*, larger than the tangent space's:
    the ring around an empty centre. It is geometry, the same for every number of samples.

    >>> mean, covariance = normalised_posterior([1.0, 1.0], [[0.0, 0.0]], 0.1, norm=1.0)
    >>> covariance[0].round(9).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """
    variances = finite("variances", variances)
    x = np.atleast_2d(finite("x", x))
    if variances.ndim != 1 or (variances < 0).any() or (variances > 0).sum() < 2:
        raise DomainError("variances", variances.tolist(), "numbers >= 0 of which at least two are > 0")
    if x.ndim != 2 or x.shape[1] != variances.size:
        raise DomainError("x", x.shape, f"an array of shape (B, {variances.size})")
    t = float(positive("t", t))
    R = math.sqrt(variances.sum()) if norm is None else float(positive("norm", norm))
    live = variances > 0
    mean, covariance = np.zeros(x.shape), np.zeros((*x.shape, variances.size))
    for i, point in enumerate(x):
        first, second = _sphere_moments(variances[live] / variances.max(), R * point[live] / t, radii, nodes)
        mean[i, live] = R * first
        covariance[i][np.ix_(live, live)] = R**2 * (second - np.outer(first, first))
    return mean, covariance


def _sphere_moments(a: np.ndarray, b: np.ndarray, radii: int, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """First and second moments of u; a is the variances over the largest, of which only ratios count."""
    wide = np.linspace(-6.0, 6.0 + 0.5 * math.log(a.size), 97)
    profile = _profile(np.exp(wide), a, b)[0]
    inside = np.flatnonzero(profile > profile.max() - _SPREAD)
    low, high = wide[max(inside[0] - 1, 0)], wide[min(inside[-1] + 1, wide.size - 1)]
    log_rho = np.linspace(low, high, radii)
    _, s0, width = _profile(np.exp(log_rho), a, b)

    # a hyperbola around the singularities, which lie on the real axis left of s0
    half = np.arcsinh(120.0 / np.minimum(width, 1.0))[:, None]
    u = np.linspace(-1.0, 1.0, nodes)[None] * half
    s = s0[:, None] + width[:, None] * (1j * np.sinh(u) - 0.5 * (np.cosh(u) - 1))
    ds = half * width[:, None] * (1j * np.cosh(u) - 0.5 * np.sinh(u))
    rho2 = np.exp(2 * log_rho)[:, None, None]
    h = a / (rho2 + 2 * s[..., None] * a)
    exponent = a.size * log_rho[:, None] + s + 0.5 * np.sum(np.log(h) + b**2 * h, axis=-1)
    weight = np.exp(exponent - exponent.real.max()) * ds / 1j
    total = weight.sum().real
    bh = (b * h).reshape(-1, a.size)
    flat = weight.ravel()
    first = (flat @ bh).real / total
    second = ((bh * flat[:, None]).T @ bh).real / total
    second[np.diag_indices(a.size)] += (flat @ h.reshape(-1, a.size)).real / total
    return first, second


def _profile(rho: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """At each radius: the exponent at the real saddle s0 of the contour (with measure), s0, and the saddle's width."""
    rho2 = rho[:, None] ** 2
    # sum h + b^2 h^2 = 1, decreasing in y = rho^2 + 2 s (the largest a is 1)
    low = np.full(rho.size, -60.0)
    high = np.full(rho.size, math.log(2 * a.size + 2 * np.linalg.norm(b) + 4) + 2.0)
    high = np.maximum(high, 2 * np.log(rho) + 1.0)
    for _ in range(80):
        middle = 0.5 * (low + high)
        h = a / (rho2 * (1 - a) + np.exp(middle)[:, None] * a)
        above = np.sum(h + b**2 * h**2, axis=1) > 1
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    h = a / (rho2 * (1 - a) + np.exp(low)[:, None] * a)
    s0 = 0.5 * (np.exp(low) - rho**2)
    curvature = np.sum(2 * h**2 + 4 * b**2 * h**3, axis=1)
    exponent = a.size * np.log(rho) + s0 + 0.5 * np.sum(np.log(h) + b**2 * h, axis=1) - 0.5 * np.log(curvature)
    return exponent, s0, 1 / np.sqrt(curvature)
