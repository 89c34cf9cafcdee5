r"""How far from their limits the times and basins lie at finite N: the drift of the crossings measured in a simulation.

The weight of the true point is :math:`w=1/(1+e^{\Delta}\mathcal K)`, with :math:`\Delta=\log(P-1)+\log M_x(\beta)+\beta E_{true}`
a quadratic form of N Gaussians and :math:`\mathcal K` what the REM's edge leaves of the annealed sum. Cumulants of the forms are
derived by sympy from :math:`\log M_x`; the average of `w` over them, and the N at which it is 1/2, are computed.
Source: [ours: docs/derivations/finite_n_drift.md], tested there against the exact law of Z and by simulation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import sympy as sp
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq, minimize_scalar
from scipy.special import ndtr

from numerics.domain import DomainError, positive
from theory.basins import basin_radius
from theory.models import GaussianModel, LinearManifold
from theory.times import collapse_time, condensation_time, critical_alpha, onset_time

__all__ = ["DRIFTS", "finite_size_value"]

DRIFTS = ("collapse", "onset", "basin", "generalization")

_STEP = 0.02  # in log t, for the derivatives of the mutual information
_STENCIL = np.arange(-3, 4)
_FIRST = np.array([-1, 9, -45, 0, 45, -9, 1]) / (60 * _STEP)
_SECOND = np.array([2, -27, 270, -490, 270, -27, 2]) / (180 * _STEP**2)


def finite_size_value(kind: str, model: GaussianModel, alpha: float, N: float, *, t: float | None = None) -> float:
    r"""Where the mean weight crosses 1/2, or the mean held-out curve has its optimum, at finite N.

    collapse, onset, basin: the root of :math:`E\,w=\tfrac12` in t (in :math:`\delta` for the basin at given `t`);
    generalization: the minimiser of :math:`\tfrac12\log t-\tfrac1NE\log Z`. All orders 1/N (and log N/N) are included,
    of the higher ones those that come from the curvature of the theory and from the width of the logistic.

    Parameters
    ----------
    kind : "collapse", "onset", "basin" or "generalization"
    model : GaussianModel
    alpha : float > 0
        log(P - 1)/N for the first three (the true point's competitors), log P/N for generalization.
    N : float
        Ambient dimension; need not be an integer.
    t : float > 0
        For the basin only.

    Returns
    -------
    float : the VE time, or the squared radius per dimension of the basin.

    Raises
    ------
    DomainError
        For a model that is not Gaussian, an unknown kind, or sizes so small that no crossing exists.

    The failure that looks normal: for e^{alpha N} below about 100 the levels of the REM are too few for its edge to be
    smooth, and the value is off by per cents while looking reasonable.

    >>> from theory.models import Isotropic
    >>> round(finite_size_value("collapse", Isotropic(1.0), 0.2, 64) / collapse_time(Isotropic(1.0), 0.2), 2)
    1.06
    """
    if kind not in DRIFTS:
        raise DomainError("kind", kind, f"one of {', '.join(DRIFTS)}")
    if not isinstance(model, GaussianModel) or np.ndim(getattr(model, "alpha_D", 0.0)):
        raise DomainError("model", model, "one Gaussian data model", "No drift is derived for others")
    alpha, N = float(positive("alpha", alpha)), float(positive("N", N))
    if kind == "generalization":
        return _optimal_noise(model, alpha, N)
    if kind == "basin":
        t = float(positive("t", t))
        start = float(basin_radius(model, alpha, t)) ** 2 / t
        if start == 0:
            raise DomainError(
                "t", t, f"below the onset time {onset_time(model, alpha):.6g}", "There is no basin above it"
            )
        moments = Moments.of(model, t)
        return t * _root(lambda x: _excess(moments, alpha, N, np.exp(x)), np.log(start), N, -1)
    eps, limit = (1.0, collapse_time(model, alpha)) if kind == "collapse" else (0.0, onset_time(model, alpha))
    return _root(lambda x: _excess(Moments.of(model, np.exp(x)), alpha, N, eps), np.log(limit), N, 1)


def _root(excess: Callable[[float], float], start: float, N: float, direction: int) -> float:
    """The exponential of the root of `excess` near `start`, by widening a bracket in log t or log delta."""
    for width in (4 / N, 10 / N, 25 / N, 60 / N):
        low, high = start - width, start + width
        if excess(low) > 0 > excess(high):
            return float(np.exp(brentq(excess, low, high, xtol=1e-10)))
    raise DomainError("N", N, "large enough that the mean weight crosses 1/2 near the limit")


# --- the spectrum, through the mutual information ----------------------------------------------------------------------


@dataclass(frozen=True)
class Moments:
    r"""Moments :math:`A_n=\int\rho\,a^n,\ a=r/(r+t)`, from the public theory; `information` is :math:`\mathcal L(t)`.

    The three loads of onset, collapse and condensation give :math:`A_1,A_2`; :math:`-t\partial_tA_n=n(A_n-A_{n+1})` the rest.
    `loop` and `loop_slope` are :math:`\frac12\log(1-\kappa)` and its :math:`t\partial_t`: the one-loop shift of
    :math:`E_F\log\det(1+FF^\top/Dt)`, real Wishart, :math:`\kappa=\alpha_D\sum_kf_k(s_k\chi/(1+s_k\chi))^2`.
    """

    t: np.ndarray
    information: np.ndarray
    A: tuple[np.ndarray, ...]
    loop: np.ndarray
    loop_slope: np.ndarray

    @classmethod
    def of(cls, model: GaussianModel, t: float | np.ndarray) -> Moments:
        """The moments at one t, or at each of an array."""
        t = np.asarray(t, dtype=float)
        times = t[..., None] * np.exp(_STEP * _STENCIL)
        collapse, onset, condensed = (
            critical_alpha(model, times, kind=kind) for kind in ("collapse", "onset", "condensation")
        )
        A1 = 2 * (onset - collapse)
        A2 = A1 - 2 * (collapse - condensed)
        first, second = -(A2 @ _FIRST), A2 @ _SECOND
        A3 = A2[..., 3] - first / 2
        A4 = A3 - (first - second / 2) / 3
        loop = np.zeros(times.shape)
        if isinstance(model, LinearManifold):
            s, f = np.array(model.variances), np.array(model.fractions)
            s_chi = s * ((1 - A1) / (model.alpha_D * times))[..., None]
            loop = np.log1p(-model.alpha_D * np.square(s_chi / (1 + s_chi)) @ f) / 2
        return cls(t, 2 * collapse[..., 3], (A1[..., 3], A2[..., 3], A3, A4), loop[..., 3], loop @ _FIRST)


# --- cumulants of the free-energy difference ---------------------------------------------------------------------------


@cache
def _cumulants() -> Callable[..., tuple[float, ...]]:
    r"""Per-dimension cumulants at :math:`\varepsilon=\beta\delta`, as a function of epsilon and the moments A_1..A_4.

    With :math:`x=\sqrt r\,z+\sqrt\delta\,w` in every direction, the level is :math:`\log M_x+\beta\delta w^2/2` and the gap, by
    which the true energy exceeds the mean tilted one, :math:`\beta\delta w^2/2+\beta\partial_\beta\log M_x`: two quadratic forms.

    Returns
    -------
    level (without the log det), its variance and third cumulant; gap, its covariance with the level, its variance;
    variance of the tilted energy (times beta^2)
    """
    beta, r, delta, z, w, a, eps = sp.symbols("beta r delta z w a epsilon", positive=True)
    x = sp.sqrt(r) * z + sp.sqrt(delta) * w
    log_M = -(sp.log(1 + beta * r) + beta * x**2 / (1 + beta * r)) / 2
    true = beta * delta * w**2 / 2
    level, gap = true + log_M, true + beta * sp.diff(log_M, beta)
    spread = beta**2 * sp.diff(log_M, beta, 2)

    def reduced(e):
        return sp.simplify(e.subs({r: a / (beta * (1 - a)), delta: eps / beta}, simultaneous=True))

    def mean(e):
        e = sp.expand(e)
        return e.coeff(z, 2).coeff(w, 0) + e.coeff(w, 2).coeff(z, 0) + e.coeff(z, 0).coeff(w, 0)

    Q, R = (sp.hessian(e, (z, w)).applyfunc(reduced) / 2 for e in (level, gap))
    A = sp.symbols("A1:5")
    results = []
    for e in (
        mean(reduced(level + sp.log(1 + beta * r) / 2)),
        2 * (Q * Q).trace(),
        8 * (Q * Q * Q).trace(),
        mean(reduced(gap)),
        2 * (Q * R).trace(),
        2 * (R * R).trace(),
        mean(reduced(spread)),
    ):
        polynomial = sp.Poly(sp.cancel(sp.expand(e)), a)
        # without data (a = 0) there is nothing to fluctuate: every form vanishes on the atom at 0
        assert polynomial.coeff_monomial(1) == 0
        results.append(sum(c * A[n - 1] for (n,), c in polynomial.terms()))
    return sp.lambdify([eps, *A], results, modules="math")


_x = np.linspace(-6, 6, 31)
_gauss = np.exp(-(_x**2) / 2) / np.exp(-(_x**2) / 2).sum()
_LOGISTIC = 0.8  # largest step in Delta: the logistic's poles at i pi leave an error exp(-2 pi^2/0.8) = 2e-11
_CERTAIN = 80.0  # beyond it in Delta the weight is 0 or 1 to rounding
_log_u = np.linspace(-16, 3.6, 41)
_exponential = np.exp(_log_u - np.exp(_log_u)) * (_log_u[1] - _log_u[0])
_y = np.linspace(-40, 40, 401)
_edge = np.where(_y > 0, -np.expm1(-np.exp(-np.abs(_y))) * np.exp(np.abs(_y)), 0.0)
_edge = np.where(_y > 0, _edge, np.exp(-np.abs(_y)) * -np.expm1(-np.exp(np.abs(_y))))


def _excess(m: Moments, alpha: float, N: float, eps: float) -> float:
    r"""Mean weight of the true point, minus 1/2.

    .. math:: E\,w=E_{\Delta,v}\int_0^\infty du\,e^{-u}\exp\big(-e^{\Delta}u\,K(v+k\log u)\big),\qquad
       K(w)=k\int dy\,e^y(1-e^{-e^{-y}})\,\varphi(w+ky)

    `v` is the gap in units of the tilted energy's standard deviation, `1/k` that deviation times beta.
    """
    level, variance, skew, gap, covariance, gap_variance, spread = _cumulants()(eps, *m.A)
    mean = N * (alpha - float(m.information) / 2 + level) - (m.loop - (1 - eps) * m.loop_slope) / 2
    k = 1 / np.sqrt(N * spread)
    sigma = np.sqrt(N * variance)
    x = np.linspace(-6, 6, max(31, 2 * math.ceil(6 * sigma / _LOGISTIC) + 1))
    density = np.exp(-(x**2) / 2) / np.exp(-(x**2) / 2).sum() * (1 + N * skew / (6 * sigma**3) * (x**3 - 3 * x))
    slope = covariance / variance * k
    rest = k * np.sqrt(N * max(gap_variance - covariance**2 / variance, 0.0))
    v = N * gap * k + slope * sigma * x[:, None] + rest * _x
    log_K = _edge_function(k)
    Delta = mean + sigma * x
    near = np.abs(Delta) < _CERTAIN
    weight = np.tile((Delta < 0).astype(float)[:, None], len(_x))
    exponent = Delta[near, None, None] + _log_u + log_K(np.clip(v[near][..., None] + k * _log_u, -14, 20))
    weight[near] = np.exp(-np.exp(np.minimum(exponent, 50.0))) @ _exponential
    return float(density @ weight @ _gauss) - 0.5


def _edge_function(k: float) -> CubicSpline:
    """log K on a grid; beyond y = 40 the integrand is the Gaussian itself."""
    w = np.linspace(-14, 20, 137)
    body = (k * _edge * np.exp(-0.5 * (w[:, None] + k * _y) ** 2)).sum(axis=1) * (_y[1] - _y[0]) / np.sqrt(2 * np.pi)
    half_weight = 0.5 * k * (_y[1] - _y[0]) * np.exp(-0.5 * (w + k * _y[-1]) ** 2) / np.sqrt(2 * np.pi)
    return CubicSpline(w, np.log(body - half_weight + ndtr(-w - k * _y[-1])))


# --- the optimum of the held-out likelihood ----------------------------------------------------------------------------

_height = np.linspace(-36, 60, 401)  # of a level above the edge, in units of 1/beta_*
_log_ratio = np.concatenate([np.linspace(-4, -1.6, 9), np.linspace(-1.4, 1.6, 31)])  # log beta/beta_cond


def _optimal_noise(model: GaussianModel, alpha: float, N: float) -> float:
    r"""Minimiser of :math:`\tfrac12\log t-\tfrac1NE\log Z` over t.

    The levels seen from a typical x are a Poisson process of the saddle-point density, with :math:`E=-Ng'(\beta)`,

    .. math:: \lambda(E)=\frac{\exp[N(\alpha+g)+\text{loop}+\beta E]}{\sqrt{2\pi Ng''(\beta)}},

    and averaging over x adds :math:`A_4/4\beta_*^3g''` to their edge: every x has its own :math:`\beta_*`.
    """
    log_beta = _log_ratio - np.log(condensation_time(model, alpha))
    m = Moments.of(model, np.exp(-log_beta))
    level, _, _, gap, *_, spread = _cumulants()(0.0, *m.A)
    # no noise: the true energy is 0, the gap minus the mean tilted energy
    energy = -N * gap * m.t
    entropy = N * (alpha - m.information / 2 + level - gap) - (m.loop - m.loop_slope) / 2
    density = entropy - np.log(2 * np.pi * N * spread) / 2 + log_beta
    edges = CubicSpline(log_beta, density - log_beta).roots(extrapolate=False)
    if not len(edges):
        raise DomainError("N", N, "large enough that the levels have an edge")
    beta_star = float(np.exp(edges[-1]))
    edge = float(CubicSpline(log_beta, energy)(edges[-1]))
    shift = float(CubicSpline(log_beta, m.A[3] / (4 * spread))(edges[-1])) / beta_star

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
