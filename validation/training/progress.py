"""A progress bar for training: steps, loss, time spent and time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["training_bar"]


@contextmanager
def training_bar(console: Any, title: str = "training") -> Iterator[Callable[[int, int, torch.Tensor], None]]:
    """The callback that `Trainer.run` takes, drawn on a rich console; members of a stack show their mean loss.

    >>> from rich.console import Console
    >>> with training_bar(Console(quiet=True)) as progress:
    ...     progress(1, 2, torch.tensor([0.5]))
    """
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
