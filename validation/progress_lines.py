"""Progress where nothing can be drawn, in a log or a pipe: a line a stage, and every half minute within one."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

__all__ = ["EVERY", "progress_lines", "stage_lines"]

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


def stage_lines(console: Any, title: str) -> Callable[[str], None]:
    """A callback (line) that prints the name of each stage as it starts, after the seconds since the first.

    A line that differs from the last only in its count ("3 of 20") belongs to the same stage: every half minute one is shown.

    >>> from rich.console import Console
    >>> tell = stage_lines(Console(highlight=False, width=60), "audit")
    >>> tell("theory"); tell("simulation: 1 of 9"); tell("simulation: 2 of 9"); tell("done")
    audit, 0 s: theory
    audit, 0 s: simulation: 1 of 9
    audit, 0 s: done
    """
    started = time.monotonic()
    stage, told = "", started

    def tell(line: str) -> None:
        nonlocal stage, told
        now, name = time.monotonic(), re.sub(r"\d[\d,]* of \d[\d,]*", "", line)
        if name == stage and now - told < EVERY:
            return
        stage, told = name, now
        console.print(f"{title}, {now - started:.0f} s: {line}", highlight=False, markup=False, soft_wrap=True)

    return tell
