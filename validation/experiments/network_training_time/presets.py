"""Sizes, widths and optimisers of networks whose training times are measured, and how they train."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from validation.training import NoiseLevels, TrainingConfig

__all__ = ["MLP", "PRESETS", "UNET", "Preset"]

MLP, UNET = {"kind": "mlp", "blocks": 2}, {"kind": "unet", "blocks": 1, "levels": 2}


@dataclass(frozen=True)
class Preset:
    """Sizes, widths, optimisers with their rates, and how long and on what they train.

    level : index of the noise level whose times are judged, of `levels` over the range of noise
    checks, first : number of steps at which losses are taken, and the first of them (default a hundredth of the run); a time
        before `first` is not seen
    warmup : steps in which the rate grows; keep it short against the times that are measured
    """

    name: str
    sizes: tuple[int, ...]
    widths: tuple[int, ...]
    optimizers: tuple[tuple[str, float], ...]
    steps: int
    replicas: int
    network: dict[str, Any] = field(default_factory=lambda: dict(MLP))
    batch: int = 64
    noise: tuple[float, float] = (0.1, 3.0)
    levels: int = 6
    level: int = 1
    samples: int = 64
    checks: int = 48
    first: int | None = None
    warmup: int = 20

    def config(self, optimizer: str, rate: float) -> TrainingConfig:
        return TrainingConfig(
            self.steps,
            self.batch,
            rate,
            warmup=self.warmup,
            ema=0.95,
            noise=NoiseLevels(*self.noise),
            optimizer=optimizer,
            precision="float32",
        )


PRESETS = {
    "quick": Preset(
        "quick", (32, 64, 128), (48, 96, 192), (("adam", 3e-3), ("sgd", 0.5)), 2000, 2, checks=80, first=1, warmup=2
    ),
    "full": Preset(
        "full",
        (32, 64, 128, 256),
        (64, 128, 256),
        (("adam", 2e-3), ("sgd", 0.3)),
        12_000,
        3,
        samples=200,
        checks=100,
        first=1,
        warmup=2,
    ),
    "full on cuda": Preset(
        "full on cuda",
        (128, 256, 512, 1024, 2048, 4096),
        (128, 256, 512),
        (("adam", 1e-3), ("sgd", 0.3)),
        200_000,
        3,
        batch=256,
        samples=500,
        checks=128,
        first=1,
        warmup=2,
    ),
}
