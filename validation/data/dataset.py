"""Data sets as the house uses them: `load` reads any supported format into checked rows X (P, N) in stated units."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np

from numerics.domain import LARGEST_SEED, DomainError, integer, printable
from validation.data.cifar import cifar_files, read_cifar
from validation.data.stored.array_files import IDX_TYPES, is_idx_images, read_idx, read_npy, read_npz
from validation.data.stored.containers import container
from validation.data.stored.image_folders import IMAGE_SUFFIXES, is_clutter, is_folder, survey
from validation.data.stored.images import read_images
from validation.data.stored.raw import DataError, Raw, regular, room

__all__ = ["DataError", "Dataset", "load"]

SUPPORTED = (
    "a .npy or .npz file, IDX images (.gz or not), a CIFAR batch or folder (python or .bin), a folder of images, parquet, a data "
    "set saved by datasets, WebDataset tars, or zarr"
)
TILE_BYTES = 1 << 24


@dataclass(frozen=True, eq=False)
class Dataset:
    """P samples of N numbers each, checked: finite, not all equal, P >= 2.

    X : (P, N) float32 or float64, one sample per row; memory-mapped where the file was a float .npy
    name : short name, for titles
    shape : shape of one sample, channels first; prod(shape) = N
    scale : the units of X in words
    labels : (P,) integers, or None
    source : where X came from, in words
    held_out : (Q, N) in the units of X: samples the source itself keeps apart from X, or None
    dropped : what the reader left out or changed, one sentence each
    files : the file of each row, where rows are files
    """

    X: np.ndarray
    name: str
    shape: tuple[int, ...]
    scale: str
    source: str
    labels: np.ndarray | None = None
    held_out: np.ndarray | None = None
    dropped: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def file_of(self, row: int) -> str:
        """The file that a row of X came from, relative to `source`; empty where rows are not files."""
        return self.files[row] if self.files else ""

    def without(self, rows: Sequence[int]) -> Dataset:
        """The same data set less some of its rows; what the source keeps apart stays."""
        if not len(rows):
            return self
        labels = None if self.labels is None else np.delete(np.asarray(self.labels), rows)
        files = tuple(np.delete(np.array(self.files, dtype=object), rows)) if self.files else ()
        return replace(self, X=np.delete(self.X, rows, axis=0), labels=labels, files=files)

    @property
    def P(self) -> int:
        return self.X.shape[0]

    @property
    def N(self) -> int:
        return self.X.shape[1]

    def __repr__(self) -> str:
        held_out = "" if self.held_out is None else f", held_out={len(self.held_out)}"
        return f"Dataset({self.name!r}, P={self.P}, N={self.N}, shape={self.shape}, {self.X.dtype}{held_out})"


def load(
    path: str | os.PathLike | None = None,
    *,
    key: str | None = None,
    limit: int | None = None,
    image_size: int | None = None,
    seed: int = 0,
    scaling: str = "auto",
) -> Dataset:
    """Reads a data set into rows X (P, N).

    Parameters
    ----------
    path : .npy, .npz, IDX (also .gz), a CIFAR batch or its folder, a folder of images, .parquet (file or folder), what
        `datasets` saved to disk, .tar in WebDataset's layout (file or folder), zarr; None or "digits": scikit-learn's digits
    key : which array of an .npz or zarr group, or column of a table, holds the samples, where its names leave a doubt
    limit : take this many samples (>= 2), drawn without replacement with `seed`, kept in their stored order
    image_size : for image files, in a folder or in a container: crop each to its central square and resize to this many pixels
    scaling : "auto": pixels (uint8 and image formats) go to [-1, 1], as EDM and DDPM have it, other numbers stay as
        they are; "none": stored values; "unit": the pixel range, or else the data's own range, goes to [0, 1].
        uint8 data that hold only 0 and 1 have the range [0, 1], not [0, 255].

    Returns
    -------
    Dataset; images have their channels first. Float data keep their precision (float16 becomes float32) and a float
    .npy stays memory-mapped; integers become float32, or float64 beyond 2^24.

    Raises
    ------
    DataError : missing, unreadable, empty, corrupt or unsupported file; no or several candidate arrays; non-finite
        numbers; all samples equal; P < 2; images of several sizes
    DomainError : an option outside its domain

    The failure that looks normal: times are in units of the data's variance, so data on another scale than the model
    was trained on (say [0, 255] floats) give right times in wrong units. `scale` says which units X has.

    >>> data = load()
    >>> data
    Dataset('digits', P=1797, N=64, shape=(8, 8), float32)
    >>> data.scale
    'pixels mapped from [0, 16] to [-1, 1]'
    """
    limit = None if limit is None else integer("limit", limit, minimum=2)
    image_size = None if image_size is None else integer("image_size", image_size, minimum=1)
    seed = integer("seed", seed, minimum=0, maximum=LARGEST_SEED)
    if not isinstance(scaling, str) or scaling not in ("auto", "none", "unit"):
        raise DomainError("scaling", scaling, "'auto', 'none' or 'unit'")
    if path is not None and not (isinstance(path, (str, os.PathLike)) and os.fspath(path)):
        raise DomainError("path", path, f"None or a path: {SUPPORTED}")
    if path is not None and os.fspath(path) == "digits" and not os.path.exists(path):
        path = None

    def pick(total: int) -> np.ndarray | None:
        if limit is None or limit >= total:
            return None
        return np.sort(np.random.default_rng(seed).choice(total, limit, replace=False))

    raw, total = _read(path, key, image_size, pick)
    array, labels, notes, files = raw.array, raw.labels, raw.notes, raw.files
    chosen = pick(total)
    if chosen is not None:
        if len(array) == total:  # the image reader has already decoded no more than it was asked for
            array, labels = array[chosen], None if labels is None else labels[chosen]
        notes += (f"limit={limit} kept {limit} of {total} samples, drawn with seed {seed}",)
    if len(array) < 2:
        raise DataError(raw.source, f"it holds {len(array)} sample", "at least two samples, one per row")
    if prod(array.shape[1:]) == 0:
        raise DataError(raw.source, f"its samples have shape {array.shape[1:]}: no numbers", "at least one per sample")

    X, shape = _rows(raw.source, array)
    low, high = _checked(raw.source, X)
    if _all_equal(X):
        raise DataError(raw.source, f"all {len(X)} samples are equal", "samples that differ")
    held_out = None
    if raw.held_out is not None:
        held_out, _ = _rows(raw.source, raw.held_out)
        _checked(f"{raw.source} (held-out samples)", held_out)
    levels = (0, 1) if X.dtype == np.uint8 and raw.levels == (0, 255) and high <= 1 else raw.levels
    X, scale = _scaled(X, levels, (low, high), scaling)
    if held_out is not None:
        held_out, _ = _scaled(held_out, levels, (low, high), scaling)
    name, source = printable(raw.name), printable(raw.source)  # they go into tables, pages and figures
    return Dataset(
        X, name, shape, scale, source, labels, held_out, tuple(map(printable, notes)), tuple(map(printable, files))
    )


# --- which reader --------------------------------------------------------------------------------------------------


def _read(path, key, image_size, pick) -> tuple[Raw, int]:
    """What the path's reader found, and the number of samples there before `limit`."""
    folder = path is not None and os.path.isdir(path)
    here = path is not None and os.path.exists(path)
    if here and (found := container(Path(path), key, image_size, pick)):
        return found
    if key is not None and (folder or not str(path).endswith(".npz")):
        if folder and (found := container(Path(path), key, image_size, pick, loose=True)):
            return found
        remedy = "Only an .npz, a table and a zarr group hold several arrays to choose from"
        raise DomainError("key", key, f"None for {path}", remedy)
    if image_size is not None and not folder:
        raise DomainError("image_size", image_size, f"None for {path}", "Only image files are resized")
    if path is None:
        raw = _digits()
    elif folder:
        return _folder(Path(path), image_size, pick)
    else:
        raw = _file(Path(path), key)
    return raw, len(raw.array)


