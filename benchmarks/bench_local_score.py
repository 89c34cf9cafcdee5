"""Local scores against the two bare matrix products of the same patches: time, pairs a second, and error.

    python benchmarks/bench_local_score.py --data mnist10k.npz --patch 7
    python benchmarks/bench_local_score.py --data cifar10_10k.npz --patch 7 --queries 64

Bare products: queries times patches, and weights times patches, in float32 by torch, for one place (LS) or one query image
(ELS), times their number. Without `--data`, scikit-learn's digits. Times are processor seconds over all threads.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
import torch

from validation.score.local import LocalScore, all_patches, pad
from validation.training import points


def images_of(path: str | None) -> torch.Tensor:
    """(P, C, H, W) images in [-1, 1]."""
    if path is None:
        from sklearn.datasets import load_digits

        return torch.from_numpy(load_digits().images).float()[:, None] / 8 - 1
    X = points({"data": path, "seed": 0}).X.float()
    return (X - X.min()) / (X.max() - X.min()) * 2 - 1


def bare(images: torch.Tensor, width: int, rows: int, columns: int) -> float:
    """Processor seconds of the two products of `rows` queries with `columns` patches, measured on a part of the patches."""
    patches = all_patches(pad(images[: max(1, 20_000 // images[0, 0].numel())], width // 2, "zero"), width)
    patches = patches.reshape(-1, patches.shape[-1])
    queries = patches[torch.arange(min(rows, 784)) % len(patches)].contiguous()
    part = patches.repeat(max(1, 16384 // len(patches)), 1)[:16384].contiguous()
    weights = torch.rand(len(queries), len(part))
    out, mean = torch.empty(len(queries), len(part)), torch.empty(len(queries), part.shape[1])
    seconds = []
    for _ in range(5):
        start = time.process_time()
        torch.mm(queries, part.T, out=out)
        torch.mm(weights, part, out=mean)
        seconds.append(time.process_time() - start)
    return sorted(seconds)[2] * rows / len(queries) * columns / len(part)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--patch", type=int, default=7)
    parser.add_argument("--queries", type=int, default=256)
    parser.add_argument(
        "--els-queries", type=int, default=2, help="ELS has as many pairs for one query as LS for H W of them"
    )
    parser.add_argument("--t", type=float, nargs="*", default=[1e-4, 1e-2, 0.1, 1.0, 10.0])
    parser.add_argument("--methods", nargs="*", default=["boxes", "products"])
    options = parser.parse_args()
    X = images_of(options.data)
    P, C, H, W = X.shape
    places, rng = H * W, np.random.default_rng(0)
    print(f"{P} images of {C} x {H} x {W}, patch {options.patch}, {torch.get_num_threads()} threads")
    for kind, count in (("LS", options.queries), ("ELS", options.els_queries)):
        equivariant = kind == "ELS"
        pairs = count * places * P * (places if equivariant else 1)
        rows, columns = (places * count, places * P) if equivariant else (count, P)
        reference = bare(X, options.patch, rows, columns) * (1 if equivariant else places)
        print(f"{kind}, {count} queries, {pairs:.2e} pairs: bare products {reference:.2f} s")
        for t in options.t:
            x = (
                X[rng.integers(0, P, count)]
                + math.sqrt(t) * torch.from_numpy(rng.normal(size=(count, C, H, W))).float()
            )
            answers = {}
            for method in options.methods:
                score = LocalScore(X, options.patch, equivariant, method=method)
                if not equivariant:
                    score.denoise(x[:1], t)  # compiled
                start, begun = time.process_time(), time.perf_counter()
                answers[method] = score.score(x, t)
                spent, passed = time.process_time() - start, time.perf_counter() - begun
                print(
                    f"  t = {t:<8g} {method:9s} {spent:8.2f} s ({passed:.2f} s passed), "
                    f"{spent / reference:5.2f} of the bare products, {pairs / spent / 1e9:.2f} G pairs/s"
                )
            if len(answers) == 2:
                difference = (answers["boxes"] - answers["products"]).abs().max() * math.sqrt(t)
                print(f"  largest difference of sqrt(t) score: {difference:.1e}")


if __name__ == "__main__":
    main()
