r"""Does a number of each training image rank how often it is copied? Rank correlation and AUC, with errors and their null.

.. math:: \mathrm{AUC}=P(a_\mu>a_\nu\mid\mu\text{ copied},\nu\text{ not})+\tfrac12P(a_\mu=a_\nu\mid\dots),\qquad
          c=\tfrac12(1+\rho),

with rho Spearman's rank correlation; both are 1/2 where the number says nothing. A permutation of the images is the null.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from numerics.domain import DomainError, integer

__all__ = ["area_under_curve", "bootstrap_error", "partial_correlation", "permutation_p", "rank_correlation"]


def area_under_curve(values: np.ndarray, marked: np.ndarray) -> Any:
    """Probability that a marked row has the larger value, ties counted half; NaN where all rows or none are marked.

    values : (..., n) reals; marked : (..., n) booleans. Returns a float, or an array (...)

    >>> float(area_under_curve(np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, True, False, True])))
    0.75
    """
    values, marked = _pair(values, np.asarray(marked, dtype=bool))
    n = marked.sum(axis=-1)
    pairs = n * (values.shape[-1] - n)
    above = (stats.rankdata(values, axis=-1) * marked).sum(axis=-1) - n * (n + 1) / 2
    return np.where(pairs > 0, above / np.maximum(pairs, 1), np.nan)[()]


def rank_correlation(a: np.ndarray, b: np.ndarray) -> Any:
    """Spearman's rank correlation of (..., n) with (..., n), ties by mean ranks; NaN where one of both is constant.

    >>> round(float(rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([1.0, 9.0, 4.0]))), 6)
    0.5
    """
    x, y = (stats.rankdata(v, axis=-1) for v in _pair(a, b))
    middle = (x.shape[-1] + 1) / 2
    x, y = x - middle, y - middle
    size = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    return np.where(size > 0, (x * y).sum(axis=-1) / np.where(size > 0, size, 1), np.nan)[()]


def partial_correlation(a: np.ndarray, b: np.ndarray, given: np.ndarray) -> float:
    r"""Rank correlation of a and b with that of `given` (c) taken out.

    .. math:: (\rho_{ab}-\rho_{ac}\rho_{bc})/\sqrt{(1-\rho_{ac}^2)(1-\rho_{bc}^2)}

    NaN where one of the three is constant or `given` ranks as one of the others.
    """
    ab, ac, bc = rank_correlation(a, b), rank_correlation(a, given), rank_correlation(b, given)
    left = (1 - ac**2) * (1 - bc**2)
    return float((ab - ac * bc) / left**0.5) if left > 1e-12 else float("nan")


def permutation_p(pairs: Sequence[tuple[np.ndarray, np.ndarray]], draws: int = 999, seed: int = 0) -> float:
    """Two-sided p-value of the mean rank correlation over networks: images are permuted within each network.

    pairs : (a, b) of each network; networks whose b is constant say nothing and are left out. Never below 1/(draws + 1)

    >>> a = np.arange(30.0)
    >>> permutation_p([(a, a)], draws=99)
    0.01
    """
    draws = integer("draws", draws, minimum=1)
    rng = np.random.default_rng(seed)
    total = np.zeros(draws + 1)
    used = 0
    for a, b in pairs:
        x, y = (stats.rankdata(v) for v in _pair(a, b))
        if np.ptp(x) == 0 or np.ptp(y) == 0:
            continue
        x, y = (v - v.mean() for v in (x, y))
        shuffled = rng.permuted(np.broadcast_to(x, (draws, len(x))), axis=1)
        total += np.concatenate([[x @ y], shuffled @ y]) / np.sqrt((x @ x) * (y @ y))
        used += 1
    if not used:
        return float("nan")
    size = np.abs(total)
    return float((size >= size[0] * (1 - 1e-12)).sum() / (draws + 1))


def bootstrap_error(
    statistic: Callable[..., np.ndarray], columns: Sequence[np.ndarray], draws: int = 200, seed: int = 0
) -> float:
    """Standard error of a statistic of columns (n,) each: its spread over draws of n rows with replacement.

    statistic : of arrays (draws, n), returns (draws,); draws where it is NaN are left out, and NaN where half of them are

    >>> x = np.random.default_rng(0).standard_normal(400)
    >>> abs(bootstrap_error(lambda v: v.mean(axis=-1), [x]) - 0.05) < 0.01
    True
    """
    n = len(columns[0])
    rows = np.random.default_rng(seed).integers(0, n, (draws, n))
    found = statistic(*(column[rows] for column in columns))
    found = found[np.isfinite(found)]
    return float(np.std(found, ddof=1)) if len(found) > draws // 2 else float("nan")


def _pair(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a), np.asarray(b)
    if a.ndim < 1 or a.shape != b.shape or a.shape[-1] < 2:
        raise DomainError("a, b", (a.shape, b.shape), "two arrays of one shape (..., n), n >= 2")
    if np.isnan(a).any() or np.isnan(b).any():
        raise DomainError("a, b", "NaN", "numbers")
    return a, b
