"""The same question on curved manifolds: tanh and relu hidden manifolds, networks of several dataset sizes, one stack.

No exact score is known; the control is the empirical score of very many other points, which stands for the
population down to its own collapse and not below. Latent directions are the D lowest eigenvalues of -tJ.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from theory import HiddenManifold
from validation.experiments.shared import (
    ExperimentResult,
    Row,
    checkpoint,
    chosen,
    provenance,
    replica_error,
    save,
    save_figure,
)
from validation.networks import NetworkScore
from validation.score import EmpiricalScore
from validation.simulation import Prediction, Sampler, generator, judge
from validation.spectra import Empirical, jacobian_spectrum
from validation.training import FACTOR, FLOOR, NoiseLevels, Trainer, TrainingConfig, convergence

__all__ = ["PRESETS", "Preset", "figure", "run"]

CLAIM = (
    "On curved manifolds too, networks lose the latent directions of their data as the empirical score does [AVSP24]."
)
KINDS = ("fresh", "typical")
COMPARED = (1.0, 0.5)  # below, ten latent dimensions need more points than the control has
TOLERANCE = 0.25
SHARED = (
    30  # points that must share the control's weight for it to stand for the population: an error of 1/sqrt(30) in J
)


@dataclass(frozen=True)
class Preset:
    """Activations, training set sizes and replicas; the network and its training."""

    name: str
    activations: tuple[str, ...]
    sizes: tuple[int, ...]
    replicas: int
    network: dict[str, Any]
    training: TrainingConfig
    control: int
    N: int = 30
    D: int = 10
    levels: int = 16
    points: int = 8
    losses: int = 256

    @property
    def t(self) -> np.ndarray:
        return np.logspace(-4, 1, self.levels)


_NOISE = NoiseLevels(0.005, 10.0)
PRESETS = {
    "quick": Preset(
        "quick",
        ("tanh", "relu"),
        (100, 1000, 10_000),
        3,
        {"kind": "mlp", "width": 64, "blocks": 3},
        TrainingConfig(steps=4000, batch=128, learning_rate=2e-3, noise=_NOISE, precision="float32"),
        30_000,
        losses=128,
    ),
    "full": Preset(
        "full",
        ("tanh", "relu"),
        (100, 300, 1000, 3000, 10_000, 30_000),
        4,
        {"kind": "mlp", "width": 96, "blocks": 3},
        TrainingConfig(steps=40_000, batch=128, learning_rate=1e-3, noise=_NOISE, precision="float32"),
        300_000,
    ),
    "full on cuda": Preset(
        "full on cuda",
        ("tanh", "relu"),
        (100, 300, 1000, 3000, 10_000, 30_000, 100_000),
        4,
        {"kind": "mlp", "width": 512, "blocks": 4},
        TrainingConfig(steps=100_000, batch=512, learning_rate=5e-4, noise=_NOISE, precision="float32"),
        1_000_000,
        levels=31,
        points=16,
        losses=2048,
    ),
}


def run(
    preset: str | Preset = "quick",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    out: str | os.PathLike | None = None,
    device: str = "cpu",
) -> ExperimentResult:
    """Train a stack over activations and dataset sizes; spectra beside the empirical score's and the control's.

    Parameters
    ----------
    preset : "quick" (minutes on two cores), "full" (a GPU), or a `Preset`; seed, progress, device : as elsewhere
    out : folder, optional; trained_nonlinear.csv, .nc, .png, and the checkpoint from which an interrupted run goes on

    Returns
    -------
    ExperimentResult
        Rows: mean of the D lowest eigenvalues, network against its own empirical score and against the control, where the
        network has converged and the control has not collapsed (at least `SHARED` of its points share the weight).

    Raises
    ------
    DomainError : unknown preset, unwritable `out`
    """
    preset = chosen(preset, PRESETS, str(device))
    started = time.perf_counter()
    jobs = [(a, P, r) for a in preset.activations for P in preset.sizes for r in range(preset.replicas)]
    samplers = {
        a: Sampler(
            HiddenManifold(preset.D / preset.N, a), preset.N, seed=(seed, 50), device=device, dtype=torch.float64
        )
        for a in preset.activations
    }
    sets = [samplers[a].stream(1000 * r + i).sample(P) for i, (a, P, r) in enumerate(jobs)]
    path = checkpoint(out, preset.name, seed, before="nonlinear-")
    seeds = [10_000 + 1000 * seed + m for m in range(len(jobs))]
    trainer = Trainer(sets, preset.network, preset.training, seeds=seeds, device=device, path=path)
    trainer.run(progress=(lambda done, total, loss: progress(done, total)) if progress else None)
    denoiser, controls, parts = trainer.averaged(), {}, []
    for a, sampler in samplers.items():
        points = sampler.stream(999_999).sample(preset.control)
        controls[a] = Empirical(EmpiricalScore(points, device=device, dtype="float64"))
    for m, (a, P, r) in enumerate(jobs):
        fresh = samplers[a].stream(500_000 + m).sample(preset.losses)
        face = NetworkScore(denoiser, m)
        own = Empirical(EmpiricalScore(sets[m], device=device, dtype="float64"))
        scores = {"network": face, "empirical": own, "control": controls[a]}
        spectra = _spectra(scores, sets[m], fresh, preset, (seed, P, r))
        losses = convergence(
            face, sets[m], preset.t, fresh=fresh, exact=controls[a], points=preset.losses, seed=seed + m
        )
        judged = (spectra["shared"].min("kind") >= SHARED) | losses["label"].isin(["memorising"])
        losses["label"] = losses["label"].astype(object).where(judged, "no reference")
        parts.append(spectra.merge(losses.rename({n: f"loss_{n}" for n in losses.data_vars})))
    curves = _stacked(parts, preset)
    result = ExperimentResult(
        "trained_nonlinear",
        CLAIM,
        _rows(curves, preset),
        curves,
        provenance(
            command=f"validation.experiments.trained_nonlinear.run(preset={preset.name!r}, seed={seed}, device={device!r})",
            preset=asdict(preset),
            seed=seed,
            factor=FACTOR,
            floor=FLOOR,
            seconds=round(time.perf_counter() - started, 1),
        ),
    )
    if out is not None:
        save(result, figure(result), Path(out))
        from validation.experiments.shared import convergence_figure

        for i, a in enumerate(preset.activations):
            save_figure(
                convergence_figure(curves.isel(activation=i), a), Path(out) / f"trained_nonlinear_losses_{a}.png"
            )
    return result


def _spectra(scores, X: torch.Tensor, fresh: torch.Tensor, preset: Preset, seed: tuple[int, ...]) -> xr.Dataset:
    """Mean sorted eigenvalues of each score at fresh and at noised training points."""
    noise = generator(preset.N, (*seed, 3), X.device).rows(preset.points)
    out, shared = {}, np.empty((len(KINDS), preset.levels))
    for name, score in scores.items():
        values = np.empty((len(KINDS), preset.levels, preset.N))
        for i, clean in enumerate((fresh[: preset.points], X[: preset.points])):
            for k, t in enumerate(map(float, preset.t)):
                x = clean + i * t**0.5 * noise
                values[i, k] = jacobian_spectrum(score, x, t)[0].mean(axis=0)
                if name == "control":
                    shared[i, k] = float(score.participation(x, t).median())
        out[name] = (("kind", "t", "direction"), values)
    out["shared"] = (("kind", "t"), shared)
    return xr.Dataset(out, coords={"kind": list(KINDS), "t": preset.t})


def _stacked(parts: list[xr.Dataset], preset: Preset) -> xr.Dataset:
    replicas = range(preset.replicas)
    by_activation = []
    for a in range(len(preset.activations)):
        by_size = []
        for i in range(len(preset.sizes)):
            first = (a * len(preset.sizes) + i) * preset.replicas
            mine = parts[first : first + preset.replicas]
            by_size.append(xr.concat(mine, xr.DataArray(list(replicas), dims="replica", name="replica")))
        by_activation.append(xr.concat(by_size, xr.DataArray(list(preset.sizes), dims="P", name="P")))
    whole = xr.concat(by_activation, xr.DataArray(list(preset.activations), dims="activation", name="activation"))
    return whole.assign_attrs(D=preset.D)


def _rows(curves: xr.Dataset, preset: Preset) -> list[Row]:
    rows = []
    for a in preset.activations:
        for P in preset.sizes:
            for level in COMPARED:
                at = curves.sel(activation=a, P=P).sel(t=level, method="nearest")
                labels = [str(v) for v in at["loss_label"].values]
                for kind in KINDS:
                    low = {
                        n: at[n].sel(kind=kind).values[:, -preset.D :].mean(axis=1)
                        for n in ("network", "empirical", "control")
                    }
                    for reference in ("empirical", "control"):
                        collapsed = reference == "control" and float(at["shared"].sel(kind=kind).median()) < SHARED
                        compared = not {"unconverged", "no reference"} & set(labels) and not collapsed
                        value = float(low[reference].mean())
                        seen = float(low["network"].mean()) if compared else float("nan")
                        prediction = Prediction(reference, value, None, TOLERANCE, "measured beside it")
                        verdict = judge(prediction, seen, replica_error(low["network"] - low[reference]))
                        why = "the control has collapsed" if collapsed else f"networks {', '.join(labels)}"
                        words = {"empirical": "own empirical score", "control": f"score of {preset.control:,} points"}
                        where = f"t = {float(at['t']):.2g}, {kind} points"
                        name = f"mean of the {preset.D} lowest eigenvalues, {where}, against the {words[reference]}"
                        note = f"{verdict.reason}; {why}" if compared else f"not compared: {why}"
                        rows.append(Row(name, f"{a}, P = {P}", verdict, note))
    return rows


def figure(result: ExperimentResult) -> Any:
    """Sorted spectra of network, empirical score and control; see `validation.experiments.shared.network_figures`."""
    from validation.experiments.shared import nonlinear_figure

    return nonlinear_figure(result.curves)
