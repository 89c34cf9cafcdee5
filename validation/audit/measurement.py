r"""What a data set's own empirical score says of its times, with no model: excess entropy, own weights, participation.

With :math:`w` the weight of a training point at its own noisy version :math:`x=\xi+\sqrt t\,\omega`,

.. math:: f(t)=\frac1N E_x\log\sum_\mu e^{-\|x-\xi^\mu\|^2/2t}+\frac12=-\frac1N E\log w,

the excess-entropy criterion of [BBBM24]: 0 when collapsed, growing above :math:`t_c`. (The two forms have equal means because
:math:`E\|\omega\|^2=N`; the second is measured, being far less noisy.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from numerics.domain import DomainError, integer, positive
from validation.data import nearest_neighbours
from validation.score import EmpiricalScore
from validation.simulation import Estimate, crossing, jackknife, minimum

__all__ = ["Curve", "Measurement", "measure"]


@dataclass(frozen=True, eq=False)
class Curve:
    """Mean over probes and its standard error, on the grid of t."""

    mean: np.ndarray
    error: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> Curve:
        if len(rows) < 2:
            return cls(*np.full((2, rows.shape[1]), np.nan))
        return cls(rows.mean(axis=0), rows.std(axis=0, ddof=1) / math.sqrt(len(rows)))


@dataclass(frozen=True, eq=False)
class Measurement:
    """Curves over noise and the times read off them; times in squared data units with errors over probes.

    t : (K,) grid; P, N : size of the training part
    excess_entropy : f(t); own_weight : mean weight of a training point at its noisy version
    clean_weight : the same at the point itself; participation : E sum w^2 at held-out points
    cross_entropy : (1/2) log t - (1/N) log Z at held-out points, the KL divergence up to a constant
    log_odds : E log w/(1-w), with w the weight a held-out point would have at its noisy version if it were added
    collapse : own weight = 1/2; onset : clean weight = 1/2; generalization : minimum of cross_entropy
    condensation : twice the t at which the participation is 1/2 (the REM's law is 1 - t/t_cond)
    nearest : mean squared distance per dimension from a held-out point to its nearest training point

    What is measured at held-out points is NaN, with that reason, where there are fewer than 2. For P = 2 onset, collapse and
    condensation are infinite: a mean weight of 1/2 is reached only as t grows without bound.
    """

    t: np.ndarray
    P: int
    N: int
    probes: int
    excess_entropy: Curve
    own_weight: Curve
    clean_weight: Curve
    participation: Curve
    cross_entropy: Curve
    log_odds: Curve
    onset: Estimate
    collapse: Estimate
    condensation: Estimate
    generalization: Estimate
    nearest: Estimate

    def critical_size(self, t: float) -> Estimate:
        r"""Logarithm of the number of samples at which a noisy point's own weight falls to 1/2 at noise t.

        :math:`\log P_c=\log P+E\log\frac w{1-w}`: the rest of the sum grows in proportion to P. Exact where the rest is
        made of many points (at and above the measured collapse time); below, where a few nearest points make it, an
        overestimate by the logarithm's concavity.
        """
        if not self.t[0] <= t <= self.t[-1]:
            raise DomainError("t", t, f"between {self.t[0]:.3g} and {self.t[-1]:.3g}, the grid of this measurement")
        if not np.isfinite(self.log_odds.mean).all():
            return Estimate(math.nan, math.nan, self.nearest.reason)
        x = np.log(self.t)
        value = np.interp(math.log(t), x, self.log_odds.mean)
        return Estimate(math.log(self.P) + float(value), float(np.interp(math.log(t), x, self.log_odds.error)))


def measure(
    train: np.ndarray,
    held_out: np.ndarray,
    *,
    t: Any = None,
    probes: int = 256,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
) -> Measurement:
    """Measure all curves on one data set.

    Parameters
    ----------
    train : (P, N), P >= 2; held_out : (Q, N) in the same units, none of them in `train` (`validation.data.split`)
    t : (K,) increasing grid of VE times > 0; default: 64 points from far below the nearest-neighbour distance to where
        the training set is a blur
    probes : int >= 2
        Training points (and at most as many held-out points) used as probes. Errors are over probes; they do not include
        what another training set would change.
    seed, device, dtype : of the draws and of the engine

    Returns
    -------
    Measurement; a time whose curve has no crossing on the grid is NaN with a reason.

    >>> X = np.random.default_rng(0).standard_normal((500, 6))
    >>> m = measure(X[:450], X[450:], probes=200, dtype="float64")
    >>> bool(m.collapse.value < m.onset.value)
    True
    """
    probes = integer("probes", probes, minimum=2)
    E = EmpiricalScore(train, device=device, dtype=dtype)
    rng = np.random.default_rng(seed)
    rows = rng.choice(E.P, size=min(probes, E.P), replace=False)
    rows.sort()
    points = np.asarray(train[rows], dtype=np.float64)
    noise = rng.standard_normal(points.shape)
    fresh = np.asarray(held_out[:probes], dtype=np.float64)
    fresh = fresh if len(fresh) > 1 else fresh[:0]
    queries = fresh if len(fresh) else None
    nearest = nearest_neighbours(train, 1, queries=queries, device=device).squared_distance[:, 0]
    if t is None:
        spread = 2 * float(np.mean(np.var(points, axis=0)))
        t = np.geomspace(0.02 * max(float(np.mean(nearest)), 1e-6 * spread), 8 * spread * E.N / math.log(E.P), 64)
    t = np.asarray(positive("t", t))
    x = np.log(t)
    noisy = E.noisy_profile(points, noise, t, own=rows)
    log_w = noisy["own_log_weight"].T
    rest = E.clean_profile(points, t, exclude=rows)["log_partition"].T
    w, w_clean = np.exp(log_w), 1 / (1 + np.exp(np.minimum(rest, 700.0)))
    squares = cross = odds = np.empty((0, len(t)))
    if len(fresh):
        clean = E.clean_profile(fresh, t)
        squares, cross = 1 / clean["participation"].T, 0.5 * x - clean["log_partition"].T / E.N
        # a held-out point with its own term added has the law of a training point, and its odds do not round to 1
        noise = rng.standard_normal(fresh.shape)
        odds = -0.5 * (noise**2).sum(axis=1)[:, None] - E.noisy_profile(fresh, noise, t)["log_partition"].T
    return Measurement(
        t=t,
        P=E.P,
        N=E.N,
        probes=len(rows),
        excess_entropy=Curve.of(-log_w / E.N),
        own_weight=Curve.of(w),
        clean_weight=Curve.of(w_clean),
        participation=Curve.of(squares),
        cross_entropy=Curve.of(cross),
        log_odds=Curve.of(odds),
        onset=_TWO if E.P == 2 else _exp(jackknife(x, w_clean, crossing)),
        collapse=_TWO if E.P == 2 else _exp(jackknife(x, w, crossing)),
        condensation=_condensation(x, squares, E.P),
        generalization=_exp(jackknife(x, cross, minimum)) if len(fresh) else _NONE,
        nearest=Estimate(float(nearest.mean()), float(nearest.std(ddof=1) / math.sqrt(len(nearest))))
        if len(fresh)
        else _NONE,
    )


_TWO = Estimate(math.inf, 0.0, "of two training points one has half of the weight or more at every noise")
_NONE = Estimate(math.nan, math.nan, "fewer than 2 held-out points are no copies of training points")


def _condensation(x: np.ndarray, squares: np.ndarray, P: int) -> Estimate:
    if not len(squares):
        return _NONE
    return _TWO if P == 2 else _exp(jackknife(x, squares, crossing), factor=2.0)


def _exp(estimate: Estimate, factor: float = 1.0) -> Estimate:
    value = factor * math.exp(estimate.value)
    return Estimate(value, value * estimate.error, estimate.reason)
