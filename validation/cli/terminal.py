"""What every command shares at the terminal: the app, where it prints, progress, and how its arguments are read."""

from __future__ import annotations

import codecs
import logging
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from numerics.domain import DomainError
from validation.progress_lines import progress_lines, stage_lines

__all__ = [
    "app", "console", "folder_of", "given", "notes", "numbers_of", "on_dask", "progress_bar", "say", "speak_as_the_console_can",
    "stages", "tell_where_kernels_are_kept",
]  # fmt: skip

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="When does a diffusion model copy its training set? The statistical physics of memorisation: theory, phase "
    "diagrams, audits of your own data, and simulations that check it all.",
)


class _Output(Console):
    """A console that knows the encoding of the stream of the moment: where it is not UTF, tables are drawn in ASCII."""

    @property
    def encoding(self) -> str:
        return (getattr(self.file, "encoding", None) or "utf-8").lower()


class _Notes(_Output):
    """stderr. A log that can no longer be written (a full disk, a closed pipe) does not end a run."""

    def print(self, *items: Any, **options: Any) -> None:
        with suppress(OSError):
            super().print(*items, **options)


console = _Output(width=None if sys.stdout is not None and sys.stdout.isatty() else 120)
notes = _Notes(stderr=True)


# --- what a console cannot show -----------------------------------------------------------------------------------------

_SPELLED = {
    "²": "^2", "³": "^3", "·": "*", "×": "x", "±": "+-", "–": "-", "—": "-", "…": "...", "α": "alpha", "σ": "sigma",
    "∞": "inf", "≥": ">=", "≤": "<=", "→": "->", "•": "*", "‘": "'", "’": "'", "“": '"', "”": '"',
}  # fmt: skip


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """Codec error handler: what the encoding lacks is spelled in ASCII, and a byte of a file name is shown as an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = ""
    for c in error.object[error.start : error.end]:
        if "\u2500" <= c <= "\u257f":
            text += _drawn(c)
            continue
        plain = unicodedata.normalize("NFKD", c).encode("ascii", "ignore").decode()
        text += _SPELLED.get(c) or plain or ascii(c)[1:-1]
    return text, error.end


def _drawn(line: str) -> str:
    """A character of a box in ASCII."""
    name = unicodedata.name(line)
    across, down = ("HORIZONTAL" in name or "LEFT" in name or "RIGHT" in name), "VERTICAL" in name or "UP" in name
    down |= "DOWN" in name
    return "+" if across and down else "|" if down else "-"


codecs.register_error("geomem.spelled", _spelled)


def speak_as_the_console_can() -> None:
    """Makes stdout and stderr write what their encoding lacks in ASCII (cp1252 and ascii consoles), instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="geomem.spelled")


class _Log(logging.Handler):
    """The log of the house as lines on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        notes.print(record.getMessage(), markup=False, highlight=False, soft_wrap=True)


def tell_where_kernels_are_kept() -> None:
    """Lets a run that compiles say where the kernels go, or that there is no place for them: once."""
    log = logging.getLogger(
        "geomem"
    )  # that of `numerics.kernel_cache`, whose import brings numba: --help is to be quick
    if not log.handlers:
        log.addHandler(_Log())
        log.setLevel(logging.INFO)
        log.propagate = False


def say(text: str) -> None:
    """A line on stdout as it is: brackets in it are no markup."""
    console.print(text, markup=False, highlight=False)


# --- progress -----------------------------------------------------------------------------------------------------------


@contextmanager
def stages(title: str) -> Iterator[Callable[[str], None]]:
    """A callback (line) for the name of each stage: the status on stderr, or, where that is no terminal, lines with the time."""
    if notes.is_terminal:
        with notes.status(title) as status:
            yield lambda line: status.update(escape(line))
        return
    tell = stage_lines(notes, title)
    yield tell
    tell("done")


@contextmanager
def progress_bar(title: str) -> Iterator[Any]:
    """A progress callback `(done, total)` drawn on stderr, with the time left; lines where that is no terminal."""
    if not notes.is_terminal:
        yield progress_lines(notes, title)
        return
    from rich.progress import (  # here, not above: `geomem --help` draws no bar
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

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


@contextmanager
def on_dask(text: str | None, option: str, threads: int = 1) -> Iterator[Any]:
    """The client of the scheduler that an option names, or None without one; what its user should know stands on stderr.

    threads : that a task uses, as in this process
    """
    if text is None:
        yield None
        return
    from numerics.grids import connected

    with connected(text, argument=option) as client:
        workers = client.nthreads()
        found = f"{len(workers)} workers" if workers else "no worker yet: waiting for the first"
        if workers and threads > min(workers.values()):
            fewest = min(workers.values())
            found += (
                f"; tasks use {threads} threads, as here, of a worker's {fewest}: set OMP_NUM_THREADS={fewest} here too"
            )
        notes.print(f"dask scheduler {text}: {found}", markup=False, highlight=False, soft_wrap=True)
        yield client


# --- arguments ----------------------------------------------------------------------------------------------------------


def numbers_of(name: str, text: str) -> list[float]:
    """The numbers of an option, which its user separates by commas."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise DomainError(name, text, "numbers separated by commas") from error


def folder_of(path: Path) -> Path:
    """`--out` where it is a folder, or an error if nothing can be written there. It is made with the first file."""
    from numerics.store import writable_folder

    return writable_folder(path, argument="--out")


def given(**options: Any) -> dict[str, Any]:
    """The options that the user gave."""
    return {name: value for name, value in options.items() if value is not None}
