r"""What a distance is worth: against the law of fresh points' distances to the same training set.

.. math:: p=\frac{1+\#\{\text{fresh points at least as near}\}}{1+\#\{\text{fresh points}\}}

is a p-value of "this sample is a fresh draw of the data", whatever the data; it is never below 1/(n + 1). The ratio of distances
to first and second neighbour has a known law where the density is locally uniform, of dimension D: :math:`P(r\le\rho)=\rho^D`.
So below the lowest twentieth u of the fresh points' ratios

.. math:: p=P(r\le u)\,(r/u)^{D},\qquad 1/D=\operatorname{mean}_{r<u}\log(u/r),

Hill's estimator, with the 95 % lower limit of D in its place. Over many samples the rule of Benjamini and Hochberg keeps the
expected share of false discoveries at `rate`. The fresh points are shared by all samples: their p-values are positively
dependent, which that rule allows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = ["LOWEST", "Fraction", "discoveries", "excess", "p_values", "ratio_p_values"]

LOWEST = 0.05  # share of fresh points whose ratios make the tail
FEWEST = 5  # of them, below which the tail is not fitted


def p_values(values: np.ndarray, null: np.ndarray) -> np.ndarray:
    """(S,) p-values of `values` (small is extreme) against fresh points' values `null` (n,); never below 1/(n + 1).

    >>> p_values(np.array([0.5, 3.0]), np.array([1.0, 2.0, 3.0])).tolist()
    [0.25, 1.0]
    """
    return (1 + np.searchsorted(np.sort(null), values, side="right")) / (1 + len(null))


def ratio_p_values(ratio: np.ndarray, null: np.ndarray) -> np.ndarray:
    """(S,) p-values of ratios in [0, 1] against fresh points' ratios `null` (n,), with the tail below their lowest twentieth.

    >>> null = np.linspace(0.001, 1, 1000) ** 0.1  # the law in ten dimensions
    >>> float(f"{ratio_p_values(np.array([0.25]), null)[0]:.1g}") > 0.25**10
    True
    """
    p = p_values(ratio, null)
    tail = np.sort(null)[: int(LOWEST * len(null))]
    if len(tail) < FEWEST:
        return p
    u = tail[-1]
    logs = np.log(u / np.maximum(tail[:-1], np.finfo(float).tiny)).sum()
    if not logs > 0:
        return p
    dimension = stats.chi2.ppf(0.05, 2 * (len(tail) - 1)) / (2 * logs)  # 2 D logs is chi-square
    below = ratio < u
    return np.where(below, (1 + len(tail)) / (1 + len(null)) * (ratio / u) ** dimension, p)


def discoveries(p: np.ndarray, rate: float) -> np.ndarray:
    """(S,) mask of Benjamini and Hochberg: the k smallest p, k the largest with p_(k) <= rate k/S.

    >>> discoveries(np.array([0.001, 0.02, 0.04, 0.9]), 0.05).tolist()
    [True, True, False, False]
    """
    order = np.sort(p)
    passed = np.flatnonzero(order <= rate * np.arange(1, len(p) + 1) / len(p))
    return p <= order[passed[-1]] if len(passed) else np.zeros(len(p), dtype=bool)


@dataclass(frozen=True)
class Fraction:
    """count of total, with its exact (Clopper-Pearson) 95 % interval."""

    count: int
    total: int

    @property
    def value(self) -> float:
        return self.count / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        if not self.total:
            return math.nan, math.nan
        found = stats.binomtest(self.count, self.total).proportion_ci(0.95, method="exact")
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.value:.3g} % ({100 * low:.3g} to {100 * high:.3g})"


def excess(samples: Fraction, fresh: Fraction) -> tuple[float, float]:
    r""":math:`\pi=(f-f_0)/(1-f_0)` and its standard error: the share of samples beyond what fresh points show.

    A mixture of a share pi of copies, all caught, with fresh points has :math:`f=\pi+(1-\pi)f_0`.

    >>> excess(Fraction(40, 100), Fraction(20, 100))[0]
    0.25
    """
    f, f0 = samples.value, fresh.value
    if not f0 < 1:
        return math.nan, math.nan
    value = (f - f0) / (1 - f0)
    variances = [
        (x.count + 1) / (x.total + 2) * (1 - (x.count + 1) / (x.total + 2)) / x.total for x in (samples, fresh)
    ]
    return value, math.hypot(variances[0] ** 0.5, (1 - value) * variances[1] ** 0.5) / (1 - f0)
