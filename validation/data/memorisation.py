r"""Which samples are copies of training points: the ratio of the distances to the first and to the second neighbour.

    memorised:  d_1 < threshold d_2        fraction: their share, with the exact binomial interval

Distances alone do not tell a copy from a sample of a dense region; their ratio does, and 1/3 is the threshold of the
literature on image models. What real, unseen data score is the control: a fraction is evidence only above that. A training
point that is there twice, exactly or nearly, would be its own second neighbour; of such the first alone is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from numerics.domain import DomainError, shaped
from validation.data.duplicates import find_duplicates
from validation.data.neighbours import nearest_neighbours

__all__ = ["THRESHOLD", "Memorised", "memorised_fraction"]

THRESHOLD = 1 / 3


@dataclass(frozen=True, eq=False)
class Memorised:
    """What `memorised_fraction` found.

    fraction : share of samples with ratio below the threshold; low, high : its exact (Clopper-Pearson) 95 % interval
    ratio : (S,) d_1/d_2, 0 for an exact copy; index : (S,) row of the nearest training point; threshold : number
    left_out : training points that are others again, exactly or nearly
    """

    fraction: float
    low: float
    high: float
    ratio: np.ndarray
    index: np.ndarray
    threshold: float
    left_out: int = 0

    @property
    def samples(self) -> int:
        return len(self.ratio)

    @property
    def count(self) -> int:
        """How many samples are copies."""
        return int((self.ratio < self.threshold).sum())

    @property
    def error(self) -> float:
        r"""Binomial error :math:`\sqrt{p(1-p)/S}` with p = (count + 1)/(S + 2), so that 0 and S of S have one too."""
        p = (self.count + 1) / (self.samples + 2)
        return float(np.sqrt(p * (1 - p) / self.samples))


def memorised_fraction(
    samples: Any, X: Any, *, threshold: float = THRESHOLD, device: str = "cpu", tile: int | None = None
) -> Memorised:
    r"""Share of samples that lie much closer to one training point than to any other.

    .. math:: \frac1S\sum_s1\left[\frac{d_1(s)}{d_2(s)}<\text{threshold}\right]

    Parameters
    ----------
    samples : (S, N), S >= 1; X : (P, N), P >= 2, the training set; finite reals in the same units
    threshold : number in (0, 1]; a ratio equal to it does not count
    device, tile : of `nearest_neighbours`

    Returns
    -------
    Memorised

    Raises
    ------
    DomainError : wrong shapes, non-finite numbers, threshold outside its domain

    The failure that looks normal: more than four versions of one training point that differ by more than rounding are not
    known as such (`find_duplicates`): a sample near them has d_1 = d_2 and is not counted.

    >>> found = memorised_fraction([[0.1, 0.0], [0.5, 0.0]], [[0.0, 0.0], [1.0, 0.0]])
    >>> found.fraction, found.index.tolist(), found.ratio.round(3).tolist()
    (0.5, [0, 0], [0.111, 1.0])
    """
    if not (isinstance(threshold, (int, float, np.number)) and 0 < threshold <= 1):
        raise DomainError("threshold", threshold, "a number in (0, 1]")
    X, samples = _rows("X", X, 2), _rows("samples", samples, 1)
    kept = np.flatnonzero(find_duplicates(X, device=device, tile=tile).keep)
    if len(kept) < 2:
        raise DomainError("X", f"{len(X)} rows that are all one point", "at least 2 different training points")
    near = nearest_neighbours(X[kept], 2, queries=samples, device=device, tile=tile)
    first, second = np.sqrt(near.squared_distance).T
    ratio = np.divide(first, second, out=np.zeros_like(first), where=first > 0)
    interval = stats.binomtest(int((ratio < threshold).sum()), len(ratio)).proportion_ci(0.95, method="exact")
    fraction = float((ratio < threshold).mean())
    return Memorised(
        fraction=fraction,
        low=float(interval.low),
        high=float(interval.high),
        ratio=ratio,
        index=kept[near.index[:, 0]],
        threshold=float(threshold),
        left_out=len(X) - len(kept),
    )


def _rows(name: str, values: Any, least: int) -> np.ndarray:
    array = shaped(name, values)
    if array.ndim != 2 or len(array) < least or array.shape[1] < 1 or array.dtype.kind not in "buif":
        raise DomainError(name, f"an array of shape {array.shape} and dtype {array.dtype}", f"(>= {least}, N) reals")
    return array
