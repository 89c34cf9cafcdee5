"""Entry `memory_mapped`: log Z and mean over patterns in a file on disk, beside peers that are given one part after the other."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.bench_empirical_score import attention
from benchmarks.empirical_score import both, errors, exact_sums
from benchmarks.harness import Row, Settings, ratios, skipped
from validation import EmpiricalScore

PART = 1 << 16
Part = Callable[[np.ndarray], tuple[torch.Tensor, torch.Tensor]]  # patterns: log Z and mean


def run(settings: Settings) -> list[Row]:
    """Ten million patterns, a file of 2.5 GB in the folder for temporary files; quick: two hundred thousand."""
    return streamed(5_000 if settings.tiny else 200_000 if settings.quick else 10_000_000)


def streamed(P: int, N: int = 64, B: int = 64) -> list[Row]:
    """At t_c, all asked once."""
    case = f"B = {B}, P = {P} on disk, N = {N}, t_c"
    with tempfile.TemporaryDirectory() as folder:
        X = np.memmap(Path(folder) / "patterns.f32", np.float32, "w+", shape=(P, N))
        rng = np.random.default_rng(0)
        for low in range(0, P, 1 << 18):
            X[low : low + (1 << 18)] = rng.standard_normal((min(1 << 18, P - low), N), dtype=np.float32)
        X.flush()
        X = np.memmap(Path(folder) / "patterns.f32", np.float32, "r", shape=(P, N))
        t = 1 / (P ** (2 / N) - 1)
        x = (X[rng.integers(P, size=B)] + np.sqrt(t) * rng.standard_normal((B, N))).astype(np.float32)
        E, exact = EmpiricalScore(X), exact_sums(X, x[:2], t)
        both(EmpiricalScore(X[:5000]), x, t)  # kernels are loaded
        measured, missing = [_timed("ours: memory-mapped", lambda: both(E, x, t), exact)], []
        for name, load in _peers(x, t):
            try:
                part = load()
                part(np.array(X[:100]))
            except (ImportError, RuntimeError) as error:
                missing.append(skipped("memory_mapped", case, name, str(error).splitlines()[0]))
                continue
            measured.append(_timed(f"{name}, part by part", lambda part=part: _merged(part, X, B), exact))
    return ratios("memory_mapped", case, "log Z or mean, the larger", measured) + missing


def _timed(name: str, call: Callable, exact: tuple[np.ndarray, np.ndarray]) -> tuple[str, float, float, str]:
    start = time.perf_counter()
    found = call()
    return name, time.perf_counter() - start, *errors(found, exact)


def _merged(part: Part, X: np.ndarray, B: int) -> tuple[np.ndarray, np.ndarray]:
    """log Z and mean over all parts; a peer knows those of one."""
    log_z, mean = torch.full((B,), -math.inf), torch.zeros(B, X.shape[1])
    for low in range(0, len(X), min(PART, len(X) // 3)):
        own, centre = part(np.array(X[low : low + min(PART, len(X) // 3)]))
        new = torch.logaddexp(log_z, own)
        mean = mean * (log_z - new).exp()[:, None] + centre * (own - new).exp()[:, None]
        log_z = new
    return log_z.numpy(), mean.numpy()


def _peers(x: np.ndarray, t: float) -> Iterator[tuple[str, Callable[[], Part]]]:
    q = torch.from_numpy(x)

    def plain() -> Part:
        def part(Y: np.ndarray):
            exponent = torch.cdist(q, torch.from_numpy(Y)).square_().div_(-2 * t)
            return exponent.logsumexp(1), torch.softmax(exponent, 1) @ torch.from_numpy(Y)

        return part

    def flash() -> Part:
        def part(Y: np.ndarray):
            mean, log_z = attention(torch.from_numpy(Y), q, t)()
            return log_z, mean

        return part

    def keops() -> Part:
        from pykeops.torch import LazyTensor

        def part(Y: np.ndarray):
            y = torch.from_numpy(Y)
            exponent = ((LazyTensor(q[:, None]) - LazyTensor(y[None])) ** 2).sum(2) * (-0.5 / t)
            return exponent.logsumexp(1).flatten(), exponent.sumsoftmaxweight(LazyTensor(y[None]), dim=1)

        return part

    def top() -> Part:
        import faiss

        def part(Y: np.ndarray):
            index = faiss.IndexFlatL2(Y.shape[1])
            index.add(Y)
            squares, found = index.search(x, min(100, len(Y)))
            exponent = torch.from_numpy(squares).double() / (-2 * t)
            log_z = exponent.logsumexp(1)
            mean = torch.einsum("bk,bkn->bn", (exponent - log_z[:, None]).exp().float(), torch.from_numpy(Y[found]))
            return log_z.float(), mean

        return part

    yield "torch.cdist + softmax", plain
    yield "torch flash attention", flash
    yield "KeOps", keops
    yield "faiss, top 100", top
