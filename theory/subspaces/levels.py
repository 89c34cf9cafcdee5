r"""Losing dimensions: three levels of theory for the noise at which an orthogonal subspace of the data is lost.

1. *gaussian-rem*: the authors' heuristic [AVSP24], a REM of P Gaussian levels seen from :math:`x=\sqrt t\,e_k`;
2. *marginal*: the exponential REM of the data projected on the subspace alone [BBBM24, AALMV25];
3. *frozen*: the joint exponential REM; below :math:`t_{cond}` the posterior variance freezes in shape
   [ours: docs/derivations/losing_dimensions.md].

"Lost" has two meanings, never mixed here: *departure* from the truth, and *indistinguishability* from noise.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import sympy as sp
from scipy.optimize import brentq

from numerics.domain import DomainError, choice, finite, integer, positive
from theory.models import GaussianModel, Isotropic, Subspaces
from theory.notation import N as dimension
from theory.notation import SpectralAverage, beta, r
from theory.notation import t as time
from theory.subspaces.losing_dimensions import (
    FrozenLevel,
    GaussianLevel,
    L,
    MarginalLevel,
    beta_star,
    c,
    d,
    factor,
    q,
    s,
    theta,
)
from theory.times import condensation_time

__all__ = [
    "LEVELS",
    "departure_time",
    "finite_size_beta",
    "frozen_eigenvalue",
    "gaussian_rem_participation",
    "predicted_singular_values",
    "subspace_collapse_times",
    "variance_ratio_boundary",
    "visible_window",
]

LEVELS = ("gaussian-rem", "marginal", "frozen")


@cache
def _lowered(level: str, name: str, *arguments: sp.Symbol):
    law = {"gaussian-rem": GaussianLevel, "marginal": MarginalLevel, "frozen": FrozenLevel}[level]()
    return sp.lambdify(arguments, getattr(law, name), modules="numpy")


def subspace_blocks(model: Any) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(model, Isotropic):
        return np.array([1.0]), np.array([float(finite("variance", model.variance))])
    if not isinstance(model, Subspaces):
        raise DomainError("model", model, "a Subspaces or Isotropic model", "Its blocks are what is lost one by one")
    return np.array(model.fractions), np.array(model.variances)


def _log_count(P: Any) -> np.ndarray:
    if isinstance(P, int) and not isinstance(P, bool) and P >= 2:
        return np.asarray(math.log(P))  # of any size
    P = finite("P", P, allowed="numbers >= 2")
    if (P < 2).any():
        raise DomainError("P", float(P[P < 2].flat[0]) if P.ndim else float(P), "numbers >= 2")
    return np.log(P)


def subspace_collapse_times(
    model: Any, P: Any = None, N: int | None = None, *, level: str = "frozen", normalised: bool = False
) -> np.ndarray:
    r"""The time at which each subspace is lost, at one of three levels of theory, told apart by `level`.

    .. math:: \text{gaussian-rem: }\frac{\sigma_k^2+\sqrt{\sigma_k^4+4c\log P\sum_i\sigma_i^4}}{4\log P},\qquad
       \text{marginal: }\frac{\sigma_k^2}{P^{2/d_k}-1},\qquad
       \text{frozen: }\frac{\sigma_k^2}{1+2\beta_*\sigma_k^2}

    Parameters
    ----------
    model : Subspaces (or Isotropic); its dimensions are fractions times N
    P : number or array of numbers >= 2, training points
    N : int >= 1, ambient dimension
    level : "gaussian-rem", "marginal" or "frozen"
    normalised : bool
        Data of fixed norm (c = 0 instead of 1); at level gaussian-rem only.

    Returns
    -------
    (..., K) float64, shape of P and one entry a subspace; squared data units. The three are not estimates of one number:
    gaussian-rem is the condensation seen from :math:`\sqrt t\,e_k`, a heuristic of [AVSP24]; marginal is the collapse of the
    data projected on the subspace; frozen is the departure (by a factor 2) of the joint score from the exact one.

    Raises
    ------
    DomainError : not a Subspaces model, P < 2, N < 1, unknown level, or `normalised` at another level

    The failure that looks normal: for a subspace of variance 0 gaussian-rem returns a positive time, that of the norm's
    fluctuations, which has nothing to do with that subspace. Source: [AVSP24], [BBBM24],
    [ours: docs/derivations/losing_dimensions.md].

    >>> model = Subspaces([1 / 6, 1 / 6], [1.0, 0.09])
    >>> subspace_collapse_times(model, P=1000, N=30, level="marginal").round(6).tolist()
    [0.067345, 0.006061]
    >>> subspace_collapse_times(model, P=1000, N=30, level="gaussian-rem", normalised=True).round(6).tolist()
    [0.072382, 0.006514]
    """
    fractions, variances = subspace_blocks(model)
    choice("level", level, LEVELS)
    if normalised and level != "gaussian-rem":
        raise DomainError("normalised", normalised, f"False at level {level}", "Only gaussian-rem knows of the norm")
    N, log_P = integer("N", N, minimum=1, maximum=1 << 53), _log_count(P)[..., None]
    if level == "gaussian-rem":
        squares = N * float(np.dot(fractions, variances**2))
        return _lowered(level, "time", L, s, q, c)(log_P, variances, squares, 0.0 if normalised else 1.0) + 0 * log_P
    if level == "marginal":
        with np.errstate(over="ignore"):  # e^(2L/d) beyond float range: the time is 0 to float accuracy
            return _lowered(level, "time", L, s, d)(log_P, variances, fractions * N)
    return departure_time(model, P, N)


def gaussian_rem_participation(model: Any, P: Any, N: int, t: Any, *, normalised: bool = False) -> np.ndarray:
    r"""The heuristic's :math:`\sum_\mu w_\mu^2=\max(0,1-t/t_k(t))` seen from :math:`\sqrt t\,e_k`, with `t_k(t)` at running t.

    Parameters
    ----------
    model, P, N, normalised : as in `subspace_collapse_times`, P one number; t : (T,) numbers > 0

    Returns
    -------
    (T, K). Source: [AVSP24], [D81]. Exact at finite P instead: `theory.finite_size.expected_participation`.

    >>> gaussian_rem_participation(Subspaces([0.5], [1.0]), 1000, 30, [0.0181], normalised=True).round(2).tolist()
    [[0.5]]
    """
    fractions, variances = subspace_blocks(model)
    N, log_P, t = (
        integer("N", N, minimum=1, maximum=1 << 53),
        float(_log_count(P)),
        np.atleast_1d(positive("t", t))[:, None],
    )
    squares = N * float(np.dot(fractions, variances**2))
    own = _lowered("gaussian-rem", "own_time", time, s, q, c, L)(t, variances, squares, 1.0 - normalised, log_P)
    with np.errstate(divide="ignore"):
        return np.maximum(0.0, 1 - t / own)


def departure_time(model: GaussianModel, P: Any, N: int, variance: Any = None, *, times: float = 2.0) -> np.ndarray:
    r"""Meaning (i) of lost: where the frozen eigenvalue of the score is `times` the exact one, :math:`r/(c-1+c\beta_*r)`.

    Parameters
    ----------
    model, P, N : as in `subspace_collapse_times`; any Gaussian model if `variance` is given
    variance : (K,) numbers >= 0, the directions asked for (default: the model's subspaces)
    times : number > 1

    Returns
    -------
    (..., K); increases with the variance: *high-variance directions depart first*, near :math:`t_{cond}/2`.

    >>> model = Subspaces([1 / 6, 1 / 6], [1.0, 0.09])
    >>> bool(np.all(np.diff(departure_time(model, 1000, 30)) < 0))
    True
    """
    times = float(positive("times", times))
    if times <= 1:
        raise DomainError("times", times, "a number > 1")
    values = subspace_blocks(model)[1] if variance is None else np.atleast_1d(finite("variance", variance))
    star = 1 / _condensation(model, P, N)[..., None]
    return _lowered("frozen", "departure", r, beta_star, factor)(values, star, times)


def frozen_eigenvalue(model: GaussianModel, P: Any, N: int, t: Any, variance: Any = None) -> np.ndarray:
    r"""Mean normalised eigenvalue :math:`-t\lambda` at a clean fresh point: exact above :math:`t_{cond}`, frozen below.

    .. math:: -t\lambda=\frac{t}{t+r}\ (t\ge t_{cond}),\qquad\frac1{1+\beta_*r}\ (t\le t_{cond})

    Parameters
    ----------
    model, P, N : as in `subspace_collapse_times`, P one number
    t : (T,) numbers > 0
    variance : as in `departure_time`

    Returns
    -------
    (T, K). It is a *mean*: at small t one point in t_cond/t carries it and the median is 1 (all lost). The limit of large N;
    at a given N and P the exact mean is `theory.finite_size.frozen.finite_size_eigenvalue`.

    >>> frozen_eigenvalue(Subspaces([0.5, 0.5], [1.0, 0.1]), 1000, 20, [1e-4, 1e-3]).round(4).tolist()
    [[0.2321, 0.7514], [0.2321, 0.7514]]
    """
    values = subspace_blocks(model)[1] if variance is None else np.atleast_1d(finite("variance", variance))
    now = np.maximum(np.atleast_1d(positive("t", t)), float(_condensation(model, P, N)))[:, None]
    return _lowered("frozen", "eigenvalue", r, beta_star)(values, 1 / now)


def visible_window(model: GaussianModel, P: Any, N: int, variance: Any = None, *, threshold: float = 0.9) -> np.ndarray:
    r"""Meaning (ii) of lost: the noise below which :math:`-t\lambda` stays under `threshold`, so that a gap shows.

    The gap opens, as for the exact score, at :math:`r\theta/(1-\theta)` if that is above :math:`t_{cond}`, and the mean
    spectrum then keeps it for ever; otherwise it never opens.

    Returns
    -------
    (..., K) opening times, NaN where the direction is never distinguished from noise: *low-variance directions are lost first*.

    >>> visible_window(Subspaces([0.5, 0.5], [1.0, 0.1]), 1000, 20, threshold=0.5).tolist()
    [1.0, nan]
    """
    threshold = float(positive("threshold", threshold))
    if threshold >= 1:
        raise DomainError("threshold", threshold, "a number between 0 and 1")
    values = subspace_blocks(model)[1] if variance is None else np.atleast_1d(finite("variance", variance))
    cond = _condensation(model, P, N)[..., None]
    opening = _lowered("frozen", "opening", r, theta)(values, threshold) + 0 * cond
    return np.where(opening > cond, opening, np.nan)


def _condensation(model: GaussianModel, P: Any, N: int) -> np.ndarray:
    N = integer("N", N, minimum=1, maximum=1 << 53)
    return np.asarray(condensation_time(model, alpha=_log_count(P) / N))


def finite_size_beta(model: Any, P: float, N: int) -> float:
    r""":math:`\beta_*` with the :math:`\log N/N` correction of a REM's edge: the zero of `FrozenLevel.edge_entropy`.

    Parameters
    ----------
    model : Subspaces or Isotropic
    P : number >= 2; N : int >= 1

    Raises
    ------
    DomainError : where P is so small that no such edge exists

    Returns
    -------
    float, inverse squared data units; below the asymptotic :math:`1/t_{cond}`, and of 1/N accuracy only.

    >>> model = Subspaces([0.5, 0.5], [1.0, 0.1])
    >>> finite_size_beta(model, 1000, 20) < 1 / condensation_time(model, P=1000, N=20)
    True
    """
    fractions, variances = subspace_blocks(model)
    N, log_P = integer("N", N, minimum=1, maximum=1 << 53), float(_log_count(P))
    entropy = _lowered_edge(tuple(fractions), tuple(variances))
    star = 1 / float(_condensation(model, P, N))
    low, value = star, entropy(star, log_P, N)
    while value < 0 and low > 1e-6 * star:
        low *= 0.8
        value = entropy(low, log_P, N)
    if value < 0:
        raise DomainError("P", P, f"larger at N = {N}: the levels have no edge to speak of")
    return float(brentq(entropy, low, star * 1.5, args=(log_P, N), xtol=1e-14, rtol=1e-13))


@cache
def _lowered_edge(fractions: tuple[float, ...], variances: tuple[float, ...]):
    expression = FrozenLevel().edge_entropy
    averages = {a: a.over(fractions, variances) for a in expression.atoms(SpectralAverage)}
    return sp.lambdify((beta, L, dimension), expression.xreplace(averages), modules="numpy")


def variance_ratio_boundary(P: Any, d_high: Any, d_low: Any) -> Any:
    r"""Marginal level: the subspace of higher variance collapses first if and only if the ratio of variances exceeds this.

    .. math:: \frac{\sigma_1^2}{\sigma_2^2}>\frac{P^{2/d_1}-1}{P^{2/d_2}-1}

    At most 1 (so always true) if :math:`d_1\ge d_2`; for few samples it is :math:`d_2/d_1`: the larger *total* variance goes
    first; for many it grows as :math:`P^{2/d_1-2/d_2}`: the larger *dimension* goes first.

    Parameters
    ----------
    P : numbers >= 2; d_high, d_low : numbers > 0, dimensions of the subspaces of higher and of lower variance; broadcast

    >>> variance_ratio_boundary(1000, 5, 5), round(float(variance_ratio_boundary(1000, 5, 20)), 4)
    (1.0, 14.9196)
    """
    log_P, d1, d2 = _log_count(P), positive("d_high", d_high), positive("d_low", d_low)
    law = MarginalLevel
    value = _lowered("marginal", "boundary", L, law.d1, law.d2)(log_P, d1, d2)
    return float(value) if np.ndim(value) == 0 else value


def predicted_singular_values(
    model: Any, P: float, N: int, t: Any, *, normalised: bool = False, relative: bool = True
) -> np.ndarray:
    r"""The authors' heuristic curve for the score's singular value of each subspace, :math:`\sqrt{\lambda_k^2+v_k^2}`.

    .. math:: \lambda_k=\frac1{t+\sigma_k^2},\quad v_k=A\left[\left(\tfrac1t-\tfrac1{t_k(t)}\right)_+
       +c\left(\tfrac1t-\tfrac1{t_0(t)}\right)_+\right],\quad A=\sum_i\frac{\sigma_i^2}{t^2(t+\sigma_i^2)}

    Parameters
    ----------
    model : Subspaces; P : number >= 2; N : int >= 1; t : (T,) numbers > 0
    normalised : bool, data of fixed norm (c = 0)
    relative : bool, divided by the largest at each t, the normal directions (variance 0) included if the model has them

    Returns
    -------
    (T, K). A heuristic, not a prediction of this house: `v_k` and :math:`\lambda_k` have different units, so the curve
    depends on the unit of length; the verdict measured beside it is in docs/results/losing_dimensions.csv. Source: [AVSP24].

    >>> predicted_singular_values(Subspaces([0.5], [1.0]), 1e9, 30, [1.0], normalised=True).round(3).tolist()
    [[0.5]]
    """
    fractions, variances = subspace_blocks(model)
    N, log_P, t = (
        integer("N", N, minimum=1, maximum=1 << 53),
        float(_log_count(P)),
        np.atleast_1d(positive("t", t))[:, None],
    )
    if fractions.sum() < 1 - 1e-12:
        variances, fractions = np.append(variances, 0.0), np.append(fractions, 1 - fractions.sum())
    norm = 0.0 if normalised else 1.0
    parts = _lowered("gaussian-rem", "singular_value", time, s, q, c, L)
    with np.errstate(divide="ignore"):
        lam, own, fluctuation = parts(t, variances, N * float(np.dot(fractions, variances**2)), norm, log_P)
    A = N * np.sum(fractions * variances / (t**2 * (t + variances)), axis=1, keepdims=True)
    v = A * (np.maximum(own, 0.0) + norm * np.maximum(fluctuation, 0.0))
    value = np.hypot(lam, v)
    value = value / value.max(axis=1, keepdims=True) if relative else value
    return value[:, : len(subspace_blocks(model)[1])]
