r"""How near samples are to their nearest training point, against the next one: first and second neighbour and their ratio.

.. math:: d_1=\min_\mu\|x-\xi^\mu\|,\qquad d_2=\min_{\mu\notin G}\|x-\xi^\mu\|,\qquad r=d_1/d_2,

with G the group of near-duplicates of the nearest training point: a training image that is there twice hides no copy of itself.
Distances are root mean squares over coordinates, in data units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from validation.data import nearest_neighbours
from validation.samples.transforms import variants

__all__ = ["Nearness", "leave_one_out", "nearest_two"]

NEIGHBOURS = 5  # looked at: a group of four near-duplicates leaves one that is none
BLOCK = 4096  # samples whose changed versions are made at once


@dataclass(frozen=True, eq=False)
class Nearness:
    """(S,) arrays: `nearest`, `second` rows of the training set, `distance` and `second_distance`, `change` (the name of the
    change of the sample that came nearest, or "")."""

    nearest: np.ndarray
    second: np.ndarray
    distance: np.ndarray
    second_distance: np.ndarray
    change: np.ndarray

    @property
    def ratio(self) -> np.ndarray:
        """d_1/d_2; 0 for an exact copy, 1 where both are 0."""
        out = np.where(self.second_distance > 0, 0.0, 1.0)
        return np.divide(self.distance, self.second_distance, out=out, where=self.second_distance > 0)

    def take(self, rows: np.ndarray) -> Nearness:
        """Of some of the samples."""
        return Nearness(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def nearest_two(
    samples: np.ndarray,
    train: np.ndarray,
    group: np.ndarray,
    *,
    shape: tuple[int, int, int] | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Nearness:
    """Nearness of samples (S, N) to the rows of `train` (P, N), with `group` (P,) of near-duplicates (-1: none).

    shape : of the images, for the least distance over small changes of the samples; None for the samples as they are
    """
    parts = []
    for start in range(0, len(samples), BLOCK):
        block = samples[start : start + BLOCK]
        versions = [("", block)] if shape is None else variants(block, shape)
        parts.append(_block(versions, train, group, device))
        if progress:
            progress(min(start + BLOCK, len(samples)), len(samples))
    return Nearness(*(np.concatenate([getattr(p, name) for p in parts]) for name in Nearness.__dataclass_fields__))


def leave_one_out(train: np.ndarray, group: np.ndarray, *, device: str = "cpu") -> tuple[Nearness, np.ndarray]:
    """Nearness of training points to the others, and which rows they are: those without near-duplicates.

    A training point is to the others what a fresh point is to all of them.
    """
    k = min(NEIGHBOURS, len(train) - 1)
    found = nearest_neighbours(train, k, device=device)
    rows = np.flatnonzero(group < 0)
    return _first_and_second(found.index, found.squared_distance, group, "").take(rows), rows


def _block(versions, train: np.ndarray, group: np.ndarray, device: str) -> Nearness:
    indices, squares, names = [], [], []
    k = min(NEIGHBOURS, len(train))
    for name, rows in versions:
        found = nearest_neighbours(train, k, queries=rows, device=device)
        indices.append(found.index)
        squares.append(found.squared_distance)
        names += [name] * k
    index, squared = np.concatenate(indices, axis=1), np.concatenate(squares, axis=1)
    order = np.argsort(squared, axis=1, kind="stable")
    name = np.array(names)[order[:, 0]]
    return _first_and_second(
        np.take_along_axis(index, order, axis=1), np.take_along_axis(squared, order, axis=1), group, name
    )


def _first_and_second(index: np.ndarray, squared: np.ndarray, group: np.ndarray, name) -> Nearness:
    """The nearest, and the next that is neither it nor of its group (the last looked at where all are)."""
    first, groups = index[:, :1], group[index]
    same = (index == first) | ((groups == groups[:, :1]) & (groups >= 0))
    place = np.where(same.all(axis=1), index.shape[1] - 1, np.argmin(same, axis=1))
    rows = np.arange(len(index))
    distance = np.sqrt(squared)
    change = np.broadcast_to(np.asarray(name), len(index)).astype("U40")
    return Nearness(first[:, 0], index[rows, place], distance[:, 0], distance[rows, place], change)
