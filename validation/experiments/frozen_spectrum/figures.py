"""Figure of the frozen spectrum: posterior variance over t against t, size by size, and the law of single values."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.figure import Figure

from validation.figures import style

__all__ = ["frozen_figure"]


def frozen_figure(data: xr.Dataset) -> Figure:
    """v/t against t for every N with its exact mean, the limit and the exact score; and the distribution of single values."""
    cases, K = data["case"].values, len(data["subspace"])
    with style():
        fig = Figure(figsize=(13, 3.6 * len(cases) + 0.6))
        axes = fig.subplots(len(cases), K + 1, squeeze=False)
        for row, label in zip(axes, cases, strict=True):
            part = data.sel(case=label)
            sizes = [i for i in part["size"].values if np.isfinite(part["N"].values[i])]
            for k in range(K):
                ax = row[k]
                for j, i in enumerate(sizes):
                    colour = _colour(j, len(sizes))
                    point = part.isel(size=i, subspace=k)
                    ax.plot(point["ratio"], point["finite_theory"], "-", lw=0.9, color=colour)
                    ax.errorbar(
                        point["ratio"], point["v"], point["v_error"], fmt="o", ms=3, lw=0.9, color=colour, capsize=2
                    )
                    ax.plot([], [], "o-", color=colour, ms=3, label=f"N = {int(point['N'])}, P = {int(point['P'])}")
                ax.plot(part["ratio"], part["limit"].isel(subspace=k), "k--", lw=1.8, label="theory, N → ∞ (frozen)")
                ax.plot(
                    part["ratio"],
                    part["exact_score"].isel(subspace=k),
                    color="0.6",
                    lw=3,
                    alpha=0.5,
                    label="exact score",
                )
                variance = float(part["variance"].values[k])
                ax.set(xscale="log", xlabel=r"$t/t_\mathrm{cond}$", ylabel=r"$\langle v\rangle/t$")
                ax.set_title(f"{label}\nvariance r = {variance:g}", fontsize=9)
                ax.grid(alpha=0.25, lw=0.5)
            bottom, top = row[0].get_ylim()
            row[0].set_ylim(bottom - 0.3 * (top - bottom), top)  # room for the legend below the curves
            row[0].legend(fontsize=7, loc="lower left", ncols=2)
            ax = row[K]
            for j, ratio in enumerate((0.1, 0.35, 0.7, 1.5)):
                point = part.sel(ratio=ratio).isel(subspace=0)
                ax.plot(
                    point["quantiles"],
                    part["probability"],
                    color=f"C{j}",
                    lw=1.6,
                    label=rf"$t={ratio:g}\,t_\mathrm{{cond}}$",
                )
                ax.plot(point["quantiles_theory"], part["probability"], color=f"C{j}", lw=1.2, ls="--")
            ax.set(xlabel=r"$v/t$ of a single point", ylabel="cumulative probability", ylim=(0, 1))
            ax.set_xscale("symlog", linthresh=0.05, linscale=0.3)
            ax.set_xlim(-0.002, 10)
            ax.set_xticks([0, 0.1, 1, 10], ["0", "0.1", "1", "10"])
            largest = int(part["N"].values[sizes[-1]])
            ax.set_title(f"single values, first subspace, N = {largest}\n- - Poisson-Dirichlet law, N → ∞", fontsize=9)
            ax.legend(fontsize=7)
            ax.grid(alpha=0.25, lw=0.5)
        fig.suptitle(
            "Points: measured means over training sets. Thin lines: exact mean at that N and P, nothing fitted",
            fontsize=10,
        )
    return fig


def _colour(j: int, count: int) -> tuple:
    """The j-th of `count` colours, dark for the largest size."""
    return colormaps["viridis_r"](0.15 + 0.8 * j / max(count - 1, 1))
