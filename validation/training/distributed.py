"""More than one device: every process takes its rows of the same global batch, and torch's DistributedDataParallel averages.

    torchrun --nproc-per-node 4 --no-python geomem train data.npy --device cuda --out model.safetensors

All processes draw the whole batch from the same seed and keep their part, so that the sum of gradients is that of a
single process up to the order of additions.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from numerics.domain import DomainError

__all__ = ["Processes", "launched", "process_group"]


class Processes:
    """This process among those of the default group of torch.distributed, for a global batch they can share evenly."""

    def __init__(self, batch: int):
        if not (dist.is_available() and dist.is_initialized()):
            remedy = "Start with torchrun, inside validation.training.distributed.process_group"
            raise DomainError("distributed", True, "used inside an initialised torch.distributed group", remedy)
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        if batch % self.count:
            raise DomainError("batch", batch, f"a multiple of the number of processes, {self.count}")
        share = batch // self.count
        self.rows = slice(self.rank * share, (self.rank + 1) * share)
        self._flag = torch.zeros(1, device="cuda" if dist.get_backend() == "nccl" else "cpu")

    def any(self, here: bool) -> bool:
        """Whether it is so in any process; all must ask together. Without it one Ctrl-C would leave the others waiting."""
        dist.all_reduce(self._flag.fill_(float(here)), op=dist.ReduceOp.MAX)
        return bool(self._flag)

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The module with averaged gradients."""
        return DistributedDataParallel(module, device_ids=[device.index or 0] if device.type == "cuda" else None)


def launched() -> bool:
    """Whether torchrun started this process."""
    return "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def process_group(device: str) -> Iterator[str]:
    """The group that torchrun describes in the environment: nccl on cuda, gloo elsewhere; yields this process's device."""
    backend = "nccl" if device.startswith("cuda") else "gloo"
    dist.init_process_group(backend)
    try:
        if backend == "nccl":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        yield f"cuda:{os.environ['LOCAL_RANK']}" if backend == "nccl" else device
    finally:
        dist.destroy_process_group()
