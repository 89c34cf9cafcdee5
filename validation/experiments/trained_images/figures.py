"""Figures of networks trained on images: samples beside neighbours, copies against P, latent dimension against t and P."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from validation.experiments.shared import STATE_COLOURS, state_strip
from validation.figures import style

__all__ = ["images_figure", "kept_figure"]

_NETWORK, _OTHER, _EMPIRICAL, _CONTROL = "#0072B2", "#56B4E9", "#D55E00", "#777777"
_T = r"noise variance $t$ [data units$^2$]"
_SHADES = ("#440154", "#31688E", "#35B779", "#E69F00")  # from little noise to much
_ACROSS = 4  # tiles of a grid in a row
_AT = 0.1  # noise variance of the sorted spectra
_LEVELS = (0.001, 0.01, 0.1, 1.0)  # noise variances of the latent dimension against P


def images_figure(data: Any) -> Figure:
    """One column a dataset size, and one for what goes with P; `data` is the curves of `experiments.trained_images`."""
    sizes = [int(P) for P in data["P"].values]
    with style():
        fig = Figure(figsize=(3.9 * len(sizes) + 4.0, 7.4), layout="constrained")
        axes = fig.subplots(2, len(sizes) + 1, squeeze=False)
        for j, P in enumerate(sizes):
            _images(axes[0, j], data.sel(P=P), P, data.attrs)
            _dimensions(axes[1, j], data.sel(P=P), first=j == 0)
        _fractions(axes[0, -1], data)
        _spectra(axes[1, -1], data, sizes)
        seen = {str(label) for label in data["loss_label"].values.flat}
        handles = [
            *(Line2D([], [], color=c, lw=2, label=n) for c, n in _CURVES.values()),
            Line2D([], [], color="k", lw=1.6, label="largest gap"),
            Line2D([], [], color="k", lw=1.2, ls="--", label="inflection"),
            *(
                [Patch(facecolor=_CONTROL, alpha=0.25, label="training images themselves, by neighbours")]
                if "data_dimension" in data
                else []
            ),
            Line2D([], [], color=_EMPIRICAL, lw=0, marker="s", mfc="none", ms=9, label="counted as a copy"),
            *(
                Patch(facecolor=c, edgecolor="0.6", lw=0.5, label=f"strip, network: {n}")
                for n, c in STATE_COLOURS.items()
                if n in seen
            ),
        ]
        fig.legend(handles=handles, loc="outside lower center", ncols=min(5, len(sizes) + 2), fontsize=8.5)
    return fig


def kept_figure(data: Any) -> Figure:
    """Latent dimension against the number of training images, at a few noise levels; no image is shown."""
    with style():
        fig = Figure(figsize=(9.0, 4.0), layout="constrained")
        left, right = fig.subplots(1, 2, sharey=True)
        _kept(left, data.sel(kind="training"), "noised training images")
        _kept(right, data.sel(kind="held out"), "noised held-out images")
        left.set_ylabel(f"directions kept, of {data.sizes['direction']}\n($-tJ$ below 1/2; bars: standard error)")
        handles, labels = left.get_legend_handles_labels()
        handles += [Line2D([], [], color="k", lw=1.4), Line2D([], [], color="k", lw=1.2, ls=":")]
        fig.legend(handles, [*labels, "network", "empirical score"], loc="outside right center", fontsize=8.5)
    return fig


_CURVES = {
    ("network", "training"): (_NETWORK, "network, noised training images"),
    ("network", "held out"): (_OTHER, "network, noised held-out images"),
    ("empirical", "training"): (_EMPIRICAL, "empirical score, noised training images"),
}


def _images(ax: Any, part: Any, P: int, attrs: Any) -> None:
    """The first samples on the left, the nearest training image of each at the same place on the right."""
    shown, nearest = part["sample_image"].values, part["nearest_image"].values
    low, high = attrs["lowest"], attrs["highest"]
    across = min(_ACROSS, len(shown))
    down = -(-len(shown) // across)
    _, C, H, W = shown.shape
    pad = max(1, W // 8)
    canvas = np.ones((down * (H + pad), (2 * across + 1) * (W + pad), 3))
    copies = part["network_ratio"].values < attrs["threshold"]
    for k in range(len(shown)):
        row, column = divmod(k, across)
        y, x = row * (H + pad), column * (W + pad)
        for image, left in ((shown[k], x), (nearest[k], x + (across + 1) * (W + pad))):
            tile = np.clip((image - low) / (high - low), 0, 1)
            canvas[y : y + H, left : left + W] = np.moveaxis(tile[:3] if C >= 3 else tile[:1].repeat(3, 0), 0, -1)
        if copies[k]:
            ax.add_patch(Rectangle((x - 0.5, y - 0.5), W, H, fill=False, ec=_EMPIRICAL, lw=2))
    ax.imshow(canvas, interpolation="nearest")
    ax.set_axis_off()
    ax.set_title(f"P = {P:,}\nfirst samples   |   nearest training images", fontsize=9)


def _dimensions(ax: Any, part: Any, *, first: bool) -> None:
    t, N = part["t"].values, part.sizes["direction"]
    for (who, kind), (colour, _) in _CURVES.items():
        for name, look in (("gap", {"lw": 1.6}), ("inflection", {"lw": 1.2, "ls": "--"})):
            values = part[f"{who}_{name}"].sel(kind=kind).values
            read = np.isfinite(values).any(axis=1)  # nowhere else is there an inflection
            quartiles = np.full((3, len(t)), np.nan)
            quartiles[:, read] = np.nanquantile(values[read], [0.25, 0.5, 0.75], axis=1)
            ax.plot(t, quartiles[1], color=colour, **look)
            if name == "gap":
                ax.fill_between(t, quartiles[0], quartiles[2], color=colour, alpha=0.15, lw=0)
    if "data_dimension" in part and np.isfinite(part["data_dimension"]).any():
        low, high = float(part["data_dimension"].min()), float(part["data_dimension"].max())
        ax.axhspan(low, high, color=_CONTROL, alpha=0.25, lw=0)
    state_strip(ax, t, part["loss_label"].values[None], -0.1 * N, -0.04 * N)
    ax.set(xscale="log", xlabel=_T, ylim=(-0.12 * N, 1.05 * N))
    ax.grid(alpha=0.25, lw=0.5)
    if first:
        ax.set_ylabel(f"latent dimension, of {N} directions\n(median over points; band: quartiles of the gap)")


def _kept(ax: Any, data: Any, title: str) -> None:
    P, found = data["P"].values, np.unique([np.abs(np.log(data["t"].values / t)).argmin() for t in _LEVELS])
    for i, k in enumerate(found):
        colour, at = _SHADES[i], data.isel(t=k)
        mean, error = at["network_kept"].mean("point"), at["network_kept"].std("point", ddof=1)
        error = error / np.sqrt(at["network_kept"].notnull().sum("point"))
        label = f"$t={float(at['t']):.2g}$"
        ax.errorbar(P, mean, error, fmt="o-", ms=4, lw=1.4, capsize=3, color=colour, label=label)
        ax.plot(P, at["empirical_kept"].mean("point"), ":", lw=1.2, color=colour)
    ax.set(xscale="log", xlim=(P[0] / 1.4, P[-1] * 1.4), xlabel="training images P")
    ax.set_xticks(P, [f"{p:,}" for p in P])
    ax.minorticks_off()
    ax.set_title(title, fontsize=9)
    ax.grid(alpha=0.25, lw=0.5)


def _fractions(ax: Any, data: Any) -> None:
    P = data["P"].values
    series = (
        ("empirical", _EMPIRICAL, "samples of the empirical score", 0.97),
        ("network", _NETWORK, "samples of the network", 1.0),
        ("control", _CONTROL, "held-out real images", 1.03),
    )
    for who, colour, label, shift in series:  # shifted sideways, so that error bars do not lie on each other
        middle, low, high = (data[f"{who}_{name}"].values for name in ("fraction", "low", "high"))
        error = np.abs(np.stack([middle - low, high - middle]))
        ax.errorbar(P * shift, middle, error, fmt="o-", ms=4, lw=1.2, capsize=3, color=colour, label=label)
    ax.set(
        xscale="log",
        xlim=(P[0] / 1.4, P[-1] * 1.4),
        ylim=(-0.05, 1.08),
        xlabel="training images P",
        ylabel="memorised fraction [1]",
    )
    ax.set_xticks(P, [f"{p:,}" for p in P])
    ax.minorticks_off()
    ax.set_title(r"$d_1/d_2<1/3$; bars: 95 %, binomial", fontsize=9)
    ax.legend(fontsize=8)
    ax.grid(alpha=0.25, lw=0.5)


def _spectra(ax: Any, data: Any, sizes: list[int]) -> None:
    at = data.sel(t=_AT, method="nearest").sel(kind="training")
    rank = np.arange(1, data.sizes["direction"] + 1)
    for i, P in enumerate(sizes):
        shade = 0.3 + 0.7 * (i + 1) / len(sizes)
        for who, colour, look in (("network", _NETWORK, "-"), ("empirical", _EMPIRICAL, ":")):
            label = f"{who.replace('ical', 'ical score')}, P = {P:,}"
            ax.plot(rank, at[f"{who}_eigenvalue"].sel(P=P).values, look, color=colour, alpha=shade, label=label)
    ax.set(xlabel="rank of the direction", ylabel=r"eigenvalue of $-tJ$ [1], mean over points")
    ax.set_title(f"spectra at noised training images, t = {float(at['t']):.2g}", fontsize=9)
    ax.legend(fontsize=7.5)
    ax.grid(alpha=0.25, lw=0.5)
