"""One function an entry of `python -m benchmarks`: this package beside its peers on the same problem, as rows of one table.

A row has the case, the peer, the seconds of both for the same amount of work, their ratio (how many times faster this package
is), and the error of both against a common reference. Seconds are medians, of the processor over all threads: what else a
machine does disturbs them least. A peer that is not installed has a row that says so.
"""

from __future__ import annotations

import importlib.util
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))  # the scripts beside this file import one another by their names

__all__ = ["ENTRIES", "Row"]


@dataclass(frozen=True)
class Row:
    """Seconds and error of this package (`ours`) and of a peer; errors of `quantity`, nan where none is known."""

    entry: str
    case: str
    peer: str
    ours: float
    theirs: float
    quantity: str = ""
    error_ours: float = math.nan
    error_theirs: float = math.nan
    note: str = ""

    @property
    def ratio(self) -> float:
        """How many times faster this package is."""
        return self.theirs / self.ours if self.ours > 0 else math.nan


def median_seconds(call: Callable[[], Any], repeats: int = 5) -> tuple[float, Any]:
    """Median of `repeats` calls after one that is not counted, and what the last returned."""
    seconds = []
    with (
        warnings.catch_warnings(),
        np.errstate(all="ignore"),
    ):  # some peers divide by zero where their grids are too coarse
        warnings.simplefilter("ignore")
        result = call()
        for _ in range(repeats):
            start = time.process_time()
            result = call()
            seconds.append(time.process_time() - start)
    return statistics.median(seconds), result


def absent(entry: str, case: str, peer: str) -> Row:
    """The row of a peer that cannot be had here."""
    return Row(entry, case, peer, math.nan, math.nan, note="not installed")


