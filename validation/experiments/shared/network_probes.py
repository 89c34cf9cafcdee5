r"""Where a trained network departs from the empirical and from the population score: per subspace, per noise level, per step.

    A_k(t) = t E|(s - s_emp)_k|^2/d_k  at noised training points,     B_k(t) = t E|(s - s_pop)_k|^2/d_k  at noised fresh points

In units of the noise, 1 for a direction whose denoising is all wrong at small t. By the law of total variance the
network's excess denoising loss over the least on its training set is sum_k d_k A_k/N exactly, and that over the
population's on fresh points is sum_k d_k B_k/N: the departure is the excess loss, resolved by subspace.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats

from numerics.domain import positive
from validation.score import EmpiricalScore
from validation.simulation import SIGMAS, generator
from validation.spectra import Empirical, as_score, block_means

__all__ = ["Departures", "distance", "replica_error"]


def distance(values: torch.Tensor, reference: torch.Tensor, t: float, blocks: Sequence[slice]) -> np.ndarray:
    """t times the mean squared difference of two scores (B, N) per direction of each subspace, (K,).

    >>> distance(torch.ones(2, 3), torch.zeros(2, 3), 0.5, [slice(0, 1), slice(1, 3)]).tolist()
    [0.5, 0.5]
    """
    return block_means((t * (values - reference).square()).mean(dim=0).cpu().numpy(), blocks)


class Departures:
    """The two distances of the module for any number of scores, on common points: references are evaluated once.

    Parameters
    ----------
    X : (P, N) training set; fresh : (F, N) points it has not seen; exact : the population's score, or None
    t : (T,) noise variances; blocks : subspaces; points : at most so many of each; seed : of the noise
    """

    def __init__(
        self,
        X: torch.Tensor,
        fresh: torch.Tensor,
        exact: Any,
        t: Any,
        blocks: Sequence[slice],
        *,
        points: int = 256,
        seed: Sequence[int] = (0,),
    ):
        self.t, self.blocks = np.atleast_1d(positive("t", t)), blocks
        rows = torch.arange(max(points, len(X)), device=X.device)[:points] % len(X)
        references = (Empirical(EmpiricalScore(X, device=X.device, dtype="float64")), exact)
        self._places = []
        for i, (clean, reference) in enumerate(zip((X[rows], fresh[:points]), references, strict=True)):
            if reference is None:
                continue
            clean = clean.double()
            noise = generator(X.shape[1], (*seed, i), X.device).rows(len(clean))
            queries = [clean + math.sqrt(level) * noise for level in map(float, self.t)]
            known = [as_score(reference).score(x, level) for x, level in zip(queries, map(float, self.t), strict=True)]
            self._places.append((queries, known))

    def of(self, score: Any) -> np.ndarray:
        """(2, T, K): distance from the empirical and, where it is known, from the population's score (else (1, T, K))."""
        face = as_score(score)
        return np.array(
            [
                [
                    distance(face.score(x, level), known, level, self.blocks)
                    for x, known, level in zip(queries, references, map(float, self.t), strict=True)
                ]
                for queries, references in self._places
            ]
        )


def replica_error(values: np.ndarray) -> float:
    """Standard error of a mean of few replicas, widened so that 3 of it are exceeded as rarely as 3 Gaussian errors are.

    Student's t with R - 1 degrees of freedom: a factor 6.4 for three replicas, 3.1 for four; NaN for one.

    >>> round(replica_error(np.array([1.0, 2.0, 3.0])) / math.sqrt(1 / 3), 1)
    6.4
    """
    R = len(values)
    if R < 2:
        return math.nan
    widened = stats.t.isf(stats.norm.sf(SIGMAS), R - 1) / SIGMAS
    return float(widened * values.std(ddof=1) / math.sqrt(R))
