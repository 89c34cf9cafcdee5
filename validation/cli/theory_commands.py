"""What theory alone answers: `geomem times`, `geomem noise` and `geomem phase-diagram`."""

from __future__ import annotations

import math
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from numerics.domain import DomainError
from validation.cli.options import DaskScheduler, FigureFile
from validation.cli.terminal import app, console, numbers_of, on_dask, progress_bar, say


class ModelName(StrEnum):
    isotropic = "isotropic"
    linear = "linear"
    subspaces = "subspaces"
    hidden = "hidden"
    power_law = "power-law"
    mixture = "mixture"


def _model(
    name: ModelName,
    alpha_d: float | None,
    variances: str,
    fractions: str | None,
    activation: str,
    exponent: float = 2.0,
    n: float | None = None,
) -> Any:
    from theory import HiddenManifold, Isotropic, LinearManifold, Mixture, PowerLaw, Subspaces

    s = numbers_of("--variances", variances)
    f = numbers_of("--fractions", fractions) if fractions else None
    if name is ModelName.isotropic:
        if len(s) != 1:
            raise DomainError("--variances", variances, "one number for an isotropic model")
        return Isotropic(s[0])
    if name is ModelName.power_law:
        if len(s) != 1:
            raise DomainError("--variances", variances, "one number for a power law: the mean variance")
        if n is None:
            raise DomainError("-N", None, "given for a power law: the number of its eigenvalues")
        return PowerLaw(exponent, n, s[0])
    if name is ModelName.mixture:
        if f is None:
            raise DomainError(
                "--fractions", None, "given for a mixture: the weight of each class, one for each variance"
            )
        return Mixture(f, [Isotropic(value) for value in s], N=n)
    if name is ModelName.subspaces:
        if f is None:
            raise DomainError("--fractions", None, "given for subspaces, one number for each variance")
        return Subspaces(f, s)
    if alpha_d is None:
        raise DomainError("--alpha-d", None, "given for this model: latent over ambient dimension, > 0")
    if name is ModelName.hidden:
        return HiddenManifold(alpha_d, activation, s, f)
    return LinearManifold(alpha_d, s, f)


@app.command(
    epilog="Example: `geomem times --alpha-d 0.5 --alpha 0.2`, or `geomem times --alpha-d 0.05 -P 50000 -N 784`"
)
def times(
    model: Annotated[
        ModelName, typer.Option(help="Data model; a mixture has isotropic classes, a power law r_k = c k^-a, k = 1..N.")
    ] = ModelName.linear,
    alpha_d: Annotated[float | None, typer.Option(help="Latent over ambient dimension, D/N > 0.")] = None,
    variances: Annotated[str, typer.Option(help="Variances, separated by commas.")] = "1.0",
    fractions: Annotated[str | None, typer.Option(help="Fractions, separated by commas.")] = None,
    activation: Annotated[
        str,
        typer.Option(help="For hidden manifolds: identity, tanh, erf, relu, leaky_relu, sign, abs, sin or quadratic."),
    ] = "tanh",
    exponent: Annotated[float, typer.Option(help="Exponent a > 1 of a power law.")] = 2.0,
    alpha: Annotated[float | None, typer.Option(help="Load log P / N > 0.")] = None,
    p: Annotated[float | None, typer.Option("-P", help="Number of samples, with -N instead of --alpha.")] = None,
    n: Annotated[float | None, typer.Option("-N", help="Ambient dimension.")] = None,
    equations: Annotated[bool, typer.Option(help="Also print the equation each time solves.")] = False,
) -> None:
    """The four times of a data model: onset of traps, collapse, condensation, best generalisation."""
    from theory import collapse_time, condensation_time, generalization_time, onset_time

    chosen = _model(model, alpha_d, variances, fractions, activation, exponent, n)
    knows_size = model in (ModelName.power_law, ModelName.mixture)
    size = None if knows_size and alpha is not None else n
    table = Table(title=escape(str(chosen)), title_justify="left")
    for column in ("time", "t = sigma²", "sigma", "log t", "DDPM alpha-bar"):
        table.add_column(column, justify="left" if column == "time" else "right")
    printed = []
    for function in (onset_time, collapse_time, condensation_time, generalization_time):
        values = function(chosen, alpha, P=p, N=size, log=True)
        for k, log_t in enumerate([values] if isinstance(values, float) else values.tolist(), start=1):
            name = f"{function.kind}, class {k}" if model is ModelName.mixture else function.kind
            representable = log_t > -700
            t = math.exp(log_t) if representable else math.nan
            cells = (f"{t:.10g}", f"{math.exp(log_t / 2):.6g}") if representable else ("below float range",) * 2
            table.add_row(name, *cells, f"{log_t:.8g}", f"{1 / (1 + t):.6g}" if representable else "1")
        printed.append((function.kind, function.equation(chosen)) if equations else None)
    console.print(table)
    for kind, equation in filter(None, printed):
        say(f"{kind}: {equation}")


