r"""Cumulants of the free-energy difference :math:`\Delta=\log(P-1)+\log M_x+\beta E_{true}`, from which every drift is computed.

For Gaussian data :math:`\Delta` is a quadratic form of N Gaussians: sympy derives its cumulants from :math:`\log M_x`, as
polynomials in moments of the spectrum. For a nonlinear hidden manifold they are derivatives of the action with n replicas
(`theory.replica.fluctuations`), computed on a grid and interpolated. Sources: [ours: docs/derivations/finite_n_drift.md,
docs/derivations/replica_drift.md].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from functools import cache, lru_cache
from typing import Any

import numpy as np
import sympy as sp

from numerics.domain import DomainError, nonnegative, positive
from theory.models import GaussianModel, HiddenManifold, LinearManifold
from theory.replica import Fluctuations
from theory.times import critical_alpha

__all__ = ["Cumulants", "cumulants", "has_drift"]

_STEP = 0.02  # in log t, for the derivatives of the mutual information
_STENCIL = np.arange(-3, 4)
_FIRST = np.array([-1, 9, -45, 0, 45, -9, 1]) / (60 * _STEP)
_SECOND = np.array([2, -27, 270, -490, 270, -27, 2]) / (180 * _STEP**2)


@dataclass(frozen=True)
class Cumulants:
    r"""Per dimension, at one (t, delta) or at arrays of them; energies in units of t.

    Attributes
    ----------
    mean, variance, skew : cumulants of the level :math:`\log M_x+\beta E_{true}`; the third is the third cumulant itself
    loop : what the mean of the level, not per dimension, has beyond N times `mean`
    gap : mean of :math:`\beta(E_{true}-\langle E\rangle_x)`, by which the true energy exceeds the tilted mean
    covariance, gap_variance : of the gap with the level, and of the gap
    spread : tilted variance of :math:`\beta E`
    """

    mean: np.ndarray
    variance: np.ndarray
    skew: np.ndarray
    loop: np.ndarray
    gap: np.ndarray
    covariance: np.ndarray
    gap_variance: np.ndarray
    spread: np.ndarray


def has_drift(model: Any) -> bool:
    """Whether finite-N drifts are derived for this model: one Gaussian model or one hidden manifold."""
    return isinstance(model, (GaussianModel, HiddenManifold)) and np.ndim(getattr(model, "alpha_D", 0.0)) == 0


def cumulants(model: Any, t: float | np.ndarray, eps: float) -> Cumulants:
    r"""Cumulants at noise t and squared distance :math:`\delta=\varepsilon t` per dimension from the data point.

    Parameters
    ----------
    model : GaussianModel or HiddenManifold, with one alpha_D
    t : float or array > 0
    eps : float >= 0
        0 at the clean point, 1 where the noise is that of the score.

    Raises
    ------
    DomainError
        For other models, an activation without a hash, numbers outside their domain, and on a hidden manifold at a t too
        small for the product grid (about 1e-3).
    """
    if not has_drift(model):
        raise DomainError(
            "model", model, "one Gaussian data model or one hidden manifold", "No drift is derived for others"
        )
    t, distance = positive("t", t), nonnegative("eps", eps)
    if distance.ndim:
        raise DomainError("eps", eps, "one number >= 0")
    eps = float(distance)
    if isinstance(model, HiddenManifold):
        try:
            hash(model)
        except TypeError as error:  # without it nothing could be kept, and every value would take seconds anew
            raise DomainError("activation", model.activation, "a callable with a hash", "Pass a function") from error
        return _nonlinear(model)(t, eps)
    m = Moments.of(model, t)
    level, variance, skew, gap, covariance, gap_variance, spread = _polynomials()(eps, *m.A)
    loop = -(m.loop - (1 - eps) * m.loop_slope) / 2
    return Cumulants(level - m.information / 2, variance, skew, loop, gap, covariance, gap_variance, spread)


# --- Gaussian data, through the mutual information ----------------------------------------------------------------------


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


@cache
def _polynomials() -> Callable[..., tuple[float, ...]]:
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


# --- nonlinear manifolds ------------------------------------------------------------------------------------------------


class _Nonlinear:
    """Cumulants of one hidden manifold: evaluated where log t and log epsilon are multiples of a step, else interpolated."""

    STEP, POINTS = 0.15, 6

    def __init__(self, model: HiddenManifold):
        self.fluctuations = Fluctuations(model)
        self.known: dict[tuple[float, float], np.ndarray] = {}

    def __call__(self, t: np.ndarray, eps: float) -> Cumulants:
        columns = (
            np.array([self._interpolated(value, eps) for value in t.flat]).reshape(t.size, len(fields(Cumulants))).T
        )
        return Cumulants(*(column.reshape(t.shape)[()] for column in columns))

    def _interpolated(self, t: float, eps: float) -> np.ndarray:
        # a clean point and one as far as the noise are looked at along t, the points between along epsilon at one t
        if eps in (0, 1):
            terms = [(weight, np.exp(i * self.STEP), eps) for i, weight in self._weights(np.log(t))]
        else:
            terms = [(weight, t, np.exp(i * self.STEP)) for i, weight in self._weights(np.log(eps))]
        return sum(weight * self._at(*place) for weight, *place in terms)

    def _weights(self, x: float) -> list[tuple[int, float]]:
        """Lagrange weights of the grid points nearest to x."""
        first = int(np.floor(x / self.STEP)) - self.POINTS // 2 + 1
        nodes = range(first, first + self.POINTS)
        u = x / self.STEP
        return [(i, float(np.prod([(u - j) / (i - j) for j in nodes if j != i]))) for i in nodes]

    def _at(self, t: float, eps: float) -> np.ndarray:
        if (t, eps) not in self.known:
            self.known[t, eps] = np.array(astuple(self._evaluate(1 / t, eps)))
        return self.known[t, eps]

    def _evaluate(self, beta: float, eps: float) -> Cumulants:
        F, delta = self.fluctuations, eps / beta
        at, rate = F.rates(beta, delta)
        third, loop = F.third_and_loop(beta, delta, at)
        return Cumulants(
            mean=at.g + eps / 2,
            variance=F.variance(at),
            skew=third,
            loop=loop,
            gap=beta * at.g_beta + eps / 2,
            covariance=beta * rate["variance"] / 2,
            gap_variance=beta**2 * F.slope_variance(at, rate),
            spread=beta**2 * float(rate["g_beta"]),
        )


@lru_cache(maxsize=32)
def _nonlinear(model: HiddenManifold) -> _Nonlinear:
    return _Nonlinear(model)
