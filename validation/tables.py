"""A table of words and numbers, as a page, the terminal and a file show it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from numerics.store import atomic

__all__ = ["TableData"]


@dataclass
class TableData:
    """Cells as text under a caption; `text` are the columns that are words.

    >>> TableData("Times.", ("time", "t"), [("collapse", "1.41")]).shown().row_count
    1
    """

    caption: str
    head: Sequence[str]
    rows: list[Sequence[str]]
    text: Sequence[int] = (0,)

    def shown(self, *, compact: bool = False) -> Table:
        """For the terminal; `compact` has no frame, and its words stay on one line."""
        look = {"box": SIMPLE_HEAD, "padding": (0, 1, 0, 0)} if compact else {}
        table = Table(title=escape(self.caption), title_justify="left", **look)
        for i, head in enumerate(self.head):
            words = i in self.text
            table.add_column(escape(head), justify="left" if words else "right", no_wrap=compact and words)
        for row in self.rows:
            table.add_row(*map(escape, row))
        return table

    def write(self, path: Path) -> Path:
        """As CSV, the caption in a `#` line above."""
        with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            file.write(f"# {self.caption}\n")
            csv.writer(file).writerows([self.head, *self.rows])
        return path
