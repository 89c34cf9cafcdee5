"""What lets numba loops run at vector speed: an exponential the compiler can vectorise, and the flags for sums.

numba ships no vector math, so `exp` here is a polynomial behind the magic-number rounding, in float32 and float64, as one
expression that fuses into any loop. (`numerics.elementary.fast_exp` fills arrays, in float64, and runs at the same speed.)
"""

from __future__ import annotations

import math

import numpy as np
from numba import config, types
from numba.extending import intrinsic, overload

__all__ = ["COMPILED", "LANES", "LOG2E", "SUMS", "exp", "exp2", "widen"]

COMPILED = not config.DISABLE_JIT
LOG2E = math.log2(math.e)
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


def exp2(x):
    """2^x in compiled loops, for |x| <= 120 (float32) or 1000 (float64); the caller clips: cheaper than `exp` by a third."""
    return np.exp2(x)


# minimax polynomials of 2^f on |f| <= 1/2 (mpmath.chebyfit), to 2e-9 and 2e-16
M32 = 12582912.0
E32 = 1.0, 0.6931472067028326, 0.24022650922288757, 0.05550327226670302, 0.009618056678524637, 0.0013400428177615838
E32 = tuple(np.float32(v) for v in (*E32, 0.0001546144469856913, M32))
M64 = 6755399441055744.0
E64 = 1.0, 0.69314718055995, 0.24022650695910097, 0.05550410866444772, 0.009618129107606888, 0.0013333558230164974
E64 = (
    *E64,
    0.0001540353044173605,
    1.5252657260200837e-05,
    1.321544258792169e-06,
    1.0208690299958306e-07,
    7.072585949269223e-09,
)


@overload(exp2, jit_options={"fastmath": {"contract"}})
def _exp2_overload(x):
    """x = n + f by the magic-number rounding, a polynomial in f, and n added to its exponent's bits. No reassociation."""
    if x == types.float32:
        c0, c1, c2, c3, c4, c5, c6, magic = E32
        integer, shift = np.int32, 23

        def exp32(x):
            z = x + magic
            f = x - (z - magic)
            f2 = f * f
            y = (c0 + c1 * f) + ((c2 + c3 * f) + ((c4 + c5 * f) + c6 * f2) * f2) * f2
            return _float_of_bits(integer(_bits_of_float(y) + (_bits_of_float(z) << shift)))

        return exp32
    if x == types.float64:
        c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10 = E64
        magic, integer, shift = M64, np.int64, 52

        def exp64(x):
            z = x + magic
            f = x - (z - magic)
            f2 = f * f
            f4 = f2 * f2
            y = (c0 + c1 * f) + (c2 + c3 * f) * f2 + ((c4 + c5 * f) + (c6 + c7 * f) * f2) * f4
            y += ((c8 + c9 * f) + c10 * f2) * (f4 * f4)
            return _float_of_bits(integer(_bits_of_float(y) + (_bits_of_float(z) << shift)))

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
