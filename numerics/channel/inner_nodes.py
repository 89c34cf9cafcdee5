"""Where the inner integral of a tabulated channel is sampled: for every ``omega`` its own nodes, or one lattice for all of them.

Nodes are spaced by the narrowest width that the integrand can have in their window, ``(1/V + beta max s'^2 + ...)^{-1/2}``.
They come as ``s(h)``, ``y = (h - omega)/sqrt(V)`` and the log of the prior's weight, for `inner_peak` and its users.
"""

from __future__ import annotations

import numpy as np

from numerics.channel.inner_peak import SHORT
from numerics.elementary import table_values
from numerics.kernel_cache import njit
from numerics.quadrature import HALF_LOG_2PI, graded_mesh

__all__ = ["bounds", "lattice_nodes", "own_nodes", "shared_lattice", "width"]


@njit(cache=True, error_model="numpy", fastmath={"nsz", "nnan"})
def bounds(table, a, b):
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
def width(V, beta, length, big, bend):
    """Narrowest width of the inner integrand; it is singular where s is, at about `length` from the axis."""
    return min(1.0 / np.sqrt(1.0 / V + beta * big * big + np.sqrt(beta) * bend), 0.22 * length)


@njit(cache=True, error_model="numpy")
def shared_lattice(low, high, reach, cells, V, beta, fine, widest, length, table):
    """One set of equally spaced nodes ``(h, s)`` for all `cells` values of omega in [low, high], where that is cheaper than a
    set for each; else empty. They are at most `widest` apart where that does not take many more of them."""
    root = np.sqrt(V)
    a, b = low - reach * root, high + reach * root
    big, _, bend = bounds(table, a, b)
    narrowest = width(V, beta, length, big, bend)
    step = min(fine * narrowest, widest if widest > 0.4 * fine * narrowest else np.inf)
    nodes, window = (b - a) / step, 2.0 * reach * root / step
    # where the width varies with omega, separate sets have fewer nodes
    if narrowest < 0.75 * min(root, 0.22 * length) or cells * window < 2.0 * nodes + 200.0:
        return np.empty(0), np.empty(0)
    h = a + step * (np.arange(int(nodes) + 64) - 16.0)
    s = np.empty(h.size)
    table_values(table[0], table[1], h, h.size, s)
    return h, s


@njit(cache=True, error_model="numpy", inline="always")
def lattice_nodes(a, b, omega, V, h, s, buffer):
    """The nodes of a `shared_lattice` in [a, b]: ``s, y, log_w``, their number, the first one, and `buffer` or a larger one."""
    step = h[1] - h[0]
    first = int((a - h[0]) / step)
    n = (int((b - a) / step) + 17) // 16 * 16
    if n > buffer.shape[1]:
        buffer = np.empty((4, n))
    y, log_w = buffer[1, :n], buffer[2, :n]
    _gaussian_nodes(h[first], step, n, omega, V, y, log_w)
    return s[first : first + n], y, log_w, n, first, buffer


@njit(cache=True, error_model="numpy", inline="always")
def own_nodes(a, b, step, omega, V, cuts, table, gl_nodes, gl_weights, buffer):
    """Nodes `step` apart on [a, b], or on panels where it holds some of `cuts`: ``s, y, log_w``, their number, the buffer."""
    if cuts.size > 0 and ((cuts > a) & (cuts < b)).any():
        within = cuts[(cuts > a) & (cuts < b)]
        s, y, log_w, n = _panel_nodes(a, b, within, 4.0 * step, omega, V, table, gl_nodes, gl_weights)
        return s, y, log_w, n, buffer
    n = (int((b - a) / step) + 17) // 16 * 16
    if n > buffer.shape[1]:
        buffer = np.empty((4, n))
    s, y, log_w, h = buffer[0, :n], buffer[1, :n], buffer[2, :n], buffer[3, :n]
    for j in range(n):
        h[j] = a + step * j
    table_values(table[0], table[1], h, n, s)
    _gaussian_nodes(a, step, n, omega, V, y, log_w)
    return s, y, log_w, n, buffer


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