def linear_times(quick: bool) -> Iterator[Row]:
    """Collapse times of a linear manifold, seconds for a million loads."""
    import bench_linear_times as bench

    from theory import LinearManifold, collapse_time

    rng = np.random.default_rng(0)
    many = rng.uniform(1e-3, 3, 50_000 if quick else 1_000_000)
    model = LinearManifold(bench.ALPHA_D)
    ours, reference = median_seconds(lambda: collapse_time(model, many, log=True), 3)
    ours *= 1e6 / many.size
    for peer, function, n in (
        ("bisection in numpy", bench.by_bisection, many.size // 10),
        ("scipy brentq, closed form", bench.by_brentq, 200 if quick else 2000),
        ("scipy brentq on quad", bench.by_quadrature, 3 if quick else 20),
    ):
        theirs, value = median_seconds(lambda f=function, k=n: f(many[:k]), 1 if quick else 3)
        error = float(np.nanmax(np.abs(value - reference[:n])))
        yield Row(
            "linear times", "1e6 loads", peer, ours, theirs * 1e6 / n, "log t, ours as reference", math.nan, error
        )


def replica_saddle(quick: bool) -> Iterator[Row]:
    """One update of the saddle point of tanh on the Nishimori line, against numpy on a grid and nested quad."""
    import bench_replica as bench

    from numerics.channel import MATCHED
    from theory import HiddenManifold
    from theory.replica import ReplicaEngine

    engine, one = ReplicaEngine(HiddenManifold(0.5, "tanh")), np.ones(1)
    for t, q in ((0.574377, 0.4944948), (1e-2, 0.985), (1e-4, 0.9998), (1e-6, 0.999998)):
        V = 1 - q

        def kernel(q: float = q, V: float = V, t: float = t) -> float:
            return float(engine.channel.moments(q * one, one, V * one, V * one, one / t, t * one, MATCHED).f_square[0])

        ours, value = median_seconds(kernel, 20)
        for points in (61, 121, 241) if not quick else (61,):
            theirs, found = median_seconds(
                lambda n=points, q=q, t=t: bench.numpy_iteration(q, t, n)[0], 1 if quick else 3
            )
            yield Row(
                "replica saddle",
                f"t = {t:g}",
                f"numpy, {points} points an axis",
                ours,
                theirs,
                "relative E f^2, ours as reference",
                math.nan,
                abs(found / value - 1),
            )
        if not quick and t > 1e-3:
            theirs, found = median_seconds(lambda q=q, t=t: bench.scipy_iteration(q, t), 1)
            yield Row(
                "replica saddle",
                f"t = {t:g}",
                "nested scipy quad, 1e-6",
                ours,
                theirs,
                "relative E f^2, ours as reference",
                math.nan,
                abs(found / value - 1),
            )


def empirical_score(quick: bool) -> Iterator[Row]:
    """log Z and denoiser of the empirical score, isotropic points, float32, from condensed to spread weights."""
    import torch

    from validation import EmpiricalScore

    for N, P, B in ((64, 5000, 64),) if quick else ((64, 50_000, 256), (784, 50_000, 256)):
        rng = np.random.default_rng(0)
        X = torch.from_numpy(rng.standard_normal((P, N))).float()
        t_c = 1 / (P ** (2 / N) - 1)
        score = EmpiricalScore(X, dtype="float32")
        for share in (0.01, 1.0, 100.0):
            t = share * t_c
            x = X[:B] + math.sqrt(t) * torch.from_numpy(rng.standard_normal((B, N))).float()
            ours, log_z = median_seconds(lambda s=score, x=x, t=t: s.log_partition(x, t), 3)
            exact = _log_partition(x[:8].double(), X.double(), t)
            error = float((log_z[:8].double() - exact).abs().max())
            case = f"N = {N}, P = {P}, t = {share:g} t_c"
            for peer, call in _kernels(X, t):
                if call is None:
                    yield absent("empirical score", case, peer)
                    continue
                theirs, found = median_seconds(lambda c=call, x=x: c(x), 3)
                yield Row(
                    "empirical score",
                    case,
                    peer,
                    ours,
                    theirs,
                    "log Z",
                    error,
                    float(np.abs(np.asarray(found)[:8] - exact.numpy()).max()),
                )


def _log_partition(x: Any, X: Any, t: float) -> Any:
    import torch

    return torch.stack([torch.logsumexp(-(X - q).square().sum(dim=1) / (2 * t), dim=0) for q in x])


def _kernels(X: Any, t: float) -> Iterator[tuple[str, Callable[[Any], Any] | None]]:
    """Peers by name, each x -> log Z; None where one is not installed."""
    import torch

    N, half = X.shape[1], X.square().sum(dim=1) / 2

    def attention(x):
        keys = torch.cat([X, -half[:, None]], dim=1) / t
        keys = torch.nn.functional.pad(keys, (0, -keys.shape[1] % 8))[None, None]
        queries = torch.nn.functional.pad(torch.cat([x, torch.ones(len(x), 1)], dim=1), (0, -(N + 1) % 8))[None, None]
        lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(queries, keys, keys, scale=1.0)[1]
        return lse[0].reshape(-1) - x.square().sum(dim=1) / (2 * t)

    def distances(x):
        return torch.logsumexp(-torch.cdist(x, X).square() / (2 * t), dim=1)

    def products(x):
        return torch.logsumexp((x @ X.T - half) / t, dim=1) - x.square().sum(dim=1) / (2 * t)

    yield "torch, products and logsumexp", products
    yield "torch.cdist and logsumexp", distances
    yield "torch flash attention", attention
    if importlib.util.find_spec("faiss"):
        import faiss

        index = faiss.IndexFlatL2(N)
        index.add(X.numpy())

        def nearest(x):
            return torch.logsumexp(-torch.from_numpy(index.search(x.numpy(), 100)[0]) / (2 * t), dim=1)

        yield "faiss, nearest 100", nearest
    else:
        yield "faiss, nearest 100", None
    if importlib.util.find_spec("pykeops"):
        from pykeops.torch import LazyTensor

        def keops(x):
            return (-((LazyTensor(x[:, None]) - LazyTensor(X[None])) ** 2).sum(-1) / (2 * t)).logsumexp(dim=1)[:, 0]

        yield "KeOps", keops
    else:
        yield "KeOps", None


def spectra(quick: bool) -> Iterator[Row]:
    """Effective dimension of a network's score: random vectors against the whole Jacobian and frames of [AVSP24]."""
    import bench_effective_dimension as bench
    import torch

    from validation.spectra import effective_dimension, frame_spectrum

    for N in (64,) if quick else (64, 784, 3072):
        size, channels = bench.SIZES[N]
        face, t = bench.perturbed(size, channels), 0.09
        x = torch.from_numpy(bench.images(1, size, channels).reshape(1, -1).astype(np.float64))
        x = x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        repeats = 1 if N > 784 else 3
        ours, found = median_seconds(lambda f=face, x=x, t=t: effective_dimension(f, x, t, probes=8), repeats)
        theirs, J = median_seconds(lambda f=face, x=x, t=t: bench.jacobian(f, x, t), repeats)
        exact = N + t * float(J.trace())
        error = abs(float(found["dimension"][0, 0]) - exact)
        yield Row("spectra", f"d(t), N = {N}", "torch.func.jacrev, whole", ours, theirs, "dimension", error, 0.0)
        theirs, singular = median_seconds(lambda f=face, x=x, t=t: frame_spectrum(f, x, t, symmetric=True)[0], repeats)
        yield Row(
            "spectra",
            f"d(t), N = {N}",
            "frames, symmetrised",
            ours,
            theirs,
            "dimension",
            error,
            abs(N - float(singular.sum()) - exact),
        )


def finite_size(quick: bool) -> Iterator[Row]:
    """E log Z at real N and P: the contour integral against Monte Carlo, at the error of 1e-3 that both are asked for."""
    import bench_finite_size as bench

    rng = np.random.default_rng(0)
    for N, P in ((20, 10**3),) if quick else ((20, 10**3), (30, 10**4), (40, 10**5)):
        r = np.exp(rng.normal(-1.0, 1.0, N))
        s, p = r / 0.5, (r + 0.5) / 0.5 * rng.chisquare(1.0, N)
        ours, (value, error, _) = median_seconds(lambda s=s, p=p, P=P: bench.exact(s, p, math.log(P)))
        repetitions = max(3, min(200, int(2e8 / (P * N * 10))))
        mean, spread, each = bench.monte_carlo(s, p, P, rng, repetitions)
        theirs = (spread / bench.ERROR) ** 2 * each
        note = f"Monte Carlo is {abs(mean - value) / (spread / math.sqrt(repetitions)):.1f} of its errors off"
        yield Row(
            "finite size", f"N = {N}, P = {P}", "Monte Carlo, numpy", ours, theirs, "E log Z", error, bench.ERROR, note
        )


def stacks(quick: bool) -> Iterator[Row]:
    """Nine networks trained side by side: seconds for a thousand steps of each, against one after the other."""
    from bench_training import rate

    seconds = 0.3 if quick else 3.0
    for width in (64,) if quick else (64, 128, 256):
        one, stack = (rate(members, width, 128, "cpu", seconds) for members in (1, 9))
        yield Row("stacks", f"9 MLPs of width {width}", "one after the other", 9000 / stack, 9000 / one)


def start_up(quick: bool) -> Iterator[Row]:
    """Seconds of fresh processes; the peer is an interpreter that imports the same libraries and nothing of ours."""
    first = "from theory import LinearManifold, collapse_time; collapse_time(LinearManifold(0.5), 0.2)"
    libraries = "import numpy, scipy.special, sympy, numba"
    with tempfile.TemporaryDirectory() as cache:
        for case, code, peer, environment, repeats in (
            ("import theory", "import theory", libraries, {}, 3),
            ("first call, no kernels kept", first, libraries, {"GEOMEM_CACHE_DIR": cache}, 1),
            ("first call, kernels kept", first, libraries, {"GEOMEM_CACHE_DIR": cache}, 3),
            (
                "geomem --help",
                "import sys; sys.argv = ['geomem', '--help']; from geomem.__main__ import main; main()",
                "import typer, rich",
                {},
                3,
            ),
        ):
            ours, theirs = (_process(c, environment, 1 if quick else repeats) for c in (code, peer))
            yield Row("start-up", case, f"python -c '{peer}'", ours, theirs)


def _process(code: str, environment: dict[str, str], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        before = os.times()
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | environment, stdout=subprocess.DEVNULL, check=False
        )
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return statistics.median(seconds)


ENTRIES: dict[str, Callable[[bool], Iterator[Row]]] = {
    "linear-times": linear_times,
    "replica-saddle": replica_saddle,
    "empirical-score": empirical_score,
    "spectra": spectra,
    "finite-size": finite_size,
    "stacks": stacks,
    "start-up": start_up,
}
