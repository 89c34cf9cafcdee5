"""How results show themselves in a notebook: small tables of HTML in which every text is escaped."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["Shown", "card", "grid", "number", "plain"]

_LISTED = 6  # numbers of an array that are written out
_ROWS = 24  # of a table that are shown without asking


def plain(value: Any) -> str:
    """A value in few words: numbers to six digits, long arrays by size and range.

    >>> plain(0.1 + 0.2), plain((1.0, 0.09)), plain(np.arange(100.0))
    ('0.3', '1, 0.09', '100 numbers from 0 to 99')
    """
    if isinstance(value, (float, np.floating)):
        return f"{value:.6g}"
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return plain(value[()])
    if isinstance(value, np.ndarray) and value.size > _LISTED:
        if value.dtype.kind not in "iuf":
            return f"array of shape {value.shape}"
        known = value[np.isfinite(value)]
        ends = f" from {plain(float(known.min()))} to {plain(float(known.max()))}" if known.size else ""
        return f"{value.size} numbers{ends}"
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return str(value)
    if isinstance(value, (list, tuple, np.ndarray)):
        return ", ".join(plain(item) for item in value)
    return str(value)


def _formula(tex: str) -> str:
    """Inline mathematics that MathJax typesets in a notebook and in Sphinx."""
    return f'<span class="math notranslate nohighlight">\\({html.escape(tex)}\\)</span>' if tex else ""


def card(title: str, entries: Mapping[str, Any], *, formula: str = "") -> str:
    """A title with a formula (TeX), and a row for each entry.

    >>> card("<i>", {"a": 1.0})
    '<div><b>&lt;i&gt;</b><table><tr><th>a</th><td>1</td></tr></table></div>'
    """
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(plain(value))}</td></tr>" for name, value in entries.items()
    )
    head = f"<b>{html.escape(title)}</b>" + (f" {_formula(formula)}" if formula else "")
    return f"<div>{head}<table>{rows}</table></div>"


def grid(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A title, a head and rows; beyond two dozen rows the table is folded.

    >>> grid("x", ["n"], [[1]])
    '<div><b>x</b><table><tr><th>n</th></tr><tr><td>1</td></tr></table></div>'
    """
    body = [f"<tr>{''.join(f'<td>{html.escape(plain(cell))}</td>' for cell in row)}</tr>" for row in rows]
    head = f"<tr>{''.join(f'<th>{html.escape(name)}</th>' for name in columns)}</tr>"
    table = f"<table>{head}{''.join(body)}</table>"
    if len(body) > _ROWS:
        table = f"<details><summary>{len(body)} rows</summary>{table}</details>"
    return f"<div><b>{html.escape(title)}</b>{table}</div>"


def number(value: float, error: float) -> str:
    """A value with its standard error, both to the error's second digit.

    >>> number(1.40961, 0.0031), number(12.0, math.nan)
    ('1.4096 ± 0.0031', '12')
    """
    if not (math.isfinite(value) and math.isfinite(error) and error > 0):
        return plain(float(value))
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.2g}"


class Shown:
    """A dataclass that shows its fields in a notebook, below its name and law."""

    _law = ""  # TeX

    def _entries(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.repr}  # type: ignore[arg-type]

    def _repr_html_(self) -> str:
        return card(type(self).__name__, self._entries(), formula=self._law)
