"""Following the branches of many one-parameter families along a grid.

A family (a row) is a fixed point that depends on a parameter `x`. `Branches` samples two branches of every row, one continued
downward in `x` and one from a cold start of the other kind, on the grid ``x_j = j * spacing``; where the two differ the
row has two fixed points there, and an objective says which dominates. `numerics.solvers.inversion` goes on from the samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Branches", "Family"]

SEPARATE = 1e-4  # fixed points closer than this are one, found twice


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
