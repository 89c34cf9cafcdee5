"""Compiled row kernels of one noise level: screening, online softmax, search in clusters.

Each is one pass over a tile that is still in the cache. Weights below the cut become exact zeros, so the second product
never meets a denormal number. The generic torch paths give the same numbers and are tested against these.
"""

from __future__ import annotations

import math

import numpy as np

from numerics.kernel_cache import njit
from validation.score.kernels.vector_math import LANES, LOG2E, SUMS, exp2, widen

__all__ = [
    "add_sparse_rows",
    "screen_rows",
    "search_clusters",
    "weigh_rows",
]

MOST, LEAST, LEAST64 = 115.0, -120.0, -1000.0  # exponents of 2 that stay normal numbers in float32 and in float64
CALM = 1e8  # sum of squares below which no weight is far above the reference
TINY = 1e-300


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def _load_row(products, h, row, lane):
    """row = products - h, and its maximum, kept in lanes side by side because LLVM does not vectorise that reduction."""
    whole = row.shape[0] // LANES * LANES
    lane[:] = -np.inf
    for start in range(0, whole, LANES):
        for k in range(LANES):
            value = widen(products[start + k]) - h[start + k]
            row[start + k] = value
            lane[k] = max(lane[k], value)
    top = lane[0]
    for k in range(1, LANES):
        top = max(top, lane[k])
    for j in range(whole, row.shape[0]):
        row[j] = widen(products[j]) - h[j]
        top = max(top, row[j])
    return top


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def _top_of_row(products, h, lane):
    """The maximum of products - h; lane k is left with that of the columns k, k + LANES, k + 2 LANES, ..."""
    whole = products.shape[0] // LANES * LANES
    lane[:] = -np.inf
    for start in range(0, whole, LANES):
        for k in range(LANES):
            lane[k] = max(lane[k], widen(products[start + k]) - h[start + k])
    for j in range(whole, products.shape[0]):
        lane[j - whole] = max(lane[j - whole], widen(products[j]) - h[j])
    top = lane[0]
    for k in range(1, LANES):
        top = max(top, lane[k])
    return top


@njit(cache=True, nogil=True, error_model="numpy")
def screen_rows(products, h, start, best, place, window, limit, first, columns, values, counts):
    """Candidates of one tile: in each row the columns whose v = x.xi - |xi|^2/2 reaches `limit` and comes within `window` of
    the best so far.

    products : (B, T), float32, float64, or bfloat16 bits as uint16; best, place, window, limit : (B,)
    columns, values : (capacity,) written from 0 on, in no order within a row; counts : (B,) how many in each row. `best` is
    raised as rows are read, and `place` is its column, counted from `start` at the tile's first.
    Only lanes whose maximum counts are read a second time.
    Begins at row `first`; returns (entries, row) with row == B when done, else where to resume with empty lists.
    """
    T, n = products.shape[1], 0
    lane = np.empty(LANES, h.dtype)
    for i in range(first, counts.shape[0]):
        counts[i] = 0
        top = _top_of_row(products[i], h, lane)
        least = max(limit[i], max(best[i], float(top)) - window[i])
        listed = float(top) >= least and top > -np.inf
        if listed and n + T > columns.shape[0]:
            return n, i
        higher = float(top) > best[i]
        if not listed and not higher:
            continue
        bound, before = h.dtype.type(least), n
        for k in range(LANES):
            if higher and lane[k] == top:
                for j in range(k, T, LANES):
                    if widen(products[i, j]) - h[j] == top:
                        best[i], place[i], higher = top, start + j, False
                        break
            if listed and lane[k] >= bound:
                for j in range(k, T, LANES):
                    value = widen(products[i, j]) - h[j]
                    if value >= bound:
                        columns[n], values[n] = j, value
                        n += 1
        counts[i] = n - before
    return n, counts.shape[0]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def _weigh_row(products, h, row, reference, rate, least):
    """products become weights 2^((row - reference) rate), row = products - h, zero unless above `least`; sum, squares.

    `row` is kept (products no longer hold it). Exponents are clipped, so that the caller sees a huge sum, not NaN.
    """
    zero, most = h.dtype.type(0), h.dtype.type(MOST)
    floor = h.dtype.type(LEAST if h.itemsize == 4 else LEAST64)
    s, r = zero, zero
    for j in range(h.shape[0]):
        value = products[j] - h[j]
        row[j] = value
        shifted = (value - reference) * rate
        e = exp2(max(min(shifted, most), floor))
        e = e if shifted > least else zero
        products[j] = e
        s += e
        r += e * e
    return s, r


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def _reweigh_row(weights, row, reference, rate, least):
    """The same from a row already loaded."""
    zero, floor = row.dtype.type(0), row.dtype.type(LEAST if row.itemsize == 4 else LEAST64)
    s, r = zero, zero
    for j in range(row.shape[0]):
        shifted = (row[j] - reference) * rate
        e = exp2(max(shifted, floor))
        e = e if shifted > least else zero
        weights[j] = e
        s += e
        r += e * e
    return s, r


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def _sum_row(weights):
    zero = weights.dtype.type(0)
    s, r = zero, zero
    for j in range(weights.shape[0]):
        s += weights[j]
        r += weights[j] * weights[j]
    return s, r


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def _largest(row, lane):
    whole = row.shape[0] // LANES * LANES
    lane[:] = -np.inf
    for start in range(0, whole, LANES):
        for k in range(LANES):
            lane[k] = max(lane[k], row[start + k])
    top = lane[0]
    for k in range(1, LANES):
        top = max(top, lane[k])
    for j in range(whole, row.shape[0]):
        top = max(top, row[j])
    return top


