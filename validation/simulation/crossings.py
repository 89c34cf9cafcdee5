"""Where the weights of one size cross 1/2 and its likelihood is best: a coarse pilot looks, the run proper measures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from numerics.domain import DomainError
from numerics.grids import Rows, connected, run_tasks
from validation.devices import device_of
from validation.simulation.extrapolation import Estimate, crossing, jackknife, minimum
from validation.simulation.montecarlo import Measurement, measurement, simulate
from validation.simulation.replica_groups import TILE, Basin, Grids, Replicas
from validation.simulation.samplers import Sampler

__all__ = ["QUERIES", "Size", "estimates", "measure_sizes", "pilot_curves"]

QUERIES = 128  # a replica
PILOT = 4  # replicas
TASK = 5e7  # pairs of a pattern and a query in a task on a scheduler: a few seconds


@dataclass(frozen=True)
class Size:
    """One size of a case: a model at N and P, the noise at which its basin is probed, and how many replicas measure it.

    label : the case's name, for errors; checkpoint : see `validation.simulation.montecarlo.simulate`
    """

    label: str
    model: Any
    N: int
    P: int
    t_basin: float
    replicas: int
    checkpoint: Path | None = None

    @property
    def work(self) -> float:
        """Millions of pairs of a pattern and a query."""
        return self.replicas * QUERIES * self.P / 1e6


Pair = tuple[Measurement, Measurement]


def measure(size: Size, *, seed: int, device: str, workers: int, progress: Callable[[int, int], None]) -> Pair:
    """The run proper and its pilot, over three decades of t, which finds the crossings without a look at theory.

    seed, device, workers, progress : see `validation.simulation.montecarlo.simulate`

    Raises
    ------
    DomainError : a crossing or the optimum lies outside of the pilot's three decades
    """
    common = {"queries": QUERIES, "workers": workers, "device": device, "dtype": torch.float32}
    pilot = simulate(size.model, size.N, size.P, grids=_wide(size), replicas=PILOT, seed=(seed, 1), **common)
    main = simulate(
        size.model,
        size.N,
        size.P,
        grids=_fine(size, pilot),
        replicas=size.replicas,
        seed=seed,
        checkpoint=size.checkpoint,
        progress=progress,
        **common,
    )
    return main, pilot


def measure_sizes(
    sizes: Sequence[Size],
    *,
    seed: int,
    device: str,
    workers: int,
    progress: Callable[[int, int], None] | None = None,
    scheduler: Any = None,
    keep: Callable[[str], Rows] = lambda stage: Rows(None, {}),
) -> list[Pair]:
    """`measure` of every size: one after the other here, or all pilots and then all groups of replicas on a dask scheduler.

    progress : callable (work done, total work), in millions of pattern-query pairs
    scheduler : see `numerics.grids.run_tasks`; the numbers do not depend on it
    keep : with a scheduler, the `Rows` in which each of the two stages, "pilots" and "replicas", keeps what is finished
    """
    total, found = max(1, round(sum(size.work for size in sizes))), []
    if scheduler is None:
        for k, size in enumerate(sizes):
            before = sum(s.work for s in sizes[:k])

            def report(replica: int, of: int, before: float = before, work: float = size.work) -> None:
                if progress:
                    progress(round(before + work * replica / of), total)

            found.append(measure(size, seed=seed, device=device, workers=workers, progress=report))
        return found
    with connected(scheduler) as client:
        plans = [_run(size, _wide(size), (seed, 1), device) for size in sizes]
        pilots = _all(plans, [PILOT] * len(sizes), client, keep("pilots"), None)
        plans = [_run(size, _fine(size, pilot), (seed,), device) for size, pilot in zip(sizes, pilots, strict=True)]
        done = 0.0

        def told(work: float) -> None:
            nonlocal done
            done += work
            if progress:
                progress(round(done), total)

        found = _all(plans, [size.replicas for size in sizes], client, keep("replicas"), told)
    return list(zip(found, pilots, strict=True))


def _run(size: Size, grids: Grids, seeds: tuple[int, ...], device: str) -> Replicas:
    N = Sampler(size.model, size.N, (*seeds, 0), device).N
    return Replicas(size.model, N, size.P, grids, QUERIES, seeds, TILE, torch.float32, device_of(device))


def _all(
    runs: Sequence[Replicas], counts: Sequence[int], client: Any, rows: Rows, told: Callable[[float], None] | None
) -> list[Measurement]:
    """Every run with so many replicas, their groups as tasks of one pool."""
    items = [(k, members) for k, run in enumerate(runs) for members in run.groups(0, counts[k])]
    parts: dict[int, dict[str, np.ndarray]] = {}
    tasks = [(runs[k], members) for k, members in items]
    for i, arrays in run_tasks(_group, tasks, keep=rows, scheduler=client, chunk=lambda task: pairs(*task) / TASK):
        parts[i] = dict(arrays)
        if told:
            told(pairs(*tasks[i]) / 1e6)
    found = []
    for k, run in enumerate(runs):
        own = [parts[i] for i in range(len(items)) if items[i][0] == k]
        seconds = sum(float(part.pop("seconds")) for part in own)
        found.append(measurement(run, {name: np.concatenate([part[name] for part in own]) for name in own[0]}, seconds))
    return found


def pairs(run: Replicas, members: range) -> float:
    """Pairs of a pattern and a query in a group of replicas."""
    return len(members) * run.queries * run.P


def _group(item: tuple[Replicas, range]) -> dict[str, np.ndarray]:
    """On a worker: a group of replicas on one thread, as the threads of `simulate` measure it."""
    run, members = item
    torch.set_num_threads(1)
    start = time.perf_counter()
    arrays = run.measure(members)
    return arrays | {"seconds": np.array(time.perf_counter() - start)}


def _radii(size: Size) -> np.ndarray:
    return size.t_basin * np.exp(np.linspace(-4.0, 1.5, 23))


def _wide(size: Size) -> Grids:
    """The pilot's grids."""
    scale = float(np.log(size.model.mean_variance))
    wide, low = scale + np.linspace(-3.0, 3.0, 25), scale + np.linspace(-5.0, 1.5, 27)
    return Grids(noisy=wide, clean=wide, heldout=low, basins=[Basin(size.t_basin, _radii(size))])


