"""At what noise does this data set memorise, and how many samples would it need? Theory beside measurement.

Four columns: the theory for Gaussian data with the same spectrum at infinite size; the exact theory at the data's own P
and N; the measurement on a sample of that Gaussian (its *twin*), which must agree with the second; and the measurement on
the data. What separates the data from the second and third is what a covariance cannot know.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from numerics.display import grid
from numerics.domain import LARGEST_SEED, DomainError, integer, positive
from theory import Spectrum, collapse_time, critical_dataset_size
from theory.finite_size import collapse_curve
from theory.noise import t_to_sigma
from validation.audit.carriers import Carriers, find_carriers
from validation.audit.measurement import Measurement, measure
from validation.audit.reference import TIMES, GaussianReference
from validation.audit.rows import DRAWS, SizeRow, TimeRow
from validation.data import (
    Copies,
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

__all__ = ["Audit", "audit"]

FRACTIONS = (1.0, 0.8, 0.6, 0.4)  # of the predicted collapse noise: the default noise levels of the table of sizes


@dataclass(frozen=True, eq=False)
class Audit:
    """Everything `geomem audit` reports."""

    data: Dataset
    spectrum: Spectrum  # of the population, as far as this many points know it
    sample: Spectrum  # of the sample covariance
    duplicates: Duplicates
    dimension: DataDimension | None  # None without scikit-dimension, and for samples of one number
    measured: Measurement
    twin: Measurement | None
    curve: tuple[np.ndarray, np.ndarray, np.ndarray] | None  # t, exact f(t) of the Gaussian at this size, its error
    times: tuple[TimeRow, ...]
    carriers: Carriers  # rows that carry the covariance; the few are left out of all but the duplicates
    all_rows: tuple[TimeRow, ...] | None  # the times with these rows
    sizes: tuple[SizeRow, ...]
    seed: int
    copies: Copies  # held-out points that the training set has too: none of them is in any measurement

    @cached_property
    def typical(self) -> Dataset:
        """The data without the few rows that carry the covariance."""
        return self.data.without(self.carriers.rows if self.carriers.few else ())

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

    @property
    def measured_times(self) -> dict[str, float]:
        """The measured times by name, those that are finite and above 0."""
        return {row.kind: row.data.value for row in self.times if math.isfinite(row.data.value) and row.data.value > 0}

    def _repr_html_(self) -> str:
        rows = [row.shown() for row in self.times]
        title = f"{self.data.source}: noise variances t = sigma² of the ideal score, P = {self.measured.P}, N = {self.measured.N}"
        return grid(title, list(rows[0]), [list(row.values()) for row in rows])

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
            "covariance_error": [r.covariance for r in self.times],
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
        counts = {"duplicates_exact": self.duplicates.exact, "duplicates_near": self.duplicates.near}
        for name, count in {**counts, **self.copies.counts()}.items():
            dataset[name] = ((), count, {"units": "points"})
        if self.dimension is not None:
            dataset = dataset.assign(dimension_variables(self.dimension))
        dataset["eigenvalue"] = ("mode", self.spectrum.eigenvalues)
        dataset["sample_eigenvalue"] = ("mode", self.sample.eigenvalues)
        for name in dataset.variables:
            if str(name).startswith(("time_", "t_")) or str(name).endswith("eigenvalue"):
                dataset[name].attrs["units"] = "squared data units"
        dataset["time_covariance_error"].attrs["units"] = "1, of the logarithm"
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
        levels = np.atleast_1d(positive("sigmas", sigmas))
        if levels.ndim != 1 or levels.size == 0:
            raise DomainError("sigmas", f"an array of shape {levels.shape}", "at least one number > 0, in a row")
        sigmas = tuple(map(float, levels))
    if not isinstance(data, Dataset):
        raise DomainError("data", data, "a Dataset", "validation.data.load makes one of a file or folder")
    seed = integer("seed", seed, minimum=0, maximum=LARGEST_SEED)
    probes = integer("probes", probes, minimum=2)
    tell = progress or (lambda line: None)
    tell("duplicates and nearest neighbours")
    duplicates = find_duplicates(data.X, device=device)
    carriers = find_carriers(data.X)
    left_out = carriers if carriers.few else Carriers()
    parts = split(_without(data.X, left_out), _typical(data.held_out), seed=seed, device=device)
    train, held_out = parts
    tell(f"spectrum of {len(train)} x {data.N}")
    gaussian = GaussianReference.of(train, seed)
    intrinsic = None
    if available() and data.N > 1:
        tell("intrinsic dimension")
        intrinsic = data_dimension(train, seed=seed, device=device)
    tell("empirical score of the data")
    measured = measure(train, held_out, probes=probes, seed=seed, device=device)
    other = None
    if twin:
        tell("empirical score of its Gaussian twin")
        sampler = Sampler(gaussian.spectrum, data.N, seed, device=device)
        sample = [sampler.sample(n).float().cpu().numpy() for n in (len(train), max(2, len(held_out)))]
        other = measure(*sample, t=measured.t, probes=probes, seed=seed, device=device)
    curve = None
    if finite_size:
        tell("exact theory at this P and N")
        curve = _curve(gaussian.spectrum, measured, seed)
    fresh = min(probes, len(held_out))
    times = gaussian.times(measured, other, fresh, finite_size=finite_size, seed=seed)
    all_rows = None
    if left_out:
        tell(f"the same with the rows {', '.join(map(str, left_out.rows))}, which carry the covariance")
        train, held_out = split(data.X, data.held_out, seed=seed, device=device)
        with_them = measure(train, held_out, t=measured.t, probes=probes, seed=seed, device=device)
        fresh = min(probes, len(held_out))
        all_rows = GaussianReference.of(train, seed).times(with_them, None, fresh, finite_size=finite_size, seed=seed)
    if sigmas is None:
        collapse = t_to_sigma(times[list(TIMES).index("collapse")].theory)
        sigmas = tuple(float(f"{fraction * collapse:.2g}") for fraction in FRACTIONS)
    return Audit(
        data,
        spectrum=gaussian.spectrum,
        sample=gaussian.sample,
        duplicates=duplicates,
        dimension=intrinsic,
        measured=measured,
        twin=other,
        curve=curve,
        times=times,
        carriers=carriers,
        all_rows=all_rows,
        sizes=tuple(_size(gaussian.spectrum, measured, sigma) for sigma in sigmas),
        seed=seed,
        copies=parts.copies,
    )


def _without(X: np.ndarray, carriers: Carriers) -> np.ndarray:
    return np.delete(X, carriers.rows, axis=0) if carriers else X


def _typical(held_out: np.ndarray | None) -> np.ndarray | None:
    """Held-out points of the source less the few that would rule every mean over them."""
    if held_out is None:
        return None
    found = find_carriers(held_out)
    return _without(held_out, found) if found.few else held_out


def _curve(spectrum: Spectrum, measured: Measurement, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """t, and the exact f(t) of the Gaussian at this P and N with its error."""
    t = measured.t[:: max(1, len(measured.t) // 24)]
    f = collapse_curve(spectrum, measured.P, t=t, seed=seed, samples=DRAWS // 2)
    return t, f.value, np.hypot(f.error, f.quadrature)


def _size(spectrum: Spectrum, measured: Measurement, sigma: float) -> SizeRow:
    t = sigma**2
    inside = measured.t[0] <= t <= measured.t[-1]
    data = measured.critical_size(t) if inside else Estimate(math.nan, math.nan, "outside the measured grid")
    below = math.isfinite(measured.collapse.value) and t < measured.collapse.value
    return SizeRow(sigma, critical_dataset_size(spectrum, t, log=True), data, extrapolated=below)
