"""At what noise does this data set memorise, and how many samples would it need? Theory beside measurement.

Four columns: the theory for Gaussian data with the same spectrum at infinite size; the exact theory at the data's own P
and N; the measurement on a sample of that Gaussian (its *twin*), which must agree with the second; and the measurement on
the data. What separates the data from the second and third is what a covariance cannot know.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from numerics.domain import LARGEST_SEED, DomainError, integer, positive
from theory import (
    Spectrum,
    collapse_time,
    condensation_time,
    critical_dataset_size,
    generalization_time,
    onset_time,
)
from theory.finite_size import collapse_curve, finite_size_times
from theory.noise import t_to_alpha_bar, t_to_sigma
from validation.audit.measurement import Measurement, measure
from validation.data import (
    DataDimension,
    Dataset,
    Duplicates,
    available,
    data_dimension,
    dimension_variables,
    find_duplicates,
    split,
)
from validation.simulation import Estimate, Sampler

__all__ = ["Audit", "SizeRow", "TimeRow", "audit"]

FRACTIONS = (1.0, 0.8, 0.6, 0.4)  # of the predicted collapse noise: the default noise levels of the table of sizes
_TIMES = {
    "onset": onset_time,
    "collapse": collapse_time,
    "condensation": condensation_time,
    "generalization": generalization_time,
}
_MEANING = {
    "onset": "below it every training point is an attractor of the empirical score",
    "collapse": "below it a noisy training point is drawn back to itself: memorisation",
    "condensation": "below it a fresh point sees only a few training points",
    "generalization": "the empirical density is closest to the data's here",
}
_RATIO = math.log(1.1)
DRAWS = 32  # of x in the exact theory at finite size; the error bars come from them


@dataclass(frozen=True)
class TimeRow:
    """One time, three ways; values in squared data units."""

    kind: str
    theory: float
    finite: Estimate | None
    twin: Estimate | None
    data: Estimate

    @property
    def meaning(self) -> str:
        return _MEANING[self.kind]

    def sigma(self, value: float) -> float:
        return t_to_sigma(value) if value >= 0 else math.nan

    def alpha_bar(self, value: float) -> float:
        return t_to_alpha_bar(value) if value >= 0 else math.nan

    @property
    def verdict(self) -> str:
        """Which differences are there, and which number to trust."""
        if not math.isfinite(self.data.value):
            return f"not measured: {self.data.reason}"
        asymptotic = Estimate(self.theory, 0.0)
        gaussian = next((e for e in (self.finite, self.twin) if e is not None and math.isfinite(e.value)), None)
        finite_size = gaussian is not None and _differ(gaussian, asymptotic)
        shape = _differ(self.data, gaussian or asymptotic)
        if not shape:
            return "agree at this size" if finite_size else "agree"
        return "not Gaussian: trust the data"


def _differ(a: Estimate, b: Estimate) -> bool:
    """By more than a tenth and by more than 3 standard errors."""
    return abs(math.log(a.value / b.value)) > _RATIO and abs(a.value - b.value) > 3 * math.hypot(a.error, b.error)


@dataclass(frozen=True)
class SizeRow:
    """Samples needed so that a model run down to `sigma` has not collapsed, as logarithms."""

    sigma: float
    theory: float
    data: Estimate
    extrapolated: bool

    @property
    def note(self) -> str:
        if not math.isfinite(self.data.value):
            return self.data.reason
        return "extrapolated from few neighbours: an upper estimate" if self.extrapolated else "measured"


@dataclass(frozen=True, eq=False)
class Audit:
    """Everything `geomem audit` reports."""

    data: Dataset
    spectrum: Spectrum
    duplicates: Duplicates
    dimension: DataDimension | None  # None without scikit-dimension, and for samples of one number
    measured: Measurement
    twin: Measurement | None
    curve: tuple[np.ndarray, np.ndarray, np.ndarray] | None  # t, exact f(t) of the Gaussian at this size, its error
    times: tuple[TimeRow, ...]
    sizes: tuple[SizeRow, ...]
    seed: int

    @property
    def growth(self) -> tuple[tuple[int, float], ...]:
        """What more data buys: (factor, predicted collapse sigma with that many times the samples)."""
        loads = [(f, math.log(f * self.measured.P) / self.measured.N) for f in (1, 10, 100, 1000)]
        return tuple((f, t_to_sigma(collapse_time(self.spectrum, load))) for f, load in loads)

    @property
    def alpha(self) -> float:
        return math.log(self.measured.P) / self.measured.N

    def row(self, kind: str) -> TimeRow:
        return next(row for row in self.times if row.kind == kind)

    def to_dataset(self):
        """Curves and times as one labelled `xarray.Dataset`."""
        import xarray as xr

        from numerics.store import provenance

        curves = {}
        for source, m in (("data", self.measured), ("twin", self.twin)):
            if m is None:
                continue
            for name in ("excess_entropy", "own_weight", "clean_weight", "participation", "cross_entropy"):
                curve = getattr(m, name)
                curves[f"{source}_{name}"] = (f"t_{source}", curve.mean)
                curves[f"{source}_{name}_error"] = (f"t_{source}", curve.error)
        columns = {
            "theory": [r.theory for r in self.times],
            "finite": [r.finite.value if r.finite else np.nan for r in self.times],
            "finite_error": [r.finite.error if r.finite else np.nan for r in self.times],
            "twin": [r.twin.value if r.twin else np.nan for r in self.times],
            "twin_error": [r.twin.error if r.twin else np.nan for r in self.times],
            "measured": [r.data.value for r in self.times],
            "measured_error": [r.data.error for r in self.times],
        }
        if self.curve is not None:
            curves["finite_excess_entropy"] = ("t_finite", self.curve[1])
            curves["finite_excess_entropy_error"] = ("t_finite", self.curve[2])
        coordinates = {"kind": [r.kind for r in self.times], "t_data": self.measured.t}
        if self.twin is not None:
            coordinates["t_twin"] = self.twin.t
        if self.curve is not None:
            coordinates["t_finite"] = self.curve[0]
        dataset = xr.Dataset(
            {**curves, **{f"time_{k}": ("kind", np.array(v)) for k, v in columns.items()}},
            coords=coordinates,
            attrs=provenance(data=self.data.name, P=self.measured.P, N=self.measured.N, seed=self.seed),
        )
        if self.dimension is not None:
            dataset = dataset.assign(dimension_variables(self.dimension))
        dataset["eigenvalue"] = ("mode", self.spectrum.eigenvalues)
        for name in dataset.variables:
            if str(name).startswith(("time_", "t_")) or name == "eigenvalue":
                dataset[name].attrs["units"] = "squared data units"
        return dataset


def audit(
    data: Dataset,
    *,
    sigmas: Sequence[float] | None = None,
    probes: int = 256,
    twin: bool = True,
    finite_size: bool = True,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[str], None] | None = None,
) -> Audit:
    """Audit one data set.

    Parameters
    ----------
    data : Dataset, from `validation.data.load`
    sigmas : noise levels for the table of dataset sizes, in data units, > 0; default: fractions of the collapse noise
    probes : int >= 2, points used as probes
    twin : also measure a Gaussian sample with the same spectrum, P and N
    finite_size : also evaluate the exact theory at this P and N (`theory.finite_size`)
    seed : of the split, the probes and the twin
    progress : called with a line before each stage

    Returns
    -------
    Audit

    Raises
    ------
    DomainError
        Fewer than 4 rows, sigmas or probes outside their domain.
    """
    if sigmas is not None:
        sigmas = np.atleast_1d(positive("sigmas", sigmas))
        if sigmas.ndim != 1 or sigmas.size == 0:
            raise DomainError("sigmas", f"an array of shape {sigmas.shape}", "at least one number > 0, in a row")
        sigmas = tuple(map(float, sigmas))
    if not isinstance(data, Dataset):
        raise DomainError("data", data, "a Dataset", "validation.data.load makes one of a file or folder")
    seed = integer("seed", seed, minimum=0, maximum=LARGEST_SEED)
    probes = integer("probes", probes, minimum=2)
    tell = progress or (lambda line: None)
    train, held_out = split(data.X, data.held_out, seed=seed)
    tell(f"spectrum of {len(train)} x {data.N}")
    spectrum = Spectrum.from_samples(train)
    tell("duplicates and nearest neighbours")
    duplicates = find_duplicates(data.X, device=device)
    intrinsic = None
    if available() and data.N > 1:
        tell("intrinsic dimension")
        intrinsic = data_dimension(train, seed=seed, device=device)
    tell("empirical score of the data")
    measured = measure(train, held_out, probes=probes, seed=seed, device=device)
    other = None
    if twin:
        tell("empirical score of its Gaussian twin")
        sampler = Sampler(spectrum, data.N, seed, device=device)
        sample = [sampler.sample(n).float().cpu().numpy() for n in (len(train), len(held_out))]
        other = measure(*sample, t=measured.t, probes=probes, seed=seed, device=device)
    alpha = math.log(measured.P) / measured.N
    finite, curve = {}, None
    if finite_size:
        tell("exact theory at this P and N")
        finite, curve = _finite_size(spectrum, measured, seed)
    times = tuple(
        TimeRow(
            kind,
            time(spectrum, alpha),
            finite.get(kind),
            getattr(other, kind) if other else None,
            getattr(measured, kind),
        )
        for kind, time in _TIMES.items()
    )
    if sigmas is None:
        collapse = t_to_sigma(collapse_time(spectrum, alpha))
        sigmas = tuple(float(f"{fraction * collapse:.2g}") for fraction in FRACTIONS)
    sizes = tuple(_size(spectrum, measured, sigma) for sigma in sigmas)
    return Audit(data, spectrum, duplicates, intrinsic, measured, other, curve, times, sizes, seed)


def _finite_size(spectrum: Spectrum, measured: Measurement, seed: int):
    """Exact times (but condensation, which has no crossing of its own) and f(t) of the Gaussian at this P and N."""
    exact = finite_size_times(spectrum, measured.P, seed=seed, samples=DRAWS)
    times = {
        kind: Estimate(float(e.value), math.hypot(e.error, e.quadrature))
        for kind in ("onset", "collapse", "generalization")
        for e in (getattr(exact, kind),)
    }
    t = measured.t[:: max(1, len(measured.t) // 24)]
    f = collapse_curve(spectrum, measured.P, t=t, seed=seed, samples=DRAWS // 2)
    return times, (t, f.value, np.hypot(f.error, f.quadrature))


def _size(spectrum: Spectrum, measured: Measurement, sigma: float) -> SizeRow:
    t = sigma**2
    inside = measured.t[0] <= t <= measured.t[-1]
    data = measured.critical_size(t) if inside else Estimate(math.nan, math.nan, "outside the measured grid")
    below = math.isfinite(measured.collapse.value) and t < measured.collapse.value
    return SizeRow(sigma, critical_dataset_size(spectrum, t, log=True), data, extrapolated=below)
