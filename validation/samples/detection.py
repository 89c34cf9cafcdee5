r"""Are these samples copies of training points? Per sample and for the set, with fresh points as the null of every number.

The null is a sample of the data that the training set does not hold: held-out points where they are given, else the training
points themselves, each against all others (a training point is to the rest what a fresh point is to all).

A sample is called a copy when its nearest training point stands out among all others more than fresh points' do: when the
p-value of its ratio of distances passes Benjamini and Hochberg's rule over all samples. The distance itself has a p-value too,
but does not decide: blurred or flat samples are near to everything, noisy copies far from everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from numerics.display import grid
from numerics.domain import DomainError, positive
from validation.data import THRESHOLD, find_copies, find_duplicates
from validation.points import duplicate_groups
from validation.samples.calibration import LOWEST, Fraction, discoveries, excess, p_values, ratio_p_values
from validation.samples.nearness import Nearness, leave_one_out, nearest_two
from validation.samples.statistics import authenticity, copying_statistic

__all__ = ["SampleAudit", "audit_samples"]

CURVE = np.linspace(0.0, 1.0, 101)  # thresholds of the ratio in the whole curve


@dataclass(frozen=True, eq=False)
class SampleAudit:
    """What `audit_samples` found; arrays over samples are (S,), over fresh points (n,).

    near, fresh : `Nearness` of the samples and of the fresh points
    p_value : that a fresh point is as near; p_ratio : that its nearest training point stands out as much; copy : mask
    null : where the fresh points come from, in words
    below, below_fresh : samples and fresh points with ratio below `threshold`
    called : samples called copies; called_fresh : fresh points that the same limit of p_ratio would call
    effective, effective_error : effective memorised fraction and its standard error, see `excess`, at the lowest twentieth
        of the fresh points' ratios
    copying, copying_cells : C_T and the cells it used; NaN without held-out points
    authentic, authentic_fresh : authenticity of both
    dropped : what was left out, one sentence each
    """

    near: Nearness
    fresh: Nearness
    p_value: np.ndarray
    p_ratio: np.ndarray
    copy: np.ndarray
    null: str
    threshold: float
    rate: float
    below: Fraction
    below_fresh: Fraction
    called: Fraction
    called_fresh: Fraction
    effective: float
    effective_error: float
    copying: float
    copying_cells: int
    authentic: Fraction
    authentic_fresh: Fraction
    dropped: tuple[str, ...] = field(default=())

    def _repr_html_(self) -> str:
        rows = [
            ("called copies", self.called, self.called_fresh),
            (f"ratio below {self.threshold:.3g}", self.below, self.below_fresh),
            ("authentic", self.authentic, self.authentic_fresh),
        ]
        return grid(f"{len(self.copy)} samples beside {self.null}", ("", "samples", "fresh points"), rows)

    @property
    def curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Thresholds of the ratio, and the shares of samples and of fresh points below each."""
        share = [(values.ratio[:, None] < CURVE).mean(axis=0) for values in (self.near, self.fresh)]
        return CURVE, share[0], share[1]

    @property
    def copied_points(self) -> int:
        """Distinct training points among the copies' nearest."""
        return len(np.unique(self.near.nearest[self.copy]))

    def to_dataset(self):
        """Samples and curve as one labelled `xarray.Dataset`."""
        import xarray as xr

        from numerics.store import provenance

        columns = {
            "nearest": self.near.nearest,
            "second": self.near.second,
            "distance": self.near.distance,
            "second_distance": self.near.second_distance,
            "ratio": self.near.ratio,
            "p_value": self.p_value,
            "p_ratio": self.p_ratio,
            "copy": self.copy,
        }
        threshold, share, fresh = self.curve
        return xr.Dataset(
            {
                **{name: ("sample", values) for name, values in columns.items()},
                "fresh_distance": ("fresh", self.fresh.distance),
                "fresh_ratio": ("fresh", self.fresh.ratio),
                "share_below": ("threshold", share),
                "fresh_share_below": ("threshold", fresh),
            },
            coords={"sample": np.arange(len(self.copy)), "threshold": threshold},
            attrs=provenance(null=self.null, rate=self.rate, ratio_threshold=self.threshold),
        )


