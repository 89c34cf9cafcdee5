"""The house style of figures: one palette, the names of the four times, labelled axes with units."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from numerics.store import atomic

__all__ = ["COLOURS", "FLOOR", "LABELS", "NOISE", "save", "style"]

COLOURS = {"onset": "#E69F00", "collapse": "#D55E00", "condensation": "#0072B2", "generalization": "#009E73"}
LABELS = {
    "onset": r"trap emergence $t_o$",
    "collapse": r"collapse $t_c$",
    "condensation": r"condensation $t_\mathrm{cond}$",
    "generalization": r"best generalisation $t_g$",
}
_STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 160,
    "svg.hashsalt": "geomem",
}
FLOOR = -12  # decades below which a figure does not go; the numbers in the files do
NOISE = r"noise variance $t=\sigma^2$"


@contextmanager
def style():
    """The house's matplotlib settings, for the duration of a block."""
    with matplotlib.rc_context(_STYLE):
        yield


def save(figure: Figure, path: Any) -> None:
    """Write a figure atomically; the format follows the suffix (.png, .pdf, .svg)."""
    from pathlib import Path

    from numerics.domain import DomainError

    path = Path(path)
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise DomainError("out", str(path), "a file name that ends in .png, .pdf or .svg")
    with atomic(path) as temporary, style():
        undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}  # equal runs give equal files
        figure.savefig(temporary, format=path.suffix[1:], metadata=undated.get(path.suffix))
