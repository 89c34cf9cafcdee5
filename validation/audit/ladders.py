"""The ladder of noise of an audit: of a data set at its measured times, and of a network on the data it was trained on."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from validation.audit.command import Audit
from validation.audit.measurement import measure
from validation.audit.pixel_networks import image_networks
from validation.data import Dataset
from validation.figures import is_image
from validation.ladder import SYMBOLS, Ladder, noise_ladder
from validation.spectra import ScoreFunction

__all__ = ["audit_ladder", "model_ladders"]

PROBES = 128  # behind the times of a network's training set


def audit_ladder(result: Audit, **options: Any) -> Ladder | None:
    """The ladder of an audited data set at its measured times, or None where samples are no images or nothing collapses.

    options : network, t_range, gaussian, row, device of `validation.ladder.noise_ladder`
    """
    data: Dataset = result.data
    times = result.measured_times
    if not is_image(data.shape) or "collapse" not in times:
        return None
    return noise_ladder(data.X, times, shape=data.shape, seed=result.seed, **options)


def model_ladders(
    path: str | os.PathLike,
    data: str | os.PathLike | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    network: Mapping[str, Any] | None = None,
    **options: Any,
) -> Iterator[tuple[int, Ladder]]:
    """(P, ladder) of each network of images in a checkpoint, or of a diffusers network on `data`; none for other networks.

    network, options : of `validation.spectrum.from_pipeline`

    Raises
    ------
    DomainError : not a checkpoint or folder of diffusers, or data that are not there or do not fit
    """
    for one in image_networks(path, data, seed=seed, device=device, network=network, **options):
        ladder = _ladder(one.X, one.fresh, one.shape, one.score, one.t_range, seed, device)
        if ladder is not None:
            yield one.P, ladder


def _ladder(
    X: np.ndarray,
    fresh: np.ndarray,
    shape: tuple[int, ...],
    network: ScoreFunction,
    t_range: tuple[float, float],
    seed: int,
    device: str,
) -> Ladder | None:
    measured = measure(X, fresh, probes=min(PROBES, len(X)), seed=seed, device=device)
    times = {kind: getattr(measured, kind).value for kind in SYMBOLS}
    times = {kind: t for kind, t in times.items() if math.isfinite(t) and t > 0}
    if "collapse" not in times:
        return None
    return noise_ladder(X, times, shape=shape, network=network, t_range=t_range, seed=seed, device=device)
