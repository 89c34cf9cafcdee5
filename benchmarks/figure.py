"""Ratios to each peer on one logarithmic axis, and beside it time against error of the saddle point."""

from __future__ import annotations

import math
from pathlib import Path

from benchmarks.harness import Row
from numerics.store import atomic

__all__ = ["draw"]

RATIOS = ("linear_times", "empirical_score", "memory_mapped", "spectra", "finite_size", "random_features", "stacks")


def draw(rows: list[Row], path: Path) -> None:
    """A dot for each case of each peer, and the work-precision plane where the saddle point was measured."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown = [r for r in rows if r.entry in RATIOS and math.isfinite(r.ratio) and not r.method.startswith("ours:")]
    labels = list(dict.fromkeys(f"{r.method}  [{r.entry}]" for r in shown))[::-1]
    saddle = [r for r in rows if r.entry == "saddle_point" and math.isfinite(r.error)]
    figure, axes = plt.subplots(
        1, 2, figsize=(13, max(4.5, 0.32 * len(labels) + 1.2)), layout="constrained", width_ratios=(1.3, 1)
    )
    for r in shown:
        axes[0].plot(r.ratio, labels.index(f"{r.method}  [{r.entry}]"), "o", color="tab:blue", alpha=0.6)
    axes[0].axvline(1, color="black", lw=1)
    axes[0].set(xscale="log", yticks=range(len(labels)), yticklabels=labels, xlabel="time over ours, same work")
    axes[0].set_title("right of the line: we are faster")
    axes[0].grid(axis="x", alpha=0.3)
    marks = dict(zip(dict.fromkeys(r.method.split(",")[0] for r in saddle), "osD^v", strict=False))
    colours = {case: f"C{i}" for i, case in enumerate(dict.fromkeys(r.case for r in saddle))}
    for r in saddle:
        mark = marks[r.method.split(",")[0]]
        axes[1].plot(r.seconds, max(r.error, 1e-17), mark, color=colours[r.case], ms=7)
    for name, mark in marks.items():
        axes[1].plot([], [], mark, color="grey", label=name)
    for case, colour in colours.items():
        axes[1].plot([], [], "s", color=colour, label=case)
    axes[1].set(xscale="log", yscale="log", xlabel="seconds of one update", ylabel="relative error of $E f^2$")
    axes[1].set_title("saddle point: time against error")
    if saddle:
        axes[1].legend(fontsize=8)
    axes[1].grid(alpha=0.3)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110, metadata={"Software": None})
    plt.close(figure)
