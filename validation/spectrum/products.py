r"""Spectra of networks of many pixels without matrices: what `validation.spectrum.measurement` reads, from some hundred products.

Sorted eigenvalues are quantiles of the density that stochastic Lanczos quadrature gives, so gaps between single ones are not to
be had; posterior variances of a group of k directions :math:`1+\frac tk\sum_{i\in g}J_{ii}`, from signs on the group.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from validation.spectra import AutogradScore, JacobianOperator, quadrature
from validation.spectrum.subjects import Turned

__all__ = ["DENSE", "PROBES", "STEPS", "by_products", "spectrum_by_products"]

DENSE = 512  # numbers a point up to which the matrix is made: so many products are about those of the quadrature
STEPS, PROBES = 24, 2  # of Lanczos, and random vectors a point


def by_products(face: object, N: int) -> bool:
    """Whether a score's spectrum is found from products: that of a network of more than `DENSE` numbers a point."""
    return N > DENSE and isinstance(face, Turned) and isinstance(face.inner, AutogradScore)


def spectrum_by_products(
    face: Turned, x: torch.Tensor, t: float, groups: Sequence[slice], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (B, N) of -tJ's symmetric part, decreasing, and posterior variances over t (B, groups) of a turned network.

    Parameters
    ----------
    face : the network in principal axes; x : (B, N) points in these; groups : of principal directions
    """
    N = x.shape[1]
    J = JacobianOperator(face.inner, face.points(x), t)
    nodes, weights = quadrature(J, STEPS, PROBES, seed)
    values = np.stack([_quantiles(a.ravel(), w.ravel(), N) for a, w in zip(nodes, weights, strict=True)])
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(len(x), N))
    along = torch.from_numpy(signs).to(x.device)
    v = torch.stack([face.axes.back(along, block) for block in groups], dim=1)
    sizes = torch.tensor([block.stop - block.start for block in groups], device=x.device)
    return values, (1 + t * (v * J.quadratic(v)).sum(dim=2) / sizes).cpu().numpy()


def _quantiles(nodes: np.ndarray, weights: np.ndarray, N: int) -> np.ndarray:
    """N numbers, decreasing, with the distribution of the nodes: those at (k - 1/2)/N of it.

    >>> _quantiles(np.array([0.0, 1.0]), np.array([0.25, 0.75]), 4).tolist()
    [1.0, 1.0, 1.0, 0.0]
    """
    order = np.argsort(nodes)
    reached = np.cumsum(weights[order]) / weights.sum()
    at = np.searchsorted(reached, (np.arange(N, 0, -1) - 0.5) / N)
    return nodes[order][np.minimum(at, len(nodes) - 1)]
