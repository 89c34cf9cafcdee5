"""The Gaussian data models: isotropic, linear hidden manifold, orthogonal subspaces, and the spectrum of real data.

A model is frozen and checked when built. It knows only its covariance spectrum; the physics is in `theory.rem.gaussian`.
Parameters are numbers, or sympy expressions where a formula rather than a number is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from numerics.display import Shown
from numerics.domain import DomainError, finite, integer, nonnegative, positive, shaped

__all__ = ["GaussianModel", "Isotropic", "LinearManifold", "Spectrum", "Subspaces"]


class GaussianModel(Shown):
    """Data whose law is Gaussian with covariance spectrum `rho(r)`, per ambient dimension, the atom at 0 included."""

    @property
    def mean_variance(self) -> float:
        r"""First moment of the spectrum, :math:`\langle r\rangle=\int\rho(r)\,r\,dr`."""
        raise NotImplementedError


def _scalar(name: str, value: Any, *, allowed: str = "a number > 0, or a positive sympy expression"):
    """A positive number as float, or a sympy expression that is not known to be non-positive."""
    if isinstance(value, sp.Expr) and not value.is_number:
        if value.is_positive is False or value.is_real is False:
            raise DomainError(name, value, allowed)
        return value
    return float(positive(name, _zero_dimensional(name, value, allowed), allowed=allowed))


def _zero_dimensional(name: str, value: Any, allowed: str):
    if shaped(name, value, allowed=allowed).ndim != 0:
        raise DomainError(name, value, allowed)
    return value


def _mixture(fractions: Any, variances: Any, *, total: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Matching tuples of fractions (each > 0) and variances (each >= 0, one > 0); `total` says how the fractions must add up."""
    f = np.atleast_1d(positive("fractions", fractions, allowed="numbers > 0"))
    s = np.atleast_1d(nonnegative("variances", variances, allowed="finite numbers >= 0"))
    if f.ndim != 1 or s.ndim != 1 or f.shape != s.shape or f.size == 0:
        raise DomainError(
            "fractions, variances", (fractions, variances), "two non-empty one-dimensional sequences of equal length"
        )
    excess = f.sum() - 1
    if excess > 1e-12 or (total == "one" and abs(excess) > 1e-12):
        raise DomainError("fractions", fractions, f"numbers > 0 with a sum {'= 1' if total == 'one' else '<= 1'}")
    if s.max() == 0:
        raise DomainError("variances", variances, "numbers >= 0 of which at least one is > 0")
    return tuple(map(float, f)), tuple(map(float, s))


@dataclass(frozen=True)
class Isotropic(GaussianModel):
    r"""Isotropic Gaussian data, :math:`\rho(r)=\delta(r-\sigma^2)`: no manifold.

    Parameters
    ----------
    variance : number > 0 or positive sympy expression
        :math:`\sigma^2`, in squared data units.

    >>> Isotropic(2.0).mean_variance
    2.0
    """

    variance: Any = 1.0

    _law = r"\rho(r)=\delta(r-\sigma^2)"

    def __post_init__(self):
        object.__setattr__(self, "variance", _scalar("variance", self.variance))

    @property
    def mean_variance(self):
        return self.variance


