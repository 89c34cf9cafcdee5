"""Figure of the mixtures: weight of the true point class by class, excess entropy of all, and agreement of clones."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from validation.figures import NOISE, style

__all__ = ["mixtures_figure"]


def mixtures_figure(data: xr.Dataset) -> Figure:
    """A row a case: mean weights by class at the largest size with the predicted crossings, f(t), and clones."""
    cases = data["case"].values
    with style():
        fig = Figure(figsize=(13, 3.9 * len(cases)))
        for row, label in zip(fig.subplots(len(cases), 3, squeeze=False), cases, strict=True):
            part = data.sel(case=label)
            size = int(part["size"].values[np.isfinite(part["N"].values)][-1])
            largest, t = part.isel(size=size), part["t"].values
            N, P = int(largest["N"]), int(largest["P"])
            ax = row[0]
            for k in part["class"].values:
                point, marker = largest.isel({"class": int(k)}), "os^v"[int(k) % 4]
                name = rf"$\pi={float(point['pi']):g}$, $r={float(point['variance']):g}$"
                same = {"fmt": f"{marker}-", "ms": 4.5, "lw": 1, "color": f"C{k}", "mfc": "none" if k else None}
                ax.errorbar(t, point["weight"], point["weight_error"], label=name, **same)
                ax.axvline(float(point["collapse_finite"]), color=f"C{k}", lw=1.3, ls=("-", (0, (4, 4)))[int(k) % 2])
                ax.axvline(float(point["collapse_theory"]), color=f"C{k}", lw=1.3, ls=":")
            ax.axhline(0.5, color="0.6", lw=0.8)
            ax.set(xscale="log", xlabel=NOISE, ylabel="mean weight of the true point")
            ax.set_title(f"{label}\nN = {N}, P = {P}")
            ax.plot([], [], color="0.3", lw=1.3, label=r"$t_c$ of the class, at this $N$ and $P\pi_k$")
            ax.plot([], [], color="0.3", lw=1.3, ls=":", label=r"$t_c$ of the class, limit at its load")
            ax.legend(fontsize=7.5, loc="lower left")
            ax = row[1]
            exact = np.isfinite(part["entropy_finite"].values)
            ax.plot(t[exact], part["entropy_finite"].values[exact], "k-", lw=1, label=f"exact, N = {N}, P = {P}")
            for i, colour in ((0, "C2"), (size, "C4"))[: 1 + (size > 0)]:
                point = part.isel(size=i)
                ax.plot(t, point["entropy_theory"], ":", lw=1.4, color=colour)
                name = f"N = {int(point['N'])}, P = {int(point['P'])}"
                ax.errorbar(t, point["entropy"], point["entropy_error"], fmt="o", ms=3.5, color=colour, label=name)
            ax.set(xscale="log", xlabel=NOISE, ylabel=r"excess entropy $f(t)$, nats per dimension")
            ax.set_title("average over classes, measured\ndotted: limit at this load")
            ax.legend(fontsize=7.5)
            for ax in row[:2]:
                ax.set_xticks([0.3, 1, 3], ["0.3", "1", "3"])
                ax.tick_params(axis="x", which="minor", labelbottom=False)
            ax = row[2]
            ax.plot(part["ratio"], part["agreement_theory"], "k-", lw=1.3, label=r"$\phi(t)$, exact")
            ax.errorbar(
                part["split"],
                part["agreement"],
                part["agreement_error"],
                fmt="o",
                ms=5,
                color="C3",
                label="clones, measured",
            )
            ax.axvline(1.0, color="0.6", lw=0.8)
            ax.set(xscale="log", xlabel=r"$t/t_s$", ylabel="probability of one class", ylim=(None, 1.02))
            ax.set_title("two clones of a trajectory,\nsplit at noise t")
            ax.legend(fontsize=7.5)
    return fig
