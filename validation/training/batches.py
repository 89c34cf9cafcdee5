"""Batches that depend on seed and step alone, so that a resumed, a stacked and a distributed run see the same numbers.

Step k of a member reads from a generator seeded by (seed of the member, k // BLOCK): no state needs to be saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from numerics.domain import DomainError, integer
from validation.training.noise_levels import NoiseLevels

__all__ = ["Batch", "Batches"]

BLOCK = 8  # steps drawn at once: seeding a generator costs as much as some hundred normals


class Batch(NamedTuple):
    """clean and noise (M, B, *shape), sigma (M, B)."""

    clean: torch.Tensor
    noise: torch.Tensor
    sigma: torch.Tensor


class Batches:
    """Points, noise levels and noise of every step.

    Parameters
    ----------
    data : M data sets (P_m, *shape) of one shape, on one device and of one dtype; seeds : M integers
    batch : points a step; noise : NoiseLevels

    The levels of one batch are stratified, sigma((i + u)/B) for i = 0 ... B-1 with one u a batch: every octave of sigma has its
    share in every batch. Pairings with points are uniform, since points are drawn with replacement.

    >>> batches = Batches([torch.eye(4)], [0], 8, NoiseLevels())
    >>> batches[3].clean.shape, batches[3].sigma.shape
    (torch.Size([1, 8, 4]), torch.Size([1, 8]))
    """

    def __init__(self, data: Sequence[torch.Tensor], seeds: Sequence[int], batch: int, noise: NoiseLevels):
        if not len(data) or len(data) != len(seeds):
            raise DomainError("seeds", list(seeds), f"one integer for each of the {len(data)} data sets, at least one")
        for X in data:
            if X.ndim < 2 or 0 in X.shape or X.shape[1:] != data[0].shape[1:]:
                raise DomainError("data", tuple(X.shape), "data sets of shape (P, *shape) with the same shape, P >= 1")
        self.data, self.batch, self.noise = list(data), integer("batch", batch, minimum=1), noise
        self.seeds = [integer("seed", seed, minimum=0) for seed in seeds]
        self._generator = torch.Generator(device=data[0].device)
        self._block: tuple[int, Any] = (-1, None)

    def __getitem__(self, step: int) -> Batch:
        block, i = divmod(integer("step", step, minimum=0), BLOCK)
        if self._block[0] != block:
            self._block = (block, self._draw(block))
        rows, sigma, noise = self._block[1]
        clean = torch.stack([X[r[i]] for X, r in zip(self.data, rows, strict=True)])
        return Batch(clean, noise[:, i], sigma[:, i])

    def _draw(self, block: int) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
        rows, levels, noises = [], [], []
        g, X, B = self._generator, self.data[0], self.batch
        place = {"generator": g, "device": X.device}
        for P, seed in zip(map(len, self.data), self.seeds, strict=True):
            g.manual_seed(int(np.random.SeedSequence((seed, block)).generate_state(1, np.uint64)[0] >> 1))
            rows.append(torch.randint(P, (BLOCK, B), **place))
            shift = torch.rand(BLOCK, 1, dtype=X.dtype, **place)
            u = (torch.arange(B, device=X.device) + shift) / B
            levels.append(self.noise.quantile(u))
            noises.append(torch.randn(BLOCK, B, *X.shape[1:], dtype=X.dtype, **place))
        return rows, torch.stack(levels), torch.stack(noises)
