"""What the page is about: a data set, or the training set of a network together with the network."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from numerics.domain import DomainError
from validation.data import Dataset, load
from validation.networks import is_foreign, is_pipeline
from validation.option_names import option_of
from validation.spectrum import Subject, from_data, from_model, from_pipeline, latent_dataset, open_pipeline
from validation.training import members, read

__all__ = ["Asked", "asked"]


@dataclass(frozen=True)
class Asked:
    """The data, the model's file or folder and whether diffusers wrote it, and the options that all commands repeat."""

    data: Dataset
    path: Path | None
    model: Path | None
    pipeline: bool
    network: Mapping[str, Any]
    options: Mapping[str, Any]
    seed: int
    words: tuple[str, ...] = field(default=())

    def command(self, name: str, *more: str) -> str:
        """A command that repeats a part of the page, as one types it.

        Of the training set inside a checkpoint, and of latents, the page itself is the only one.
        """
        if self.model is not None and (not self.pipeline or self.latent) and "--model" not in more:
            name, more = "report", ("--model", str(self.model))
        own = [str(self.path)] if self.path is not None and not (self.model and not self.pipeline) else []
        of_network = {f"{option_of(key)}={value}" for key, value in self.network.items()}  # left out without --model
        words = [word for word in self.words if "--model" in more or word not in of_network]
        return shlex.join(["geomem", name, *own, *words, *more])

    def spectrum_subject(self) -> Subject:
        """The training set in its principal axes, without the network."""
        if self.model is not None and not self.pipeline:
            return replace(max(from_model(self.model), key=lambda one: one.P), networks={})
        if self.latent:
            found = from_pipeline(self.model, self.path, seed=self.seed, **self.network, **self.options)
            return replace(found, networks={})
        return from_data(self.path, seed=self.seed, **self.options)

    @property
    def latent(self) -> bool:
        """Whether the data are latents of the model's autoencoder."""
        return self.pipeline and self.model is not None and is_pipeline(self.model, latent=True)


def asked(
    data: str | os.PathLike | None,
    model: str | os.PathLike | None,
    *,
    seed: int,
    network: Mapping[str, Any] | None = None,
    **options: Any,
) -> Asked:
    """Reads the data; those of a checkpoint of `geomem train` are its own training set, the largest where there are several.

    options : key, limit, image_size of `validation.data.load`; network : of a diffusers model, see
        `validation.spectrum.open_pipeline`. Of a latent pipeline the data are the latents of the images.

    Raises
    ------
    DomainError : unreadable data or model, DATA or its options beside a checkpoint, options of diffusers without one
    """
    network = dict(network or {})
    pipeline = model is not None and is_foreign(model)
    if network and not pipeline:
        name = next(iter(network))
        raise DomainError(
            option_of(name),
            network[name],
            "left out without a network of others in --model",
        )
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value is not None]
    words += [f"{option_of(name)}={value}" for name, value in network.items()]
    words += [f"--seed={seed}"] if seed else []
    path = None if data is None else Path(data)
    if model is None or pipeline:
        if model is not None:
            open_pipeline(model, data, seed=seed, **network, **options)  # an error in it is one before any work
        found = load(data, seed=seed, **options)
        if pipeline and is_pipeline(model, latent=True):
            scale = {name: network[name] for name in ("variant", "centre", "unit") if name in network}
            found = latent_dataset(found, model, **scale)
        home = None if model is None else Path(model)
        return Asked(found, path, home, pipeline, network, options, seed, tuple(words))
    given = {"DATA": data, **{f"--{name.replace('_', '-')}": value for name, value in options.items()}}
    for name, value in given.items():
        if value is not None:
            raise DomainError(
                name, str(value), "left out with --model", "The checkpoint knows the data it was trained on"
            )
    shape, note = tuple(read(model)[1]["shape"]), read(model)[1]["note"]
    largest = max(members(model), key=lambda member: member.P)
    X, fresh = (points.cpu().numpy().astype(np.float32) for points in (largest.X, largest.fresh))
    source = f"the training set of {Path(model).name}"
    name = str(note["source"]["data"])
    known = Dataset(X, os.path.basename(name) or name, shape, "units of the checkpoint's data", source, held_out=fresh)
    return Asked(known, None, Path(model), False, {}, {}, seed, tuple(words))
