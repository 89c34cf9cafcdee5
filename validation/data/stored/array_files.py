"""Readers of array files: NumPy's .npy (memory-mapped) and .npz, and the IDX files of MNIST, plain or gzipped."""

from __future__ import annotations

import gzip
import re
import struct
import zipfile
from collections.abc import Iterable
from io import BytesIO
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO

import numpy as np

from validation.data.stored.raw import DataError, Raw, reading, regular, room

__all__ = ["IDX_TYPES", "is_idx_images", "npy_header", "numeric", "read_idx", "read_npy", "read_npz"]

DATA_NAMES = ("x", "data", "images", "train", "x_train", "train_x", "train_images", "train_data", "samples")
LABEL_NAMES = ("y", "labels", "label", "targets", "y_train", "train_y", "train_labels", "classes")
HELD_OUT_NAMES = ("x_test", "test_x", "test_images", "test_data", "test", "held_out", "x_val", "val_images", "val")
# moments of features, beside the images of a reference batch (guided diffusion) or alone (pytorch-fid, EDM)
MEANS = re.compile(r"(mu|mean)(_\w+)?", re.IGNORECASE)
COVARIANCES = re.compile(r"(sigma|cov(ariance)?)(_\w+)?", re.IGNORECASE)
HEADER_BYTES = 10_000  # numpy's own bound
KEY_REMEDY = "Choose with key= (--key)"
NOT_DATA = re.compile(r"(^|_)(y|labels?|targets?|class(es)?|test|val|valid|held_out)(_|$)")

# --- .npy and .npz -------------------------------------------------------------------------------------------------


