"""Spectrum and learning curves of random features: the public functions beside damped iteration in numpy and direct eigenvalues.

    python benchmarks/bench_training_time.py [--sizes 100 200]

All in one process after compilation; ratios are what to compare. Every peer's error against the public function is printed:
the damped iteration stops above the axis, at Im z = 1e-6 of z, and the eigenvalues are those of one draw of the equivalent
linear features.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from theory import Isotropic, RandomFeatures

T = float(np.expm1(0.02))


def damped(parameters, z, damping=0.5, tolerance=1e-10, limit=100_000):
    """The fixed point of the published equations, all z at once: q and the number of sweeps."""
    p, n, a, b, v, s2 = parameters
    z = z * (1 + 1e-6j)
    q, r = -1 / z, -1 / z
    sweeps = 0
    while sweeps < limit:
        sweeps += 1
        y = 1 + p / n * (a * r + v * q)
        inverse = 1 / (b * p + 1 / q + p * a / y)
        new = (p - 1 + inverse / q) / (p * (s2 - z + v / y))
        step = np.abs(new - q) / np.abs(q)
        q, r = q + damping * (new - q), r + damping * (inverse - r)
        if step.max() < tolerance:
            break
    return q, sweeps


def eigenvalues(features, N, rng):
    """Nonzero eigenvalues of one draw of the equivalent linear features, through the (n + N) x (n + N) Gram matrix."""
    p, n, a, b, v, s2 = features.parameters
    p, n = int(p * N), int(n * N)
    W, X = rng.standard_normal((p, N)), rng.standard_normal((N, n))
    G = np.sqrt(a / N) * (W @ X) + np.sqrt(v) * rng.standard_normal((p, n))
    B = np.concatenate([G / np.sqrt(n), np.sqrt(b / N) * W], axis=1)
    return np.linalg.eigvalsh(B.T @ B) + s2


def timed(function, repeats=5):
    best, value = np.inf, None
    for _ in range(repeats):
        start = time.perf_counter()
        value = function()
        best = min(best, time.perf_counter() - start)
    return best, value


def main(sizes) -> None:
    features = RandomFeatures(Isotropic(1.0), psi_p=64, psi_n=8, t=T, activation="tanh")
    z = np.concatenate([np.geomspace(low * 1.01, high * 0.99, 334) for low, high in features.support])
    ours, density = timed(lambda: features.density(z))
    print(f"{'density at ' + str(z.size) + ' points':52s} {'seconds':>10s} {'over ours':>10s} {'error':>10s}")
    print(f"{'RandomFeatures.density':52s} {ours:10.2e} {1.0:10.1f} {'-':>10s}")
    seconds, (q, sweeps) = timed(lambda: damped(features.parameters, z), repeats=1)
    error = np.abs(q.imag / np.pi / density - 1).max()
    print(f"{f'damped iteration, {sweeps} sweeps':52s} {seconds:10.2e} {seconds / ours:10.1f} {error:10.1e}")
    fine = np.concatenate([np.geomspace(low, high, 400) for low, high in features.support])
    rho = features.density(fine)
    cdf = np.concatenate([[0], np.cumsum((rho[1:] + rho[:-1]) / 2 * np.diff(fine))]) * 64 / 9  # of n + N out of p
    for N in sizes:
        seconds, values = timed(lambda N=N: eigenvalues(features, N, np.random.default_rng(0)), repeats=1)
        error = np.abs(np.searchsorted(values, fine) / values.size - cdf).max()
        print(
            f"{f'eigenvalues of one draw, N = {N} (error: of the cdf)':52s} {seconds:10.2e} {seconds / ours:10.1f} {error:10.1e}"
        )
    tau = np.geomspace(1, 1e7, 200)
    features.learning_curve(tau)
    seconds, _ = timed(lambda: features.learning_curve(tau))
    print(f"\nlearning curve at 200 times, contour known: {seconds:.3g} s")

    def fresh(psi_n):
        return RandomFeatures(Isotropic(1.0), psi_p=64, psi_n=psi_n, t=T, activation="tanh").learning_curve(tau)

    seconds, _ = timed(lambda: fresh(7.9), repeats=3)
    print(f"the same for a new model, edges and contour included: {seconds:.3g} s")
    print(f"a diagram of 100 x 100 cells in (n, tau): {100 * seconds:.3g} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 100])
    main(parser.parse_args().sizes)
