r"""On which scale of pixels does a network denoise best? Asked before anything is measured with it.

A network of pixels in [-1, 1] takes pixels in [0, 255] without a word, and its score is then wrong by no simple factor. For each
usual scale, z = (x - centre)/unit, it denoises the same noisy points x; its loss is given in units of that of a denoiser which
knows the mean and the variance of every pixel and nothing else:

.. math:: \frac{E|D(x+\sqrt t\,\omega,t)-x|^2}{\sum_i t\,r_i/(t+r_i)},\qquad r_i=\mathrm{Var}\,x_i.

A network that has learned these images is well below 1 on their scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from numerics.domain import DomainError
from validation.networks import ModelScore

__all__ = ["BETTER", "LEARNED", "PixelScale", "check_scale", "level_ratios", "pixel_scales", "usual_scales"]

_RANGES = {"[-1, 1]": (-1.0, 1.0), "[0, 1]": (0.0, 1.0), "[0, 255]": (0.0, 255.0)}
_SIGMAS = (0.4, 0.8, 1.6)  # of noise, over the standard deviation of the data: images are neither clear nor lost
_POINTS = 32
BETTER = 1.3  # times: how much another scale must be better to be called the network's
LEARNED = 0.9  # a network above that ratio on every scale has not learned these images


@dataclass(frozen=True)
class PixelScale:
    """The network is asked for (x - centre)/unit, pixels in `name`; ratio : its loss over the pixelwise denoiser's, > 0."""

    name: str
    centre: float
    unit: float
    ratio: float

    @property
    def options(self) -> str:
        return f"`--centre {self.centre:g} --unit {self.unit:g}`"


def pixel_scales(face: ModelScore, X: Any, *, seed: int = 0) -> list[PixelScale]:
    """The scales a network may have been trained on, best first; the data as given are among them, as "as given".

    Parameters
    ----------
    face : the network, with its own centre and unit left aside
    X : (P, N) finite data that vary, P >= 2
    """
    X = torch.as_tensor(np.asarray(X[: 16 * _POINTS]), dtype=torch.float64)
    found = [
        PixelScale(name, centre, unit, _ratio(face.rescaled(centre, unit), X, seed))
        for name, centre, unit in usual_scales(X)
    ]
    return sorted(found, key=lambda scale: scale.ratio)


def usual_scales(X: Any) -> list[tuple[str, float, float]]:
    """(name, centre, unit) of the scales a network of pixels X may have been trained on; the first is "as given", (0, 1).

    >>> [(name, centre, unit) for name, centre, unit in usual_scales([[0.0, 1.0]])][:2]
    [('as given', 0.0, 1.0), ('[-1, 1]', 0.5, 0.5)]
    """
    X = torch.as_tensor(np.asarray(X), dtype=torch.float64)
    given = [("as given", 0.0, 1.0)]
    for low, high in _ranges_of(X):
        for name, (a, b) in _RANGES.items():
            unit = (high - low) / (b - a)
            given.append((name, low - a * unit, unit))
    given.append(("mean 0, variance 1", float(X.mean()), float(X.std())))
    return [s for i, s in enumerate(given) if s[1:] not in [other[1:] for other in given[:i]]]


def check_scale(face: ModelScore, X: Any, *, seed: int = 0) -> str:
    """An error where another scale is clearly the network's; else what there is to say of it, in words, or nothing.

    Raises
    ------
    DomainError : the network denoises the data on another scale at least 1.3 times better, and has learned them there
    """
    scales = pixel_scales(face, X, seed=seed)
    best, own = scales[0], next(scale for scale in scales if (scale.centre, scale.unit) == (0.0, 1.0))
    if best.ratio > LEARNED or not math.isfinite(best.ratio):
        return (
            f"on no usual scale of pixels does the network denoise much better than pixel by pixel (as given: {own.ratio:.2g} "
            "times that loss): it has not learned these images, or its conventions are others"
        )
    if own.ratio < BETTER * best.ratio:
        return ""
    low, high = float(np.min(X)), float(np.max(X))
    remedy = (
        f"On pixels in {best.name} its denoising loss is {best.ratio:.2g} times that of a denoiser of single pixels, on these "
        f"{own.ratio:.2g} times: add {best.options}; to measure on pixels as given all the same, {own.options}"
    )
    raise DomainError(
        "DATA", f"numbers from {low:.4g} to {high:.4g}", "on the scale the network was trained on", remedy
    )


def _ranges_of(X: torch.Tensor) -> list[tuple[float, float]]:
    """The usual range that the data are in, and their own where they do not fill half of it."""
    low, high = float(X.min()), float(X.max())
    for a, b in ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)):
        if a <= low and high <= b:
            return [(a, b)] if 2 * (high - low) > b - a else [(a, b), (low, high)]
    return [(low, high)]


def level_ratios(face: ModelScore, X: torch.Tensor, seed: int, sigmas: Sequence[float] = _SIGMAS) -> np.ndarray:
    """(T, points) the network's loss over the pixelwise denoiser's, at noise `sigmas` times the data's standard deviation.

    Noise levels that the network does not know are moved to the nearest it does.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(X), generator=generator)[:_POINTS]
    clean, variances, spread = X[rows], X.var(dim=0), float(X.std())
    low, high = getattr(face, "t_range", (0.0, math.inf))
    ratios = []
    for sigma in sigmas:
        t = min(max((sigma * spread) ** 2, low * (1 + 1e-6)), high * (1 - 1e-6))
        noise = torch.randn(clean.shape, generator=generator, dtype=torch.float64)
        x = clean + t**0.5 * noise
        error = t**0.5 * noise + t * face.score(x, t)  # D - clean
        reference = float((t * variances / (t + variances)).mean())
        ratios.append((error.square().mean(dim=1) / reference).numpy())
    return np.array(ratios)


def _ratio(face: ModelScore, X: torch.Tensor, seed: int) -> float:
    """Geometric mean over noise levels of the network's loss over the pixelwise denoiser's."""
    return float(np.exp(np.log(level_ratios(face, X, seed).mean(axis=1)).mean()))
