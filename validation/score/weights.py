r"""The sums over weights at one noise level a query: log Z, mean displacement, participation, and the support when small.

    log Z = log sum_mu e^{-E_mu/t},   D = sum_mu w_mu (xi_mu - x),   1/sum_mu w_mu^2

The engine sums block by block; here blocks and processes are put together, relative to the smallest energy of all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from validation.score.engine import (
    ACCURACY,
    Block,
    Clusters,
    Part,
    TrainingSet,
    alone,
    block_size,
    candidates_of_nearest,
    check_ranked,
    decide,
    gap,
    in_threads,
    is_hard,
    lexicographic_min,
    relative_error,
    rounding,
    thread_count,
)
from validation.score.sharded import Shards

__all__ = ["Support", "WeightSums", "nearest_pattern", "weight_sums"]


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
    order, threads = torch.argsort(t), thread_count(x.device)
    B, N = x.shape
    energy, low, log_s, participation = (x.new_empty(B) for _ in range(4))
    D, mean, ranked = x.new_empty(B, N), x.new_empty(B, N), torch.ones_like(t, dtype=torch.bool)
    supports, statistics = [], {"settled": 0, "method": [], "visited": 0.0, "left_out": 0.0}
    statistics |= {"policy": data.policy.name, "threads": threads}

    def one(rows: torch.Tensor) -> Part:
        cut = math.log(shards.total / ACCURACY[data.dtype].neglect)
        if sharper:
            far = (torch.linalg.vector_norm(x[rows] - data.centre, dim=1).max() + data.radius) ** 2
            cut += float(torch.log1p(far / t[rows].min()))
        return decide(Block(data, x[rows], t[rows], None if exclude is None else exclude[rows]), cut, clusters)

    blocks = order.split(block_size(B, x.device, data.policy.queries))
    for rows, part in zip(blocks, in_threads(one, blocks, x.device), strict=True):
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
        statistics["visited"] += part.visited * len(rows) / B
        statistics["left_out"] = max(statistics["left_out"], part.left_out)
    check_ranked(ranked, energy / t)
    return WeightSums(energy, low, log_s, t, D, mean, participation, supports, statistics)


def _ranked_across(data: TrainingSet, shards: Shards, part: Part, above, exponent) -> torch.Tensor:
    """Whether the nearest patterns of different processes are told apart."""
    error = 2 * relative_error(data.N) * exponent
    near = shards.sum(((part.S > 0) & (above <= error)).to(above.dtype))
    return (near <= 1) | (error <= ACCURACY[data.dtype].resolved)


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
        rows = Block(data, x[block], torch.ones(len(block), dtype=torch.float64, device=x.device), out)
        pruned = None
        if clusters is not None and out is None:
            pruned = clusters.visit(rows, torch.zeros_like(rows.t), data.policy.most(data.P))
        row, position = candidates_of_nearest(rows) if pruned is None else pruned[0]
        found, _ = data.pairs(rows.x, row, position)
        best = torch.full_like(rows.t, math.inf).scatter_reduce(0, row, found, "amin")
        near = torch.nonzero(found <= (best * (1 + 2 * rounding(torch.float64, data.N)[1]))[row]).view(-1)
        row, position = row[near], position[near]
        fine = found[near], torch.zeros_like(found[near])
        if len(near) > len(block) or not shards.alone:  # rounding could decide
            fine = data.precise(rows.x, row, position)
        hi, lo = lexicographic_min(*fine, row, len(block))
        ties = (fine[0] == hi[row]) & (fine[1] == lo[row])
        number = data.original(position[ties]) + shards.offset
        none = torch.full((len(block),), shards.total, dtype=torch.int64, device=x.device)
        return none.scatter_reduce(0, row[ties], number, "amin"), hi, lo

    blocks = torch.arange(len(x), device=x.device).split(block_size(len(x), x.device, data.policy.queries))
    number, hi, lo = (torch.cat(part) for part in zip(*in_threads(one, blocks, x.device), strict=True))
    least = shards.min(hi)
    rest = shards.min(torch.where(hi == least, lo, math.inf))
    return shards.min(torch.where((hi == least) & (lo == rest), number, shards.total)), 2 * least
