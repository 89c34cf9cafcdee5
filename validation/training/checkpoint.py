"""Checkpoints as safetensors: weights, averaged weights and optimiser, with the full configuration in the metadata."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from numerics.domain import DomainError
from numerics.store import atomic
from validation.networks import Denoiser, build

__all__ = ["fingerprint", "load_denoiser", "read", "write"]

_KEY, _FORMAT = "geomem", 1


def fingerprint(X: torch.Tensor) -> str:
    """A short hash of a data set, so that a run is not resumed on other data.

    >>> fingerprint(torch.zeros(2, 2)) == fingerprint(torch.zeros(4, 1))
    False
    """
    digest = hashlib.sha256(repr(tuple(X.shape)).encode())
    digest.update(X.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def write(path: str | os.PathLike, tensors: Mapping[str, torch.Tensor], record: Mapping[str, Any]) -> Path:
    """Save tensors with a JSON record, whole or not at all; equal states give equal bytes."""
    path = Path(path)
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(tensors.items())}
    metadata = {
        _KEY: json.dumps({"format": _FORMAT, **record}, sort_keys=True)
    }  # one key: safetensors shuffles several
    with atomic(path) as temporary:
        try:
            save_file(plain, temporary, metadata=metadata)
        except SafetensorError as error:  # a full disk among others: again an error of the system, as `atomic` knows it
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    return path


def read(path: str | os.PathLike) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What `write` saved: tensors and record.

    Raises
    ------
    DomainError : no such file, not safetensors, or not a checkpoint of this program
    """
    path = Path(path)
    allowed = "a checkpoint written by geomem train (.safetensors)"
    if not path.is_file():
        raise DomainError("checkpoint", str(path), allowed, "(no such file)")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise DomainError("checkpoint", str(path), allowed, f"({error})") from error
    record = json.loads(metadata.get(_KEY, "{}"))
    if record.pop("format", None) != _FORMAT:
        raise DomainError("checkpoint", str(path), allowed, "(its metadata lack the format of this version)")
    return tensors, record


def load_denoiser(path: str | os.PathLike, *, averaged: bool = True, device: str = "cpu") -> Denoiser:
    """The stack of trained denoisers in a checkpoint, in evaluation mode.

    Parameters
    ----------
    path : file; averaged : the running average of the weights (what is meant to be used), or the last weights
    """
    tensors, record = read(path)
    prefix = "average." if averaged else "weights."
    denoiser = build(record["network"], shape=record["shape"], scales=record["scales"], seeds=record["seeds"])
    weights = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    denoiser.to(next(iter(weights.values())).dtype).load_state_dict(weights)
    return denoiser.to(device).eval()
