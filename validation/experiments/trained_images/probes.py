"""What a score trained on images is asked: samples and copies among them, spectra and latent dimensions, and its losses.

The empirical score of the same images is asked the same, from the same starting noise and at the same noisy points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import xarray as xr

from numerics.domain import DomainError, integer, positive
from validation.data import THRESHOLD, Memorised, available, data_dimension, dimension_variables, memorised_fraction
from validation.score import EmpiricalScore
from validation.simulation import generator
from validation.spectra import (
    Empirical,
    FittedGaussian,
    ScoreFunction,
    inflection_dimension,
    jacobian_spectrum,
    largest_gap_dimension,
    second_difference_dimension,
)
from validation.training import NoiseLevels, convergence
from validation.window import draw

__all__ = ["WINDOW", "average_pool", "draw", "measure_images"]

WINDOW, _FLAT = 5, 0.1  # of the inflection; a spectrum whose values differ by less has none
_SHOWN = 28  # samples kept as images, the first ones: nothing is picked
_PER_DIRECTION = 4  # images for each of N numbers, from which on a covariance is fitted


def average_pool(X: torch.Tensor, pool: int) -> torch.Tensor:
    """Images (P, C, H, W) averaged over squares of `pool` pixels.

    >>> average_pool(torch.arange(4.0).reshape(1, 1, 2, 2), 2).tolist()
    [[[[1.5]]]]
    """
    pool = integer("pool", pool, minimum=1)
    if X.shape[-1] % pool or X.shape[-2] % pool:
        raise DomainError("pool", pool, f"a divisor of the image's sides, {X.shape[-2]} x {X.shape[-1]}")
    return torch.nn.functional.avg_pool2d(X, pool) if pool > 1 else X


_READINGS = {
    "kept": lambda values: (values < 0.5).sum(axis=-1),  # directions along which the data outweigh the noise
    "gap": largest_gap_dimension,
    "inflection": inflection_dimension,
    "first_bend": second_difference_dimension,
}


def measure_images(
    networks: Sequence[ScoreFunction],
    X: torch.Tensor,
    held_out: torch.Tensor,
    sizes: Sequence[int],
    t: np.ndarray,
    *,
    noise: NoiseLevels,
    samples: int,
    steps: int,
    points: int,
    losses: int,
    seed: int = 0,
    done: Callable[[int], None] = lambda count: None,
) -> xr.Dataset:
    """Everything the experiment looks at, for each network beside the empirical score of its training set.

    Parameters
    ----------
    networks : M scores at flat points; X : (P, C, H, W) float64, the training set of member m is its first sizes[m] images
    held_out : (Q, C, H, W) images that none has seen; sizes : M integers; t : (T,) noise variances of spectra and losses
    noise : the range samples are drawn over; samples : drawn from each score; steps : of the flow
    points : images at which spectra are taken, of each kind; losses : at which losses are; seed : of all noise
    done : called with the number of parts finished, of 3 M

    Returns
    -------
    Dataset over P: `network_`, `empirical_` and `control_` `fraction`, `low`, `high`, `error`; `_ratio` (sample);
    `_eigenvalue` (kind, t, direction), mean over points; `_kept` (eigenvalues below 1/2), `_gap`, `_inflection` and
    `_first_bend` (kind, t, point), the last two NaN where the spectrum is flat; `loss_*` of `convergence`; `sample_image` and
    `nearest_image`, the first 28; `data_dimension*` of the training images themselves (`validation.data.dimension`), where
    scikit-dimension is installed.
    """
    t, shape = np.atleast_1d(positive("t", t)), tuple(X.shape[1:])
    X, held_out = X.flatten(1), held_out.flatten(1)
    N, device = X.shape[1], X.device
    start = X.mean(dim=0) + noise.sigma_max * generator(N, (seed, 1), device).rows(samples)
    # of all images that are not held out: the same reference for every P; from few it is singular and no reference
    gaussian = FittedGaussian(X) if len(X) >= _PER_DIRECTION * N else None
    omega = generator(N, (seed, 2), device).rows(points)
    parts = []
    for m, (P, network) in enumerate(zip(sizes, networks, strict=True)):
        own, part = X[:P], {}
        if available():
            found = data_dimension(own.cpu().numpy(), seed=seed, device=str(device))
            part |= dimension_variables(found)
        empirical = Empirical(EmpiricalScore(own, device=device, dtype="float64"))
        control = _fraction(held_out, own)
        part |= {f"control_{name}": value for name, value in _numbers(control).items()}
        for who, score in (("network", network), ("empirical", empirical)):
            drawn = draw(score, start, noise, steps)
            found = _fraction(drawn, own)
            part |= {f"{who}_{name}": value for name, value in _numbers(found).items()}
            part[f"{who}_ratio"] = ("sample", found.ratio)
            if who == "network":
                for name, rows in (("sample", drawn), ("nearest", own[torch.from_numpy(found.index).to(device)])):
                    images = rows[:_SHOWN].reshape(-1, *shape).float().cpu().numpy()
                    part[f"{name}_image"] = (("shown", "channel", "y", "x"), images)
        probes = [(who, kind) for who in ("network", "empirical") for kind in ("training", "held out")]
        spectra = {}
        for who, kind in probes:
            places = (own if kind == "training" else held_out)[:points]
            score = network if who == "network" else empirical
            spectra[who, kind] = _spectra(score, places, omega[: len(places)], t, points)
            done(3 * m + 1 + (who == "empirical"))
        kinds = ("training", "held out")
        for who in ("network", "empirical"):
            values = np.stack([spectra[who, kind] for kind in kinds])
            part[f"{who}_eigenvalue"] = (("kind", "t", "direction"), np.nanmean(values, axis=2))
            for name, read in _READINGS.items():
                known = np.isfinite(values).all(axis=-1)
                if name in ("inflection", "first_bend"):  # of a flat spectrum they are numbers without a meaning
                    known &= values.max(axis=-1) - values.min(axis=-1) >= _FLAT
                read_off = np.where(known, read(np.nan_to_num(values)), np.nan)
                part[f"{who}_{name}"] = (("kind", "t", "point"), read_off)
        compared = convergence(network, own, t, fresh=held_out, exact=gaussian, points=losses, seed=seed)
        part |= {f"loss_{name}": (compared[name].dims, compared[name].values) for name in compared.data_vars}
        parts.append(xr.Dataset(part))
        done(3 * m + 3)
    curves = xr.concat(parts, xr.DataArray(list(sizes), dims="P", name="P"))
    extremes = {"lowest": float(X.min()), "highest": float(X.max()), "threshold": THRESHOLD}
    curves = curves.assign_coords(t=t, kind=["training", "held out"], where=["training", "fresh"])
    return curves.assign_attrs(extremes | {"samples": samples, "held_out": len(held_out)})


def _fraction(samples: torch.Tensor, X: torch.Tensor) -> Memorised:
    return memorised_fraction(samples.cpu().numpy(), X.cpu().numpy(), device=str(X.device))


def _numbers(found: Memorised) -> dict[str, float]:
    return {"fraction": found.fraction, "low": found.low, "high": found.high, "error": found.error}


def _spectra(score: ScoreFunction, points: torch.Tensor, omega: torch.Tensor, t: np.ndarray, count: int) -> np.ndarray:
    """(T, count, N) eigenvalues of -tJ at points with noise of variance t; NaN where there are fewer points."""
    values = np.full((len(t), count, points.shape[1]), np.nan)
    for k, level in enumerate(map(float, t)):
        values[k, : len(points)] = jacobian_spectrum(score, points + level**0.5 * omega, level)[0]
    return values
