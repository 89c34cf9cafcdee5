"""Moments of a scalar channel ``x = s(h) + noise`` of a tabulated function: the outer integral over ``omega``.

For every ``omega`` of a mesh the nodes of the inner integral are laid out once (`inner_nodes`); the outer rule over ``x`` then
depends on who the teacher is: in law the student himself (`MATCHED`: two outer dimensions, `matched_rows`), noiseless
(`CLEAN`, `clean_rows`) or noisy (`NOISY`, `noisy_rows`). What is called once an ``omega`` is inlined where it is written
(``inline="always"``): to hand over so many arrays costs up to a tenth of the cell, measured.
"""

from __future__ import annotations

import numpy as np

from numerics.channel.clean_rows import clean_rows, kernel_matrix
from numerics.channel.inner_nodes import bounds, lattice_nodes, own_nodes, shared_lattice, width
from numerics.channel.inner_peak import ROWS, SHORT, monotone_runs
from numerics.channel.matched_rows import longest_run, matched_rows, matched_singly, observed_range
from numerics.channel.noisy_rows import noisy_rows
from numerics.channel.teacher_nodes import lattice_teachers, teacher_nodes
from numerics.elementary import table_values
from numerics.kernel_cache import njit
from numerics.quadrature import HALF_LOG_2PI, REACH, graded_mesh, uniform_mesh

__all__ = ["CLEAN", "MATCHED", "NOISY", "smooth_cell"]

CLEAN, MATCHED, NOISY = 0, 1, 2
MOST = 200000.0  # inner nodes; reached only by iterates far from a saddle, or with V >> t and t < 1e-7
MANY = 800  # more uniform nodes than this in one dimension, and another rule is cheaper
ROOM = MANY + 16  # work arrays, for nodes or observations


@njit(cache=True, error_model="numpy", inline="always")
def _omega_mesh(low, high, q, V, sigma, length, outer, field, parity, special, gl_nodes, gl_weights):
    """Nodes ``omega`` and weights, without the Gaussian's exponential, of the average over N(0, q)."""
    root_q = np.sqrt(q)
    if q <= 1e-12 * V:
        return np.zeros(1), np.full(1, root_q * np.exp(HALF_LOG_2PI) * (0.5 if parity != 0 else 1.0))
    feature = np.sqrt(V + sigma)
    narrow = 2.0 * outer * feature  # of f^2 between two levels of s that compete, over omega: V over their distance
    if special.size == 0 or narrow > high:
        return uniform_mesh(low, high, min(outer * root_q, field * np.sqrt(length * length + V)))
    wide = 3.0 * outer * min(root_q, np.sqrt(length * length + V)) * 1.5
    return graded_mesh(low, high, special, min(narrow, wide), 10.0 * feature, wide, gl_nodes, gl_weights)