def npy_header(file: BinaryIO, source: object) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype from an .npy header, leaving `file` at the first byte of the numbers."""
    with reading(source, "an .npy array written by numpy.save"):
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise DataError(source, f"its .npy version is {version}", "version 1 or 2, a plain array of numbers")
        length = file.read(2 if version == (1, 0) else 4)
        size = int.from_bytes(length, "little")
        if size > HEADER_BYTES:  # before it is read: a zipped one may claim, and inflate to, 4 GiB
            raise DataError(source, f"its header claims {size} bytes", f"an .npy header of at most {HEADER_BYTES}")
        header = BytesIO(length + file.read(size))
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        try:
            shape, _, dtype = read(header)
        except (SyntaxError, TokenError, RecursionError, TypeError) as error:
            raise DataError(source, f"its header cannot be read ({type(error).__name__})", "an intact .npy") from error
    if min(shape, default=0) < 0:
        raise DataError(source, f"its shape is {shape}", "a shape of numbers >= 0", "Write or download it again")
    return shape, dtype


def numeric(source: object, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if dtype.hasobject:
        remedy = "Save numbers: numpy.stack(list_of_equal_arrays), then numpy.save; a dict of arrays: numpy.savez"
        raise DataError(source, "it holds Python objects (dtype object)", "an array of real numbers", remedy)
    if dtype.kind not in "buif":
        raise DataError(source, f"its dtype is {dtype}", "an array of real numbers (bool, integer or float)")
    if len(shape) < 2:
        remedy = "Scalars go in as shape (P, 1): array.reshape(-1, 1)"
        raise DataError(source, f"its shape is {shape}", "(P, N) or (P, ...): one sample per row", remedy)


def read_npy(path: Path) -> Raw:
    """The array of one .npy file, memory-mapped: nothing is loaded here."""
    size = regular(path)
    with reading(path, "an .npy array written by numpy.save"), open(path, "rb") as file:
        shape, dtype = npy_header(file, path)
        numeric(path, shape, dtype)
        need, found = prod(shape) * dtype.itemsize, size - file.tell()
        if found < need:
            raise DataError(path, f"it is truncated: {found} of {need} data bytes", f"the whole array {shape} {dtype}")
    if need == 0:
        raise DataError(path, f"its shape is {shape}: no numbers", "at least two samples of at least one value")
    with reading(path, "an .npy array written by numpy.save"):
        try:
            # copy-on-write: the file cannot change, yet torch.from_numpy takes it without a warning
            array = np.load(path, mmap_mode="c", allow_pickle=False)
        except (OSError, MemoryError):  # larger than memory and swap: the kernel commits only a read-only map
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    notes = (f"{found - need} bytes after the first array were ignored",) if found > need else ()
    return Raw(array, path.stem, str(path), levels=_levels(array.dtype), notes=notes)


def _levels(dtype: np.dtype) -> tuple[int, int] | None:
    return (0, 255) if dtype == np.uint8 else None


def read_npz(path: Path, key: str | None) -> Raw:
    """One array of an .npz archive, with the labels and held-out arrays beside it where their names say so."""
    regular(path)
    expected = "an .npz archive written by numpy.savez"
    with reading(path, expected), zipfile.ZipFile(path) as archive:
        headers = {}
        for member in archive.namelist():
            if member.endswith(".npy"):
                with archive.open(member) as file:
                    headers[member[:-4]] = npy_header(file, f"{path}[{member[:-4]}]")
        chosen = _choose(path, headers, key)
        shape, dtype = headers[chosen]
        numeric(f"{path}[{chosen}]", shape, dtype)
        room(f"{path}[{chosen}]", shape, dtype.itemsize, "Save fewer samples, or save as .npy, which is memory-mapped")
        array = _member(archive, path, chosen)
        labels = held_out = None
        notes = []
        for name in _named(headers, LABEL_NAMES):
            if headers[name][1].kind in "bui" and headers[name][0] in ((shape[0],), (shape[0], 1)):
                labels = _member(archive, path, name).reshape(-1)
                break
        for name in _named(headers, HELD_OUT_NAMES):
            other_shape, other_dtype = headers[name]
            if name != chosen and other_shape[1:] == shape[1:] and other_dtype == dtype and other_shape[0] > 0:
                held_out = _member(archive, path, name)
                notes.append(f"held-out samples are {name!r}")
                break
    return Raw(array, path.stem, f"{path}[{chosen}]", labels, held_out, _levels(array.dtype), tuple(notes))


def _member(archive: zipfile.ZipFile, path: Path, name: str) -> np.ndarray:
    with reading(f"{path}[{name}]", "an intact .npz member"), archive.open(f"{name}.npy") as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
        if file.read(1):
            raise DataError(f"{path}[{name}]", "bytes follow the array", "an intact .npz member")
        return array


def _named(headers: dict, names: Iterable[str]) -> list[str]:
    """Keys of the archive whose lower-cased name is in `names`, in the order of `names`."""
    return [key for name in names for key in headers if key.lower() == name]


def _choose(path: Path, headers: dict, key: str | None) -> str:
    shown = [f"{k} {shape} {dtype}" for k, (shape, dtype) in headers.items()]
    listing = ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")
    if not headers:
        raise DataError(path, "the archive holds no arrays", "at least one array (P, ...)")
    if key is not None:
        if key not in headers:
            raise DataError(path, f"it has no array {key!r}", f"one of its arrays: {listing}", KEY_REMEDY)
        return key
    candidates = [k for k, (shape, dtype) in headers.items() if len(shape) >= 2 and dtype.kind in "buif"]
    if candidates and all(_covariance(k, headers) for k in candidates):
        found = f"it holds statistics of samples ({listing}), not the samples"
        raise DataError(path, found, "an array of samples (P, ...)", f"{KEY_REMEDY} if one of them is meant")
    candidates = [k for k in candidates if not _covariance(k, headers)]
    candidates = [k for k in candidates if not NOT_DATA.search(k.lower())] or candidates
    if len(candidates) > 1:
        candidates = _named({k: None for k in candidates}, DATA_NAMES) or candidates
    if len(candidates) > 1:  # one array of images beside features or coordinates of them
        images = [k for k in candidates if _images(*headers[k])]
        candidates = images if len(images) == 1 else candidates
    if len(candidates) == 1:
        return candidates[0]
    if not candidates and len(headers) == 1:
        return next(iter(headers))  # its own shape or dtype error says more than this one would
    found = "several arrays could be the data" if candidates else "no array could be the data"
    raise DataError(path, found, f"one array (P, ...) of numbers; it holds {listing}", KEY_REMEDY)


def _covariance(name: str, headers: dict) -> bool:
    """Whether an array is the covariance of features by its name, its shape (n, n) and a mean (n,) beside it."""
    shape = headers[name][0]
    means = [k for k in headers if MEANS.fullmatch(k) and headers[k][0] == shape[:1]]
    return bool(COVARIANCES.fullmatch(name)) and len(shape) == 2 and shape[0] == shape[1] and bool(means)


def _images(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """(P, H, W, C) or (P, C, H, W) with 1, 3 or 4 channels, or 8-bit (P, H, W)."""
    return (len(shape) == 4 and bool({1, 3, 4} & {shape[1], shape[3]})) or (len(shape) == 3 and dtype == np.uint8)


# --- IDX -----------------------------------------------------------------------------------------------------------

IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""Element type by the third byte of an IDX file; the numbers are big-endian."""


