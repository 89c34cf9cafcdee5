"""One block of queries against every tile: candidates by screening, or sums by an online softmax.

Energies are compared through v = x.xi - |xi|^2/2 (all recentred), so that E = |x|^2/2 - v. `screen` keeps the pairs whose v,
whatever its rounding, may belong to a weight that matters; `weigh` sums exp(v/t) and the weighted patterns, and sets aside
the pairs whose rounding would show. Either way what is kept is for float64 differences to settle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from validation.tile_kernels import add_sparse_rows, screen_rows, weigh_rows
from validation.tiles import TrainingSet, rounding
from validation.vector_math import COMPILED, over_rows

__all__ = ["Candidates", "Plan", "Sweep", "all_tiles"]

Plan = Sequence[tuple[int, int]]  # tiles (start, stop)
Candidates = tuple[torch.Tensor, torch.Tensor]  # row of the block, position in the tile order; (n,) each
# share of a sample of pairs above which a method is given up
PILOT = {torch.bfloat16: 0.1, torch.float32: 0.01, torch.float64: 1.0}
PILOT_ROWS, PILOT_COLUMNS = 16, 1024  # size of that sample
WORKING_SET = 1 << 19  # entries of a block's products by one tile; twice that for the tile itself
SPARSE = 16  # a row with fewer than 1/16 of its weights in a tile adds them one by one


def all_tiles(data: TrainingSet, queries: int) -> Plan:
    """Tiles (start, stop) of a width that keeps a block's products in the cache (on a CPU)."""
    width = 16384
    if data.device.type == "cpu":
        width = max(512, min(4096, WORKING_SET // max(queries, 128), 2 * WORKING_SET // data.N) // 512 * 512)
    return list(data.tiles(width))


class Sweep:
    """The state of one block: queries x (B, N) and t (B,), float64; `exclude` (B,) positions left out (or -1), or None."""

    def __init__(self, data: TrainingSet, x: torch.Tensor, t: torch.Tensor, exclude: torch.Tensor | None = None):
        self.data, self.x, self.t, self.exclude = data, x, t, exclude
        self.centred = x - data.centre
        self.norm = torch.linalg.vector_norm(self.centred, dim=1)
        self.compiled = COMPILED and data.device.type == "cpu"

    def error(self, dtype: torch.dtype) -> torch.Tensor:
        """(B,) bound on the rounding error of v in products of `dtype` (probabilistic for the accumulation: 2 sqrt(N) u)."""
        R, norm = self.data.radius, self.norm
        u, c, tiny = rounding(dtype, self.data.N)
        error = c * norm * R + 5 * u * (norm + R).square() / 2 + tiny
        if dtype == torch.bfloat16:  # each factor rounded by 1/512 of itself, and the stored product by 1/256
            error = error + norm * R * (2 / 512 + 1 / 512**2 + 1 / 256)
        return error

    def screen(self, dtype: torch.dtype, window: torch.Tensor, plan: Plan, most: float) -> Candidates | None:
        """All pairs with v within `window` (B,) of the row's largest; None when there are more than `most` a row."""
        B = len(self.x)
        best = torch.full((B,), -math.inf, dtype=torch.float64, device=self.x.device)
        self._begin(dtype, plan)
        if self._hopeless(plan[0], window):
            return None
        step = self._screen_compiled if self.compiled else self._screen_generic
        limit, kept = most * B, 0
        found: list[tuple[torch.Tensor, ...]] = []
        for start, stop in plan:
            products, h, _ = self._products(start, stop)
            row, column, value = step(products, h, best, window)
            if row.shape[0]:
                found.append((row, column + start, value))
                kept += row.shape[0]
            if kept > 4 * limit + (1 << 20):
                found = [_within(found, best, window)]
                kept = found[0][0].shape[0]
                if kept > 2 * limit + (1 << 19):
                    return None
        row, position, _ = _within(found, best, window)
        return (row, position) if len(row) <= limit else None

    def weigh(self, dtype: torch.dtype, cut: float, reach: torch.Tensor, depth: torch.Tensor, plan: Plan, most: float):
        """Online sums over all tiles, with the pairs to be done again; None when there are more than `most` a row.

        Returns (top, S, Q, mean, (row, position)): sums over the others of exp((v - top)/t), its square, and (B, N) of it
        times the recentred patterns. cut, and reach, depth (B,), in units of v/t: see `profile_kernels.profile_rows`.
        """
        B, device = len(self.x), self.x.device
        self.state = torch.zeros(4, B, dtype=torch.float64, device=device)
        self.state[0] = -math.inf
        self.mean = torch.zeros(B, self.data.N, dtype=dtype, device=device)
        self._begin(dtype, plan)
        if most < math.inf and bool((depth >= reach).any()) and self._hopeless(plan[0], reach * self.t):
            return None
        self.kept, limits = np.zeros(B, dtype=np.int64), torch.stack([reach, depth])
        step = self._weigh_compiled if self.compiled else self._weigh_generic
        found: list[tuple[torch.Tensor, ...]] = []
        listed, limit = 0, most * B
        for start, stop in plan:
            products, h, tile = self._products(start, stop)
            row, column, value = step(products, h, tile, cut, limits)
            if row.shape[0]:
                found.append((row, column + start, value))
                listed += row.shape[0]
            if listed > 4 * limit + (1 << 20):
                return None
        top, S, Q, E = self.state
        log_z = torch.where(S + E > 0, top + self.t * (S + E).log(), -math.inf)
        row, position, _ = _within(found, log_z, reach * self.t)
        if len(row) > limit:
            return None
        return top, S, Q, self.mean, (row, position)

    def _begin(self, dtype: torch.dtype, plan: Plan) -> None:
        self.left = self.centred.to(dtype)
        width = max(stop - start for start, stop in plan)
        self.buffer = torch.empty(len(self.x), width, dtype=dtype, device=self.x.device)
        self.inv_t = 1 / self.t

    def _products(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(products (B, T), half norms (T,), patterns (T, N)) of one tile; what is left out at -inf."""
        left, products = self.left, self.buffer
        tile, h = self.data.tile(start, stop, left.dtype), self.data.norms(start, stop, left.dtype)
        if products.shape[1] != stop - start:
            products = products.view(-1)[: len(left) * (stop - start)].view(len(left), stop - start)
        torch.mm(left, tile.T, out=products)
        if self.exclude is not None:
            place = self.exclude - start
            hit = torch.nonzero((place >= 0) & (place < stop - start)).view(-1)
            products[hit, place[hit]] = -math.inf
        return products, h, tile

    def _hopeless(self, tile: tuple[int, int], window: torch.Tensor) -> bool:
        """A pilot, a few queries against a tile: would this window keep too large a share of the pairs?"""
        some = slice(0, None, max(1, len(self.x) // PILOT_ROWS))
        start, stop = tile[0], min(tile[1], tile[0] + PILOT_COLUMNS)
        h = self.data.norms(start, stop, self.left.dtype)
        v = (self.left[some] @ self.data.tile(start, stop, self.left.dtype).T).to(h.dtype) - h
        kept = v >= (v.amax(1).double() - window[some]).to(v.dtype)[:, None]
        return int(kept.sum()) > max(PILOT[self.left.dtype] * v.numel(), 4 * v.shape[0])

    def _screen_compiled(self, products, h, best, window):
        stored = products.view(torch.uint16) if products.dtype == torch.bfloat16 else products
        return _collect(screen_rows, (stored.numpy(), h.numpy(), best.numpy(), window.numpy()), ())

    def _screen_generic(self, products, h, best, window):
        v = products.to(h.dtype) - h
        torch.maximum(best, v.amax(1).double(), out=best)
        row, column = torch.nonzero(v >= (best - window).to(v.dtype)[:, None], as_tuple=True)
        return row, column, v[row, column].double()

    def _weigh_compiled(self, products, h, tile, cut, limits):
        kept, weights, mean = self.kept, products.numpy(), self.mean.numpy()
        n, few = len(kept), products.shape[1] // SPARSE
        arrays = weights, h.numpy(), self.inv_t.numpy(), self.state.numpy(), mean, cut, limits.numpy(), few
        found = _collect(weigh_rows, arrays, (kept,))
        full = kept > few
        heavy = np.count_nonzero(full)
        if heavy == n:
            self.mean.addmm_(products, tile)
            return found
        if 2 * heavy >= n:
            products.index_fill_(0, torch.from_numpy(np.flatnonzero(kept == 0)), 0)
            self.mean.addmm_(products, tile)
            return found
        if heavy:
            chosen = torch.from_numpy(np.flatnonzero(full))
            self.mean.index_add_(0, chosen, products[chosen] @ tile)
        light = np.flatnonzero((kept > 0) & ~full)
        if len(light):
            patterns = tile.numpy()
            over_rows(lambda a, b: add_sparse_rows(weights, patterns, light, mean, a, b), len(light))
        return found

    def _weigh_generic(self, products, h, tile, cut, limits):
        (top, S, Q, E), (reach, depth), t = self.state, limits, self.t
        v = products - h
        peak = v.amax(1).double()
        log_z = torch.where(S + E > 0, top + t * (S + E).log(), -math.inf)
        active = peak >= log_z - reach * t
        new = torch.where(active, torch.maximum(top, peak), top)
        factor = torch.where(new > top, torch.exp((top - new) / t), 1.0)
        shifted = (v - torch.where(active, new, 0.0).to(v.dtype)[:, None]) * (1 / t).to(v.dtype)[:, None]
        weight = torch.where((shifted > -cut) & active[:, None], shifted.clamp(max=0).exp_(), 0.0)
        summed = (depth < reach).to(v.dtype)[:, None]
        total = (S + E) * factor + (weight * summed).sum(1).double()
        log_z = torch.where(total > 0, new + t * total.log(), peak)
        limit = torch.where(active & (depth >= 0), torch.maximum(log_z, peak * (depth >= reach)) - depth * t, math.inf)
        aside = v >= limit.to(v.dtype)[:, None]
        row, column = torch.nonzero(aside, as_tuple=True)
        top.copy_(new)
        E.mul_(factor).index_add_(0, row, shifted[row, column].double().exp_())
        weight = torch.where(aside, 0.0, weight * summed)
        S.mul_(factor).add_(weight.sum(1).double())
        Q.mul_(factor.square()).add_(weight.square().sum(1).double())
        self.mean.mul_(factor.to(v.dtype)[:, None]).addmm_(weight, tile)
        return row, column, v[row, column].double()


def _within(found, level: torch.Tensor, window: torch.Tensor):
    """The candidates (row, position, v) with v >= (level - window)[row]."""
    row, position, value = (torch.cat(part) for part in zip(*found, strict=True)) if found else _nothing(level.device)
    keep = value >= (level - window)[row]
    return row[keep], position[keep], value[keep]


def _collect(kernel, arrays, last: tuple) -> tuple[torch.Tensor, ...]:
    """Run a row kernel over threads, emptying its lists when they are full; (row, column, v) of what it listed."""
    n, columns = arrays[0].shape
    capacity, counts = max(2 * columns, 1 << 14), np.empty(n, dtype=np.int64)

    def work(first: int, end: int) -> list[tuple[np.ndarray, ...]]:
        out = []
        while first < end:
            place, value = np.empty(capacity, dtype=np.int64), np.empty(capacity, dtype=arrays[1].dtype)
            found, resume = kernel(*arrays, first, end, place, value, counts, *last)
            if found:
                row = np.repeat(np.arange(first, resume), counts[first:resume])
                out.append((row, place[:found], value[:found].astype(np.float64)))
            first = resume
        return out

    parts = [part for chunk in over_rows(work, n) for part in chunk]
    if not parts:
        return _NOTHING
    return tuple(torch.from_numpy(np.concatenate(column)) for column in zip(*parts, strict=True))


def _nothing(device: torch.device) -> tuple[torch.Tensor, ...]:
    return tuple(part.to(device) for part in _NOTHING)


_NOTHING = (torch.empty(0, dtype=torch.int64),) * 2 + (torch.empty(0, dtype=torch.float64),)
