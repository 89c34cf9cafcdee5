"""The command line: `geomem times | phase-diagram | audit | spectrum | train | validate | report`."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from numerics.domain import DomainError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="When does a diffusion model copy its training set? The statistical physics of memorisation: theory, phase "
    "diagrams, audits of your own data, and simulations that check it all.",
)
console = Console(width=None if sys.stdout.isatty() else 120)
notes = Console(stderr=True)

Seed = Annotated[int, typer.Option(help="Seed of everything random.", min=0)]
Activation = Annotated[
    str, typer.Option(help="For hidden manifolds: identity, tanh, erf, relu, leaky_relu, sign, abs, sin or quadratic.")
]
Device = Annotated[str, typer.Option(help="Torch device, e.g. cpu or cuda.")]


class ModelName(StrEnum):
    isotropic = "isotropic"
    linear = "linear"
    subspaces = "subspaces"
    hidden = "hidden"


def main() -> None:
    """Entry point: user errors end with one line and status 2, never a traceback."""
    try:
        app()
    except (DomainError, NotImplementedError) as error:
        notes.print(f"error: {error}", style="bold red", markup=False, highlight=False)
        sys.exit(2)
    except KeyboardInterrupt:
        notes.print("interrupted; finished parts that were written stay: run the same command to go on")
        sys.exit(130)


# --- shared ---------------------------------------------------------------------------------------------------------


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise DomainError(name, text, "numbers separated by commas") from error


def _model(name: ModelName, alpha_d: float | None, variances: str, fractions: str | None, activation: str) -> Any:
    from theory import HiddenManifold, Isotropic, LinearManifold, Subspaces

    s = _numbers("--variances", variances)
    f = _numbers("--fractions", fractions) if fractions else None
    if name is ModelName.isotropic:
        if len(s) != 1:
            raise DomainError("--variances", variances, "one number for an isotropic model")
        return Isotropic(s[0])
    if name is ModelName.subspaces:
        if f is None:
            raise DomainError("--fractions", None, "given for subspaces, one number for each variance")
        return Subspaces(f, s)
    if alpha_d is None:
        raise DomainError("--alpha-d", None, "given for this model: latent over ambient dimension, > 0")
    if name is ModelName.hidden:
        return HiddenManifold(alpha_d, activation, s, f)
    return LinearManifold(alpha_d, s, f)


@contextmanager
def _bar(title: str) -> Iterator[Any]:
    """A progress callback `(done, total)` drawn on stderr, with the time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=notes, transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _size(log_p: float) -> str:
    """A number of samples from its logarithm."""
    if not math.isfinite(log_p):
        return "-"
    return f"{math.exp(log_p):.3g}" if log_p < 30 else f"10^{log_p / math.log(10):.1f}"


# --- commands -------------------------------------------------------------------------------------------------------


@app.command(
    epilog="Example: `geomem times --alpha-d 0.5 --alpha 0.2`, or `geomem times --alpha-d 0.05 -P 50000 -N 784`"
)
def times(
    model: Annotated[ModelName, typer.Option(help="Data model.")] = ModelName.linear,
    alpha_d: Annotated[float | None, typer.Option(help="Latent over ambient dimension, D/N > 0.")] = None,
    variances: Annotated[str, typer.Option(help="Variances, separated by commas.")] = "1.0",
    fractions: Annotated[str | None, typer.Option(help="Fractions, separated by commas.")] = None,
    activation: Activation = "tanh",
    alpha: Annotated[float | None, typer.Option(help="Load log P / N > 0.")] = None,
    p: Annotated[float | None, typer.Option("-P", help="Number of samples, with -N instead of --alpha.")] = None,
    n: Annotated[float | None, typer.Option("-N", help="Ambient dimension.")] = None,
    equations: Annotated[bool, typer.Option(help="Also print the equation each time solves.")] = False,
) -> None:
    """The four times of a data model: onset of traps, collapse, condensation, best generalisation."""
    from theory import collapse_time, condensation_time, generalization_time, onset_time

    chosen = _model(model, alpha_d, variances, fractions, activation)
    table = Table(title=str(chosen), title_justify="left")
    for column in ("time", "t = sigma²", "sigma", "log t", "DDPM alpha-bar"):
        table.add_column(column, justify="left" if column == "time" else "right")
    printed = []
    for function in (onset_time, collapse_time, condensation_time, generalization_time):
        log_t = function(chosen, alpha, P=p, N=n, log=True)
        t = math.exp(log_t) if log_t > -700 else math.nan
        representable = log_t > -700
        cells = (f"{t:.10g}", f"{math.exp(log_t / 2):.6g}") if representable else ("below float range",) * 2
        table.add_row(function.kind, *cells, f"{log_t:.8g}", f"{1 / (1 + t):.6g}" if representable else "1")
        printed.append((function.kind, function.equation(chosen)) if equations else None)
    console.print(table)
    for kind, equation in filter(None, printed):
        console.print(f"{kind}: {equation}", markup=False, highlight=False)


