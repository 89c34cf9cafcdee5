"""Networks of images with the points they were trained on, in pixels: the members of a checkpoint, or one of diffusers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from validation.figures import is_image
from validation.networks import is_foreign
from validation.spectra import ScoreFunction
from validation.spectrum import from_pipeline
from validation.training import members, read

__all__ = ["ImageNetwork", "image_networks"]


class ImageNetwork(NamedTuple):
    """score : at flat points in pixels; X (P, N), fresh (Q, N): training points and points kept back; shape : (C, H, W);
    t_range : noise that the network knows"""

    P: int
    score: ScoreFunction
    X: np.ndarray
    fresh: np.ndarray
    shape: tuple[int, ...]
    t_range: tuple[float, float]


def image_networks(
    path: str | os.PathLike,
    data: str | os.PathLike | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    network: Mapping[str, Any] | None = None,
    **options: Any,
) -> Iterator[ImageNetwork]:
    """Each network of images in a checkpoint of `geomem train`, or the one of diffusers on `data`; none for other networks.

    network, options : of `validation.spectrum.from_pipeline`

    Raises
    ------
    DomainError : not a checkpoint or folder of diffusers, or data that are not there or do not fit
    """
    if is_foreign(path):
        subject = from_pipeline(path, data, device=device, seed=seed, **(network or {}), **options)
        seen: Any = subject.networks["network"]
        X, fresh = (seen.points(points.to(seen.mean)).cpu().numpy() for points in (subject.X, subject.fresh))
        yield ImageNetwork(subject.P, seen.inner, X, fresh, seen.inner.shape, subject.t_range)
        return
    record = read(path)[1]
    noise, shape = record["training"]["noise"], tuple(record["shape"])
    if not is_image(shape):
        return
    for member in members(path, device=device):
        X, fresh = (points.cpu().numpy() for points in (member.X, member.fresh))
        t_range = (noise["sigma_min"] ** 2, noise["sigma_max"] ** 2)
        yield ImageNetwork(member.P, member.score, X, fresh, shape, t_range)
