r"""Gaussian moments of an activation on noisy data: what a random feature sees of the data, of the noise, and neither.

A feature is :math:`s(\sqrt c\,u+\sqrt\Delta\,v)` with u from the data, v from the noise, independent standard normals, and
:math:`\Gamma^2=c+\Delta`. Seen over many features it equals a linear model with two independent noises,

.. math:: a\sqrt c\,u+b\,v+(\text{one noise a sample, variance }v^2)+(\text{one noise a draw, variance }s^2),

    a=E\,s'=E[u\,s(\Gamma u)]/\Gamma,\quad b=\sqrt\Delta\,a,\quad K(c)=E\,s(x)s(y),\ \mathrm{Cov}(x,y)=c,
    \quad v^2=K(c)-K(0)-a^2c,\quad s^2=K(\Gamma^2)-K(c)-a^2\Delta .

K comes in closed form from Price's theorem, :math:`\partial_c^nK=E\,s^{(n)}(x)s^{(n)}(y)`, where some derivative of s is a
Gaussian or a delta function; from Hermite coefficients for polynomials; by quadrature else. Sources: [GMKZ20], [BUBM25]; the mean
:math:`K(0)=(E\,s)^2`, which [BUBM25] sets to 0, gives one eigenvalue of order p and is left out [ours:
docs/derivations/training_time.md].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import mpmath
import numpy as np
import sympy as sp

from numerics.domain import DomainError, nonnegative, positive
from theory.models import Activation, activation

__all__ = ["FeatureMoments", "c", "closed_form_moments", "feature_moments", "variance"]

c = sp.Symbol("c", nonnegative=True)  # covariance of two fields that share the data: e^{-2t} sigma_x^2 in OU time
variance = sp.Symbol("Gamma2", positive=True)  # Gamma^2: variance of each, c + Delta
_x = sp.Symbol("x", real=True)
_COEFFICIENTS = 240  # Hermite coefficients of a smooth activation
_LEGENDRE = np.polynomial.legendre.leggauss(20)
_REACH = 9.0  # of the normal law, in standard deviations
_ENDS = 1e-6  # of E s^2 in its last quarters, from which it is not finite
_TAIL = 1e-13  # of E s^2 that they may leave out; else nested quadrature
_HALVINGS, _SETTLED = 5, 1e-9  # of its panels at most; relative change at which they are fine enough
_ROUGH = 1e-3  # change that is still taken after the last
_DIGITS = 60  # of closed forms


@dataclass(frozen=True)
class FeatureMoments:
    """The four moments, and the Ornstein-Uhlenbeck constants they belong to.

    Attributes
    ----------
    a, b : float
        Linear response to the data, and b = sqrt(Delta) a to the noise.
    v2, s2 : float
        Variance shared by the noisy copies of a sample, and variance that each draw of the noise has of its own.
    Delta : float
        Noise variance, :math:`1-e^{-2t}`.
    decay : float
        :math:`e^{-2t}`, by which data variances shrink.
    """

    a: float
    b: float
    v2: float
    s2: float
    Delta: float
    decay: float


def _expectation(f: sp.Expr) -> sp.Expr:
    """E f(x) of a polynomial for x ~ N(0, Gamma^2)."""
    terms = sp.Poly(f, _x).terms()
    return sp.Add(*(w * sp.factorial2(n - 1) * variance ** (n // 2) for (n,), w in terms if n % 2 == 0))


def _arcsine(scale: sp.Expr, order: int) -> sp.Expr:
    r"""K beyond its first terms in c where :math:`\partial_c^nK=\kappa/\sqrt{G^2-c^2}`: integrate n times from 0."""
    G = sp.Symbol("G", positive=True)
    kernel = scale / sp.sqrt(G**2 - c**2)
    for _ in range(order):
        kernel = sp.integrate(kernel, c)
        kernel -= kernel.subs(c, 0)
    return kernel.subs(G, variance)


@cache
def _kernel(name: str) -> tuple[sp.Expr, sp.Expr, sp.Expr] | None:
    """(K, a, mean) in closed form, of the activations for which Price's theorem ends in an elementary integral."""
    pi = sp.pi
    if name == "erf":
        # s' = 2 exp(-x^2)/sqrt(pi): E s'(x)s'(y) = (4/pi)/sqrt(det(1 + 2C)), an arcsine of 2c/(1 + 2 Gamma^2)
        kernel = _arcsine(2 / pi, 1).subs({c: 2 * c, variance: 1 + 2 * variance}, simultaneous=True)
        return kernel, 2 / sp.sqrt(pi * (1 + 2 * variance)), sp.S.Zero
    # s'' or s' is a delta function: E delta(x)delta(y) = 1/(2 pi sqrt(Gamma^4 - c^2)), times the jumps squared
    if name == "sign":
        return _arcsine(2 / pi, 1), sp.sqrt(2 / (pi * variance)), sp.S.Zero
    half = {"relu": sp.Rational(1, 2), "leaky_relu": sp.Rational(99, 200), "abs": sp.S.One}.get(name)
    if half is None:
        return None
    slope = {"relu": half, "leaky_relu": sp.Rational(101, 200), "abs": sp.S.Zero}[name]  # s = slope x + half |x|
    mean = half * sp.sqrt(2 * variance / pi)
    return mean**2 + slope**2 * c + half**2 * _arcsine(2 / pi, 2), slope, mean


