"""Sweeps over labelled grids, row by row, that survive a kill at any moment and end with the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np

from numerics.domain import DomainError, finite
from numerics.grids.rows import Rows, mark
from numerics.grids.tasks import run_tasks
from numerics.store import save_dataset

__all__ = ["sweep"]


def sweep(
    row: Callable[..., Mapping[str, np.ndarray]],
    axes: Mapping[str, Any],
    *,
    attributes: Mapping[str, Mapping[str, str]] | None = None,
    provenance: Mapping[str, str] | None = None,
    out: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    executor: Executor | None = None,
    scheduler: Any = None,
    block: int | None = None,
    finish: Callable[[Any], Any] | None = None,
) -> Any:
    """Evaluate `row` along the first axis and collect labelled arrays.

    Parameters
    ----------
    row : callable
        `row(value, *others)`, with `value` one entry of the first axis and `others` the other axes whole, returns named
        arrays whose shape is that of the other axes.
    axes : mapping of name to one-dimensional array, in the order of the dimensions
    attributes : mapping of variable or axis name to its attributes (`units`, `long_name`)
    provenance : attributes of the whole, see `numerics.store.provenance`
    out : path ending in .nc, optional
        Where the result goes. Finished rows are kept beside it, in `<out>.partial/`, until the sweep is complete; a sweep
        that finds them there goes on from them.
    progress : callable `(done, total)`, optional
    executor : `concurrent.futures.Executor`, optional
        Rows are submitted to it (threads or processes of this machine). Default: here, in order.
    scheduler : optional
        A dask scheduler whose workers evaluate the rows, see `numerics.grids.schedulers`; left out with `executor`.
    block : int, optional
        `row` takes up to so many values of the first axis at once, as an array, and returns arrays with that axis in front:
        for solvers that are better at many rows together. Rows are still kept one by one. Blocks begin at multiples of
        `block`, and one with a missing row is evaluated whole: its numbers do not depend on what a killed sweep had kept.
    finish : callable, optional
        What is made of the whole before it is saved and returned, for instance another layout of its axes.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    DomainError
        Axes that are empty or not finite; an output that cannot be written; rows left by a different sweep.

    >>> squares = sweep(lambda a, b: {"product": a * b}, {"a": [1, 2], "b": [3, 4, 5]})
    >>> squares["product"].sel(a=2, b=4).item()
    8.0
    """
    import xarray as xr

    axes = {name: finite(name, values) for name, values in axes.items()}
    for name, values in axes.items():
        if values.ndim != 1 or values.size == 0:
            raise DomainError(name, values.shape, "a non-empty one-dimensional array")
    first, *others = axes.values()
    if out is not None and Path(out).suffix not in (".nc", ".h5"):
        raise DomainError("out", str(out), "a file name that ends in .nc or .h5")
    told = {name: value for name, value in (provenance or {}).items() if name != "command"}
    rows = Rows(out, {f"axis {name}": mark(values) for name, values in axes.items()} | told, what="sweep")
    if executor is not None and scheduler is not None:
        raise DomainError("scheduler", scheduler, "left out with executor")
    groups = [list(range(at, min(at + (block or 1), first.size))) for at in range(0, first.size, block or 1)]
    groups = [g for g in groups if not all(map(rows.has, g))]
    done = sum(map(rows.has, range(first.size)))
    if progress:
        progress(done, first.size)
    asked = [first[g] if block else first[g[0]] for g in groups]
    if executor is None:
        finished = run_tasks(row, asked, shared=tuple(others), scheduler=scheduler)
    else:
        futures = [executor.submit(row, value, *others) for value in asked]
        finished = ((k, future.result()) for k, future in enumerate(futures))
    for number, result in finished:
        for k, i in enumerate(groups[number]):
            if not rows.has(i):
                rows.put(i, {name: np.asarray(v)[k] for name, v in result.items()} if block else result)
                done += 1
        if progress:
            progress(done, first.size)
    names = list(axes)
    stacked = {}
    for i in range(first.size):
        for name, values in rows.get(i).items():
            stacked.setdefault(name, []).append(values)
    dataset = xr.Dataset(
        {n: (names, np.stack(v)) for n, v in stacked.items()}, coords=axes, attrs=dict(provenance or {})
    )
    for name, about in (attributes or {}).items():
        if name in dataset.variables:
            dataset[name].attrs.update(about)
    if finish is not None:
        dataset = finish(dataset)
    if out is not None:
        save_dataset(dataset, out)
        rows.clear()
    return dataset
