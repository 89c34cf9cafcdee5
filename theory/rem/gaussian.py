r"""Gaussian data: the cumulant generating function of a spectrum, and the saddle point of the linear manifold.

:math:`g(\beta;\delta)=-\frac12\int\rho(r)\,dr\left[\log(1+\beta r)+\beta\frac{r+\delta}{1+\beta r}\right]`, the atom of
:math:`\rho` at 0 included. For the linear manifold the integral is the value of an action of two order parameters at its
saddle point, so that every quantity is explicit along a curve. Source: [AALMV25]; derivation in docs/derivations/gaussian.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import sympy as sp

from theory.notation import SpectralAverage, V, above_atom, alpha_D, beta, chi, delta, merge, r, separate_logs, t
from theory.rem.energy_model import RandomEnergyModel

__all__ = ["LinearSaddle", "MutualInformation", "explicit_curve", "gaussian_rem", "integrals"]


def gaussian_rem() -> RandomEnergyModel:
    """The REM of Gaussian data with any spectrum."""
    return RandomEnergyModel(-SpectralAverage(sp.log(1 + beta * r) + beta * (r + delta) / (1 + beta * r)) / 2)


def integrals(rem: RandomEnergyModel) -> dict[str, sp.Expr]:
    r"""Every spectral integral the solvers need, each a `SpectralAverage` derived from the cumulant generating function.

    onset, collapse, condensation: what :math:`2\alpha` equals at that time t (condensation at squared distance
    :math:`\delta`); generalization: :math:`t_g/t` at :math:`t=t_{cond}`; free_entropy: :math:`-2g-\delta/t`; slope:
    :math:`(-2g'-\delta)/t`; trace: :math:`A=-t\,\mathcal L'`. (The term in :math:`\delta` taken out is the energy normal to
    the manifold; what remains vanishes on the atom at 0.)
    """
    at = {beta: 1 / t}
    return {
        "onset": merge(2 * rem.alpha_at("onset")),
        "collapse": merge(2 * rem.alpha_at("collapse")),
        "condensation": merge(2 * rem.alpha_at("condensation")),
        "generalization": merge(rem.optimal_noise / t),
        "free_entropy": above_atom(merge((-2 * rem.g).subs(at))),
        "slope": above_atom(merge((-2 * rem.slope).subs(at) / t)),
        "trace": merge(-t * sp.diff(2 * rem.alpha_at("collapse"), t)),
    }


@dataclass(frozen=True)
class MutualInformation:
    r"""A spectral integral written through :math:`\mathcal L(t)` and its logarithmic derivatives.

    With :math:`A=-t\mathcal L'`, :math:`B=-tA'`, an integrand that depends on :math:`z=r/t` as
    :math:`c_0\log(1+z)+c_1\frac z{1+z}+c_2\frac z{(1+z)^2}` averages to :math:`c_0\mathcal L+c_1A+c_2B`. All Gaussian
    times have that form; a model without an explicit spectrum needs no more than :math:`\mathcal L`.
    """

    c0: sp.Expr
    c1: sp.Expr
    c2: sp.Expr

    z = sp.Symbol("z", positive=True)  # r/t
    d = sp.Symbol("d", nonnegative=True)  # delta/t

    @classmethod
    def of(cls, average: sp.Expr) -> MutualInformation:
        """Decompose one spectral average whose integrand depends on r, t and delta by their ratios only."""
        z, d = cls.z, cls.d
        logs, f = separate_logs(average.integrand.subs({r: z * t, delta: d * t}, simultaneous=True))
        if set(logs.values()) - {sp.log(1 + z)}:
            raise ValueError(f"{average}: its logarithms are not log(1 + r/t)")
        c0 = sum((sp.simplify(f.coeff(symbol)) for symbol in logs), sp.S.Zero)
        rest = sp.cancel(sp.together(f.xreplace({symbol: 0 for symbol in logs})))
        s = sp.Symbol("s")
        in_s = sp.Poly(sp.cancel(rest.subs(z, s / (1 - s))), s)  # s = z/(1+z)
        coefficients = in_s.all_coeffs()[::-1]
        if t in rest.free_symbols or len(coefficients) > 3 or coefficients[0] != 0:
            raise ValueError(f"{average}: not a combination of L, A and B")
        coefficients += [sp.S.Zero] * (3 - len(coefficients))
        c2 = -coefficients[2]
        return cls(c0, sp.simplify(coefficients[1] - c2), c2)

    @property
    def integrand(self) -> sp.Expr:
        """The integrand as a function of z."""
        z = self.z
        return self.c0 * sp.log(1 + z) + self.c1 * z / (1 + z) + self.c2 * z / (1 + z) ** 2


@dataclass(frozen=True)
class LinearSaddle:
    r"""Saddle point of the linear manifold with latent spectrum :math:`\{f_k,s_k\}`.

    :math:`\mathcal L(t)=\mathrm{extr}_{V,\chi}\ \log(1+V/t)-\alpha_D\chi V+\alpha_D\Lambda(\log\chi)` with
    :math:`\Lambda(y)=\sum_kf_k\log(1+s_ke^y)`. The two stationarity conditions, the elimination of V and the derivatives of
    :math:`\mathcal L` are derived here from the action by differentiation; :math:`\Lambda` stays a general function.
    """

    x = sp.Symbol("x", real=True)  # log t
    y = sp.Symbol("y", real=True)  # log chi
    Lambda = sp.Function("Lambda")

    @cached_property
    def action(self) -> sp.Expr:
        return sp.log(1 + V / t) - alpha_D * chi * V + alpha_D * self.Lambda(sp.log(chi))

    def _repr_latex_(self) -> str:
        return rf"$\displaystyle \mathcal{{L}}(t)=\mathrm{{extr}}_{{V,\chi}}\;{sp.latex(self.action)}$"

    @cached_property
    def stationarity(self) -> tuple[sp.Expr, sp.Expr]:
        """Derivatives of the action by V and by chi; both vanish at the saddle."""
        return tuple(sp.simplify(sp.diff(self.action, variable).doit()) for variable in (V, chi))

    @cached_property
    def V_of_chi(self) -> sp.Expr:
        r""":math:`V=1/(\alpha_D\chi)-t`, from the stationarity in V."""
        (solution,) = sp.solve(self.stationarity[0], V)
        return solution

    @cached_property
    def constraint(self) -> sp.Expr:
        r""":math:`\alpha_De^{x+y}+\alpha_D\Lambda'(y)-1=0`: the remaining equation, increasing in y."""
        stationary = sp.diff(self.action, V).subs(V, self.V_of_chi)
        assert sp.simplify(stationary) == 0
        in_y = sp.diff(self.action.subs(chi, sp.exp(self.y)), self.y).doit()
        in_y = in_y.subs(V, self.V_of_chi).subs(chi, sp.exp(self.y)).subs(t, sp.exp(self.x))
        return sp.expand(sp.simplify(in_y))

    @cached_property
    def information(self) -> sp.Expr:
        r""":math:`\mathcal L` at the saddle, as a function of x and y."""
        value = self.action.subs(V, self.V_of_chi).subs(chi, sp.exp(self.y)).subs(t, sp.exp(self.x))
        return sp.simplify(value)

    R, S, T, A_, L = sp.symbols("R S T A Lambda", positive=True)

    def reduced(self, expression: sp.Expr) -> sp.Expr:
        r"""`expression` in the symbols R, Lambda, A, S and T.

        :math:`R=\alpha_De^{x+y}=1-A`, and A, S, T are :math:`\alpha_D` times the first three derivatives of :math:`\Lambda`.
        """
        derivatives = [self.Lambda(self.y).diff(self.y, n) for n in (3, 2, 1)]
        for derivative, symbol in zip(derivatives, (self.T, self.S, self.A_), strict=True):
            expression = expression.subs(derivative, symbol / alpha_D)
        e = expression.subs(self.Lambda(self.y), self.L).subs(self.x, sp.log(self.R / alpha_D) - self.y)
        return sp.simplify(sp.expand_log(sp.expand(e), force=True))

    def total_derivative(self, expression: sp.Expr) -> sp.Expr:
        """d/dx along the saddle: the partial derivative plus y'(x) from the constraint."""
        slope = -sp.diff(self.constraint, self.x) / sp.diff(self.constraint, self.y)
        return sp.diff(expression, self.x) + sp.diff(expression, self.y) * slope

    @cached_property
    def A(self) -> sp.Expr:
        """`-dL/dx`; only the explicit x-dependence of the action counts, because the action is stationary."""
        explicit = -t * sp.diff(self.action, t)
        value = explicit.subs(V, self.V_of_chi).subs(chi, sp.exp(self.y)).subs(t, sp.exp(self.x))
        return sp.expand(sp.simplify(value))

    @cached_property
    def B(self) -> sp.Expr:
        """`-dA/dx` along the saddle."""
        return sp.simplify(-self.total_derivative(self.A))

    @cached_property
    def dB(self) -> sp.Expr:
        """`dB/dx` along the saddle."""
        return sp.simplify(self.total_derivative(self.B))


