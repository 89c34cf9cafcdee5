"""One stack of networks trained on subsets of images, stopped at given steps: snapshots with few copies and with many."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from numerics.domain import DomainError
from numerics.store import atomic
from validation.networks import Denoiser
from validation.training import Trainer, TrainingConfig, load_denoiser

__all__ = ["snapshots", "subsets"]


def subsets(X: torch.Tensor, sizes: Sequence[int], seed: int = 0) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Disjoint random subsets of the rows of X, one of each size, and the rows that are left.

    Raises
    ------
    DomainError : more rows asked for than there are

    >>> parts, rest = subsets(torch.arange(6.0)[:, None], [2, 3])
    >>> [len(part) for part in parts], sorted(torch.cat([*parts, rest])[:, 0].tolist())
    ([2, 3], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    """
    if sum(sizes) > len(X):
        raise DomainError("sizes", list(sizes), f"at most {len(X)} together: each network has images of its own")
    order = torch.randperm(len(X), generator=torch.Generator().manual_seed(seed)).to(X.device)
    *parts, rest = X[order].split([*sizes, len(X) - sum(sizes)])
    return parts, rest


def snapshots(
    sets: Sequence[torch.Tensor],
    network: Mapping[str, Any],
    config: TrainingConfig,
    steps: Sequence[int],
    *,
    seeds: Sequence[int],
    device: str = "cpu",
    path: str | os.PathLike | None = None,
    note: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[tuple[int, Denoiser]]:
    """(step, stack with its averaged weights) at each of the steps, ascending, while one training runs.

    Parameters
    ----------
    sets, network, config, seeds, device, note : of `Trainer`
    steps : ascending; path : checkpoint (.safetensors), from which an interrupted run goes on; beside it each snapshot is
        kept as <stem>-step<step>.safetensors, and a snapshot that is there is not trained again
    progress : callable (steps done)
    """
    path = None if path is None else Path(path)
    files = [None if path is None else path.with_name(f"{path.stem}-step{step}.safetensors") for step in steps]
    trainer = Trainer(sets, network, config, seeds=seeds, device=device, path=path, note=note)
    for step, file in zip(steps, files, strict=True):
        if file is not None and file.exists() and trainer.step >= step:
            yield step, load_denoiser(file, device=device).requires_grad_(False)
            continue
        if trainer.step > step:
            raise DomainError(
                "checkpoint", str(path), f"one with its snapshot at step {step}", "Remove it to start anew"
            )
        trainer.run(until=step, progress=lambda done, total, loss: progress(done) if progress else None)
        if file is not None and path is not None:
            with atomic(file) as temporary:
                shutil.copyfile(path, temporary)
        yield step, trainer.averaged()
