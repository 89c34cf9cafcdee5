"""What every command shares at the terminal: the app, where it prints, progress bars, and how its arguments are read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from numerics.domain import DomainError
from validation.progress_lines import progress_lines

__all__ = ["app", "console", "given", "made_folder", "notes", "numbers_of", "progress_bar"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="When does a diffusion model copy its training set? The statistical physics of memorisation: theory, phase "
    "diagrams, audits of your own data, and simulations that check it all.",
)
console = Console(width=None if sys.stdout.isatty() else 120)
notes = Console(stderr=True)


@contextmanager
def progress_bar(title: str) -> Iterator[Any]:
    """A progress callback `(done, total)` drawn on stderr, with the time left; lines where that is no terminal."""
    if not notes.is_terminal:
        yield progress_lines(notes, title)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=notes, transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def numbers_of(name: str, text: str) -> list[float]:
    """The numbers of an option, which its user separates by commas."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise DomainError(name, text, "numbers separated by commas") from error


def made_folder(path: Path) -> Path:
    """`--out` where it is a folder: made, or an error if nothing can be written there."""
    from numerics.store import writable

    writable(path / "x", argument="--out")
    return path


def given(**options: Any) -> dict[str, Any]:
    """The options that the user gave."""
    return {name: value for name, value in options.items() if value is not None}
