r"""Which patch a network sees at each noise: the width of the local score that comes nearest to its denoiser.

At held-out images with noise, D of the network against D of LS and ELS of every width, at the same t (no smoothing is fitted).
Per image,

.. math:: r^2=1-\frac{|D_\mathrm{net}-D_w|^2}{|D_\mathrm{net}-\bar D_\mathrm{net}|^2},

with the mean over the image's pixels. Source: [KG24].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from numerics.domain import DomainError, integer, positive
from validation.score.local import LocalScore
from validation.spectra import as_score

__all__ = ["receptive_field"]

KINDS = ("LS", "ELS")
BAG = 1 << 16  # patches that stand for the bag of all places where it is too large
PAIRS = 3e11  # of patches up to which the whole bag is taken: five minutes of one core
IMAGES = 10_000  # training images at most behind a local score


def receptive_field(
    score: Any,
    images: Any,
    held_out: Any,
    t: Any,
    widths: Sequence[int] = (1, 3, 5, 7, 11),
    *,
    points: int = 16,
    kinds: Sequence[str] = KINDS,
    bag: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """How well local scores of each width explain a network's denoiser, noise level by noise level.

    Parameters
    ----------
    score : whatever `as_score` takes, in pixels: a network's score at flat points (B, N)
    images, held_out : (P, C, H, W) or (P, H, W): what it was trained on, and images it has not seen, at least 2
    t : (T,) VE noise, squared data units, > 0; widths : odd numbers
    points : held-out images at most; kinds : of "LS", "ELS"
    bag : patches that stand for all of ELS's bag, drawn by `seed`; None: the whole bag up to 3e11 pairs of patches in all,
        else 65 536, which is no substitute at small noise (`LocalScore`)
    progress : called with (done, all)

    Returns
    -------
    Dataset: `r2` (kind, width, t), median over images; `r2_low`, `r2_high`, its quartiles; `difference` (kind, width, t), mean of
    `|D_net - D_w|^2/N` in squared data units, with `difference_error` over images; `best` (kind, t), width of least difference.

    The failure that looks normal: at small noise every denoiser is near x and every r2 near 1; `difference` still separates them.
    Source: [KG24].
    """
    face = as_score(score)
    train, fresh = (_images(name, value) for name, value in (("images", images), ("held_out", held_out)))
    if train.shape[1:] != fresh.shape[1:]:
        raise DomainError("held_out", tuple(fresh.shape[1:]), f"images of shape {tuple(train.shape[1:])}")
    levels = np.atleast_1d(positive("t", t))
    widths = [integer("widths", w, minimum=1) for w in np.atleast_1d(np.asarray(widths)).tolist()]
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise DomainError("kinds", unknown[0], ", ".join(KINDS))
    points = integer("points", points, minimum=2)
    train, fresh = train[torch.arange(min(len(train), IMAGES)) * len(train) // min(len(train), IMAGES)], fresh[:points]
    flat = fresh.double().flatten(1).to(device)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(flat.shape, generator=generator, dtype=torch.float64).to(device)
    network = torch.stack([_denoised(face, flat + math.sqrt(level) * noise, float(level)) for level in levels])
    spread = (network - network.mean(dim=2, keepdim=True)).square().sum(dim=2)  # (T, B)
    shape = (len(kinds), len(widths), levels.size, len(flat))
    off = np.empty(shape)
    whole = len(train) * float(train[0, 0].numel() if train.ndim == 4 else train[0].numel()) ** 2
    part = bag if bag is not None or whole * len(flat) * len(widths) * levels.size <= PAIRS else BAG
    for k, kind in enumerate(kinds):
        for i, width in enumerate(widths):
            equivariant = kind == "ELS"
            local = LocalScore(
                train, width, equivariant, bag=part if equivariant else None, seed=seed, device=device, dtype="float32"
            )
            for j, level in enumerate(levels):
                found = local.denoise(flat + math.sqrt(level) * noise, float(level))
                off[k, i, j] = (found - network[j]).square().sum(dim=1).cpu().numpy()
                if progress:
                    progress((k * len(widths) + i) * levels.size + j + 1, len(kinds) * len(widths) * levels.size)
    r2 = 1 - off / np.maximum(spread.cpu().numpy(), 1e-300)
    low, median, high = np.quantile(r2, (0.25, 0.5, 0.75), axis=-1)
    N = flat.shape[1]
    axes = ("kind", "width", "t")
    mean = off.mean(axis=-1) / N
    return xr.Dataset(
        {
            "r2": (axes, median),
            "r2_low": (axes, low),
            "r2_high": (axes, high),
            "difference": (axes, mean, {"units": "squared data units"}),
            "difference_error": (axes, off.std(axis=-1, ddof=1) / N / math.sqrt(len(flat))),
            "best": (("kind", "t"), np.asarray(widths)[mean.argmin(axis=1)], {"units": "pixels"}),
        },
        {"kind": list(kinds), "width": widths, "t": ("t", levels, {"units": "squared data units"})},
        {"points": len(flat), "P": len(train), "bag": 0 if part is None else int(part), "seed": seed},
    )


def _denoised(face: Any, x: torch.Tensor, t: float) -> torch.Tensor:
    with torch.no_grad():
        return x + t * face.score(x, t).double()


def _images(name: str, value: Any) -> torch.Tensor:
    found = value if isinstance(value, torch.Tensor) else torch.from_numpy(np.asarray(value))
    if found.ndim not in (3, 4) or len(found) < 2:
        raise DomainError(name, tuple(found.shape), "an array (P, C, H, W) or (P, H, W) with P >= 2")
    return found.float()
