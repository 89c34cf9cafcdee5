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

Plan = Sequence[tuple[int, int, torch.Tensor | None]]  # tiles (start, stop, rows of the block or None for all)
Candidates = tuple[torch.Tensor, torch.Tensor]  # row of the block, position in the tile order; (n,) each
PILOT = {
    torch.bfloat16: 0.1,
    torch.float32: 0.01,
    torch.float64: 1.0,
}  # share of a sample kept: more, and it is given up
PILOT_ROWS, PILOT_COLUMNS = 16, 1024  # size of that sample
SPARSE = 16  # a row with fewer than 1/16 of its weights in a tile adds them one by one


def all_tiles(data: TrainingSet, queries: int) -> Plan:
    """Tiles of a width that keeps a block's products in the cache (on a CPU)."""
    width = 16384
    if data.device.type == "cpu":
        most = (4 << 20) // (torch.finfo(data.dtype).bits // 8)  # 4 MB of products, and of patterns
        width = max(512, min(4096, most // max(queries, 128), most // data.N) // 512 * 512)
    return [(start, stop, None) for start, stop in data.tiles(width)]


class Sweep:
    """The state of one block: queries x (B, N) and t (B,), float64; `exclude` (B,) positions left out (or -1), or None."""

    def __init__(self, data: TrainingSet, x: torch.Tensor, t: torch.Tensor, exclude: torch.Tensor | None = None):
        self.data, self.x, self.t, self.exclude = data, x, t, exclude
        self.centred = x - data.centre
        self.norm = torch.linalg.vector_norm(self.centred, dim=1)
        self.compiled = COMPILED and data.device.type == "cpu"
        self.all_rows = torch.arange(len(x), device=x.device)

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
        if self._hopeless(plan, window):
            return None
        limit, kept = most * B, 0
        found: list[tuple[torch.Tensor, ...]] = []
        for start, stop, rows in plan:
            products, h, rows = self._products(start, stop, rows)
            step = self._screen_compiled if self.compiled else self._screen_generic
            new = step(products, h, rows, best, window)
            kept += new[0].shape[0]
            if new[0].shape[0]:
                found.append((new[0], new[1] + start, new[2]))
            if kept > 4 * limit + (1 << 20):
                found = [_within(found, best, window)]
                kept = len(found[0][0])
                if kept > 2 * limit + (1 << 19):
                    return None
        row, position, _ = _within(found, best, window)
        return (row, position) if len(row) <= limit else None

    def weigh(self, dtype: torch.dtype, cut: float, reach: torch.Tensor, depth: torch.Tensor, plan: Plan, most: float):
        """Online sums over all tiles, with the pairs to be done again; None when there are more than `most` a row.

        Returns (top, S, Q, mean, (row, position)): sums over the others of exp((v - top)/t), its square, and (B, N) of it
        times the recentred patterns.
        """
        B, device = len(self.x), self.x.device
        self.state = [torch.full((B,), -math.inf, dtype=torch.float64, device=device)]
        self.state += [torch.zeros(B, dtype=torch.float64, device=device) for _ in range(3)]
        self.mean = torch.zeros(B, self.data.N, dtype=dtype, device=device)
        self._begin(dtype, plan)
        if most < math.inf and bool((depth >= reach).any()) and self._hopeless(plan, reach * self.t):
            return None
        found: list[tuple[torch.Tensor, ...]] = []
        kept, limit = 0, most * B
        for start, stop, rows in plan:
            products, h, rows = self._products(start, stop, rows)
            step = self._weigh_compiled if self.compiled else self._weigh_generic
            new = step(products, h, rows, cut, reach, depth, self.tile)
            kept += new[0].shape[0]
            if new[0].shape[0]:
                found.append((new[0], new[1] + start, new[2]))
            if kept > 4 * limit + (1 << 20):
                return None
        top, S, Q, E = self.state
        log_z = torch.where(S + E > 0, top + self.t * (S + E).log(), -math.inf)
        row, position, _ = _within(found, log_z, reach * self.t)
        if len(row) > limit:
            return None
        return top, S, Q, self.mean, (row, position)

    def _hopeless(self, plan: Plan, window: torch.Tensor) -> bool:
        """A pilot, a few queries against the first tile: would this window keep too large a share of the pairs?"""
        start, stop, rows = plan[0]
        stop = min(stop, start + PILOT_COLUMNS)
        rows = self.all_rows if rows is None else rows
        products, h, rows = self._products(start, stop, rows[:: max(1, len(rows) // PILOT_ROWS)])
        v = products.to(h.dtype) - h
        kept = v >= (v.amax(1).double() - window[rows]).to(v.dtype)[:, None]
        return int(kept.sum()) > max(PILOT[products.dtype] * v.numel(), 4 * len(rows))

    def _begin(self, dtype: torch.dtype, plan: Plan) -> None:
        self.left = self.centred.to(dtype)
        width = max(stop - start for start, stop, _ in plan)
        self.buffer = torch.empty(len(self.x), width, dtype=dtype, device=self.x.device)
        self.inv_t = 1 / self.t

    def _products(self, start: int, stop: int, rows: torch.Tensor | None):
        left = self.left if rows is None else self.left[rows]
        self.tile = self.data.tile(start, stop, left.dtype)
        products = self.buffer.view(-1)[: len(left) * (stop - start)].view(len(left), stop - start)
        torch.mm(left, self.tile.T, out=products)
        rows = self.all_rows if rows is None else rows
        if self.exclude is not None:
            place = self.exclude[rows] - start
            hit = torch.nonzero((place >= 0) & (place < stop - start)).view(-1)
            products[hit, place[hit]] = -math.inf
        return products, self.data.norms(start, stop, left.dtype), rows

    def _screen_compiled(self, products, h, rows, best, window):
        stored = products.view(torch.uint16) if products.dtype == torch.bfloat16 else products
        arrays = stored.numpy(), h.numpy(), rows.numpy(), best.numpy(), window.numpy()
        return _collect(screen_rows, arrays, arrays[2], ())

    def _screen_generic(self, products, h, rows, best, window):
        v = products.to(h.dtype) - h
        best[rows] = torch.maximum(best[rows], v.amax(1).double())
        a, column = torch.nonzero(v >= (best - window)[rows].to(v.dtype)[:, None], as_tuple=True)
        return rows[a], column, v[a, column].double()

    def _weigh_compiled(self, products, h, rows, cut, reach, depth, tile):
        n, width = products.shape
        kept = np.empty(n, dtype=np.int64)
        weights, places, mean = products.numpy(), rows.numpy(), self.mean.numpy()
        state = [s.numpy() for s in self.state]
        arrays = weights, h.numpy(), places, self.inv_t.numpy(), *state, mean, cut, reach.numpy(), depth.numpy()
        found = _collect(weigh_rows, arrays, places, (kept,))
        full = kept > width // SPARSE
        heavy = np.count_nonzero(full)
        if 2 * heavy >= n:
            if heavy < n:
                products.index_fill_(0, torch.from_numpy(np.flatnonzero(kept == 0)), 0)
            self._add(products, rows, tile)
            return found
        if heavy:
            chosen = torch.from_numpy(np.flatnonzero(full))
            self._add(products[chosen], rows[chosen], tile)
        light = np.flatnonzero((kept > 0) & ~full)
        if len(light):
            patterns = tile.numpy()
            over_rows(lambda a, b: add_sparse_rows(weights, patterns, light, places, mean, a, b), len(light))
        return found

    def _weigh_generic(self, products, h, rows, cut, reach, depth, tile):
        top, S, Q, E = self.state
        t, reach, depth = self.t[rows], reach[rows], depth[rows]
        v = products - h
        peak = v.amax(1).double()
        old, s, q, e = top[rows], S[rows], Q[rows], E[rows]
        log_z = torch.where(s + e > 0, old + t * (s + e).log(), -math.inf)
        active = peak >= log_z - reach * t
        new = torch.where(active, torch.maximum(old, peak), old)
        factor = torch.where(new > old, torch.exp((old - new) / t), 1.0)
        log_z = torch.maximum(log_z, peak)
        limit = torch.where(active & (depth >= 0), log_z - depth * t, math.inf).to(v.dtype)[:, None]
        weight = (v - torch.where(active, new, 0.0).to(v.dtype)[:, None]) * (1 / t).to(v.dtype)[:, None]
        least = weight > -cut
        weight = weight.clamp_(max=0).exp_()
        aside = v >= limit
        a, column = torch.nonzero(aside, as_tuple=True)
        e = e * factor + (weight * aside).sum(1).double()
        weight = torch.where(least & ~aside & (active & (depth < reach))[:, None], weight, 0.0)
        top[rows], E[rows] = new, e
        S[rows] = s * factor + weight.sum(1).double()
        Q[rows] = q * factor.square() + weight.square().sum(1).double()
        self.mean[rows] *= factor.to(v.dtype)[:, None]
        self._add(weight, rows, tile)
        return rows[a], column, v[a, column].double()

    def _add(self, weights: torch.Tensor, rows: torch.Tensor, tile: torch.Tensor) -> None:
        if len(rows) == len(self.mean):
            self.mean.addmm_(weights, tile)
        else:
            self.mean.index_add_(0, rows, weights @ tile)


def _within(found, level: torch.Tensor, window: torch.Tensor):
    """The candidates (row, position, v) with v >= (level - window)[row]."""
    row, position, value = (torch.cat(part) for part in zip(*found, strict=True)) if found else _nothing(level.device)
    keep = value >= (level - window)[row]
    return row[keep], position[keep], value[keep]


def _collect(kernel, arrays, rows: np.ndarray, last: tuple) -> tuple[torch.Tensor, ...]:
    """Run a row kernel over threads, emptying its lists when they are full; (row, column, v) of what it listed."""
    n, columns = arrays[0].shape
    capacity, counts = max(2 * columns, 1 << 14), np.zeros(n, dtype=np.int64)

    def work(first: int, end: int) -> list[tuple[np.ndarray, ...]]:
        out = []
        while first < end:
            place, value = np.empty(capacity, dtype=np.int64), np.empty(capacity, dtype=arrays[1].dtype)
            found, resume = kernel(*arrays, first, end, place, value, counts, *last)
            if found:
                span = slice(first, resume)
                out.append((np.repeat(rows[span], counts[span]), place[:found], value[:found].astype(np.float64)))
            first = resume
        return out

    parts = [part for chunk in over_rows(work, n) for part in chunk]
    if not parts:
        return _NOTHING
    return tuple(torch.from_numpy(np.concatenate(column)) for column in zip(*parts, strict=True))


def _nothing(device: torch.device) -> tuple[torch.Tensor, ...]:
    return tuple(part.to(device) for part in _NOTHING)


_NOTHING = (torch.empty(0, dtype=torch.int64),) * 2 + (torch.empty(0, dtype=torch.float64),)
