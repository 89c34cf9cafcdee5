"""What `geomem train` and `geomem audit --model` do: data to a stack over dataset sizes, and the table of how far each got."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from numerics.domain import DomainError, integer
from validation.data import load
from validation.networks import NetworkScore
from validation.spectra import BlockData, GaussianScore
from validation.training.checkpoint import fingerprint, load_denoiser, read
from validation.training.configuration import TrainingConfig
from validation.training.convergence import convergence
from validation.training.trainer import Trainer

__all__ = ["FittedGaussian", "audit_model", "audit_pipeline", "members", "report_lines", "split", "train"]

LINEAR = BlockData((5, 5, 20), (1.0, 0.09, 1e-4))  # the headline's manifold
_LINEAR_POINTS, _HELD_OUT = 101_000, 512
_PER_DIRECTION = 4  # points for each of N numbers, from which on a covariance is a reference


def split(source: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """Points to train on, points kept back, and the exact score where it is known, from a record of where the data come from.

    source : {"data": a path that `validation.data.load` reads, "digits" or "linear", "seed", and "limit", "image_size", "key"}

    Rows are shuffled by the seed; a tenth of them, at most 512, is kept back. The first P of the rest are the training set of
    size P, so that smaller sets are parts of larger ones.

    >>> X, fresh, exact = split({"data": "digits", "seed": 0})
    >>> X.shape, fresh.shape
    (torch.Size([1618, 1, 8, 8]), torch.Size([179, 1, 8, 8]))
    """
    options = dict(source)
    data, seed = options.pop("data"), options.pop("seed")
    if data == "linear":
        X = LINEAR.sample(_LINEAR_POINTS, (seed, 0))
        return X[_HELD_OUT:], X[:_HELD_OUT], LINEAR.exact()
    # by name even beside a folder of that name: a checkpoint knows its data wherever it is read
    dataset = load(None if data == "digits" else data, seed=seed, **options)
    X = torch.from_numpy(np.array(dataset.X, dtype=np.float64))
    if len(dataset.shape) > 1:
        X = X.reshape(len(X), *((1,) if len(dataset.shape) == 2 else ()), *dataset.shape)
    order = torch.randperm(len(X), generator=torch.Generator().manual_seed(seed))
    kept = min(_HELD_OUT, len(X) // 10)
    return X[order[kept:]], X[order[:kept]], None


def train(
    source: Mapping[str, Any],
    sizes: Sequence[int] | None,
    network: Mapping[str, Any],
    config: TrainingConfig,
    out: str | os.PathLike,
    *,
    device: str = "cpu",
    resume: bool = True,
    distributed: bool = False,
    progress: Callable[[int, int, torch.Tensor], None] | None = None,
) -> Trainer:
    """Train one network a dataset size, all at once, into one checkpoint.

    Parameters
    ----------
    source : see `split`; sizes : dataset sizes P, or None for all points
    network : record of `build`; "kind" may be "auto": an MLP for vectors, a U-Net for images
    config, device, resume, distributed, progress : of `Trainer`; out : checkpoint, .safetensors

    Raises
    ------
    DomainError : a size beyond the data; see also `Trainer`. An MLP asked for images is given flat points.
    """
    if not str(out).endswith(".safetensors"):
        raise DomainError("--out", str(out), "a file name that ends in .safetensors")
    X, _, _ = split(source)
    sizes = [len(X)] if sizes is None else [integer("P", P, minimum=2) for P in sizes]
    if max(sizes) > len(X):
        raise DomainError("P", max(sizes), f"at most {len(X)}, the points that are not kept back")
    network = dict(network)
    if network.get("kind", "auto") == "auto":
        network["kind"] = "unet" if X.ndim == 4 else "mlp"
    if network["kind"] == "mlp":
        X = X.flatten(1)
    seeds = [source["seed"] + m for m in range(len(sizes))]
    options = {"seeds": seeds, "device": device, "path": out, "resume": resume, "distributed": distributed}
    trainer = Trainer([X[:P] for P in sizes], network, config, **options, note={"source": dict(source)})
    trainer.run(progress=progress)
    return trainer


def audit_model(
    path: str | os.PathLike, *, t: Any = None, points: int = 256, device: str = "cpu"
) -> list[tuple[int, xr.Dataset]]:
    """Each network of a checkpoint beside the empirical score of its own training set, on training and on kept-back points.

    The population's score is exact for "linear"; for other data it is that of the Gaussian with the training set's covariance,
    which knows less than the population does: then a network may lie below it on fresh points.

    Returns
    -------
    (P, Dataset of `validation.training.convergence.convergence`) for each member.

    Raises
    ------
    DomainError : not a checkpoint of `geomem train`, or its data are no longer what they were
    """
    noise = read(path)[1]["training"]["noise"]
    t = np.geomspace(noise["sigma_min"] ** 2, noise["sigma_max"] ** 2, 13) if t is None else t
    found = []
    for P, face, flat, new, exact in members(path, device=device):
        reference = exact if exact is not None else FittedGaussian(flat)
        new = new if len(new) > 1 else None
        found.append((P, convergence(face, flat, t, fresh=new, exact=reference, points=points)))
    return found


def audit_pipeline(
    path: str | os.PathLike,
    data: str | os.PathLike | None,
    *,
    points: int = 256,
    seed: int = 0,
    device: str = "cpu",
    **options: Any,
) -> tuple[int, xr.Dataset]:
    """A diffusers pipeline as `audit_model` has it, on data that are given: those it was trained on.

    The population is that of the Gaussian with their covariance, where there are enough of them to know it. Points kept back
    are fresh to the empirical score, and to the network only if its trainer kept them back too.

    Raises
    ------
    DomainError : see `validation.spectrum.subjects.from_pipeline`
    """
    from validation.spectrum import from_pipeline

    subject = from_pipeline(path, data, device=device, seed=seed, **options)
    low, high = max(subject.t_range[0], 2e-3**2), min(subject.t_range[1], 10.0**2)
    t = np.geomspace(low * (1 + 1e-6), high * (1 - 1e-6), 13)
    X, fresh = subject.X.to(device), subject.fresh.to(device)
    reference = FittedGaussian(X) if len(X) >= _PER_DIRECTION * subject.N else None
    return len(X), convergence(
        subject.networks["network"], X, t, fresh=fresh, exact=reference, points=points, seed=seed
    )


def members(
    path: str | os.PathLike, *, device: str = "cpu", dtype: torch.dtype | None = None
) -> Iterator[tuple[int, NetworkScore, torch.Tensor, torch.Tensor, Any]]:
    """Every network of a checkpoint with its data: P, score, training points, points kept back, exact score or None.

    dtype : the scores are evaluated in, default that of the training; Jacobians at small t need float64

    Raises
    ------
    DomainError : not a checkpoint of `geomem train`, or its data are no longer what they were
    """
    record = read(path)[1]
    if "source" not in record["note"]:
        raise DomainError("--model", str(path), "a checkpoint that geomem train wrote", "Use convergence() for others")
    X, fresh, exact = split(record["note"]["source"])
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
        yield P, face, mine.flatten(1).to(device), fresh.flatten(1).to(device), exact


class FittedGaussian:
    """The score of the Gaussian with a sample's mean and covariance."""

    def __init__(self, X: torch.Tensor):
        self.mean = X.mean(dim=0)
        _, s, self.axes = torch.linalg.svd(X - self.mean, full_matrices=True)
        variances = torch.zeros(X.shape[1], dtype=torch.float64)
        variances[: len(s)] = s.cpu().square() / len(X)
        self.inner = GaussianScore(variances.numpy())

    def score(self, x: torch.Tensor, t: float) -> torch.Tensor:
        return self.inner.score((x - self.mean) @ self.axes.T, t) @ self.axes

    def jacobian(self, x: torch.Tensor, t: float) -> torch.Tensor:
        return self.axes.T @ self.inner.jacobian(x, t) @ self.axes


