"""One thread's pass over some tiles: products, then screening or the online softmax on each while it is in the cache.

Every step has a compiled form and a plain one in torch, which is what runs on a device and what tests compare with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from validation.score.engine.block import Block
from validation.score.engine.products import add_product, multiply
from validation.score.kernels import add_sparse_rows, screen_rows, weigh_rows

__all__ = ["Factors", "Found", "TilePass", "full_factors", "within"]

CARRIED = 1 << 16  # patterns whose weighted sum is kept in the products' precision before it goes into the total
Entries = list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]  # row, position, v


@dataclass(frozen=True, eq=False)
class Factors:
    """What is multiplied: queries (B, n), and patterns (T, n) with their half norms (T,) of a tile (start, stop)."""

    left: torch.Tensor
    tile: Callable[[int, int], torch.Tensor]
    norms: Callable[[int, int], torch.Tensor]


def full_factors(block: Block, dtype: torch.dtype) -> Factors:
    """All coordinates, in `dtype`."""
    data = block.data
    return Factors(block.centred.to(dtype), lambda a, b: data.tile(a, b, dtype), lambda a, b: data.norms(a, b, dtype))


@dataclass(frozen=True, eq=False)
class Found:
    """Of a screen: the largest v of each row and its position, (B,); entries listed, None where there were far too many."""

    best: torch.Tensor
    place: torch.Tensor
    entries: Entries | None


class TilePass:
    """The buffers of a pass of a block's queries over the tiles of `plan`."""

    def __init__(self, block: Block, factors: Factors, plan: Sequence[tuple[int, int]]):
        self.block, self.factors, self.plan, self.left = block, factors, plan, factors.left
        width = max(stop - start for start, stop in plan)
        self.buffer = torch.empty(len(self.left), width, dtype=self.left.dtype, device=self.left.device)
        self.inv_t = 1 / block.t
        self.lists: list[np.ndarray] = []

    def screen(self, window: torch.Tensor, limit: torch.Tensor, most: float) -> Found:
        """Pairs with v >= limit (B,) and within `window` (B,) of the row's largest v so far.

        The list is given up when it is far longer than `most`; the largest v is that of all tiles in any case.
        """
        B, slack, device = len(self.left), self.block.policy.slack, self.left.device
        best = torch.full((B,), -math.inf, dtype=torch.float64, device=device)
        place = torch.zeros(B, dtype=torch.int64, device=device)
        step = self._screen_compiled if self.block.compiled else self._screen_generic
        state = best, place, window, limit
        state = tuple(part.numpy() for part in state) if self.block.compiled else state  # of the same memory
        found: Entries | None = []
        listed = 0
        for start, stop in self.plan:
            products, h, _ = self._products(start, stop)
            row, column, value = step(products, h, start, *state)
            if found is not None and row.shape[0]:
                found.append((row, column + start, value))
                listed += row.shape[0]
                if listed > 4 * most + slack:
                    found = [within(found, best, window)]
                    listed = found[0][0].shape[0]
                    if listed > 2 * most + slack / 2:
                        found = None
                        state = (
                            *state[:3],
                            np.full(B, np.inf) if self.block.compiled else torch.full_like(limit, math.inf),
                        )
        return Found(best, place, found)

    def weigh(
        self, cut: float, limits: torch.Tensor, limit: float
    ) -> tuple[torch.Tensor, torch.Tensor, Entries] | None:
        """(state (4, B), mean (B, N), pairs set aside) as `tile_kernels.weigh_rows` has them; None when far above `limit`."""
        B = len(self.left)
        self.state = torch.zeros(4, B, dtype=torch.float64, device=self.left.device)
        self.state[0] = limits[2]
        # `recent` holds what the last tiles added: a float32 total over millions of equal weights is off by 5e-3
        self.mean = torch.zeros(self.left.shape, dtype=torch.float64, device=self.left.device)
        self.recent, self.room = torch.zeros_like(self.left), torch.empty_like(self.left)
        self.kept = np.zeros(B, dtype=np.int64)
        if self.block.compiled:  # a call into torch or numpy is not free while its code is out of the cache: few a tile
            self.arrays = self.inv_t.numpy(), self.state.numpy(), self.mean.numpy(), self.recent.numpy()
            limits = limits.numpy()
        step = self._weigh_compiled if self.block.compiled else self._weigh_generic
        found, listed = [], 0
        carried, end = 0, self.plan[-1][1]
        for start, stop in self.plan:
            products, h, tile = self._products(start, stop)
            row, column, value = step(products, h, tile, cut, limits)
            carried += stop - start
            if carried >= CARRIED or stop == end:
                self.mean.add_(self.recent)
                self.recent.zero_()
                carried = 0
            if row.shape[0]:
                found.append((row, column + start, value))
                listed += row.shape[0]
            if listed > 4 * limit + self.block.policy.slack:
                return None
        return self.state, self.mean, found

    def _products(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(products (B, T), half norms (T,), patterns (T, n)) of one tile; what is left out at -inf."""
        left, products, exclude = self.left, self.buffer, self.block.exclude
        tile, h = self.factors.tile(start, stop), self.factors.norms(start, stop)
        if products.shape[1] != stop - start:
            products = products.view(-1)[: len(left) * (stop - start)].view(len(left), stop - start)
        multiply(left, tile.T, products, self.block.policy)
        if exclude is not None:
            place = exclude - start
            hit = torch.nonzero((place >= 0) & (place < stop - start)).view(-1)
            products[hit, place[hit]] = -math.inf
        return products, h, tile

    def _screen_compiled(self, products, h, start, best, place, window, limit):
        return self._collect(screen_rows, (_stored(products), h.numpy(), start, best, place, window, limit), ())

    def _screen_generic(self, products, h, start, best, place, window, limit):
        v = products.to(h.dtype) - h
        top, column = (part.to(best.dtype if k == 0 else place.dtype) for k, part in enumerate(v.max(1)))
        higher = top > best
        best.copy_(torch.where(higher, top, best))
        place.copy_(torch.where(higher, column + start, place))
        least = torch.maximum(limit, best - window)
        row, column = torch.nonzero((v >= least.to(v.dtype)[:, None]) & (v > -math.inf), as_tuple=True)
        return row, column, v[row, column].double()

    def _weigh_compiled(self, products, h, tile, cut, limits):
        policy = self.block.policy
        kept, weights, few = self.kept, products.numpy(), products.shape[1] // policy.sparse
        found = self._collect(weigh_rows, (weights, h.numpy(), *self.arrays, cut, limits, few), (kept,))
        heavy = add_sparse_rows(weights, tile.numpy(), kept, few, self.arrays[3])
        if heavy == len(kept):
            add_product(products, tile, self.recent, self.room, policy)
        elif heavy:
            chosen = torch.from_numpy(np.flatnonzero(kept > few))
            self.recent.index_add_(0, chosen, products[chosen] @ tile)
        return found

    def _weigh_generic(self, products, h, tile, cut, limits):
        (top, S, Q, E), (reach, depth, floor), t = self.state, limits, self.block.t
        v = products - h
        peak = v.amax(1).double()
        log_z = torch.maximum(torch.where(S + E > 0, top + t * (S + E).log(), -math.inf), floor)
        active = peak >= log_z - reach * t
        new = torch.where(active, torch.maximum(top, peak), top)
        factor = torch.where(new > top, torch.exp((top - new) / t), 1.0)
        shifted = (v - torch.where(active, new, 0.0).to(v.dtype)[:, None]) * (1 / t).to(v.dtype)[:, None]
        weight = torch.where((shifted > -cut) & active[:, None], shifted.clamp(max=0).exp_(), 0.0)
        summed = (depth < reach).to(v.dtype)[:, None]
        total = (S + E) * factor + (weight * summed).sum(1).double()
        log_z = torch.maximum(torch.where(total > 0, new + t * total.log(), -math.inf), floor)
        log_z = torch.where(depth < reach, log_z, torch.maximum(log_z, peak))
        limit = torch.where(active & (depth >= 0), log_z - depth * t, math.inf)
        aside = v >= limit.to(v.dtype)[:, None]
        row, column = torch.nonzero(aside, as_tuple=True)
        top.copy_(new)
        E.mul_(factor).index_add_(0, row, shifted[row, column].double().exp_())
        weight = torch.where(aside, 0.0, weight * summed)
        S.mul_(factor).add_(weight.sum(1).double())
        Q.mul_(factor.square()).add_(weight.square().sum(1).double())
        self.mean.mul_(factor[:, None])
        self.recent.mul_(factor.to(v.dtype)[:, None])
        add_product(weight, tile, self.recent, self.room, self.block.policy)
        return row, column, v[row, column].double()

    def _collect(self, kernel, arrays, last: tuple) -> tuple[torch.Tensor, ...]:
        """Run a row kernel, emptying its lists when they are full; (row, column, v) of what it listed."""
        n = arrays[0].shape[0]
        if not self.lists:
            capacity = max(2 * self.buffer.shape[1], 1 << 14)
            self.lists = [np.empty(capacity, dtype) for dtype in (np.int64, arrays[1].dtype)]
            self.lists.append(np.empty(n, dtype=np.int64))
        (place, value, counts), out, first = self.lists, [], 0
        while first < n:
            found, resume = kernel(*arrays, first, place, value, counts, *last)
            if found:
                row = np.repeat(np.arange(first, resume), counts[first:resume])
                out.append((row, place[:found].copy(), value[:found].astype(np.float64)))
            first = resume
        return tuple(torch.from_numpy(np.concatenate(column)) for column in zip(*out, strict=True)) if out else _NOTHING


def within(found: Entries, level: torch.Tensor, window: torch.Tensor):
    """The candidates (row, position, v) with v >= (level - window)[row]."""
    row, position, value = (torch.cat(part) for part in zip(*found, strict=True)) if found else _nothing(level.device)
    keep = value >= (level - window)[row]
    return row[keep], position[keep], value[keep]


def _stored(products: torch.Tensor) -> np.ndarray:
    """The products as numpy holds them: bfloat16 as its bits."""
    return (products.view(torch.uint16) if products.dtype == torch.bfloat16 else products).numpy()


def _nothing(device: torch.device) -> tuple[torch.Tensor, ...]:
    return tuple(part.to(device) for part in _NOTHING)


_NOTHING = (torch.empty(0, dtype=torch.int64),) * 2 + (torch.empty(0, dtype=torch.float64),)
