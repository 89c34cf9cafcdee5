"""Replicas of a finite-N Monte Carlo in groups, each a task of its own: what a group measures depends on its numbers only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from numerics.domain import DomainError, finite, nonnegative, positive
from validation.simulation.log_sum_exp import LogSumExp
from validation.simulation.samplers import Sampler, generator

__all__ = ["TILE", "Basin", "Grids", "Replicas"]

TILE = 512  # patterns at a time


@dataclass(frozen=True)
class Basin:
    """Radii at which the basin of a trap is probed: squared radii per dimension `delta`, at one noise variance `t`."""

    t: float
    delta: tuple[float, ...]

    def __post_init__(self):
        object.__setattr__(self, "t", float(positive("t", self.t)))
        object.__setattr__(self, "delta", _increasing("delta", nonnegative("delta", self.delta)))


@dataclass(frozen=True)
class Grids:
    """Where to measure: increasing grids of log t for each kind of query, and of delta for each basin; empty for none.

    >>> Grids(noisy=[-1.0, 0.0, 1.0]).noisy
    (-1.0, 0.0, 1.0)
    """

    noisy: Sequence[float] = ()
    clean: Sequence[float] = ()
    heldout: Sequence[float] = ()
    basins: Sequence[Basin] = field(default=())

    def __post_init__(self):
        for name in ("noisy", "clean", "heldout"):
            object.__setattr__(self, name, _increasing(name, finite(name, getattr(self, name))))
        object.__setattr__(self, "basins", tuple(self.basins))
        if not (self.noisy or self.clean or self.heldout or self.basins):
            raise DomainError("grids", "four empty grids", "at least one non-empty grid")


@dataclass(frozen=True)
class Replicas:
    """All that the replicas of one `validation.simulation.montecarlo.simulate` depend on: its arguments, checked."""

    model: Any
    N: int
    P: int
    grids: Grids
    queries: int
    seeds: tuple[int, ...]
    tile: int
    dtype: torch.dtype
    device: torch.device
    activation: Callable[[torch.Tensor], torch.Tensor] | None = None

    @property
    def group(self) -> int:
        """Replicas a group: where P is small several share one batch of tensor operations."""
        return max(1, min(64, 65536 // (self.queries * min(self.P, self.tile))))

    def groups(self, done: int, replicas: int) -> list[range]:
        """The groups from replica `done` on: always the same ones, so that resuming changes no bit."""
        return [range(first, min(first + self.group, replicas)) for first in range(done, replicas, self.group)]

    def measure(self, members: range) -> dict[str, np.ndarray]:
        """All measurements of a group, {name: (members, grid)}; replica r depends on (seeds, N, P, r) only."""
        seeds = ((*self.seeds, self.N, self.P, r) for r in members)
        samplers = [Sampler(self.model, self.N, seed, self.device, activation=self.activation) for seed in seeds]
        return _together(samplers, self.P, self.grids, self.queries, self.tile, self.dtype)


def _together(
    samplers: Sequence[Sampler], P: int, grids: Grids, queries: int, tile: int, dtype: torch.dtype
) -> dict[str, np.ndarray]:
    """All measurements of a few replicas together, {name: (replicas, grid)}."""
    N, device = samplers[0].N, samplers[0].device
    # the queries have their own streams: adding queries or patterns leaves the other untouched
    xi = torch.stack([s.stream(1).sample(queries) for s in samplers])
    omega = torch.stack([generator(N, (*s.seed, 2), device).rows(queries) for s in samplers])
    probes, size = torch.cat([xi, omega], dim=1), xi.square().sum(-1, keepdim=True)
    offset = (xi * omega).sum(-1, keepdim=True)
    shape = xi.shape[:2]

    t = {name: np.exp(getattr(grids, name)) for name in ("noisy", "clean", "heldout")}
    exponents = {"noisy": (-0.5 / t["noisy"], -1 / np.sqrt(t["noisy"]))}
    exponents |= {name: (-0.5 / t[name], 0 * t[name]) for name in ("clean", "heldout")}
    for i, basin in enumerate(grids.basins):
        radius = np.sqrt(basin.delta)
        exponents[f"basin{i}"] = np.full(radius.size, -0.5 / basin.t), -radius / basin.t
    sums = {
        name: LogSumExp(a, b, shape, device, dtype, squares=name in ("noisy", "heldout"))
        for name, (a, b) in exponents.items()
        if len(a)
    }

    def add(n: int, names: Sequence[str]) -> None:
        points = torch.stack([s.sample(n) for s in samplers])
        product = probes @ points.mT
        distance = size + points.square().sum(-1).unsqueeze(1) - 2 * product[:, :queries]
        A, B = distance.clamp_min_(0).to(dtype), (offset - product[:, queries:]).to(dtype)
        buffer = torch.empty_like(A)
        for name in names:
            if name in sums:
                sums[name].update(A, B, buffer)

    for begin in range(0, P - 1, tile):
        add(min(tile, P - 1 - begin), tuple(sums))
    # a training point has P - 1 others; only a held-out point meets all P
    add(1, ("heldout",))

    result = {}
    for name, accumulator in sums.items():
        log_rest = accumulator.log()
        if name == "heldout":
            result[name] = 0.5 * torch.log(torch.as_tensor(t[name], device=device))[:, None, None] - log_rest / N
            result["heldout_participation"] = torch.exp(accumulator.log_squares() - 2 * log_rest)
            continue
        result[name] = torch.sigmoid(-log_rest)
        if name == "noisy":
            rest = torch.exp(accumulator.log_squares() + 2 * torch.nn.functional.logsigmoid(-log_rest))
            result["noisy_participation"] = result[name] ** 2 + rest
    return {name: value.mean(-1).T.cpu().numpy() for name, value in result.items()}


def _increasing(name: str, values: np.ndarray) -> tuple[float, ...]:
    if values.ndim != 1 or (np.diff(values) <= 0).any():
        raise DomainError(name, values.tolist(), "a strictly increasing one-dimensional grid")
    return tuple(values.tolist())
