"""Power and false alarms of `geomem samples` on ground truth: images that are copies, changed copies, or none.

    python benchmarks/bench_samples_power.py cifar.npz [--transforms] [--prdc]

The .npz holds arrays `images` and `test_images` (uint8, channels last). 2000 images are the training set, the test images are the
null, other images are fresh. `--prdc` adds precision, recall, density and coverage of the package prdc, where it is installed.
Prints one line a case: share called copies (and of the null), ratio rule, effective fraction, C_T, authenticity.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from itertools import pairwise

import numpy as np
import torch

from validation.samples import audit_samples
from validation.score import EmpiricalScore

TRAIN, SAMPLES, DRAWN = 2000, 300, 100


def ground_truth(train: np.ndarray, fresh: np.ndarray, shape: tuple[int, int, int], seed: int = 0):
    """(name, samples) of each case."""
    rng = np.random.default_rng(seed)
    known = train[rng.choice(len(train), SAMPLES, replace=False)]

    def images(x):
        return torch.from_numpy(np.ascontiguousarray(x)).reshape(-1, *shape)

    def rows(x):
        return x.reshape(len(x), -1).numpy()

    def noisy(x, sigma):
        return (x + sigma * rng.standard_normal(x.shape)).astype(np.float32)

    def blurred(x):
        room = torch.nn.functional.pad(images(x), (1, 1, 1, 1), mode="replicate")
        return rows(torch.nn.functional.avg_pool2d(room, 3, 1))

    def resized(x):
        small = torch.nn.functional.interpolate(images(x), scale_factor=0.5, mode="bilinear", antialias=True)
        return rows(torch.nn.functional.interpolate(small, size=shape[1:], mode="bilinear"))

    def mixed(share):
        copies = round(share * SAMPLES)
        return np.concatenate([noisy(known[:copies], 0.05), fresh[: SAMPLES - copies]])

    yield "held-out images", fresh
    yield "held-out, blurred 3 x 3", blurred(fresh)
    yield "held-out + noise 0.1", noisy(fresh, 0.1)
    yield "empirical score's own samples", reverse_diffusion(train, rng)
    yield "training images", known
    for sigma in (0.05, 0.1, 0.2, 0.3, 0.5):
        yield f"training + noise {sigma}", noisy(known, sigma)
    yield "training, blurred 3 x 3", blurred(known)
    yield "training, to half size and back", resized(known)
    yield "training, mirrored", rows(images(known).flip(-1))
    yield "training, shifted by 1", rows(images(known).roll(1, 3))
    yield "training, shifted by 2 and 2", rows(images(known).roll((2, 2), (2, 3)))
    yield "1 % copies", mixed(0.01)
    yield "10 % copies", mixed(0.1)
    yield "69 % copies", mixed(0.69)


def reverse_diffusion(train: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Samples of the training set's own score, by the probability flow from sigma = 80 to 0.1."""
    score = EmpiricalScore(train)
    sigmas = np.geomspace(80, 0.1, 24)
    x = sigmas[0] * rng.standard_normal((DRAWN, train.shape[1]))
    for high, low in pairwise(sigmas):
        x = x + (low - high) / high * (x - score.denoise(x, high**2))
    return x.astype(np.float32)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--transforms", action="store_true")
    parser.add_argument("--prdc", action="store_true")
    options = parser.parse_args()
    with np.load(options.data) as archive:
        every, test = (np.moveaxis(archive[name], -1, 1) / np.float32(127.5) - 1 for name in ("images", "test_images"))
    shape = every.shape[1:]
    flat = [part.reshape(len(part), -1) for part in (every[:TRAIN], every[-1000 : -1000 + SAMPLES], test)]
    train, fresh, held_out = flat
    for name, made in ground_truth(train, fresh, shape):
        found = audit_samples(made, train, held_out, shape=shape if options.transforms else None)
        line = (
            f"{name:32s} called {found.called.value:6.1%} (null {found.called_fresh.value:.1%})  ratio < 1/3 "
            f"{found.below.value:6.1%} ({found.below_fresh.value:.1%})  effective {found.effective:.2f} ± "
            f"{found.effective_error:.2f}  C_T {found.copying:6.1f}  authenticity {found.authentic.value:6.1%} "
            f"({found.authentic_fresh.value:.1%})"
        )
        if options.prdc:
            from prdc import compute_prdc

            with contextlib.redirect_stdout(io.StringIO()):
                other = compute_prdc(train.astype(float), made.astype(float), 5)
            line += "  " + ", ".join(f"{key} {value:.2f}" for key, value in other.items())
        print(line, flush=True)


if __name__ == "__main__":
    main()
