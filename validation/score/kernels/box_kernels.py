r"""Weights of all pairs of patches by box sums: no patch is ever written out, and a pair costs the same at every width.

Patches around y of a noisy image x and around y + d of a training image differ, summed over the square and the channels, by

.. math:: |x_{p(y)}-\xi_{p(y+d)}|^2=\sum_{|a|\le h}\big(x(y+a)-\xi(y+d+a)\big)^2 ,

for one displacement d a sum over a moving square of the same squared differences. Sums over 2, 4, 8, ... neighbours, each made
of two of the level below, give it along rows and then along columns with a few additions, all of positive numbers: nothing
cancels. Lanes side by side are training images. Offsets are unsigned, or numba's care for negative indices keeps loops from
vectorising; `lanes` is an argument, or LLVM unrolls its loop instead.
"""

from __future__ import annotations

import numpy as np

from numerics.kernel_cache import njit
from validation.score.kernels.vector_math import SUMS, exp2

__all__ = ["box_pass"]

ABOVE = (
    50.0  # power of 2 by which a weight may exceed the reference: its square, a thousand times over, stays below 2^127
)
BELOW = 80.0  # power of 2 below the reference at which a row of places is left out
LEAST = -110.0  # least power of 2 of a weight: a normal number in float32, 1e-33
U = np.uintp


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def _squares(training, i, query, j, columns, lanes, out, add):
    """out = (training - query)^2 for a row of pixels, or added to it; query has one number where training has `lanes`."""
    i, j, columns, lanes = U(i), U(j), U(columns), U(lanes)
    for c in range(columns):
        value, o = query[j + c], c * lanes
        if add:
            for k in range(lanes):
                difference = training[i + o + k] - value
                out[o + k] += difference * difference
        else:
            for k in range(lanes):
                difference = training[i + o + k] - value
                out[o + k] = difference * difference


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def _add(a, i, j, o, n):
    """a[o:] = a[i:] + a[j:], n of them."""
    i, j, o, n = U(i), U(j), U(o), U(n)
    for k in range(n):
        a[o + k] = a[i + k] + a[j + k]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def _add_three(a, i, j, m, out, o, n):
    """out[o:] = a[i:] + a[j:] + a[m:], n of them."""
    i, j, m, o, n = U(i), U(j), U(m), U(o), U(n)
    for k in range(n):
        out[o + k] = a[i + k] + a[j + k] + a[m + k]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def _energies(a, i, j, m, base, b, scale, columns, lanes, out):
    """out = scale * (a[i:] + a[j:] + a[m:]) - base[b:], base with one number for `lanes`."""
    i, j, m, b, columns, lanes = U(i), U(j), U(m), U(b), U(columns), U(lanes)
    for c in range(columns):
        value, o = base[b + c], c * lanes
        for k in range(lanes):
            out[o + k] = (a[i + o + k] + a[j + o + k] + a[m + o + k]) * scale - value


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def _halve(a, half, out):
    """out = the lesser of a[k] and a[half + k]."""
    half = U(half)
    for k in range(half):
        out[k] = min(a[k], a[half + k])


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def _least(a, n, scratch):
    """The least of a[:n], by halves: LLVM vectorises no other form of it."""
    if n < 2:
        return a[0]
    least, half = a[n - 1], n // 2
    _halve(a, half, scratch)
    while half > 32 and half % 2 == 0:
        half //= 2
        _halve(scratch, half, scratch)
    for k in range(half):
        least = min(least, scratch[k])
    return least


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def _weigh(energies, columns, lanes, floor, z, o):
    """z += 2^-energy, and energies become the weights."""
    n, o = U(columns) * U(lanes), U(o)
    for k in range(n):
        weight = exp2(max(-energies[k], floor))
        energies[k] = weight
        z[o + k] += weight


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def _average(weights, training, i, query, j, columns, lanes, sums, o):
    """sums += weight * (training - query)."""
    i, j, columns, lanes, o = U(i), U(j), U(columns), U(lanes), U(o)
    for c in range(columns):
        value, s = query[j + c], c * lanes
        for k in range(lanes):
            sums[o + s + k] += weights[s + k] * (training[i + s + k] - value)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def _add_squares(weights, n, sums, o):
    n, o = U(n), U(o)
    for k in range(n):
        sums[o + k] += weights[k] * weights[k]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def _flush(lane_sums, o, places, lanes, valid, totals, t):
    """Sums of the valid lanes, added to the totals in float64; the lanes are emptied."""
    for p in range(places):
        total = 0.0
        for k in range(valid):
            total += lane_sums[U(o + p * lanes + k)]
        totals[t + p] += total
    for k in range(places * lanes):
        lane_sums[U(o + k)] = 0


