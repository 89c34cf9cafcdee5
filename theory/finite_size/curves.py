r"""Curves and times at real N and P: collapse f(t), held-out cross-entropy, and the crossings a Monte Carlo would use.

The times are read off expectations that are exact in the patterns, on the same draws of x at every t, so the curves are
smooth in t and their crossings are found by ordinary root searches. Definitions:

* collapse: the mean weight of the true point at a typical noisy x crosses 1/2;
* onset: its mean weight at the training point itself crosses 1/2;
* generalization optimum: the t that minimises the held-out cross-entropy of the empirical density.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from numerics.display import Shown
from numerics.domain import DomainError
from theory.finite_size.draws import linear_control, typical_lambda
from theory.finite_size.expectations import Estimate
from theory.finite_size.law import PartitionLaw
from theory.finite_size.setup import Setup

__all__ = [
    "FiniteTimes",
    "collapse_curve",
    "finite_collapse_time",
    "finite_generalization_time",
    "finite_onset_time",
    "finite_size_times",
    "held_out_cross_entropy",
]

_WIDEN = 1.6  # factor by which a bracket in t grows
_ATTEMPTS = 60


@dataclass(frozen=True)
class FiniteTimes(Shown):
    """The three finite-size times, each an `Estimate`."""

    onset: Estimate
    collapse: Estimate
    generalization: Estimate


def collapse_curve(model, P=None, N=None, t=None, *, seed: int = 0, samples: int = 32, log_P=None) -> Estimate:
    r"""The excess-entropy curve f(t) of [BBBM24] predicted at real N and P: 0 when collapsed, growing above.

    .. math:: f(t)=\frac1N E\log\sum_\mu e^{-\|x-\xi^\mu\|^2/2t}+\frac12=\frac1NE\log(1+Z_{\rm rest}/a)\ge0,

    x drawn from the noised training set, the planted point among the P.

    Parameters
    ----------
    model : Isotropic, LinearManifold, Subspaces or Spectrum
    P : int >= 2, or `log_P`
    N : int >= 1; may be left out for a Spectrum
    t : number > 0 or array of such, squared data units
    seed, samples : as `expected_log_partition`

    Returns
    -------
    Estimate, nats per dimension, of t's shape. Deep in the collapsed phase the mean is carried by rare x: `error` there
    is of the order of the value, which the control variate can make slightly negative.

    Raises
    ------
    DomainError

    >>> from theory.models import Isotropic
    >>> f = collapse_curve(Isotropic(1.0), P=1000, N=20, t=[0.1, 2.0, 20.0])
    >>> [round(float(v), 2) for v in f.value]
    [0.0, 0.15, 0.32]
    """
    setup = Setup(model, P, N, t, "noisy", None, seed, samples, log_P)
    rows = []
    for t_now in setup.t:
        values, q = setup.ask(t_now, PartitionLaw.log_ratio, rest=True)
        rows.append([*setup.average(setup.controlled(values, t_now, "log"), q), q])
    value, error, q = (setup.shaped(column) for column in zip(*np.array(rows) / setup.spectrum.N, strict=True))
    return Estimate(value, error, q, len(setup.draws))


def held_out_cross_entropy(model, P=None, N=None, t=None, *, seed: int = 0, samples: int = 16, log_P=None) -> Estimate:
    r"""Cross-entropy of the empirical density at noise t on fresh data, nats per dimension.

    .. math:: -\frac1NE_{x\sim P_0}\log P_t(x)=\frac{\log P}N+\tfrac12\log2\pi t-\frac1NE\log\sum_\mu
              e^{-\|x-\xi^\mu\|^2/2t}

    Parameters, raises: as `collapse_curve`.

    Returns
    -------
    Estimate. On data with directions of variance 0 it tends to minus infinity per such direction as t falls, like
    ``1/2 log t``, until memorisation turns it up again.

    >>> from theory.models import Isotropic
    >>> h = held_out_cross_entropy(Isotropic(1.0), P=1000, N=20, t=[0.1, 0.6, 5.0])
    >>> bool(h.value[0] > h.value[1] < h.value[2])
    True
    """
    setup = Setup(model, P, N, t, "clean", None, seed, samples, log_P)
    rows = []
    for t_now in setup.t:
        values, q = _cross_entropies(setup, t_now)
        rows.append([*setup.average(values, q), q])
    value, error, q = (setup.shaped(column) for column in zip(*rows, strict=True))
    return Estimate(value, error, q, len(setup.draws))


def _cross_entropies(setup, t):
    """One value a draw, less the linear control, and the largest quadrature error."""
    values, worst, lam = [], 0.0, {}
    for draw in setup.draws:
        law, _, _ = setup.law(draw, t)
        value, e = law.expected_log()
        if draw.group not in lam:
            lam[draw.group] = typical_lambda(draw.spectrum, t, False, setup.log_P)
        value -= linear_control(draw.spectrum, t, False, lam[draw.group], law.one.p)
        N = draw.spectrum.N
        values.append((setup.log_P - value) / N + 0.5 * math.log(2 * math.pi * t))
        worst = max(worst, e / N)
    return np.array(values), worst


def finite_collapse_time(model, P=None, N=None, *, seed: int = 0, samples: int = 32, log_P=None) -> Estimate:
    r"""Noise variance at which the true point has on average half of the weight at a typical noisy point.

    .. math:: E\,\frac{a}{a+Z_{\rm rest}}=\tfrac12,\qquad x=\xi^1+\sqrt t\,\omega

    Tends to the collapse time :math:`2\alpha=\mathcal L(t)` from above like 1/N. Infinite for P = 2: the mean weight falls to 1/2
    only as t grows without bound.

    Parameters, raises: as `collapse_curve`, without t.

    Returns
    -------
    Estimate, squared data units

    >>> from theory.models import Isotropic
    >>> t = finite_collapse_time(Isotropic(1.0), P=1000, N=20)
    >>> bool(0.9 < t.value < 1.4)                      # the asymptotic value is 1.004
    True
    """
    return _crossing(Setup(model, P, N, 1.0, "noisy", None, seed, samples, log_P))


def finite_onset_time(model, P=None, N=None, *, seed: int = 0, samples: int = 32, log_P=None) -> Estimate:
    r"""Noise variance at which a training point has on average half of the weight at its own place.

    .. math:: E\,\frac1{1+Z_{\rm rest}}=\tfrac12,\qquad x=\xi^1

    Infinite for P = 2, as `finite_collapse_time`.

    Parameters, returns, raises: as `finite_collapse_time`.

    >>> from theory.models import Isotropic
    >>> t = finite_onset_time(Isotropic(1.0), P=1000, N=20)
    >>> bool(2.0 < t.value < 3.0)
    True
    """
    return _crossing(Setup(model, P, N, 1.0, "clean", None, seed, samples, log_P))


def _weights(setup, t):
    values, worst = [], 0.0
    for draw in setup.draws:
        law, _, log_a = setup.law(draw, t, rest=True)
        value, e = law.weight(log_a)
        values.append(value)
        worst = max(worst, e)
    return setup.controlled(values, t, "weight"), worst


def _annealed_crossing(setup) -> float:
    """Where the annealed weight is 1/2 at leading order: the asymptotic equation with the draw's own spectrum."""
    r, n = setup.spectrum.variance, setup.spectrum.multiplicity

    def excess(log_t):
        s = r * math.exp(-log_t)
        return setup.log_rest + 1e-3 - 0.5 * float(n @ (np.log1p(s) + (0.0 if setup.noisy else s / (1 + s))))

    top = math.log(r[0]) + 40
    bottom = math.log(r[-1]) - 300
    if excess(bottom) > 0:
        raise DomainError(
            "P", f"e^{setup.log_P:.6g}", "small enough that the time is not below 1e-130 of the variances"
        )
    return math.exp(brentq(excess, bottom, top, xtol=1e-6) if excess(top) > 0 else top)


