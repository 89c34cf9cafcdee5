r"""The covariance spectrum of the population behind a sample one, where the number of points is not large beside N.

The eigenvalues of a sample covariance spread around those of the population, by a factor :math:`(1\pm\sqrt{N/P})^2` for isotropic
data. With n = P - 1 degrees of freedom they follow the generalised Marchenko-Pastur law of `theory.models.stieltjes`: with
:math:`v(z)=\frac1n\sum_i\frac1{l_i-z}` over the n eigenvalues of the Gram matrix, and :math:`y=-1/v`,

.. math:: z=y+\frac Nn\Big\langle\frac{sy}{y-s}\Big\rangle,

the average being over the population's eigenvalues s. At every complex z this is one *linear* equation for their law, all of
whose other terms the data give. Atoms on a logarithmic grid get the weights that solve these equations best, by non-negative
least squares.
`resampled_spectra` gives the error: the same estimate from Gaussian samples of the spectrum that was found.
Sources: Silverstein (1995) for the equation, El Karoui (2008) for its inversion; rays, weights and grid are
[ours: docs/derivations/population_spectrum.md].
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.optimize import nnls

from numerics.domain import DomainError, integer, nonnegative
from theory.models.stieltjes import lowered

__all__ = ["population_eigenvalues", "resampled_spectra"]

RAYS = (1.0, 0.6, 0.25)  # arguments of z over pi: -z > 0 is what the times depend on, nearer the axis lie the details
POINTS = 60  # z a ray, log-spaced
ATOMS = 120
BEYOND = 10.0  # factor by which the z reach beyond the sample's eigenvalues
EXACT = 1e3  # how much heavier than the others together the total mass weighs


def population_eigenvalues(eigenvalues: Any, P: int) -> np.ndarray:
    r"""Eigenvalues of the population's covariance from those of the sample covariance of P points.

    Parameters
    ----------
    eigenvalues : (N,) numbers >= 0, one of them > 0
        All N eigenvalues of the sample covariance :math:`\frac1{P-1}\sum_\mu(\xi^\mu-\bar\xi)(\xi^\mu-\bar\xi)^\top`, zeros
        included, in squared data units.
    P : int >= 2

    Returns
    -------
    (N,) array, decreasing, with the sum of the sample's eigenvalues (which has no bias). Where the sample has fewer non-zero
    eigenvalues than P - 1 and N both, the data lie in a subspace, and the others stay zero.

    Raises
    ------
    DomainError

    The failure that looks normal: where P < N, eigenvalues far below :math:`1/v(0)` are not in the data. What is given there is
    one of many spectra that fit; see `resampled_spectra` for what this does to a time.

    >>> X = np.random.default_rng(0).standard_normal((100, 200))
    >>> sample = np.append(np.linalg.svd(X - X.mean(axis=0), compute_uv=False)[:99] ** 2 / 99, np.zeros(101))
    >>> r = population_eigenvalues(sample, P=100)
    >>> [round(float(x.std()), 1) for x in (sample, r)]  # the population's are all 1
    [1.4, 0.0]
    """
    values = np.sort(np.asarray(nonnegative("eigenvalues", eigenvalues, allowed="finite numbers >= 0")))[::-1]
    if values.ndim != 1 or values.size == 0 or values[0] == 0:
        raise DomainError("eigenvalues", eigenvalues, "numbers >= 0 of which at least one is > 0")
    n, N = integer("P", P, minimum=2) - 1, values.size
    seen = values[
        values > np.finfo(float).eps * max(n + 1, N) * values[0]
    ]  # less is rounding, as in `Spectrum.from_samples`
    if seen.size > n:
        raise DomainError("eigenvalues", f"{seen.size} numbers > 0", f"at most P - 1 = {n} numbers > 0")
    limited = seen.size == n < N  # by the number of points: more directions may have variance than are seen
    rank = N if limited else seen.size
    scale = float(seen[0])
    s, weight = _weights(seen / scale, n, rank, limited)
    mass = np.append(0.0, np.cumsum(weight))
    moment = np.append(0.0, np.cumsum(weight * s))
    # each eigenvalue is the mean of one Nth of the law's mass
    r = np.maximum(np.diff(np.interp(np.linspace(0, mass[-1], rank + 1), mass, moment)), 0.0)
    r *= seen.sum() / r.sum()
    return np.append(np.sort(r)[::-1], np.zeros(N - rank))


def _weights(seen: np.ndarray, n: int, rank: int, limited: bool) -> tuple[np.ndarray, np.ndarray]:
    """Atoms, increasing, and their weights; `seen` are the eigenvalues > 0 of the sample in units of the largest."""
    mean = seen.sum() / rank
    bottom = min(seen[-1], mean)
    radius = np.geomspace(bottom / BEYOND, BEYOND, POINTS)
    z = np.concatenate([radius * np.exp(1j * np.pi * ray) for ray in RAYS])
    resolvent = 1 / (seen[:, None] - z)
    v = resolvent.sum(axis=0) / n - (1 - seen.size / n) / z
    y = -1 / v
    # the equations' errors, were the eigenvalues' relative errors sqrt(2/n) and independent
    error = np.abs(y) ** 2 * np.sqrt(2 / n * (seen[:, None] ** 2 * np.abs(resolvent) ** 4).sum(axis=0)) / n
    # the least eigenvalue of a sample is below the population's on average; with P < N nothing bounds that from below
    s = np.geomspace(bottom / 100 if limited else 0.7 * bottom, 1.05, ATOMS)
    matrix = rank / n * lowered("level")(y[:, None], s) / error[:, None]
    if limited:
        s, matrix = np.append(0.0, s), np.concatenate([np.zeros((z.size, 1)), matrix], axis=1)
    total = EXACT * np.sqrt(2 * z.size)
    matrix = np.vstack([matrix.real, matrix.imag, np.full(s.size, total)])
    target = np.concatenate([((z - y) / error).real, ((z - y) / error).imag, [total]])
    weight, _ = nnls(matrix, target, maxiter=100 * s.size)
    return s, weight / weight.sum()


def resampled_spectra(eigenvalues: Any, P: int, *, samples: int = 16, seed: int = 0) -> Iterator[np.ndarray]:
    r"""What `population_eigenvalues` would give for other samples of P Gaussian points of this spectrum.

    A parametric bootstrap: the mean square of :math:`\log\tau^*-\log\tau`, with a time :math:`\tau` of this spectrum and
    :math:`\tau^*` of those, is the squared error (bias included) that the sampling of the covariance leaves in the time.

    Parameters
    ----------
    eigenvalues : (N,) numbers >= 0; P : int >= 2; samples : int >= 1, how many; seed : int >= 0

    Yields
    ------
    (N,) arrays

    Raises
    ------
    DomainError
    """
    r = np.sort(np.asarray(nonnegative("eigenvalues", eigenvalues)))[::-1]
    P, samples = integer("P", P, minimum=2), integer("samples", samples, minimum=1)
    rng = np.random.default_rng(integer("seed", seed, minimum=0))
    n, scale = P - 1, np.sqrt(r[r > 0])
    for _ in range(samples):
        if n < scale.size:
            factor = rng.standard_normal((n, scale.size)) * scale
            matrix = factor @ factor.T
        else:  # Bartlett: the triangular factor of a Wishart matrix has chi variables on its diagonal
            factor = np.tril(rng.standard_normal((scale.size, scale.size)), -1)
            np.fill_diagonal(factor, np.sqrt(rng.chisquare(n - np.arange(scale.size))))
            factor *= scale[:, None]
            matrix = factor @ factor.T
        found = np.maximum(np.linalg.eigvalsh(matrix)[::-1] / n, 0.0)
        yield population_eigenvalues(np.append(found, np.zeros(r.size - found.size)), P)
