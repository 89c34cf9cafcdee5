r"""Averages over the channel of a hidden manifold with n replicas, n any real number, as products of matrices.

One coordinate of the data is :math:`x=s(h_0)+\nu`. Given the teacher's field :math:`h_0\sim N(0,Q_{00})` the mean field
:math:`\mu` that the replicas share is Gaussian, and each replica's field is :math:`N(\mu,V)` by itself, so that everything
is a function on a grid of (x, mu): :math:`I(x,\mu)=\int Dh\,e^{-\beta(x-s(h))^2/2}` is a matrix (x, h) times a matrix (h, mu),
its derivatives by :math:`\mu` carry a Hermite polynomial in the second factor, and averages over :math:`h_0` are the same again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.polynomial import hermite_e, legendre

from numerics.domain import DomainError

__all__ = ["Averages", "ReplicatedChannel"]

_REACH = 8.5  # standard deviations that every Gaussian is followed
_STEP = 0.6  # spacing of the trapezoidal rules in units of the narrowest width: 1e-9, measured
_TINY = 1e-280
_MOST = 4000  # nodes of one variable; beyond, the matrices take gigabytes


@dataclass(frozen=True)
class Averages:
    r"""The channel on its grid at one set of overlaps; every array has shape (X, M), made when it is first asked for.

    Attributes
    ----------
    mu : (M,), the mean fields
    log_i : the logarithm of I
    """

    mu: np.ndarray
    log_i: np.ndarray
    _integral: np.ndarray
    _boltzmann: np.ndarray  # (X, H)
    _distance: np.ndarray  # (X, H), (x - s(h))^2
    _gauss: np.ndarray  # (H, M)
    _gap: np.ndarray  # (H, M), (h - mu)/sqrt(V)
    _V: float
    _teacher: tuple

    @cached_property
    def ratios(self) -> _Ratios:
        r""":math:`\partial_\mu^kI/I`, by index k = 0..4."""
        return _Ratios(self)

    @cached_property
    def log_i_beta(self) -> np.ndarray:
        """Derivative of log I by beta."""
        return self._energy @ self._gauss / self._integral

    @cached_property
    def ratio_beta(self) -> np.ndarray:
        r"""Derivative of :math:`\partial_\mu\log I` by beta."""
        moved = self._energy @ (self._gauss * self._gap / np.sqrt(self._V)) / self._integral
        return moved - self.ratios[1] * self.log_i_beta

    @cached_property
    def _energy(self) -> np.ndarray:
        return -self._distance / 2 * self._boltzmann

    def weight(self, n: float = 0.0, hermite: int = 0, field: int = 0, noise: int = 0) -> np.ndarray:
        r"""Weights (X, M) of the average over (h0, nu, mu), not normalised, times :math:`e^{n\beta\nu^2/2}I^n`.

        `hermite` = j averages the j-th derivative by :math:`h_0` of what follows (at fixed :math:`\mu-\rho h_0`), moved by
        parts to :math:`He_j(h_0/\sqrt{Q_{00}})Q_{00}^{-j/2}`; `field` and `noise` are powers of :math:`h_0` and :math:`\nu`.
        """
        h0, density, precision, beta, given, size = self._teacher
        body = density * h0**field
        if hermite:
            body = body * hermite_e.hermeval(h0 / size, [0] * hermite + [1]) / size**hermite
        if precision is None:  # no noise: x is s(h0) itself, the grid's first axis is h0
            left = np.diag(body) if noise == 0 else np.zeros((h0.size, h0.size))
        else:
            left = np.exp((n * beta - precision) / 2 * self._distance) * body
            if noise:
                left = left * self._distance ** (noise // 2)
        out = left @ given
        if n:
            out = out * np.exp(np.clip(n * self.log_i, -600.0, 600.0))
        return out


class _Ratios(Sequence):
    """The derivatives of I over I; each costs a matrix product, once."""

    def __init__(self, averages: Averages):
        self._averages, self._made = averages, {0: np.ones_like(averages.log_i)}

    def __len__(self) -> int:
        return 5

    def __getitem__(self, k):
        if isinstance(k, slice):
            return tuple(self[i] for i in range(*k.indices(len(self))))
        if not 0 <= k < len(self):
            raise IndexError(k)
        if k not in self._made:
            a = self._averages
            polynomial = hermite_e.hermeval(a._gap, [0] * k + [1]) / a._V ** (k / 2)
            self._made[k] = a._boltzmann @ (a._gauss * polynomial) / a._integral
        return self._made[k]


class ReplicatedChannel:
    """The channel of one activation.

    Parameters
    ----------
    function : vectorised activation
    breakpoints : where it or its slope jumps
    step : spacing of the rules, relative; smaller is finer
    """

    def __init__(self, function: Callable[[np.ndarray], np.ndarray], breakpoints: Sequence[float], step: float = _STEP):
        self.function, self.breakpoints, self.step = function, tuple(breakpoints), step

    def _field_nodes(self, size: float, width: float) -> tuple[np.ndarray, np.ndarray]:
        """Gauss-Legendre panels over the reach of a field, split at the breakpoints, of the given width."""
        reach = _REACH * size
        edges = np.unique([-reach, *(b for b in self.breakpoints if abs(b) < reach), reach])
        panels = [np.linspace(a, b, max(1, int(np.ceil((b - a) / width))) + 1) for a, b in pairwise(edges)]
        limits = np.unique(np.concatenate(panels))
        nodes, weights = legendre.leggauss(12)
        half = np.diff(limits)[:, None] / 2
        return ((limits[:-1, None] + half) + half * nodes).ravel(), (half * weights).ravel()

    def __call__(self, Q00: float, m: float, Q: float, q: float, beta: float, delta: float) -> Averages:
        """The channel at overlaps Q00 (teacher), m, Q, q (replicas), temperature 1/beta and noise delta >= 0.

        Raises DomainError where a variable would need more than 4000 nodes (t below about 1e-3).
        """
        V, slope = Q - q, m / Q00
        shared = max(q - m * slope, 1e-12 * Q00)  # variance of the mean field given the teacher's
        size = np.sqrt(max(Q, Q00))
        reach = np.linspace(-_REACH * size, _REACH * size, 801)
        slopes = np.abs(np.diff(self.function(reach))) / (reach[1] - reach[0])
        for b in self.breakpoints:  # a jump is no slope
            slopes[np.abs((reach[1:] + reach[:-1]) / 2 - b) < reach[1] - reach[0]] = 0.0
        steepest = max(slopes.max(), 1e-3)
        noise = np.sqrt(min(1 / beta, delta) if delta > 0 else 1 / beta)
        panel = min(8 * noise / steepest, 4 * np.sqrt(V), 1.0)
        mean = np.sqrt(q) * _REACH
        spacing = self.step * np.sqrt(min(shared, V)) if shared > 1e-6 * V else self.step * np.sqrt(V)
        if (
            max(24 * _REACH * size / panel, 2 * mean / spacing, 2 * _REACH * size * steepest / (self.step * noise))
            > _MOST
        ):
            name, value = ("delta", delta) if 0 < delta < 1 / beta else ("beta", beta)
            raise DomainError(
                name, float(value), f"resolved by {_MOST} nodes a variable", "Use a larger t, or a delta nearer to it"
            )
        h, weight = self._field_nodes(size, panel)
        s = self.function(h)
        mu = np.linspace(-mean, mean, int(2 * mean / spacing) + 2)
        gap = (h[:, None] - mu) / np.sqrt(V)
        gauss = weight[:, None] * np.exp(-(gap**2) / 2) / np.sqrt(2 * np.pi * V)

        if delta > 0:
            low, high = s.min() - _REACH * np.sqrt(delta), s.max() + _REACH * np.sqrt(delta)
            x = np.linspace(low, high, int((high - low) / (self.step * noise)) + 2)
            distance = (x[:, None] - s) ** 2
            precision = 1 / delta
            density = weight * np.exp(-(h**2) / (2 * Q00)) / np.sqrt(2 * np.pi * Q00)
            density = density * (x[1] - x[0]) / np.sqrt(2 * np.pi * delta)
        else:
            distance, precision = (s[:, None] - s) ** 2, None
            density = weight * np.exp(-(h**2) / (2 * Q00)) / np.sqrt(2 * np.pi * Q00)
        given = np.exp(-((mu - slope * h[:, None]) ** 2) / (2 * shared)) * (mu[1] - mu[0]) / np.sqrt(2 * np.pi * shared)

        boltzmann = np.exp(-beta / 2 * distance)
        integral = np.maximum(boltzmann @ gauss, _TINY)
        teacher = (h, density, precision, beta, given, np.sqrt(Q00))
        return Averages(mu, np.log(integral), integral, boltzmann, distance, gauss, gap, V, teacher)