def audit_samples(
    generated: np.ndarray,
    train: np.ndarray,
    held_out: np.ndarray | None = None,
    *,
    shape: tuple[int, int, int] | None = None,
    threshold: float = THRESHOLD,
    rate: float = 0.05,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> SampleAudit:
    """Compare samples with the training set, point by point and as a whole.

    Parameters
    ----------
    generated : (S, N), S >= 2; train : (P, N), P >= 12; held_out : (n, N), n >= 2, or None: finite reals in the same units
    shape : (channels, height, width) of images, to look for copies under small shifts, flips and resizing; None: as they are
    threshold : number in (0, 1], of the ratio of distances; the literature's is 1/3
    rate : number in (0, 1): expected share of false discoveries among the samples called copies
    seed : of the cells of C_T; device : a torch device; progress : called with (samples done, samples)

    Returns
    -------
    SampleAudit

    Raises
    ------
    DomainError : wrong shapes, non-finite numbers, an option outside its domain

    The failure that looks normal: p-values of samples on another scale than the training set say nothing; and with fewer than
    100 fresh points no tail is fitted, no p-value is below 1/(n + 1), and few copies cannot be told from chance.

    >>> rng = np.random.default_rng(0)
    >>> train, fresh = rng.standard_normal((300, 20)), rng.standard_normal((100, 20))
    >>> copies = train[:20] + 0.05 * rng.standard_normal((20, 20))
    >>> found = audit_samples(np.concatenate([copies, fresh[:30]]), train, fresh[30:])
    >>> int(found.copy[:20].sum()), bool(found.copy.sum() < 23)  # one false discovery in twenty is allowed
    (20, True)
    """
    generated, train = _rows("generated", generated, 2), _rows("train", train, 12)
    _same("generated", generated, train)
    threshold, rate = float(positive("threshold", threshold)), float(positive("rate", rate))
    if threshold > 1:
        raise DomainError("threshold", threshold, "in (0, 1]")
    if rate >= 1:
        raise DomainError("rate", rate, "in (0, 1)")
    duplicates = find_duplicates(train, device=device)
    group = duplicate_groups(duplicates)
    around = np.sqrt(duplicates.nearest)
    dropped = []
    others = None
    if held_out is not None:
        held_out = _rows("held_out", held_out, 2)
        _same("held_out", held_out, train)
        held_out, left_out = _unseen(held_out, train, device)
        if left_out:
            dropped.append(left_out)
        if len(held_out) < 2:
            raise DomainError("held_out", "a set of training points", "at least 2 points that the training set has not")
        fresh = nearest_two(held_out, train, group, shape=shape, device=device)
        null = f"{len(held_out):,} held-out points"
    else:
        fresh, others = leave_one_out(train, group, device=device)
        null = f"{len(others):,} training points, each against all others"
        if shape is not None:
            raise DomainError(
                "held_out", None, "given with transforms", "A training image's own mirror image is no null"
            )
        if len(others) < 2:
            raise DomainError(
                "train", "near-duplicates only", "a set with at least 2 points that are no near-duplicates"
            )
    near = nearest_two(generated, train, group, shape=shape, device=device, progress=progress)
    p, p_ratio = p_values(near.distance, fresh.distance), ratio_p_values(near.ratio, fresh.ratio)
    copy = discoveries(p_ratio, rate)
    limit = max(p_ratio[copy], default=rate / len(copy))
    n = len(fresh.distance)
    called_fresh = ratio_p_values(fresh.ratio, fresh.ratio) <= limit
    lowest = float(np.quantile(fresh.ratio, LOWEST))
    share = [Fraction(int((v.ratio <= lowest).sum()), len(v.ratio)) for v in (near, fresh)]
    effective, effective_error = excess(*share)
    copying, cells = math.nan, 0
    if held_out is not None:
        copying, cells = copying_statistic(generated, held_out, (near.distance, fresh.distance), train, seed=seed)
    below = [Fraction(int((v.ratio < threshold).sum()), len(v.ratio)) for v in (near, fresh)]
    return SampleAudit(
        near=near,
        fresh=fresh,
        p_value=p,
        p_ratio=p_ratio,
        copy=copy,
        null=null,
        threshold=threshold,
        rate=rate,
        below=below[0],
        below_fresh=below[1],
        called=Fraction(int(copy.sum()), len(copy)),
        called_fresh=Fraction(int(called_fresh.sum()), n),
        effective=effective,
        effective_error=effective_error,
        copying=copying,
        copying_cells=cells,
        authentic=authenticity(near.distance, near.nearest, around),
        authentic_fresh=authenticity(fresh.distance, fresh.nearest, around),
        dropped=tuple(dropped),
    )


def _unseen(held_out: np.ndarray, train: np.ndarray, device: str) -> tuple[np.ndarray, str]:
    """The held-out points that are no training points, exactly or nearly, and what was left out, in words."""
    copies = find_copies(held_out, train, device=device)
    return held_out[copies.keep], copies.report() if copies.count else ""


def _rows(name: str, values: np.ndarray, least: int) -> np.ndarray:
    array = values if isinstance(values, np.ndarray) else np.asarray(values)
    if array.ndim != 2 or len(array) < least or array.shape[1] < 1 or array.dtype.kind not in "buif":
        raise DomainError(name, f"an array of shape {array.shape} and dtype {array.dtype}", f"(>= {least}, N) reals")
    return array


def _same(name: str, array: np.ndarray, train: np.ndarray) -> None:
    if array.shape[1] != train.shape[1]:
        raise DomainError(name, f"samples of {array.shape[1]} numbers", f"of {train.shape[1]}, as the training set's")