def _crossing(setup) -> Estimate:
    if setup.log_rest <= 0:  # of two points the true one has on average at least half, and half only as t grows
        return Estimate(math.inf, 0.0, 0.0, len(setup.draws))

    def excess(log_t):
        return float(_weights(setup, math.exp(log_t))[0].mean()) - 0.5

    middle, width = math.log(_annealed_crossing(setup)), math.log(_WIDEN)
    low, high = middle, middle + width
    value_low, value_high = excess(low), excess(high)
    for _ in range(_ATTEMPTS):
        if value_low > 0 >= value_high:
            break
        if value_low <= 0:  # the weight falls with t
            low, high, value_high = low - width, low, value_low
            value_low = excess(low)
        else:
            low, high, value_low = high, high + width, value_high
            value_high = excess(high)
        width *= 1.3
    else:
        return Estimate(math.nan, math.nan, math.nan, len(setup.draws))
    root = brentq(excess, low, high, xtol=1e-7, rtol=1e-12)
    step = 0.05
    slope = (excess(root + step) - excess(root - step)) / (2 * step)
    values, q = _weights(setup, math.exp(root))
    _, error = setup.average(values, q)
    t = math.exp(root)
    return Estimate(t, t * error / abs(slope), t * q / abs(slope), len(setup.draws))


