"""What a data set's score loses, and networks trained on it: `geomem spectrum` and `geomem train`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from numerics.domain import DomainError
from validation.cli.options import (
    ALONE,
    Centre,
    Convention,
    Device,
    Embeddings,
    FigureFile,
    Guidance,
    ImageSize,
    Key,
    Label,
    Level,
    Limit,
    NullLabel,
    OnlyDaskScheduler,
    Prediction,
    Products,
    Prompt,
    Scheduler,
    Seed,
    SigmaData,
    Unit,
    Variant,
    Weights,
    only_with_a_model,
)
from validation.cli.terminal import app, console, folder_of, given, notes, numbers_of, on_dask, progress_bar, say


@app.command(
    epilog="Example: `geomem spectrum --out digits.png`, or "
    "`geomem spectrum --subspaces 5:1.0,5:0.09,20:0.0001 -P 1000 --out subspaces.png`"
)
def spectrum(
    data: Annotated[Path | None, typer.Argument(help="As for `geomem audit`; default: digits, scikit-learn's.")] = None,
    subspaces: Annotated[
        str | None, typer.Option(help="Synthetic data instead: dimension:variance pairs, separated by commas.")
    ] = None,
    p: Annotated[int | None, typer.Option("-P", "--P", help="Training points of --subspaces; default 1000.")] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="A checkpoint of `geomem train`: its networks too, one figure each. "
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
    products: Products = None,
    samples: Annotated[
        Path | None,
        typer.Option(help="With --model: what the network says of each of these samples, without its training set."),
    ] = None,
    out: FigureFile = Path("spectrum.png"),
    sigma: Annotated[
        str | None, typer.Option(help="Range of noise, low,high in data units; default: around collapse.")
    ] = None,
    points: Annotated[
        int | None, typer.Option(help="Noise levels; default 25, with --samples 6.", min=1, max=10_000)
    ] = None,
    probes: Annotated[
        int | None,
        typer.Option(
            help="Points of each kind at which the score is probed, default 24; with --samples random vectors a trace, 8.",
            min=2,
            max=1_000_000,
        ),
    ] = None,
    key: Key = None,
    limit: Limit = None,
    image_size: ImageSize = None,
    dask_scheduler: OnlyDaskScheduler = None,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """At which noise does a training set's ideal score lose directions, and which first?

    The spectrum of the empirical score's Jacobian over a grid of noise, at noised training points, fresh points and the
    centre, beside the Gaussian (for synthetic data: exact) score and the empirical score of half of the points.
    Interrupted, the same command goes on where it was. With --samples, signals of single samples instead: the size and the
    sharpness of the score, its effective dimension and FLIPD, a row a sample and noise level in the .csv.
    """
    from torch import get_num_threads

    from validation.networks import is_foreign
    from validation.spectrum import reading, run, tables

    levels = None if sigma is None else numbers_of("--sigma", sigma)
    network = given(scheduler=scheduler, variant=variant, centre=centre, unit=unit, label=label, embeddings=embeddings)
    network |= given(prompt=prompt, guidance=guidance, null_label=null_label, convention=convention, weights=weights)
    network |= given(prediction=prediction, level=level, sigma_data=sigma_data, products=products)
    if model is None or not is_foreign(model):
        only_with_a_model(network, ALONE)
    if samples is not None:
        if model is None or subspaces is not None or p is not None:
            allowed = "given with --model" if model is None else "left out with --subspaces"
            raise DomainError("--samples", str(samples), allowed)
        common: dict[str, Any] = given(points=points, probes=probes, key=key, limit=limit, image_size=image_size)
        common |= {"model": model, "data": data, "sigmas": levels, "seed": seed, "device": device, "network": network}
        if dask_scheduler is not None:
            raise DomainError("--dask-scheduler", dask_scheduler, "left out with --samples")
        return _signals(samples, out, common)
    if dask_scheduler is not None and model is not None and is_foreign(model):
        raise DomainError("--dask-scheduler", dask_scheduler, "left out with a network of others in --model")
    with (
        on_dask(dask_scheduler, "--dask-scheduler", threads=get_num_threads()) as client,
        progress_bar("spectra") as progress,
    ):
        found = run(
            data,
            out,
            subspaces=subspaces,
            P=p,
            model=model,
            sigmas=levels,
            points=25 if points is None else points,
            probes=24 if probes is None else probes,
            seed=seed,
            device=device,
            progress=progress,
            network=network,
            scheduler=client,
            **given(key=key, limit=limit, image_size=image_size),
        )
    for result, files in found:
        console.print(f"\n[bold]{escape(result.attrs['data'])}[/bold]", highlight=False)
        for item in tables(result):
            console.print(item.shown(compact=True))
        for line in reading(result):
            say(line)
        say("wrote " + ", ".join(map(str, files)))


def _signals(samples: Path, out: Path, options: dict[str, Any]) -> None:
    from validation.spectrum import run_samples, signal_table

    with progress_bar("signals") as progress:
        found = run_samples(samples, out, progress=progress, **options)
    for result, files in found:
        console.print(f"\n[bold]{escape(result.attrs['data'])}[/bold]", highlight=False)
        console.print(signal_table(result).shown(compact=True))
        if "remarks" in result.attrs:
            say(f"Of the network: {result.attrs['remarks']}.")
        say("wrote " + ", ".join(map(str, files)))


@app.command(epilog="Example: `geomem train linear -P 100,1000,10000 --steps 2000 --out model.safetensors`")
def train(
    data: Annotated[
        str, typer.Argument(help="linear (the headline's manifold), digits, or a file or folder as for `geomem audit`.")
    ] = "linear",
    out: Annotated[Path, typer.Option(help="Checkpoint, .safetensors; an interrupted run goes on from it.")] = Path(
        "model.safetensors"
    ),
    p: Annotated[
        str | None, typer.Option("-P", "--P", help="Dataset sizes separated by commas: one network each, all at once.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Optimiser steps.", min=1)] = 10_000,
    batch: Annotated[int, typer.Option(help="Points a step and network.", min=1)] = 128,
    learning_rate: Annotated[float, typer.Option(help="Of Adam or SGD, before it decays.")] = 1e-3,
    network: Annotated[str, typer.Option(help="mlp, unet, or auto: a U-Net for images.")] = "auto",
    width: Annotated[int | None, typer.Option(help="Hidden width, or channels of the finest level.", min=1)] = None,
    blocks: Annotated[int | None, typer.Option(help="Residual blocks (a level).", min=1)] = None,
    hidden: Annotated[int | None, typer.Option(help="Units inside a block (mlp), by default its width.", min=1)] = None,
    activation: Annotated[str | None, typer.Option(help="silu, or bump, which memorises in fewer steps (mlp).")] = None,
    optimizer: Annotated[str, typer.Option(help="adam; muon for hidden matrices and kernels; or sgd.")] = "adam",
    sigma: Annotated[str, typer.Option(help="Range of noise that is learned, low,high in data units.")] = "0.002,10",
    precision: Annotated[str, typer.Option(help="auto (bfloat16 on cuda), float32, float64 or bfloat16.")] = "auto",
    key: Key = None,
    limit: Limit = None,
    image_size: ImageSize = None,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint if it is there.")] = True,
    held_out: Annotated[
        Path | None,
        typer.Option(help="Held-out points, read as DATA is; default: a tenth of DATA, which is not trained on."),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(
            help="Write the held-out and training loss of every noise level to <out>-losses.csv, warn at the first "
            "significant departure, and keep the checkpoint before it."
        ),
    ] = True,
    false_alarms: Annotated[
        float, typer.Option(help="Greatest probability of a warning in a run that does not memorise, in (0, 1).")
    ] = 0.01,
    snapshots: Annotated[
        Path | None, typer.Option(help="Folder for the checkpoint of every check, for `geomem audit --model FOLDER`.")
    ] = None,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """Train score networks by denoising score matching; under torchrun or accelerate launch, on several devices.

    While it trains, the loss on held-out points is compared with the loss on training points at eight noise levels and 25
    steps. The warning is a rank test over all of them, with the stated rate of false alarms for the whole run.
    """
    from contextlib import ExitStack

    from validation.audit import audit_model, report_lines
    from validation.training import (
        Departure,
        NoiseLevels,
        TrainingConfig,
        launched,
        process_group,
        training_bar,
    )
    from validation.training import train as run

    levels = numbers_of("--sigma", sigma)
    if len(levels) != 2:
        raise DomainError("--sigma", sigma, "two numbers low,high with 0 < low < high")
    config = TrainingConfig(
        steps, batch, learning_rate, noise=NoiseLevels(*levels), precision=precision, optimizer=optimizer
    )
    sizes = None if p is None else numbers_of("-P", p)
    source = {"data": data, "seed": seed, **given(key=key, limit=limit, image_size=image_size)}
    if held_out is not None:
        source["held_out"] = str(held_out)
    if snapshots is not None and not watch:
        raise DomainError("--snapshots", str(snapshots), "left out with --no-watch")
    if not 0 < false_alarms < 1:
        raise DomainError("--false-alarms", false_alarms, "in (0, 1)")

    def warn(found: Departure, file: Path | None) -> None:
        kept = "" if file is None else f", and is kept in {file}"
        notes.print(f"warning: {found.report(false_alarms)}{kept}", markup=False, highlight=False, soft_wrap=True)

    seen = {"rate": false_alarms, "keep": folder_of(snapshots) if snapshots else None, "tell": warn} if watch else None
    chosen = given(kind=network, width=width, blocks=blocks, hidden=hidden, activation=activation)
    with ExitStack() as stack:
        many = launched()
        device = stack.enter_context(process_group(device)) if many else device
        options = {"device": device, "resume": resume, "distributed": many}
        with training_bar(notes) as bar:
            progress = bar if os.environ.get("RANK", "0") == "0" else None
            trainer = run(source, sizes, chosen, config, out, **options, progress=progress, watch=seen)
        if many and trainer.processes.rank:
            return
        for member, step in trainer.diverged.items():
            P = trainer.record["sizes"][member]
            say(
                f"warning: the network at P = {P:,} has diverged, seen at step {step:,}: its loss is no number. Train it again "
                "with a smaller --learning-rate"
            )
        for P, losses in audit_model(out, device=device):
            for line in report_lines(P, losses):
                say(line)
        if trainer.watch is not None:
            for line in trainer.watch.report():
                say(line)
        elif watch:
            say("fewer than 2 points were kept back: memorisation was not watched")
        say(f"wrote {out}")
