r"""How far from their limits the times and basins lie at finite N: the drift of the crossings measured in a simulation.

The weight of the true point is :math:`w=1/(1+e^{\Delta}\mathcal K)`, with :math:`\Delta=\log(P-1)+\log M_x(\beta)+\beta E_{true}`
and :math:`\mathcal K` what the REM's edge leaves of the annealed sum. The cumulants of :math:`\Delta` come from
`theory.finite_size.drift_cumulants`; the average of `w` over them, and the t at which it is 1/2, are computed.
Source: [ours: docs/derivations/finite_n_drift.md], tested there against the exact law of Z and by simulation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq, minimize_scalar
from scipy.special import ndtr

from numerics.domain import DomainError, choice, positive
from theory.basins import basin_radius
from theory.finite_size.drift_cumulants import Cumulants, cumulants, has_drift
from theory.times import collapse_time, condensation_time, onset_time

__all__ = ["DRIFTS", "finite_size_value", "weight_exceeds_half"]

DRIFTS = ("collapse", "onset", "basin", "generalization")


def finite_size_value(kind: str, model: Any, alpha: float, N: float, *, t: float | None = None) -> float:
    r"""Where the mean weight crosses 1/2, or the mean held-out curve has its optimum, at finite N.

    collapse, onset, basin: the root of :math:`E\,w=\tfrac12` in t (in :math:`\delta` for the basin at given `t`);
    generalization: the minimiser of :math:`\tfrac12\log t-\tfrac1NE\log Z`. All orders 1/N (and log N/N) are included,
    of the higher ones those that come from the curvature of the theory and from the width of the logistic.

    Parameters
    ----------
    kind : "collapse", "onset", "basin" or "generalization"
    model : GaussianModel or HiddenManifold, with one alpha_D
        A hidden manifold takes some seconds for the first value; what does not depend on N is kept, for each model. (Two
        lambdas are two models, see `theory.models.hidden.HiddenManifold`.)
    alpha : float > 0
        log(P - 1)/N for the first three (the true point's competitors), log P/N for generalization.
    N : float
        Ambient dimension; need not be an integer.
    t : float
        For the basin only, between the collapse and the onset time: below the former the levels that compete lie too far
        down for a tilted law taken as Gaussian.

    Returns
    -------
    float : the VE time, or the squared radius per dimension of the basin.

    Raises
    ------
    DomainError
        For other models, an unknown kind, arrays, a basin outside its interval of t, sizes so small that no crossing
        exists, or (hidden manifolds) noise below about 1e-3.

    The failure that looks normal: for e^{alpha N} below about 100 the levels of the REM are too few for its edge to be
    smooth, and the value is off by per cents while looking reasonable.

    >>> from theory.models import Isotropic
    >>> round(finite_size_value("collapse", Isotropic(1.0), 0.2, 64) / collapse_time(Isotropic(1.0), 0.2), 2)
    1.06
    """
    choice("kind", kind, DRIFTS)
    if not has_drift(model):
        raise DomainError("model", model, "one Gaussian model or one hidden manifold", "No drift is derived for others")
    alpha, N = _number("alpha", alpha), _number("N", N)
    if kind == "generalization":
        return _optimal_noise(model, alpha, N)
    if kind == "basin":
        t = _number("t", t)
        start = float(basin_radius(model, alpha, t)) ** 2 / t
        if start == 0:
            raise DomainError(
                "t", t, f"below the onset time {onset_time(model, alpha):.6g}", "There is no basin above it"
            )
        if t < (least := float(collapse_time(model, alpha))):
            raise DomainError(
                "t", t, f"above the collapse time {least:.6g}", "Below it the basin is that of the collapse"
            )
        return t * _root(lambda x: _excess(cumulants(model, t, np.exp(x)), alpha, N), np.log(start), N)
    eps, limit = (1.0, collapse_time(model, alpha)) if kind == "collapse" else (0.0, onset_time(model, alpha))
    if not np.isfinite(limit):
        raise DomainError("alpha", alpha, f"a load at which the {kind} time exists")
    return _root(lambda x: _excess(cumulants(model, np.exp(x), eps), alpha, N), np.log(limit), N)


def _number(name: str, value: Any) -> float:
    number = positive(name, value, allowed="one number, finite and > 0")
    if number.ndim:
        raise DomainError(name, value, "one number, finite and > 0", "Call the function for each")
    return float(number)


def _root(excess: Callable[[float], float], start: float, N: float) -> float:
    """The exponential of the root of `excess` near `start`, by widening a bracket in log t or log delta."""
    for width in (4 / N, 10 / N, 25 / N, 60 / N):
        low, high = start - width, start + width
        if excess(low) > 0 > excess(high):
            return float(np.exp(brentq(excess, low, high, xtol=1e-10)))
    raise DomainError("N", N, "large enough that the mean weight crosses 1/2 near the limit")


# --- the mean weight ------------------------------------------------------------------------------------------------------


_x = np.linspace(-6, 6, 31)
_gauss = np.exp(-(_x**2) / 2) / np.exp(-(_x**2) / 2).sum()
_LOGISTIC = 0.8  # largest step in Delta: the logistic's poles at i pi leave an error exp(-2 pi^2/0.8) = 2e-11
_CERTAIN = 80.0  # beyond it in Delta the weight is 0 or 1 to rounding
_log_u = np.linspace(-16, 3.6, 41)
_exponential = np.exp(_log_u - np.exp(_log_u)) * (_log_u[1] - _log_u[0])
_y = np.linspace(-40, 40, 401)
_edge = np.exp(_y) * -np.expm1(-np.exp(-_y))


def _excess(c: Cumulants, alpha: float, N: float) -> float:
    r"""Mean weight of the true point, minus 1/2.

    .. math:: E\,w=E_{\Delta,v}\int_0^\infty du\,e^{-u}\exp\big(-e^{\Delta}u\,K(v+k\log u)\big),\qquad
       K(w)=k\int dy\,e^y(1-e^{-e^{-y}})\,\varphi(w+ky)

    `v` is the gap in units of the tilted energy's standard deviation, `1/k` that deviation times beta.
    """
    sigma = np.sqrt(N * c.variance)
    x = np.linspace(-6, 6, max(31, 2 * math.ceil(6 * sigma / _LOGISTIC) + 1))
    density = np.exp(-(x**2) / 2) / np.exp(-(x**2) / 2).sum() * (1 + N * c.skew / (6 * sigma**3) * (x**3 - 3 * x))
    Delta, v, k = _odds(c, alpha, N, x)
    log_K = _edge_function(k)
    near = np.abs(Delta) < _CERTAIN
    weight = np.tile((Delta < 0).astype(float)[:, None], len(_x))
    exponent = Delta[near, None, None] + _log_u + log_K(np.clip(v[near][..., None] + k * _log_u, -14, 20))
    weight[near] = np.exp(-np.exp(np.minimum(exponent, 50.0))) @ _exponential
    return float(density @ weight @ _gauss) - 0.5


def _odds(c: Cumulants, alpha: float, N: float, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Delta at `x` standard deviations (X,), v there and at those of what Delta leaves of the gap (X, 31), and k."""
    k, sigma = float(1 / np.sqrt(N * c.spread)), np.sqrt(N * c.variance)
    rest = k * np.sqrt(N * max(c.gap_variance - c.covariance**2 / c.variance, 0.0))
    v = N * c.gap * k + c.covariance / c.variance * k * sigma * x[:, None] + rest * _x
    return N * (alpha + c.mean) + c.loop + sigma * x, v, k


def weight_exceeds_half(model: Any, t: float, alpha: float, N: float) -> float:
    r"""Probability that a noisy point gives its own data point a weight above 1/2: :math:`P(\Delta+\log K(v)<0)`.

    Parameters
    ----------
    model, alpha, N : as in `finite_size_value`, alpha = log(P - 1)/N
    t : float > 0, noise variance, also of the point

    Raises
    ------
    DomainError : as `theory.finite_size.drift_cumulants.cumulants`

    >>> from theory.models import Isotropic
    >>> round(weight_exceeds_half(Isotropic(1.0), float(collapse_time(Isotropic(1.0), 0.2)), 0.2, 1e6), 1)
    0.5
    """
    N, alpha, t = (float(positive(name, value)) for name, value in (("N", N), ("alpha", alpha), ("t", t)))
    c = cumulants(model, t, 1.0)
    x = np.linspace(-9, 9, 181)
    Delta, v, k = _odds(c, alpha, N, x)
    odds = Delta[:, None] + _edge_function(k)(np.clip(v, -14, 20))
    # odds rise with x but for the edge's slow bend; the crossing, column by column
    below = np.array([ndtr(np.interp(0.0, column, x, left=-np.inf, right=np.inf)) for column in odds.T])
    return float(below @ _gauss)


def _edge_function(k: float) -> CubicSpline:
    """log K on a grid; beyond y = 40 the integrand is the Gaussian itself."""
    w = np.linspace(-14, 20, 137)
    body = (k * _edge * np.exp(-0.5 * (w[:, None] + k * _y) ** 2)).sum(axis=1) * (_y[1] - _y[0]) / np.sqrt(2 * np.pi)
    half_weight = 0.5 * k * (_y[1] - _y[0]) * np.exp(-0.5 * (w + k * _y[-1]) ** 2) / np.sqrt(2 * np.pi)
    return CubicSpline(w, np.log(body - half_weight + ndtr(-w - k * _y[-1])))


# --- the optimum of the held-out likelihood ----------------------------------------------------------------------------

_height = np.linspace(-36, 60, 401)  # of a level above the edge, in units of 1/beta_*
_log_ratio = np.concatenate([np.linspace(-4, -1.6, 9), np.linspace(-1.4, 1.6, 31)])  # log beta/beta_cond


def _optimal_noise(model: Any, alpha: float, N: float) -> float:
    r"""Minimiser of :math:`\tfrac12\log t-\tfrac1NE\log Z` over t.

    The levels seen from a typical x are a Poisson process of the saddle-point density, with :math:`E=-Ng'(\beta)`,

    .. math:: \lambda(E)=\frac{\exp[N(\alpha+g)+\text{loop}+\beta E]}{\sqrt{2\pi Ng''(\beta)}},

    and averaging over x lowers their edge by :math:`\beta_*\mathrm{Var}(\partial_\beta\log M_x/\beta)/2g''`: every x has its
    own :math:`\beta_*`.
    """
    log_beta = _log_ratio - np.log(condensation_time(model, alpha))
    t = np.exp(-log_beta)
    c = cumulants(model, t, 0.0)
    # no noise: the true energy is 0, the gap minus the mean tilted energy
    energy = -N * c.gap * t
    entropy = N * (alpha + c.mean - c.gap) + c.loop
    density = entropy - np.log(2 * np.pi * N * c.spread) / 2 + log_beta
    edges = CubicSpline(log_beta, density - log_beta).roots(extrapolate=False)
    if not len(edges):
        raise DomainError("N", N, "large enough that the levels have an edge")
    beta_star = float(np.exp(edges[-1]))
    edge = float(CubicSpline(log_beta, energy)(edges[-1]))
    slope_variance = c.gap_variance - 2 * c.covariance + c.variance  # of beta^2 times the derivative of log M_x/beta
    shift = float(CubicSpline(log_beta, slope_variance / (2 * c.spread))(edges[-1])) / beta_star

    E = edge + _height / beta_star
    levels = CubicSpline(energy[::-1], density[::-1])(np.clip(E, energy[-1], energy[0]))
    weight = np.where(energy[-1] > E, 0.0, np.exp(np.minimum(levels, 60.0))) * (_height[1] - _height[0]) / beta_star

    def cost(log_t: float) -> float:
        log_Z = _poisson_log(beta_star * np.exp(log_t), weight) - (edge + shift) * np.exp(-log_t)
        return log_t / 2 - log_Z / N

    bounds = (-np.log(beta_star) - 8.0, -np.log(beta_star) + 1.0)
    best = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-9})
    return float(np.exp(best.x))


def _poisson_log(m: float, weight: np.ndarray) -> float:
    r"""E log Z of a Poisson process of levels y, expected numbers `weight` on the grid of heights, and :math:`e^{-y/m}`:

    .. math:: \int d\ell\,\big(e^{-e^\ell}-e^{-\Lambda(\ell)}\big),\qquad \Lambda(\ell)=\sum_y w_y\big(1-e^{-e^{\ell-y/m}}\big).

    For an exponential density it is the REM's :math:`\frac1m\log\Gamma(1-m)+\gamma(\frac1m-1)` [D81]:

    >>> from scipy.special import gammaln
    >>> weight = np.exp(_height) * (_height[1] - _height[0])
    >>> round(_poisson_log(0.4, weight), 6), round(float(gammaln(0.6) / 0.4 + np.euler_gamma * 1.5), 6)
    (1.861408, 1.861408)
    """
    log_u = np.linspace(-40 / m, 8 / m + 4, 401)
    Lambda = -np.expm1(-np.exp(np.minimum(log_u[:, None] - _height / m, 50.0))) @ weight
    integrand = np.exp(-np.exp(np.minimum(log_u, 50.0))) - np.exp(-Lambda)
    return float(integrand.sum() * (log_u[1] - log_u[0]))
