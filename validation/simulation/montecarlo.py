r"""Finite-N Monte Carlo of the random energy model: P patterns streamed past a few query points, in constant memory.

For every disorder replica the displacement :math:`d=\xi-\xi^\mu` of a query :math:`\xi` and one noise vector
:math:`\omega` give, through the two numbers :math:`\|d\|^2` and :math:`\omega\cdot d`, the Boltzmann exponents of *all*
noise levels and radii at once, relative to the point that generated the query:

    noisy    x = xi + sqrt(t) omega :      -|d|^2/2t - omega.d/sqrt(t)
    clean    x = xi :                      -|d|^2/2t
    basin    x = xi + sqrt(delta) omega :  -|d|^2/2t - sqrt(delta) omega.d/t

They are summed by an online log-sum-exp, tile after tile. Source: [AALMV25]; [ours: docs/derivations/finite_n_drift.md].
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from numerics.domain import DomainError, finite, integer, nonnegative, positive
from validation.devices import device_of
from validation.simulation.log_sum_exp import DTYPES, LogSumExp
from validation.simulation.replica_store import ReplicaStore
from validation.simulation.samplers import Sampler, generator

__all__ = ["Basin", "Grids", "Measurement", "simulate"]


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
class Measurement:
    r"""What one `simulate` measured: for every quantity one row a disorder replica, the mean over its queries.

    Attributes
    ----------
    noisy, noisy_participation : (R, len(grids.noisy))
        Weight of the true point at a typical noisy point, and :math:`\sum_\mu w_\mu^2` there. Their expectations are
        equal at every N and P (Nishimori): given x, the true index is a sample of the weights.
    clean : (R, len(grids.clean))
        Weight of a training point at itself.
    heldout, heldout_participation : (R, len(grids.heldout))
        :math:`C(t)=\frac12\log t-\frac1N\log Z` at a fresh point (up to constants minus its log-likelihood per
        dimension), and :math:`\sum_\mu w_\mu^2` there.
    basins : tuple of (R, len(delta))
        Weight of a training point at squared distance N delta from it, for each of `grids.basins`.
    """

    model: Any
    N: int
    P: int
    grids: Grids
    queries: int
    seed: tuple[int, ...]
    arrays: dict[str, np.ndarray]
    seconds: float

    @property
    def alpha(self) -> float:
        """log P / N, exactly; the patterns' number is an integer, so this is not the alpha that was asked for."""
        return float(np.log(self.P) / self.N)

    @property
    def replicas(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getattr__(self, name: str) -> Any:
        arrays = object.__getattribute__(self, "arrays")
        if name == "basins":
            return tuple(arrays[f"basin{i}"] for i in range(len(self.grids.basins)))
        if name in arrays:
            return arrays[name]
        raise AttributeError(f"{name} was not measured; measured: {', '.join(arrays)}")


def simulate(
    model: Any,
    N: int | None,
    P: int,
    *,
    grids: Grids,
    replicas: int,
    queries: int = 64,
    seed: int | Sequence[int] = 0,
    tile: int = 512,
    workers: int = 1,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float64,
    activation: Callable[[torch.Tensor], torch.Tensor] | None = None,
    checkpoint: str | os.PathLike | None = None,
    save_every: float = 5.0,
    progress: Callable[[int, int], None] | None = None,
) -> Measurement:
    """Measure the REM of a model at finite N and P.

    Each replica has its own disorder, P patterns and `queries` query points; nothing is shared between replicas, so
    their spread gives honest errors. Memory is that of one tile, whatever P.

    Parameters
    ----------
    model, N : see `Sampler`
    P : int >= 2
        Number of training points, the true one included.
    grids : Grids
    replicas, queries : int >= 1
    seed : int >= 0 or sequence of such
        Replica r at (N, P) depends on (seed, N, P, r) only.
    tile : int
        Patterns at a time.
    workers : int
        Python threads, each on its own replicas with one torch thread: tiles are too small to share between threads, and
        on a busy machine the waiting costs several times the work. Does not change any number.
    dtype : torch.float64 or torch.float32
        Of the exponents; distances are always float64. float32 is twice as fast; it moves log Z by at most
        6e-8 max|d|^2/2t, harmless for t > 1e-3 of the variance.
    checkpoint : path of an .npz, optional
        Written atomically about every `save_every` seconds; an interrupted run resumes from it to the same numbers.
    progress : callable (replicas done, replicas), optional

    Raises
    ------
    DomainError
        For bad arguments, or a checkpoint that belongs to another run or cannot be read.

    The failure that looks normal: many queries and few replicas give a small *apparent* scatter of queries while the
    disorder of F is hardly averaged; errors come from replicas, so use dozens at least.
    """
    P, replicas = integer("P", P, minimum=2), integer("replicas", replicas, minimum=1)
    queries, tile = integer("queries", queries, minimum=1), integer("tile", tile, minimum=1)
    workers = integer("workers", workers, minimum=1)
    if dtype not in DTYPES:
        raise DomainError("dtype", dtype, "torch.float64 or torch.float32")
    device = device_of(device)
    seeds = tuple(seed) if isinstance(seed, Sequence) else (seed,)
    probe = Sampler(model, N, (*seeds, 0), device, activation=activation)
    N = probe.N
    # small P: several replicas share one batch of tensor operations, in fixed groups, so that resuming changes no bit
    group = max(1, min(64, 65536 // (queries * min(P, tile))))
    identity = {
        "model": repr(model) if activation is None else f"{model!r} with {activation!r}",
        **{"N": N, "P": P, "queries": queries, "tile": tile, "seed": list(seeds), "dtype": str(dtype)},
        **{"device": device.type, "grids": repr(grids)},
    }
    store = ReplicaStore(checkpoint, json.dumps(identity, sort_keys=True), save_every)
    done, seconds, rows = store.load()
    done = min(done, replicas) if done >= replicas else done - done % group
    rows = {name: [array[:done]] for name, array in rows.items()}
    if progress:
        progress(done, replicas)

    def measure(members: range) -> dict[str, np.ndarray]:
        samplers = [Sampler(model, N, (*seeds, N, P, r), device, activation=activation) for r in members]
        return _group(samplers, P, grids, queries, tile, dtype)

    groups = [range(first, min(first + group, replicas)) for first in range(done, replicas, group)]
    start = time.perf_counter()
    for members, arrays in zip(groups, _in_order(measure, groups, workers), strict=True):
        for name, array in arrays.items():
            rows.setdefault(name, []).append(array)
        done = members.stop
        store.save(rows, done, seconds + time.perf_counter() - start, final=done == replicas)
        if progress:
            progress(done, replicas)
    seconds += time.perf_counter() - start
    arrays = {name: np.concatenate(parts)[:replicas] for name, parts in rows.items()}
    for array in arrays.values():
        array.setflags(write=False)
    return Measurement(probe.realised, N, P, grids, queries, seeds, arrays, seconds)


def _in_order(function: Callable, items: Sequence, workers: int) -> Iterator:
    """`function` of every item, in order, computed by threads that use one torch thread each; never far ahead."""
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        waiting = deque(pool.submit(function, item) for item in items[: 2 * workers])
        for item in items[2 * workers :]:
            yield waiting.popleft().result()
            waiting.append(pool.submit(function, item))
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # the workers' setting is also the default of threads yet to come


def _group(
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
