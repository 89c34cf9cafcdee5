r"""What a score's spectrum shows, for any score: Jacobian eigenvalues, frame singular values, posterior variances.

All in units of 1/t, so that a direction of pure noise has the value 1 and one fully inside the data 0:

    eigenvalues -t lambda of J;   singular values of sqrt(t) [s(x + sqrt(t) e_i)]_i on an orthonormal frame [AVSP24];
    v_k/t, v_k = mean over the directions of subspace k of t + t^2 J_ii, the posterior variance.

Errors are between replicas (independent training sets): points that share a training set are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from numerics.domain import DomainError, finite, integer, positive
from validation.spectra.score_functions import Empirical, ScoreFunction, as_score

__all__ = [
    "Average",
    "Spectra",
    "block_means",
    "blocks_of",
    "frame_columns",
    "frame_spectrum",
    "jacobian_spectrum",
    "measure_spectra",
    "posterior_variance",
]

_TOGETHER = 1 << 21  # numbers of displaced points that a score is asked for at once


@dataclass(frozen=True, eq=False)
class Average:
    """Mean over replicas with its standard error, and the spread of single values.

    mean, error, median : (...), quantiles : (5, ...) at 5, 25, 50, 75, 95 % of all points of all replicas
    """

    mean: np.ndarray
    error: np.ndarray
    median: np.ndarray
    quantiles: np.ndarray

    @classmethod
    def of(cls, values: Any) -> Average:
        """From values of shape (replicas, points, ...); with one replica the error is NaN.

        >>> average = Average.of([[[1.0], [2.0]], [[2.0], [3.0]]])
        >>> average.mean.tolist(), average.error.tolist()
        ([2.0], [0.5])
        """
        values = np.asarray(values, dtype=float)
        if values.ndim < 2 or 0 in values.shape:
            raise DomainError("values", values.shape, "an array of shape (replicas, points, ...), none of them 0")
        by_replica = values.mean(axis=1)
        R = len(by_replica)
        error = by_replica.std(axis=0, ddof=1) / math.sqrt(R) if R > 1 else np.full(by_replica.shape[1:], np.nan)
        flat = values.reshape(-1, *values.shape[2:])
        quantiles = np.quantile(flat, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
        return cls(by_replica.mean(axis=0), error, quantiles[2], quantiles)


def blocks_of(dimensions: Sequence[int]) -> list[slice]:
    """Consecutive blocks of coordinates of the given dimensions.

    >>> blocks_of([2, 3])
    [slice(0, 2, None), slice(2, 5, None)]
    """
    sizes = [integer("dimensions", d, minimum=1) for d in dimensions]
    ends = np.cumsum(sizes).tolist()
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def jacobian_spectrum(score: Any, x: torch.Tensor, t: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Eigenvalues of the normalised Jacobian :math:`-tJ` at each point, its diagonal, and how far it is from symmetric.

    Parameters
    ----------
    score : ScoreFunction, EmpiricalScore, torch module or callable
    x : (B, N), t : number > 0

    Returns
    -------
    eigenvalues (B, N) of the symmetric part, decreasing; diagonal (B, N); asymmetry (B,), the Frobenius norm of the
    antisymmetric part over that of the Jacobian: 0 for a true gradient, and a warning for a network.

    >>> eigenvalues, _, _ = jacobian_spectrum(lambda x, t: -x / (t + 1), torch.zeros(1, 2, dtype=torch.float64), 1.0)
    >>> eigenvalues.tolist()
    [[0.5, 0.5]]
    """
    x, t = _points(x), float(positive("t", t))
    face = as_score(score)
    if isinstance(face, Empirical):  # symmetric, and of the rank of its support: the matrix is not formed
        values, diagonal = face.spectrum(x, t)
        return _numpy(-t * values), _numpy(-t * diagonal), np.zeros(len(x))
    J = -t * face.jacobian(x, t)
    odd = torch.linalg.matrix_norm(J - J.mT) / (2 * torch.linalg.matrix_norm(J)).clamp_min(1e-300)
    values = torch.linalg.eigvalsh((J + J.mT) / 2).flip(-1)
    return _numpy(values), _numpy(J.diagonal(dim1=-2, dim2=-1)), _numpy(odd)