def _digits() -> Raw:
    from sklearn.datasets import load_digits  # here, because it costs a second that other data need not pay

    digits = load_digits()
    return Raw(digits.images.astype(np.float32), "digits", "scikit-learn's digits", digits.target, levels=(0, 16))


def _file(path: Path, key: str | None) -> Raw:
    regular(path)
    name = path.name.lower()
    if name.endswith(".npy"):
        return read_npy(path)
    if name.endswith(".npz"):
        return read_npz(path, key)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise DataError(path, "it is one image", "at least two samples", "Give the folder that holds the images")
    if re.search(r"\.(tar|tgz|zip|7z|rar|bz2|xz|zst)$|\.(tar|npy|npz|bin)\.gz$", name):
        raise DataError(path, "it is an archive", SUPPORTED, "Unpack it first and give the file or folder inside")
    if name.endswith(".bin"):
        return read_cifar([path], None, path.stem, str(path))
    if name.endswith(".gz") or "idx" in name or "ubyte" in name:
        return read_idx(path)
    try:
        with open(path, "rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise DataError(path, f"cannot be opened ({error.strerror})", "a readable file", "Change its mode") from error
    if len(magic) == 4 and magic[:2] == b"\0\0" and magic[2] in IDX_TYPES:
        return read_idx(path)
    if magic[:1] == b"\x80":  # the first byte of a pickle
        return read_cifar([path], None, path.name, str(path))
    found = f"its format is unknown (suffix {path.suffix!r}, first bytes {magic.hex(' ')})"
    raise DataError(path, found, SUPPORTED, "Save the samples as one array: numpy.save('data.npy', X)")


def _folder(path: Path, image_size: int | None, pick) -> tuple[Raw, int]:
    try:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError as error:
        remedy = "Change its mode or its owner"
        raise DataError(path, f"cannot be listed ({error.strerror})", "a readable folder", remedy) from error
    batches, test = cifar_files(path)
    if batches:
        raw = read_cifar(batches, test, path.resolve().name, str(path))
    elif idx := [Path(entry.path) for entry in entries if is_idx_images(entry.name)]:
        raw = read_idx(_training(path, idx))
    elif (images := survey(path)).files:
        return read_images(path, images, image_size, pick)
    elif table := container(path, None, image_size, pick, loose=True):
        return table
    else:
        folders = [Path(entry.path) for entry in entries if is_folder(entry) and not is_clutter(entry.name)]
        inside = [sub for sub in folders if not path.resolve().is_relative_to(sub.resolve())]  # no link back up
        if len(inside) == 1:  # an archive unpacked one level up, e.g. MNIST/raw
            return _folder(inside[0], image_size, pick)
        names = ", ".join(entry.name for entry in entries[:5]) + (", ..." if len(entries) > 5 else "")
        found = f"nothing readable in it (it holds {names})" if entries else "the folder is empty"
        raise DataError(path, found, "images, CIFAR batches or IDX files in a folder", "Arrays are given as files")
    if image_size is not None:
        raise DomainError("image_size", image_size, f"None for {path}", "Only image files are resized")
    return raw, len(raw.array)


def _training(folder: Path, idx: list[Path]) -> Path:
    """The one file of training images among IDX files; a plain file goes before its own gzipped copy."""
    idx = [path for path in idx if path.suffix != ".gz" or path.with_suffix("") not in idx]
    chosen = [path for path in idx if "train" in path.name] or idx
    if len(chosen) > 1:
        names = ", ".join(path.name for path in chosen)
        raise DataError(folder, f"several IDX image files: {names}", "one", "Give the file itself")
    return chosen[0]


# --- rows, checks and units ----------------------------------------------------------------------------------------


def _rows(source: str, array: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """`array` (P, ...) as rows in a type to compute with, and the sample's shape, channels first; a view if it can."""
    shape = array.shape
    if array.ndim == 4 and shape[-1] in (1, 3, 4) and shape[1] not in (1, 3, 4):
        array = np.moveaxis(array, -1, 1)
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "f":
        dtype = np.dtype(np.float32 if size <= 4 else np.float64)
    elif array.dtype == np.uint8:
        dtype = array.dtype
    else:
        exact = size <= 2 or max(abs(int(array.min())), abs(int(array.max()))) <= 1 << 24
        dtype = np.dtype(np.float32 if exact else np.float64)
    if dtype != array.dtype:
        room(source, array.shape, dtype.itemsize)
        array = array.astype(dtype)
    return array.reshape(len(array), -1), array.shape[1:]


def _tiles(X: np.ndarray):
    step = max(1, TILE_BYTES // (X.shape[1] * X.itemsize))
    for start in range(0, len(X), step):
        yield start, X[start : start + step]


def _checked(source: str, X: np.ndarray) -> tuple[float, float]:
    """The least and the largest value of X, read once in tiles, or `DataError` where one is not finite."""
    low, high, bad, first = np.inf, -np.inf, 0, None
    for start, tile in _tiles(X):
        least, most = tile.min(), tile.max()
        if not (np.isfinite(least) and np.isfinite(most)):
            wrong = ~np.isfinite(tile)
            if first is None:
                row, column = np.argwhere(wrong)[0]
                first = (start + int(row), int(column), tile[row, column])
            bad += int(wrong.sum())
        low, high = min(low, float(least)), max(high, float(most))
    if first is not None:
        row, column, value = first
        found = f"{bad} of {X.size} values are not finite, the first is {value} in sample {row}, coordinate {column}"
        raise DataError(source, found, "finite numbers only", "Drop or repair those samples")
    return low, high


def _all_equal(X: np.ndarray) -> bool:
    return all((tile == X[0]).all() for _, tile in _tiles(X))


def _scaled(X: np.ndarray, levels, found: tuple[float, float], scaling: str) -> tuple[np.ndarray, str]:
    """X in the units asked for, and these in words."""
    low, high = levels or found
    stored = f"[{found[0]:.6g}, {found[1]:.6g}]"
    pixels = f"pixels mapped from [{low}, {high}]"
    beyond = "" if found == (low, high) else f" (stored values lie in {stored})"
    if scaling == "none" or (scaling == "auto" and levels is None):
        return X.astype(np.float32) if X.dtype == np.uint8 else X, f"values as stored, in {stored}"
    dtype = np.float32 if X.dtype == np.uint8 else X.dtype.type
    out = np.empty(X.shape, dtype)
    if scaling == "auto":  # x / 127.5 - 1, the expression of EDM's own loader
        np.divide(X, dtype(high / 2), out=out, dtype=dtype)
        out -= dtype(1)
        return out, f"{pixels} to [-1, 1]{beyond}"
    np.subtract(X, dtype(low), out=out, dtype=dtype)
    out /= dtype(high - low)
    return out, f"{pixels} to [0, 1]{beyond}" if levels else f"values mapped from {stored} to [0, 1]"
