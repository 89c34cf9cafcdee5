"""What an audit says of patches: a table of widths, the largest patch that is not memorised, and the width a network sees."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from numerics.store import save_dataset
from theory import critical_patch
from validation import figures
from validation.figures import style
from validation.locality.collapse import PatchAudit, PatchRow
from validation.tables import TableData

__all__ = ["field_figure", "field_lines", "locality_figure", "locality_lines", "locality_table", "write_locality"]

NAMES = {False: "same place (LS)", True: "all places (ELS)"}
COLOUR = {False: "#0072B2", True: "#D55E00"}


def _sigma(t: float, error: float = math.nan) -> str:
    if not t > 0 or not math.isfinite(t):
        return "-"
    sigma = math.sqrt(t)
    return f"{sigma:.3g}" + (f" ± {error / (2 * sigma):.1g}" if math.isfinite(error) else "")


def locality_table(found: PatchAudit) -> TableData:
    """Collapse noise by width, local and equivariant."""
    rows = []
    for row in found.rows:
        rows.append(
            (
                f"{row.width} x {row.width}",
                NAMES[row.equivariant],
                f"{row.patches:,}",
                _sigma(row.theory),
                _sigma(row.finite.value, row.finite.error),
                _sigma(row.measured.value, row.measured.error),
                f"{row.copies} of {row.probes}",
            )
        )
    return TableData(
        "Patches: sigma below which a patch is memorised (data units). Patches with exact copies are left out of the mean.",
        ("patch", "compared with", "patches", "theory", "theory at this size", "measured", "with copies"),
        rows,
        text=(0, 1),
    )


def locality_lines(found: PatchAudit) -> Iterator[str]:
    """Sentences, one a line."""
    for equivariant, who in (
        (False, "that knows the place of a pixel (LS)"),
        (True, "that treats all places alike (ELS)"),
    ):
        known = [row for row in found.of(equivariant) if math.isfinite(row.measured.value)]
        if not known:
            continue
        told = ", ".join(f"{row.width}: {math.sqrt(row.measured.value):.3g}" for row in known)
        yield f"A local score {who} memorises patches below sigma, by width: {told}."
    short = [row for row in found.of(True) if row.images < found.data.P and math.isfinite(row.measured.value)]
    for row in short:
        shift = math.sqrt(found.full_bag(row) / row.theory)
        yield (
            f"The bag of width {row.width} was that of {row.images:,} images; with all {found.data.P:,} the theory's sigma is "
            f"{shift:.3g} times as large."
        )


def locality_figure(found: PatchAudit) -> Figure:
    """Left: collapse noise against width. Right: the largest patch that is not memorised, against noise."""
    with style():
        figure = Figure(figsize=(10.5, 4.2))
        left, right = figure.subplots(1, 2)
        for equivariant in (False, True):
            rows = found.of(equivariant)
            colour, name = COLOUR[equivariant], NAMES[equivariant]
            width = np.array([row.width for row in rows])
            sizes = [np.sqrt([getattr(row, kind).value for row in rows]) for kind in ("finite", "measured")]
            errors = np.array([row.measured.error for row in rows]) / (2 * sizes[1])
            left.plot(width, np.sqrt([row.theory for row in rows]), "--", color=colour, lw=1.0)
            left.plot(width, sizes[0], "-", color=colour, lw=1.2)
            left.errorbar(width, sizes[1], errors, fmt="o", color=colour, ms=4, label=name)
            t = _grid(rows)
            if t.size:
                theory = critical_patch(found.field, t, found.data.P, equivariant=equivariant)
                right.step(np.sqrt(t), np.minimum(theory, rows[-1].width), "--", color=colour, lw=1.0)
                right.step(np.sqrt(t), found.largest(t, equivariant=equivariant), "-", color=colour, lw=1.5, label=name)
        left.plot([], [], "k-", lw=1.2, label="Gaussian theory at this size")
        left.plot([], [], "k--", lw=1.0, label="at infinite size")
        left.set_xlabel("width of the patch [pixels]")
        left.set_ylabel(r"memorised below $\sigma$ [data units]")
        left.set_yscale("log")
        left.set_xticks([row.width for row in found.of(True)])
        left.legend(fontsize=7)
        left.set_title("collapse of a patch")
        right.plot([], [], "k-", lw=1.5, label="measured")
        right.plot([], [], "k--", lw=1.0, label="Gaussian theory, all images")
        right.set_xscale("log")
        right.set_xlabel(r"noise $\sigma$ [data units]")
        right.set_ylabel("largest patch not memorised [pixels]")
        right.legend(fontsize=7)
        right.set_title("what still generalises")
        figure.suptitle(f"{found.data.name}: P = {found.data.P:,} images, patches", fontsize=11)
    return figure


def _grid(rows: list[PatchRow]) -> np.ndarray:
    known = [row.measured.value for row in rows if math.isfinite(row.measured.value)]
    return np.geomspace(min(known) / 4, 4 * max(known), 200) if known else np.empty(0)


def write_locality(found: PatchAudit, folder: Path) -> list[Path]:
    """`locality.csv`, `locality.png`."""
    return [
        locality_table(found).write(folder / "locality.csv"),
        _saved(locality_figure(found), folder / "locality.png"),
    ]


def _saved(figure: Figure, path: Path) -> Path:
    figures.save(figure, path)
    return path


# --- the width a network sees -----------------------------------------------------------------------------------------------


def field_lines(field: Any, patches: PatchAudit | None = None) -> Iterator[str]:
    """Best width and its r2 at each noise; with `patches`, where the network's own patch is memorised."""
    for kind in field["kind"].values:
        parts = []
        for t in field["t"].values:
            width = int(field["best"].sel(kind=kind, t=t))
            parts.append(f"{math.sqrt(t):.3g}: {width} ({float(field['r2'].sel(kind=kind, t=t, width=width)):.2f})")
        yield f"Patch that explains the network best ({kind}; r2), by sigma: {', '.join(parts)}."
    if patches is None:
        return
    for kind in field["kind"].values:
        times = {row.width: row.measured.value for row in patches.of(kind == "ELS")}
        inside = [
            (t, int(w))
            for t, w in zip(field["t"].values, field["best"].sel(kind=kind).values, strict=True)
            if math.isfinite(times.get(int(w), math.nan)) and t < times[int(w)]
        ]
        if inside:
            t, width = max(inside)
            yield (
                f"A network with this receptive field ({kind}) memorises patches: at sigma = {math.sqrt(t):.3g} it sees "
                f"{width} x {width}, and patches of that width are memorised below sigma = {math.sqrt(times[width]):.3g}."
            )
        else:
            yield (
                f"At none of these noise levels does a network with this receptive field ({kind}) memorise its patches: each "
                "is above the collapse of the patch it sees there."
            )


