"""Moments of a scalar channel ``x = s(h) + noise`` of a tabulated function: the outer integrals over ``omega`` and ``x``.

For every ``omega`` of a mesh the nodes of the inner integral (`inner_peak`) are laid out once, spaced by the narrowest
width the integrand can have there, ``(1/V + beta max s'^2 + ...)^{-1/2}``; the outer rule over ``x`` then depends on who the
teacher is: in law the student himself (`MATCHED`: two outer dimensions), noiseless (`CLEAN`) or noisy (`NOISY`).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .inner_peak import ROWS, SHORT, inner_at, inner_run, longest_run, monotone_runs
from .meshes import graded_mesh, uniform_mesh
from .tabulated import table_values, table_values_and_slopes

__all__ = ["CLEAN", "MATCHED", "NOISY", "smooth_cell"]

CLEAN, MATCHED, NOISY = 0, 1, 2
REACH = 8.3  # Gaussian sums end here: the density is 1e-15 of its peak
HALF_LOG_2PI = 0.9189385332046727
MOST = 200000.0  # inner nodes; reached only by iterates far from a saddle, or with V >> t and t < 1e-7
MANY = 800  # more uniform nodes than this in one dimension, and another rule is cheaper


@njit(cache=True, error_model="numpy")
def _bounds(table, a, b):
    """Largest slope, least slope (0 across a turning point) and largest curvature of the table on [a, b]."""
    edges, _, slope_max, slope_min, curvature_max, _ = table
    big, small, bend = 0.0, np.inf, 0.0
    i = min(max(np.searchsorted(edges, a) - 1, 0), edges.size - 2)
    while i <= edges.size - 2 and (edges[i] < b or i == 0):
        big = max(big, slope_max[i])
        small = min(small, slope_min[i])
        bend = max(bend, curvature_max[i])
        i += 1
    return big, small, bend


@njit(cache=True, error_model="numpy")
def _width(V, beta, length, big, bend):
    """Narrowest width of the inner integrand; it is singular where s is, at about `length` from the axis."""
    return min(1.0 / np.sqrt(1.0 / V + beta * big * big + np.sqrt(beta) * bend), 0.22 * length)


@njit(cache=True, error_model="numpy")
def _lattice(low, high, cells, V, beta, fine, length, table):
    """One set of equally spaced nodes ``(start, step, s)`` for all `cells` values of omega in [low, high], where that is
    cheaper than a set for each; else `step` is 0."""
    root = np.sqrt(V)
    a, b = low - REACH * root, high + REACH * root
    big, _, bend = _bounds(table, a, b)
    width = _width(V, beta, length, big, bend)
    step = fine * width
    nodes, window = (b - a) / step, 2.0 * REACH * root / step
    # where the width varies with omega, separate sets have fewer nodes
    if width < 0.75 * min(root, 0.22 * length) or cells * window < 2.0 * nodes + 200.0:
        return a, 0.0, np.empty(0)
    a -= 16.0 * step
    n = int(nodes) + 64
    h, s = np.empty(n), np.empty(n)
    for j in range(n):
        h[j] = a + step * j
    table_values(table[0], table[1], h, n, s)
    return a, step, s


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
    edges, coefficients, slope_max, _, curvature_max, breaks = table
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
    cuts = edges[breaks == 1]
    # only iterates far from any saddle have a teacher outside the student's prior; their windows vary with omega
    usual = root_s <= root_V and abs(1.0 - slope) * REACH * root_q < 1e-3 * root_V
    start, lattice_step, lattice = 0.0, 0.0, np.empty(0)
    if usual and cuts.size == 0:
        start, lattice_step, lattice = _lattice(low, high, omega.size, V, beta, fine, length, table)
    result = np.empty((ROWS, 6))
    buffer = np.empty((4, 2 * SHORT))
    one_run = np.zeros(2, dtype=np.int64)
    e, p, scale, ratio = np.empty(2 * SHORT), np.empty(2 * SHORT), np.empty(2 * SHORT), np.empty(2 * SHORT)
    bits, spans = scale.view(np.int64), np.empty((1, 2), dtype=np.int64)
    exps = 0.0
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
        if lattice_step > 0.0:
            first = int((a - start) / lattice_step)
            n = (int((b - a) / lattice_step) + 17) // 16 * 16
            if n > buffer.shape[1]:
                buffer = np.empty((4, n))
            s, y, log_w = lattice[first : first + n], buffer[1, :n], buffer[2, :n]
            _gaussian_nodes(start + lattice_step * first, lattice_step, n, om, V, y, log_w)
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
            e, p, scale, ratio = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
            bits = scale.view(np.int64)
        slack = 40.0 + 0.5 * reach * reach
        if mode == MATCHED:
            x_low, x_high = _reached(s, y, n, d, radius)
            least = 0.0 if bent else small
            step = (sharp if bent else outer) * np.sqrt(delta + V * least * least)
            count = (x_high - x_low) / step
        if mode == MATCHED and (bent or count <= MANY):
            run = 1
            if count <= MANY:
                x, w_x = uniform_mesh(x_low, x_high, step, ROWS)
                run = longest_run(x[1] - x[0], beta)
            else:
                # levels s at turning points and breaks are where the law of x has features; away from them it is smooth
                # on the scale sqrt(delta + V s'^2) with s'^2 = 2 |s''| d at distance d from such a level
                levels = np.empty(inside.size)
                table_values(edges, coefficients, inside, inside.size, levels)
                x, w_x = graded_mesh(
                    x_low, x_high, levels, 3.0 * step, 8.0 * d, 3.0 * outer * root_V, gl_nodes, gl_weights,
                    (2.0 * outer) ** 2 * V * bend,
                )  # fmt: skip
            for first in range(0, x.size, run):
                m = min(run, x.size - first)
                if run > 1:
                    exps += inner_run(
                        x[first],
                        x[1] - x[0],
                        m,
                        beta,
                        s,
                        log_w,
                        y,
                        n,
                        runs,
                        slack,
                        e,
                        p,
                        scale,
                        bits,
                        ratio,
                        spans,
                        True,
                        result,
                    )
                else:
                    exps += inner_at(x[first], beta, s, log_w, y, n, runs, slack, e, p, scale, bits, spans, result, 0)
                for k in range(m):
                    # the law of x is the inner integral itself
                    w = w_om * w_x[first + k] * np.exp(result[k, 0] - HALF_LOG_2PI) / noise
                    _add_matched(out, w, result, k, V, beta)
            continue
        a, b = centre - radius * root_s, centre + radius * root_s
        inside = special[(special > a) & (special < b)]
        if inside.size == 0:
            star, w_star = uniform_mesh(a, b, min(outer * root_s, 1.3 * field * np.sqrt(length * length + sigma)))
        else:
            narrow = min(root_s, np.sqrt((noise + d) / bend), root_V + noise)
            star, w_star = graded_mesh(
                a, b, inside, 2.0 * outer * narrow, 6.0 * narrow, 3.0 * outer * root_s, gl_nodes, gl_weights
            )
        x_star, s_star = np.empty(star.size), np.empty(star.size)
        table_values_and_slopes(edges, coefficients, star, star.size, x_star, s_star)
        run = 1
        if mode == CLEAN:
            z, w_z = np.zeros(1), np.ones(1)
        else:
            z, w_z = uniform_mesh(-radius, radius, sharp if bent or special.size > 0 else outer, ROWS)
            run = longest_run(d * (z[1] - z[0]), beta)
            for k in range(z.size):
                w_z[k] *= np.exp(-0.5 * z[k] * z[k] - HALF_LOG_2PI)
        for j in range(star.size):
            u = (star[j] - centre) / root_s
            w_j = w_om * w_star[j] / root_s * np.exp(-0.5 * u * u - HALF_LOG_2PI)
            if w_j < 1e-18:
                continue
            # d f/d h* = s'(h*) d f/dx where s has no jumps; Stein's form, noisy when sigma is small, where it has
            chain = -s_star[j] * beta / root_V if continuous else 0.0
            stein = 0.0 if continuous else u / root_s
            for first in range(0, z.size, run):
                x_first = x_star[j] + d * z[first]
                if run > 1:
                    step = d * (z[1] - z[0])
                    exps += inner_run(
                        x_first,
                        step,
                        run,
                        beta,
                        s,
                        log_w,
                        y,
                        n,
                        runs,
                        slack,
                        e,
                        p,
                        scale,
                        bits,
                        ratio,
                        spans,
                        False,
                        result,
                    )
                elif w_j * w_z[first] >= 1e-18:
                    exps += inner_at(x_first, beta, s, log_w, y, n, runs, slack, e, p, scale, bits, spans, result, 0)
                else:
                    continue
                for k in range(run):
                    _add(out, w_j * w_z[first + k], chain, stein, result, k, V)
    out[7] = exps
