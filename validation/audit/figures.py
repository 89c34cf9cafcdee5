"""The figure of an audit: measured curves against noise beside theory, and the covariance spectrum."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from validation.figures import COLOURS, LABELS, NOISE, style

__all__ = ["audit_figure"]


def audit_figure(audit: Any) -> Figure:
    """Measured curves of a data set and of its Gaussian twin against noise, with the predicted times."""
    m, twin = audit.measured, audit.twin
    panels = [
        ("own_weight", "weight of the own point", "collapse", "at a noisy training point"),
        ("clean_weight", "weight of the own point", "onset", "at a clean training point"),
        ("participation", r"participation $E\sum_\mu w_\mu^2$", "condensation", "at a held-out point"),
        ("cross_entropy", r"$\frac{1}{2}\log t-\frac{1}{N}\log Z$", "generalization", "KL divergence, held out"),
    ]
    with style():
        figure = Figure(figsize=(13.5, 6.6))
        axes = figure.subplots(2, 3)
        flat = list(axes.flat)
        for axis, (name, label, kind, title) in zip([flat[1], flat[2], flat[3], flat[4]], panels, strict=True):
            _curves(axis, m, twin, name)
            row = audit.row(kind)
            if row.finite is not None and np.isfinite(row.finite.value):
                axis.axvspan(*_span(row.finite), color="#0072B2", alpha=0.25, lw=0, label="exact theory at P, N")
            axis.axvline(row.theory, color=COLOURS[kind], ls="--", lw=1.2, label=f"theory, {LABELS[kind]}")
            if np.isfinite(row.data.value):
                axis.axvline(row.data.value, color="black", ls=":", lw=1.2, label="read off the data")
            axis.set_ylabel(label)
            axis.set_title(title)
            axis.set_xlabel(NOISE + " [data units²]")
            if kind == "generalization":
                finite = m.cross_entropy.mean
                near = (
                    (m.t > row.data.value / 30) & (m.t < row.data.value * 300)
                    if np.isfinite(row.data.value)
                    else finite < np.inf
                )
                if near.any():
                    low, high = finite[near].min(), finite[near].max()
                    axis.set_ylim(low - 0.08 * (high - low), min(high, low + 3.0))
            axis.legend(fontsize=7)
        axis = flat[0]
        _curves(axis, m, twin, "excess_entropy")
        if audit.curve is not None:
            t, f, error = audit.curve
            axis.errorbar(t, f, error, fmt=".", color="#0072B2", ms=4, lw=1, label="exact theory at P, N")
        axis.axvline(
            audit.row("collapse").theory,
            color=COLOURS["collapse"],
            ls="--",
            lw=1.2,
            label=f"theory, {LABELS['collapse']}",
        )
        axis.set_ylabel(r"excess entropy $f(t)$")
        axis.set_title("excess entropy of the training set")
        axis.set_xlabel(NOISE + " [data units²]")
        axis.legend(fontsize=7)
        axis = flat[5]
        for spectrum, colour, label in ((audit.sample, "#999999", "sample"), (audit.spectrum, "black", "population")):
            positive = spectrum.eigenvalues[spectrum.eigenvalues > 0]
            axis.loglog(np.arange(1, positive.size + 1), positive, color=colour, lw=1.5, label=label)
        for kind, colour in COLOURS.items():
            axis.axhline(audit.row(kind).theory, color=colour, ls="--", lw=1.0, label=LABELS[kind])
        axis.set_xlabel("mode")
        axis.set_ylabel("covariance eigenvalue [data units²]")
        axis.set_title("spectrum: directions below the noise are lost")
        axis.legend(fontsize=7)
        figure.suptitle(
            f"{audit.data.name}: P = {m.P}, N = {m.N}, " + rf"$\alpha=\log P/N={audit.alpha:.4g}$", fontsize=11
        )
    return figure


def _curves(axis, m, twin, name) -> None:
    for source, measured, colour in (("data", m, "black"), ("Gaussian twin", twin, "#999999")):
        if measured is None:
            continue
        curve = getattr(measured, name)
        axis.plot(measured.t, curve.mean, color=colour, lw=1.6, label=source)
        axis.fill_between(
            measured.t, curve.mean - curve.error, curve.mean + curve.error, color=colour, alpha=0.25, lw=0
        )
    axis.set_xscale("log")
    axis.grid(alpha=0.25, lw=0.5)


def _span(estimate) -> tuple[float, float]:
    """One standard error either side, at least as wide as a line."""
    half = max(estimate.error, 0.01 * estimate.value)
    return max(estimate.value - half, 1e-3 * estimate.value), estimate.value + half
