"""Figure of times and basins at finite N: measured over their limits, with the declared drift and what is fitted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.interpolate import CubicSpline

__all__ = ["times_figure"]


def times_figure(data: xr.Dataset, titles: Mapping[str, str], tolerance: float) -> Figure:
    """Measured over limiting theoretical value against 1/N, one panel a quantity, with the declared drift and its fit."""
    fig = Figure(figsize=(11, 8.6), layout="constrained")
    for ax, quantity in zip(fig.subplots(2, 2).flat, data["quantity"].values, strict=True):
        for i, label in enumerate(data["case"].values):
            part, color = data.sel(case=label, quantity=quantity), f"C{i}"
            theory, limit = float(part["theory"]), float(part["limit"])
            N, drift_N, drift = (part[name].values for name in ("N", "drift_N", "drift"))
            drift = drift / drift[-1]
            ax.plot(*_smooth(drift_N, drift), ":", color=color, lw=1.2)
            fit = limit / theory * drift * part["fitted"].values
            ax.plot(*_smooth(drift_N, fit), "-", color=color, lw=1.2)
            ax.errorbar(1 / N, part["measured"] / theory, part["error"] / theory, fmt="o", ms=4, color=color, capsize=2)
            # side by side, so that the limits do not hide each other
            style = {"fmt": "s", "ms": 6, "mfc": "white", "color": color, "capsize": 3}
            ax.errorbar(-0.0012 * (i + 1), limit / theory, float(part["limit_error"]) / theory, **style)
        ax.axhspan(1 - tolerance, 1 + tolerance, color="0.92", zorder=0)
        ax.axhline(1.0, color="0.3", lw=1, ls="--", zorder=1)
        ax.axvline(0.0, color="0.7", lw=0.8, zorder=1)
        ax.set(xlabel="1/N", ylabel="measured / theory for N → ∞", title=titles[str(quantity)])
    handles = [
        Line2D([], [], color=f"C{i}", marker="o", ms=4, label=str(label).replace("alpha", "α").replace("α_D", "$α_D$"))
        for i, label in enumerate(data["case"].values)
    ]
    handles += [
        Line2D([], [], color="0.3", marker="s", mfc="white", ls="", label="extrapolated, 1σ"),
        Line2D([], [], color="0.3", ls="-", label="fit: declared drift and fitted terms"),
        Line2D([], [], color="0.3", ls=":", label="theory at finite N, no fit"),
        Line2D([], [], color="0.92", lw=8, label=f"±{tolerance:.0%} of the limit"),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=9)
    fig.suptitle("Crossings and optima of the empirical score at finite N, over the theory", fontsize=12)
    return fig


def _smooth(N: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(1/N, y) on a fine grid, through values that theory has at a few sizes only: log y is nearly a polynomial in 1/N."""
    inverse = np.linspace(1 / N.max(), 1 / N.min(), 200)
    if not np.isfinite(y).all():
        return inverse, np.full(inverse.shape, np.nan)
    return inverse, np.exp(CubicSpline(1 / N[::-1], np.log(y[::-1]))(inverse))
