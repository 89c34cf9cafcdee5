"""Entry `empirical_score`: log Z and mean, beside flash attention, cdist, KeOps, KernelDensity and the top 100 of faiss."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from benchmarks.bench_empirical_score import attention, data, queries
from benchmarks.harness import Row, Settings, median_seconds, ratios, skipped
from validation import EmpiricalScore

CHECKED = 8
Call = Callable[[], tuple[np.ndarray, np.ndarray | None]]


def run(settings: Settings) -> list[Row]:
    """Errors are the larger of |log Z| (absolute) and of the mean (relative) on a few queries, against float64 differences."""
    rows: list[Row] = []
    sizes = (
        ((16, 500, 16),)
        if settings.tiny
        else ((64, 20_000, 64),)
        if settings.quick
        else ((256, 50_000, 64), (256, 50_000, 784))
    )
    for B, P, N in sizes:
        X = data("isotropic", P, N)
        collapse = 1 / (P ** (2 / N) - 1)
        E = EmpiricalScore(X, device=settings.device)
        for level in (0.1, 1.0, 100.0):
            t = level * collapse
            x = queries(X, B, t).astype(np.float32)
            exact, case = exact_sums(X, x, t), f"B = {B}, P = {P}, N = {N}, {level:g} t_c"
            measured, missing = [], []
            for name, load in _methods(E, X, x, t, settings):
                try:
                    call, asked = load()
                    start = time.perf_counter()
                    found = call()
                    first = time.perf_counter() - start
                except (ImportError, RuntimeError) as error:
                    missing.append(skipped("empirical_score", case, name, str(error).splitlines()[0]))
                    continue
                slow = first > 5  # seconds: once is enough
                seconds = first if slow else median_seconds(call, 3, settings.device, warm=False)
                seconds *= B / asked
                measured.append((name, seconds, *errors(found, exact)))
            rows += ratios("empirical_score", case, "log Z or mean, the larger", measured) + missing
    return rows


def both(E: EmpiricalScore, x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
    sums = E._sums(x, t)[1]  # both from one pass, as the peers give them
    return sums.log_z.cpu().numpy(), sums.mean.cpu().numpy()


def _methods(E, X, x, t, settings) -> Iterator[tuple[str, Callable[[], tuple[Call, int]]]]:
    """(name, what loads the peer and gives its call and how many queries that takes); ours first."""
    Y, q = torch.from_numpy(X).to(settings.device), torch.from_numpy(x).to(settings.device)

    def plain() -> tuple[np.ndarray, np.ndarray]:
        exponent = torch.cdist(q, Y).square_().div_(-2 * t)
        return exponent.logsumexp(1).cpu().numpy(), (torch.softmax(exponent, 1) @ Y).cpu().numpy()

    def flash():
        attend = attention(Y, q, t)

        def call():
            mean, log_z = attend()
            return log_z.numpy(), mean.numpy()

        return call, len(x)

    def keops():
        from pykeops.torch import LazyTensor

        def call():
            exponent = ((LazyTensor(q[:, None]) - LazyTensor(Y[None])) ** 2).sum(2) * (-0.5 / t)
            mean = exponent.sumsoftmaxweight(LazyTensor(Y[None]), dim=1)
            return exponent.logsumexp(1).flatten().cpu().numpy(), mean.cpu().numpy()

        return call, len(x)

    def density():
        from sklearn.neighbors import KernelDensity

        few = x[: max(CHECKED, len(x) // 16)]
        tree = KernelDensity(bandwidth=math.sqrt(t), rtol=1e-6).fit(X)
        norm = math.log(len(X)) + X.shape[1] / 2 * math.log(2 * math.pi * t)
        return (lambda: (tree.score_samples(few) + norm, None)), len(few)

    def top():
        import faiss

        index = faiss.IndexFlatL2(X.shape[1])
        index.add(X)

        def call():
            squares, found = index.search(x, min(100, len(X)))
            exponent = -squares.astype(np.float64) / (2 * t)
            log_z = np.logaddexp.reduce(exponent, axis=1)
            weights = np.exp(exponent - log_z[:, None])
            return log_z, np.einsum("bk,bkn->bn", weights, X[found])

        return call, len(x)

    yield "ours: EmpiricalScore", lambda: (lambda: both(E, x, t), len(x))
    yield "torch.cdist + softmax", lambda: (plain, len(x))
    if settings.device == "cpu":
        yield "torch flash attention", flash
    if X.shape[1] <= 64 or math.isclose(t, 1 / (len(X) ** (2 / X.shape[1]) - 1)):  # a minute a call: at t_c only
        yield "KeOps", keops
    if X.shape[1] <= 64 and settings.device == "cpu":
        yield "sklearn KernelDensity (log Z)", density
    yield "faiss, top 100", top


def exact_sums(X: np.ndarray, x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
    log_z, mean = [], []
    for one in x[:CHECKED].astype(np.float64):
        exponent = np.empty(len(X))
        for low in range(0, len(X), 1 << 16):
            d = X[low : low + (1 << 16)] - one
            exponent[low : low + (1 << 16)] = -np.einsum("pn,pn->p", d, d) / (2 * t)
        top = exponent.max()
        w = np.exp(exponent - top)
        log_z.append(top + math.log(w.sum()))
        kept = np.flatnonzero(w > 1e-20)
        mean.append(w[kept] @ X[kept].astype(np.float64) / w.sum())
    return np.array(log_z), np.array(mean)


def errors(found: tuple[np.ndarray, np.ndarray | None], exact: tuple[np.ndarray, np.ndarray]) -> tuple[float, str]:
    """(the larger error, both in words)."""
    n = len(exact[0])
    log_z = float(np.abs(found[0][:n] - exact[0]).max())
    if found[1] is None:
        return log_z, f"log Z off by {log_z:.1e}"
    mean = float((np.linalg.norm(found[1][:n] - exact[1], axis=1) / np.linalg.norm(exact[1], axis=1)).max())
    return float(np.maximum(log_z, mean)), f"log Z off by {log_z:.1e}, mean by {mean:.1e}"
