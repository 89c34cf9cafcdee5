r"""The Gaussian-equivalence shortcut: replace the activation by its linear part plus independent Gaussian noise.

:math:`\xi\to\kappa_0+\kappa_1Fz/\sqrt D+\kappa_*\,\epsilon`, with the same first two moments. It is exact for many learning
problems [GMKZ20], and a comparison here: it puts noise in all N dimensions where the data have a manifold, so that below
:math:`t\sim\kappa_*^2` its collapse time is wrong by a factor that grows without bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from numerics.domain import DomainError, positive
from theory.models import HiddenManifold

__all__ = ["GaussianEquivalent", "gaussian_equivalent"]


@dataclass(frozen=True)
class GaussianEquivalent:
    r"""Gaussian data with covariance eigenvalues :math:`\kappa_1^2r+\kappa_*^2`, `r` those of the linear manifold.

    Attributes
    ----------
    alpha_D : float
    linear, noise : float, :math:`\kappa_1` and :math:`\kappa_*^2`
    variances, fractions : of the latent directions
    """

    alpha_D: float
    linear: float
    noise: float
    variances: tuple[float, ...]
    fractions: tuple[float, ...]

    @property
    def mean_variance(self) -> float:
        r""":math:`\kappa_1^2\sum_kf_ks_k+\kappa_*^2`, that of the model it stands for."""
        return float(self.linear**2 * np.dot(self.fractions, self.variances) + self.noise)

    def _linear(self, t: float) -> tuple[float, float]:
        r""":math:`\int\rho\log(1+r/t)` and :math:`\int\rho\,r/(r+t)` of the linear manifold.

        With :math:`\chi=1/(\alpha_D(t+V))`, :math:`V=\sum_kf_ks_k/(1+s_k\chi)`.
        """
        f, s = np.array(self.fractions), np.array(self.variances)

        def mismatch(log_V):
            V = np.exp(log_V)
            return np.log(f @ (s / (1 + s / (self.alpha_D * (t + V))))) - log_V

        log_V = brentq(mismatch, -200.0, np.log(f @ s) + 1, xtol=1e-14, rtol=8.9e-16)
        V = np.exp(log_V)
        chi = 1 / (self.alpha_D * (t + V))
        return np.log1p(V / t) - V / (t + V) + self.alpha_D * (f @ np.log1p(s * chi)), V / (t + V)

    def critical_alpha(self, kind: str, t) -> np.ndarray:
        r"""Alpha at which the time `kind` ("collapse" or "onset") is `t`.

        :math:`\mathcal L(t)=\log(1+\kappa_*^2/t)+\mathcal L_{lin}(t')`, :math:`t'=(t+\kappa_*^2)/\kappa_1^2`, and onset adds
        :math:`\int\rho R/(R+t)=1-\frac{t}{t+\kappa_*^2}(1-A_{lin}(t'))`.
        """
        if kind not in ("collapse", "onset"):
            raise DomainError("kind", kind, "collapse or onset")
        return np.vectorize(lambda one: self._alpha(kind, float(one)), otypes=[float])(positive("t", t))

    def _alpha(self, kind, t):
        total = np.log1p(self.noise / t)
        share = 0.0
        if self.linear != 0:
            log_det, share = self._linear((t + self.noise) / self.linear**2)
            total += log_det
        if kind == "onset":
            total += 1 - t / (t + self.noise) * (1 - share)
        return 0.5 * total

    def time(self, kind: str, alpha) -> np.ndarray:
        """The time `kind` at `alpha`, by bisection in log t; NaN outside ``1e-30 < t < 1e30``."""

        def one(a):
            def miss(x):
                return self._alpha(kind, np.exp(x)) - a

            low, high = np.log(1e-30), np.log(1e30)
            if miss(low) < 0 or miss(high) > 0:
                return np.nan
            return np.exp(brentq(miss, low, high, xtol=1e-13, rtol=8.9e-16))

        return np.vectorize(one, otypes=[float])(positive("alpha", alpha))


def gaussian_equivalent(model: HiddenManifold) -> GaussianEquivalent:
    """The Gaussian model with the linear coefficient and the residual variance of `model`; one alpha_D.

    >>> round(float(gaussian_equivalent(HiddenManifold(0.5, "identity")).time("collapse", 0.2)), 9)
    1.409612764
    """
    if np.ndim(model.alpha_D) != 0:
        raise DomainError("alpha_D", model.alpha_D, "one number", "call gaussian_equivalent for each")
    _, linear, noise = model.s.linear_and_noise(model.field_variance)
    noise = 0.0 if noise < 1e-14 else noise
    linear = 0.0 if abs(linear) < 1e-14 else linear
    return GaussianEquivalent(float(model.alpha_D), linear, noise, model.variances, model.fractions)
