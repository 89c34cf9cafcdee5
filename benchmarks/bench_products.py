"""Time, products and peak memory of spectra without matrices, on a UNet of diffusers with random weights of any size.

python benchmarks/bench_products.py --save unet-32 --size 32             # a pipeline's folder, and images to go with it
geomem spectrum unet-32/images.npy --model unet-32 --points 6 --probes 4 --centre 0 --unit 1 --out cifar.png
python benchmarks/bench_products.py --size 64                             # dimension, density, directions at N = 12 288
python benchmarks/bench_products.py --size 256 --points 1 --probes 2 --steps 4 --k 1   # N = 196 608
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import diffusers
import numpy as np
import torch

from validation.networks import DiffusersScore
from validation.spectra import effective_dimension, leading_directions, spectral_density


def unet(size: int, channels: int) -> diffusers.UNet2DModel:
    """Three levels, attention at the lowest, group norms: small, and of the parts that pixel UNets have."""
    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=1,
        block_out_channels=(16, 32, 32),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D" if size <= 64 else "DownBlock2D"),
        up_block_types=("AttnUpBlock2D" if size <= 64 else "UpBlock2D", "UpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        add_attention=size <= 64,
    ).eval()


def images(count: int, size: int, channels: int) -> np.ndarray:
    """(count, channels, size, size) Gaussian fields with a 1/k^2 spectrum, in [-1, 1]."""
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(size, 1 / size), np.fft.fftfreq(size, 1 / size)))
    field = np.random.default_rng(0).standard_normal((count, channels, size, size))
    smooth = np.fft.ifft2(np.fft.fft2(field) / np.maximum(k, 1)).real
    return (smooth / np.abs(smooth).max(axis=(1, 2, 3), keepdims=True)).astype(np.float32)


def main() -> None:
    """Saves a pipeline, or measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--points", type=int, default=4)
    parser.add_argument("--probes", type=int, default=4)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--sigma", type=float, default=0.3)
    options = parser.parse_args()
    net, scheduler = unet(options.size, options.channels), diffusers.DDPMScheduler()
    x = images(options.points, options.size, options.channels)
    if options.save:
        diffusers.DDPMPipeline(net, scheduler).save_pretrained(options.save)
        np.save(options.save / "images.npy", images(600, options.size, options.channels))
        return
    face = DiffusersScore(net, scheduler)
    face.differentiation.chunk = max(1, (1 << 14) // x[0].size)
    t = options.sigma**2
    points = torch.from_numpy(x.reshape(len(x), -1).astype(np.float64))
    points = points + options.sigma * torch.randn(
        points.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    print("quantity,N,points,products,method,seconds,cpu_seconds,peak_MB,value", flush=True)
    for name, measure in (
        ("dimension", lambda: effective_dimension(face, points, t, probes=options.probes)),
        ("density", lambda: spectral_density(face, points, t, steps=options.steps, probes=2)),
        ("directions", lambda: leading_directions(face, points[:1], t, options.k, tolerance=1e-3)),
    ):
        wall, cpu = time.perf_counter(), time.process_time()
        found = measure()
        value = {"dimension": "mean", "density": "kept", "directions": "value"}[name]
        spent = f"{time.perf_counter() - wall:.1f},{time.process_time() - cpu:.1f}"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        shown = " ".join(f"{v:.4g}" for v in np.ravel(found[value])[:4])
        about = f"{points.shape[1]},{len(points)},{found.attrs['products']},{found.attrs['method']}"
        print(f"{name},{about},{spent},{peak:.0f},{shown}", flush=True)


if __name__ == "__main__":
    main()
