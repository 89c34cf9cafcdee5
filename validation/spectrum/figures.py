"""What `geomem spectrum` shows: sorted spectra beside their control, dimensions and groups against noise, and the tables."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from validation.figures import COLOURS, LABELS, style
from validation.spectrum.departures import losses
from validation.tables import TableData

__all__ = ["figure", "reading", "tables"]

PLACES = {"noisy": "noised training points", "fresh": "fresh points", "centre": "the centre of the data"}
_LEVELS = 5  # spectra in a panel
_ROWS = 13  # of the table
_T = r"noise variance $t$ [data units²]"
_KINDS = {  # score -> words, line
    "empirical": ("empirical score", "-"),
    "half": ("empirical, half of the points", ":"),
    "gaussian": ("Gaussian control", "--"),
    "exact": ("exact score", "-."),
    "linear": ("best linear denoiser of the points", "-."),
    "network": ("network", (0, (5, 1, 1, 1, 1, 1))),
}


def figure(data: xr.Dataset) -> Figure:
    """Three panels of sorted spectra (one a kind of point) above: dimension, groups of directions, and participation."""
    with style():
        page = Figure(figsize=(13.5, 7.8))
        axes = page.subplots(2, 3)
        for axis, place in zip(axes[0], PLACES, strict=True):
            _spectra(axis, data, place)
        axes[0][0].set_ylabel(r"eigenvalue of $-tJ$  (1: noise, 0: data)")
        _legend(page, axes[0][2], data)
        _dimensions(axes[1][0], data)
        _groups(axes[1][1], data)
        _participation(axes[1][2], data)
        below = 0.57 if "network" in data["score"] else 0.62  # the legend of the dimensions
        for axis in axes[1]:
            axis.set_xscale("log")
            axis.set_xlabel(_T)
            _times(axis, data, 0.86 if axis is axes[1][1] else below)
        page.suptitle(f"{data.attrs['data']}: P = {data.attrs['P']}, N = {data.attrs['N']}", fontsize=11)
    return page


def _control(data: xr.Dataset) -> str:
    return "exact" if "exact" in data["score"] else "gaussian"


def _shown(data: xr.Dataset) -> np.ndarray:
    """Noise levels of the spectra: evenly spread over the grid, its ends left out."""
    T = data.sizes["t"]
    return np.unique(np.linspace(0.1 * (T - 1), 0.9 * (T - 1), _LEVELS).round().astype(int))


def _spectra(axis: Any, data: xr.Dataset, place: str) -> None:
    direction = data["direction"].values
    chosen = _shown(data)
    for k, colour in zip(chosen, colormaps["viridis"](np.linspace(0.05, 0.9, len(chosen))), strict=True):
        at = data.isel(t=k).sel(place=place)
        mean, error = (at[n].sel(score="empirical").values for n in ("eigenvalue", "eigenvalue_error"))
        axis.plot(direction, mean, color=colour, lw=1.6)
        if np.isfinite(error).all():
            axis.fill_between(direction, mean - error, mean + error, color=colour, alpha=0.3, lw=0)
        for score in [_control(data), *(["network"] if "network" in data["score"] else [])]:
            values = at["eigenvalue"].sel(score=score).values
            axis.plot(direction, values, color=colour, ls=_KINDS[score][1], lw=1.1)
    axis.set_title(f"sorted spectrum at {PLACES[place]}")
    axis.set_xlabel("direction, most like noise first")
    low = float(data["eigenvalue"].isel(t=chosen).sel(score="empirical").min())
    axis.set_ylim(max(-0.6, min(-0.03, low - 0.05)), 1.05)


def _legend(page: Figure, axis: Any, data: xr.Dataset) -> None:
    chosen = _shown(data)
    colours = colormaps["viridis"](np.linspace(0.05, 0.9, len(chosen)))
    handles = [
        Line2D([], [], color=c, label=rf"$t$ = {data['t'].values[k]:.2g}") for k, c in zip(chosen, colours, strict=True)
    ]
    for score in ("empirical", _control(data), "network"):
        if score in data["score"]:
            words, line = _KINDS[score]
            handles.append(Line2D([], [], color="black", ls=line, lw=1.2, label=words))
    axis.legend(handles=handles, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _dimensions(axis: Any, data: xr.Dataset) -> None:
    t = data["t"].values
    for place, colour in (("noisy", COLOURS["collapse"]), ("fresh", COLOURS["condensation"])):
        for score in ("empirical", "half", "network"):
            if score in data["score"]:
                words, line = _KINDS[score]
                at = data.sel(score=score, place=place)
                axis.plot(t, at["kept"], color=colour, ls=line, lw=1.4, label=f"{words}, {PLACES[place]}")
                if score == "empirical":
                    low, high = at["kept"] - at["kept_error"], at["kept"] + at["kept_error"]
                    axis.fill_between(t, low, high, color=colour, alpha=0.25, lw=0)
    at = data.sel(score=_control(data), place="fresh")
    axis.plot(t, at["kept"], color="black", ls="--", lw=1.2, label=_KINDS[_control(data)][0])
    at = data.sel(score="linear", place="fresh")
    axis.plot(t, at["kept"], color="0.45", ls="-.", lw=1.2, label=_KINDS["linear"][0])
    if "data_dimension" in data and np.isfinite(data["data_dimension"]).any():
        low, high = float(data["data_dimension"].min()), float(data["data_dimension"].max())
        words = f"the data themselves, by neighbours: {low:.3g} to {high:.3g}"
        axis.axhspan(low, high, color="0.6", alpha=0.3, lw=0, label=words)
    axis.set_ylabel(r"directions with $-tJ$ below 1/2")
    axis.set_title("directions kept: the data outweigh the noise")
    axis.set_ylim(
        top=(1.9 if "network" in data["score"] else 1.75) * float(data["kept"].max()) + 1
    )  # room for the legend
    axis.legend(fontsize=6.5, loc="upper right")


def _groups(axis: Any, data: xr.Dataset) -> None:
    t, groups = data["t"].values, data["group"].values
    for name, colour in zip(groups, colormaps["plasma"](np.linspace(0, 0.85, len(groups))), strict=True):
        at = data.sel(group=name, place="noisy")
        mean, error = (at[n].sel(score="empirical") for n in ("variance", "variance_error"))
        axis.plot(t, mean, color=colour, lw=1.5, label=str(name))
        axis.fill_between(t, mean - error, mean + error, color=colour, alpha=0.2, lw=0)
        axis.plot(t, at["variance"].sel(score="half"), color=colour, lw=1.0, ls=":")
        axis.plot(t, at["variance"].sel(score=_control(data)), color=colour, lw=1.0, ls="--")
    axis.set_ylabel(r"posterior variance over $t$  (0: lost)")
    axis.set_ylim(-0.03, 1.25)
    axis.set_title("which are lost, at noised training points")
    axis.legend(fontsize=6.5, loc="upper right")


def _participation(axis: Any, data: xr.Dataset) -> None:
    t = data["t"].values
    for place, colour in (("noisy", COLOURS["collapse"]), ("fresh", COLOURS["condensation"])):
        at = data.sel(score="empirical", place=place)
        mean, error = at["participation"], at["participation_error"]
        axis.plot(t, mean, color=colour, lw=1.5, label=PLACES[place])
        axis.fill_between(t, np.maximum(mean - error, 1), mean + error, color=colour, alpha=0.25, lw=0)
    axis.set_yscale("log")
    axis.set_ylabel(r"participation $1/\sum_\mu w_\mu^2$ [training points]")
    axis.set_title("how many training points make the score")
    axis.legend(fontsize=7, loc="upper left")


def _times(axis: Any, data: xr.Dataset, height: float) -> None:
    """Collapse and condensation of the Gaussian with this spectrum, at infinite size."""
    low, high = np.log(data["t"].values[[0, -1]])
    for kind in ("collapse", "condensation"):
        log_t = data.attrs[f"log_t_{kind}"]
        if low < log_t < high:
            axis.axvline(math.exp(log_t), ymax=height, color=COLOURS[kind], lw=0.9, ls=(0, (4, 2)))
            label = f" {LABELS[kind].split()[-1]} "
            place = {"transform": axis.get_xaxis_transform(), "color": COLOURS[kind], "fontsize": 7}
            axis.text(
                math.exp(log_t), height, label, ha="left" if kind == "collapse" else "right", va="center", **place
            )


# --- words ------------------------------------------------------------------------------------------------------------


def tables(data: xr.Dataset) -> list[TableData]:
    """Dimensions against noise, and the noise at which each group of directions is lost."""
    control = _control(data)
    scores = [s for s in ("half", "network") if s in data["score"]]
    known = "control" if control == "gaussian" else control
    head = [
        "t",
        "sigma",
        *("kept noisy", "kept fresh", *(f"{s} fresh" for s in scores), "kept linear", f"kept {known}"),
        *("gap fresh", f"gap {known}", "bend fresh", f"bend {known}"),
        *("points noisy", "points fresh"),
    ]
    rows = []
    for k in np.unique(np.linspace(0, data.sizes["t"] - 1, _ROWS).round().astype(int))[::-1]:
        at = data.isel(t=k)

        def cell(name, score, place, at=at):
            part = at.sel(score=score, place=place)
            return _cell(float(part[name]), float(part[f"{name}_error"]))

        t = float(at["t"])
        kept = [cell("kept", "empirical", p) for p in ("noisy", "fresh")]
        kept += [cell("kept", s, "fresh") for s in (*scores, "linear", control)]
        steps = [cell(n, s, "fresh") for n in ("gap", "inflection") for s in ("empirical", control)]
        points = [f"{float(at['participation'].sel(score='empirical', place=p)):.4g}" for p in ("noisy", "fresh")]
        rows.append((f"{t:.2g}", f"{math.sqrt(t):.3g}", *kept, *steps, *points))
    dimension = TableData(
        "Latent dimension of the score against noise. kept: directions with -tJ below 1/2; gap: below the largest gap of the "
        "sorted spectrum; bend: below its inflection; points: training points that share the weight. half: the empirical score "
        f"of half of the points; linear: their best linear denoiser; {known}: the {_KINDS[control][0]}. Errors over "
        "probe points, in units of the last digit.",
        head,
        rows,
        text=(),
    )
    found = {place: losses(data, place) for place in ("noisy", "fresh")}
    columns = {"departure": "departs", "half": "half", "noise": "noise"}
    pairs = [(what, place) for what in columns for place in found]
    head = ("directions", "variance", *(f"{columns[what]} {place}" for what, place in pairs))
    rows = []
    for g, name in enumerate(data["group"].values):
        cells = [_cell(*found[place][what].values[g]) for what, place in pairs]
        rows.append((str(name), f"{float(data['data_variance'][g]):.3g}", *cells))
    lost = TableData(
        "Noise variance t at which directions are lost, coming from large t. departs: the mean of -tJ over them is twice the "
        f"{_KINDS[control][0]}'s; half: the same with half of the points; noise: it is back at 0.9. -: not on this grid, or "
        "not told apart by these probes.",
        head,
        rows,
    )
    return [dimension, lost]


def _cell(value: float, error: float) -> str:
    """1.23(4): the error in units of the last digit."""
    if not math.isfinite(value):
        return "-"
    if not error or not math.isfinite(error) or error < 1e-4 * abs(value):
        return f"{value:.3g}"
    power = math.floor(math.log10(error))
    if power >= 0:
        return f"{value:.0f}({error:.0f})"
    return f"{value:.{-power}f}({error * 10**-power:.0f})"


def reading(data: xr.Dataset) -> list[str]:
    """The answer in sentences: at which noise directions go, and which go first."""
    lines, control = [], _KINDS[_control(data)][0]
    for place in ("noisy", "fresh"):
        found = losses(data, place)
        known = [
            (t, error, half, str(name))
            for (t, error), (half, _), name in zip(
                found["departure"].values, found["half"].values, data["group"].values, strict=True
            )
            if math.isfinite(t)
        ]
        if not known:
            lines.append(
                f"At {PLACES[place]} no directions of the ideal score depart from the {control} on this grid of noise."
            )
            continue
        known.sort(key=lambda row: -row[0])
        (t, error, half, first), (t_last, error_last, _, last) = known[0], known[-1]
        with_half = f" ({half:.2g} with half of the points)" if math.isfinite(half) else ""
        line = (
            f"At {PLACES[place]} the ideal score's first directions to depart from the {control} are {first}, at t = "
        )
        line += _cell(t, error) + with_half
        if len(known) > 1:
            tied = t - t_last < 2 * math.hypot(error, error_last)
            line += f"; the last {last}, at t = {_cell(t_last, error_last)}" + (
                " (equal within errors)" if tied else ""
            )
        missing = data.sizes["group"] - len(known)
        lines.append(line + (f"; {missing} of {data.sizes['group']} groups do not on this grid." if missing else "."))
    if "data_dimension" in data.attrs:
        lines.append(
            f"Dimension of the data themselves, by distances and by local covariances: {data.attrs['data_dimension']}. "
            "It looks at neighbours, not at a score, and counts what varies at their distance."
        )
    lines += [
        f"Jacobian of the {name.removeprefix('jacobian_')}: {value}."
        for name, value in data.attrs.items()
        if name.startswith("jacobian_")
    ]
    if "remarks" in data.attrs:
        lines.append(f"Of the network: {data.attrs['remarks']}.")
    if "held_out_copies" in data.attrs:
        lines.append(f"{data.attrs['held_out_copies']}; the rest are the fresh points.")
    full, half = (math.exp(data.attrs[f"log_t_collapse{end}"]) for end in ("", "_half"))
    lines.append(
        "Only what moves with the number of training points is memorisation; the rest is what a covariance does not know of the "
        f"data. For scale: with half of the points the Gaussian's collapse moves from t = {full:.3g} to {half:.3g}."
    )
    if int(data.attrs["P"]) < 4:
        lines.append(f"Half of the {data.attrs['P']} points are 2 here, the fewest that make a training set.")
    return lines
