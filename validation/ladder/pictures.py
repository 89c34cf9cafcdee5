"""The ladder as a picture: noisy images above, under them what each score makes of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from numerics.store import save_dataset
from validation import figures
from validation.ladder.rungs import Ladder

__all__ = ["ladder_figure", "write_ladder"]

ROWS = {"ideal": "ideal score", "gaussian": "Gaussian score", "network": "network"}
_TYPESET = {"t_o": r"$t_o$", "t_c": r"$t_c$", "t_cond": r"$t_\mathrm{cond}$", "t_g": r"$t_g$"}


def ladder_figure(ladder: Ladder, *, title: str | None = None) -> Figure | None:
    """Noise falls from left to right. None where points are no images.

    Noisy images are drawn with their contrast divided by :math:`\\sqrt{1+t/r}` (r the image's own variance), so that grey stays
    grey; everything else has the training image's own grey values.
    """
    low, high = float(ladder.clean.min()), float(ladder.clean.max())
    middle, variance = float(ladder.clean.mean()), float(ladder.clean.var()) or 1.0
    shown = middle + (ladder.noisy - middle) / np.sqrt(1 + ladder.t[:, None] / variance)
    blank = np.full((1, ladder.clean.size), np.nan)
    names = [", ".join(_TYPESET[part] for part in name.split(", ")) if name else "" for name in ladder.names]
    captions = [f"{name}\n" + rf"$\sigma$={math.sqrt(t):.2g}" for name, t in zip(names, ladder.t, strict=True)]
    rows = [("with noise", np.concatenate([ladder.clean[None], shown]), [f"image\n{ladder.row}", *captions])]
    for name, label in ROWS.items():
        if name not in ladder.denoised:
            continue
        values = ladder.denoised[name]
        unknown = [f"$w$={w:.2f}" if name == "ideal" else "" for w in ladder.weight]
        known = [
            text if np.isfinite(image).all() else "not trained" for text, image in zip(unknown, values, strict=True)
        ]
        rows.append((label, np.concatenate([blank, values]), ["", *known]))
    if title is None:
        title = "the ideal denoiser snaps to the training image where its own weight $w$ passes 1/2, at $t_c$"
    return figures.image_pairs([rows], ladder.shape, title, limits=(low, high), per_line=len(ladder.t) + 1)


def write_ladder(ladder: Ladder, folder: Path, *, name: str = "ladder") -> list[Path]:
    """`ladder.png` and its numbers, `ladder.nc`, into `folder`; nothing where points are no images."""
    figure = ladder_figure(ladder)
    if figure is None:
        return []
    written = [folder / f"{name}.png", folder / f"{name}.nc"]
    figures.save(figure, written[0])
    save_dataset(ladder.to_dataset(), written[1])
    return written
