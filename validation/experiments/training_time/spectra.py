r"""Edges of finite spectra against the limit's, and the distance of their law from it.

The outermost of p eigenvalues, of density :math:`\rho\approx\frac c\pi\sqrt{|\lambda-E|}` near the edge E, lies inside it: its
distance is :math:`(pc)^{-2/3}` times a variable of Tracy and Widom's law (real symmetric matrices), of mean 1.2065. That
mean, of order N^(-2/3), is known and taken off; what is left is of order 1/N. A fit with N^(-2/3) alone takes both for one
power, and from N = 20 to 56 misses the limit by 9 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from theory import RandomFeatures
from validation.simulation import Estimate

__all__ = ["distance", "edges"]

TRACY_WIDOM = 1.2065335745820  # minus the mean of the law for real symmetric matrices
_NEAR = 1e-3  # of a bulk's width: where the square root is read off; edges are known to some 1e-6 of it


def edges(
    limit: RandomFeatures, eigenvalues: Sequence[np.ndarray], sizes: Sequence[int]
) -> Iterator[tuple[str, float, list[Estimate]]]:
    """(quantity, limit, estimate at each size) of both edges of what is learned, the N largest eigenvalues.

    eigenvalues : for each size (draws, p), descending
    """
    above = np.cumsum(limit.masses[::-1]) * limit.psi_p  # the bulk of mass 1/psi_p at the top
    lowest = limit.support[::-1][int(np.argmin(np.abs(above - 1)))]
    for quantity, bulk, side in (
        ("upper edge of what is learned", limit.support[-1], 1),
        ("lower edge of what is learned", lowest, 0),
    ):
        measured = []
        for values, N in zip(eigenvalues, sizes, strict=True):
            each = values[:, (N - 1, 0)[side]] - mean_distance(limit, bulk, side, limit.psi_p * N)
            measured.append(Estimate(each.mean(), each.std(ddof=1) / np.sqrt(len(each))))
        yield quantity, float(bulk[side]), measured


def mean_distance(limit: RandomFeatures, bulk: np.ndarray, side: int, p: float) -> float:
    """Mean of the outermost of p eigenvalues at the lower (0) or upper (1) end of a bulk, less that end."""
    inward = (1, -1)[side]
    near = _NEAR * (bulk[1] - bulk[0]) * np.array([1, 2])
    c = np.pi * limit.density(bulk[side] + inward * near) / np.sqrt(near)
    return inward * TRACY_WIDOM * (p * (2 * c[0] - c[1])) ** (-2 / 3)  # linear in the distance from the edge


def distance(limit: RandomFeatures, eigenvalues: Sequence[np.ndarray]) -> Estimate:
    """Kolmogorov's distance of the eigenvalues' law from the limit's, mean over draws; for a limit without an atom.

    eigenvalues : for each draw (p,), ascending
    """
    z = np.unique(np.concatenate([edge_dense(low, high) for low, high in limit.support]))
    rho = limit.density(z)
    law = np.concatenate([[0], np.cumsum((rho[1:] + rho[:-1]) / 2 * np.diff(z))])
    found = []
    for values in eigenvalues:
        at = np.interp(values, z, law / law[-1])
        steps = np.arange(len(values) + 1) / len(values)
        found.append(max(np.abs(steps[1:] - at).max(), np.abs(steps[:-1] - at).max()))
    return Estimate(float(np.mean(found)), float(np.std(found, ddof=1) / np.sqrt(len(found))))


def edge_dense(low: float, high: float, count: int = 1200) -> np.ndarray:
    """Points of an interval, dense at both ends, where the density is a square root."""
    return low + (high - low) * (1 - np.cos(np.linspace(0, np.pi, count))) / 2
