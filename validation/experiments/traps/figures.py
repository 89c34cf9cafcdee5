"""Figure of returns and commitments: who comes back to its own point, when fresh trajectories commit, and the limits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

__all__ = ["returns_figure"]


def returns_figure(data: xr.Dataset, quantities: Sequence[str], tolerance: float) -> Figure:
    """Returns against the starting noise; distribution of commitment times; extrapolated `quantities`; a row a case."""
    cases = data["case"].values
    fig = Figure(figsize=(15, 4.6 * len(cases)), layout="constrained")
    for label, panels in zip(cases, fig.subplots(len(cases), 3, squeeze=False), strict=True):
        part = data.sel(case=label)
        t_c, t_o, start = float(part["collapse_time"]), float(part["onset_time"]), part["start"].values
        shades = [0.35 + 0.65 * i / max(1, part.sizes["size"] - 1) for i in range(part.sizes["size"])]
        returned, committed, limits = panels
        for i, shade in enumerate(shades):
            N = int(part["N"][i])
            for key, color, style in (("return, SDE", "C0", "o"), ("return, flow", "C1", "s")):
                y, dy = (part[f"curve_{key}{end}"].values[i] for end in ("", "_error"))
                returned.errorbar(
                    start,
                    y,
                    dy,
                    fmt=style,
                    ms=4,
                    color=color,
                    alpha=shade,
                    label=f"{key}, N = {N}" if shade == 1 else None,
                )
            returned.plot(start, part["curve_participation, all"].values[i], "-", color="C0", alpha=shade, lw=1)
            p = part["probability"].values
            for key, color in (("commitment, SDE", "C0"), ("commitment, flow", "C1")):
                name = f"{key.split(', ')[1]}, N = {N}" if shade in (shades[0], 1.0) else None
                committed.plot(np.exp(part[f"quantile_{key}"].values[i]), p, color=color, alpha=shade, label=name)
        committed.plot(
            np.exp(part["quantile_reversed"].values[-1]), p, "k:", lw=1.2, label="forward diffusion, largest N"
        )
        returned.plot(start, part["curve_clean weight"].values[-1], "k--", lw=1, label="weight of the point at itself")
        for ax in (returned, committed):
            ax.axvline(t_c, color="C3", lw=1.2)
            ax.axvline(t_o, color="0.5", lw=1.2)
            ax.set_xscale("log", base=2)
            ax.xaxis.set_major_formatter("{x:g}")
            ax.text(t_c, 1.02, "$t_c$", color="C3", ha="center", transform=ax.get_xaxis_transform())
            ax.text(t_o, 1.02, "$t_o$", color="0.4", ha="center", transform=ax.get_xaxis_transform())
        returned.set(xlabel="t at release", ylabel="fraction that returns to its own point")
        committed.set(xlabel="t of commitment", ylabel="fraction committed at smaller t")
        inverse = 1 / part["N"].values
        for i, name in enumerate(quantities):
            row = part.sel(quantity=name)
            limits.errorbar(inverse, row["measured"], row["error"], fmt="o", ms=4, color=f"C{i}", capsize=2, label=name)
            limits.plot(inverse, row["fitted"], "-", color=f"C{i}", lw=1, alpha=0.6)
            limits.errorbar(
                -0.0012 * (i + 1), row["limit"], row["limit_error"], fmt="s", mfc="white", color=f"C{i}", capsize=3
            )
        limits.axhspan(t_c * (1 - tolerance), t_c * (1 + tolerance), color="0.9", zorder=0)
        limits.axhline(t_c, color="C3", lw=1.2)
        limits.axhline(t_o, color="0.5", lw=1.2)
        limits.set_xticks([tick for tick in limits.get_xticks() if 0 <= tick <= inverse.max()])
        limits.set(
            xlabel="1/N (extrapolated values drawn left of 0)",
            ylabel="t",
            title="● at N, □ extrapolated; red: $t_c$, grey: $t_o$",
        )
        for ax in panels:
            ax.legend(fontsize=8)
        committed.set_title(str(label), pad=16)
        returned.set_title("lines: $E\\sum w^2$ at release", pad=16)
    return fig
