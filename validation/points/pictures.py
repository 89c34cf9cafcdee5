"""Figures of single points: the law of their collapse beside the Gaussian twin's, and the images at both of its ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from validation.figures import COLOURS, image_pairs, style

__all__ = ["exposed_figure", "extremes_figure", "law_figure"]

SHOWN = 20


def law_figure(report: Any) -> Figure:
    """Histogram of sigma at collapse over points, beside a Gaussian sample's; and the distance it goes with."""
    points = report.points
    sigma = points.sigma.values
    found = np.isfinite(sigma) & (sigma > 0)
    twin = np.empty(0) if report.twin is None else report.twin.sigma.values
    twin = twin[np.isfinite(twin) & (twin > 0)]
    with style():
        figure = Figure(figsize=(9.5, 3.8))
        left, right = figure.subplots(1, 2)
        both = np.concatenate([sigma[found], twin])
        if len(both):
            low, high = both.min() / 1.03, both.max() * 1.03
            edges = np.geomspace(low, high, 41)
            for values, colour, label in (
                (twin, "#999999", "Gaussian sample, same spectrum"),
                (sigma[found], COLOURS["collapse"], "data"),
            ):
                if len(values):
                    weights = np.full(len(values), 1 / len(values))
                    left.hist(values, edges, weights=weights, histtype="step", color=colour, lw=1.6, label=label)
            left.set_xscale("log")
            for pick in (left.xaxis.set_major_formatter, left.xaxis.set_minor_formatter):
                pick(lambda value, _: f"{value:.3g}")
            left.tick_params(axis="x", which="both", labelsize=8)
            left.legend(fontsize=8)
        left.set_xlabel(r"noise $\sigma$ below which the ideal score memorises a point")
        left.set_ylabel("share of points")
        left.set_title(r"law of the points' own collapse $\sqrt{t_c^\mu}$")
        single = found & (points.group.values < 0)
        distance = points.nearest_distance.values
        right.scatter(
            distance[single], sigma[single], s=4, alpha=0.4, lw=0, color="black", label="points", rasterized=True
        )
        grouped = found & ~single
        if grouped.any():
            right.scatter(
                distance[grouped], sigma[grouped], s=9, lw=0, color="#0072B2", label="in groups of duplicates"
            )
            right.legend(fontsize=8)
        right.set_xlabel("distance to the nearest other point [data units]")
        right.set_ylabel(r"collapse $\sigma$ [data units]")
        right.set_title("isolated points first")
        return figure


def extremes_figure(report: Any) -> Figure | None:
    """The twenty points memorised at the highest noise and the twenty at the lowest, each above its nearest neighbour."""
    order = report.order()
    ends = (("memorised first", order[:SHOWN]), ("memorised last", order[::-1][:SHOWN]))
    title = "points that the ideal score memorises at the highest and at the lowest noise, each above its nearest other point"
    return _beside_nearest(report, ends, title)


def exposed_figure(report: Any) -> Figure | None:
    """The twenty points memorised at the highest noise, each above its nearest neighbour."""
    title = "the points that the ideal score memorises at the highest noise, each above its nearest other point"
    return _beside_nearest(report, (("most exposed", report.order()[:SHOWN]),), title)


def _beside_nearest(report: Any, ends: Sequence[tuple[str, np.ndarray]], title: str) -> Figure | None:
    if not len(report.order()):
        return None
    data, nearest, sigma = report.data, report.points.nearest.values, report.points.sigma.values
    groups = []
    for name, chosen in ends:
        captions = [rf"{i}: $\sigma$={sigma[i]:.3g}" for i in chosen]
        near = nearest[chosen]
        groups.append([(name, data.X[chosen], captions), ("nearest", data.X[near], list(map(str, near)))])
    return image_pairs(groups, data.shape, title)
