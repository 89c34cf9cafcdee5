r"""LS and ELS means by box sums: every pair of patches of every query and training image, without a patch written out.

Means of :math:`\xi-x` at the centre and participation ratios, with weights :math:`\exp(-|x_p-\xi_p|^2/2t)`, the kernel being
`validation.score.kernels.box_pass`. Training images are laid side by side in lanes, a group of some megabytes at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from validation.score.engine import in_threads, thread_count
from validation.score.kernels import box_pass
from validation.score.local.patches import pad

__all__ = ["BoxSums", "displacements"]

LANES = 64  # images side by side: rows long enough for vector loops, a chunk still in the second cache
GROUP = 1 << 24  # bytes of training images laid out at a time
ERROR = 1e-4  # of a log weight in float32; beyond it a query is computed in float64


class BoxSums:
    """All pairs of patches between queries and a set of images.

    Parameters
    ----------
    images : (P, C, H, W) on the CPU; width : odd; equivariant : every place against every other, or against itself only
    border : of `LocalScore`; dtype : "float32" or "float64"
    """

    def __init__(self, images: torch.Tensor, width: int, equivariant: bool, border: str, dtype: object):
        self.images, self.width, self.border = images, width, border
        self.double = str(dtype).endswith("float64")
        H, W = images.shape[-2:]
        self.table = displacements(H, W, width // 2, border) if equivariant else np.array([[0, 0, 0, H, 0, W]])

    def __call__(self, x: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """For x (B, C, H, W), t (B,): posterior means of xi - x at each pixel, (B, C, H, W), and participations (B, H, W)."""
        if self.double:
            means, participation, _ = self._pass(x, t, np.float64)
            return means, participation
        means, participation, energy = self._pass(x, t, np.float32)
        largest = x.abs().amax(dim=(1, 2, 3))
        error = 2e-7 * energy + 4e-8 * largest * (2 * energy / t).sqrt()
        again = (error > ERROR).nonzero()[:, 0]
        if len(again):
            means[again], participation[again], _ = self._pass(x[again], t[again], np.float64)
        return means, participation

    def _pass(self, x: torch.Tensor, t: torch.Tensor, kind: type) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Means, participation, and (B,) the largest over places of the least |x_p - xi_p|^2/2t."""
        (B, C, H, W), half = x.shape, self.width // 2
        queries = pad(x, half, self.border).numpy().reshape(B, -1).astype(kind)
        scale = [kind(math.log2(math.e) / (2 * float(level))) for level in t]
        threads = thread_count(x.device)
        parts = 1 if threads <= B else threads
        base = np.full((B, parts, H * W), np.inf, kind)
        totals = np.zeros((B, parts, C + 2, H * W))
        options = (self.table, (C, H, W), half)
        items = [(b, s) for b in range(B) for s in range(parts)]
        for n, (training, count, lanes) in enumerate(self._groups(parts, kind)):

            def visit(
                item: tuple[int, int], n: int = n, training: list = training, count: list = count, lanes: int = lanes
            ) -> None:
                b, s = item
                if not count[s]:
                    return
                call = (*options, scale[b], base[b, s], totals[b, s], lanes)
                if n == 0:  # the reference: the nearest patches among the first images
                    box_pass(queries[b], training[s], min(count[s], lanes), *call, True)
                box_pass(queries[b], training[s], count[s], *call, False)

            in_threads(visit, items, x.device)
        least = base.min(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):  # a part without images has base inf and no sums
            factor = np.where(np.isfinite(base), np.exp2((least - base).astype(float)), 0.0)
        weight = (totals[:, :, 0] * factor).sum(axis=1)
        squares = (totals[:, :, 1] * factor**2).sum(axis=1)
        means = (totals[:, :, 2:] * factor[:, :, None]).sum(axis=1) / weight[:, None]
        energy = torch.from_numpy(least[:, 0].max(axis=1).astype(float) * math.log(2))
        participation = torch.from_numpy((weight**2 / squares).reshape(B, H, W))
        return torch.from_numpy(means.reshape(B, C, H, W)), participation, energy

    def _groups(self, parts: int, kind: type) -> Iterator[tuple[list[np.ndarray], list[int], int]]:
        """Padded training images, flat (chunk, C, H', W', lane), in groups of `parts` arrays each with its number of images."""
        P, half = len(self.images), self.width // 2
        lanes = min(LANES, 16 * -(-P // (16 * parts)))
        bytes_each = pad(self.images[:1], half, self.border).numel() * np.dtype(kind).itemsize
        size = lanes * max(1, GROUP // (bytes_each * lanes))
        size = min(size, lanes * -(-P // (lanes * parts)))
        for start in range(0, P, size * parts):
            arrays, counts = [], []
            for s in range(parts):
                own = self.images[start + s * size : min(P, start + (s + 1) * size)]
                arrays.append(_lanes(pad(own, half, self.border), lanes, kind))
                counts.append(len(own))
            yield arrays, counts, lanes


def _lanes(images: torch.Tensor, lanes: int, kind: type) -> np.ndarray:
    """(n, C, H, W) as flat (chunks, C, H, W, lanes); the last chunk is filled up with its first image."""
    n = len(images)
    if n == 0:
        return np.zeros(0, kind)
    values = images.numpy().astype(kind, copy=False)
    missing = -n % lanes
    if missing:
        values = np.concatenate([values, np.repeat(values[n - n % lanes :][:1], missing, axis=0)])
    return np.ascontiguousarray(values.reshape(-1, lanes, *values.shape[1:]).transpose(0, 2, 3, 4, 1)).reshape(-1)


def displacements(H: int, W: int, half: int, border: str) -> np.ndarray:
    """(D, 6) integers: rows and columns from a place to its partner, and the places (y0, y1, x0, x1) that have one there.

    >>> displacements(1, 2, 0, "zero").tolist()
    [[0, -1, 0, 1, 1, 2], [0, 0, 0, 1, 0, 2], [0, 1, 0, 1, 0, 1]]
    """

    def along(n: int) -> list[tuple[int, int, int]]:
        inner = (min(half, n), max(0, n - half)) if border == "apart" else (0, n)  # border places meet only themselves
        moves = []
        for d in range(1 - n, n):
            low, high = (0, n) if d == 0 else (max(inner[0], inner[0] - d), min(inner[1], inner[1] - d))
            if low < high:
                moves.append((d, low, high))
        return moves

    return np.array([(dy, dx, y0, y1, x0, x1) for dy, y0, y1 in along(H) for dx, x0, x1 in along(W)], dtype=np.int64)
