r"""The latents of a pipeline: images through its autoencoder, once, scaled as the pipeline scales them.

.. math:: z=(E(x)-\mathrm{shift})\cdot\mathrm{scale},\qquad x\approx D(z/\mathrm{scale}+\mathrm{shift})

(per channel (E - mean) scale/std where the configuration has latents_mean and latents_std). Noise of standard deviation sigma
in z moves pixels by sigma times the gain :math:`\sqrt{\|J\|_F^2/N_x}`, J the decoder's Jacobian, as long as sigma is small.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from numerics.domain import DomainError
from numerics.kernel_cache import cache_folder, keep
from validation.networks.pipelines.schedules import get
from validation.spectra import as_found

__all__ = ["Autoencoder", "Latents", "encode_images"]

_BATCH = 16
_GAIN_POINTS, _GAIN_PROBES = 4, 8
_STEP = 1e-3  # of the latents' standard deviation: central differences are then good to 1e-4 in float32


class Autoencoder:
    """An autoencoder of diffusers (AutoencoderKL, AutoencoderTiny, VQModel) between images and a pipeline's latents.

    module : with `encode`, `decode` and a config; images are (B, C, H, W) with pixels in [-1, 1]

    Raises
    ------
    DomainError : a module without these
    """

    def __init__(self, module: Any):
        if not (callable(getattr(module, "encode", None)) and callable(getattr(module, "decode", None))):
            raise DomainError("autoencoder", type(module).__name__, "an autoencoder of diffusers: encode and decode")
        self.module = module
        config = getattr(module, "config", None)
        scale, shift = get(config, "scaling_factor"), get(config, "shift_factor")
        self.scale: Any = 1.0 if scale is None else float(scale)
        self.shift: Any = 0.0 if shift is None else float(shift)
        mean, std = get(config, "latents_mean"), get(config, "latents_std")
        if mean is not None and std is not None:
            self.shift = torch.tensor(mean, dtype=torch.float64).reshape(1, -1, 1, 1)
            self.scale = self.scale / torch.tensor(std, dtype=torch.float64).reshape(1, -1, 1, 1)

    @property
    def channels(self) -> int:
        """Of the images."""
        return int(get(self.module.config, "in_channels"))

    @property
    def name(self) -> str:
        return type(self.module).__name__

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Latents (B, c, h, w), float64, means of the encoder's distribution, and its standard deviation (0 without)."""
        with as_found([self.module]), torch.no_grad():
            answer = self.module.encode(images.to(self._like))
        known, spread = getattr(answer, "latent_dist", None), 0.0
        if known is not None:
            raw = known.mode().double()
            std = getattr(known, "std", None)
            spread = 0.0 if std is None else float((std.double() * self.scale).square().mean().sqrt())
        else:
            raw = getattr(answer, "latents", answer).double()
        return ((raw - self.shift) * self.scale).contiguous(), spread

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Images (B, C, H, W) of latents, float64."""
        with as_found([self.module]), torch.no_grad():
            return self._decoded(latents)

    def gain(self, latents: torch.Tensor, *, probes: int = _GAIN_PROBES, seed: int = 0) -> tuple[float, float]:
        """Root mean square change of a pixel per unit of noise in the latents, and its standard error over points and probes.

        latents : (B, c, h, w), at which the decoder's Jacobian is taken, by central differences along random signs. NaN for a
        decoder that quantises (VQModel) and so has none.
        """
        if hasattr(self.module, "quantize"):
            return math.nan, math.nan
        rows = latents.double().repeat_interleave(probes, dim=0)
        generator = torch.Generator().manual_seed(seed)
        signs = (2.0 * torch.randint(0, 2, rows.shape, generator=generator).double() - 1).to(rows.device)
        step = _STEP * float(latents.double().std())
        moved = []
        for z, v in zip(rows.split(_BATCH), (step * signs).split(_BATCH), strict=True):
            change = (self.decode(z + v) - self.decode(z - v)) / (2 * step)
            moved.append(change.square().flatten(1).mean(dim=1))
        squares = torch.cat(moved).cpu().numpy()
        mean, error = float(np.mean(squares)), float(np.std(squares, ddof=1)) / math.sqrt(len(squares))
        return math.sqrt(mean), error / (2 * math.sqrt(mean)) if mean > 0 else 0.0

    @property
    def _like(self) -> torch.Tensor:
        return next(self.module.parameters())

    def _decoded(self, latents: torch.Tensor) -> torch.Tensor:
        answer = self.module.decode((latents / self.scale + self.shift).to(self._like))
        return getattr(answer, "sample", answer).double()


@dataclass(frozen=True, eq=False)
class Latents:
    """Z : (P, n) latents, float64; shape : (c, h, w); remarks : what was measured of the autoencoder, one sentence each."""

    Z: np.ndarray
    shape: tuple[int, ...]
    remarks: tuple[str, ...]


def encode_images(
    module: Any,
    X: np.ndarray,
    shape: Sequence[int],
    *,
    mark: str = "",
    centre: float = 0.0,
    unit: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> Latents:
    """The latents of images, from the cache folder where they have been made before.

    Parameters
    ----------
    module : autoencoder of diffusers; X : (P, N) images of `shape`, (C, H, W) or (H, W)
    mark : what tells the module's weights from any other (`pipeline_mark`); without one nothing is kept
    centre, unit : pixels in [-1, 1] are (X - centre)/unit; progress : callable (done, total)

    Returns
    -------
    Latents, with remarks: scale and shift, error of a reconstruction, the encoder's own spread, and the gain from latent noise
    to pixels.

    Raises
    ------
    DomainError : images of other channels, or of a size that the autoencoder does not divide
    """
    auto = Autoencoder(module)
    full = tuple(shape) if len(shape) == 3 else (1, *shape)
    if full[0] != auto.channels:
        raise DomainError(
            "DATA", f"images {full}", f"images of {auto.channels} channels, as the {auto.name} takes them"
        )
    pixels = (np.asarray(X, dtype=np.float64) - centre) / unit
    name, known = "", None
    if mark:
        digest = hashlib.sha256(np.ascontiguousarray(pixels, dtype="<f4").tobytes())
        digest.update(f"{mark} {full} {auto.scale} {auto.shift}".encode())
        name = f"latents-{digest.hexdigest()[:24]}.npy"
        known = _kept(name)
    images = torch.from_numpy(pixels).reshape(-1, *full)
    device = auto._like.device
    first, spread = _first(auto, images[:_GAIN_POINTS].to(device), full)
    if known is not None and known.shape == (len(X), *first.shape[1:]):
        Z = known
    else:
        parts = []
        for part in images.split(_BATCH):
            if progress:
                progress(_BATCH * len(parts), len(images))
            parts.append(auto.encode(part.to(device))[0].cpu())
        Z = torch.cat(parts).numpy()
        if name:
            file = io.BytesIO()
            np.save(file, Z)
            keep(name, file.getvalue())
    gain, error = auto.gain(first)
    lost = auto.decode(first).cpu() - images[: len(first)]
    remarks = [
        f"points are latents {' x '.join(map(str, Z.shape[1:]))} of {auto.name}, {_scaling(auto)}",
        "the decoder quantises: noise in latents has no size in pixels"
        if math.isnan(gain)
        else f"noise of sigma in latents is {gain:.3g}({error:.1g}) sigma in pixels, by the decoder's Jacobian",
        f"decoded again, pixels are off by {float(lost.square().mean().sqrt()):.2g} (root mean square)",
    ]
    if spread > 0:
        remarks.append(f"latents are the encoder's means; its own standard deviation is {spread:.2g}")
    return Latents(Z.reshape(len(Z), -1), tuple(Z.shape[1:]), tuple(remarks))


def _first(auto: Autoencoder, images: torch.Tensor, full: Sequence[int]) -> tuple[torch.Tensor, float]:
    """The first latents, or an error where the autoencoder cannot take such images or does not give them back."""
    try:
        latents, spread = auto.encode(images)
        same = auto.decode(latents).shape == images.shape
    except RuntimeError as error:
        raise DomainError("DATA", f"images {tuple(full)}", f"of a size the {auto.name} takes", f"({error})") from error
    if not same:
        raise DomainError("DATA", f"images {tuple(full)}", f"of a size that the {auto.name}'s halvings divide")
    return latents, spread


def _scaling(auto: Autoencoder) -> str:
    if isinstance(auto.scale, torch.Tensor):
        return "scaled channel by channel as its configuration says"
    return f"scaled by {auto.scale:g}" + (f" after a shift of {auto.shift:g}" if auto.shift else "")


def _kept(name: str) -> np.ndarray | None:
    folder = cache_folder()
    if folder is None or not os.path.exists(folder / name):
        return None
    try:
        return np.load(folder / name, allow_pickle=False)
    except (OSError, ValueError):
        return None
