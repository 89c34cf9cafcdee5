"""Options that several commands share, each with its help said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from numerics.domain import LARGEST_SEED

__all__ = ["Centre", "Device", "FigureFile", "ImageSize", "Key", "Limit", "Scheduler", "Seed", "Unit", "Variant"]

Scheduler = Annotated[
    str | None,
    typer.Option(help="With a UNet's folder in --model: folder of a scheduler_config.json, or a scheduler's name."),
]
Variant = Annotated[str | None, typer.Option(help="With a diffusers --model: which weights, e.g. fp16.")]
Centre = Annotated[
    float | None,
    typer.Option(help="With a diffusers --model: it was trained on (data - centre)/unit, e.g. 127.5 for [0, 255]."),
]
Unit = Annotated[float | None, typer.Option(help="See --centre; e.g. 127.5. Default: the data are compared with it.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.", min=0, max=LARGEST_SEED)]


def _present(device: str) -> str:
    """The device, or an error before any work; torch is not loaded for the one that is always there."""
    if device != "cpu":
        from validation.devices import device_of

        device_of(device, "--device")
    return device


Device = Annotated[str, typer.Option(help="Torch device, e.g. cpu or cuda.", callback=_present)]
Key = Annotated[str | None, typer.Option(help="Array inside an npz.")]
Limit = Annotated[int | None, typer.Option(help="Use at most this many samples.", min=4)]
ImageSize = Annotated[int | None, typer.Option(help="Crop and resize images to this many pixels.", min=1)]
FigureFile = Annotated[Path, typer.Option(help="Figure: .png, .pdf or .svg. The numbers go beside it as .nc and .csv.")]
