"""The command line: `geomem times | noise | phase-diagram | audit | samples | spectrum | train | window | validate | report`."""

from __future__ import annotations

import errno
import os
import sys

from numerics.domain import DomainError
from validation.cli import theory_commands  # noqa: F401 - imports in the order of the commands in --help

# isort: split
from validation.cli import audit_command, data_commands, sample_commands, window_command, run_commands  # isort: skip  # noqa: F401
from validation.cli.terminal import app, notes, speak_as_the_console_can, tell_where_kernels_are_kept

__all__ = ["app", "main"]


def main() -> None:
    """Entry point: user errors end with one line and status 2, never a traceback."""
    speak_as_the_console_can()
    tell_where_kernels_are_kept()
    try:
        try:
            app()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here a full disk is an error of ours; at exit it would be a traceback
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EPIPE):
            raise
        notes.print(f"error: standard output = {error.strerror}: it must be a place that takes all lines", markup=False)
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)  # what is still buffered goes nowhere
        sys.exit(2)
    except MemoryError as error:
        notes.print(f"error: not enough memory ({error}): take fewer samples (--limit) or points", markup=False)
        sys.exit(2)
    except (DomainError, NotImplementedError) as error:
        notes.print(f"error: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code != 130:  # typer makes an exit with 130 of Ctrl-C
            raise
        notes.print("interrupted; finished parts that were written stay: run the same command to go on")
        sys.exit(130)
