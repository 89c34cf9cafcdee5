"""Figures of `geomem samples`: the law of ratios beside fresh points', and the samples nearest to the training set."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from validation.figures import image_pairs, style

__all__ = ["law_figure", "worst_figure"]

WORST = 20


def law_figure(found: Any) -> Figure:
    """Share of samples below each ratio of distances, and their distances, beside fresh points."""
    with style():
        figure = Figure(figsize=(9.5, 3.8))
        left, right = figure.subplots(1, 2)
        for near, colour, label in (
            (found.fresh, "#999999", f"fresh points ({len(found.fresh.ratio):,})"),
            (found.near, "black", f"samples ({len(found.near.ratio):,})"),
        ):
            ratio = np.sort(near.ratio)
            left.step(ratio, np.arange(1, len(ratio) + 1) / len(ratio), color=colour, where="post", label=label)
        left.axvline(found.threshold, color="#D55E00", ls="--", lw=1.2, label=f"threshold {found.threshold:.3g}")
        left.set_xlim(0, 1)
        left.set_ylim(0, 1.02)
        left.set_xlabel("distance to nearest / to second training point")
        left.set_ylabel("share below")
        left.set_title("does the nearest training point stand out?")
        left.legend(fontsize=8, loc="center")
        values = np.concatenate([found.near.distance, found.fresh.distance])
        edges = np.linspace(0, values.max() * 1.02 + 1e-12, 41)
        for near, colour, label in ((found.fresh, "#999999", "fresh points"), (found.near, "black", "samples")):
            weights = np.full(len(near.distance), 1 / len(near.distance))
            right.hist(near.distance, edges, weights=weights, histtype="step", color=colour, lw=1.5, label=label)
        right.set_xlabel("rms distance to nearest training point [data units]")
        right.set_ylabel("share")
        right.set_title("how near?")
        right.legend(fontsize=8)
        return figure


def worst_figure(result: Any) -> Figure | None:
    """The twenty samples whose nearest training point stands out most, above it; None where samples are no images."""
    found = result.found
    order = np.argsort(found.near.ratio, kind="stable")[:WORST]
    nearest = found.near.nearest[order]
    marks = ["copy" if copy else "" for copy in found.copy[order]]
    captions = [f"{i}\n{r:.2g} {mark}" for i, r, mark in zip(order, found.near.ratio[order], marks, strict=True)]
    rows = [
        ("samples", result.generated.X[order], captions),
        ("nearest training", result.train.X[nearest], list(map(str, nearest))),
    ]
    title = "the samples whose nearest training point stands out most (number, ratio of distances), above it"
    return image_pairs([rows], result.train.shape, title)
