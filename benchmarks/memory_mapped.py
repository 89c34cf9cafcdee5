"""Entry `memory_mapped`: log Z and mean over patterns in a file on disk, beside a plain loop over its parts in torch."""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.empirical_score import both, errors, exact_sums
from benchmarks.harness import Row, Settings, ratios
from validation import EmpiricalScore


def run(settings: Settings) -> list[Row]:
    """Ten million patterns, a file of 2.5 GB in the folder for temporary files; quick: two hundred thousand."""
    return streamed(5_000 if settings.tiny else 200_000 if settings.quick else 10_000_000)


def streamed(P: int, N: int = 64, B: int = 64) -> list[Row]:
    """At t_c, both asked once."""
    with tempfile.TemporaryDirectory() as folder:
        X = np.memmap(Path(folder) / "patterns.f32", np.float32, "w+", shape=(P, N))
        rng = np.random.default_rng(0)
        for low in range(0, P, 1 << 18):
            X[low : low + (1 << 18)] = rng.standard_normal((min(1 << 18, P - low), N), dtype=np.float32)
        X.flush()
        X = np.memmap(Path(folder) / "patterns.f32", np.float32, "r", shape=(P, N))
        t = 1 / (P ** (2 / N) - 1)
        x = (X[rng.integers(P, size=B)] + np.sqrt(t) * rng.standard_normal((B, N))).astype(np.float32)
        E, q, exact = EmpiricalScore(X), torch.from_numpy(x), exact_sums(X, x[:2], t)

        def loop() -> tuple[np.ndarray, np.ndarray]:
            log_z, mean = torch.full((B,), -math.inf), torch.zeros(B, N)
            for low in range(0, P, 1 << 16):
                Y = torch.from_numpy(np.array(X[low : low + (1 << 16)]))
                exponent = torch.cdist(q, Y).square_().div_(-2 * t)
                part = exponent.logsumexp(1)
                new = torch.logaddexp(log_z, part)
                mean = mean * (log_z - new).exp()[:, None] + (exponent - new[:, None]).exp() @ Y
                log_z = new
            return log_z.numpy(), mean.numpy()

        both(EmpiricalScore(X[:5000]), x, t)  # kernels are loaded
        measured = []
        for name, call in (("ours: memory-mapped", lambda: both(E, x, t)), ("torch.cdist, part by part", loop)):
            start = time.perf_counter()
            found = call()
            measured.append((name, time.perf_counter() - start, *errors(found, exact)))
    return ratios("memory_mapped", f"B = {B}, P = {P} on disk, N = {N}, t_c", "log Z or mean, the larger", measured)
