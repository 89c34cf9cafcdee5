r"""The law of the partition function at a given x: a sum of P iid Boltzmann weights, exactly, by one contour integral.

With :math:`u=e^v` and :math:`s_j=\beta r_j,\ p_j=\beta x_j^2` over the eigendirections of non-zero variance,

.. math:: \mathcal L(\lambda)=\log M(\lambda\beta)
          =-\tfrac12\sum_j\Big[\log(1+\lambda s_j)+\frac{\lambda p_j}{1+\lambda s_j}\Big],\qquad
          \Big(-u\frac{d}{du}\Big)^{[k]}G(u)=\frac1{2\pi i}\int\Gamma(k-\lambda)\,e^{\lambda v}\,
          e^{\mathcal L(\lambda)}\,d\lambda,\quad \operatorname{Re}\lambda<k,

where :math:`[k]` means :math:`G,\ -uG',\ u^2G''` for :math:`k=0,1,2`. Poles at :math:`\lambda=k,k+1,\dots` are crossed,
and their residues :math:`e^{\lambda v}e^{\mathcal L(\lambda)}/(\lambda-k)!` added, when the saddle of
:math:`\lambda v+\mathcal L(\lambda)` lies beyond them. Source: [ours: docs/derivations/finite_size.md].
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from scipy.special import loggamma, psi, zeta

from numerics.adaptive import integrate_panels
from numerics.contour import Inversion

__all__ = ["PartitionLaw", "cumulants", "log_transform"]

_TAIL = 36.0  # exp(-36) = 2e-16


@njit(cache=True)
def log_transform(lam, s, n, p):
    """L(lambda) at complex points of the closed upper half plane.

    Every factor 1 + lambda s has its argument in [0, pi), so a running product of factors of multiplicity one turns by
    less than pi a step: its half turns are counted by the changes of sign of its imaginary part, and six factors cost
    one logarithm.
    """
    out = np.empty(lam.size, np.complex128)
    for i in range(lam.size):
        a, b = lam[i].real, lam[i].imag
        re, im, half_turns, pending = 0.0, 0.0, 0, 0
        x, y = 1.0, 0.0
        for j in range(s.size):
            c, d = 1 + a * s[j], b * s[j]
            square = c * c + d * d
            # lambda/(1 + lambda s) = (a c + b d + i (b c - a d))/|1 + lambda s|^2, and b c - a d = b
            re += p[j] * (a * c + b * d) / square
            im += p[j] * b / square
            if n[j] == 1.0:
                x, y, before = x * c - y * d, x * d + y * c, y
                if (before >= 0) != (y >= 0):
                    half_turns += 1
                pending += 1
                if pending == 6:
                    size = np.sqrt(x * x + y * y)
                    re += np.log(size)
                    x, y, pending = x / size, y / size, 0
            else:
                re += 0.5 * n[j] * np.log(square)
                im += n[j] * np.arctan2(d, c)
        re += 0.5 * np.log(x * x + y * y)
        im += np.pi * half_turns + (np.arctan2(y, x) if half_turns % 2 == 0 else np.arctan2(-y, -x))
        out[i] = complex(-0.5 * re, -0.5 * im)
    return out


@njit(cache=True)
def cumulants(a, s, n, p):
    """L, L', L'', L''' at one real point."""
    f0, f1, f2, f3 = 0.0, 0.0, 0.0, 0.0
    for j in range(s.size):
        inverse = 1 / (1 + a * s[j])
        y = s[j] * inverse
        q = p[j] * inverse * inverse
        f0 += n[j] * np.log1p(a * s[j]) + a * p[j] * inverse
        f1 += n[j] * y + q
        f2 += n[j] * y * y + 2 * q * y
        f3 += n[j] * y * y * y + 3 * q * y * y
    return -0.5 * f0, -0.5 * f1, 0.5 * f2, -f3


class PartitionLaw:
    r"""The law of :math:`Z=\sum_{\mu=1}^{P}e^{-\beta E_\mu}`, :math:`E_\mu=\tfrac12\|x-\xi^\mu\|^2`, at a given x.

    Parameters
    ----------
    s : (m,) array > 0
        :math:`\beta r_j` of the distinct non-zero eigenvalues.
    n : (m,) array > 0
        Their multiplicities.
    p : (m,) array >= 0
        :math:`\beta\sum x_i^2` over the directions of each eigenvalue. (Directions of variance 0 multiply Z by
        :math:`\exp(-\beta\sum x_i^2/2)`: the caller adds this constant.)
    log_P : float
        Logarithm of the number of terms, which need not be an integer.

    Raises nothing: an internal class, its arguments are checked by the public functions.
    """

    def __init__(self, s: np.ndarray, n: np.ndarray, p: np.ndarray, log_P: float):
        self.s, self.n, self.p, self.log_P = s, n, p, float(log_P)
        self.edge = -1.0 / float(np.max(s))
        self._inversions: dict[tuple[int, int], Inversion] = {}
        # v at which the saddle of lambda v + L(lambda) passes lambda = 0, 1, 2
        self._switch = [-cumulants(float(k), s, n, p)[1] for k in range(3)]
        self._locate()

    # --- one Boltzmann weight -------------------------------------------------------------------------------------

    def log_M(self, lam: float) -> float:
        """log E exp(-lambda beta E)."""
        return cumulants(float(lam), self.s, self.n, self.p)[0]

    def _strip(self, k: int, m: int) -> Inversion:
        """Inversion of (-1)^m Gamma(k - lambda) e^L on the m-th strip: (edge, k), (k, k+1), (k+1, k+2)."""
        if (k, m) not in self._inversions:
            crossed = np.arange(k, k + m, dtype=float)

            def log_integrand(lam):
                kernel = loggamma(k + m - lam)
                for pole in crossed:
                    kernel -= np.log(lam - pole)
                return kernel + log_transform(lam, self.s, self.n, self.p)

            def derivatives(a):
                f0, f1, f2, f3 = cumulants(a, self.s, self.n, self.p)
                z = k + m - a
                f0, f1, f2, f3 = f0 + math.lgamma(z), f1 - psi(z), f2 + zeta(2, z), f3 + 2 * zeta(3, z)
                for pole in crossed:
                    x = a - pole
                    f0, f1, f2, f3 = f0 - math.log(x), f1 - 1 / x, f2 + 1 / x**2, f3 - 2 / x**3
                return f0, f1, f2, f3

            low = self.edge if m == 0 else float(k + m - 1)
            last = 2 if k == 0 else 1
            ceiling = k + m - 0.5 if m == last else None
            self._inversions[k, m] = Inversion(log_integrand, derivatives, low=low, high=float(k + m), ceiling=ceiling)
        return self._inversions[k, m]

    def log_G(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r"""``log(-log G)`` and its absolute error, at :math:`v=\log u`.

        Left of the median from :math:`1-G` (its own relative accuracy), right of it from G itself.
        """
        out, error = np.empty(v.size), np.empty(v.size)
        far, near = v >= self._switch[0], v <= self._switch[1]
        if far.any():
            mantissa, exponent, e = self._strip(0, 0)(v[far])
            minus_log = np.maximum(-(np.log(mantissa) + exponent), 1e-300)
            out[far], error[far] = np.log(minus_log), e / mantissa / minus_log
        for m, chosen in ((1, ~far & ~near), (2, near)):
            if not chosen.any():
                continue
            mantissa, exponent, e = self._strip(0, m)(v[chosen])
            if m == 2:  # 1 - G = u M(beta) - remainder
                residue = v[chosen] + self.log_M(1.0)
                ratio = np.exp(exponent - residue)
                mantissa, exponent, e = 1 - mantissa * ratio, residue, e * ratio + 2e-16
            log_tail = np.minimum(np.log(mantissa) + exponent, -1e-17)
            tail = np.exp(log_tail)
            with np.errstate(divide="ignore", invalid="ignore"):
                correction = np.where(tail > 1e-12, np.log(-np.log1p(-tail) / tail), 0.5 * tail)
            out[chosen], error[chosen] = log_tail + correction, e / mantissa
        return out, error

    def log_moment(self, k: int, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log of -uG' (k = 1) or u^2 G'' (k = 2), and its absolute error."""
        out, error = np.empty(v.size), np.empty(v.size)
        near = v <= self._switch[k]
        for m, chosen in ((0, ~near), (1, near)):
            if not chosen.any():
                continue
            mantissa, exponent, e = self._strip(k, m)(v[chosen])
            if m == 1:
                residue = k * v[chosen] + self.log_M(float(k))
                ratio = np.exp(exponent - residue)
                mantissa, exponent, e = 1 - mantissa * ratio, residue, e * ratio + 2e-16
            out[chosen], error[chosen] = np.log(mantissa) + exponent, e / mantissa
        return out, error

    # --- the sum of P of them -------------------------------------------------------------------------------------

    def log_survival(self, v: np.ndarray, log_P: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        """``log S = P log G``, S(v) = E exp(-u Z), and the absolute error of S."""
        log_minus, error = self.log_G(np.asarray(v, dtype=float))
        log_S = -np.exp(np.minimum(log_minus + (self.log_P if log_P is None else log_P), 700.0))
        return log_S, -log_S * np.exp(log_S) * error

    def _locate(self) -> None:
        """The REM's lambda_* at this P, by the saddle-point value of log P(1 - G), and the v where it is about 0."""
        strip = self._strip(0, 1)

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
        left = max(self.v_star - reach / self.lambda_star, min(self._switch[1], self.v_star) - reach)
        step, right = 2 / self.lambda_star, self.v_star
        while self.log_survival(np.array([right]))[0][0] > -_TAIL:
            right += step
            step *= 1.5
        return left, right

    def _panels(self, left: float, right: float, extra=()) -> np.ndarray:
        """Breakpoints: spacing 4 where lambda_s >= 1, then as lambda_s falls doubling up to 4/lambda_*."""
        widest, v = 4 / self.lambda_star, max(left, self._switch[1])
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
        other.__dict__.update(self.__dict__, log_P=float(log_P))
        other._locate()
        return other

    def log_ratio(self, log_a: float) -> tuple[float, float]:
        r"""E log(1 + Z/a) beside one more weight a, and the error: :math:`\int e^{-ae^v}(1-S)\,dv`, all positive."""
        end = -log_a + 3.7  # exp(-e^3.7) = 3e-18
        left, step = min(self.v_star, end) - 4, 1.0
        while self.log_G(np.array([left]))[0][0] + self.log_P > -_TAIL:
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
            log_minus, e = self.log_G(v)
            log_S = -np.exp(np.minimum(log_minus + self.log_P, 700.0))
            y = v + log_a
            gumbel = np.exp(np.minimum(y, 700.0))
            collected.append(np.max(-log_S * np.exp(log_S - gumbel) * e))
            own = np.exp(log_S - gumbel + y)
            if not squares:
                return own
            log_2, _ = self.log_moment(2, v)
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
            log_minus, e = self.log_G(v)
            log_S = -np.exp(np.minimum(log_minus + self.log_P, 700.0))
            log_k, e_k = self.log_moment(k, v)
            y = np.exp(self.log_P + log_k + log_S + np.exp(np.minimum(log_minus, 700.0)))
            collected.append(np.max(y * (e_k - log_S * e)))
            return y

        value, error = integrate_panels(integrand, self._panels(left, right, (0.0, self.v_star)))
        return float(value[0]), float(error[0] + max(collected) * (right - left) / 8)
