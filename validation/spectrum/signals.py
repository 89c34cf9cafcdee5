"""`geomem spectrum --samples`: signals of single samples from a network alone, beside points it was trained on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from numerics.domain import DomainError, integer, positive
from numerics.store import provenance, save_dataset, writable
from validation.data import load
from validation.devices import device_of
from validation.figures import COLOURS, save, style
from validation.networks import is_foreign
from validation.spectra import ScoreFunction, sample_signals
from validation.spectrum.pipelines import open_pipeline
from validation.tables import TableData
from validation.training import members

__all__ = ["run_samples", "signal_figure", "signal_table"]

_LEVELS, _LOW, _HIGH = 6, 0.03, 1.0  # noise levels, over the standard deviation of the samples
_INSIDE = 1e-6
_UNITS = {
    "square": "1/squared data units",
    "sharpness": "1/(squared data units)^3",
    "dimension": "directions",
    "flipd": "directions",
}


def run_samples(
    samples: str | os.PathLike,
    out: Path,
    *,
    model: str | os.PathLike,
    data: str | os.PathLike | None = None,
    sigmas: Sequence[float] | None = None,
    points: int = _LEVELS,
    draws: int = 4,
    probes: int = 8,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    network: Mapping[str, Any] | None = None,
    **options: Any,
) -> list[tuple[xr.Dataset, list[Path]]]:
    """The signals of `validation.spectra.sample_signals` for every sample: figure (`out`), .nc and .csv beside it.

    Parameters
    ----------
    samples : file or folder of samples as `validation.data.load` reads it, in the units of the training data
    model : a checkpoint of `geomem train`, or the folder of a diffusers pipeline or network
    data : with a pipeline, what it was trained on; as many of its points, and of points kept back, are measured beside the
        samples. A checkpoint knows its own.
    sigmas : range of noise, low, high, in data units; default 0.03 to 1 times the standard deviation of the samples
    points : noise levels; draws, probes : see `sample_signals`; network : see `validation.spectrum.open_pipeline`
    options : of `load`, for the samples (and `data`)

    Returns
    -------
    (Dataset over (t, sample), files) for each network; the coordinate `origin` is "sample", "training" or "fresh".

    Raises
    ------
    DomainError : samples of another shape than the network's, noise outside what it knows, unreadable or unwritable files
    """
    if out.suffix not in (".png", ".pdf", ".svg"):
        raise DomainError("--out", str(out), "a file name that ends in .png, .pdf or .svg")
    if sigmas is not None and (len(sigmas) != 2 or not 0 < sigmas[0] < sigmas[1]):
        raise DomainError("--sigma", str(sigmas), "two numbers low,high with 0 < low < high")
    points = integer("--points", points, minimum=1)
    writable(out, argument="--out")
    device_of(device, "--device")
    results = []
    found = list(_subjects(samples, data, model, device, seed, dict(network or {}), options))
    for name, P, face, parts, remarks in found:
        x, origin = torch.cat(list(parts.values())), np.repeat(list(parts), [len(v) for v in parts.values()])
        t = _levels(face, parts["sample"], points, sigmas)
        result = sample_signals(face, x.to(device), t, draws=draws, probes=probes, seed=seed, progress=progress)
        row = np.concatenate([np.arange(len(v)) for v in parts.values()])
        result = result.assign_coords(
            origin=("sample", origin), row=("sample", row), sigma=("t", np.sqrt(result["t"].values))
        )
        for signal, units in _UNITS.items():
            for each in (signal, f"{signal}_error"):
                result[each].attrs["units"] = units
        known = {"remarks": "; ".join(remarks)} if remarks else {}
        facts = provenance(data=name, samples=os.fspath(samples), model=os.fspath(model), seed=seed)
        result = result.assign_attrs(facts | known)
        path = out if len(found) == 1 else out.with_name(f"{out.stem}-P{P}{out.suffix}")
        save(signal_figure(result), path)
        files = [path, *(save_dataset(result, path.with_suffix(end)) for end in (".nc", ".csv"))]
        results.append((result, files))
    return results


def signal_table(data: xr.Dataset) -> TableData:
    """Median over points, and from which to which nine tenths of them lie, of every signal at every noise level."""
    rows = []
    for k, sigma in enumerate(data["sigma"].values):
        for origin in _origins(data):
            at = data.isel(t=k, sample=np.flatnonzero(data["origin"].values == origin))
            cells = []
            for name in _UNITS:
                low, middle, high = np.quantile(at[name].values, [0.05, 0.5, 0.95])
                cells.append(f"{middle:.3g} ({low:.3g} to {high:.3g})")
            rows.append((f"{sigma:.3g}", origin, *cells))
    head = ("sigma", "points", "E|s|^2", "E|Js|^2", "dimension", "FLIPD")
    return TableData("Signals: median over points (5 % to 95 %).", head, rows, text=(1,))


def signal_figure(data: xr.Dataset) -> Figure:
    """One panel a signal against noise: every sample as a line, medians of samples, training and fresh points above them."""
    N, sigma = data.attrs["N"], data["sigma"].values
    scales = {
        "square": (sigma**2 / N, r"$tE|s|^2/N$"),
        "sharpness": (sigma**6 / N, r"$t^3E|Js|^2/N$"),
        "dimension": (np.ones_like(sigma), r"effective dimension $N+t\,\mathrm{tr}J$"),
        "flipd": (np.ones_like(sigma), "FLIPD"),
    }
    colours = {"sample": COLOURS["collapse"], "training": COLOURS["condensation"], "fresh": COLOURS["generalization"]}
    with style():
        page = Figure(figsize=(9.5, 6.4))
        for axis, (name, (scale, words)) in zip(page.subplots(2, 2).flat, scales.items(), strict=True):
            for origin in _origins(data):
                values = data[name].values[:, data["origin"].values == origin] * scale[:, None]
                if origin == "sample":
                    axis.plot(sigma, values, color="0.6", lw=0.5, alpha=min(1.0, 10 / values.shape[1] + 0.1))
                middle = np.median(values, axis=1)
                axis.plot(sigma, middle, "o-", ms=3, color=colours[origin], lw=1.8, label=f"{origin}, median")
            axis.set_xscale("log")
            axis.xaxis.set_minor_formatter(NullFormatter())
            shown = sigma[:: max(1, len(sigma) // 6)]
            axis.set_xticks(shown, [f"{value:.2g}" for value in shown])
            if name in ("square", "sharpness"):
                axis.set_yscale("log")
            axis.set_xlabel(r"noise $\sigma$ [data units]")
            axis.set_ylabel(words)
        page.axes[0].plot([], [], color="0.6", lw=0.8, label="single samples")
        page.axes[0].legend(fontsize=8)
        count = int((data["origin"].values == "sample").sum())
        page.suptitle(f"{data.attrs['data']}: {count} samples, N = {N}", fontsize=11)
    return page


def _origins(data: xr.Dataset) -> list[str]:
    return [name for name in ("sample", "training", "fresh") if (data["origin"].values == name).any()]


def _subjects(
    samples: str | os.PathLike,
    data: str | os.PathLike | None,
    model: str | os.PathLike,
    device: str,
    seed: int,
    network: dict[str, Any],
    options: dict[str, Any],
) -> Iterator[tuple[str, int, ScoreFunction, dict[str, torch.Tensor], tuple[str, ...]]]:
    """Name, training points, score, points by origin and remarks of each network in `model`."""
    made = load(samples, seed=seed, **options)
    if is_foreign(model):
        known = samples if data is None else data
        opened = open_pipeline(model, known, device=device, seed=seed, **network, **options)
        if made.shape != opened.pixels:
            raise DomainError("--samples", f"samples of shape {made.shape}", f"{opened.pixels}, as the data's")
        parts = {"sample": torch.from_numpy(opened.encode(made.X).astype(np.float64))}
        if data is not None:
            parts |= {"training": opened.train[: made.P], "fresh": opened.fresh[: made.P]}
        name = os.path.basename(os.path.abspath(model))
        yield name, len(opened.train), opened.face, parts, opened.remarks
        return
    if data is not None:
        raise DomainError("DATA", str(data), "left out with --model", "The checkpoint knows the data it was trained on")
    for member in members(model, device=device, dtype=torch.float64):
        P, face, X, fresh, _ = member
        if X.shape[1] != made.N:
            raise DomainError("--samples", f"samples of shape {made.shape}", f"of {X.shape[1]} numbers, as the data's")
        x = torch.from_numpy(np.array(made.X, dtype=np.float64))
        parts = {"sample": x, "training": X[: made.P].cpu(), "fresh": fresh[: made.P].cpu()}
        name = f"network of {P} points in {os.path.basename(model)}"
        yield name, P, face, {n: v for n, v in parts.items() if len(v)}, ()


def _levels(face: Any, x: torch.Tensor, points: int, sigmas: Sequence[float] | None) -> np.ndarray:
    low, high = getattr(face, "t_range", (0.0, np.inf))
    if sigmas is not None:
        ends = np.asarray(positive("--sigma", sigmas), dtype=float)
        if not low <= ends[0] ** 2 < ends[1] ** 2 <= high:
            known = f"within {low**0.5:.4g},{high**0.5:.4g}, the noise the network knows"
            raise DomainError("--sigma", f"{ends[0]:g},{ends[1]:g}", known)
    else:
        spread = float((x - x.mean(dim=0)).square().mean().sqrt()) if len(x) > 1 else float(x.std())
        ends = np.clip([_LOW * spread, _HIGH * spread], low**0.5 * (1 + _INSIDE), high**0.5 * (1 - _INSIDE))
    return np.geomspace(*ends, points) ** 2 if points > 1 else ends[:1] ** 2
