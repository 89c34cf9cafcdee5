r"""The outer integral over the teacher's field ``h* ~ N(slope omega, sigma)``: its nodes, observations, weights and derivatives.

:math:`E\,\partial_{h^*}f=E\,s'(h^*)\,\partial_xf` (`chain`) where `s` has no jumps; where it has, Stein's form
:math:`E f\,(h^*-\text{centre})/\sigma` (`stein`), which is noisy for small `sigma`.
"""

from __future__ import annotations

import numpy as np

from numerics.channel.inner_peak import GROUP
from numerics.elementary import table_values_and_slopes
from numerics.kernel_cache import njit
from numerics.quadrature import HALF_LOG_2PI, REACH, graded_mesh, uniform_mesh

__all__ = ["lattice_teachers", "teacher_nodes"]

MATRIX = 4e6  # entries of a kernel matrix


@njit(cache=True, error_model="numpy")
def lattice_teachers(h, apart, root_s, window, cells, table):
    """Teachers' nodes for all of the `cells` omega among the nodes `h` of a lattice: ``h*, s(h*), s'(h*)``, `apart` at most.

    Empty unless their `kernel_matrix` pays: `window` is the length of the lattice that one omega uses.
    """
    none = np.empty(0)
    step = h[1] - h[0] if h.size > 0 else 0.0
    if not 0.0 < step <= apart * (1.0 + 1e-9):
        return none, none, none
    stride = max(1, int(apart / step + 1e-9))
    size = (h.size - 1) // stride + 1
    rows = 2.0 * REACH * root_s / (stride * step) + 3.0 * GROUP  # of one omega, at most
    columns = window / step
    # far omega share no pair of nodes: where the lattice is long most of the matrix would serve none
    if rows > size or size * h.size > min(MATRIX, 0.5 * cells * rows * columns):
        return none, none, none
    stars, values, slopes = h[::stride].copy(), np.empty(size), np.empty(size)
    table_values_and_slopes(table[0], table[1], table[2], stars, size, values, slopes)
    return stars, values, slopes


@njit(cache=True, error_model="numpy", inline="always")
def teacher_nodes(
    weight, centre, radius, sigma, apart, V, beta, noise, bend, outer, continuous, special, table, stars, star_values,
    star_slopes, gl_nodes, gl_weights,
):  # fmt: skip
    """Observations ``s(h*)`` of one omega, their weights, `chain` and `stein`, and the row of `stars` that is the first.

    `noise` is the width that student and teacher give an observation, `bend` the largest curvature; without `stars` (see
    `lattice_teachers`) the nodes are `apart`, or graded towards points of `special` in their window.
    """
    root_s, root_V = np.sqrt(sigma), np.sqrt(V)
    a, b = centre - radius * root_s, centre + radius * root_s
    row = 0
    if stars.size > 0:
        step = stars[1] - stars[0]
        size = (int((b - a) / step) + 2 * GROUP) // GROUP * GROUP
        row = min(max(int((a - stars[0]) / step), 0), stars.size - size)
        star = stars[row : row + size]
        w, x, slopes = np.full(size, step), star_values[row : row + size], star_slopes[row : row + size]
    else:
        inside = special[(special > a) & (special < b)] if special.size else special
        if inside.size == 0:
            star, w = uniform_mesh(a, b, apart, GROUP)
        else:
            close = min(root_s, np.sqrt(noise / bend), root_V + 1.0 / np.sqrt(beta))
            star, w = graded_mesh(
                a, b, inside, 2.0 * outer * close, 6.0 * close, 3.0 * outer * root_s, gl_nodes, gl_weights
            )
        x, slopes = np.empty(star.size), np.empty(star.size)
        table_values_and_slopes(table[0], table[1], table[2], star, star.size, x, slopes)
    chain, stein = np.zeros(star.size), np.zeros(star.size)
    for j in range(star.size):
        u = (star[j] - centre) / root_s
        w[j] *= weight * np.exp(-0.5 * u * u - HALF_LOG_2PI) / root_s
        if continuous:
            chain[j] = -slopes[j] * beta / root_V
        else:
            stein[j] = u / root_s
    return x, w, chain, stein, row
