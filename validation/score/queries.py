"""What a caller hands in and gets back: queries and noise levels checked once, results of the same kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
import torch

from numerics.domain import DomainError, finite, shaped
from validation.devices import plain_tensor
from validation.score.engine import LARGEST

__all__ = ["Queries", "check_levels", "check_queries", "check_rows"]

SMALLEST_T, LARGEST_T = 1e-30, 1e30  # outside, 1/t times a squared distance leaves float32


@dataclass(frozen=True, eq=False)
class Queries:
    """(B, N) float64 points on the engine's device, and how to hand results back: kind, dtype, device, single point."""

    x: torch.Tensor
    single: bool
    like: torch.Tensor | None
    dtype: torch.dtype

    def back(self, value: torch.Tensor, *, dtype: torch.dtype | None = None, axis: int = 0) -> Any:
        """`value` (queries along `axis`) as the caller's kind; the query axis dropped for a single point."""
        value = value.select(axis, 0) if self.single else value
        if value.dtype != torch.int64:
            value = value.to(dtype or self.dtype)
            if not bool(torch.isfinite(value).all()):
                name, most = str(value.dtype).removeprefix("torch."), torch.finfo(value.dtype).max
                raise DomainError(
                    "x",
                    f"queries of dtype {name} with a result that is not finite",
                    f"such that the result fits that dtype, which ends at {most:.4g}",
                    "" if value.dtype == torch.float64 else "Pass float64 queries",
                )
        if self.like is not None:
            return value.to(self.like.device)
        value = value.cpu().numpy()
        return value if value.ndim else value[()]


def check_queries(x: Any, N: int, device: torch.device, name: str = "x") -> Queries:
    """Points of shape (B, N) or (N,), finite reals, numpy (or a sequence) or torch, or `DomainError`."""
    allowed = f"real numbers of size at most {LARGEST:g}, of shape (B, {N}) or ({N},), B >= 1"
    like = x if isinstance(x, torch.Tensor) else None
    if like is None:
        x = shaped(name, x, allowed=allowed)
        complex_or_text = x.dtype.kind not in "fiub"
        dtype = torch.float32 if x.dtype == np.float32 else torch.float64
    else:
        x, complex_or_text = plain_tensor(name, x, allowed), x.dtype.is_complex
        dtype = x.dtype if x.dtype.is_floating_point else torch.float64
    if complex_or_text or x.ndim not in (1, 2) or x.shape[-1] != N or x.shape[0] == 0:
        raise DomainError(name, f"an array of shape {tuple(x.shape)} and dtype {x.dtype}", allowed)
    points = x.to(device, torch.float64) if like is not None else torch.from_numpy(x.astype(np.float64)).to(device)
    single = points.ndim == 1
    points = points[None] if single else points
    if not bool((points.abs() <= LARGEST).all()):  # also false for NaN
        raise DomainError(name, "an array with NaN, infinite or huge entries", allowed)
    return Queries(points, single, like, dtype)


def check_levels(t: Any, device: torch.device, *, count: int | None = None, name: str = "t") -> torch.Tensor:
    """Noise variances as float64: `(count,)` from a scalar or (count,), or with `count=None` any (K,), or `DomainError`."""
    shape = "a number or an array of shape (K,)" if count is None else f"a number or an array of shape ({count},)"
    allowed = f"{shape}, each in [{SMALLEST_T:g}, {LARGEST_T:g}]"
    t = plain_tensor(name, t, allowed).cpu().numpy() if isinstance(t, torch.Tensor) else t
    values = finite(name, t, allowed=allowed)
    if values.ndim > 1 or values.size == 0 or (count is not None and values.size not in (1, count)):
        raise DomainError(name, f"an array of shape {values.shape}", allowed)
    bad = ~((values >= SMALLEST_T) & (values <= LARGEST_T))
    if bad.any():
        raise DomainError(name, float(values[bad].flat[0]), allowed)
    values = np.broadcast_to(values.reshape(-1), (count or values.size,)).copy()
    return torch.from_numpy(values).to(device)


@overload
def check_rows(
    index: Any, count: int, total: int, device: torch.device, name: str, required: Literal[True]
) -> torch.Tensor: ...
@overload
def check_rows(
    index: Any, count: int, total: int, device: torch.device, name: str, required: bool = False
) -> torch.Tensor | None: ...
def check_rows(
    index: Any, count: int, total: int, device: torch.device, name: str, required: bool = False
) -> torch.Tensor | None:
    """Row numbers of the training set, (count,) int64, from an integer or (count,) integers; None stays None."""
    if index is None and not required:
        return None
    allowed = f"an integer or integers of shape ({count},), each in [0, {total - 1}]" + (
        "" if required else ", or None"
    )
    tensor = isinstance(index, torch.Tensor)
    index = plain_tensor(name, index, allowed).cpu().numpy() if tensor else shaped(name, index, allowed=allowed)
    if index.dtype.kind not in "iu" or index.ndim > 1 or index.size not in (1, count):
        raise DomainError(name, f"an array of shape {index.shape} and dtype {index.dtype}", allowed)
    bad = (index < 0) | (index >= total)
    if bad.any():
        raise DomainError(name, int(index[bad].flat[0]), allowed)
    return torch.from_numpy(np.broadcast_to(index.reshape(-1), (count,)).astype(np.int64)).to(device)