@njit(cache=True, error_model="numpy", inline="always")
def _observation_mesh(low, high, step, few, inside, table, V, bend, d, outer, gl_nodes, gl_weights):
    """Mesh of ``x``: uniform where its nodes are `few`, else panels that are narrow where the law of ``x`` has features.

    Those are the levels s at the turning points and breaks `inside` the window; away from them the law is smooth on the
    scale ``sqrt(delta + V s'^2)`` with ``s'^2 = 2 |s''| d`` at distance `d` from such a level.
    """
    if few:
        return uniform_mesh(low, high, step)
    levels = np.empty(inside.size)
    table_values(table[0], table[1], inside, inside.size, levels)
    return graded_mesh(
        low, high, levels, 3.0 * step, 8.0 * d, 3.0 * outer * np.sqrt(V), gl_nodes, gl_weights,
        (2.0 * outer) ** 2 * V * bend,
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def smooth_cell(q, slope, sigma, V, beta, delta, mode, rule, parity, special, table, gl_nodes, gl_weights, out):
    """All moments of one cell; see `numerics.channel.Channel.moments`."""
    edges, _, _, slope_max, _, curvature_max, breaks = table
    fine, outer, sharp, continuous = rule[0], rule[1], rule[2], rule[3] > 0.0
    out[:] = 0.0
    root_q, root_V, root_s = np.sqrt(q), np.sqrt(V), np.sqrt(sigma)
    noise, d = 1.0 / np.sqrt(beta), np.sqrt(delta)
    length = slope_max.max() / max(curvature_max.max(), 1e-12 * slope_max.max() + 1e-300)
    # zeros of t + V s'^2 approach the axis, slowly, as V/t grows
    field = rule[4] / np.sqrt(1.0 + 0.25 * np.log(1.0 + beta * V))
    low = 0.0 if parity != 0 else -REACH * root_q
    high = REACH * root_q
    omega, w_omega = _omega_mesh(low, high, q, V, sigma, length, outer, field, parity, special, gl_nodes, gl_weights)
    total = 1.0 if parity == 0 else 2.0
    cuts = edges[breaks == 1]
    # only iterates far from any saddle have a teacher far outside the student's prior; their windows vary with omega
    furthest = REACH * max(1.0, root_s / root_V) + abs(1.0 - slope) * high / root_V
    apart = min(outer * root_s, 1.3 * field * np.sqrt(length * length + sigma))  # nodes of the teacher
    nodes, lattice = np.empty(0), np.empty(0)
    if furthest < 2.0 * REACH and cuts.size == 0:
        widest = apart if mode == CLEAN else np.inf
        nodes, lattice = shared_lattice(low, high, furthest, omega.size, V, beta, fine, widest, length, table)
    stars, star_values, star_slopes = np.empty(0), np.empty(0), np.empty(0)
    if mode == CLEAN and special.size == 0:
        stars, star_values, star_slopes = lattice_teachers(
            nodes, apart, root_s, 2.0 * furthest * root_V, omega.size, table
        )
    kernel = kernel_matrix(star_values, beta, lattice) if stars.size > 0 else np.empty((0, 0))
    exps, served = kernel.size, 0
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
        big, small, bend = bounds(table, a, b)
        inside = special[(special > a) & (special < b)] if special.size else special
        bent = inside.size > 0  # a turning point or break in the window: two or more levels compete
        first = 0
        if nodes.size > 0:
            s, y, log_w, n, first, buffer = lattice_nodes(a, b, om, V, nodes, lattice, buffer)
        else:
            step = fine * max(width(V, beta, length, big, bend), (b - a) / (fine * MOST))
            s, y, log_w, n, buffer = own_nodes(a, b, step, om, V, cuts, table, gl_nodes, gl_weights, buffer)
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
            x_low, x_high = observed_range(s, y, n, d, radius)
            least = 0.0 if bent else small
            step = (sharp if bent else outer) * np.sqrt(delta + V * least * least)
            few = (x_high - x_low) / step <= MANY
            # the law of x is the inner integral itself
            weight = w_om * np.exp(-HALF_LOG_2PI) / noise
            if few and longest_run(step, beta) > 0:
                spent, more = matched_rows(
                    x_low, x_high, step, weight, V, beta, s, log_w, y, n, runs, slack,
                    gap, ratio, e, p, scale, bits, spans, sums, result, out,
                )  # fmt: skip
                exps += spent
                served += more
                continue
            if few or bent:
                x, w_x = _observation_mesh(
                    x_low, x_high, step, few, inside, table, V, bend, d, outer, gl_nodes, gl_weights
                )
                spent, more = matched_singly(
                    x, w_x, weight, V, beta, s, log_w, y, n, runs, slack, e, p, scale, bits, spans, sums, result, out
                )
                exps += spent
                served += more
                continue
        x, w_x, chain, stein, row = teacher_nodes(
            w_om, centre, radius, sigma, apart, V, beta, noise + d, bend, outer, continuous, special, table, stars,
            star_values, star_slopes, gl_nodes, gl_weights,
        )  # fmt: skip
        if mode == CLEAN:
            if w_x.size > e.size:
                m = w_x.size
                e, p, scale, ratio, gap = np.empty(m), np.empty(m), np.empty(m), np.empty(m), np.empty(m)
                bits = scale.view(np.int64)
            if w_x.size > sums.shape[1]:
                sums = np.empty((7, w_x.size))
            spent, more = clean_rows(
                x, w_x, chain, stein, w_x.size, V, beta, s, log_w, y, n, runs, slack, kernel, row, first,
                gap, e, p, scale, bits, spans, sums, result, out,
            )  # fmt: skip
        else:
            step = sharp if bent or special.size > 0 else outer
            spent, more = noisy_rows(
                x, w_x, chain, stein, d, radius, step, V, beta, s, log_w, y, n, runs, slack, e, p, scale, bits, ratio,
                spans, result, out,
            )  # fmt: skip
        exps += spent
        served += more
    out[7], out[8] = exps, served
