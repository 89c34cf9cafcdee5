"""The symbols of the field, with their domains, and the average over a covariance spectrum as a sympy object."""

from __future__ import annotations

import sympy as sp

__all__ = [  # noqa: RUF022
    "N", "P", "SpectralAverage", "alpha", "alpha_D", "beta", "chi", "delta", "latent_variance", "r", "spectral_point", "t", "V",
]  # fmt: skip

alpha = sp.Symbol("alpha", positive=True)  # log P / N
alpha_D = sp.Symbol("alpha_D", positive=True)  # D / N
beta = sp.Symbol("beta", positive=True)  # inverse temperature of the REM, 1/t
chi = sp.Symbol("chi", positive=True)  # conjugate of V at the linear saddle point
delta = sp.Symbol("delta", nonnegative=True)  # squared distance per dimension from x to its data point
t = sp.Symbol("t", positive=True)  # variance-exploding time, sigma^2
r = sp.Symbol("r", nonnegative=True)  # covariance eigenvalue
latent_variance = sp.Symbol("s", positive=True)  # of one group of latent coordinates
spectral_point = sp.Symbol("z")  # complex, where the Stieltjes transform of the covariance is taken
V = sp.Symbol("V", positive=True)  # posterior variance of the latent field at the saddle point
N = sp.Symbol("N", positive=True, integer=True)
P = sp.Symbol("P", positive=True, integer=True)


class SpectralAverage(sp.Expr):
    r"""Average of `h(r)` over the covariance spectrum, :math:`\int\rho(r)\,h(r)\,dr` with :math:`\int\rho=1`.

    Differentiates under the integral, is linear, and knows that the spectrum is normalised.

    >>> SpectralAverage(sp.log(1 + r / t)).diff(t)
    SpectralAverage(-r/(t**2*(r/t + 1)))
    >>> SpectralAverage(sp.Integer(3))
    3
    """

    is_commutative = True
    is_real = True

    def __new__(cls, h):
        h = sp.sympify(h)
        if r not in h.free_symbols:
            return h
        return super().__new__(cls, h)

    @property
    def integrand(self) -> sp.Expr:
        return self.args[0]

    @property
    def free_symbols(self):
        return self.integrand.free_symbols - {r}

    @property
    def bound_symbols(self):
        return [r]

    def _eval_derivative(self, symbol):
        return SpectralAverage(self.integrand.diff(symbol)) if symbol != r else sp.S.Zero

    def over(self, weights, values) -> sp.Expr:
        """The finite sum `sum_k w_k h(r_k)`."""
        return sp.Add(*(w * self.integrand.subs(r, v) for w, v in zip(weights, values, strict=True)))

    def _latex(self, printer):
        return r"\int\!\rho(r)\,dr\,\left[" + printer._print(self.integrand) + r"\right]"

    def _sympystr(self, printer):
        return f"SpectralAverage({printer._print(self.integrand)})"


def merge(expression: sp.Expr) -> sp.Expr:
    """`expression`, linear in spectral averages, as one average with a tidy integrand."""
    averages = expression.atoms(SpectralAverage)
    dummies = {a: sp.Dummy() for a in averages}
    linear = sp.expand(expression.xreplace(dummies), log=False)
    outside = linear.xreplace({d: 0 for d in dummies.values()})
    inside = _tidy(sp.Add(*(linear.coeff(dummy) * average.integrand for average, dummy in dummies.items())))
    constant, inside = inside.as_independent(r, as_Add=True)
    return sp.expand(outside + constant) + SpectralAverage(inside)


def above_atom(average: SpectralAverage) -> SpectralAverage:
    """`average` with the value of its integrand at r = 0 taken out, so that the atom at 0 contributes nothing."""
    _, inside = average.as_independent(SpectralAverage, as_Add=True)
    (inside,) = inside.atoms(SpectralAverage)
    return SpectralAverage(_tidy(inside.integrand - inside.integrand.subs(r, 0)))


def _tidy(f: sp.Expr) -> sp.Expr:
    """Logarithms of expanded arguments plus one factored rational function."""
    logs, f = separate_logs(f)
    rational = f.xreplace({symbol: 0 for symbol in logs})
    return sp.Add(*(sp.simplify(f.coeff(s)) * log for s, log in logs.items())) + sp.factor(sp.together(rational))


def separate_logs(f: sp.Expr) -> tuple[dict[sp.Symbol, sp.Expr], sp.Expr]:
    """`f` with each logarithm replaced by a dummy symbol, and what each dummy stands for."""
    logs: dict[sp.Expr, sp.Symbol] = {}

    def hide(argument):
        return logs.setdefault(sp.log(sp.expand(argument)), sp.Dummy("log"))

    f = sp.expand(f.replace(sp.log, hide))
    return {symbol: log for log, symbol in logs.items()}, f
