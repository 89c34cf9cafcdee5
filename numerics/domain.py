"""Bad input, said once: errors that name the argument, the value received and the allowed domain.

Every public function of the house checks its arguments here, before any compiled code runs. Nothing is clamped silently.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["DomainError", "finite", "integer", "nonnegative", "positive", "printable"]


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
        shown = printable(value) if isinstance(value, str) else _brief(value)
        super().__init__(
            f"{printable(argument)} = {shown} is outside its domain: it must be {printable(allowed)}"
            + (f". {printable(remedy)}" if remedy else "")
        )


def printable(text: str) -> str:
    r"""`text` on one line: control characters and undecodable bytes, as file names may hold, become escapes.

    >>> print(printable("a\nb"))
    a\nb
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _brief(value: Any) -> str:
    text = " ".join(repr(value).split())  # an array's rows on one line
    return text if len(text) <= 80 else text[:77] + "..."


def finite(name: str, value: Any, *, allowed: str = "finite real numbers") -> np.ndarray:
    """`value` as a float64 array, every entry finite, or `DomainError`."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DomainError(name, value, allowed) from error
    bad = ~np.isfinite(array)
    if bad.any():
        raise DomainError(name, _first(array, bad), allowed)
    return array


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


def integer(name: str, value: Any, *, minimum: int) -> int:
    """`value` as a Python int (of any size) that is at least `minimum`, or `DomainError`."""
    allowed = f"an integer >= {minimum}"
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise DomainError(name, value, allowed)
    if not np.isfinite(value) if isinstance(value, (float, np.floating)) else False:
        raise DomainError(name, value, allowed)
    if int(value) != value or int(value) < minimum:
        raise DomainError(name, value, allowed)
    return int(value)


def _first(array: np.ndarray, bad: np.ndarray) -> float:
    return float(array[bad].flat[0]) if array.ndim else float(array)
