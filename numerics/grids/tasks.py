"""Independent tasks, here or on the workers of a dask scheduler: the same results, each kept as soon as it is there.

A task is a function of one item; whatever is random in it is seeded by the item. So results do not depend on where, in which
order or how often a task ran: one whose worker died runs again elsewhere.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from numerics.domain import DomainError, integer
from numerics.grids.rows import Rows
from numerics.grids.schedulers import connected

__all__ = ["ATTEMPTS", "run_tasks"]

ATTEMPTS = 3  # how often a task is given anew after the scheduler has given it up; each time it tries several workers
_ONE_AT_A_TIME = threading.Lock()  # compiled kernels use all threads of a process: two calls at once end it


def run_tasks(
    function: Callable[..., Any],
    items: Sequence[Any],
    *,
    shared: tuple = (),
    keep: Rows | None = None,
    scheduler: Any = None,
    chunk: int | Callable[[Any], float] = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Yield (i, function(items[i], *shared)) for every item: in order here, as they finish on a scheduler.

    Parameters
    ----------
    function : callable; on a scheduler it, the items and the results travel by pickle
    items : what the tasks are about
    shared : what all tasks take besides; it goes to the workers once
    keep : `Rows`, optional. Results are then mappings of arrays. Each is put there, in this process, before it is yielded, and
        an item whose row is there already is not run
    scheduler : None to run here, without dask; else see `numerics.grids.schedulers.connected`
    chunk : items a task on a scheduler, which spends milliseconds on each; or which share of a task an item is, as a function
    progress : callable (items done, of all)

    Raises
    ------
    DomainError : a scheduler that cannot be reached or that goes away, or a task that ends every worker it is given to
    What the function raises is raised here.

    The failure that looks normal: a function that depends on its process (threads, environment, a cache). Then numbers differ
    in their last bits from worker to worker.

    >>> list(run_tasks(pow, [2, 3], shared=(2,)))
    [(0, 4), (1, 9)]
    """
    items = list(items)
    share = chunk if callable(chunk) else partial(_equal, integer("chunk", chunk, minimum=1))
    waiting = [i for i in range(len(items)) if keep is None or not keep.has(i)]
    done = len(items) - len(waiting)
    if progress:
        progress(done, len(items))
    for i in range(len(items)):
        if keep is not None and keep.has(i):
            yield i, keep.get(i)
    if scheduler is None:
        finished = (([i], [function(items[i], *shared)]) for i in waiting)
    else:
        finished = _remote(function, items, _together(waiting, items, share), shared, scheduler)
    for group, results in finished:
        for i, result in zip(group, results, strict=True):
            if keep is not None:
                result = {name: np.asarray(values) for name, values in result.items()}
                keep.put(i, result)
            done += 1
            if progress:
                progress(done, len(items))
            yield i, result


def _equal(chunk: int, item: Any) -> float:
    return 1 / chunk


def _together(waiting: Sequence[int], items: Sequence[Any], share: Callable[[Any], float]) -> list[list[int]]:
    """Item numbers by task: the next ones until their shares make a task.

    >>> _together([0, 1, 2, 3], [0.5, 0.5, 2, 0.1], float)
    [[0, 1], [2], [3]]
    """
    groups: list[list[int]] = []
    full = 1.0
    for i in waiting:
        if full > 1 - 1e-9:
            groups.append([])
            full = 0.0
        groups[-1].append(i)
        full += share(items[i])
    return groups


def _several(function: Callable[..., Any], items: Sequence[Any], shared: tuple) -> list[Any]:
    """On a worker: one chunk of items, alone in its process."""
    with _ONE_AT_A_TIME:
        return [function(item, *shared) for item in items]


def _remote(
    function: Callable, items: Sequence[Any], groups: Sequence[Sequence[int]], shared: tuple, scheduler: Any
) -> Iterator[tuple[Sequence[int], list[Any]]]:
    if not groups:
        return
    with connected(scheduler) as client:  # which says so where dask is not installed
        from distributed import as_completed
        from distributed.scheduler import KilledWorker

        spread = _spread(client, shared)

        def submit(g: int) -> Any:
            work = [items[i] for i in groups[g]]
            return client.submit(_several, function, work, spread, pure=False)

        futures, tried = {submit(g): g for g in range(len(groups))}, dict.fromkeys(range(len(groups)), 1)
        queue = as_completed(futures)
        for future in queue:
            g = futures.pop(future)
            if future.status == "finished":
                yield groups[g], _gathered(future, client)
                continue
            error = future.exception() if future.status == "error" else None
            if error is not None and not isinstance(error, KilledWorker):
                raise error
            _alive(client)
            if tried[g] == ATTEMPTS:
                raise DomainError(
                    "task",
                    _item(items[groups[g][0]]),
                    f"one that a worker survives: workers ended in it, or were lost, {ATTEMPTS} times over",
                    "See the workers' logs (memory?); what is finished is kept",
                )
            tried[g] += 1
            spread = _spread(client, shared)  # the workers that held it may be those that are gone
            again = submit(g)
            futures[again] = g
            queue.add(again)


def _spread(client: Any, shared: tuple) -> Any:
    """`shared` on every worker, as one future; waits for the first worker."""
    if not shared:
        return ()
    from concurrent.futures import CancelledError

    try:
        client.submit(_nothing, pure=False).result()  # a task, because clusters that adapt start workers for tasks only
        return client.scatter([shared], broadcast=True, hash=False)[0]
    except (CancelledError, OSError, TimeoutError):
        _alive(client)
        raise


def _nothing() -> None:
    return None


def _gathered(future: Any, client: Any) -> Any:
    from distributed.comm.core import CommClosedError

    try:
        return future.result()
    except (CommClosedError, TimeoutError, OSError):
        _alive(client)
        raise


def _alive(client: Any) -> None:
    if client.status != "running":
        name = client.scheduler.addr if client.scheduler else "?"
        allowed = "a scheduler that stays until the end; this one has gone away"
        raise DomainError("scheduler", name, allowed, "Start it again: the same call goes on from what is finished")


def _item(item: Any) -> str:
    return item.__class__.__name__ + " " + repr(item) if isinstance(item, Mapping) else repr(item)
