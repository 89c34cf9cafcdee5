"""An online log-sum-exp: Boltzmann sums at many temperatures over patterns that stream past tile by tile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

__all__ = ["DTYPES", "LogSumExp"]

_LOG2E = float(np.log2(np.e))
_FLOOR = {torch.float32: -120.0, torch.float64: -1000.0}  # exponents of 2, above the denormal numbers, which are slow
DTYPES = tuple(_FLOOR)


class LogSumExp:
    r"""Online :math:`\log\sum_\mu e^{a_kA_\mu+b_kB_\mu}` over tiles of patterns, for every k of a grid and every query.

    Keeps the running maximum, the sum relative to it and, on request, the sum of squares (for the participation).
    Terms smaller than 2^-120 (float32) or 2^-1000 of the largest are raised to that: denormals would slow it 20-fold.
    """

    def __init__(
        self,
        a: Sequence[float],
        b: Sequence[float],
        shape: Sequence[int],
        device: torch.device,
        dtype: torch.dtype = torch.float64,
        *,
        squares: bool = False,
    ):
        self.a, self.b = [x * _LOG2E for x in a], [x * _LOG2E for x in b]
        state = (len(self.a), *shape)
        self.top = torch.full(state, -torch.inf, device=device, dtype=torch.float64)
        self.sum = torch.zeros(state, device=device, dtype=torch.float64)
        self.squares = torch.zeros(state, device=device, dtype=torch.float64) if squares else None
        self._tile = [torch.empty(state, device=device, dtype=dtype) for _ in range(2 + squares)]

    def update(self, A: torch.Tensor, B: torch.Tensor, buffer: torch.Tensor) -> None:
        """Add a tile: `A`, `B` and the scratch `buffer` of shape (..., tile)."""
        tops, sums, *squares = self._tile
        for k, (a, b) in enumerate(zip(self.a, self.b, strict=True)):
            torch.mul(A, a, out=buffer)
            if b:
                buffer.add_(B, alpha=b)
            torch.amax(buffer, -1, out=tops[k])
            buffer.sub_(tops[k].unsqueeze(-1)).clamp_min_(_FLOOR[buffer.dtype]).exp2_()
            torch.sum(buffer, -1, out=sums[k])
            if squares:
                torch.linalg.vector_norm(buffer, dim=-1, out=squares[0][k])
        tile_top = tops.double()
        top = torch.maximum(self.top, tile_top)
        old, new = torch.exp2(self.top - top), torch.exp2(tile_top - top)
        self.sum.mul_(old).add_(sums.double().mul_(new))
        if squares:
            self.squares.mul_(old.square_()).add_(squares[0].double().mul_(new).square_())
        self.top = top

    def log(self) -> torch.Tensor:
        """Natural log of the sums, shape (grid, ...)."""
        return (self.top + torch.log2(self.sum)) / _LOG2E

    def log_squares(self) -> torch.Tensor:
        """Natural log of the sums of squared terms, shape (grid, ...)."""
        return (2 * self.top + torch.log2(self.squares)) / _LOG2E
