"""What is read off a learning curve, measured and theoretical alike: times of learning, stopping and memorisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq

__all__ = ["learned", "memorised", "readings", "with_gaps"]


def passing(x: np.ndarray, y: np.ndarray, level: float) -> float:
    """Where a curve first passes `level`; NaN if nowhere."""
    i = np.flatnonzero((y[1:] - level) * (y[:-1] - level) <= 0)
    if i.size == 0:
        return float("nan")
    return float(brentq(PchipInterpolator(x, y - level), x[i[0]], x[i[0] + 1]))


def learned(x: np.ndarray, distance: np.ndarray) -> float:
    """Log time at which the distance has made half of its way down."""
    return passing(x[:-1], distance[:-1], 0.5 * (distance[0] + distance.min()))


def memorised(x: np.ndarray, gap: np.ndarray) -> float:
    """Log time at which the gap has half of its final value; the last point is the end of training."""
    return passing(x[:-1], gap[:-1], 0.5 * gap[-1])


def stopped(x: np.ndarray, test: np.ndarray) -> float:
    """Log time of the least test loss, by the parabola through three points about it."""
    i = int(np.argmin(test[:-1]))
    if i in (0, test.size - 2):
        return float("nan")
    left, middle, right = test[i - 1 : i + 2]
    return float(x[i] + 0.5 * (x[i + 1] - x[i]) * (left - right) / (left - 2 * middle + right))


def last(x: np.ndarray, y: np.ndarray) -> float:
    return float(y[-1])


def readings(groups: Sequence[str]) -> list[tuple[str, str, Callable, bool]]:
    """(quantity, curve, statistic, whether it is a log time)."""
    whole = [
        ("learning time", "distance", learned, True),
        ("stopping time", "test", stopped, True),
        ("memorisation time", "gap", memorised, True),
        ("final test loss", "test", last, False),
        ("final training loss", "train", last, False),
    ]
    if len(groups) > 1:
        for name in groups:
            whole += [
                (f"learning time, r = {name}", f"distance {name}", learned, True),
                (f"memorisation time, r = {name}", f"gap {name}", memorised, True),
            ]
    return whole


def with_gaps(curves: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    tests = [name for name in curves if "test" in name]
    return curves | {n.replace("test", "gap"): curves[n] - curves[n.replace("test", "train")] for n in tests}
