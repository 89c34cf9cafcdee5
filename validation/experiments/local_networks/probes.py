r"""What a network on images is asked about locality: the patch it sees, where it memorises, and which patches it copies.

Memorising is read off the same ratio for every score, the network's and the local ones',

.. math:: \rho(t)=\frac{E|D(\xi+\sqrt t\,\omega,t)-\xi|^2\text{ on training images}}{\text{the same on fresh images}},

which is 1 where a score knows no more of its training images than of others and 0 where it returns them. The noise of
memorising is where it passes 1/2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from numerics.domain import DomainError, integer
from validation.data import memorised_fraction
from validation.locality import receptive_field
from validation.score import EmpiricalScore
from validation.score.local import LocalScore, pad, patch_at
from validation.simulation import generator
from validation.spectra import Empirical, as_score, jacobian_spectrum
from validation.training import NoiseLevels, denoising_losses
from validation.window import draw

__all__ = ["copied_patches", "half_crossing", "measure_locality"]

BAG = 1 << 15  # patches that stand for ELS's bag in Jacobians, and elsewhere where it is too large
PAIRS = 1e12  # of patches up to which the whole bag is taken: a quarter of an hour of one core
REPLICAS = 400  # of the bootstrap over images


def measure_locality(
    network: Any,
    train: torch.Tensor,
    fresh: torch.Tensor,
    t: np.ndarray,
    *,
    widths: Sequence[int],
    points: int,
    losses: int,
    samples: int,
    steps: int,
    noise: NoiseLevels,
    spectra: int,
    seed: int = 0,
    done: Callable[[], None] = lambda: None,
) -> xr.Dataset:
    """Everything the experiment asks of one network.

    Parameters
    ----------
    network : score at flat points; train, fresh : (P, C, H, W), (F, C, H, W) images it was trained on, and has not seen
    t : (T,) noise variances, ascending; widths : odd, of the local scores tried
    points : fresh images at which denoisers are compared; losses : images of each kind at which losses are taken
    samples, steps, noise : drawn by the probability flow, its steps, its range of noise
    spectra : images at which Jacobians are taken; 0 for none
    done : called after each of the five parts

    Returns
    -------
    Dataset: what `receptive_field` gives, over (kind, width, t); `ratio` (score, t) with `ratio_error`, of network, LS, ELS
    (each of its best width there, ELS with its whole bag up to 1e12 pairs) and the empirical score; `memorised` (score), the t
    where it passes 1/2, and `memorised_error`, of its logarithm, NaN without a crossing; `excess` (width) of `copied_patches`
    with `control`; `kept` (score, t, point), directions kept at noised fresh images; `sample_image`, `local_image`,
    `nearest_image` (shown, channel, y, x): the network's samples, those of ELS from the same noise, and the training images
    nearest to the first.
    """
    shape, device = tuple(train.shape[1:]), train.device
    field = receptive_field(network, train, fresh, t, widths, points=points, seed=seed, device=str(device))
    done()
    place_pairs = float(train[0, 0].numel()) ** 2 * len(train)
    bag = None if place_pairs * (2 * losses * len(t) + min(8, samples) * steps) <= PAIRS else BAG
    locals_ = {kind: _schedule(train, field, kind, seed, bag) for kind in ("LS", "ELS")}
    flat, unseen = train.double().flatten(1), fresh.double().flatten(1)
    scores = {"network": network, **locals_, "empirical": Empirical(EmpiricalScore(flat, device=device))}
    parts: dict[str, Any] = {}
    omega = generator(flat.shape[1], (seed, 3), device).rows(2 * losses)
    clean = {"training": flat[:losses], "fresh": unseen[:losses]}
    found = np.stack([_ratios(score, clean, omega, t) for score in scores.values()])  # (score, 2 + , T)
    parts["ratio"], parts["ratio_error"] = (("score", "t"), found[:, 0]), (("score", "t"), found[:, 1])
    parts["memorised"], parts["memorised_error"] = ("score", found[:, 2, 0]), ("score", found[:, 3, 0])
    done()
    start = flat.mean(dim=0) + noise.sigma_max * generator(flat.shape[1], (seed, 1), device).rows(samples)
    drawn = draw(as_score(network), start, noise, steps).reshape(-1, *shape)
    copied = copied_patches(drawn, train, fresh, widths)
    parts |= {name: (copied[name].dims, copied[name].values) for name in copied.data_vars}
    done()
    shown = min(8, samples)
    pictures = {"sample": drawn[:shown], "local": draw(locals_["ELS"], start[:shown], noise, steps).reshape(-1, *shape)}
    near = memorised_fraction(pictures["sample"].flatten(1).cpu().numpy(), flat.cpu().numpy(), device=str(device))
    pictures["nearest"] = train[torch.from_numpy(near.index).to(device)]
    for name, images in pictures.items():
        parts[f"{name}_image"] = (("shown", "channel", "y", "x"), images.float().cpu().numpy())
    done()
    if spectra:
        noised = unseen[:spectra]
        kept = np.empty((len(scores), len(t), spectra))
        of_patches = {"ELS": _schedule(train, field, "ELS", seed, BAG)}
        for i, score in enumerate((scores | of_patches).values()):
            for k, level in enumerate(map(float, t)):
                x = noised + math.sqrt(level) * omega[:spectra]
                kept[i, k] = (jacobian_spectrum(score, x, level)[0] < 0.5).sum(axis=-1)
        parts["kept"] = (("score", "t", "point"), kept)
    done()
    return field.assign(parts).assign_coords(score=list(scores))


def _schedule(train: torch.Tensor, field: xr.Dataset, kind: str, seed: int, bag: int | None) -> LocalScore:
    """The local score that takes, at each noise, the width that came nearest to the network at the level next to it."""
    levels, best = np.log(field["t"].values), field["best"].sel(kind=kind).values

    def width(t: float) -> int:
        return int(best[np.abs(levels - math.log(t)).argmin()])

    equivariant = kind == "ELS"
    bag = bag if equivariant else None
    return LocalScore(train, width, equivariant, bag=bag, seed=seed, device=train.device, dtype="float32")


def _ratios(score: Any, clean: dict[str, torch.Tensor], omega: torch.Tensor, t: np.ndarray) -> np.ndarray:
    """(4, T): ratio, its error, and (at [2:, 0]) the noise where it passes 1/2 with the error of the logarithm."""
    losses = {}
    for i, (name, points) in enumerate(clean.items()):
        own = omega[i * len(points) : (i + 1) * len(points)]
        losses[name] = np.stack([denoising_losses(score, points, own, float(level)).cpu().numpy() for level in t])
    rng = np.random.default_rng(0)
    train, fresh = losses["training"], losses["fresh"]
    ratio = train.mean(axis=1) / fresh.mean(axis=1)
    rows = [rng.integers(0, a.shape[1], (REPLICAS, a.shape[1])) for a in (train, fresh)]
    again = train[:, rows[0]].mean(axis=2) / fresh[:, rows[1]].mean(axis=2)  # (T, replicas)
    crossings = np.array([half_crossing(t, again[:, r]) for r in range(REPLICAS)])
    known = np.isfinite(crossings)
    out = np.full((4, len(t)), np.nan)
    out[0], out[1] = ratio, again.std(axis=1)
    out[2, 0] = half_crossing(t, ratio)
    if known.mean() > 0.9:
        out[3, 0] = np.log(crossings[known]).std()
    return out


def half_crossing(t: np.ndarray, ratio: np.ndarray) -> float:
    """The largest noise at which a ratio passes 1/2 upwards, by its logarithm; NaN where it does not.

    >>> round(half_crossing(np.array([0.01, 0.1, 1.0]), np.array([0.0, 0.25, 0.75])), 4)
    0.3162
    """
    up = np.flatnonzero((ratio[:-1] < 0.5) & (ratio[1:] >= 0.5))
    if not len(up):
        return math.nan
    k = up[-1]
    share = (0.5 - ratio[k]) / (ratio[k + 1] - ratio[k])
    return float(math.exp((1 - share) * math.log(t[k]) + share * math.log(t[k + 1])))


def copied_patches(
    samples: torch.Tensor, train: torch.Tensor, fresh: torch.Tensor, widths: Sequence[int]
) -> xr.Dataset:
    r"""Are the patches of samples nearer to those of training images than to those of as many fresh images, at the same place?

    Parameters
    ----------
    samples, train, fresh : images (S, C, H, W), (P, C, H, W), (F, C, H, W), F >= 16
    widths : odd; a patch wider than twice the image is the whole image at every place

    Returns
    -------
    Dataset over `width`: `excess`, :math:`2f-1` with f the share of a sample's patches that lie nearer to the training set (ties
    count half), averaged over samples, with `excess_error` over samples; `control`, the same of fresh images in the samples'
    place, with its error. 0 where training images are to the samples what any others are, 1 where every patch is a copy.
    A quarter of the fresh images serves as control, and as many training images as the rest are compared: `compared`.

    Raises
    ------
    DomainError : fewer than 16 fresh images, shapes that differ

    >>> images = torch.randn(60, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    >>> found = copied_patches(images[:10], images[:20], images[20:], [1, 3])
    >>> found["excess"].values.tolist(), bool((abs(found["control"]) < 4 * found["control_error"]).all())
    ([1.0, 1.0], True)
    """
    if len(fresh) < 16:
        raise DomainError("fresh", f"{len(fresh)} images", "at least 16")
    if not samples.shape[1:] == train.shape[1:] == fresh.shape[1:]:
        raise DomainError("samples", tuple(samples.shape[1:]), f"images of shape {tuple(train.shape[1:])}")
    widths = [integer("widths", w, minimum=1) for w in widths]
    control, others = fresh[: len(fresh) // 4], fresh[len(fresh) // 4 :]
    count = min(len(train), len(others))
    out = {name: np.empty(len(widths)) for name in ("excess", "excess_error", "control", "control_error")}
    for j, width in enumerate(widths):
        for name, asked in (("excess", samples), ("control", control)):
            each = _nearer(asked.double(), train[:count].double(), others[:count].double(), width)
            out[name][j] = each.mean()
            out[f"{name}_error"][j] = each.std(ddof=1) / math.sqrt(len(each))
    data = {name: ("width", values) for name, values in out.items()}
    return xr.Dataset(data, {"width": widths}, {"compared": count})


def _nearer(samples: torch.Tensor, train: torch.Tensor, others: torch.Tensor, width: int) -> np.ndarray:
    """(S,) mean over places of the sign of (distance to others) - (distance to training patches)."""
    total = torch.zeros(len(samples), dtype=torch.float64, device=samples.device)
    padded = [pad(images, width // 2, "zero") for images in (samples, train, others)]
    H, W = samples.shape[-2:]
    for row in range(H):
        for column in range(W):
            asked, own, far = (patch_at(images, row, column, width) for images in padded)
            near, away = (
                torch.cdist(asked, to, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1).values
                for to in (own, far)
            )
            total += torch.sign(away - near)
    return (total / (H * W)).cpu().numpy()
