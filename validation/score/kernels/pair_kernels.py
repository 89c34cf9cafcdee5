"""Compiled exact pairs: energies and displacements of listed queries and patterns, from float64 differences."""

from __future__ import annotations

from numerics.kernel_cache import njit
from validation.score.kernels.vector_math import SUMS

__all__ = ["pair_displacements", "pair_energies"]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=SUMS)
def pair_energies(source, x, other, row, position, energy, cross):
    """energy = |x_r - xi_p|^2/2, and cross = other_r.(x_r - xi_p) unless `cross` is empty, summed in float64."""
    for k in range(row.shape[0]):
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
def pair_displacements(source, x, row, position, weight, total):
    """total_r += weight (xi_p - x_r) in float64."""
    for k in range(row.shape[0]):
        xi, q, w = source[position[k]], x[row[k]], weight[k]
        target = total[row[k]]
        for n in range(q.shape[0]):
            target[n] += w * (float(xi[n]) - q[n])
