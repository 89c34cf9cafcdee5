r"""When two different rows are one sample: the one definition of *near*, used wherever duplicates are left out.

A pair is near when its distance is small against the distances that are typical around **both** its rows:

    d(x, y) <= rho min(d_5(x), d_5(y)),        rho = min(near, (eps / 4n)^(1/D)),

d_5 the distance to the fifth nearest distinct row. How small must rho be? Around a sample of a locally uniform density of
dimension D the volumes (d_j/d_k)^D, j < k, are uniform order statistics, so P(d_1 <= rho d_5) <= 4 rho^D: in two
dimensions a ratio of 1/3 is ordinary, in thirty it never happens. So at most eps pairs are invented among n rows, however
small the distances are that the data really have. The fifth neighbour, not the second, so that up to four copies of one
sample do not hide one another. D is local: the maximum-likelihood dimension of the neighbours 5..20, censored below the fifth
(where duplicates would bias it), its inverse averaged over the twenty neighbours. A single global D invents pairs where
the data are a union of dimensions. With fewer than 12 distinct rows D is unknown and taken as 1, the most cautious.

Rounding: rows closer than :math:`4\epsilon|x|`, with :math:`\epsilon` that of their type, differ by the roundings of one or two
operations. Any number of them counts as one row in d_5, if that distance passes the rule above (with eps at most a hundredth of
the rows so joined): where the data themselves fill the last bits, nothing is joined.
"""

from __future__ import annotations

import numpy as np

__all__ = ["FEWEST", "NEIGHBOURS", "REFERENCE", "allowed_ratio", "in_words", "rounding", "surroundings"]

REFERENCE = 5
NEIGHBOURS = 20
FEWEST = 12
ROUNDINGS = 4  # of a cast, a scale and back: each is half a unit in the last place of every coordinate
SHARE = 0.01  # of the rows joined by rounding that may be invented


def rounding(X: np.ndarray) -> np.ndarray:
    r"""(P,) :math:`4\epsilon|x|/\sqrt N`: the distance (rms over coordinates) that rounding makes; 0 for integers."""
    if X.dtype.kind != "f":
        return np.zeros(len(X))
    eps = ROUNDINGS * float(np.finfo(X.dtype).eps)
    step = max(1, (1 << 22) // X.shape[1])
    out = np.empty(len(X))
    for i in range(0, len(X), step):
        rows = X[i : i + step].astype(np.float64)
        out[i : i + step] = eps * np.sqrt(np.einsum("ij,ij->i", rows, rows) / X.shape[1])
    return out


def surroundings(distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Local scale d_5 and inverse local dimension 1/D of rows, from distances (M, k) to their nearest distinct rows."""
    k = distance.shape[1]
    scale = distance[:, min(REFERENCE, k) - 1]
    if k + 1 < FEWEST:
        return scale, np.ones(len(distance))
    # log(d_k/d_j) D, j < k, are exponential order statistics; those of j < 5 only count as "at least that of j = 5"
    logs = np.log(distance[:, -1:] / distance[:, REFERENCE - 1 : -1])
    return scale, (logs.sum(axis=1) + (REFERENCE - 1) * logs[:, 0]) / (k - REFERENCE)


def allowed_ratio(inverse: np.ndarray, count: int, near: float, false_alarms: float | np.ndarray) -> np.ndarray:
    """rho = min(near, (false_alarms/4 count)^(1/D)) from 1/D: the largest ratio of distances that is near, among `count` rows."""
    return np.minimum(near, np.exp(inverse * np.minimum(0.0, np.log(false_alarms / ((REFERENCE - 1) * count)))))


def in_words(count: int, distinct: int, near: float, false_alarms: float, dimension: float) -> str:
    """The criterion with its numbers."""
    known = f"local (median {dimension:.3g})" if distinct >= FEWEST else f"1 (fewer than {FEWEST} distinct rows)"
    return (
        f"distance at most rho times that to the {REFERENCE}th neighbour, from both sides, "
        f"rho = min({near:g}, ({false_alarms:g}/{(REFERENCE - 1) * count})^(1/D)), D {known}; "
        "rows equal up to rounding count as one"
    )
