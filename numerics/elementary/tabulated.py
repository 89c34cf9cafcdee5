"""A scalar function as a piecewise polynomial table, so that one compiled kernel serves every function.

Numba would have to compile a kernel anew for each function handed to it (and could not keep that on disk). Instead the
function is replaced, once, by Chebyshev interpolants of degree 15 on panels that are halved until they meet the tolerance;
panel edges lie on the declared breakpoints. The kernel evaluates the table, and reads from it bounds of the slope and of
the curvature, from which it chooses its quadrature nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from numerics.domain import DomainError
from numerics.kernel_cache import njit

__all__ = ["Table", "table_values", "table_values_and_slopes", "tabulate"]

DEGREE = 15
_NODES = np.cos(np.pi * (np.arange(DEGREE + 1) + 0.5) / (DEGREE + 1))
_TO_CHEBYSHEV = np.linalg.inv(np.polynomial.chebyshev.chebvander(_NODES, DEGREE))
_TO_POWER = np.array(
    [np.pad(np.polynomial.chebyshev.cheb2poly(row), (0, DEGREE + 1))[: DEGREE + 1] for row in np.eye(DEGREE + 1)]
).T
_CHECK = np.linspace(-1, 1, 41)
_INSIDE = _CHECK * (1 - 1e-12)  # at a jump its own side counts


@dataclass(frozen=True)
class Table:
    """Piecewise polynomials on ``[edges[0], edges[-1]]`` with bounds of their derivatives.

    Attributes
    ----------
    edges : (n+1,) array; panel `i` is ``[edges[i], edges[i+1]]``
    coefficients, slope_coefficients : (n, 16) arrays, powers of the local variable in [-1, 1], of the function and of its slope
    slope_max, slope_min, curvature_max : (n,) arrays; `slope_min` is 0 where the slope changes sign
    breaks : (n+1,) int8 array, 1 where the function or its slope jumps
    error : largest difference from the function at points that are not nodes, relative to ``1 + max|s|`` of the panel
    """

    edges: np.ndarray
    coefficients: np.ndarray
    slope_coefficients: np.ndarray
    slope_max: np.ndarray
    slope_min: np.ndarray
    curvature_max: np.ndarray
    breaks: np.ndarray
    error: float

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What the kernels take."""
        bounds = (self.slope_max, self.slope_min, self.curvature_max)
        return (self.edges, self.coefficients, self.slope_coefficients, *bounds, self.breaks)

    @property
    def continuous(self) -> bool:
        """Whether the function has no jump (its slope may)."""
        right, left = self.coefficients.sum(axis=1)[:-1], (self.coefficients * (-1.0) ** np.arange(16)).sum(axis=1)[1:]
        return bool((np.abs(right - left) <= 1e-11 * (1 + np.abs(right))).all())

    def __call__(self, h) -> np.ndarray:
        """Values at `h`, for tests."""
        h = np.asarray(h, dtype=float)
        i = np.clip(np.searchsorted(self.edges, h, side="right") - 1, 0, self.edges.size - 2)
        u = (2 * h - self.edges[i] - self.edges[i + 1]) / (self.edges[i + 1] - self.edges[i])
        out = np.zeros_like(u)
        for k in range(DEGREE, -1, -1):
            out = out * u + self.coefficients[i, k]
        return out

    def critical_points(self) -> np.ndarray:
        """Where the slope changes sign, and the breakpoints: features of every integral sit there."""
        points = [self.edges[i] for i in range(self.edges.size) if self.breaks[i]]
        for i in range(self.edges.size - 1):
            slope = np.polynomial.polynomial.polyder(self.coefficients[i])
            scale = np.abs(slope).max()
            if scale <= 1e-12:
                continue
            values = np.polynomial.polynomial.polyval(_CHECK, slope)
            width = self.edges[i + 1] - self.edges[i]
            for j in np.flatnonzero(values[:-1] * values[1:] <= 0):
                a, b = _CHECK[j], _CHECK[j + 1]
                drop = values[j] - values[j + 1]
                u = a if drop == 0 else a + (b - a) * values[j] / drop
                if np.abs(values[[j, j + 1]]).max() > 1e-10 * (1 + np.abs(self.coefficients[i, 0])):
                    points.append(self.edges[i] + (u + 1) / 2 * width)
        points = np.unique(points)
        keep = np.ones(points.size, dtype=bool)
        keep[1:] = np.diff(points) > 1e-6
        return points[keep]


