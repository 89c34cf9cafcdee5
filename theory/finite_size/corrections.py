r"""How finite-size values approach the asymptotic ones: the 1/N and log N/N corrections, in closed form.

With :math:`m_i=r_i/(r_i+t)`, sums over the N directions, :math:`\lambda=\beta_*t` and :math:`\Phi` the normal
distribution function:

* onset: :math:`\log(P-1)=\tfrac12\sum[\log(1+r_i/t)+m_i]-\tfrac13\sum m_i^3/\sum m_i^2` (the median of
  :math:`\mathcal L_x` is not its mean);
* collapse: :math:`\log(P-1)=\tfrac12\sum\log(1+r_i/t)-E\log\Phi(\tau\zeta),\ \tau^2=\tfrac12\sum m_i^2/\sum m_i`, with
  :math:`\zeta` normal (on half of the x the rest is condensed already, which costs it :math:`-\log\Phi`);
* condensed free energy: :math:`E\log Z=\frac1\lambda\big[\log P+E\mathcal L(\lambda)\big]
  -\gamma+\frac1\lambda\big[\gamma+\log\Gamma(1-\lambda)-\log\lambda-\tfrac12\log(2\pi E\mathcal L''(\lambda))\big]
  -\frac{\operatorname{Var}(\lambda\mathcal L'-\mathcal L)}{2\lambda^3E\mathcal L''(\lambda)}`,
  so :math:`-\frac{1}{2\lambda}\log N` is its slowest correction, and :math:`t_g` moves by
  :math:`\frac{1}{\beta_*}\frac{\log N}{N}`.

All errors are of order 1/N in log P. Source: [ours: docs/derivations/finite_size.md].
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaln, log_ndtr

from numerics.domain import DomainError, nonnegative, positive
from theory.finite_size.draws import FiniteSpectrum, finite_spectrum
from theory.finite_size.setup import log_counts

__all__ = [
    "collapse_time_first_order",
    "generalization_time_first_order",
    "log_partition_first_order",
    "onset_time_first_order",
]

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def onset_time_first_order(model, P=None, N=None, *, seed: int = 0, log_P=None) -> float:
    r"""Onset time at N and P to first order in 1/N: where the mean weight of a training point at its place is 1/2.

    :math:`\log(P-1)=\tfrac12\sum_i[\log(1+r_i/t)+m_i]-\tfrac13\sum m_i^3/\sum m_i^2,\ m_i=r_i/(r_i+t)`

    Parameters
    ----------
    model : Isotropic, LinearManifold, Subspaces or Spectrum
    P : int >= 3, or `log_P`
    N : int >= 1; may be left out for a Spectrum
    seed : int, of the random spectrum of a LinearManifold

    Returns
    -------
    float, squared data units

    >>> from theory.models import Isotropic
    >>> round(onset_time_first_order(Isotropic(1.0), P=1000, N=20), 3)
    2.142
    """

    def load(s, n, m):
        return 0.5 * float(n @ (np.log1p(s) + m)) - float(n @ m**3) / (3 * float(n @ m**2))

    return _solve(load, model, P, N, seed, log_P)


def collapse_time_first_order(model, P=None, N=None, *, seed: int = 0, log_P=None) -> float:
    r"""Collapse time at N and P to first order in 1/N: where the mean weight of the true point is 1/2.

    :math:`\log(P-1)=\tfrac12\sum_i\log(1+r_i/t)-E\log\Phi(\tau\zeta),\ \tau^2=\tfrac12\sum m_i^2/\sum m_i`

    Parameters, returns: as `onset_time_first_order`.

    >>> from theory.models import Isotropic
    >>> round(collapse_time_first_order(Isotropic(1.0), P=1000, N=20), 3)
    1.179
    """

    def load(s, n, m):
        tau = math.sqrt(0.5 * float(n @ m**2) / float(n @ m))
        return 0.5 * float(n @ np.log1p(s)) - float(_WEIGHTS @ log_ndtr(tau * _NODES))

    return _solve(load, model, P, N, seed, log_P)


def generalization_time_first_order(model, P=None, N=None, *, seed: int = 0, log_P=None) -> float:
    r"""Generalization optimum at N and P to first order, where the condensed free energy below makes it stationary.

    With :math:`\beta_*` fixed by log P, :math:`\tfrac N2\log t-E\log Z` is stationary in t; the solution moves away from
    :math:`-2g'(\beta_*;0)` by :math:`\frac1{\beta_*}\frac{\log N}N` and terms in 1/N.

    Parameters, returns: as `onset_time_first_order`. NaN where the corrections are so large that the stationary point
    has merged with the condensation's singularity: N is then too small for an expansion, use the exact minimiser.

    >>> from theory.models import Isotropic
    >>> round(generalization_time_first_order(Isotropic(1.0), log_P=200.0, N=1000), 3)
    0.806
    """
    log_P, _ = log_counts(P, log_P)
    spectrum = finite_spectrum(model, N, np.random.default_rng(seed))
    N, deep = spectrum.N, 1e-60 * float(spectrum.variance[-1])
    # deep in the condensed phase lambda_* = beta_* t; condensation is where it reaches 1
    t_condensation = deep / log_partition_first_order(spectrum, log_P, deep, noisy=False)["lambda_star"]

    def slope(log_t):
        h = 1e-4
        left, right = (
            0.5 * N * (log_t + d)
            - log_partition_first_order(spectrum, log_P, math.exp(log_t + d), noisy=False)["total"]
            for d in (-h, h)
        )
        return (right - left) / (2 * h)

    grid = math.log(t_condensation) + np.linspace(-12.0, -1e-3, 600)
    slopes = np.array([slope(v) for v in grid])
    rising = np.flatnonzero((slopes[:-1] < 0) & (slopes[1:] >= 0))
    if rising.size == 0:
        return math.nan
    i = rising[-1]
    return math.exp(brentq(slope, grid[i], grid[i + 1], xtol=1e-10))


def _solve(load, model, P, N, seed, log_P) -> float:
    _, log_rest = log_counts(P, log_P)
    spectrum = finite_spectrum(model, N, np.random.default_rng(seed))
    r, n = spectrum.variance, spectrum.multiplicity

    def excess(log_t):
        s = r * math.exp(-log_t)
        return load(s, n, s / (1 + s)) - log_rest

    low, high = math.log(r[-1]) - 300, math.log(r[0]) + 40
    if not excess(low) > 0 > excess(high):
        raise DomainError("P", f"e^{log_rest:.6g}", "such that the time lies between 1e-130 and 1e17 variances")
    return math.exp(brentq(excess, low, high, xtol=1e-13))


def log_partition_first_order(
    spectrum: FiniteSpectrum, log_P: float, t: float, *, noisy: bool, x_variance: np.ndarray | None = None
) -> dict[str, float]:
    r"""E log Z of P fresh patterns, averaged over x, to order N^0: leading term, log N term and constant.

    Parameters
    ----------
    spectrum : FiniteSpectrum
    log_P : float > 0
    t : float > 0
    noisy : bool, law of x
    x_variance : (m,) numbers >= 0, optional
        Variance of x along the directions of each distinct eigenvalue, where it is not that of a (clean or noisy) point.

    Returns
    -------
    dict with `lambda_star` (at most 1), `leading`, `log_term` :math:`-\frac1{2\lambda}\log N` (0 when not condensed),
    `constant`, and their sum `total`. Near condensation, :math:`|1-\lambda|\lesssim N^{-1/2}`, neither form holds.
    """
    t = float(positive("t", t))
    r, n, N = spectrum.variance, spectrum.multiplicity, spectrum.N
    spread = r + (t if noisy else 0.0) if x_variance is None else nonnegative("x_variance", x_variance)
    s, e = r / t, spread / t  # beta r, beta E x^2
    shift = -0.5 * spectrum.zeros if noisy else 0.0

    def mean(lam):  # E L, lambda E L' and lambda^2 E L''
        d = 1 + lam * s
        y = lam * s / d
        q = lam * e / d
        return (
            -0.5 * float(n @ (np.log1p(lam * s) + q)),
            -0.5 * float(n @ (y + q / d)),
            0.5 * float(n @ (y**2 + 2 * q * y / d)),
        )

    def entropy(log_lam):
        L, L1, _ = mean(math.exp(log_lam))
        return log_P + L - L1

    if entropy(0.0) >= 0:
        leading = log_P + mean(1.0)[0]
        return {
            "lambda_star": 1.0,
            "leading": leading + shift,
            "log_term": 0.0,
            "constant": 0.0,
            "total": leading + shift,
        }
    lam = math.exp(brentq(entropy, -300.0, 0.0, xtol=1e-14))
    L, _, L2 = mean(lam)
    d = 1 + lam * s
    # lambda L' - L varies with x as sum x_i^2 (beta lambda)^2 r / (2 (1 + lambda beta r)^2)
    variance = 0.5 * float(n @ (lam * e * lam * s / d**2) ** 2)
    leading = (log_P + L) / lam + shift
    log_term = -0.5 * math.log(N) / lam
    bracket = np.euler_gamma + gammaln(1 - lam) - math.log(lam) - 0.5 * math.log(2 * math.pi * L2 / lam**2 / N)
    constant = -np.euler_gamma + bracket / lam - variance / (2 * lam * L2)
    return {
        "lambda_star": lam,
        "leading": leading,
        "log_term": log_term,
        "constant": float(constant),
        "total": float(leading + log_term + constant),
    }
