"""Moments of a scalar channel whose function is linear on the two sides of one point: exact Gaussian-erf inner integrals.

On a side where ``s(h) = c0 + c1 h`` the inner integral is a Gaussian times the mass of a truncated Gaussian. With
``v = 1/(1/V + beta c1^2)``, ``mu = v (omega/V + beta c1 (x - c0))`` and ``z = (mu - b)/sqrt(v)`` for the right side,

``I = (1 + beta V c1^2)^(-1/2) exp(-(x - c0 - c1 omega)^2 / (2 (1/beta + c1^2 V))) Phi(z)``.

Outer integrals: far from the break the channel is linear and everything is closed; a flat side puts an atom in the law of
a noiseless ``x``; on a sloped side the law of a noisy ``x`` is again such a closed form. relu, leaky relu, abs, sign and
the identity are of this kind.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from .channel_smooth import CLEAN, HALF_LOG_2PI, REACH
from .meshes import graded_mesh, uniform_mesh

__all__ = ["linear_cell", "linear_inner", "log_ndtr"]

SQRT_HALF = 0.7071067811865476
SQRT_2_OVER_PI = 0.7978845608028654


@njit(cache=True, error_model="numpy")
def _erfcx(x):
    """``exp(x^2) erfc(x)`` for ``x >= 0``: libm below 5, Laplace's continued fraction above."""
    if x < 5.0:
        return math.exp(x * x) * math.erfc(x)
    tail = x
    for k in range(24, 0, -1):
        tail = x + 0.5 * k / tail
    return 0.5641895835477563 / tail


@njit(cache=True, error_model="numpy")
def log_ndtr(z):
    """``log Phi(z)`` of the normal distribution function, accurate in both tails."""
    if z > -1.0:
        return math.log1p(-0.5 * math.erfc(z * SQRT_HALF))
    return math.log(0.5 * _erfcx(-z * SQRT_HALF)) - 0.5 * z * z


@njit(cache=True, error_model="numpy")
def _truncated(z):
    """``log Phi(z)`` and mean and variance of a unit normal centred at `z`, minus `z`, given that it is positive."""
    if z > -1.0:
        mass = 0.5 * math.erfc(-z * SQRT_HALF)
        ratio = math.exp(-0.5 * z * z - HALF_LOG_2PI) / mass
        log_mass = math.log1p(-0.5 * math.erfc(z * SQRT_HALF))
    else:
        scaled = _erfcx(-z * SQRT_HALF)
        ratio = SQRT_2_OVER_PI / scaled
        log_mass = math.log(0.5 * scaled) - 0.5 * z * z
    if z > -20.0:
        return log_mass, ratio, 1.0 - ratio * (ratio + z)
    r = 1.0 / (z * z)
    return log_mass, ratio, r * (1.0 - r * (6.0 - r * (50.0 - r * (518.0 - r * 6354.0))))


@njit(cache=True, error_model="numpy")
def linear_inner(x, omega, V, beta, shape, out):
    """Log of the inner integral, mean and variance of ``y = (h-omega)/sqrt(V)``, mean square and variance of ``x - s``,
    and the covariance of the two.

    `shape` is ``(b, left c0, left c1, right c0, right c1)``; `out` has six places.
    """
    b = shape[0]
    root = math.sqrt(V)
    log0 = log1 = m0 = m1 = v0 = v1 = g0 = g1 = r0 = r1 = 0.0
    for side in range(2):
        c0, c1 = shape[1 + 2 * side], shape[2 + 2 * side]
        sign = 2.0 * side - 1.0
        gain = 1.0 + beta * V * c1 * c1
        v = V / gain
        residual = x - c0 - c1 * omega
        shift = beta * c1 * v * residual  # mu - omega
        root_v = math.sqrt(v)
        z = sign * (omega + shift - b) / root_v
        log_mass, ratio, spread = _truncated(z)
        log_weight = log_mass - 0.5 * math.log(gain) - 0.5 * beta * residual * residual / gain
        mean = shift + sign * root_v * ratio
        gap = residual - c1 * mean
        if side == 0:
            log0, m0, v0, g0, r0 = log_weight, mean / root, spread / gain, gap, c1 * c1 * v * spread
        else:
            log1, m1, v1, g1, r1 = log_weight, mean / root, spread / gain, gap, c1 * c1 * v * spread
    top = max(log0, log1)
    w0, w1 = math.exp(log0 - top), math.exp(log1 - top)
    total = w0 + w1
    w0 /= total
    w1 /= total
    out[0] = top + math.log(total)
    out[1] = w0 * m0 + w1 * m1
    out[2] = w0 * v0 + w1 * v1 + w0 * w1 * (m0 - m1) ** 2
    out[4] = w0 * r0 + w1 * r1 + w0 * w1 * (g0 - g1) ** 2
    out[3] = out[4] + (w0 * g0 + w1 * g1) ** 2
    within = -root * (w0 * shape[2] * v0 + w1 * shape[4] * v1)
    out[5] = within + w0 * w1 * (m0 - m1) * (g0 - g1)


