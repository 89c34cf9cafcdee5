"""Figure of networks' training times: losses and copies against step, and both times against P."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from validation.figures import style

__all__ = ["training_time_figure"]


def training_time_figure(data: xr.Dataset) -> Figure:
    """One row an optimiser: losses of the middle width, times against P, and copies against step/P."""
    optimizers = list(dict.fromkeys(data["optimizer"].values.tolist()))
    level = int(data.attrs["level"])
    with style():
        sampled = "fraction" in data and bool(np.isfinite(data["fraction"].values).any())
        columns = 3 if sampled else 2
        figure = Figure(figsize=(14 * columns / 3, 4 * len(optimizers)), constrained_layout=True)
        for axes, optimizer in zip(figure.subplots(len(optimizers), columns, squeeze=False), optimizers, strict=True):
            part = data.isel(stack=np.flatnonzero(data["optimizer"].values == optimizer), t=level)
            _losses(axes[0], part.isel(stack=part.sizes["stack"] // 2), optimizer)
            _times(axes[1], part)
            if sampled:
                _copies(axes[2], part.isel(stack=part.sizes["stack"] // 2))
    return figure


def _losses(axis, one: xr.Dataset, optimizer: str) -> None:
    first = one.isel(member=np.flatnonzero(one["replica"].values == 0))
    for i, P in enumerate(first["P"].values):
        at = first.isel(member=i, step=first["step"].values > 0)
        axis.loglog(at["step"], at["held_out"], color=f"C{i}", label=f"P = {P}")
        axis.loglog(at["step"], at["train"], color=f"C{i}", ls="--")
    title = rf"{optimizer}, width {int(one['width'])}, $\sigma={float(one['sigma']):.2g}$: held-out, training (dashed)"
    axis.set_title(title, loc="left", fontsize=10)
    axis.set(xlabel="optimiser step", ylabel=r"loss $E|D-\xi|^2/(Nt)$")
    axis.legend(fontsize=7)


def _times(axis, part: xr.Dataset) -> None:
    for s, width in enumerate(part["width"].values):
        at = part.isel(stack=s)
        P = at["P"].values * 1.03 ** (s - 1)  # side by side
        for name, text, marker in (
            ("tau_mem", r"\tau_{mem}", {"marker": "o", "ms": 5}),
            ("tau_gen", r"\tau_{gen}", {"marker": "^", "ms": 4, "mfc": "none"}),
            ("tau_learn", r"\tau_{learn}", {"marker": "_", "ms": 7}),
        ):
            early = at[f"{name}_early"]
            axis.plot(P, at[name].where(~early), ls="", color=f"C{s}", label=rf"${text}$, width {width}", **marker)
            axis.plot(P, at[name].where(early), ls="", marker="$\\downarrow$", ms=6, color=f"C{s}")
    if any(part[f"{name}_early"].values.any() for name in ("tau_mem", "tau_gen", "tau_learn")):
        axis.plot([], [], ls="", marker="$\\downarrow$", ms=6, color="0.4", label="before the first check")
    P = np.unique(part["P"].values)
    known = part["tau_mem"].values[part["tau_mem"].values > 0]
    if known.size:
        axis.plot(P, known.min() * P / P[0], "k:", lw=1, label=r"$\propto P$")
    axis.set(xlabel="training points P", ylabel="optimiser steps")
    if (part["tau_gen"].values > 0).any() or known.size:
        axis.set(xscale="log", yscale="log")
        axis.set_xticks(P, [str(n) for n in P])
        axis.minorticks_off()
        low, high = axis.get_ylim()
        axis.set_ylim(low / (high / low) ** 0.5, high)  # room for the legend
    axis.set_title("training times", loc="left", fontsize=10)
    axis.legend(fontsize=7, ncols=3, loc="lower center")


def _copies(axis, one: xr.Dataset) -> None:
    first = one.isel(member=np.flatnonzero(one["replica"].values == 0))
    for i, P in enumerate(first["P"].values):
        at = first.isel(member=i)
        if "fraction" in at:
            ok = np.isfinite(at["fraction"].values)
            axis.semilogx(
                at["step"].values[ok] / P, at["fraction"].values[ok], "o-", ms=3, color=f"C{i}", label=f"P = {P}"
            )
    axis.set(xlabel="step/P", ylabel="share of samples that are copies", ylim=(-0.03, 1.03))
    axis.set_title("copies", loc="left", fontsize=10)
    if axis.has_data():
        axis.legend(fontsize=7)
