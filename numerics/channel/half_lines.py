"""Gaussian integrals over the two half-lines of a straight-piece channel, for a block of observations at once.

On a side where ``s(h) = c0 + c1 h`` the inner integral is a Gaussian times the mass of a truncated Gaussian. With
``v = 1/(1/V + beta c1^2)``, ``mu = v (omega/V + beta c1 (x - c0))`` and ``z = +-(mu - b)/sqrt(v)``,

``I_side = (1 + beta V c1^2)^(-1/2) exp(-(x - c0 - c1 omega)^2 / (2 (1/beta + c1^2 V))) Phi(z)``.

Everything is branch-free in ``x``, so that the compiler makes whole vectors of it: `exp_block`, a polynomial for the scaled
complementary error function, and a logarithm of one per observation.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.polynomial import chebyshev
from scipy.special import erfcx

from numerics.elementary import exp_block
from numerics.kernel_cache import njit

__all__ = ["BLOCK", "block_work", "half_line_laws", "half_line_moments"]

BLOCK = 96  # observations at a time; a multiple of every vector length
SQRT_HALF = 0.7071067811865476
SQRT_2_OVER_PI = 0.7978845608028654
INV_SQRT_2PI = 0.3989422804014327
CENTRE = 3.75  # (1 + 2x) erfcx(x) is a polynomial in (x - CENTRE)/(x + CENTRE) to 2e-15, for all x >= 0


def _erfcx_polynomial(degree: int = 24) -> tuple[float, ...]:
    """Coefficients, lowest first. [ours: the variable is Shepherd and Laframboise's, Math. Comp. 36 (1981) 249]"""

    def scaled(u):
        x = CENTRE * (1 + u) / (1 - u)
        return (1 + 2 * x) * erfcx(x)

    series = chebyshev.chebinterpolate(scaled, degree)
    return tuple(float(c) for c in chebyshev.cheb2poly(series))


(E0, E1, E2, E3, E4, E5, E6, E7, E8, E9, E10, E11, E12, E13, E14, E15, E16, E17, E18, E19, E20, E21, E22, E23,
 E24) = _erfcx_polynomial()  # fmt: skip


@njit(cache=True, error_model="numpy", inline="always")
def _erfcx(x):
    """``exp(x^2) erfc(x)`` for ``x >= 0``, without a branch."""
    u = (x - CENTRE) / (x + CENTRE)
    p = E23 + u * E24
    p = E22 + u * p
    p = E21 + u * p
    p = E20 + u * p
    p = E19 + u * p
    p = E18 + u * p
    p = E17 + u * p
    p = E16 + u * p
    p = E15 + u * p
    p = E14 + u * p
    p = E13 + u * p
    p = E12 + u * p
    p = E11 + u * p
    p = E10 + u * p
    p = E9 + u * p
    p = E8 + u * p
    p = E7 + u * p
    p = E6 + u * p
    p = E5 + u * p
    p = E4 + u * p
    p = E3 + u * p
    p = E2 + u * p
    p = E1 + u * p
    p = E0 + u * p
    return p / (1.0 + 2.0 * x)


@njit(cache=True)
def block_work():
    """Work arrays of the block kernels, to be made once a cell."""
    return np.empty((17, BLOCK))


@njit(cache=True, error_model="numpy", fastmath={"contract", "nsz"})
def _truncated(z, n, mass, ratio, exponent, bell, scale):
    """``Phi(z) = mass exp(exponent)`` and ``ratio = phi(z)/Phi(z)``, with mass in (0, 1] of order 1/|z| at worst."""
    for j in range(n):
        exponent[j] = -0.5 * z[j] * z[j]
    exp_block(exponent, n, 0.0, bell, scale, scale.view(np.int64))
    for j in range(n):
        e = _erfcx(abs(z[j]) * SQRT_HALF)
        below = z[j] < 0.0
        full = 1.0 - 0.5 * e * bell[j]
        mass[j] = 0.5 * e if below else full
        ratio[j] = SQRT_2_OVER_PI / e if below else INV_SQRT_2PI * bell[j] / full
        exponent[j] = exponent[j] if below else 0.0


@njit(cache=True, error_model="numpy", fastmath={"contract", "nsz"})
def _side(x, n, omega, V, beta, b, c0, c1, sign, z, mass, ratio, exponent, bell, scale, mean, spread, gap):
    """One side's weight ``mass exp(exponent)``, and mean (of ``h - omega``), variance over `v`, mean of ``x - s``."""
    gain = 1.0 + beta * V * c1 * c1
    v = V / gain
    root = math.sqrt(v)
    lever = beta * c1 * v
    for j in range(n):
        residual = x[j] - c0 - c1 * omega
        z[j] = sign * (omega + lever * residual - b) / root
    _truncated(z, n, mass, ratio, exponent, bell, scale)
    norm = 1.0 / math.sqrt(gain)
    half = 0.5 * beta / gain
    for j in range(n):
        residual = x[j] - c0 - c1 * omega
        shift = lever * residual
        far = z[j] < -20.0  # 1 - ratio (ratio + z) has cancelled down to 1e-11 there
        r = 1.0 / (z[j] * z[j]) if far else 0.0
        series = r * (1.0 - r * (6.0 - r * (50.0 - r * (518.0 - r * 6354.0))))
        spread[j] = series if far else 1.0 - ratio[j] * (ratio[j] + z[j])
        mean[j] = shift + sign * root * ratio[j]
        gap[j] = residual - c1 * mean[j]
        mass[j] *= norm
        exponent[j] -= half * residual * residual
    return v, gain


@njit(cache=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"})
def _combine(n, V, beta, shape, v0, v1, gain0, gain1, slope, root, work, w, dw, out):
    """Weighted sums of the joint moments of both sides; `work` as laid out in `half_line_moments`."""
    mass0, mean0, spread0, gap0 = work[1], work[3], work[4], work[5]
    mass1, mean1, spread1, gap1 = work[7], work[9], work[10], work[11]
    total, small, zero_larger = work[6], work[13], work[12]
    left, right = shape[2], shape[4]
    f_square = f_slope = f_star = square = variance = weight = 0.0
    for j in range(n):
        first = zero_larger[j] >= 0.0
        w0 = mass0[j] if first else mass0[j] * small[j]
        w1 = mass1[j] * small[j] if first else mass1[j]
        sum_ = w0 + w1
        total[j] = sum_
        w0 /= sum_
        w1 /= sum_
        mean = (w0 * mean0[j] + w1 * mean1[j]) / root
        cross = w0 * w1 * (mean0[j] - mean1[j]) / root
        bend = gap0[j] - gap1[j]
        y_variance = w0 * spread0[j] / gain0 + w1 * spread1[j] / gain1 + cross * (mean0[j] - mean1[j]) / root
        d_variance = w0 * left * left * v0 * spread0[j] + w1 * right * right * v1 * spread1[j] + w0 * w1 * bend * bend
        d_mean = w0 * gap0[j] + w1 * gap1[j]
        covariance = -root * (w0 * left * spread0[j] / gain0 + w1 * right * spread1[j] / gain1) + cross * bend
        f = mean / root
        f_square += w[j] * f * f
        f_slope += w[j] * (y_variance - 1.0)
        f_star += dw[j] * f - w[j] * slope * covariance
        square += w[j] * (d_variance + d_mean * d_mean)
        variance += w[j] * d_variance
        weight += w[j]
    out[1] += f_square
    out[2] += f_slope / V
    out[4] += square
    out[5] += variance
    out[6] += weight
    return f_star


@njit(cache=True, error_model="numpy")
def half_line_moments(x, w, dw, n, omega, V, beta, slope, shape, work, out):
    """Add to `out` the channel's moments at ``x[:n]`` with weights `w`.

    `shape` is ``(b, left c0, left c1, right c0, right c1)``. The part of ``E d f/d h*`` is ``slope df/dx``, and ``dw f``
    (Stein's form) where ``s`` jumps. ``x, w, dw`` may hold up to `BLOCK` numbers; they are padded in place to whole vectors.
    """
    padded = (n + 7) // 8 * 8
    for j in range(n, padded):
        x[j], w[j], dw[j] = x[n - 1], 0.0, 0.0
    n = padded
    b = shape[0]
    z, bell, scale, small = work[0], work[13], work[14], work[12]
    v0, gain0 = _side(
        x, n, omega, V, beta, b, shape[1], shape[2], -1.0, z, work[1], work[6], work[2], bell, scale, work[3], work[4],
        work[5],
    )  # fmt: skip
    v1, gain1 = _side(
        x, n, omega, V, beta, b, shape[3], shape[4], 1.0, z, work[7], work[6], work[8], bell, scale, work[9], work[10],
        work[11],
    )  # fmt: skip
    e0, e1 = work[2], work[8]
    for j in range(n):
        small[j] = e0[j] - e1[j]
        z[j] = -abs(small[j])
    exp_block(z, n, 0.0, bell, scale, scale.view(np.int64))
    root = math.sqrt(V)
    f_star = _combine(n, V, beta, shape, v0, v1, gain0, gain1, slope * beta / root, root, work, w, dw, out)
    out[3] += f_star
    total, log_i = work[6], 0.0
    for j in range(n):
        log_i += w[j] * (max(e0[j], e1[j]) + math.log(total[j]))
    out[0] += log_i
    out[7] += 5.0 * n  # exponentials and error functions


@njit(cache=True, error_model="numpy")
def half_line_laws(x, w, n, omega, sigma, delta, side, shape, work, out_w, out_stein):
    """``w`` times the density at ``x[:n]`` of ``s(h) + sqrt(delta) noise`` through one side of ``h ~ N(omega, sigma)``.

    Into `out_w`; into `out_stein` the same times the mean of ``(h - omega)/sigma``, its derivative by omega.
    """
    padded = (n + 7) // 8 * 8
    for j in range(n, padded):
        x[j], w[j] = x[n - 1], 0.0
    sign = 2.0 * side - 1.0
    mass, exponent, mean = work[1], work[2], work[3]
    _side(
        x, padded, omega, sigma, 1.0 / delta, shape[0], shape[1 + 2 * side], shape[2 + 2 * side], sign, work[0], mass,
        work[6], exponent, work[13], work[14], mean, work[4], work[5],
    )  # fmt: skip
    exp_block(exponent, padded, 0.0, work[13], work[14], work[14].view(np.int64))
    norm = INV_SQRT_2PI / math.sqrt(delta)
    for j in range(padded):
        out_w[j] = w[j] * mass[j] * work[13, j] * norm
        out_stein[j] = out_w[j] * mean[j] / sigma
