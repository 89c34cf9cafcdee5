"""Which preset is meant: a name of the experiment's own, or a preset made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from numerics.domain import DomainError

__all__ = ["chosen"]

P = TypeVar("P")


def chosen(preset: str | P, presets: Mapping[str, P], device: str = "cpu") -> P:
    """The preset of that name; "full" is "full on cuda" on a cuda device where an experiment has such a one.

    Raises
    ------
    DomainError : a name that is not among `presets`

    >>> chosen("quick", {"quick": 1, "full": 2}), chosen(7, {"quick": 1})
    (1, 7)
    >>> chosen("full", {"full": 2, "full on cuda": 3}, "cuda:0")
    3
    """
    if not isinstance(preset, str):
        return preset
    if preset not in presets:
        raise DomainError("preset", preset, f"one of {', '.join(presets)}, or a Preset")
    on_cuda = f"{preset} on cuda"
    return presets[on_cuda if device.startswith("cuda") and on_cuda in presets else preset]