def frame_columns(
    score: Any, x: torch.Tensor, t: float, *, symmetric: bool = False, frame: torch.Tensor | None = None
) -> torch.Tensor:
    r"""The score on a frame of displacements of length :math:`\sqrt t`, (B, N, N), column i at :math:`x+\sqrt te_i`.

    .. math:: S_{\cdot i}=-\sqrt t\,s(x+\sqrt te_i),\qquad\text{symmetric: }-\tfrac{\sqrt t}2[s(x+\sqrt te_i)-s(x-\sqrt te_i)]

    Parameters
    ----------
    score, x, t : as in `jacobian_spectrum`
    symmetric : the plain one of [AVSP24], or the one that is free of the score at x itself
    frame : (N, N) orthonormal rows (default: the coordinate axes)

    >>> S = frame_columns(lambda x, t: -x / t, torch.zeros(1, 2, dtype=torch.float64), 4.0)
    >>> S[0].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    True
    """
    x, t = _points(x), float(positive("t", t))
    B, N = x.shape
    if frame is None:
        frame = torch.eye(N, dtype=x.dtype, device=x.device)
    elif frame.shape != (N, N) or not torch.allclose(frame @ frame.T, torch.eye(N).to(frame), atol=1e-8):
        raise DomainError("frame", tuple(frame.shape), f"{N} orthonormal rows of length {N}")
    step, face = math.sqrt(t) * frame, as_score(score)

    def moved(points: torch.Tensor) -> torch.Tensor:
        parts = points.reshape(B * N, N).split(max(1, _TOGETHER // N))
        return torch.cat([face.score(part, t) for part in parts]).reshape(B, N, N)

    plus = moved(x[:, None] + step)
    if symmetric:
        plus = (plus - moved(x[:, None] - step)) / 2
    return -math.sqrt(t) * plus.mT


def frame_spectrum(
    score: Any, x: torch.Tensor, t: float, *, symmetric: bool = False, frame: torch.Tensor | None = None
) -> np.ndarray:
    """Singular values of `frame_columns`, (B, N), decreasing: the estimator of [AVSP24].

    The failure that looks normal: far from a maximum of the density the plain estimator has one large singular value, which
    is the score at x itself and not a direction of the data; `symmetric` removes it. Both see the score at distance
    sqrt(t), not its derivative: where the score bends (rings, a few condensed patterns) they differ from the Jacobian.
    """
    return _numpy(torch.linalg.svdvals(frame_columns(score, x, t, symmetric=symmetric, frame=frame)))


def block_means(diagonal: Any, blocks: Sequence[slice]) -> np.ndarray:
    """Means of (..., N) values over blocks of coordinates, (..., K)."""
    values = np.asarray(diagonal)
    return np.stack([values[..., block].mean(axis=-1) for block in blocks], axis=-1)


def posterior_variance(score: Any, x: torch.Tensor, t: float, blocks: Sequence[slice]) -> np.ndarray:
    r"""Posterior variance per direction of each subspace over t, :math:`v_k/t=1-\frac1{d_k}\sum_{i\in k}(-tJ_{ii})`, (B, K).

    The exact score of Gaussian data has :math:`r/(t+r)`. Source: physics of [AALMV25].

    >>> posterior_variance(lambda x, t: -x / (t + 3), torch.zeros(1, 2, dtype=torch.float64), 1.0, [slice(0, 2)]).tolist()
    [[0.75]]
    """
    return 1 - block_means(jacobian_spectrum(score, x, t)[1], blocks)


@dataclass(frozen=True, eq=False)
class Spectra:
    """What `measure_spectra` saw of one score: axes noise T, points B, directions N, subspaces K.

    t : (T,); eigenvalues : (T, B, N), decreasing; variance : (T, B, K), v_k/t; asymmetry : (T, B)
    participation : (T, B), NaN where the score has none; frame : (T, B, N) singular values, or None
    """

    t: np.ndarray
    eigenvalues: np.ndarray
    variance: np.ndarray
    asymmetry: np.ndarray
    participation: np.ndarray
    frame: np.ndarray | None


def measure_spectra(
    score: Any,
    points: torch.Tensor | Callable[[float], torch.Tensor],
    t: Any,
    blocks: Sequence[slice],
    *,
    frame: str | None = None,
) -> Spectra:
    """Every observable of one score over a grid of noise.

    Parameters
    ----------
    score : ScoreFunction, EmpiricalScore, torch module or callable (x, t)
    points : (B, N), or a callable of t that returns them (noisy points move with t)
    t : (T,) numbers > 0
    blocks : slices of coordinates, the subspaces
    frame : None, "plain" or "symmetric": also the frame estimator, at N (2N) scores a point

    >>> S = measure_spectra(lambda x, t: -x / (t + 1), torch.zeros(3, 2, dtype=torch.float64), [1.0, 3.0], [slice(0, 2)])
    >>> S.eigenvalues.shape, S.variance[:, 0, 0].tolist()
    ((2, 3, 2), [0.5, 0.25])
    """
    if frame not in (None, "plain", "symmetric"):
        raise DomainError("frame", frame, '"plain", "symmetric" or None')
    levels = np.atleast_1d(positive("t", t))
    face: ScoreFunction = as_score(score)
    eigenvalues, variance, odd, participation, singular = [], [], [], [], []
    for level in map(float, levels):
        x = points(level) if callable(points) else points
        values, diagonal, asymmetry = jacobian_spectrum(face, x, level)
        eigenvalues.append(values)
        variance.append(1 - block_means(diagonal, blocks))
        odd.append(asymmetry)
        known = getattr(face, "participation", None)
        participation.append(_numpy(known(x, level)) if known else np.full(len(x), np.nan))
        if frame:
            singular.append(frame_spectrum(face, x, level, symmetric=frame == "symmetric"))
    arrays = (np.array(a) for a in (eigenvalues, variance, odd, participation))
    return Spectra(levels, *arrays, np.array(singular) if frame else None)


def _points(x: Any) -> torch.Tensor:
    if not isinstance(x, torch.Tensor):
        x = torch.from_numpy(np.array(finite("x", x)))
    if x.ndim != 2 or 0 in x.shape or not bool(torch.isfinite(x).all()):
        raise DomainError("x", f"an array of shape {tuple(x.shape)}", "finite points of shape (B, N), B >= 1")
    return x.double()


def _numpy(x: torch.Tensor) -> np.ndarray:
    return x.detach().cpu().numpy()
