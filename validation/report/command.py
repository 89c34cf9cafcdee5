"""One page with everything: theory, phase diagrams, finite-N checks, score spectra and an audit, figures and numbers beside."""

from __future__ import annotations

import base64
import io
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from numerics.store import atomic, provenance, save_dataset
from theory import LinearManifold
from validation import figures
from validation.audit import Audit, audit, audit_facts, audit_figure, audit_tables, write_audit
from validation.data import Dataset, load
from validation.experiments import EXPERIMENTS, IN_QUICK_REPORT, experiment
from validation.experiments.shared import ExperimentResult
from validation.experiments.shared import save as save_experiment
from validation.simulation import Sampler
from validation.tables import TableData

__all__ = ["Section", "write_report"]


@dataclass
class FigureData:
    name: str
    figure: Figure
    caption: str

    @property
    def png(self) -> str:
        buffer = io.BytesIO()
        with figures.style():
            self.figure.savefig(buffer, format="png", dpi=130)
        return base64.b64encode(buffer.getvalue()).decode()


@dataclass
class Section:
    """A chapter of the page."""

    title: str
    text: list[str] = field(default_factory=list)
    equations: list[dict[str, str]] = field(default_factory=list)
    tables: list[TableData] = field(default_factory=list)
    figures: list[FigureData] = field(default_factory=list)


# --- experiments ------------------------------------------------------------------------------------------------------


def experiment_section(name: str, result: ExperimentResult, figure: Figure) -> Section:
    """An experiment as a chapter."""
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
    head = ("quantity", "model", "theory", "measured", "error", "off by", "verdict")
    return Section(
        EXPERIMENTS[name],
        [result.claim],
        tables=[TableData("Prediction, declared before the run, and measurement.", head, rows, text=(0, 1, 6))],
        figures=[FigureData(name, figure, EXPERIMENTS[name])],
    )


# --- the page ---------------------------------------------------------------------------------------------------------


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
            "At fixed noise the empirical score is a random energy model whose levels are the training points. Four noise "
            "levels organise its life, for P = exp(alpha N) points in N dimensions. For a linear manifold of D = alpha_D N "
            "latent dimensions each is explicit along a curve in one parameter V.",
        ],
    )
    for function in functions:
        equations = sorted(function.equation(model).args, key=lambda e: e.lhs != 2 * alpha)
        shown = (sp.mathml(equation, printer="presentation").join(_MATH) for equation in equations)
        section.equations.append({"words": f"{function.kind}:", "mathml": "".join(shown)})
    point = LinearManifold(0.5)
    rows = [(f.kind, f"{f(point, 0.2):.11g}", f"{math.sqrt(f(point, 0.2)):.6g}") for f in functions]
    section.tables.append(TableData("At alpha_D = 0.5, alpha = 0.2.", ("time", "t = sigma²", "sigma"), rows))
    return section


_MATH = ('<math display="block">', "</math>")


def diagram_section(folder: Path, points: int) -> Section:
    """Phase diagrams of the linear manifold, the numbers beside the page."""
    from theory.phase_diagram import phase_diagram

    cuts = [0.1, 0.5, 2.0]
    diagram = phase_diagram(np.geomspace(1e-3, 3, points), np.union1d(np.geomspace(0.01, 3, points), cuts))
    save_dataset(diagram, folder / "phase_diagram.nc")
    return Section(
        "Phase diagrams of the linear manifold",
        [
            "Read upwards in noise: above t_o no training point attracts; between t_c and t_o traps exist but typical "
            "trajectories do not meet them; below t_c the score has collapsed onto the training set. The best generalisation, "
            "t_g, lies inside the memorisation phase.",
        ],
        figures=[
            FigureData("phase_map", figures.phase_map(diagram), "The four times over load and latent dimension."),
            FigureData("phase_lines", figures.phase_lines(diagram, cuts), "Cuts at fixed latent dimension."),
        ],
    )


def audit_section(result: Audit) -> Section:
    """An audit as a chapter."""
    return Section(
        f"Audit: {result.data.name}",
        audit_facts(result),
        tables=audit_tables(result),
        figures=[
            FigureData(
                f"audit-{result.data.name}",
                audit_figure(result),
                "Measured on the data's own empirical score (black) and on a Gaussian sample with the same spectrum and size "
                "(grey); the exact theory of that Gaussian at this size (blue dots) and at infinite size (dashed). Bands: one "
                "standard error over probes.",
            )
        ],
    )


