"""Figures of networks beside local scores: the patch they see, where they memorise, patches they copy, samples, directions."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from validation.figures import style

__all__ = ["copies_figure", "kept_figure", "ratio_figure", "samples_figure", "width_figure"]

_SIGMA = r"noise $\sigma=\sqrt{t}$ [data units]"
_SCORES = {
    "network": ("#0072B2", "-", "network"),
    "LS": ("#009E73", "--", "local score of the patch it sees (LS)"),
    "ELS": ("#E69F00", "--", "equivariant local score (ELS)"),
    "empirical": ("#D55E00", ":", "empirical score"),
}


def width_figure(data: Any) -> Figure:
    """Left: width of the nearest local score against noise. Right: its r^2, quartiles over fresh images."""
    with style():
        fig = Figure(figsize=(10.0, 4.2), layout="constrained")
        left, right = fig.subplots(1, 2)
        sigma = np.sqrt(data["t"].values)
        for j, (part, label, colour, line) in enumerate(_networks(data)):
            kind = _kind(part)
            width = part["best"].sel(kind=kind).values
            shift = 1 + 0.02 * (j - 2)  # lines that coincide stay visible
            left.plot(sigma, width * shift, color=colour, ls=line, marker="o", ms=3.5, label=f"{label} ({kind})")
            at = part["difference"].sel(kind=kind).values.argmin(axis=0)
            low, middle, high = (
                part[name].sel(kind=kind).values[at, np.arange(len(at))] for name in ("r2_low", "r2", "r2_high")
            )
            right.plot(sigma, middle, color=colour, ls=line)
            if line == "-":
                right.fill_between(sigma, low, high, color=colour, alpha=0.15, lw=0)
        right.axhspan(0.94, 0.96, color="0.8", zorder=0)
        right.annotate("published", (sigma[0], 0.963), fontsize=8, color="0.3")
        for ax in (left, right):
            ax.set_xscale("log")
            ax.set_xlabel(_SIGMA)
        left.set_yticks(data["width"].values)
        left.set_ylabel("width of the nearest local score [pixels]")
        right.set_ylabel("$r^2$ of the network's denoiser")
        right.set_ylim(min(0.0, right.get_ylim()[0]), 1.02)
        fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8.5)
    return fig


def ratio_figure(data: Any) -> Figure:
    """Denoising loss on training over that on fresh images, one panel a network."""
    parts = _networks(data)
    columns = data.sizes["P"]
    with style():
        fig = Figure(figsize=(3.1 * columns + 0.6, 2.7 * data.sizes["attention"] + 0.8), layout="constrained")
        axes = fig.subplots(data.sizes["attention"], columns, sharex=True, sharey=True, squeeze=False)
        for ax, (part, label, _, _) in zip(axes.flat, parts, strict=True):
            for name, (colour, line, told) in _SCORES.items():
                y, error = part["ratio"].sel(score=name).values, part["ratio_error"].sel(score=name).values
                ax.errorbar(np.sqrt(part["t"].values), y, error, color=colour, ls=line, label=told, lw=1.5, capsize=0)
            ax.axhline(0.5, color="0.7", lw=0.8, zorder=0)
            ax.set_xscale("log")
            ax.set_title(label, fontsize=9)
        for ax in axes[-1]:
            ax.set_xlabel(_SIGMA)
        for ax in axes[:, 0]:
            ax.set_ylabel("training loss / fresh loss")
            ax.set_ylim(0, 1.35)
        fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8.5)
    return fig


def copies_figure(data: Any) -> Figure:
    """Share of patches of samples that are copies, against the patch's width."""
    with style():
        fig = Figure(figsize=(6.4, 4.2), layout="constrained")
        ax = fig.subplots()
        for part, label, colour, line in _networks(data):
            ax.errorbar(
                part["width"],
                part["excess"],
                part["excess_error"],
                color=colour,
                ls=line,
                marker="o",
                ms=3.5,
                label=label,
            )
        worst = np.abs(data["control"]).max()
        ax.axhspan(-float(worst), float(worst), color="0.85", zorder=0, label="control: fresh images")
        ax.set_xlabel("width of the patch [pixels]")
        ax.set_ylabel("excess of patches nearer to training images")
        ax.set_xticks(data["width"].values)
        ax.legend(fontsize=8)
    return fig


def samples_figure(data: Any) -> Figure:
    """Samples of each network, of its local score from the same noise, and the training images nearest to the network's."""
    rows = [(part, label) for part, label, _, _ in _networks(data)]
    names = {"sample": "network", "local": "local score (ELS)", "nearest": "nearest training image"}
    names = {name: told for name, told in names.items() if f"{name}_image" in data}
    shown = min(8, data.sizes["shown"])
    with style():
        fig = Figure(figsize=(3 * shown * 0.45 + 1.6, 0.62 * len(rows) + 0.6), layout="constrained")
        axes = fig.subplots(len(rows), len(names), squeeze=False)
        for i, (part, label) in enumerate(rows):
            for ax, (name, told) in zip(axes[i], names.items(), strict=True):
                images = part[f"{name}_image"].values[:shown]
                strip = np.concatenate(list(np.moveaxis(images, 1, -1)), axis=1)
                low, high = data.attrs["lowest"], data.attrs["highest"]
                strip = np.clip((strip - low) / (high - low), 0, 1)
                ax.imshow(strip.squeeze(), cmap="gray", vmin=0, vmax=1, aspect="equal")
                ax.set_xticks([])
                ax.set_yticks([])
                if i == 0:
                    ax.set_title(told, fontsize=9)
            axes[i, 0].set_ylabel(label.replace(", ", "\n"), rotation=0, ha="right", va="center", fontsize=8)
    return fig


def kept_figure(data: Any) -> Figure:
    """Directions that each score keeps at noised fresh images, one panel a network."""
    columns = data.sizes["P"]
    with style():
        fig = Figure(figsize=(3.1 * columns + 0.6, 2.7 * data.sizes["attention"] + 0.8), layout="constrained")
        axes = fig.subplots(data.sizes["attention"], columns, sharex=True, sharey=True, squeeze=False)
        for ax, (part, label, _, _) in zip(axes.flat, _networks(data), strict=True):
            for name, (colour, line, told) in _SCORES.items():
                kept = part["kept"].sel(score=name)
                mean, error = kept.mean("point"), kept.std("point", ddof=1) / np.sqrt(kept.sizes["point"])
                ax.errorbar(np.sqrt(part["t"].values), mean, error, color=colour, ls=line, label=told, lw=1.5)
            ax.set_xscale("log")
            ax.set_title(label, fontsize=9)
        for ax in axes[-1]:
            ax.set_xlabel(_SIGMA)
        for ax in axes[:, 0]:
            ax.set_ylabel("directions kept")
        fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8.5)
    return fig


def _kind(part: Any) -> str:
    from validation.experiments.local_networks.experiment import nearest_kind

    return nearest_kind(part)


def _networks(data: Any) -> list[tuple[Any, str, Any, str]]:
    """(curves, label, colour, line) of each network: a colour a size, dashed with self-attention."""
    colours = colormaps["viridis"](np.linspace(0.0, 0.85, data.sizes["P"]))
    return [
        (
            data.sel(attention=heads, P=P),
            f"P = {P}, {'with attention' if heads else 'convolutions'}",
            colours[j],
            "--" if heads else "-",
        )
        for heads in data["attention"].values
        for j, P in enumerate(data["P"].values)
    ]
