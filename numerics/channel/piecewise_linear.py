"""Moments of a scalar channel whose function is linear on the two sides of one point: exact Gaussian-erf inner integrals.

The inner integrals are those of `half_lines`. Outer integrals: far from the break the channel is linear and everything is
closed; a flat side puts an atom in the law of a noiseless ``x``; on a sloped side the law of a noisy ``x`` is again a
Gaussian times a truncated mass. relu, leaky relu, abs, sign and the identity are of this kind.
"""

from __future__ import annotations

import math

import numpy as np

from numerics.channel.half_lines import BLOCK, block_work, half_line_laws, half_line_moments
from numerics.channel.smooth import CLEAN
from numerics.kernel_cache import njit
from numerics.quadrature import HALF_LOG_2PI, REACH, graded_mesh, uniform_mesh

__all__ = ["linear_cell"]

SQRT_HALF = 0.7071067811865476
INV_SQRT_2PI = 0.3989422804014327


@njit(cache=True, error_model="numpy")
def _add_linear(out, w, omega, centre, sigma, V, beta, delta, c1):
    """The linear channel, in closed form: what is left far from the break."""
    t = 1.0 / beta
    noise = t + c1 * c1 * V
    square = c1 * c1 * ((centre - omega) ** 2 + sigma) + delta
    out[0] -= w * 0.5 * (math.log1p(beta * V * c1 * c1) + square / noise)
    out[1] += w * c1 * c1 * square / (noise * noise)
    out[2] -= w * c1 * c1 / noise
    out[3] += w * c1 * c1 / noise
    variance = c1 * c1 * t * V / noise
    out[4] += w * (square * t * t / (noise * noise) + variance)
    out[5] += w * variance
    out[6] += w
    out[7] += 1.0


@njit(cache=True, error_model="numpy")
def _omega_mesh(low, high, points, outer, root_V, root_s, wide, gl_nodes, gl_weights):
    """Panels that resolve the teacher's width near the break, then the student's, then the prior's."""
    small = min(root_V, root_s)
    edge = 9.0 * (root_V + root_s)
    # away from the break, by more than the narrower of the two, only the wider matters
    large = min(3.0 * outer * max(root_V, root_s), wide)
    a, b = max(low, points[0] - edge), min(high, points[0] + edge)
    if b <= a:
        return graded_mesh(low, high, points, wide, edge, wide, gl_nodes, gl_weights)
    x, w = graded_mesh(a, b, points, min(3.0 * outer * small, wide), 9.0 * small, large, gl_nodes, gl_weights)
    for left, right in ((low, a), (b, high)):
        if right > left:
            y, v = graded_mesh(left, right, points, large, edge, wide, gl_nodes, gl_weights)
            x, w = np.concatenate((x, y)), np.concatenate((w, v))
    return x, w


