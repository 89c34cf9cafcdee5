"""Independent tasks on dask: wall clock with one and two worker processes here, and list scheduling for up to 1000 workers.

Run ``OMP_NUM_THREADS=1 python benchmarks/bench_cluster.py --out docs/results/cluster``. Two kinds of work: blocks of rows of
a relu phase diagram, and groups of replicas of the Monte Carlo of `linear_times`. The duration of every task is measured on a
worker, and the overhead of a task from 2000 tasks that do nothing. What many workers would take is *computed*: tasks in their
order go to the first free worker, and the scheduler spends the overhead on each of them, one after the other.
"""

from __future__ import annotations

import argparse
import csv
import heapq
import json
import os
import time
from functools import partial
from pathlib import Path

import numpy as np

from numerics.grids import connected, run_tasks
from numerics.grids.tasks import _together
from numerics.store import atomic, versions
from theory import HiddenManifold
from theory.phase_diagram import _rows
from validation.experiments.linear_times.experiment import CASES, PRESETS
from validation.simulation.crossings import PILOT, TASK, Size, _fine, _group, _run, _wide, pairs
from validation.simulation.montecarlo import simulate

COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)


def timed(item, function, *shared):
    """On a worker: the processor time of the task there, which other work on the machine does not lengthen much."""
    start = time.thread_time()
    function(item, *shared)
    return time.thread_time() - start


def nothing(item):
    return item


def diagram_tasks(rows: int = 64):
    """Blocks of 16 values of alpha_D of a relu phase diagram, collapse and onset, 16 loads each."""
    function = partial(_rows, partial(HiddenManifold, activation="relu"), ("collapse", "onset"))
    values = np.geomspace(0.05, 2.0, rows).reshape(-1, 16)
    return function, list(values), (np.geomspace(0.05, 1.0, 16),)


def replica_tasks(each: int):
    """The first `each` groups of replicas of every size of `linear_times --full`, and how many there are of each."""
    preset, items, counts, work = PRESETS["full"], [], [], []
    for case in CASES:
        for N in case.sizes[: preset.sizes]:
            P = case.patterns(N)
            size = Size(case.label, case.model, N, P, case.t_basin, preset.replicas(N, P))
            pilot = simulate(case.model, N, P, grids=_wide(size), replicas=PILOT, queries=128, seed=(0, 1))
            run = _run(size, _fine(size, pilot), (0,), "cpu")
            groups = run.groups(0, size.replicas)
            items += [(run, members) for members in groups[:each]]
            counts.append(len(groups))
            work.append(pairs(run, groups[0]))
    return _group, items, (), counts, work


def wall(client, function, items, shared):
    """Seconds of the sweep, and of every task on its worker, in the order of the items."""
    start = time.perf_counter()
    found = dict(run_tasks(timed, items, shared=(function, *shared), scheduler=client))
    return time.perf_counter() - start, [found[i] for i in range(len(items))]


def makespan(durations, workers: int, overhead: float) -> float:
    """Seconds by list scheduling: a task starts when a worker is free and the scheduler has come to it."""
    free, server = [0.0] * workers, 0.0
    for seconds in durations:
        begin = heapq.heappop(free)
        server = max(server, begin) + overhead
        heapq.heappush(free, server + seconds)
    return max(free)


def figure(table, path: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    from validation.figures import save, style

    with style():
        page = Figure(figsize=(5.6, 3.8))
        axis = page.add_subplot()
        axis.plot(COUNTS, COUNTS, color="0.7", lw=1, label="as many as workers")
        for name, marks in (("phase diagram", "o-"), ("Monte Carlo", "s-")):
            rows = [row for row in table if row["work"] == name]
            axis.plot(
                [row["workers"] for row in rows], [row["speedup"] for row in rows], marks, ms=4, label=rows[0]["label"]
            )
        axis.set(xscale="log", yscale="log", xlabel="worker processes", ylabel="speed-up over one worker")
        for scale in (axis.xaxis, axis.yaxis):
            scale.set_major_locator(LogLocator(10))
            scale.set_major_formatter(ScalarFormatter())
            scale.set_minor_formatter(NullFormatter())
        axis.legend(loc="upper left")
        save(page, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("cluster"))
    parser.add_argument("--each", type=int, default=3, help="groups measured of every size")
    parser.add_argument("--rows", type=int, default=64, help="rows of the measured phase diagram")
    chosen = parser.parse_args()
    diagram, (group, items, none, counts, pairs_each) = (
        diagram_tasks(chosen.rows),
        replica_tasks(chosen.each),
    )
    work = {"phase diagram": diagram, "Monte Carlo": (group, items, none)}
    walls, single, spent, overhead = {}, {}, {}, {}
    for workers in (1, 2):
        with connected(f"local:{workers}") as client:
            for name, (function, tasks, shared) in work.items():
                for _ in range(workers):
                    wall(client, function, tasks[: 2 * workers], shared)  # kernels are loaded, memory is touched
                walls[name, workers], durations = wall(client, function, tasks, shared)
                single.setdefault(name, durations)
                spent[name, workers] = sum(durations)
                took = (
                    f"{walls[name, workers]:.2f} s for {len(tasks)} tasks of {sum(durations):.2f} s of processor time"
                )
                print(f"{name}, {workers} workers: {took}, load {os.getloadavg()[0]:.1f}", flush=True)
            list(run_tasks(nothing, range(100), scheduler=client))
            start = time.perf_counter()
            list(run_tasks(nothing, range(2000), scheduler=client))
            overhead[workers] = (time.perf_counter() - start) / 2000
    cost = overhead[2]
    print(f"overhead a task: {1e3 * overhead[1]:.2f} ms (1 worker), {1e3 * cost:.2f} ms (2 workers)")
    # a diagram of 8192 rows, blocks drawn from those measured; all groups of the full preset, drawn from those of their size
    rng = np.random.default_rng(0)
    many = {"phase diagram": rng.choice(single["phase diagram"], 512).tolist()}
    sizes = np.array(single["Monte Carlo"]).reshape(len(counts), chosen.each)
    groups = [(float(s), p) for own, n, p in zip(sizes, counts, pairs_each, strict=True) for s in rng.choice(own, n)]
    many["Monte Carlo"] = [
        sum(groups[i][0] for i in task) for task in _together(range(len(groups)), groups, lambda g: g[1] / TASK)
    ]
    table = []
    for name, durations in many.items():
        one = makespan(durations, 1, cost)
        label = f"{name}: {len(durations)} tasks of {np.mean(durations):.2g} s on average"
        for workers in COUNTS:
            seconds = makespan(durations, workers, cost)
            longest = max(max(durations), len(durations) * cost, sum(durations) / workers)
            table.append({"work": name, "label": label, "workers": workers, "seconds": round(seconds, 3),
                          "speedup": round(one / seconds, 2), "bound_seconds": round(longest, 3)})  # fmt: skip
    measured = [
        {"work": name, "workers": k, "seconds": round(walls[name, k], 3),
         "processor_seconds": round(spent[name, k], 3), "computed_seconds": round(makespan(single[name], k, cost), 3)}
        for name in work for k in (1, 2)
    ]  # fmt: skip
    for name, rows in (("computed", table), ("measured", measured)):
        with atomic(chosen.out / f"{name}.csv") as path, open(path, "w", newline="") as file:
            file.write(f"# overhead a task: {1e3 * cost:.3f} ms\n# versions: {json.dumps(versions())}\n")
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    for row in [*measured, *table]:
        print(row)
    figure(table, chosen.out / "scaling.png")


if __name__ == "__main__":
    main()
