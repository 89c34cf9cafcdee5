r"""The replica action of the random-feature Gram matrix, written once; every equation of this room is a derivative of it.

Features equal in law :math:`G=a\,e^{-t}WX/\sqrt N+v\,\Omega` on the samples, so that

.. math:: U=\tfrac1nGG^\top+b^2\tfrac{WW^\top}N+s^2,\qquad V=b\,W/\sqrt N .

Replicas :math:`\phi_a` of the Gaussian integral over :math:`e^{-\frac12\phi^\top(U-z)\phi}` overlap in
:math:`Q_{ab}=\phi_a\phi_b/p` and, through :math:`\eta_a=W^\top\phi_a/\sqrt p`, in :math:`S_{ab}=\eta_a\eta_b/N`,
:math:`R_{ab}=\eta_a\Sigma\eta_b/N`. With :math:`A=a^2e^{-2t}`, :math:`Y=1+\frac{\psi_p}{\psi_n}(AR+v^2Q)`,

.. math:: F=\mathrm{tr}[(s^2-z)Q+b^2S]+\tfrac{\psi_n}{\psi_p}\log\det Y-\log\det Q
   +\tfrac1{\psi_p}\Big[\mathrm{tr}(SQ^{-1}-\hat SS-\hat RR)+\log\det Q+\int\!\rho\,\log\det(\hat S+r\hat R)\Big].

One replica gives the resolvent: :math:`Q=\mathrm{tr}(U-z)^{-1}/p` at the saddle. Two replicas at different z with a weak
coupling between them give every two-point function: the response of the off-diagonal overlaps. Source: one replica
[BUBM25]; two [ours: docs/derivations/training_time.md].
"""

from __future__ import annotations

from functools import cached_property

import sympy as sp

from theory.notation import SpectralAverage, r

__all__ = ["ReplicaAction", "TwoPointResponse"]

psi_p, psi_n = sp.symbols("psi_p psi_n", positive=True)  # p/N, n/N
A, b2, v2, s2 = sp.symbols("A b2 v2 s2", positive=True)  # a^2 e^{-2t}, and the moments b^2, v^2, s^2
z, z1, z2 = sp.symbols("z z1 z2")
Q, S, R, S_hat, R_hat = sp.symbols("Q S R S_hat R_hat")
g, x, omega = sp.symbols("g x omega")  # 1/(psi_p Q) and 1/Y, the two unknowns; S_hat/R_hat, an effective ridge
m0, m1 = sp.symbols("m0 m1")  # averages of 1/(r + omega) and r/(r + omega)
coupling = sp.Symbol("epsilon")  # of the two replicas, to the population's second moments


def _action(Q, S, R, S_hat, R_hat, Z, extra=0) -> tuple[sp.Expr, sp.Expr]:
    """F for matrices of any size: the part without, and the integrand of the part with, the average over r."""
    one = sp.eye(Q.shape[0])
    Y = one + psi_p / psi_n * (A * R + v2 * Q)
    inner = (S * Q.inv() - S_hat * S - R_hat * R).trace() + sp.log(Q.det())
    outside = ((s2 * one - Z) * Q + b2 * S).trace() + psi_n / psi_p * sp.log(Y.det()) - sp.log(Q.det())
    return outside + inner / psi_p + extra, sp.log((S_hat + r * R_hat).det()) / psi_p


class ReplicaAction:
    """One replica: the resolvent's equations, and the two unknowns they come down to."""

    @cached_property
    def action(self) -> sp.Expr:
        outside, inside = _action(*(sp.Matrix([[e]]) for e in (Q, S, R, S_hat, R_hat)), sp.Matrix([[z]]))
        return outside + SpectralAverage(inside)

    @cached_property
    def stationary(self) -> dict[sp.Symbol, sp.Expr]:
        """dF by each overlap and conjugate."""
        return {symbol: sp.diff(self.action, symbol) for symbol in (Q, S, R, S_hat, R_hat)}

    @cached_property
    def overlaps(self) -> dict[sp.Symbol, sp.Expr]:
        r"""All overlaps by :math:`g=1/(\psi_pQ)`, :math:`x=1/Y` and m0, m1: four of the stationarity conditions."""
        y = 1 + psi_p / psi_n * (A * R + v2 * Q)
        (r_hat,) = sp.solve(self.stationary[R], R_hat)
        (s_hat,) = sp.solve(self.stationary[S], S_hat)
        r_hat = sp.simplify(r_hat * y) * x
        return {
            R_hat: r_hat,
            S_hat: sp.expand(s_hat.subs(Q, 1 / (psi_p * g))),
            Q: 1 / (psi_p * g),
            S: m0 / r_hat,
            R: m1 / r_hat,
        }

    @cached_property
    def ridge(self) -> sp.Expr:
        """omega by g and x."""
        return sp.factor(self.overlaps[S_hat] / self.overlaps[R_hat])

    @cached_property
    def constraint(self) -> sp.Expr:
        """Zero at the saddle: the definition of x, cleared of denominators."""
        y = 1 + psi_p / psi_n * (A * R + v2 * Q)
        return sp.expand(sp.numer(sp.together(x * y.subs(self.overlaps) - 1)))

    @cached_property
    def eigenvalue(self) -> sp.Expr:
        """z as a function of g, x, m0: the last stationarity condition, which is linear in z."""
        level = ((1 / x - 1) * psi_n / psi_p - v2 * Q) / A  # R by x
        condition = self.stationary[Q].subs(R, level).subs(self.overlaps)
        return sp.expand(sp.solve(sp.together(condition), z)[0])

    def with_averages(self, expression: sp.Expr) -> sp.Expr:
        """m0 and m1 written out as averages over the spectrum."""
        return expression.subs({m0: SpectralAverage(1 / (r + omega)), m1: SpectralAverage(r / (r + omega))}).subs(
            omega, self.ridge
        )


