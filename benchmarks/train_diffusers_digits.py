"""A class-conditional pipeline trained with diffusers' own loop on digits of 32 x 32 pixels, for the commands to measure.

    python benchmarks/train_diffusers_digits.py --out digits32 --steps 800
    geomem audit digits32/class3.npy --model digits32/pipeline --class 3
    geomem spectrum --model digits32/pipeline --class 3 --samples digits32/samples3.npy --limit 8 --points 3 --out signals.png
    geomem samples digits32/samples3.npy --train digits32/images.npy --test digits32/fresh.npy --out copies

The loop is that of the package's training scripts: `add_noise`, squared error of the noise, AdamW, a cosine schedule with
warm-up, an exponential average of the weights. Minutes on two cores.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import diffusers
import numpy as np
import torch
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from sklearn.datasets import load_digits


def images_of(size: int, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Training images (count, 1, size, size) in [-1, 1] with their labels, and images kept back."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.images))
    pixels = torch.from_numpy(digits.images[order]).float()[:, None] / 8 - 1
    large = torch.nn.functional.interpolate(pixels, size=(size, size), mode="bilinear")
    labels = torch.from_numpy(digits.target[order])
    return large[:count], labels[:count], large[count : count + 300]


def train(images: torch.Tensor, labels: torch.Tensor, steps: int, batch: int, seed: int) -> tuple:
    """The averaged network and its scheduler."""
    torch.manual_seed(seed)
    net = diffusers.UNet2DModel(
        sample_size=images.shape[-1],
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(16, 32, 32),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        num_class_embeds=10,
    )
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
    average = EMAModel(net.parameters(), decay=0.999, use_ema_warmup=True, power=0.75)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-6)
    rate = get_cosine_schedule_with_warmup(optimiser, steps // 20, steps)
    start = time.monotonic()
    for step in range(steps):
        rows = torch.randint(len(images), (batch,))
        noise, at = torch.randn(batch, *images.shape[1:]), torch.randint(1000, (batch,))
        noisy = scheduler.add_noise(images[rows], noise, at)
        loss = torch.nn.functional.mse_loss(net(noisy, at, labels[rows]).sample, noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        rate.step()
        optimiser.zero_grad()
        average.step(net.parameters())
        if step % 50 == 0:
            print(f"step {step} of {steps}: loss {loss.item():.3f}, {time.monotonic() - start:.0f} s", file=sys.stderr)
    average.copy_to(net.parameters())
    return net.eval(), scheduler


@torch.no_grad()
def sample(net, scheduler, label: int, count: int, steps: int, seed: int) -> torch.Tensor:
    """(count, 1, H, W) of one class by DDIM."""
    ddim = diffusers.DDIMScheduler.from_config(scheduler.config, clip_sample=True)
    ddim.set_timesteps(steps)
    size = net.config.sample_size
    x = torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(seed))
    labels = torch.full((count,), label)
    for at in ddim.timesteps:
        x = ddim.step(net(x, at, labels).sample, at, x).prev_sample
    return x.clamp(-1, 1)


def main() -> None:
    """Trains, samples and saves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("digits32"))
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--images", type=int, default=600, help="training images")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--label", type=int, default=3, help="class that is sampled")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    images, labels, fresh = images_of(options.size, options.images, options.seed)
    net, scheduler = train(images, labels, options.steps, options.batch, options.seed)
    made = sample(net, scheduler, options.label, options.samples, 50, options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    diffusers.DDPMPipeline(net, scheduler).save_pretrained(options.out / "pipeline")
    own = images[labels == options.label]
    for name, pixels in (
        ("images", images),
        ("fresh", fresh),
        (f"class{options.label}", own),
        (f"samples{options.label}", made),
    ):
        np.save(options.out / f"{name}.npy", pixels.numpy())
    print(
        f"wrote {options.out}: pipeline, {len(images)} images ({len(own)} of class {options.label}), {len(made)} samples"
    )


if __name__ == "__main__":
    main()
