"""Independent replicas of an experiment: one after the other here, or on a dask scheduler; each is kept when it is there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from numerics.grids import Rows, run_tasks
from numerics.store import versions

__all__ = ["Kept", "measured"]


class Kept:
    """Where finished replicas lie until the result is saved: `<out>/<name>.nc.partial/`; in memory where `out` is None.

    identity : all that a replica depends on. Called with the name of a stage ("" for the only one) it gives its `Rows`.

    >>> keep = Kept("x", None, seed=0)
    >>> keep("").has(0), keep.clear()
    (False, None)
    """

    def __init__(self, name: str, out: str | os.PathLike | None, **identity: Any):
        self.name, self.folder, self.opened = name, None if out is None else Path(out), []
        self.identity = {key: _short(repr(value)) for key, value in identity.items()}
        self.identity |= {"threads": str(torch.get_num_threads()), **versions()}

    def __call__(self, stage: str) -> Rows:
        path = None if self.folder is None else self.folder / f"{self.name}{stage and '-'}{stage}.nc"
        self.opened.append(Rows(path, self.identity, what="experiment"))
        return self.opened[-1]

    def clear(self) -> None:
        """Remove them: to be called when the result is saved."""
        for rows in self.opened:
            rows.clear()


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:40]}... ({hashlib.sha256(text.encode()).hexdigest()[:16]})"


def measured(
    function: Callable[..., dict[str, np.ndarray]],
    items: Sequence[Any],
    *,
    rows: Rows,
    scheduler: Any = None,
    chunk: int = 1,
    step: Callable[[int], None] | None = None,
    shared: tuple = (),
) -> list[dict[str, np.ndarray]]:
    """`function(item, *shared)` of every item, in their order.

    On a scheduler every task uses as many of torch's threads as this process: products of matrices differ in their last bits with
    the number of threads. step : called with the number of each item that is there

    >>> found = measured(lambda item: {"x": np.array(item)}, [1, 2], rows=Rows(None, {}))
    >>> [int(result["x"]) for result in found]
    [1, 2]
    """
    if scheduler is not None:
        function = partial(_on_threads, function, torch.get_num_threads())
    found: dict[int, dict[str, np.ndarray]] = {}
    for i, result in run_tasks(function, items, shared=shared, keep=rows, scheduler=scheduler, chunk=chunk):
        found[i] = result
        if step:
            step(i)
    return [found[i] for i in range(len(items))]


def _on_threads(function: Callable, threads: int, item: Any, *shared: Any) -> Any:
    torch.set_num_threads(threads)
    return function(item, *shared)
