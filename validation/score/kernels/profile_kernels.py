"""The compiled kernel of a noise profile: one tile, all noise levels, each row read from the first-level cache.

Torch's own passes (scale, maximum, exp, sum, sum of squares) would cross the tile at every level; here they are fused.
The generic torch path gives the same numbers and is tested against this.
"""

from __future__ import annotations

import math

import numpy as np

from numerics.kernel_cache import njit
from validation.score.kernels.vector_math import LANES, SUMS, exp

__all__ = ["profile_rows"]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def _largest(a, b, p, q, lane):
    """max_j -(p a_j + q b_j): an elementwise maximum over lanes, because LLVM does not vectorise the reduction."""
    whole = a.shape[0] // LANES * LANES
    lane[:] = -np.inf
    for start in range(0, whole, LANES):
        for k in range(LANES):
            lane[k] = max(lane[k], -(a[start + k] * p + b[start + k] * q))
    top = lane[0]
    for k in range(1, LANES):
        top = max(top, lane[k])
    for j in range(whole, a.shape[0]):
        top = max(top, -(a[j] * p + b[j] * q))
    return top


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def _sums(a, b, p, q, reference, least, limit):
    """Sum and sum of squares of exp(l_j - reference), l_j = -(p a_j + q b_j), over least < l_j - reference, l_j < limit."""
    zero = a.dtype.type(0)
    s, r = zero, zero
    for j in range(a.shape[0]):
        value = -(a[j] * p + b[j] * q)
        shifted = value - reference
        e = exp(shifted)
        e = e if shifted > least else zero
        e = e if value < limit else zero
        s += e
        r += e * e
    return s, r


@njit(cache=True, nogil=True, error_model="numpy")
def profile_rows(a, b, h, offset_a, offset_b, own, inv_t, inv_s, M, S, Q, E, cut, reach, depth, first, resume, buffer):
    r"""One tile of a noise profile: online sums at every noise level of rows from `first` on, each row read from L1.

    In: a = base.xi, b = noise.xi (rows, T) products, overwritten by the energy |d|^2/2 and the cross term noise.d. A level
    k has exponents l = -(a inv_t[k] + b inv_s[k]); M, S, Q (rows, levels) are the running maximum, sum and sum of squares,
    E the sum of what was set aside. Exponents further than `reach[i, k]` below the running log Z are not looked at; those
    within `depth[i, k]` of it (never when negative) are set aside: (row, level, column) goes to `buffer`, for float64;
    the rest are summed unless more than `cut` below the maximum. `own[i]` is a column left out, or -1.
    Returns (entries in the buffer, row, level) with row == B when done, else where to resume.
    """
    T, n = a.shape[1], 0
    one, zero = a.dtype.type(1), a.dtype.type(0)
    least, unlimited = a.dtype.type(-cut), a.dtype.type(np.inf)
    lane = np.empty(LANES, a.dtype)
    for i in range(first, a.shape[0]):
        ai, bi = a[i], b[i]
        k0 = resume if i == first and resume >= 0 else 0
        if i > first or resume < 0:
            for j in range(T):
                ai[j] = (offset_a[i] + h[j]) - ai[j]
                bi[j] = offset_b[i] - bi[j]
            if own[i] >= 0:
                ai[own[i]] = unlimited
        least_a, least_b = -_largest(ai, bi, one, zero, lane), -_largest(bi, bi, one, zero, lane)
        for k in range(k0, inv_t.shape[0]):
            p, q = inv_t[k], inv_s[k]
            total = S[i, k] + E[i, k]
            log_z = M[i, k] + math.log(total) if total > 0.0 else -math.inf
            floor = log_z - reach[i, k]
            if -(least_a * p + least_b * q) < floor:
                continue
            top = float(_largest(ai, bi, p, q, lane))
            if top == -math.inf or top < floor:
                continue
            if n + T > buffer.shape[0]:
                return n, i, k
            if top > M[i, k]:
                factor = math.exp(M[i, k] - top)
                S[i, k] *= factor
                E[i, k] *= factor
                Q[i, k] *= factor * factor
                M[i, k] = top
            reference = a.dtype.type(M[i, k])
            s, r = zero, zero
            log_z = max(log_z, top)
            if depth[i, k] < reach[i, k]:
                s, r = _sums(ai, bi, p, q, reference, least, unlimited)
                log_z = M[i, k] + math.log(S[i, k] + E[i, k] + s)
            if depth[i, k] >= 0.0 and top >= log_z - depth[i, k]:
                limit = a.dtype.type(log_z - depth[i, k])
                for j in range(T):
                    value = -(ai[j] * p + bi[j] * q)
                    if value >= limit:
                        buffer[n, 0], buffer[n, 1], buffer[n, 2] = i, k, j
                        n += 1
                        E[i, k] += exp(value - reference)
                if depth[i, k] < reach[i, k]:
                    s, r = _sums(ai, bi, p, q, reference, least, limit)
            S[i, k] += s
            Q[i, k] += r
    return n, a.shape[0], 0
