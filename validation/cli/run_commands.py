"""What runs it all: `geomem validate`, theory against simulation, and `geomem report`, one page of everything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from numerics.domain import DomainError
from validation.cli.options import Device, Limit, Seed
from validation.cli.terminal import app, console, made_folder, notes, progress_bar


@app.command(epilog="Example: `geomem validate --only linear_times --out validation-results`")
def validate(
    only: Annotated[list[str] | None, typer.Option(help="Run only this experiment (may be repeated).")] = None,
    full: Annotated[bool, typer.Option("--full", help="The real thing: tens of minutes, smaller error bars.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for figures, tables and checkpoints.")] = Path("validation-results"),
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """Check theory against simulation: every experiment ends in agree, disagree or inconclusive, with numbers."""
    from validation.experiments import EXPERIMENTS, experiment

    folder = made_folder(out)
    preset = "full" if full else "quick"
    for name in only or EXPERIMENTS:
        module = experiment(name)
        with progress_bar(name) as progress:
            result = module.run(
                preset=preset, seed=seed, progress=progress, out=folder / f"{name}-{preset}", device=device
            )
        console.print(f"\n[bold]{name}[/bold]: {result.claim}", highlight=False)
        console.print(result.table(), markup=False, highlight=False)
        console.print(f"wrote {folder / name}-{preset}/", highlight=False)


@app.command(epilog="Example: `geomem report --out report.html`, or `geomem report my_images/ --full`")
def report(
    data: Annotated[Path | None, typer.Argument(help="Data set to audit, as for `geomem audit`.")] = None,
    out: Annotated[Path, typer.Option(help="The page; figures and numbers also go into <out>-files/.")] = Path(
        "report.html"
    ),
    full: Annotated[bool, typer.Option("--full", help="Full presets: an hour instead of minutes.")] = False,
    limit: Limit = None,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """The main job: theory, phase diagrams, finite-N checks and score spectra, one self-contained HTML page."""
    from numerics.store import writable
    from validation.report import write_report

    if out.suffix not in (".html", ".htm"):
        raise DomainError("--out", str(out), "a file name that ends in .html")
    writable(out, argument="--out")
    with notes.status("report") as status:
        files = write_report(
            out, data=data, full=full, limit=limit, seed=seed, device=device, progress=lambda line: status.update(line)
        )
    console.print("wrote " + ", ".join(map(str, files)), highlight=False)
