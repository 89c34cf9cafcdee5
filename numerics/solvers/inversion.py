"""Inverting a monotone function of branches of fixed points: where along the parameter it meets a target, cell by cell.

The bracket, the first guess and the warm start come from the samples of `numerics.solvers.continuation`; then a safeguarded
secant or Newton iteration in which every evaluation is a converged fixed point.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from numerics.solvers.continuation import SEPARATE, Branches
from numerics.solvers.solution import Solution, Status

__all__ = ["invert"]

LEVEL = 1e-9  # a function that changes less than this over one spacing has reached its limit


def invert(
    branches: Branches,
    target: np.ndarray,
    row: np.ndarray,
    value: Callable,
    *,
    start: float,
    tolerance: float = 1e-10,
    limit: int = 40,
) -> tuple[Solution, np.ndarray]:
    """Solve ``value(x) = target`` in every cell; ``value(x, row, payload) -> (v, dv/dx or NaN)`` decreases with `x`.

    A function that levels off below the target as `x` falls has no solution there (status NO_SOLUTION).
    Returns the Solution (value `x`; branch 0 unique, 1 low, 2 high, 3 at a jump between the two) and the payload at
    each. The residual is ``v - target`` at the returned `x`. A cell converges when its Newton or secant correction of `x` is
    below `tolerance`, or when its bracket is that small: then the function jumps over the target.
    """
    family = branches.family
    n = target.size
    branches.extend(round(start / branches.spacing), np.unique(row))
    level = _widen(branches, target, row, value)

    count = len(branches.y)
    V, S = np.array([_dominant(branches, value, j) for j in range(count)]).swapaxes(0, 1)  # (nodes, R) each
    grid = branches.x
    above = V[:, row] > target  # NaN compares False
    known = np.isfinite(V[:, row])
    # last node above the target, first known one after it below
    last_above = np.where(above.any(axis=0), count - 1 - np.argmax(above[::-1], axis=0), -1)
    below = known & ~above
    after = np.arange(count)[:, None] > last_above
    first_below = np.where((below & after).any(axis=0), np.argmax(below & after, axis=0), count)
    has = (last_above >= 0) & (first_below < count)
    out = np.full(n, np.nan)
    residual = np.full(n, np.nan)
    iterations = np.zeros(n, dtype=np.int32)
    branch = np.zeros(n, dtype=np.int8)
    none = level[row] & (last_above < 0)  # the function stays below the target for every x
    status = np.where(has, Status.NOT_CONVERGED, np.where(none, Status.NO_SOLUTION, Status.NO_BRACKET)).astype(np.int8)
    payload = np.full((n, branches.payload[0].shape[-1]), np.nan)
    cells = np.flatnonzero(has)
    if cells.size == 0:
        return Solution(out, status, residual, iterations, branch), payload

    r, goal = row[cells], target[cells]
    i, k = last_above[cells], first_below[cells]
    a, b = grid[i].copy(), grid[k].copy()
    fa, fb = V[i, r] - goal, V[k, r] - goal
    x = _first_guess(a, b, fa, fb, S[i, r], S[k, r])
    multi, warm = _warm_starts(branches, x, r, i, k)
    # the high branch dies out upwards and the low one downwards: start each from the end where it is surely alive
    Y = np.array(branches.y)
    y_low, y_high = Y[k, 0, r], Y[i, 1, r]

    live = np.arange(cells.size)
    previous_x, previous_f = np.where(np.abs(fa) < np.abs(fb), a, b), np.where(np.abs(fa) < np.abs(fb), fa, fb)
    for _ in range(limit):
        first = np.where(multi[live, None], y_low[live], warm[live])
        y, ok, pay, both, high = _solved(family, x[live], r[live], first, multi[live], y_high[live])
        v, slope = value(x[live], r[live], pay)
        f = v - goal[live]
        bad = ~ok | ~np.isfinite(f)
        c = cells[live]
        iterations[c] += 1
        out[c], residual[c], payload[c] = x[live], f, pay
        branch[c] = np.where(both, 1 + high, 0)
        up = f > 0
        a[live[up & ~bad]] = x[live[up & ~bad]]
        b[live[~up & ~bad]] = x[live[~up & ~bad]]
        secant = (f - previous_f[live]) / np.where(x[live] == previous_x[live], np.nan, x[live] - previous_x[live])
        used = np.where(np.isfinite(slope), slope, secant)
        step = -f / np.where(used < 0, used, np.nan)
        width = b[live] - a[live]
        new = x[live] + step
        inside = np.isfinite(new) & (new > a[live] - 1e-3 * tolerance) & (new < b[live] + 1e-3 * tolerance)
        # a secant slope is trusted for the stopping rule once its own points are close
        trusted = np.isfinite(slope) | (np.abs(x[live] - previous_x[live]) < 1e-2)
        done = ~bad & ((np.abs(step) < tolerance) & trusted | (f == 0))
        jumped = ~bad & ~done & (width < tolerance)
        status[c[done | jumped]] = Status.OK
        branch[c[jumped & (np.abs(f) > SEPARATE)]] = 3
        previous_x[live], previous_f[live] = x[live], f
        bisect = 0.5 * (a[live] + b[live])
        x[live] = np.where(inside, new, bisect)
        near = np.abs(step) < 0.3
        warm[live] = np.where((ok & near)[:, None], y, warm[live])
        live = live[~(done | jumped | bad)]
        if live.size == 0:
            break
    failed = status != Status.OK
    out[failed] = np.nan
    return Solution(out, status, residual, iterations, branch), payload


def _dominant(branches: Branches, value: Callable, j: int) -> tuple[np.ndarray, np.ndarray]:
    """Value and slope on the dominant branch at node `j`, for all rows; NaN where it is not known."""
    d = branches.dominant[j]
    rows = np.arange(branches.family.rows)
    v, slope = value(np.full(rows.size, branches.x[j]), rows, branches.payload[j][d, rows])
    ok = branches.ok[j][d, rows]
    return np.where(ok, v, np.nan), np.where(ok, slope, np.nan)


def _widen(branches: Branches, target: np.ndarray, row: np.ndarray, value: Callable) -> np.ndarray:
    """Sample further until every row's values enclose its targets; returns the rows that level off below the largest one."""
    needed, R = np.unique(row), branches.family.rows
    most, least = (np.full(R, s * np.inf) for s in (-1, 1))
    np.maximum.at(most, row, target)
    np.minimum.at(least, row, target)
    level = np.zeros(R, dtype=bool)
    for down in (True, False):
        rows = needed
        while rows.size:
            sampled = np.array(branches.sampled)[:, rows]
            ends = np.argmax(sampled, axis=0) if down else len(branches.y) - 1 - np.argmax(sampled[::-1], axis=0)
            values = np.array([_dominant(branches, value, j)[0] for j in range(len(branches.y))])
            v = values[ends, rows]
            short = ~(v > most[rows]) if down else ~(v < least[rows])
            if down:
                with np.errstate(invalid="ignore"):
                    flat = np.abs(v - values[np.minimum(ends + 1, len(values) - 1), rows]) < LEVEL
                flat &= (ends + 1 < len(values)) & short
                level[rows[flat]] = True
                short &= ~flat
            nodes = branches.first + ends + (-1 if down else 1)
            short &= (nodes >= branches.j_min) & (nodes <= branches.j_max)
            rows, nodes = rows[short], nodes[short]
            for j in np.unique(nodes):
                branches.extend(int(j), rows[nodes == j])
    return level


