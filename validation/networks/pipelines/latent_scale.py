r"""How latents may have been scaled before a network was trained on them: the usual mistakes, each as other latents.

What the encoder gives, r, becomes :math:`z=(r-h)s`. A pipeline whose configuration lost s or h, or has those of another, hands
its network latents that it was never trained on; from z, s and h the r is known, and with it what any other pair would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from validation.networks.pipelines.latents import Autoencoder

__all__ = ["LatentScale", "latent_scales"]

_KNOWN = {  # scaling_factor, shift_factor
    "as of Stable Diffusion 1 and 2": (0.18215, 0.0),
    "as of SDXL": (0.13025, 0.0),
    "as of Stable Diffusion 3": (1.5305, 0.0609),
    "as of Flux": (0.3611, 0.1159),
    "none": (1.0, 0.0),
}
_SAME = 1e-3  # of the latents' spread: scales that differ by less are one


@dataclass(frozen=True, eq=False)
class LatentScale:
    """name : in words, with the numbers; Z : (P, n) the latents so scaled; shifted : whether only the shift differs

    usual : whether the pair is one that pipelines have, and not found from the data
    """

    name: str
    Z: torch.Tensor
    shifted: bool
    usual: bool


def latent_scales(auto: Autoencoder, Z: Any, shape: Sequence[int]) -> list[LatentScale]:
    """Other scales of latents Z (P, n) of `shape` (c, h, w) that a network may have been trained on, without that of `auto`.

    Those of known pipelines, none, no shift or one of the other sign, the inverse factor, and from the data: variance 1, mean 0
    and variance 1, both channel by channel.
    """
    z = torch.as_tensor(np.asarray(Z), dtype=torch.float64).reshape(-1, *shape)
    raw = z / auto.scale + auto.shift
    spread = float(raw.std())
    own = {} if isinstance(auto.scale, torch.Tensor) else _of_this(auto.scale, auto.shift)
    given = [(name, s, h, True) for name, (s, h) in (own | _KNOWN).items()]
    given.append(("latents of variance 1", 1 / spread, 0.0, False))
    given.append(("latents of mean 0 and variance 1", 1 / spread, float(raw.mean()), False))
    found: list[LatentScale] = []
    for name, s, h, usual in given:
        words = f"scaling_factor {s:.5g} and shift_factor {h:.5g} ({name})"
        other = LatentScale(words, ((raw - h) * s).flatten(1), _same(s, auto.scale), usual)
        if not any(_near(other.Z, one) for one in (z.flatten(1), *(scale.Z for scale in found))):
            found.append(other)
    mean, std = (getattr(raw, m)(dim=(0, 2, 3), keepdim=True) for m in ("mean", "std"))
    by_channel = ((raw - mean) / std).flatten(1)
    if not any(_near(by_channel, one) for one in (z.flatten(1), *(scale.Z for scale in found))):
        words = "latents_mean and latents_std of each channel (mean 0 and variance 1)"
        found.append(LatentScale(words, by_channel, False, False))
    return found


def _of_this(s: float, h: float) -> dict[str, tuple[float, float]]:
    found = {"the inverse of its scaling_factor": (1 / s, h)}
    if h:
        found |= {"without its shift_factor": (s, 0.0), "its shift_factor with the other sign": (s, -h)}
    return found


def _same(a: Any, b: Any) -> bool:
    return not isinstance(b, torch.Tensor) and abs(a - b) < 1e-9 * abs(b)


def _near(a: torch.Tensor, b: torch.Tensor) -> bool:
    return float((a - b).square().mean().sqrt()) < _SAME * float(b.std())