@njit(cache=True, nogil=True, error_model="numpy")
def _used(weights, s, r, few):
    """How many weights are not zero, or the row's length when that is surely more than `few`."""
    if s <= 0:
        return 0
    if float(s) * float(s) > few * float(r):  # the participation ratio is a lower bound
        return weights.shape[0]
    return np.count_nonzero(weights)


@njit(cache=True, nogil=True, error_model="numpy")
def weigh_rows(products, h, inv_t, state, mean, recent, cut, limits, few, first, columns, values, counts, kept):
    """One tile of the online softmax: products become weights exp((v - top)/t), v = x.xi - |xi|^2/2; see `profile_rows`.

    state : (4, B), a reference `top` near the running maximum of v, the sum and sum of squares relative to it, and the sum
    of what was set aside; mean, recent : (B, N), float64 and the products' type, running sums of weights times patterns, of
    earlier tiles and of the last few, rescaled here when `top` rises (what follows adds to the second). limits : (3, B),
    `reach` and `depth` as in `profile_rows`, equal where nothing is left to sum, and what the largest v surely reaches (-inf:
    unknown), from which `top` begins.
    counts : (B,) entries set aside. kept : (B,), in: nonzero where the last tile had weight, then a row is weighed at once
    and its maximum bounded by the sum of squares; out: weights that are not zero (or T when more than `few`; a row with 0
    is left undefined in `products`). Returns as `screen_rows` does.
    """
    T, n = products.shape[1], 0
    row, lane = np.empty(T, h.dtype), np.empty(LANES, h.dtype)
    least, zero = h.dtype.type(-cut * LOG2E), h.dtype.type(0)
    floor = h.dtype.type(LEAST if h.itemsize == 4 else LEAST64)
    top, S, Q, E = state[0], state[1], state[2], state[3]
    for i in range(first, counts.shape[0]):
        scale, reach, depth, least_z = inv_t[i], limits[0, i], limits[1, i], limits[2, i]
        total, rate, weights = S[i] + E[i], h.dtype.type(scale * LOG2E), products[i]
        if kept[i] > 0 and total > 0.0 and depth < reach:
            s, r = _weigh_row(weights, h, row, h.dtype.type(top[i]), rate, least)
            if r < CALM and (depth < 0.0 or 0.5 * math.log(r + TINY) < math.log(total + s) - depth):
                S[i] += s
                Q[i] += r
                counts[i], kept[i] = 0, _used(weights, s, r, few)
                continue
            peak = float(_largest(row, lane))
        else:
            peak = float(_load_row(weights, h, row, lane))
        if n + T > columns.shape[0]:
            kept[i] = 0
            for j in range(T):
                weights[j] = row[j] + h[j]
            return n, i
        counts[i] = kept[i] = 0
        log_z = max(top[i] + math.log(total) / scale, least_z) if total > 0.0 else least_z
        if peak < log_z - reach / scale:
            continue
        if peak > top[i]:
            factor = math.exp((top[i] - peak) * scale)
            S[i] *= factor
            E[i] *= factor
            Q[i] *= factor * factor
            top[i] = peak
            if total > 0.0:
                rescale = h.dtype.type(factor)
                for k in range(mean.shape[1]):
                    mean[i, k] *= factor
                    recent[i, k] *= rescale
        reference = h.dtype.type(top[i])
        s, r = zero, zero
        log_z = max(log_z, peak)
        if depth < reach:
            s, r = _reweigh_row(weights, row, reference, rate, least)
            total = S[i] + E[i] + s
            log_z = max(top[i] + math.log(total) / scale, least_z) if total > 0.0 else least_z
        if depth >= 0.0 and peak >= log_z - depth / scale:
            limit, before = h.dtype.type(log_z - depth / scale), n
            for j in range(T):
                if row[j] >= limit:
                    columns[n], values[n] = j, row[j]
                    n += 1
                    E[i] += exp2(max((row[j] - reference) * rate, floor))
                    weights[j] = zero
            counts[i] = n - before
            if depth < reach:
                s, r = _sum_row(weights)
        S[i] += s
        Q[i] += r
        kept[i] = _used(weights, s, r, few)
    return n, counts.shape[0]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def _add_four(weights, tile, place, line):
    a, b, c, d = tile[place[0]], tile[place[1]], tile[place[2]], tile[place[3]]
    u, v, w, z = weights[place[0]], weights[place[1]], weights[place[2]], weights[place[3]]
    for n in range(line.shape[0]):
        line[n] += (u * a[n] + v * b[n]) + (w * c[n] + z * d[n])


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def add_sparse_rows(weights, tile, kept, few, mean):
    """mean[i] += weights[i] @ tile for the rows i with at most `few` weights, over those that are not zero.

    A tile's own sum is taken first, so that its roundings are small. kept : (B,) as in `weigh_rows`. Returns how many rows
    have more, whose product is left to do; where these are half of the rows or more, B: nothing is added then, all rows
    are ready for one product, those without weight set to zero.
    """
    B, N, zero = weights.shape[0], tile.shape[1], weights.dtype.type(0)
    heavy = 0
    for i in range(B):
        heavy += kept[i] > few
    if 2 * heavy >= B:
        for i in range(B):
            if kept[i] == 0:
                weights[i] = zero
        return B
    place, line = np.empty(weights.shape[1] + 1, np.int64), np.empty(N, weights.dtype)
    for i in range(B):
        if kept[i] == 0 or kept[i] > few:
            continue
        target, row, found = mean[i], weights[i], 0
        for j in range(row.shape[0]):  # no branch that the processor would have to guess
            place[found] = j
            found += row[j] > zero
        line[:] = zero
        whole = found // 4 * 4
        for k in range(0, whole, 4):  # four at once: a quarter of the roundings, and of the passes over the line
            _add_four(row, tile, place[k : k + 4], line)
        for k in range(whole, found):
            w, pattern = row[place[k]], tile[place[k]]
            for n in range(N):
                line[n] += w * pattern[n]
        for n in range(N):
            target[n] += line[n]
    return heavy


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def _dot(a, b):
    s = a.dtype.type(0)
    for n in range(a.shape[0]):
        s += a[n] * b[n]
    return s


