r"""Which noise levels a network is trained on: quantile functions of sigma, log-uniform by default.

EDM's own choice, a log-normal around sigma = 0.3, spends 0.2 % of its draws below sigma = 0.01; there dimensions are lost. A
log-uniform density spends as much on every octave, and with the weight 1/c_out^2 every level starts at loss 1.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

from numerics.domain import DomainError, finite, positive

__all__ = ["NoiseLevels"]


@dataclass(frozen=True)
class NoiseLevels:
    """A density of noise levels.

    Parameters
    ----------
    sigma_min, sigma_max : data units, 0 < sigma_min < sigma_max; the range that is learned
    density : "log-uniform", or "log-normal" with `mean` and `spread` of log sigma (cut to the range)

    >>> NoiseLevels(0.01, 1.0).quantile(torch.tensor([0.0, 0.5, 1.0])).round(decimals=6).tolist()
    [0.009999999776482582, 0.10000000149011612, 1.0]
    """

    sigma_min: float = 0.002
    sigma_max: float = 10.0
    density: str = "log-uniform"
    mean: float = -1.2
    spread: float = 1.2

    def __post_init__(self):
        low, high = (float(positive(n, getattr(self, n))) for n in ("sigma_min", "sigma_max"))
        if not low < high:
            raise DomainError("sigma_min, sigma_max", (low, high), "0 < sigma_min < sigma_max")
        if self.density not in ("log-uniform", "log-normal"):
            raise DomainError("density", self.density, '"log-uniform" or "log-normal"')
        finite("mean", self.mean), positive("spread", self.spread)

    def quantile(self, u: torch.Tensor) -> torch.Tensor:
        """sigma at which the distribution function is u, for u in [0, 1]."""
        low, high = math.log(self.sigma_min), math.log(self.sigma_max)
        if self.density == "log-uniform":
            return (low + u * (high - low)).exp()
        ends = torch.tensor([(low - self.mean) / self.spread, (high - self.mean) / self.spread], dtype=u.dtype)
        below, above = torch.special.ndtr(ends).tolist()
        return (
            (self.mean + self.spread * torch.special.ndtri(below + u * (above - below)))
            .exp()
            .clamp(self.sigma_min, self.sigma_max)
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
