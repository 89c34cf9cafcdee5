"""Closed-form collapse times: the public function beside bisection, scipy's brentq and brentq on the quadrature, in one run.

    python benchmarks/bench_linear_times.py

Prints points per second and the ratio to the public function. Accuracy of each against the public function is printed too:
a fast wrong answer is no peer.
"""

from __future__ import annotations

import time

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq

from theory import LinearManifold, collapse_time

ALPHA_D = 0.5


def information(t: float) -> float:
    """The textbook closed form."""
    b = ALPHA_D * t + 1 - ALPHA_D
    V = (-b + np.sqrt(b * b + 4 * ALPHA_D**2 * t)) / (2 * ALPHA_D)
    return np.log1p(V / t) - ALPHA_D * (np.log(V) + 1 - V)


@np.errstate(divide="ignore")  # of the textbook form, far below the root
def by_brentq(alpha):
    return np.array([brentq(lambda x, a=a: information(np.exp(x)) - 2 * a, -60, 20) for a in alpha])


def by_quadrature(alpha):
    centre, radius = 1 + 1 / ALPHA_D, 2 / np.sqrt(ALPHA_D)

    def L(t):
        def integrand(angle):
            r = centre + radius * np.cos(angle)
            return ALPHA_D * (radius * np.sin(angle)) ** 2 / (2 * np.pi * r) * np.log1p(r / t)

        return quad(integrand, 0, np.pi, limit=200)[0]

    return np.array([brentq(lambda x, a=a: L(np.exp(x)) - 2 * a, -60, 20) for a in alpha])


@np.errstate(divide="ignore")  # of the textbook form, far below the root
def by_bisection(alpha, steps=70):
    low, high = np.full(alpha.shape, -60.0), np.full(alpha.shape, 20.0)
    for _ in range(steps):
        middle = 0.5 * (low + high)
        above = information(np.exp(middle)) > 2 * alpha
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return 0.5 * (low + high)


def rate(function, alpha, repeats=3):
    best = min(_timed(function, alpha)[0] for _ in range(repeats))
    return alpha.size / best, function(alpha)


def _timed(function, alpha):
    start = time.perf_counter()
    value = function(alpha)
    return time.perf_counter() - start, value


def main() -> None:
    rng = np.random.default_rng(0)
    alpha = rng.uniform(1e-3, 3, 1_000_000)
    model = LinearManifold(ALPHA_D)
    collapse_time(model, alpha[:10])  # compile
    ours, reference = rate(lambda a: collapse_time(model, a, log=True), alpha)
    print(f"{'method':42s} {'points/s':>12s} {'ours is':>10s} {'max |log t error|':>18s}")
    print(f"{'collapse_time, public function':42s} {ours:12.3g} {'1.0 x':>10s} {'-':>18s}")
    for name, function, n in (
        ("NumPy bisection, 70 steps", by_bisection, 100_000),
        ("scipy.brentq on the textbook closed form", by_brentq, 2000),
        ("scipy.brentq on scipy.quad", by_quadrature, 20),
    ):
        speed, value = rate(function, alpha[:n])
        error = np.nanmax(np.abs(value - reference[:n]))
        print(f"{name:42s} {speed:12.3g} {ours / speed:8.1f} x {error:18.1e}")


if __name__ == "__main__":
    main()
