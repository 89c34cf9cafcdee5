"""What a training run is, in one frozen record that goes into its checkpoint: steps, batch, rates, noise, precision."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from numerics.domain import DomainError, integer, positive
from validation.training.noise_levels import NoiseLevels

__all__ = ["TrainingConfig"]

PRECISIONS = ("auto", "float32", "float64", "bfloat16")
OPTIMIZERS = ("adam", "muon", "sgd")


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    Parameters
    ----------
    steps : optimiser steps in all; batch : points a step and member
    learning_rate : of Adam or SGD, reached after `warmup` steps, kept to the fraction `decay_from` of steps, then a cosine to 0
    betas : of Adam; ema : decay of the averaged weights, (k+1)/(k+10) while that is smaller
    noise : `NoiseLevels`
    precision : "float32", "float64", "bfloat16" (autocast of the hidden layers; weights stay float32) or "auto", which is
        bfloat16 on cuda and float32 elsewhere
    optimizer : "adam", or "muon": `validation.training.muon` for the hidden matrices of an MLP or the kernels inside a U-Net, at
        `matrix_rate` with the same warm-up and decay, and Adam for the rest; "sgd" is plain gradient descent on batches, without
        momentum

    >>> TrainingConfig(steps=100, warmup=10, learning_rate=1.0).rate(9)
    1.0
    """

    steps: int = 10_000
    batch: int = 128
    learning_rate: float = 2e-3
    warmup: int = 200
    decay_from: float = 0.3
    betas: tuple[float, float] = (0.9, 0.99)
    ema: float = 0.999
    noise: NoiseLevels = field(default_factory=NoiseLevels)
    precision: str = "auto"
    optimizer: str = "adam"
    matrix_rate: float = 0.01

    def __post_init__(self):
        for name, least in (("steps", 1), ("batch", 1), ("warmup", 0)):
            object.__setattr__(self, name, integer(name, getattr(self, name), minimum=least))
        positive("learning_rate", self.learning_rate), positive("matrix_rate", self.matrix_rate)
        if self.optimizer not in OPTIMIZERS:
            raise DomainError("optimizer", self.optimizer, ", ".join(map(repr, OPTIMIZERS)))
        object.__setattr__(self, "betas", tuple(float(b) for b in self.betas))
        for name, value in (("decay_from", self.decay_from), ("ema", self.ema), *(("betas", b) for b in self.betas)):
            if not 0 <= value < 1:
                raise DomainError(name, value, "in [0, 1)")
        if self.precision not in PRECISIONS:
            raise DomainError("precision", self.precision, ", ".join(map(repr, PRECISIONS)))
        if isinstance(self.noise, dict):
            object.__setattr__(self, "noise", NoiseLevels(**self.noise))

    def rate(self, step: int) -> float:
        """The learning rate of one step, counted from 0."""
        return self.learning_rate * self.schedule(step)

    def schedule(self, step: int) -> float:
        """The part of its greatest value that a rate has at one step: warm-up, plateau, cosine."""
        start = self.decay_from * self.steps
        fall = 0.5 * (1 + math.cos(math.pi * (step - start) / (self.steps - start))) if step > start else 1.0
        return min(1.0, (step + 1) / max(self.warmup, 1)) * fall

    def clock(self, step: float) -> float:
        """Steps at the full rate that do as much as the first `step` ones, where warm-up is all that slows them.

        >>> TrainingConfig(warmup=100).clock(50), TrainingConfig(warmup=100).clock(300)
        (12.5, 250.0)
        """
        warm = max(self.warmup, 1)
        return step**2 / (2 * warm) if step < warm else step - warm / 2

    def step_at(self, clock: float) -> float:
        """The inverse of `clock`."""
        warm = max(self.warmup, 1)
        return math.sqrt(2 * warm * clock) if clock < warm / 2 else clock + warm / 2

    def decay(self, step: int) -> float:
        """The decay of the averaged weights after one step."""
        return min(self.ema, (step + 1) / (step + 10))

    def autocast(self, device: torch.device) -> bool:
        """Whether the hidden layers run in bfloat16 on this device."""
        return self.precision == "bfloat16" or (self.precision == "auto" and device.type == "cuda")

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and data."""
        return torch.float64 if self.precision == "float64" else torch.float32

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, from which the same record can be built."""
        return asdict(self) | {"betas": list(self.betas)}
