r"""Free energy, condensed branch included, and the basin of a training point, for any data model with a replica saddle.

The basin in a random direction ends where the free energy of the other points equals the energy of the point itself,
:math:`\varphi(1/t;\delta)=-\delta/2t`. Below collapse both sides are condensed and the answer is :math:`\delta=t_c`, because
:math:`g'(1/t_c;t_c)=-t_c/2` on the Nishimori line. Source: [ours: docs/derivations/replica.md].
"""

from __future__ import annotations

import numpy as np

from numerics.channel import NOISY
from numerics.solvers import Solution, Status

__all__ = ["basin_squared", "free_energy"]


def free_energy(engine, alpha, t, delta, alpha_D, shape) -> Solution:
    """See `theory.replica.engine.ReplicaEngine.free_energy`; flat arrays and the final shape."""
    log_beta = -np.log(t)
    g, slope, ok = _evaluate(engine, log_beta, delta, alpha_D)
    beta = np.exp(log_beta)
    value, condensed = alpha + g, alpha + g - beta * slope < 0
    status = np.where(ok, Status.OK, Status.NOT_CONVERGED).astype(np.int8)
    residual, iterations = np.zeros(t.size), np.ones(t.size, dtype=np.int32)
    cells = np.flatnonzero(condensed & ok)
    if cells.size:
        star, residual[cells], iterations[cells], solved = _condensation(
            engine, alpha[cells], delta[cells], alpha_D[cells], log_beta[cells]
        )
        value[cells] = beta[cells] * star
        status[cells[~solved]] = Status.NOT_CONVERGED
    value = np.where(status == Status.OK, value, np.nan)
    arrays = (value, status, residual, iterations, condensed.astype(np.int8))
    return Solution(*(a.reshape(shape) for a in arrays))


def _evaluate(engine, log_beta, delta, alpha_D):
    saddle = engine.saddles(np.exp(log_beta), delta, alpha_D)
    return saddle.g, saddle.g_beta, saddle.ok


def _condensation(engine, alpha, delta, alpha_D, log_beta, limit: int = 60):
    r"""Slope :math:`g'(\beta_*)=(\alpha+g)/\beta_*` where the entropy vanishes, below the given beta; residual and count."""

    def entropy(x, cells):
        g, slope, ok = _evaluate(engine, x, delta[cells], alpha_D[cells])
        return alpha[cells] + g - np.exp(x) * slope, alpha[cells] + g, ok

    n = alpha.size
    every = np.arange(n)
    high = log_beta.copy()
    s_high, total, ok = entropy(high, every)
    low, s_low = high.copy(), s_high.copy()
    iterations = np.ones(n, dtype=np.int32)
    while (search := np.flatnonzero((s_low <= 0) & ok & (iterations < limit))).size:
        high[search], s_high[search] = low[search], s_low[search]
        low[search] -= 0.7
        s_low[search], total[search], ok[search] = entropy(low[search], search)
        iterations[search] += 1
    x, s = low.copy(), s_low.copy()
    live = np.flatnonzero(ok & (s_low > 0))
    side = np.zeros(n)
    while live.size:
        # Illinois: a side kept twice has its value halved
        new = high[live] - s_high[live] * (high[live] - low[live]) / (s_high[live] - s_low[live])
        value, total[live], good = entropy(new, live)
        ok[live] &= good
        iterations[live] += 1
        x[live], s[live] = new, value
        up = value > 0
        a, b = live[up], live[~up]
        s_high[a[side[a] > 0]] *= 0.5
        s_low[b[side[b] < 0]] *= 0.5
        low[a], s_low[a], side[a] = new[up], value[up], 1
        high[b], s_high[b], side[b] = new[~up], value[~up], -1
        done = (np.abs(value) < 1e-12) | (high[live] - low[live] < 1e-11) | (iterations[live] >= limit) | ~ok[live]
        live = live[~done]
    solved = ok & ((np.abs(s) < 1e-8) | (high - low < 1e-10))
    return total * np.exp(-x), s, iterations, solved


def basin_squared(engine, alpha, t, alpha_D, shape) -> Solution:
    """See `theory.replica.engine.ReplicaEngine.basin_squared`; flat arrays and the final shape."""
    row = engine.row(alpha_D)
    log_t = np.log(t)
    collapse, onset = (engine.times.log_time(kind, alpha, row) for kind in ("collapse", "onset"))
    value = np.where(log_t <= collapse.value, np.exp(collapse.value), 0.0)
    branch = np.where(log_t <= collapse.value, 2, 0).astype(np.int8)
    status = np.maximum(collapse.status, onset.status)
    residual, iterations = np.zeros(t.size), np.maximum(collapse.iterations, onset.iterations)
    cells = np.flatnonzero((log_t > collapse.value) & (log_t < onset.value))
    if cells.size:
        x, residual[cells], count, solved = _crossing(engine, alpha[cells], t[cells], alpha_D[cells])
        value[cells], branch[cells] = x, 1
        iterations[cells] += count
        status[cells[~solved]] = Status.NOT_CONVERGED
    value = np.where(status == Status.OK, value, np.nan)
    arrays = (value, status, residual, iterations, branch)
    return Solution(*(a.reshape(shape) for a in arrays))


def _crossing(engine, alpha, t, alpha_D, limit: int = 40):
    r"""Root of :math:`\alpha+g(1/t;\delta)+\delta/2t` in :math:`0<\delta<t`: negative at 0 below onset, positive at t above
    collapse. The entropy is positive at the root (checked), so the branch is not condensed there.
    """
    beta = 1 / t
    low, high = np.zeros(t.size), t.copy()
    x = 0.5 * t
    residual = np.full(t.size, np.nan)
    iterations = np.zeros(t.size, dtype=np.int32)
    solved = np.zeros(t.size, dtype=bool)
    live = np.arange(t.size)
    while live.size:
        saddle = engine.saddles(beta[live], x[live], alpha_D[live], mode=NOISY)
        f = alpha[live] + saddle.g + 0.5 * beta[live] * x[live]
        slope = saddle.g_delta + 0.5 * beta[live]
        residual[live] = f
        iterations[live] += 1
        high[live[f > 0]], low[live[f <= 0]] = x[live[f > 0]], x[live[f <= 0]]
        step = -f / slope
        new = x[live] + step
        inside = (new > low[live]) & (new < high[live])
        done = (np.abs(step) < 1e-11 * t[live]) | (high[live] - low[live] < 1e-13 * t[live])
        entropy = alpha[live] + saddle.g - beta[live] * saddle.g_beta
        solved[live] = done & saddle.ok & (entropy > -1e-9)
        x[live] = np.where(done, x[live], np.where(inside, new, 0.5 * (low[live] + high[live])))
        live = live[~done & saddle.ok & (iterations[live] < limit)]
    return x, residual, iterations, solved
