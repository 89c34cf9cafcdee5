"""Arrays of zarr folders, format 2 and 3, read chunk row by chunk row.

Their descriptions are read before zarr sees them: codecs that run code (pickle) or that are unknown are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from os.path import isfile
from pathlib import Path
from typing import Any

import numpy as np

from validation.data.stored.array_files import DATA_NAMES, KEY_REMEDY, LABEL_NAMES, numeric
from validation.data.stored.containers import Part, inside, needs
from validation.data.stored.raw import DataError, reading, regular, room

__all__ = ["CODECS", "open_parts"]

CODECS = frozenset((
    "adler32", "bitround", "blosc", "bytes", "bz2", "crc32", "crc32c", "delta", "fixedscaleoffset", "fletcher32", "gzip", "lz4",
    "lzma", "packbits", "shuffle", "sharding_indexed", "transpose", "zlib", "zstd",
))  # fmt: skip
_JSON = 1 << 24
_EXPECTED = "a zarr array, or a group with one, of real numbers"


def open_parts(path: Path, key: str | None) -> tuple[Part, Part | None] | None:
    """The array of a zarr folder, or one of a zarr group; None where `path` is neither."""
    if path.is_file() or not any(isfile(path / name) for name in ("zarr.json", ".zarray", ".zgroup")):
        return None
    needs("zarr", path, "a zarr folder")
    if _is_array(path):
        if key is not None:
            raise DataError(path, f"it is one array and has no {key!r} in it", _EXPECTED, "There is nothing to choose")
        return _part(path, path, None), None
    arrays = {folder.name: folder for folder in sorted(path.iterdir()) if folder.is_dir() and _is_array(folder)}
    listing = ", ".join(list(arrays)[:8]) + (f" and {len(arrays) - 8} more" if len(arrays) > 8 else "")
    if key is not None and (key not in arrays or inside(path, key).name != key):
        raise DataError(path, f"it has no array {key!r}", f"one of its arrays: {listing}", KEY_REMEDY)
    labels = next((arrays[n] for known in LABEL_NAMES for n in arrays if n.lower() == known and n != key), None)
    others = [name for name in arrays if arrays[name] != labels]
    chosen = [key] if key else [name for known in DATA_NAMES for name in others if name.lower() == known][:1] or others
    if len(chosen) != 1:
        found = "several arrays could be the data" if chosen else "no array could be the data"
        raise DataError(path, found, f"one array (P, ...) of numbers; it holds {listing or 'no array'}", KEY_REMEDY)
    return _part(path, arrays[chosen[0]], labels), None


def _described(path: Path) -> dict[str, Any]:
    if regular(path) > _JSON:
        raise DataError(path, "it is larger than 16 MiB", "the description of a zarr array")
    with reading(path, "the description of a zarr array"):
        try:
            found = json.loads(path.read_bytes())
        except RecursionError as error:
            raise DataError(path, "it is nested too deeply", "the description of a zarr array") from error
        return found if isinstance(found, dict) else {}


def _is_array(folder: Path) -> bool:
    if isfile(folder / "zarr.json"):
        return _described(folder / "zarr.json").get("node_type") == "array"
    return isfile(folder / ".zarray")


def _codecs(found: Any) -> Iterator[str]:
    """Names of all codecs in a description, those inside shards too."""
    if isinstance(found, list):
        for each in found:
            yield from _codecs(each)
    elif isinstance(found, dict):
        if "id" in found or "name" in found:
            yield str(found.get("id", found.get("name"))).removeprefix("numcodecs.")
        for name in ("codecs", "index_codecs", "configuration"):
            yield from _codecs(found.get(name))


def _checked(folder: Path) -> Any:
    """The zarr array, when its description asks for nothing that could run code."""
    modern = isfile(folder / "zarr.json")
    record = _described(folder / ("zarr.json" if modern else ".zarray"))
    used = [*_codecs(record.get("codecs")), *_codecs(record.get("filters")), *_codecs(record.get("compressor"))]
    unknown = sorted(set(used) - CODECS)
    if unknown:
        found = f"its chunks are coded with {', '.join(unknown)}"
        raise DataError(
            folder, found, f"codecs of numbers: {', '.join(sorted(CODECS))}", "Save it again with one of these"
        )
    import zarr

    with reading(folder, _EXPECTED):
        try:
            return zarr.open_array(str(folder), mode="r", zarr_format=3 if modern else 2)
        except (TypeError, AttributeError, ArithmeticError) as error:  # of a description that makes no sense
            raise DataError(folder, f"cannot be read ({type(error).__name__}: {error})", _EXPECTED) from error


def _part(source: Path, folder: Path, labels: Path | None) -> Part:
    array = _checked(folder)
    where = str(folder)
    numeric(where, array.shape, array.dtype)
    step = max(1, (getattr(array, "shards", None) or array.chunks)[0])
    room(where, (min(step, array.shape[0]), *array.shape[1:]), array.dtype.itemsize)

    def rows_of(rows: np.ndarray) -> Iterator[np.ndarray]:
        for start in range(0, array.shape[0], step):
            own = rows[(rows >= start) & (rows < start + step)] - start
            if len(own):
                with reading(where, _EXPECTED):
                    try:
                        block = np.asarray(array[start : start + step])
                    except (TypeError, ArithmeticError) as error:
                        raise DataError(
                            where, f"cannot be read ({type(error).__name__}: {error})", _EXPECTED
                        ) from error
                yield from block[own]

    def labels_of(rows: np.ndarray) -> np.ndarray | None:
        found = _checked(labels)  # type: ignore[arg-type]
        if found.dtype.kind not in "bui" or found.shape not in ((array.shape[0],), (array.shape[0], 1)):
            return None
        with reading(str(labels), _EXPECTED):
            return np.asarray(found[...]).reshape(-1)[rows].astype(np.int64)

    return Part(
        where if folder != source else str(source), array.shape[0], False, rows_of, labels_of if labels else None
    )
