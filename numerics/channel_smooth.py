"""Moments of a scalar channel ``x = s(h) + noise`` of a tabulated function: the outer integrals over ``omega`` and ``x``.

For every ``omega`` of a mesh the nodes of the inner integral (`inner_peak`) are laid out once, spaced by the narrowest
width the integrand can have there, ``(1/V + beta max s'^2 + ...)^{-1/2}``; the outer rule over ``x`` then depends on who the
teacher is: in law the student himself (`MATCHED`: two outer dimensions), noiseless (`CLEAN`) or noisy (`NOISY`).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .clean_rows import GROUP, clean_rows, kernel_matrix
from .inner_peak import ROWS, SHORT, inner_at, inner_run, monotone_runs, widest_run
from .matched_rows import longest_run, matched_rows
from .meshes import graded_mesh, uniform_mesh
from .tabulated import table_values, table_values_and_slopes

__all__ = ["CLEAN", "MATCHED", "NOISY", "smooth_cell"]

CLEAN, MATCHED, NOISY = 0, 1, 2
REACH = 8.3  # Gaussian sums end here: the density is 1e-15 of its peak
HALF_LOG_2PI = 0.9189385332046727
MOST = 200000.0  # inner nodes; reached only by iterates far from a saddle, or with V >> t and t < 1e-7
MANY = 800  # more uniform nodes than this in one dimension, and another rule is cheaper
ROOM = MANY + 16  # work arrays, for nodes or observations
MATRIX = 4e6  # entries of a kernel matrix


@njit(cache=True, error_model="numpy", fastmath={"nsz", "nnan"})
def _bounds(table, a, b):
    """Largest slope, least slope (0 across a turning point) and largest curvature of the table on [a, b]."""
    edges, _, slopes, slope_max, slope_min, curvature_max, breaks = table
    panels = edges.size - 1
    first = min(max(np.searchsorted(edges, a) - 1, 0), panels - 1)
    last = min(max(np.searchsorted(edges, b), first + 1), panels)
    big, small, bend = 0.0, np.inf, 0.0
    for i in range(first, last):
        big = max(big, slope_max[i])
        small = min(small, slope_min[i])
        bend = max(bend, curvature_max[i])
    if last - first == 1 or (last - first == 2 and breaks[first + 1] == 0):
        # a window narrower than a panel: the slope at its middle, and how much it may change from there
        h = min(max(0.5 * (a + b), edges[first]), edges[last])
        i = first if h < edges[first + 1] else last - 1
        u = 2.0 * (h - edges[i]) / (edges[i + 1] - edges[i]) - 1.0
        slope = slopes[i, 15]
        for k in range(14, -1, -1):
            slope = slope * u + slopes[i, k]
        change = bend * max(h - a, b - h)
        big = min(big, abs(slope) + change)
        small = max(small, abs(slope) - change)
    return big, small, bend


@njit(cache=True, error_model="numpy")
def _width(V, beta, length, big, bend):
    """Narrowest width of the inner integrand; it is singular where s is, at about `length` from the axis."""
    return min(1.0 / np.sqrt(1.0 / V + beta * big * big + np.sqrt(beta) * bend), 0.22 * length)


@njit(cache=True, error_model="numpy")
def _lattice(low, high, reach, cells, V, beta, fine, widest, length, table):
    """One set of equally spaced nodes ``(h, s)`` for all `cells` values of omega in [low, high], where that is cheaper than a
    set for each; else empty. They are at most `widest` apart where that does not take many more of them."""
    root = np.sqrt(V)
    a, b = low - reach * root, high + reach * root
    big, _, bend = _bounds(table, a, b)
    width = _width(V, beta, length, big, bend)
    step = min(fine * width, widest if widest > 0.4 * fine * width else np.inf)
    nodes, window = (b - a) / step, 2.0 * reach * root / step
    # where the width varies with omega, separate sets have fewer nodes
    if width < 0.75 * min(root, 0.22 * length) or cells * window < 2.0 * nodes + 200.0:
        return np.empty(0), np.empty(0)
    h = a + step * (np.arange(int(nodes) + 64) - 16.0)
    s = np.empty(h.size)
    table_values(table[0], table[1], h, h.size, s)
    return h, s


@njit(cache=True, error_model="numpy")
def _gaussian_nodes(first, step, n, omega, V, y, log_w):
    """``y = (h - omega)/sqrt(V)`` and the log of the prior's weight at ``h = first + step j``."""
    root = np.sqrt(V)
    scale, start = step / root, (first - omega) / root
    shift = np.log(scale) - HALF_LOG_2PI
    for j in range(n):
        v = start + scale * j
        y[j] = v
        log_w[j] = shift - 0.5 * v * v


