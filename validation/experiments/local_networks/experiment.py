"""Do trained U-Nets denoise as local scores of patches, and memorise at the noise where those do?

U-Nets on P images each, with and without self-attention. At every noise level the local score (LS and ELS) that comes nearest to
the network's denoiser gives the patch it sees. Then three comparisons with that local score: the noise at which training images
are denoised twice as well as fresh ones, the directions that are kept, and samples from the same noise. Last, whether patches
of samples are copies.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from numerics.domain import DomainError, integer
from theory import ImageCovariance, collapse_time
from validation.experiments.local_networks.probes import measure_locality
from validation.experiments.shared import (
    ExperimentResult,
    Row,
    checkpoint,
    chosen,
    counter,
    provenance,
    save,
    save_figure,
)
from validation.experiments.trained_images import average_pool
from validation.networks import NetworkScore
from validation.simulation import Prediction, judge
from validation.training import NoiseLevels, Trainer, TrainingConfig, points

__all__ = ["PRESETS", "Preset", "figure", "run"]

CLAIM = "A convolutional network denoises as the local score of a patch that grows with the noise, and memorises with it [KG24]."
PUBLISHED = 0.95  # median r^2 between 0.94 and 0.96 [KG24]
PARTS = 5  # of one network's measurement


@dataclass(frozen=True)
class Preset:
    """How much work: training set sizes, the networks, their training, and what is measured.

    attention : heads of the networks trained, 0 for purely convolutional; widths : of the local scores tried
    """

    name: str
    sizes: tuple[int, ...]
    network: dict[str, Any]
    training: TrainingConfig
    attention: tuple[int, ...] = (0, 4)
    widths: tuple[int, ...] = (1, 3, 5, 7, 11)
    t: tuple[float, ...] = tuple(np.geomspace(0.001, 10, 9).tolist())
    points: int = 16
    losses: int = 100
    samples: int = 100
    steps: int = 32
    spectra: int = 4


_NOISE = NoiseLevels(0.02, 8.0)
PRESETS = {
    "quick": Preset(
        "quick",
        (100, 800),
        {"kind": "unet", "width": 24, "levels": 2, "blocks": 1},
        TrainingConfig(steps=1500, batch=32, warmup=100, noise=_NOISE, ema=0.99, precision="float32"),
        spectra=2,
    ),
    "full": Preset(
        "full",
        (100, 300, 1000, 5000),
        {"kind": "unet", "width": 24, "levels": 2, "blocks": 1},
        TrainingConfig(steps=6000, batch=32, warmup=100, noise=_NOISE, precision="float32"),
    ),
    "full on cuda": Preset(
        "full on cuda",
        (100, 300, 1000, 3000, 8000),
        {"kind": "unet", "width": 64, "levels": 3, "blocks": 2},
        TrainingConfig(steps=60_000, batch=128, learning_rate=1e-3, noise=_NOISE, precision="float32"),
        widths=(1, 3, 5, 7, 11, 15, 21),
        samples=500,
        losses=256,
    ),
}


def run(
    preset: str | Preset = "quick",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    out: str | os.PathLike | None = None,
    device: str = "cpu",
    *,
    data: str | os.PathLike | None = None,
    sizes: Sequence[int] | None = None,
    pool: int = 1,
    limit: int | None = None,
    image_size: int | None = None,
    key: str | None = None,
) -> ExperimentResult:
    """Train U-Nets, find the patch that each sees at each noise, and ask whether it memorises where the local score does.

    Parameters
    ----------
    preset : "quick" (digits 8 x 8), "full" (for images of one's own; digits have too few for its largest sizes), or a `Preset`
    seed : int; progress : callable (work done, of all); device : torch device
    out : folder, optional
        local_networks.csv, .nc, .png; local_networks_ratio.png, _copies.png, _samples.png and _kept.png; checkpoints/, from which
        an interrupted training goes on.
    data : path of images that `validation.data.load` reads; None: scikit-learn's digits
    sizes : training set sizes instead of the preset's; pool : average over squares of so many pixels
    limit, image_size, key : of `validation.data.load`

    Returns
    -------
    ExperimentResult
        Rows, for each network: median r^2 over fresh images, averaged over noise, at the best width of LS or ELS, against 0.95;
        and the sigma of memorising (see `measure_locality`) against that of the local score it is nearest to.
        Curves over (attention, P): see `measure_locality`; `theory` (kind, width, P), the collapse time of Gaussian patches.

    Raises
    ------
    DomainError : unknown preset, data that are no images, sizes beyond the data; fewer than 16 fresh images
    DataError : data that cannot be read

    The failure that looks normal: a network that has not been trained for long memorises nothing, whatever its patch.
    """
    preset = chosen(preset, PRESETS, str(device))
    started = time.perf_counter()
    options = {"limit": limit, "image_size": image_size, "key": key}
    given = {name: value for name, value in options.items() if value is not None}
    source = {"data": "digits" if data is None else os.fspath(data), "seed": seed} | given
    found = points(source, device=str(device))
    if found.X.ndim != 4:
        raise DomainError("data", source["data"], "images", f"Its samples have shape {tuple(found.X.shape[1:])}")
    X, held_out = (average_pool(images, pool).to(device) for images in (found.X, found.fresh))
    sizes = _sizes(preset.sizes if sizes is None else sizes, len(X))
    fresh = torch.cat([held_out, X[max(sizes) :]])
    field = ImageCovariance.from_images(X)
    members = len(preset.attention) * len(sizes)
    step = counter(progress, members * (1 + PARTS))
    parts = []
    for heads in preset.attention:
        denoiser = _train(X, sizes, preset, heads, seed, source | {"pool": pool}, out, device, lambda: step(1))
        for m, P in enumerate(sizes):
            chunk = max(1, 4096 // X[0].numel())
            part = measure_locality(
                NetworkScore(denoiser, m, dtype=preset.training.dtype, chunk=chunk),
                X[:P],
                fresh,
                np.asarray(preset.t),
                widths=preset.widths,
                points=preset.points,
                losses=min(preset.losses, P, len(fresh)),
                samples=preset.samples,
                steps=preset.steps,
                noise=preset.training.noise,
                spectra=preset.spectra,
                seed=seed,
                done=step,
            )
            parts.append(part.drop_attrs().expand_dims(attention=[heads], P=[P]))
    curves = xr.combine_by_coords(parts, combine_attrs="drop")
    curves["theory"] = (("kind", "width", "P"), _theory(field, preset.widths, sizes))
    extremes = {"lowest": float(X.min()), "highest": float(X.max()), "fresh": len(fresh)}
    curves = curves.assign_attrs(extremes)
    call = {"preset": preset.name, "seed": seed, "device": device, "data": source["data"], "sizes": tuple(sizes)}
    call |= {"pool": pool} | given
    result = ExperimentResult(
        "local_networks",
        CLAIM,
        _rows(curves, Path(source["data"]).name),
        curves,
        provenance(
            command=f"validation.experiments.local_networks.run({', '.join(f'{k}={v!r}' for k, v in call.items())})",
            preset=asdict(preset),
            data={**source, "pool": pool, "shape": list(X.shape[1:]), "fresh": len(fresh)} | found.copies.counts(),
            sizes=sizes,
            seed=seed,
            seconds=round(time.perf_counter() - started, 1),
        ),
    )
    if out is not None:
        _save(result, Path(out))
    return result


def _sizes(asked: Sequence[int], available: int) -> list[int]:
    sizes = sorted(integer("sizes", P, minimum=16) for P in asked)
    if not sizes or len(set(sizes)) < len(sizes) or max(sizes) > available:
        raise DomainError("sizes", list(asked), f"different numbers, at most {available}: those that are not held out")
    return sizes


def _train(X, sizes, preset: Preset, heads: int, seed: int, note: dict, out, device: str, done) -> Any:
    path = checkpoint(out, f"{preset.name}-attention{heads}", seed)
    network = preset.network | ({"attention": heads} if heads else {})
    seeds = [1000 * seed + m for m in range(len(sizes))]
    trainer = Trainer(
        [X[:P] for P in sizes], network, preset.training, seeds=seeds, device=device, path=path, note={"data": note}
    )
    every = preset.training.steps / len(sizes)
    told = 0

    def progress(step: int, total: int, loss: torch.Tensor) -> None:
        nonlocal told
        while (told + 1) * every <= step:
            told += 1
            done()

    trainer.run(progress=progress)
    while told < len(sizes):
        told += 1
        done()
    return trainer.averaged()


def _theory(field: ImageCovariance, widths: Sequence[int], sizes: Sequence[int]) -> np.ndarray:
    """(2, widths, sizes) collapse time of Gaussian patches with the covariance of the data's: LS, ELS."""
    return np.array(
        [
            [[float(collapse_time(field, P=P, patch=w, equivariant=equivariant)) for P in sizes] for w in widths]
            for equivariant in (False, True)
        ]
    )


def nearest_kind(part: xr.Dataset) -> str:
    """LS or ELS: which, at its best widths, is nearer to the network over all noise levels (mean log difference)."""
    best = np.log(part["difference"].clip(1e-300)).min("width").mean("t")
    return str(best["kind"].values[int(best.values.argmin())])


def _rows(curves: xr.Dataset, data: str) -> list[Row]:
    rows = []
    for heads in curves["attention"].values:
        for P in curves["P"].values:
            part = curves.sel(attention=heads, P=P)
            model = f"{data}, P = {P}, {'self-attention' if heads else 'convolutions only'}"
            kind = nearest_kind(part)
            r2 = part["r2"].sel(kind=kind).max("width").values
            error = float(np.std(r2, ddof=1) / math.sqrt(len(r2)))
            prediction = Prediction("r^2", PUBLISHED, None, 0.05, "[KG24], 0.94 to 0.96 over architectures")
            verdict = judge(prediction, float(r2.mean()), error)
            note = f"{kind}; lowest {r2.min():.2f}, highest {r2.max():.2f} over noise levels; error over those"
            rows.append(Row("r^2 of the network's denoiser by the best local score", model, verdict, note))
            both = [float(part["memorised"].sel(score=who)) for who in ("network", kind)]
            if not all(map(math.isfinite, both)):
                continue
            errors = [float(part["memorised_error"].sel(score=who)) for who in ("network", kind)]
            prediction = Prediction("sigma of memorising", math.sqrt(both[1]), None, 0.25, f"{kind} of the best widths")
            error = math.sqrt(both[0]) * math.hypot(*errors) / 2
            verdict = judge(prediction, math.sqrt(both[0]), error)
            note = "training images denoised twice as well as fresh ones; error over images, both scores'"
            rows.append(Row("sigma below which the network memorises, against its local score's", model, verdict, note))
    return rows


def figure(result: ExperimentResult) -> Any:
    """The patch that each network sees against noise, and how well its local score explains it."""
    from validation.experiments.local_networks.figures import width_figure

    return width_figure(result.curves)


def _save(result: ExperimentResult, folder: Path) -> None:
    from validation.experiments.local_networks import figures

    save(result, figure(result), folder)
    for name in ("ratio", "copies", "samples", "kept"):
        if name != "kept" or "kept" in result.curves:
            save_figure(getattr(figures, f"{name}_figure")(result.curves), folder / f"local_networks_{name}.png")
