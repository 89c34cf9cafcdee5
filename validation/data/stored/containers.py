"""Containers of samples (Hugging Face data sets, parquet, WebDataset tars, zarr), read sample by sample into one array.

A reader gives a `Part` a split: how many samples there are, and an iterator over those that are asked for. So memory is that
of the result and of one batch, whatever the container holds, and nothing is unpacked to disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from numerics.domain import DomainError
from validation.data.stored.array_files import numeric
from validation.data.stored.image_folders import split_of
from validation.data.stored.images import Encoded, read_encoded
from validation.data.stored.raw import DataError, Raw, room

__all__ = ["Part", "container", "inside", "needs", "parts_by_split"]

Pick = Callable[[int], np.ndarray | None]


@dataclass(frozen=True, eq=False)
class Part:
    """One split of a container.

    source : for errors; total : samples
    encoded : whether they are image files, else arrays of numbers
    rows : the samples of these increasing row numbers, one after another; may be called again
    labels : integers of these rows, or None where the container has none; names : of these rows, or None
    """

    source: str
    total: int
    encoded: bool
    rows: Callable[[np.ndarray], Iterator[Encoded | np.ndarray]]
    labels: Callable[[np.ndarray], np.ndarray | None] | None = None
    names: Callable[[np.ndarray], Sequence[str]] | None = None
    notes: tuple[str, ...] = ()


def container(
    path: Path, key: str | None, image_size: int | None, pick: Pick, *, loose: bool = False
) -> tuple[Raw, int] | None:
    """The samples of a container and how many there were before `pick` drew from them; None where `path` is none.

    loose : ask whether it is a folder of parquet files or of tars; else whether it says itself what it is

    Raises
    ------
    DataError : a container that cannot be read, without samples, with several candidates for them, or whose samples have
        several sizes
    DomainError : `key` or `image_size` where the container has no use for it
    """
    found = _opened(path, key, loose)
    if found is None:
        return None
    train, held = found
    if image_size is not None and not train.encoded:
        raise DomainError("image_size", image_size, f"None for {path}", "Only image files are resized")
    chosen = pick(train.total)
    rows = np.arange(train.total) if chosen is None else chosen
    if len(rows) < 2:
        raise DataError(train.source, f"it holds {len(rows)} sample", "at least two samples")
    notes = list(train.notes)
    kept = np.arange(0)
    if held is not None and held.encoded == train.encoded and held.total:
        drawn = pick(held.total)
        kept = np.arange(held.total) if drawn is None else drawn
        notes.append(f"held-out samples are {Path(held.source).name}")
        if len(kept) < held.total:
            notes.append(f"{len(kept)} of {held.total} held-out samples were drawn, as many as limit allows")

    def samples() -> Iterator[Encoded | np.ndarray]:
        return chain(train.rows(rows), held.rows(kept) if len(kept) else ())

    count = len(rows) + len(kept)
    if train.encoded:
        array, seen = read_encoded(path, samples, count, image_size)
        notes += seen
        levels = (0, 255)
    else:
        array = _stacked(train.source, samples(), count)
        levels = (0, 255) if array.dtype == np.uint8 else None
    labels = None if train.labels is None else train.labels(rows)
    names = () if train.names is None else tuple(train.names(rows))
    name = path.stem if path.is_file() or path.suffix == ".zarr" else path.name or path.resolve().name
    apart = array[len(rows) :] if len(kept) else None
    return Raw(array[: len(rows)], name, train.source, labels, apart, levels, tuple(notes), names), train.total


def _opened(path: Path, key: str | None, loose: bool) -> tuple[Part, Part | None] | None:
    """The training and the held-out part, by the reader that knows this path."""
    from validation.data.stored import arrow_tables, tar_shards, zarr_arrays

    folders = (arrow_tables.open_folder, tar_shards.open_folder)
    told = (arrow_tables.open_parts, tar_shards.open_parts, zarr_arrays.open_parts)
    return next((found for reader in (folders if loose else told) if (found := reader(path, key)) is not None), None)


def _stacked(source: str, samples: Iterator[Encoded | np.ndarray], count: int) -> np.ndarray:
    """Arrays of one shape in one array of theirs."""
    array, first = None, ""
    for i, sample in enumerate(samples):
        if not isinstance(sample, np.ndarray):
            raise DataError(source, "its samples are arrays and image files", "samples of one kind")
        if array is None:
            numeric(source, (count, *sample.shape), sample.dtype)
            room(source, (count, *sample.shape), sample.dtype.itemsize)
            array, first = np.empty((count, *sample.shape), sample.dtype), f"{sample.shape} {sample.dtype}"
        if sample.shape != array.shape[1:] or sample.dtype != array.dtype:
            found = f"its samples are ragged: the first is {first}, sample {i} is {sample.shape} {sample.dtype}"
            raise DataError(source, found, "samples of one shape and type")
        array[i] = sample
    if array is None:
        raise DataError(source, "it holds no samples", "at least two samples")
    return array


def parts_by_split(
    source: Path, splits: dict[str, Any], opened: Callable[[Path, Any], Part]
) -> tuple[Part, Part | None]:
    """Which split is the data (train, or the only one) and which is held out (test, else validation).

    splits : what is to be opened, by the name that the container gives it; opened : of what it is called in errors, and of that
    """
    if len(splits) == 1:
        return opened(source, next(iter(splits.values()))), None
    kinds = {split_of(name): name for name in splits}
    if "train" not in kinds:
        found = f"it holds {', '.join(sorted(splits))} and no training samples"
        raise DataError(source, found, "train beside them", "Give one of them")
    held = kinds.get("test", kinds.get("val"))
    train, *rest = (opened(source / name, splits[name]) for name in (kinds["train"], held) if name is not None)
    return train, rest[0] if rest else None


def needs(package: str, path: Path, what: str) -> None:
    """`DataError` where the package that reads `path` is not installed."""
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise DataError(path, f"it is {what}, and {package} is not installed", f"{package}, which reads it",
                        "`pip install pyarrow zarr`")  # fmt: skip


def inside(folder: Path, name: object) -> Path:
    """The file of that name directly in `folder`, whatever folders a hostile name may hold."""
    return folder / os.path.basename(str(name).replace("\\", "/"))