class TwoPointResponse:
    r"""Two replicas, at z1 and z2, coupled by :math:`\epsilon\,\phi_1^\top\tilde U\phi_2` with the population's :math:`\tilde U`.

    By symmetry the off-diagonal overlaps vanish with the coupling, and are linear in it: their 5 x 5 response is the
    inverse Hessian of the action. In a direction of variance r, with :math:`D_i=\hat S_i+r\hat R_i`,

    .. math:: \frac1pw^\top(U-z_1)^{-1}\tilde U(U-z_2)^{-1}w=\frac{\partial_\epsilon\hat S_{12}+r\,\partial_\epsilon\hat
       R_{12}}{D_1D_2},
       \qquad w=We_r .
    """

    off = sp.symbols("Q12 S12 R12 S_hat12 R_hat12")
    first = sp.symbols("Q1 S1 R1 S_hat1 R_hat1")
    second = sp.symbols("Q2 S2 R2 S_hat2 R_hat2")
    h0, h1, h2 = sp.symbols("h0 h1 h2")  # averages of r^k/(D1 D2)
    y1, y2 = sp.symbols("y1 y2")  # Y of each replica

    @cached_property
    def conditions(self) -> list[sp.Expr]:
        """The stationarity conditions of the off-diagonal overlaps, to first order in them."""
        matrices = [
            sp.Matrix([[one, o], [o, two]]) for o, one, two in zip(self.off, self.first, self.second, strict=True)
        ]
        # the population's second moments: A W Sigma W' + b^2 W W' + v^2 + s^2, twice for the two off-diagonal elements
        extra = 2 * coupling * (A * self.off[2] + b2 * self.off[1] + (v2 + s2) * self.off[0])
        outside, inside = _action(*matrices, sp.diag(z1, z2), extra)
        zero = dict.fromkeys(self.off, 0)
        found = []
        for symbol in self.off:
            total = sp.diff(outside, symbol)
            linear = sum(sp.diff(total, other).subs(zero) * other for other in self.off) + total.subs(zero)
            average = sum(sp.diff(inside, symbol, other).subs(zero) * other for other in self.off)
            found.append(sp.together(linear) + self._averaged(sp.expand(sp.simplify(average))))
        return found

    def _averaged(self, inside: sp.Expr) -> sp.Expr:
        """Replace r^k/(D1 D2) by its average."""
        D1, D2 = (s[3] + r * s[4] for s in (self.first, self.second))
        polynomial = sp.Poly(sp.cancel(sp.together(inside * D1 * D2)), r)
        return sum(w * (self.h0, self.h1, self.h2)[n] for (n,), w in polynomial.terms())

    @cached_property
    def response(self) -> tuple[sp.Expr, sp.Expr]:
        """dS_hat12/d epsilon and dR_hat12/d epsilon, in Q, S, y and h0, h1, h2."""
        by_y = {self.first[2]: self._r(self.first, self.y1), self.second[2]: self._r(self.second, self.y2)}
        shorter = [condition.subs(by_y) for condition in self.conditions]
        solution = sp.solve([sp.numer(sp.together(c)) for c in shorter], self.off, dict=True)[0]
        return tuple(sp.factor(sp.diff(solution[symbol], coupling)) for symbol in self.off[3:])

    @staticmethod
    def _r(overlaps, y) -> sp.Expr:
        """R by Y."""
        return ((y - 1) * psi_n / psi_p - v2 * overlaps[0]) / A
