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

from validation.score.double_double import gap, lexicographic_min, relative_error
from validation.score.pruning import Clusters
from validation.score.settle import RESOLVED, check_ranked, is_hard, settle
from validation.score.sharded import Shards
from validation.score.sweep import Candidates, Sweep
from validation.score.tiles import TrainingSet, rounding
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
    """Sums of a batch, and what log weights are relative to.

    energy, low : (B,), a reference |x - xi|^2/2 near the smallest, double-double; log_s : (B,) of the sum relative to it
    displacement, mean : (B, N), posterior mean less x, and the mean itself, each without cancellation
    participation : (B,); supports : [(rows of the batch, Support or None)] a block
    """

    energy: torch.Tensor
    low: torch.Tensor
    log_s: torch.Tensor
    t: torch.Tensor
    displacement: torch.Tensor
    mean: torch.Tensor
    participation: torch.Tensor
    supports: list
    statistics: dict = field(default_factory=dict)

    @property
    def log_z(self) -> torch.Tensor:
        """log sum_mu exp(-E_mu/t), (B,)."""
        return self.log_s - (self.energy + self.low) / self.t

    def log_weight(self, energy: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """log w of energies |x - xi|^2/2 (n,) of the queries `rows` (n,), relative to the reference: the rounding of the
        energy shows where `is_hard` says so."""
        return -((energy - self.energy[rows]) - self.low[rows]) / self.t[rows] - self.log_s[rows]

    def log_weight_of(self, data: TrainingSet, shards: Shards, x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """log w (B,) of one pattern a query, `rows` (B,) of the whole training set."""
        position, queries = _positions(data, shards, rows), torch.arange(len(x), device=x.device)
        found = self.exact_log_weight(data, x, queries, position.clamp(min=0))
        return shards.sum(torch.where(position >= 0, found, 0.0))

    def exact_log_weight(
        self, data: TrainingSet, x: torch.Tensor, rows: torch.Tensor, position: torch.Tensor
    ) -> torch.Tensor:
        """log w (n,) of pairs (query, position in the tile order), from differences, in double-double where it shows."""
        energy, _ = data.pairs(x, rows, position)
        found = self.log_weight(energy, rows)
        hard = torch.nonzero(is_hard(data, self.energy, self.t)[rows]).view(-1)
        if len(hard):
            some = rows[hard]
            above = gap(data.precise(x, some, position[hard]), (self.energy[some], self.low[some]))
            found[hard] = -above / self.t[some] - self.log_s[some]
        return found


@dataclass(eq=False)
class _Part:
    """Sums of one block relative to the energy (energy, low); displacements from the origin; settled pairs if all."""

    energy: torch.Tensor
    low: torch.Tensor
    S: torch.Tensor
    Q: torch.Tensor
    D: torch.Tensor
    pairs: tuple | None
    ranked: torch.Tensor
    origin: torch.Tensor
    method: str
    settled: int


def weight_sums(
    data: TrainingSet,
    shards: Shards,
    x: torch.Tensor,
    t: torch.Tensor,
    clusters: Clusters | None = None,
    sharper: bool = False,
    exclude: torch.Tensor | None = None,
) -> WeightSums:
    """Sums for queries x (B, N) at t (B,), both float64 on the device of `data`.

    exclude : (B,) rows of the whole set that do not count, or None
    sharper : neglect also what would only show in second moments: weights below 1/(1 + |xi|^2/t) of the usual
    """
    with alone(data.device):
        exclude = None if exclude is None else _positions(data, shards, exclude)
        return _weight_sums(data, shards, x, t, clusters, sharper, exclude)


def _weight_sums(data: TrainingSet, shards: Shards, x, t, clusters, sharper: bool, exclude) -> WeightSums:
    order = torch.argsort(t)
    B, N = x.shape
    energy, low, log_s, participation = (x.new_empty(B) for _ in range(4))
    D, mean, ranked = x.new_empty(B, N), x.new_empty(B, N), torch.ones_like(t, dtype=torch.bool)
    supports, statistics = [], {"settled": 0, "method": [], "visited": 0.0, "left_out": 0.0}

    def one(rows: torch.Tensor) -> tuple[_Part, float, float]:
        cut = math.log(shards.total / NEGLECT[data.dtype])
        if sharper:
            far = (torch.linalg.vector_norm(x[rows] - data.centre, dim=1).max() + data.radius) ** 2
            cut += float(torch.log1p(far / t[rows].min()))
        sweep = Sweep(data, x[rows], t[rows], None if exclude is None else exclude[rows])
        return _block(sweep, cut, clusters)

    blocks = order.split(block_size(B, x.device))
    for rows, (part, visited, left_out) in zip(blocks, in_threads(one, blocks, x.device), strict=True):
        hi = shards.min(part.energy)
        lo = shards.min(torch.where(part.energy == hi, part.low, math.inf))
        above = gap((torch.where(part.S > 0, part.energy, hi), part.low), (hi, lo)) / t[rows]
        scale = torch.where(part.S > 0, torch.exp(-above), 0.0)
        S, Q = shards.sum(part.S * scale), shards.sum(part.Q * scale.square())
        energy[rows], low[rows], log_s[rows] = hi, lo, S.log()
        participation[rows] = S.square() / Q
        moved = shards.sum(part.D * scale[:, None]) / S[:, None]
        mean[rows] = part.origin + moved
        D[rows] = moved + (part.origin - x[rows])
        told = part.ranked & _ranked_across(data, shards, part, above, hi / t[rows])
        ranked[rows] = shards.min(told.to(t.dtype)) > 0
        support = None
        if part.pairs is not None:
            row, position, exponent = part.pairs
            support = Support(row, position, exponent - (above + S.log())[row])
        supports.append((rows, support))
        statistics["settled"] += part.settled
        statistics["method"].append(part.method)
        statistics["visited"] += visited * len(rows) / B
        statistics["left_out"] = max(statistics["left_out"], left_out)
    check_ranked(ranked, energy / t)
    return WeightSums(energy, low, log_s, t, D, mean, participation, supports, statistics)


def _ranked_across(data: TrainingSet, shards: Shards, part: _Part, above, exponent) -> torch.Tensor:
    """Whether the nearest patterns of different processes are told apart."""
    error = 2 * relative_error(data.N) * exponent
    near = shards.sum(((part.S > 0) & (above <= error)).to(above.dtype))
    return (near <= 1) | (error <= RESOLVED[data.dtype])


def _positions(data: TrainingSet, shards: Shards, rows: torch.Tensor) -> torch.Tensor:
    """Positions in the tile order of rows of the whole set, -1 where another process holds them."""
    local = rows - shards.offset
    here = (local >= 0) & (local < data.P)
    return torch.where(here, data.positions(local.clamp(0, data.P - 1)), -1)


def nearest_pattern(
    data: TrainingSet, shards: Shards, x: torch.Tensor, exclude: torch.Tensor | None, clusters: Clusters | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(row in the whole training set, squared distance) of the pattern nearest to each query, (B,) int64 and float64.

    exclude : (B,) rows of the whole set that do not count, or None. Ties go to the first row.
    """
    with alone(data.device):
        return _nearest_pattern(data, shards, x, exclude, clusters)


def _nearest_pattern(data: TrainingSet, shards: Shards, x, exclude, clusters: Clusters | None):
    exclude = None if exclude is None else _positions(data, shards, exclude)

    def one(block: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out = None if exclude is None else exclude[block]
        sweep = Sweep(data, x[block], torch.ones(len(block), dtype=torch.float64, device=x.device), out)
        pruned = None
        if clusters is not None and out is None:
            pruned = clusters.visit(sweep, torch.zeros_like(sweep.t), max(FEW, SHARE * data.P))
        row, position = _candidates(sweep) if pruned is None else pruned[0]
        found, _ = data.pairs(sweep.x, row, position)
        best = torch.full_like(sweep.t, math.inf).scatter_reduce(0, row, found, "amin")
        near = torch.nonzero(found <= (best * (1 + 2 * rounding(torch.float64, data.N)[1]))[row]).view(-1)
        row, position = row[near], position[near]
        fine = found[near], torch.zeros_like(found[near])
        if len(near) > len(block) or not shards.alone:  # rounding could decide
            fine = data.precise(sweep.x, row, position)
        hi, lo = lexicographic_min(*fine, row, len(block))
        ties = (fine[0] == hi[row]) & (fine[1] == lo[row])
        number = data.original(position[ties]) + shards.offset
        none = torch.full((len(block),), shards.total, dtype=torch.int64, device=x.device)
        return none.scatter_reduce(0, row[ties], number, "amin"), hi, lo

    blocks = torch.arange(len(x), device=x.device).split(block_size(len(x), x.device))
    number, hi, lo = (torch.cat(part) for part in zip(*in_threads(one, blocks, x.device), strict=True))
    least = shards.min(hi)
    rest = shards.min(torch.where(hi == least, lo, math.inf))
    return shards.min(torch.where((hi == least) & (lo == rest), number, shards.total)), 2 * least


def _candidates(sweep: Sweep) -> Candidates:
    most = max(FEW, SHARE * sweep.data.P)
    for dtype in [*_screens(sweep.data), *([torch.float32] if sweep.data.dtype == torch.float32 else [])]:
        found, _ = sweep.screen(dtype, 2 * sweep.error(dtype), most)
        if found is not None:
            return found
    return sweep.screen(torch.float64, 2 * sweep.error(torch.float64), math.inf)[0]


def _block(sweep: Sweep, cut: float, clusters: Clusters | None):
    """(sums, share of pairs visited, bound on the weight left out by clusters, relative to Z) of one block."""
    pruned = None
    if clusters is not None and sweep.exclude is None:
        pruned = clusters.visit(sweep, cut * sweep.t, max(FEW, SHARE * sweep.data.P))
    if pruned is None:
        return _ladder(sweep, cut), 1.0, 0.0
    candidates, bound, share = pruned
    part = _settled(sweep, candidates, cut, "clusters")
    return part, share, clusters.left_out(bound, sweep.t, part.energy, part.S.log())


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
    one = settle(sweep, candidates, cut)
    return _Part(
        one.energy, one.low, one.S, one.Q, one.D, one.pairs, one.ranked, sweep.origin, method, len(candidates[0])
    )


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
    one, some = settle(sweep, candidates, cut), S > 0
    # the products' v = |x|^2/2 - E becomes an energy; its gap to the settled reference is small wherever its sum counts
    bulk = sweep.centred.to(dtype).double().square().sum(1) / 2 - top
    energy = torch.where(one.energy < math.inf, one.energy, bulk)
    scale = torch.where(some, torch.exp((energy - bulk) / sweep.t), 0.0)
    D = one.D + (mean.double() - S[:, None] * sweep.shift) * scale[:, None]
    method = f"{str(dtype).removeprefix('torch.')} sums"
    whole = None if bool(some.any()) else one.pairs
    S, Q = one.S + S * scale, one.Q + Q * scale.square()
    return _Part(energy, one.low, S, Q, D, whole, one.ranked, sweep.origin, method, len(candidates[0]))