def tabulate(
    function: Callable[[np.ndarray], np.ndarray],
    radius: float,
    breakpoints=(),
    *,
    tolerance: float = 1e-14,
    widest: float = 0.5,
    name: str = "activation",
) -> Table:
    """The table of `function` on ``[-radius, radius]``.

    Parameters
    ----------
    function : callable on float64 arrays, finite on the interval, smooth between the breakpoints
    radius : float > 0
    breakpoints : points where the function or its slope jumps
    tolerance : wanted error, relative to ``1 + max|s|`` of the panel, beyond that of rounding `h`
    widest : float, largest panel

    Raises
    ------
    DomainError
        If the function is not finite, or is too rough to be represented with panels of width ``1e-4``: an undeclared
        kink or step looks like this.
    """
    breakpoints = sorted(b for b in breakpoints if -radius < b < radius)
    limits = [-radius, *breakpoints, radius]
    pending = []
    for a, b in pairwise(limits):
        count = max(1, int(np.ceil((b - a) / widest)))
        grid = np.linspace(a, b, count + 1)
        pending.extend(pairwise(grid))
    done = []
    worst = 0.0
    while pending:
        a, b = (np.array(side) for side in zip(*pending, strict=True))
        centre, half = (a + b) / 2, (b - a) / 2
        values = _evaluate(function, centre[:, None] + half[:, None] * _NODES, name)
        coefficients = values @ _TO_CHEBYSHEV.T @ _TO_POWER.T
        check = _evaluate(function, centre[:, None] + half[:, None] * _INSIDE, name)
        fitted = np.polynomial.polynomial.polyval(_INSIDE, coefficients.T)
        scale = 1 + np.abs(values).max(axis=1)
        error = np.abs(fitted - check).max(axis=1) / scale
        # h itself is rounded, and far from 0 steep functions show it
        slope = np.abs(np.diff(check, axis=1)).max(axis=1) / (half * (_CHECK[1] - _CHECK[0]))
        good = error <= tolerance + np.finfo(float).eps * (np.abs(centre) + half) * slope / scale
        if (~good & (half < 1e-4)).any():
            where = centre[~good & (half < 1e-4)][0]
            raise DomainError(
                name,
                f"a function that is rough near h = {where:.6g}",
                "smooth between its breakpoints",
                "declare the kinks and steps with breakpoints=[...]",
            )
        worst = max(worst, error[good].max(initial=0.0))
        done.extend((a[i], b[i], coefficients[i]) for i in np.flatnonzero(good))
        pending = []
        for i in np.flatnonzero(~good):
            pending += [(a[i], centre[i]), (centre[i], b[i])]
    done.sort(key=lambda panel: panel[0])
    edges = np.array([panel[0] for panel in done] + [radius])
    coefficients = np.array([panel[2] for panel in done])
    slope_coefficients = np.zeros_like(coefficients)
    slope_max, slope_min, curvature_max = np.empty((3, edges.size - 1))
    for i, c in enumerate(coefficients):
        half = (edges[i + 1] - edges[i]) / 2
        slope_coefficients[i, :-1] = np.polynomial.polynomial.polyder(c) / half
        slope = np.polynomial.polynomial.polyval(_CHECK, slope_coefficients[i])
        bend = np.polynomial.polynomial.polyder(slope_coefficients[i])
        curvature = np.polynomial.polynomial.polyval(_CHECK, bend) / half
        slope_max[i] = np.abs(slope).max()
        slope_min[i] = 0.0 if slope.min() * slope.max() <= 0 else np.abs(slope).min()
        curvature_max[i] = np.abs(curvature).max()
    breaks = np.isin(edges, breakpoints).astype(np.int8)
    return Table(edges, coefficients, slope_coefficients, slope_max, slope_min, curvature_max, breaks, worst)


def _evaluate(function, h, name):
    with np.errstate(all="ignore"):
        values = np.asarray(function(h.ravel()), dtype=float)
    if values.shape == ():
        values = np.full(h.size, float(values))
    if values.shape != (h.size,) or not np.isfinite(values).all():
        raise DomainError(
            name, "a function with NaN, infinite or misshapen values", f"finite on |h| <= {abs(h).max():.3g}"
        )
    return values.reshape(h.shape)


@njit(cache=True, error_model="numpy")
def table_values(edges, coefficients, h, n, out):
    """``out[:n] = s(h[:n])`` for increasing `h`; beyond the table the end panel's limit value is used."""
    last = edges.size - 2
    first = 0
    panel = min(max(np.searchsorted(edges, h[0], side="right") - 1, 0), last)
    while first < n:
        while panel < last and h[first] >= edges[panel + 1]:
            panel += 1
        end = first + 1
        limit = edges[panel + 1] if panel < last else np.inf
        while end < n and h[end] < limit:
            end += 1
        _horner(coefficients[panel], edges[panel], edges[panel + 1], h, first, end, out)
        first = end


@njit(cache=True, error_model="numpy", fastmath={"contract", "nsz"})
def _horner(c, left, right, h, first, end, out):
    scale = 2.0 / (right - left)
    for j in range(first, end):
        u = min(max((h[j] - left) * scale - 1.0, -1.0), 1.0)
        p = c[14] + u * c[15]
        p = c[13] + u * p
        p = c[12] + u * p
        p = c[11] + u * p
        p = c[10] + u * p
        p = c[9] + u * p
        p = c[8] + u * p
        p = c[7] + u * p
        p = c[6] + u * p
        p = c[5] + u * p
        p = c[4] + u * p
        p = c[3] + u * p
        p = c[2] + u * p
        p = c[1] + u * p
        out[j] = c[0] + u * p


@njit(cache=True, error_model="numpy")
def table_values_and_slopes(edges, coefficients, slope_coefficients, h, n, values, slopes):
    """``values[:n] = s(h[:n])`` and ``slopes[:n] = s'(h[:n])`` for increasing `h`; beyond the table the slope is 0."""
    table_values(edges, coefficients, h, n, values)
    table_values(edges, slope_coefficients, h, n, slopes)
    for j in range(n):
        if not edges[0] <= h[j] <= edges[-1]:
            slopes[j] = 0.0
