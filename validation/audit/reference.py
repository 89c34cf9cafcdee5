"""The Gaussian with the covariance of a training set: its times at infinite size, and exactly at the data's own P and N.

The covariance is an estimate: its spectrum is de-biased, and what P points leave uncertain of it is in the errors at P and N.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from theory import Spectrum, collapse_time, condensation_time, generalization_time, onset_time
from theory.finite_size import finite_size_times
from theory.models import population_eigenvalues
from validation.audit.measurement import Measurement
from validation.audit.rows import DRAWS, TimeRow
from validation.audit.uncertain_covariance import covariance_errors
from validation.simulation import Estimate

__all__ = ["TIMES", "GaussianReference"]

JACKKNIFE = 64  # groups at most, of `validation.simulation.jackknife`
TIMES = {
    "onset": onset_time,
    "collapse": collapse_time,
    "condensation": condensation_time,
    "generalization": generalization_time,
}


@dataclass(frozen=True)
class GaussianReference:
    """What the data are compared with.

    sample : spectrum of the sample covariance; spectrum : of the population, as far as P points know it
    errors : by time, of its logarithm, from the sampling of the covariance
    """

    sample: Spectrum
    spectrum: Spectrum
    errors: dict[str, float]

    @classmethod
    def of(cls, train: np.ndarray, seed: int) -> GaussianReference:
        """From the training part (P, N) of a data set; `seed` of the samples that give the errors."""
        sample = Spectrum.from_samples(train)
        spectrum = Spectrum(population_eigenvalues(sample.eigenvalues, len(train)))
        return cls(sample, spectrum, covariance_errors(spectrum, len(train), TIMES, seed=seed))

    def times(
        self,
        measured: Measurement,
        twin: Measurement | None,
        fresh: int,
        *,
        finite_size: bool = True,
        seed: int = 0,
        draws: int = DRAWS,
    ) -> tuple[TimeRow, ...]:
        """Each time beside its measurement.

        measured, twin : of the data, and of a Gaussian sample; fresh : held-out points they used at most
        finite_size : also the exact theory at this P and N, averaged over `draws` of x with `seed`
        """
        finite = self._finite(measured.P, seed, draws) if finite_size else {}
        probes = (measured.probes, measured.probes, fresh, fresh)
        return tuple(
            TimeRow(
                kind,
                time(self.spectrum, math.log(measured.P) / measured.N),
                finite.get(kind),
                getattr(twin, kind) if twin else None,
                getattr(measured, kind),
                self.errors[kind],
                max(1, min(JACKKNIFE, count) - 1),
                draws,
            )
            for (kind, time), count in zip(TIMES.items(), probes, strict=True)
        )

    def _finite(self, P: int, seed: int, draws: int) -> dict[str, Estimate]:
        """Exact times (but condensation, which has no crossing of its own) of the Gaussian at this P and N."""
        exact = finite_size_times(self.spectrum, P, seed=seed, samples=draws)
        found = {kind: getattr(exact, kind) for kind in ("onset", "collapse", "generalization")}
        return {
            kind: Estimate(float(e.value), math.hypot(e.error, e.quadrature, float(e.value) * self.errors[kind]))
            for kind, e in found.items()
        }
