"""Following the branches of many one-parameter families along a grid, and inverting a monotone function of the parameter.

A family (a row) is a fixed point that depends on a parameter `x`. `Branches` samples two branches of every row, one continued
downward in `x` and one from a cold start of the other kind, on the grid ``x_j = j * spacing``; where the two differ the
row has two fixed points there, and an objective says which dominates. `invert` solves ``value(x) = target`` for any number of
cells: the bracket, the first guess and the warm start come from the samples, then a safeguarded secant or Newton
iteration in which every evaluation is a converged fixed point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .solution import Solution, Status

__all__ = ["Branches", "Family", "invert"]

SEPARATE = 1e-4  # fixed points closer than this are one, found twice
LEVEL = 1e-9  # a function that changes less than this over one spacing has reached its limit


@dataclass(frozen=True)
class Family:
    """What the rows are.

    Attributes
    ----------
    rows : int
    solve : ``(x, row, start) -> (y, ok, objective, payload)``, flat arrays; `start` is (B, n), payload (B, k)
    cold : ``(x, row, kind) -> start`` for kind 0 (low) and 1 (high)
    distance : ``(y, y') -> (B,)``, how different two fixed points are; above `SEPARATE` they are two
    """

    rows: int
    solve: Callable
    cold: Callable
    distance: Callable


class Branches:
    """Samples of both branches on ``x_j = j * spacing`` for a growing range of `j`."""

    def __init__(self, family: Family, spacing: float, low: float, high: float):
        self.family, self.spacing = family, spacing
        self.j_min, self.j_max = int(np.ceil(low / spacing)), int(np.floor(high / spacing))
        self.first = self.last = None
        self.y: list[np.ndarray] = []  # per node (2, R, n)
        self.payload: list[np.ndarray] = []  # per node (2, R, k)
        self.objective: list[np.ndarray] = []  # per node (2, R)
        self.ok: list[np.ndarray] = []  # per node (2, R)
        self.two: list[np.ndarray] = []  # per node (R,)
        self.sampled: list[np.ndarray] = []  # per node (R,)

    @property
    def x(self) -> np.ndarray:
        return self.spacing * np.arange(self.first, self.last + 1)

    @property
    def dominant(self) -> np.ndarray:
        """(nodes, R): 1 where the high branch dominates."""
        ok, objective = np.array(self.ok), np.array(self.objective)
        high = np.where(np.array(self.two), objective[:, 1] > objective[:, 0], ~ok[:, 0])
        return high.astype(int)

    def extend(self, j: int, rows: np.ndarray) -> None:
        """Sample `rows` at node `j`, next to nodes where they have been sampled already."""
        j = min(max(j, self.j_min), self.j_max)
        if self.first is None:
            self.first, self.last = j, j - 1
        while self.last < j:
            self.last += 1
            self._blank(at_end=True)
        while self.first > j:
            self.first -= 1
            self._blank(at_end=False)
        node = j - self.first
        rows = rows[~self.sampled[node][rows]]
        if rows.size:
            self._sample(node, rows)

    def _blank(self, *, at_end):
        R = self.family.rows
        n = self.y[0].shape[-1] if self.y else 0
        k = self.payload[0].shape[-1] if self.y else 0
        blanks = (
            np.full((2, R, n), np.nan), np.full((2, R, k), np.nan), np.full((2, R), np.nan), np.zeros((2, R), bool),
            np.zeros(R, bool), np.zeros(R, bool),
        )  # fmt: skip
        stores = (self.y, self.payload, self.objective, self.ok, self.two, self.sampled)
        for store, blank in zip(stores, blanks, strict=True):
            store.append(blank) if at_end else store.insert(0, blank)

    def _predict(self, node, rows):
        """Start of the low branch from the nodes above: linear extrapolation where two are known; else NaN."""
        if node + 1 >= len(self.y) or self.y[node].shape[-1] == 0:
            return None
        y = self.y[node + 1][0][rows]
        if node + 2 < len(self.y):
            step = y - self.y[node + 2][0][rows]
            y = y + np.where(np.abs(step) < 3 * self.spacing, step, 0.0)
        # a low branch that was lost above is not looked for again: follow the high one, its only possible continuation
        return np.where(self.ok[node + 1][0][rows][:, None], y, self.y[node + 1][1][rows])

    def _sample(self, node, rows):
        f = self.family
        x = np.full(rows.size, self.spacing * (self.first + node))
        start = cold = f.cold(x, rows, 0)
        if self.y[node].shape[-1] == 0:
            self.y[node] = np.full((2, f.rows, cold.shape[1]), np.nan)
        predicted = self._predict(node, rows)
        if predicted is not None:
            start = np.where(np.isfinite(predicted), predicted, cold)
        # both branches in one batch, so that all cores have work
        y, ok, objective, payload = f.solve(
            np.concatenate([x, x]), np.concatenate([rows, rows]), np.concatenate([start, f.cold(x, rows, 1)])
        )
        if self.payload[node].shape[-1] == 0:
            self.payload[node] = np.full((2, f.rows, payload.shape[1]), np.nan)
        m = rows.size
        for k in range(2):
            part = slice(k * m, (k + 1) * m)
            self.y[node][k, rows], self.payload[node][k, rows] = y[part], payload[part]
            self.objective[node][k, rows], self.ok[node][k, rows] = objective[part], ok[part]
        self.two[node][rows] = ok[:m] & ok[m:] & (f.distance(y[:m], y[m:]) > SEPARATE)
        self.sampled[node][rows] = True

    def spinodals(self) -> list[tuple[int, float, float]]:
        """Per row with two fixed points somewhere: ``(row, least x, largest x)`` of the nodes where there are two."""
        two = np.array(self.two)
        return [(r, float(self.x[np.flatnonzero(two[:, r])[0]]), float(self.x[np.flatnonzero(two[:, r])[-1]]))
                for r in np.flatnonzero(two.any(axis=0))]  # fmt: skip


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
    needed = np.unique(row)
    branches.extend(round(start / branches.spacing), needed)

    def column(j):  # value on the dominant branch at node j, all rows
        d = branches.dominant[j]
        rows = np.arange(family.rows)
        x = np.full(family.rows, branches.x[j])
        v, slope = value(x, rows, branches.payload[j][d, rows])
        ok = branches.ok[j][d, rows]
        return np.where(ok, v, np.nan), np.where(ok, slope, np.nan)

    most, least = (np.full(family.rows, s * np.inf) for s in (-1, 1))
    np.maximum.at(most, row, target)
    np.minimum.at(least, row, target)
    level = np.zeros(family.rows, dtype=bool)  # rows whose value has a limit at small x, below the largest target
    for down in (True, False):
        rows = needed
        while rows.size:
            sampled = np.array(branches.sampled)[:, rows]
            ends = np.argmax(sampled, axis=0) if down else len(branches.y) - 1 - np.argmax(sampled[::-1], axis=0)
            values = np.array([column(j)[0] for j in range(len(branches.y))])
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

    count = len(branches.y)
    table = np.array([column(j) for j in range(count)])  # (nodes, 2, R)
    V, S = table[:, 0], table[:, 1]
    grid = branches.x
    dominant = branches.dominant
    two = np.array(branches.two)
    Y, PAY, OK = (np.array(a) for a in (branches.y, branches.payload, branches.ok))

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
    payload = np.full((n, PAY.shape[-1]), np.nan)
    cells = np.flatnonzero(has)
    if cells.size == 0:
        return Solution(out, status, residual, iterations, branch), payload

    r, goal = row[cells], target[cells]
    i, k = last_above[cells], first_below[cells]
    a, b = grid[i].copy(), grid[k].copy()
    fa, fb = V[i, r] - goal, V[k, r] - goal
    sa, sb = S[i, r], S[k, r]
    x = _first_guess(a, b, fa, fb, sa, sb)
    # warm starts: cubic through four nodes of one branch; where a bracket holds two branches, that of the nearest node
    base = np.clip(i - 1, 0, max(count - 4, 0))
    stencil = base[:, None] + np.arange(min(4, count))
    multi = two[stencil, r[:, None]].any(axis=1)
    # (a stencil that reaches nodes not sampled for this row falls back to the nearest node)
    ok_all = OK[stencil, dominant[stencil, r[:, None]], r[:, None]].all(axis=1)
    smooth = ~multi & ok_all
    values = Y[stencil, dominant[stencil, r[:, None]], r[:, None]]
    nearest = np.where(x - a < b - x, i, k)
    # the high branch dies out upwards and the low one downwards: start each from the end where it is surely alive
    y_low, y_high = Y[k, 0, r], Y[i, 1, r]
    warm = np.where(smooth[:, None], _lagrange(x, grid[stencil], values), Y[nearest, dominant[nearest, r], r])

    live = np.arange(cells.size)
    previous_x, previous_f = np.where(np.abs(fa) < np.abs(fb), a, b), np.where(np.abs(fa) < np.abs(fb), fa, fb)
    for _ in range(limit):
        y, ok, objective, pay = family.solve(x[live], r[live], np.where(multi[live, None], y_low[live], warm[live]))
        high = np.zeros(live.size, dtype=bool)
        both = np.zeros(live.size, dtype=bool)
        m = np.flatnonzero(multi[live])
        if m.size:
            y2, ok2, objective2, pay2 = family.solve(x[live[m]], r[live[m]], y_high[live[m]])
            both[m] = ok2 & ok[m] & (family.distance(y[m], y2) > SEPARATE)
            take = ok2 & (~ok[m] | (both[m] & (objective2 > objective[m])))
            high[m] = take
            t = m[take]
            y[t], ok[t], pay[t] = y2[take], ok2[take], pay2[take]
        v, slope = value(x[live], r[live], pay)
        f = v - goal[live]
        bad = ~ok | ~np.isfinite(f)
        c = cells[live]
        iterations[c] += 1
        out[c], residual[c], payload[c] = x[live], f, pay
        branch[c] = np.where(both, 1 + high, 0)
        up = f > 0
        a[live[up & ~bad]], fa[live[up & ~bad]] = x[live[up & ~bad]], f[up & ~bad]
        b[live[~up & ~bad]], fb[live[~up & ~bad]] = x[live[~up & ~bad]], f[~up & ~bad]
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
