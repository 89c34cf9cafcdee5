"""What finite N adds to the times that trajectories and nearest points show: a width of commitments, a shift of t_g."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import digamma, gammaln

from numerics.domain import positive
from theory.finite_size.drift import weight_exceeds_half
from theory.times import collapse_time, critical_alpha

__all__ = ["commitment_width", "edge_correction"]


def commitment_width(model: Any, alpha: float, N: float | None = None) -> float:
    r"""Standard deviation of the logarithm of the commitment time, times the square root of N.

    .. math:: \sqrt N\,\mathrm{std}(\log t)\to\frac2{\sqrt{A(t_c)}},\qquad A(t)=\int\rho\frac r{r+t}

    The log odds :math:`\Delta=N(\alpha-\tfrac12\mathcal L)+\tfrac12\sum_i(\omega_i^2-y_i^2)`, with :math:`y` the whitened
    :math:`x`, have variance :math:`NA` and slope :math:`\tfrac12NA` in log t. At finite N the distribution of the time is taken
    to be one minus the probability that the weight exceeds 1/2, as if each path crossed once.
    Source: [ours: docs/derivations/trajectories.md].

    Parameters
    ----------
    model : GaussianModel
    alpha : float > 0, log(P - 1)/N
    N : float > 0, optional; the limit without it

    >>> from theory import LinearManifold
    >>> round(commitment_width(LinearManifold(0.5), 0.2), 3), round(commitment_width(LinearManifold(0.5), 0.2, 44), 2)
    (3.948, 3.34)
    """
    t = float(collapse_time(model, alpha))
    limit = 2 / (2 * float(critical_alpha(model, t, kind="onset") - critical_alpha(model, t, kind="collapse"))) ** 0.5
    if N is None:
        return limit
    N = float(positive("N", N))
    log_t = np.log(t) + np.linspace(-7, 7, 141) * limit / np.sqrt(N)
    later = np.array([weight_exceeds_half(model, x, alpha, N) for x in np.exp(log_t)])
    share, middle = -np.diff(later), (log_t[1:] + log_t[:-1]) / 2
    share = share / share.sum()
    return float(np.sqrt(N * (share @ (middle - share @ middle) ** 2)))


def edge_correction(m: float, N: float) -> float:
    r"""What finite N adds to :math:`t_g/d^2`: :math:`\frac{2m}Nh'(m)`, :math:`h(m)=\frac1m\log\Gamma(1-m)`.

    From :math:`E\log Z=-N d^2/2t+h(m)-\gamma`, exponential levels at the edge, with :math:`m=t/t_\mathrm{cond}<1`.
    Source: [ours: docs/derivations/trajectories.md].

    >>> round(edge_correction(1e-4, 1.0) / 1e-4, 3)  # 2 m zeta(2)/2
    1.645
    """
    return float(2 * m / N * (-gammaln(1 - m) / m**2 - digamma(1 - m) / m))
