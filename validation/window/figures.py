"""Figures of training times: losses and copies against steps with the window shaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from numerics.store import atomic, save_dataset
from validation.figures import style
from validation.training import TrainingConfig

__all__ = ["curves_figure", "prediction_figure", "write_prediction", "write_run"]

_SHOWN = 6  # noise levels


def curves_figure(curves: xr.Dataset, times: xr.Dataset) -> Figure:
    """One row a network: loss of training and held-out points against step at a few noise levels, and the copies."""
    M = curves.sizes["member"]
    with style():
        figure = Figure(figsize=(12, 3.6 * M), constrained_layout=True)
        axes = figure.subplots(M, 2, squeeze=False, sharex=True)
        step = np.maximum(curves["step"].values.astype(float), 0.5 * max(float(curves["step"][1]), 1.0))
        # the levels at which there is something to see: where held-out and training loss end furthest apart
        for m, (left, right) in enumerate(axes):
            at, of = curves.isel(member=m), times.isel(member=m)
            gap = np.log(at["held_out"].values[-1] / np.maximum(at["train"].values[-1], 1e-300))
            shown = np.sort(np.argsort(-gap)[:_SHOWN])
            for i, k in enumerate(shown):
                colour = f"C{i}"
                left.plot(step, at["held_out"][:, k], color=colour, label=rf"$\sigma={float(at['sigma'][k]):.2g}$")
                left.plot(step, at["train"][:, k], color=colour, ls="--")
                right.plot(step, at["train"][:, k] / float(of["least"][k]), color=colour, ls="--", lw=0.9)
                if np.isfinite(of["tau_mem"].values[k]):
                    right.plot(of["tau_mem"].values[k], 0.5, "o", color=colour, ms=5)
            if "fraction" in at and np.isfinite(at["fraction"]).any():
                right.plot(step, at["fraction"], color="k", lw=1.8, label="share of samples that are copies")
                right.fill_between(step, at["fraction_low"], at["fraction_high"], color="k", alpha=0.15, lw=0)
                right.axhline(float(at["control"]), color="0.6", lw=0.8, label="the same, held-out points")
            start, end = float(of["tau_gen"][shown].max()), float(of["tau_mem"][shown].min())
            if np.isfinite(start) and np.isfinite(end) and start < end:
                for axis in (left, right):
                    axis.axvspan(start, end, color="C2", alpha=0.12, lw=0)
            if "departure_step" in of and int(of["departure_step"]) >= 0:
                left.axvline(max(int(of["departure_step"]), step[0]), color="k", ls=":", label="first departure")
            left.set(xscale="log", yscale="log", ylabel=r"loss $E|D-\xi|^2/(Nt)$")
            left.set_title(f"P = {int(at['P']):,}: held-out (line) and training loss (dashed)", loc="left", fontsize=10)
            right.axhline(0.5, color="0.6", lw=0.8, ls=":")
            right.set(ylim=(-0.03, 1.3), ylabel="training loss over least held-out loss; copies")
            right.set_title("dots: memorised; shaded: learned and not memorised", loc="left", fontsize=10)
            left.legend(fontsize=7)
            if right.get_legend_handles_labels()[0]:
                right.legend(fontsize=7)
        for axis in axes[-1]:
            axis.set_xlabel("optimiser step")
    return figure


def write_run(curves: xr.Dataset, times: xr.Dataset, folder: Path) -> list[Path]:
    """training-curves.csv, training-times.csv and training-times.png in a folder."""
    files = [save_dataset(curves, folder / "training-curves.csv"), save_dataset(times, folder / "training-times.csv")]
    with atomic(folder / "training-times.png") as temporary:
        curves_figure(curves, times).savefig(temporary, dpi=130)
    return [*files, folder / "training-times.png"]


def prediction_figure(found: xr.Dataset) -> Figure:
    """Times of the pilots against P, the power laws through them and the predictions with their intervals."""
    level = int(found["level"])
    at, P = found.isel(t=level), int(found.attrs["P"])
    with style():
        figure = Figure(figsize=(6.4, 4.2), constrained_layout=True)
        axis = figure.subplots()
        sizes = at["pilot_P"].values
        line = np.geomspace(sizes.min(), P, 50)
        clock = TrainingConfig(warmup=int(found.attrs["warmup"]))
        for name, colour, label in (("tau_gen", "C2", "learned"), ("tau_mem", "C3", "memorised")):
            axis.loglog(sizes, at[f"pilot_{name}"], "o", color=colour, ms=5, label=f"{label}: pilots")
            value = float(at[name])
            if np.isfinite(value):
                law = clock.clock(value) * (line / P) ** float(at[f"{name}_exponent"])
                axis.loglog(line, [clock.step_at(tau) for tau in law], color=colour, lw=1)
                error = [[value - float(at[f"{name}_low"])], [float(at[f"{name}_high"]) - value]]
                axis.errorbar(
                    [P if name == "tau_mem" else 0.96 * P],
                    [value],
                    error,
                    fmt="s",
                    color=colour,
                    capsize=4,
                    label=f"{label}: predicted",
                )
        axis.set(xlabel="training points P", ylabel="optimiser step")
        axis.set_title(rf"$\sigma={float(at['sigma']):.3g}$, {100 * found.attrs['coverage']:g} % intervals", loc="left")
        axis.legend(fontsize=8)
    return figure


def write_prediction(found: xr.Dataset, folder: Path) -> list[Path]:
    """window.csv (by noise level), window-pilots.csv and window.png in a folder."""
    pilots = [name for name in found.data_vars if str(name).startswith("pilot_")]
    own = [name for name in found.data_vars if name not in pilots]
    files = [
        save_dataset(found[own].drop_vars("pilot_P", errors="ignore"), folder / "window.csv"),
        save_dataset(found[pilots], folder / "window-pilots.csv"),
    ]
    with atomic(folder / "window.png") as temporary:
        prediction_figure(found).savefig(temporary, dpi=130)
    return [*files, folder / "window.png"]
