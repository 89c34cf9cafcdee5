r"""The replica-symmetric action of the hidden manifold model, written once, and everything that is derived from it.

:math:`g(\beta;\delta)=\mathrm{extr}\{\alpha_DS(m,q,Q;\hat m,\hat q,\hat c)+\mathcal E(m,q,Q,\beta,\delta)\}`. The entropic part
is elementary; the energetic part is a Gaussian average of :math:`L=\log I`, kept as a formal average `E[...]` on which
differentiation acts by Price's theorem and by the heat equation of `I`. Saddle equations, the Nishimori reduction and the
explicit derivatives come out by sympy differentiation. Derivation: docs/derivations/replica.md. Sources: [BKMMZ19, GMKZ20].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import sympy as sp

from theory.notation import alpha_D, beta, delta

__all__ = ["Action", "FormalAverage", "action", "c_hat", "m", "m_hat", "q", "q_hat", "Q", "rho"]  # noqa: RUF022

m, q, Q = sp.symbols("m q Q", real=True)  # overlap with the teacher, replica overlap, self-overlap
m_hat, q_hat, c_hat = sp.symbols("m_hat q_hat c_hat", real=True)
rho = sp.Symbol("rho", positive=True)  # variance of the local field, sum_k f_k s_k
omega, h_star, noise, v = sp.symbols("omega h_star nu v", real=True)  # student mean, teacher field, noise, V
L = sp.Function("L", real=True)(omega, h_star, noise, v, beta)  # log I(s(h*) + nu; omega, V, beta)


class FormalAverage(sp.Expr):
    """The average over (omega, h*, nu), jointly Gaussian with covariance ``[[q, m, 0], [m, rho, 0], [0, 0, delta]]``.

    Linear; nothing else is assumed. `derivative` differentiates it by a parameter.
    """

    is_commutative = True
    is_real = True

    def __new__(cls, body):
        body = sp.expand(sp.sympify(body))
        if body.is_Add:
            return sp.Add(*(cls(term) for term in body.args))
        constant, rest = body.as_independent(omega, h_star, noise, v, sp.Function, sp.Derivative, as_Add=False)
        if rest == 1:
            return constant
        return constant * super().__new__(cls, rest)

    @property
    def body(self):
        return self.args[0]

    def _latex(self, printer):
        return r"\mathbb E\left[" + printer._print(self.body) + r"\right]"


COVARIANCE = sp.Matrix([[q, m, 0], [m, rho, 0], [0, 0, delta]])
FIELDS = (omega, h_star, noise)


def _heat(expression: sp.Expr) -> sp.Expr:
    """Use ``I_v = I_(omega omega)/2`` for ``L = log I``: ``L_v = (L_(omega omega) + L_omega^2)/2``."""
    return expression.subs(sp.Derivative(L, v), (sp.diff(L, omega, 2) + sp.diff(L, omega) ** 2) / 2)


def price(body: sp.Expr, parameter: sp.Symbol) -> sp.Expr:
    r"""Derivative of ``E[body]`` with ``v = Q - q`` by a parameter.

    :math:`\partial_\theta E[\phi]=E[\partial_\theta\phi]+\frac12\sum_{ij}\partial_\theta C_{ij}\,E[\partial_i\partial_j\phi]`.
    """
    explicit = sp.diff(body, parameter) + sp.diff(body, v) * sp.diff(Q - q, parameter)
    implicit = sum(
        sp.diff(COVARIANCE[i, j], parameter) * sp.diff(body, FIELDS[i], FIELDS[j]) / 2
        for i in range(3)
        for j in range(3)
    )
    return FormalAverage(_heat(explicit + implicit).doit())


@dataclass(frozen=True)
class Action:
    """The action for `K` latent variances, and what follows from it; every field is a sympy expression.

    `weights` and `variances` are the symbols ``f_k, s_k``. `overlaps` maps ``V, m, q`` to functions of the conjugate
    parameters (stationarity in those), `conjugates` maps ``c_hat, m_hat, q_hat`` to formal averages (stationarity in the
    overlaps), `entropic` is `S` at the first, `sigma` the teacher's conditional variance ``rho - m^2/q``.
    """

    K: int
    weights: tuple[sp.Symbol, ...]
    variances: tuple[sp.Symbol, ...]
    unreduced: sp.Expr
    overlaps: dict[sp.Symbol, sp.Expr]
    conjugates: dict[sp.Symbol, sp.Expr]
    entropic: sp.Expr
    sigma: sp.Expr
    beta_derivative: sp.Expr
    delta_derivative: sp.Expr

    @property
    def nishimori_entropic(self) -> sp.Expr:
        r""":math:`S` at :math:`\hat m=\hat q=\hat c`: :math:`\frac12\sum_kf_k[\hat cs_k/(1+\hat cs_k)-\log(1+\hat cs_k)]`."""
        return _by_component(self.entropic.subs({m_hat: c_hat, q_hat: c_hat}), self.weights)

    def functions(self) -> tuple[Callable, Callable]:
        """Numpy functions of ``(c_hat, m_hat, q_hat, f, s)``: ``(V, m, q, sigma)`` and ``S``."""
        arguments = [c_hat, m_hat, q_hat, list(self.weights), list(self.variances)]
        overlaps = [self.overlaps[v], self.overlaps[m], self.overlaps[q], self.sigma]
        regular = self.entropic.replace(
            lambda e: isinstance(e, sp.log), lambda e: sp.Function("log1p")(sp.expand(e.args[0] - 1))
        )
        return sp.lambdify(arguments, overlaps, "numpy", cse=True), sp.lambdify(arguments, regular, "numpy", cse=True)


@cache
def action(K: int = 1) -> Action:
    r"""Derive everything for `K` latent variances.

    :math:`S=-m\hat m+\tfrac12\hat cQ-\tfrac12\hat q(Q-q)+\sum_kf_k\left[-\tfrac12\log(1+\hat cs_k)
    +\tfrac12\frac{(\hat m^2s_k+\hat q)s_k}{1+\hat cs_k}\right]`, the Legendre form of the latent prior's free entropy.

    >>> action().overlaps[v]
    f_0*s_0/(c_hat*s_0 + 1)
    """
    f = sp.symbols(f"f_:{K}", positive=True)
    s = sp.symbols(f"s_:{K}", nonnegative=True)
    prior = sp.Add(
        *(
            fk * (-sp.log(1 + c_hat * sk) / 2 + (m_hat**2 * sk + q_hat) * sk / (1 + c_hat * sk) / 2)
            for fk, sk in zip(f, s, strict=True)
        )
    )
    S = -m * m_hat + c_hat * Q / 2 - q_hat * (Q - q) / 2 + prior

    # stationarity in the conjugates gives the overlaps (S is linear in m, q, Q)
    solution = sp.solve([sp.diff(S, x) for x in (m_hat, q_hat, c_hat)], [m, q, Q], dict=True)[0]
    V = _by_component(solution[Q] - solution[q], f)
    overlaps = {v: V, m: _by_component(solution[m], f), q: _by_component(solution[q], f)}

    # stationarity in the overlaps gives the conjugates
    gradient = {x: alpha_D * sp.diff(S, x) + price(L, x) for x in (m, q, Q)}
    conjugates = sp.solve(list(gradient.values()), [c_hat, m_hat, q_hat], dict=True)[0]

    return Action(
        K,
        f,
        s,
        S,
        overlaps,
        conjugates,
        _by_component(S.subs(solution), f),
        _sigma(f, s),
        price(L, beta),
        price(L, delta),
    )


def _by_component(expression: sp.Expr, f) -> sp.Expr:
    """Collect a sum that is linear in the weights and factor each weight's coefficient: cancellations happen here."""
    expression = sp.expand(expression)
    total = sp.S.Zero
    for fk in f:
        logarithms, rational = sp.expand(expression.coeff(fk)).as_independent(sp.log, as_Add=True)[::-1]
        total += fk * (logarithms + sp.factor(rational))
    return total


def _sigma(f, s) -> sp.Expr:
    r"""``rho - m^2/q`` without its cancellation (Lagrange's identity); the test proves the two equal.

    :math:`\sigma q=\hat m^2\sum_{k<l}f_kf_ls_ks_l(u_k-u_l)^2+\rho\,\hat q\sum_kf_ku_k^2,\quad u_k=s_k/(1+\hat cs_k)`.
    """
    u = [sk / (1 + c_hat * sk) for sk in s]
    pairs = sum(
        f[k] * f[j] * s[k] * s[j] * ((s[k] - s[j]) / ((1 + c_hat * s[k]) * (1 + c_hat * s[j]))) ** 2
        for k in range(len(f))
        for j in range(k)
    )
    C = sum(fk * uk**2 for fk, uk in zip(f, u, strict=True))
    B = sum(fk * sk * uk**2 for fk, sk, uk in zip(f, s, u, strict=True))
    total = sum(fk * sk for fk, sk in zip(f, s, strict=True))
    return (m_hat**2 * pairs + total * q_hat * C) / (m_hat**2 * B + q_hat * C)
