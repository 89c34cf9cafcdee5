"""The noise level as a network sees it: sines and cosines of c_noise = log(sigma)/4 over three octaves and more."""

from __future__ import annotations

import math

import torch
from torch import nn

from numerics.domain import DomainError, integer

__all__ = ["NoiseFeatures"]


class NoiseFeatures(nn.Module):
    """cos and sin of c_noise at frequencies in geometric progression from 1/4 turn to `highest` turns a unit, (..., features).

    Frequencies are fixed, not drawn: c_noise runs over two units from sigma = 0.002 to 10, and what a denoiser must do
    changes smoothly with log sigma.

    >>> NoiseFeatures(8)(torch.zeros(3)).shape
    torch.Size([3, 8])
    """

    def __init__(self, features: int = 32, highest: float = 4.0):
        super().__init__()
        if integer("features", features, minimum=4) % 2:
            raise DomainError("features", features, "even")
        turns = torch.logspace(math.log2(0.25), math.log2(highest), features // 2, base=2.0)
        self.register_buffer("frequencies", 2 * math.pi * turns, persistent=False)

    def forward(self, c_noise: torch.Tensor) -> torch.Tensor:
        angle = c_noise[..., None] * self.frequencies
        return torch.cat([angle.cos(), angle.sin()], dim=-1)
