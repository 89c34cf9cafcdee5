r"""The law of the partition function at a given x: a sum of P iid Boltzmann weights, by integrals over :math:`v=\log u`.

With `G` the Laplace transform of one weight (`theory.finite_size.boltzmann_weight`), that of the sum is
:math:`S(v)=E\,e^{-e^vZ}=G^P`, and logarithms, weights and participations are integrals of it and of
:math:`-uG',\ u^2G''` times :math:`G^{P-1}`.
Source: [ours: docs/derivations/finite_size.md].
"""

from __future__ import annotations

import math

import numpy as np

from numerics.quadrature import integrate_panels
from theory.finite_size.boltzmann_weight import BoltzmannWeight

__all__ = ["PartitionLaw"]

_TAIL = 36.0  # exp(-36) = 2e-16


class PartitionLaw:
    r"""The law of :math:`Z=\sum_{\mu=1}^{P}e^{-\beta E_\mu}`, :math:`E_\mu=\tfrac12\|x-\xi^\mu\|^2`, at a given x.

    Parameters
    ----------
    s, n, p : as in `theory.finite_size.boltzmann_weight.BoltzmannWeight`
    log_P : float
        Logarithm of the number of terms, which need not be an integer.

    Raises nothing: an internal class, its arguments are checked by the public functions.
    """

    def __init__(self, s: np.ndarray, n: np.ndarray, p: np.ndarray, log_P: float):
        self.one, self.log_P = BoltzmannWeight(s, n, p), float(log_P)
        self._locate()

    def log_survival(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``log S = P log G``, S(v) = E exp(-u Z), and the absolute error of S."""
        log_minus, error = self.one.log_G(np.asarray(v, dtype=float))
        log_S = -np.exp(np.minimum(log_minus + self.log_P, 700.0))
        return log_S, -log_S * np.exp(log_S) * error

    def _locate(self) -> None:
        """The REM's lambda_* at this P, by the saddle-point value of log P(1 - G), and the v where it is about 0."""
        strip = self.one.strip(0, 1)

        def log_count(a):
            f0, f1, f2, _ = strip.derivatives(a)
            return self.log_P + f0 - a * f1 - 0.5 * math.log(2 * math.pi * f2), -f1

        low, high = -60.0, 60.0  # bisection in logit(lambda): log_count falls with lambda
        for _ in range(60):
            middle = 0.5 * (low + high)
            a = 1 / (1 + math.exp(-middle))
            if not 0 < a < 1 or log_count(a)[0] < 0:
                high = middle
            else:
                low = middle
            if high - low < 1e-3:
                break
        a = 1 / (1 + math.exp(-low))
        self.lambda_star, self.v_star = a, log_count(a)[1]
        # one Newton correction: log[P(1 - G)] has slope lambda_* in v
        self.v_star -= (log_count(a)[0]) / a

    def _ends(self) -> tuple[float, float]:
        """v beyond which 1 - S and S are below 2e-16.

        On the left log P(1 - G) falls with v at least at the rate lambda_*, and at the rate 1 where lambda_s > 1.
        """
        reach = _TAIL + 4
        left = max(self.v_star - reach / self.lambda_star, min(self.one.switch[1], self.v_star) - reach)
        step, right = 2 / self.lambda_star, self.v_star
        while self.log_survival(np.array([right]))[0][0] > -_TAIL:
            right += step
            step *= 1.5
        return left, right

    def _panels(self, left: float, right: float, extra=()) -> np.ndarray:
        """Breakpoints: spacing 4 where lambda_s >= 1, then as lambda_s falls doubling up to 4/lambda_*."""
        widest, v = 4 / self.lambda_star, max(left, self.one.switch[1])
        edges = list(np.linspace(left, v, max(int((v - left) / 4), 1) + 1)) if v > left else [left]
        gap = 4.0 if v > left else widest
        while v + gap < right:
            v += gap
            edges.append(v)
            gap = min(2 * gap, widest)
        edges = np.array(sorted({e for e in (*edges, *map(float, extra)) if left <= e < right} | {right}))
        # a breakpoint beside another one would make an empty panel
        return edges[np.concatenate([[True], np.diff(edges) > 1e-6 + 1e-14 * np.abs(edges[1:])])]

    def expected_log(self) -> tuple[float, float]:
        r"""E log Z over the P patterns, and the quadrature's error.

        :math:`S(v)=E e^{-e^vZ}` is the survival function of :math:`Y=\log\mathrm{Exp}(1)-\log Z`, so
        :math:`E\log Z=-\gamma-EY,\ EY=v_0+\int_{v_0}^\infty S\,dv-\int_{-\infty}^{v_0}(1-S)\,dv`.
        """
        left, right = self._ends()
        v0, collected = self.v_star, []

        def integrand(v):
            log_S, e = self.log_survival(v)
            collected.append(np.max(e))
            return np.where(v < v0, np.expm1(log_S), np.exp(log_S))

        value, error = integrate_panels(integrand, self._panels(left, right, (0.0, v0)))
        total = -np.euler_gamma - v0 - float(value[0])
        return total, float(error[0] + max(collected) * (right - left) / 8 + 4e-16 * abs(total))

    def with_count(self, log_P: float) -> PartitionLaw:
        """The same law with another number of terms; contours are shared, since G does not depend on P."""
        other = object.__new__(PartitionLaw)
        other.one, other.log_P = self.one, float(log_P)
        other._locate()
        return other

    def log_ratio(self, log_a: float) -> tuple[float, float]:
        r"""E log(1 + Z/a) beside one more weight a, and the error: :math:`\int e^{-ae^v}(1-S)\,dv`, all positive."""
        end = -log_a + 3.7  # exp(-e^3.7) = 3e-18
        left, step = min(self.v_star, end) - 4, 1.0
        while self.one.log_G(np.array([left]))[0][0] + self.log_P > -_TAIL:
            left -= step
            step *= 1.3
        collected = []

        def integrand(v):
            log_S, e = self.log_survival(v)
            damp = np.exp(-np.exp(np.minimum(v + log_a, 700.0)))
            collected.append(np.max(e * damp))
            return -np.expm1(log_S) * damp

        value, error = integrate_panels(integrand, self._panels(left, end, (0.0, self.v_star, -log_a - 3, -log_a)))
        return float(value[0]), float(error[0] + max(collected) * (end - left) / 8)

    def weight(self, log_a: float) -> tuple[float, float]:
        r"""E a/(a + Z) :math:`=\int ae^ve^{-ae^v}S(v)\,dv`, an average of S over a Gumbel variable, and the error."""
        value, error = self._beside(log_a, squares=False)
        return float(value[0]), float(error[0])

    def participation_beside(self, log_a: float) -> tuple[float, float]:
        r"""E sum_mu w_mu^2 with one more weight a: :math:`\int[(ae^v)^2S+P\,u^2G''G^{P-1}]e^{-ae^v}dv`, and the error."""
        value, error = self._beside(log_a, squares=True)
        return float(value[1]), float(error[1])

    def _beside(self, log_a, *, squares):
        # e^(y - e^y) falls to the left of y = 0 like e^y; where Z exceeds a it is S that ends the integral, sooner
        end = -log_a + 3.7
        lowest, highest = self._ends() if squares or self.v_star < end else (-math.inf, math.inf)
        end = min(end, highest)
        start = min(-log_a, self.v_star if self.v_star < end else math.inf) - _TAIL - 4
        left, extra = start, (self.v_star,) if start < self.v_star < end else ()
        if squares:  # the others' squares live where P u^2 G'' does
            left = min(left, lowest)
            extra = self._panels(left, end)
        collected = []

        def integrand(v):
            log_minus, e = self.one.log_G(v)
            log_S = -np.exp(np.minimum(log_minus + self.log_P, 700.0))
            y = v + log_a
            gumbel = np.exp(np.minimum(y, 700.0))
            collected.append(np.max(-log_S * np.exp(log_S - gumbel) * e))
            own = np.exp(log_S - gumbel + y)
            if not squares:
                return own
            log_2, _ = self.one.log_moment(2, v)
            others = np.exp(self.log_P + log_2 + log_S + np.exp(np.minimum(log_minus, 700.0)) - gumbel)
            return np.array([own, own * gumbel + others])

        grid = np.array(sorted({left, *np.linspace(start, end, 14), *extra}))
        grid = grid[np.concatenate([[True], np.diff(grid) > 1e-6 + 1e-14 * np.abs(grid[1:])])]
        value, error = integrate_panels(integrand, grid)
        return value, error + max(collected)

    def participation(self) -> tuple[float, float]:
        r"""E sum_mu w_mu^2 over the P patterns, :math:`P\int u^2G''\,G^{P-1}dv`, and the quadrature's error."""
        return self._moment(2)

    def normalisation(self) -> tuple[float, float]:
        r"""E sum_mu w_mu :math:`=P\int(-uG')\,G^{P-1}dv`, which is 1: a check of every contour."""
        return self._moment(1)

    def _moment(self, k: int) -> tuple[float, float]:
        left, right = self._ends()
        collected = []

        def integrand(v):
            log_minus, e = self.one.log_G(v)
            log_S = -np.exp(np.minimum(log_minus + self.log_P, 700.0))
            log_k, e_k = self.one.log_moment(k, v)
            y = np.exp(self.log_P + log_k + log_S + np.exp(np.minimum(log_minus, 700.0)))
            collected.append(np.max(y * (e_k - log_S * e)))
            return y

        value, error = integrate_panels(integrand, self._panels(left, right, (0.0, self.v_star)))
        return float(value[0]), float(error[0] + max(collected) * (right - left) / 8)
