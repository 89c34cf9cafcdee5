r"""One Boltzmann weight of a Gaussian pattern, seen from a given x: its Laplace transform, exactly, by one contour integral.

With :math:`u=e^v`, :math:`G(u)=E\exp(-ue^{-\beta E})`, and :math:`s_j=\beta r_j,\ p_j=\beta x_j^2` over the eigendirections
of non-zero variance,

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
from scipy.special import loggamma, psi, zeta

from numerics.kernel_cache import njit
from numerics.quadrature import Inversion

__all__ = ["BoltzmannWeight", "cumulants", "log_transform"]


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


class BoltzmannWeight:
    r"""The law of :math:`e^{-\beta E}`, :math:`E=\tfrac12\|x-\xi\|^2`, at a given x.

    Parameters
    ----------
    s : (m,) array > 0
        :math:`\beta r_j` of the distinct non-zero eigenvalues.
    n : (m,) array > 0
        Their multiplicities.
    p : (m,) array >= 0
        :math:`\beta\sum x_i^2` over the directions of each eigenvalue. (Directions of variance 0 multiply the weight by
        :math:`\exp(-\beta\sum x_i^2/2)`: the caller adds this constant.)

    Raises nothing: an internal class, its arguments are checked by the public functions.
    """

    def __init__(self, s: np.ndarray, n: np.ndarray, p: np.ndarray):
        self.s, self.n, self.p = s, n, p
        self.edge = -1.0 / float(np.max(s))
        self._inversions: dict[tuple[int, int], Inversion] = {}
        # v at which the saddle of lambda v + L(lambda) passes lambda = 0, 1, 2
        self.switch = [-cumulants(float(k), s, n, p)[1] for k in range(3)]

    def log_M(self, lam: float) -> float:
        """log E exp(-lambda beta E)."""
        return cumulants(float(lam), self.s, self.n, self.p)[0]

    def strip(self, k: int, m: int) -> Inversion:
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
        far, near = v >= self.switch[0], v <= self.switch[1]
        if far.any():
            mantissa, exponent, e = self.strip(0, 0)(v[far])
            minus_log = np.maximum(-(np.log(mantissa) + exponent), 1e-300)
            out[far], error[far] = np.log(minus_log), e / mantissa / minus_log
        for m, chosen in ((1, ~far & ~near), (2, near)):
            if not chosen.any():
                continue
            mantissa, exponent, e = self.strip(0, m)(v[chosen])
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
        near = v <= self.switch[k]
        for m, chosen in ((0, ~near), (1, near)):
            if not chosen.any():
                continue
            mantissa, exponent, e = self.strip(k, m)(v[chosen])
            if m == 1:
                residue = k * v[chosen] + self.log_M(float(k))
                ratio = np.exp(exponent - residue)
                mantissa, exponent, e = 1 - mantissa * ratio, residue, e * ratio + 2e-16
            out[chosen], error[chosen] = np.log(mantissa) + exponent, e / mantissa
        return out, error
