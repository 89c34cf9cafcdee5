"""Does t_c rank the training images that networks copy, are copies found, and do signals without the training set show them?

Small U-Nets, each on its own disjoint random subset of the images, train as one stack; at each snapshot every one draws samples.
A copy is a sample whose distance to the nearest training image is below a third of that to the next.

1. Each image's collapse noise t_c, nearest neighbour and norm against how many samples copy it and when it is first copied.
2. The audit of samples (`validation.samples`) on these networks, from none to nearly all copies, with held-out images as null.
3. Signals of single samples (size and sharpness of the score, dimension, FLIPD, spread), beside distances to the training set.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from numerics.domain import DomainError
from numerics.store import load_dataset, save_dataset
from validation.data import THRESHOLD
from validation.experiments.copied_images.figures import order_figure, signals_figure
from validation.experiments.copied_images.probes import audited, copies_of, describe, drawn, signals_of
from validation.experiments.copied_images.snapshots import snapshots, subsets
from validation.experiments.copied_images.verdicts import conclude
from validation.experiments.shared import ExperimentResult, checkpoint, chosen, concluded, counter, save, save_figure
from validation.experiments.trained_images import average_pool
from validation.networks import Denoiser, NetworkScore
from validation.score import EmpiricalScore
from validation.spectra import Empirical
from validation.training import NoiseLevels, TrainingConfig, points

__all__ = ["PRESETS", "Preset", "figure", "run"]

CLAIM = (
    "Which images a network copies first is not told by t_c (AUC 1/2); the audit of samples calls as many copies as there are; "
    "signals without the training set do not show them (AUC 1/2)."
)
_HELD_OUT = 1000  # images at most that are the null of audits


@dataclass(frozen=True)
class Preset:
    """Networks and their training, when they are looked at, and how much is drawn and measured then.

    noised : whether samples start from noised training images, and not from Gaussian noise around their mean
    members : (P, number of networks) pairs; snapshots : ascending optimiser steps; samples : drawn from each network at each, and
    `ideal` from the empirical score; flow : steps of the flow; sigmas : noise of the signals, data units; signal_samples,
    draws, probes : of them
    """

    name: str
    members: tuple[tuple[int, int], ...]
    training: TrainingConfig
    snapshots: tuple[int, ...]
    network: dict[str, Any] = field(default_factory=lambda: {"kind": "unet", "width": 24, "levels": 2, "blocks": 1})
    samples: int = 300
    ideal: int = 1000
    flow: int = 16
    sigmas: tuple[float, ...] = (0.1, 0.3, 1.0)
    signal_samples: int = 200
    draws: int = 2
    probes: int = 4
    noised: bool = False

    @property
    def sizes(self) -> list[int]:
        return [P for P, count in self.members for _ in range(count)]


def _training(steps: int, batch: int = 32, rate: float = 3e-3, optimizer: str = "muon") -> TrainingConfig:
    options = {"noise": NoiseLevels(0.1, 3.0), "precision": "float32", "optimizer": optimizer, "matrix_rate": 0.01}
    return TrainingConfig(steps, batch, rate, warmup=100, ema=0.99, **options)


PRESETS = {
    "quick": Preset("quick", ((100, 2),), _training(1200), (400, 800, 1200), samples=200, ideal=200),
    "full": Preset("full", ((100, 4),), _training(2200), (500, 900, 1300, 1700, 2200)),
    "full on cuda": Preset(
        "full on cuda",
        ((100, 8), (300, 8), (1000, 4)),
        _training(20_000, 64),
        (500, 1000, 1500, 2000, 3000, 5000, 8000, 12_000, 16_000, 20_000),
        {"kind": "unet", "width": 64, "levels": 2, "blocks": 2},
        samples=4000,
        ideal=4000,
        flow=32,
        sigmas=(0.05, 0.1, 0.2, 0.3, 0.5, 1.0),
        signal_samples=1000,
        draws=4,
        probes=8,
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
    pool: int = 1,
) -> ExperimentResult:
    """Train the networks, draw samples at each snapshot, and compare copies with t_c, with audits and with signals.

    Parameters
    ----------
    preset : "quick" (two networks on digits 8 x 8, minutes), "full" (four, some ten minutes of one free core; on cuda larger ones
        of 100, 300 and 1000 images, for data of one's own), or a `Preset`
    seed : int; progress : callable (work done, of all); device : torch device
    out : folder, optional: copied_images.csv, .nc, .png and tables; checkpoints/ and measured/, from which an interrupted run
        goes on
    data : path of images that `validation.data.load` reads; None: scikit-learn's digits
    pool : average over squares of so many pixels: 2 makes MNIST 14 x 14

    Returns
    -------
    ExperimentResult
        Rows: concordances (1 + rank correlation)/2 and AUCs against 1/2, with errors over networks; shares called against the
        share of copies. Curves over (step, member, sample), (member, image) and (member, sigma, probe).

    Raises
    ------
    DomainError : unknown preset, data that are no images, fewer images than all networks together need

    The failure that looks normal: the ratio's radius grows with the distance of an image to its neighbours, so that isolated
    images have larger targets; rows for a fixed radius stand beside. And few networks: the error is their spread, with few
    degrees of freedom.
    """
    preset = chosen(preset, PRESETS, str(device))
    started = time.perf_counter()
    source = {"data": "digits" if data is None else os.fspath(data), "seed": seed}
    found = points(source, device=str(device))
    if found.X.ndim != 4:
        raise DomainError("data", source["data"], "images", f"Its samples have shape {tuple(found.X.shape[1:])}")
    X, fresh = (average_pool(x, pool).to(device) for x in (found.X, found.fresh))
    sets, rest = subsets(X, preset.sizes, seed)
    held_out = torch.cat([fresh, rest])[:_HELD_OUT].flatten(1).cpu().numpy()
    # in steps of training: samples and signals of a snapshot cost about a tenth of it
    extra = preset.training.steps // 10 + 1
    step = counter(progress, preset.training.steps + extra * (len(preset.snapshots) + 2))
    last = 0

    def trained(done: int) -> None:
        nonlocal last
        step(max(0, done - last))
        last = max(done, last)

    path = checkpoint(out, preset.name, seed)
    options = {"seeds": [1000 * seed + m for m in range(len(sets))], "device": device, "path": path}
    stacks = snapshots(
        sets, preset.network, preset.training, preset.snapshots, note={"data": source}, progress=trained, **options
    )
    parts, stack = [], {}
    for at, denoiser in stacks:
        trained(at)
        part = _kept(
            out, preset, seed, f"step{at}", lambda d=denoiser, k=at: _drawn(d, sets, held_out, preset, (seed, k))
        )
        parts.append(part)
        stack[at] = denoiser
        step(extra)
    samples = xr.concat(parts, xr.DataArray(list(preset.snapshots), dims="step", name="step"))
    images = _kept(out, preset, seed, "images", lambda: _images(sets, preset, seed, str(device)))
    step(extra)
    half = np.abs(samples["copy"].mean("sample") - 0.5).argmin("step").values
    signals = _kept(
        out,
        preset,
        seed,
        "signals",
        lambda: _signals([stack[preset.snapshots[k]] for k in half], samples, half, sets, held_out, preset, seed),
    )
    step(extra)
    curves = xr.merge([samples.drop_vars("x"), images, signals], join="outer").assign_coords(
        P=("member", preset.sizes), half=("member", half)
    )
    curves.attrs = {"threshold": THRESHOLD, "data": Path(source["data"]).stem, "shape": list(X.shape[1:])}
    rows, tables = conclude(curves)
    made = {"preset": preset, "seed": seed, "device": str(device), "started": started}
    arguments = ({"data": source["data"]} if data is not None else {}) | ({"pool": pool} if pool != 1 else {})
    result = concluded("copied_images", CLAIM, rows, curves, **made, arguments=arguments, held_out=len(held_out))
    if out is not None:
        save(result, figure(result), out)
        save_figure(signals_figure(curves), Path(out) / "copied_images_signals.png")
        for name, table in tables.items():
            save_dataset(table, Path(out) / f"copied_images_{name}.csv")
    return result


def figure(result: ExperimentResult) -> Any:
    """Copies of each image against its t_c, and what ranks the images that are copied."""
    return order_figure(result.curves)


def _kept(
    out: str | os.PathLike | None, preset: Preset, seed: int, name: str, measure: Callable[[], xr.Dataset]
) -> xr.Dataset:
    """What is measured, read from `out`/measured where an earlier run has written it."""
    if out is None:
        return measure()
    file = Path(out) / "measured" / f"{preset.name.replace(' ', '-')}-seed{seed}-{name}.nc"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        save_dataset(measure(), file)
    return load_dataset(file)


def _score(denoiser: Denoiser, member: int, preset: Preset) -> NetworkScore:
    return NetworkScore(denoiser, member, dtype=preset.training.dtype, chunk=256)


def _drawn(
    denoiser: Denoiser, sets: list[torch.Tensor], held_out: np.ndarray, preset: Preset, seed: tuple[int, ...]
) -> xr.Dataset:
    """Samples of every network at one snapshot, whose copies they are, and their audit."""
    found = []
    for m, own in enumerate(sets):
        flat = own.flatten(1).double()
        score = _score(denoiser, m, preset)
        x = drawn(score, flat, preset.training.noise, preset.samples, preset.flow, (*seed, m), noised=preset.noised)
        x = x.cpu().numpy()
        rows, device = flat.cpu().numpy(), str(own.device)
        part = xr.merge([copies_of(x, rows, device=device), audited(x, rows, held_out, device=device)])
        found.append(part.assign(x=(("sample", "pixel"), x.astype(np.float32))))
    return xr.concat(found, "member")


def _images(sets: list[torch.Tensor], preset: Preset, seed: int, device: str) -> xr.Dataset:
    """Each network's training images beforehand, and whose copies the samples of their empirical score are."""
    found = []
    for m, own in enumerate(sets):
        flat = own.flatten(1).double()
        rows = flat.cpu().numpy()
        ideal = Empirical(EmpiricalScore(flat, device=device, dtype="float64"))
        x = drawn(ideal, flat, preset.training.noise, preset.ideal, preset.flow, (seed, 7, m), noised=preset.noised)
        x = x.cpu().numpy()
        near = copies_of(x, rows, device=device)
        own_copies = near.rename({name: f"ideal_{name}" for name in near.data_vars}).rename(sample="ideal_sample")
        found.append(xr.merge([describe(rows, seed, device=device), own_copies]))
    return xr.concat(found, "member", join="outer")


def _signals(
    stack: list[Denoiser],
    samples: xr.Dataset,
    half: np.ndarray,
    sets: list[torch.Tensor],
    held_out: np.ndarray,
    preset: Preset,
    seed: int,
) -> xr.Dataset:
    """Signals at samples of every network, at its snapshot with nearest to one half of copies."""
    found = []
    for m, own in enumerate(sets):
        at = samples.isel(member=m, step=half[m]).isel(sample=slice(preset.signal_samples))
        x = torch.from_numpy(at["x"].values.astype(np.float64)).to(own.device)
        rows = own.flatten(1).double().cpu().numpy()
        options: Mapping[str, Any] = {"draws": preset.draws, "probes": preset.probes, "seed": seed}
        part = signals_of(
            _score(stack[m], m, preset), x, rows, held_out, preset.sigmas, **options, device=str(own.device)
        )
        probe = xr.concat(
            [part[name] for name in part.data_vars], xr.DataArray(list(part.data_vars), dims="probe", name="probe")
        )
        found.append(
            xr.Dataset({"signal": probe.rename(sample="judged"), "judged_copy": ("judged", at["copy"].values)})
        )
    return xr.concat(found, "member")
