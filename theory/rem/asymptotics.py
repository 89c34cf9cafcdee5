r"""The limits of the Gaussian times, each derived by series from the integral that defines the time, never copied in.

Small load expands the integrand in :math:`z=r/t`; large load expands it at :math:`z\to\infty`; the limits of the linear
manifold come from its explicit curve. Every `Limit` carries the quantity that vanishes in it and the order of what is left
out, and one parametrised test (tests/test_asymptotics.py) measures that order against the solver. Source: [AALMV25]; the
next orders are [ours: docs/derivations/asymptotics.md].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import sympy as sp

from theory.models import GaussianModel, Isotropic, LinearManifold, Spectrum, Subspaces
from theory.notation import V, alpha, alpha_D, chi, delta
from theory.rem.gaussian import MutualInformation, explicit_curve, gaussian_rem, integrals
from theory.result import Result

__all__ = ["Limit", "all_limits", "few_latents", "large_load", "mean_log", "small_load", "spectral_moments"]

M1, M2 = sp.symbols("M_1 M_2", positive=True)  # <r>, <r^2>
mass = sp.Symbol("m", positive=True)  # fraction of non-zero eigenvalues
log_mean = sp.Symbol("ell", real=True)  # <log r> over the non-zero eigenvalues
kappa = sp.Symbol("kappa", positive=True)  # log P / D


@dataclass(frozen=True)
class Limit(Result):
    r"""A limit of one time: `equation` is `Eq(time, expression)` and `order` the power of what is left out, relatively.

    Attributes
    ----------
    kind : the time
    small : sympy expression that vanishes in the limit
    order : the relative error is of this power of `small` (`None`: smaller than every power measured)
    """

    kind: str = ""
    small: sp.Expr = sp.S.Zero
    order: sp.Rational | None = None

    @property
    def expression(self) -> sp.Expr:
        return self.equation.rhs


@cache
def _integrand(kind: str) -> MutualInformation:
    return MutualInformation.of(integrals(gaussian_rem())[kind].subs(delta, 0))


def _name(kind: str) -> sp.Symbol:
    return sp.Symbol({"onset": "t_o", "collapse": "t_c", "condensation": "t_cond", "generalization": "t_g"}[kind])


@cache
def small_load(kind: str) -> Limit:
    r"""The time of `kind` for :math:`\alpha\to0`, two orders, in the moments of the spectrum.

    With :math:`\phi(z)=az^p+bz^{p+1}+\dots`, the equation
    :math:`2\alpha=a\langle r^p\rangle t^{-p}+b\langle r^{p+1}\rangle t^{-p-1}` is inverted for t.

    >>> small_load("collapse").equation
    Eq(t_c, M_1/(2*alpha) - M_2/(2*M_1))
    """
    info = _integrand(kind if kind != "generalization" else "condensation")
    z = info.z
    series = sp.series(info.integrand, z, 0, 4).removeO()
    p = min(n for n in range(1, 4) if series.coeff(z, n) != 0)
    a, b = series.coeff(z, p), series.coeff(z, p + 1)
    moments = {1: M1, 2: M2}
    leading = sp.root(a * moments[p] / (2 * alpha), p)
    if kind == "generalization":
        noise = sp.series(_integrand("generalization").integrand, z, 0, 3).removeO()
        value = noise.coeff(z, 1) * M1 + noise.coeff(z, 2) * M2 / leading
        order = sp.S.One  # of the next term, in alpha
    elif p == 1:
        value = leading + b * M2 / (p * a * M1)
        order = sp.Integer(2)
    else:
        value, order = leading, sp.Rational(1, 2)
    return Limit(
        f"{kind} time at small load",
        sp.Eq(_name(kind), sp.expand(value)),
        "every Gaussian model",
        "alpha -> 0",
        ("AALMV25", "ours: docs/derivations/asymptotics.md"),
        kind=kind,
        small=alpha,
        order=order,
    )


@cache
def large_load(kind: str) -> Limit:
    r"""The time of `kind` for :math:`\alpha\to\infty`, in the mass and the mean logarithm of the non-zero spectrum.

    At :math:`z\to\infty`, :math:`\phi=c_0\log z+c_1+O(1/z)`, so :math:`2\alpha=m(c_0\langle\log r\rangle-c_0\log t+c_1)`.

    >>> large_load("onset").equation
    Eq(t_o, exp(-2*alpha/m + ell + 1))
    """
    info = _integrand(kind if kind != "generalization" else "condensation")
    level, order = _at_infinity(info)
    value = sp.exp(log_mean + level / info.c0 - 2 * alpha / (mass * info.c0))
    if kind == "generalization":
        ratio, next_order = _at_infinity(_integrand("generalization"))
        value, order = value * mass * ratio, min(order, next_order)
    return Limit(
        f"{kind} time at large load",
        sp.Eq(_name(kind), value),
        "Gaussian models whose non-zero spectrum is bounded away from 0 (so not the linear manifold at alpha_D = 1)",
        "alpha -> infinity",
        ("AALMV25",),
        kind=kind,
        small=sp.exp(-2 * alpha / mass),
        order=order,
    )


def _at_infinity(info: MutualInformation) -> tuple[sp.Expr, sp.Integer]:
    r"""The constant of the integrand at :math:`z\to\infty` (its logarithm taken out) and the power of 1/z that follows."""
    w = sp.Symbol("w", positive=True)
    smooth = info.c0 * sp.log(1 + w) + (info.c1 / (1 + w) + info.c2 * w / (1 + w) ** 2)  # z = 1/w
    series = sp.series(smooth, w, 0, 4).removeO()
    return series.coeff(w, 0), next(sp.Integer(n) for n in range(1, 4) if series.coeff(w, n) != 0)


@cache
def few_latents(kind: str = "collapse") -> Limit:
    r"""The time of a linear manifold for :math:`\alpha_D\to0` at fixed :math:`\kappa=\alpha/\alpha_D=\log P/D`.

    From the explicit curve in V, with :math:`t=\theta/\alpha_D`; closed form for collapse (the curse of dimensionality is in D).

    >>> few_latents().equation
    Eq(t_c, 1/(alpha_D*(exp(2*kappa) - 1)))
    """
    if kind != "collapse":
        raise ValueError(f"kind = {kind!r}: only collapse has a closed form in this limit")
    value, time, _ = explicit_curve(integrals(gaussian_rem())[kind])
    ratio = sp.limit(value / alpha_D, alpha_D, 0)  # 2 kappa as a function of V
    theta = sp.limit(time * alpha_D, alpha_D, 0)
    (solution,) = sp.solve(sp.Eq(2 * kappa, ratio), V)
    return Limit(
        "collapse time of few latents",
        sp.Eq(_name(kind), sp.simplify(theta.subs(V, solution)) / alpha_D),
        "LinearManifold with one latent variance 1, alpha = kappa alpha_D",
        "alpha_D -> 0 at fixed kappa = log P / D",
        ("AALMV25",),
        kind=kind,
        small=alpha_D,
        order=sp.S.One,
    )


@cache
def mean_log(side: str) -> sp.Expr:
    r""":math:`\langle\log r\rangle` over the Marchenko-Pastur bulk, in closed form, for alpha_D "below" or "above" 1.

    :math:`\lim_{t\to0}[\mathcal L(t)+m\log t]/m` along the explicit curve, which ends at V = 0 or at V = 1 - 1/alpha_D.

    >>> mean_log("below")
    (alpha_D*log(-(alpha_D - 1)/alpha_D) - alpha_D - log(1 - alpha_D))/alpha_D
    """
    value, time, _ = explicit_curve(integrals(gaussian_rem())["collapse"])
    regular = sp.simplify(sp.expand_log(value + alpha_D * sp.log(V)))  # without its logarithm at V -> 0
    if side == "below":
        # log t = log V + log((1 - alpha_D)/alpha_D) + o(1)
        constant = regular.subs(V, 0) + alpha_D * sp.log(sp.limit(time / V, V, 0))
        return sp.simplify(constant) / alpha_D
    if side != "above":
        raise ValueError(f"side = {side!r}: it must be 'below' or 'above'")
    end = 1 - 1 / alpha_D
    vanishing = alpha_D * (V - 1) + 1  # V at the end: t = V * vanishing / (alpha_D (1 - V)), and log(vanishing) cancels
    smooth = value + sp.log(vanishing) + sp.log(sp.cancel(time / vanishing))
    return sp.simplify(smooth.subs(V, end))


@cache
def _latent_second_moment() -> sp.Expr:
    r""":math:`\langle r^2\rangle` of the generalised Marchenko-Pastur law from the series of the saddle point in chi."""
    s1, s2, u = sp.symbols("s_1 s_2 u", positive=True)
    A = alpha_D * (s1 * chi - s2 * chi**2)  # alpha_D Lambda'(log chi), to second order in chi
    inverse_time = sp.series(alpha_D * chi / (1 - A), chi, 0, 3).removeO()  # the constraint
    first, second = inverse_time.coeff(chi, 1), inverse_time.coeff(chi, 2)
    chi_of_u = u / first - second * u**2 / first**3
    return sp.simplify(-sp.expand(A.subs(chi, chi_of_u)).coeff(u, 2))  # A = <r/(r+t)> = <r> u - <r^2> u^2 + ...


def spectral_moments(model: GaussianModel) -> dict[sp.Symbol, float]:
    r"""Numbers for the symbols of the limits: the moments, the mass, and :math:`\langle\log r\rangle` (NaN if unknown)."""
    if isinstance(model, LinearManifold):
        f, s = np.asarray(model.fractions), np.asarray(model.variances)
        aD = float(model.alpha_D)
        s1, s2 = sp.symbols("s_1 s_2", positive=True)
        second = float(_latent_second_moment().subs({s1: np.dot(f, s), s2: np.dot(f, s**2), alpha_D: aD}))
        log = np.nan
        if model.variances == (1.0,) and aD != 1:
            log = float(mean_log("below" if aD < 1 else "above").subs(alpha_D, aD))
        filled = aD * float(f[s > 0].sum())
        return {M1: model.mean_variance, M2: second, mass: min(filled, 1.0), log_mean: log, alpha_D: aD}
    if isinstance(model, Isotropic):
        weights, values = np.ones(1), np.array([float(model.variance)])
    elif isinstance(model, Subspaces):
        weights, values = np.asarray(model.fractions), np.asarray(model.variances)
    elif isinstance(model, Spectrum):
        weights, values = np.full(model.N, 1 / model.N), model.eigenvalues
    else:
        raise TypeError(f"{type(model).__name__} has no covariance spectrum")
    weights, values = weights[values > 0], values[values > 0]
    return {
        M1: float(weights @ values),
        M2: float(weights @ values**2),
        mass: float(weights.sum()),
        log_mean: float(weights @ np.log(values) / weights.sum()),
    }


@cache
def all_limits() -> tuple[Limit, ...]:
    """Every declared limit, derived on first use."""
    kinds = ("onset", "collapse", "condensation", "generalization")
    return (*map(small_load, kinds), *map(large_load, kinds), few_latents())
