"""Figure of the law of the best noise floor: t_g beside the nearest distance, on manifolds and on data."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

__all__ = ["nearest_law_figure"]


def nearest_law_figure(curves: xr.Dataset, tolerance: float) -> Figure:
    """t_g against the nearest distance; their ratio against 1/N; the cross-entropy of each data set, with its times."""
    fig = Figure(figsize=(15, 4.8), layout="constrained")
    law, ratio, entropy = fig.subplots(1, 3)
    ends = []
    for i, label in enumerate(curves["case"].values):
        part = curves.sel(case=label)
        near, t_g = part["nearest"].values, part["measured"].sel(quantity="optimum").values
        law.plot(near, t_g, "o", ms=4, color=f"C{i}", label=label)
        ends += [near.min(), near.max()]
        row, inverse = part.sel(quantity="law"), 1 / part["N"].values
        ratio.errorbar(inverse, row["measured"], row["error"], fmt="o", ms=4, color=f"C{i}", capsize=2, label=label)
        ratio.errorbar(
            -0.0008 * (i + 1), row["limit"], row["limit_error"], fmt="s", mfc="white", color=f"C{i}", capsize=3
        )
        if np.isfinite(row["known"]).all() and not np.allclose(row["known"], 1):
            ratio.plot(np.append(inverse, 0), np.append(row["known"], 1), "-", lw=1, color=f"C{i}", alpha=0.7)
    for i, name in enumerate(curves["data"].values):
        part, color = curves.sel(data=name), f"C{i + curves.sizes['case']}"
        label = f"{name}, N = {int(part['data_N'])}"
        law.errorbar(
            part["data_d2"], part["data_t_g"], part["data_t_g_error"], fmt="^-", ms=4, lw=0.8, color=color, label=label
        )
        ends += [float(part["data_d2"].min()), float(part["data_d2"].max())]
        x, y = part["data_t"].values / float(part["data_optimum"]), part["data_cross_entropy"].values
        entropy.plot(x, y - np.nanmin(y), color=color, label=label)
        entropy.plot(x, part["data_own_weight"], "--", color=color, lw=1, alpha=0.7)
        entropy.axvline(float(part["data_collapse"] / part["data_optimum"]), color=color, lw=0.8, ls=":")
    line = np.array([min(ends) / 1.5, max(ends) * 1.5])
    law.plot(line, line, "-", color="0.5", lw=1, zorder=0)
    law.set(xscale="log", yscale="log", xlabel="mean squared nearest distance per dimension", ylabel="$t_g$")
    law.set_title("line: equality; data sets at P/32 ... P")
    for axis in (law.xaxis, law.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    ratio.axhspan(1 - tolerance, 1 + tolerance, color="0.9", zorder=0)
    ratio.axhline(1.0, color="0.5", lw=1)
    ratio.set(
        xlabel="1/N", ylabel="$t_g$ / nearest squared distance", title="● at N, □ extrapolated; lines: theory, no fit"
    )
    entropy.set(xscale="log", ylim=(-0.02, 1.05), xlabel="$t/t_g$", ylabel="cross-entropy above its minimum")
    entropy.set_title("dashed: weight of the own point; dotted: $t_c$")
    for ax in (law, ratio, entropy):
        ax.legend(fontsize=8)
    return fig