@njit(cache=True, nogil=True, error_model="numpy")
def search_clusters(patterns, h, x, half, bound, visit, starts, window, most, first, positions, energies, counts, seen):
    """Best-first search: in each row clusters are visited by rising `bound` until it passes the best energy plus `window`.

    patterns (P, N), h (P,), x (B, N), half (B,): recentred, so that the energy is half - x.xi + h; bound (B, K) lower bounds,
    visit (B, K) clusters by rising bound, starts (K + 1,) their first patterns. Lists as in `screen_rows`; seen : (B,)
    how many clusters were visited, or -1 where more than `most` patterns would be.
    """
    n = 0
    for i in range(first, counts.shape[0]):
        best, looked, before = np.inf, 0, n
        counts[i], seen[i] = 0, visit.shape[1]
        for place in range(visit.shape[1]):
            k = visit[i, place]
            if bound[i, k] > best + window[i]:
                seen[i] = place
                break
            looked += starts[k + 1] - starts[k]
            if looked > most:
                seen[i], n = -1, before
                break
            if n + starts[k + 1] - starts[k] > positions.shape[0]:
                return before, i
            for p in range(starts[k], starts[k + 1]):
                energy = half[i] - float(_dot(patterns[p], x[i]) - h[p])
                best = min(best, energy)
                if energy <= best + window[i]:
                    positions[n], energies[n] = p, energy
                    n += 1
        counts[i] = n - before
    return n, counts.shape[0]
