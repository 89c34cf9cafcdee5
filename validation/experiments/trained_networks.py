"""Do trained networks lose dimensions in the order theory says, and as the empirical score of their training set does?

The headline of [AVSP24] with networks: data of `losing_dimensions`, networks trained by denoising score matching on P
points, all sizes and replicas at once as one stack. Beside each network stand the empirical score of its own training set
and the population's, on the same points. Convergence is measured per noise level; what has not converged is not compared.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from theory.subspaces import frozen_eigenvalue, predicted_singular_values, subspace_collapse_times
from validation.empirical_score import EmpiricalScore
from validation.experiments.losing_dimensions import CASES, NAMES, Case
from validation.experiments.presets import chosen
from validation.experiments.result import ExperimentResult, Row, provenance, save, save_figure
from validation.network_probes import Departures, replica_error
from validation.networks import NetworkScore
from validation.prediction import Prediction, judge
from validation.score_functions import Empirical
from validation.subspace_probes import KINDS, BlockData, Probe, exact_probe, probe
from validation.subspace_verdicts import Found, claim_rows, claim_shares, time_rows
from validation.training import NoiseLevels, Trainer, TrainingConfig, load_denoiser
from validation.training.convergence import FACTOR, FLOOR, convergence

__all__ = ["PRESETS", "Preset", "figure", "run"]

CLAIM = (
    "Networks trained by denoising score matching lose the subspaces of a linear manifold as the empirical score of their "
    "training set does [AVSP24]."
)
COMPARED = (
    0.1,
    0.01,
)  # noise variances at which networks are compared: ten and a hundred times that of the normal directions
TOLERANCE = 0.25


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
        (30, 100, 300, 1000, 3000, 30_000, 100_000),
        3,
        _BUMPS | {"width": 128, "hidden": 512},
        TrainingConfig(steps=12_000, batch=256, learning_rate=2e-3, matrix_rate=0.015, ema=0.995, **_MUON),
        (100, 300, 1000, 3000, 12_000),
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
        variances: an hour or more on two cores; on cuda larger networks, trained longer), or a `Preset`
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
    control = exact_probe(data, t, points=preset.points, seed=(seed, 7))
    rows = _rows(case, data, preset, networks, empirical, losses, control)
    return rows, _curves(data, preset, networks, empirical, losses, np.array(followed), control)


def _training(sets: Sequence[torch.Tensor], case: Case, preset: Preset, seed: int, step, out: Path | None, device: str):
    """Step and averaged denoisers at every snapshot; finished ones come from their files."""
    trainer = None
    for at in preset.snapshots:
        stem = f"{preset.name.replace(' ', '-')}-{case.variances[1]:g}-seed{seed}"
        file = None if out is None else out / "checkpoints" / f"{stem}-step{at}.safetensors"
        if file is not None and file.exists() and _steps(file, sets, preset) == at:
            yield at, load_denoiser(file, device=device)
            continue
        if trainer is None:
            seeds = [1000 * seed + m for m in range(len(sets))]
            path = None if out is None else out / "checkpoints" / f"{stem}.safetensors"
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
    from validation.training.checkpoint import fingerprint, read

    record = read(file)[1]
    same = TrainingConfig(**record["training"]) == preset.training and record["network"] == preset.network
    mine = [fingerprint(X.to(preset.training.dtype)) for X in sets]
    return record["step"] if same and record["data"] == mine else -1


# --- verdicts ---------------------------------------------------------------------------------------------------------


def _rows(
    case: Case,
    data: BlockData,
    preset: Preset,
    networks: Sequence[Probe],
    empirical: Sequence[Probe],
    losses: Sequence[xr.Dataset],
    control: Probe,
) -> list[Row]:
    rows, t, R = [], preset.t, preset.replicas
    shares: dict[str, dict[int, Any]] = {"network": {}, "empirical score": {}}
    for i, P in enumerate(preset.sizes):
        mine = slice(i * R, (i + 1) * R)
        rows += _agreement(case, data, P, t, networks[mine], empirical[mine], losses[mine])
        for who, probes in (("network", networks[mine]), ("empirical score", empirical[mine])):
            found = [Found(p, np.empty(0), np.empty(0)) for p in probes]
            rows += time_rows(f"{who}, {case.label}", data, P, t, found, control, [])
            shares[who][P] = (R, claim_shares(t, probes))
    for who, by_size in shares.items():
        rows += claim_rows(f"{who}, {case.label}", False, t, by_size, control)
    return rows


def _agreement(case, data, P, t, networks, empirical, losses) -> list[Row]:
    """The network's mean value at noisy training points against the empirical score's, and against the population's."""
    rows = []
    for level in COMPARED:
        k = int(np.argmin(np.abs(np.log(t / level))))
        labels = [str(one["label"].values[k]) for one in losses]
        share = float(np.mean([one["share"].values[k] for one in losses]))
        excess = float(np.mean([one["excess"].values[1, k] for one in losses]))
        state = f"networks {', '.join(labels)}; share {share:.2f} of the way from memorising to the population, " + (
            f"loss on fresh points {excess:.2f} of the least"
        )
        compared = "unconverged" not in labels
        for s, name in enumerate(NAMES[:2]):
            seen = np.array([p.value["typical"][k, :, s].mean() for p in networks])
            own = np.array([p.value["typical"][k, :, s].mean() for p in empirical])
            r = data.variances[s]
            for reference, value in (("empirical score", own), ("population", np.full(len(own), t[k] / (t[k] + r)))):
                difference = seen - value
                error = replica_error(difference)
                prediction = Prediction(
                    f"{reference}, {name}", float(value.mean()), None, TOLERANCE, "measured beside it"
                )
                measured = float(seen.mean()) if compared else math.nan
                verdict = judge(prediction, measured, error)
                note = f"{verdict.reason}; {state}" if compared else f"not compared: {state}"
                quantity = f"network's eigenvalue at t = {level:g}, {name} variance, against the {reference}"
                rows.append(Row(quantity, f"{case.label}, P = {P}", verdict, note))
    return rows


