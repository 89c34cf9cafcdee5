"""Bad input, said once: errors that name the argument, the value received and the allowed domain.

Every public function of the house checks its arguments here, before any compiled code runs. Nothing is clamped silently.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # at run time numpy is imported by the checks that need it: `geomem --help` raises and checks nothing
    import numpy as np

__all__ = [
    "LARGEST_SEED",
    "DomainError",
    "choice",
    "cut",
    "finite",
    "integer",
    "nonnegative",
    "positive",
    "printable",
    "shaped",
    "times",
]

LARGEST_SEED = (1 << 63) - 1  # of torch's generators


class DomainError(ValueError):
    """An argument outside its domain.

    The message reads ``argument = value: allowed. remedy``; the parts stay available as attributes.

    >>> raise DomainError("alpha", -0.1, "a number > 0")
    Traceback (most recent call last):
    ...
    numerics.domain.DomainError: alpha = -0.1 is outside its domain: it must be a number > 0
    """

    def __init__(self, argument: str, value: Any, allowed: str, remedy: str = ""):
        self.argument, self.value, self.allowed, self.remedy = argument, value, allowed, remedy
        shown = cut(printable(value), 400) if isinstance(value, str) else _brief(value)
        super().__init__(
            f"{printable(argument)} = {shown} is outside its domain: it must be {printable(allowed)}"
            + (f". {printable(remedy)}" if remedy else "")
        )

    def __reduce__(self) -> tuple:
        return type(self), (self.argument, self.value, self.allowed, self.remedy)  # so that it crosses processes


def printable(text: str) -> str:
    r"""`text` on one line: control characters and undecodable bytes, as file names may hold, become escapes.

    >>> print(printable("a\nb"))
    a\nb
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _brief(value: Any) -> str:
    try:
        text = " ".join(repr(value).split())  # an array's rows on one line
    except ValueError:  # an int of thousands of digits, which Python refuses to write out
        text = f"an integer of about {int(value.bit_length() * 0.30103)} digits"
    return cut(text, 80)


def cut(text: str, length: int) -> str:
    """`text`, its end replaced by dots where it is longer than `length`."""
    return text if len(text) <= length else text[: length - 3] + "..."


def shaped(name: str, value: Any, *, allowed: str = "numbers, or an array of one shape") -> np.ndarray:
    """`value` as an array of whatever type (a memory-mapped one stays that), or `DomainError` where its parts have several
    shapes or some are masked."""
    import numpy as np

    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise DomainError(
            name, f"an array with {np.ma.count_masked(value)} masked entries", "an array without masked entries"
        )
    try:
        return value if isinstance(value, np.memmap) else np.asarray(value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise DomainError(name, value, allowed) from error


def finite(name: str, value: Any, *, allowed: str = "finite real numbers") -> np.ndarray:
    """`value` as a float64 array, every entry finite, or `DomainError`. Text and complex numbers are no real numbers."""
    import numpy as np

    array = _real(name, value, allowed)
    bad = ~np.isfinite(array)
    if bad.any():
        raise DomainError(name, _first(array, bad), allowed)
    return array


def _real(name: str, value: Any, allowed: str) -> np.ndarray:
    import numpy as np

    array = shaped(name, value, allowed=allowed)
    if array.dtype.kind not in "buifO":
        raise DomainError(name, value, allowed)
    try:
        return array.astype(np.float64, copy=False)
    except (TypeError, ValueError, OverflowError) as error:
        raise DomainError(name, value, allowed) from error


def positive(name: str, value: Any, *, allowed: str = "finite and > 0") -> np.ndarray:
    """`value` as a float64 array, every entry finite and > 0, or `DomainError`."""
    array = finite(name, value, allowed=allowed)
    if (array <= 0).any():
        raise DomainError(name, _first(array, array <= 0), allowed)
    return array


def nonnegative(name: str, value: Any, *, allowed: str = "finite and >= 0") -> np.ndarray:
    """`value` as a float64 array, every entry finite and >= 0, or `DomainError`."""
    array = finite(name, value, allowed=allowed)
    if (array < 0).any():
        raise DomainError(name, _first(array, array < 0), allowed)
    return array


def times(name: str, value: Any, *, allowed: str = "numbers >= 0, infinity allowed") -> np.ndarray:
    """`value` as a float64 array, every entry >= 0 or infinite, or `DomainError`."""
    array = _real(name, value, allowed)
    bad = ~(array >= 0)
    if bad.any():
        raise DomainError(name, _first(array, bad), allowed)
    return array


def integer(name: str, value: Any, *, minimum: int, maximum: int | None = None) -> int:
    """`value` as a Python int (of any size) from `minimum` to `maximum`, or `DomainError`."""
    import numpy as np

    allowed = f"an integer >= {minimum}" + (f" and <= {maximum}" if maximum is not None else "")
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise DomainError(name, value, allowed)
    if not np.isfinite(value) if isinstance(value, (float, np.floating)) else False:
        raise DomainError(name, value, allowed)
    if int(value) != value or int(value) < minimum or (maximum is not None and int(value) > maximum):
        raise DomainError(name, value, allowed)
    return int(value)


def choice(name: str, value: Any, options: Iterable[str]) -> str:
    """`value` where it is one of the words `options`, or `DomainError`."""
    options = tuple(options)
    if not (isinstance(value, str) and value in options):
        raise DomainError(name, value, f"one of {', '.join(options)}")
    return value


def _first(array: np.ndarray, bad: np.ndarray) -> float:
    return float(array[bad].flat[0]) if array.ndim else float(array)
