r"""The sums over weights at one noise level a query: log Z, mean displacement, participation, and the support when small.

    log Z = log sum_mu e^{-E_mu/t},   D = sum_mu w_mu (xi_mu - x),   1/sum_mu w_mu^2

A ladder of methods, cheapest first: screening in bfloat16 or float32, whose few candidates are settled in float64 (no second
product at all); online sums of float32 products with the pairs that matter settled in float64; float64 products.
Each rung gives up as soon as it meets more candidates than the next rung would cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from validation.score.pruning import Clusters
from validation.score.sharded import Shards
from validation.score.sweep import Candidates, Sweep
from validation.score.tiles import TrainingSet
from validation.score.workers import alone, block_size, in_threads

__all__ = ["Support", "WeightSums", "nearest_pattern", "weight_sums"]

NEGLECT = {torch.float32: 1e-7, torch.float64: 1e-14}  # weight left out by cuts, relative to the sum
TOLERANCE = {torch.float32: 3e-6, torch.float64: 1e-13}  # error of a weight that may stay unsettled
TYPICAL = 8.0  # rounding errors are this much below their bound, or further
SHARE = 4e-3  # candidates a query, over P, that are settled before the next method is cheaper
# the same where the largest is known beforehand, so that none is listed in vain
KNOWN_SHARE = {torch.float32: 0.01, torch.float64: 0.03}
HEAVY = 1 / 16  # of the pairs: a query with more of them within reach needs the second product
# share of such queries up to which the largest is found beforehand for sums too; float32 sums are too cheap for that
WORTHWHILE = {torch.float32: 0.0, torch.float64: 0.5}
FEW = 64  # and never less than this many


@dataclass(frozen=True, eq=False)
class Support:
    """Every pair (row of the block, position, log weight) whose weight is not negligible, sorted by row; (n,) each."""

    row: torch.Tensor
    position: torch.Tensor
    log_weight: torch.Tensor


@dataclass(frozen=True, eq=False)
class WeightSums:
    """log_z (B,), displacement D (B, N), participation (B,); `supports` [(rows of the batch, Support or None)] a block."""

    log_z: torch.Tensor
    displacement: torch.Tensor
    participation: torch.Tensor
    supports: list
    statistics: dict = field(default_factory=dict)


@dataclass(eq=False)
class _Part:
    """Sums of one block: log of the largest term, sum, squares, displacement, all relative to it; settled pairs if all."""

    top: torch.Tensor
    S: torch.Tensor
    Q: torch.Tensor
    D: torch.Tensor
    pairs: tuple | None
    method: str
    settled: int


def weight_sums(
    data: TrainingSet,
    shards: Shards,
    x: torch.Tensor,
    t: torch.Tensor,
    clusters: Clusters | None = None,
    sharper: bool = False,
) -> WeightSums:
    """Sums for queries x (B, N) at t (B,), both float64 on the device of `data`.

    sharper : neglect also what would only show in second moments: weights below 1/(1 + |xi|^2/t) of the usual
    """
    with alone(data.device):
        return _weight_sums(data, shards, x, t, clusters, sharper)


def _weight_sums(data: TrainingSet, shards: Shards, x, t, clusters: Clusters | None, sharper: bool) -> WeightSums:
    order = torch.argsort(t)
    B, N = x.shape
    log_z, participation, D = x.new_empty(B), x.new_empty(B), x.new_empty(B, N)
    supports, statistics = [], {"settled": 0, "method": [], "visited": 0.0, "left_out": 0.0}

    def one(rows: torch.Tensor) -> tuple[_Part, float, float]:
        cut = math.log(shards.total / NEGLECT[data.dtype])
        if sharper:
            far = (torch.linalg.vector_norm(x[rows] - data.centre, dim=1).max() + data.radius) ** 2
            cut += float(torch.log1p(far / t[rows].min()))
        return _block(data, x[rows], t[rows], cut, clusters)

    blocks = order.split(block_size(B, x.device))
    for rows, (part, visited, left_out) in zip(blocks, in_threads(one, blocks, x.device), strict=True):
        top = shards.max(part.top)
        scale = torch.where(part.S > 0, torch.exp(part.top - top), 0.0)
        S, Q = shards.sum(part.S * scale), shards.sum(part.Q * scale.square())
        log_z[rows] = top + S.log()
        participation[rows] = S.square() / Q
        D[rows] = shards.sum(part.D * scale[:, None]) / S[:, None]
        support = None
        if part.pairs is not None:
            row, position, exponent = part.pairs
            support = Support(row, position, exponent - log_z[rows][row])
        supports.append((rows, support))
        statistics["settled"] += part.settled
        statistics["method"].append(part.method)
        statistics["visited"] += visited * len(rows) / B
        statistics["left_out"] = max(statistics["left_out"], left_out)
    return WeightSums(log_z, D, participation, supports, statistics)


def nearest_pattern(
    data: TrainingSet, shards: Shards, x: torch.Tensor, exclude: torch.Tensor | None, clusters: Clusters | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(row in the whole training set, squared distance) of the pattern nearest to each query, (B,) int64 and float64.

    exclude : (B,) rows of the whole set that do not count, or None. Ties go to the first row.
    """
    with alone(data.device):
        return _nearest_pattern(data, shards, x, exclude, clusters)


