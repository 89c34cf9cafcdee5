r"""Power-law covariance spectra, :math:`r_k=c\,k^{-a}`, as natural signals have them: in a list of N, in the limit, on a lattice.

Log P is spread over few directions: those with :math:`r_k>t`, whose number grows like :math:`t^{-1/a}`. What matters
is :math:`\log P` itself and not :math:`\log P/N`. Source: [ours: docs/derivations/power_laws.md].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import zeta

from numerics.domain import DomainError, integer, positive
from theory.models.gaussian import GaussianModel, Spectrum

__all__ = ["InfinitePowerLaw", "PowerLaw"]


def _one(name: str, value: Any, least: float = 0.0) -> float:
    allowed = f"one finite number > {least:g}"
    number = positive(name, value, allowed=allowed)
    if number.ndim or number <= least:
        raise DomainError(name, value, allowed)
    return float(number)


class PowerLaw(Spectrum):
    r"""Gaussian data whose covariance eigenvalues fall like a power, :math:`r_k=c\,k^{-a}`, k = 1..N, of given mean.

    :math:`c=N\langle r\rangle/\sum_{k\le N}k^{-a}`. With N it is a `Spectrum` like any other, and exact at that N. Without N it
    is the limit in which the list goes on for ever, with the same c: the times then need N in the call (for c), and
    a = 2 has the closed form :math:`2\log P=\log[\sinh(\pi\kappa)/(\pi\kappa)]`, :math:`t_c=c/\kappa^2`.

    Parameters
    ----------
    exponent : number > 1
        :math:`a`; 2 is close to that of photographs, in the order of the eigenvalues.
    N : int >= 1, optional
        Ambient dimension; None for the limit.
    mean : number > 0
        Mean variance :math:`\langle r\rangle` of the first N directions, in squared data units.

    Raises
    ------
    DomainError
        exponent <= 1 (the limit's variances would have no finite sum), N < 1, mean <= 0; `eigenvalues` of the limit.

    Notes
    -----
    The failure that looks normal: the limit at noise below the smallest eigenvalue, :math:`t<cN^{-a}`. It has directions there
    that the data have not, and its times lie above those of N eigenvalues by several per cent.
    Source: [ours: docs/derivations/power_laws.md].

    >>> from theory import collapse_time
    >>> round(collapse_time(PowerLaw(2.0, N=3072), P=50_000), 3)  # N eigenvalues, exactly
    28.138
    >>> round(collapse_time(PowerLaw(2.0), P=50_000, N=3072), 3)  # the list continued to infinity
    28.187
    """

    exponent: float
    mean: float
    _N: int | None
    _eigenvalues: np.ndarray

    def __init__(self, exponent: Any = 2.0, N: int | None = None, mean: Any = 1.0):
        set_ = object.__setattr__
        set_(self, "exponent", _one("exponent", exponent, least=1.0))
        set_(self, "mean", _one("mean", mean))
        set_(self, "_N", None if N is None else integer("N", N, minimum=1))
        if self._N is not None:
            # smallest first, so that the sum keeps its digits
            powers = np.arange(1, self._N + 1, dtype=float) ** -self.exponent
            values = powers * (self.mean * self._N / powers[::-1].sum())
            values.setflags(write=False)
            set_(self, "_eigenvalues", values)

    @property
    def N(self) -> int | None:  # type: ignore[override]  # the limit has none
        """Ambient dimension, None for the limit."""
        return self._N

    @property
    def eigenvalues(self) -> np.ndarray:
        """The N eigenvalues in decreasing order, squared data units."""
        if self._N is None:
            raise DomainError(
                "N", None, "an integer >= 1 where the eigenvalues are listed", "Build PowerLaw(..., N=...)"
            )
        return self._eigenvalues

    @property
    def scale(self) -> float:
        r"""The largest eigenvalue, :math:`c`."""
        return float(self.eigenvalues[0])

    @property
    def mean_variance(self) -> float:
        return self.mean

    def in_dimension(self, N: Any) -> InfinitePowerLaw:
        """The limit with the c of N directions; `N` is one number >= 1."""
        N = _one("N", N)
        if N < 1:
            raise DomainError("N", N, "one finite number >= 1")
        # the sum to N by Hurwitz's zeta, for a number N of any size
        total = float(zeta(self.exponent) - zeta(self.exponent, N + 1.0))
        return InfinitePowerLaw(self.exponent, self.mean * N / total, N)

    _law = r"r_k=c\,k^{-a}"

    def _entries(self) -> dict[str, Any]:
        return {"exponent": self.exponent, "N": self._N, "mean": self.mean}

    def __repr__(self) -> str:
        return f"PowerLaw(exponent={self.exponent}, N={self._N}, mean={self.mean})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PowerLaw) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple:
        return (self.exponent, self._N, self.mean)

    @staticmethod
    def field(shape: Sequence[int] | int, exponent: Any = 2.0, mean: Any = 1.0) -> Spectrum:
        r"""The spectrum of a stationary periodic field whose power falls like :math:`|k|^{-a}` on a lattice.

        Eigenvalues :math:`r_k=c\,|k|^{-a}`, k the integer wave vectors of the lattice in the first Brillouin zone; the zero mode
        counts as :math:`|k|=1`. In two dimensions the n-th eigenvalue falls like :math:`n^{-a/2}`, so the exponent that decides
        is a/2: fields with :math:`1/|k|^2` are at the edge of summability, and their times keep a logarithm of N.

        Parameters
        ----------
        shape : int L (an L x L lattice), or a sequence of sides
        exponent : number > 0
            :math:`a`; 2 for the 1/f^2 power spectra of natural images.
        mean : number > 0
            Variance of a pixel, squared data units.

        Returns
        -------
        Spectrum of prod(shape) eigenvalues, in decreasing order

        >>> PowerLaw.field(4).eigenvalues.round(3)
        array([1.899, 1.899, 1.899, 1.899, 1.899, 0.95 , 0.95 , 0.95 , 0.95 ,
               0.475, 0.475, 0.38 , 0.38 , 0.38 , 0.38 , 0.237])
        """
        exponent, mean = _one("exponent", exponent), _one("mean", mean)
        sides = list(shape) if isinstance(shape, Sequence) else [shape, shape]
        if not sides:
            raise DomainError("shape", shape, "an integer >= 2, or a non-empty sequence of integers >= 1")
        sides = [integer("shape", side, minimum=1) for side in sides]
        axes = [np.rint(np.fft.fftfreq(side) * side) for side in sides]
        square = sum(np.square(axis) for axis in np.meshgrid(*axes, indexing="ij")).ravel()
        power = np.maximum(square, 1.0) ** (-exponent / 2)
        return Spectrum(power * (mean / power.mean()))


@dataclass(frozen=True)
class InfinitePowerLaw(GaussianModel):
    r"""The limit of a power law in a dimension: :math:`r_k=c\,k^{-a}` for every k, each with weight 1/N.

    Parameters
    ----------
    exponent : number > 1
    scale : number > 0
        :math:`c`, the largest eigenvalue, squared data units.
    N : number > 0
        What loads and times are counted by; the spectrum has no end.
    """

    exponent: float
    scale: float
    N: float

    @property
    def mean_variance(self) -> float:
        return float(self.scale * zeta(self.exponent) / self.N)
