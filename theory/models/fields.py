r"""Gaussian images: what a window of pixels knows, from a power spectrum or from a data set's covariance.

A patch is the square of odd width w around a pixel. Its covariance is a block of the image's; where the square leaves the image
its coordinates are zero, in data and query alike, and carry nothing. Source: [KG24].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numerics.domain import DomainError, finite, integer, nonnegative, positive
from theory.models.gaussian import Spectrum

__all__ = ["Field", "ImageCovariance", "StationaryField"]


class Field(Spectrum):
    """Gaussian images: a `Spectrum` that also knows the covariance of its patches.

    Attributes
    ----------
    places : int
        Pixels at which a patch is centred.
    widths : tuple of int
        Odd widths of patches, from 1 to the largest that the image holds.
    """

    places: int
    widths: tuple[int, ...]

    def patch(self, width: Any, *, equivariant: bool = False) -> Spectrum:
        """The covariance spectrum of a patch; with `equivariant`, of the bag of the patches of all places."""
        raise NotImplementedError

    def _width(self, width: Any) -> int:
        width = integer("patch", width, minimum=1)
        if width not in self.widths:
            raise DomainError("patch", width, f"an odd width from 1 to {self.widths[-1]}")
        return width


class StationaryField(Field):
    r"""A stationary Gaussian field on a periodic lattice, in one or two dimensions, given by its power spectrum.

    :math:`C(x)=\frac1{N}\sum_kS_k\cos(k\cdot x)`: the :math:`S_k` are the N eigenvalues of the covariance, their mean is
    the variance of a pixel. All places are alike, so that a patch has the same law everywhere.

    Parameters
    ----------
    power : (n,) or (n, m) array of numbers >= 0
        :math:`S_k` in the order of `numpy.fft.fftfreq`, with :math:`S_k=S_{-k}`, in squared data units.

    >>> field = StationaryField.power_law(32, exponent=2.0)
    >>> round(field.mean_variance, 12), field.patch(3).N
    (1.0, 9)
    """

    power: np.ndarray
    covariance: np.ndarray

    def __init__(self, power: Any):
        power = np.array(nonnegative("power", power))
        if power.ndim not in (1, 2) or power.size == 0:
            raise DomainError("power", power.shape, "an array of shape (n,) or (n, m)")
        mirrored = np.roll(np.flip(power), 1, axis=tuple(range(power.ndim)))
        if np.abs(power - mirrored).max() > 1e-12 * power.max():
            raise DomainError("power", "different values at k and -k", "an even function of k", "Take the mean of both")
        super().__init__(power.ravel())
        power.setflags(write=False)
        object.__setattr__(self, "power", power)
        object.__setattr__(self, "covariance", np.fft.ifftn(power).real)
        object.__setattr__(self, "places", power.size)
        object.__setattr__(self, "widths", tuple(range(1, min(power.shape) + 1, 2)))

    @classmethod
    def power_law(
        cls, size: Any, exponent: float = 2.0, variance: float = 1.0, *, dimensions: int = 2
    ) -> StationaryField:
        r"""The lattice :math:`1/f^a` field: :math:`S_k\propto\max(|k|,1)^{-a}`, `|k|` in waves per image.

        The zero mode counts as k = 1.

        Parameters
        ----------
        size : pixels a side; exponent : a, finite; variance : of a pixel, > 0; dimensions : 1 or 2
        """
        size = integer("size", size, minimum=2)
        dimensions = integer("dimensions", dimensions, minimum=1)
        if dimensions > 2:
            raise DomainError("dimensions", dimensions, "1 or 2")
        k = np.fft.fftfreq(size, 1 / size)
        square = sum(part**2 for part in np.meshgrid(*[k] * dimensions, indexing="ij"))
        power = np.maximum(square, 1.0) ** (-0.5 * float(finite("exponent", exponent)))
        return cls(power * (float(positive("variance", variance)) / power.mean()))

    def patch(self, width: Any, *, equivariant: bool = False) -> Spectrum:
        """The spectrum of the block-Toeplitz covariance of width**d pixels; the bag of all places has the same law."""
        width = self._width(width)
        axes = np.meshgrid(*[np.arange(width)] * self.power.ndim, indexing="ij")
        steps = [part.ravel()[:, None] - part.ravel()[None, :] for part in axes]
        return _spectrum(self.covariance[tuple(step % n for step, n in zip(steps, self.power.shape, strict=True))])


class ImageCovariance(Field):
    """Gaussian images with the mean and covariance of a data set: the twin whose patches are those of real images.

    Parameters
    ----------
    covariance : (N, N) array, N = C H W in the order (channel, row, column)
    shape : (C, H, W) or (H, W)
    mean : (N,) array, optional (default 0)
        Enters the bag of all places, whose patches differ by their mean too.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(500, 8, 8))
    >>> ImageCovariance.from_images(X).patch(3).N
    9
    """

    covariance: np.ndarray
    mean: np.ndarray
    shape: tuple[int, ...]

    def __init__(self, covariance: Any, shape: tuple[int, ...], mean: Any = None):
        covariance = finite("covariance", covariance)
        shape = (1, *shape) if len(shape) == 2 else tuple(shape)
        N = int(np.prod(shape))
        if len(shape) != 3 or covariance.shape != (N, N):
            raise DomainError("covariance, shape", (covariance.shape, shape), "(N, N) and (C, H, W) with N = C H W")
        super().__init__(_eigenvalues(covariance))
        object.__setattr__(self, "covariance", covariance)
        object.__setattr__(self, "mean", np.zeros(N) if mean is None else finite("mean", mean).reshape(N))
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "places", shape[1] * shape[2])
        object.__setattr__(self, "widths", tuple(range(1, 2 * max(shape[1:]), 2)))

    @classmethod
    def from_images(cls, images: Any) -> ImageCovariance:
        """From images (P, C, H, W) or (P, H, W), P >= 2; the covariance with 1/(P - 1)."""
        images = images.detach().cpu().numpy() if hasattr(images, "detach") else np.asarray(images)
        if images.ndim not in (3, 4) or len(images) < 2:
            raise DomainError("images", images.shape, "an array (P, C, H, W) or (P, H, W) with P >= 2")
        X = finite("images", images).reshape(len(images), -1)
        mean = X.mean(axis=0)
        return cls((X - mean).T @ (X - mean) / (len(X) - 1), images.shape[1:], mean)

    def patch(self, width: Any, *, equivariant: bool = False, place: tuple[int, int] | None = None) -> Spectrum:
        """The spectrum of the patch at `place` (default: the middle of the image); with `equivariant`, of the bag of all places.

        The bag's covariance is the mean over places of the patches' covariances plus the covariance of their means.
        """
        width = self._width(width)
        C, H, W = self.shape
        if equivariant:
            total, first = np.zeros((C * width**2,) * 2), np.zeros(C * width**2)
            for row in range(H):
                for column in range(W):
                    inside, at = self._coordinates(width, row, column)
                    total[np.ix_(inside, inside)] += self.covariance[np.ix_(at, at)]
                    mean = np.zeros(C * width**2)
                    mean[inside] = self.mean[at]
                    total += np.outer(mean, mean)
                    first += mean
            return _spectrum(total / self.places - np.outer(first, first) / self.places**2)
        row, column = (H // 2, W // 2) if place is None else place
        if not (0 <= row < H and 0 <= column < W):
            raise DomainError("place", place, f"(row, column) in an image of {H} x {W} pixels")
        _, at = self._coordinates(width, row, column)
        return _spectrum(self.covariance[np.ix_(at, at)])

    def _coordinates(self, width: int, row: int, column: int) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates of the patch that lie in the image, and their places in it."""
        C, H, W = self.shape
        half = width // 2
        c, i, j = np.meshgrid(np.arange(C), np.arange(-half, half + 1), np.arange(-half, half + 1), indexing="ij")
        inside = ((row + i >= 0) & (row + i < H) & (column + j >= 0) & (column + j < W)).ravel()
        at = ((c * H + row + i) * W + column + j).ravel()
        return np.flatnonzero(inside), at[inside]


def _eigenvalues(covariance: np.ndarray) -> np.ndarray:
    """Eigenvalues of a covariance; what rounding leaves around zero is zero."""
    values = np.linalg.eigvalsh(covariance)
    values[np.abs(values) < np.finfo(float).eps * len(values) * values[-1]] = 0.0
    return values


def _spectrum(covariance: np.ndarray) -> Spectrum:
    return Spectrum(_eigenvalues(covariance))
