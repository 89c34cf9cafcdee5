"""Whose score `geomem spectrum` looks at: data, a synthetic manifold, a checkpoint or a diffusers pipeline, in principal axes."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from numerics.domain import DomainError, integer, positive
from theory import Spectrum, condensation_time, onset_time
from theory.models import population_eigenvalues
from validation.data import Copies, Split, load, split
from validation.spectra import BlockData, Derivative, ScoreFunction
from validation.spectrum.principal_axes import AXES, MatrixAxes, ReflectedAxes, principal_axes
from validation.training import members

__all__ = ["Subject", "Turned", "fresh_parts", "from_data", "from_model", "from_subspaces", "noise_levels", "principal"]

FRESH = 1000  # points kept back, at most
_LARGEST = 10**9  # numbers drawn in all
INSIDE = 1e-6  # of log t: so far within what a network knows


@dataclass(frozen=True, eq=False)
class Subject:
    """Whose score is looked at: points in the axes of their covariance, centred.

    X : (P, N) training points, fresh : (Q, N) points kept back, both float64
    variances : (N,) of the training points along the axes, decreasing for data
    population : (N,) eigenvalues of the population's covariance as far as P points know them, where the axes are those of the
        training points, whose own eigenvalues are spread by the sampling
    exact : (N,) the population's variances where they are known
    groups : name -> directions that are reported together
    networks : name -> score in these axes; origin : what tells the file they come from, as it is now, from any other
    t_range : noise variances that the networks know; remarks : what is to be said of the networks
    copies : which of the points looked at were left out of `fresh`, because X has them; None for synthetic data
    """

    name: str
    X: torch.Tensor
    fresh: torch.Tensor
    variances: np.ndarray
    groups: Mapping[str, slice]
    exact: np.ndarray | None = None
    population: np.ndarray | None = None
    networks: Mapping[str, ScoreFunction] = field(default_factory=dict)
    origin: str = ""
    t_range: tuple[float, float] = (0.0, math.inf)
    remarks: tuple[str, ...] = ()
    copies: Copies | None = None

    @property
    def gaussian(self) -> np.ndarray:
        """(N,) variances of the Gaussian control: what the score would be with endlessly many Gaussian points."""
        return self.variances if self.population is None else self.population

    @property
    def P(self) -> int:
        return len(self.X)

    @property
    def N(self) -> int:
        return self.X.shape[1]


class Turned:
    """A score seen in other axes: points z with x = mean + axes z."""

    def __init__(self, inner: ScoreFunction, mean: torch.Tensor, axes: MatrixAxes | ReflectedAxes):
        self.inner, self.mean, self.axes = inner, mean, axes

    @property
    def derivative(self) -> Derivative | None:
        """How the inner Jacobian was found, of one that says so."""
        return getattr(self.inner, "derivative", None)

    def points(self, x: torch.Tensor) -> torch.Tensor:
        """What the inner score sees, (B, N)."""
        return self.mean + self.axes.back(x)

    def score(self, x: torch.Tensor, t: float) -> torch.Tensor:
        return self.axes.turned(self.inner.score(self.points(x), t))

    def jacobian(self, x: torch.Tensor, t: float) -> torch.Tensor:
        return self.axes.turned(self.axes.turned(self.inner.jacobian(self.points(x), t)).mT).mT


def from_data(data: str | os.PathLike | None, *, seed: int = 0, **options: Any) -> Subject:
    """A data set, as `validation.data.load` reads it (None: scikit-learn's digits); a part is kept back as fresh points."""
    dataset = load(data, seed=seed, **options)
    parts = fresh_parts(split(dataset.X, dataset.held_out, seed=seed, limit=FRESH), dataset.name)
    points = (torch.from_numpy(np.array(part, dtype=np.float64)) for part in parts)
    return replace(principal(dataset.name, *points), copies=parts.copies)


def fresh_parts(parts: Split, name: str) -> Split:
    """The same, if at least two points are fresh."""
    if len(parts.held_out) < 2:
        found = f"{name}, of which {len(parts.held_out)} points are fresh: {parts.copies.report('points kept back')}"
        raise DomainError("DATA", found, "a set that has at least 2 points to keep back that are no training points")
    return parts


def from_subspaces(text: str, P: int = 1000, *, seed: int = 0) -> Subject:
    """Gaussian data on orthogonal subspaces, told as dimension:variance pairs.

    >>> subject = from_subspaces("2:1.0,3:0.01", P=10)
    >>> subject.N, list(subject.groups)
    (5, ['d = 2, variance 1', 'd = 3, variance 0.01'])

    Raises
    ------
    DomainError : text that is not such a list, dimensions below 1, negative variances, no variance above 0, P below 4
    """
    P = integer("-P", P, minimum=4, maximum=_LARGEST)
    allowed = "dimension:variance pairs separated by commas, as in 5:1.0,5:0.09,20:0.0001"
    try:
        pairs = [(float(d), float(s)) for d, s in (part.split(":") for part in text.split(","))]
    except ValueError as error:
        raise DomainError("--subspaces", text, allowed) from error
    if not all(d >= 1 and d == int(d) and 0 <= s < math.inf for d, s in pairs) or not max(s for _, s in pairs) > 0:
        raise DomainError("--subspaces", text, f"{allowed}; dimensions >= 1, variances >= 0, one of them > 0")
    pairs.sort(key=lambda pair: -pair[1])
    data = BlockData(tuple(int(d) for d, _ in pairs), tuple(s for _, s in pairs))
    if not 2 <= data.N <= _LARGEST // P:
        raise DomainError(
            "--subspaces", text, f"at least 2 dimensions in all, and at most {_LARGEST:g} numbers in {P:g} rows"
        )
    X, fresh = data.sample(P, (seed, 0)), data.sample(min(FRESH, P), (seed, 1))
    names = [
        f"d = {block.stop - block.start}, variance {s:g}" for block, (_, s) in zip(data.blocks, pairs, strict=True)
    ]
    groups: dict[str, slice] = {}
    for name, block in zip(names, data.blocks, strict=True):
        groups[name if name not in groups else f"{name} (from {block.start + 1})"] = block
    sampled = X.var(dim=0).numpy()
    return Subject(f"subspaces {text}", X, fresh, sampled, groups, exact=data.spectrum)


def from_model(path: str | os.PathLike, *, device: str = "cpu") -> Iterator[Subject]:
    """Every network of a checkpoint of `geomem train`, on the data it was trained on."""
    for member in members(path, device=device, dtype=torch.float64):
        _, face, X, fresh, _ = member
        if len(fresh) < 2:
            raise DomainError("--model", str(path), "trained on data of which at least 2 points were kept back")
        seen = principal(f"network of {os.path.basename(path)}", X.cpu(), fresh.cpu(), network=face, device=device)
        yield replace(seen, copies=member.copies, origin=hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16])


