"""Compiled row kernels of one noise level: screening, online softmax, exact pairs, search in clusters.

Each is one pass over a tile that is still in the cache. Weights below the cut become exact zeros, so the second product
never meets a denormal number. The generic torch paths give the same numbers and are tested against these.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from validation.vector_math import LANES, SUMS, exp, widen

__all__ = ["add_sparse_rows", "pair_displacements", "pair_energies", "screen_rows", "search_clusters", "weigh_rows"]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def _load_row(products, h, row, lane):
    """row = products - h, and its maximum (lanes side by side, as in `_largest`)."""
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


@njit(cache=True, nogil=True, error_model="numpy")
def screen_rows(products, h, rows, best, window, first, stop, columns, values, counts):
    """Candidates of one tile: in each row the columns whose v = x.xi - |xi|^2/2 comes within `window` of the best so far.

    products : (n, T), float32, float64, or bfloat16 bits as uint16; rows : (n,) their rows in `best` and `window` (B,)
    columns, values : (capacity,) written from 0 on; counts : (n,) how many in each row. `best` is raised as rows are read.
    Returns (entries, row) with row == stop when done, else where to resume with empty lists.
    """
    T, n = products.shape[1], 0
    row, lane = np.empty(T, h.dtype), np.empty(LANES, h.dtype)
    for a in range(first, stop):
        i = rows[a]
        counts[a] = 0
        top = float(_load_row(products[a], h, row, lane))
        if top < best[i] - window[i]:
            continue
        if n + T > columns.shape[0]:
            return n, a
        best[i] = max(best[i], top)
        limit, before = h.dtype.type(best[i] - window[i]), n
        for j in range(T):
            if row[j] >= limit:
                columns[n], values[n] = j, row[j]
                n += 1
        counts[a] = n - before
    return n, stop


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def _weigh_row(row, weights, inv_t, reference, least, limit):
    """weights = exp((row - reference) inv_t), zero unless above `least` and row below `limit`; sum, squares, how many."""
    zero, one = row.dtype.type(0), row.dtype.type(1)
    s, r, c = zero, zero, zero
    for j in range(row.shape[0]):
        shifted = (row[j] - reference) * inv_t
        e = exp(shifted)
        e = e if shifted > least else zero
        e = e if row[j] < limit else zero
        weights[j] = e
        s += e
        r += e * e
        c += one if e > zero else zero
    return s, r, c


@njit(cache=True, nogil=True, error_model="numpy")
def weigh_rows(
    products, h, rows, inv_t, top, S, Q, E, mean, cut, reach, depth, first, stop, columns, values, counts, kept
):
    """One tile of the online softmax: products become weights exp((v - top)/t), v = x.xi - |xi|^2/2; see `profile_rows`.

    top, S, Q, E : (B,) running maximum of v, sums, sums of squares, what was set aside; mean : (B, N) running sum of
    weights times patterns, rescaled here when the maximum rises (the products' second half adds to it). reach, depth : (B,)
    as in `profile_rows`, with depth == reach leaving nothing to sum. counts, kept : (n,) entries set aside, and weights
    that are not zero; a row with kept == 0 is left undefined in `products`. Returns as `screen_rows` does.
    """
    T, n = products.shape[1], 0
    row, lane = np.empty(T, h.dtype), np.empty(LANES, h.dtype)
    least, unlimited, zero = h.dtype.type(-cut), h.dtype.type(np.inf), h.dtype.type(0)
    for a in range(first, stop):
        i = rows[a]
        counts[a] = kept[a] = 0
        peak = float(_load_row(products[a], h, row, lane))
        total, scale = S[i] + E[i], inv_t[i]
        log_z = top[i] + math.log(total) / scale if total > 0.0 else -math.inf
        if peak < log_z - reach[i] / scale:
            continue
        if n + T > columns.shape[0]:
            return n, a
        if peak > top[i]:
            factor = math.exp((top[i] - peak) * scale)
            S[i] *= factor
            E[i] *= factor
            Q[i] *= factor * factor
            top[i] = peak
            rescale = h.dtype.type(factor)
            for j in range(mean.shape[1]):
                mean[i, j] *= rescale
        reference, rate, before = h.dtype.type(top[i]), h.dtype.type(scale), n
        s, r, c = zero, zero, zero
        log_z = max(log_z, peak)
        if depth[i] < reach[i]:
            s, r, c = _weigh_row(row, products[a], rate, reference, least, unlimited)
            log_z = top[i] + math.log(S[i] + E[i] + s) / scale
        if depth[i] >= 0.0 and peak >= log_z - depth[i] / scale:
            limit = h.dtype.type(log_z - depth[i] / scale)
            for j in range(T):
                if row[j] >= limit:
                    columns[n], values[n] = j, row[j]
                    n += 1
                    E[i] += exp((row[j] - reference) * rate)
            counts[a] = n - before
            if depth[i] < reach[i]:
                s, r, c = _weigh_row(row, products[a], rate, reference, least, limit)
        S[i] += s
        Q[i] += r
        kept[a] = int(c)
    return n, stop


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def add_sparse_rows(weights, tile, chosen, rows, mean, first, stop):
    """mean[rows[a]] += weights[a] @ tile for the rows `chosen[first:stop]`, over the weights that are not zero."""
    zero = weights.dtype.type(0)
    for k in range(first, stop):
        a = chosen[k]
        target = mean[rows[a]]
        for j in range(weights.shape[1]):
            w = weights[a, j]
            if w > zero:
                for n in range(tile.shape[1]):
                    target[n] += w * tile[j, n]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def _dot(a, b):
    s = a.dtype.type(0)
    for n in range(a.shape[0]):
        s += a[n] * b[n]
    return s


@njit(cache=True, nogil=True, error_model="numpy")
def search_clusters(
    patterns, h, x, half, bound, visit, starts, window, most, first, stop, positions, energies, counts, seen
):
    """Best-first search: in each row clusters are visited by rising `bound` until it passes the best energy plus `window`.

    patterns (P, N), h (P,), x (B, N), half (B,): recentred, so that the energy is half - x.xi + h; bound (B, K) lower bounds,
    visit (B, K) clusters by rising bound, starts (K + 1,) their first patterns. Lists as in `screen_rows`; seen : (B,)
    how many clusters were visited, or -1 where more than `most` patterns would be.
    """
    n = 0
    for i in range(first, stop):
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
    return n, stop


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def pair_energies(source, x, other, row, position, energy, cross, first, stop):
    """energy = |x_r - xi_p|^2/2, and cross = other_r.(x_r - xi_p) unless `cross` is empty, summed in float64."""
    for k in range(first, stop):
        xi, q = source[position[k]], x[row[k]]
        s = 0.0
        for n in range(q.shape[0]):
            d = q[n] - float(xi[n])
            s += d * d
        energy[k] = 0.5 * s
        if cross.shape[0]:
            w, c = other[row[k]], 0.0
            for n in range(q.shape[0]):
                c += w[n] * (q[n] - float(xi[n]))
            cross[k] = c


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def pair_displacements(source, x, row, position, weight, total, first, stop):
    """total_r += weight (xi_p - x_r) in float64; pairs are sorted by row, and `first:stop` never splits a row."""
    for k in range(first, stop):
        xi, q, w = source[position[k]], x[row[k]], weight[k]
        target = total[row[k]]
        for n in range(q.shape[0]):
            target[n] += w * (float(xi[n]) - q[n])