def synthetic_manifold(seed: int, N: int = 100, P: int = 4000) -> Dataset:
    """A sample of a linear manifold, D = 0.2 N: data for which the Gaussian theory is exact."""
    model = LinearManifold(0.2)
    X = Sampler(model, N, seed).sample(P).numpy().astype(np.float32)
    return Dataset(X, "synthetic-manifold", (N,), "data units", f"a sample of {model}")


def _summary(audits: Sequence[Audit], results: Sequence[ExperimentResult]) -> list[str]:
    lines = []
    for result in results:
        counts = result.count()
        told = ", ".join(f"{n} {outcome}" for outcome, n in counts.items() if n)
        lines.append(f"Theory against finite-N simulation ({result.name}): {told}.")
    for one in audits:
        row = one.row("collapse")
        if math.isfinite(row.data.value):
            lines.append(
                f"{one.data.name}, {one.measured.P:,} samples: the ideal score memorises them below sigma = "
                f"{math.sqrt(row.data.value):.3g} (measured), {math.sqrt(row.theory):.3g} (theory from its covariance); "
                f"{row.verdict}."
            )
    return lines


def render(sections: Sequence[Section], summary: Sequence[str], told: Iterable[tuple[str, str]]) -> str:
    """The page as HTML, in which every name and sentence is text."""
    from jinja2 import Environment, PackageLoader, select_autoescape

    environment = Environment(loader=PackageLoader("validation", "."), autoescape=select_autoescape())
    return environment.get_template("report.html").render(
        title="When does this copy its training set?",
        lead="geomem: theory of memorisation in generative diffusion, evaluated, simulated and measured in one run.",
        summary=summary,
        sections=sections,
        provenance=told,
    )


def write_report(
    out: Path,
    *,
    data: Path | None = None,
    full: bool = False,
    key: str | None = None,
    limit: int | None = None,
    image_size: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[str], None] | None = None,
) -> list[Path]:
    """Write the page `out` and, in `<out>-files/`, every figure and table on it.

    Parameters
    ----------
    out : path ending in .html
    data : a data set to audit, or None for scikit-learn's digits
    full : the full presets of the experiments
    key, limit, image_size : of `validation.data.load`
    progress : called with a line as each stage starts, and within an experiment with its count
    """
    tell = progress or (lambda line: None)
    started = time.monotonic()
    folder = out.with_name(out.stem + "-files")
    dataset = load(data, key=key, limit=limit, image_size=image_size, seed=seed)  # bad input is told before any work
    tell("theory")
    sections = [theory_section()]
    tell("phase diagrams")
    sections.append(diagram_section(folder, 128 if full else 64))
    results = []
    for name in EXPERIMENTS if full else IN_QUICK_REPORT:
        tell(f"experiment {name}")
        module = experiment(name)
        result = module.run(
            preset="full" if full else "quick",
            seed=seed,
            device=device,
            progress=lambda done, total, name=name: tell(f"experiment {name}: {done} of {total}"),
        )
        figure = module.figure(result)
        save_experiment(result, figure, folder)
        results.append(result)
        sections.append(experiment_section(name, result, figure))
    audits = []
    for subject in (synthetic_manifold(seed), dataset):
        audits.append(
            audit(
                subject, seed=seed, device=device, progress=lambda line, s=subject: tell(f"audit of {s.name}: {line}")
            )
        )
        write_audit(audits[-1], folder / f"audit-{subject.name}")
        sections.append(audit_section(audits[-1]))
    for section in sections:
        for item in section.figures:
            if not item.name.startswith("audit-"):  # an audit's folder has its own
                figures.save(item.figure, folder / f"{item.name}.png")
    told = provenance(seed=seed, device=device, data=dataset.source, preset="full" if full else "quick")
    told["seconds"] = f"{time.monotonic() - started:.0f}"
    page = render(sections, _summary(audits, results), told.items())
    with atomic(out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return [out, folder]
