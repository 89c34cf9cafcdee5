r"""Who returns, and when fresh trajectories commit: the dynamics of one training set's empirical score.

The reverse SDE retraces the forward diffusion, so at every N and P, with :math:`w` the weights at x and t,

    P(the SDE ends on mu | x) = w_mu(x, t),     P(mu made x | the trajectory ended on nu) = w_mu(x, t) for mu = nu,

the second for any dynamics, the flow included. Both are measured here. Source: [ours: docs/derivations/trajectories.md].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from numerics.domain import DomainError, integer, positive
from validation.data import nearest_neighbours
from validation.score import EmpiricalScore
from validation.simulation import integrate, karras_levels

__all__ = ["DYNAMICS", "commitment", "measure_commitments", "measure_returns"]

# the scheme of each dynamics, and N times its step in log t: halving it moves no return by more than its error
DYNAMICS = {"SDE": ("stochastic-heun", 4.0), "flow": ("heun", 6.0)}


def commitment(log_t: np.ndarray, log_weight: np.ndarray) -> np.ndarray:
    """Logarithm of the last t at which the weight of the final point passes 1/2, going down.

    log_t : (K,) decreasing; log_weight : (K, B) of the point each trajectory ends on. Returns (B,): interpolated in the
    log odds; `log_t[-1]` where the weight is below 1/2 to the end, `log_t[0]` where it never was.

    >>> w = np.array([[0.1], [0.7], [0.2], [0.8], [0.9]])
    >>> commitment(np.arange(5.0)[::-1], np.log(w)).round(6).tolist()
    [1.5]
    """
    odds = log_weight - np.log(-np.expm1(np.minimum(log_weight, -1e-15)))
    below, K = odds < 0, len(odds)
    last = K - 1 - np.argmax(below[::-1], axis=0)
    column = np.arange(odds.shape[1])
    after = np.minimum(last + 1, K - 1)
    low, high = odds[last, column], odds[after, column]
    share = np.where(last == K - 1, 0.0, -low / np.where(high > low, high - low, 1.0))
    return np.where(below.any(axis=0), log_t[last] + share * (log_t[after] - log_t[last]), log_t[0])


def measure_returns(
    X: np.ndarray, starts: Any, low: float, count: int, *, weights: int, seed: Sequence[int] = (0,), device: str = "cpu"
) -> dict[str, np.ndarray]:
    """Noise training points to every start, run them back, and compare where they end with the weights at the start.

    Parameters
    ----------
    X : (P, N) training points
    starts : (K,) increasing VE times; low : where runs end, below all of them
    count : training points that are run; weights : and points at which only the weights are taken, at least as many

    Returns
    -------
    dict of (K,) means over points: "return, SDE|flow" (1 for a return), "reached, SDE|flow" (weight at the start of the
    point reached: the same mean, less noise), "own weight" of those run, "participation" E sum w^2 of those run and
    "participation, all" (the same mean again), "clean weight" (of a training point at itself)

    The failure that looks normal: a `low` that is not far below the collapse time counts trajectories as returned that
    have not decided yet.
    """
    starts, low = positive("starts", starts), float(positive("low", low))
    count = integer("count", count, minimum=1)
    weights = integer("weights", weights, minimum=count)
    if starts.ndim != 1 or low >= starts.min():
        raise DomainError("low", low, f"below every start, the least of which is {starts.min()}")
    E, rng, (P, N) = EmpiricalScore(X, device=device, dtype="float32"), np.random.default_rng((*seed, 1)), X.shape
    many, noise = rng.integers(0, P, weights), rng.standard_normal((weights, N))
    at_starts = E.noisy_profile(X[many], noise, starts, own=many)
    squares = 1 / at_starts["participation"]
    own = many[:count]
    rest = E.clean_profile(X[own], starts, exclude=own)["log_partition"]
    found = {
        "own weight": np.exp(at_starts["own_log_weight"][:, :count]).mean(axis=1),
        "participation": squares[:, :count].mean(axis=1),
        "participation, all": squares.mean(axis=1),
        "clean weight": (1 / (1 + np.exp(np.minimum(rest, 700.0)))).mean(axis=1),
    }
    x = (X[own] + np.sqrt(starts)[:, None, None] * noise[:count]).reshape(-1, N)
    t, source = np.repeat(starts, count), np.tile(own, len(starts))
    log_z = E.log_partition(x, t)
    for name, (scheme, step) in DYNAMICS.items():
        levels = karras_levels(t, low, int(np.ceil(N * np.log(t.max() / low) / step)), rho=np.inf)
        final = integrate(E.score, x, levels, scheme=scheme, seed=(*seed, 2))
        end = nearest_neighbours(X, 1, queries=final, device=device).index[:, 0]
        weight = np.exp(-((x - X[end]) ** 2).sum(axis=1) / (2 * t) - log_z)
        found[f"return, {name}"] = (end == source).reshape(len(starts), -1).mean(axis=1)
        found[f"reached, {name}"] = weight.reshape(len(starts), -1).mean(axis=1)
    return found


def measure_commitments(
    X: np.ndarray, top: float, low: float, count: int, *, seed: Sequence[int] = (0,), device: str = "cpu"
) -> dict[str, np.ndarray]:
    """Run `count` trajectories from pure noise at `top` down to `low`, and find when each commits to the point it ends on.

    Returns
    -------
    dict of (count,): log time of "commitment, SDE" and "commitment, flow"; 1 where the weight is still below 1/2 at `low`,
    "left open, SDE|flow"; and "reversed", the time at which the weight of a training point that diffuses forward on the
    same levels first falls below 1/2, whose law is that of the SDE's commitment.

    The failure that looks normal: `top` must be far above the data's variance, or pure noise is not the noisy data: from 25
    variances commitment times come out 2 to 3 % too small, from 100 variances 0.2 %.
    """
    top, low, count = float(positive("top", top)), float(positive("low", low)), integer("count", count, minimum=1)
    E, rng, (P, N) = EmpiricalScore(X, device=device, dtype="float32"), np.random.default_rng((*seed, 4)), X.shape
    x, own, found = np.sqrt(top) * rng.standard_normal((count, N)), rng.integers(0, P, count), {}
    for name, (scheme, step) in DYNAMICS.items():
        levels = karras_levels(top, low, int(np.ceil(N * np.log(top / low) / step)), rho=np.inf)
        path = np.empty((len(levels), count, N))

        def keep(k: int, t: torch.Tensor, state: torch.Tensor, path: np.ndarray = path) -> None:
            path[k] = state.numpy()

        final = integrate(E.score, x, levels, scheme=scheme, seed=(*seed, 3), observe=keep)
        end = nearest_neighbours(X, 1, queries=final, device=device).index[:, 0]
        log_w = _log_weights(E, path, X[end], levels)
        found[f"commitment, {name}"] = commitment(np.log(levels), log_w)
        found[f"left open, {name}"] = (log_w[-1] < np.log(0.5)).astype(float)
        if name == "SDE":
            size = np.sqrt(np.append(levels[-1], np.diff(levels[::-1])))[:, None, None]
            path = X[own] + np.cumsum(size * rng.standard_normal(path.shape), axis=0)[::-1]
            found["reversed"] = commitment(np.log(levels), _log_weights(E, path, X[own], levels))
    return found


def _log_weights(E: EmpiricalScore, path: np.ndarray, end: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """(K, B) log weights of the points `end` along a path (K, B, N)."""
    K, B, N = path.shape
    log_z = E.log_partition(path.reshape(-1, N), np.repeat(levels, B)).reshape(K, B)
    return -((path - end) ** 2).sum(axis=2) / (2 * levels[:, None]) - log_z
