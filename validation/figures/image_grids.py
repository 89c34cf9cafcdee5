"""Rows of small images, each under its caption: samples above the training images they are nearest to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.figure import Figure

from validation.figures.house_style import style

__all__ = ["image_pairs", "is_image"]

PER_LINE = 10


def is_image(shape: Sequence[int]) -> bool:
    """Whether samples of this shape, channels first, can be drawn: grey or in colour.

    >>> is_image((3, 32, 32)), is_image((28, 28)), is_image((64,))
    (True, True, False)
    """
    return (len(shape) == 2 or (len(shape) == 3 and shape[0] in (1, 3, 4))) and min(shape[-2:]) >= 2


def image_pairs(
    rows: Sequence[tuple[str, np.ndarray, Iterable[str]]], shape: Sequence[int], title: str
) -> Figure | None:
    """A figure of images in lines of ten: (name, images (n, N), captions), one row under the other; None for other data.

    Grey values run from the least to the largest of all images shown.
    """
    if not is_image(shape):
        return None
    count = len(rows[0][1])
    lines, across = -(-count // PER_LINE), min(count, PER_LINE)
    low = min(float(np.min(images)) for _, images, _ in rows)
    high = max(float(np.max(images)) for _, images, _ in rows)
    with style():
        figure = Figure(figsize=(1.05 * across + 0.6, (1.32 * len(rows)) * lines + 0.6))
        axes = figure.subplots(lines * len(rows), across, squeeze=False)
        for axis in axes.flat:
            axis.set_axis_off()
        for k, (name, images, captions) in enumerate(rows):
            for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
                axis = axes[(i // PER_LINE) * len(rows) + k, i % PER_LINE]
                axis.imshow(_drawn(image, shape, low, high), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                axis.set_title(caption, fontsize=6, fontweight="normal", loc="center", pad=2)
                if i % PER_LINE == 0:
                    axis.text(
                        -0.08, 0.5, name, transform=axis.transAxes, rotation=90, va="center", ha="right", fontsize=7
                    )
        figure.suptitle(title, fontsize=9)
    return figure


def _drawn(image: np.ndarray, shape: Sequence[int], low: float, high: float) -> np.ndarray:
    """Values in [0, 1], channels last where there are several."""
    values = np.clip((np.asarray(image, dtype=np.float64).reshape(shape) - low) / ((high - low) or 1.0), 0, 1)
    if values.ndim == 3:
        values = values[0] if values.shape[0] == 1 else np.moveaxis(values[:3], 0, -1)
    return values
