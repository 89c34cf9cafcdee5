"""A spectral law in the large-N limit: atoms and bulks with exact masses, of a covariance or of a Jacobian."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from numerics.domain import DomainError

__all__ = ["Bulk", "SpectralLaw"]


@dataclass(frozen=True)
class Bulk:
    """One interval of the support of a continuous spectral density.

    Attributes
    ----------
    lower, upper : float
        Edges.
    mass : float in (0, 1]
        Fraction of all N eigenvalues in the bulk; exact, not a numerical integral.
    mean, median : float
        Of the eigenvalues in this bulk.
    """

    lower: float
    upper: float
    mass: float
    mean: float
    median: float


@dataclass(frozen=True, eq=False)
class SpectralLaw:
    """A spectral law per ambient dimension: atoms and bulks, of total mass 1, both in increasing order.

    Attributes
    ----------
    atom_values, atom_masses : (A,) float64 arrays, read-only
    bulks : tuple of `Bulk`
    """

    atom_values: np.ndarray
    atom_masses: np.ndarray
    bulks: tuple[Bulk, ...] = ()

    def __post_init__(self):
        for name in ("atom_values", "atom_masses"):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        total = self.atom_masses.sum() + sum(bulk.mass for bulk in self.bulks)
        if not abs(total - 1) < 1e-9:
            raise DomainError("masses", float(total), "numbers with sum 1")

    @property
    def edges(self) -> np.ndarray:
        """(B, 2) array of the edges of the bulks."""
        return np.array([(bulk.lower, bulk.upper) for bulk in self.bulks]).reshape(-1, 2)

    @property
    def intervals(self) -> np.ndarray:
        """(A+B, 2) array of the connected parts of the support in increasing order; atoms have equal ends."""
        return self._parts[0]

    @property
    def masses(self) -> np.ndarray:
        """(A+B,) array of the masses of `intervals`."""
        return self._parts[1]

    @property
    def _parts(self) -> tuple[np.ndarray, np.ndarray]:
        parts = np.concatenate([np.stack([self.atom_values, self.atom_values], axis=1), self.edges])
        masses = np.concatenate([self.atom_masses, [bulk.mass for bulk in self.bulks]])
        order = np.argsort(parts[:, 0], kind="stable")
        return parts[order], masses[order]
