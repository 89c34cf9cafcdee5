"""Readers of CIFAR-10 and CIFAR-100: python batches, through an unpickler that builds arrays only, and binary ones."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np

from validation.data.stored.raw import DataError, Raw, reading, regular

__all__ = ["cifar_files", "read_cifar"]

SHAPE = (3, 32, 32)
PIXELS = 3072


# --- a pickle that cannot run code ---------------------------------------------------------------------------------


# Instances without a __dict__, since a pickle may also set attributes on whatever it can name.
class _Dtype:
    __slots__ = ()

    def __call__(self, spec: Any, align: Any = False, copy: Any = False) -> np.dtype:
        text = spec.decode("ascii") if isinstance(spec, bytes) else spec
        if not (isinstance(text, str) and re.fullmatch(r"[|<>=]?[buif][1248]", text)):
            raise pickle.UnpicklingError(f"the pickle asks for an array of dtype {spec!r}")
        return np.dtype(text, align=bool(align), copy=bool(copy))  # Python 2 wrote 0 and 1


class _FromBuffer:
    __slots__ = ()

    def __call__(self, buffer: Any, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
        return np.frombuffer(buffer, dtype).reshape(shape, order=order)


class _Encode:
    __slots__ = ()

    def __call__(self, text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"the pickle asks for the encoding {encoding!r}")
        return text.encode("latin1")


_reconstruct = np.empty(0).__reduce__()[0]
_ADMITTED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _Dtype(),
    ("_codecs", "encode"): _Encode(),
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _FromBuffer() for core in ("core", "_core")},
}


class _ArraysOnly(pickle.Unpickler):
    """Admits what a pickled NumPy array needs and refuses every other name before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}") from None


def _python_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    regular(path)
    expected = "a CIFAR python batch: a pickled dict of b'data' (uint8, P x 3072) and b'labels' or b'fine_labels'"
    remedy = "Download it again; pickles that ask for anything but NumPy arrays are refused"
    with reading(path, expected, remedy), open(path, "rb") as file:
        try:
            batch = _ArraysOnly(file, encoding="bytes").load()
        except (OSError, MemoryError):
            raise
        except Exception as error:  # a broken pickle can raise anything
            raise DataError(path, f"cannot be unpickled ({error})", expected, remedy) from error
    batch = batch if isinstance(batch, dict) else {}
    fields = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in batch.items()}
    data, labels = fields.get("data"), fields.get("fine_labels", fields.get("labels"))
    if not (isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.ndim == 2 and data.shape[1] == PIXELS):
        found = (
            f"data of shape {data.shape} and dtype {data.dtype}" if isinstance(data, np.ndarray) else "no data array"
        )
        raise DataError(path, found, expected, remedy)
    try:
        labels = np.asarray(labels, dtype=np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(path, "its labels are not integers", expected, remedy) from error
    if labels.shape != data.shape[:1]:
        raise DataError(path, f"{labels.size} labels for {len(data)} images", expected, remedy)
    return data, labels


# --- binary batches ------------------------------------------------------------------------------------------------


def _binary_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    size = regular(path)
    # (bytes of label before each image, bounds of these labels): CIFAR-10, then CIFAR-100 (coarse, fine)
    layouts = [((10,), PIXELS + 1), ((20, 100), PIXELS + 2)]
    if path.stem in ("train", "test"):
        layouts.reverse()
    for bounds, record in layouts:
        if size % record == 0:
            with reading(path, "a CIFAR binary batch"):
                records = np.fromfile(path, np.uint8).reshape(-1, record)
            if all((records[:, i] < bound).all() for i, bound in enumerate(bounds)):
                return records[:, len(bounds) :], records[:, len(bounds) - 1].astype(np.int64)
    raise DataError(
        path,
        f"{size} bytes are not a whole number of labelled images",
        f"a CIFAR binary batch: records of {PIXELS + 1} bytes with labels under 10 (CIFAR-10), "
        f"or of {PIXELS + 2} bytes with labels under 20 and 100 (CIFAR-100)",
        "Download it again: it is truncated or no CIFAR file",
    )


# --- files and folders ---------------------------------------------------------------------------------------------


def cifar_files(folder: Path) -> tuple[list[Path], Path | None]:
    """The training batches and the test batch of a CIFAR folder; ([], None) where it is none."""
    for pattern, test in (
        ("data_batch_[0-9]", "test_batch"),
        ("data_batch_[0-9].bin", "test_batch.bin"),
        ("train.bin", "test.bin"),
    ):
        batches = sorted(path for path in folder.glob(pattern) if path.is_file())
        if batches:
            return batches, folder / test if (folder / test).is_file() else None
    if (folder / "train").is_file() and (folder / "meta").is_file():
        return [folder / "train"], folder / "test" if (folder / "test").is_file() else None
    return [], None


def read_cifar(batches: list[Path], test: Path | None, name: str, source: str) -> Raw:
    """All batches one after the other, as (P, 3, 32, 32) uint8 with (fine) labels; the test batch is held out."""

    def images(path: Path) -> tuple[np.ndarray, np.ndarray]:
        return _binary_batch(path) if path.suffix == ".bin" else _python_batch(path)

    parts = [images(path) for path in batches]
    data, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    held_out = images(test)[0].reshape(-1, *SHAPE) if test is not None else None
    missing = 5 - len(batches) if len(batches) > 1 or batches[0].name.startswith("data_batch") else 0
    notes = (f"{len(batches)} of CIFAR-10's 5 training batches are here",) if missing > 0 else ()
    notes += (f"held-out samples are {test.name}",) if test is not None else ()
    return Raw(data.reshape(-1, *SHAPE), name, source, labels, held_out, (0, 255), notes)
