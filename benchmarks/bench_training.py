"""Training a sweep: networks one after the other against one stack, model-steps per second, in one process.

python benchmarks/bench_training.py --threads 2
python benchmarks/bench_training.py --device cuda --members 16 --width 512 --batch 512
"""

from __future__ import annotations

import argparse
import time

import torch

from validation.training import Trainer, TrainingConfig


def rate(members: int, width: int, batch: int, device: str, seconds: float) -> float:
    """Model-steps per second of a stack of so many networks."""
    data = [torch.randn(1000, 30) for _ in range(members)]
    network = {"kind": "mlp", "width": width, "blocks": 3}
    trainer = Trainer(data, network, TrainingConfig(steps=10**9, batch=batch, precision="float32"), device=device)
    trainer.run(until=20)
    _wait(device)
    start, first = time.perf_counter(), trainer.step
    while time.perf_counter() - start < seconds:
        trainer.run(until=trainer.step + 20)
        _wait(device)
    return members * (trainer.step - first) / (time.perf_counter() - start)


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--members", type=int, default=9)
    parser.add_argument("--width", type=int, nargs="*", default=[64, 128, 256])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for width in options.width:
        alone, stack = (rate(m, width, options.batch, options.device, options.seconds) for m in (1, options.members))
        print(
            f"width {width}, batch {options.batch}: alone {alone:.0f} model-steps/s, stack of {options.members} {stack:.0f}, "
            f"speed-up {stack / alone:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
