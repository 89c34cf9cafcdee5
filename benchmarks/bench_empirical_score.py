"""The empirical score against the bare matrix products it cannot do without, and against its peers, in one process.

Every time is divided by that of the two products x X^T and W X of the same size and precision, run next to it; medians of
those ratios are shown, and the worst relative error of the score against float64 differences on a few queries. Peers:
torch.cdist with softmax, torch's flash attention with its log-sum-exp (bias by one extra column), scikit-learn's
KernelDensity (log Z only). Data: isotropic, whose collapse time t_c = 1/(P^(2/N) - 1) sets the noise levels, and a
12-dimensional manifold, where clusters prune.

    python benchmarks/bench_empirical_score.py                  # all sizes, about ten minutes on two quiet cores
    python benchmarks/bench_empirical_score.py --only 784 --repeats 3
    python benchmarks/bench_empirical_score.py --clock cpu      # one thread, its own CPU time: for a machine that is shared
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from sklearn.neighbors import KernelDensity

from validation.empirical_score import EmpiricalScore

SIZES = ((256, 50_000, 64), (256, 50_000, 784), (64, 20_000, 3072))
CHECKED = 4  # queries whose score is compared with brute force


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, help="only the size with this N")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-peers", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1 if arguments.clock == "cpu" else arguments.threads)
    tick = time.thread_time if arguments.clock == "cpu" else time.perf_counter
    for B, P, N in SIZES:
        if arguments.only in (None, N):
            for dtype in ("float32", "float64"):
                sums(B, P, N, dtype, arguments, tick)
            jacobians(P, N, arguments, tick)
            profiles(B, P, N, arguments, tick)


def sums(B: int, P: int, N: int, dtype: str, arguments: argparse.Namespace, tick: Callable[[], float]) -> None:
    """log Z, weights and denoiser at noise levels from deep collapse to spread weights."""
    for kind in ("isotropic", "manifold") if dtype == "float32" else ("isotropic",):
        X = data(kind, P, N).astype(dtype)
        Y = torch.from_numpy(X).to(arguments.device)
        engines = {"engine": EmpiricalScore(X, dtype=dtype, device=arguments.device)}
        if kind == "manifold":
            engines["clusters"] = EmpiricalScore(X, dtype=dtype, device=arguments.device, clusters="auto")
        collapse = 1 / (P ** (2 / N) - 1)
        levels = (
            [1e-6, *(collapse * f for f in (0.01, 0.3, 1.0, 3.0, 300.0))]
            if kind == "isotropic"
            else [1e-6, 1e-3, 0.1, 10.0]
        )
        for t in levels:
            x = queries(X, B, t)
            q = torch.from_numpy(x).to(Y)
            methods = {name: partial(E.score, x, t) for name, E in engines.items()}
            if not arguments.no_peers and kind == "isotropic":
                methods |= peers(Y, q, t, X)
            ratios, found = measure(Y, q, methods, arguments, tick)
            exact = brute(X, x[:CHECKED], t)
            print(
                f"\n({B}, {P}, {N}) {dtype} {kind} t = {t:.2e}"
                + (f" = {t / collapse:.2g} t_c" if kind == "isotropic" else "")
            )
            for name, ratio in ratios.items():
                error = worst(found[name], exact) if found[name] is not None else float("nan")
                used = engines[name].statistics["method"][0] if name in engines else ""
                print(f"  {name:16s} {ratio:7.2f} x the bare products   score error {error:.0e}   {used}", flush=True)


def measure(Y, q, methods, arguments, tick) -> tuple[dict[str, float], dict]:
    """Median over repeats of time / time of the bare products, everything interleaved."""
    P, N = Y.shape
    products, weights, mean = (
        torch.empty(s, dtype=Y.dtype, device=Y.device) for s in ((len(q), P), (len(q), P), (len(q), N))
    )
    weights.fill_(1 / P)

    def bare() -> None:
        torch.mm(q, Y.T, out=products)
        torch.mm(weights, Y, out=mean)

    found = {name: run() for name, run in methods.items()}  # compiles, touches memory
    times: dict[str, list[float]] = {name: [] for name in methods}
    bare()
    for _ in range(arguments.repeats):
        reference = timed(bare, Y.device, tick)
        for name, run in methods.items():
            times[name].append(timed(run, Y.device, tick) / reference)
    return {name: statistics.median(values) for name, values in times.items()}, found


def timed(run: Callable[[], object], device: torch.device, tick: Callable[[], float]) -> float:
    start = tick()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return tick() - start


def peers(Y: torch.Tensor, q: torch.Tensor, t: float, X: np.ndarray) -> dict[str, Callable]:
    def cdist() -> np.ndarray:
        exponent = torch.cdist(q, Y).square_().div_(-2 * t)
        return ((torch.softmax(exponent, 1) @ Y - q) / t).cpu().numpy()

    N = Y.shape[1]
    extra = 8 - N % 8
    keys = torch.zeros(len(Y), N + extra, dtype=Y.dtype, device=Y.device)
    keys[:, :N], keys[:, N] = Y, -Y.square().sum(1) / 2
    asked = torch.zeros(len(q), N + extra, dtype=Y.dtype, device=Y.device)
    asked[:, :N], asked[:, N] = q, 1

    def flash() -> np.ndarray:
        attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        mean, _ = attend(asked[None, None], keys[None, None], keys[None, None], scale=1 / t)
        return ((mean[0, 0, :, :N] - q) / t).cpu().numpy()

    methods = {"torch.cdist": cdist} | ({"flash attention": flash} if Y.device.type == "cpu" else {})
    if N == 64:
        tree = KernelDensity(bandwidth=float(np.sqrt(t))).fit(X)
        few = q[: len(q) // 8].cpu().numpy()
        methods["KernelDensity/8"] = lambda: (tree.score_samples(few), None)[1]
    return methods


def jacobians(P: int, N: int, arguments: argparse.Namespace, tick: Callable[[], float]) -> None:
    """Eigenvalues of one query against one full covariance product X^T X."""
    if N > 1000:
        return
    X = data("isotropic", P, N)
    Y, E = torch.from_numpy(X).to(arguments.device), EmpiricalScore(X, device=arguments.device)
    collapse = 1 / (P ** (2 / N) - 1)
    print(f"\nJacobian eigenvalues of one query, P = {P}, N = {N}, float32: time over that of the full product X^T X")
    for t in (collapse / 100, collapse / 3, collapse, 100 * collapse):
        x, ratios = queries(X, 1, t), []
        E.jacobian_eigenvalues(x, t)
        for _ in range(arguments.repeats):
            reference = timed(lambda: Y.T @ Y, Y.device, tick)
            ratios.append(timed(lambda: E.jacobian_eigenvalues(x, t), Y.device, tick) / reference)  # noqa: B023
        share = float(E.participation(x, t)[0])
        print(
            f"  t = {t / collapse:.2g} t_c   {statistics.median(ratios):.3f}   (participation {share:.0f})", flush=True
        )


def profiles(B: int, P: int, N: int, arguments: argparse.Namespace, tick: Callable[[], float]) -> None:
    """Forty noise levels from two products."""
    X = data("isotropic", P, N)
    Y, E = torch.from_numpy(X).to(arguments.device), EmpiricalScore(X, device=arguments.device)
    rng = np.random.default_rng(3)
    own, noise = rng.integers(P, size=B), rng.standard_normal((B, N))
    base, t = X[own].astype(np.float64), np.geomspace(1e-4, 1e3, 40)
    both = torch.from_numpy(np.concatenate([base, noise])).to(Y)
    E.noisy_profile(base[:4], noise[:4], t, own=own[:4])
    ratios = []
    for _ in range(arguments.repeats):
        reference = timed(lambda: both @ Y.T, Y.device, tick)
        ratios.append(timed(lambda: E.noisy_profile(base, noise, t, own=own), Y.device, tick) / reference)
    print(
        f"\nnoisy_profile ({B}, {P}, {N}) float32, 40 levels: {statistics.median(ratios):.2f} x its two bare products",
        flush=True,
    )


def data(kind: str, P: int, N: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    if kind == "isotropic":
        return rng.standard_normal((P, N), dtype=np.float32)
    latent = (
        rng.standard_normal((P, 12), dtype=np.float32)
        @ rng.standard_normal((12, N), dtype=np.float32)
        / np.float32(12**0.5)
    )
    return latent + np.float32(0.01) * rng.standard_normal((P, N), dtype=np.float32)


def queries(X: np.ndarray, B: int, t: float) -> np.ndarray:
    rng = np.random.default_rng(1)
    return X[rng.integers(len(X), size=B)] + np.sqrt(t) * rng.standard_normal((B, X.shape[1]))


def brute(X: np.ndarray, x: np.ndarray, t: float) -> np.ndarray:
    score = []
    for q in x:
        d = X.astype(np.float64) - q
        exponent = -np.einsum("pn,pn->p", d, d) / (2 * t)
        w = np.exp(exponent - exponent.max())
        score.append(w @ d / w.sum() / t)
    return np.array(score)


def worst(found: np.ndarray, exact: np.ndarray) -> float:
    return float((np.linalg.norm(found[: len(exact)] - exact, axis=1) / np.linalg.norm(exact, axis=1)).max())


if __name__ == "__main__":
    main()
