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
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from numerics.domain import DomainError, integer
from validation.devices import device_of
from validation.simulation.log_sum_exp import DTYPES
from validation.simulation.replica_groups import TILE, Basin, Grids, Replicas
from validation.simulation.replica_store import ReplicaStore
from validation.simulation.samplers import Sampler

__all__ = ["Basin", "Grids", "Measurement", "measurement", "simulate"]


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
    tile: int = TILE,
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
    N = Sampler(model, N, (*seeds, 0), device, activation=activation).N
    run = Replicas(model, N, P, grids, queries, seeds, tile, dtype, device, activation)
    identity = {
        "model": repr(model) if activation is None else f"{model!r} with {activation!r}",
        **{"N": N, "P": P, "queries": queries, "tile": tile, "seed": list(seeds), "dtype": str(dtype)},
        **{"device": device.type, "grids": repr(grids)},
    }
    store = ReplicaStore(checkpoint, json.dumps(identity, sort_keys=True), save_every)
    done, seconds, rows = store.load()
    done = min(done, replicas) if done >= replicas else done - done % run.group
    rows = {name: [array[:done]] for name, array in rows.items()}
    if progress:
        progress(done, replicas)

    groups = run.groups(done, replicas)
    start = time.perf_counter()
    for members, arrays in zip(groups, _in_order(run.measure, groups, workers), strict=True):
        for name, array in arrays.items():
            rows.setdefault(name, []).append(array)
        done = members.stop
        store.save(rows, done, seconds + time.perf_counter() - start, final=done == replicas)
        if progress:
            progress(done, replicas)
    seconds += time.perf_counter() - start
    return measurement(run, {name: np.concatenate(parts)[:replicas] for name, parts in rows.items()}, seconds)


def measurement(run: Replicas, arrays: dict[str, np.ndarray], seconds: float) -> Measurement:
    """What all replicas of a run measured, put together."""
    for array in arrays.values():
        array.setflags(write=False)
    realised = Sampler(run.model, run.N, (*run.seeds, 0), run.device, activation=run.activation).realised
    return Measurement(realised, run.N, run.P, run.grids, run.queries, run.seeds, arrays, seconds)


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
