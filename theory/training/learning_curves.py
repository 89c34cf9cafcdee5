r"""Losses against training time, exactly in the limit of large size: contour integrals of one- and two-point resolvents.

Gradient flow from zero gives the weights :math:`-\sqrt{p/\Delta}\,V^\top h_\tau(U)`,
:math:`h_\tau(\lambda)=(1-e^{-2\Delta\tau\lambda/\psi_p})/\lambda`. In a direction of variance r, V being V's column for it,

.. math:: L_{train}=1-V^\top\frac{1-e^{-4\Delta\tau U/\psi_p}}UV,\qquad
   L_{test}=1-2V^\top h_\tau V+V^\top h_\tau\tilde Uh_\tau V,

which are integrals over a contour around the spectrum of :math:`V^\top(U-z)^{-1}V=b^2\psi_p/D(z)` and of
:math:`V^\top(U-z_1)^{-1}\tilde U(U-z_2)^{-1}V`, the response in `theory.training.action`. :math:`\tau=\infty` is
:math:`h=1/\lambda`. The contour is an ellipse in the plane of log z: the trapezoidal rule converges geometrically at any
ratio of the largest to the smallest eigenvalue. The distance to the exact score follows,
:math:`\Delta\,E=L_{test}-1+\Delta/(e^{-2t}r+\Delta)`: denoising and explicit score matching differ by a constant. Source:
one-point functions [BUBM25]; the rest [ours: docs/derivations/training_time.md].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from numerics.display import Shown
from theory.training.resolvent import Resolvent, kernel

__all__ = ["ContourLosses", "LearningCurve"]

_HEIGHT = 1.25  # of the ellipse in arg z, below pi/2: exp(-z tau) falls along the whole contour
_NODES_PER_E_FOLD, _LEAST_NODES = 20, 120  # of the upper half


@dataclass(frozen=True, eq=False)
class LearningCurve(Shown):
    """Losses per dimension at given training times.

    Attributes
    ----------
    tau : float64 array
        Training time.
    train, test : float64 arrays of the same shape
        :math:`\\frac1NE|\\sqrt\\Delta s(x)+\\omega|^2` on the samples and on fresh data, noise averaged; 1 for no score at all.
    distance : float64 array
        :math:`\\frac1NE|s(x)-s_{exact}(x)|^2` on fresh data.
    """

    tau: np.ndarray
    train: np.ndarray
    test: np.ndarray
    distance: np.ndarray

    @property
    def gap(self) -> np.ndarray:
        """Test less training loss: what memorisation opens."""
        return self.test - self.train


@dataclass(frozen=True, eq=False)
class ContourLosses:
    """One model's contour and what is known on it.

    Attributes
    ----------
    resolvent : Resolvent
    lowest, highest : float
        Ends of the support of the spectrum.
    Delta, decay : float
        Ornstein-Uhlenbeck constants, :math:`1-e^{-2t}` and :math:`e^{-2t}`.
    """

    resolvent: Resolvent
    lowest: float
    highest: float
    Delta: float
    decay: float

    @cached_property
    def _contour(self) -> tuple[np.ndarray, np.ndarray]:
        """Nodes of the upper half, counter-clockwise, and their weights dz."""
        half = 0.5 * np.log(self.highest / self.lowest)
        n = max(_LEAST_NODES, int(_NODES_PER_E_FOLD * 2 * half))
        angle = np.pi * (np.arange(n) + 0.5) / n
        wide = np.hypot(half, _HEIGHT)  # confocal: foci at the ends of the spectrum
        w = wide * np.cos(angle) + 1j * _HEIGHT * np.sin(angle)
        z = np.sqrt(self.lowest * self.highest) * np.exp(w)
        return z, z * (-wide * np.sin(angle) + 1j * _HEIGHT * np.cos(angle)) * np.pi / n

    @cached_property
    def _saddles(self) -> dict[str, np.ndarray]:
        """Overlaps on the contour, and 1/D by node and variance."""
        z, _ = self._contour
        g, x = self.resolvent.along(z)
        s_hat, r_hat = self.resolvent.conjugates(g, x)
        inverse = 1 / (s_hat[:, None] + r_hat[:, None] * self.resolvent.values)
        return {
            "Q": self.resolvent.q(g),
            "y": 1 / x,
            "S": inverse @ self.resolvent.weights,
            "inverse": inverse,
            "s_hat": s_hat,
            "r_hat": r_hat,
        }

    @cached_property
    def _responses(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Responses of S_hat12 and R_hat12, for pairs (z_i, z_j) and for pairs (z_i, conj z_j)."""
        s, weights, values = self._saddles, self.resolvent.weights, self.resolvent.values
        n = s["Q"].size
        found = []
        for other in (np.asarray, np.conj):
            second = {name: other(s[name]) for name in ("Q", "S", "y")}
            h = [s["inverse"] @ (weights * values**k * other(s["inverse"])).T for k in range(3)]
            first = [np.repeat(s[name], n) for name in ("Q", "S", "y")]
            tiled = [np.tile(second[name], n) for name in ("Q", "S", "y")]
            out = np.empty(n * n, dtype=complex), np.empty(n * n, dtype=complex)
            kernel().two_point(*first, *tiled, *(x.ravel() for x in h), self.resolvent.parameters, *out)
            found.append(tuple(o.reshape(n, n) for o in out))
        return tuple(found)

    def _inverse_at(self, variance: float | None) -> tuple[np.ndarray, list[np.ndarray]]:
        """1/D by node averaged over directions (or of one), and the two-point functions of V over b^2 psi_p."""
        s = self._saddles
        if variance is not None:
            one = 1 / (s["s_hat"] + variance * s["r_hat"])
            pairs = [
                (out_s + variance * out_r) * one[:, None] * other(one)[None, :]
                for (out_s, out_r), other in zip(self._responses, (np.asarray, np.conj), strict=True)
            ]
            return one, pairs
        weights, values = self.resolvent.weights, self.resolvent.values
        pairs = []
        for (out_s, out_r), other in zip(self._responses, (np.asarray, np.conj), strict=True):
            h0, h1 = (s["inverse"] @ (weights * values**k * other(s["inverse"])).T for k in (0, 1))
            pairs.append(out_s * h0 + out_r * h1)
        return s["S"], pairs

    def curve(self, tau: np.ndarray, variance: float | None = None) -> LearningCurve:
        """Losses at training times tau (may be infinite), over all directions or in those of one variance."""
        tau = np.asarray(tau, dtype=float)
        z, dz = self._contour
        psi_p, _, _, b2, _, _ = self.resolvent.parameters
        times = 2 * self.Delta * tau.ravel()[:, None] / psi_p
        # at tau = infinity the exponential is 0: Re z > 0 on the whole contour
        finite = np.where(np.isfinite(times), times, 0.0)
        fall = np.where(np.isfinite(times), np.exp(-finite * z), 0.0)
        h = -np.where(np.isfinite(times) & (np.abs(finite * z) < 1e-2), _expm1(-finite * z), fall - 1) / z
        both = h * (1 + fall)
        one, (same, conjugate) = self._inverse_at(variance)
        scale = b2 * psi_p
        train = 1 + scale / np.pi * (both * one * dz).imag.sum(axis=1)
        first = -scale / np.pi * (h * one * dz).imag.sum(axis=1)
        H = h * dz
        pair = np.einsum("ti,ij,tj->t", H, same, H, optimize=True)
        cross = np.einsum("ti,ij,tj->t", H, conjugate, H.conj(), optimize=True)
        second = -scale / (2 * np.pi**2) * (pair - cross).real
        test = 1 - 2 * first + second
        if variance is None:
            exact = (self.resolvent.weights / (self.decay * self.resolvent.values + self.Delta)).sum()
        else:
            exact = 1 / (self.decay * variance + self.Delta)
        distance = (test - 1) / self.Delta + exact
        return LearningCurve(tau, *(a.reshape(tau.shape) for a in (train, test, distance)))


def _expm1(z: np.ndarray) -> np.ndarray:
    """exp(z) - 1 for small complex z."""
    return np.expm1(z.real) * np.cos(z.imag) - 2 * np.sin(z.imag / 2) ** 2 + 1j * np.exp(z.real) * np.sin(z.imag)
