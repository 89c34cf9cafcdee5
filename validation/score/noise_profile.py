r"""Every noise level at once: log-partition and participation over a grid of t from two products.

Along a ray x = base + sqrt(t) noise the energies are explicit in t: with d = base - xi,

    |x - xi|^2 / 2t = |d|^2 / 2t + noise.d / sqrt(t) + |noise|^2 / 2,

so base.xi and noise.xi, formed tile by tile, serve the whole grid; the online softmax runs per level on a tile that is
still in the cache. Pairs whose product cannot be trusted at a level where they weigh are done again in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from validation.score.engine import ACCURACY, TrainingSet, block_size, in_threads, rounding
from validation.score.kernels import profile_rows
from validation.score.sharded import Shards
from validation.score.weights import weight_sums

__all__ = ["Profile", "noise_profile"]

TYPICAL = 8.0  # rounding errors are this much below their bound, or further
RANGE = 1e37  # exponents above do not fit float32 products


@dataclass(frozen=True, eq=False)
class Profile:
    """(B, K) float64 sums over patterns at K noise levels: `log_z` (without the common `-|noise|^2/2`), `participation`, and
    `own` (or None) the log weight of the own pattern."""

    log_z: torch.Tensor
    participation: torch.Tensor
    own: torch.Tensor | None


def noise_profile(
    data: TrainingSet,
    shards: Shards,
    base: torch.Tensor,
    noise: torch.Tensor | None,
    t: torch.Tensor,
    own: torch.Tensor | None,
    keep_own: bool,
) -> Profile:
    """Sums at all noise levels `t` (K,) for queries (B, N), all float64 on the device of `data`.

    own : (B,) row numbers in the whole training set, or None; with `keep_own` their weight is summed (exactly) and handed
    back, without it they are left out.
    """
    columns = len(t)
    sums = [torch.zeros(len(base), columns, dtype=torch.float64, device=base.device) for _ in range(3)]
    sums[0].fill_(-math.inf)
    position, own_exponent = None, None
    if own is not None:
        local = own - shards.offset
        here = (local >= 0) & (local < data.P)
        position = torch.where(here, data.positions(local.clamp(0, data.P - 1)), -1)
        if keep_own:
            energy, cross = data.pairs(base, torch.arange(len(base), device=base.device), position.clamp(min=0), noise)
            exponent = _exponents(energy, cross, t)
            own_exponent = shards.sum(torch.where(here[:, None], exponent, 0.0))
            exponent = torch.where(here[:, None], exponent, -math.inf)
            _absorb(sums, torch.arange(sums[0].numel(), device=base.device), exponent.reshape(-1))

    def one(start: int) -> None:
        rows = slice(start, start + size)
        block = _Block(data, base[rows], None if noise is None else noise[rows], t, [s[rows] for s in sums])
        block.run(None if position is None else position[rows])

    size = block_size(len(base), base.device, data.policy.queries, least=32)
    in_threads(one, range(0, len(base), size), base.device)
    top = shards.max(sums[0])
    scale = torch.exp(sums[0] - top)
    total = shards.sum(sums[1] * scale)
    squares = shards.sum(sums[2] * scale.square())
    log_z = top + total.log()
    own_weight = None if own_exponent is None else own_exponent - log_z
    profile = Profile(log_z, total.square() / squares, own_weight)
    _rank_again(profile, data, shards, base, noise, t, own)
    return profile


def _rank_again(profile: Profile, data: TrainingSet, shards: Shards, base, noise, t, own) -> None:
    """Levels whose exponents are so large that float64 cannot rank them, done one by one at x = base + sqrt(t) noise."""
    error = rounding(torch.float64, data.N)[1] / TYPICAL * -profile.log_z
    hard = error > ACCURACY[data.dtype].profile_resolved
    for k in torch.nonzero(hard.any(0)).view(-1).tolist():
        rows = torch.nonzero(hard[:, k]).view(-1)
        x, half = base[rows], 0.0
        if noise is not None:
            x, half = x + t[k].sqrt() * noise[rows], noise[rows].square().sum(1) / 2
        exclude = own[rows] if own is not None and profile.own is None else None
        sums = weight_sums(data, shards, x, t[k].expand(len(rows)).contiguous(), exclude=exclude)
        profile.log_z[rows, k], profile.participation[rows, k] = sums.log_z + half, sums.participation
        if profile.own is not None:
            profile.own[rows, k] = sums.log_weight_of(data, shards, x, own[rows])


def _exponents(energy: torch.Tensor, cross: torch.Tensor | None, t: torch.Tensor) -> torch.Tensor:
    exponent = -energy[:, None] / t
    return exponent if cross is None else exponent - cross[:, None] / t.sqrt()


def _absorb(sums: list[torch.Tensor], where: torch.Tensor, exponent: torch.Tensor) -> None:
    """Add exp(exponent) into the online sums (maximum, sum, sum of squares), flat positions `where`, in place."""
    M, S, Q = (s.view(-1) for s in sums)
    top = M.scatter_reduce(0, where, exponent, "amax")
    factor = torch.where(top > M, torch.exp(M - top), 1.0)
    S.mul_(factor)
    Q.mul_(factor.square_())
    M.copy_(top)
    weight = torch.where(exponent > -math.inf, torch.exp(exponent - top[where]), 0.0)
    S.index_add_(0, where, weight)
    Q.index_add_(0, where, weight.square())


class _Block:
    """One block of queries against all tiles. `sums` (M, S, Q), rows of the caller's, hold the exact part and at the end
    everything; `bulk` the part summed from products, of which `E` was set aside for float64."""

    def __init__(self, data: TrainingSet, base: torch.Tensor, noise: torch.Tensor | None, t: torch.Tensor, sums: list):
        self.data, self.base, self.noise, self.t = data, base, noise, t
        self.sums = [s.contiguous() for s in sums]
        self.into = sums

    def run(self, position: torch.Tensor | None) -> None:
        kept = [s.clone() for s in self.sums]
        far = float(torch.linalg.vector_norm(self.base - self.data.centre, dim=1).max()) + self.data.radius
        largest = far**2 / float(self.t.min()) * self.data.N
        dtype = self.data.dtype if largest < RANGE else torch.float64
        tiles = list(self.data.tiles(self._start(dtype)))
        set_aside = self._tile(*tiles[0], position)
        if self.dtype != torch.float64 and set_aside > self.data.policy.profile_pilot * len(self.base) * tiles[0][
            1
        ] * len(self.t):
            self.sums = kept
            tiles = list(self.data.tiles(self._start(torch.float64)))
            self._tile(*tiles[0], position)
        for start, stop in tiles[1:]:
            self._tile(start, stop, position)
        M, S, Q = self.bulk
        empty = S == 0
        _absorb_sums(self.sums, torch.where(empty, -math.inf, M), S, Q)
        for target, value in zip(self.into, self.sums, strict=True):
            if target is not value:
                target.copy_(value)

    def _start(self, dtype: torch.dtype) -> int:
        data, B = self.data, len(self.base)
        self.dtype = dtype
        x = self.base - data.centre
        w = torch.zeros_like(x) if self.noise is None else self.noise
        self.left, self.right = x.to(dtype), w.to(dtype)
        self.both = self.left if self.noise is None else torch.cat([self.left, self.right])
        nx, nw = torch.linalg.vector_norm(x, dim=1)[:, None], torch.linalg.vector_norm(w, dim=1)[:, None]
        (u, c, tiny), R = rounding(dtype, data.N), data.radius
        error = (c * nx * R + 5 * u * (nx + R).square() / 2 + tiny) / self.t
        error = error + (c * nw * R + 3 * u * nw * (nx + R) + tiny) / self.t.sqrt()
        self.cut = math.log(data.P / ACCURACY[data.dtype].profile_neglect)
        self.reach = self.cut + 2 * error
        typical = error / TYPICAL
        depth = torch.where(
            error > 0.1, self.reach, (typical / ACCURACY[data.dtype].profile_tolerance).log() + 2 * error
        )
        self.depth = torch.where(
            typical > ACCURACY[data.dtype].profile_tolerance, torch.minimum(depth, self.reach), -1.0
        )
        self.offset_a = self.left.double().square().sum(1).div(2).to(dtype)
        self.offset_b = (self.right.double() * self.left.double()).sum(1).to(dtype)
        self.inv_t, self.inv_s = (1 / self.t).to(dtype), self.t.rsqrt().to(dtype)
        M0, S0 = self.sums[0], self.sums[1]
        self.bulk = [torch.where(S0 > 0, M0, -math.inf).to(dtype).double(), torch.zeros_like(S0), torch.zeros_like(S0)]
        self.aside = torch.where(S0 > 0, S0 * torch.exp(M0 - self.bulk[0]), 0.0)
        room = max(256, min(4096, (1 << 20) // (B * self.left.element_size())))
        width = room if data.device.type == "cpu" else 16384
        self.products = torch.zeros(2 * B, width, dtype=dtype, device=data.device)
        return width

    def _tile(self, start: int, stop: int, position: torch.Tensor | None) -> int:
        """One tile into the sums; returns how many (query, level, pattern) were set aside."""
        T, dtype = stop - start, self.dtype
        tile, h = self.data.tile(start, stop, dtype), self.data.norms(start, stop, dtype)
        if self.products.shape[1] != T:
            self.products = torch.zeros(2 * len(self.base), T, dtype=dtype, device=tile.device)
        torch.mm(self.both, tile.T, out=self.products[: len(self.both)])
        self.a, self.b = self.products.split(len(self.base))
        own = torch.full((len(self.base),), -1, dtype=torch.int64, device=tile.device)
        if position is not None:
            own = torch.where((position >= start) & (position < stop), position - start, -1)
        step = _tile_compiled if self.data.policy.compiled and tile.device.type == "cpu" else _tile_generic
        return step(self, h, own, start)

    def exact(self, row: torch.Tensor, level: torch.Tensor, position: torch.Tensor) -> None:
        """Sum set-aside entries from direct float64 differences."""
        pair, back = torch.unique(row * self.data.P + position, return_inverse=True)
        energy, cross = self.data.pairs(self.base, pair // self.data.P, pair % self.data.P, self.noise)
        t = self.t[level]
        exponent = -energy[back] / t
        if cross is not None:
            exponent = exponent - cross[back] / t.sqrt()
        _absorb(self.sums, row * len(self.t) + level, exponent)


def _absorb_sums(sums: list[torch.Tensor], M2: torch.Tensor, S2: torch.Tensor, Q2: torch.Tensor) -> None:
    """Merge online sums (M2, S2, Q2) into `sums`, in place."""
    M, S, Q = sums
    top = torch.maximum(M, M2)
    old = torch.where(S > 0, torch.exp(M - top), 0.0)
    new = torch.where(S2 > 0, torch.exp(M2 - top), 0.0)
    S.mul_(old).add_(S2 * new)
    Q.mul_(old.square()).add_(Q2 * new.square())
    M.copy_(top)


def _tile_compiled(block: _Block, h: torch.Tensor, own: torch.Tensor, start: int) -> int:
    """The fused numba kernel; lists that fill up are emptied and the kernel resumed."""
    arrays = [v.numpy() for v in (block.a, block.b, h, block.offset_a, block.offset_b, own, block.inv_t, block.inv_s)]
    state = [v.numpy() for v in (*block.bulk, block.aside)]
    limits = block.reach.numpy(), block.depth.numpy()
    capacity = max(2 * h.shape[0], 1 << 15)
    entries, first, resume = [], 0, -1
    while first < len(block.base):
        buffer = torch.empty(capacity, 3, dtype=torch.int32)
        n, first, resume = profile_rows(*arrays, *state, block.cut, *limits, first, resume, buffer.numpy())
        if n:
            entries.append(buffer[:n].long())
    if not entries:
        return 0
    row, level, column = torch.cat(entries).unbind(1)
    block.exact(row, level, column + start)
    return len(row)


def _tile_generic(block: _Block, h: torch.Tensor, own: torch.Tensor, start: int) -> int:
    """The same in plain torch, for accelerators (and with the compiler off)."""
    a = (block.offset_a[:, None] + h).sub_(block.a)
    b = block.offset_b[:, None] - block.b
    rows = torch.nonzero(own >= 0).view(-1)
    a[rows, own[rows]] = math.inf
    count = 0
    for k in range(len(block.t)):
        M, S, Q = (s[:, k] for s in block.bulk)
        aside = block.aside[:, k]
        value = -(a * block.inv_t[k] + b * block.inv_s[k])
        top = value.amax(1).double()
        total = S + aside
        log_z = torch.where(total > 0, M + total.log(), -math.inf)
        active = (top >= log_z - block.reach[:, k]) & (top > -math.inf)
        if not bool(active.any()):
            continue
        new = torch.where(active, torch.maximum(M, top), M)
        factor = torch.where(new > M, torch.exp(M - new), 1.0)
        for s in (S, aside):
            s.mul_(factor)
        Q.mul_(factor.square())
        M.copy_(new)
        shifted = value - torch.where(active, new, 0.0).to(value.dtype)[:, None]
        limit = torch.where(active & (block.depth[:, k] >= 0), torch.maximum(log_z, top) - block.depth[:, k], math.inf)
        refine = value >= limit.to(value.dtype)[:, None]
        weight = torch.exp(shifted)
        if bool(refine.any()):
            row, column = refine.nonzero(as_tuple=True)
            aside.add_((weight * refine).sum(1).double())
            block.exact(row, torch.full_like(row, k), column + start)
            count += len(row)
        weight = torch.where((shifted > -block.cut) & ~refine & active[:, None], weight, 0.0)
        S.add_(weight.sum(1).double())
        Q.add_(weight.square().sum(1).double())
    return count
