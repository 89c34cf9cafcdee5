"""Do trained networks lose dimensions in the order theory says, and as the empirical score of their training set does?

The headline of [AVSP24] with networks: data of `losing_dimensions`, networks trained by denoising score matching on P
points, all sizes and replicas at once as one stack. Beside each network stand the empirical score of its own training set
and the population's, on the same points. Convergence is measured per noise level; what has not converged is not compared.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from validation.experiments.losing_dimensions import CASES, Case
from validation.experiments.shared import (
    Departures,
    ExperimentResult,
    Row,
    checkpoint,
    chosen,
    provenance,
    save,
    save_figure,
)
from validation.experiments.trained_networks import verdicts as network_verdicts
from validation.experiments.trained_networks.verdicts import Sweep
from validation.networks import NetworkScore
from validation.score import EmpiricalScore
from validation.spectra import BlockData, Empirical, exact_probe, probe
from validation.training import FACTOR, FLOOR, NoiseLevels, Trainer, TrainingConfig, convergence, load_denoiser

__all__ = ["PRESETS", "Preset", "figure", "run"]

CLAIM = (
    "Networks trained by denoising score matching lose the subspaces of a linear manifold as the empirical score of their "
    "training set does [AVSP24]."
)


@dataclass(frozen=True)
class Preset:
    """How much work: training set sizes, replicas of each, the network, its training, and where it is looked at."""

    name: str
    sizes: tuple[int, ...]
    replicas: int
    network: dict[str, Any]
    training: TrainingConfig
    snapshots: tuple[int, ...]
    levels: int = 19
    points: int = 8
    losses: int = 512
    cases: tuple[Case, ...] = CASES[:1]

    @property
    def t(self) -> np.ndarray:
        return np.logspace(-5, 1, self.levels)


_BUMPS = {"kind": "mlp", "blocks": 2, "activation": "bump"}
_MUON: dict[str, Any] = {"noise": NoiseLevels(0.002, 10.0), "precision": "float32", "optimizer": "muon"}
PRESETS = {
    "quick": Preset(
        "quick",
        (30, 100, 1000, 30_000),
        3,
        _BUMPS | {"width": 96, "hidden": 384},
        TrainingConfig(steps=3200, batch=256, learning_rate=2e-3, matrix_rate=0.015, warmup=100, ema=0.995, **_MUON),
        (100, 300, 1000, 3200),
    ),
    "full": Preset(
        "full",
        (30, 100, 1000, 10_000, 100_000),
        3,
        _BUMPS | {"width": 96, "hidden": 384},
        TrainingConfig(steps=8000, batch=256, learning_rate=2e-3, matrix_rate=0.015, warmup=100, ema=0.995, **_MUON),
        (100, 300, 1000, 3000, 8000),
        cases=CASES[:2],
    ),
    "full on cuda": Preset(
        "full on cuda",
        (30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000),
        4,
        _BUMPS | {"width": 256, "hidden": 1024},
        TrainingConfig(steps=100_000, batch=512, learning_rate=1e-3, **_MUON),
        (100, 300, 1000, 3000, 10_000, 30_000, 100_000),
        levels=37,
        points=16,
        losses=2048,
        cases=CASES[:2],
    ),
}


def run(
    preset: str | Preset = "quick",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    out: str | os.PathLike | None = None,
    device: str = "cpu",
) -> ExperimentResult:
    """Train a stack of networks over dataset sizes, and look at their spectra beside the scores they could have learned.

    Parameters
    ----------
    preset : "quick" (P = 30 to 30 000; minutes on two cores), "full" (to P = 100 000, two
        variances: over an hour of one core; on cuda larger networks, trained longer), or a `Preset`
    seed : int; progress : callable (optimiser steps done, of all); device : torch device
    out : folder, optional
        trained_networks.csv (verdicts), .nc, figures; and checkpoints/, from which an interrupted run goes on.

    Returns
    -------
    ExperimentResult
        Rows: normalised eigenvalues per subspace against the empirical and against the population's, departure times and
        their order against theory, the claims as shares of networks. Where a network has not converged it is not compared.

    Raises
    ------
    DomainError : unknown preset, unwritable `out`
    """
    preset = chosen(preset, PRESETS, str(device))
    started = time.perf_counter()
    rows, parts = [], []
    for number, case in enumerate(preset.cases):

        def step(done: int, number: int = number) -> None:
            if progress:
                progress(number * preset.training.steps + done, len(preset.cases) * preset.training.steps)

        found, part = _case(case, preset, seed, step, None if out is None else Path(out), device)
        rows += found
        parts.append(part)
    curves = xr.concat(parts, xr.DataArray([c.label for c in preset.cases], dims="case", name="case"))
    result = ExperimentResult(
        "trained_networks",
        CLAIM,
        rows,
        curves,
        provenance(
            command=f"validation.experiments.trained_networks.run(preset={preset.name!r}, seed={seed}, device={device!r})",
            preset=asdict(preset) | {"cases": [c.label for c in preset.cases]},
            seed=seed,
            factor=FACTOR,
            floor=FLOOR,
            seconds=round(time.perf_counter() - started, 1),
        ),
    )
    if out is not None:
        _save(result, Path(out))
    return result


def _case(
    case: Case, preset: Preset, seed: int, step: Callable[[int], None], out: Path | None, device: str
) -> tuple[list[Row], xr.Dataset]:
    data = BlockData(case.dimensions, case.variances)
    jobs = [(P, r) for P in preset.sizes for r in range(preset.replicas)]
    sets = [data.sample(P, (seed, P, r, 0), device) for P, r in jobs]
    fresh = [data.sample(preset.losses, (seed, P, r, 11), device) for P, r in jobs]
    exact, t = data.exact(), preset.t
    watch = [
        Departures(X, new, exact, t, data.blocks, points=preset.losses // 2, seed=(seed, P, r, 12))
        for X, new, (P, r) in zip(sets, fresh, jobs, strict=True)
    ]
    followed, denoiser = [], None
    for at, denoiser in _training(sets, case, preset, seed, step, out, device):
        followed.append([w.of(NetworkScore(denoiser, m)) for m, w in enumerate(watch)])
        step(at)
    networks, empirical, losses = [], [], []
    for m, (P, r) in enumerate(jobs):
        face = NetworkScore(denoiser, m)
        options = {"points": preset.points, "seed": (seed, P, r), "X": sets[m], "device": device}
        networks.append(probe(face, data, t, **options))
        engine = EmpiricalScore(sets[m], device=device, dtype="float64")
        empirical.append(probe(Empirical(engine), data, t, **options))
        count = {"points": preset.losses, "seed": seed + m}
        losses.append(convergence(face, sets[m], t, fresh=fresh[m], exact=exact, **count))
    sweep = Sweep(
        data=data,
        sizes=preset.sizes,
        replicas=preset.replicas,
        t=t,
        steps=preset.snapshots,
        networks=networks,
        empirical=empirical,
        losses=losses,
        followed=np.array(followed),
        control=exact_probe(data, t, points=preset.points, seed=(seed, 7)),
    )
    return network_verdicts.rows(sweep, case.label), network_verdicts.arrays(sweep)


def _training(sets: Sequence[torch.Tensor], case: Case, preset: Preset, seed: int, step, out: Path | None, device: str):
    """Step and averaged denoisers at every snapshot; finished ones come from their files."""
    trainer = None
    for at in preset.snapshots:
        variance = f"-{case.variances[1]:g}"
        file = checkpoint(out, preset.name, seed, middle=variance, after=f"-step{at}")
        if file is not None and file.exists() and _steps(file, sets, preset) == at:
            yield at, load_denoiser(file, device=device)
            continue
        if trainer is None:
            seeds = [1000 * seed + m for m in range(len(sets))]
            path = checkpoint(out, preset.name, seed, middle=variance)
            options = {"seeds": seeds, "device": device, "path": path, "note": {"data": case.label}}
            trainer = Trainer(sets, preset.network, preset.training, **options)
            if trainer.step > at:  # its checkpoint is ahead of a snapshot that was lost
                trainer = Trainer(sets, preset.network, preset.training, **options, resume=False)
        trainer.run(until=at, progress=lambda done, total, loss: step(done))
        if file is not None:
            trainer.path, kept = file, trainer.path
            trainer.save()
            trainer.path = kept
        yield at, trainer.averaged()


def _steps(file: Path, sets: Sequence[torch.Tensor], preset: Preset) -> int:
    from validation.training import fingerprint, read

    record = read(file)[1]
    same = TrainingConfig(**record["training"]) == preset.training and record["network"] == preset.network
    mine = [fingerprint(X.to(preset.training.dtype)) for X in sets]
    return record["step"] if same and record["data"] == mine else -1


def figure(result: ExperimentResult) -> Any:
    """Theory, network and empirical score for the first case; see `validation.experiments.shared.network_figures`."""
    from validation.experiments.shared import spectra_figure

    return spectra_figure(result.curves.isel(case=0))


def _save(result: ExperimentResult, folder: Path) -> None:
    from validation.experiments.shared import (
        convergence_figure,
        departure_figure,
        frame_figure,
        spectra_figure,
    )

    for i, label in enumerate(result.curves["case"].values):
        part, suffix = result.curves.isel(case=i), "" if i == 0 else f"_case{i + 1}"
        pages = {"departure": departure_figure, "convergence": convergence_figure, "frames": frame_figure}
        pages |= {"spectra": spectra_figure} if i else {}
        for name, draw in pages.items():
            save_figure(draw(part, str(label)), folder / f"trained_networks_{name}{suffix}.png")
    save(result, figure(result), folder)
