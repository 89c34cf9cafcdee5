"""The figures: one palette, labelled axes with units, nothing that a legend must repair."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from numerics.store import atomic

__all__ = ["COLOURS", "LABELS", "audit_figure", "phase_lines", "phase_map", "save", "style"]

COLOURS = {"onset": "#E69F00", "collapse": "#D55E00", "condensation": "#0072B2", "generalization": "#009E73"}
LABELS = {
    "onset": r"trap emergence $t_o$",
    "collapse": r"collapse $t_c$",
    "condensation": r"condensation $t_\mathrm{cond}$",
    "generalization": r"best generalisation $t_g$",
}
_STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 160,
    "svg.hashsalt": "geomem",
}
FLOOR = -12  # decades below which a figure does not go; the numbers in the files do
_T = r"noise variance $t=\sigma^2$"


@contextmanager
def style():
    """The house's matplotlib settings, for the duration of a block."""
    with matplotlib.rc_context(_STYLE):
        yield


def save(figure: Figure, path: Any) -> None:
    """Write a figure atomically; the format follows the suffix (.png, .pdf, .svg)."""
    from pathlib import Path

    from numerics.domain import DomainError

    path = Path(path)
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise DomainError("out", str(path), "a file name that ends in .png, .pdf or .svg")
    with atomic(path) as temporary, style():
        undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}  # equal runs give equal files
        figure.savefig(temporary, format=path.suffix[1:], metadata=undated.get(path.suffix))


def phase_lines(diagram: Any, alpha_D: Sequence[float] | None = None, title: str = "") -> Figure:
    """The four times against the load, one panel a latent dimension, from a `theory.phase_diagram.phase_diagram`."""
    available = diagram["alpha_D"].values
    if alpha_D is None:
        alpha_D = available[np.unique(np.linspace(0, len(available) - 1, 3).round().astype(int))]
    with style():
        figure = Figure(figsize=(4.2 * len(alpha_D), 3.9))
        axes = figure.subplots(1, len(alpha_D), squeeze=False, sharex=True)[0]
        for axis, value in zip(axes, alpha_D, strict=True):
            row = diagram.sel(alpha_D=value, method="nearest")
            for kind, colour in COLOURS.items():
                if f"log_t_{kind}" in row:
                    log10 = row[f"log_t_{kind}"] / np.log(10)
                    axis.plot(row["alpha"], log10, color=colour, lw=1.8, label=LABELS[kind])
            axis.set_xscale("log")
            low, high = axis.dataLim.intervaly
            if low < FLOOR < high:  # else matplotlib's own margins are right
                axis.set_ylim(FLOOR, high + 0.05 * (high - FLOOR))
            axis.yaxis.set_major_locator(MaxNLocator(integer=True))
            axis.set_xlabel(r"load $\alpha=\log P/N$")
            axis.set_title(rf"$\alpha_D=D/N={float(row['alpha_D']):.3g}$")
            axis.yaxis.set_major_formatter(lambda v, _: rf"$10^{{{v:g}}}$")
            axis.grid(alpha=0.25, lw=0.5)
        axes[0].set_ylabel(_T + " [data units²]")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
        if title:
            figure.suptitle(title, fontsize=11)
    return figure


def phase_map(diagram: Any, title: str = "") -> Figure:
    """Maps over the plane of load and latent dimension: one a time."""
    kinds = [k for k in COLOURS if f"log_t_{k}" in diagram]
    with style():
        figure = Figure(figsize=(4.0 * len(kinds), 3.8))
        axes = figure.subplots(1, len(kinds), squeeze=False, sharex=True, sharey=True)[0]
        values = {k: diagram[f"log_t_{k}"].transpose("alpha_D", "alpha").values / np.log(10) for k in kinds}
        finite = np.concatenate([v[np.isfinite(v)] for v in values.values()])
        low, high = np.floor(max(finite.min(), FLOOR)), np.ceil(finite.max())
        levels = np.arange(high, low - 1, -2)[::-1]
        for axis, kind in zip(axes, kinds, strict=True):
            x, y = diagram["alpha"].values, diagram["alpha_D"].values
            mesh = axis.pcolormesh(
                x, y, values[kind], vmin=low, vmax=high, cmap="viridis", shading="gouraud", rasterized=True
            )
            lines = axis.contour(x, y, values[kind], levels=levels, colors="white", linewidths=0.7, linestyles="solid")
            axis.clabel(lines, levels[levels > -7], fmt=lambda v: rf"$10^{{{v:g}}}$", fontsize=7)
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.set_xlabel(r"load $\alpha=\log P/N$")
            axis.set_title(LABELS[kind])
        axes[0].set_ylabel(r"latent dimension $\alpha_D=D/N$")
        bar = figure.colorbar(mesh, ax=list(axes), pad=0.01, extend="min" if finite.min() < low else "neither")
        bar.set_label(r"$\log_{10}$ of " + _T)
        if title:
            figure.suptitle(title, fontsize=11)
    return figure


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
            if row.finite is not None:
                axis.axvspan(*_span(row.finite), color="#0072B2", alpha=0.25, lw=0, label="exact theory at P, N")
            axis.axvline(row.theory, color=COLOURS[kind], ls="--", lw=1.2, label=f"theory, {LABELS[kind]}")
            if np.isfinite(row.data.value):
                axis.axvline(row.data.value, color="black", ls=":", lw=1.2, label="read off the data")
            axis.set_ylabel(label)
            axis.set_title(title)
            axis.set_xlabel(_T + " [data units²]")
            if kind == "generalization":
                finite = m.cross_entropy.mean
                near = (
                    (m.t > row.data.value / 30) & (m.t < row.data.value * 300)
                    if np.isfinite(row.data.value)
                    else finite < np.inf
                )
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
        axis.set_xlabel(_T + " [data units²]")
        axis.legend(fontsize=7)
        axis = flat[5]
        values = audit.spectrum.eigenvalues
        positive = values[values > 0]
        axis.loglog(np.arange(1, positive.size + 1), positive, color="black", lw=1.5)
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
