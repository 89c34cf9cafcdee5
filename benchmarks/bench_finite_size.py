"""Exact finite-size expectations beside Monte Carlo: time and error at one x, and work to reach the same error.

Both in one process on one thread; ratios matter, times do not. Run: ``python benchmarks/bench_finite_size.py``.
The Monte Carlo draws P patterns afresh for each repetition, at the same x; its work for a given error is extrapolated from
its measured variance and time (it falls like one over the square root of the repetitions).
"""

import math
import time

import numpy as np

from theory.finite_size.law import PartitionLaw

ERROR = 1e-3  # in E log Z: a few repetitions for most; the exact method's own error is printed


def exact(s, p, log_P):
    start = time.process_time()
    value, error = PartitionLaw(s, np.ones(s.size), p, log_P).expected_log()
    return value, error, time.process_time() - start


def monte_carlo(s, p, P, rng, repetitions):
    """log sum exp of -beta E over P patterns, `repetitions` times, in units where beta = 1."""
    scale, x = np.sqrt(s), np.sqrt(p)
    start, values = time.process_time(), np.empty(repetitions)
    for i in range(repetitions):
        log_w = -0.5 * ((rng.standard_normal((P, s.size)) * scale - x) ** 2).sum(axis=1)
        top = log_w.max()
        values[i] = top + math.log(np.exp(log_w - top).sum())
    seconds = (time.process_time() - start) / repetitions
    return values.mean(), values.std(ddof=1), seconds


def main():
    rng = np.random.default_rng(0)
    print(
        f"{'N':>6} {'P':>10} {'t':>5} | {'exact':>12} {'its error':>9} {'ms':>6} | {'MC - exact':>10} {'sigma':>7} | work ratio"
    )
    for N, P, t in ((20, 10**3, 0.5), (30, 10**4, 0.5), (40, 10**5, 0.5), (40, 10**5, 2.0), (784, 5 * 10**4, 0.5)):
        r = np.exp(rng.normal(-1.0, 1.0, N))
        s, p = r / t, (r + t) / t * rng.chisquare(1.0, N)
        exact(s, p, math.log(P))  # compiled
        value, error, seconds = min((exact(s, p, math.log(P)) for _ in range(5)), key=lambda row: row[2])
        repetitions = max(3, min(200, int(2e8 / (P * N * 10))))
        mean, spread, each = monte_carlo(s, p, P, rng, repetitions)
        work = (spread / ERROR) ** 2 * each / seconds
        sigma = spread / math.sqrt(repetitions)
        print(
            f"{N:6d} {P:10d} {t:5.1f} | {value:12.6f} {error:9.1e} {1e3 * seconds:6.1f} | {mean - value:10.4f} {sigma:7.4f} |"
            f" {work:.1e}"
        )
    for N, log_P in ((100, 200.0), (10_000, 500.0)):
        s, p = np.array([2.0]), np.array([3.0 * N])
        start = time.process_time()
        value, error = PartitionLaw(s, np.array([float(N)]), p, log_P).expected_log()
        seconds = time.process_time() - start
        print(
            f"{N:6d} {'e^' + format(log_P, '.0f'):>10} {0.5:5.1f} | {value:12.6f} {error:9.1e} {1e3 * seconds:6.1f} |"
            " no Monte Carlo can"
        )


if __name__ == "__main__":
    main()