def _warm_starts(branches: Branches, x, r, i, k) -> tuple[np.ndarray, np.ndarray]:
    """Whether two branches are near the bracket between nodes `i` and `k`, and a start of the fixed point at `x`.

    A cubic through four nodes of one branch; where the bracket holds two branches, or the stencil nodes that were not sampled
    for this row, what the nearer end has.
    """
    grid, dominant, two = branches.x, branches.dominant, np.array(branches.two)
    Y, OK = np.array(branches.y), np.array(branches.ok)
    base = np.clip(i - 1, 0, max(grid.size - 4, 0))
    stencil = base[:, None] + np.arange(min(4, grid.size))
    multi = two[stencil, r[:, None]].any(axis=1)
    one = dominant[stencil, r[:, None]]
    smooth = ~multi & OK[stencil, one, r[:, None]].all(axis=1)
    nearest = np.where(x - grid[i] < grid[k] - x, i, k)
    cubic = _lagrange(x, grid[stencil], Y[stencil, one, r[:, None]])
    return multi, np.where(smooth[:, None], cubic, Y[nearest, dominant[nearest, r], r])


def _solved(family, x, r, start, multi, y_high):
    """``y, ok, payload`` of the dominant fixed point, whether there are two, and whether the high one dominates.

    Where `multi` the high branch is looked for too, from `y_high`.
    """
    y, ok, objective, payload = family.solve(x, r, start)
    high, both = np.zeros(x.size, dtype=bool), np.zeros(x.size, dtype=bool)
    m = np.flatnonzero(multi)
    if m.size:
        y2, ok2, objective2, payload2 = family.solve(x[m], r[m], y_high[m])
        both[m] = ok2 & ok[m] & (family.distance(y[m], y2) > SEPARATE)
        take = ok2 & (~ok[m] | (both[m] & (objective2 > objective[m])))
        high[m] = take
        t = m[take]
        y[t], ok[t], payload[t] = y2[take], ok2[take], payload2[take]
    return y, ok, payload, both, high


def _first_guess(a, b, fa, fb, sa, sb):
    """Zero of the cubic Hermite inverse (x as a function of f) where both slopes are known, else the chord's."""
    chord = a - fa * (b - a) / (fb - fa)
    with np.errstate(all="ignore"):
        t = -fa / (fb - fa)
        h = fb - fa
        hermite = (
            a * (1 + 2 * t) * (1 - t) ** 2
            + b * t * t * (3 - 2 * t)
            + h * (t * (1 - t) ** 2 / sa + t * t * (t - 1) / sb)
        )
    good = np.isfinite(hermite) & (hermite > a) & (hermite < b) & (sa < 0) & (sb < 0)
    return np.where(good, hermite, chord)


def _lagrange(x, nodes, values):
    """Interpolate: `nodes` (B, p), `values` (B, p, n) at `x` (B,)."""
    out = np.zeros(values[:, 0].shape)
    for i in range(nodes.shape[1]):
        w = np.ones(x.size)
        for j in range(nodes.shape[1]):
            if j != i:
                w *= (x - nodes[:, j]) / (nodes[:, i] - nodes[:, j])
        out += w[:, None] * values[:, i]
    return out