def _nearest_pattern(data: TrainingSet, shards: Shards, x, exclude, clusters: Clusters | None):
    if exclude is not None:
        local = exclude - shards.offset
        here = (local >= 0) & (local < data.P)
        exclude = torch.where(here, data.positions(local.clamp(0, data.P - 1)), -1)

    def one(block: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out = None if exclude is None else exclude[block]
        sweep = Sweep(data, x[block], torch.ones(len(block), dtype=torch.float64, device=x.device), out)
        pruned = None
        if clusters is not None and out is None:
            pruned = clusters.visit(sweep, torch.zeros_like(sweep.t), max(FEW, SHARE * data.P))
        row, position = _candidates(sweep) if pruned is None else pruned[0]
        found, _ = data.pairs(sweep.x, row, position)
        best = torch.full_like(sweep.t, math.inf).scatter_reduce(0, row, found, "amin")
        ties = found == best[row]
        number = data.original(position[ties]) + shards.offset
        none = torch.full((len(block),), shards.total, dtype=torch.int64, device=x.device)
        return none.scatter_reduce(0, row[ties], number, "amin"), best

    blocks = torch.arange(len(x), device=x.device).split(block_size(len(x), x.device))
    index, energy = zip(*in_threads(one, blocks, x.device), strict=True)
    best, number = torch.cat(energy), torch.cat(index)
    overall = shards.min(best)
    return shards.min(torch.where(best == overall, number, shards.total)), 2 * overall


def _candidates(sweep: Sweep) -> Candidates:
    most = max(FEW, SHARE * sweep.data.P)
    for dtype in [*_screens(sweep.data), *([torch.float32] if sweep.data.dtype == torch.float32 else [])]:
        found, _ = sweep.screen(dtype, 2 * sweep.error(dtype), most)
        if found is not None:
            return found
    return sweep.screen(torch.float64, 2 * sweep.error(torch.float64), math.inf)[0]


def _block(data: TrainingSet, x: torch.Tensor, t: torch.Tensor, cut: float, clusters: Clusters | None):
    """(sums, share of pairs visited, bound on the weight left out by clusters, relative to Z) of one block."""
    sweep = Sweep(data, x, t)
    pruned = None if clusters is None else clusters.visit(sweep, cut * t, max(FEW, SHARE * data.P))
    if pruned is None:
        return _ladder(sweep, cut), 1.0, 0.0
    candidates, bound, share = pruned
    part = _settled(sweep, candidates, cut, "clusters")
    return part, share, clusters.left_out(bound, t, part.top + part.S.log())


def _ladder(sweep: Sweep, cut: float) -> _Part:
    """The first method that does not meet too many candidates."""
    data, floor, wide = sweep.data, None, math.inf
    most, known = max(FEW, SHARE * data.P), KNOWN_SHARE[data.dtype]
    sparse = HEAVY if WORTHWHILE[data.dtype] else known
    for dtype in _screens(data):
        error = sweep.error(dtype)
        window = cut * sweep.t + 2 * error
        if float((window / wide).median()) > 0.7:  # it would meet what the coarser products met
            continue
        wide = window
        candidates, best = sweep.screen(dtype, window, most)
        lost = candidates is None and dtype == torch.bfloat16 and not data.streamed
        if lost and sweep.may_be_sparse(dtype, window, sparse):
            shares = sweep.shares(dtype, window, best)
            few = float(shares.mean()) < known / 2
            if best is None and (few or float((shares > HEAVY).double().mean()) < WORTHWHILE[data.dtype]):
                best = sweep.largest(dtype)
            if best is not None:
                floor = best - error
                candidates = sweep.screen(dtype, window, known * data.P, floor)[0] if few else None
        if candidates is not None:
            return _settled(sweep, candidates, cut, str(dtype).removeprefix("torch.") + " screen")
    if data.dtype == torch.float32:
        part = _summed(sweep, torch.float32, cut, most, floor)
        if part is not None:
            return part
    return _summed(sweep, torch.float64, cut, math.inf, floor)


def _screens(data: TrainingSet) -> list[torch.dtype]:
    """Precisions worth a screening pass: bfloat16 where the hardware multiplies it, float32 before float64."""
    fast = data.device.type == "cuda" or (data.device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())
    rungs = [torch.bfloat16] if fast and data.P >= 4096 else []
    return rungs + ([torch.float32] if data.dtype == torch.float64 else [])


def _settled(sweep: Sweep, candidates: Candidates, cut: float, method: str) -> _Part:
    """All the weight from float64 differences."""
    top, S, Q, D, pairs = _settle(sweep, candidates, None, cut)
    return _Part(top, S, Q, D, pairs, method, len(candidates[0]))


def _settle(sweep: Sweep, candidates: Candidates, floor: torch.Tensor | None, cut: float):
    """Exponents of candidates by differences; sums relative to the largest (at least `floor`)."""
    row, position = candidates
    row, by_row = torch.sort(row, stable=True)
    position = position[by_row]
    B = len(sweep.x)
    energy, _ = sweep.data.pairs(sweep.x, row, position)
    exponent = -energy / sweep.t[row]
    top = torch.full_like(sweep.t, -math.inf) if floor is None else floor
    top = top.scatter_reduce(0, row, exponent, "amax")
    keep = exponent > top[row] - cut
    row, position, exponent = row[keep], position[keep], exponent[keep]
    weight = torch.exp(exponent - top[row])
    zero = torch.zeros(B, dtype=torch.float64, device=row.device)
    S, Q = zero.index_add(0, row, weight), zero.index_add(0, row, weight.square())
    return top, S, Q, sweep.data.displacements(sweep.x, row, position, weight), (row, position, exponent)


def _summed(sweep: Sweep, dtype: torch.dtype, cut: float, most: float, floor: torch.Tensor | None) -> _Part | None:
    """Online sums of products, with the pairs whose rounding would show settled by differences."""
    error, tolerance = sweep.error(dtype) / sweep.t, TOLERANCE[sweep.data.dtype]
    reach = cut + 2 * error
    typical = error / TYPICAL
    depth = torch.minimum((typical / tolerance).log() + 2 * error, reach)
    depth = torch.where(error > 0.1, reach, depth)
    depth = torch.where(typical > tolerance, depth, -1.0)
    found = sweep.weigh(dtype, cut, reach, depth, most, floor)
    if found is None:
        return None
    top, S, Q, mean, candidates = found
    some = S > 0
    # the products' exponents are v/t = (|x|^2/2 - E)/t: on the exact scale from here on
    half = sweep.centred.to(dtype).double().square().sum(1) / 2
    bulk = torch.where(some, (top - half) / sweep.t, -math.inf)
    top, S1, Q1, D1, pairs = _settle(sweep, candidates, bulk, cut)
    scale = torch.where(some, torch.exp(bulk - top), 0.0)
    D = D1 + (mean.double() - S[:, None] * sweep.centred) * scale[:, None]
    method = f"{str(dtype).removeprefix('torch.')} sums"
    whole = None if bool(some.any()) else pairs
    return _Part(top, S1 + S * scale, Q1 + Q * scale.square(), D, whole, method, len(candidates[0]))
