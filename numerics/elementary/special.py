"""Elementary functions that keep full relative accuracy where the textbook formula cancels or overflows."""

from __future__ import annotations

import math

from numerics.kernel_cache import njit

__all__ = ["log1pmx", "log_expm1", "log_positive_root", "logistic", "logistic_triple", "softplus"]


@njit(cache=True)
def softplus(u):
    r"""`log(1 + exp(u))` for every float64 `u`.

    >>> softplus(800.0), softplus(-800.0)
    (800.0, 0.0)
    """
    if u > 0.0:
        return u + math.log1p(math.exp(-u))
    return math.log1p(math.exp(u))


@njit(cache=True)
def logistic(u):
    r"""`1 / (1 + exp(-u))` for every float64 `u`.

    >>> logistic(0.0)
    0.5
    """
    if u > 0.0:
        return 1.0 / (1.0 + math.exp(-u))
    e = math.exp(u)
    return e / (1.0 + e)


@njit(cache=True)
def logistic_triple(u):
    r"""`log(1 + exp(u))`, `1/(1 + exp(-u))` and `1/(1 + exp(u))`, from one exponential.

    >>> logistic_triple(0.0)
    (0.6931471805599453, 0.5, 0.5)
    """
    e = math.exp(-abs(u))
    q = 1.0 / (1.0 + e)
    if u > 0.0:
        return u + math.log1p(e), q, e * q
    return math.log1p(e), e * q, q


@njit(cache=True)
def log1pmx(z):
    r"""`log(1 + z) - z` for `z > -1`, to full relative accuracy also where it is `-z**2/2`.

    For `|z| < 0.3` the series of `2 artanh(w)` with `w = z/(2 + z)`: `log(1+z) - z = -z w + 2 w**3 (1/3 + w**2/5 + ...)`.

    >>> log1pmx(1e-10)
    -4.999999999666667e-21
    """
    if abs(z) > 0.3:
        return math.log1p(z) - z
    w = z / (2.0 + z)
    v = w * w
    series = 0.0
    power = 1.0
    for k in range(3, 29, 2):
        series += power / k
        power *= v
    return -z * w + 2.0 * w * v * series


@njit(cache=True)
def log_expm1(v):
    r"""`log(exp(v) - 1)` for `v > 0`.

    >>> log_expm1(1000.0)
    1000.0
    """
    if v > 40.0:
        return v
    return math.log(math.expm1(v))


@njit(cache=True)
def log_positive_root(log_a, b):
    r"""Logarithm of the positive root of `a z**2 + b z = 1`, with `a > 0` given by its logarithm.

    Neither sign of `b` cancels, and `a` may be below float range. (`b = 0` with `sqrt(a)` below it gives `-log_a/2`.)

    >>> round(math.exp(log_positive_root(math.log(2.0), 1.0)), 15)
    0.5
    """
    radical = math.hypot(b, 2.0 * math.exp(0.5 * log_a))
    if radical == 0.0:
        return -0.5 * log_a
    if b > 0.0:
        return math.log(2.0 / (b + radical))
    return math.log(0.5 * (radical - b)) - log_a
