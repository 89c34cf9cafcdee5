"""What the page is made of: sections with text, tables, figures and folds, and how they become HTML."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from validation import figures
from validation.report.mathematics import mathematics
from validation.tables import TableData

__all__ = ["Answer", "FigureData", "Fold", "Section", "render"]


@dataclass
class FigureData:
    """A figure with its caption, the file that has its numbers (relative to the page) and the command that makes it.

    wide : on a narrow screen it is scrolled, not shrunk
    """

    name: str
    figure: Figure
    caption: str
    numbers: str = ""
    command: str = ""
    wide: bool = False

    @property
    def png(self) -> str:
        buffer = io.BytesIO()
        with figures.style():
            self.figure.savefig(buffer, format="png", dpi=130)
        return base64.b64encode(buffer.getvalue()).decode()


@dataclass
class Fold:
    """One line, and what stands behind it."""

    line: str
    text: list[str] = field(default_factory=list)
    tables: list[TableData] = field(default_factory=list)
    figures: list[FigureData] = field(default_factory=list)


@dataclass
class Section:
    """A chapter of the page; `html` is markup of our own, put after the text."""

    title: str
    text: list[str] = field(default_factory=list)
    points: list[tuple[str, str]] = field(default_factory=list)  # a headline and what it says
    equations: list[dict[str, str]] = field(default_factory=list)
    tables: list[TableData] = field(default_factory=list)
    figures: list[FigureData] = field(default_factory=list)
    folds: list[Fold] = field(default_factory=list)
    html: Markup = field(default_factory=Markup)
    made: str = ""  # where the numbers are and what makes them, said last

    @property
    def anchor(self) -> str:
        """For links: lower case letters, digits and hyphens."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") or "section"


@dataclass
class Answer:
    """The first screen: `light` is "red", "amber" or "green", `reason` why."""

    question: str
    words: list[str]
    light: str
    reason: str
    figures: list[FigureData] = field(default_factory=list)
    tables: list[TableData] = field(default_factory=list)


def render(answer: Answer, sections: Sequence[Section], made: Iterable[tuple[str, str]], *, plots: bool = False) -> str:
    """The page as HTML, in which every name and sentence is text; `plots` bundles plotly.js."""
    from jinja2 import Environment, PackageLoader, select_autoescape

    script = Markup("")
    if plots:
        from plotly.offline import get_plotlyjs

        script = Markup(get_plotlyjs().replace("</script", "<\\/script"))
    environment = Environment(loader=PackageLoader("validation.report", "."), autoescape=select_autoescape())
    environment.filters["math"] = mathematics
    here = Path(__file__).parent
    return environment.get_template("page.html").render(
        answer=answer,
        sections=sections,
        provenance=made,
        plotly=script,
        style=Markup((here / "page.css").read_text(encoding="utf-8")),
        script=Markup((here / "page.js").read_text(encoding="utf-8")),
    )
