"""Which preset is meant, by name or made by hand; and where a preset keeps its checkpoints."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from numerics.domain import DomainError

__all__ = ["checkpoint", "chosen", "named"]

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


def named(preset: P, presets: Mapping[str, P]) -> str | P:
    """What a command is to say: the name of a preset that has one among `presets`, else the preset itself.

    >>> named(2, {"quick": 1, "full": 2}), named(7, {"quick": 1})
    ('full', 7)
    """
    return next((name for name, known in presets.items() if known == preset), preset)


def checkpoint(
    out: str | os.PathLike | None, preset: str, seed: int, *, before: str = "", middle: str = "", after: str = ""
) -> Path | None:
    """The checkpoint of a preset and seed in the folder `out`; None where nothing is kept.

    >>> checkpoint("runs", "full on cuda", 3, before="nonlinear-").as_posix()
    'runs/checkpoints/nonlinear-full-on-cuda-seed3.safetensors'
    """
    if out is None:
        return None
    return Path(out) / "checkpoints" / f"{before}{preset.replace(' ', '-')}{middle}-seed{seed}{after}.safetensors"
