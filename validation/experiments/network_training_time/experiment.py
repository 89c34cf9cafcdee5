r"""Trains the networks whose training times are measured: for each optimiser and width a stack, one for each P and replica.

Every network has points and a seed of its own and a constant rate; losses on training and held-out points at fixed noise are
taken while it trains. What is read off them, and how growths are judged: `evaluation.py`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import xarray as xr

from numerics.domain import DomainError
from numerics.store import load_dataset, save_dataset
from validation.experiments.network_training_time.evaluation import GROWTHS, evaluate
from validation.experiments.network_training_time.figures import training_time_figure
from validation.experiments.network_training_time.presets import MLP, PRESETS, UNET, Preset
from validation.experiments.shared import ExperimentResult, chosen, concluded, counter, named, save
from validation.experiments.trained_images import average_pool
from validation.training import points
from validation.window import pilot_curves

__all__ = ["CLAIM", "figure", "run"]

CLAIM = (
    "A network's memorisation time grows as P and falls as 1/width; its learning time does not depend on P [BUBM25]."
)


def run(
    preset: str | Preset = "quick",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    out: str | os.PathLike | None = None,
    device: str = "cpu",
    *,
    data: str | os.PathLike | None = None,
    pool: int = 1,
    network: str | None = None,
    growths: Sequence[tuple[str, str, float]] = GROWTHS,
) -> ExperimentResult:
    """Train networks of several sizes and widths, and measure how both training times grow.

    Parameters
    ----------
    preset : "quick" (digits, some four minutes on one core), "full" (an hour; on cuda P = 128 to 4096, for data of one's own
        such as MNIST), or a `Preset`
    seed : int; progress : callable (work done, of all); device : torch device
    out : folder, optional, for network_training_time.csv, .nc, .png; a finished stack is kept there and not trained again
    data : path that `validation.data.load` reads; None: scikit-learn's digits
    pool : images are averaged over squares of so many pixels
    network : "mlp" (of flat points) or "unet", in place of the preset's
    growths : (time, against, growth a doubling) that are expected; others are the negative control

    Returns
    -------
    ExperimentResult of `evaluate`; the seconds of its provenance are those of all training, also of stacks kept from before

    Raises
    ------
    DomainError : unknown preset or network, fewer points than the largest set of all replicas together needs, a stack in `out`
        that was made with other arguments
    """
    asked = chosen(preset, PRESETS, str(device))
    kind = asked.network["kind"] if network is None else network
    if kind not in ("mlp", "unet"):
        raise DomainError("network", kind, '"mlp" or "unet"')
    preset = asked if kind == asked.network["kind"] else replace(asked, network=UNET if kind == "unet" else MLP)
    started = time.perf_counter()
    source = "digits" if data is None else os.fspath(data)
    found = points({"data": source, "seed": seed}, device=device)
    X, fresh = (average_pool(x, pool) if pool > 1 else x for x in (found.X, found.fresh))
    if kind == "mlp":
        X, fresh = X.flatten(1), fresh.flatten(1)
    if max(preset.sizes) > len(X):
        raise DomainError("sizes", max(preset.sizes), f"at most {len(X)}, the points that are not kept back")
    step = counter(progress, len(preset.optimizers) * len(preset.widths) * preset.steps)
    made = json.dumps({"preset": asdict(preset), "data": Path(source).name, "pool": pool, "seed": seed})
    stacks = []
    for optimizer, rate in preset.optimizers:
        for width in preset.widths:
            kept = None if out is None else Path(out) / "stacks" / f"{preset.name}-{optimizer}-{width}-seed{seed}.nc"
            if kept is not None and kept.exists():
                curves = load_dataset(kept)
                if curves.attrs.get("made", made) != made:
                    raise DomainError("out", str(kept), "stacks of these arguments", "Name another preset or folder")
                started -= float(curves.attrs.get("seconds", 0))
            else:
                began = time.perf_counter()
                curves = _stack(preset, X, fresh, width, optimizer, rate, seed, device)
                curves = curves.assign_attrs(made=made, seconds=time.perf_counter() - began)
                if kept is not None:
                    save_dataset(curves, kept)
            step(preset.steps)
            stacks.append(curves.drop_vars("P").drop_attrs())
    labels = [f"{o}, width {w}" for o, _ in preset.optimizers for w in preset.widths]
    whole = xr.concat(stacks, xr.DataArray(labels, dims="stack", name="stack"), join="outer").assign_coords(
        P=("member", [P for P in preset.sizes for _ in range(preset.replicas)]),
        replica=("member", list(range(preset.replicas)) * len(preset.sizes)),
        width=("stack", [w for _ in preset.optimizers for w in preset.widths]),
        optimizer=("stack", [o for o, _ in preset.optimizers for _ in preset.widths]),
    )
    curves, rows = evaluate(whole, preset, growths)
    arguments: dict[str, Any] = {"preset": named(asked, PRESETS)}
    arguments |= {"data": source} if data is not None else {}
    arguments |= {"pool": pool} if pool > 1 else {}
    arguments |= {"network": kind} if kind != asked.network["kind"] else {}
    arguments |= {"growths": tuple(growths)} if tuple(growths) != GROWTHS else {}
    told = {"preset": preset, "seed": seed, "device": device, "started": started, "arguments": arguments}
    result = concluded("network_training_time", CLAIM, rows, curves, **told)
    if out is not None:
        save(result, figure(result), out)
    return result


def figure(result: ExperimentResult):
    """Losses against step, and both times against P and width."""
    return training_time_figure(result.curves)


def _stack(preset, X, fresh, width, optimizer, rate, seed, device) -> xr.Dataset:
    sets = []
    for k, P in enumerate(preset.sizes):
        for r in range(preset.replicas):
            g = torch.Generator().manual_seed(1000 * seed + 100 * k + r)
            sets.append(X[torch.randperm(len(X), generator=g)[:P].to(X.device)])
    record = preset.network | {"width": width}
    config = preset.config(optimizer, rate)
    seeds = [1000 * seed + m for m in range(len(sets))]
    options = {"checks": preset.checks, "first": preset.first, "levels": preset.levels, "samples": preset.samples}
    return pilot_curves(sets, fresh, record, config, seeds=seeds, device=device, **options)