@app.command(epilog="Example: `geomem phase-diagram --out diagram.png --points 96`")
def phase_diagram(
    out: Annotated[
        Path, typer.Option(help="Figure: .png, .pdf or .svg. The numbers go beside it as .nc and .csv.")
    ] = Path("phase_diagram.png"),
    view: Annotated[str, typer.Option(help="map, lines or both.")] = "both",
    variances: Annotated[str, typer.Option(help="Latent variances, separated by commas.")] = "1.0",
    fractions: Annotated[str | None, typer.Option(help="Their fractions.")] = None,
    alpha: Annotated[str, typer.Option(help="Range of the load, low,high.")] = "0.001,3",
    alpha_d: Annotated[str, typer.Option(help="Range of D/N, low,high.")] = "0.01,3",
    activation: Annotated[
        str | None,
        typer.Option(
            help="Draw a nonlinear hidden manifold: tanh, relu, erf, sign, abs, sin, ... Several, separated by commas, are "
            "set side by side, beside their Gaussian-equivalence shortcut."
        ),
    ] = None,
    points: Annotated[int, typer.Option(help="Points along each axis.", min=2)] = 64,
) -> None:
    """Phase diagram of all four times over load and latent dimension. Can be killed and resumed."""
    from numerics.store import save_dataset, writable
    from validation.figures import phase_lines, phase_map, save

    if view not in ("map", "lines", "both"):
        raise DomainError("--view", view, "map, lines or both")
    if out.suffix not in (".png", ".pdf", ".svg"):
        raise DomainError("--out", str(out), "a file name that ends in .png, .pdf or .svg")
    writable(out, argument="--out")
    latent = (_numbers("--variances", variances), _numbers("--fractions", fractions) if fractions else None)
    axes = (_range("--alpha", alpha, points), _range("--alpha-d", alpha_d, points))
    several = [name.strip() for name in activation.split(",") if name.strip()] if activation else []
    numbers = out.with_suffix(".nc")
    if len(several) > 1:
        from theory.phase_diagram import activation_diagrams
        from validation.activation_figures import activation_lines, activation_maps

        with _bar("phase diagrams") as progress:
            diagram = activation_diagrams(
                several, *axes, variances=latent[0], fractions=latent[1], out=numbers, progress=progress
            )
        views = {"map": activation_maps, "lines": activation_lines}
    else:
        from theory.phase_diagram import phase_diagram as compute

        family = _Family(*latent, activation)
        with _bar("phase diagram") as progress:
            diagram = compute(*axes, family=family, out=numbers, progress=progress)
        views = {"map": partial(phase_map, title=str(family)), "lines": partial(phase_lines, title=str(family))}
    written = [numbers, save_dataset(diagram, out.with_suffix(".csv"))]
    for name in ("map", "lines") if view == "both" else (view,):
        path = out.with_name(f"{out.stem}-{name}{out.suffix}") if view == "both" else out
        save(views[name](diagram), path)
        written.append(path)
    console.print("wrote " + ", ".join(map(str, written)), highlight=False)


class _Family:
    """Manifolds that differ in alpha_D only."""

    def __init__(self, variances: list[float], fractions: list[float] | None, activation: str | None):
        self.variances, self.fractions, self.activation = variances, fractions, activation
        self(1.0)  # checked before any work

    def __call__(self, alpha_D: float) -> Any:
        from theory import HiddenManifold, LinearManifold

        if self.activation is None:
            return LinearManifold(alpha_D, self.variances, self.fractions)
        return HiddenManifold(alpha_D, self.activation, self.variances, self.fractions)

    def __repr__(self) -> str:
        latent = ", ".join(f"{s:g}" for s in self.variances)
        kind = f"{self.activation} hidden manifold" if self.activation else "linear manifold"
        return f"{kind}, latent variance {latent}"


