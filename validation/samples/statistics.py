r"""Published numbers for a whole set of samples: the data-copying statistic C_T and authenticity, each beside its null.

**C_T** (Meehan, Chaudhuri, Dasgupta, AISTATS 2020): space is cut into cells (k-means of the training set). In each, with U the
number of pairs (sample, held-out point) of which the sample is farther from the training set, out of m n,

.. math:: Z=\frac{U-mn/2}{\sqrt{mn(m+n+1)/12}},\qquad C_T=\frac{\sum n\,Z}{\sum n},

summed over cells with enough of both. Far below 0: samples are nearer to the training set than held-out points; above 0: farther.

**Authenticity** (Alaa et al., ICML 2022): the share of samples that are farther from their nearest training point than that one
is from its own nearest other training point.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
from scipy.stats import rankdata

from validation.samples.calibration import Fraction

__all__ = ["authenticity", "copying_statistic"]

LEAST = 20  # samples and held-out points of a cell that counts
BLOCK = 8192  # samples whose cells are found at once
FITTED = 20_000  # training points that the cells are fitted to


def copying_statistic(
    samples: np.ndarray,
    held_out: np.ndarray,
    distances: tuple[np.ndarray, np.ndarray],
    train: np.ndarray,
    *,
    seed: int = 0,
) -> tuple[float, int]:
    """(C_T, cells used), over cells with 20 of each (or all there are, of smaller sets); NaN where there is none.

    distances : to the training set, of the samples and of the held-out points
    """
    from sklearn.cluster import KMeans

    if min(len(samples), len(held_out)) < 2:
        return math.nan, 0
    count = int(max(1, min(10, len(held_out) // (3 * LEAST), len(samples) // (3 * LEAST), len(train) // 2)))
    rng = np.random.default_rng(seed)
    rows = train if len(train) <= FITTED else train[np.sort(rng.choice(len(train), FITTED, replace=False))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct rows than cells
        cells = KMeans(count, n_init=1, random_state=seed, max_iter=50).fit(np.asarray(rows, dtype=np.float32))
    mine, theirs = (
        np.concatenate(
            [cells.predict(np.asarray(rows[a : a + BLOCK], dtype=np.float32)) for a in range(0, len(rows), BLOCK)]
        )
        for rows in (samples, held_out)
    )
    total = weight = used = 0
    for cell in range(count):
        near, fresh = distances[0][mine == cell], distances[1][theirs == cell]
        m, n = len(near), len(fresh)
        if min(m, n) < min(LEAST, len(samples), len(held_out)):
            continue
        ranks = rankdata(np.concatenate([near, fresh]))
        U = ranks[:m].sum() - m * (m + 1) / 2
        total += n * (U - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12)
        weight += n
        used += 1
    return (float(total / weight), used) if weight else (math.nan, 0)


def authenticity(distance: np.ndarray, nearest: np.ndarray, around: np.ndarray) -> Fraction:
    """Share of samples at `distance` (S,) of `nearest` (S,), farther than that training point's own neighbour, `around` (P,)."""
    return Fraction(int((distance > around[nearest]).sum()), len(distance))
