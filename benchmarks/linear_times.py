"""Entry `linear_times`: the public function beside bisection, brentq on the closed form and brentq on the quadrature."""

from __future__ import annotations

import numpy as np

from benchmarks.bench_linear_times import ALPHA_D, by_bisection, by_brentq, by_quadrature
from benchmarks.harness import Row, Settings, median_seconds, ratios
from theory import LinearManifold, collapse_time


def run(settings: Settings) -> list[Row]:
    """Seconds a point, and the largest error of log t against 30-digit roots of the closed form on the first points."""
    sizes = (
        (1_000, 200, 20, 2)
        if settings.tiny
        else (100_000, 20_000, 500, 6)
        if settings.quick
        else (1_000_000, 100_000, 2_000, 20)
    )
    alpha = np.random.default_rng(0).uniform(1e-3, 3, sizes[0])
    model = LinearManifold(ALPHA_D)
    exact = np.array([_exact(a) for a in alpha[: sizes[-1]]])
    methods = (
        ("ours: collapse_time", lambda a: collapse_time(model, a, log=True)),
        ("NumPy bisection, 70 steps", by_bisection),
        ("scipy brentq, closed form", by_brentq),
        ("scipy brentq + quad", by_quadrature),
    )
    measured = []
    for (name, call), n in zip(methods, sizes, strict=True):
        seconds = median_seconds(lambda c=call, a=alpha[:n]: c(a), 3) / n
        measured.append((name, seconds, float(np.nanmax(np.abs(call(alpha[: exact.size]) - exact))), f"{n} points"))
    return ratios("linear_times", f"alpha_D = {ALPHA_D}, one point", "log t", measured)


def _exact(alpha: float) -> float:
    """log t_c to 30 digits, from the closed form in mpmath."""
    from mpmath import findroot, log, log1p, mp, mpf, sqrt

    with mp.workdps(30):
        a = mpf(ALPHA_D)

        def gap(u):
            t = mp.exp(u)
            b = a * t + 1 - a
            V = (-b + sqrt(b * b + 4 * a**2 * t)) / (2 * a)
            return log1p(V / t) - a * (log(V) + 1 - V) - 2 * mpf(float(alpha))

        start = float(by_brentq(np.array([alpha]))[0])
        return float(findroot(gap, (start - 1e-3, start + 1e-3)))
