"""Entry `finite_size`: the exact expectation of log Z at finite P and N, beside Monte Carlo at an error of one percent."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.bench_finite_size import exact, monte_carlo
from benchmarks.harness import Row, Settings, ratios

ERROR = 0.01  # of E log Z


def run(settings: Settings) -> list[Row]:
    """Monte Carlo's work to one percent comes from its measured variance and time; it falls like 1/sqrt(repetitions)."""
    rng, rows = np.random.default_rng(0), []
    cases = ((10, 50, 0.5), (20, 10**3, 0.5), (30, 10**4, 0.5), (40, 10**5, 0.5), (784, 5 * 10**4, 0.5))
    for N, P, t in cases[:1] if settings.tiny else cases[:3] if settings.quick else cases[1:]:
        r = np.exp(rng.normal(-1.0, 1.0, N))
        s, p = r / t, (r + t) / t * rng.chisquare(1.0, N)
        exact(s, p, math.log(P))  # compiled
        tries = sorted((exact(s, p, math.log(P)) for _ in range(5)), key=lambda found: found[2])
        value, error, seconds = tries[2]
        repetitions = max(10, min(200, int(2e7 / (P * N))))
        mean, spread, each = monte_carlo(s, p, P, rng, repetitions)
        needed = max(1, math.ceil((spread / (ERROR * abs(value))) ** 2))
        measured = (
            ("ours: PartitionLaw", seconds, error / abs(value), "its own bound"),
            (
                "Monte Carlo to 1 %",
                needed * each,
                ERROR,
                f"{needed} draws of P patterns; off by {mean - value:.2g} in {repetitions}",
            ),
        )
        rows += ratios("finite_size", f"N = {N}, P = {P}", "E log Z, relative", measured)
    return rows