def field_figure(field: Any, name: str) -> Figure:
    """Difference of the network's denoiser from local scores against width, a line a noise level."""
    with style():
        figure = Figure(figsize=(5.2 * field.sizes["kind"], 4.0))
        axes = np.atleast_1d(figure.subplots(1, field.sizes["kind"], sharey=True))
        colours = colormaps["viridis"](np.linspace(0.1, 0.9, field.sizes["t"]))
        for axis, kind in zip(axes, field["kind"].values, strict=True):
            for j, t in enumerate(field["t"].values):
                at = field.sel(kind=kind, t=t)
                axis.errorbar(
                    field["width"],
                    at["difference"] / t,
                    at["difference_error"] / t,
                    fmt="o-",
                    ms=3,
                    lw=1.2,
                    color=colours[j],
                    label=rf"$\sigma$ = {math.sqrt(t):.3g}",
                )
            axis.set_yscale("log")
            axis.set_xlabel("width of the patch [pixels]")
            axis.set_title(kind)
            axis.legend(fontsize=7)
        axes[0].set_ylabel(r"$|D_\mathrm{net}-D_w|^2/(N\,t)$")
        figure.suptitle(f"{name}: which local score is the network nearest to?", fontsize=11)
    return figure


def write_field(field: Any, folder: Path, name: str) -> list[Path]:
    """`<name>.csv` with a row a kind, width and noise, and `<name>.png`."""
    return [
        save_dataset(field.drop_vars("best"), folder / f"{name}.csv"),
        _saved(field_figure(field, name), folder / f"{name}.png"),
    ]