@dataclass(frozen=True)
class LinearManifold(GaussianModel):
    r"""Linear hidden manifold, :math:`\xi=Fz/\sqrt D` with Gaussian `F` (N x D) and :math:`D=\alpha_D N`.

    The spectrum is a Marchenko-Pastur law of mass :math:`\min(\alpha_D,1)` with an atom :math:`1-\alpha_D` at 0 when
    :math:`\alpha_D<1`; with several latent `variances` it is the generalised Marchenko-Pastur law. Source: [AALMV25].

    Parameters
    ----------
    alpha_D : number > 0, array of such, or positive sympy expression
        Latent over ambient dimension. An array broadcasts with the other arguments of a function.
    variances : sequence of numbers >= 0, optional
        Latent variances :math:`s_k` (default: one, equal to 1), in squared data units.
    fractions : sequence of numbers > 0 with sum 1, optional
        Fraction :math:`f_k` of the D latent directions with variance :math:`s_k` (default: equal).

    >>> LinearManifold(0.5, variances=[1.0, 0.09]).fractions
    (0.5, 0.5)
    """

    alpha_D: Any
    variances: Any = (1.0,)
    fractions: Any = None

    _law = r"\xi=Fz/\sqrt D,\quad D=\alpha_DN"

    def __post_init__(self):
        if shaped("alpha_D", self.alpha_D).ndim == 0:
            object.__setattr__(self, "alpha_D", _scalar("alpha_D", self.alpha_D))
        else:
            alpha_D = np.array(positive("alpha_D", self.alpha_D))
            alpha_D.setflags(write=False)
            object.__setattr__(self, "alpha_D", alpha_D)
        fractions = self.fractions
        if fractions is None:
            number = shaped("variances", self.variances).size
            fractions = np.full(number, 1.0 / max(number, 1))
        fractions, variances = _mixture(fractions, self.variances, total="one")
        object.__setattr__(self, "fractions", fractions)
        object.__setattr__(self, "variances", variances)

    @property
    def mean_variance(self) -> float:
        return float(np.dot(self.fractions, self.variances))


@dataclass(frozen=True)
class Subspaces(GaussianModel):
    r"""Orthogonal blocks of :math:`d_k=a_kN` directions with variance :math:`\sigma_k^2`; the rest has variance 0.

    :math:`\rho=\sum_k a_k\,\delta(r-\sigma_k^2)+(1-\sum_ka_k)\,\delta(r)`. Source: [AVSP24].

    Parameters
    ----------
    fractions : sequence of numbers > 0 with sum <= 1
        :math:`a_k=d_k/N`, fractions of the *ambient* dimension.
    variances : sequence of numbers >= 0
        :math:`\sigma_k^2`, in squared data units.

    >>> Subspaces([0.3, 0.3], [1.0, 0.09]).mean_variance
    0.327
    """

    fractions: Any
    variances: Any

    _law = r"\rho(r)=\sum_ka_k\,\delta(r-\sigma_k^2)+(1-\sum_ka_k)\,\delta(r)"

    def __post_init__(self):
        fractions, variances = _mixture(self.fractions, self.variances, total="at most one")
        object.__setattr__(self, "fractions", fractions)
        object.__setattr__(self, "variances", variances)

    @property
    def mean_variance(self) -> float:
        return float(np.dot(self.fractions, self.variances))


