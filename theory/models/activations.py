"""Activations of the hidden manifold: their sympy expressions, kinks, parity, and what the ground floor needs of them.

Named activations are sympy expressions in one symbol; nothing numerical about them is typed a second time: derivatives,
Gaussian coefficients and the pieces of piecewise-linear ones are derived. A user's own activation is a sympy expression in
one symbol, or a callable on numbers or arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import sympy as sp

from numerics.channel import Channel, Rule
from numerics.domain import DomainError, finite
from numerics.elementary import tabulate

__all__ = ["ACTIVATIONS", "Activation", "activation", "h"]

h = sp.Symbol("h", real=True)  # local field F_i . z / sqrt(D)

ACTIVATIONS: dict[str, sp.Expr] = {
    "identity": h,
    "tanh": sp.tanh(h),
    "erf": sp.erf(h),
    "relu": sp.Piecewise((h, h > 0), (0, True)),
    "leaky_relu": sp.Piecewise((h, h > 0), (h / 100, True)),
    "sign": sp.sign(h),
    "abs": sp.Abs(h),
    "sin": sp.sin(h),
    "quadratic": h**2,
}


@dataclass(frozen=True)
class Activation:
    """An activation `s(h)`.

    Attributes
    ----------
    name : str
    expression : sympy expression in `h`, or None for a callable
    function : vectorised numpy function
    slope_function : vectorised numpy function of the derivative, or None where it is not known in closed form
    breakpoints : places where `s` or its slope jumps
    """

    name: str
    expression: sp.Expr | None
    function: Callable[[np.ndarray], np.ndarray]
    slope_function: Callable[[np.ndarray], np.ndarray] | None
    breakpoints: tuple[float, ...] = ()

    @cached_property
    def pieces(self) -> tuple[float, float, float, float, float] | None:
        """``(b, left c0, left c1, right c0, right c1)`` if `s` is linear on both sides of one point, else None."""
        if self.expression is None or len(self.breakpoints) > 1:
            return None
        b = self.breakpoints[0] if self.breakpoints else 0.0
        lines: list[tuple[float, float]] = []
        for side in (-1, 1):
            x, y = b + side, b + 2 * side
            fx, fy = (float(self.function(np.array([v]))[0]) for v in (x, y))
            line = sp.nsimplify(fx - (fy - fx) / (y - x) * x), (fy - fx) / (y - x)
            probe = b + side * np.array([1e-9, 0.013, 0.37, 3.1, 11.0, 57.0])
            if not np.allclose(self.function(probe), float(line[0]) + line[1] * probe, rtol=1e-14, atol=1e-14):
                return None
            lines.append((float(line[0]), float(line[1])))
        (left_constant, left_slope), (right_constant, right_slope) = lines
        return b, left_constant, left_slope, right_constant, right_slope

    @cached_property
    def parity(self) -> int:
        """1 for an even, -1 for an odd function, 0 for neither, judged on a grid of points without symmetry."""
        x = np.geomspace(1e-3, 9.0, 61) * 1.0173
        with np.errstate(all="ignore"):
            right, left = self.function(x), self.function(-x)
        scale = 1e-14 * (np.abs(right).max() + 1)
        return 1 if np.allclose(left, right, atol=scale) else (-1 if np.allclose(left, -right, atol=scale) else 0)

    def channel(self, radius: float, rule: Rule | None = None) -> Channel:
        """The compiled channel: exact pieces where there are two, else a table on ``|h| <= radius``."""
        rule = rule or Rule()
        if self.pieces is not None:
            return Channel(None, np.array(self.pieces), self.parity, rule)
        return Channel(_table(self, radius), None, self.parity, rule)

    def linear_and_noise(self, variance: float = 1.0) -> tuple[float, float, float]:
        r"""Gaussian coefficients of `s` for :math:`h\sim N(0,v)`: mean, linear coefficient, variance of the rest.

        :math:`\kappa_0=E\,s,\quad \kappa_1=E[h\,s]/v,\quad \kappa_*^2=E\,s^2-\kappa_0^2-\kappa_1^2v`. Source: [GMKZ20].

        >>> [round(c, 6) for c in activation("relu").linear_and_noise()]
        [0.398942, 0.5, 0.090845]
        """
        nodes, weights = np.polynomial.legendre.leggauss(20)
        limits = np.union1d(np.linspace(-9, 9, 73), np.array(self.breakpoints) / np.sqrt(variance))
        half = np.diff(limits) / 2
        x = ((limits[:-1] + half)[:, None] + half[:, None] * nodes).ravel()
        w = (half[:, None] * weights).ravel() * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
        s = self.function(np.sqrt(variance) * x)
        mean = float(w @ s)
        linear = float(w @ (x * s) / np.sqrt(variance))
        return mean, linear, float(w @ (s - mean - linear * np.sqrt(variance) * x) ** 2)


@cache
def _table(act: Activation, radius: float):
    return tabulate(act.function, radius, act.breakpoints)


def activation(value: Any, *, slope: Callable | None = None, breakpoints: Any = ()) -> Activation:
    """The activation meant by a name, a sympy expression in one symbol, a callable, or an `Activation`.

    Parameters
    ----------
    value : str, sympy expression, callable or Activation
        A callable takes a float or a float64 array (numba-compiled functions too); one that takes only floats is mapped.
    slope : callable, optional
        Its derivative, for a callable; checked against differences of `value`.
    breakpoints : sequence of numbers
        Where a callable or its slope jumps; found automatically for sympy expressions.

    Raises
    ------
    DomainError
        Unknown name, several symbols, values that are not finite near 0, or a slope that is not the derivative.

    >>> activation("relu").breakpoints
    (0.0,)
    """
    if isinstance(value, Activation):
        return value
    if isinstance(value, str):
        if value not in ACTIVATIONS:
            raise DomainError("activation", value, "one of " + ", ".join(ACTIVATIONS) + ", or a function of your own")
        return _from_expression(value, ACTIVATIONS[value])
    if isinstance(value, sp.Expr):
        symbols = value.free_symbols
        if len(symbols) != 1:
            raise DomainError("activation", value, "a sympy expression in exactly one symbol")
        return _from_expression(str(value), value.xreplace({symbols.pop(): h}))
    if callable(value):
        return _from_callable(
            value, slope, tuple(map(float, np.atleast_1d(finite("breakpoints", breakpoints)).ravel()))
        )
    raise DomainError("activation", value, "a name, a sympy expression in one symbol, or a callable")


@cache
def _from_expression(name: str, expression: sp.Expr) -> Activation:
    function = _vectorised(expression)
    derivative = sp.diff(
        expression.rewrite(sp.Piecewise) if expression.has(sp.sign, sp.Abs, sp.Max, sp.Min) else expression, h
    )
    return Activation(name, expression, function, _vectorised(derivative), _breakpoints(expression))


def _vectorised(expression: sp.Expr) -> Callable[[np.ndarray], np.ndarray]:
    compiled = sp.lambdify(h, expression, modules=["scipy", "numpy"])

    def function(x):
        x = np.asarray(x, dtype=float)
        with np.errstate(all="ignore"):
            return np.broadcast_to(np.asarray(compiled(x), dtype=float), x.shape)

    return function


def _breakpoints(expression: sp.Expr) -> tuple[float, ...]:
    """Zeros of the arguments of sign, Abs and Heaviside, where Max and Min change over, and the edges of Piecewise."""
    switches = [node.args[0] for node in expression.atoms(sp.sign, sp.Abs, sp.Heaviside)]
    for node in expression.atoms(sp.Max, sp.Min):
        switches += [a - b for i, a in enumerate(node.args) for b in node.args[:i]]
    for node in expression.atoms(sp.Piecewise):
        for condition in node.atoms(sp.core.relational.Relational):
            switches.append(condition.lhs - condition.rhs)
    points: set[float] = set()
    for switch in switches:
        if h in switch.free_symbols:
            roots = sp.solveset(switch, h, sp.Interval(-50, 50))
            if not isinstance(roots, sp.FiniteSet):
                raise DomainError("activation", expression, "one whose kinks can be located", "pass it as a callable")
            points |= {float(root) for root in roots}
    return tuple(sorted(points))


def _from_callable(value: Callable, slope: Callable | None, breakpoints: tuple[float, ...]) -> Activation:
    function = _mapped(value)
    probe = np.linspace(-3.1, 2.9, 41)
    values = function(probe)
    if not np.isfinite(values).all():
        raise DomainError("activation", "a callable with values that are not finite", "finite for every real h")
    slope_function = None
    if slope is not None:
        slope_function = _mapped(slope)
        step = 1e-5
        away = np.array([min((abs(p - b) for b in breakpoints), default=1.0) > 2 * step for p in probe])
        measured = (function(probe + step) - function(probe - step)) / (2 * step)
        given = slope_function(probe)
        if not np.allclose(measured[away], given[away], rtol=1e-4, atol=1e-6):
            raise DomainError(
                "slope", f"{given[away][0]:.6g} at {probe[away][0]:.3g}", "the derivative of the activation"
            )
    return Activation(getattr(value, "__name__", "callable"), None, function, slope_function, breakpoints)


def _mapped(value: Callable) -> Callable[[np.ndarray], np.ndarray]:
    def function(x):
        x = np.asarray(x, dtype=float)
        try:
            y = np.asarray(value(x), dtype=float)
            if y.shape == x.shape:
                return y
        except (TypeError, ValueError, AttributeError):
            pass
        except Exception as error:  # numba's typing errors derive from Exception only
            if "numba" not in type(error).__module__:
                raise
        return np.array([float(value(float(v))) for v in x.ravel()]).reshape(x.shape)

    return function
