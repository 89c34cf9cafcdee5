r"""The spectrum of the random-feature Gram matrix: support, density, masses and the atom, from the resolvent.

An edge is where :math:`dz/dg` vanishes along the real branch: it is found on a scan of the density and finished by Newton's
method on that condition. Masses are integrals of the density with its square roots taken out, so they converge
geometrically and check the edges. Source: equations [BUBM25]; that the small eigenvalues make two bulks, not one [ours:
docs/derivations/training_time.md].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from numerics.domain import DomainError
from theory.training.resolvent import Resolvent

__all__ = ["GramSpectrum"]

_PER_DECADE = 250  # points of the scan
_DEEP = 1e-6  # of the lowest expected eigenvalue above s^2, to which the scan goes
_AROUND = np.linspace(-0.12, 0.12, 49)  # finer, about each expected line
_LINES = 64  # distinct variances about which the scan is made finer
_ON = 1e-7  # Im Q over |Q| above which there is density
_NODES, _SETTLED = 400, 1e-8  # of the masses, at first; relative change at which they are enough
_STEP = 1e-30  # of a complex-step derivative


@dataclass(frozen=True, eq=False)
class GramSpectrum:
    """The limiting eigenvalue law of U, per feature.

    Attributes
    ----------
    resolvent : Resolvent
    lines : (M,) float64 array
        Where eigenvalues are expected at psi_p > psi_n >> 1: only the scan for edges uses it.
    """

    resolvent: Resolvent
    lines: np.ndarray

    def density(self, values: np.ndarray) -> np.ndarray:
        """Density of the continuous part at real values; 0 outside the bulks, NaN where the resolvent could not be followed."""
        return self._density(np.asarray(values, dtype=float) - self.resolvent.parameters[5])

    def _density(self, above: np.ndarray) -> np.ndarray:
        """The density at s^2 + above."""
        rho = np.zeros(above.shape)
        inside = above > 0
        if inside.any():
            g, _ = self.resolvent.on_axis(above[inside])
            q = self.resolvent.q(g)
            rho[inside] = np.where(np.abs(q.imag) <= 1e-11 * np.abs(q), 0.0, q.imag / np.pi)
        return rho

    @property
    def atom(self) -> tuple[float, float]:
        r"""Position :math:`s^2` and mass of the atom: :math:`\max(0,1-(\psi_n+\text{rank of }W)/\psi_p)`."""
        psi_p, psi_n, _, b2, _, s2 = self.resolvent.parameters
        v2 = self.resolvent.parameters[4]
        samples = psi_n if v2 > 0 else 0.0  # without v^2 the samples' features lie in the N-dimensional range of W
        directions = 1.0 if b2 > 0 else 0.0
        return s2, max(0.0, 1 - (samples + directions) / psi_p)

    @property
    def support(self) -> np.ndarray:
        """(B, 2) array of the edges of all bulks, in increasing order."""
        return self.resolvent.parameters[5] + self._above

    @cached_property
    def _above(self) -> np.ndarray:
        """The edges, measured from s^2."""
        bound = self.resolvent.bound
        lines = self.lines if self.lines.size <= _LINES else self.lines[[0, -1]]
        low = _DEEP * lines.min()
        grid = np.geomspace(low, bound, int(_PER_DECADE * np.log10(bound / low)))
        near = (lines[:, None] * (1 + _AROUND)).ravel()
        z = np.union1d(grid, near[near < bound])
        g, x = self.resolvent.on_axis(z)
        if not np.isfinite(g).all():
            raise DomainError(
                "psi_p, psi_n, t", self.resolvent.parameters[:2], "values at which the resolvent can be followed"
            )
        q = self.resolvent.q(g)
        on = q.imag > _ON * np.abs(q)
        found = []
        if on[0]:  # a hard edge: eigenvalues go down to s^2
            found.append(0.0)
        for i in np.flatnonzero(np.diff(on.astype(int))):
            inside = i + 1 if on[i + 1] else i
            found.append(self._edge(g[inside].real, x[inside].real, z[i], z[i + 1]))
        return np.array(found).reshape(-1, 2)

    def _edge(self, g: float, x: float, below: float, above: float) -> float:
        """The edge between two neighbours of the scan, from the solution just inside."""
        for _ in range(60):
            values = np.array(self._critical(g, x))
            slopes = np.array([self._critical(g + 1j * _STEP * abs(g), x), self._critical(g, x + 1j * _STEP * abs(x))])
            jacobian = slopes.imag.T / (_STEP * np.array([abs(g), abs(x)]))
            step = np.linalg.solve(jacobian, values.real)
            g, x = g - step[0], x - step[1]
            if np.abs(step[0]) <= 1e-14 * abs(g) and np.abs(step[1]) <= 1e-14 * abs(x):
                break
        edge = self.resolvent.system(g, x)[1].real
        slack = 1e-9 * abs(above)
        return edge if below - slack <= edge <= above + slack else self._bisected(below, above)

    def _critical(self, g: complex, x: complex) -> tuple[complex, complex]:
        """Zero at an edge: the constraint, and dz/dg along it."""
        f, _, fu, fv, hu, hv = self.resolvent.system(g, x)
        return f, hu * fv - hv * fu

    def _bisected(self, below: float, above: float) -> float:
        """The same by halving on whether there is density."""
        dense = self._density(np.array([below, above])) > 0
        for _ in range(50):
            middle = 0.5 * (below + above)
            if (self._density(np.array([middle]))[0] > 0) == dense[0]:
                below = middle
            else:
                above = middle
        return 0.5 * (below + above)

    @cached_property
    def masses(self) -> np.ndarray:
        """(B,) array: fraction of the p eigenvalues in each bulk."""
        return np.array([self._mass(low, high) for low, high in self._above])

    def _mass(self, low: float, high: float) -> float:
        """One bulk's, with nodes doubled until it moves no more: a bulk that is about to split takes many."""
        before = np.inf
        for doubled in range(6):
            angle = np.pi * (np.arange(_NODES << doubled) + 0.5) / (_NODES << doubled)
            if low > 0:  # a bulk may span decades: the cosine is taken of the logarithm
                centre, half = 0.5 * np.log(low * high), 0.5 * np.log(high / low)
                z = np.exp(centre - half * np.cos(angle))
                measure = z * half
            else:
                z, measure = high * 0.5 * (1 - np.cos(angle)), 0.5 * high
            mass = np.pi / angle.size * (self._density(z) * measure * np.sin(angle)).sum()
            if abs(mass - before) <= _SETTLED * abs(mass):
                break
            before = mass
        return float(mass)