def _fine(size: Size, pilot: Measurement) -> Grids:
    """Around the pilot's crossings."""
    label, grids = size.label, pilot.grids
    wide, low = np.array(grids.noisy), np.array(grids.heldout)
    bottom = minimum(low, pilot.heldout.mean(axis=0))
    if not np.isfinite(bottom):
        raise DomainError("case", label, "a case whose optimal noise lies within three decades of its variance")
    radii = np.exp(_around(np.log(_radii(size)), pilot.basins[0].mean(axis=0), label))
    return Grids(
        noisy=_around(wide, pilot.noisy.mean(axis=0), label),
        clean=_around(wide, pilot.clean.mean(axis=0), label),
        heldout=np.round(bottom, 2) + np.linspace(-0.4, 0.4, 6),
        basins=[Basin(size.t_basin, radii)],
    )


def _around(x: np.ndarray, weight: np.ndarray, label: str) -> np.ndarray:
    """Four points over the range where a pilot's falling curve goes from 0.7 to 0.3, rounded to absorb its last bits.

    Where it starts lower, as in a basin at a noise close to the onset, from nine tenths of the way above 1/2.
    """
    if not weight[0] > 0.55 > 0.45 > weight[-1]:
        raise DomainError("case", label, "a case whose crossings lie within three decades of its variance")
    levels = min(0.7, 0.05 + 0.9 * weight[0]), max(0.3, 0.05 + 0.9 * weight[-1])
    first, last = (np.interp(-level, -np.minimum.accumulate(weight), x) for level in levels)
    return np.round(np.linspace(first, last, 4), 2)


def estimates(measured: Measurement) -> dict[str, Estimate]:
    """Logarithms of the crossings and of the optimum, with jackknife errors over replicas."""
    g = measured.grids
    return {
        "collapse": jackknife(g.noisy, measured.noisy, crossing),
        "onset": jackknife(g.clean, measured.clean, crossing),
        "basin": jackknife(np.log(g.basins[0].delta) / 2, measured.basins[0], crossing),
        "generalization": jackknife(g.heldout, measured.heldout, minimum),
    }


def pilot_curves(model: Any, pilots: Sequence[Measurement]) -> dict[str, Any]:
    """Mean curves over three decades of log(t/variance), with their errors over the pilot's replicas."""
    scale, curves = float(np.log(model.mean_variance)), {}
    for name in ("noisy", "clean", "heldout", "heldout_participation"):
        rows = np.array([getattr(pilot, name) for pilot in pilots])
        axis = "log_t_heldout" if name.startswith("heldout") else "log_t"
        curves[f"curve_{name}"] = (("size", axis), rows.mean(axis=1))
        curves[f"curve_{name}_error"] = (("size", axis), rows.std(axis=1, ddof=1) / rows.shape[1] ** 0.5)
        grid = getattr(pilots[0].grids, name.split("_")[0])
        curves[axis] = (axis, np.round(np.array(grid) - scale, 9), {"long_name": "log(t / mean variance)"})
    return curves
