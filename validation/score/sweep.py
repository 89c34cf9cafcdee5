"""One block of queries against every tile: candidates by screening, or sums by an online softmax.

Energies are compared through v = x.xi - |xi|^2/2 (all recentred), so that E = |x|^2/2 - v. `screen` keeps the pairs whose v,
whatever its rounding, may belong to a weight that matters; `weigh` sums exp(v/t) and the weighted patterns, and sets aside
the pairs whose rounding would show. Either way what is kept is for float64 differences to settle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from validation.score.kernels import COMPILED, LANES
from validation.score.tile_pass import TilePass, within
from validation.score.tiles import TrainingSet, rounding
from validation.score.workers import in_threads, thread_count

__all__ = ["Candidates", "Plan", "Sweep", "all_tiles"]

Plan = Sequence[tuple[int, int]]  # tiles (start, stop)
Candidates = tuple[torch.Tensor, torch.Tensor]  # row of the block, position in the tile order; (n,) each
# share of a sample of pairs above which a method is given up
PILOT = {torch.bfloat16: 0.1, torch.float32: 0.01, torch.float64: 1.0}
PILOT_ROWS, PILOT_COLUMNS = 16, 1024  # size of that sample
# pieces of a quarter as many columns, for a pilot that has seen all patterns in tiles so wide
PILOT_TILES, PILOT_WIDTH = 8, 8192
DEVICE_SET = 1 << 24  # the entries of a block's products by one tile on a device, where a tile costs sixty launches
FAR = 4.0  # radii of the training set
SMALL = 1 << 24  # multiplications that one thread has done before another has started
WORKING_SET = 1 << 19  # entries of a block's products by one tile; twice that for the tile itself
FLOAT64_SET = 3 << 16  # the same in float64: more would leave a core's own cache between one product and the next


def all_tiles(data: TrainingSet, queries: int, dtype: torch.dtype | None = None) -> Plan:
    """Tiles (start, stop), as much for every thread: on a CPU of a width that keeps a block's products of `dtype` (the set's
    own unless told) in the cache, on a device as wide as its memory allows without a thought."""
    width = max(256, min(DEVICE_SET // max(queries, 128), 4 * DEVICE_SET // data.N))
    if data.device.type == "cpu":
        # with a large N the sums, not the products, decide: small tiles would read them too often
        small = (dtype or data.dtype) == torch.float64 and data.N <= 256
        entries, least = (FLOAT64_SET, 512) if small else (WORKING_SET, 1024)
        width = max(least, min(4096, entries // max(queries, 128), 2 * WORKING_SET // data.N) // 256 * 256)
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
        # displacements are measured from the query, or from the centre where the query is so far that x + (xi - x) cancels
        far = (self.norm > FAR * data.radius)[:, None]
        self.origin = torch.where(far, data.centre, x)
        self.shift = torch.where(far, 0.0, self.centred)  # origin - centre
        self.compiled = COMPILED and data.device.type == "cpu"

    def error(self, dtype: torch.dtype) -> torch.Tensor:
        """(B,) bound on the rounding error of v in products of `dtype` (probabilistic for the accumulation: 2 sqrt(N) u)."""
        R, norm = self.data.radius, self.norm
        u, c, tiny = rounding(dtype, self.data.N)
        error = c * norm * R + 5 * u * (norm + R).square() / 2 + tiny
        if dtype == torch.bfloat16:  # each factor rounded by 1/512 of itself, and the stored product by 1/256
            error = error + norm * R * (2 / 512 + 1 / 512**2 + 1 / 256)
        return error

    def screen(self, dtype: torch.dtype, window: torch.Tensor, most: float, floor: torch.Tensor | None = None):
        """All pairs with v within `window` (B,) of the row's largest, as `Candidates`; None when there are more than `most` a
        row. Beside them the largest v (B,), as rounded; None where a pilot found this window hopeless and nothing was looked at.

        floor : (B,) what the largest v surely reaches: known, no pair is listed in vain while it is being found
        """
        left, limit = self.centred.to(dtype), most * len(self.x)
        plan = all_tiles(self.data, len(self.x), dtype)
        if floor is None and self._hopeless(left, plan[0], window):
            return None, None
        passes = self._in_parts(left, plan, lambda one: one.screen(window, limit, floor))
        best = torch.stack([part[0] for part in passes]).amax(0)
        if any(part[1] is None for part in passes):
            return None, best
        row, position, _ = within([entry for part in passes for entry in part[1]], best, window)
        return ((row, position) if len(row) <= limit else None), best

    def largest(self, dtype: torch.dtype) -> torch.Tensor:
        """The largest v of each row (B,), as rounded."""
        passes = self._in_parts(self.centred.to(dtype), all_tiles(self.data, len(self.x), dtype), TilePass.largest)
        return torch.stack(passes).amax(0)

    def may_be_sparse(self, dtype: torch.dtype, window: torch.Tensor, share: float) -> bool:
        """A guess by products in `dtype`: would most of a few queries have less than `share` of a sample of pairs within
        `window` of the largest v, if that were of a pattern at the distance sqrt(N t), where a noised one has its own?"""
        if len(self.x) < 4 * PILOT_ROWS:  # the pilot that follows would cost as much as what it might save
            return False
        some, (start, stop) = slice(0, None, -(-len(self.x) // PILOT_ROWS)), (0, min(PILOT_COLUMNS, self.data.P))
        v = self._products(self.centred[some].to(dtype), start, stop)
        own = (self.norm[some].square() - self.data.N * self.t[some]) / 2
        least = (own - window[some]).to(v.dtype)
        return bool(((v >= least[:, None]).double().mean(1) < share).double().mean() > 0.5)

    def shares(self, dtype: torch.dtype, window: torch.Tensor, best: torch.Tensor | None = None) -> torch.Tensor:
        """A pilot: for a few queries, the share of all pairs (of a sample) with v within `window` of the row's largest, which
        is sought among all patterns unless `best` (B,) tells it."""
        some, width = slice(0, None, -(-len(self.x) // PILOT_ROWS)), PILOT_WIDTH
        left, sample, P = self.centred[some].to(dtype), [], self.data.P
        if best is None:
            top = TilePass(self, left, [(start, min(start + width, P)) for start in range(0, P, width)]).largest()
        else:
            top = best[some]
        for start in range(0, P, -(-P // PILOT_TILES)):
            stop = min(P, start + PILOT_COLUMNS // 4)
            sample.append(self._products(left, start, stop))
        sample = torch.cat(sample, dim=1)
        return (sample >= (top - window[some]).to(sample.dtype)[:, None]).double().mean(1)

    def weigh(
        self,
        dtype: torch.dtype,
        cut: float,
        reach: torch.Tensor,
        depth: torch.Tensor,
        most: float,
        floor: torch.Tensor | None = None,
    ):
        """Online sums over all tiles, with the pairs to be done again; None when there are more than `most` a row.

        Returns (top, S, Q, mean, (row, position)): sums over the others of exp((v - top)/t), its square, and (B, N) of it
        times the recentred patterns. cut, and reach, depth (B,), in units of v/t: see `profile_kernels.profile_rows`;
        floor (B,) as in `screen`.
        """
        left, limit = self.centred.to(dtype), most * len(self.x)
        plan = all_tiles(self.data, len(self.x), dtype)
        if most < math.inf and bool((depth >= reach).any()) and self._hopeless(left, plan[0], reach * self.t):
            return None
        limits = torch.stack([reach, depth, torch.full_like(reach, -math.inf) if floor is None else floor])
        passes = self._in_parts(left, plan, lambda one: one.weigh(cut, limits, limit))
        if any(result is None for result in passes):
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

    def _in_parts(self, left: torch.Tensor, plan: Plan, run: Callable[[TilePass], Any]) -> list[Any]:
        """Results of passes over equal parts of the plan, one a thread."""
        length = -(-len(plan) // thread_count(self.data.device))
        parts = [plan[start : start + length] for start in range(0, len(plan), length)]
        return in_threads(lambda part: run(TilePass(self, left, part)), parts, self.data.device)

    def _hopeless(self, left: torch.Tensor, tile: tuple[int, int], window: torch.Tensor) -> bool:
        """A pilot, a few queries against a tile: would this window keep too large a share of the pairs?"""
        some = slice(0, None, max(1, len(self.x) // PILOT_ROWS))
        start, stop = tile[0], min(tile[1], tile[0] + PILOT_COLUMNS)
        v = self._products(left[some], start, stop)
        kept = v >= (v.amax(1).double() - window[some]).to(v.dtype)[:, None]
        return int(kept.sum()) > max(PILOT[left.dtype] * v.numel(), 4 * v.shape[0])

    def _products(self, left: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """v of a few queries, as rounded, and of some patterns."""
        h = self.data.norms(start, stop, left.dtype)
        return (left @ self.data.tile(start, stop, left.dtype).T).to(h.dtype) - h
