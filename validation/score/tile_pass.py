"""One thread's pass over some tiles: products, then screening or the online softmax on each while it is in the cache."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from validation.score.kernels import add_sparse_rows, largest_rows, screen_rows, weigh_rows
from validation.score.products import add_product, multiply

if TYPE_CHECKING:
    from validation.score.sweep import Sweep

__all__ = ["TilePass", "within"]

SPARSE = 8  # a row with fewer than 1/8 of its weights in a tile adds them one by one
SLACK = 1 << 20  # entries a list may hold beyond what is wanted in the end

Entries = list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]  # row, position, v


class TilePass:
    """The buffers of a pass of the queries `left` (B, N), recentred and rounded, over the tiles of `plan`."""

    def __init__(self, sweep: Sweep, left: torch.Tensor, plan: Sequence[tuple[int, int]]):
        self.sweep, self.left, self.plan = sweep, left, plan
        width = max(stop - start for start, stop in plan)
        self.buffer = torch.empty(len(left), width, dtype=left.dtype, device=left.device)
        self.inv_t = 1 / sweep.t
        self.lists: list[np.ndarray] = []

    def screen(
        self, window: torch.Tensor, limit: float, floor: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, Entries | None]:
        """(best v of each row, pairs within `window` (B,) of it or of what was best before, from `floor` on).

        The pairs are None when they are far more than `limit`; the best is still that of all tiles.
        """
        best = torch.full((len(self.left),), -math.inf, dtype=torch.float64, device=self.left.device)
        if floor is not None:
            best.copy_(floor)
        step = self._screen_compiled if self.sweep.compiled else self._screen_generic
        found, listed = [], 0
        for k, (start, stop) in enumerate(self.plan):
            products, h, _ = self._products(start, stop)
            row, column, value = step(products, h, best, window)
            if row.shape[0]:
                found.append((row, column + start, value))
                listed += row.shape[0]
            if listed > 4 * limit + SLACK:
                found = [within(found, best, window)]
                listed = found[0][0].shape[0]
                if listed > 2 * limit + SLACK / 2:
                    return self.largest(best, self.plan[k + 1 :]), None
        return best, found

    def largest(self, best: torch.Tensor | None = None, plan: Sequence[tuple[int, int]] | None = None) -> torch.Tensor:
        """The largest v of each row, and `best`, over some tiles (all of them unless told)."""
        if best is None:
            best = torch.full((len(self.left),), -math.inf, dtype=torch.float64, device=self.left.device)
        for start, stop in self.plan if plan is None else plan:
            products, h, _ = self._products(start, stop)
            if self.sweep.compiled:
                largest_rows(_stored(products), h.numpy(), best.numpy())
            else:
                torch.maximum(best, (products.to(h.dtype) - h).amax(1).double(), out=best)
        return best

    def weigh(
        self, cut: float, limits: torch.Tensor, limit: float
    ) -> tuple[torch.Tensor, torch.Tensor, Entries] | None:
        """(state (4, B), mean (B, N), pairs set aside) as `tile_kernels.weigh_rows` has them; None when far above `limit`."""
        B = len(self.left)
        self.state = torch.zeros(4, B, dtype=torch.float64, device=self.left.device)
        self.state[0] = limits[2]
        self.mean, self.room = (
            torch.zeros(self.left.shape, dtype=self.left.dtype, device=self.left.device) for _ in "ab"
        )
        self.kept = np.zeros(B, dtype=np.int64)
        if self.sweep.compiled:  # a call into torch or numpy is not free while its code is out of the cache: few a tile
            self.arrays = self.inv_t.numpy(), self.state.numpy(), self.mean.numpy()
            limits = limits.numpy()
        step = self._weigh_compiled if self.sweep.compiled else self._weigh_generic
        found, listed = [], 0
        for start, stop in self.plan:
            products, h, tile = self._products(start, stop)
            row, column, value = step(products, h, tile, cut, limits)
            if row.shape[0]:
                found.append((row, column + start, value))
                listed += row.shape[0]
            if listed > 4 * limit + SLACK:
                return None
        return self.state, self.mean, found

    def _products(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(products (B, T), half norms (T,), patterns (T, N)) of one tile; what is left out at -inf."""
        data, left, products = self.sweep.data, self.left, self.buffer
        tile, h = data.tile(start, stop, left.dtype), data.norms(start, stop, left.dtype)
        if products.shape[1] != stop - start:
            products = products.view(-1)[: len(left) * (stop - start)].view(len(left), stop - start)
        multiply(left, tile.T, out=products)
        if self.sweep.exclude is not None:
            place = self.sweep.exclude - start
            hit = torch.nonzero((place >= 0) & (place < stop - start)).view(-1)
            products[hit, place[hit]] = -math.inf
        return products, h, tile

    def _screen_compiled(self, products, h, best, window):
        return self._collect(screen_rows, (_stored(products), h.numpy(), best.numpy(), window.numpy()), ())

    def _screen_generic(self, products, h, best, window):
        v = products.to(h.dtype) - h
        torch.maximum(best, v.amax(1).double(), out=best)
        row, column = torch.nonzero(v >= (best - window).to(v.dtype)[:, None], as_tuple=True)
        return row, column, v[row, column].double()

    def _weigh_compiled(self, products, h, tile, cut, limits):
        kept, weights, few = self.kept, products.numpy(), products.shape[1] // SPARSE
        found = self._collect(weigh_rows, (weights, h.numpy(), *self.arrays, cut, limits, few), (kept,))
        heavy = add_sparse_rows(weights, tile.numpy(), kept, few, self.arrays[2])
        if heavy == len(kept):
            add_product(products, tile, self.mean, self.room)
        elif heavy:
            chosen = torch.from_numpy(np.flatnonzero(kept > few))
            self.mean.index_add_(0, chosen, products[chosen] @ tile)
        return found

    def _weigh_generic(self, products, h, tile, cut, limits):
        (top, S, Q, E), (reach, depth, floor), t = self.state, limits, self.sweep.t
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
        self.mean.mul_(factor.to(v.dtype)[:, None])
        add_product(weight, tile, self.mean, self.room)
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


def within(found, level: torch.Tensor, window: torch.Tensor):
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