def _polynomial(expression: sp.Expr, symbol: sp.Symbol) -> tuple[sp.Expr, sp.Expr, sp.Expr]:
    """(K, a, mean) of a polynomial: K is the sum over n of (E s^(n))^2 c^n/n!, which ends."""
    kernel, derivative, n = sp.S.Zero, expression.xreplace({symbol: _x}), 0
    means = []
    while derivative != 0:
        means.append(_expectation(derivative))
        kernel += means[-1] ** 2 * c**n / sp.factorial(n)
        derivative, n = sp.diff(derivative, _x), n + 1
    return sp.expand(kernel), (means[1] if len(means) > 1 else sp.S.Zero), means[0]


@cache
def closed_form_moments(value: Any) -> tuple[sp.Expr, sp.Expr, sp.Expr] | None:
    r"""(a, v^2, s^2) of an activation as sympy expressions in :math:`c` and :math:`\Gamma^2`, or None without a closed form.

    Parameters
    ----------
    value : as in `theory.models.activation`
        erf, relu, leaky_relu, sign, abs and polynomials have closed forms.

    >>> closed_form_moments("quadratic")
    (0, 2*c**2, 2*Gamma2**2 - 2*c**2)
    """
    act = value if isinstance(value, Activation) else activation(value)
    found = _kernel(act.name)
    if found is None and act.expression is not None and len(act.expression.free_symbols) == 1:
        (symbol,) = act.expression.free_symbols
        if act.expression.is_polynomial(symbol):
            found = _polynomial(act.expression, symbol)
    if found is None:
        return None
    kernel, a, mean = found
    shared = sp.expand(kernel - mean**2 - a**2 * c)
    own = sp.expand(kernel.subs(c, variance) - kernel - a**2 * (variance - c))
    return a, shared, own


@lru_cache(maxsize=256)
def _by_quadrature(act: Activation, shared: float, noise: float) -> tuple[float, float, float]:
    r"""(a, v^2, s^2): :math:`K(c)=\sum_nc_n^2(c/\Gamma^2)^n` from Hermite coefficients, else nested panels."""
    total = shared + noise
    x, w = _panels(_kinks(act) / np.sqrt(total), 1 / np.sqrt(total))
    with np.errstate(over="ignore"):
        values = act.function(np.sqrt(total) * x)
        square = w @ values**2
        ends = w[np.abs(x) > _REACH - 0.25] @ values[np.abs(x) > _REACH - 0.25] ** 2
    if not (np.isfinite(square) and ends <= _ENDS * square):
        raise DomainError("activation", act.name, "a function with finite Gaussian moments")
    previous, current = np.zeros_like(x), np.ones_like(x)
    coefficients = np.empty(_COEFFICIENTS)
    for n in range(_COEFFICIENTS):  # normalised Hermite polynomials
        coefficients[n] = w @ (values * current)
        previous, current = current, (x * current - np.sqrt(n) * previous) / np.sqrt(n + 1)
    squares = coefficients[2:] ** 2
    rest = w @ (values - coefficients[0] - coefficients[1] * x) ** 2
    if abs(rest - squares.sum()) <= _TAIL * square:
        n, log_share = np.arange(2, _COEFFICIENTS), np.log1p(-noise / total) if shared > 0 else -np.inf
        v2, s2 = float(squares @ np.exp(n * log_share)), float(-squares @ np.expm1(n * log_share))
        return float(coefficients[1] / np.sqrt(total)), v2, s2
    return _nested(act, shared, noise)


def _nested(act: Activation, shared: float, noise: float) -> tuple[float, float, float]:
    """(a, v^2, s^2) on panels that are halved until nothing moves."""
    before = None
    for halvings in range(_HALVINGS):
        *found, scale = _nested_once(act, shared, noise, 4 * 0.5**halvings)
        if before is not None and np.allclose(found, before, rtol=_SETTLED, atol=_TAIL * scale):
            return tuple(found)
        last, before = before, found
    if np.allclose(before, last, rtol=_ROUGH, atol=_ROUGH * scale):  # kinks or jumps that nobody has told
        return tuple(before)
    remedy = "Where it has kinks or jumps, make an activation that knows their places, its breakpoints"
    raise DomainError("activation", act.name, "a function whose Gaussian moments converge on halved panels", remedy)