def principal(
    name: str, X: torch.Tensor, fresh: torch.Tensor, network: ScoreFunction | None = None, device: str = "cpu"
) -> Subject:
    """The same points in the axes of the training points' covariance, largest variance first."""
    if min(X.shape) > AXES:
        allowed = f"at most {AXES} numbers a sample, or at most {AXES} training points, for principal axes"
        remedy = f"Draw fewer: `--limit {AXES}`; or --samples, or validation.spectra"
        raise DomainError("DATA", f"{len(X)} points of {X.shape[1]} numbers", allowed, remedy)
    if X.shape[1] < 2:
        raise DomainError("DATA", f"{X.shape[1]} number a sample", "at least 2: a spectrum needs directions")
    mean = X.mean(dim=0)
    X = X - mean
    found, axes = principal_axes(X)
    values = found.numpy()
    networks = {} if network is None else {"network": Turned(network, mean.to(device), axes.to(device))}
    groups = _octaves(int((values > 0).sum()))
    population = population_eigenvalues(values, len(X))
    turned = (axes.turned(points) for points in (X, fresh - mean))
    return Subject(name, *turned, values, groups, networks=networks, population=population)


def _octaves(count: int) -> dict[str, slice]:
    """Principal directions 1-2, 3-4, 5-8, 9-16, ..."""
    edges = [0, 2]
    while edges[-1] < count:
        edges.append(2 * edges[-1])
    ends = [min(e, count) for e in edges]
    pairs = [(a, b) for a, b in pairwise(ends) if b > a]
    return {f"principal {a + 1}" + (f"-{b}" if b > a + 1 else ""): slice(a, b) for a, b in pairs}


def noise_levels(subject: Subject, points: int, sigmas: Sequence[float] | None = None) -> np.ndarray:
    """Noise variances t from well below condensation to where the data are a blur; or between two given sigmas."""
    points = integer("--points", points, minimum=4)
    if sigmas is not None:
        low, high = map(float, positive("--sigma", sigmas))
        if not low < high:
            raise DomainError("--sigma", f"{low:g},{high:g}", "two numbers low,high with 0 < low < high")
        if not subject.t_range[0] <= low**2 < high**2 <= subject.t_range[1]:
            known = (
                f"within {subject.t_range[0] ** 0.5:.4g},{subject.t_range[1] ** 0.5:.4g}, the noise the network knows"
            )
            raise DomainError("--sigma", f"{low:g},{high:g}", known)
        return np.geomspace(low**2, high**2, points)
    model, top = Spectrum(subject.gaussian), float(subject.gaussian.max())
    alpha = math.log(subject.P) / subject.N
    low = max(float(condensation_time(model, alpha, log=True)) - math.log(100), math.log(1e-9 * top))
    high = max(float(onset_time(model, alpha, log=True)), math.log(top)) + math.log(4)
    with np.errstate(divide="ignore"):
        ends = np.log(subject.t_range)
    first, last = max(low, ends[0] + INSIDE), min(high, ends[1] - INSIDE)
    if not first < last:
        known = f"data whose noise, t in [{math.exp(low):.3g}, {math.exp(high):.3g}], the network knows in part"
        remedy = (
            f"It was trained on t in [{subject.t_range[0]:.3g}, {subject.t_range[1]:.3g}]: are pixels on its scale?"
        )
        raise DomainError("DATA", subject.name, known, remedy)
    return np.exp(np.linspace(first, last, points))
