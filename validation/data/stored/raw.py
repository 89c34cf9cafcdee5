"""What a data reader hands over before scaling and checks (`Raw`), and the error every reader raises (`DataError`)."""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from numerics.domain import DomainError, cut, printable

__all__ = ["DataError", "Raw", "reading", "regular", "room"]


class DataError(DomainError):
    """Data that cannot be used: the message names the file, what was found, what was expected and the remedy.

    The parts stay available as attributes: `argument` (the file), `value` (found), `allowed` (expected), `remedy`.

    >>> raise DataError("digits.npy", "3 values are not finite", "finite numbers", "Drop those rows first")
    Traceback (most recent call last):
    ...
    validation.data.stored.raw.DataError: digits.npy: 3 values are not finite; expected finite numbers. Drop those rows first
    """

    def __init__(self, source: Any, found: str, expected: str, remedy: str = ""):
        super().__init__(str(source), found, expected, remedy)
        parts = [cut(printable(str(part)), 400) for part in (source, found, expected, remedy)]
        self.args = ("{}: {}; expected {}".format(*parts) + (f". {parts[3]}" if remedy else ""),)


@dataclass(frozen=True, eq=False)
class Raw:
    """Stored samples as a reader found them: `array` is (P, *sample shape), any real dtype, possibly memory-mapped.

    `levels` is the (lowest, highest) pixel value the format can hold, or None where the numbers have no such range.
    """

    array: np.ndarray
    name: str
    source: str
    labels: np.ndarray | None = None
    held_out: np.ndarray | None = None
    levels: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()  # of each row, relative to the source


def regular(path: Path) -> int:
    """Size in bytes of the regular, non-empty file at `path`, or `DataError`."""
    try:
        status = os.stat(path)
    except PermissionError as error:
        raise DataError(path, "permission denied", "a readable file", "Change its mode or its owner") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise DataError(path, "no such file or folder", "an existing path", "Check the spelling") from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(path, "is neither a regular file nor a folder", "a file or a folder of images")
    if status.st_size == 0:
        raise DataError(path, "the file is empty (0 bytes)", "a file with samples in it", "Write or download it again")
    return status.st_size


def room(
    source: Any, shape: tuple[int, ...], itemsize: int, remedy: str = "Take fewer samples: limit=, or --limit"
) -> None:
    """`DataError` when an array of this shape could not fit in this machine's memory, before any of it is allocated."""
    need = prod(int(n) for n in shape) * itemsize
    try:
        have = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # a platform that does not say
        return
    if need > have:
        raise DataError(
            source,
            f"shape {tuple(shape)} needs {need / 2**30:.3g} GiB of memory",
            f"at most this machine's {have / 2**30:.3g} GiB",
            remedy,
        )


@contextmanager
def reading(path: Any, expected: str, remedy: str = "Write or download it again") -> Iterator[None]:
    """Turns whatever a decoder raises on a broken file into a `DataError` naming that file."""
    try:
        yield
    except DataError:
        raise
    except PermissionError as error:
        raise DataError(path, "permission denied", "a readable file", "Change its mode or its owner") from error
    except MemoryError as error:
        raise DataError(
            path, "not enough memory to read it", expected, "Take fewer samples: limit=, or --limit"
        ) from error
    except (
        OSError, EOFError, ValueError, KeyError, SyntaxError, RuntimeError, NotImplementedError,
        zlib.error, zipfile.BadZipFile,
    ) as error:  # fmt: skip
        raise DataError(path, f"cannot be read ({type(error).__name__}: {error})", expected, remedy) from error
