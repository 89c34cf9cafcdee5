"""One reduction for one process or many: maxima and sums over shards of the training set with torch.distributed."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from numerics.domain import DomainError

__all__ = ["Shards"]


class Shards:
    """The processes that hold the training set, each its own rows; alone (`group=None`) every reduction is the identity.

    group : a torch.distributed process group (gloo or nccl), `True` for the default one, or None
    rows : rows held here; `offset` is then the first one's number in the whole set, `total` the size of the whole set

    All processes must make the same calls with the same queries: a reduction waits for everyone.
    Source: [ours: the online softmax is associative].
    """

    def __init__(self, group: Any, rows: int, device: torch.device):
        self.group, self.device, self.offset, self.total = None, device, 0, rows
        if group is None or group is False:
            return
        if not dist.is_available() or not dist.is_initialized():
            allowed = "None, or a group of an initialised torch.distributed"
            raise DomainError("group", str(group), allowed, "Call torch.distributed.init_process_group first")
        self.group = dist.group.WORLD if group is True else group
        counts = torch.zeros(dist.get_world_size(self.group), dtype=torch.int64, device=device)
        rank = dist.get_rank(self.group)
        counts[rank] = rows
        dist.all_reduce(counts, group=self.group)
        self.offset, self.total = int(counts[:rank].sum()), int(counts.sum())

    @property
    def alone(self) -> bool:
        """True when this process holds the whole training set."""
        return self.group is None

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """Sum over processes."""
        return value if self.alone else self._reduce(value, dist.ReduceOp.SUM)

    def max(self, value: torch.Tensor) -> torch.Tensor:
        """Maximum over processes."""
        return value if self.alone else self._reduce(value, dist.ReduceOp.MAX)

    def min(self, value: torch.Tensor) -> torch.Tensor:
        """Minimum over processes."""
        return value if self.alone else self._reduce(value, dist.ReduceOp.MIN)

    def _reduce(self, value: torch.Tensor, how: Any) -> torch.Tensor:
        value = value.contiguous().clone()
        dist.all_reduce(value, op=how, group=self.group)
        return value
