r"""The latent dimension read off a sorted spectrum, by its largest gap, its inflection or its first bend.

A direction of noise has the value :math:`-t\lambda=1`, one along the data less; the dimension is the number of values below
the step. Source: [AVSP24]. The cross-check on the data themselves is `validation.data.dimension`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numerics.domain import DomainError, finite, integer, positive

__all__ = ["inflection_dimension", "largest_gap_dimension", "second_difference_dimension"]


def largest_gap_dimension(values: Any, *, least: float = 0.1) -> np.ndarray:
    r"""Number of values below the largest gap of each sorted spectrum.

    Parameters
    ----------
    values : (..., N) :math:`-t\lambda`, or singular values over the largest; in any order
    least : smallest gap that counts, in the same units; with none the dimension is 0 where values are near 1 (all noise)
        and N where they are near 0 (all data)

    Returns
    -------
    (...) integers between 0 and N

    The failure that looks normal: with several subspaces the largest gap separates whichever two are furthest apart *at
    this t*, so the dimension steps through d_1, d_1 + d_2, ... as t falls, and no step is an error. And a spectrum
    without normal directions shows N only once all of it is below 1/2.

    >>> int(largest_gap_dimension([1.0, 1.0, 0.95, 0.2, 0.1]))
    2
    """
    spectrum = _decreasing(values)
    if not 0 <= least < 1:
        raise DomainError("least", least, "a number in [0, 1)")
    gaps = spectrum[..., :-1] - spectrum[..., 1:]
    position = gaps.argmax(axis=-1)
    N = spectrum.shape[-1]
    flat = np.where(spectrum.mean(axis=-1) < 0.5, N, 0)
    return np.where(gaps.max(axis=-1) >= least, N - 1 - position, flat)


def inflection_dimension(values: Any, *, window: int = 5) -> np.ndarray:
    r"""Position of the inflection of each sorted spectrum: where its smoothed slope is steepest, counted from below.

    For spectra without a clean gap (natural images). The slope is that of a least-squares parabola over `window`
    neighbours (Savitzky-Golay), which is a central average: a clean step gives the same number as the largest gap.

    Parameters
    ----------
    values : (..., N), N > window; window : odd integer >= 3

    Returns
    -------
    (...) float; half-integers are possible where the slope has a flat top

    >>> float(inflection_dimension([1.0] * 20 + [0.0] * 10))
    10.0
    """
    spectrum = _decreasing(values)
    window = integer("window", window, minimum=3)
    N = spectrum.shape[-1]
    if window % 2 == 0 or window >= N:
        raise DomainError("window", window, f"an odd integer below the number of values, {N}")
    half = window // 2
    offsets = np.arange(-half, half + 1)
    weights = offsets / np.square(offsets).sum()
    slope = np.stack([spectrum[..., i : i + window] @ weights for i in range(N - window + 1)], axis=-1)
    steepest = np.isclose(slope, slope.min(axis=-1, keepdims=True), rtol=1e-9, atol=1e-12)
    centre = np.arange(N - window + 1) + half
    place = np.where(steepest, centre, 0).sum(axis=-1) / steepest.sum(axis=-1)
    # for the step between entries i and i + 1 slopes centred on both are equally steep: their mean is i + 1/2
    return N - 1 - place + 0.5


def second_difference_dimension(values: Any, *, factor: float = 10.0, discard: int = 5) -> np.ndarray:
    r"""Position of the first bend of each sorted spectrum, the estimate of [AVSP24].

    Of :math:`s_1\ge s_2\ge\dots\ge s_N` the `discard` largest are left out; the first of the others at which the second
    difference :math:`|s_{i+1}-2s_i+s_{i-1}|` passes `factor` times the median of all those kept is where the fall begins, and the
    estimate is N - i + 1: that value and those below it.

    Parameters
    ----------
    values : (..., N), N >= discard + 3, singular values (of a score on a frame, or -t times eigenvalues), in any order
    factor, discard : c = 10 and 5 in the paper and in its code

    Returns
    -------
    (...) integers from 2 to N - discard - 1, or N where no second difference is that large

    The failure that looks normal: it looks for the first bend, not for the largest. A clean step counts one direction more
    than lies below it, since the fall begins at the last value above; on a spectrum with noise of its own (sampled frames,
    networks) the first outlier among the second differences is the answer, and a plateau that is exactly flat has a median
    of rounding, which any step passes. Source: [AVSP24].

    >>> int(second_difference_dimension([1.0] * 20 + [0.0] * 10))
    11
    """
    spectrum = _decreasing(values)
    factor, discard = float(positive("factor", factor)), integer("discard", discard, minimum=0)
    N = spectrum.shape[-1]
    if discard + 3 > N:
        raise DomainError("discard", discard, f"at most {N - 3}, three less than the number of values")
    bend = np.abs(np.diff(spectrum[..., discard:], n=2, axis=-1))
    large = bend > factor * np.median(bend, axis=-1, keepdims=True)
    return np.where(large.any(axis=-1), N - 1 - discard - large.argmax(axis=-1), N)


def _decreasing(values: Any) -> np.ndarray:
    values = finite("values", values)
    if values.ndim == 0 or values.shape[-1] < 2:
        raise DomainError("values", values.shape, "an array of shape (..., N) with N >= 2")
    return -np.sort(-values, axis=-1)
