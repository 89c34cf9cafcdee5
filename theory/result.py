"""What a derivation yields: a frozen statement with its equation, domain, limit and sources, shown as LaTeX in a notebook."""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from theory.sources import SOURCES

__all__ = ["Result"]


@dataclass(frozen=True)
class Result:
    """One derived statement.

    Attributes
    ----------
    name : str
        What it says, in words.
    equation : sympy expression or relation
    domain : str
        For which arguments it holds.
    limit : str
        The limit taken, empty for an exact statement.
    sources : tuple of keys of `theory.sources.SOURCES`, or "ours: ..." with the page that derives it

    >>> Result("a tautology", sp.Eq(sp.Symbol("t"), 1, evaluate=False), "everywhere", sources=("D81",)).equation
    Eq(t, 1)
    """

    name: str
    equation: sp.Basic
    domain: str
    limit: str = ""
    sources: tuple[str, ...] = ()

    def __post_init__(self):
        unknown = [key for key in self.sources if key not in SOURCES and not key.startswith("ours")]
        if unknown:
            raise ValueError(f"sources = {unknown}: they must be keys of theory.sources.SOURCES or start with 'ours'")

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {sp.latex(self.equation)}$"
