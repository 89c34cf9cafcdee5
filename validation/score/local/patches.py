"""Squares around pixels: padded images, the patch of one place or of all, and where at a border they are cut."""

from __future__ import annotations

import torch

from numerics.domain import DomainError

__all__ = ["all_patches", "border_types", "folded", "pad", "patch_at"]


def pad(images: torch.Tensor, half: int, border: str) -> torch.Tensor:
    """(B, C, H, W) with `half` more pixels on every side: zeros, or the image again (`circular`)."""
    if half == 0:
        return images
    if border == "circular":
        if half > min(images.shape[-2:]):
            raise DomainError("patch", 2 * half + 1, f"at most {2 * min(images.shape[-2:]) + 1} on a periodic image")
        return torch.nn.functional.pad(images, (half,) * 4, mode="circular")
    return torch.nn.functional.pad(images, (half,) * 4)


def patch_at(padded: torch.Tensor, row: int, column: int, width: int) -> torch.Tensor:
    """(B, C width^2): the patch whose centre is the pixel (row, column) of the image before padding."""
    return padded[:, :, row : row + width, column : column + width].reshape(len(padded), -1)


def all_patches(padded: torch.Tensor, width: int, places: torch.Tensor | None = None) -> torch.Tensor:
    """(B, L, C width^2): the patches of all places in reading order, or of the given ones.

    >>> image = torch.arange(9.0).reshape(1, 1, 3, 3)
    >>> all_patches(pad(image, 1, "zero"), 3)[0, 0].tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 3.0, 4.0]
    """
    windows = padded.unfold(2, width, 1).unfold(3, width, 1)  # (B, C, H, W, width, width)
    B, C, H, W = windows.shape[:4]
    windows = windows.permute(0, 2, 3, 1, 4, 5).reshape(B, H * W, C * width * width)
    return windows if places is None else windows[:, places]


def folded(values: torch.Tensor, row: int, column: int, width: int, total: torch.Tensor) -> None:
    """Add (B, C width^2) values of the patch of one place to `total`, (B, C, H + 2 half, W + 2 half)."""
    B, C = total.shape[:2]
    total[:, :, row : row + width, column : column + width] += values.reshape(B, C, width, width)


def border_types(H: int, W: int, half: int) -> list[torch.Tensor]:
    """Places (numbers in reading order) grouped by how much of their patch the borders cut off, interior first."""
    types: dict[tuple[int, ...], list[int]] = {}
    for row in range(H):
        for column in range(W):
            cut = tuple(max(0, c) for c in (half - row, row + half - H + 1, half - column, column + half - W + 1))
            types.setdefault(cut, []).append(row * W + column)
    return [torch.tensor(types[cut]) for cut in sorted(types, key=sum)]
