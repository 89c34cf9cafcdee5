"""Cost of `point_collapse_times` against P: processor seconds, share of points looked at, error of one point.

    python benchmarks/bench_points.py KIND P [P ...] [--rows Q] [--data cifar.npz]

KIND: `isotropic` (64 independent numbers), `manifold` (64 numbers on a curved manifold of 6 dimensions), or `images` (a Gaussian
with the covariance of the images of an .npz, 3072 numbers for CIFAR-10). With `--rows` only so many points are asked for, while
all compete: the cost is proportional to them. Neighbours and duplicates, found before, are timed apart.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from validation.data import find_duplicates
from validation.points import point_collapse_times


def sample(kind: str, P: int, data: str | None) -> np.ndarray:
    """(P, N) float32."""
    rng = np.random.default_rng(0)
    if kind == "isotropic":
        return rng.standard_normal((P, 64), dtype=np.float32)
    if kind == "manifold":
        mixing = rng.standard_normal((6, 64)).astype(np.float32) / 6**0.5
        latent = rng.standard_normal((P, 6), dtype=np.float32)
        return np.tanh(latent @ mixing) + 0.01 * rng.standard_normal((P, 64), dtype=np.float32)
    with np.load(data) as archive:
        images = archive["images"].reshape(len(archive["images"]), -1) / np.float32(127.5) - 1
    images -= images.mean(axis=0)
    blocks = (min(5000, P - a) for a in range(0, P, 5000))
    return np.concatenate(
        [rng.standard_normal((n, len(images)), dtype=np.float32) @ images / len(images) ** 0.5 for n in blocks]
    )


def main() -> None:
    """Print one line a size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("isotropic", "manifold", "images"))
    parser.add_argument("sizes", type=int, nargs="+")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--data")
    options = parser.parse_args()
    for P in options.sizes:
        X = sample(options.kind, P, options.data)
        start = time.process_time()
        duplicates = find_duplicates(X)
        before = time.process_time()
        rows = None if options.rows is None else np.arange(min(options.rows, P))
        found = point_collapse_times(X, rows=rows, duplicates=duplicates)
        spent = time.process_time() - before
        error = float(np.nanmedian(found.t_c_error / found.t_c))
        print(
            f"{options.kind} P = {P} N = {X.shape[1]}: {len(found.point)} points in {spent:.1f} s of processor time (neighbours "
            f"{before - start:.1f} s); looked at {float(found.visited.mean()):.1%}; error of t_c {error:.1%}; median sigma "
            f"{float(np.nanmedian(found.sigma)):.3g}",
            flush=True,
        )


if __name__ == "__main__":
    main()
