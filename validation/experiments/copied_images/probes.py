"""What is measured at a snapshot: samples and whose copies they are, audits of them, and signals at single samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from validation.data import THRESHOLD, find_duplicates
from validation.networks import DenoisingModel
from validation.points import duplicate_groups, point_collapse_times
from validation.samples import Nearness, audit_samples, leave_one_out, nearest_two, p_values
from validation.simulation import generator
from validation.spectra import ScoreFunction, sample_signals
from validation.training import NoiseLevels
from validation.window import draw

__all__ = ["COMPETITORS", "SIGNS", "audited", "copies_of", "describe", "drawn", "signals_of"]

# sign of the change that copies are expected to show: they leave fewer directions free, and all noise returns to one point
SIGNS = {"square": 1, "sharpness": 1, "dimension": -1, "flipd": -1, "spread": -1, "norm": 1}
COMPETITORS = ("distance", "p_value", "isolation")  # from distances to the training set: small for copies
_SPREAD = 8  # draws of noise


def describe(X: np.ndarray, seed: int = 0, draws: int = 64, device: str = "cpu") -> xr.Dataset:
    """What each training image (P, N) of one network is beforehand: t_c, its nearest neighbour's distance, its norm, its group.

    `norm` is the distance from the mean of the set; `rest` marks members of a group of near-duplicates after the first.
    """
    duplicates = find_duplicates(X, device=device)
    found = point_collapse_times(X, draws=draws, duplicates=duplicates, seed=seed, device=device)
    group = found["group"].values
    first = np.array([g < 0 or np.flatnonzero(group == g)[0] == i for i, g in enumerate(group)])
    columns = {
        "t_c": found["t_c"].values,
        "t_c_error": found["t_c_error"].values,
        "neighbour": found["nearest_distance"].values,
        "norm": np.linalg.norm(X - X.mean(axis=0), axis=1),
        "shuffled": np.random.default_rng((seed, 3)).permutation(found["t_c"].values),
        "group": group,
        "rest": ~first,
    }
    return xr.Dataset({name: ("image", values) for name, values in columns.items()}, {"image": np.arange(len(X))})


def drawn(
    score: ScoreFunction,
    X: torch.Tensor,
    noise: NoiseLevels,
    samples: int,
    steps: int,
    seed: tuple[int, ...],
    *,
    noised: bool = False,
) -> torch.Tensor:
    """(samples, N) by the probability flow from Gaussian noise around the mean of X (P, N), or around its points if `noised`.

    The second is the law of noised data at any sigma_max; the first only where sigma_max is far above the spread of X.
    """
    centre = X.mean(dim=0)
    if noised:
        rows = np.random.default_rng((*seed, 11)).integers(0, len(X), samples)
        centre = X[torch.from_numpy(rows).to(X.device)]
    start = centre + noise.sigma_max * generator(X.shape[1], seed, X.device).rows(samples)
    return draw(score, start, noise, steps)


def copies_of(samples: np.ndarray, X: np.ndarray, *, device: str = "cpu") -> xr.Dataset:
    """Whose copies samples (S, N) are, by two rules, and their distances to the training images X (P, N).

    `ratio` and `distance` (root mean square) over sample, `nearest` row of X (of a group of near-duplicates the first), `copy`:
    ratio below 1/3; `close`: nearer than a third of the median distance of a training image to its nearest other, one radius for
    all images. The ratio's own radius grows with the distance of the image to its neighbours; the second rule's does not.
    """
    group = duplicate_groups(find_duplicates(X, device=device))
    near = nearest_two(samples, X, group, device=device)
    others, _ = leave_one_out(X, group, device=device)
    nearest = near.nearest.copy()
    for g in np.unique(group[group >= 0]):
        nearest[np.isin(near.nearest, np.flatnonzero(group == g))] = np.flatnonzero(group == g)[0]
    columns = {
        "ratio": near.ratio,
        "distance": near.distance,
        "nearest": nearest,
        "copy": near.ratio < THRESHOLD,
        "close": near.distance < THRESHOLD * np.median(others.distance),
    }
    return xr.Dataset({name: ("sample", values) for name, values in columns.items()})


def audited(samples: np.ndarray, X: np.ndarray, held_out: np.ndarray, *, device: str = "cpu") -> xr.Dataset:
    """The numbers of `validation.samples.audit_samples`: shares called, null, ratio rule, effective, C_T, authentic."""
    found = audit_samples(samples, X, held_out, device=device)
    numbers = {
        "called": found.called.value,
        "called_null": found.called_fresh.value,
        "below": found.below.value,
        "below_null": found.below_fresh.value,
        "effective": found.effective,
        "effective_error": found.effective_error,
        "copying": found.copying,
        "authentic": found.authentic.value,
        "authentic_null": found.authentic_fresh.value,
    }
    return xr.Dataset(numbers)


def signals_of(
    network: DenoisingModel,
    samples: torch.Tensor,
    X: np.ndarray,
    held_out: np.ndarray,
    sigmas: Sequence[float],
    *,
    draws: int,
    probes: int,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    r"""Signals of single samples (S, N) over (sigma, sample), beside what distances to the training set say of them.

    Those of `sample_signals`; `spread`, the root mean square over coordinates of the deviation of :math:`D(x+\sigma\omega)` over
    8 draws of noise; `norm`, the sample's distance from the mean of the samples, which asks no network. With the training set:
    `distance` to the nearest image, its `p_value` among held-out images, and `isolation`, the distance over that of the image
    to its own nearest other.
    """
    t = np.square(np.asarray(sigmas, dtype=float))
    found = sample_signals(network, samples, t, draws=draws, probes=probes, seed=seed)
    spread = np.empty((len(t), len(samples)))
    for k, level in enumerate(t):
        noise = generator(samples.shape[1], (seed, 5, k), samples.device)
        clean = [network.denoised(samples + level**0.5 * noise.rows(len(samples)), level) for _ in range(_SPREAD)]
        spread[k] = torch.stack(clean).var(dim=0).mean(dim=1).sqrt().cpu().numpy()
    x = samples.cpu().numpy()
    group = duplicate_groups(find_duplicates(X, device=device))
    near, fresh = (nearest_two(rows, X, group, device=device) for rows in (x, held_out))
    around = nearest_other(X, group, device)
    sizes = {
        "norm": np.linalg.norm(x - x.mean(axis=0), axis=1),
        "distance": near.distance,
        "p_value": p_values(near.distance, fresh.distance),
        "isolation": near.distance / around[near.nearest],
    }
    data = {name: (("sigma", "sample"), found[name].values) for name in ("square", "sharpness", "dimension", "flipd")}
    data |= {"spread": (("sigma", "sample"), spread)}
    data |= {name: (("sigma", "sample"), np.tile(values, (len(t), 1))) for name, values in sizes.items()}
    return xr.Dataset(data, {"sigma": np.asarray(sigmas, dtype=float)})


def nearest_other(X: np.ndarray, group: np.ndarray, device: str = "cpu") -> np.ndarray:
    """(P,) distance, root mean square, of each row to its nearest that is no near-duplicate of it."""
    own: Nearness = nearest_two(X, X, group, device=device)
    return own.second_distance