def _nested_once(act: Activation, shared: float, noise: float, coarse: float) -> tuple[float, float, float, float]:
    r"""(a, v^2, s^2, E s^2), squares averaged so that nothing cancels.

    With :math:`m(u)=E_vs`: :math:`v^2=E(m-Em-a\sqrt cu)^2` and :math:`s^2=E(s-m-a\sqrt\Delta v)^2`.
    """
    total = shared + noise
    x, w = _panels(_kinks(act) / np.sqrt(total), 1 / np.sqrt(total), coarse)
    values = act.function(np.sqrt(total) * x)
    mean, a, scale = w @ values, (w @ (values * x)) / np.sqrt(total), w @ values**2
    # the inner average bends at each kink on the scale of the noise; for each node the inner panels are cut at the kinks
    ratio = np.sqrt(max(shared, 1e-300))
    u, w = _panels(_kinks(act) / ratio, min(1.0, np.sqrt(noise)) / ratio, coarse)
    v2 = s2 = 0.0
    for node, weight in zip(u, w, strict=True):
        if weight > 1e-22:
            kinks = (np.asarray(act.breakpoints) - np.sqrt(shared) * node) / np.sqrt(noise)
            v, inner = _panels(kinks, 1.0, 2 * coarse)
            values = act.function(np.sqrt(shared) * node + np.sqrt(noise) * v)
            m = inner @ values
            v2 += weight * (m - mean - a * np.sqrt(shared) * node) ** 2
            s2 += weight * (inner @ (values - m - a * np.sqrt(noise) * v) ** 2)
    return float(a), float(v2), float(s2), float(scale)


def _kinks(act: Activation) -> np.ndarray:
    """Where the function bends sharply, or may: its kinks, and 0."""
    return np.append(np.asarray(act.breakpoints, dtype=float), 0.0)


def _panels(kinks: np.ndarray, finest: float, coarse: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the standard normal law: 20 Gauss-Legendre nodes on each panel of [-_REACH, _REACH].

    Panels are a quarter of `coarse` wide, and halve towards each of the `kinks` down to a quarter of `finest`.
    """
    nodes, weights = _LEGENDRE
    halves = max(0, int(np.ceil(np.log2(coarse / finest))))
    ladder = 0.25 * coarse * 0.5 ** np.arange(halves + 1)
    near = (kinks[:, None] + np.concatenate([[0.0], ladder, -ladder])).ravel()
    limits = np.union1d(
        np.linspace(-_REACH, _REACH, int(np.ceil(8 * _REACH / coarse)) + 1), near[np.abs(near) < _REACH]
    )
    half = np.diff(limits) / 2
    x = ((limits[:-1] + half)[:, None] + half[:, None] * nodes).ravel()
    return x, (half[:, None] * weights).ravel() * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


@cache
def _compiled(value: Any):
    found = closed_form_moments(value)
    return None if found is None else sp.lambdify((c, variance), found, modules="mpmath")


def feature_moments(value: Any, t: float, sigma2: float = 1.0) -> FeatureMoments:
    r"""The moments a, b, v^2, s^2 of an activation for data of variance sigma2 per coordinate at VE time t.

    With :math:`\Delta=t/(1+t)` and :math:`e^{-2t_{OU}}=1/(1+t)`: :math:`c=\sigma_x^2/(1+t)`, :math:`\Gamma^2=c+\Delta`.

    Parameters
    ----------
    value : name, sympy expression, callable or `theory.models.Activation`
    t : number > 0
        VE time; the features see :math:`x/\sqrt{1+t}`, as in the variance-preserving convention.
    sigma2 : number >= 0
        :math:`\mathrm{tr}\,\Sigma/N`, squared data units.

    Returns
    -------
    FeatureMoments

    Raises
    ------
    DomainError
        t <= 0, sigma2 < 0, an unknown activation, or one whose moments are infinite or do not converge.

    Notes
    -----
    The failure that looks normal: moments hold for large N; a heavy-tailed norm of x makes c a random variable. A callable
    with kinks or jumps that `activation` was not told (`breakpoints`) has moments to about 1e-4 only.

    >>> m = feature_moments("tanh", t=np.expm1(0.02))
    >>> round(m.a, 6), round(m.v2, 6), round(m.s2, 6)
    (0.605706, 0.025542, 0.001874)
    """
    t, sigma2 = float(positive("t", t)), float(nonnegative("sigma2", sigma2))
    act = activation(value)
    Delta, decay = t / (1 + t), 1 / (1 + t)
    shared = decay * sigma2
    closed = _compiled(act)
    if closed is not None:
        with mpmath.workdps(
            _DIGITS
        ):  # s^2 is a difference: kinks leave sqrt(Delta) or Delta of it, smooth functions Delta^2
            a, v2, s2 = (float(x) for x in closed(mpmath.mpf(shared), mpmath.mpf(shared) + mpmath.mpf(Delta)))
    else:
        a, v2, s2 = _by_quadrature(act, shared, Delta)
    if not np.isfinite([a, v2, s2]).all():
        raise DomainError("activation", act.name, "a function with finite Gaussian moments")
    return FeatureMoments(float(a), float(np.sqrt(Delta) * a), float(v2), float(s2), Delta, decay)