def report_lines(P: int, losses: xr.Dataset) -> list[str]:
    """The losses of one network as aligned text, one line a noise level."""
    head = ("t", "sigma", "net/train", "empirical", "population", "net/fresh", "empirical", "population", "state")
    lines = [f"P = {P}: denoising loss E|D - xi|^2/(N t)", "".join(f"{name:>12}" for name in head)]
    for k, t in enumerate(losses["t"].values):
        at = losses.isel(t=k)
        own, new = (
            [float(at[n].sel(where=w)) for n in ("network", "empirical", "population")] for w in ("training", "fresh")
        )
        numbers = "".join(f"{value:12.3g}" for value in (t, t**0.5, *own, *new))
        lines.append(f"{numbers}  {at['label'].item()}")
    # a score of zero has the loss 1: where that is within the factor of the population's, every network passes
    generalising = np.isin(losses["label"].values, ("generalising", "both"))
    idle = generalising & (losses.attrs["factor"] * losses["population"].sel(where="fresh").values >= 1)
    if idle.any():
        levels = ", ".join(f"{t:.3g}" for t in losses["t"].values[idle])
        lines.append(
            f"Note: at t = {levels} a network that has learned nothing (loss 1) would be called generalising too; "
            "the state says nothing about learning there."
        )
    return lines
