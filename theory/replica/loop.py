r"""The one-loop factor of n replicas: what Gaussian fluctuations of the overlaps add to :math:`\log E\,M_x^n`.

:math:`c(n)=-\frac12\log\det(1-\mathcal K)`, where :math:`\mathcal K` is the covariance of the overlaps of free latents times the
channel's curvature. Permutations of the n replicas split the :math:`\frac12(n+1)(n+2)` overlaps into three families of 4, 3 and
1 directions, met 1, n - 1 and n(n-3)/2 times, in whose matrices n may be any real number. Sums over replicas are expanded by
sympy. Source: [ours: docs/derivations/replica_drift.md]; for the families, de Almeida and Thouless (1978).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
import sympy as sp

from numerics.channel import Averages

__all__ = ["families", "one_loop", "rs_inverse", "rs_log_det"]

_n = sp.Symbol("n", real=True)
_r = sp.symbols("r_:5", real=True)  # derivatives of the inner integral over itself, r_k = I^(k)/I
_D, _S, _T, _U, _W = sp.symbols("D S T U W")  # d/dh0; sums over replicas of d and d^2; the same with weights of sum 0


# --- replica-symmetric matrices (0 0, 0 a, a a, a b) of size 1 + n, n real ------------------------------------------------


def rs_inverse(matrix: Sequence[float], n: float) -> np.ndarray:
    """The inverse of a replica-symmetric matrix given as (00, 0a, aa, ab)."""
    a, b, d, o = matrix
    det = a * (d + (n - 1) * o) - n * b * b
    off = -(a * o - b * b) / (det * (d - o))
    return np.array([(d + (n - 1) * o) / det, -b / det, 1 / (d - o) + off, off])


def rs_log_det(matrix: Sequence[float], n: float) -> float:
    """The logarithm of the determinant of a replica-symmetric matrix given as (00, 0a, aa, ab)."""
    a, b, d, o = matrix
    return float((n - 1) * np.log(d - o) + np.log(a * (d + (n - 1) * o) - n * b * b))


# --- derivatives of the product of n inner integrals ---------------------------------------------------------------------


def _partitions(items: list[int], blocks: list[list[int]]) -> Iterator[list[list[int]]]:
    """Every way to put `items`, one by one, into the given blocks or new ones."""
    if not items:
        yield blocks
        return
    first, rest = items[0], items[1:]
    for i in range(len(blocks)):
        yield from _partitions(rest, [[*b, first] if j == i else b for j, b in enumerate(blocks)])
    yield from _partitions(rest, [*blocks, [first]])


@cache
def _product(sums: tuple[int, ...], fixed: tuple[int, ...]) -> sp.Expr:
    r"""The operators :math:`\sum_a\partial_a^k`, k in `sums`, and :math:`\partial_b^l` at distinct replicas b, l in `fixed`,
    on the product of n inner integrals, over that product.

    >>> sp.expand(_product((1, 1), ()))
    n**2*r_1**2 - n*r_1**2 + n*r_2
    """
    total = sp.S.Zero
    for blocks in _partitions(list(sums), [[k] for k in fixed]):
        new = len(blocks) - len(fixed)
        ways = sp.Mul(*(_n - len(fixed) - i for i in range(new)))
        total += ways * sp.Mul(*(_r[sum(block)] for block in blocks))
    return total


@cache
def _bases() -> tuple[tuple[sp.Expr, ...], tuple[sp.Expr, ...], sp.Symbol]:
    """Operators of the directions: 00, 0a, aa, ab summed over replicas, and 0a, aa, ab with weights of sum zero."""
    rho = sp.Symbol("rho", real=True)
    d0 = _D - rho * _S  # the teacher's field alone: D moves the mean field too, by rho
    return (sp.expand(d0**2), sp.expand(2 * d0 * _S), _T, _S**2 - _T), (sp.expand(2 * d0 * _U), _W, _U * _S - _W), rho


def _expand(operator: sp.Expr) -> dict[int, sp.Expr]:
    """What the operator makes of the product: {power of D: polynomial in n and r}."""
    out: dict[int, sp.Expr] = {}
    for (d, s, t, u, w), coefficient in sp.Poly(operator, _D, _S, _T, _U, _W).terms():
        sums, singled = (1,) * s + (2,) * t, (1,) * u + (2,) * w
        value = _product(sums, ())
        if singled:  # two of them, with sum_a u_a = 0 and sum_a u_a^2 = 1: same replica minus different ones
            value = _product(sums, (sum(singled),)) - _product(sums, singled)
        out[d] = out.get(d, 0) + coefficient * value
    return {d: sp.expand(e) for d, e in out.items()}


@cache
def families() -> tuple[list[Callable], list[list[Callable]], list[list[Callable]]]:
    """Compiled expansions: first moments and second moments of the summed family, second moments of the weighted one.

    Each is a function (rho, n, r_0..r_4) -> {power of D: array}.
    """
    summed, weighted, rho = _bases()

    def compiled(operator):
        parts = _expand(sp.expand(operator))
        function = sp.lambdify([rho, _n, *_r], list(parts.values()), "numpy", cse=True)
        return lambda *arguments: dict(zip(parts, function(*arguments), strict=True))

    first = [compiled(a) for a in summed]
    return first, *([[compiled(a * b) for b in basis] for a in basis] for basis in (summed, weighted))


# --- the determinant -----------------------------------------------------------------------------------------------------


def _latent(C: Sequence[float], n: float) -> tuple[np.ndarray, np.ndarray]:
    r"""tr(A_i C A_j C) in the two bases, half the covariance of these forms of a Gaussian of covariance C."""
    c00, c0, cd, co = C
    row, w = cd + (n - 1) * co, cd - co
    # half covariances of y0^2, y0 S, sum_a y_a^2, S^2
    forms = np.array(
        [
            [c00**2, c00 * n * c0, n * c0**2, (n * c0) ** 2],
            [c00 * n * c0, (c00 * n * row + (n * c0) ** 2) / 2, n * c0 * row, n * c0 * n * row],
            [n * c0**2, n * c0 * row, n * (cd**2 + (n - 1) * co**2), n * row**2],
            [(n * c0) ** 2, n * c0 * n * row, n * row**2, (n * row) ** 2],
        ]
    )
    basis = np.array([[1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 1, 0], [0, 0, -1, 1]])
    # of U y0, W, U S, where W = sum_a u_a y_a^2
    weighted = np.array(
        [
            [w * c00 / 2, w * c0, w * n * c0 / 2],
            [w * c0, cd**2 - co**2, w * row],
            [w * n * c0 / 2, w * row, w * n * row / 2],
        ]
    )
    other = np.array([[2, 0, 0], [0, 1, 0], [0, -1, 1]])
    return basis @ forms @ basis.T, other @ weighted @ other.T


def one_loop(
    averages: Averages, rho: float, n: float, alpha_D: float, latents: Sequence[tuple[float, np.ndarray]]
) -> float:
    r"""c(n) at a replica-symmetric saddle.

    Parameters
    ----------
    averages : the channel at the saddle
    rho : m/Q00, by which the mean field follows the teacher's
    n : number of replicas, real, not 0
    alpha_D : latent over ambient dimension
    latents : (fraction of the latents, their covariance over the replicas as (00, 0a, aa, ab))

    Returns
    -------
    float, NaN where the saddle is unstable (a determinant is negative)
    """
    r = averages.ratios
    weights = [averages.weight(n, hermite=j) for j in range(5)]
    weights = [w / weights[0].sum() for w in weights]

    def mean(function):
        return sum(float((weights[d] * part).sum()) for d, part in function(rho, n, *r).items())

    first, summed, weighted = families()
    one = np.array([mean(f) for f in first])
    curvature = (
        np.array([[mean(f) for f in row] for row in summed]) - np.outer(one, one),
        np.array([[mean(f) for f in row] for row in weighted]),
    )
    gram, parts = _latent((1.0, 0.0, 1.0, 0.0), n), [(f, _latent(C, n)) for f, C in latents]
    total = 0.0
    for i, times in enumerate((1.0, n - 1.0)):
        spread = np.linalg.solve(gram[i], sum(f * part[i] for f, part in parts))
        K = spread @ np.linalg.solve(gram[i], curvature[i]) / (2 * alpha_D)
        sign, log_det = np.linalg.slogdet(np.eye(len(K)) - K)
        total += times * (log_det if sign > 0 else np.nan)
    replicon = float((weights[0] * (r[2] - r[1] ** 2) ** 2).sum())
    single = sum(f * (C[2] - C[3]) ** 2 for f, C in latents)
    stable = 1 - single * replicon / alpha_D
    return -(total + n * (n - 3) / 2 * (np.log(stable) if stable > 0 else np.nan)) / 2