# --- curves and figures -----------------------------------------------------------------------------------------------


def _curves(data, preset, networks, empirical, losses, followed, control) -> xr.Dataset:
    """Arrays over (P, replica, ...); `followed` is (snapshot, member, reference, t, subspace)."""
    S, R, t = len(preset.sizes), preset.replicas, preset.t

    def by_size(values: Sequence[Any]) -> np.ndarray:
        stacked = np.array(values)
        return stacked.reshape(S, R, *stacked.shape[1:])

    out: dict[str, Any] = {}
    for who, probes in (("network", networks), ("empirical", empirical)):
        frames = [p.frame / p.frame.max(axis=1, keepdims=True) for p in probes]
        out[f"{who}_frame"] = (("P", "replica", "t", "direction"), by_size(frames))
        values = [[p.value[kind].mean(axis=1) for kind in KINDS] for p in probes]
        out[f"{who}_value"] = (("P", "replica", "kind", "t", "subspace"), by_size(values))
        spectra = [[p.eigenvalues[kind].mean(axis=1) for kind in KINDS] for p in probes]
        out[f"{who}_eigenvalue"] = (("P", "replica", "kind", "t", "direction"), by_size(spectra))
    out["exact_frame"] = (("t", "direction"), control.frame / control.frame.max(axis=1, keepdims=True))
    kinds = ["typical" if kind == "typical" else "fresh" for kind in KINDS]
    out["exact_value"] = (("kind", "t", "subspace"), np.array([control.value[k].mean(axis=1) for k in kinds]))
    variances = np.array(data.variances)
    model, N = data.model, data.N
    frozen = [frozen_eigenvalue(model, P, N, t, variances) for P in preset.sizes]
    out["frozen_value"] = (("P", "t", "subspace"), np.array(frozen))
    heuristic = [predicted_singular_values(model, P, N, t) for P in preset.sizes]
    out["heuristic"] = (("P", "t", "subspace"), np.array(heuristic))
    times = [[subspace_collapse_times(model, P, N, level=n) for n in ("gaussian-rem", "frozen")] for P in preset.sizes]
    out["predicted_time"] = (("P", "level", "subspace"), np.array(times))
    order = np.moveaxis(followed, 1, 0).reshape(S, R, *followed.shape[:1], *followed.shape[2:])
    out["departure"] = (("P", "replica", "step", "reference", "t", "subspace"), order)
    for name in losses[0].data_vars:
        out[f"loss_{name}"] = (("P", "replica", *losses[0][name].dims), by_size([one[name].values for one in losses]))
    coordinates = {
        "P": list(preset.sizes),
        "t": t,
        "kind": list(KINDS),
        "subspace": list(NAMES),
        "level": ["gaussian-rem", "frozen"],
        "step": list(preset.snapshots),
        "reference": ["empirical", "population"],
        "where": ["training", "fresh"],
        "dimension": ("subspace", list(data.dimensions)),
        "variance": ("subspace", list(data.variances)),
    }
    return xr.Dataset(out, coords=coordinates)


def figure(result: ExperimentResult) -> Any:
    """Theory, network and empirical score for the first case; see `validation.network_figures`."""
    from validation.network_figures import spectra_figure

    return spectra_figure(result.curves.isel(case=0))


def _save(result: ExperimentResult, folder: Path) -> None:
    from validation.network_figures import convergence_figure, departure_figure, frame_figure, spectra_figure

    for i, label in enumerate(result.curves["case"].values):
        part, suffix = result.curves.isel(case=i), "" if i == 0 else f"_case{i + 1}"
        pages = {"departure": departure_figure, "convergence": convergence_figure, "frames": frame_figure}
        pages |= {"spectra": spectra_figure} if i else {}
        for name, draw in pages.items():
            save_figure(draw(part, str(label)), folder / f"trained_networks_{name}{suffix}.png")
    save(result, figure(result), folder)
