"""What a derivation yields: a frozen statement with its equation, domain, limit and sources; and functions that carry one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypeVar, cast

import sympy as sp

from numerics.display import card
from theory.sources import SOURCES

__all__ = ["Result", "WithEquation", "with_equation"]

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value", covariant=True)


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

    def _repr_html_(self) -> str:
        entries = {"domain": self.domain, "limit": self.limit or "exact", "sources": ", ".join(self.sources)}
        return card(self.name, entries, formula=sp.latex(self.equation))

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {sp.latex(self.equation)}$"


class WithEquation(Protocol[Arguments, Value]):
    """A function whose `.equation(model)` is the sympy equation that it solves."""

    equation: Callable[..., Any]

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Value: ...


def with_equation(
    equation: Callable[..., Any],
) -> Callable[[Callable[Arguments, Value]], WithEquation[Arguments, Value]]:
    """Let a function carry the equation it solves.

    >>> @with_equation(lambda: sp.Eq(sp.Symbol("x"), 1))
    ... def x():
    ...     return 1.0
    >>> x(), x.equation()
    (1.0, Eq(x, 1))
    """

    def decorate(function: Callable[Arguments, Value]) -> WithEquation[Arguments, Value]:
        carrier = cast("WithEquation[Arguments, Value]", function)
        carrier.equation = equation
        return carrier

    return decorate
