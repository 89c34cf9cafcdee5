"""One block of queries against every tile, in parts, one a thread: candidates by screening, or sums by an online softmax.

`screen` keeps the pairs whose v = x.xi - |xi|^2/2, whatever its rounding, may belong to a weight that matters; `weigh` sums
exp(v/t) and the weighted patterns, and sets aside the pairs whose rounding would show. Either way what is kept is for float64
differences to settle. Pilots tell from a few queries whether either would keep too many.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from validation.score.engine.block import Block, Candidates, Plan, all_tiles
from validation.score.engine.tile_pass import Factors, TilePass, full_factors, within
from validation.score.engine.workers import in_threads, thread_count

__all__ = ["Screened", "hopeless", "largest_is_near", "screen", "shares_within", "weigh"]


@dataclass(frozen=True, eq=False)
class Screened:
    """Candidates (row, position), or None when there were too many; largest v of each row, as rounded, and its position."""

    candidates: Candidates | None
    best: torch.Tensor
    place: torch.Tensor


def screen(
    block: Block, factors: Factors, most: float, window: torch.Tensor | None = None, limit: torch.Tensor | None = None
) -> Screened:
    """All pairs with v >= `limit` (B,) and v within `window` (B,) of the row's largest; not more than `most` a row."""
    B, total = len(block.x), most * len(block.x)
    window = torch.full_like(block.t, math.inf) if window is None else window
    limit = torch.full_like(block.t, -math.inf) if limit is None else limit
    plan = all_tiles(block.data, B, factors.left.dtype, factors.left.shape[1])
    passes = _in_parts(block, factors, plan, lambda one: one.screen(window, limit, total))
    best, which = torch.stack([part.best for part in passes]).max(0)
    place = torch.stack([part.place for part in passes]).gather(0, which[None])[0]
    if any(part.entries is None for part in passes):
        return Screened(None, best, place)
    row, position, _ = within([entry for part in passes for entry in part.entries], best, window)
    return Screened((row, position) if len(row) <= total else None, best, place)


def weigh(
    block: Block,
    dtype: torch.dtype,
    cut: float,
    reach: torch.Tensor,
    depth: torch.Tensor,
    most: float,
    floor: torch.Tensor | None = None,
):
    """Online sums over all tiles, with the pairs to be done again; None when there are more than `most` a row.

    Returns (top, S, Q, mean, (row, position)): sums over the others of exp((v - top)/t), its square, and (B, N) of it
    times the recentred patterns, all in float64. cut, and reach, depth (B,), in units of v/t: see `profile_kernels.profile_rows`;
    floor : (B,) what the largest v surely reaches
    """
    factors, limit = full_factors(block, dtype), most * len(block.x)
    plan = all_tiles(block.data, len(block.x), dtype)
    if most < math.inf and bool((depth >= reach).any()) and hopeless(block, factors, reach * block.t):
        return None
    limits = torch.stack([reach, depth, torch.full_like(reach, -math.inf) if floor is None else floor])
    passes = _in_parts(block, factors, plan, lambda one: one.weigh(cut, limits, limit))
    if any(result is None for result in passes):
        return None
    states = torch.stack([part[0] for part in passes])
    top = states[:, 0].amax(0)
    scale = torch.where(states[:, 0] > -math.inf, torch.exp((states[:, 0] - top) / block.t), 0.0)
    S, Q, E = (states[:, 1] * scale).sum(0), (states[:, 2] * scale.square()).sum(0), (states[:, 3] * scale).sum(0)
    mean = sum(part[1].mul_(factor[:, None]) for part, factor in zip(passes, scale, strict=True))
    log_z = torch.where(S + E > 0, top + block.t * (S + E).log(), -math.inf)
    row, position, _ = within([entry for part in passes for entry in part[2]], log_z, reach * block.t)
    return (top, S, Q, mean, (row, position)) if len(row) <= limit else None


def hopeless(block: Block, factors: Factors, window: torch.Tensor) -> bool:
    """Pilot, a few queries against a tile: whether this window keeps too large a share of the pairs."""
    policy, data = block.policy, block.data
    some = slice(0, None, max(1, len(block.x) // policy.pilot_rows))
    v = _products(factors, factors.left[some], 0, min(policy.pilot_columns, data.P))
    kept = v >= (v.amax(1).double() - window[some]).to(v.dtype)[:, None]
    dtype = factors.left.dtype
    share = policy.pilot_bfloat16 if dtype == torch.bfloat16 else policy.of(policy.pilot, dtype)
    return int(kept.sum()) > max(share * v.numel(), 4 * v.shape[0])


def largest_is_near(block: Block, factors: Factors, window: torch.Tensor, share: float) -> bool:
    """Pilot: whether most of a few queries would keep less than `share` of a sample of pairs, if their nearest pattern were
    at the distance sqrt(N t), where a noised one has its own."""
    policy, data = block.policy, block.data
    if len(block.x) < 4 * policy.pilot_rows:  # the pilot that follows would cost as much as what it might save
        return False
    some = slice(0, None, -(-len(block.x) // policy.pilot_rows))
    v = _products(factors, factors.left[some], 0, min(policy.pilot_columns, data.P))
    own = (block.norm[some].square() - data.N * block.t[some]) / 2
    least = (own - window[some]).to(v.dtype)
    return bool(((v >= least[:, None]).double().mean(1) < share).double().mean() > 0.5)


def shares_within(block: Block, factors: Factors, window: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
    """Pilot: for a few queries, the share of all pairs (of a sample) with v within `window` of the row's largest, `best` (B,)."""
    policy, P = block.policy, block.data.P
    some = slice(0, None, -(-len(block.x) // policy.pilot_rows))
    left, sample = factors.left[some], []
    for start in range(0, P, -(-P // policy.pilot_tiles)):
        sample.append(_products(factors, left, start, min(P, start + policy.pilot_columns // 4)))
    sample = torch.cat(sample, dim=1)
    return (sample >= (best - window)[some].to(sample.dtype)[:, None]).double().mean(1)


def _in_parts(block: Block, factors: Factors, plan: Plan, run: Callable[[TilePass], Any]) -> list[Any]:
    """Results of passes over equal parts of the plan, one a thread."""
    device = block.data.device
    length = -(-len(plan) // thread_count(device))
    parts = [plan[start : start + length] for start in range(0, len(plan), length)]
    return in_threads(lambda part: run(TilePass(block, factors, part)), parts, device)


def _products(factors: Factors, left: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """v of a few queries, as rounded, and of some patterns."""
    h = factors.norms(start, stop)
    return (left @ factors.tile(start, stop).T).to(h.dtype) - h
