"""One block of queries against every tile: candidates by screening, or sums by an online softmax.

Energies are compared through v = x.xi - |xi|^2/2 (all recentred), so that E = |x|^2/2 - v. `screen` keeps the pairs whose v,
whatever its rounding, may belong to a weight that matters; `weigh` sums exp(v/t) and the weighted patterns, and sets aside
the pairs whose rounding would show. Either way what is kept is for float64 differences to settle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from validation.tile_pass import TilePass, within
from validation.tiles import TrainingSet, rounding
from validation.vector_math import COMPILED, LANES
from validation.workers import in_threads, thread_count

__all__ = ["Candidates", "Plan", "Sweep", "all_tiles"]

Plan = Sequence[tuple[int, int]]  # tiles (start, stop)
Candidates = tuple[torch.Tensor, torch.Tensor]  # row of the block, position in the tile order; (n,) each
# share of a sample of pairs above which a method is given up
PILOT = {torch.bfloat16: 0.1, torch.float32: 0.01, torch.float64: 1.0}
PILOT_ROWS, PILOT_COLUMNS = 16, 1024  # size of that sample
SMALL = 1 << 24  # multiplications that one thread has done before another has started
WORKING_SET = 1 << 19  # entries of a block's products by one tile; twice that for the tile itself


def all_tiles(data: TrainingSet, queries: int) -> Plan:
    """Tiles (start, stop) of a width that keeps a block's products in the cache (on a CPU), as much for every thread."""
    width = 16384
    if data.device.type == "cpu":
        width = max(1024, min(4096, WORKING_SET // max(queries, 128), 2 * WORKING_SET // data.N) // 512 * 512)
    share = data.P
    if queries * data.P * data.N > SMALL:
        share = -(-data.P // thread_count(data.device))
        share = -(-share // LANES) * LANES
    shares = [(start, min(start + share, data.P)) for start in range(0, data.P, share)]
    return [(start, min(start + width, last)) for first, last in shares for start in range(first, last, width)]


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
        left, limit = self.centred.to(dtype), most * len(self.x)
        if self._hopeless(left, plan[0], window):
            return None
        passes = self._in_parts(left, plan, lambda one: one.screen(window, limit))
        if passes is None:
            return None
        best = torch.stack([part[0] for part in passes]).amax(0)
        row, position, _ = within([entry for part in passes for entry in part[1]], best, window)
        return (row, position) if len(row) <= limit else None

    def weigh(self, dtype: torch.dtype, cut: float, reach: torch.Tensor, depth: torch.Tensor, plan: Plan, most: float):
        """Online sums over all tiles, with the pairs to be done again; None when there are more than `most` a row.

        Returns (top, S, Q, mean, (row, position)): sums over the others of exp((v - top)/t), its square, and (B, N) of it
        times the recentred patterns. cut, and reach, depth (B,), in units of v/t: see `profile_kernels.profile_rows`.
        """
        left, limit = self.centred.to(dtype), most * len(self.x)
        if most < math.inf and bool((depth >= reach).any()) and self._hopeless(left, plan[0], reach * self.t):
            return None
        passes = self._in_parts(left, plan, lambda one: one.weigh(cut, torch.stack([reach, depth]), limit))
        if passes is None:
            return None
        states = torch.stack([part[0] for part in passes])
        top = states[:, 0].amax(0)
        scale = torch.where(states[:, 0] > -math.inf, torch.exp((states[:, 0] - top) / self.t), 0.0)
        S, Q, E = (states[:, 1] * scale).sum(0), (states[:, 2] * scale.square()).sum(0), (states[:, 3] * scale).sum(0)
        mean = sum(part[1] * factor.to(dtype)[:, None] for part, factor in zip(passes[1:], scale[1:], strict=True))
        mean = passes[0][1].mul_(scale[0].to(dtype)[:, None]) + mean
        log_z = torch.where(S + E > 0, top + self.t * (S + E).log(), -math.inf)
        row, position, _ = within([entry for part in passes for entry in part[2]], log_z, reach * self.t)
        return (top, S, Q, mean, (row, position)) if len(row) <= limit else None

    def _in_parts(self, left: torch.Tensor, plan: Plan, run: Callable[[TilePass], tuple | None]) -> list[tuple] | None:
        """Passes over equal parts of the plan, one a thread; None when any of them gave up."""
        length = -(-len(plan) // thread_count(self.data.device))
        parts = [plan[start : start + length] for start in range(0, len(plan), length)]
        passes = in_threads(lambda part: run(TilePass(self, left, part)), parts, self.data.device)
        return None if any(result is None for result in passes) else passes

    def _hopeless(self, left: torch.Tensor, tile: tuple[int, int], window: torch.Tensor) -> bool:
        """A pilot, a few queries against a tile: would this window keep too large a share of the pairs?"""
        some = slice(0, None, max(1, len(self.x) // PILOT_ROWS))
        start, stop = tile[0], min(tile[1], tile[0] + PILOT_COLUMNS)
        h = self.data.norms(start, stop, left.dtype)
        v = (left[some] @ self.data.tile(start, stop, left.dtype).T).to(h.dtype) - h
        kept = v >= (v.amax(1).double() - window[some]).to(v.dtype)[:, None]
        return int(kept.sum()) > max(PILOT[left.dtype] * v.numel(), 4 * v.shape[0])
