"""Figures that set activations side by side: maps at matched second moment, the shortcut's error, and cuts."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure

from validation.figures.house_style import FLOOR, LABELS, style

__all__ = ["activation_lines", "activation_maps"]

FAILS = 1.1  # the shortcut fails where it is off by more than this factor
_X, _Y = r"load $\alpha=\log P/N$", r"latent dimension $\alpha_D=D/N$"


def activation_maps(diagrams: Any, kind: str = "collapse") -> Figure:
    r"""One column an activation: the time over the data variance, and the Gaussian-equivalence shortcut over the time.

    `diagrams` comes from `theory.phase_diagram.activation_diagrams`. Below the line in the lower row the shortcut is off by more
    than 10 %. Blank: no such time (discrete data), or below the solver's range.
    """
    names = list(diagrams["activation"].values)
    x, y = diagrams["alpha"].values, diagrams["alpha_D"].values
    log_t = diagrams[f"log_t_{kind}"].transpose("activation", "alpha_D", "alpha").values
    matched = (log_t - np.log(diagrams["variance"].values)[:, None, None]) / np.log(10)
    shortcut = diagrams[f"log_shortcut_{kind}"].transpose("activation", "alpha_D", "alpha").values
    error = (shortcut - log_t) / np.log(10)
    finite = matched[np.isfinite(matched)]
    low, high = max(np.floor(finite.min()), FLOOR), np.ceil(finite.max())
    below, above = float(np.nanmin(error)), float(np.clip(np.nanmax(error), 0.1, -FLOOR))
    signed = below < -np.log10(FAILS)
    norm = TwoSlopeNorm(0, max(below, FLOOR), above) if signed else Normalize(0, above)
    colours = "RdBu_r" if signed else "Reds"
    levels = np.arange(high, low - 1, -2)[::-1]
    with style():
        figure = Figure(figsize=(2.5 * len(names) + 1.4, 5.4))
        axes = figure.subplots(2, len(names), squeeze=False, sharex=True, sharey=True)
        for i, name in enumerate(names):
            top, bottom = axes[:, i]
            upper = top.pcolormesh(x, y, matched[i], vmin=low, vmax=high, cmap="viridis", rasterized=True)
            lines = top.contour(x, y, matched[i], levels=levels, colors="white", linewidths=0.7, linestyles="solid")
            spaced = levels[::-1][1::2]  # every other line: near the manifold they crowd
            top.clabel(lines, spaced[spaced > -7], fmt=lambda v: rf"$10^{{{v:g}}}$", fontsize=7, inline_spacing=1)
            top.set_title(name)
            lower = bottom.pcolormesh(x, y, error[i], norm=norm, cmap=colours, rasterized=True)
            wrong = np.where(np.isfinite(error[i]), np.abs(error[i]), np.nan)
            if np.nanmax(wrong) > np.log10(FAILS) > np.nanmin(wrong):
                bottom.contour(x, y, wrong, levels=[np.log10(FAILS)], colors="black", linewidths=1.0)
            bottom.set_xlabel(_X)
        axes[0, 0].set(xscale="log", yscale="log")
        for row in axes:
            row[0].set_ylabel(_Y)
        symbol = LABELS[kind].split()[-1]
        bar = figure.colorbar(upper, ax=list(axes[0]), pad=0.01, extend="min" if finite.min() < low else "neither")
        bar.set_label(rf"$\log_{{10}}$ of {symbol}/Var$(s)$")
        figure.colorbar(lower, ax=list(axes[1]), pad=0.01).set_label(rf"$\log_{{10}}$ of shortcut / {symbol}")
        figure.suptitle(
            f"{_capital(LABELS[kind])} of hidden manifolds at matched second moment; below, the Gaussian shortcut's "
            "error (black: 10 %)",
            fontsize=10,
        )
    return figure


def activation_lines(diagrams: Any, alpha_D: float = 0.5, kind: str = "collapse") -> Figure:
    """Cuts at one latent dimension: the time at matched second moment and at matched linear coefficient, shortcut dashed."""
    row = diagrams.sel(alpha_D=alpha_D, method="nearest")
    symbol = LABELS[kind].split()[-1]
    panels = {
        "matched second moment": (row["variance"].values, rf"{symbol} / Var$(s)$"),
        "matched linear coefficient": (row["linear"].values ** 2, rf"{symbol} / $\kappa_1^2$"),
    }
    with style():
        figure = Figure(figsize=(9.6, 4.4))
        axes = figure.subplots(1, 2, sharex=True, sharey=True)
        for axis, (title, (scale, label)) in zip(axes, panels.items(), strict=True):
            for i, name in enumerate(row["activation"].values):
                if scale[i] == 0:  # an even function has no linear part
                    continue
                shown = [np.asarray(row[f"log_{v}_{kind}"][i]) - np.log(scale[i]) for v in ("t", "shortcut")]
                (line,) = axis.plot(row["alpha"], shown[0] / np.log(10), lw=1.8, label=str(name), color=f"C{i}")
                axis.plot(row["alpha"], shown[1] / np.log(10), lw=1.0, ls="--", color=line.get_color())
            axis.set_xscale("log")
            axis.set_ylim(bottom=max(axis.get_ylim()[0], FLOOR))
            axis.yaxis.set_major_formatter(lambda v, _: rf"$10^{{{v:g}}}$")
            axis.set_title(title)
            axis.set_xlabel(_X)
            axis.set_ylabel(label)
            axis.tick_params(labelleft=True)
            axis.grid(alpha=0.25, lw=0.5)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 8))
        figure.suptitle(
            rf"{_capital(LABELS[kind])} at $\alpha_D={float(row['alpha_D']):.3g}$; dashed: Gaussian-equivalence shortcut",
            fontsize=10,
        )
    return figure


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
