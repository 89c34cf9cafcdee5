"""Class labels from a file of their own: one integer or word a sample, in the samples' order."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from numerics.domain import DomainError
from validation.data.stored.array_files import LABEL_NAMES, _idx_array
from validation.data.stored.raw import DataError, reading, regular

__all__ = ["read_labels"]

SUPPORTED = "a .npy or .npz, an IDX file (.gz or not), or text with one label a line"


def read_labels(path: str | os.PathLike, count: int, *, limit: int | None = None, seed: int = 0) -> np.ndarray:
    """(count,) integer labels of a data set that `load` has read; words are numbered in sorted order.

    limit, seed : as `load` was given: of labels for all stored samples, those of the drawn ones are taken

    Raises
    ------
    DataError : unreadable file, or labels that are not one a sample
    """
    path = Path(path)
    regular(path)
    name = path.name.lower()
    if name.endswith(".npy"):
        with reading(path, "labels written by numpy.save"):
            labels = np.load(path, allow_pickle=False)
    elif name.endswith(".npz"):
        labels = _in_archive(path)
    elif name.endswith(".gz") or "idx" in name or "ubyte" in name:
        labels = np.array(_idx_array(path))
    else:
        with reading(path, "text with one label a line"):
            labels = np.array([line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()])
    labels = labels.reshape(-1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1 or labels.dtype.kind not in "buiU":
        raise DataError(
            path, f"labels of shape {labels.shape} and dtype {labels.dtype}", f"one a sample, from {SUPPORTED}"
        )
    if limit is not None and len(labels) > count == limit:  # the same draw as that of `load`
        labels = labels[np.sort(np.random.default_rng(seed).choice(len(labels), limit, replace=False))]
    if len(labels) != count:
        raise DomainError("--labels", f"{len(labels)} labels", f"{count} labels, one a sample")
    return _numbers(labels)


def _in_archive(path: Path) -> np.ndarray:
    with reading(path, "an .npz archive written by numpy.savez"), np.load(path, allow_pickle=False) as archive:
        names = {name.lower(): name for name in archive.files}
        known = [names[name] for name in LABEL_NAMES if name in names]
        if not known and len(archive.files) != 1:
            found = f"none of its arrays ({', '.join(archive.files)}) is named like labels"
            raise DataError(path, found, f"one array, or one named {', '.join(LABEL_NAMES)}")
        return archive[known[0] if known else archive.files[0]]


def _numbers(labels: Any) -> np.ndarray:
    if labels.dtype.kind == "U":
        try:
            labels = labels.astype(np.int64)
        except ValueError:
            labels = np.unique(labels, return_inverse=True)[1]
    return labels.astype(np.int64)
