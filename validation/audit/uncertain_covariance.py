"""What the sampling of a covariance by P points leaves uncertain in the times of the Gaussian that has it.

The spectrum of the population is an estimate (`theory.models.population_spectrum`). Gaussian samples of it, treated as the data
were, give the spread of every time: an error of its logarithm, which the theory at P and N shares.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from theory import Spectrum
from theory.models import resampled_spectra

__all__ = ["SAMPLES", "covariance_errors"]

SAMPLES = 16
LARGE = 1000  # from this many directions on a sample takes seconds, and errors are small
FEW = 6


def covariance_errors(
    spectrum: Spectrum, P: int, times: Mapping[str, Callable[[Spectrum, float], float]], *, seed: int = 0
) -> dict[str, float]:
    """Root mean square of log(time of a resampled spectrum / time of this one), by name; bias included.

    Parameters
    ----------
    spectrum : Spectrum, of the population as P points know it (`Spectrum.from_samples(X, debias=True)`)
    P : int >= 3
    times : functions of (spectrum, alpha)
    seed : of the samples

    >>> from theory import collapse_time
    >>> errors = [covariance_errors(Spectrum([1.0] * 50), P, {"collapse": collapse_time})["collapse"] for P in (25, 2500)]
    >>> errors[0] > 5 * errors[1]
    True
    """
    alpha = math.log(P) / spectrum.N
    here = np.array([time(spectrum, alpha, log=True) for time in times.values()])
    count = SAMPLES if min(P, np.count_nonzero(spectrum.eigenvalues)) < LARGE else FEW
    drawn = resampled_spectra(spectrum.eigenvalues, P, samples=count, seed=seed)
    there = np.array([[time(Spectrum(r), alpha, log=True) for time in times.values()] for r in drawn])
    return dict(zip(times, np.sqrt(np.mean((there - here) ** 2, axis=0)).tolist(), strict=True))
