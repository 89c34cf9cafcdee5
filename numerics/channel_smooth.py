"""Moments of a scalar channel ``x = s(h) + noise`` by fused, vectorised, windowed quadrature, for a tabulated function.

Inner integral, for given ``omega`` and ``x`` (`V` prior variance, `beta` inverse noise variance):
``I(x; omega) = E_{h ~ N(omega, V)} exp(-beta (x - s(h))^2 / 2)``. Its nodes depend on ``omega`` only: they cover the
prior's window and are spaced by the narrowest width the integrand can have there, ``(1/V + beta max s'^2 + ...)^{-1/2}``.
When that is a narrow peak the nodes are many, but each ``x`` uses only those within the peak, found by bisection on the
monotone runs of ``s``; so the cost stays that of some fifty exponentials for every noise level.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .fast_exp import exp_block
from .meshes import graded_mesh, uniform_mesh
from .tabulated import table_slopes, table_values

__all__ = ["CLEAN", "MATCHED", "NOISY", "smooth_cell"]

CLEAN, MATCHED, NOISY = 0, 1, 2
REACH = 8.3  # Gaussian sums end here: the density is 1e-15 of its peak
HALF_LOG_2PI = 0.9189385332046727
MOST = 200000.0  # inner nodes; reached only by iterates far from a saddle, or with V >> t and t < 1e-7
MANY = 800  # more uniform nodes than this in one dimension, and another rule is cheaper


@njit(cache=True, error_model="numpy", fastmath={"contract", "nsz", "nnan", "reassoc"})
def _exponents(x, beta, s, log_w, n, out):
    """``out = log_w - beta (x-s)^2 / 2``; returns the largest. Indices are plain, or the loop would not vectorise."""
    top = -np.inf
    half = 0.5 * beta
    for j in range(n):
        d = x - s[j]
        e = log_w[j] - half * d * d
        out[j] = e
        top = max(top, e)
    return top


@njit(cache=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"})
def _sums(x, s, y, n, p):
    s0 = s1 = s2 = d1 = d2 = c = 0.0
    for j in range(n):
        w = p[j]
        v = y[j]
        d = x - s[j]
        wv = w * v
        wd = w * d
        s0 += w
        s1 += wv
        s2 += wv * v
        d1 += wd
        d2 += wd * d
        c += wv * d
    return s0, s1, s2, d1, d2, c


@njit(cache=True, error_model="numpy")
def _lower_bound(s, first, last, value, increasing):
    """First index in ``[first, last)`` whose `s` is not before `value` in the run's direction."""
    low, high = first, last
    while low < high:
        middle = (low + high) // 2
        if (s[middle] < value) if increasing else (s[middle] > value):
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, error_model="numpy")
def _runs(s, n):
    """Starts of the monotone runs of ``s[:n]``, with `n` at the end."""
    starts = [0]
    direction = 0
    for j in range(1, n):
        change = s[j] - s[j - 1]
        # rounding noise where s is flat is no turning point
        now = 0 if abs(change) < 1e-14 * (1.0 + abs(s[j])) else (1 if change > 0.0 else -1)
        if now != 0 and direction != 0 and now != direction:
            starts.append(j)
            direction = 0
        elif now != 0:
            direction = now
    starts.append(n)
    return np.array(starts)


@njit(cache=True, error_model="numpy")
def _windows(x, beta, s, runs, slack, spans):
    """Index ranges of the nodes that matter for `x`: those with ``beta d^2/2`` within `slack` of the least one."""
    nearest = np.inf
    for r in range(runs.size - 1):
        a, b = s[runs[r]], s[runs[r + 1] - 1]
        nearest = min(nearest, max(min(a, b) - x, x - max(a, b), 0.0))
    radius = np.sqrt(nearest * nearest + 2.0 * slack / beta)
    count = 0
    for r in range(runs.size - 1):
        first, last = runs[r], runs[r + 1]
        increasing = s[last - 1] >= s[first]
        left, right = (x - radius, x + radius) if increasing else (x + radius, x - radius)
        i = max(first, _lower_bound(s, first, last, left, increasing) - 1)
        j = min(last, _lower_bound(s, first, last, right, increasing) + 1)
        if j > i:
            spans[count, 0], spans[count, 1] = i, j
            count += 1
    return count


@njit(cache=True, error_model="numpy")
def _posterior(top, s0, s1, s2, d1, d2, c0, out):
    mean = s1 / s0
    gap = d1 / s0
    out[0] = top + np.log(s0)
    out[1] = mean
    out[2] = s2 / s0 - mean * mean
    out[3] = d2 / s0
    out[4] = out[3] - gap * gap
    out[5] = c0 / s0 - mean * gap


