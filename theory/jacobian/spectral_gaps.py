r"""The gaps in the Jacobian spectrum of the exact score: how wide at time t, and when they open, peak and close.

Gaps lie between neighbouring atoms and bulks of `theory.models.covariance`; their sizes and times are the formulas of
`theory.jacobian.gap_equations`. The total gap separates normal from tangent directions and stays open as
:math:`t\to0`; intermediate gaps separate tangent directions of different variance and close again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from numerics.display import Shown
from numerics.domain import DomainError, positive
from theory.jacobian.gap_equations import Delta, GapDerivation, lowered_gap, positive_roots
from theory.models import GaussianModel, covariance_law
from theory.result import with_equation

__all__ = ["THRESHOLD", "GapTimes", "SpectralGaps", "gap_opening_times", "spectral_gaps", "visibility"]

THRESHOLD = 0.1  # least gap, in units of 1/t, that counts as visible by default


def gap_equation(model: GaussianModel | None = None) -> sp.Eq:
    r""":math:`\Delta=\frac{t(b-a)}{(t+a)(t+b)}` for a gap between variances a and b; the same for every model."""
    return sp.Eq(Delta, GapDerivation().size)


@dataclass(frozen=True, eq=False)
class SpectralGaps(Shown):
    """The gaps of a Jacobian spectrum at given times, from the normal directions upwards.

    Attributes
    ----------
    lower, upper : (G,) float64 arrays
        Variances that bound each gap.
    dimension : (G,) float64 array
        Fraction of the N eigenvalues of larger variance: the latent dimension over N that the gap shows.
    total : (G,) bool array
        Whether this is the gap between normal and tangent directions; the others are intermediate gaps.
    size : float64 array of shape (G,) + t.shape
        In the normalised eigenvalue -t lambda, that is in units of 1/t.
    eigenvalue_size : the same shape
        In lambda.
    relative : the same shape
        Over the width of the whole spectrum at the same time.
    """

    lower: np.ndarray
    upper: np.ndarray
    dimension: np.ndarray
    total: np.ndarray
    size: np.ndarray
    eigenvalue_size: np.ndarray
    relative: np.ndarray


@with_equation(gap_equation)
def spectral_gaps(model: GaussianModel, t: Any) -> SpectralGaps:
    r"""Gaps in the Jacobian spectrum of the exact score at time t.

    :math:`\Delta(t)=\frac t{t+a}-\frac t{t+b}=\frac{t(b-a)}{(t+a)(t+b)}` between variances a < b.
    `spectral_gaps.equation()` gives the sympy expression.

    Parameters
    ----------
    model : Isotropic, Subspaces, Spectrum or LinearManifold
    t : number or array, > 0

    Returns
    -------
    SpectralGaps; empty for a spectrum in one piece

    Raises
    ------
    DomainError
        If t is not > 0, or a parameter of the model is a sympy expression or an array.

    Notes
    -----
    The failure that looks normal: a `Spectrum` of real data has a gap between any two eigenvalues, nearly all of which
    are the spacing of levels and not structure; take the largest. Source: [VASLA25].

    >>> from theory.models import LinearManifold
    >>> gaps = spectral_gaps(LinearManifold(0.1, variances=[1.0, 0.01]), 0.3)
    >>> gaps.total.tolist(), gaps.dimension.round(6).tolist(), gaps.size.round(4).tolist()
    ([True, False], [0.1, 0.05], [0.1582, 0.629])
    """
    t = positive("t", t)
    gaps = _gaps(model)
    broadcast = {key: value.reshape(value.shape + (1,) * t.ndim) for key, value in gaps.items()}
    sizes = {name: _evaluate(name, t=t, **broadcast) for name in ("size", "eigenvalue_size", "relative")}
    return SpectralGaps(gaps["a"], gaps["b"], gaps["dimension"], _is_total(gaps), **sizes)


@dataclass(frozen=True, eq=False)
class GapTimes(Shown):
    """When each gap of a spectrum opens, is widest and closes, as t decreases. All arrays have shape (G,).

    Attributes
    ----------
    lower, upper, dimension, total : as in `SpectralGaps`
    opening : float64
        Time below which the gap is at least `threshold`; NaN if it never is.
    closing : float64
        Time below which it no longer is; 0 for a total gap, which stays; NaN if it never opened.
    peak, peak_size : float64
        Time of the largest size and the size then; 0 and 1 for a total gap.
    relative_peak : float64
        Time of the largest size over the width of the spectrum; 0 or infinity where that is the supremum, NaN where the
        gap is the whole width.
    overtaken : float64
        Time below which the total gap is the wider one; infinity if it always is, NaN for the total gap itself and
        where there is none.
    """

    lower: np.ndarray
    upper: np.ndarray
    dimension: np.ndarray
    total: np.ndarray
    opening: np.ndarray
    closing: np.ndarray
    peak: np.ndarray
    peak_size: np.ndarray
    relative_peak: np.ndarray
    overtaken: np.ndarray


@with_equation(gap_equation)
def gap_opening_times(model: GaussianModel, threshold: float = THRESHOLD) -> GapTimes:
    r"""When the gaps of the exact score's Jacobian open, are widest and close.

    Visible means :math:`\Delta(t)\ge\Delta_*`, in units of 1/t. Total gap: :math:`t\le b(1-\Delta_*)/\Delta_*`.
    Intermediate gap: between the roots of :math:`\Delta_*t^2-[b-a-\Delta_*(a+b)]t+\Delta_*ab=0`, which are real if
    :math:`\Delta_*\le\frac{\sqrt b-\sqrt a}{\sqrt b+\sqrt a}`, the size at its peak :math:`t=\sqrt{ab}`.

    Parameters
    ----------
    model : Isotropic, Subspaces, Spectrum or LinearManifold
    threshold : number in (0, 1)
        :math:`\Delta_*`, the least gap that counts as visible.

    Returns
    -------
    GapTimes

    Raises
    ------
    DomainError
        If threshold is not in (0, 1), or a parameter of the model is a sympy expression or an array.

    Notes
    -----
    The failure that looks normal: opening times depend on the threshold, and without one a gap is open at every t.
    Compare times of one threshold only, or peaks, which have none.
    Source: threshold and peak [VASLA25]; the others [ours: docs/derivations/jacobian.md].

    >>> from theory.models import LinearManifold
    >>> times = gap_opening_times(LinearManifold(0.1, variances=[1.0, 0.01]), threshold=0.25)
    >>> [x.round(4).tolist() for x in (times.opening, times.closing, times.peak)]
    [[0.1691, 17.3313], [0.0, 0.05], [0.0, 0.9305]]
    """
    threshold = visibility(threshold, limit=1.0)
    gaps = _gaps(model)
    total, a, b = _is_total(gaps), gaps["a"], gaps["b"]
    first, last = positive_roots(*_evaluate("visible", **gaps, Delta=threshold))
    closing = np.where(total, 0.0, first)
    A, B, C = _evaluate("relative_peak", **gaps)
    relative_peak = positive_roots(A, B, C)[1]
    relative_peak = np.where(C <= 0, 0.0, np.where(A >= 0, np.inf, relative_peak))
    relative_peak[(a == gaps["r_min"]) & (b == gaps["r_max"])] = np.nan
    overtaken = positive_roots(*_evaluate("overtaken", **gaps))[1]
    overtaken[np.isnan(overtaken)] = np.inf
    overtaken[total | ~total.any()] = np.nan
    return GapTimes(
        lower=a,
        upper=b,
        dimension=gaps["dimension"],
        total=total,
        opening=last,
        closing=closing,
        peak=_evaluate("peak", **gaps),
        peak_size=_evaluate("peak_size", **gaps),
        relative_peak=relative_peak,
        overtaken=overtaken,
    )


def _gaps(model: GaussianModel) -> dict[str, np.ndarray]:
    """The gaps of a covariance spectrum, and what sizes are compared with."""
    law = covariance_law(model)
    intervals, masses = law.intervals, law.masses
    a, b = intervals[:-1, 1], intervals[1:, 0]
    dimension = 1 - np.cumsum(masses)[:-1]
    open_ = b > a
    first = np.full(a.shape, intervals[1, 0] if len(intervals) > 1 else np.nan)
    ends = {"r_min": np.full(a.shape, intervals[0, 0]), "r_max": np.full(a.shape, intervals[-1, 1])}
    gaps = {"a": a, "b": b, "c": first, "dimension": dimension, **ends}
    return {key: value[open_] for key, value in gaps.items()}


def _is_total(gaps: dict[str, np.ndarray]) -> np.ndarray:
    return gaps["a"] == 0


def _evaluate(name: str, a, b, c, r_min, r_max, dimension, t=np.nan, Delta=np.nan):
    return lowered_gap(name)(t, a, b, c, r_min, r_max, Delta)


def visibility(threshold: Any, *, limit: float) -> float:
    """`threshold` as a float in (0, limit), or `DomainError`."""
    allowed = f"one number in (0, {limit:g})"
    if np.ndim(threshold):
        raise DomainError("threshold", threshold, allowed)
    value = float(positive("threshold", threshold, allowed=allowed))
    if value >= limit:
        raise DomainError("threshold", value, allowed)
    return value