@dataclass(frozen=True, eq=False)
class Spectrum(GaussianModel):
    """Gaussian data with given covariance eigenvalues, the zeros included: the Gaussian twin of a real data set.

    Parameters
    ----------
    eigenvalues : (N,) array of numbers >= 0
        All N eigenvalues of the covariance, in squared data units, in any order; stored in decreasing order. Rounding leaves the
        zeros of a sample covariance on either side of 0: negative numbers down to :math:`-10N\\epsilon` times the largest, with
        :math:`\\epsilon` that of the array's type (2e-16 in float64, 1e-7 in float32), are taken as 0.

    Raises
    ------
    DomainError : numbers more negative than that, not finite, or none above 0

    >>> Spectrum([0.0, 1.0, 3.0]).mean_variance
    1.3333333333333333
    >>> X = np.random.default_rng(0).standard_normal((3, 50))
    >>> values = np.linalg.eigvalsh(np.cov(X.T))
    >>> bool(values.min() < 0), float(Spectrum(values).eigenvalues.min())
    (True, 0.0)
    """

    eigenvalues: Any

    _law = r"\rho(r)=\frac1N\sum_i\delta(r-r_i)"

    def __post_init__(self):
        values = np.array(finite("eigenvalues", self.eigenvalues, allowed="finite numbers >= 0"))
        given = np.asarray(self.eigenvalues).dtype
        rounding = 10 * values.size * np.finfo(given if given.kind == "f" else float).eps * values.max(initial=0.0)
        if values.size and values.min() < -rounding:
            raise DomainError(
                "eigenvalues",
                float(values.min()),
                f"finite numbers >= 0 (down to {-rounding:.1g}, here, is rounding)",
                "Take them of a symmetric covariance in float64, or use Spectrum.from_samples(X)",
            )
        values = np.maximum(values, 0.0)
        if values.ndim != 1 or values.size == 0:
            raise DomainError("eigenvalues", self.eigenvalues, "a non-empty one-dimensional array")
        if values.max() == 0:
            raise DomainError("eigenvalues", self.eigenvalues, "numbers >= 0 of which at least one is > 0")
        values = np.sort(values)[::-1].copy()
        values.setflags(write=False)
        object.__setattr__(self, "eigenvalues", values)

    @property
    def N(self) -> int:
        """Ambient dimension."""
        return self.eigenvalues.size

    @property
    def mean_variance(self) -> float:
        return float(self.eigenvalues.mean())

    @property
    def effective_dimension(self) -> float:
        r"""Participation ratio of the eigenvalues, :math:`(\sum_i r_i)^2/\sum_i r_i^2`, between 1 and N."""
        r = self.eigenvalues / self.eigenvalues[0]
        return float(r.sum() ** 2 / np.dot(r, r))

    @classmethod
    def from_samples(cls, X: Any, *, block: int = 4096, debias: bool = False) -> Spectrum:
        r"""Spectrum of the sample covariance :math:`\frac1{P-1}\sum_\mu(\xi^\mu-\bar\xi)(\xi^\mu-\bar\xi)^\top`.

        Forms the smaller of the covariance (N x N) and the Gram matrix (P x P), in float64, reading `X` in blocks of
        rows or columns, so that a memory-mapped or uint8 array is never copied whole.

        Parameters
        ----------
        X : (P, N) array, P >= 2
            Samples, one a row. For P <= N the spectrum has at least N - P + 1 zeros: it is that of the *sample*.
        block : int
            Rows (or columns) converted to float64 at a time.
        debias : bool
            The population's eigenvalues instead, as far as P points know them (`theory.models.population_spectrum`). The sample's
            own are spread by the sampling: at P = N from 0 to 4 where the population's are 1.

        Raises
        ------
        DomainError
            If X is not a finite two-dimensional array with P >= 2, or if all its rows are equal.
        """
        X = X.detach().cpu().numpy() if hasattr(X, "detach") else shaped("X", X)
        if X.ndim != 2 or X.shape[0] < 2 or X.shape[1] < 1:
            raise DomainError("X", X.shape, "an array of shape (P, N) with P >= 2 and N >= 1")
        block = integer("block", block, minimum=1)
        P, N = X.shape
        mean = np.zeros(N)
        for i in range(0, P, block):
            mean += finite("X", X[i : i + block]).sum(axis=0)
        mean /= P
        if N <= P:
            matrix = np.zeros((N, N))
            for i in range(0, P, block):
                rows = X[i : i + block].astype(np.float64) - mean
                matrix += rows.T @ rows
        else:
            matrix = np.zeros((P, P))
            for j in range(0, N, block):
                columns = X[:, j : j + block].astype(np.float64) - mean[j : j + block]
                matrix += columns @ columns.T
        values = np.linalg.eigvalsh(matrix) / (P - 1)
        # rounding leaves the zero eigenvalues at +-eps * size * largest; they are zeros
        values[values < np.finfo(float).eps * max(P, N) * max(values[-1], 0.0)] = 0.0
        if values[-1] <= N * (8 * np.finfo(float).eps * np.abs(mean).max()) ** 2:
            raise DomainError("X", f"{P} equal rows", "samples that are not all the same point")
        values = np.concatenate([values, np.zeros(N - values.size)])
        if debias:
            from theory.models.population_spectrum import population_eigenvalues  # it needs the models of this module

            values = population_eigenvalues(values, P)
        return cls(values)
