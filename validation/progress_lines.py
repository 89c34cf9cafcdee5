"""Progress where nothing can be drawn, in a log or a pipe: a line every half minute."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

__all__ = ["EVERY", "progress_lines"]

EVERY = 30.0  # seconds


def progress_lines(console: Any, title: str) -> Callable[..., None]:
    """A callback (done, total, more="") that prints on a rich console what is done and about how long the rest will take.

    What was done before the first call (by an interrupted run) does not count towards the pace.

    >>> from rich.console import Console
    >>> progress_lines(Console(quiet=True), "spectra")(1, 2)
    """
    first: list[float] = []
    told = [time.monotonic()]

    def tell(done: int, total: int, more: str = "") -> None:
        now = time.monotonic()
        if not first:
            first[:] = done, now
        if now - told[0] < EVERY or done >= total:
            return
        told[0] = now
        pace = (done - first[0]) / (now - first[1]) if now > first[1] else 0.0
        left = f", about {(total - done) / pace / 60:.1f} minutes left" if pace > 0 else ""
        console.print(f"{title}: {done:,} of {total:,}{more}{left}", highlight=False, markup=False)

    return tell
