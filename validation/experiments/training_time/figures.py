"""Figure of training time: spectrum, losses and the memorisation of each direction, measured beside the limit."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from validation.figures import style

__all__ = ["training_figure"]

_KIND = {
    "train": ("C0", "training loss"),
    "test": ("C3", "test loss"),
    "distance": ("C2", "distance to the exact score"),
}


def training_figure(data: xr.Dataset) -> Figure:
    """One row a case: eigenvalues, learning curves, gap of test and training loss by direction."""
    cases = data["case"].values
    with style():
        fig = Figure(figsize=(13, 3.9 * len(cases)))
        axes = fig.subplots(len(cases), 3, squeeze=False)
        for row, label in zip(axes, cases, strict=True):
            part = data.sel(case=label)
            _spectrum(row[0], part, label)
            _losses(row[1], part)
            _directions(row[2], part)
    return fig


def _spectrum(ax, part: xr.Dataset, label: str) -> None:
    largest = int(part["N"].values[-1])
    ax.stairs(
        part["histogram"].values, _bins(part["eigenvalue"].values), fill=True, color="0.8", label=f"N = {largest}"
    )
    ax.plot(part["axis"], part["density"], "k-", lw=1.2, label="limit, without the atom")
    position, mass = part["atom"].values
    if mass > 0:
        ax.axvline(position, color="C1", lw=1, ls=":", label=f"atom, mass {mass:.2f}")
    top = 1.3 * float(part["density"].max())
    ax.set(
        xscale="log",
        ylim=(0, top),
        xlabel=r"eigenvalue $\lambda$ of U",
        ylabel=r"$\lambda\,\rho(\lambda)$",
        title=label,
    )
    ax.legend(fontsize=8)


def _bins(centres: np.ndarray) -> np.ndarray:
    step = np.sqrt(centres[1] / centres[0])
    return np.append(centres / step, centres[-1] * step)


def _losses(ax, part: xr.Dataset) -> None:
    tau, size = part["tau"].values[:-1], part["size"].values[-1]
    for kind, (colour, name) in _KIND.items():
        ax.plot(tau, part["theory"].sel(kind=kind).values[:-1], color=colour, label=name)
        point = part.sel(kind=kind, size=size)
        ax.errorbar(
            tau[::3], point["measured"].values[:-1:3], point["error"].values[:-1:3], fmt="o", ms=3, lw=0.8, color=colour
        )
    for end, text in zip(part["window"].values, (r"$1/\Delta$", r"$\tau_\mathrm{mem}$"), strict=True):
        ax.axvline(end, color="0.5", lw=0.8, ls="--")
        ax.annotate(text, (end, 0.03), xycoords=("data", "axes fraction"), fontsize=9, ha="right", va="bottom")
    ax.set(xscale="log", xlabel=r"training time $\tau$", ylabel="per dimension", yscale="log")
    ax.set_title(f"learning curves; points: N = {int(part['N'].values[-1])}")
    ax.legend(fontsize=8, loc="upper left")


def _directions(ax, part: xr.Dataset) -> None:
    tau = part["tau"].values[:-1]
    for i in part["group"].values:
        point = part.sel(group=i)
        if not np.isfinite(float(point["variance"])):
            continue
        final = float(point["gap_theory"].values[-1])
        ax.plot(
            tau, point["gap_theory"].values[:-1] / final, color=f"C{4 + i}", label=f"r = {float(point['variance']):g}"
        )
        ax.errorbar(
            tau[::3],
            point["gap"].values[:-1:3] / final,
            point["gap_error"].values[:-1:3] / final,
            fmt="o",
            ms=3,
            lw=0.8,
            color=f"C{4 + i}",
        )
    ax.axhline(0.5, color="0.8", lw=0.8)
    ax.set(xscale="log", xlabel=r"training time $\tau$", ylabel="gap over its final value")
    ax.set_title("memorisation by direction")
    ax.legend(fontsize=8)
