r"""The collapse time as the noise vanishes: how many dimensions the data have there, and the constant in front.

On the Nishimori line a coordinate ``x = s(h) + noise`` of small noise `t` is a linear one with slope ``s'(h)``. With
:math:`V=vt` the saddle becomes one equation for `v`, and the mutual information :math:`-\frac{d}{2}\log t+\ldots` with
:math:`d=\min(\alpha_D,a)`, `a` the fraction of coordinates with :math:`s'\neq0`. Derivation: docs/derivations/replica.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr

from numerics.domain import DomainError
from theory.models import HiddenManifold

__all__ = ["SmallNoise", "active_fraction", "discrete_threshold", "small_noise"]


@dataclass(frozen=True)
class SmallNoise:
    r"""Leading behaviour :math:`t_c\simeq C\,e^{-2\alpha/d}` for large :math:`\alpha`.

    Attributes
    ----------
    dimension : float, :math:`d=\min(\alpha_D,a)`, information dimension of the data over N
    active : float, `a`
    v : float, posterior field variance over noise; NaN where :math:`\alpha_D\ge a` (the latent is not determined)
    log_C : float, NaN where :math:`\alpha_D\ge a`
    """

    dimension: float
    active: float
    v: float
    log_C: float

    def log_time(self, alpha):
        r""":math:`\log t_c=\log C-2\alpha/d`, asymptotically."""
        return self.log_C - 2 * np.asarray(alpha, dtype=float) / self.dimension

    def critical_alpha(self, log_t):
        """The inverse of `log_time`."""
        return 0.5 * self.dimension * (self.log_C - np.asarray(log_t, dtype=float))


def _slopes(model: HiddenManifold) -> tuple[np.ndarray, np.ndarray]:
    r"""Squared slopes :math:`s'(h)^2` at Gauss-Legendre nodes of the law of `h`, cut at the kinks; and the weights."""
    act, deviation = model.s, np.sqrt(model.field_variance)
    nodes, weights = np.polynomial.legendre.leggauss(24)
    cuts = np.union1d(np.linspace(-9, 9, 145), np.array(act.breakpoints) / deviation)
    half = np.diff(cuts) / 2
    x = ((cuts[:-1] + half)[:, None] + half[:, None] * nodes).ravel()
    w = (half[:, None] * weights).ravel() * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    if act.slope_function is not None:
        slope = act.slope_function(deviation * x)
    else:
        step = 1e-3 * deviation * np.min(np.diff(cuts))
        near = np.minimum(step, 0.5 * np.abs(x[:, None] - cuts).min(axis=1) * deviation)
        f = act.function
        h = deviation * x
        slope = (8 * (f(h + near / 2) - f(h - near / 2)) - (f(h + near) - f(h - near))) / (6 * near)
    return slope**2, w


def active_fraction(model: HiddenManifold) -> float:
    r"""Fraction of coordinates that respond to the latent, :math:`a=P(s'(h)\ne0)`: 1/2 for relu, 0 for sign.

    >>> active_fraction(HiddenManifold(0.5, "relu"))
    0.5
    """
    square, w = _slopes(model)
    return float(round(w[square > 0].sum(), 12))


def small_noise(model: HiddenManifold) -> SmallNoise:
    r"""The constants of :math:`t_c\simeq C\,e^{-2\alpha/d}`, for one alpha_D.

    For :math:`\alpha_D<a`: :math:`E\frac{vs'^2}{1+vs'^2}=\alpha_D` fixes `v`, and
    :math:`\log C=-1-\log v+\frac1{\alpha_D}E\log(1+vs'^2)+\sum_kf_k\log s_k`. Valid for an injective activation, and for relu,
    whose flat half only removes coordinates; a folded one (abs, quadratic, sin) has the same `C` up to the
    information that its folds take, and needs :math:`\alpha_D` small enough that the folds are resolved.

    Raises
    ------
    DomainError
        Array alpha_D, a latent variance 0, or no active coordinate (then see `discrete_threshold`).

    Source: [ours: docs/derivations/replica.md]; identity gives the Marchenko-Pastur :math:`\langle\log r\rangle` of [AALMV25].

    >>> round(small_noise(HiddenManifold(0.5, "identity")).log_C, 9)
    0.386294361
    """
    if np.ndim(model.alpha_D) != 0:
        raise DomainError("alpha_D", model.alpha_D, "one number", "call small_noise for each")
    if min(model.variances) == 0:
        raise DomainError("variances", model.variances, "numbers > 0", "leave the directions of variance 0 out of D")
    square, w = _slopes(model)
    a = active_fraction(model)
    if a == 0:
        raise DomainError("activation", model.s.name, "not piecewise constant", "see discrete_threshold")
    alpha_D = float(model.alpha_D)
    if alpha_D >= a:
        return SmallNoise(a, a, float("nan"), float("nan"))

    def excess(log_v):
        u = np.exp(log_v) * square
        return w @ (u / (1 + u)) - alpha_D

    log_v = brentq(excess, -60.0, 200.0, xtol=1e-14, rtol=8.9e-16, maxiter=500)
    prior = float(np.dot(model.fractions, np.log(model.variances)))
    log_C = -1 - log_v + (w @ np.log1p(np.exp(log_v) * square)) / alpha_D + prior
    return SmallNoise(alpha_D, a, float(np.exp(log_v)), float(log_C))


def discrete_threshold(model: HiddenManifold) -> float:
    r"""The :math:`\alpha` above which data with two values per coordinate (sign) collapse at no positive time.

    The data take :math:`e^{N\alpha_{th}}` typical values; with more samples than that they repeat. With :math:`u=\omega/\sqrt V`:
    :math:`\alpha_{th}=-\frac{\alpha_D}2(1-V+\log V)-E\sum_\pm\Phi(\pm u)\log\Phi(\pm u)` at
    :math:`1/V=1+\frac1{\alpha_DV}E\sum_\pm\varphi(u)^2/\Phi(\pm u)`; unit field variance without loss of generality.

    Raises
    ------
    DomainError
        An activation other than a step at 0 between two values, latent variances that differ, or array alpha_D.

    Source: [ours: docs/derivations/replica.md], the `t -> 0` limit of the collapse condition.

    >>> round(discrete_threshold(HiddenManifold(1.0, "sign")), 6)
    0.596441
    """
    pieces = model.s.pieces
    if pieces is None or pieces[2] != 0 or pieces[4] != 0 or pieces[0] != 0 or pieces[1] == pieces[3]:
        raise DomainError("activation", model.s.name, "a step at 0 between two values, such as sign")
    if np.ndim(model.alpha_D) != 0 or len(set(model.variances)) > 1:
        raise DomainError("model", model, "one alpha_D and equal latent variances")
    alpha_D = float(model.alpha_D)

    def average(V, function):
        # the integrand lives on the scale sqrt(V) of omega; beyond 40 of it, both terms vanish
        q = 1 - V
        u, w = _gauss_panels(min(40.0, 9.0 * np.sqrt(q / V)))
        density = np.exp(-0.5 * u**2 * V / q) * np.sqrt(V / (2 * np.pi * q))
        return float((w * density) @ function(u))

    def force(u):
        return np.exp(-(u**2)) / (2 * np.pi) * (1 / ndtr(np.clip(u, -37, 37)) + 1 / ndtr(np.clip(-u, -37, 37)))

    def entropy(u):
        return -(ndtr(u) * log_ndtr(u) + ndtr(-u) * log_ndtr(-u))

    def mismatch(log_V):
        V = np.exp(log_V)
        # 1/V = 1 + c, written as V + V c - 1 = 0 with V c = E force / alpha_D
        return V + average(V, force) / alpha_D - 1

    log_V = brentq(mismatch, -80.0, -1e-9, xtol=1e-14, rtol=8.9e-16)
    V = np.exp(log_V)
    return float(-0.5 * alpha_D * (1 - V + log_V) + average(V, entropy))


def _gauss_panels(reach: float):
    nodes, weights = np.polynomial.legendre.leggauss(16)
    cuts = np.linspace(-reach, reach, int(4 * reach) + 33)
    half = np.diff(cuts) / 2
    return ((cuts[:-1] + half)[:, None] + half[:, None] * nodes).ravel(), (half[:, None] * weights).ravel()
