"""What runs it all: `geomem validate`, theory against simulation, and `geomem report`, one page of everything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from numerics.domain import DomainError
from validation.cli.options import (
    Centre,
    Convention,
    DaskScheduler,
    Device,
    Embeddings,
    Guidance,
    ImageSize,
    Key,
    Label,
    Level,
    Limit,
    NullLabel,
    Prediction,
    Prompt,
    Scheduler,
    Seed,
    SigmaData,
    Unit,
    Variant,
    Weights,
)
from validation.cli.terminal import app, console, folder_of, given, notes, on_dask, progress_bar, say, stages


@app.command(epilog="Example: `geomem validate --only linear_times --out validation-results`")
def validate(
    only: Annotated[list[str] | None, typer.Option(help="Run only this experiment (may be repeated).")] = None,
    full: Annotated[bool, typer.Option("--full", help="The real thing: tens of minutes, smaller error bars.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for figures, tables and checkpoints.")] = Path("validation-results"),
    scheduler: DaskScheduler = None,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """Check theory against simulation: every experiment ends in agree, disagree or inconclusive, with numbers."""
    from torch import get_num_threads

    from validation.experiments import EXPERIMENTS, ON_A_SCHEDULER, experiment

    folder = folder_of(out)
    preset = "full" if full else "quick"
    modules = {name: experiment(name) for name in only or EXPERIMENTS}
    with on_dask(scheduler, "--scheduler", get_num_threads()) as client:
        for name, module in modules.items():
            far = {} if client is None or name not in ON_A_SCHEDULER else {"scheduler": client}
            if client is not None and not far:
                notes.print(f"{name} runs here: it has no independent parts", highlight=False)
            place = folder / f"{name}-{preset}"
            with progress_bar(name) as progress:
                result = module.run(preset=preset, seed=seed, progress=progress, out=place, device=device, **far)
            console.print(f"\n[bold]{name}[/bold]: {escape(result.claim)}", highlight=False)
            say(result.table())
            say(f"wrote {place}/")


@app.command(
    epilog="Example: `geomem report --out report.html`, or `geomem report my_images/ --samples generated/ --out report.html`"
)
def report(
    data: Annotated[
        Path | None, typer.Argument(help="Data set, as for `geomem audit`; default: digits, scikit-learn's.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The page; figures and numbers also go into OUT-files/.")] = Path(
        "report.html"
    ),
    full: Annotated[bool, typer.Option("--full", help="Full presets: an hour instead of minutes.")] = False,
    model: Annotated[
        Path | None,
        typer.Option(
            help="A checkpoint of `geomem train`, on the data it was trained on: what the network was measured to do. "
            "Or, with DATA, the folder of a diffusers pipeline or UNet, file.py:function, or a TorchScript (.pt) or torch.export "
            "(.pt2) file."
        ),
    ] = None,
    samples: Annotated[
        Path | None, typer.Option(help="What a model generated, as for `geomem samples`: are they copies of DATA?")
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
    key: Key = None,
    limit: Limit = None,
    image_size: ImageSize = None,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """The main job: does a model trained on this copy it, which images are exposed, what to do; one HTML page.

    Behind the answer: the score's spectra, theory with a phase diagram to play with, finite-N checks, an audit. The page
    needs no network.
    """
    from numerics.store import writable
    from validation.report import write_report

    if out.suffix not in (".html", ".htm"):
        raise DomainError("--out", str(out), "a file name that ends in .html")
    writable(out, argument="--out")
    chosen = given(key=key, limit=limit, image_size=image_size)
    chosen["network"] = given(
        scheduler=scheduler, variant=variant, centre=centre, unit=unit, label=label, embeddings=embeddings, prompt=prompt,
        guidance=guidance, null_label=null_label, convention=convention, prediction=prediction,
        level=level, sigma_data=sigma_data, weights=weights,
    )  # fmt: skip
    with stages("report") as tell:
        files = write_report(
            out, data=data, model=model, samples=samples, full=full, seed=seed, device=device, progress=tell, **chosen
        )
    say("wrote " + ", ".join(map(str, files)))
