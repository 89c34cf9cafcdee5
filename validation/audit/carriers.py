"""Rows that carry the covariance: points so far out that spectrum, theory and twin are about them alone.

Such a row is `FAR` times as far from the centre (squared) as the rows nearer than it are on average, farther than the farthest
of P Gaussian points would be in one data set of a thousand, and has a `SHARE` of all squared distances up to its own. Gaussian
points of one direction have the widest law of squared distances: their ratio follows Snedecor's F with 1 and P - 2 degrees of
freedom, which serves here for any number of directions. Several such rows do not hide one another: the nearest is tried first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import f as snedecor

__all__ = ["Carriers", "find_carriers"]

FAR = 25.0
SHARE = 0.05
FALSE_ALARM = 3e-4
CANDIDATES = 0.05  # of all rows are left out of the centre that distances are measured from
FEW = 0.02  # of all rows, at most MOST and at least one, may be left out as outliers; more than that are a heavy tail
MOST = 10
BLOCK = 1 << 22  # numbers converted at a time


@dataclass(frozen=True)
class Carriers:
    """Rows, the farthest first; the share of all squared distances from the centre that each has; whether they are few."""

    rows: tuple[int, ...] = ()
    share: tuple[float, ...] = ()
    few: bool = True

    def __len__(self) -> int:
        return len(self.rows)


def find_carriers(X: np.ndarray) -> Carriers:
    """Rows of X (P, N), finite, that carry its covariance; at most a twentieth of the rows, and never all but 3.

    >>> X = np.random.default_rng(0).standard_normal((600, 10))
    >>> len(find_carriers(X))
    0
    >>> X[17] *= 1e8
    >>> find_carriers(X).rows
    (17,)
    """
    P = len(X)
    most = min(max(2, int(CANDIDATES * P)), P - 4)
    if most < 1:
        return Carriers()
    first = _squared_distances(X, np.ones(P, dtype=bool))
    if not first.max() > min(FAR, P) / 4 * np.median(first):  # a row far out takes the mean 1/P of its way with it
        return Carriers()
    candidate = np.zeros(P, dtype=bool)
    candidate[np.argsort(-first, kind="stable")[:most]] = True
    far = _squared_distances(X, ~candidate)
    order = np.argsort(-far, kind="stable")
    up_to = np.cumsum(far[order][::-1])[::-1]  # of this row and all that are nearer
    for count in range(most, 0, -1):
        own, nearer = far[order[count - 1]], P - count
        limit = max(FAR, float(snedecor.isf(FALSE_ALARM / P, 1, nearer - 1))) * (up_to[count - 1] - own) / nearer
        if own > limit and own > SHARE * up_to[count - 1] and _differ(X, order[:count]):
            rows = order[:count]
            share = far[rows] / up_to[0]
            return Carriers(tuple(rows.tolist()), tuple(share.tolist()), count <= max(1, min(MOST, int(FEW * P))))
    return Carriers()


def _blocks(X: np.ndarray) -> Iterator[slice]:
    step = max(1, BLOCK // max(1, X.shape[1]))
    for start in range(0, len(X), step):
        yield slice(start, min(start + step, len(X)))


def _squared_distances(X: np.ndarray, body: np.ndarray) -> np.ndarray:
    """(P,) squared distances from the mean of the rows in `body`, in units that keep them finite."""
    unit = max(float(np.abs(X[part]).max()) for part in _blocks(X)) or 1.0
    mean = np.zeros(X.shape[1])
    for part in _blocks(X):
        mean += (X[part][body[part]].astype(np.float64) / unit).sum(axis=0)
    mean /= body.sum()
    return np.concatenate([np.square(X[part].astype(np.float64) / unit - mean).sum(axis=1) for part in _blocks(X)])


def _differ(X: np.ndarray, rows: np.ndarray) -> bool:
    """Whether the other rows are not one and the same point: without a variance there is nothing to show."""
    kept = np.delete(np.arange(len(X)), rows)
    return any((X[kept[i : i + 1000]] != X[kept[0]]).any() for i in range(0, len(kept), 1000))
