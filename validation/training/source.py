"""Where a run's data come from: from the record in a checkpoint to training points, points kept back and the exact score."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from numerics.domain import DomainError
from validation.data import Copies, Dataset, find_copies, load
from validation.networks import NetworkScore
from validation.spectra import BlockData
from validation.training.checkpoint import fingerprint, load_denoiser, read

__all__ = ["Member", "Points", "members", "points", "split"]

LINEAR = BlockData((5, 5, 20), (1.0, 0.09, 1e-4))  # the headline's manifold
_LINEAR_POINTS, _HELD_OUT = 101_000, 512


@dataclass(frozen=True, eq=False)
class Points:
    """X to train on, `fresh` kept back, the `exact` score or None; copies: which of the points kept back were left out."""

    X: torch.Tensor
    fresh: torch.Tensor
    exact: Any
    copies: Copies


@dataclass(frozen=True, eq=False)
class Member:
    """A network with its data; unpacks as P, score, training points, fresh points, exact score or None."""

    P: int
    score: NetworkScore
    X: torch.Tensor
    fresh: torch.Tensor
    exact: Any
    copies: Copies

    def __iter__(self) -> Iterator[Any]:
        return iter((self.P, self.score, self.X, self.fresh, self.exact))


def split(source: Mapping[str, Any], *, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor, Any]:
    """Points to train on, fresh points, and the exact score where it is known: `points` without the count of copies.

    >>> X, fresh, exact = split({"data": "digits", "seed": 0})
    >>> X.shape, fresh.shape
    (torch.Size([1618, 1, 8, 8]), torch.Size([179, 1, 8, 8]))
    """
    found = points(source, device=device)
    return found.X, found.fresh, found.exact


def points(source: Mapping[str, Any], *, device: str = "cpu") -> Points:
    """Points to train on, points kept back, and the exact score where it is known, from a record of where the data come from.

    source : {"data": a path that `validation.data.load` reads, "digits" or "linear", "seed", and "limit", "image_size", "key",
    "held_out"}

    Rows are shuffled by the seed; a tenth of them, at most 512, is kept back. The first P of the rest are the training set of
    size P, so that smaller sets are parts of larger ones. Points kept back that are among the rest too, exactly or nearly
    (`validation.data.find_copies`), are left out: no training set of these data has a fresh point in it. With "held_out", a path
    of points of the same shape, all rows are trained on and the fresh points are from there.

    Raises
    ------
    DomainError : held-out points of another shape
    """
    options = dict(source)
    data, seed, given = options.pop("data"), options.pop("seed"), options.pop("held_out", None)
    if data == "linear":
        X = LINEAR.sample(_LINEAR_POINTS, (seed, 0))
        return Points(X[_HELD_OUT:], X[:_HELD_OUT], LINEAR.exact(), Copies.none(_HELD_OUT))
    # by name even beside a folder of that name: a checkpoint knows its data wherever it is read
    dataset = load(None if data == "digits" else data, seed=seed, **options)
    rows = dataset.X
    X = _shaped(dataset)
    if given is not None:
        return _with_given(dataset, X, load(given, seed=seed, **(options | {"limit": None})), seed, device)
    order = torch.randperm(len(X), generator=torch.Generator().manual_seed(seed))
    kept = min(_HELD_OUT, len(X) // 10)
    copies = Copies.none(0)
    if kept:  # found among the rows as they are stored: how far rounding goes depends on their type
        first, rest = order[:kept].numpy(), order[kept:].numpy()
        copies = find_copies(np.asarray(rows[first]), np.asarray(rows[rest]), device=device)
    return Points(X[order[kept:]], X[order[:kept][torch.from_numpy(copies.keep)]], None, copies)


def _shaped(dataset: Dataset) -> torch.Tensor:
    X = torch.from_numpy(np.array(dataset.X, dtype=np.float64))
    if len(dataset.shape) > 1:
        X = X.reshape(len(X), *((1,) if len(dataset.shape) == 2 else ()), *dataset.shape)
    return X


def _with_given(dataset: Dataset, X: torch.Tensor, other: Dataset, seed: int, device: str) -> Points:
    if other.shape != dataset.shape:
        raise DomainError("held_out", other.shape, f"points of the shape of the data, {dataset.shape}")
    g = torch.Generator().manual_seed(seed)
    order, chosen = torch.randperm(len(X), generator=g), torch.randperm(len(other.X), generator=g)[:_HELD_OUT]
    copies = find_copies(np.asarray(other.X[chosen.numpy()]), np.asarray(dataset.X), device=device)
    return Points(X[order], _shaped(other)[chosen[torch.from_numpy(copies.keep)]], None, copies)


def members(path: str | os.PathLike, *, device: str = "cpu", dtype: torch.dtype | None = None) -> Iterator[Member]:
    """Every network of a checkpoint with its data: P, score, training points, points kept back, exact score or None.

    dtype : the scores are evaluated in, default that of the training; Jacobians at small t need float64

    Raises
    ------
    DomainError : not a checkpoint of `geomem train`, or its data are no longer what they were
    """
    record = read(path)[1]
    if "source" not in record["note"]:
        raise DomainError("--model", str(path), "a checkpoint that geomem train wrote", "Use convergence() for others")
    found = points(record["note"]["source"], device=device)
    X, fresh = found.X, found.fresh
    denoiser = load_denoiser(path, device=device)
    shape, trained = tuple(record["shape"]), next(denoiser.parameters()).dtype
    X, fresh = X.reshape(len(X), *shape), fresh.reshape(len(fresh), *shape)
    for m, (P, mark) in enumerate(zip(record["sizes"], record["data"], strict=True)):
        mine = X[:P]
        if fingerprint(mine.to(trained)) != mark:
            raise DomainError(
                "--model", str(path), "a checkpoint whose training data are still there", "The data changed"
            )
        face = NetworkScore(denoiser, m, dtype=dtype or trained)
        yield Member(P, face, mine.flatten(1).to(device), fresh.flatten(1).to(device), found.exact, found.copies)
