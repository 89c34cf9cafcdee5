"""Training a sweep: networks one after the other against one stack, model-steps per second, in one process.

python benchmarks/bench_training.py --threads 2
python benchmarks/bench_training.py --device cuda --members 16 --width 512 --batch 512
"""

from __future__ import annotations

import argparse
import copy
import time

import torch

from validation.networks import build
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


def vmap_rate(members: int, width: int, batch: int, device: str, seconds: float) -> float:
    """Model-steps per second of the same networks, loss, Adam and average of weights, mapped by `torch.func.vmap`."""
    network = {"kind": "mlp", "width": width, "blocks": 3}
    data = torch.randn(members, 1000, 30, device=device)
    nets = [
        build(network, shape=(30,), scales=[(0.0, 1.0)], seeds=[m]).to(device, torch.float32) for m in range(members)
    ]
    parameters, buffers = torch.func.stack_module_state(nets)
    loss = _Loss(copy.deepcopy(nets[0]).to("meta"))

    def one(weights: dict, fixed: dict, clean: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        state = {f"denoiser.{name}": value for name, value in (weights | fixed).items()}
        return torch.func.functional_call(loss, state, (clean[None], noise[None], sigma[None]))[0]

    mapped, leaves = torch.func.vmap(one), list(parameters.values())
    adam, average = torch.optim.Adam(leaves, fused=True), [p.detach().clone() for p in leaves]
    each = torch.arange(members, device=device)[:, None]

    def step() -> None:
        clean = data[each, torch.randint(1000, (members, batch), device=device)]
        sigma = torch.empty(members, batch, device=device).uniform_(-4, 2).exp_()
        adam.zero_grad()
        mapped(parameters, buffers, clean, torch.randn_like(clean), sigma).sum().backward()
        adam.step()
        torch._foreach_lerp_(average, [p.detach() for p in leaves], 0.001)

    for _ in range(10):
        step()
    _wait(device)
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for _ in range(10):
            step()
        done += 10
        _wait(device)
    return members * done / (time.perf_counter() - start)


class _Loss(torch.nn.Module):
    """Mean squared residual of each member."""

    def __init__(self, denoiser: torch.nn.Module):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, clean: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return self.denoiser.residual(clean, noise, sigma).square().flatten(1).mean(dim=1)


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
