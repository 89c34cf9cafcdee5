"""The chapters of the page: score spectra, theory, phase diagram, audits, simulations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from numerics.store import save_dataset
from theory import LinearManifold
from validation import figures
from validation.audit import Audit, audit_facts, audit_figure, audit_tables, classes_table, report_lines
from validation.experiments import EXPERIMENTS
from validation.experiments.shared import ExperimentResult
from validation.figures import image_pairs
from validation.report.diagram import diagram_html, diagrams, place_of
from validation.report.mathematics import mathml
from validation.report.page import FigureData, Fold, Section
from validation.spectra import FittedGaussian
from validation.spectrum import Subject, figure, losses, noise_levels, reading, spectrum, tables
from validation.tables import TableData

__all__ = [
    "audit_fold",
    "audit_section",
    "diagram_section",
    "experiment_fold",
    "model_section",
    "spectrum_section",
    "theory_section",
]

LARGEST = 1024  # numbers a sample, up to which the Jacobians' spectra are a matter of a minute
POINTS, PROBES = 9, 8  # noise levels and probes of the spectra
PICTURED = 2  # principal directions of a group


def spectrum_section(
    subject: Subject | None, gaussian: FittedGaussian, shape: Sequence[int], folder: Path, command: str, *, seed: int, device: str
) -> Section:  # fmt: skip
    """The ideal score's spectrum against noise, and the directions that it loses first, as pictures.

    subject : of `validation.spectrum`, or None where it is too large; gaussian : of the training set
    """
    section = Section("Which directions go first")
    lost: dict[str, tuple[float, float]] = {}
    if subject is None:
        N = math.prod(shape)
        section.text.append(
            f"At {N:,} numbers a sample the spectra take longer than this page: `{command}` makes them."
        )
    else:
        found = spectrum(subject, noise_levels(subject, POINTS), probes=PROBES, seed=seed, device=device)
        save_dataset(found, folder / "spectrum.nc")
        section.text += reading(found)
        departure = losses(found, "noisy")["departure"].values
        lost = {str(g): (float(t), float(e)) for g, (t, e) in zip(found["group"].values, departure, strict=True)}
        section.figures.append(
            FigureData(
                "spectrum",
                figure(found),
                "Sorted eigenvalues of -tJ, J the Jacobian of the score, against noise: 1 is noise, 0 a direction of the data. "
                "The ideal score beside the Gaussian control and the ideal score of half of the points.",
                f"{folder.name}/spectrum.nc",
                command,
                wide=True,
            )
        )
        section.folds.append(Fold("The numbers of the spectra", tables=list(tables(found))))
    picture = directions_figure(subject, gaussian, shape, lost)
    if picture is not None:
        section.text.append(
            "Principal directions are images: weights on the pixels. As noise falls, high variance departs from the truth first; "
            "directions of a variance far below t_cond never rise above the noise."
        )
        save_dataset(directions_dataset(gaussian), folder / "directions.nc")
        caption = (
            "Principal directions of the training set, most variance first, with their variance r and, where measured, the noise "
            "sigma at which their group departs from the Gaussian control. White and black have opposite signs."
        )
        section.figures.append(
            FigureData("directions", picture, caption, f"{folder.name}/directions.nc", command, wide=True)
        )
    return section


def directions_figure(
    subject: Subject | None, gaussian: FittedGaussian, shape: Sequence[int], lost: dict[str, tuple[float, float]]
) -> Any:
    """The first principal directions of each group as images; None where samples are no images."""
    axes, variances = gaussian.axes.numpy(), gaussian.variances.numpy()
    groups = subject.groups if subject is not None else _octaves(int((variances > 1e-12 * variances[0]).sum()))
    chosen, captions = [], []
    for name, block in groups.items():
        if block.stop > len(axes):
            break
        t, _ = lost.get(name, (math.nan, math.nan))
        for k in range(block.start, min(block.start + PICTURED, block.stop)):
            chosen.append(k)
            at = rf"$\sigma$={math.sqrt(t):.2g}" if math.isfinite(t) else ""
            captions.append(f"{k + 1}: $r$={variances[k]:.2g}\n{at}")
    images = axes[chosen] / np.abs(axes[chosen]).max(axis=1, keepdims=True)
    return image_pairs([[("principal", images, captions)]], shape, "principal directions", limits=(-1.0, 1.0))


def _octaves(count: int) -> dict[str, slice]:
    edges = [0, *(2**k for k in range(1, max(2, count.bit_length())))]
    return {f"{a + 1}": slice(a, min(b, count)) for a, b in pairwise(edges) if a < count}


def directions_dataset(gaussian: FittedGaussian, most: int = 64) -> Any:
    """The leading principal directions and all variances."""
    import xarray as xr

    return xr.Dataset(
        {
            "direction": (("rank", "number"), gaussian.axes[:most].numpy(), {"units": "1"}),
            "variance": ("mode", gaussian.variances.numpy(), {"units": "squared data units"}),
        }
    )


def theory_section() -> Section:
    """The equations, from sympy, and the reference point."""
    import sympy as sp

    from theory import collapse_time, condensation_time, generalization_time, onset_time
    from theory.notation import alpha, alpha_D

    model = LinearManifold(alpha_D)
    functions = (onset_time, collapse_time, condensation_time, generalization_time)
    section = Section(
        "The theory",
        [
            "At fixed noise t = sigma² the ideal score is a random energy model whose levels are the training points. It "
            "condenses where 1/t passes beta_*: at less noise a few points have all the weight. Four noise levels t_o, t_c, "
            "t_cond and t_g organise its life, for P = exp(alpha N) points in N dimensions.",
        ],
    )
    general = {
        "Partition sum at a noisy point x:": r"Z=\sum_{\mu=1}^{P}e^{-\beta\,|x-\xi^{\mu}|^2/2},\qquad \beta=\frac{1}{t}",
        "Condensation, with g the scaled cumulant generating function of the other points:": (
            r"\alpha+g(\beta_*)-\beta_*\,g'(\beta_*)=0"
        ),
        "Collapse of Gaussian data with spectral density rho:": r"2\alpha=\int \rho(r)\,\log\left(1+\frac{r}{t_c}\right)dr",
        "Best generalisation, from the condensed phase of a clean point:": r"t_g=-2\,g'(\beta_*)",
    }
    section.equations += [{"words": words, "mathml": mathml(tex, block=True)} for words, tex in general.items()]
    for function in functions:
        equations = sorted(function.equation(model).args, key=lambda e: e.lhs != 2 * alpha)
        shown = (sp.mathml(equation, printer="presentation").join(_MATH) for equation in equations)
        section.equations.append(
            {"words": f"{_NAMES[function.kind]}, linear manifold:", "mathml": Markup("".join(shown))}
        )
    point = LinearManifold(0.5)
    rows = [(_NAMES[f.kind], f"{f(point, 0.2):.11g}", f"{math.sqrt(f(point, 0.2)):.6g}") for f in functions]
    caption = "A linear manifold of D = alpha_D N latent dimensions at alpha_D = 0.5, alpha = 0.2 "
    caption += "(`geomem times --alpha-d 0.5 --alpha 0.2`)."
    section.tables.append(TableData(caption, ("time", "t = sigma²", "sigma"), rows))
    return section


_MATH = ('<math display="block">', "</math>")
_NAMES = {
    "onset": "trap emergence t_o",
    "collapse": "collapse t_c",
    "condensation": "condensation t_cond",
    "generalization": "best generalisation t_g",
}


def diagram_section(result: Audit, folder: Path, activations: Sequence[str], name: str) -> Section:
    """The phase diagram with sliders, the data set in it, and the fixed pictures behind a fold."""
    found = diagrams(activations)
    for model, data in found.items():
        save_dataset(data, folder / f"phase_diagram{'' if model == 'linear' else '_' + model}.nc")
    linear = found["linear"]
    numbers, command = f"{name}/phase_diagram.nc", "geomem phase-diagram --out diagram.png"
    section = Section(
        "Phase diagram: where your data lie",
        [
            "Read downwards in noise: above t_o no training point attracts; between t_o and t_c traps exist but typical "
            "trajectories do not meet them; below t_c the ideal score has collapsed onto the training set. The best "
            "generalisation, t_g, lies inside the memorisation phase.",
            f"The star is {result.data.name}: its load alpha = log P / N, its measured t_c, and as alpha_D the effective "
            "dimension of its covariance over N. It need not lie on a curve: its spectrum is not that of a linear manifold. The "
            "cross is where the sliders are.",
        ],
        made=f"Numbers: {numbers} (and one file a nonlinear manifold). Made by `{command}`.",
        html=diagram_html(found, place_of(result), result.data.N),
    )
    section.folds.append(
        Fold(
            "The four times over the plane",
            figures=[
                FigureData(
                    "phase_map",
                    figures.phase_map(linear),
                    "The four times over load and latent dimension.",
                    numbers,
                    command,
                    wide=True,
                )
            ],
        )
    )  # fmt: skip
    return section


def audit_section(result: Audit, folder: str, command: str, points: Any | None, classes: Any | None) -> Section:
    """An audit as a chapter: the figure and the times, all else behind folds."""
    section = Section(f"Measured: {result.data.name}")
    audited = audit_fold(result, folder, command)
    section.text += audited.text[-1:]
    section.tables.append(audited.tables[0])
    section.figures += audited.figures
    section.folds.append(Fold("What the data are", text=audited.text[:-1]))
    section.folds.append(Fold("Sizes, growth and counts", tables=audited.tables[1:]))
    if classes:
        section.folds.append(Fold("Classes", tables=[classes_table(classes)]))
    if points is not None:
        from validation.points import law_figure, points_lines

        caption = "Law of the single points' own collapse, and the distance that goes with it."
        law = FigureData("points", law_figure(points), caption, f"{folder}/points.nc", f"{command} --points", wide=True)
        section.folds.append(Fold("Single points", text=list(points_lines(points)), figures=[law]))
    return section


def audit_fold(result: Audit, folder: str, command: str) -> Fold:
    """An audit behind one line."""
    row = result.row("collapse")
    line = f"{result.data.name}: collapse of the ideal score measured at sigma = {math.sqrt(max(row.data.value, 0)):.3g}, theory "
    line += f"{math.sqrt(row.theory):.3g}: {row.verdict}"
    caption = (
        "Measured on the data's own empirical score (black) and on a Gaussian sample with the same spectrum and size (grey); the "
        "exact theory of that Gaussian at this size (blue dots) and at infinite size (dashed). Bands: one standard error over "
        "probes."
    )
    drawn = FigureData(
        f"audit-{result.data.name}", audit_figure(result), caption, f"{folder}/audit.nc", command, wide=True
    )
    return Fold(line, audit_facts(result), audit_tables(result), [drawn])


def experiment_fold(name: str, result: ExperimentResult, drawn: Any, folder: str, full: bool) -> Fold:
    """An experiment: its verdicts in a line, the table and the figure behind it."""
    rows = [
        (
            row.quantity,
            row.model,
            f"{row.verdict.prediction.value:.5g}",
            f"{row.verdict.measured:.5g}",
            f"{row.verdict.error:.2g}",
            f"{100 * row.verdict.deviation:+.1f} %",
            str(row.outcome),
        )
        for row in result.rows
    ]
    told = ", ".join(f"{n} {outcome}" for outcome, n in result.count().items() if n)
    head = ("quantity", "model", "theory", "measured", "error", "off by", "verdict")
    table = TableData("Prediction, declared before the run, and measurement.", head, rows, text=(0, 1, 6))
    command = f"geomem validate --only {name}{' --full' if full else ''}"
    shown = FigureData(name, drawn, EXPERIMENTS[name], f"{folder}/{name}.nc", command, wide=True)
    return Fold(f"{EXPERIMENTS[name]}: {told}", [result.claim], [table], [shown])


def model_section(
    losses_of: Sequence[tuple[int, Any]], samples: Any | None, folder: str, commands: dict[str, str]
) -> Section:
    """What was measured on a model and on its samples."""
    section = Section("What the model was measured to do")
    for P, found in losses_of:
        lines = report_lines(P, found)
        columns = ("network", "empirical", "population")
        rows = []
        for k, t in enumerate(found["t"].values):
            at = found.isel(t=k)
            values = [float(at[c].sel(where=w)) for w in ("training", "fresh") for c in columns]
            cells = [f"{value:.3g}" if math.isfinite(value) else "-" for value in values]
            rows.append((f"{t:.3g}", f"{math.sqrt(t):.3g}", *cells, str(at["label"].item())))  # fmt: skip
        head = ("t", "sigma", *(f"{c}, {w}" for w in ("training", "fresh") for c in columns), "state")
        caption = (
            f"P = {P:,}: denoising loss on training and on fresh points, of the network, the ideal (empirical) score, "
        )
        caption += "the population's."
        section.tables.append(TableData(caption, head, rows, text=(8,)))
        section.text += [line for line in lines[2 + found.sizes["t"] :]]
        section.text.append(f"Numbers: {folder}/model-P{P}.csv. Made by `{commands['model']}`.")
    if samples is not None:
        from validation.samples import samples_table, worst_figure

        section.tables.append(samples_table(samples))
        section.text += [f"Note: {line}" for line in samples.found.dropped]
        picture = worst_figure(samples)
        caption = "The samples whose nearest training point stands out most, each above it."
        if picture is not None:
            where, how = f"{folder}/samples.nc", commands["samples"]
            section.figures.append(FigureData("samples-worst", picture, caption, where, how, wide=True))
    return section
