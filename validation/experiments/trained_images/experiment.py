"""Do networks trained on few images draw them again, and how many latent dimensions do they see at each noise level?

Small U-Nets on P images each, as one stack. Samples of the probability flow are held against the training set by the
ratio of neighbour distances, with unseen real images as the control and the empirical score's own samples as the certain
case. The latent dimension is read off Jacobian spectra beside the empirical score's. Convergence is measured per noise level.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from numerics.domain import DomainError, integer
from numerics.store import save_dataset
from validation.experiments.shared import ExperimentResult, Row, checkpoint, chosen, provenance, save, save_figure
from validation.experiments.trained_images.probes import WINDOW, average_pool, measure_images
from validation.networks import NetworkScore
from validation.simulation import Prediction, judge
from validation.training import FACTOR, FLOOR, NoiseLevels, Trainer, TrainingConfig, points

__all__ = ["PRESETS", "Preset", "figure", "run"]

CLAIM = (
    "A network trained on few images draws them again, as the empirical score of its training set does; on many it does "
    "not [AALMV25]."
)
TOLERANCE = 0.2  # of the memorised fraction 1 that the empirical score has


@dataclass(frozen=True)
class Preset:
    """How much work: training set sizes, the network, its training, samples drawn, and where spectra are taken."""

    name: str
    sizes: tuple[int, ...]
    network: dict[str, Any]
    training: TrainingConfig
    samples: int = 250
    steps: int = 32
    levels: int = 13
    points: int = 8
    losses: int = 256

    @property
    def t(self) -> np.ndarray:
        return np.logspace(-3, 1, self.levels)


_NOISE = NoiseLevels(0.02, 8.0)
PRESETS = {
    "quick": Preset(
        "quick",
        (100, 400, 1500),
        {"kind": "unet", "width": 24, "levels": 2, "blocks": 1},
        TrainingConfig(steps=2200, batch=32, warmup=100, noise=_NOISE, ema=0.99, precision="float32"),
    ),
    "full": Preset(
        "full",
        (100, 200, 400, 800, 1600),
        {"kind": "unet", "width": 24, "levels": 2, "blocks": 1},
        TrainingConfig(steps=8000, batch=64, warmup=100, noise=_NOISE, precision="float32"),
        samples=1000,
        levels=25,
        points=16,
        losses=512,
    ),
    "full on cuda": Preset(
        "full on cuda",
        (100, 300, 1000, 3000, 10_000),
        {"kind": "unet", "width": 64, "levels": 3, "blocks": 2},
        TrainingConfig(steps=60_000, batch=128, learning_rate=1e-3, noise=_NOISE, precision="float32"),
        samples=2000,
        steps=64,
        levels=25,
        points=16,
        losses=512,
    ),
}


def run(
    preset: str | Preset = "quick",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    out: str | os.PathLike | None = None,
    device: str = "cpu",
    *,
    data: str | os.PathLike | None = None,
    sizes: Sequence[int] | None = None,
    pool: int = 1,
    limit: int | None = None,
    image_size: int | None = None,
    key: str | None = None,
) -> ExperimentResult:
    """Train a U-Net per dataset size, draw samples, count copies, and read latent dimensions off both scores.

    Parameters
    ----------
    preset : "quick" (digits 8 x 8, minutes on one core), "full" (digits, the better part of an hour; on cuda a larger
        network and sizes to 10 000, for data of one's own), or a `Preset`
    seed : int; progress : callable (work done, of all: optimiser steps, then spectra); device : torch device
    out : folder, optional
        trained_images.csv, .nc, .png; trained_images_dimension.csv and trained_images_kept.png, the latent dimension against
        P; and checkpoints/, from which an interrupted training goes on.
    data : path of images that `validation.data.load` reads (.npz, .npy, IDX, CIFAR, a folder); None: scikit-learn's digits
    sizes : training set sizes instead of the preset's; the preset's own are left out where the data have fewer points
    pool : average over squares of so many pixels: 2 makes MNIST 14 x 14
    limit, image_size, key : of `validation.data.load`

    Returns
    -------
    ExperimentResult
        Rows: memorised fraction of samples, empirical score and network, against 1. Errors are binomial over samples of
        one network; they say nothing about another network of the same size. Curves: fractions with 95 % intervals and the
        control, spectra, both readings of the latent dimension per point, losses and labels, first samples as images.

    Raises
    ------
    DomainError : unknown preset, data that are no images, sizes beyond the data, a pool that does not divide the image
    DataError : data that cannot be read

    The failure that looks normal: without a control the fraction means little. Where real unseen images lie close to
    training images (doubles, bursts of frames) they count as copies too. And the labels of convergence hold the network
    against the Gaussian with the covariance of all images, which knows less than their true law: "generalising" is at least
    that good, not ideal. With fewer than 4 N images there is no such reference: the labels are memorising and unconverged.
    """
    preset = chosen(preset, PRESETS, str(device))
    started = time.perf_counter()
    options = {"limit": limit, "image_size": image_size, "key": key}
    source = {"data": "digits" if data is None else os.fspath(data), "seed": seed}
    found = points(source | {name: value for name, value in options.items() if value is not None}, device=str(device))
    X, held_out = found.X, found.fresh
    if X.ndim != 4:
        raise DomainError("data", source["data"], "images", f"Its samples have shape {tuple(X.shape[1:])}")
    X, held_out = average_pool(X, pool).to(device), average_pool(held_out, pool).to(device)
    asked, sizes = sizes, _sizes(preset.sizes, sizes, len(X), X[0].numel())
    steps, spectra = preset.training.steps, 3 * len(sizes)

    def step(done: int) -> None:
        if progress:
            progress(done, steps + steps * spectra // 20)

    denoiser = _train(X, sizes, preset, seed, step, source | options | {"pool": pool}, out, device)
    chunk = max(1, 4096 // X[0].numel())  # points whose Jacobians are taken at once
    scores = [NetworkScore(denoiser, m, dtype=preset.training.dtype, chunk=chunk) for m in range(len(sizes))]
    curves = measure_images(
        scores,
        X,
        held_out,
        sizes,
        preset.t,
        noise=preset.training.noise,
        samples=preset.samples,
        steps=preset.steps,
        points=preset.points,
        losses=preset.losses,
        seed=seed,
        done=lambda k: step(steps + steps * k // 20),
    )
    call = {"preset": preset.name, "seed": seed, "device": device}
    call |= {"data": source["data"]} if data is not None else {}
    call |= {"sizes": tuple(sizes)} if asked is not None else {}
    call |= {"pool": pool} if pool != 1 else {}
    call |= {name: value for name, value in options.items() if value is not None}
    result = ExperimentResult(
        "trained_images",
        CLAIM,
        _rows(curves, source["data"]),
        curves,
        provenance(
            command=f"validation.experiments.trained_images.run({', '.join(f'{k}={v!r}' for k, v in call.items())})",
            preset=asdict(preset),
            data={**source, **options, "pool": pool, "shape": list(X.shape[1:]), "held out": len(held_out)}
            | found.copies.counts(),
            sizes=sizes,
            seed=seed,
            factor=FACTOR,
            floor=FLOOR,
            seconds=round(time.perf_counter() - started, 1),
        ),
    )
    if out is not None:
        _save(result, Path(out))
    return result


# --- sizes and training -----------------------------------------------------------------------------------------


def _sizes(default: Sequence[int], sizes: Sequence[int] | None, available: int, N: int) -> list[int]:
    if N <= WINDOW:
        raise DomainError("pool", f"images of {N} numbers", f"images of more than {WINDOW}", "Pool less")
    if sizes is None:
        chosen = [P for P in default if available >= P]
        if not chosen:
            raise DomainError("data", f"{available} images to train on", f"at least {min(default)}", "Or give `sizes`")
        return chosen
    chosen = [integer("sizes", P, minimum=2) for P in sizes]
    if not chosen or len(set(chosen)) < len(chosen) or max(chosen) > available:
        raise DomainError("sizes", list(sizes), f"different numbers, at most {available}: those that are not held out")
    return sorted(chosen)


def _train(
    X: torch.Tensor,
    sizes: Sequence[int],
    preset: Preset,
    seed: int,
    step: Callable[[int], None],
    note: Mapping[str, Any],
    out: str | os.PathLike | None,
    device: str,
) -> Any:
    path = checkpoint(out, preset.name, seed)
    seeds = [1000 * seed + m for m in range(len(sizes))]
    options = {"seeds": seeds, "device": device, "path": path, "note": {"data": dict(note)}}
    trainer = Trainer([X[:P] for P in sizes], preset.network, preset.training, **options)
    trainer.run(progress=lambda done, total, loss: step(done))
    return trainer.averaged()


# --- verdicts and figure ----------------------------------------------------------------------------------------------


def _rows(curves: xr.Dataset, data: str) -> list[Row]:
    rows = []
    for P in curves["P"].values:
        at = curves.sel(P=P)
        labels = ", ".join(f"{label} at t = {t:.2g}" for t, label in _label_changes(at))
        control = (
            f"control: {float(at['control_fraction']):.3f} of held-out images "
            f"({float(at['control_low']):.3f} to {float(at['control_high']):.3f}, 95 %)"
        )
        for who, note in (("empirical score", control), ("network", f"{control}; network {labels}")):
            name = who.split()[0]
            prediction = Prediction(f"{who}, P = {P}", 1.0, None, TOLERANCE, "every sample of the empirical score")
            verdict = judge(prediction, float(at[f"{name}_fraction"]), float(at[f"{name}_error"]))
            quantity = f"memorised fraction of samples, {who}, against the empirical score's 1"
            rows.append(Row(quantity, f"{Path(data).name}, P = {P}", verdict, f"{verdict.reason}; {note}"))
    return rows


def _label_changes(at: xr.Dataset) -> list[tuple[float, str]]:
    """The convergence label from the smallest t up, wherever it changes."""
    labels = [str(label) for label in at["loss_label"].values]
    return [(float(t), b) for t, a, b in zip(at["t"].values, ["", *labels], labels, strict=False) if a != b]


def figure(result: ExperimentResult) -> Any:
    """Samples beside their nearest training images, memorised fraction against P, latent dimension against t."""
    from validation.experiments.trained_images.figures import images_figure

    return images_figure(result.curves)


def _save(result: ExperimentResult, folder: Path) -> None:
    from validation.experiments.trained_images.figures import kept_figure

    save(result, figure(result), folder)
    save_figure(kept_figure(result.curves), folder / "trained_images_kept.png")
    save_dataset(_readings(result.curves), folder / "trained_images_dimension.csv")


def _readings(curves: xr.Dataset) -> xr.Dataset:
    """What was read off the spectra, over points: mean and standard error of `kept`, medians of gap, inflection, first bend."""
    found = {}
    for who in ("network", "empirical"):
        kept = curves[f"{who}_kept"]
        found[f"{who}_kept"] = kept.mean("point")
        found[f"{who}_kept_error"] = kept.std("point", ddof=1) / np.sqrt(kept.notnull().sum("point"))
        for name in ("gap", "inflection", "first_bend"):
            found[f"{who}_{name}"] = curves[f"{who}_{name}"].median("point")
    return xr.Dataset(found | {"state": curves["loss_label"]})
