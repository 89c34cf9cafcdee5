"""How far a run is, told to whoever asked."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["counter"]


def counter(progress: Callable[[int, int], None] | None, total: float) -> Callable[..., None]:
    """A function that adds a piece of work (1, or its cost) to what is done and calls `progress` (done, total).

    >>> step = counter(lambda done, total: print(done, "of", total), 3)
    >>> step(), step(2)
    1 of 3
    3 of 3
    (None, None)
    """
    done = 0.0

    def step(work: float = 1) -> None:
        nonlocal done
        done += work
        if progress:
            progress(round(done), round(total))

    return step