@njit(cache=True, error_model="numpy")
def _panel_nodes(a, b, cuts, panel, omega, V, table, gl_nodes, gl_weights):
    """``s, y, log_w, n`` on Gauss-Legendre panels cut at breakpoints, padded to whole vectors with weightless nodes."""
    h, w = graded_mesh(a, b, cuts, panel, np.inf, panel, gl_nodes, gl_weights)
    n = h.size
    padded = (n + 15) // 16 * 16
    s, y, log_w = np.empty(padded), np.zeros(padded), np.full(padded, -1e300)
    table_values(table[0], table[1], h, n, s)
    s[n:] = s[n - 1]
    root = np.sqrt(V)
    last_w, log_last = 0.0, 0.0
    for j in range(n):
        if w[j] != last_w:
            last_w, log_last = w[j], np.log(w[j] / root) - HALF_LOG_2PI
        y[j] = (h[j] - omega) / root
        log_w[j] = log_last - 0.5 * y[j] * y[j]
    return s, y, log_w, padded if padded <= SHORT else n


@njit(cache=True, error_model="numpy")
def _reached(s, y, n, d, radius):
    """Range of ``x`` that ``s(h) + d noise`` reaches within `radius` standard deviations of (h, noise) together."""
    low, high = np.inf, -np.inf
    for j in range(0, n, 3):
        rest = radius * radius - y[j] * y[j]
        if rest >= 0.0:
            rest = d * np.sqrt(rest)
            low = min(low, s[j] - rest)
            high = max(high, s[j] + rest)
    return low - 0.1 * d, high + 0.1 * d


@njit(cache=True, error_model="numpy")
def _add(out, w, chain, stein, r, k, V):
    """Add row `k` of inner moments with weight `w`."""
    f = r[k, 1] / np.sqrt(V)
    out[0] += w * r[k, 0]
    out[1] += w * f * f
    out[2] += w * (r[k, 2] - 1.0) / V
    out[3] += w * (chain * r[k, 5] + stein * f)
    out[4] += w * r[k, 3]
    out[5] += w * r[k, 4]
    out[6] += w


@njit(cache=True, error_model="numpy")
def _add_matched(out, w, r, k, V, beta):
    r"""`_add` where x has the law that the student believes in, from first moments alone: for every omega, over all x,
    the mean of :math:`\langle d^2\rangle` is 1/beta, and that of :math:`f'` is minus that of :math:`f^2`, f being the score of I.
    """
    f = r[k, 1] / np.sqrt(V)
    out[0] += w * r[k, 0]
    out[1] += w * f * f
    out[2] -= w * f * f
    out[4] += w / beta
    out[5] += w * (1.0 / beta - (r[k, 3] - r[k, 4]))
    out[6] += w