@njit(cache=True, nogil=True, error_model="numpy")
def box_pass(query, training, count, table, shape, half, scale, base, totals, lanes, only_minima):
    r"""Add the training images of some chunks to the sums of every place of one noisy image.

    query : (C (H + 2 half) (W + 2 half),) the padded noisy image, float32 or float64
    training : (chunks, C, H + 2 half, W + 2 half, lanes), flat, padded too
    count : images in all; lanes of the last chunk beyond them hold anything finite
    table : (displacements, 6): rows and columns moved, first and last place allowed, rows (y0, y1) and columns (x0, x1)
    shape : (C, H, W); scale : log2(e)/2t
    base : (H W,) reference of each place, a power of 2: weights are :math:`2^{base-scale\,|x-\xi|^2}`; lowered where a patch is
    much nearer
    totals : (C + 2, H W) float64, added to: sum of weights, of squared weights, of weights times (training - query) at the centre
    only_minima : lower `base` to the least energy met, and add nothing
    """
    C, H, W = shape
    rows_wide, width, places = W + 2 * half, 2 * half + 1, H * W
    kind = query.dtype.type
    above, below, floor = kind(ABOVE), kind(BELOW), kind(LEAST)
    levels = 0
    while (2 << levels) <= width:
        levels += 1
    ring = 2 << levels
    # a width as a sum of powers of 2, largest first, each at its offset
    power, offset, terms, at = np.zeros(16, np.int64), np.zeros(16, np.int64), 0, 0
    for k in range(levels, -1, -1):
        if (width >> k) & 1:
            power[terms], offset[terms] = k, at
            at += 1 << k
            terms += 1
    wide, long = rows_wide * lanes, W * lanes
    along = np.zeros((levels + 3) * wide, query.dtype)  # level k at k * wide; then a row of zeros, and a scratch row
    down = np.zeros(((levels + 1) * ring + 2) * long, query.dtype)  # level k, row r at (k * ring + r mod ring) * long
    none_along, none_down = (levels + 1) * wide, (levels + 1) * ring * long
    energies, scratch, nothing = np.empty(long, query.dtype), np.empty(long, query.dtype), np.zeros(W, query.dtype)
    lane_sums = np.zeros((C + 2) * places * lanes, query.dtype)
    chunks, held = (count + lanes - 1) // lanes, 0
    image = (H + 2 * half) * wide
    for chunk in range(chunks):
        valid = min(lanes, count - chunk * lanes)
        if valid < lanes and held and not only_minima:
            for s in range(C + 2):
                _flush(lane_sums, s * places * lanes, places, lanes, lanes, totals[s], 0)
            held = 0
        for d in range(table.shape[0]):
            dy, dx, y0, y1, x0, x1 = table[d, 0], table[d, 1], table[d, 2], table[d, 3], table[d, 4], table[d, 5]
            columns = x1 - x0 + 2 * half
            n = (x1 - x0) * lanes
            for r in range(y0, y1 + 2 * half):
                for c in range(C):
                    i = (chunk * C + c) * image + (r + dy) * wide + (x0 + dx) * lanes
                    _squares(
                        training, i, query, (c * (H + 2 * half) + r) * rows_wide + x0, columns, lanes, along, c > 0
                    )
                for k in range(levels):
                    step = (1 << k) * lanes
                    _add(along, k * wide, k * wide + step, (k + 1) * wide, columns * lanes - (2 * step - lanes))
                i, j, m = power[0] * wide, none_along, none_along
                if terms > 1:
                    j = power[1] * wide + offset[1] * lanes
                if terms > 2:
                    m = power[2] * wide + offset[2] * lanes
                for b in range(3, terms):
                    _add(along, m, power[b] * wide + offset[b] * lanes, none_along + wide, n)
                    m = none_along + wide
                _add_three(along, i, j, m, down, (r & (ring - 1)) * long, n)
                for k in range(levels):
                    first = r - (2 << k) + 1
                    if first >= y0:
                        o = (k * ring + (first & (ring - 1))) * long
                        _add(down, o, (k * ring + ((first + (1 << k)) & (ring - 1))) * long, o + ring * long, n)
                y = r - width + 1
                if y < y0:
                    continue
                i, j, m = (power[0] * ring + (y & (ring - 1))) * long, none_down, none_down
                if terms > 1:
                    j = (power[1] * ring + ((y + offset[1]) & (ring - 1))) * long
                if terms > 2:
                    m = (power[2] * ring + ((y + offset[2]) & (ring - 1))) * long
                for b in range(3, terms):
                    _add(down, m, (power[b] * ring + ((y + offset[b]) & (ring - 1))) * long, none_down + long, n)
                    m = none_down + long
                place = y * W + x0
                if only_minima:
                    _energies(down, i, j, m, nothing, 0, scale, x1 - x0, lanes, energies)
                    for x in range(x1 - x0):
                        for k in range(valid):
                            base[place + x] = min(base[place + x], energies[x * lanes + k])
                    continue
                _energies(down, i, j, m, base, place, scale, x1 - x0, lanes, energies)
                least = _least(energies, n, scratch)
                if least > below:
                    continue
                if least < -above:
                    _lower(energies, x1 - x0, lanes, above, base, place, totals, lane_sums, places)
                _weigh(energies, x1 - x0, lanes, floor, lane_sums, place * lanes)
                _add_squares(energies, n, lane_sums, (places + place) * lanes)
                for c in range(C):
                    i = (chunk * C + c) * image + (y + half + dy) * wide + (x0 + dx + half) * lanes
                    j = (c * (H + 2 * half) + y + half) * rows_wide + x0 + half
                    _average(
                        energies, training, i, query, j, x1 - x0, lanes, lane_sums, ((c + 2) * places + place) * lanes
                    )
        held += table.shape[0]
        if not only_minima and (held + table.shape[0] > max(1024, table.shape[0]) or chunk == chunks - 1):
            for s in range(C + 2):
                _flush(lane_sums, s * places * lanes, places, lanes, valid, totals[s], 0)
            held = 0


@njit(cache=True, nogil=True, error_model="numpy")
def _lower(energies, columns, lanes, above, base, place, totals, lane_sums, places):
    """Where an energy lies far below the reference it becomes the reference, and the sums so far shrink."""
    for x in range(columns):
        least = energies[x * lanes]
        for k in range(1, lanes):
            least = min(least, energies[x * lanes + k])
        if least < -above:
            base[place + x] += least
            for k in range(lanes):
                energies[x * lanes + k] -= least
            for s in range(totals.shape[0]):
                factor = 2.0 ** (2 * least if s == 1 else least)
                totals[s, place + x] *= factor
                o = (s * places + place + x) * lanes
                for k in range(lanes):
                    lane_sums[o + k] = lane_sums[o + k] * factor
