"""A torch device by its name, and tensors that hold numbers on one: checked in the same words wherever one is asked for."""

from __future__ import annotations

from typing import Any

import torch

from numerics.domain import DomainError

__all__ = ["device_of", "plain_tensor"]


def device_of(name: Any, argument: str = "device") -> torch.device:
    """The device called `name`, or `DomainError` where torch cannot compute on it here.

    >>> device_of("cpu")
    device(type='cpu')
    >>> device_of("quantum")
    Traceback (most recent call last):
    ...
    numerics.domain.DomainError: device = quantum is outside its domain: it must be a torch device that is present here. Try cpu
    """
    allowed = "a torch device that is present here"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError, ValueError, NotImplementedError) as error:
        raise DomainError(argument, name, allowed, "Try cpu") from error
    if device.type == "meta":
        raise DomainError(argument, name, allowed, "The meta device holds no numbers")
    return device


def plain_tensor(name: str, x: torch.Tensor, allowed: str) -> torch.Tensor:
    """A dense tensor that holds numbers, detached, or `DomainError`: not a sparse one, nor one on the meta device."""
    if x.layout != torch.strided or x.is_meta:
        raise DomainError(name, f"a tensor of layout {x.layout} on {x.device}", f"dense: {allowed}", "Try .to_dense()")
    return x.detach()
