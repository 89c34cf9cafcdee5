"""One-dimensional quadrature meshes built inside compiled code: uniform where nothing happens, graded towards features.

The trapezoidal rule on a Gaussian-decaying analytic integrand converges exponentially, so it is the rule of choice; where
an integrand has a feature of known place and width (the kink of a function, a point of zero slope), Gauss-Legendre panels
start at that place with that width and grow geometrically away from it.
"""

from __future__ import annotations

import numpy as np

from numerics.kernel_cache import njit

__all__ = ["GL_NODES", "GL_WEIGHTS", "HALF_LOG_2PI", "REACH", "graded_mesh", "panel_edges", "uniform_mesh"]

REACH = 8.3  # sums with a Gaussian weight end here: the density is 1e-15 of its peak
HALF_LOG_2PI = 0.9189385332046727
GL_NODES, GL_WEIGHTS = np.polynomial.legendre.leggauss(12)


@njit(cache=True, error_model="numpy")
def uniform_mesh(a, b, step, multiple=1):
    """Trapezoidal nodes and weights on [a, b] with a spacing of at most `step`; their number is a multiple of `multiple`."""
    n = max(2, int(np.ceil((b - a) / step)) + 1)
    n = (n + multiple - 1) // multiple * multiple
    x = np.empty(n)
    w = np.empty(n)
    h = (b - a) / (n - 1)
    for j in range(n):
        x[j] = a + h * j
        w[j] = h
    w[0] = w[n - 1] = 0.5 * h
    return x, w


@njit(cache=True, error_model="numpy")
def panel_edges(a, b, points, narrow, plateau, wide, bend=0.0):
    """Edges on [a, b], those of `points` inside included; panels grow from `narrow` to `wide` away from the points.

    A panel at distance `d` from the nearest point is at most ``narrow`` wide for ``d < plateau`` and at most
    ``narrow + (d - plateau)`` beyond; with `bend` > 0 also at most ``sqrt(narrow^2 + bend d)``.
    """
    inside = points[(points > a) & (points < b)]
    marks = np.empty(inside.size + 2)
    marks[0] = a
    marks[1:-1] = inside
    marks[-1] = b
    edges = [a]
    for i in range(marks.size - 1):
        left, right = marks[i], marks[i + 1]
        x = left
        while x < right:
            # distance to the nearest feature, which may lie outside [a, b]; it is least at one of the panel's two ends
            near = np.inf
            for p in points:
                near = min(near, abs(x - p))
            width = min(wide, narrow + max(0.0, near - plateau))
            if bend > 0.0:
                width = min(width, np.sqrt(narrow * narrow + bend * near))
            # and no wider than allowed where it ends, when a feature lies ahead: w <= narrow + 0.7 (distance - w - plateau)
            for p in points:
                if p > x:
                    width = min(width, max(narrow, (narrow + 0.7 * (p - x - plateau)) / 1.7))
            # panels must be told apart in floating point
            width = max(width, 1e-13 * (abs(x) + abs(right)))
            if x + 1.3 * width >= right:
                x = right
            elif x + 2.0 * width >= right:
                x = 0.5 * (x + right)
            else:
                x += width
            edges.append(x)
    return np.array(edges)


@njit(cache=True, error_model="numpy")
def graded_mesh(a, b, points, narrow, plateau, wide, gl_nodes, gl_weights, bend=0.0):
    """Gauss-Legendre nodes and weights on the panels of `panel_edges`."""
    edges = panel_edges(a, b, points, narrow, plateau, wide, bend)
    m = gl_nodes.size
    n = (edges.size - 1) * m
    x = np.empty(n)
    w = np.empty(n)
    for i in range(edges.size - 1):
        half = 0.5 * (edges[i + 1] - edges[i])
        for j in range(m):
            x[i * m + j] = edges[i] + half * (1.0 + gl_nodes[j])
            w[i * m + j] = half * gl_weights[j]
    return x, w
