"""Figures: copies of each image against its t_c, with what ranks them; and what signals of single samples tell."""

from __future__ import annotations

from itertools import product

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from validation.experiments.copied_images.probes import COMPETITORS
from validation.experiments.copied_images.verdicts import PREDICTORS, RULES, copied_area, image_table, signal_table
from validation.figures import style

__all__ = ["SIGNALS", "order_figure", "signals_figure"]

_COLOURS = ("#0072B2", "#D55E00", "#009E73")  # of the numbers of training images
_NAMES = {
    "t_c": r"$t_c^\mu$",
    "neighbour": "distance to\nnearest image",
    "norm": "distance to\nmean image",
    "shuffled": r"$t_c^\mu$, shuffled",
}
SIGNALS = {
    "square": r"$E|s|^2$",
    "sharpness": r"$E|Js|^2$",
    "dimension": r"dimension $d(t)$",
    "flipd": "FLIPD",
    "spread": "spread of $D$ over noise",
    "norm": "norm of the sample",
    "distance": "distance, with training set",
    "p_value": "p-value, with training set",
    "isolation": "isolation, with training set",
    "shuffled": "dimension, shuffled",
}


def order_figure(curves: xr.Dataset) -> Figure:
    """Left: copies of each training image against its t_c. Middle, right: AUC of each number for being copied, by both rules."""
    sizes = np.unique(curves["P"].values)
    with style():
        figure = Figure(figsize=(12.6, 4.2), layout="constrained")
        left, *rights = figure.subplots(1, 3)
        for colour, P in zip(_COLOURS, sizes, strict=False):
            members = np.flatnonzero(curves["P"].values == P)
            tables = [image_table(curves, m) for m in members]
            t, n = (np.concatenate([table[name] for table in tables]) for name in ("t_c", "copies"))
            shift = np.random.default_rng(0).uniform(-0.25, 0.25, len(n))  # counts lie on each other
            left.plot(np.sqrt(t), n + shift, ".", ms=4, alpha=0.5, color=colour, mec="none", label=f"P = {P}")
            order = np.argsort(t)
            for part in np.array_split(order, 6):
                left.errorbar(
                    np.sqrt(np.median(t[part])), n[part].mean(), n[part].std() / len(part) ** 0.5,
                    fmt="o", ms=6, color=colour, mec="k", ecolor="k", capsize=3,
                )  # fmt: skip
            for (i, predictor), (axis, rule) in product(
                enumerate(PREDICTORS), zip(rights, RULES.values(), strict=True)
            ):
                values = np.array([copied_area(table, predictor, rule) for table in tables])
                values = values[np.isfinite(values)]
                x = i + 0.22 * (list(sizes).index(P) - (len(sizes) - 1) / 2)
                axis.plot(np.full(len(values), x), values, ".", ms=5, color=colour, alpha=0.6)
                if len(values) > 1:
                    error = values.std(ddof=1) / len(values) ** 0.5
                    axis.errorbar(x + 0.05, values.mean(), error, fmt="o", ms=6, color=colour, mec="k", capsize=3)
        left.set(
            xlabel=r"collapse noise $\sqrt{t_c^\mu}$ of the training image [data units]",
            ylabel="samples that copy it, all snapshots",
        )
        left.set_title("one point an image; rings: means of sixths", loc="left", fontsize=9)
        left.legend(fontsize=8, markerscale=3)
        for axis, words in zip(
            rights, ("distance below a third of the next", "distance below one radius"), strict=True
        ):
            axis.axhline(0.5, color="k", lw=0.8, ls=":")
            axis.set_xticks(range(len(PREDICTORS)), [_NAMES[name] for name in PREDICTORS], fontsize=8)
            axis.set(ylabel='AUC for "copied at all" [1]', ylim=(0.2, 1))
            axis.set_title(f"copy: {words}\ndots: networks; rings: mean, standard error", loc="left", fontsize=9)
        for axis in (left, *rights):
            axis.grid(alpha=0.25, lw=0.5)
    return figure


def signals_figure(curves: xr.Dataset) -> Figure:
    """AUC of each signal for a copy against the noise at which it is taken, one panel a number of training images."""
    table = signal_table(curves, errors=False)
    sizes = [P for P in np.unique(table["P"].values)]
    sigma = table["sigma"].values
    with style():
        figure = Figure(figsize=(4.2 * len(sizes) + 2.6, 4.2), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, len(sizes), sharey=True))
        for axis, P in zip(axes, sizes, strict=True):
            part = table["auc"].isel(member=np.flatnonzero(table["P"].values == P))
            for i, (name, words) in enumerate(SIGNALS.items()):
                values = part.sel(probe=name).transpose("sigma", "member").values
                values = values[:, np.isfinite(values).any(axis=0)]
                if not values.size:
                    continue
                mean, n = values.mean(axis=1), values.shape[1]
                error = values.std(axis=1, ddof=1) / n**0.5 if n > 1 else np.zeros(len(mean))
                training = name in COMPETITORS
                colour = "0.45" if name in ("norm", "shuffled") else "k" if training else f"C{i}"
                look = (
                    {"p_value": "--", "isolation": ":"}.get(name, "-") if training else ":" if colour == "0.45" else "-"
                )
                shift = 1 + 0.015 * (i - 4)
                marker = "s" if name == "norm" else "o"
                axis.errorbar(
                    sigma * shift,
                    mean,
                    error,
                    color=colour,
                    ls=look,
                    marker=marker,
                    ms=4,
                    capsize=2,
                    lw=1.3,
                    label=words,
                )
            axis.axhline(0.5, color="k", lw=0.8, ls=":")
            axis.set(xscale="log", xlabel=r"noise $\sigma$ of the signal [data units]", ylim=(0, 1.02))
            axis.set_xticks(sigma, [f"{s:.2g}" for s in sigma])
            axis.minorticks_off()
            axis.set_title(f"P = {P}; bars: standard error over networks", loc="left", fontsize=9)
            axis.grid(alpha=0.25, lw=0.5)
        axes[0].set_ylabel('AUC for "this sample is a copy" [1]')
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", fontsize=8)
    return figure