@njit(cache=True, error_model="numpy")
def _inner(x, beta, s, log_w, y, n, runs, slack, spans, e, p, scale, bits, out):
    """Log of the inner integral, mean and variance of ``y``, of ``d = x - s`` mean square, variance, covariance with `y`."""
    if n <= 96:
        top = _exponents(x, beta, s, log_w, n, e)
        exp_block(e, n, top, p, scale, bits)
        s0, s1, s2, d1, d2, c0 = _sums(x, s, y, n, p)
        _posterior(top, s0, s1, s2, d1, d2, c0, out)
        return n
    count = _windows(x, beta, s, runs, slack, spans)
    top = -np.inf
    offset = 0
    for c in range(count):
        i, j = spans[c, 0], spans[c, 1]
        top = max(top, _exponents(x, beta, s[i:j], log_w[i:j], j - i, e[offset:]))
        offset += j - i
    exp_block(e, offset, top, p, scale, bits)
    s0 = s1 = s2 = d1 = d2 = c0 = 0.0
    used = 0
    for c in range(count):
        i, j = spans[c, 0], spans[c, 1]
        m = j - i
        a0, a1, a2, b1, b2, c1 = _sums(x, s[i:j], y[i:j], m, p[used:])
        s0 += a0
        s1 += a1
        s2 += a2
        d1 += b1
        d2 += b2
        c0 += c1
        used += m
    _posterior(top, s0, s1, s2, d1, d2, c0, out)
    return offset


@njit(cache=True, error_model="numpy")
def _bounds(edges, slope_max, slope_min, curvature_max, a, b):
    """Largest slope, least slope (0 across a turning point) and largest curvature of the table on [a, b]."""
    big, small, bend = 0.0, np.inf, 0.0
    i = min(max(np.searchsorted(edges, a) - 1, 0), edges.size - 2)
    while i <= edges.size - 2 and (edges[i] < b or i == 0):
        big = max(big, slope_max[i])
        small = min(small, slope_min[i])
        bend = max(bend, curvature_max[i])
        i += 1
    return big, small, bend


@njit(cache=True, error_model="numpy")
def _inner_nodes(
    omega, V, beta, reach, fine, length, edges, slope_max, slope_min, curvature_max, breaks, gl_nodes, gl_weights
):
    """Nodes ``h`` and weights of the inner integral: trapezoidal, or Gauss-Legendre panels cut at breakpoints."""
    root = np.sqrt(V)
    a, b = omega - reach * root, omega + reach * root
    big, small, bend = _bounds(edges, slope_max, slope_min, curvature_max, a, b)
    width = 1.0 / np.sqrt(1.0 / V + beta * big * big + np.sqrt(beta) * bend)
    width = min(
        width, 0.22 * length
    )  # the integrand is singular where s is, at a distance of about `length` from the axis
    width = max(width, (b - a) / (fine * MOST))
    cuts = edges[(breaks == 1) & (edges > a) & (edges < b)]
    if cuts.size == 0:
        h, w = uniform_mesh(a, b, fine * width)
    else:
        h, w = graded_mesh(a, b, cuts, 4.0 * fine * width, np.inf, 4.0 * fine * width, gl_nodes, gl_weights)
    return h, w, small, bend


