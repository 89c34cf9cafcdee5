"""`--products`: a network's products in reduced precision, where their measured error is small enough to say so and go on."""

from __future__ import annotations

import math
from typing import Any

import torch

from numerics.domain import DomainError
from validation.spectra import BOUND, PRODUCTS, AutogradScore, product_error

__all__ = ["reduce_products"]

_SIGMAS = (0.3, 1.0, 3.0)  # of noise, over the standard deviation of the data
_POINTS = 2


def reduce_products(face: Any, kind: str | None, X: torch.Tensor, device: str, seed: int = 0) -> str:
    """Set the precision of a network's products, and say its error in words; nothing for None and "float32".

    Parameters
    ----------
    face : the network's score, which is cast to float32; kind : one of `PRODUCTS`; X : (P, N) training points; device : of torch

    Raises
    ------
    DomainError : another kind, "tf32" without cuda, a score that is no network of torch in float32, an error above `BOUND`
    """
    if kind is None:
        return ""
    if kind not in PRODUCTS:
        raise DomainError("--products", kind, ", ".join(PRODUCTS))
    if kind == "float32":
        return ""
    if kind == "tf32" and not str(device).startswith("cuda"):
        raise DomainError("--products", kind, "float32 or bfloat16 on a CPU", "TF32 is cuda's: --device cuda")
    if isinstance(face, AutogradScore) and hasattr(face, "cast"):
        face.cast(torch.float32)
    if getattr(face, "dtype", None) != torch.float32:
        raise DomainError("--products", kind, "float32 for this network, which is not of float32 numbers")
    clean, spread = X[:_POINTS].double(), float(X[:1000].double().std())
    low, high = getattr(face, "t_range", (0.0, math.inf))
    generator = torch.Generator().manual_seed(seed)
    errors = []
    for sigma in _SIGMAS:
        t = min(max((sigma * spread) ** 2, low * (1 + 1e-6)), high * (1 - 1e-6))
        noise = torch.randn(clean.shape, generator=generator, dtype=torch.float64)
        error = product_error(face, (clean + t**0.5 * noise).to(device), t, kind, seed=seed)
        errors.append((error, t**0.5))
    worst, at = max(errors)
    if worst > BOUND:
        raise DomainError(
            "--products",
            kind,
            f"a precision whose products move -tJv by at most {BOUND:g} of |v|; here by {worst:.2g}, at sigma {at:.2g}",
            "Measure with `--products float32`",
        )
    face.products = kind
    said = ", ".join(f"{error:.2g} at sigma {sigma:.2g}" for error, sigma in errors)
    return (
        f"products in {kind}, sums in float32: they move -tJv by {said} of |v| against float32 (bound {BOUND:g}), and "
        "eigenvalues by no more, root mean square"
    )
