"""More than one device, through accelerate: every process takes its rows of the same global batch, and gradients are averaged.

    torchrun --nproc-per-node 4 --no-python geomem train data.npy --device cuda --out model.safetensors

All processes draw the whole batch from the same seed and keep their part, so that the sum of gradients is that of a
single process up to the order of additions.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from numerics.domain import DomainError

if TYPE_CHECKING:
    from accelerate import PartialState

__all__ = ["Processes", "launched", "process_group"]


class Processes:
    """This process among those that were launched together, for a global batch they can share evenly."""

    def __init__(self, batch: int, device: torch.device):
        if not launched():
            remedy = "Start it with torchrun or accelerate launch; without them leave it out"
            raise DomainError("distributed", True, "used in one of several launched processes", remedy)
        _state(device)  # first, for its word on a missing package
        from accelerate import Accelerator

        self.accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no")
        self.rank, self.count = self.accelerator.process_index, self.accelerator.num_processes
        if batch % self.count:
            raise DomainError("batch", batch, f"a multiple of the number of processes, {self.count}")
        share = batch // self.count
        self.rows = slice(self.rank * share, (self.rank + 1) * share)

    def any(self, here: bool) -> bool:
        """Whether it is so in any process; all must ask together. Without it one Ctrl-C would leave the others waiting."""
        return bool(self.accelerator.reduce(torch.tensor(float(here), device=self.accelerator.device)))

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module with averaged gradients."""
        return self.accelerator.prepare_model(module)


def launched() -> bool:
    """Whether torchrun or accelerate launch started this process beside others."""
    return "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def process_group(device: str) -> Iterator[str]:
    """The group that the environment describes: nccl on cuda, gloo on the cpu; yields this process's device."""
    state = _state(torch.device(device))
    try:
        if state.device.type != torch.device(device).type:  # accelerate would go on with what there is
            raise DomainError(
                "device", device, "a torch device that is present here", f"(accelerate has {state.device})"
            )
        yield str(state.device)
    finally:
        state.destroy_process_group()


def _state(device: torch.device) -> PartialState:
    try:
        from accelerate import PartialState
    except ImportError as error:
        remedy = "pip install accelerate"
        raise DomainError("distributed", "accelerate is not installed", "an installed accelerate", remedy) from error
    return PartialState(cpu=device.type == "cpu")