@njit(cache=True, error_model="numpy")
def smooth_cell(q, slope, sigma, V, beta, delta, mode, rule, parity, special, table, gl_nodes, gl_weights, out):
    """All moments of one cell; see `numerics.channel.channel_moments`."""
    edges, coefficients, slope_max, slope_min, curvature_max, breaks = table
    fine, outer, sharp, continuous = rule[0], rule[1], rule[2], rule[3] > 0.0
    out[:] = 0.0
    root_q, root_V, root_s = np.sqrt(q), np.sqrt(V), np.sqrt(sigma)
    noise = 1.0 / np.sqrt(beta)
    d = np.sqrt(delta)
    length = slope_max.max() / max(curvature_max.max(), 1e-12 * slope_max.max() + 1e-300)
    feature = np.sqrt(V + sigma)
    # zeros of t + V s'^2 approach the axis, slowly, as V/t grows
    field = rule[4] / np.sqrt(1.0 + 0.25 * np.log(1.0 + beta * V))
    low = 0.0 if parity != 0 else -REACH * root_q
    high = REACH * root_q
    if q <= 1e-12 * V:
        omega, w_omega = np.zeros(1), np.full(1, root_q * np.exp(HALF_LOG_2PI) * (0.5 if parity != 0 else 1.0))
    elif special.size == 0 or 3.0 * outer * feature > high:
        omega, w_omega = uniform_mesh(low, high, min(outer * root_q, field * np.sqrt(length * length + V)))
    else:
        narrow = 3.0 * outer * feature
        wide = 3.0 * outer * min(root_q, np.sqrt(length * length + V)) * 1.5
        omega, w_omega = graded_mesh(low, high, special, min(narrow, wide), 10.0 * feature, wide, gl_nodes, gl_weights)
    total = 1.0 if parity == 0 else 2.0
    result = np.empty(6)
    exps = 0.0
    for i in range(omega.size):
        om = omega[i]
        w_om = total * w_omega[i] * np.exp(-0.5 * om * om / q - HALF_LOG_2PI) / root_q
        centre = slope * om
        # only iterates far from any saddle have a teacher this far outside the student's prior
        reach = min(REACH * max(1.0, root_s / root_V) + abs(centre - om) / root_V, 12.0 * REACH)
        h, w_h, small, bend = _inner_nodes(
            om, V, beta, reach, fine, length, edges, slope_max, slope_min, curvature_max, breaks, gl_nodes, gl_weights
        )
        n = h.size
        padded = (n + 15) // 16 * 16  # whole vectors: the remainder of a vectorised loop would cost as much again
        s = np.empty(padded)
        y = np.zeros(padded)
        log_w = np.full(padded, -1e300)
        table_values(edges, coefficients, h, n, s)
        s[n:] = s[n - 1]
        last_w, log_last = 0.0, 0.0
        for j in range(n):
            if w_h[j] != last_w:
                last_w, log_last = w_h[j], np.log(w_h[j] / root_V) - HALF_LOG_2PI
            y[j] = (h[j] - om) / root_V
            log_w[j] = log_last - 0.5 * y[j] * y[j]
        if padded <= 96:
            n = padded
        runs = _runs(s, n)
        spans = np.empty((runs.size, 2), dtype=np.int64)
        e, p, scale = np.empty(n + 8), np.empty(n + 8), np.empty(n + 8)
        bits = scale.view(np.int64)
        slack = 40.0 + 0.5 * reach * reach
        # a turning point or break in the window: two or more levels compete
        bent = ((special > h[0]) & (special < h[h.size - 1])).any()
        if mode == MATCHED:
            # x ranges over what s(h) + noise reaches within REACH standard deviations of (h, noise) together
            x_low, x_high = np.inf, -np.inf
            for j in range(h.size):
                rest = REACH * REACH - y[j] * y[j]
                if rest >= 0.0:
                    x_low = min(x_low, s[j] - d * np.sqrt(rest))
                    x_high = max(x_high, s[j] + d * np.sqrt(rest))
            least = 0.0 if bent else small
            step = (sharp if bent else outer) * np.sqrt(delta + V * least * least)
            count = (x_high - x_low) / step
        if mode == MATCHED and (bent or count <= MANY):
            if count <= MANY:
                x, w_x = uniform_mesh(x_low, x_high, step)
            else:
                # levels s at turning points and breaks are where the law of x has features; away from them it is smooth
                # on the scale sqrt(delta + V s'^2) with s'^2 = 2 |s''| d at distance d from such a level
                inside = special[(special > h[0]) & (special < h[h.size - 1])]
                levels = np.empty(inside.size)
                table_values(edges, coefficients, inside, inside.size, levels)
                x, w_x = graded_mesh(
                    x_low, x_high, levels, 3.0 * step, 8.0 * d, 3.0 * outer * root_V, gl_nodes, gl_weights,
                    (2.0 * outer) ** 2 * V * bend,
                )  # fmt: skip
            for j in range(x.size):
                exps += _inner(x[j], beta, s, log_w, y, n, runs, slack, spans, e, p, scale, bits, result)
                w = w_om * w_x[j] * np.exp(result[0] - HALF_LOG_2PI) / noise
                out[0] += w * result[0]
                out[1] += w * result[1] * result[1] / V
                out[2] += w * (result[2] - 1.0) / V
                out[4] += w * result[3]
                out[5] += w * result[4]
                out[6] += w
            continue
        a, b = centre - REACH * root_s, centre + REACH * root_s
        inside = special[(special > a) & (special < b)]
        if inside.size == 0:
            star, w_star = uniform_mesh(a, b, min(outer * root_s, 1.3 * field * np.sqrt(length * length + sigma)))
        else:
            narrow = min(root_s, np.sqrt((noise + d) / bend), root_V + noise)
            star, w_star = graded_mesh(
                a, b, inside, 2.0 * outer * narrow, 6.0 * narrow, 3.0 * outer * root_s, gl_nodes, gl_weights
            )
        x_star = np.empty(star.size)
        table_values(edges, coefficients, star, star.size, x_star)
        s_star = np.empty(star.size)
        table_slopes(edges, coefficients, star, star.size, s_star)
        if mode == CLEAN:
            z, w_z = np.zeros(1), np.ones(1)
        else:
            z, w_z = uniform_mesh(-REACH, REACH, sharp if bent or special.size > 0 else outer)
            for k in range(z.size):
                w_z[k] *= np.exp(-0.5 * z[k] * z[k] - HALF_LOG_2PI)
        for j in range(star.size):
            u = (star[j] - centre) / root_s
            w_j = w_om * w_star[j] / root_s * np.exp(-0.5 * u * u - HALF_LOG_2PI)
            for k in range(z.size):
                w = w_j * w_z[k]
                if w < 1e-18:
                    continue
                exps += _inner(
                    x_star[j] + d * z[k], beta, s, log_w, y, n, runs, slack, spans, e, p, scale, bits, result
                )
                f = result[1] / root_V
                out[0] += w * result[0]
                out[1] += w * f * f
                out[2] += w * (result[2] - 1.0) / V
                # d f/d h* = s'(h*) d f/dx where s has no jumps; Stein's form, noisy when sigma is small, where it has
                out[3] += w * (-s_star[j] * beta * result[5] / root_V if continuous else u * f / root_s)
                out[4] += w * result[3]
                out[5] += w * result[4]
                out[6] += w
    out[7] = exps
