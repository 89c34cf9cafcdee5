"""Spectra of the empirical score without matrices, at many training points: time and peak memory at one noisy point.

python benchmarks/bench_empirical_products.py                # P = 50 000, N = 3072
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import torch

from validation.score import EmpiricalScore
from validation.spectra import effective_dimension, spectral_density

RANK = 256


def main() -> None:
    """Gaussian points of rank 256 and unit variance a coordinate, float32, and one of them with noise of sigma 20."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-P", type=int, default=50_000)
    parser.add_argument("-N", type=int, default=3072)
    options = parser.parse_args()
    draw = torch.Generator().manual_seed(0)
    X = torch.randn(options.P, RANK, generator=draw) @ (torch.randn(RANK, options.N, generator=draw) / RANK**0.5)
    score = EmpiricalScore(X)
    x, t = (X[:1] + 20 * torch.randn(1, options.N, generator=draw)).double(), 400.0
    print("quantity,P,N,products,cpu_seconds,peak_GB,value", flush=True)
    for name, value, measure in (
        ("dimension", "mean", lambda: effective_dimension(score, x, t, probes=4)),
        ("density", "kept", lambda: spectral_density(score, x, t, steps=16, probes=2)),
    ):
        start = time.process_time()
        found = measure()
        spent = time.process_time() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
        shown = f"{float(np.ravel(found[value])[0]):.4g}"
        about = f"{options.P},{options.N},{found.attrs['products']}"
        print(f"{name},{about},{spent:.1f},{peak:.1f},{shown}", flush=True)


if __name__ == "__main__":
    main()