@njit(cache=True, error_model="numpy")
def _add(out, w, dw, slope, result, V, beta):
    """Add a node of weight `w`; its part in ``E d f/d h*`` is ``slope df/dx``, or ``dw f`` (Stein) where s jumps."""
    root = math.sqrt(V)
    f = result[1] / root
    out[0] += w * result[0]
    out[1] += w * f * f
    out[2] += w * (result[2] - 1.0) / V
    out[3] += dw * f - w * slope * beta * result[5] / root
    out[4] += w * result[3]
    out[5] += w * result[4]
    out[6] += w
    out[7] += 5.0  # exponentials and error functions


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
    a, b = max(low, points[0] - edge), min(high, points[0] + edge)
    if b <= a:
        return graded_mesh(low, high, points, wide, edge, wide, gl_nodes, gl_weights)
    x, w = graded_mesh(
        a, b, points, min(3.0 * outer * small, wide), 9.0 * small, min(3.0 * outer * root_V, wide), gl_nodes, gl_weights
    )
    for left, right in ((low, a), (b, high)):
        if right > left:
            y, v = graded_mesh(left, right, points, min(3.0 * outer * root_V, wide), edge, wide, gl_nodes, gl_weights)
            x, w = np.concatenate((x, y)), np.concatenate((w, v))
    return x, w


@njit(cache=True, error_model="numpy")
def linear_cell(q, slope, sigma, V, beta, delta, mode, rule, parity, shape, gl_nodes, gl_weights, out):
    """All moments of one cell; see `numerics.channel.channel_moments`."""
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
    result = np.empty(6)
    step = (0.3 if jump or folded else 1.0) * sharp
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
            log_mass = log_ndtr(gap / root_s)
            if log_mass < -42.0:
                continue
            if mode == CLEAN:
                if c1 == 0.0:
                    linear_inner(c0, om, V, beta, shape, result)
                    density = math.exp(-0.5 * gap * gap / sigma - HALF_LOG_2PI) / root_s
                    _add(out, w_om * math.exp(log_mass), w_om * sign * density if jump else 0.0, 0.0, result, V, beta)
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
                for j in range(star.size):
                    u = (star[j] - centre) / root_s
                    w = w_om * w_star[j] / root_s * math.exp(-0.5 * u * u - HALF_LOG_2PI)
                    linear_inner(c0 + c1 * star[j], om, V, beta, shape, result)
                    _add(out, w, w * u / root_s if jump else 0.0, 0.0 if jump else c1, result, V, beta)
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
            for j in range(x.size):
                # law of x through this side of the teacher, and its derivative by the teacher's mean
                gain = 1.0 + sigma * c1 * c1 / delta
                v = sigma / gain
                residual = x[j] - c0 - c1 * centre
                shift = c1 / delta * v * residual
                log_part, ratio, _ = _truncated(sign * (centre + shift - b) / math.sqrt(v))
                log_law = log_part - 0.5 * residual * residual / (delta * gain) - 0.5 * math.log(gain * delta)
                w = w_om * w_x[j] * math.exp(log_law - HALF_LOG_2PI)
                if w < 1e-20:
                    continue
                linear_inner(x[j], om, V, beta, shape, result)
                stein = (shift + sign * math.sqrt(v) * ratio) / sigma
                _add(out, w, w * stein if jump else 0.0, 0.0 if jump else c1, result, V, beta)
