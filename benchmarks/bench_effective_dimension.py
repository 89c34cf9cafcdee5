"""Cost and error of effective dimension and spectrum: products, the dense Jacobian by `torch.func.jacrev`, frames of [AVSP24].

    python benchmarks/bench_effective_dimension.py --out docs/results/spectra/products.csv

The score of Gaussian fields with the spectrum 1/k^2, plus a fifth of what a UNet of diffusers with random weights says, at
N = 64, 784 and 3072, one point, sigma = 0.3. The reference is the dense Jacobian: the error of a dimension is its distance from
the trace, that of directions kept (eigenvalues below 1/2) from the eigenvalues' count.
Frames have no eigenvalues: directions kept are counted by their singular values, and the dimension is N less their sum.
"""

from __future__ import annotations

import argparse
import csv
import math
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import diffusers
import numpy as np
import torch

from validation.networks import DiffusersScore
from validation.spectra import AutogradScore, effective_dimension, frame_spectrum, spectral_density

try:
    from benchmarks.bench_products import images, unet
except ModuleNotFoundError:  # run as a script
    from bench_products import images, unet

SIZES = {64: (8, 1), 784: (28, 1), 3072: (32, 3)}


def perturbed(size: int, channels: int) -> AutogradScore:
    """s(x, t) = -(C + t)^-1 x + UNet/5, C diagonal in Fourier modes; the UNet in float32, as large networks are asked."""
    net = DiffusersScore(unet(size, channels), diffusers.DDPMScheduler())
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(size, 1 / size), np.fft.fftfreq(size, 1 / size)))
    power = torch.from_numpy(np.maximum(k, 1) ** -2.0)

    def score(x: torch.Tensor, t: float) -> torch.Tensor:
        modes = torch.fft.fft2(x.reshape(-1, channels, size, size))
        return -torch.fft.ifft2(modes / (power + t)).real.reshape(x.shape) + 0.2 * net.function(x, t)

    return AutogradScore(score, chunk=max(1, (1 << 14) // (channels * size**2)))


def jacobian(face: AutogradScore, x: torch.Tensor, t: float) -> torch.Tensor:
    """(N, N) by `torch.func.jacrev`, 64 rows at once, 8 of large ones: 64 of N = 3072 take 15 GB."""
    rows = 64 if x.shape[1] <= 1024 else 8
    with torch.enable_grad():
        return torch.func.jacrev(lambda y: face.function(y[None], t)[0], chunk_size=rows)(x[0]).detach().double()


def measured(N: int, frames: bool = True) -> Iterator[tuple]:
    """One row a method at this size, as they are made; the dense Jacobian after ours, since peak memory only grows."""
    size, channels = SIZES[N]
    face, t = perturbed(size, channels), 0.09
    generator = torch.Generator().manual_seed(1)
    x = torch.from_numpy(images(1, size, channels).reshape(1, -1).astype(np.float64))
    x = x + math.sqrt(t) * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    spectral_density(face, x, t, steps=1, probes=2)  # products are compared with quotients once, here
    found = []
    for probes in (8, 32):
        start = time.process_time()
        value = float(effective_dimension(face, x, t, probes=probes)["dimension"][0, 0])
        found.append((f"trace, {probes} random vectors", probes, time.process_time() - start, value, math.nan, peak()))
    start = time.process_time()
    density = spectral_density(face, x, t, steps=24, probes=4)
    count, spent = float(density["kept"][0]), time.process_time() - start
    found.append(("Lanczos, 4 vectors, 24 steps", density.attrs["products"], spent, math.nan, count, peak()))
    start = time.process_time()
    A = -t * jacobian(face, x, t)
    eigenvalues = torch.linalg.eigvalsh((A + A.T) / 2)
    exact, kept = N - float(A.trace()), int((eigenvalues < 0.5).sum())
    yield N, "dense, torch.func.jacrev", N, time.process_time() - start, exact, 0.0, kept, 0.0, peak()
    for name, products, spent, value, count, memory in found:
        yield N, name, products, spent, value, abs(value - exact), count, abs(count - kept), memory
    for symmetric in (False, True) if frames else ():
        start = time.process_time()
        singular = frame_spectrum(face, x, t, symmetric=symmetric)[0]
        value, count = N - float(singular.sum()), int((singular < 0.5).sum())
        spent = time.process_time() - start
        name = "frames of [AVSP24]" + (", symmetric" if symmetric else "")
        yield N, name, N * (1 + symmetric), spent, value, abs(value - exact), count, abs(count - kept), peak()


def peak() -> float:
    """Largest memory of the process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measures, and writes one row a method and size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("products.csv"))
    parser.add_argument("--sizes", default="64,784,3072")
    options = parser.parse_args()
    rows = []
    for N in map(int, options.sizes.split(",")):
        for row in measured(N):
            rows.append(row)
            written(rows, options.out)
            print(*row, sep=",", flush=True)


def written(rows: list[tuple], path: Path) -> None:
    """The table so far, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ("N", "method", "products", "cpu_seconds", "dimension", "error", "kept", "kept_error", "peak_MB")
        )
        writer.writerows([(n, m, p, *(f"{v:.4g}" for v in rest)) for n, m, p, *rest in rows])
    partial.replace(path)


if __name__ == "__main__":
    main()
