"""Matrix products of queries and tiles, by the BLAS that the policy names: numpy's in float64 on a CPU, else torch's."""

from __future__ import annotations

import numpy as np
import torch

from validation.score.engine.policy import Policy

__all__ = ["add_product", "multiply"]

SKINNY = 16  # with fewer rows or columns MKL adds the terms of a product one by one to what is there already


def multiply(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor, policy: Policy) -> None:
    """out = a b."""
    if _by_numpy(a, policy):
        np.matmul(a.numpy(), b.numpy(), out=out.numpy())
    else:
        torch.mm(a, b, out=out)


def add_product(a: torch.Tensor, b: torch.Tensor, total: torch.Tensor, room: torch.Tensor, policy: Policy) -> None:
    """total += a b; `room`, of the shape of `total`, is overwritten."""
    if _by_numpy(a, policy) or min(a.shape[0], b.shape[1]) < SKINNY:
        multiply(a, b, room, policy)
        total.add_(room)
    else:
        total.addmm_(a, b)


def _by_numpy(a: torch.Tensor, policy: Policy) -> bool:
    return policy.numpy_float64 and a.dtype == torch.float64 and a.device.type == "cpu"
