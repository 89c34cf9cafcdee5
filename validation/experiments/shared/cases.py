"""What is simulated: a model at a load, over sizes N, with as many training points as the load asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Case", "PlantedCase"]


@dataclass(frozen=True)
class Case:
    """A model, a load, and the sizes at which it is simulated, ascending; every latent dimension an integer.

    >>> Case("a, b=1", None, 0.2, (20,)).patterns(20)
    55
    """

    label: str
    model: Any
    alpha: float
    sizes: tuple[int, ...]

    def patterns(self, N: int) -> int:
        """Number of training points, e^{alpha N} rounded."""
        return round(math.exp(self.alpha * N))

    def checkpoint(self, folder: Path | None, N: int) -> Path | None:
        """Where the results of one size are kept below `folder`."""
        if folder is None:
            return None
        name = "".join(c if c.isalnum() or c in ".-" else "_" for c in self.label)
        return folder / "checkpoints" / f"{name}_N{N}.npz"


@dataclass(frozen=True)
class PlantedCase(Case):
    """The same where the point that a query comes from is one of the training points."""

    def patterns(self, N: int) -> int:
        """Number of training points: e^{alpha N} competitors, rounded, and the true one."""
        return super().patterns(N) + 1