@njit(cache=True, error_model="numpy")
def smooth_cell(q, slope, sigma, V, beta, delta, mode, rule, parity, special, table, gl_nodes, gl_weights, out):
    """All moments of one cell; see `numerics.channel.Channel.moments`."""
    edges, coefficients, slope_coefficients, slope_max, _, curvature_max, breaks = table
    fine, outer, sharp, continuous = rule[0], rule[1], rule[2], rule[3] > 0.0
    out[:] = 0.0
    root_q, root_V, root_s = np.sqrt(q), np.sqrt(V), np.sqrt(sigma)
    noise = 1.0 / np.sqrt(beta)
    d = np.sqrt(delta)
    length = slope_max.max() / max(curvature_max.max(), 1e-12 * slope_max.max() + 1e-300)
    feature = np.sqrt(V + sigma)
    narrow = 2.0 * outer * feature  # of f^2 between two levels of s that compete, over omega: V over their distance
    # zeros of t + V s'^2 approach the axis, slowly, as V/t grows
    field = rule[4] / np.sqrt(1.0 + 0.25 * np.log(1.0 + beta * V))
    low = 0.0 if parity != 0 else -REACH * root_q
    high = REACH * root_q
    if q <= 1e-12 * V:
        omega, w_omega = np.zeros(1), np.full(1, root_q * np.exp(HALF_LOG_2PI) * (0.5 if parity != 0 else 1.0))
    elif special.size == 0 or narrow > high:
        omega, w_omega = uniform_mesh(low, high, min(outer * root_q, field * np.sqrt(length * length + V)))
    else:
        wide = 3.0 * outer * min(root_q, np.sqrt(length * length + V)) * 1.5
        omega, w_omega = graded_mesh(low, high, special, min(narrow, wide), 10.0 * feature, wide, gl_nodes, gl_weights)
    total = 1.0 if parity == 0 else 2.0
    cuts = edges[breaks == 1]
    # only iterates far from any saddle have a teacher far outside the student's prior; their windows vary with omega
    furthest = REACH * max(1.0, root_s / root_V) + abs(1.0 - slope) * high / root_V
    apart = min(outer * root_s, 1.3 * field * np.sqrt(length * length + sigma))  # nodes of the teacher
    stars, star_values, star_slopes = np.empty(0), np.empty(0), np.empty(0)
    nodes, lattice = np.empty(0), np.empty(0)
    kernel = np.empty((0, 0))
    exps = served = 0
    if furthest < 2.0 * REACH and cuts.size == 0:
        widest = apart if mode == CLEAN else np.inf
        nodes, lattice = _lattice(low, high, furthest, omega.size, V, beta, fine, widest, length, table)
    lattice_step = nodes[1] - nodes[0] if nodes.size > 0 else 0.0
    if 0.0 < lattice_step <= apart * (1.0 + 1e-9) and mode == CLEAN and special.size == 0:
        stride = max(1, int(apart / lattice_step + 1e-9))
        size = (nodes.size - 1) // stride + 1
        rows = 2.0 * REACH * root_s / (stride * lattice_step) + 3.0 * GROUP  # of one omega, at most
        columns = 2.0 * furthest * root_V / lattice_step
        # far omega share no pair of nodes: where the lattice is long most of the matrix would serve none
        if rows <= size and size * nodes.size <= min(MATRIX, 0.5 * omega.size * rows * columns):
            stars = nodes[::stride].copy()
            star_values, star_slopes = np.empty(size), np.empty(size)
            table_values_and_slopes(edges, coefficients, slope_coefficients, stars, size, star_values, star_slopes)
            kernel = kernel_matrix(star_values, beta, lattice)
            exps += kernel.size
    result = np.empty((ROWS, 6))
    buffer = np.empty((4, 2 * SHORT))
    one_run = np.zeros(2, dtype=np.int64)
    e, p, scale, ratio, gap = np.empty(ROOM), np.empty(ROOM), np.empty(ROOM), np.empty(ROOM), np.empty(ROOM)
    sums = np.empty((7, ROOM))
    bits, spans = scale.view(np.int64), np.empty((1, 2), dtype=np.int64)
    for i in range(omega.size):
        om = omega[i]
        w_om = total * w_omega[i] * np.exp(-0.5 * om * om / q - HALF_LOG_2PI) / root_q
        centre = slope * om
        # what is left for the other Gaussians when omega itself lies far out
        radius = np.sqrt(max(REACH * REACH - om * om / q, 4.0))
        own = radius if mode == MATCHED else REACH  # a mismatched student may sit in the tail of his prior
        reach = min(own * max(1.0, root_s / root_V) + abs(centre - om) / root_V, 12.0 * REACH)
        a, b = om - reach * root_V, om + reach * root_V
        big, small, bend = _bounds(table, a, b)
        inside = special[(special > a) & (special < b)] if special.size else special
        bent = inside.size > 0  # a turning point or break in the window: two or more levels compete
        first = 0
        if lattice_step > 0.0:
            first = int((a - nodes[0]) / lattice_step)
            n = (int((b - a) / lattice_step) + 17) // 16 * 16
            if n > buffer.shape[1]:
                buffer = np.empty((4, n))
            s, y, log_w = lattice[first : first + n], buffer[1, :n], buffer[2, :n]
            _gaussian_nodes(nodes[first], lattice_step, n, om, V, y, log_w)
        else:
            step = fine * max(_width(V, beta, length, big, bend), (b - a) / (fine * MOST))
            broken = cuts.size > 0 and ((cuts > a) & (cuts < b)).any()
            if broken:
                within = cuts[(cuts > a) & (cuts < b)]
                s, y, log_w, n = _panel_nodes(a, b, within, 4.0 * step, om, V, table, gl_nodes, gl_weights)
            else:
                n = (int((b - a) / step) + 17) // 16 * 16
                if n > buffer.shape[1]:
                    buffer = np.empty((4, n))
                s, y, log_w, h = buffer[0, :n], buffer[1, :n], buffer[2, :n], buffer[3, :n]
                for j in range(n):
                    h[j] = a + step * j
                table_values(edges, coefficients, h, n, s)
                _gaussian_nodes(a, step, n, om, V, y, log_w)
        if bent and n > SHORT:
            runs = monotone_runs(s, n)
        else:
            one_run[1] = n
            runs = one_run
        if runs.size > spans.shape[0]:
            spans = np.empty((runs.size, 2), dtype=np.int64)
        if n > e.size:
            e, p, scale, ratio, gap = np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(n)
            bits = scale.view(np.int64)
        slack = 40.0 + 0.5 * reach * reach
        if mode == MATCHED:
            x_low, x_high = _reached(s, y, n, d, radius)
            least = 0.0 if bent else small
            step = (sharp if bent else outer) * np.sqrt(delta + V * least * least)
            count = (x_high - x_low) / step
        if mode == MATCHED and count <= MANY and longest_run(step, beta) > 0:
            spent, more = matched_rows(
                x_low, x_high, step, w_om * np.exp(-HALF_LOG_2PI) / noise, V, beta, s, log_w, y, n, runs, slack,
                gap, ratio, e, p, scale, bits, spans, sums, result, out,
            )  # fmt: skip
            exps += spent
            served += more
            continue
        if mode == MATCHED and (bent or count <= MANY):
            if count <= MANY:
                x, w_x = uniform_mesh(x_low, x_high, step)
            else:
                # levels s at turning points and breaks are where the law of x has features; away from them it is smooth
                # on the scale sqrt(delta + V s'^2) with s'^2 = 2 |s''| d at distance d from such a level
                levels = np.empty(inside.size)
                table_values(edges, coefficients, inside, inside.size, levels)
                x, w_x = graded_mesh(
                    x_low, x_high, levels, 3.0 * step, 8.0 * d, 3.0 * outer * root_V, gl_nodes, gl_weights,
                    (2.0 * outer) ** 2 * V * bend,
                )  # fmt: skip
            for k in range(x.size):
                spent = inner_at(x[k], beta, s, log_w, y, n, runs, slack, e, p, scale, bits, spans, result, 0)
                exps += spent
                served += spent
                # the law of x is the inner integral itself
                w = w_om * w_x[k] * np.exp(result[0, 0] - HALF_LOG_2PI) / noise
                _add_matched(out, w, result, 0, V, beta)
            continue
        a, b = centre - radius * root_s, centre + radius * root_s
        inside = special[(special > a) & (special < b)] if special.size else special
        row = 0
        if kernel.size > 0:
            step = stars[1] - stars[0]
            row = max(int((a - stars[0]) / step), 0)
            row = min(row, stars.size - (int((b - a) / step) + 2 * GROUP) // GROUP * GROUP)
            star = stars[row : row + (int((b - a) / step) + 2 * GROUP) // GROUP * GROUP]
            w_star, x_star, s_star = np.full(star.size, step), star_values[row:], star_slopes[row:]
        else:
            if inside.size == 0:
                star, w_star = uniform_mesh(a, b, apart, GROUP)
            else:
                close = min(root_s, np.sqrt((noise + d) / bend), root_V + noise)
                star, w_star = graded_mesh(
                    a, b, inside, 2.0 * outer * close, 6.0 * close, 3.0 * outer * root_s, gl_nodes, gl_weights
                )
            x_star, s_star = np.empty(star.size), np.empty(star.size)
            table_values_and_slopes(edges, coefficients, slope_coefficients, star, star.size, x_star, s_star)
        # d f/d h* = s'(h*) d f/dx where s has no jumps; Stein's form, noisy when sigma is small, where it has
        chain, stein = np.zeros(star.size), np.zeros(star.size)
        for j in range(star.size):
            u = (star[j] - centre) / root_s
            w_star[j] *= w_om * np.exp(-0.5 * u * u - HALF_LOG_2PI) / root_s
            if continuous:
                chain[j] = -s_star[j] * beta / root_V
            else:
                stein[j] = u / root_s
        if mode == CLEAN:
            if star.size > e.size:
                e, p, scale = np.empty(star.size), np.empty(star.size), np.empty(star.size)
                ratio, gap = np.empty(star.size), np.empty(star.size)
                bits = scale.view(np.int64)
            if star.size > sums.shape[1]:
                sums = np.empty((7, star.size))
            spent, more = clean_rows(
                x_star, w_star, chain, stein, star.size, V, beta, s, log_w, y, n, runs, slack, kernel, row, first,
                gap, e, p, scale, bits, spans, sums, result, out,
            )  # fmt: skip
            exps += spent
            served += more
            continue
        z, w_z = uniform_mesh(-radius, radius, sharp if bent or special.size > 0 else outer, ROWS)
        run = widest_run(d * (z[1] - z[0]), beta)
        for k in range(z.size):
            w_z[k] *= np.exp(-0.5 * z[k] * z[k] - HALF_LOG_2PI)
        for j in range(star.size):
            if w_star[j] < 1e-18:
                continue
            for first in range(0, z.size, run):
                x_first = x_star[j] + d * z[first]
                if run > 1:
                    step = d * (z[1] - z[0])
                    spent, more = inner_run(
                        x_first, step, run, beta, s, log_w, y, n, runs, slack, e, p, scale, bits, ratio, spans, result
                    )
                elif w_star[j] * w_z[first] >= 1e-18:
                    spent = inner_at(x_first, beta, s, log_w, y, n, runs, slack, e, p, scale, bits, spans, result, 0)
                    more = spent
                else:
                    continue
                exps += spent
                served += more
                for k in range(run):
                    _add(out, w_star[j] * w_z[first + k], chain[j], stein[j], result, k, V)
    out[7], out[8] = exps, served
