"""Moments of the scalar channel of a mismatched generalised linear model, for a batch of cells in parallel.

The channel: ``h* = slope * omega + sqrt(sigma) u``, ``x = s(h*) + sqrt(delta) n`` with ``omega ~ N(0, q)`` and unit normal
`u`, `n`; the inner integral ``I(x; omega) = E_{h ~ N(omega, V)} exp(-beta (x - s(h))^2/2)`` and ``<.>`` its mean.
`Channel` holds the function, as a table or as two straight pieces, and the quadrature rule.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numba import prange

from numerics.channel.piecewise_linear import linear_cell
from numerics.channel.smooth import CLEAN, MATCHED, NOISY, smooth_cell
from numerics.elementary import Table
from numerics.kernel_cache import njit
from numerics.quadrature import GL_NODES, GL_WEIGHTS

__all__ = ["CLEAN", "MATCHED", "NOISY", "Channel", "Moments", "Rule"]


@dataclass(frozen=True)
class Rule:
    """Spacings of the quadrature, in units of the local width of the integrand.

    `inner` of the inner peak, `outer` of smooth outer integrals, `sharp` where two levels compete for one ``x``, `field`
    of the integral over ``omega`` (its averages have poles where ``s'^2 = -t/V``, half as far away as those of ``s``).
    """

    inner: float = 0.7
    outer: float = 0.6
    sharp: float = 0.24
    field: float = 0.12

    def refined(self, factor: float = 1.4) -> Rule:
        """The rule with every spacing divided by `factor`."""
        return Rule(self.inner / factor, self.outer / factor, self.sharp / factor, self.field / factor)

    def array(self, continuous: bool) -> np.ndarray:
        """What the kernels take; `continuous` says that the function has no jump."""
        return np.array([self.inner, self.outer, self.sharp, float(continuous), self.field])


@dataclass(frozen=True)
class Moments:
    r"""Channel averages, arrays of one shape.

    Attributes
    ----------
    log_i : :math:`E\log I`
    f_square, f_slope, f_star : :math:`E f^2`, :math:`E\,\partial_\omega f`, :math:`E\,\partial_{h^*}f`, with
        :math:`f=\partial_\omega\log I`
    square, variance : :math:`E\langle(x-s)^2\rangle` and :math:`E[\langle s^2\rangle-\langle s\rangle^2]`
        (on the Nishimori line smooth functions have :math:`-E f^2` for `f_slope` and :math:`1/\beta` for `square`: identities)
    mass : total weight, 1 up to the quadrature's error
    exps, integrands : exponentials spent, and the values of the integrand made of them (0 for closed forms)
    """

    log_i: np.ndarray
    f_square: np.ndarray
    f_slope: np.ndarray
    f_star: np.ndarray
    square: np.ndarray
    variance: np.ndarray
    mass: np.ndarray
    exps: np.ndarray
    integrands: np.ndarray


@dataclass(frozen=True, eq=False)
class Channel:
    """A scalar function with a quadrature rule.

    Parameters
    ----------
    table : Table, for a general function; or None
    shape : (5,) array ``(b, left c0, left c1, right c0, right c1)`` for two straight pieces meeting at `b`; or None
    parity : 1 or -1 for an even or odd function (half of the outer mesh is then enough), else 0
    rule : Rule
    """

    table: Table | None
    shape: np.ndarray | None
    parity: int = 0
    rule: Rule = Rule()

    def __post_init__(self):
        special = np.empty(0) if self.table is None else self.table.critical_points()
        object.__setattr__(self, "special", special)
        object.__setattr__(self, "continuous", self.table is None or self.table.continuous)

    def with_rule(self, rule: Rule) -> Channel:
        return replace(self, rule=rule)

    def moments(self, q, slope, sigma, V, beta, delta, mode: int) -> Moments:
        """All averages, for arrays of one dimension and equal length.

        Parameters
        ----------
        q, V, sigma, beta : (n,) arrays > 0
        slope : (n,) array
        delta : (n,) array >= 0
        mode : CLEAN (``delta`` = 0), MATCHED (teacher and student share one law: ``slope = 1, sigma = V,
            delta = 1/beta``; two outer dimensions; `f_star` is then returned as `f_square`) or NOISY
        """
        arrays = [np.ascontiguousarray(a, dtype=np.float64) for a in (q, slope, sigma, V, beta, delta)]
        out = np.empty((arrays[0].size, 9))
        if self.shape is not None:
            _linear_batch(
                *arrays, mode, self.rule.array(self.continuous), self.parity, self.shape, GL_NODES, GL_WEIGHTS, out
            )
        else:
            _smooth_batch(
                *arrays,
                mode,
                self.rule.array(self.continuous),
                self.parity,
                self.special,
                self.table.arrays,
                GL_NODES,
                GL_WEIGHTS,
                out,
            )
            if mode == MATCHED:
                out[:, 3] = out[:, 1]
        return Moments(*out.T)


@njit(cache=True, parallel=True, error_model="numpy")
def _smooth_batch(q, slope, sigma, V, beta, delta, mode, rule, parity, special, table, gl_nodes, gl_weights, out):
    for i in prange(q.size):
        smooth_cell(
            q[i], slope[i], sigma[i], V[i], beta[i], delta[i], mode, rule, parity, special, table, gl_nodes, gl_weights,
            out[i],
        )  # fmt: skip


@njit(cache=True, parallel=True, error_model="numpy")
def _linear_batch(q, slope, sigma, V, beta, delta, mode, rule, parity, shape, gl_nodes, gl_weights, out):
    for i in prange(q.size):
        linear_cell(
            q[i], slope[i], sigma[i], V[i], beta[i], delta[i], mode, rule, parity, shape, gl_nodes, gl_weights, out[i]
        )
