r"""Which subspace does a network memorise first in training time?

Networks on points of three orthogonal subspaces. While they train, the loss is taken apart by subspace, on training and on
held-out points; a subspace is memorised (tau_mem) when its training loss is half of its least held-out loss. Random features and
kernels say :math:`\tau_{mem}\propto r+t` for directions of variance r at noise t (wide networks, many points), where the noise
averaged out leaves a constant rate less: the lowest variance first. In noise it is the highest that is lost first
(`losing_dimensions`). Source: [U26], [ours: docs/derivations/training_time.md].
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure

from numerics.domain import DomainError
from validation.experiments.shared import (
    ExperimentResult,
    Row,
    chosen,
    command,
    counter,
    named,
    provenance,
    save,
)
from validation.figures import style
from validation.simulation import Prediction, judge, judge_order
from validation.training import NoiseLevels, Trainer, TrainingConfig
from validation.window import constant_rate, first_crossing

__all__ = ["DIRECTIONS", "DirectionsPreset", "direction_rows", "directions", "directions_figure"]

CLAIM = "Low variance is memorised first in training time [U26]."
TOLERANCE = 0.15  # of an exponent


@dataclass(frozen=True)
class DirectionsPreset:
    """Subspaces (their dimension, their variances), sizes, replicas, the network, how it trains and where it is asked.

    t : noise variances at which the loss is taken apart; checks : steps at which it is
    points : of each kind at most; draws : of their noise
    """

    name: str
    sizes: tuple[int, ...]
    variances: tuple[float, ...] = (1.0, 0.3, 0.09)
    dimension: int = 8
    replicas: int = 3
    network: dict[str, Any] = field(default_factory=lambda: {"kind": "mlp", "width": 192, "blocks": 2})
    optimizers: tuple[tuple[str, float], ...] = (("adam", 2e-3), ("sgd", 0.3))
    steps: int = 3000
    batch: int = 64
    t: tuple[float, ...] = (0.01, 0.03, 0.1)
    checks: int = 48
    points: int = 256
    draws: int = 4


DIRECTIONS = {
    "quick": DirectionsPreset("quick", (32, 64, 128)),
    "full": DirectionsPreset(
        "full", (64, 128, 256, 512, 1024), steps=12_000, network={"kind": "mlp", "width": 256, "blocks": 2}
    ),
}


def directions(
    preset: str | DirectionsPreset = "quick",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    out: str | os.PathLike | None = None,
    device: str = "cpu",
) -> ExperimentResult:
    """Memorisation times of every subspace, and the power of r + t that they follow.

    Parameters
    ----------
    preset : "quick" (minutes of one core), "full" (half an hour), or a `DirectionsPreset`
    seed : int; progress : callable (optimiser steps done, of all); device : torch device
    out : folder, optional, for training_directions.csv, .nc, .png

    Returns
    -------
    ExperimentResult with the rows of `direction_rows`. Curves over (optimizer, member, step, subspace, t): `train`, `held_out`,
    |D - xi|^2/(d t); `tau_mem` over all but the step.

    Raises
    ------
    DomainError : unknown preset, fewer than two variances, fewer than two points

    The failure that looks normal: a subspace with r << t has nothing left to memorise, and its tau_mem is nan.
    """
    preset = chosen(preset, DIRECTIONS, str(device))
    if len(preset.variances) < 2:
        raise DomainError("variances", preset.variances, "at least two")
    started = time.perf_counter()
    done = counter(progress, len(preset.optimizers) * preset.steps)
    parts = [_stack(preset, optimizer, rate, seed, device, done) for optimizer, rate in preset.optimizers]
    curves = xr.concat(parts, xr.DataArray([o for o, _ in preset.optimizers], dims="optimizer", name="optimizer"))
    rows = direction_rows(curves)
    arguments = {"preset": named(preset, DIRECTIONS), "seed": seed, "device": device}
    call = command("network_training_time", "directions", arguments)
    seconds = round(time.perf_counter() - started, 1)
    made = provenance(command=call, preset=asdict(preset), seed=seed, seconds=seconds)
    result = ExperimentResult("training_directions", CLAIM, rows, curves, made)
    if out is not None:
        save(result, directions_figure(result), out)
    return result


def _stack(preset: DirectionsPreset, optimizer: str, rate: float, seed: int, device: str, done: Callable) -> xr.Dataset:
    g = torch.Generator().manual_seed(seed)
    root = torch.tensor(preset.variances).sqrt().repeat_interleave(preset.dimension)
    sizes = [P for P in preset.sizes for _ in range(preset.replicas)]
    sets = [(torch.randn(P, len(root), generator=g) * root).to(device) for P in sizes]
    fresh = (torch.randn(preset.points, len(root), generator=g) * root).to(device)
    t = np.asarray(preset.t)
    noise = NoiseLevels(0.5 * math.sqrt(t.min()), 2 * math.sqrt(t.max()))
    config = TrainingConfig(
        preset.steps, preset.batch, rate, warmup=20, ema=0.95, noise=noise, optimizer=optimizer, precision="float32"
    )
    seeds = [1000 * seed + m for m in range(len(sets))]
    trainer = Trainer(sets, preset.network, constant_rate(config), seeds=seeds, device=device)
    steps = np.unique(np.rint(np.geomspace(max(1, preset.steps / 300), preset.steps, preset.checks))).astype(int)
    count = min(preset.points, min(map(len, sets)))
    clean = {"train": torch.stack([X[:count] for X in sets]), "held_out": fresh.expand(len(sets), *fresh.shape)}
    losses = {name: [_losses(trainer.averaged(), X, t, preset, seed)] for name, X in clean.items()}
    for step in steps:
        trainer.run(until=int(step))
        for name, X in clean.items():
            losses[name].append(_losses(trainer.averaged(), X, t, preset, seed))
        done(int(step - (steps[steps < step].max() if (steps < step).any() else 0)))
    axes = ("step", "member", "subspace", "t")
    found = xr.Dataset(
        {name: (axes, np.stack(values)) for name, values in losses.items()},
        {"step": [0, *steps.tolist()], "subspace": list(preset.variances), "t": t, "P": ("member", sizes)},
    )
    return found.assign(tau_mem=(axes[1:], subspace_times(found)))


def _losses(denoiser, clean: torch.Tensor, t: np.ndarray, preset: DirectionsPreset, seed: int) -> np.ndarray:
    """(member, subspace, t): |D - xi|^2/(d t), mean over points and draws; the noise is the same at every check."""
    found = []
    s2 = denoiser.sigma_data.double().square()
    with torch.no_grad():
        for k, level in enumerate(t):
            g = torch.Generator().manual_seed(7919 * seed + k)
            every = clean.repeat(1, preset.draws, 1)
            omega = torch.randn(every.shape[1:], generator=g).to(every).expand_as(every)
            sigma = torch.full(every.shape[:2], math.sqrt(level), dtype=every.dtype, device=every.device)
            each = denoiser.residual(every, omega, sigma).double().square().mean(dim=1)
            each = each * (s2 / (level + s2))[:, None]
            found.append(each.reshape(len(clean), len(preset.variances), preset.dimension).mean(dim=2))
    return torch.stack(found, dim=-1).cpu().numpy()


def subspace_times(curves: xr.Dataset) -> np.ndarray:
    """tau_mem over (member, subspace, t), in steps; nan where it is not reached, or reached by the untrained network.

    The first check where it is passed already there: then the time is a bound.
    """
    steps = curves["step"].values.astype(float)
    train, held = (curves[name].transpose("step", "member", "subspace", "t").values for name in ("train", "held_out"))
    out = np.full(train.shape[1:], np.nan)
    for at in np.ndindex(out.shape):
        out[at] = first_crossing(steps, train[(slice(None), *at)], held[(slice(None), *at)].min() / 2)[0]
    return np.where(out > 0, out, np.nan)


def exponents(tau: xr.DataArray) -> np.ndarray:
    """Slope of log tau against log(r + t) of each (member, t), where all subspaces have a time; else left out.

    >>> r, t = np.array([1.0, 0.3]), np.array([0.1])
    >>> tau = xr.DataArray((5 * (r[:, None] + t) ** 2)[None], dims=("member", "subspace", "t"), coords={"subspace": r, "t": t})
    >>> exponents(tau).round(6).tolist()
    [[2.0]]
    """
    values = np.log(tau.transpose("member", "subspace", "t").values)
    out = np.full((values.shape[0], values.shape[2]), np.nan)
    for m, k in np.ndindex(out.shape):
        if np.isfinite(values[m, :, k]).all():
            out[m, k] = np.polyfit(np.log(tau["subspace"].values + float(tau["t"][k])), values[m, :, k], 1)[0]
    return out


def lower_first(tau: xr.DataArray) -> np.ndarray:
    """(member,) share of pairs of subspaces, at all noise levels, of which the lower variance is memorised before the other.

    A pair counts where at least one of its times is known and both are not the same, as they are at the first check.
    """
    values, r = tau.transpose("member", "subspace", "t").values, tau["subspace"].values
    filled = np.nan_to_num(values, nan=np.inf)
    share = np.zeros((2, len(values)))
    for low, high in ((i, j) for i in range(len(r)) for j in range(len(r)) if r[i] < r[j]):
        counts = filled[:, low] != filled[:, high]
        share += (filled[:, low] < filled[:, high]).sum(axis=1), counts.sum(axis=1)
    return np.divide(share[0], share[1], out=np.full(len(values), np.nan), where=share[1] > 0)


def direction_rows(curves: xr.Dataset) -> list[Row]:
    r"""What stored curves of `directions` say; nothing is trained.

    Parameters
    ----------
    curves : with `tau_mem` over (optimizer, member, subspace, t) and the coordinate `step`

    Returns
    -------
    For each optimiser two rows. The exponent :math:`d\log\tau_{mem}/d\log(r+t)` over subspaces, mean over noise levels and
    networks with its error over networks, expected 1. And the share of networks with all their pairs of subspaces, at all noise
    levels, in the order "lower variance first", expected 1, judged by `validation.simulation.judge_order`: pairs within one
    network are not independent, so that a network counts once. If variance had no say, that one of k subspaces would come first
    with probability 1/k, which bounds the chance of such a network; the reverse order likewise.
    """
    first = float(curves["step"].values[curves["step"].values > 0].min())
    rows = []
    for optimizer in curves["optimizer"].values.tolist():
        tau = curves["tau_mem"].sel(optimizer=optimizer)
        slopes = exponents(tau.where(tau > first))
        each = np.array([np.nanmean(row) for row in slopes if np.isfinite(row).any()])
        name, n = "exponent of tau_mem in r + t", len(each)
        error = float(each.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
        verdict = judge(Prediction(name, 1.0, None, TOLERANCE, "[U26]"), float(each.mean()) if n else math.nan, error)
        rows.append(Row(name, optimizer, verdict, f"{n} networks in which all subspaces are memorised"))
        share, chance = lower_first(tau), 1 / tau.sizes["subspace"]
        share = share[np.isfinite(share)]
        name, right, reverse = (
            "networks, all pairs lower variance first",
            int((share == 1).sum()),
            int((share == 0).sum()),
        )
        verdict = judge_order(Prediction(name, 1.0, None, TOLERANCE, "[U26]"), right, reverse, len(share), chance)
        pairs = 100 * share.mean() if len(share) else math.nan
        note = f"{verdict.reason}; chance at most {chance:.2g}; {pairs:.3g} % of all pairs"
        rows.append(Row(name, optimizer, verdict, note))
    return rows


def directions_figure(result: ExperimentResult) -> Figure:
    """One row an optimiser: losses of each subspace against step, and memorisation times against r + t."""
    data = result.curves
    level = data.sizes["t"] // 2
    with style():
        figure = Figure(figsize=(11, 4 * data.sizes["optimizer"]), constrained_layout=True)
        axes = figure.subplots(data.sizes["optimizer"], 2, squeeze=False)
        for row, optimizer in zip(axes, data["optimizer"].values, strict=True):
            one = data.sel(optimizer=optimizer)
            m = one.sizes["member"] // 2
            at = one.isel(member=m, t=level, step=one["step"].values > 0)
            for i, r in enumerate(one["subspace"].values):
                row[0].loglog(at["step"], at["held_out"].isel(subspace=i), color=f"C{i}", label=f"variance {r:g}")
                row[0].loglog(at["step"], at["train"].isel(subspace=i), color=f"C{i}", ls="--")
            sigma = math.sqrt(float(one["t"][level]))
            row[0].set_title(
                rf"{optimizer}, P = {int(at['P'])}, $\sigma$ = {sigma:.2g}: held-out, training (dashed)", loc="left"
            )
            row[0].set(xlabel="optimiser step", ylabel=r"loss of the subspace $E|D-\xi|^2/(dt)$")
            row[0].legend()
            sizes = np.unique(one["P"].values)
            for j, P in enumerate(sizes):
                here = (
                    one["tau_mem"]
                    .isel(member=np.flatnonzero(one["P"].values == P))
                    .transpose("member", "subspace", "t")
                )
                x = here["subspace"].values[:, None] + here["t"].values[None, :]
                tau = np.exp(np.log(here.values).mean(axis=0))
                row[1].loglog(x.ravel(), tau.ravel(), "o", ms=4, color=f"C{j}", label=f"P = {P}")
                if np.isfinite(tau).any():
                    reference = np.nanmin(tau) / x.ravel()[np.nanargmin(tau)]
                    row[1].loglog(x.ravel(), reference * x.ravel(), ":", lw=0.8, color=f"C{j}")
            row[1].set(xlabel=r"variance + noise $r+t$ [squared data units]", ylabel=r"$\tau_{mem}$ [optimiser steps]")
            row[1].set_title(rf"{optimizer}: memorisation of a subspace; dotted $\propto r+t$", loc="left")
            row[1].legend(fontsize=7)
    return figure
