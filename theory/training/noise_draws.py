r"""The end of training with finitely many draws of the noise per sample: the interpolation peak, and what averaging the
noise does.

With m fixed draws a sample the features' noise is itself sampled. In the action of `theory.training.action` the terms of
the noise, :math:`\mathrm{tr}(s^2Q+b^2S)`, become part of the determinants: with :math:`C_1=AR+v^2Q`, :math:`C_2=b^2S+s^2Q`,
:math:`k=\psi_p/(\psi_nm)`,

.. math:: \tfrac{\psi_n}{\psi_p}\big[(m-1)\log\det(1+kC_2)+\log\det(1+k(mC_1+C_2))\big],

and the gradient by C_2, :math:`E`, multiplies the noise that reaches V. With :math:`D=\hat S+r\hat R`, per direction and at
ridge :math:`\ell=-z`,

.. math:: M=E-\frac{\psi_pb^2E^2}D,\quad L_{train}=M-\ell M',\quad
   L_{test}=1-\frac{2\psi_pb^2E}D+E_{12}'\Big(1-\frac{2\psi_pb^2E}D\Big)+\frac{\psi_pb^2E^2D_{12}'}{D^2},

primes of the last line for the response to the coupling with the population. m to infinity gives back E = 1.
Source: the peak at p = nm [U26]; m = 1 and infinity [GVM25]; equations [ours: docs/derivations/training_time.md].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property

import numpy as np
import sympy as sp
from scipy.optimize import root

from numerics.domain import DomainError
from theory.training.action import A, Q, R, S, b2, psi_n, psi_p, s2, v2

__all__ = ["FiniteDraws", "final_losses"]

draws = sp.Symbol("m", positive=True)
_FACTOR, _RELATIVE = 2.0, 1e-4  # continuation in the ridge; step of its derivative
_PARAMETERS = (psi_p, psi_n, A, b2, v2, s2, draws)


class FiniteDraws:
    """What is derived: gradients of the determinants, at one replica and to first order in the off-diagonal overlaps."""

    @cached_property
    def log_determinants(self) -> sp.Expr:
        """The two-replica term with equal diagonals; off-diagonal overlaps q, s, r."""
        q, s, r = self.off
        pairs = [sp.Matrix([[a, b], [b, a]]) for a, b in ((Q, q), (S, s), (R, r))]
        C1, C2 = A * pairs[2] + v2 * pairs[0], b2 * pairs[1] + s2 * pairs[0]
        k, one = psi_p / (psi_n * draws), sp.eye(2)
        each, shared = one + k * C2, one + k * (draws * C1 + C2)
        return psi_n / psi_p * ((draws - 1) * sp.log(each.det()) + sp.log(shared.det()))

    off = sp.symbols("q s r")

    @cached_property
    def gradient(self) -> tuple[sp.Expr, ...]:
        """By Q, S, R of one replica."""
        zero = dict.fromkeys(self.off, 0)
        return tuple(sp.diff(self.log_determinants.subs(zero), x) / 2 for x in (Q, S, R))

    @cached_property
    def curvature(self) -> sp.Matrix:
        """Second derivatives by the off-diagonal overlaps, over 2: the response of the gradient's off-diagonal elements."""
        zero = dict.fromkeys(self.off, 0)
        return sp.Matrix(3, 3, lambda i, j: sp.diff(self.log_determinants, self.off[i], self.off[j]).subs(zero) / 2)


@cache
def _lowered(name: str) -> Callable:
    return sp.lambdify((Q, S, R, *_PARAMETERS), getattr(FiniteDraws(), name), modules="numpy", cse=True)


def _residual(u, ridge, parameters, m, weights, values):
    """Stationarity by the overlaps, for u = log (Q, S, R)."""
    q, s, r = np.exp(u)
    by_q, by_s, by_r = _lowered("gradient")(q, s, r, *parameters, m)
    p = parameters[0]
    D = p * by_s + 1 / q + values * p * by_r
    return np.array(
        [
            np.log(q * p * (ridge + by_q) / (p - 1 + s / q)),
            np.log(s / (weights / D).sum()),
            np.log(r / (weights * values / D).sum()),
        ]
    )


def _followed(ridge, parameters, m, weights, values) -> np.ndarray:
    """The overlaps at a ridge, from a ridge so large that Q = 1/ridge."""
    scale = parameters[0] * (parameters[2] * values.max() + parameters[3]) + parameters[4] + parameters[5]
    at = max(1e4 * scale, ridge)
    u = np.log([1 / at, 1 / at, np.dot(weights, values) / at])
    while True:
        found = root(_residual, u, args=(at, parameters, m, weights, values), method="hybr", tol=1e-12)
        if not np.abs(found.fun).max() < 1e-7:
            raise DomainError("ridge", ridge, "large enough for the saddle point to be followed to it")
        u = found.x
        if at == ridge:
            return np.exp(u)
        at = max(ridge, at / _FACTOR)


def _directions(overlaps, parameters, m, values):
    """E, D by direction, and M by direction."""
    q, s, r = overlaps
    _, by_s, by_r = _lowered("gradient")(q, s, r, *parameters, m)
    p, b = parameters[0], parameters[3]
    E = by_s / b
    D = p * by_s + 1 / q + values * p * by_r
    return E, D, E - p * b * E**2 / D


def final_losses(
    parameters: tuple[float, ...], m: float, weights: np.ndarray, values: np.ndarray, ridge: float
) -> tuple[float, float]:
    """(training, test) loss per dimension of ridge regression on m draws of the noise a sample.

    Parameters
    ----------
    parameters : (psi_p, psi_n, A, b2, v2, s2)
    m : number >= 1
    weights, values : the covariance spectrum
    ridge : number > 0
        Added to U; towards 0 the end of training from zero.
    """
    overlaps = _followed(ridge, parameters, m, weights, values)
    E, D, M = _directions(overlaps, parameters, m, values)
    up, down = (
        _directions(_followed(ridge * f, parameters, m, weights, values), parameters, m, values)[2]
        for f in (1 + _RELATIVE, 1 - _RELATIVE)
    )
    train = M - (up - down) / (2 * _RELATIVE)
    q, s, _ = overlaps
    p, _, a, b, v, s_squared = parameters
    H = np.array(_lowered("curvature")(*overlaps, *parameters, m), dtype=float)
    h0, h1, h2 = ((weights * values**k / D**2).sum() for k in range(3))
    # unknown: Q12, S12, R12, S_hat12, R_hat12; the coupling's gradient is (v2 + s2, b2, A)
    matrix = np.zeros((5, 5))
    matrix[:3, :3] = H
    matrix[0, 0] += (1 - 1 / p) / q**2 + 2 * s / (p * q**3)
    matrix[0, 1] -= 1 / (p * q**2)
    matrix[1, 0] -= 1 / (p * q**2)
    matrix[1, 3] = matrix[2, 4] = matrix[3, 1] = matrix[4, 2] = -1 / p
    matrix[3, 3], matrix[3, 4], matrix[4, 3], matrix[4, 4] = -h0 / p, -h1 / p, -h1 / p, -h2 / p
    response = np.linalg.solve(matrix, -np.array([v + s_squared, b, a, 0.0, 0.0]))
    E12 = (H[1] @ response[:3]) / b
    D12 = response[3] + values * response[4]
    test = 1 - 2 * p * b * E / D + E12 * (1 - 2 * p * b * E / D) + p * b * E**2 * D12 / D**2
    return float(np.dot(weights, train)), float(np.dot(weights, test))
