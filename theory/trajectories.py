"""What finite N adds to the times that trajectories and nearest points show: a width of commitments, a shift of t_g."""

from __future__ import annotations

from typing import Any

from scipy.special import digamma, gammaln

from theory.times import collapse_time, critical_alpha

__all__ = ["commitment_width", "edge_correction"]


def commitment_width(model: Any, alpha: float) -> float:
    r"""Standard deviation of the logarithm of the commitment time, times the square root of N, at large N.

    .. math:: \sqrt N\,\mathrm{std}(\log t)=\frac2{\sqrt{A(t_c)}},\qquad A(t)=\int\rho\frac r{r+t}

    The log odds :math:`\Delta=N(\alpha-\tfrac12\mathcal L)+\tfrac12\sum_i(\omega_i^2-y_i^2)`, with :math:`y` the whitened
    :math:`x`, have variance :math:`NA` and slope :math:`\tfrac12NA` in log t. Source: [ours: docs/derivations/trajectories.md].

    >>> from theory import LinearManifold
    >>> round(commitment_width(LinearManifold(0.5), 0.2), 3)
    3.948
    """
    t = collapse_time(model, alpha)
    A = 2 * (critical_alpha(model, t, kind="onset") - critical_alpha(model, t, kind="collapse"))
    return 2 / A**0.5


def edge_correction(m: float, N: float) -> float:
    r"""What finite N adds to :math:`t_g/d^2`: :math:`\frac{2m}Nh'(m)`, :math:`h(m)=\frac1m\log\Gamma(1-m)`.

    From :math:`E\log Z=-N d^2/2t+h(m)-\gamma`, exponential levels at the edge, with :math:`m=t/t_\mathrm{cond}<1`.
    Source: [ours: docs/derivations/trajectories.md].

    >>> round(edge_correction(1e-4, 1.0) / 1e-4, 3)  # 2 m zeta(2)/2
    1.645
    """
    return float(2 * m / N * (-gammaln(1 - m) / m**2 - digamma(1 - m) / m))
