r"""Certified pruning: clusters of patterns that cannot hold a weight that matters, by bounds on their distance.

For x and a cluster k with centre c_k and patterns between distances r_k and R_k from it, with d_k = |x - c_k|,

    |x - xi| >= d_k - R_k,    |x - xi| >= r_k - d_k,    |x - xi| >= [G_kj + (d_k^2 - d_j^2)/2] / |c_k - c_j|  for every j,

where G_kj = min over the cluster of (|xi - c_j|^2 - |xi - c_k|^2)/2 (the slab between two centres). A cluster is left out
when its nearest possible energy is above that of a pattern already found by more than `window`; the weight left out is
then bounded by the same numbers, never guessed. Source: [ours: triangle inequality and generalised hyperplanes].
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from numerics.domain import DomainError, integer
from validation.score.engine.block import Block, Candidates
from validation.score.engine.tiles import TrainingSet
from validation.score.kernels import search_clusters

__all__ = ["Clusters"]

SLACK = 1e-11  # of |x|^2 + R^2: above every float64 rounding in the bounds


class Clusters:
    """Clusters of a training set whose tile order puts them side by side: bounds, and plans of what to visit.

    Built by `Clusters.order` (which rows go where) and then on the reordered `TrainingSet`.
    """

    def __init__(self, data: TrainingSet, sizes: torch.Tensor):
        self.data = data
        self.starts = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)]).tolist()
        K = len(sizes)
        self.sizes, self.edges = sizes.to(data.device), np.array(self.starts)
        centres = torch.stack(
            [data.tile(a, b, torch.float64).mean(0) for a, b in zip(self.starts, self.starts[1:], strict=False)]
        )
        self.centres, self.norms = centres, centres.square().sum(1) / 2
        gap = torch.cdist(centres, centres, compute_mode="donot_use_mm_for_euclid_dist")
        self.closeness = torch.where(gap > 0, 1 / gap, 0.0)
        self.slab = torch.empty(K, K, dtype=torch.float64, device=data.device)
        self.inner, self.outer = centres.new_empty(K), centres.new_empty(K)
        for k, (a, b) in enumerate(zip(self.starts, self.starts[1:], strict=False)):
            rows = data.tile(a, b, torch.float64)
            distance = torch.linalg.vector_norm(rows - centres[k], dim=1)
            self.inner[k], self.outer[k] = distance.min(), distance.max()
            # (|xi - c_j|^2 - |xi - c_k|^2)/2 = xi.(c_k - c_j) + (|c_j|^2 - |c_k|^2)/2
            self.slab[:, k] = (rows @ (centres[k] - centres).T).amin(0) + self.norms - self.norms[k]

    @staticmethod
    def order(data: TrainingSet, clusters: Any) -> tuple[np.ndarray, torch.Tensor]:
        """Row order with clusters contiguous, and their sizes: k-means on a sample, then one assignment of every row.

        clusters : how many, 1 <= clusters <= P, or "auto" for about sqrt(P)
        """
        K = max(1, round(math.sqrt(data.P))) if clusters == "auto" else integer("clusters", clusters, minimum=1)
        if K > data.P:
            raise DomainError("clusters", K, f"at most the {data.P} rows of X")
        draw = torch.Generator().manual_seed(0)
        some = torch.randperm(data.P, generator=draw)[: data.policy.cluster_sample * K]
        rows = torch.cat([data.tile(int(i), int(i) + 1) for i in some]).to(data.dtype)
        centres = rows[:K].clone()
        for _ in range(data.policy.lloyd_steps):
            nearest = _nearest(rows, centres)
            total = torch.zeros_like(centres).index_add_(0, nearest, rows)
            count = torch.bincount(nearest, minlength=K)[:, None]
            centres = torch.where(count > 0, total / count.clamp(min=1), centres)
        label = torch.cat([_nearest(data.tile(a, b), centres) for a, b in data.tiles(8192)])
        order = torch.argsort(label, stable=True)
        sizes = torch.bincount(label, minlength=K).cpu()
        return order.cpu().numpy(), sizes[sizes > 0]

    def bounds(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, K) lower bounds on |x - xi|^2/2 over each cluster, and (B,) the cluster whose centre is nearest."""
        x = x - self.data.centre
        half = x.square().sum(1)[:, None] / 2
        squared = (half + self.norms - x @ self.centres.T).clamp_(min=0)  # d_k^2/2
        distance = (2 * squared).sqrt()
        slack = SLACK * (2 * half + self.data.radius**2)
        bound = torch.maximum(distance - self.outer, self.inner - distance)
        near = torch.topk(squared, min(self.data.policy.rivals, squared.shape[1]), dim=1, largest=False).indices
        for rival in near.T:
            difference = self.slab[rival].add_(squared).sub_(squared.gather(1, rival[:, None]))
            bound = torch.maximum(bound, difference.mul_(self.closeness[rival]))
        energy = bound.clamp_(min=0).square_() / 2
        # a rounding of size e in a squared distance moves the bound's square by at most 2 e + 2 |bound| sqrt(e)
        return (energy - slack - 2 * (energy * slack).sqrt()).clamp_(min=0), near[:, 0]

    def visit(self, block: Block, window: torch.Tensor, most: float) -> tuple[Candidates, torch.Tensor, float] | None:
        """Every pattern within `window` (B,) of the smallest energy, among those of the clusters that may hold one.

        Returns (candidates, bound (B, K) of the clusters left out, else inf, share of pairs looked at), or None when the
        bounds leave more than a few percent of the pairs, or more than `most` candidates a query.
        """
        bound, near = self.bounds(block.x)
        find = self._search if block.compiled and not self.data.streamed else self._collect
        B = len(block.x)
        policy = self.data.policy
        if float(((bound <= window[:, None]) * self.sizes).sum()) > policy.cluster_share * B * self.data.P:
            return None  # so much must be visited however small the best energy
        for rows in ([slice(0, None, B // policy.pilot_rows)] if 2 * policy.pilot_rows < B else []) + [slice(None)]:
            found = find(block, bound, near, window, rows)
            if found is None:
                return None
            candidates, seen = found
            share = float((seen * self.sizes).sum()) / (len(seen) * self.data.P)
            if share > self.data.policy.cluster_share or len(candidates[0]) > most * len(seen):
                return None
        return candidates, torch.where(seen, math.inf, bound), share

    def _search(self, block: Block, bound, near, window, rows: slice):
        """Best-first, compiled: products of single pairs, with a window that covers their rounding."""
        data = self.data
        x = block.centred[rows].to(data.dtype).contiguous()
        half, bound = x.double().square().sum(1) / 2, bound[rows].contiguous()
        window = (window + 2 * block.error(data.dtype))[rows].contiguous()
        visit = torch.argsort(bound, dim=1)
        patterns, h = data.tile(0, data.P), data.norms(0, data.P, data.dtype)
        B, most = len(x), int(3 * self.data.policy.cluster_share * data.P)
        counts, seen = np.zeros(B, dtype=np.int64), np.zeros(B, dtype=np.int64)
        capacity = most + 2 * int(self.sizes.max())
        arrays = [v.numpy() for v in (patterns, h, x, half, bound, visit)]

        out, first = [], 0
        while first < B:
            place, energy = np.empty(capacity, dtype=np.int64), np.empty(capacity)
            n, resume = search_clusters(*arrays, self.edges, window.numpy(), most, first, place, energy, counts, seen)
            if (seen[first:resume] < 0).any():
                return None
            out.append((place[:n], energy[:n]))
            first = resume
        position, energy = (torch.from_numpy(np.concatenate(part)) for part in zip(*out, strict=True))
        row = torch.from_numpy(np.repeat(np.arange(B), counts))
        best = torch.full((B,), math.inf, dtype=torch.float64).scatter_reduce(0, row, energy, "amin")
        keep = energy <= (best + window)[row]
        looked = torch.zeros(bound.shape, dtype=torch.bool)
        return (row[keep], position[keep]), looked.scatter(
            1, visit, torch.arange(bound.shape[1]) < torch.from_numpy(seen)[:, None]
        )

    def _collect(self, block: Block, bound, near, window, rows: slice):
        """The same in plain torch: exact energies in the nearest cluster, then every member of what that leaves."""
        window = window + 2 * block.error(torch.float64)  # which covers the rounding of an energy
        x, bound, near, window = block.x[rows], bound[rows], near[rows], window[rows]
        row, position = self._members(torch.arange(len(x), device=x.device), near)
        energy, _ = self.data.pairs(x, row, position)
        best = torch.full_like(window, math.inf).scatter_reduce(0, row, energy, "amin")
        seen = bound <= (best + window)[:, None]
        if float((seen * self.sizes).sum()) > self.data.policy.cluster_share * len(x) * self.data.P:
            return None
        row, position = self._members(*seen.nonzero(as_tuple=True))
        energy, _ = self.data.pairs(x, row, position)
        keep = energy <= torch.full_like(window, math.inf).scatter_reduce(0, row, energy, "amin")[row] + window[row]
        return (row[keep], position[keep]), seen

    def left_out(self, bound: torch.Tensor, t: torch.Tensor, energy: torch.Tensor, log_s: torch.Tensor) -> float:
        """Largest share, over queries, that the clusters left out can have of Z = exp(log_s - energy/t):
        sum_k n_k exp(-bound_k/t) / Z."""
        exponent = self.sizes.log() - (bound - energy[:, None]) / t[:, None] - log_s[:, None]
        return float(torch.logsumexp(exponent, dim=1).exp().max())

    def _members(self, row: torch.Tensor, cluster: torch.Tensor) -> Candidates:
        """All pairs (row, pattern of the cluster), sorted by row."""
        count = self.sizes[cluster]
        first = torch.as_tensor(self.starts[:-1], device=row.device)[cluster]
        offset = torch.arange(int(count.sum()), device=row.device) - torch.repeat_interleave(
            count.cumsum(0) - count, count
        )
        return torch.repeat_interleave(row, count), torch.repeat_interleave(first, count) + offset


def _nearest(rows: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    return (rows @ centres.T).sub_(centres.square().sum(1) / 2).argmax(1)
