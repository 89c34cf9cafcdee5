"""A branch-free exponential and logarithm that the compiler can vectorise: numba ships no vector math library of its own.

`exp_block` splits ``x = k log 2 + r`` with the "magic number" rounding, evaluates a degree-12 Taylor-Horner polynomial on
``|r| <= log(2)/2`` and puts ``k`` into the exponent bits through an integer view of a work array. The polynomial's
truncation is ``(log(2)/2)^13/13! = 1.7e-16``; the measured relative error against mpmath is stated in the test. It must
not be compiled with reassociation (the rounding trick would be simplified away), so it carries no fast-math flag.
"""

from __future__ import annotations

import numpy as np

from numerics.kernel_cache import njit

__all__ = ["exp_block", "log_block"]

LOG2E = 1.4426950408889634
LN2_HI = 0.693147180369123816490
LN2_LO = 1.90821492927058770002e-10
MAGIC = 6755399441055744.0 + 1023.0  # 1.5 * 2**52, plus the exponent bias that ends in the low bits
FLOOR = -700.0  # below this the result is 1e-304, a zero for every sum of the house

C2, C3, C4, C5, C6, C7 = 1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720, 1 / 5040
C8, C9, C10, C11, C12 = 1 / 40320, 1 / 362880, 1 / 3628800, 1 / 39916800, 1 / 479001600


@njit(cache=True, error_model="numpy", fastmath={"contract", "nsz"})
def exp_block(x, n, shift, out, scale, scale_bits):
    """``out[:n] = exp(x[:n] - shift)`` for ``x - shift <= 700``; ``scale_bits`` is ``scale.view(int64)``, both work arrays.

    Arguments below -700 give ``exp(-700)``, that is 1e-304. No return value; no check (a compiled inner loop).
    Source: [ours: the classic Cody-Waite reduction].
    """
    for j in range(n):
        e = max(x[j] - shift, FLOOR)
        shifted = e * LOG2E + MAGIC
        scale[j] = shifted
        k = shifted - MAGIC
        r = (e - k * LN2_HI) - k * LN2_LO
        p = C11 + r * C12
        p = C10 + r * p
        p = C9 + r * p
        p = C8 + r * p
        p = C7 + r * p
        p = C6 + r * p
        p = C5 + r * p
        p = C4 + r * p
        p = C3 + r * p
        p = C2 + r * p
        out[j] = 1.0 + (r + r * r * p)
    for j in range(n):
        scale_bits[j] = scale_bits[j] << 52
    for j in range(n):
        out[j] *= scale[j]


ROOT_HALF = 0x3FE6A09E667F3BCD  # the bits of sqrt(1/2)
ATANH = tuple(2.0 / (2 * i + 1) for i in range(11))  # 2 artanh(s)/s in powers of s^2
A0, A1, A2, A3, A4, A5, A6, A7, A8, A9, A10 = ATANH


@njit(cache=True, error_model="numpy", fastmath={"contract", "nsz"})
def log_block(x, n, out, scale, scale_bits):
    """``out[:n] = log(x[:n])`` for normal positive numbers; ``scale_bits`` is ``scale.view(int64)``, both work arrays.

    With ``x = 2^k m``, ``m`` in [sqrt(1/2), sqrt(2)) and ``s = (m - 1)/(m + 1)``, ``log m = 2 artanh s``, a series that ends
    at ``s^21``: ``|s| <= 0.172``. No check (a compiled inner loop). Source: [ours].
    """
    for j in range(n):
        scale[j] = x[j]
    for j in range(n):
        k = (scale_bits[j] - ROOT_HALF) >> 52
        out[j] = float(k)
        scale_bits[j] -= k << 52
    for j in range(n):
        m = scale[j]
        s = (m - 1.0) / (m + 1.0)
        z = s * s
        p = A9 + z * A10
        p = A8 + z * p
        p = A7 + z * p
        p = A6 + z * p
        p = A5 + z * p
        p = A4 + z * p
        p = A3 + z * p
        p = A2 + z * p
        p = A1 + z * p
        out[j] = out[j] * LN2_HI + (s * (A0 + z * p) + out[j] * LN2_LO)


def exp_array(x):
    """`exp_block` of a one-dimensional float64 array, for tests and benchmarks.

    >>> float(exp_array(np.array([0.0]))[0])
    1.0
    """
    x = np.ascontiguousarray(x, dtype=np.float64)
    out, scale = np.empty_like(x), np.empty_like(x)
    exp_block(x, x.size, 0.0, out, scale, scale.view(np.int64))
    return out


def log_array(x):
    """`log_block` of a one-dimensional float64 array, for tests.

    >>> float(log_array(np.array([1.0]))[0])
    0.0
    """
    x = np.ascontiguousarray(x, dtype=np.float64)
    out, scale = np.empty_like(x), np.empty_like(x)
    log_block(x, x.size, out, scale, scale.view(np.int64))
    return out
