"""Phase diagrams of the four times: cuts at fixed latent dimension, and maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from validation.figures.house_style import COLOURS, FLOOR, LABELS, NOISE, style

__all__ = ["phase_lines", "phase_map"]


def phase_lines(diagram: Any, alpha_D: Sequence[float] | None = None, title: str = "") -> Figure:
    """The four times against the load, one panel a latent dimension, from a `theory.phase_diagram.phase_diagram`."""
    available = diagram["alpha_D"].values
    if alpha_D is None:
        alpha_D = available[np.unique(np.linspace(0, len(available) - 1, 3).round().astype(int))]
    with style():
        figure = Figure(figsize=(4.2 * len(alpha_D), 3.9))
        axes = figure.subplots(1, len(alpha_D), squeeze=False, sharex=True)[0]
        for axis, value in zip(axes, alpha_D, strict=True):
            row = diagram.sel(alpha_D=value, method="nearest")
            for kind, colour in COLOURS.items():
                if f"log_t_{kind}" in row:
                    log10 = row[f"log_t_{kind}"] / np.log(10)
                    axis.plot(row["alpha"], log10, color=colour, lw=1.8, label=LABELS[kind])
            axis.set_xscale("log")
            low, high = axis.dataLim.intervaly
            if low < FLOOR < high:  # else matplotlib's own margins are right
                axis.set_ylim(FLOOR, high + 0.05 * (high - FLOOR))
            axis.yaxis.set_major_locator(MaxNLocator(integer=True))
            axis.set_xlabel(r"load $\alpha=\log P/N$")
            axis.set_title(rf"$\alpha_D=D/N={float(row['alpha_D']):.3g}$")
            axis.yaxis.set_major_formatter(lambda v, _: rf"$10^{{{v:g}}}$")
            axis.grid(alpha=0.25, lw=0.5)
        axes[0].set_ylabel(NOISE + " [data units²]")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
        if title:
            figure.suptitle(title, fontsize=11)
    return figure


def phase_map(diagram: Any, title: str = "") -> Figure:
    """Maps over the plane of load and latent dimension: one a time."""
    kinds = [k for k in COLOURS if f"log_t_{k}" in diagram]
    with style():
        figure = Figure(figsize=(4.0 * len(kinds), 3.8))
        axes = figure.subplots(1, len(kinds), squeeze=False, sharex=True, sharey=True)[0]
        values = {k: diagram[f"log_t_{k}"].transpose("alpha_D", "alpha").values / np.log(10) for k in kinds}
        finite = np.concatenate([v[np.isfinite(v)] for v in values.values()])
        low, high = np.floor(max(finite.min(), FLOOR)), np.ceil(finite.max())
        levels = np.arange(high, low - 1, -2)[::-1]
        for axis, kind in zip(axes, kinds, strict=True):
            x, y = diagram["alpha"].values, diagram["alpha_D"].values
            mesh = axis.pcolormesh(
                x, y, values[kind], vmin=low, vmax=high, cmap="viridis", shading="gouraud", rasterized=True
            )
            lines = axis.contour(x, y, values[kind], levels=levels, colors="white", linewidths=0.7, linestyles="solid")
            axis.clabel(lines, levels[levels > -7], fmt=lambda v: rf"$10^{{{v:g}}}$", fontsize=7)
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.set_xlabel(r"load $\alpha=\log P/N$")
            axis.set_title(LABELS[kind])
        axes[0].set_ylabel(r"latent dimension $\alpha_D=D/N$")
        bar = figure.colorbar(mesh, ax=list(axes), pad=0.01, extend="min" if finite.min() < low else "neither")
        bar.set_label(r"$\log_{10}$ of " + NOISE)
        if title:
            figure.suptitle(title, fontsize=11)
    return figure
