"""A progress bar for training: steps, loss, time spent and time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from validation.progress_lines import progress_lines

__all__ = ["training_bar"]


@contextmanager
def training_bar(console: Any, title: str = "training") -> Iterator[Callable[[int, int, torch.Tensor], None]]:
    """The callback that `Trainer.run` takes, drawn on a rich console (lines where that is no terminal); members of a
    stack show their mean loss.

    >>> from rich.console import Console
    >>> with training_bar(Console(quiet=True)) as progress:
    ...     progress(1, 2, torch.tensor([0.5]))
    """
    if not console.is_terminal:
        tell = progress_lines(console, title)
        yield lambda done, total, loss: tell(done, total, f", loss {float(loss.mean()):.4f}")
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None, loss="-")
        yield lambda done, total, loss: bar.update(task, completed=done, total=total, loss=f"{float(loss.mean()):.4f}")