@app.command(epilog="Example: `geomem noise --alpha-bar 0.9`, or `geomem noise --sigma 0.5,0.1 --unit 2`")
def noise(
    sigma: Annotated[str | None, typer.Option(help="EDM: standard deviation of the noise, data units.")] = None,
    t: Annotated[str | None, typer.Option("--t", help="Variance-exploding time sigma², data units squared.")] = None,
    alpha_bar: Annotated[str | None, typer.Option(help="DDPM: cumulative product, in (0, 1].")] = None,
    ou: Annotated[str | None, typer.Option(help="Ornstein-Uhlenbeck (variance preserving) time, >= 0.")] = None,
    flow: Annotated[str | None, typer.Option(help="Flow matching: s of x = (1 - s) data + s noise, in [0, 1).")] = None,
    log_snr: Annotated[str | None, typer.Option(help="log of signal to noise ratio, -log t.")] = None,
    unit: Annotated[
        float, typer.Option(help="What one unit of the network is in data units: it was trained on data/unit.")
    ] = 1.0,
) -> None:
    """One noise level in every convention. Give one of them, or several numbers of it separated by commas.

    sigma and t are in data units; the others are those of a network that was trained on data/unit.
    """
    import theory.noise as conventions

    given_as = {"--sigma": sigma, "--t": t, "--alpha-bar": alpha_bar, "--ou": ou, "--flow": flow, "--log-snr": log_snr}
    asked = {option: text for option, text in given_as.items() if text is not None}
    if len(asked) != 1:
        raise DomainError("convention", ", ".join(asked) or None, f"one of {', '.join(given_as)}")
    if not (math.isfinite(unit) and unit > 0):
        raise DomainError("--unit", unit, "a finite number > 0")
    [(option, text)] = asked.items()
    name = option.removeprefix("--").replace("-", "_")
    table = Table(title="The same noise in every convention", title_justify="left")
    for column in ("sigma", "t = sigma²", "DDPM alpha-bar", "OU time", "flow s", "log SNR"):
        table.add_column(column, justify="right")
    for value in numbers_of(option, text):
        level = value if name == "t" else getattr(conventions, f"t_from_{name}")(value)
        level = level if name in ("sigma", "t") else level * unit**2
        own = level / unit**2
        cells = [conventions.t_to_sigma(level), level]
        cells += [getattr(conventions, f"t_to_{other}")(own) for other in ("alpha_bar", "ou", "flow")]
        cells.append(conventions.t_to_log_snr(own) if own > 0 else math.inf)
        table.add_row(*(f"{cell + 0.0:.6g}" for cell in cells))
    console.print(table)


@app.command(epilog="Example: `geomem phase-diagram --out diagram.png --points 96`")
def phase_diagram(
    out: FigureFile = Path("phase_diagram.png"),
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
    points: Annotated[int, typer.Option(help="Points along each axis.", min=2, max=10_000)] = 64,
    scheduler: DaskScheduler = None,
) -> None:
    """Phase diagram of all four times over load and latent dimension. Can be killed and resumed."""
    from numerics.store import save_dataset, writable
    from validation.figures import phase_lines, phase_map, save

    if view not in ("map", "lines", "both"):
        raise DomainError("--view", view, "map, lines or both")
    if out.suffix not in (".png", ".pdf", ".svg"):
        raise DomainError("--out", str(out), "a file name that ends in .png, .pdf or .svg")
    writable(out, argument="--out")
    latent = (numbers_of("--variances", variances), numbers_of("--fractions", fractions) if fractions else None)
    axes = (_range("--alpha", alpha, points), _range("--alpha-d", alpha_d, points))
    several = [name.strip() for name in activation.split(",") if name.strip()] if activation else []
    numbers = out.with_suffix(".nc")
    if len(several) > 1:
        from theory.phase_diagram import activation_diagrams
        from validation.figures import activation_lines, activation_maps

        with on_dask(scheduler, "--scheduler") as client, progress_bar("phase diagrams") as progress:
            diagram = activation_diagrams(
                several,
                *axes,
                variances=latent[0],
                fractions=latent[1],
                out=numbers,
                progress=progress,
                scheduler=client,
            )
        views = {"map": activation_maps, "lines": activation_lines}
    else:
        from theory.phase_diagram import phase_diagram as compute

        family = _Family(*latent, activation)
        with on_dask(scheduler, "--scheduler") as client, progress_bar("phase diagram") as progress:
            diagram = compute(*axes, family=family, out=numbers, progress=progress, scheduler=client)
        views = {"map": partial(phase_map, title=str(family)), "lines": partial(phase_lines, title=str(family))}
    written = [numbers, save_dataset(diagram, out.with_suffix(".csv"))]
    for name in ("map", "lines") if view == "both" else (view,):
        path = out.with_name(f"{out.stem}-{name}{out.suffix}") if view == "both" else out
        save(views[name](diagram), path)
        written.append(path)
    say("wrote " + ", ".join(map(str, written)))


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

    ends = numbers_of(name, text)
    if len(ends) != 2 or not 0 < ends[0] < ends[1] < math.inf:
        raise DomainError(name, text, "two numbers low,high with 0 < low < high")
    return np.geomspace(*ends, points)
