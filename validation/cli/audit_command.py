"""`geomem audit`: of a data set; with --model of what `audit_networks` looks at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from numerics.domain import DomainError
from validation.cli.audit_networks import audit_networks, audit_run, is_run, say_patches
from validation.cli.options import (
    Centre,
    Convention,
    Device,
    Embeddings,
    Guidance,
    ImageSize,
    Key,
    Label,
    LatentsOf,
    Level,
    Limit,
    NullLabel,
    OnlyDaskScheduler,
    Prediction,
    Prompt,
    Scheduler,
    Seed,
    SigmaData,
    Unit,
    Variant,
    Weights,
    only_with_a_model,
)
from validation.cli.terminal import app, console, folder_of, given, numbers_of, on_dask, progress_bar, say, stages

MANY_POINTS = 10_000  # from which their collapse takes long enough for news
WORKERS_DO = "Workers do the collapse of every point"


@app.command(epilog="Example: `geomem audit images/ --sigma 0.1,0.5 --out audit`")
def audit(
    data: Annotated[
        Path | None,
        typer.Argument(
            help="npy, npz, IDX (gz), CIFAR batches, a folder of images, parquet, a saved Hugging Face data set, WebDataset "
            "tars or zarr; default: digits, scikit-learn's."
        ),
    ] = None,
    sigma: Annotated[
        str | None, typer.Option(help="Noise levels for the table of sizes, data units; default: around collapse.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the figure and the numbers.")] = None,
    key: Key = None,
    limit: Limit = None,
    image_size: ImageSize = None,
    probes: Annotated[int, typer.Option(help="Points used as probes.", min=2, max=1_000_000)] = 256,
    model: Annotated[
        list[Path] | None,
        typer.Option(
            help="A checkpoint of `geomem train`: audit its networks on the data they were trained on. Several of one run "
            "(repeat the option, or give their folder): when it learned, when it memorises. "
            "Or, with DATA, the folder of a diffusers pipeline or UNet, file.py:function, or a TorchScript (.pt) or torch.export "
            "(.pt2) file."
        ),
    ] = None,
    scheduler: Scheduler = None,
    variant: Variant = None,
    centre: Centre = None,
    unit: Unit = None,
    label: Label = None,
    embeddings: Embeddings = None,
    prompt: Prompt = None,
    guidance: Guidance = None,
    null_label: NullLabel = None,
    convention: Convention = None,
    prediction: Prediction = None,
    level: Level = None,
    sigma_data: SigmaData = None,
    weights: Weights = None,
    latents: LatentsOf = None,
    twin: Annotated[bool, typer.Option(help="Also measure a Gaussian sample with the same spectrum.")] = True,
    finite_size: Annotated[bool, typer.Option(help="Also evaluate the exact theory at this P and N.")] = True,
    points: Annotated[
        bool | None,
        typer.Option(
            help="The collapse of every single point, into points.csv and .nc; default: where it takes seconds, and with "
            "--dask-scheduler."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Class of each sample: npy, npz, IDX or text, one a line; default: those in DATA."),
    ] = None,
    patch: Annotated[
        str | None,
        typer.Option(
            help="auto, or odd widths separated by commas: at what noise patches of images are memorised; with --model "
            "which patch the network sees."
        ),
    ] = None,
    dask_scheduler: OnlyDaskScheduler = None,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """At what noise does the ideal score of a data set memorise it, how many samples would prevent it? Theory beside measurement.

    With --model, what a trained network itself does.
    """
    network = given(scheduler=scheduler, variant=variant, centre=centre, unit=unit, label=label, embeddings=embeddings)
    network |= given(prompt=prompt, guidance=guidance, null_label=null_label, convention=convention, weights=weights)
    network |= given(prediction=prediction, level=level, sigma_data=sigma_data)
    asked = _widths_asked(patch)
    if dask_scheduler is not None and (model or points is False):
        raise DomainError(
            "--dask-scheduler", dask_scheduler, f"left out with {'--model' if model else '--no-points'}", WORKERS_DO
        )
    if model:
        if latents is not None:
            raise DomainError(
                "--latents", str(latents), "left out with --model, whose pipeline has its own autoencoder"
            )
        options = given(key=key, limit=limit, image_size=image_size)
        if len(model) > 1 or is_run(model[0]):
            return audit_run(model, out, probes, device, seed, {"data": data} | network | options | given(patch=patch))
        return audit_networks(model[0], data, out, probes, device, seed, network, options, asked)
    only_with_a_model(network, "left out without --model")
    from validation.audit import audit as run
    from validation.audit import audit_classes, audit_ladder, audit_lines, classes_table, write_audit
    from validation.data import load, read_labels
    from validation.figures import is_image
    from validation.ladder import write_ladder
    from validation.locality import audit_patches, patch_widths, write_locality
    from validation.points import CHEAP, audit_points, cost, points_lines, write_points

    sigmas = None if sigma is None else numbers_of("--sigma", sigma)
    folder = folder_of(out) if out else None
    dataset = load(data, key=key, limit=limit, image_size=image_size, seed=seed)
    if latents is not None:
        from validation.spectrum import latent_dataset

        with progress_bar("latents") as progress:
            dataset = latent_dataset(dataset, latents, device=device, progress=progress)
    widths = [] if asked is None else patch_widths(dataset, asked)
    if labels is not None:
        dataset = replace(dataset, labels=read_labels(labels, dataset.P, limit=limit, seed=seed))
    if points is None:
        points = dataset.P > 2 and (dask_scheduler is not None or cost(dataset.P, dataset.N) < CHEAP)
    with on_dask(dask_scheduler, "--dask-scheduler") as client, stages("audit") as tell:
        result = run(
            dataset,
            sigmas=sigmas,
            probes=probes,
            twin=twin,
            finite_size=finite_size,
            seed=seed,
            device=device,
            progress=tell,
        )
        more: dict[str, Any] = {}
        options = {"seed": seed, "device": device}
        if (labelled := result.typical.labels) is not None and len(set(labelled.tolist())) > 1:
            rows = audit_classes(result.typical, t=result.measured.t, probes=min(probes, 128), progress=tell, **options)
            more["classes"] = classes_table(rows)
        if points:
            tell("collapse of every point")
            spectrum = result.spectrum if twin else None
            about = {"spectrum": spectrum, "folder": folder, "scheduler": client, "progress": _tenths(tell)}
            more["points"] = audit_points(dataset, duplicates=result.duplicates, **about, **options)
        if folder and is_image(dataset.shape):
            tell("ladder of noise")
            more["ladder"] = audit_ladder(result, device=device)
        if widths:
            options |= {"probes": min(max(probes, 8), 128), "finite_size": finite_size}
            more["patches"] = audit_patches(result.typical, widths, progress=tell, **options)
    files = write_audit(result, folder) if folder else []
    if folder and "classes" in more:
        files.append(more["classes"].write(folder / "audit-classes.csv"))
    if folder and points:
        files += write_points(more["points"], folder)
    if folder and more.get("ladder") is not None:
        files += write_ladder(more["ladder"], folder)
    if folder and widths:
        files += write_locality(more["patches"], folder)
    for item in audit_lines(result):
        console.print(item, markup=False, highlight=False)
    if "classes" in more:
        console.print(more["classes"].shown(compact=True), markup=False, highlight=False)
    if points:
        for line in points_lines(more["points"]):
            say(line)
    if widths:
        say_patches(more["patches"])
    if files:
        say("wrote " + ", ".join(map(str, files)))


def _tenths(tell: Any) -> Callable[[int, int], None]:
    """A progress callback that names the stage once more at every tenth of long work."""
    told = [0]

    def progress(done: int, total: int) -> None:
        tenth = 10 * done // total
        if tenth > told[0] and total >= MANY_POINTS:
            told[0] = tenth
            tell(f"collapse of every point: {done:,} of {total:,}")

    return progress


def _widths_asked(patch: str | None) -> str | list[int] | None:
    """--patch as `validation.locality.patch_widths` takes it."""
    if patch is None or patch == "auto":
        return patch
    try:
        return [int(part) for part in patch.split(",")]
    except ValueError as error:
        raise DomainError("--patch", patch, "auto, or odd numbers separated by commas") from error
