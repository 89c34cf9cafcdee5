"""Exact duplicates and near-duplicates inside a data set.

Exact duplicates are rows with equal values (by hash). Near-duplicates are pairs of distinct rows whose distance is small
against those around both: `validation.data.nearness` defines it, with the false alarms counted beforehand.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from numerics.domain import DomainError, positive
from validation.data.nearness import (
    FEWEST,
    NEIGHBOURS,
    REFERENCE,
    SHARE,
    allowed_ratio,
    in_words,
    rounding,
    surroundings,
)
from validation.data.neighbours import Neighbours, _matrix, nearest_neighbours

__all__ = ["Duplicates", "find_duplicates", "first_equal_row"]


@dataclass(frozen=True, eq=False)
class Duplicates:
    """What `find_duplicates` found; row numbers are those of the data it was given.

    exact : rows equal to an earlier row
    exact_pairs : (exact, 2) the first row of that value, then its copy
    near : pairs of distinct rows that are near-duplicates
    near_pairs : (near, 2) row numbers, ascending in a pair; closest (relative to their surroundings) first
    near_ratio : (near,) their distance over the smaller of the two local scales
    nearest : (P,) squared distance per dimension to the nearest other row; 0 for a row with an exact copy
    neighbour : (P,) that row
    dimension : median local intrinsic dimension, NaN where there are too few rows to tell
    variance : mean variance of a coordinate, the unit to compare `nearest` with
    criterion : the criterion used, in words with its numbers
    """

    exact: int
    exact_pairs: np.ndarray
    near: int
    near_pairs: np.ndarray
    near_ratio: np.ndarray
    nearest: np.ndarray
    neighbour: np.ndarray
    dimension: float
    variance: float
    criterion: str

    @property
    def keep(self) -> np.ndarray:
        """(P,) mask that drops the later row of every exact and near pair."""
        keep = np.ones(len(self.nearest), dtype=bool)
        keep[self.exact_pairs[:, 1]] = keep[self.near_pairs[:, 1]] = False
        return keep

    def report(self) -> str:
        """One line: the counts, with an example of each kind."""
        lines = []
        for count, kind, pairs in (
            (self.exact, "exact duplicates", self.exact_pairs),
            (self.near, "near-duplicate pairs", self.near_pairs),
        ):
            lines.append(f"{count} {kind}" + (f", e.g. rows {pairs[0, 0]} and {pairs[0, 1]}" if count else ""))
        return "; ".join(lines)


def find_duplicates(
    X: np.ndarray,
    *,
    near: float = 0.5,
    false_alarms: float = 0.01,
    device: str = "cpu",
    tile: int | None = None,
) -> Duplicates:
    """Exact duplicates and near-duplicates among the rows of X, and every row's nearest neighbour.

        near pair (x, y):  d(x, y) <= rho min(d_5(x), d_5(y)),   rho = min(near, (false_alarms / 4P)^(1/D))

    Rows that are equal up to rounding count as one in d_5; each makes a near pair with the first of them.

    Parameters
    ----------
    X : (P, N) finite reals, P >= 2, e.g. `Dataset.X`
    near : 0 < near <= 1: the largest ratio of distances that may count as a near-duplicate
    false_alarms : > 0: near pairs expected to be invented in the whole data set, were it locally uniform
    device : torch device of the matrix products
    tile : rows of a tile, see `nearest_neighbours`

    Returns
    -------
    Duplicates. With fewer than 12 distinct rows the local dimension is unknown and taken as 1.

    Raises
    ------
    DomainError : wrong shape, non-finite numbers, an option outside its domain

    The failure that looks normal: copies shifted by a pixel, mirrored or recoloured are far apart in this distance and
    are not found; nor are more than four near-copies of one sample (frames of a film) that differ by more than rounding:
    they are each other's scale.
    Coordinates with very heavy tails (Student, 1.5 degrees of freedom) are not locally uniform: there about 0.2 pairs
    a data set were invented at the default.

    Source: [ours: validation/data/nearness.py], on the order statistics of nearest-neighbour distances of Facco et al.,
    Sci. Rep. 7, 12140 (2017) and Levina and Bickel, NeurIPS 2004.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).standard_normal((100, 20))
    >>> X[7], X[9] = X[3], X[4] + 0.01
    >>> print(find_duplicates(X).report())
    1 exact duplicates, e.g. rows 3 and 7; 1 near-duplicate pairs, e.g. rows 4 and 9
    """
    X = _matrix("X", X)
    near, eps = _options(near, false_alarms)
    first = first_equal_row(X)
    distinct = np.flatnonzero(first == np.arange(len(X)))
    copies = np.flatnonzero(first != np.arange(len(X)))
    exact_pairs = np.stack([first[copies], copies], axis=1)
    count = len(distinct)
    nearest, neighbour = np.zeros(len(X)), np.empty(len(X), dtype=np.int64)
    pairs, ratio, dimension, variance = np.empty((0, 2), dtype=np.int64), np.empty(0), np.nan, 0.0
    one = count
    if count > 1:
        rows = X if count == len(X) else X[distinct]
        found = nearest_neighbours(rows, min(NEIGHBOURS, count - 1), device=device, tile=tile)
        variance = found.variance
        nearest[distinct], neighbour[distinct] = found.squared_distance[:, 0], distinct[found.index[:, 0]]
        pairs, ratio, dimension, one = _near_pairs(rows, found, near, eps, device, tile)
        pairs = distinct[pairs]
    criterion = in_words(count, one, near, eps, dimension)
    nearest[first[copies]] = nearest[copies] = 0.0
    neighbour[copies], neighbour[first[copies]] = first[copies], copies
    return Duplicates(
        exact=len(copies),
        exact_pairs=exact_pairs,
        near=len(pairs),
        near_pairs=pairs,
        near_ratio=ratio,
        nearest=nearest,
        neighbour=neighbour,
        dimension=dimension,
        variance=variance,
        criterion=criterion,
    )


def first_equal_row(*parts: np.ndarray) -> np.ndarray:
    """(P,) the first row with the same values, over all rows of the parts, of one type; 128-bit hashes, -0.0 taken as 0.0."""
    seen: dict[bytes, int] = {}
    first = np.empty(sum(map(len, parts)), dtype=np.int64)
    for i, row in enumerate(row for part in parts for row in part):
        first[i] = seen.setdefault(hashlib.blake2b((row + row.dtype.type(0)).tobytes(), digest_size=16).digest(), i)
    return first


def _options(near: float, false_alarms: float) -> tuple[float, float]:
    near = float(positive("near", near))
    if near > 1:
        raise DomainError("near", near, "in (0, 1]")
    return near, float(positive("false_alarms", false_alarms))


def _distance(squared: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(squared, np.finfo(float).tiny))


def _near_pairs(rows: np.ndarray, found: Neighbours, near: float, eps: float, device: str, tile: int | None):
    """Pairs of P distinct rows, their ratios, the median local dimension, and how many rows are not equal up to rounding."""
    apart = np.zeros(len(rows), dtype=bool)
    while True:
        first, group, seen = _joined(rows, found, apart, device, tile)
        joined = np.flatnonzero(first[group] != np.arange(len(rows)))
        distance = _distance(seen.squared_distance)
        scale, inverse = surroundings(distance)
        inverse = (inverse + inverse[seen.index].sum(axis=1)) / (distance.shape[1] + 1)
        with_first = _pair_distance(rows, first[group[joined]], joined)
        rho = allowed_ratio(inverse, len(rows), near, max(eps, SHARE * len(joined)))
        far = with_first > (rho * scale)[group[joined]]
        if not far.any():
            break
        apart |= np.isin(group, group[joined[far]])  # these fill the last bits of their numbers: no copies

    i, j, d, rho = *_close(distance, seen.index), allowed_ratio(inverse, len(rows), near, eps)
    close = d <= np.minimum(rho[i] * scale[i], rho[j] * scale[j])
    i, j, d = i[close], j[close], d[close]
    pairs, place = np.unique(np.sort(np.stack([i, j], axis=1), axis=1), axis=0, return_index=True)
    ratio = d[place] / np.minimum(scale[i[place]], scale[j[place]])
    pairs = np.concatenate([np.sort(first[pairs], axis=1), np.stack([first[group[joined]], joined], axis=1)])
    ratio = np.concatenate([ratio, with_first / scale[group[joined]]])
    order = np.argsort(ratio, kind="stable")
    with np.errstate(divide="ignore"):  # ties everywhere (discrete data): an infinite dimension
        dimension = float(np.median(1 / inverse)) if len(first) >= FEWEST else np.nan
    return pairs[order], ratio[order], dimension, len(first)


def _joined(rows: np.ndarray, found: Neighbours, apart: np.ndarray, device: str, tile: int | None):
    """Rows equal up to rounding as groups, but for those `apart`: the first row of each, the group of every row, and the
    neighbours of the first rows among themselves."""
    count, limit = len(rows), np.where(apart, -1.0, rounding(rows))
    group, first, seen = np.arange(count), np.arange(count), found
    while True:  # a group larger than the neighbours that are known takes several rounds
        i, k = np.nonzero(np.sqrt(seen.squared_distance) <= limit[first][:, None])
        if not len(i):
            return first, group, seen
        graph = coo_array((np.ones(len(i)), (i, seen.index[i, k])), shape=(len(first), len(first)))
        label = connected_components(graph, directed=False)[1].astype(np.int64)
        where = np.unique(label, return_index=True)[1]
        if len(where) < 2:  # nothing would be left to compare with
            return np.arange(count), np.arange(count), found
        rank = np.argsort(np.argsort(where))  # groups in the order of their first rows
        first, group = first[np.sort(where)], rank[label][group]
        seen = nearest_neighbours(rows[first], min(NEIGHBOURS, len(first) - 1), device=device, tile=tile)


def _close(distance: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, neighbour and distance of all neighbours before the fifth."""
    few = min(REFERENCE - 1, distance.shape[1])
    return np.repeat(np.arange(len(index)), few), index[:, :few].ravel(), distance[:, :few].ravel()


def _pair_distance(rows: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    step = max(1, (1 << 22) // rows.shape[1])
    parts = [rows[a[s : s + step]].astype(np.float64) - rows[b[s : s + step]] for s in range(0, len(a), step)]
    return np.concatenate([np.sqrt(np.einsum("ij,ij->i", p, p) / rows.shape[1]) for p in parts] or [np.empty(0)])
