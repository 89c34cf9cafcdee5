"""Points that are rows of another set: held-out points, fresh points or samples that the training set has too, exactly or nearly.

Such points are at distance 0 from what they are to be compared with. A few of them pull every mean over held-out points
(the nearest distance, t_g, the samples needed) towards that of a training point, so they are left out and counted.
*Near* is that of `validation.data.nearness`, with the distances around the point and around the row, both among rows of the set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from numerics.domain import DomainError
from validation.data.duplicates import _distance, _options, find_duplicates, first_equal_row
from validation.data.nearness import NEIGHBOURS, REFERENCE, SHARE, allowed_ratio, rounding, surroundings
from validation.data.neighbours import _matrix, nearest_neighbours

__all__ = ["Copies", "find_copies"]


@dataclass(frozen=True, eq=False)
class Copies:
    """Which of Q points are rows of a set.

    exact : (Q,) mask, points equal to a row; near : (Q,) mask, other points near one
    row : (Q,) that row, -1 for points that are neither
    """

    exact: np.ndarray
    near: np.ndarray
    row: np.ndarray

    @classmethod
    def none(cls, count: int) -> Copies:
        """Of points that are known to be fresh."""
        no = np.zeros(count, dtype=bool)
        return cls(no, no, np.full(count, -1))

    @classmethod
    def joined(cls, parts: list[Copies]) -> Copies:
        """Of one block of points after another."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("exact", "near", "row")))

    @property
    def keep(self) -> np.ndarray:
        """(Q,) mask of the points that are neither."""
        return ~(self.exact | self.near)

    @property
    def count(self) -> int:
        return int((~self.keep).sum())

    def counts(self) -> dict[str, int]:
        """Numbers for a file: points looked at, exact and near copies among them."""
        return {
            "held_out_looked_at": len(self.row),
            "held_out_exact_copies": int(self.exact.sum()),
            "held_out_near_copies": int(self.near.sum()),
        }

    def report(self, points: str = "held-out points") -> str:
        """One clause: how many, of how many.

        >>> print(find_copies(np.eye(3)[:1], np.eye(3)).report())
        1 of 1 held-out points left out because the training set has them (1 exactly, 0 nearly)
        """
        exact, near = int(self.exact.sum()), int(self.near.sum())
        return (
            f"{exact + near:,} of {len(self.row):,} {points} left out because the training set has them "
            f"({exact:,} exactly, {near:,} nearly)"
        )


def find_copies(
    points: np.ndarray,
    X: np.ndarray,
    *,
    near: float = 0.5,
    false_alarms: float = 0.01,
    device: str = "cpu",
    tile: int | None = None,
) -> Copies:
    """Which points are rows of X, exactly or nearly.

        near (x in points, y in X):  d(x, y) <= rho min(d_5(x), d_5(y)),   rho = min(near, (false_alarms / 4Q)^(1/D))

    Parameters
    ----------
    points : (Q, N), Q >= 0; X : (P, N), P >= 2, finite reals in the same units, e.g. held-out points and the training set
    near, false_alarms, device, tile : as in `find_duplicates`; false_alarms is that among these Q points

    Returns
    -------
    Copies. Distances d_5 are to rows of X, copies inside X left out.

    Raises
    ------
    DomainError : wrong shapes, non-finite numbers, an option outside its domain

    The failure that looks normal: that of `find_duplicates`. In data of few values (a handful of bits) fresh points equal
    training points by chance; they too are left out, and their number says so.

    >>> rng = np.random.default_rng(0)
    >>> X, points = rng.standard_normal((100, 20)), rng.standard_normal((30, 20))
    >>> points[3], points[9] = X[7], X[8] + 0.01
    >>> found = find_copies(points, X)
    >>> np.flatnonzero(found.exact).tolist(), np.flatnonzero(found.near).tolist(), found.row[[3, 9]].tolist()
    ([3], [9], [7, 8])
    """
    X, points = _matrix("X", X), _matrix("points", points, rows=0)
    near, eps = _options(near, false_alarms)
    if points.shape[1] != X.shape[1]:
        raise DomainError("points", f"an array of shape {points.shape}", f"(Q, {X.shape[1]}), with the columns of X")
    if not len(points):
        return Copies.none(0)
    if points.dtype != X.dtype:  # hashes compare bytes
        X, points = (a.astype(np.float64) for a in (X, points))
    first = first_equal_row(X, points)
    own, theirs = first[: len(X)], first[len(X) :]
    exact, row = theirs < len(X), np.where(theirs < len(X), theirs, -1)
    is_near = np.zeros(len(points), dtype=bool)
    distinct, rest = np.unique(own), np.flatnonzero(~exact)
    if len(distinct) > 1 and len(rest):
        rows = X if len(distinct) == len(X) else X[distinct]
        found = _near_rows(points[rest], rows, near, eps, device, tile)
        is_near[rest] = found >= 0
        row[rest[found >= 0]] = distinct[found[found >= 0]]
    return Copies(exact, is_near, row)


def _near_rows(points: np.ndarray, rows: np.ndarray, near: float, eps: float, device: str, tile: int | None):
    """(Q,) the row of distinct `rows` that each point is near to, or -1; no point equals a row."""
    k = min(NEIGHBOURS, len(rows) - 1)
    seen = nearest_neighbours(rows, k, queries=points, device=device, tile=tile)
    distance, index = _distance(seen.squared_distance), seen.index
    limit = rounding(points)
    if _crowded(rows, distance, index, limit):  # many rows equal up to rounding hide what is near to them
        kept = np.flatnonzero(find_duplicates(rows, near=near, false_alarms=eps, device=device, tile=tile).keep)
        if 1 < len(kept) < len(rows):
            found = _near_rows(points, rows[kept], near, eps, device, tile)
            return np.where(found >= 0, kept[found], -1)
    scale, inverse = surroundings(distance)
    found = np.full(len(points), -1)
    close = np.flatnonzero(distance[:, 0] <= near * scale)
    if not len(close):
        return found
    around, place = np.unique(index[close], return_inverse=True)
    place = place.reshape(len(close), k)
    theirs = nearest_neighbours(rows, k + 1, queries=rows[around], device=device, tile=tile)
    other = theirs.index != around[:, None]  # a row is its own nearest
    other[other.all(axis=1), -1] = False
    row_scale, row_inverse = surroundings(_distance(theirs.squared_distance)[other].reshape(-1, k))
    mean = (inverse[close] + row_inverse[place].sum(axis=1)) / (k + 1)
    d = distance[close, 0]
    least = np.minimum(scale[close], row_scale[place[:, 0]])
    within = d <= limit[close]
    share = np.where(within, max(eps, SHARE * within.sum()), eps)
    hit = d <= allowed_ratio(mean, len(points), near, share) * least
    found[close[hit]] = index[close[hit], 0]
    return found


def _crowded(rows: np.ndarray, distance: np.ndarray, index: np.ndarray, limit: np.ndarray) -> bool:
    """Whether some point's first five rows hold two that are equal up to rounding."""
    last = min(REFERENCE, distance.shape[1]) - 1
    tight = np.flatnonzero(distance[:, last] - distance[:, 0] <= 2 * limit)
    for i in tight:
        five = rows[index[i, : last + 1]].astype(np.float64)
        between = np.sqrt(np.square(five[1:] - five[:1]).mean(axis=1))
        if (between <= limit[i]).any():
            return True
    return False