def is_idx_images(name: str) -> bool:
    """Whether a file name reads like the images of an IDX pair, e.g. train-images-idx3-ubyte.gz.

    >>> is_idx_images("train-images-idx3-ubyte.gz"), is_idx_images("train-labels-idx1-ubyte")
    (True, False)
    """
    return re.search(r"images?[-.]idx\d(-ubyte)?(\.gz)?$", name.lower()) is not None


def _idx_array(path: Path) -> np.ndarray:
    """The array of one IDX file; a plain file is memory-mapped, a gzipped one is inflated to its declared size."""
    size = regular(path)
    expected = "an IDX file: magic 00 00 TYPE NDIM, big-endian dimensions, then the numbers"
    with reading(path, expected), open(path, "rb") as probe:
        zipped = probe.read(2) == b"\x1f\x8b"
    if path.suffix == ".gz" and not zipped:
        raise DataError(path, "it does not start with gzip's magic number", "a gzip file", "Download it again")
    with reading(path, expected), gzip.open(path, "rb") if zipped else open(path, "rb") as file:
        magic = file.read(4)
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in IDX_TYPES or magic[3] == 0:
            raise DataError(path, f"its first bytes are {magic.hex(' ')}: wrong magic number", expected)
        dims = file.read(4 * magic[3])
        if len(dims) < 4 * magic[3]:
            raise DataError(path, "it is truncated inside its header", expected, "Download it again")
        shape, dtype = struct.unpack(f">{magic[3]}I", dims), np.dtype(IDX_TYPES[magic[2]])
        offset, need = 4 + 4 * magic[3], prod(shape) * dtype.itemsize
        if need == 0:
            raise DataError(path, f"its shape is {shape}: no numbers", "at least two samples")
        if zipped and need <= 1100 * size:  # deflate cannot expand further: a larger claim is a broken header
            body = file.read(need + 1)
            found = len(body)
        else:
            found = size - offset
        if found != need:
            less = found < need
            state = f"it is truncated: {found} of {need} data bytes" if less else f"bytes follow its {need} data bytes"
            raise DataError(path, state, f"exactly the array {shape} its header declares", "Download it again")
        if zipped:
            return np.frombuffer(body, dtype).reshape(shape)
        return np.memmap(path, dtype, "r", offset, shape)


def _companion(path: Path, pairs: Iterable[tuple[str, str]]) -> Path | None:
    """The file beside `path` whose name follows from the (old, new) replacements, zipped or not."""
    name = path.name.removesuffix(".gz")
    for old, new in pairs:
        if old not in name:
            return None
        name = name.replace(old, new)
    options = [path.with_name(name), path.with_name(name + ".gz")]
    options.sort(key=lambda option: option.suffix != path.suffix)
    return next((option for option in options if option.is_file()), None)


def read_idx(path: Path) -> Raw:
    """Images of an IDX file, with the labels and the t10k (or test) images lying beside it, where present."""
    array = _idx_array(path)
    if array.ndim < 2:
        found = f"it holds one number per sample (shape {array.shape}), as label files do"
        raise DataError(path, found, "samples with at least one axis", "Give the images file")
    notes, labels, held_out = [], None, None
    beside = _companion(path, [("images", "labels"), ("idx3", "idx1")])
    if beside is not None:
        labels = _idx_array(beside)
        if labels.shape != array.shape[:1]:
            found = f"its shape is {labels.shape}"
            raise DataError(beside, found, f"one label for each of the {len(array)} samples of {path.name}")
        labels = np.array(labels)
    test = _companion(path, [("train", "t10k")]) or _companion(path, [("train", "test")])
    if test is not None:
        held_out = _idx_array(test)
        if held_out.shape[1:] != array.shape[1:] or held_out.dtype != array.dtype:
            raise DataError(test, f"its shape is {held_out.shape}", f"samples like those of {path.name}")
        notes.append(f"held-out samples are {test.name}")
    name = re.split(r"[-.]idx\d", path.name)[0]
    return Raw(array, name, str(path), labels, held_out, _levels(array.dtype), tuple(notes))