def _range(name: str, text: str, points: int) -> Any:
    import numpy as np

    ends = _numbers(name, text)
    if len(ends) != 2 or not 0 < ends[0] < ends[1] < math.inf:
        raise DomainError(name, text, "two numbers low,high with 0 < low < high")
    return np.geomspace(*ends, points)


@app.command(epilog="Example: `geomem audit images/ --sigma 0.1,0.5 --out audit`")
def audit(
    data: Annotated[
        Path | None,
        typer.Argument(help="npy, npz, IDX (gz), CIFAR batches or a folder of images; default: scikit-learn's digits."),
    ] = None,
    sigma: Annotated[
        str | None, typer.Option(help="Noise levels for the table of sizes, data units; default: around collapse.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the figure and the numbers.")] = None,
    key: Annotated[str | None, typer.Option(help="Array inside an npz.")] = None,
    limit: Annotated[int | None, typer.Option(help="Use at most this many samples.", min=4)] = None,
    image_size: Annotated[int | None, typer.Option(help="Crop and resize images to this many pixels.", min=1)] = None,
    probes: Annotated[int, typer.Option(help="Points used as probes.", min=2)] = 256,
    model: Annotated[
        Path | None,
        typer.Option(help="A checkpoint of `geomem train`: audit its networks on the data they were trained on."),
    ] = None,
    twin: Annotated[bool, typer.Option(help="Also measure a Gaussian sample with the same spectrum.")] = True,
    finite_size: Annotated[bool, typer.Option(help="Also evaluate the exact theory at this P and N.")] = True,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """At what noise does this data set memorise, how many samples would it need? Theory beside measurement."""
    if model is not None:
        return _audit_model(model, data, out, probes, device)
    from validation.audit import audit as run
    from validation.data import load
    from validation.report import audit_lines, write_audit

    sigmas = _numbers("--sigma", sigma) if sigma else None
    folder = _folder(out) if out else None
    dataset = load(data, key=key, limit=limit, image_size=image_size, seed=seed)
    with notes.status("audit") as status:
        result = run(
            dataset,
            sigmas=sigmas,
            probes=probes,
            twin=twin,
            finite_size=finite_size,
            seed=seed,
            device=device,
            progress=lambda line: status.update(line),
        )
    for item in audit_lines(result):
        console.print(item, highlight=False)
    if folder:
        console.print("wrote " + ", ".join(map(str, write_audit(result, folder))), highlight=False)


def _audit_model(model: Path, data: Path | None, out: Path | None, probes: int, device: str) -> None:
    from numerics.store import save_dataset
    from validation.training.command import audit_model, report_lines

    if data is not None:
        raise DomainError("DATA", str(data), "left out with --model", "The checkpoint knows the data it was trained on")
    folder = _folder(out) if out else None
    with notes.status("audit"):
        found = audit_model(model, points=probes, device=device)
    for P, losses in found:
        for line in report_lines(P, losses):
            console.print(line, markup=False, highlight=False)
        if folder:
            console.print(f"wrote {save_dataset(losses, folder / f'model-P{P}.csv')}", highlight=False)


@app.command(
    epilog="Example: `geomem spectrum --out digits.png`, or "
    "`geomem spectrum --subspaces 5:1.0,5:0.09,20:0.0001 -P 1000 --out subspaces.png`"
)
def spectrum(
    data: Annotated[Path | None, typer.Argument(help="As for `geomem audit`; default: scikit-learn's digits.")] = None,
    subspaces: Annotated[
        str | None, typer.Option(help="Synthetic data instead: dimension:variance pairs, separated by commas.")
    ] = None,
    p: Annotated[int | None, typer.Option("-P", "--P", help="Training points of --subspaces; default 1000.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="A checkpoint of `geomem train`: its networks too, one figure each.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Figure: .png, .pdf or .svg. The numbers go beside it as .nc and .csv.")
    ] = Path("spectrum.png"),
    sigma: Annotated[
        str | None, typer.Option(help="Range of noise, low,high in data units; default: around collapse.")
    ] = None,
    points: Annotated[int, typer.Option(help="Noise levels.", min=4)] = 25,
    probes: Annotated[int, typer.Option(help="Points of each kind at which the score is probed.", min=2)] = 24,
    key: Annotated[str | None, typer.Option(help="Array inside an npz.")] = None,
    limit: Annotated[int | None, typer.Option(help="Use at most this many samples.", min=4)] = None,
    image_size: Annotated[int | None, typer.Option(help="Crop and resize images to this many pixels.", min=1)] = None,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """At which noise does a training set's score lose directions, and which first?

    The spectrum of the empirical score's Jacobian over a grid of noise, at noised training points, fresh points and the
    centre, beside the Gaussian (for synthetic data: exact) score and the empirical score of half of the points.
    """
    from validation.spectrum_command import run
    from validation.spectrum_figure import reading, tables

    levels = None if sigma is None else _numbers("--sigma", sigma)
    options = {"key": key, "limit": limit, "image_size": image_size}
    with _bar("spectra") as progress:
        found = run(
            data,
            out,
            subspaces=subspaces,
            P=p,
            model=model,
            sigmas=levels,
            points=points,
            probes=probes,
            seed=seed,
            device=device,
            progress=progress,
            **{name: value for name, value in options.items() if value is not None},
        )
    for result, files in found:
        console.print(f"\n[bold]{result.attrs['data']}[/bold]", highlight=False)
        for item in tables(result):
            table = Table(title=item.caption, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
            for i, head in enumerate(item.head):
                table.add_column(head, justify="left" if i in item.text else "right", no_wrap=i in item.text)
            for row in item.rows:
                table.add_row(*row)
            console.print(table)
        for line in reading(result):
            console.print(line, highlight=False)
        console.print("wrote " + ", ".join(map(str, files)), highlight=False)


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
    learning_rate: Annotated[float, typer.Option(help="Adam's, before it decays.")] = 1e-3,
    network: Annotated[str, typer.Option(help="mlp, unet, or auto: a U-Net for images.")] = "auto",
    width: Annotated[int | None, typer.Option(help="Hidden width, or channels of the finest level.", min=1)] = None,
    blocks: Annotated[int | None, typer.Option(help="Residual blocks (a level).", min=1)] = None,
    sigma: Annotated[str, typer.Option(help="Range of noise that is learned, low,high in data units.")] = "0.002,10",
    precision: Annotated[str, typer.Option(help="auto (bfloat16 on cuda), float32, float64 or bfloat16.")] = "auto",
    limit: Annotated[int | None, typer.Option(help="Use at most this many samples.", min=4)] = None,
    image_size: Annotated[int | None, typer.Option(help="Crop and resize images to this many pixels.", min=1)] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint if it is there.")] = True,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """Train score networks by denoising score matching; under torchrun, on several devices."""
    from contextlib import ExitStack

    from validation.training import NoiseLevels, TrainingConfig
    from validation.training.command import audit_model, report_lines
    from validation.training.command import train as run
    from validation.training.distributed import launched, process_group
    from validation.training.progress import training_bar

    levels = _numbers("--sigma", sigma)
    if len(levels) != 2:
        raise DomainError("--sigma", sigma, "two numbers low,high with 0 < low < high")
    config = TrainingConfig(steps, batch, learning_rate, noise=NoiseLevels(*levels), precision=precision)
    sizes = None if p is None else _numbers("-P", p)
    source = (
        {"data": data, "seed": seed}
        | ({"limit": limit} if limit else {})
        | ({"image_size": image_size} if image_size else {})
    )
    chosen = {"kind": network, "width": width, "blocks": blocks}
    with ExitStack() as stack:
        many = launched()
        device = stack.enter_context(process_group(device)) if many else device
        options = {"device": device, "resume": resume, "distributed": many}
        network_record = {k: v for k, v in chosen.items() if v is not None}
        with training_bar(notes) as bar:
            progress = bar if os.environ.get("RANK", "0") == "0" else None
            trainer = run(source, sizes, network_record, config, out, **options, progress=progress)
        if many and trainer.processes.rank:
            return
        for P, losses in audit_model(out, device=device):
            for line in report_lines(P, losses):
                console.print(line, markup=False, highlight=False)
        console.print(f"wrote {out}", highlight=False)


def _folder(path: Path) -> Path:
    from numerics.store import writable

    writable(path / "x", argument="--out")
    return path


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

    folder = _folder(out)
    preset = "full" if full else "quick"
    for name in only or EXPERIMENTS:
        module = experiment(name)
        with _bar(name) as progress:
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
    limit: Annotated[int | None, typer.Option(help="Use at most this many samples.", min=4)] = None,
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
