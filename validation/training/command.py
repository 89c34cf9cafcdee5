"""What `geomem train` does: data to a stack of networks over dataset sizes, in one checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from numerics.domain import DomainError, integer
from numerics.store import writable
from validation.training.configuration import TrainingConfig
from validation.training.source import split
from validation.training.trainer import Trainer
from validation.training.watch import Watch

__all__ = ["train", "training_data"]


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
    watch: Mapping[str, Any] | None = None,
) -> Trainer:
    """Train one network a dataset size, all at once, into one checkpoint.

    Parameters
    ----------
    source : see `split`; sizes : dataset sizes P, or None for all points
    network : record of `build`; "kind" may be "auto": an MLP for vectors, a U-Net for images
    config, device, resume, distributed, progress : of `Trainer`; out : checkpoint, .safetensors
    watch : options of `Watch` (rate, checks, keep, tell), or None; the points kept back are watched. Where fewer than 2 are kept
        back nothing is watched.

    Raises
    ------
    DomainError : a size beyond the data; see also `Trainer`. An MLP asked for images is given flat points.
    """
    if not str(out).endswith(".safetensors"):
        raise DomainError("--out", str(out), "a file name that ends in .safetensors")
    writable(out, argument="--out")
    X, fresh, network = training_data(source, network)
    sizes = [len(X)] if sizes is None else [integer("P", P, minimum=2) for P in sizes]
    if max(sizes) > len(X):
        raise DomainError("P", max(sizes), f"at most {len(X)}, the points that are not kept back")
    watched = None if watch is None or len(fresh) < 2 else Watch(fresh, **watch)
    seeds = [source["seed"] + m for m in range(len(sizes))]
    options = {"seeds": seeds, "device": device, "path": out, "resume": resume, "distributed": distributed}
    note = {"source": dict(source)}
    trainer = Trainer([X[:P] for P in sizes], network, config, **options, note=note, watch=watched)
    trainer.run(progress=progress)
    return trainer


def training_data(
    source: Mapping[str, Any], network: Mapping[str, Any]
) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """Points to train on and points kept back, in the shape the network takes, and its record with "auto" decided.

    Raises
    ------
    DomainError : options of files with the data of "linear"; see also `split`
    """
    given = [name for name in ("key", "limit", "image_size", "held_out") if source.get(name) is not None]
    if source["data"] == "linear" and given:
        option = "--" + given[0].replace("_", "-")
        raise DomainError(option, source[given[0]], "left out with the data of linear, which are drawn, not read")
    X, fresh, _ = split(source)
    network = dict(network)
    if network.get("kind", "auto") == "auto":
        network["kind"] = "unet" if X.ndim == 4 else "mlp"
    if network["kind"] == "mlp":
        X, fresh = X.flatten(1), fresh.flatten(1)
    return X, fresh, network
