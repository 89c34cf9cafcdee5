r"""Jacobians by central differences, with a step chosen by an error balance and an error that is measured.

    D(h) = [f(x + h e) - f(x - h e)]/2h,      R(h) = [4 D(h) - D(2h)]/3 = f' + O(h^4) + O(noise/h)

R(h) - R(2h) holds both errors: sixteen times the truncation of R(h), and its rounding. Followed down a ladder of steps along a
random direction it falls while truncation rules and grows once rounding does; the step is where it is least. Nothing need be
known of the precision in which f is computed inside. Source: Richardson's extrapolation; the balance as in Ridders (1982).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

__all__ = ["Function", "Slope", "central_jacobian", "random_direction", "slope"]

_HALVINGS = 28  # of the largest step: down to 4e-9 of it
_SAFETY = 2.0  # rounding is no independent noise; measured: R - R(2h) alone falls short of the error by up to 1.5 times
_CHANGED = 0.9  # below that share of the results that ever change, a step is lost in rounding

Function = Callable[[torch.Tensor], torch.Tensor]


class Slope(NamedTuple):
    """A directional derivative (N,), the norm of its error, and the step it was found with."""

    value: torch.Tensor
    error: float
    step: float


def slope(function: Function, x: torch.Tensor, direction: torch.Tensor, scale: float, chunk: int = 64) -> Slope:
    """The derivative of `function` (B, N) -> (B, N) at the point x (N,) along `direction` (N,), from steps of length <= scale.

    >>> x = torch.tensor([0.5, 1.0], dtype=torch.float64)
    >>> found = slope(torch.sin, x, torch.tensor([1.0, 0.0], dtype=torch.float64), 1.0)
    >>> abs(float(found.value[0] - x[0].cos())) < found.error < 1e-9
    True
    """
    steps = scale * 0.5 ** torch.arange(_HALVINGS, dtype=x.dtype, device=x.device)
    moves = steps[:, None] * direction
    D = _central(function, x, moves, chunk) / (2 * steps[:, None])
    R = (4 * D[1:] - D[:-1]) / 3  # R[k] at steps[k + 1]
    gap = torch.linalg.vector_norm(R[1:] - R[:-1], dim=1)  # gap[k] of steps[k + 2]
    rough = torch.maximum(gap, torch.cat([gap[:1], gap[:-1]]))  # two steps agree by chance, three hardly
    changed = (D != 0).sum(dim=1)[2:]
    lost = (changed < _CHANGED * changed.max()) | ~torch.isfinite(gap)
    k = int(torch.where(lost, torch.inf, rough).argmin())
    return Slope(R[k + 1], _SAFETY * float(rough[k]), float(steps[k + 2]))


def central_jacobian(function: Function, x: torch.Tensor, scale: float, chunk: int = 64) -> tuple[torch.Tensor, float]:
    """The Jacobian (N, N) of `function` at the point x (N,), and the Frobenius norm of its error, measured on all of it.

    Parameters
    ----------
    function : (B, N) -> (B, N), point by point; scale : length over which it may bend; chunk : points a call
    """
    step = slope(function, x, random_direction(x), scale, chunk).step
    basis = torch.eye(len(x), dtype=x.dtype, device=x.device)
    D = [_central(function, x, h * basis, chunk) / (2 * h) for h in (step, 2 * step, 4 * step)]
    R, coarse = (4 * D[0] - D[1]) / 3, (4 * D[1] - D[2]) / 3
    return R.mT, _SAFETY * float(torch.linalg.matrix_norm(R - coarse))


def random_direction(x: torch.Tensor) -> torch.Tensor:
    """(N,) of length 1, the same at every call and no draw from the global generator."""
    u = torch.randn(len(x), generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(x)
    return u / torch.linalg.vector_norm(u)


def _central(function: Function, x: torch.Tensor, moves: torch.Tensor, chunk: int) -> torch.Tensor:
    """function(x + move) - function(x - move) for each row of `moves`."""
    return torch.cat([function(x + part) - function(x - part) for part in moves.split(chunk)]).detach()
