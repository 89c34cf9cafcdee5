"""Options that several commands share, each with its help said once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from numerics.domain import LARGEST_SEED, DomainError
from validation.option_names import option_of

__all__ = [
    "ALONE", "Centre", "Convention", "DaskScheduler", "Device", "Embeddings", "FigureFile", "Guidance", "ImageSize",
    "Key", "Label", "LatentsOf", "Level", "Limit", "NullLabel", "OnlyDaskScheduler", "Prediction", "Prompt",
    "Scheduler", "Seed", "SigmaData", "Unit", "Variant", "Weights", "only_with_a_model",
]  # fmt: skip

Scheduler = Annotated[
    str | None,
    typer.Option(
        help="With a UNet's folder in --model: folder of a scheduler_config.json, or a scheduler's name. With a torch module and "
        "--convention ddpm also linear, scaled_linear or squaredcos_cap_v2."
    ),
]
Convention = Annotated[
    str | None,
    typer.Option(help="With a torch module in --model: how its input is scaled: ve, edm, vp, ddpm or flow."),
]
Prediction = Annotated[
    str | None, typer.Option(help="With a torch module in --model: it gives epsilon, x0, v, flow, score or edm.")
]
Level = Annotated[
    str | None,
    typer.Option(
        help="With a torch module in --model: how it is given the noise, t, sigma, c_noise, ou, alpha_bar, log_snr, flow_time or "
        "timestep; default that of --convention."
    ),
]
SigmaData = Annotated[float | None, typer.Option(help="With --prediction edm: of its preconditioning, default 0.5.")]
Weights = Annotated[
    Path | None, typer.Option(help="With --model file.py:function: weights of its module, .safetensors or .pt.")
]
Products = Annotated[
    str | None,
    typer.Option(
        help="With a network of others in --model: precision of products with its Jacobian, float32 (default), bfloat16, or on "
        "cuda tf32; its error is measured first."
    ),
]
Variant = Annotated[str | None, typer.Option(help="With a diffusers --model: which weights, e.g. fp16.")]
Centre = Annotated[
    float | None,
    typer.Option(help="With a diffusers --model: it was trained on (data - centre)/unit, e.g. 127.5 for [0, 255]."),
]
Unit = Annotated[float | None, typer.Option(help="See --centre; e.g. 127.5. Default: the data are compared with it.")]
Label = Annotated[int | None, typer.Option("--class", help="With a class-conditional --model: which class, from 0.")]
Embeddings = Annotated[
    Path | None,
    typer.Option(help="With a text-conditional --model: tensors by name (prompt_embeds, ...), .safetensors or .npz."),
]
Prompt = Annotated[str | None, typer.Option(help="Instead of --embeddings: a text, for the pipeline's own encoders.")]
Guidance = Annotated[
    float | None,
    typer.Option(help="Classifier-free guidance of --model. Other than 1 its result is no score: reported."),
]
NullLabel = Annotated[
    int | None, typer.Option("--null-class", help="With --class and --guidance: the class that stands for none.")
]
LatentsOf = Annotated[
    Path | None,
    typer.Option(
        help="Measure in the latents of this pipeline's autoencoder (or of an autoencoder's folder of diffusers)."
    ),
]
_WORKERS = (
    "Run independent parts on dask: local:N for N worker processes here, the address of a scheduler, or its .json file."
)
DaskScheduler = Annotated[str | None, typer.Option("--scheduler", "--dask-scheduler", help=_WORKERS)]
OnlyDaskScheduler = Annotated[
    str | None, typer.Option("--dask-scheduler", help=_WORKERS)
]  # where --scheduler means another
Seed = Annotated[int, typer.Option(help="Seed of everything random.", min=0, max=LARGEST_SEED)]


def _present(device: str) -> str:
    """The device, or an error before any work; torch is not loaded for the one that is always there."""
    if device != "cpu":
        from validation.devices import device_of

        device_of(device, "--device")
    return device


ALONE = "left out without a network of others in --model: a folder of diffusers, file.py:function, .pt or .pt2"


def only_with_a_model(network: Mapping[str, Any], allowed: str) -> None:
    """An error for options of a network of others where there is none; what is `allowed`, in words."""
    if network:
        name = next(iter(network))
        raise DomainError(option_of(name), network[name], allowed)


Device = Annotated[str, typer.Option(help="Torch device, e.g. cpu or cuda.", callback=_present)]
Key = Annotated[str | None, typer.Option(help="Array inside an npz or zarr group, or column of a table.")]
Limit = Annotated[int | None, typer.Option(help="Use at most this many samples.", min=4)]
ImageSize = Annotated[int | None, typer.Option(help="Crop and resize images to this many pixels.", min=1)]
FigureFile = Annotated[Path, typer.Option(help="Figure: .png, .pdf or .svg. The numbers go beside it as .nc and .csv.")]
