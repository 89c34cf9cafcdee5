"""Rows of small images, each under its caption: samples above the training images they are nearest to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from validation.figures.house_style import style

__all__ = ["drawn_image", "image_pairs", "is_image"]

PER_LINE = 10
Row = tuple[str, np.ndarray, Sequence[str]]


def is_image(shape: Sequence[int]) -> bool:
    """Whether samples of this shape, channels first, can be drawn: grey or in colour.

    >>> is_image((3, 32, 32)), is_image((28, 28)), is_image((64,))
    (True, True, False)
    """
    return (len(shape) == 2 or (len(shape) == 3 and shape[0] in (1, 3, 4))) and min(shape[-2:]) >= 2


def image_pairs(
    groups: Sequence[Sequence[Row]],
    shape: Sequence[int],
    title: str,
    *,
    limits: tuple[float, float] | None = None,
    per_line: int = PER_LINE,
) -> Figure | None:
    """A figure of images in lines of `per_line`, group after group; inside one, rows (name, images (n, N), captions) go together,
    one under the other. An image of NaN is left blank. None for data that are no images.

    limits : values drawn black and white; default the least and the largest of all images shown
    """
    if not is_image(shape):
        return None
    every = [images for rows in groups for _, images, _ in rows]
    if limits is None:
        limits = min(float(np.nanmin(images)) for images in every), max(float(np.nanmax(images)) for images in every)
    low, high = limits
    across = min(per_line, max(map(len, every)))
    lines = []
    for rows in groups:
        for start in range(0, len(rows[0][1]), per_line):
            part = slice(start, start + per_line)
            lines += [(name, images[part], list(captions)[part]) for name, images, captions in rows]
    with style():
        figure = Figure(figsize=(1.05 * across + 0.6, 1.32 * len(lines) + 0.6))
        axes = figure.subplots(len(lines), across, squeeze=False)
        for axis in axes.flat:
            axis.set_axis_off()
        for line, (name, images, captions) in zip(axes, lines, strict=True):
            line[0].text(
                -0.08, 0.5, name, transform=line[0].transAxes, rotation=90, va="center", ha="right", fontsize=7
            )
            for axis, image, caption in zip(line, images, captions, strict=False):
                if not np.isnan(image).all():
                    axis.imshow(
                        drawn_image(image, shape, low, high), cmap="gray", vmin=0, vmax=1, interpolation="nearest"
                    )
                axis.set_title(caption, fontsize=6, fontweight="normal", loc="center", pad=2)
        figure.suptitle(title, fontsize=9)
    return figure


def drawn_image(image: np.ndarray, shape: Sequence[int], low: float, high: float) -> np.ndarray:
    """Values in [0, 1], channels last where there are several."""
    values = np.clip((np.asarray(image, dtype=np.float64).reshape(shape) - low) / ((high - low) or 1.0), 0, 1)
    if values.ndim == 3:
        values = values[0] if values.shape[0] == 1 else np.moveaxis(values[:3], 0, -1)
    return values
