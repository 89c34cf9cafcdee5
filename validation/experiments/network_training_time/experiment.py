r"""Does tau_mem of a network grow as P and fall as 1/width, and does tau_gen not move, as [BUBM25] finds for U-Nets?

For each optimiser and width a stack of networks, one for each P and replica (own points, own seed), trains at a constant
rate. Times are read off the losses on training and held-out points at fixed noise: tau_gen and tau_mem of
`validation.window.training_times`, and tau_learn, the first step at which the held-out loss is half of the way (in its
logarithm) from its start to the least loss that *all* sizes of this width reach. tau_gen asks each network for its own least
loss, which falls with P and so is reached later.

A growth is 2^b, b the slope of log tau against log2 P over the sizes of one width and replica, or against log2 width over the
widths of one size and replica; slopes of different networks are independent, and their spread is the error.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy import stats

from numerics.domain import DomainError
from numerics.store import load_dataset, save_dataset
from validation.experiments.network_training_time.figures import training_time_figure
from validation.experiments.shared import ExperimentResult, Row, chosen, concluded, counter, save
from validation.experiments.trained_images import average_pool
from validation.simulation import Prediction, judge
from validation.training import NoiseLevels, TrainingConfig, points
from validation.window import first_crossing, pilot_curves, training_times

__all__ = ["PRESETS", "Preset", "figure", "run"]

CLAIM = (
    "A network's memorisation time grows as P and falls as 1/width; its learning time does not depend on P [BUBM25]."
)
TOLERANCE = 0.15  # of a growth per doubling


@dataclass(frozen=True)
class Preset:
    """Sizes, widths, optimisers with their rates, and how long and on what they train.

    level : index of the noise level whose times are judged, of `levels` over the range of noise
    """

    name: str
    sizes: tuple[int, ...]
    widths: tuple[int, ...]
    optimizers: tuple[tuple[str, float], ...]
    steps: int
    replicas: int
    network: dict[str, Any] = field(default_factory=lambda: {"kind": "mlp", "blocks": 2})
    batch: int = 64
    noise: tuple[float, float] = (0.1, 3.0)
    levels: int = 6
    level: int = 1
    samples: int = 64

    def config(self, optimizer: str, rate: float) -> TrainingConfig:
        return TrainingConfig(
            self.steps,
            self.batch,
            rate,
            warmup=20,
            ema=0.95,
            noise=NoiseLevels(*self.noise),
            optimizer=optimizer,
            precision="float32",
        )


PRESETS = {
    "quick": Preset("quick", (32, 64, 128), (48, 96, 192), (("adam", 3e-3), ("sgd", 0.5)), 2000, 2),
    "full": Preset("full", (32, 64, 128, 256), (64, 128, 256), (("adam", 2e-3), ("sgd", 0.3)), 12_000, 3, samples=200),
    "full on cuda": Preset(
        "full on cuda",
        (128, 256, 512, 1024, 2048, 4096),
        (128, 256, 512),
        (("adam", 1e-3), ("sgd", 0.3)),
        200_000,
        3,
        batch=256,
        samples=500,
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
    network: str = "mlp",
    growths: Sequence[tuple[str, str, float]] = (
        ("tau_mem", "P", 2.0),
        ("tau_mem", "width", 0.5),
        ("tau_learn", "P", 1.0),
        ("tau_learn", "width", 0.5),
        ("tau_gen", "P", 1.0),
    ),
) -> ExperimentResult:
    """Train networks of several sizes and widths, and measure how both training times grow.

    Parameters
    ----------
    preset : "quick" (digits, some ten minutes on one core), "full" (an hour; on cuda P = 128 to 4096, for data of one's own
        such as MNIST), or a `Preset`
    seed : int; progress : callable (work done, of all); device : torch device
    out : folder, optional, for network_training_time.csv, .nc, .png; a finished stack is kept there and not trained again
    data : path that `validation.data.load` reads; None: scikit-learn's digits
    pool : images are averaged over squares of so many pixels
    network : "mlp" (of flat points) or "unet"; growths : (time, against, growth a doubling) that are expected; others are the
        negative control

    Returns
    -------
    ExperimentResult, with curves over (optimizer, width, step, member, t) and times over (optimizer, width, member, t)

    Raises
    ------
    DomainError : unknown preset or network, fewer points than the largest set of all replicas together needs
    """
    preset = chosen(preset, PRESETS, str(device))
    if network not in ("mlp", "unet"):
        raise DomainError("network", network, '"mlp" or "unet"')
    started = time.perf_counter()
    found = points({"data": "digits" if data is None else os.fspath(data), "seed": seed}, device=device)
    X, fresh = (average_pool(x, pool) if pool > 1 else x for x in (found.X, found.fresh))
    if network == "mlp":
        X, fresh = X.flatten(1), fresh.flatten(1)
    if max(preset.sizes) > len(X):
        raise DomainError("sizes", max(preset.sizes), f"at most {len(X)}, the points that are not kept back")
    step = counter(progress, len(preset.optimizers) * len(preset.widths) * preset.steps)
    stacks = []
    for optimizer, rate in preset.optimizers:
        for width in preset.widths:
            kept = None if out is None else Path(out) / "stacks" / f"{preset.name}-{optimizer}-{width}-seed{seed}.nc"
            if kept is not None and kept.exists():
                curves = load_dataset(kept)
            else:
                curves = _stack(preset, X, fresh, network, width, optimizer, rate, seed, device)
                if kept is not None:
                    save_dataset(curves, kept)
            step(preset.steps)
            times = training_times(curves).drop_vars("departure_step", errors="ignore")
            times["tau_learn"] = common_learning_time(curves, times)
            stacks.append(xr.merge([curves, times], compat="override", join="outer").drop_vars("P"))
    labels = [f"{o}, width {w}" for o, _ in preset.optimizers for w in preset.widths]
    whole = xr.concat(stacks, xr.DataArray(labels, dims="stack", name="stack"), join="outer")
    P = [P for P in preset.sizes for _ in range(preset.replicas)]
    whole = whole.assign_coords(
        P=("member", P),
        replica=("member", list(range(preset.replicas)) * len(preset.sizes)),
        width=("stack", [w for _ in preset.optimizers for w in preset.widths]),
        optimizer=("stack", [o for o, _ in preset.optimizers for _ in preset.widths]),
    ).assign_attrs(level=preset.level)
    rows = [_row(whole, preset, optimizer, *expected) for optimizer, _ in preset.optimizers for expected in growths]
    made = {"preset": preset, "seed": seed, "device": device, "started": started}
    result = concluded("network_training_time", CLAIM, rows, whole, **made)
    if out is not None:
        save(result, figure(result), out)
    return result


def figure(result: ExperimentResult):
    """Losses against step, and both times against P and width."""
    return training_time_figure(result.curves)


def _stack(preset, X, fresh, network, width, optimizer, rate, seed, device) -> xr.Dataset:
    sets = []
    for k, P in enumerate(preset.sizes):
        for r in range(preset.replicas):
            g = torch.Generator().manual_seed(1000 * seed + 100 * k + r)
            sets.append(X[torch.randperm(len(X), generator=g)[:P].to(X.device)])
    record = (preset.network if network == "mlp" else {"blocks": 1, "levels": 2}) | {"kind": network, "width": width}
    config = preset.config(optimizer, rate)
    seeds = [1000 * seed + m for m in range(len(sets))]
    options = {"levels": preset.levels, "samples": preset.samples, "stop_early": False}
    return pilot_curves(sets, fresh, record, config, seeds=seeds, device=device, **options)


def _row(whole: xr.Dataset, preset: Preset, optimizer: str, name: str, against: str, value: float) -> Row:
    part = whole.isel(stack=np.flatnonzero(whole["optimizer"].values == optimizer))
    slopes = growth_slopes(part[name].isel(t=preset.level), against)
    exponent, error = _mean(slopes)
    measured, spread = 2.0**exponent, np.log(2) * 2.0**exponent * error
    declared = Prediction(f"growth of {name}", value, None, TOLERANCE, "[BUBM25]")
    sigma = float(part["sigma"][preset.level])
    note = f"exponent {exponent:.2f} +- {error:.2f}, {len(slopes)} series, sigma = {sigma:.2g}"
    return Row(f"{name} a doubling of {against}", optimizer, judge(declared, measured, spread), note)


def common_learning_time(curves: xr.Dataset, times: xr.Dataset) -> xr.DataArray:
    """tau_learn over (member, t), see the module; `times` has the least losses."""
    held = curves["held_out"].transpose("step", "member", "t").values
    steps = curves["step"].values.astype(float)
    out = np.full(held.shape[1:], np.nan)
    goal = times["least"].transpose("member", "t").values.max(axis=0)
    for m, k in np.ndindex(out.shape):
        out[m, k] = first_crossing(steps, held[:, m, k], float(np.sqrt(held[0, :, k].mean() * goal[k])))[0]
    return xr.DataArray(out, dims=("member", "t"))


def growth_slopes(tau: xr.DataArray, against: str) -> np.ndarray:
    """Slopes d log tau/d log (P or width) of every series that has at least two known times.

    tau : (stack, member) with coordinates P, replica (member) and width (stack)
    """
    values = tau.transpose("stack", "member").values
    logs = np.log(np.where(values > 0, values, np.nan))
    P, replica, width = (tau[name].values for name in ("P", "replica", "width"))
    if against == "P":
        series = [
            (np.log(P[replica == r]), logs[s, replica == r]) for s in range(len(width)) for r in np.unique(replica)
        ]
    else:
        series = [(np.log(width), logs[:, m]) for m in range(len(P))]
    slopes = []
    for x, y in series:
        ok = np.isfinite(y)
        if ok.sum() >= 2:
            slopes.append(np.polyfit(x[ok], y[ok], 1)[0])
    return np.array(slopes)


def _mean(slopes: np.ndarray) -> tuple[float, float]:
    """Mean and standard error, widened to Student's t so that 3 errors are 3 sigma of a Gaussian."""
    n = len(slopes)
    if n < 2:
        return (float(slopes[0]) if n else np.nan), np.nan
    widened = stats.t.isf(stats.norm.sf(3), n - 1) / 3
    return float(slopes.mean()), float(widened * slopes.std(ddof=1) / np.sqrt(n))
