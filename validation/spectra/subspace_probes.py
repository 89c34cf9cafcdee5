r"""Data on orthogonal subspaces and what one training set's empirical score shows of each, at every kind of probe point.

Probes: *centre* (the orthonormal frame of [AVSP24] around the origin, and the participation seen from :math:`\sqrt te_k`),
*fresh* (a new data point), *training* (one of the training points) and *typical* (a training point with noise of
variance t). Values are per subspace, 1 for a direction of pure noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from numerics.domain import DomainError, integer, nonnegative
from theory import Subspaces
from validation.simulation import Sampler, generator
from validation.spectra.observables import block_means, blocks_of, frame_columns, measure_spectra
from validation.spectra.score_functions import GaussianScore, NormalisedScore, ScoreFunction, as_score

__all__ = ["KINDS", "BlockData", "Probe", "exact_probe", "last_crossing", "probe"]

KINDS = ("fresh", "training", "typical")


@dataclass(frozen=True)
class BlockData:
    """Gaussian data on orthogonal subspaces along the axes, optionally rescaled to a fixed norm.

    Parameters
    ----------
    dimensions : (K,) integers >= 1; variances : (K,) numbers >= 0, per direction
    normalised : every point rescaled to the root of the sum of variances (unit norm, in other units of length)

    >>> BlockData((2, 1), (1.0, 0.25)).sample(3, seed=(0,)).shape
    torch.Size([3, 3])
    """

    dimensions: tuple[int, ...]
    variances: tuple[float, ...]
    normalised: bool = False

    def __post_init__(self):
        sizes = tuple(integer("dimensions", d, minimum=1) for d in self.dimensions)
        if len(sizes) != len(self.variances):
            raise DomainError("variances", self.variances, f"{len(sizes)} numbers, one a subspace")
        object.__setattr__(self, "dimensions", sizes)
        object.__setattr__(self, "variances", tuple(nonnegative("variances", self.variances).tolist()))

    @property
    def N(self) -> int:
        return sum(self.dimensions)

    @property
    def model(self) -> Subspaces:
        """The same as a model of `theory`."""
        return Subspaces([d / self.N for d in self.dimensions], self.variances)

    @property
    def blocks(self) -> list[slice]:
        return blocks_of(self.dimensions)

    @property
    def spectrum(self) -> np.ndarray:
        """(N,) variance of each coordinate."""
        return np.repeat(self.variances, self.dimensions)

    @property
    def norm(self) -> float:
        return math.sqrt(self.spectrum.sum())

    def sample(self, count: int, seed: Sequence[int], device: str = "cpu") -> torch.Tensor:
        """(count, N) float64 points."""
        X = Sampler(self.model, self.N, seed=seed, device=device, dtype=torch.float64).sample(count)
        return X * (self.norm / torch.linalg.vector_norm(X, dim=1, keepdim=True)) if self.normalised else X

    def exact(self) -> ScoreFunction:
        """The score for infinitely many training points."""
        return NormalisedScore(self.spectrum) if self.normalised else GaussianScore(self.spectrum)


@dataclass(frozen=True, eq=False)
class Probe:
    """One training set seen from everywhere; T noise levels, B points a kind, K subspaces, N directions.

    value : kind -> (T, B, K), -t lambda averaged over the subspace; eigenvalues : kind -> (T, B, N), decreasing
    participation : kind -> (T, B)
    frame, symmetric : (T, N) singular values of the plain and symmetrised frame at the centre, decreasing
    column, symmetric_column : (T, K) mean lengths of the frame's columns that lie in the subspace
    squares : (T, K) mean of sum w^2 at sqrt(t) e_k, NaN for an exact score
    """

    value: dict[str, np.ndarray]
    eigenvalues: dict[str, np.ndarray]
    participation: dict[str, np.ndarray]
    frame: np.ndarray
    column: np.ndarray
    symmetric: np.ndarray
    symmetric_column: np.ndarray
    squares: np.ndarray


def probe(
    score: Any,
    data: BlockData,
    t: np.ndarray,
    *,
    points: int,
    seed: Sequence[int],
    X: torch.Tensor | None = None,
    kinds: Sequence[str] = KINDS,
    device: str = "cpu",
) -> Probe:
    """Measure one score at every kind of point.

    Parameters
    ----------
    score : ScoreFunction, EmpiricalScore, torch module or callable
    data : BlockData; t : (T,) increasing noise variances
    points : B >= 1, fresh (and training) points; seed : of the probes, integers
    X : (P, N), the training set, for the kinds "training" and "typical"; a fresh sample where None
    kinds : some of `KINDS`
    """
    face, blocks = as_score(score), data.blocks
    fresh = data.sample(points, (*seed, 1), device)
    # rows are independent: the first will do
    own = data.sample(points, (*seed, 2), device) if X is None else X[:points].double()
    noise = generator(data.N, (*seed, 3), device).rows(len(own))
    places = {"fresh": fresh, "training": own, "typical": lambda level: own + math.sqrt(level) * noise}
    seen = {kind: measure_spectra(face, places[kind], t, blocks) for kind in kinds}
    return Probe(**_by_kind(seen), **_centre(face, data, t, device))


def _by_kind(seen: dict[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    return {
        "value": {kind: 1 - s.variance for kind, s in seen.items()},
        "eigenvalues": {kind: s.eigenvalues for kind, s in seen.items()},
        "participation": {kind: s.participation for kind, s in seen.items()},
    }


def _centre(face: ScoreFunction, data: BlockData, t: np.ndarray, device: str) -> dict[str, np.ndarray]:
    origin = torch.zeros(1, data.N, dtype=torch.float64, device=device)
    axes = torch.eye(data.N, dtype=torch.float64, device=device)
    found: dict[str, list] = {"frame": [], "column": [], "symmetric": [], "symmetric_column": [], "squares": []}
    for level in map(float, t):
        plus = frame_columns(face, origin, level)[0]
        minus = frame_columns(face, origin, level, frame=-axes)[0]
        for name, S in (("frame", plus), ("symmetric", (plus - minus) / 2)):
            found[name].append(torch.linalg.svdvals(S).cpu().numpy())
            lengths = torch.linalg.vector_norm(S, dim=0).cpu().numpy()
            found["column" if name == "frame" else "symmetric_column"].append(block_means(lengths, data.blocks))
        squares = np.full(len(data.blocks), np.nan)
        if hasattr(face, "participation"):
            inverse = 1 / face.participation(math.sqrt(level) * axes, level)
            squares = block_means(inverse.cpu().numpy(), data.blocks)
        found["squares"].append(squares)
    return {name: np.array(values) for name, values in found.items()}


def exact_probe(data: BlockData, t: np.ndarray, *, points: int, seed: Sequence[int]) -> Probe:
    """The control: the same with infinitely many training points ("training" is then a fresh point, "typical" a noisy one).

    For normalised data each value is a double integral, and the frame at the centre is diagonal by reflection symmetry: one
    direction a subspace is enough.
    """
    face = data.exact()
    if not data.normalised:
        return probe(face, data, t, points=points, seed=seed, kinds=("fresh", "typical"))
    starts = [block.start for block in data.blocks]
    column = []
    for level in map(float, t):
        x = math.sqrt(level) * torch.eye(data.N, dtype=torch.float64)[starts]
        column.append((-math.sqrt(level) * face.score(x, level)).abs().amax(1).numpy())
    column = np.array(column)
    fresh = data.sample(points, (*seed, 1))
    noise = generator(data.N, (*seed, 3)).rows(len(fresh))
    seen = {
        "fresh": measure_spectra(face, fresh, t, data.blocks),
        "typical": measure_spectra(face, lambda level: fresh + math.sqrt(level) * noise, t, data.blocks),
    }
    frame = -np.sort(-np.repeat(column, data.dimensions, axis=1), axis=1)
    unknown = np.full(column.shape, np.nan)
    return Probe(
        **_by_kind(seen), frame=frame, column=column, symmetric=frame, symmetric_column=column, squares=unknown
    )


def last_crossing(log_t: np.ndarray, values: np.ndarray, level: float) -> float:
    """The largest log t at which a curve, followed down from large t, passes `level`; NaN if it starts beyond or never does.

    Linear interpolation of the logarithm; `values` > 0, `log_t` increasing.

    >>> round(last_crossing(np.array([0.0, 1.0, 2.0]), np.exp([2.0, 1.0, 0.0]), np.e**0.5), 9)
    1.5
    """
    y = np.log(np.maximum(values, 1e-300)) - math.log(level)
    change = np.flatnonzero(np.signbit(y[:-1]) != np.signbit(y[1:]))
    if not np.isfinite(y).all() or change.size == 0:
        return math.nan
    i = int(change[-1])
    return float(log_t[i] + (log_t[i + 1] - log_t[i]) * y[i] / (y[i] - y[i + 1]))
