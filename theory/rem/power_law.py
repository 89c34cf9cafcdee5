r"""The times of power-law spectra for many samples, derived from the poles of a Mellin transform.

With :math:`u=c/t`, the mutual information of :math:`r_k=c\,k^{-a}` is the harmonic sum :math:`S(u)=\sum_k\log(1+u\,k^{-a})`.
Its Mellin transform is that of the summand times :math:`\zeta(-as)`. Its poles right of the strip :math:`-1<s<-1/a` give

.. math:: S(u)=\frac\pi{\sin(\pi/a)}u^{1/a}-\tfrac12\log u-\tfrac a2\log2\pi+\sum_{n\ge1}\frac{(-1)^{n+1}}n\zeta(-an)\,u^{-n},

those left of it the other end. Onset, condensation and optimum follow by differentiation, because every Gaussian integrand is a
combination of :math:`\log(1+z)` and its logarithmic derivatives (`theory.rem.gaussian.MutualInformation`). Without the last sum
the equation :math:`2\log P=Kx-\frac a2\log(2\pi x)-h`, :math:`x=u^{1/a}`, is solved by Lambert's W. Source:
[ours: docs/derivations/power_laws.md].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import sympy as sp

from theory.notation import N, delta, t
from theory.rem.gaussian import MutualInformation, gaussian_rem, integrals
from theory.result import Result

__all__ = ["PowerLawTime", "log_critical_size", "mutual_information", "power_law_time", "truncation_shift"]

a = sp.Symbol("a", positive=True)  # exponent, > 1
c = sp.Symbol("c", positive=True)  # largest eigenvalue
u = sp.Symbol("u", positive=True)  # c/t
x = sp.Symbol("x", positive=True)  # u^(1/a): the number of directions above the noise
log_P = sp.Symbol("ell", positive=True)  # log P
_s = sp.Symbol("s")


@dataclass(frozen=True)
class PowerLawTime(Result):
    r"""A time of a power law for many samples: `equation` is solved by Lambert's W, `leading` is its first term.

    Attributes
    ----------
    kind : the time
    leading : its leading order in log P, of relative error :math:`O(\log\log P/\log P)`
    order : the relative error of `equation` is of this power of :math:`1/\log P` (for an even exponent a it is
        exponentially small, because zeta vanishes at the even negative integers)
    """

    kind: str = ""
    leading: sp.Expr = sp.S.Zero
    order: sp.Expr = sp.S.Zero

    @property
    def expression(self) -> sp.Expr:
        return self.equation.rhs


def _zeta_at(argument: sp.Expr, pole: sp.Expr) -> sp.Expr:
    """The two leading terms of zeta(argument) about s = pole where argument is 0 there: zeta(0), zeta'(0)."""
    assert argument.subs(_s, pole) == 0
    return -sp.Rational(1, 2) - argument * sp.log(2 * sp.pi) / 2


@cache
def mutual_information(terms: int = 0) -> sp.Expr:
    r"""S(u) at large u, from the poles of its Mellin transform; `terms` of the sum of inverse powers of u.

    The transform of :math:`\log(1+z)` is :math:`\pi/(s\sin\pi s)`, and :math:`\sum_k(uk^{-a})^{-s}=u^{-s}\zeta(-as)`: a simple
    pole of zeta at s = -1/a, a double one at 0, simple ones at 1, 2, ... Closed to the right, each counts negative.

    >>> mutual_information(1)
    -a*log(pi)/2 - a*log(2)/2 + pi*u**(1/a)/sin(pi/a) - log(u)/2 + zeta(-a)/u
    """
    kernel, power = sp.pi / (_s * sp.sin(sp.pi * _s)), u ** (-_s)
    # zeta(-a s) has residue 1 in its argument at argument 1, hence -1/a in s
    at_zeta = (kernel * power).subs(_s, -1 / a) * (-1 / a)
    regular = sp.series(kernel * _s**2, _s, 0, 2).removeO() * power * _zeta_at(-a * _s, sp.S.Zero)
    at_zero = sp.diff(regular, _s).subs(_s, 0)
    # sin(pi s) = (-1)^n pi (s - n) + ...
    inverse = [(-1) ** n / sp.Integer(n) * u ** (-n) * sp.zeta(-a * n) for n in range(1, terms + 1)]
    return sp.expand(sp.simplify(-at_zeta)) + sp.expand(-at_zero) - sp.Add(*inverse)


def _coefficients(kind: str) -> MutualInformation:
    return MutualInformation.of(integrals(gaussian_rem())[kind].subs(delta, 0))


def _next_order(kind: str) -> sp.Expr:
    r"""Power of 1/x of the first term :math:`u^{-n}` that the integrand of `kind` keeps: u d/du multiplies it by -n."""
    info = _coefficients(kind)
    n = next(n for n in range(1, 5) if sp.simplify(info.c0 - n * info.c1 + n**2 * info.c2) != 0)
    return n * a


