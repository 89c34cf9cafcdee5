r"""Products with a network's Jacobian in reduced precision, and what that costs, measured against float32.

    float32     every product in float32: cuda's convolutions too, which torch leaves to TF32 unless it is told not to
    tf32        cuda only: factors rounded to 10 bits, sums in float32
    bfloat16    matrix products and convolutions of factors rounded to 8 bits, sums in float32; norms and softmax in float32

The error is that of :math:`-tJ`, whose eigenvalues lie between 0 and 1: the root mean square of
:math:`t|J_{\mathrm{reduced}}v-Jv|/|v|` over random v, which bounds that of the eigenvalues' shifts (Hoffman and Wielandt).
The score itself, and the comparison of derivatives with difference quotients, stay in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

__all__ = ["BOUND", "PRODUCTS", "products_in"]

PRODUCTS = ("float32", "tf32", "bfloat16")
BOUND = 0.02  # of -tJv over |v|: directions are kept below 1/2, and densities are broadened by as much


@contextmanager
def products_in(kind: str, device: Any) -> Iterator[None]:
    """Matrix products and convolutions of float32 tensors on this device in `kind`, one of `PRODUCTS`; as it was found after."""
    place = torch.device(device).type
    with ExitStack() as stack:
        if place == "cuda":
            matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
            for part, name, value in (
                (matmul, "allow_tf32", kind == "tf32"),
                (cudnn, "allow_tf32", kind == "tf32"),
                (matmul, "allow_bf16_reduced_precision_reduction", False),
            ):
                stack.callback(setattr, part, name, getattr(part, name))
                setattr(part, name, value)
        if kind == "bfloat16":
            # casts are not kept: forward mode nests levels that a kept tensor would not know
            stack.enter_context(torch.autocast(place, torch.bfloat16, cache_enabled=False))
        yield
