"""What is asked of a model's samples: `geomem samples`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from validation.cli.options import Device, ImageSize, Key, LatentsOf, Seed
from validation.cli.terminal import app, console, folder_of, given, progress_bar, say


@app.command(epilog="Example: `geomem samples generated/ --train images/ --test held_out/ --out copies`")
def samples(
    generated: Annotated[Path, typer.Argument(help="The model's samples, in any format of `geomem audit`.")],
    train: Annotated[Path, typer.Option(help="The training set, as for `geomem audit`.")],
    test: Annotated[
        Path | None,
        typer.Option(help="Held-out data, the null; default: what TRAIN keeps apart, else training points themselves."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for samples.csv, figures and numbers.")] = None,
    transforms: Annotated[
        bool, typer.Option(help="Also look for copies that are shifted, mirrored or resized a little (images).")
    ] = False,
    features: Annotated[
        Path | None,
        typer.Option(help="npz with arrays generated, train, test: distances are taken between these features."),
    ] = None,
    latents: LatentsOf = None,
    rate: Annotated[float, typer.Option(help="Expected share of false ones among the samples called copies.")] = 0.05,
    threshold: Annotated[float, typer.Option(help="Ratio of distances of the literature's rule.")] = 1 / 3,
    key: Key = None,
    train_key: Annotated[str | None, typer.Option(help="Array inside the training set's npz.")] = None,
    limit: Annotated[int | None, typer.Option(help="Use at most this many generated samples.", min=2)] = None,
    image_size: ImageSize = None,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """Is this model copying? Its samples against its training set, calibrated on data it has not seen."""
    from validation.samples import samples as run
    from validation.samples import samples_lines, write_samples

    folder = folder_of(out) if out else None
    with progress_bar("samples") as progress:
        result = run(
            generated,
            train,
            test,
            transforms=transforms,
            features=features,
            latents=latents,
            rate=rate,
            threshold=threshold,
            seed=seed,
            device=device,
            progress=progress,
            **given(key=key, train_key=train_key, limit=limit, image_size=image_size),
        )
    files = write_samples(result, folder) if folder else []
    for item in samples_lines(result):
        console.print(item, markup=False, highlight=False)
    if files:
        say("wrote " + ", ".join(map(str, files)))