def _integral(kind: str) -> sp.Expr:
    """The sum over directions of the integrand of `kind` at large u, a function of x = u^(1/a)."""
    info = _coefficients(kind)
    level = sp.expand_log(mutual_information().subs(u, x**a), force=True)

    def slope(f):  # u d/du
        return sp.expand(x * sp.diff(f, x) / a)

    trace = slope(level)  # sum of z/(1+z)
    return sp.expand(info.c0 * level + info.c1 * trace + info.c2 * slope(trace))


@cache
def power_law_time(kind: str) -> PowerLawTime:
    r"""The time of `kind` of a power law for many samples, with Lambert's W; generalization is :math:`t_g` times N.

    .. math:: t=c\Big(\frac{2\pi}{y}\Big)^a,\qquad y=-\frac{\pi a}KW_{-1}\Big(-\frac K{\pi a}e^{-2(2\log P+h)/a}\Big)

    with :math:`K=\frac\pi{\sin(\pi/a)}\{1,\ 1+\frac1a,\ 1-\frac1{a^2}\}` and :math:`h=\{0,\ \frac12,\ 0\}` at collapse, onset and
    condensation.

    Parameters
    ----------
    kind : "onset", "collapse", "condensation" or "generalization"

    Returns
    -------
    PowerLawTime, in the symbols c, a and ell = log P (and N for generalization, whose noise is a mean over dimensions)

    >>> power_law_time("collapse").leading
    c*(pi/(2*ell*sin(pi/a)))**a
    """
    solved = "condensation" if kind == "generalization" else kind
    value = _integral(solved)
    logs = value.coeff(sp.log(x))
    K, h = sp.simplify(value.coeff(x)), sp.simplify(-(value - value.coeff(x) * x - logs * sp.log(x)))
    assert sp.simplify(logs + a / 2) == 0
    h = sp.simplify(h - a * sp.log(2 * sp.pi) / 2)  # 2 log P = K x - a/2 log(2 pi x) - h
    y = -sp.pi * a / K * sp.LambertW(-K / (sp.pi * a) * sp.exp(-2 * (2 * log_P + h) / a), -1)
    number, first = y / (2 * sp.pi), 2 * log_P / K  # x, and its leading order
    time, leading = c * number ** (-a), c * (K / (2 * log_P)) ** a
    order = _next_order(solved) + 1  # an error of the integral moves log t by it over the slope, of order x
    name = {"onset": "t_o", "collapse": "t_c", "condensation": "t_cond", "generalization": "t_g"}[kind]
    if kind == "generalization":
        noise = _integral("generalization")  # N t_g/t_cond
        order = sp.Min(order, _next_order("generalization") + 1)
        time, leading = time * noise.subs(x, number) / N, leading * (noise.coeff(x) * first) / N
    return PowerLawTime(
        f"{kind} time of a power law",
        sp.Eq(sp.Symbol(name), time),
        "r_k = c k^-a, a > 1, k = 1..N, for noise between the smallest eigenvalue c N^-a and the largest, c",
        "log P -> infinity, log P << N",
        ("ours: docs/derivations/power_laws.md",),
        kind=kind,
        leading=sp.simplify(leading),
        order=order,
    )


@cache
def truncation_shift(kind: str = "collapse") -> sp.Expr:
    r"""Relative shift of a time by the end of the list at k = N, first order in the smallest eigenvalue, in u = c/t, a and N.

    The limit counts the directions beyond N, :math:`\sum_{k>N}u\,k^{-a}=u\,\zeta(a,N+1)` to first order; the slope of the
    integral in log u turns it into a shift of log t. At condensation (hence for the optimum's noise) the first order vanishes.

    Parameters
    ----------
    kind : "onset", "collapse" or "condensation"

    Returns
    -------
    sympy expression: log t(N directions) - log t(limit), negative or 0

    >>> truncation_shift("condensation")
    0
    """
    if kind == "generalization":
        raise ValueError(f"kind = {kind!r}: it must be one of onset, collapse, condensation")
    info = _coefficients(kind)
    first = sp.simplify(info.c0 + info.c1 + info.c2)  # of the integrand at small z
    slope = (x * sp.diff(_integral(kind), x) / a).subs(x, u ** (1 / a))
    return -first * u * sp.zeta(a, N + 1) / slope


@cache
def log_critical_size(terms: int = 0) -> Result:
    r"""Logarithm of the critical data-set size at noise t: :math:`P_c` is a stretched exponential in :math:`1/t^{1/a}`.

    .. math:: \log P_c=\frac\pi{2\sin(\pi/a)}\Big(\frac ct\Big)^{1/a}-\frac14\log\frac ct-\frac a4\log2\pi+\dots

    >>> log_critical_size().equation.rhs.coeff(sp.log(t))
    1/4
    """
    half = sp.expand(mutual_information(terms).subs(u, c / t) / 2)
    return Result(
        "critical data-set size of a power law",
        sp.Eq(log_P, half),
        "as `power_law_time`",
        "t << c",
        ("ours: docs/derivations/power_laws.md",),
    )