def explicit_curve(average: sp.Expr, variances=(1,), fractions=(1,)) -> tuple[sp.Expr, sp.Expr, sp.Symbol]:
    r"""A spectral average of the linear manifold and the time t, both explicit in one parameter.

    For one latent variance equal to 1 the parameter is V in (0, 1), otherwise :math:`\chi>0`.

    Returns
    -------
    (average, t, parameter)

    >>> explicit_curve(integrals(gaussian_rem())["onset"])
    (-alpha_D*log(V) - log(alpha_D*(V - 1) + 1), -V*(V*alpha_D - alpha_D + 1)/(alpha_D*(V - 1)), V)
    """
    info, point = MutualInformation.of(average), LinearSaddle()
    if (tuple(variances), tuple(fractions)) == ((1,), (1,)):
        parameter, latent = V, {chi: 1 / V - 1, "L": -sp.log(V), "first": 1 - V, "second": V * (1 - V)}
    else:
        pairs = [(f, s * chi) for f, s in zip(fractions, variances, strict=True)]
        parameter, latent = chi, {chi: chi, "L": sp.Add(*(f * sp.log(1 + u) for f, u in pairs))}
        latent["first"] = sp.Add(*(f * u / (1 + u) for f, u in pairs))
        latent["second"] = sp.Add(*(f * u / (1 + u) ** 2 for f, u in pairs))
    A = alpha_D * latent["first"]
    time = (1 - A) / (alpha_D * latent[chi])
    known = {point.R: 1 - A, point.S: alpha_D * latent["second"], point.A_: A, point.L: latent["L"]}
    information, B = (point.reduced(e).xreplace(known) for e in (point.information, point.B))
    logs, rest = separate_logs(info.c0 * information + (info.c1 * A + info.c2 * B).subs(info.d, delta / time))
    tidy = sp.factor if parameter == V else lambda e: e  # with several latents the factored forms are longer
    rational = tidy(rest.xreplace({symbol: 0 for symbol in logs}))
    terms = (tidy(rest.coeff(symbol)) * sp.log(sp.collect(log.args[0], alpha_D)) for symbol, log in logs.items())
    return sp.Add(*terms) + rational, tidy(time), parameter
