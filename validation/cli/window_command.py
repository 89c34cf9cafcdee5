"""When will a training run memorise its data? `geomem window`, from a pilot run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from numerics.domain import DomainError
from validation.cli.options import Device, ImageSize, Key, Limit, Seed
from validation.cli.terminal import app, folder_of, given, numbers_of, progress_bar, say


@app.command(epilog="Example: `geomem window digits --network mlp --width 128 --batch 64 --sigma 0.1,3`")
def window(
    data: Annotated[str, typer.Argument(help="As for `geomem train`: linear, digits, a file or a folder.")] = "digits",
    p: Annotated[
        int | None, typer.Option("-P", "--P", help="Points of the run that is asked about; default: all.", min=2)
    ] = None,
    sizes: Annotated[
        str | None, typer.Option(help="Points of the pilots, separated by commas; default: P/16 and P/8.")
    ] = None,
    replicas: Annotated[int, typer.Option(help="Pilots of each size.", min=2, max=100)] = 2,
    steps: Annotated[
        int, typer.Option(help="Most steps of the pilots, which end once they have memorised.", min=1)
    ] = 4000,
    exponent: Annotated[
        float | None, typer.Option(help="Exponent of P in tau_mem, taken as known; default: fitted, expected at 1.")
    ] = None,
    coverage: Annotated[float, typer.Option(help="Of the intervals, in (0, 1).")] = 0.9,
    batch: Annotated[int, typer.Option(help="Points a step.", min=1)] = 128,
    learning_rate: Annotated[float, typer.Option(help="Of Adam or SGD.")] = 1e-3,
    optimizer: Annotated[str, typer.Option(help="adam; muon for hidden matrices and kernels; or sgd.")] = "adam",
    network: Annotated[str, typer.Option(help="mlp, unet, or auto: a U-Net for images.")] = "auto",
    width: Annotated[int | None, typer.Option(help="Hidden width, or channels of the finest level.", min=1)] = None,
    blocks: Annotated[int | None, typer.Option(help="Residual blocks (a level).", min=1)] = None,
    hidden: Annotated[int | None, typer.Option(help="Units inside a block (mlp), by default its width.", min=1)] = None,
    activation: Annotated[str | None, typer.Option(help="silu, or bump, which memorises in fewer steps (mlp).")] = None,
    sigma: Annotated[str, typer.Option(help="Range of noise that is learned, low,high in data units.")] = "0.002,10",
    held_out: Annotated[
        Path | None, typer.Option(help="Held-out points, read as DATA is; default: a tenth of DATA.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the figure and the numbers.")] = None,
    key: Key = None,
    limit: Limit = None,
    image_size: ImageSize = None,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """After how many steps will a network memorise P points? Predicted from small networks of points, a fraction of the steps.

    Networks on P/16 and P/8 points are trained until they memorise; the time grows about as P. Give the network, batch and
    rate of the run that is planned.
    """
    from validation.training import NoiseLevels, TrainingConfig, training_data
    from validation.window import predict_window, prediction_lines, write_prediction

    levels = numbers_of("--sigma", sigma)
    if len(levels) != 2:
        raise DomainError("--sigma", sigma, "two numbers low,high with 0 < low < high")
    if not 0 < coverage < 1:
        raise DomainError("--coverage", coverage, "in (0, 1)")
    config = TrainingConfig(steps, batch, learning_rate, noise=NoiseLevels(*levels), optimizer=optimizer)
    source = {"data": data, "seed": seed, **given(key=key, limit=limit, image_size=image_size)}
    if held_out is not None:
        source["held_out"] = str(held_out)
    folder = folder_of(out) if out else None
    chosen = given(kind=network, width=width, blocks=blocks, hidden=hidden, activation=activation)
    X, fresh, chosen = training_data(source, chosen)
    if len(fresh) < 2:
        raise DomainError("held-out points", len(fresh), "at least 2", "Give more data or --held-out")
    pilots = None if sizes is None else numbers_of("--sizes", sizes)
    with progress_bar("pilots") as progress:
        found = predict_window(
            X, fresh, chosen, config, P=p, sizes=pilots, replicas=replicas, exponent=exponent, coverage=coverage,
            seed=seed, device=device, progress=progress,
        )  # fmt: skip
    files = write_prediction(found, folder) if folder else []
    for line in prediction_lines(found):
        say(line)
    if files:
        say("wrote " + ", ".join(map(str, files)))