def finite_generalization_time(model, P=None, N=None, *, seed: int = 0, samples: int = 32, log_P=None) -> Estimate:
    r"""Noise variance that minimises the held-out cross-entropy at real N and P: the best noise floor t_g(N, P).

    Tends to :math:`t_g=-2g'(\beta_*;0)`, with a correction :math:`\frac1{\beta_*}\frac{\log N}{N}` that dies slowly.

    Parameters, returns, raises: as `finite_collapse_time`.

    >>> from theory.models import Isotropic
    >>> t = finite_generalization_time(Isotropic(1.0), P=1000, N=20, samples=8)
    >>> bool(0.4 < t.value < 0.9)
    True
    """
    setup = Setup(model, P, N, 1.0, "clean", None, seed, samples, log_P)

    def entropy(log_t):
        return float(_cross_entropies(setup, math.exp(log_t))[0].mean())

    noisy = copy(setup)
    noisy.noisy = True
    b = math.log(_annealed_crossing(noisy))
    width = math.log(_WIDEN)
    a, c = b - width, b + width
    fa, fb, fc = entropy(a), entropy(b), entropy(c)
    for _ in range(_ATTEMPTS):
        if fb <= fa and fb <= fc:
            break
        if fa < fb:
            a, b, c, fb, fc = a - width, a, b, fa, fb
            fa = entropy(a)
        else:
            a, b, c, fa, fb = b, c, c + width, fb, fc
            fc = entropy(c)
    else:
        return Estimate(math.nan, math.nan, math.nan, len(setup.draws))
    best = minimize_scalar(entropy, bracket=(a, b, c), method="brent", options={"xtol": 1e-7}).x
    step = 0.05  # error of the minimiser: that of the slope over the curvature
    (left, q), (centre, _), (right, _) = (_cross_entropies(setup, math.exp(best + d)) for d in (-step, 0.0, step))
    curvature = (right.mean() - 2 * centre.mean() + left.mean()) / step**2
    _, error = setup.average((right - left) / (2 * step), q / step)
    t = math.exp(best)
    return Estimate(t, t * error / curvature, t * q / (step * curvature), len(setup.draws))


def finite_size_times(model, P=None, N=None, *, seed: int = 0, samples: int = 32, log_P=None) -> FiniteTimes:
    """Onset, collapse and generalization optimum at real N and P, each with its error.

    Parameters, raises: as `finite_collapse_time`.

    Returns
    -------
    FiniteTimes
    """
    arguments = dict(P=P, N=N, seed=seed, samples=samples, log_P=log_P)
    return FiniteTimes(
        finite_onset_time(model, **arguments),
        finite_collapse_time(model, **arguments),
        finite_generalization_time(model, **arguments),
    )
