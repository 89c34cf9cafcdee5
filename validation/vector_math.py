"""What lets numba loops run at vector speed: an exponential the compiler can vectorise, and the flags for sums.

numba ships no vector math, so `exp` here is a polynomial behind the magic-number rounding, in float32 and float64, as one
expression that fuses into any loop. (`numerics.fast_exp` fills arrays, in float64, and runs at the same speed.)
"""

from __future__ import annotations

import math

import numpy as np
from numba import config, types
from numba.extending import intrinsic, overload

__all__ = ["COMPILED", "LANES", "SUMS", "exp", "widen"]

COMPILED = not config.DISABLE_JIT
LANES = 128  # running maxima kept side by side: LLVM does not vectorise that reduction
SUMS = {"reassoc", "contract", "nsz", "nnan"}  # what lets a sum vectorise; infinities stay legal, NaN never enters


def exp(x):
    """exp(x) in compiled loops, for x <= 88 (float32) or 709 (float64); below -87 (-708) the value there, not 0."""
    return np.exp(x)


@intrinsic
def _bits_of_float(typing_context, x):
    signature = types.int32(types.float32) if x == types.float32 else types.int64(types.float64)
    return signature, lambda ctx, b, s, args: b.bitcast(args[0], ctx.get_value_type(s.return_type))


@intrinsic
def _float_of_bits(typing_context, k):
    signature = types.float32(types.int32) if k == types.int32 else types.float64(types.int64)
    return signature, lambda ctx, b, s, args: b.bitcast(args[0], ctx.get_value_type(s.return_type))


F32 = tuple(np.float32(v) for v in (1.4426950408889634, 0.693359375, -2.12194440e-4, 12582912.0, -87.0))
P32 = tuple(
    np.float32(v)
    for v in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1, 1.0)
)
F64 = (1.4426950408889634, 6.93147180369123816490e-01, 1.90821492927058770002e-10, 6755399441055744.0, -708.0)
P64 = tuple(1.0 / math.factorial(k) for k in range(14))


@overload(exp, jit_options={"fastmath": {"contract"}})
def _exp_overload(x):
    """exp(x) for x <= 88 (float32) or 709 (float64): x = n log 2 + r by the magic-number rounding, a polynomial in r.

    No reassociation here, or the compiler simplifies the rounding away.
    """
    if x == types.float32:
        log2e, high, low, magic, floor = F32
        p0, p1, p2, p3, p4, p5, one = P32
        integer, shift, bias = np.int32, 23, 0x3F800000  # numba widens every sum of int32

        def exp32(x):
            x = max(x, floor)
            z = x * log2e + magic
            n = z - magic
            r = x - n * high - n * low
            y = ((((((p0 * r + p1) * r + p2) * r + p3) * r + p4) * r + p5) * r) * r + r + one
            return y * _float_of_bits(integer((_bits_of_float(z) << shift) + bias))

        return exp32
    if x == types.float64:
        log2e, high, low, magic, floor = F64
        _, _, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13 = P64
        integer, shift, bias = np.int64, 52, 0x3FF0000000000000

        def exp64(x):
            x = max(x, floor)
            z = x * log2e + magic
            n = z - magic
            r = x - n * high - n * low
            r2 = r * r
            r4 = r2 * r2
            p = (c2 + c3 * r) + (c4 + c5 * r) * r2 + ((c6 + c7 * r) + (c8 + c9 * r) * r2) * r4
            p += ((c10 + c11 * r) + (c12 + c13 * r) * r2) * (r4 * r4)
            y = p * r2 + r + 1.0
            return y * _float_of_bits(integer((_bits_of_float(z) << shift) + bias))

        return exp64
    return None


def widen(x):
    """The float a stored product stands for: itself, or bfloat16 bits as float32."""
    return np.uint32(int(x) << 16).view(np.float32) if x.dtype == np.uint16 else x


@overload(widen)
def _widen_overload(x):
    if x == types.uint16:
        return lambda x: _float_of_bits(np.int32(np.uint32(x) << np.uint32(16)))
    return lambda x: x
