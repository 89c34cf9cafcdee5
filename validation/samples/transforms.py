"""Small changes under which a copy is still a copy: flips, shifts by a few pixels, and resizing, of images.

The changed images are the *generated* ones, so that the training set is read as it is. Pixels that come into view repeat
the border. Held-out images go through the same changes, so that what is gained by looking several times is in the null too.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from numerics.domain import DomainError

__all__ = ["image_shape", "variants"]

SHIFTS = (-2, -1, 0, 1, 2)
ZOOMS = (0.9, 1.1)


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(channels, height, width) of one sample, or `DomainError` where it is no image."""
    if len(shape) == 2:
        shape = (1, *shape)
    if len(shape) != 3 or min(shape[1:]) < 4:
        raise DomainError("--transforms", f"for samples of shape {shape}", "asked of images of at least 4 x 4 pixels")
    return tuple(int(n) for n in shape)


def variants(X: np.ndarray, shape: tuple[int, int, int]) -> Iterator[tuple[str, np.ndarray]]:
    """(name, changed rows) of images X (S, N): each shift of up to two pixels, each with its mirror image, and zooms.

    >>> rows = np.arange(16.0)[None]
    >>> dict(variants(rows, (1, 4, 4)))["shift 1 right, mirrored"].reshape(4, 4)[0].tolist()
    [2.0, 1.0, 0.0, 0.0]
    """
    images = torch.from_numpy(np.array(X)).reshape(len(X), *shape)
    most = max(SHIFTS)
    room = torch.nn.functional.pad(images, (most,) * 4, mode="replicate")
    height, width = shape[1:]

    def out(changed: torch.Tensor) -> np.ndarray:
        return changed.reshape(len(X), -1).numpy()

    for down in SHIFTS:
        for right in SHIFTS:
            name = _name(down, right)
            moved = room[:, :, most - down : most - down + height, most - right : most - right + width]
            yield name, out(moved)
            yield f"{name}, mirrored", out(moved.flip(-1))
    for zoom in ZOOMS:
        changed = torch.nn.functional.interpolate(
            images, scale_factor=zoom, mode="bilinear", antialias=True, recompute_scale_factor=False
        )
        fitted = _fitted(changed, height, width)
        yield f"resized by {zoom:g}", out(fitted)
        yield f"resized by {zoom:g}, mirrored", out(fitted.flip(-1))


def _name(down: int, right: int) -> str:
    parts = [
        f"{abs(n)} {one if n > 0 else other}" for n, one, other in ((down, "down", "up"), (right, "right", "left")) if n
    ]
    return "shift " + " and ".join(parts) if parts else "as it is"


def _fitted(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The central part of images that have grown, or images that have shrunk with their border repeated."""
    down, right = images.shape[2] - height, images.shape[3] - width
    if down >= 0:
        top, left = down // 2, right // 2
        return images[:, :, top : top + height, left : left + width]
    sides = (-right // 2, -right - (-right // 2), -down // 2, -down - (-down // 2))
    return torch.nn.functional.pad(images, sides, mode="replicate")
