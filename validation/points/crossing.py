"""Where curves known with their slopes fall through 1/2: safeguarded Newton in log t, for many rows at once."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

__all__ = ["fall_through_half"]

LARGEST_STEP = math.log(4.0)
STEPS = 80
FLAT = 1e-6  # a slope below which Newton's step says nothing


def fall_through_half(
    curve: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    guess: np.ndarray,
    low: float,
    high: float,
    tolerance: float,
) -> np.ndarray:
    """The t at which each curve passes 1/2 on its way down, (B,); inf (or 0) where it stays above (below) on [low, high].

    curve(t (B,), rows (R,)) -> (values (R,), slopes in log t (R,)); guess : (B,) > 0; tolerance : the last step in log t,
    where it is Newton's: the error is about its square. A row's last call of the curve is at most that far from its root.
    """
    x = np.log(np.clip(guess, low, high))
    below, above = np.full(len(x), -np.inf), np.full(len(x), np.inf)  # brackets: the curve is above, below 1/2 there
    rows = np.arange(len(x))
    for _ in range(STEPS):
        value, slope = curve(np.exp(x), rows)
        here = x[rows]
        up = value >= 0.5
        below[rows] = np.where(up, np.maximum(below[rows], here), below[rows])
        above[rows] = np.where(up, above[rows], np.minimum(above[rows], here))
        sure = slope < -FLAT
        step = np.where(up, LARGEST_STEP, -LARGEST_STEP)
        step[sure] = np.clip((0.5 - value[sure]) / slope[sure], -LARGEST_STEP, LARGEST_STEP)
        new = here + step
        inside = (new > below[rows]) & (new < above[rows])
        middle = np.where(np.isfinite(below[rows] + above[rows]), (below[rows] + above[rows]) / 2, new)
        new = np.where(inside, new, middle)
        x[rows] = new
        beyond, under = up & (here >= math.log(high)), ~up & (here <= math.log(low))
        x[rows[beyond]], x[rows[under]] = np.inf, -np.inf
        # a step of Newton's leaves an error of about its square; other steps leave one of their size
        fine = np.where(sure & inside, tolerance, tolerance / 10)
        done = beyond | under | (np.abs(new - here) < fine) | (above[rows] - below[rows] < tolerance / 10)
        rows = rows[~done]
        if not len(rows):
            return np.exp(x)
        x[rows] = np.clip(x[rows], math.log(low), math.log(high))
    x[rows] = np.nan
    return np.exp(x)
