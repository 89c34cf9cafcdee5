"""A block of queries beside the training set: what every method starts from, and the bound on a product's rounding.

Energies E = |x - xi|^2/2 are compared through v = x.xi - |xi|^2/2 (all recentred), so that E = |x|^2/2 - v.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from validation.score.engine.policy import Policy
from validation.score.engine.tiles import TrainingSet, rounding
from validation.score.engine.workers import thread_count
from validation.score.kernels import LANES

__all__ = ["Block", "Candidates", "Plan", "all_tiles"]

Plan = Sequence[tuple[int, int]]  # tiles (start, stop)
Candidates = tuple[torch.Tensor, torch.Tensor]  # row of the block, position in the tile order; (n,) each
FAR = 4.0  # radii of the training set from which a query is far


class Block:
    """Queries x (B, N) and t (B,), float64; `exclude` (B,) positions left out (or -1), or None.

    centred : (B, N), x less the centre of the data, and norm : (B,) its length
    origin : (B, N), what displacements are measured from: the query, or the centre where the query is so far away that
        x + (xi - x) cancels; shift : (B, N), origin less the centre
    """

    def __init__(self, data: TrainingSet, x: torch.Tensor, t: torch.Tensor, exclude: torch.Tensor | None = None):
        self.data, self.x, self.t, self.exclude = data, x, t, exclude
        self.centred = x - data.centre
        self.norm = torch.linalg.vector_norm(self.centred, dim=1)
        far = (self.norm > FAR * data.radius)[:, None]
        self.origin = torch.where(far, data.centre, x)
        self.shift = torch.where(far, 0.0, self.centred)

    @property
    def policy(self) -> Policy:
        """How calls on this training set are carried out."""
        return self.data.policy

    @property
    def compiled(self) -> bool:
        """Whether compiled kernels run: on a CPU, where the policy says so."""
        return self.policy.compiled and self.data.device.type == "cpu"

    def part(self, rows: torch.Tensor) -> Block:
        """Some of the queries."""
        return Block(self.data, self.x[rows], self.t[rows], None if self.exclude is None else self.exclude[rows])

    def error(self, dtype: torch.dtype, N: int | None = None, radius: float | None = None) -> torch.Tensor:
        """(B,) bound on the rounding error of v in products of `dtype` (probabilistic for the accumulation: 2 sqrt(N) u),
        of as many coordinates as given (all), with patterns no further from the centre than `radius` (any)."""
        R, norm = self.data.radius if radius is None else radius, self.norm
        u, c, tiny = rounding(dtype, N or self.data.N)
        error = c * norm * R + 5 * u * (norm + R).square() / 2 + tiny
        if dtype == torch.bfloat16:  # each factor rounded by 1/512 of itself, and the stored product by 1/256
            error = error + norm * R * (2 / 512 + 1 / 512**2 + 1 / 256)
        return error


def all_tiles(data: TrainingSet, queries: int, dtype: torch.dtype | None = None, N: int | None = None) -> Plan:
    """Tiles (start, stop), as much for every thread.

    On a CPU a block's products of `dtype` (the set's own by default), of N coordinates (all), stay in the cache; on a device
    a tile is as wide as its memory easily allows.
    """
    policy, N = data.policy, N or data.N
    width = max(256, min(policy.device_set // max(queries, 128), 4 * policy.device_set // N))
    if data.device.type == "cpu":
        # with a large N the sums, not the products, decide: small tiles would read them too often
        small = (dtype or data.dtype) == torch.float64 and N <= 256
        entries, least = (policy.float64_set, 512) if small else (policy.working_set, 1024)
        width = max(least, min(4096, entries // max(queries, 128), 2 * policy.working_set // N) // 256 * 256)
    share = data.P
    if queries * data.P * N > policy.small:
        share = -(-data.P // thread_count(data.device))
        share = -(-share // LANES) * LANES
    shares = [(start, min(start + share, data.P)) for start in range(0, data.P, share)]
    return [(start, min(start + width, last)) for first, last in shares for start in range(first, last, width)]
