"""The replica saddle point: this kernel beside vectorised NumPy and nested scipy quad, the exp ceiling, and whole diagrams.

Run ``python benchmarks/bench_replica.py [--size 64] [--all-times]``. All in one process; ratios are what to compare.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numba import get_num_threads, njit, prange, set_num_threads
from scipy.integrate import quad

from numerics.channel.moments import CLEAN, MATCHED, NOISY
from numerics.elementary.fast_exp import exp_block
from theory.models.hidden import HiddenManifold
from theory.replica.engine import ReplicaEngine


@njit(parallel=True)
def _exp_ceiling(threads, length, repeats):
    out = np.zeros(threads)
    for i in prange(threads):
        x = -30.0 * np.linspace(0.0, 1.0, length)
        y, scale = np.empty(length), np.empty(length)
        bits = scale.view(np.int64)
        for r in range(repeats):
            exp_block(x, length, 0.0, y, scale, bits)
            out[i] += y[r % length]
    return out


def median_time(function, repeats: int = 7) -> float:
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def numpy_iteration(q: float, t: float, n: int = 61):
    """One matched update by dense trapezoidal rules in vectorised NumPy: 61 x 121 x 61 points."""
    V = 1 - q
    y = np.linspace(-8.3, 8.3, n)
    prior = np.exp(-(y**2) / 2) / np.sqrt(2 * np.pi) * (y[1] - y[0])
    omega = np.sqrt(q) * y
    x = np.linspace(-1 - 8.3 * np.sqrt(t), 1 + 8.3 * np.sqrt(t), 2 * n - 1)
    s = np.tanh(omega[:, None] + np.sqrt(V) * y)
    kernel = np.exp(-0.5 * (x[None, :, None] - s[:, None, :]) ** 2 / t)
    total = kernel @ prior
    force = kernel @ (prior * y) / total / np.sqrt(V)
    weight = prior[:, None] * total / np.sqrt(2 * np.pi * t) * (x[1] - x[0])
    return (weight * force**2).sum(), (weight * np.log(total)).sum(), kernel.size


def scipy_iteration(q: float, t: float, tolerance: float = 1e-6, s=np.tanh, top: float = 1.0):
    """The same update by nested adaptive quad, at a modest tolerance; `top` is the largest |s|."""
    V = 1 - q
    rv = np.sqrt(V)

    def inner(x, om, power):
        f = lambda y: y**power * np.exp(-0.5 * y * y - 0.5 * (x - s(om + rv * y)) ** 2 / t)  # noqa: E731
        return quad(f, -8, 8, epsabs=tolerance, epsrel=tolerance)[0] / np.sqrt(2 * np.pi)

    def over_x(om):
        f = lambda x: inner(x, om, 1) ** 2 / inner(x, om, 0) / V / np.sqrt(2 * np.pi * t)  # noqa: E731
        return quad(f, -top - 6 * np.sqrt(t), top + 6 * np.sqrt(t), epsabs=tolerance, epsrel=tolerance)[0]

    f = lambda eta: 2 * np.exp(-0.5 * eta * eta) / np.sqrt(2 * np.pi) * over_x(np.sqrt(q) * eta)  # noqa: E731
    return quad(f, 0, 8, epsabs=tolerance, epsrel=tolerance)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--all-times", action="store_true")
    options = parser.parse_args()
    threads = get_num_threads()

    q, t = 0.494494800, 0.574377
    engine = ReplicaEngine(HiddenManifold(0.5, "tanh"))

    def kernel(n=1, mode=MATCHED, q=q, t=t, delta=t):
        o = np.ones(n)
        return engine.channel.moments(q * o, o, (1 - q) * o, (1 - q) * o, o / t, delta * o, mode)

    set_num_threads(1)
    single = median_time(kernel)
    set_num_threads(threads)
    batch = 64 * threads
    many = median_time(lambda: kernel(batch)) / batch
    exps = float(kernel().exps[0])
    dense = median_time(lambda: numpy_iteration(q, t), 3)
    start = time.perf_counter()
    nested_value = scipy_iteration(q, t)
    nested = time.perf_counter() - start
    value = float(kernel().f_square[0])
    print("one matched update of tanh at t = 0.574377 (E f^2 in brackets)")
    print(f"  this kernel, 1 thread    {single * 1e3:10.3f} ms  [{value:.12f}]  {exps:.3g} exps")
    print(f"  this kernel, {threads} threads   {many * 1e3:10.3f} ms per cell in a batch of {batch}")
    print(
        f"  vectorised NumPy         {dense * 1e3:10.3f} ms  [{numpy_iteration(q, t)[0]:.12f}]  x {dense / single:.1f}"
    )
    print(f"  nested scipy quad, 1e-6  {nested * 1e3:10.0f} ms  [{nested_value:.12f}]  x {nested / single:.0f}")

    ceilings = []
    for size in (64, 1024):
        rounds = 1_280_000 // size
        ceilings.append(
            threads * size * rounds / median_time(lambda s=size, r=rounds: _exp_ceiling(threads, s, r)) / 1e9
        )
    print(f"vectorised exp on {threads} threads: {ceilings[0]:.2f} G/s in blocks of 64, {ceilings[1]:.2f} of 1024")
    print("integrands: G/s on all threads, over the two ceilings, and exponentials each")
    for label, mode, at, noise in (
        ("Nishimori line", MATCHED, (q, t), t),
        ("Nishimori line, t = 1e-5", MATCHED, (1 - 1.1e-5, 1e-5), 1e-5),
        ("clean", CLEAN, (q, t), 0.0),
        ("clean, t = 1e-5", CLEAN, (1 - 1.1e-5, 1e-5), 0.0),
        ("noisy, delta = t/2", NOISY, (q, t), t / 2),
    ):
        cell = kernel(1, mode, *at, noise)
        wall = median_time(lambda m=mode, a=at, d=noise: kernel(batch, m, *a, d)) / batch
        rate = float(cell.integrands[0]) / wall / 1e9
        shares = ", ".join(f"{rate / c:.2f}" for c in ceilings)
        print(f"  {label:26s} {rate:6.2f}  [{shares}]  {float(cell.exps[0] / cell.integrands[0]):.3f}")

    n = options.size
    model = HiddenManifold(np.linspace(0.1, 1.5, n)[None, :], "tanh")
    alpha = np.linspace(0.05, 1.0, n)[:, None]
    engine = ReplicaEngine(model)
    kinds = ("collapse", "onset", "condensation", "generalization") if options.all_times else ("collapse",)
    whole = 0.0
    for kind in kinds:
        spent = [0.0, 0]
        iterate = engine.iterate

        def counted(*arguments, iterate=iterate, spent=spent):
            found = iterate(*arguments)
            spent[0] += float((found.payload[:, -1] * found.iterations).sum())
            spent[1] += int(found.iterations.sum())
            return found

        engine.iterate = counted
        start = time.perf_counter()
        found = engine.log_time(kind, alpha)
        wall = time.perf_counter() - start
        engine.iterate = iterate
        whole += wall
        print(
            f"{n} x {n} {kind}: {wall:.1f} s; {found.report()}; {spent[0] / found.value.size:.3g} exps and "
            f"{spent[1] / found.value.size:.1f} channel evaluations per point; log t from {np.nanmin(found.value):.1f}"
        )
    print(f"all: {whole:.1f} s on {threads} threads")


if __name__ == "__main__":
    main()
