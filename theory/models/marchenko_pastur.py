r"""The generalised Marchenko-Pastur law of a linear manifold, in numbers: edges, masses, and the curve that carries it.

In the complex plane of :math:`y=-\alpha_D/m` the support of the continuous density is a curve :math:`y=x+iv(x)` that
lies over real x as a graph: :math:`v(x)\ge0` is the one solution of :math:`\alpha_D\langle s^2/((x-s)^2+v^2)\rangle=1`,
and :math:`r=z(y)` increases with x along it. Every inversion is therefore monotone, at any number of latent variances.
Formulas come from `theory.models.stieltjes`; derivation in docs/derivations/jacobian.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy.optimize import brentq

from numerics.domain import DomainError
from numerics.quadrature import double_exponential, from_jacobi
from theory.models.gaussian import LinearManifold
from theory.models.stieltjes import lowered, lowered_pole_moment

__all__ = ["Continuum", "continuum"]

_TINY = 1e-300
_ALL = 1100  # bisections that exhaust the doubles, next to 0 too


@dataclass(frozen=True, eq=False)
class Continuum:
    """Continuous spectrum of a linear manifold, in units of its largest latent variance; bulks in decreasing order.

    Attributes
    ----------
    alpha_D : float
    s, f : (K,) arrays
        Distinct positive latent variances in decreasing order, the largest being 1, and their fractions.
    rank : float
        Rank of the covariance over N if it were not limited by N: alpha_D times the sum of `f`.
    scale : float
        The unit.
    """

    alpha_D: float
    s: np.ndarray
    f: np.ndarray
    rank: float
    scale: float

    # --- the map z(y) -------------------------------------------------------------------------------------------------

    def _sum(self, name: str, y: np.ndarray) -> np.ndarray:
        """Latent average of a summand of theory.models.stieltjes."""
        return (self.f * lowered(name)(np.asarray(y)[..., None], self.s)).sum(axis=-1)

    @cached_property
    def _excess(self) -> float:
        """1/alpha_D - <1>, which vanishes when the covariance has exactly full rank."""
        return (1 - self.rank) / self.alpha_D

    def level(self, y: np.ndarray) -> np.ndarray:
        """r = z(y)."""
        direct = y * (1 / self.alpha_D) + self._sum("level", y)
        # near y = 0 the first orders cancel: <sy/(y-s)> = -y<1> + y^2 <1/(y-s)>
        near_zero = y * (self._excess + y * (self.f / (np.asarray(y)[..., None] - self.s)).sum(axis=-1))
        return np.where(np.abs(y) < 0.5 * self.s[-1], near_zero, direct)

    def slope(self, y: np.ndarray) -> np.ndarray:
        """dz/dy."""
        return 1 / self.alpha_D + self._sum("slope", y)

    def density(self, y: np.ndarray) -> np.ndarray:
        """rho(z(y)) = Im m/pi on the curve."""
        return self.alpha_D / np.pi * y.imag / np.abs(y) ** 2

    def tail(self, y: np.ndarray) -> np.ndarray:
        """Mass above z(y), for y on the curve or in a gap."""
        y = np.asarray(y, dtype=complex)
        return (np.log(y) + self.alpha_D * self._sum("primitive", y)).imag / np.pi

    # --- edges, masses, means -----------------------------------------------------------------------------------------

    @cached_property
    def bands(self) -> tuple[list[list[int]], np.ndarray]:
        """Which latent variances make each bulk, and the (B, 2) edges in y, lower first."""
        s, c = self.s, self.alpha_D * self.f * self.s**2
        reach, least = math.sqrt(c.sum()), np.sqrt(c)  # an edge is at most `reach` from the nearest s, and at least

        def excess(y):  # of alpha_D <s^2/(y-s)^2> over 1
            return (c / (y - s) ** 2).sum() - 1

        groups, edges = [[0]], [[s[0] + _root(lambda d: (c / (d + s[0] - s) ** 2).sum() - 1, least[0] / 2, 2 * reach)]]
        for k in range(s.size - 1):
            bottom, depth = self.split(k)
            if self.alpha_D < depth:
                edges[-1].append(_root(excess, bottom, s[k] - least[k] / 2))
                edges.append([_root(excess, s[k + 1] + least[k + 1] / 2, bottom)])
                groups.append([])
            groups[-1].append(k + 1)
        edges[-1].append(self._lowest(reach, least[-1]))
        return groups, np.array(edges)[:, ::-1]

    def split(self, k: int) -> tuple[float, float]:
        """Where the convex <s^2/(y-s)^2> is least between poles k and k+1, and the alpha_D below which a gap opens."""
        s, weight = self.s, self.f * self.s**2
        width = s[k] - s[k + 1]
        others = np.delete(np.arange(s.size), [k, k + 1])

        def derivative(u):  # at y = s_{k+1} + width u, times u^3 (1-u)^3 so that it is finite at the poles
            distance = (s[k + 1] - s[others] + width * u) / width
            far = (weight[others] / distance**3).sum() * (u * (1 - u)) ** 3
            return weight[k] * u**3 - weight[k + 1] * (1 - u) ** 3 - far

        y = s[k + 1] + width * _root(derivative, 0.0, 1.0)
        return y, 1 / (weight / (y - s) ** 2).sum()

    def _lowest(self, reach: float, least: float) -> float:
        """The least edge in y, accurate relative to itself: it passes 0 at full rank, the hard edge."""
        if self._excess == 0:
            return 0.0

        def shifted(y):  # <s^2/(y-s)^2 - 1> - (1/alpha_D - <1>)
            return (self.f * y * (2 * self.s - y) / (y - self.s) ** 2).sum() - self._excess

        return _root(shifted, self.s[-1] - 2 * reach, self.s[-1] - least / 2)

    @cached_property
    def edges(self) -> np.ndarray:
        """(B, 2) edges in r, lower first."""
        y = self.bands[1]
        # positive terms where the stationary form would cancel
        return np.where(np.abs(y) < 0.5 * self.s[-1], self._sum("edge", y), self.level(y))

    @cached_property
    def masses(self) -> np.ndarray:
        """(B,) masses: each latent direction puts its eigenvalue into its own bulk ("exact separation")."""
        masses = np.array([self.alpha_D * self.f[group].sum() for group in self.bands[0]])
        masses[-1] += min(0.0, 1 - self.rank)
        return masses

    @cached_property
    def means(self) -> np.ndarray:
        """(B,) means, from the residues at the poles of each bulk."""
        total = []
        for group in self.bands[0]:
            outside = np.setdiff1d(np.arange(self.s.size), group)
            s, f = self.s[group], self.f[group]
            push = lowered_pole_moment()(self.alpha_D, s[:, None], self.s[outside]) @ self.f[outside]
            total.append((f * (s + push)).sum())
        return np.array(total) / self.masses

    # --- the curve ----------------------------------------------------------------------------------------------------

    def curve(self, x: np.ndarray) -> np.ndarray:
        """x + i v(x), by Newton's method on a convex decreasing function of w = v^2 from below its root."""
        x = np.asarray(x, dtype=float)
        c = self.alpha_D * self.f * self.s**2
        shift = x[..., None]
        d2 = (shift - self.s) ** 2
        near_zero = np.abs(x) < 0.5 * self.s[-1]
        w = np.maximum((c - d2).max(axis=-1), 0.0)
        for _ in range(50):
            distance = np.maximum(d2 + w[..., None], _TINY)
            q = c / distance
            # alpha_D <s^2/distance> - 1, next to y = 0 with the two ones that cancel at full rank taken out
            small = (self.f * (shift * (2 * self.s - shift) - w[..., None]) / distance).sum(axis=-1) - self._excess
            excess = np.where(near_zero, self.alpha_D * small, q.sum(axis=-1) - 1)
            step = excess / (q / distance).sum(axis=-1)
            w = np.maximum(w + step, 0.0)
            # convergence is quadratic: the next step would be below rounding
            if ((np.abs(step) <= 1e-9 * w) | (~near_zero & (np.abs(excess) < 1e-15))).all():
                break
        return x + 1j * np.sqrt(w)

    def mass_element(self, y: np.ndarray) -> np.ndarray:
        """rho dr/dx along the curve; finite where the curve meets the axis."""
        x, v = y.real, y.imag
        q = self.alpha_D * self.f * self.s**2 / np.abs(y[..., None] - self.s) ** 4
        tangent = v - 1j * (q * (x[..., None] - self.s)).sum(axis=-1) / q.sum(axis=-1)  # v (1 + i dv/dx)
        return self.alpha_D / np.pi * (self.slope(y) * tangent).real / np.abs(y) ** 2

    def _bisect(self, quantity: Callable, target: np.ndarray, bulk: np.ndarray, sign: int, steps: int) -> np.ndarray:
        """The point of the curve in the given bulk where `quantity(y)`, monotone of the given sign, hits its target."""
        low, high = self.bands[1][bulk].T.copy()
        for _ in range(steps):
            x = 0.5 * (low + high)
            if ((x == low) | (x == high)).all():
                break
            above = sign * (quantity(self.curve(x)) - target) > 0
            high, low = np.where(above, x, high), np.where(above, low, x)
        return self.curve(0.5 * (low + high))

    def at_level(self, r: np.ndarray, bulk: np.ndarray) -> np.ndarray:
        """y on the curve with z(y) = r, for vectors of r strictly inside the given bulks."""
        y = np.empty(r.shape, dtype=complex)
        todo = np.arange(r.size)
        for steps in (20, _ALL):  # a rough start is enough for Newton's method except next to an edge
            start = self._bisect(lambda y: self.level(y).real, r[todo], bulk[todo], 1, steps)
            y[todo], converged = self._polish(start, r[todo], bulk[todo])
            todo = todo[~converged]
            if not todo.size:
                break
        return y

    def _polish(self, y: np.ndarray, r: np.ndarray, bulk: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Newton's method on z(y) = r in the upper half-plane, steps that do not help refused."""
        ends = self.bands[1][bulk]
        y = np.where(y.imag > 0, y, y + 1e-9j * (ends[:, 1] - ends[:, 0]))  # rounded onto the axis next to an edge
        residual = self.level(y) - r
        for _ in range(8):
            trial = y - residual / self.slope(y)
            new = self.level(trial) - r
            better = (trial.imag > 0) & (np.abs(new) < np.abs(residual))
            y, residual = np.where(better, trial, y), np.where(better, new, residual)
            if not better.any():
                break
        return y, np.abs(residual) <= 1e-14 * r

    def at_tail(self, mass: np.ndarray, bulk: np.ndarray) -> np.ndarray:
        """y on the curve with the given mass above z(y), for vectors."""
        return self._bisect(self.tail, mass, bulk, -1, _ALL)

    # --- quadrature ---------------------------------------------------------------------------------------------------

    def nodes(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """(weights, values) of the continuous part, of total mass min(rank, 1): the best rule for smooth integrands."""
        return self._gauss(n) if self.s.size == 1 else self.panels(n)

    def _gauss(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Gauss rule of the Marchenko-Pastur bulk itself, a free Poisson law of rate max(rank, 1/rank) >= 1.

        Its Jacobi matrix is constant but for the first entry: jump times (rate, 1 + rate, ...; sqrt(rate), ...). Exact
        to degree 2n-1 at every alpha_D, hard edge included, where the semicircle rule divided by r would stall.
        """
        rate, jump = max(self.rank, 1 / self.rank), min(self.rank, 1.0) / self.alpha_D
        diagonal = np.full(n, 1 + rate)
        diagonal[0] = rate
        rule = from_jacobi(jump * diagonal, np.full(n - 1, jump * math.sqrt(rate)), mass=float(self.masses[0]))
        return rule.weights, rule.nodes

    def panels(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """(weights, values) of a double-exponential rule over x, n nodes a panel, for integrands of any kind.

        The nodes crowd at the ends of panels: at the edges of bulks, and at the necks between latent variances whose
        bulks have merged. Beyond 20 times the alpha_D of the merger a neck is a ripple of relative size e^-40.
        """
        u, w = double_exponential(n)
        weights, values = [], []
        for group, (low, high), mass in zip(self.bands[0], self.bands[1], self.masses, strict=True):
            necks = [y for y, depth in map(self.split, group[:-1]) if self.alpha_D < 20 * depth]
            cuts = np.array([low, *necks[::-1], high])
            x = cuts[:-1, None] + np.diff(cuts)[:, None] * u
            y = self.curve(x)
            weight = w * np.diff(cuts)[:, None] * self.mass_element(y)
            error = abs(weight.sum() / mass - 1)
            if not error <= 1e-6:
                raise DomainError("n", n, f"large enough for its purpose: the mass of a bulk is missed by {error:.1g}")
            weights.append(weight.ravel())
            values.append(self.level(y).real.ravel())
        order = np.argsort(np.concatenate(values))
        return np.concatenate(weights)[order], np.concatenate(values)[order]


def continuum(model: LinearManifold) -> Continuum:
    """The continuous spectrum of a linear manifold with numbers for parameters; cached."""
    if not isinstance(model.alpha_D, float):
        raise DomainError("alpha_D", model.alpha_D, "one number", "Spectra are computed for one model at a time")
    return _continuum(model.alpha_D, model.variances, model.fractions)


@lru_cache(maxsize=64)
def _continuum(alpha_D: float, variances: tuple[float, ...], fractions: tuple[float, ...]) -> Continuum:
    s, label = np.unique(variances, return_inverse=True)
    f = np.bincount(label, weights=fractions) / math.fsum(fractions)
    # the fractions of positive variances as one minus the rest: exactly 1 when there is no rest
    rank = alpha_D * (1 - f[0]) if s[0] == 0 else alpha_D
    s, f = s[s > 0][::-1], f[s > 0][::-1]
    return Continuum(alpha_D, s / s[0], f, float(rank), float(s[0]))


def _root(f: Callable[[float], float], low: float, high: float) -> float:
    return float(brentq(f, low, high, xtol=_TINY, rtol=4 * np.finfo(float).eps, maxiter=1000))
