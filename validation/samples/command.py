"""`geomem samples`: files of generated samples, of the training set and of held-out points, in the same units, compared."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from numerics.domain import DomainError
from validation.data import Dataset, load
from validation.samples.detection import SampleAudit, audit_samples
from validation.samples.transforms import image_shape
from validation.spectrum import latent_dataset

__all__ = ["Samples", "samples", "samples_of"]

FEATURES = ("generated", "train", "test")
ELSEWHERE = 10.0  # of the training set's standard deviation: samples whose mean is so far off are on another scale


@dataclass(frozen=True, eq=False)
class Samples:
    """What `samples` read and found; `features` is the file of features that distances were taken in, or None."""

    generated: Dataset
    train: Dataset
    found: SampleAudit
    transforms: bool
    features: str | None
    seed: int


def samples(
    generated: str | os.PathLike,
    train: str | os.PathLike,
    test: str | os.PathLike | None = None,
    *,
    transforms: bool = False,
    features: str | os.PathLike | None = None,
    latents: str | os.PathLike | None = None,
    key: str | None = None,
    train_key: str | None = None,
    image_size: int | None = None,
    limit: int | None = None,
    threshold: float = 1 / 3,
    rate: float = 0.05,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Samples:
    """Is this model copying? Its samples against its training set, with held-out points as the null.

    Parameters
    ----------
    generated, train, test : files or folders as `validation.data.load` reads them. Without `test`, held-out samples that the
        training set's own files keep apart are the null, and without those the training points, each against all others
    transforms : look for copies under small shifts, mirroring and resizing too (images; needs held-out points)
    features : an .npz with arrays "generated", "train" and (with held-out points) "test": rows of features in the order of the
        samples; distances are then taken there
    latents : folder of a latent pipeline, or of its autoencoder: all samples are compared as its latents
    key, train_key : arrays inside an .npz of `generated`, of `train`; image_size : for folders of images
    limit : take at most this many generated samples, drawn with `seed`
    threshold, rate, device, progress : see `audit_samples`

    Returns
    -------
    Samples, for `samples_lines` and `write_samples`.

    Raises
    ------
    DomainError : unreadable or unlike files, options outside their domain
    """
    size = {} if image_size is None else {"image_size": image_size}
    made = load(generated, limit=limit, seed=seed, key=key, **size)
    known = load(train, key=train_key, **size)
    held_out = known.held_out
    if test is not None:
        held_out = load(test, **size).X
    options = {"threshold": threshold, "rate": rate, "seed": seed, "device": device, "progress": progress}
    return _compared(made, known, held_out, transforms=transforms, features=features, latents=latents, **options)


def samples_of(generated: str | os.PathLike | Dataset, train: Dataset, **options: Any) -> Samples:
    """`samples` against a training set that is loaded; what it keeps apart is the null.

    generated : a file or folder, or what was loaded from it
    options : transforms, features, latents, threshold, rate, seed, device, progress of `samples`
    """
    made = generated if isinstance(generated, Dataset) else load(generated, seed=options.get("seed", 0))
    return _compared(made, train, train.held_out, **options)


def _compared(
    made: Dataset,
    known: Dataset,
    held_out: np.ndarray | None,
    *,
    transforms: bool = False,
    features: str | os.PathLike | None = None,
    latents: str | os.PathLike | None = None,
    seed: int = 0,
    device: str = "cpu",
    **options: Any,
) -> Samples:
    if made.N != known.N:
        raise DomainError("GENERATED", f"samples of shape {made.shape}", f"{known.shape}, as the training set's")
    made, note = _same_units(made, known)
    if latents is not None:
        if transforms or features is not None:
            raise DomainError("--latents", str(latents), "left out with --transforms and --features")
        known = replace(known, held_out=held_out)
        made, known = (latent_dataset(each, latents, device=device) for each in (made, known))
        held_out = known.held_out
    shape = None
    if transforms:
        if features is not None:
            raise DomainError("--transforms", True, "left out with --features", "Features are of images as they are")
        shape = image_shape(known.shape)
        if held_out is None:
            raise DomainError(
                "--transforms", True, "given with --test", "A training image's own mirror image is no null"
            )
    spaces = (made.X, known.X, held_out)
    if features is not None:
        spaces = _features(features, spaces)
    found = audit_samples(*spaces, shape=shape, seed=seed, device=device, **options)
    found = replace(found, dropped=(*made.dropped, *([note] if note else []), *found.dropped))
    return Samples(made, known, found, transforms, None if features is None else os.fspath(features), seed)


def _same_units(made: Dataset, known: Dataset) -> tuple[Dataset, str]:
    """The generated samples, or an error where they cannot be in the units of the training set."""
    centre, spread = float(np.mean(known.X[:1000])), float(np.std(known.X[:1000]))
    mean, width = float(np.mean(made.X[:1000])), float(np.std(made.X[:1000]))
    ranges = " and ".join(f"[{x.X[:1000].min():.3g}, {x.X[:1000].max():.3g}]" for x in (made, known))
    if abs(mean - centre) > ELSEWHERE * spread or not 1 / ELSEWHERE < width / max(spread, 1e-300) < ELSEWHERE:
        allowed = "in the training set's units"
        remedy = f"({made.scale}; training set: {known.scale})"
        raise DomainError("GENERATED", f"values in {ranges.split(' and ')[0]}", allowed, remedy)
    low, high = float(made.X[:1000].min()), float(known.X[:1000].min())
    if low >= 0 > high and made.X[:1000].max() <= 1 and known.scale.endswith("to [-1, 1]"):
        return made, (
            f"generated and training values lie in {ranges}: floats in [0, 1] are taken as they are; if they are pixels, "
            "save them as 8-bit images or map them to [-1, 1]"
        )
    return made, ""


def _features(path: Any, spaces: tuple) -> tuple:
    """(generated, train, held-out) rows of features for these samples."""
    try:
        with np.load(Path(path), allow_pickle=False) as archive:
            arrays = [archive.get(name) for name in FEATURES]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DomainError("--features", str(path), f"an .npz with arrays {', '.join(FEATURES)}") from error
    for name, array, space in zip(FEATURES, arrays, spaces, strict=True):
        if (array is None) != (space is None) and not (name == "test" and space is None):
            raise DomainError(
                "--features", str(path), f"an .npz with arrays {', '.join(FEATURES)}", f"{name!r} is not there"
            )
        if array is not None and space is not None and (array.ndim != 2 or len(array) != len(space)):
            found = f"{name} of shape {array.shape}"
            raise DomainError(
                "--features", found, f"({len(space)}, n), a row a sample", "Rows go in the samples' order"
            )
    return tuple(None if s is None else a for a, s in zip(arrays, spaces, strict=True))
