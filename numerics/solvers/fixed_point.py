"""Fixed points ``y = F(y)`` of many small independent maps at once: bracketing in one unknown, Anderson mixing in several.

Each row is a cell with its own history; only unconverged cells are evaluated. A cell counts as converged when the residual
``max|F(y) - y|``, re-evaluated at the returned ``y``, is below the tolerance; what the map computed there comes back with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from numerics.solvers.solution import Status

__all__ = ["FixedPoint", "FixedPoints", "StableFixedPoint"]


@dataclass(frozen=True)
class FixedPoints:
    """Where each cell ended.

    Attributes
    ----------
    y : (B, n) array
    payload : (B, k) array, the map's by-products at `y`
    residual : (B,) array, ``max|F(y) - y|`` at `y`
    iterations : (B,) int array, evaluations of the map
    status : (B,) int8 array of `Status`
    """

    y: np.ndarray
    payload: np.ndarray
    residual: np.ndarray
    iterations: np.ndarray
    status: np.ndarray


@dataclass(frozen=True)
class FixedPoint:
    """Anderson mixing with restart.

    Parameters
    ----------
    tolerance : float > 0, of the residual
    depth : int >= 0, remembered differences; 0 is plain iteration
    limit : int, most evaluations per cell
    plain : int, undamped evaluations before mixing starts, which settle the basin of attraction
    trust : float, longest step of a component
    """

    tolerance: float = 1e-11
    depth: int = 3
    limit: int = 120
    plain: int = 5
    trust: float = 3.0

    def solve(self, function: Callable, start: np.ndarray, floor: Callable | None = None) -> FixedPoints:
        """Solve from `start` (B, n); ``function(y, cells) -> (F, payload)`` evaluates the rows `cells`.

        `floor`, if given, maps `y` to the rounding noise of ``F`` (B, n), below which no residual is asked to go.

        Mixing: with residuals ``r = F(y) - y`` and differences ``dr, dy`` of the last `depth` steps, the next point is
        ``y + d r - sum_i gamma_i (dy_i + d dr_i)``, ``gamma`` minimising ``|r - sum_i gamma_i dr_i|``. A cell whose residual
        grows fivefold over its best forgets its history, halves its damping `d` and goes on from its best point.
        """
        y = np.array(start, dtype=float)
        B, n = y.shape
        depth = min(self.depth, max(n, 1) + 1)
        F, payload = function(y, np.arange(B))
        payload = np.array(payload, dtype=float)
        residual = self._size(F - y, y, floor)
        iterations = np.ones(B, dtype=np.int32)
        best_y, best_F, best = y.copy(), np.array(F), residual.copy()
        history_y, history_r = np.zeros((2, B, max(depth, 1), n))
        kept = np.zeros(B, dtype=int)
        damp = np.ones(B)
        r = F - y
        while True:
            active = np.flatnonzero((residual > self.tolerance) & (iterations < self.limit) & np.isfinite(residual))
            if active.size == 0:
                break
            step = damp[active, None] * r[active]
            if depth:
                mix = np.flatnonzero((kept[active] > 0) & (iterations[active] > self.plain))
                step[mix] -= self._correction(
                    r[active[mix]], history_y[active[mix]], history_r[active[mix]], kept[active[mix]], damp[active[mix]]
                )
            step = np.clip(step, -self.trust, self.trust)
            new = y[active] + step
            F, by = function(new, active)
            new_r = F - new
            new_residual = np.where(np.isfinite(new_r).all(axis=1), self._size(new_r, new, floor), np.inf)
            bad = new_residual > np.maximum(5 * best[active], 10 * self.tolerance)
            bad &= (kept[active] > 0) | (damp[active] > 0.02)
            good = ~bad
            g = active[good]
            if depth:
                slot = kept[g] % depth
                history_y[g, slot] = new[good] - y[g]
                history_r[g, slot] = new_r[good] - r[g]
            kept[g] += 1
            y[g], r[g], payload[g], residual[g] = new[good], new_r[good], by[good], new_residual[good]
            better = g[residual[g] < best[g]]
            best[better], best_y[better], best_F[better] = residual[better], y[better], y[better] + r[better]
            b = active[bad]
            # back to the best point; the next step from there is a plain one
            y[b], r[b] = best_y[b], best_F[b] - best_y[b]
            kept[b] = 0
            damp[b] = np.maximum(0.5 * damp[b], 0.01)
            iterations[active] += 1
        ok = residual <= self.tolerance
        status = np.where(ok, Status.OK, Status.NOT_CONVERGED).astype(np.int8)
        status[~np.isfinite(residual)] = Status.INVALID
        return FixedPoints(y, payload, residual, iterations, status)

    def _size(self, r, y, floor):
        """Largest component, each in units of its own floor where that is above the tolerance."""
        scale = 1.0 if floor is None else np.maximum(1.0, floor(y) / self.tolerance)
        return np.abs(r / scale).max(axis=1)

    def _correction(self, r, dy, dr, kept, damp):
        """``sum_i gamma_i (dy_i + damp dr_i)``; unused slots are zero rows and drop out of the least squares."""
        used = np.arange(dy.shape[1])[None, :] < np.minimum(kept, dy.shape[1])[:, None]
        dr = np.where(used[:, :, None], dr, 0.0)
        dy = np.where(used[:, :, None], dy, 0.0)
        size = np.maximum(np.abs(dr).max(axis=(1, 2), keepdims=True), 1e-300)
        gamma = np.einsum("bij,bj->bi", np.linalg.pinv(np.swapaxes(dr / size, 1, 2), rcond=1e-9), r) / size[:, :, 0]
        return np.einsum("bi,bij->bj", gamma, dy + damp[:, None, None] * dr)


@dataclass(frozen=True)
class StableFixedPoint:
    """Stable fixed points of scalar maps: those where ``F(y) - y`` falls through zero.

    An accelerated iteration converges just as happily to an unstable fixed point; a bracket with ``F > y`` below and
    ``F < y`` above cannot. The search goes from the start in the direction the map pushes, as plain iteration would.

    Parameters
    ----------
    tolerance : float > 0, of the residual
    limit : int, most evaluations per cell
    lower : float, where the domain of the map ends
    """

    tolerance: float = 1e-11
    limit: int = 100
    lower: float = -np.inf

    def solve(self, function: Callable, start: np.ndarray) -> FixedPoints:
        """Solve from `start` (B, 1); ``function(y, cells) -> (F, payload)`` evaluates the rows `cells`."""
        y = np.array(start, dtype=float)[:, 0]
        B = y.size
        low, high = np.full(B, -np.inf), np.full(B, np.inf)  # F > y at low, F < y at high
        r_low, r_high = np.full(B, np.nan), np.full(B, np.nan)
        last_y, last_r = np.full(B, np.nan), np.full(B, np.nan)
        growth = np.ones(B)
        residual, r = np.full(B, np.inf), np.full(B, np.nan)
        iterations = np.zeros(B, dtype=np.int32)
        payload = None
        active = np.arange(B)
        while active.size:
            F, by = function(y[active, None], active)
            if payload is None:
                payload = np.empty((B, by.shape[1]))
            payload[active] = by
            r[active] = F[:, 0] - y[active]
            residual[active] = np.where(np.isfinite(r[active]), np.abs(r[active]), np.inf)
            iterations[active] += 1
            a = active[
                (residual[active] > self.tolerance) & np.isfinite(residual[active]) & (iterations[active] < self.limit)
            ]
            if a.size == 0:
                break
            up = a[r[a] > 0]
            down = a[r[a] < 0]
            low[up], r_low[up] = y[up], r[up]
            high[down], r_high[down] = y[down], r[down]
            with np.errstate(all="ignore"):
                slope = (r[a] - last_r[a]) / (y[a] - last_y[a])
                secant = np.where(slope < 0, y[a] - r[a] / slope, np.nan)
                between = low[a] + (high[a] - low[a]) * r_low[a] / (r_low[a] - r_high[a])
            bracketed = np.isfinite(low[a]) & np.isfinite(high[a])
            inside = (secant > low[a]) & (secant < high[a])
            stalled = growth[a] > 3  # within a bracket, `growth` counts steps without halving
            middle = 0.5 * (low[a] + high[a])
            closed = np.where(stalled, middle, np.where(inside, secant, between))
            # no bracket yet: the secant if it points where the map pushes and not too far, else ever longer plain steps
            push = np.where(growth[a] > 1, growth[a], 1.0) * r[a]
            far = np.abs(secant - y[a]) > np.clip(20 * np.abs(push), 1e-3, 4.0)
            along = np.isfinite(secant) & ((secant - y[a]) * r[a] > 0) & ~far
            opened = np.where(along, secant, y[a] + np.clip(push, -2.0, 2.0))
            opened = np.where(opened > self.lower, opened, 0.5 * (y[a] + self.lower))
            new = np.where(bracketed, closed, opened)
            width = high[a] - low[a]
            moved = np.abs(new - y[a])
            growth[a] = np.where(
                bracketed,
                np.where(
                    moved < 0.5 * np.abs(last_y[a] - y[a]), 0.0, np.where(stalled, 0.0, np.minimum(growth[a], 3) + 1)
                ),
                np.where(along, growth[a], 2 * np.maximum(growth[a], 1.0)),
            )
            last_y[a], last_r[a] = y[a], r[a]
            # a bracket at rounding level is the end; the residual then says how good the map itself is
            tight = bracketed & (width <= 4e-16 * np.maximum(1.0, np.abs(y[a])))
            y[a] = np.where(tight, y[a], new)
            active = a[~tight]
        status = np.where(residual <= self.tolerance, Status.OK, Status.NOT_CONVERGED).astype(np.int8)
        status[~np.isfinite(residual)] = Status.INVALID
        return FixedPoints(y[:, None], payload, residual, iterations, status)