@njit(cache=True, error_model="numpy")
def linear_cell(q, slope, sigma, V, beta, delta, mode, rule, parity, shape, gl_nodes, gl_weights, out):
    """All moments of one cell; see `numerics.channel.Channel.moments`."""
    # two levels h for one x (a fold), or two x for one h (a jump), compete sharply; else less is asked of the outer
    # integrals than for a table, because the inner ones are exact
    jump = abs(shape[1] + shape[2] * shape[0] - shape[3] - shape[4] * shape[0]) > 0.0
    folded = shape[2] * shape[4] < 0.0
    outer, sharp = (0.65 if folded or jump else 1.3) * rule[1], 1.6 * rule[2]
    out[:] = 0.0
    b = shape[0]
    root_q, root_V, root_s = math.sqrt(q), math.sqrt(V), math.sqrt(sigma)
    noise, d = 1.0 / math.sqrt(beta), math.sqrt(delta)
    single = shape[1] == shape[3] and shape[2] == shape[4]
    if single:
        # the residual x - c0 - c1 omega is Gaussian with the variance averaged over omega
        _add_linear(out, 1.0, root_q, slope * root_q, sigma, V, beta, delta, shape[2])
        return
    points = np.array([b])
    low = 0.0 if parity != 0 else -REACH * root_q
    high = REACH * root_q
    total = 1.0 if parity == 0 else 2.0
    wide = 3.0 * outer * root_q
    omega, w_omega = _omega_mesh(low, high, points, outer, root_V, root_s, wide, gl_nodes, gl_weights)
    step = (0.3 if jump or folded else 1.0) * sharp
    work = block_work()
    xb, wb, dwb, pb = np.zeros(BLOCK), np.zeros(BLOCK), np.zeros(BLOCK), np.zeros(BLOCK)
    for i in range(omega.size):
        om = omega[i]
        w_om = total * w_omega[i] * math.exp(-0.5 * om * om / q - HALF_LOG_2PI) / root_q
        if w_om < 1e-19:
            continue
        centre = slope * om
        side = 1 if om > b else 0
        if (om - b) * (centre - b) > 0.0 and abs(om - b) > REACH * root_V and abs(centre - b) > REACH * root_s:
            # the break is beyond reach of student and teacher, unless x lies as near to the other side's levels
            c0, c1 = shape[1 + 2 * side], shape[2 + 2 * side]
            o0, o1 = shape[3 - 2 * side], shape[4 - 2 * side]
            flat_other = abs((c0 + c1 * om) - (o0 + o1 * b)) if o1 * c1 >= 0.0 else 0.0
            if flat_other > 0.0 or abs(om - b) > 2.0 * REACH * (root_V + root_s + noise + d):
                _add_linear(out, w_om, om, centre, sigma, V, beta, delta, c1)
                continue
        for piece in range(2):
            c0, c1 = shape[1 + 2 * piece], shape[2 + 2 * piece]
            sign = 2.0 * piece - 1.0
            gap = sign * (centre - b)
            if gap < -9.0 * root_s:
                continue
            if mode == CLEAN:
                if c1 == 0.0:
                    # all of this side's teachers give one x: an atom
                    xb[0] = c0
                    wb[0] = w_om * 0.5 * math.erfc(-gap / root_s * SQRT_HALF)
                    density = math.exp(-0.5 * gap * gap / sigma - HALF_LOG_2PI) / root_s
                    dwb[0] = w_om * sign * density if jump else 0.0
                    half_line_moments(xb, wb, dwb, 1, om, V, beta, 0.0, shape, work, out)
                    continue
                near, far = b, centre + sign * REACH * root_s
                near = min(max(near, centre - REACH * root_s), centre + REACH * root_s)
                if sign * (far - near) <= 0.0:
                    continue
                width = math.sqrt(1.0 / V + beta * c1 * c1) / (beta * c1 * c1)
                star, w_star = graded_mesh(
                    min(near, far), max(near, far), points, 3.0 * outer * min(width, root_s), 6.0 * width,
                    3.0 * outer * root_s, gl_nodes, gl_weights,
                )  # fmt: skip
                scale = w_om * INV_SQRT_2PI / root_s
                for first in range(0, star.size, BLOCK):
                    n = min(BLOCK, star.size - first)
                    for j in range(n):
                        u = (star[first + j] - centre) / root_s
                        wb[j] = scale * w_star[first + j] * math.exp(-0.5 * u * u)
                        dwb[j] = wb[j] * u / root_s if jump else 0.0
                        xb[j] = c0 + c1 * star[first + j]
                    half_line_moments(xb, wb, dwb, n, om, V, beta, 0.0 if jump else c1, shape, work, out)
                continue
            image = c0 + c1 * b
            if c1 == 0.0:
                low_x, high_x = c0 - REACH * d, c0 + REACH * d
            else:
                ends = (max(gap, -REACH * root_s), gap + REACH * root_s)
                spread = math.sqrt(delta + c1 * c1 * sigma)
                x_centre = c0 + c1 * centre
                low_x = max(x_centre - REACH * spread, image - REACH * d if c1 * sign > 0.0 else -np.inf)
                high_x = min(x_centre + REACH * spread, image + REACH * d if c1 * sign < 0.0 else np.inf)
                if ends[1] <= 0.0 or high_x <= low_x:
                    continue
            scale = min(noise, d)
            if (high_x - low_x) / (step * scale) <= 600.0:
                x, w_x = uniform_mesh(low_x, high_x, step * scale)
            else:
                images = np.array([shape[1] + shape[2] * b, shape[3] + shape[4] * b])
                x, w_x = graded_mesh(
                    low_x, high_x, images, 6.0 * step * scale, 10.0 * (noise + d), 3.0 * outer * (root_s + d), gl_nodes,
                    gl_weights,
                )  # fmt: skip
            for first in range(0, x.size, BLOCK):
                n = min(BLOCK, x.size - first)
                xb[:n] = x[first : first + n]
                pb[:n] = w_om * w_x[first : first + n]
                # the law of x through this side of the teacher, and its derivative by the teacher's mean
                half_line_laws(xb, pb, n, centre, sigma, delta, piece, shape, work, wb, dwb)
                if not jump:
                    dwb[:n] = 0.0
                half_line_moments(xb, wb, dwb, n, om, V, beta, 0.0 if jump else c1, shape, work, out)
