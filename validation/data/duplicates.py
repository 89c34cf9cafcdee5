"""Exact duplicates and near-duplicates of a data set, by a criterion whose false alarms are counted beforehand.

Exact duplicates are rows with equal values (by hash). A pair of distinct rows is a near-duplicate when its distance is
at most rho times the distance from *either* row to its fifth nearest neighbour, the local scale of the data.

How small must rho be? Around a sample of a locally uniform density of dimension D the volumes (d_j/d_k)^D, j < k, are
uniform order statistics, so P(d_1 <= rho d_5) <= 4 rho^D: in two dimensions a ratio of 1/3 is ordinary, in thirty it
never happens. So rho = (eps / 4P)^(1/D), which leaves at most eps invented pairs a data set, and never exceeds `near`.
The fifth neighbour, not the second, so that up to four copies of one sample do not hide one another. D is local: the
maximum-likelihood dimension of the neighbours 5..20, censored below the fifth (where duplicates would bias it), its
inverse averaged over the twenty neighbours. A single global D invents pairs where the data are a union of dimensions.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from numerics.domain import DomainError, positive
from validation.data.neighbours import _matrix, nearest_neighbours

__all__ = ["Duplicates", "find_duplicates", "first_equal_row"]

REFERENCE = 5
NEIGHBOURS = 20
FEWEST = 12


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

        near pair (x, y):  d(x, y) <= rho d_5(x)  and  d(x, y) <= rho d_5(y),
        rho = min(near, (false_alarms / 4P)^(1/D))

    Parameters
    ----------
    X : (P, N) finite reals, P >= 2, e.g. `Dataset.X`
    near : 0 < near <= 1: the largest ratio of distances that may count as a near-duplicate
    false_alarms : > 0: near pairs expected to be invented in the whole data set, were it locally uniform
    device : torch device of the matrix products
    tile : rows of a tile, see `nearest_neighbours`

    Returns
    -------
    Duplicates. With fewer than 12 distinct rows the local dimension is unknown and no pair is called near.

    Raises
    ------
    DomainError : wrong shape, non-finite numbers, an option outside its domain

    The failure that looks normal: copies shifted by a pixel, mirrored or recoloured are far apart in this distance and
    are not found; nor are more than four near-copies of one sample (frames of a film), which are each other's scale.
    Coordinates with very heavy tails (Student, 1.5 degrees of freedom) are not locally uniform: there about 0.2 pairs
    a data set were invented at the default.

    Source: [ours: validation/data/duplicates.py], on the order statistics of nearest-neighbour distances of Facco et al.,
    Sci. Rep. 7, 12140 (2017) and Levina and Bickel, NeurIPS 2004.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).standard_normal((100, 20))
    >>> X[7], X[9] = X[3], X[4] + 0.01
    >>> print(find_duplicates(X).report())
    1 exact duplicates, e.g. rows 3 and 7; 1 near-duplicate pairs, e.g. rows 4 and 9
    """
    X = _matrix("X", X)
    near = float(positive("near", near))
    if near > 1:
        raise DomainError("near", near, "in (0, 1]")
    eps = float(positive("false_alarms", false_alarms))

    first = first_equal_row(X)
    distinct = np.flatnonzero(first == np.arange(len(X)))
    copies = np.flatnonzero(first != np.arange(len(X)))
    exact_pairs = np.stack([first[copies], copies], axis=1)
    count = len(distinct)
    nearest, neighbour = np.zeros(len(X)), np.empty(len(X), dtype=np.int64)
    pairs, ratio, dimension, variance = np.empty((0, 2), dtype=np.int64), np.empty(0), np.nan, 0.0
    criterion = f"none: fewer than {FEWEST} distinct rows"
    if count > 1:
        rows = X if count == len(X) else X[distinct]
        found = nearest_neighbours(rows, min(NEIGHBOURS, count - 1), device=device, tile=tile)
        variance = found.variance
        nearest[distinct], neighbour[distinct] = found.squared_distance[:, 0], distinct[found.index[:, 0]]
        if count >= FEWEST:
            pairs, ratio, dimension = _near_pairs(found.squared_distance, found.index, near, eps)
            pairs = distinct[pairs]
            criterion = (
                f"distance at most rho times that to the {REFERENCE}th neighbour, from both sides, "
                f"rho = min({near:g}, ({eps:g}/{(REFERENCE - 1) * count})^(1/D)), D local (median {dimension:.3g})"
            )
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


def first_equal_row(X: np.ndarray) -> np.ndarray:
    """(P,) the first row with the same values; 128-bit hashes, -0.0 taken as 0.0."""
    seen: dict[bytes, int] = {}
    first = np.empty(len(X), dtype=np.int64)
    for i, row in enumerate(X):
        first[i] = seen.setdefault(hashlib.blake2b((row + row.dtype.type(0)).tobytes(), digest_size=16).digest(), i)
    return first


def _near_pairs(squared: np.ndarray, index: np.ndarray, near: float, eps: float):
    """Pairs, their ratios, and the median local dimension, from the k nearest of P distinct rows."""
    count, k = squared.shape
    distance = np.sqrt(np.maximum(squared, np.finfo(float).tiny))
    scale = distance[:, REFERENCE - 1]
    # log(d_k/d_j) D, j < k, are exponential order statistics; those of j < 5 only count as "at least that of j = 5"
    logs = np.log(distance[:, -1:] / distance[:, REFERENCE - 1 : -1])
    inverse = (logs.sum(axis=1) + (REFERENCE - 1) * logs[:, 0]) / (k - REFERENCE)
    inverse = (inverse + inverse[index].sum(axis=1)) / (k + 1)
    rho = np.minimum(near, np.exp(-inverse * np.log((REFERENCE - 1) * count / eps)))

    i = np.repeat(np.arange(count), REFERENCE - 1)
    j, d = index[:, : REFERENCE - 1].ravel(), distance[:, : REFERENCE - 1].ravel()
    close = (d <= rho[i] * scale[i]) & (d <= rho[j] * scale[j])
    i, j, d = i[close], j[close], d[close]
    pairs, place = np.unique(np.sort(np.stack([i, j], axis=1), axis=1), axis=0, return_index=True)
    ratio = d[place] / np.minimum(scale[i[place]], scale[j[place]])
    order = np.argsort(ratio, kind="stable")
    with np.errstate(divide="ignore"):  # ties everywhere (discrete data): an infinite dimension
        return pairs[order], ratio[order], float(np.median(1 / inverse))
