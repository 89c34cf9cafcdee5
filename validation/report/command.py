"""One page: the answer for a data set (and a model), what to do, and behind it spectra, theory, simulation and an audit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from numerics.store import atomic, provenance, save_dataset
from theory import LinearManifold
from validation import figures
from validation.audit import (
    Audit,
    audit,
    audit_classes,
    audit_ladder,
    audit_model,
    audit_pipeline,
    classes_table,
    model_ladders,
    write_audit,
)
from validation.data import Dataset, load
from validation.experiments import EXPERIMENTS, IN_QUICK_REPORT, experiment
from validation.experiments.shared import save as save_experiment
from validation.ladder import ladder_figure, write_ladder
from validation.points import audit_points, cost, exposed_figure, write_points
from validation.report.advice import advice_section
from validation.report.answer import answer_of, exposed_table
from validation.report.page import Answer, FigureData, Section, render
from validation.report.sections import (
    LARGEST,
    audit_fold,
    audit_section,
    diagram_section,
    experiment_fold,
    model_section,
    spectrum_section,
    theory_section,
)
from validation.report.subject import Asked, asked
from validation.samples import samples_of, write_samples
from validation.simulation import Sampler
from validation.spectra import FittedGaussian

__all__ = ["write_report"]

DEAR = 2e12  # operations above which single points are left to `geomem audit --points`: minutes
COVARIANCE = 20_000  # points at most behind the covariance of pictures
ACTIVATIONS = ("tanh",)
FULL_ACTIVATIONS = ("tanh", "relu", "sign")
Tell = Callable[[str], None]


def synthetic_manifold(seed: int, N: int = 100, P: int = 4000) -> Dataset:
    """A sample of a linear manifold, D = 0.2 N: data for which the Gaussian theory is exact."""
    model = LinearManifold(0.2)
    X = Sampler(model, N, seed).sample(P).numpy().astype(np.float32)
    return Dataset(X, "synthetic-manifold", (N,), "data units", f"a sample of {model}")


def simulation_section(folder: Path, *, full: bool, seed: int, device: str, tell: Tell) -> Section:
    """Theory against simulation: one line a claim, and a synthetic data set for which the theory is exact."""
    section = Section(
        "Does the theory hold? Simulations",
        ["Each line is a claim with its verdicts against finite-size simulation; table and figure stand behind it."],
    )
    for name in EXPERIMENTS if full else IN_QUICK_REPORT:
        tell(f"experiment {name}")
        module = experiment(name)
        result = module.run(
            preset="full" if full else "quick",
            seed=seed,
            device=device,
            progress=lambda done, total, name=name: tell(f"experiment {name}: {done} of {total}"),
        )
        drawn = module.figure(result)
        save_experiment(result, drawn, folder)
        section.folds.append(experiment_fold(name, result, drawn, folder.name, full))
    subject = synthetic_manifold(seed)
    result = audit(subject, seed=seed, device=device, progress=lambda line: tell(f"audit of {subject.name}: {line}"))
    write_audit(result, folder / f"audit-{subject.name}")
    section.folds.append(audit_fold(result, f"{folder.name}/audit-{subject.name}", "geomem report"))
    return section


def write_report(
    out: Path,
    *,
    data: Path | None = None,
    model: Path | None = None,
    samples: Path | None = None,
    full: bool = False,
    key: str | None = None,
    limit: int | None = None,
    image_size: int | None = None,
    network: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Tell | None = None,
) -> list[Path]:
    """Write the page `out` and, in `<out>-files/`, every figure and table on it.

    Parameters
    ----------
    out : path ending in .html
    data : a data set, or None for scikit-learn's digits
    model : a checkpoint of `geomem train`, which knows its data (`data` is then None), or a folder of diffusers, with `data`
    samples : what a model generated, as `validation.data.load` reads it: compared with the data
    full : the full presets of the experiments, and more activations in the phase diagram
    key, limit, image_size : of `validation.data.load`
    network : options of a diffusers model, see `validation.spectrum.open_pipeline`; of a latent one the data are latents
    progress : called with a line as each stage starts, and within an experiment with its count

    Raises
    ------
    DomainError : unreadable data, model or samples, options that do not go together; before any work
    """
    tell = progress or (lambda line: None)
    started = time.monotonic()
    folder = out.with_name(out.stem + "-files")
    options = {name: v for name, v in (("key", key), ("limit", limit), ("image_size", image_size)) if v is not None}
    subject = asked(data, model, seed=seed, network=network, **options)  # bad input is told before any work
    generated = None if samples is None else load(samples, seed=seed)
    compared = None
    if generated is not None:
        tell("samples beside the training set")
        known = load(data, seed=seed, **options) if subject.latent else subject.data  # samples are images
        compared = samples_of(generated, known, seed=seed, device=device)
        write_samples(compared, folder / "model")
    answer, sections = _about_the_data(subject, compared, samples, folder, device, full, tell)
    tell("theory")
    sections.append(theory_section())
    sections.append(simulation_section(folder, full=full, seed=seed, device=device, tell=tell))
    everything = [
        *answer.figures,
        *(f for s in sections for f in [*s.figures, *(g for fold in s.folds for g in fold.figures)]),
    ]
    for item in everything:
        if item.name.split("-")[0] not in ("audit", "ladder", "points", "samples"):  # whose folders have their own
            figures.save(item.figure, folder / f"{item.name}.png")
    made = provenance(seed=seed, device=device, data=subject.data.source, preset="full" if full else "quick")
    made["command"] = subject.command(
        "report", *(["--model", str(model)] if model else []), *(["--samples", str(samples)] if samples else [])
    )
    made["seconds"] = f"{time.monotonic() - started:.0f}"
    with atomic(out) as temporary:
        temporary.write_text(render(answer, sections, made.items(), plots=True), encoding="utf-8")
    return [out, folder]


def _about_the_data(
    subject: Asked, compared: Any, samples: Path | None, folder: Path, device: str, full: bool, tell: Tell
) -> tuple[Answer, list[Section]]:
    """The first screen and the chapters on this data set and model."""
    dataset, seed = subject.data, subject.seed
    where = folder / f"audit-{dataset.name}"
    shown, command = f"{folder.name}/{where.name}", subject.command("audit", "--out", "audit")
    result = audit(dataset, seed=seed, device=device, progress=lambda line: tell(f"audit of {dataset.name}: {line}"))
    write_audit(result, where)
    classes = None
    if (labelled := result.typical.labels) is not None and len(set(labelled.tolist())) > 1:
        classes = audit_classes(
            result.typical, t=result.measured.t, probes=128, seed=seed, device=device, progress=tell
        )
        classes_table(classes).write(where / "audit-classes.csv")
    points = None
    if dataset.P > 2 and cost(dataset.P, dataset.N) < DEAR:
        tell("collapse of every point")
        points = audit_points(dataset, duplicates=result.duplicates, spectrum=result.spectrum, seed=seed, device=device)
        write_points(points, where)
    losses, ladders = _model(subject, folder / "model", device, tell)
    rows = np.sort(np.random.default_rng(seed).permutation(dataset.P)[:COVARIANCE])
    gaussian = FittedGaussian(torch.from_numpy(np.asarray(dataset.X[rows], dtype=np.float64)))
    tell("ladder of noise")
    answer = answer_of(result, losses, compared)
    answer.figures += _first_figures(subject, result, points, ladders, gaussian, where, shown, device)
    if points is not None and not any(item.name == "points-exposed" for item in answer.figures):
        answer.tables.append(exposed_table(points))
    sections = [advice_section(result, points, classes, command, shown)]
    if losses or compared is not None:
        commands = {
            "model": subject.command("audit", "--model", str(subject.model), "--out", "audit"),
            "samples": f"geomem samples {samples} --train {subject.path or 'digits'} --out copies",
        }
        sections.append(model_section(losses, compared, f"{folder.name}/model", commands))
    sections.append(audit_section(result, shown, command, points, classes))
    tell("spectrum of the score")
    spectral = subject.spectrum_subject() if dataset.N <= LARGEST else None
    drawn = subject.command("spectrum", "--out", "spectrum.png")
    sections.append(spectrum_section(spectral, gaussian, dataset.shape, folder, drawn, seed=seed, device=device))
    tell("phase diagrams")
    sections.append(diagram_section(result, folder, FULL_ACTIVATIONS if full else ACTIVATIONS, folder.name))
    return answer, sections


def _model(
    subject: Asked, folder: Path, device: str, tell: Tell
) -> tuple[Sequence[tuple[int, Any]], list[tuple[int, Any]]]:
    """Losses and ladders of each network."""
    if subject.model is None:
        return [], []
    tell("losses of the network")
    if subject.pipeline:
        about = {"seed": subject.seed, "device": device, "network": subject.network, **subject.options}
        losses = [audit_pipeline(subject.model, subject.path, **about)]
        ladders = list(model_ladders(subject.model, subject.path, **about))
    else:
        losses = audit_model(subject.model, device=device)
        ladders = list(model_ladders(subject.model, seed=subject.seed, device=device))
    for P, found in losses:
        save_dataset(found, folder / f"model-P{P}.csv")
    for P, ladder in ladders:
        write_ladder(ladder, folder, name=f"ladder-P{P}")
    return losses, ladders


def _first_figures(
    subject: Asked,
    result: Audit,
    points: Any,
    ladders: Any,
    gaussian: FittedGaussian,
    where: Path,
    shown: str,
    device: str,
) -> list[FigureData]:
    """The ladder, with the network where there is one, and the twenty most exposed images."""
    found, command = [], subject.command("audit", "--points", "--out", "audit")
    caption = (
        "Less noise from left to right: what the ideal score of the training set, the Gaussian score with the same covariance "
        "{}make of one noisy training image. The ideal one snaps to the image at t_c."
    )
    if ladders:
        P, ladder = max(ladders, key=lambda one: one[0])
        numbers = f"{where.parent.name}/model/ladder-P{P}.nc"
        how, words = (
            subject.command("audit", "--model", str(subject.model), "--out", "audit"),
            "and the network measured here ",
        )
    else:
        ladder, numbers, how, words = (
            audit_ladder(result, gaussian=gaussian, device=device),
            f"{shown}/ladder.nc",
            command,
            "",
        )
        if ladder is not None:
            write_ladder(ladder, where)
    picture = None if ladder is None else ladder_figure(ladder)
    if picture is not None:
        found.append(FigureData("ladder", picture, caption.format(words), numbers, how, wide=True))
    exposed = exposed_figure(points) if points is not None else None
    if exposed is not None:
        text = (
            "The twenty images that the ideal score memorises at the highest noise, each above its nearest other image."
        )
        found.append(FigureData("points-exposed", exposed, text, f"{shown}/points.csv", command, wide=True))
    return found
