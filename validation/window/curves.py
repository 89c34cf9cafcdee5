"""One training run seen through its checkpoints: losses on training and held-out points, and copies among its samples."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from numerics.domain import DomainError, integer, positive
from validation.data import THRESHOLD, memorised_fraction
from validation.networks import Denoiser, NetworkScore
from validation.simulation import generator, integrate, karras_levels
from validation.spectra import ScoreFunction
from validation.training import NoiseLevels, Probes, Watch, departure, fingerprint, load_denoiser, points, read

__all__ = ["checkpoint_curves", "checkpoints_in", "copied_fraction", "draw"]

_SAME = ("network", "shape", "seeds", "data", "training", "note")
_DRAWS = 2  # of the noise, a point and level


def checkpoints_in(paths: Sequence[str | os.PathLike]) -> list[tuple[int, Path]]:
    """(step, file) of the checkpoints of one run, by step; of several at one step the first.

    Parameters
    ----------
    paths : files of `geomem train`, and folders of them

    Raises
    ------
    DomainError : a folder without checkpoints, a file that is none, files of several runs, or fewer than 2 steps
    """
    files: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
        if not inside:
            raise DomainError("--model", str(path), "a folder with checkpoints of geomem train (.safetensors)")
        files += inside
    found: dict[int, Path] = {}
    first: dict[str, Any] | None = None
    for file in files:
        record = read(file)[1]
        first = first or record
        for key in _SAME:
            if record.get(key) != first.get(key):
                raise DomainError(
                    "--model", str(file), "a checkpoint of the same run as the others", f"Its {key} differs"
                )
        found.setdefault(int(record["step"]), file)
    if len(found) < 2:
        raise DomainError("--model", ", ".join(map(str, paths)), "checkpoints of at least two steps of one run")
    return sorted(found.items())


def draw(
    score: ScoreFunction, start: torch.Tensor, noise: NoiseLevels, steps: int, *, batch: int = 500
) -> torch.Tensor:
    """Samples of the probability flow from `start` at sigma_max down to sigma_min, and from there to 0 in one Euler step.

    score : ScoreFunction; start : (S, N) float64 points at noise sigma_max; steps : of Heun's method, on Karras's levels

    >>> from validation.spectra.score_functions import GaussianScore
    >>> end = draw(GaussianScore([1.0]), torch.tensor([[8.0]], dtype=torch.float64), NoiseLevels(0.02, 8.0), 64)
    >>> round(float(end), 2)  # the flow of a unit Gaussian is x/sqrt(1 + t)
    0.99
    """
    steps = integer("steps", steps, minimum=2)
    levels = np.append(karras_levels(noise.sigma_max**2, noise.sigma_min**2, steps - 1), 0.0)
    return integrate(lambda x, t: score.score(x, float(t[0])), start, levels, scheme="heun", batch=batch)


def checkpoint_curves(
    paths: Sequence[str | os.PathLike],
    *,
    t: Any = None,
    points_asked: int = 256,
    samples: int = 200,
    steps: int = 24,
    rate: float = 0.01,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Losses and copies of every checkpoint of one run, at the same points and from the same noise.

    Parameters
    ----------
    paths : see `checkpoints_in`; t : (L,) noise variances > 0, default eight over the range that was trained
    points_asked : training and held-out points, at most; samples : drawn from each network, 0 for none; steps : of their flow
    rate : of false alarms of the departure, over all checkpoints, levels and networks; progress : callable (done, total)

    Returns
    -------
    Dataset over (step, member, t) as `Watch.curves`, with `fraction`, `fraction_low`, `fraction_high` over (step, member): the
    share of samples that are copies (`memorised_fraction`) and its 95 % interval; `control`, that of the held-out points.

    Raises
    ------
    DomainError : see `checkpoints_in`; fewer than 2 held-out points; data that are no longer what they were
    """
    found = checkpoints_in(paths)
    record = read(found[0][1])[1]
    if "source" not in record["note"]:
        raise DomainError("--model", str(found[0][1]), "checkpoints that geomem train wrote")
    shape, noise = tuple(record["shape"]), NoiseLevels(**record["training"]["noise"])
    data = points(record["note"]["source"], device=device)
    dtype = next(iter(load_denoiser(found[0][1]).parameters())).dtype
    X = data.X.reshape(len(data.X), *shape).to(device, dtype)
    fresh = data.fresh.reshape(len(data.fresh), *shape).to(device, dtype)
    if len(fresh) < 2:
        raise DomainError("held-out points", len(fresh), "at least 2", "Train with --held-out")
    sets = [X[:P] for P in record["sizes"]]
    for own, mark in zip(sets, record["data"], strict=True):
        if fingerprint(own) != mark:
            raise DomainError(
                "--model", str(found[0][1]), "of a run whose training data are still there", "They changed"
            )
    if t is None:
        u = (torch.arange(8, dtype=torch.float64) + 0.5) / 8
        t = noise.quantile(u).square().numpy()
    t = np.atleast_1d(positive("t", t))
    samples = integer("samples", samples, minimum=0)
    probes = Probes(sets, fresh, t, integer("points", points_asked, minimum=2), _DRAWS)
    history, fractions = [], np.full((len(found), len(sets), 3), np.nan)
    for k, (step, file) in enumerate(found):
        denoiser = load_denoiser(file, device=device)
        entry = []
        for (train, held_out), reference in zip(probes.losses(denoiser), probes.reference, strict=True):
            ok = np.isfinite(train).all() and np.isfinite(held_out).all()
            p = departure(train, held_out, *reference) if ok else np.ones(len(t))
            entry.append([train.mean(1), _error(train), held_out.mean(1), _error(held_out), p])
        history.append({"step": step, "losses": entry})
        for m, own in enumerate(sets if samples else []):
            fractions[k, m] = copied_fraction(denoiser, m, own, noise, samples, steps=steps, seed=seed)
        if progress:
            progress(k + 1, len(found))
    curves = Watch.dataset(history, record["sizes"], t, rate)
    axes = ("step", "member")
    for i, name in enumerate(("fraction", "fraction_low", "fraction_high")):
        curves[name] = (axes, fractions[..., i])
    curves["control"] = ("member", [_fraction(fresh, own)[0] for own in sets])
    return curves.assign_attrs(samples=samples, threshold_of_copies=THRESHOLD, seed=seed)


def copied_fraction(
    denoiser: Denoiser,
    member: int,
    X: torch.Tensor,
    noise: NoiseLevels,
    samples: int,
    *,
    steps: int = 24,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Share of samples of one network of a stack that are copies of X, and its 95 % interval; nan if it makes no numbers.

    X : (P, *shape), its training set; noise : the range it was trained on; samples, steps : of the flow; seed : of its start
    """
    flat = X.double().flatten(1)
    start = flat.mean(dim=0) + noise.sigma_max * generator(flat.shape[1], (seed, 1), X.device).rows(samples)
    return _fraction(draw(NetworkScore(denoiser, member, dtype=torch.float32), start, noise, steps), X)


def _error(x: np.ndarray) -> np.ndarray:
    return x.std(axis=1, ddof=1) / np.sqrt(x.shape[1])


def _fraction(samples: torch.Tensor, X: torch.Tensor) -> tuple[float, float, float]:
    rows = samples.flatten(1).double().cpu().numpy()
    rows = rows[np.isfinite(rows).all(axis=1)]
    if len(rows) == 0:
        return np.nan, np.nan, np.nan
    found = memorised_fraction(rows, X.flatten(1).double().cpu().numpy(), device=str(X.device))
    return found.fraction, found.low, found.high
