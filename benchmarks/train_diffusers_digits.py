"""A class-conditional pipeline trained with diffusers' own loop on digits of 32 x 32 pixels, for the commands to measure.

    python benchmarks/train_diffusers_digits.py --out digits32 --steps 800
    geomem audit digits32/class3.npy --model digits32/pipeline --class 3
    geomem spectrum --model digits32/pipeline --class 3 --samples digits32/samples3.npy --limit 8 --points 3 --out signals.png
    geomem samples digits32/samples3.npy --train digits32/images.npy --test digits32/fresh.npy --out copies

With `--data FILE` images of one's own, `--pool 2` averaged over squares, `--no-attention` without self-attention, unconditional:

    python benchmarks/train_diffusers_digits.py --out mnist14 --data mnist10k.npz --pool 2 --images 1000 --steps 2500

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

from validation.training import points


def images_of(size: int, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Training images (count, 1, size, size) in [-1, 1] with their labels, and images kept back."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.images))
    pixels = torch.from_numpy(digits.images[order]).float()[:, None] / 8 - 1
    large = torch.nn.functional.interpolate(pixels, size=(size, size), mode="bilinear")
    labels = torch.from_numpy(digits.target[order])
    return large[:count], labels[:count], large[count : count + 300]


def own_images(path: str, pool: int, count: int, seed: int) -> tuple[torch.Tensor, None, torch.Tensor]:
    """Training images (count, C, H, W) in [-1, 1] of a file, and a thousand others."""
    X = torch.nn.functional.avg_pool2d(points({"data": path, "seed": seed}).X.float(), pool)
    X = (X - X.min()) / (X.max() - X.min()) * 2 - 1
    return X[:count], None, X[count : count + 1000]


def train(
    images: torch.Tensor, labels: torch.Tensor | None, steps: int, batch: int, seed: int, attention: bool = True
) -> tuple:
    """The averaged network and its scheduler."""
    levels = 3 if images.shape[-1] % 4 == 0 else 2  # the size is halved between levels
    at_last = "Attn" if attention else ""
    torch.manual_seed(seed)
    net = diffusers.UNet2DModel(
        sample_size=images.shape[-1],
        in_channels=images.shape[1],
        out_channels=images.shape[1],
        layers_per_block=1,
        block_out_channels=(16, 32, 32)[:levels] if labels is not None else (24, 48, 48)[:levels],
        down_block_types=(*["DownBlock2D"] * (levels - 1), f"{at_last}DownBlock2D"),
        up_block_types=(f"{at_last}UpBlock2D", *["UpBlock2D"] * (levels - 1)),
        norm_num_groups=8,
        num_class_embeds=None if labels is None else 10,
        add_attention=attention,
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
        answer = net(noisy, at) if labels is None else net(noisy, at, labels[rows])
        loss = torch.nn.functional.mse_loss(answer.sample, noise)
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
def sample(net, scheduler, label: int | None, count: int, steps: int, seed: int) -> torch.Tensor:
    """(count, C, H, W) by DDIM, of one class where there are classes."""
    ddim = diffusers.DDIMScheduler.from_config(scheduler.config, clip_sample=True)
    ddim.set_timesteps(steps)
    size = net.config.sample_size
    x = torch.randn(count, net.config.in_channels, size, size, generator=torch.Generator().manual_seed(seed))
    labels = () if label is None else (torch.full((count,), label),)
    for at in ddim.timesteps:
        x = ddim.step(net(x, at, *labels).sample, at, x).prev_sample
    return x.clamp(-1, 1)


def main() -> None:
    """Trains, samples and saves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("digits32"))
    parser.add_argument("--data", help="images of one's own; without it digits of --size")
    parser.add_argument("--pool", type=int, default=1)
    parser.add_argument("--no-attention", action="store_true")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--images", type=int, default=600, help="training images")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--label", type=int, default=3, help="class that is sampled")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.data:
        images, labels, fresh = own_images(options.data, options.pool, options.images, options.seed)
    else:
        images, labels, fresh = images_of(options.size, options.images, options.seed)
    net, scheduler = train(images, labels, options.steps, options.batch, options.seed, not options.no_attention)
    made = sample(net, scheduler, None if labels is None else options.label, options.samples, 50, options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    diffusers.DDPMPipeline(net, scheduler).save_pretrained(options.out / "pipeline")
    saved = {"images": images, "fresh": fresh}
    if labels is None:
        saved["samples"] = made
    else:
        saved |= {f"class{options.label}": images[labels == options.label], f"samples{options.label}": made}
    for name, pixels in saved.items():
        np.save(options.out / f"{name}.npy", pixels.numpy())
    print(f"wrote {options.out}: pipeline, " + ", ".join(f"{len(pixels)} {name}" for name, pixels in saved.items()))


if __name__ == "__main__":
    main()
