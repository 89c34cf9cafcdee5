"""Parquet files and Hugging Face data sets on disk: columns of image bytes or of arrays, batch by batch.

Read are `.parquet` files and folders of them, `.arrow` streams, and what `datasets` writes with `save_to_disk`. Images are
structs `{bytes, path}` or plain bytes; paths are never opened. Extension types are taken as what they store: nothing of
`datasets` runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os.path import isfile
from pathlib import Path
from typing import Any

import numpy as np

from validation.data.stored.array_files import DATA_NAMES, KEY_REMEDY, LABEL_NAMES
from validation.data.stored.containers import Part, inside, needs, parts_by_split
from validation.data.stored.image_folders import split_of
from validation.data.stored.images import Encoded
from validation.data.stored.raw import DataError, reading, regular, room

__all__ = ["BATCH", "open_folder", "open_parts"]

BATCH = 64  # rows that are materialised at a time
_JSON = 1 << 24  # bytes of a description that are read
_IMAGE_NAMES = ("image", "img", "images", "pixel_values", "jpg", "png", *DATA_NAMES)
_EXPECTED = "an intact parquet file, or the folder of `datasets.save_to_disk`"


def open_parts(path: Path, key: str | None) -> tuple[Part, Part | None] | None:
    """The parts of a parquet file, or of a data set saved by `datasets`; None where `path` is neither."""
    if path.is_file():
        if path.suffix.lower() not in (".parquet", ".arrow"):
            return None
        regular(path)
        return _part(path, [path], None, key), None
    if isfile(path / "dataset_dict.json"):
        record = _described(path / "dataset_dict.json")
        names = record.get("splits") or []
        folders = {str(name): inside(path, name) for name in names}
        splits = {name: folder for name, folder in folders.items() if isfile(folder / "state.json")}
        if not splits:
            raise DataError(path, "none of the splits it names is there", _EXPECTED)
        return parts_by_split(path, splits, lambda _, folder: _saved(folder, key))
    if isfile(path / "state.json") and isfile(path / "dataset_info.json"):
        return _saved(path, key), None
    return None


def open_folder(path: Path, key: str | None) -> tuple[Part, Part | None] | None:
    """The parts of a folder of parquet files; None where there is none below it."""
    files = sorted(file for file in path.rglob("*.parquet") if not file.name.startswith("."))
    if not files:
        return None
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(_split_name(file.relative_to(path)), []).append(file)
    return parts_by_split(path, by_split, lambda where, own: _part(where, own, None, key))


def _split_name(file: Path) -> str:
    """What names the split of a parquet file: its folder, or its name up to the number of the shard.

    >>> [_split_name(Path(p)) for p in ("data/train-00000-of-00002.parquet", "default/test/0000.parquet", "x.parquet")]
    ['train', 'test', 'data']
    """
    for word in (*file.parts[:-1], re.split(r"[-_.]", file.stem)[0]):
        if split_of(word):
            return word
    return "data"


def _described(path: Path) -> dict[str, Any]:
    if regular(path) > _JSON:
        raise DataError(path, "it is larger than 16 MiB", "a description written by `datasets`")
    with reading(path, "JSON written by `datasets`"):
        record = json.loads(path.read_bytes())
        if not isinstance(record, dict):
            raise DataError(path, "it is no JSON object", "a description written by `datasets`")
        return record


def _saved(folder: Path, key: str | None) -> Part:
    """One split as `save_to_disk` writes it: state.json names the files."""
    features = _described(folder / "dataset_info.json").get("features")
    listed = _described(folder / "state.json").get("_data_files")
    if not isinstance(listed, list) or not all(isinstance(file, dict) for file in listed) or not listed:
        raise DataError(folder / "state.json", "it names no data files", "a description written by `datasets`")
    files = [inside(folder, file.get("filename")) for file in listed]
    return _part(folder, files, features if isinstance(features, dict) else None, key)


# --- files ------------------------------------------------------------------------------------------------------------


@contextmanager
def _arrow(path: Path) -> Iterator[None]:
    """Whatever pyarrow raises as a `DataError`."""
    import pyarrow as pa

    with reading(path, _EXPECTED):
        try:
            yield
        except (pa.ArrowException, TypeError) as error:
            raise DataError(path, f"cannot be read ({type(error).__name__}: {error})", _EXPECTED) from error


@dataclass(frozen=True)
class _File:
    """One parquet file or arrow stream."""

    path: Path

    @property
    def parquet(self) -> bool:
        return self.path.suffix.lower() == ".parquet"

    def head(self) -> tuple[Any, int]:
        """Schema, and number of rows."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        regular(self.path)
        with _arrow(self.path):
            if self.parquet:
                with pq.ParquetFile(self.path, memory_map=True) as file:
                    return file.schema_arrow, file.metadata.num_rows
            with pa.memory_map(str(self.path)) as source, pa.ipc.open_stream(source) as stream:
                return stream.schema, sum(batch.num_rows for batch in stream)

    def columns(self, column: str, rows: np.ndarray) -> Iterator[Any]:
        """Arrays of at most `BATCH` values of a column at these increasing rows; batches without any are skipped."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with _arrow(self.path):
            if not self.parquet:
                with pa.memory_map(str(self.path)) as source, pa.ipc.open_stream(source) as stream:
                    yield from _taken(((batch.column(column)) for batch in stream), rows)
                return
            with pq.ParquetFile(self.path, memory_map=True) as file:
                sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
                start = 0
                for i, size in enumerate(sizes):
                    own = rows[(rows >= start) & (rows < start + size)] - start
                    if len(own):
                        _fits(self.path, file.metadata.row_group(i), column)
                        batches = file.iter_batches(
                            batch_size=BATCH, row_groups=[i], columns=[column], use_threads=False
                        )
                        yield from _taken((batch.column(0) for batch in batches), own)
                    start += size


def _fits(path: Path, group: Any, column: str) -> None:
    """`DataError` where the pages of a column could not all be in memory."""
    chunks = (group.column(k) for k in range(group.num_columns))
    own = (chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] == column)
    room(f"{path}[{column}]", (sum(chunk.total_uncompressed_size for chunk in own),), 1)


def _taken(arrays: Iterator[Any], rows: np.ndarray) -> Iterator[Any]:
    import pyarrow as pa

    start = 0
    for array in arrays:
        own = rows[(rows >= start) & (rows < start + len(array))] - start
        start += len(array)
        if len(own):
            array.validate(full=True)  # offsets of a broken file would lead outside of it
        stored = array.storage if isinstance(array, pa.ExtensionArray) else array
        for at in range(0, len(own), BATCH):
            yield stored.take(pa.array(own[at : at + BATCH]))


# --- columns ----------------------------------------------------------------------------------------------------------


def _part(source: Path, paths: list[Path], features: dict[str, Any] | None, key: str | None) -> Part:
    needs("pyarrow", source, "a parquet or arrow file")
    files = [_File(path) for path in paths]
    heads = [file.head() for file in files]
    schema, counts = heads[0][0], [count for _, count in heads]
    for path, (other, _) in zip(paths, heads, strict=True):
        if other.names != schema.names:
            raise DataError(path, f"its columns are {', '.join(other.names)}", f"those of {paths[0].name}")
    features = _features(schema) if features is None else features
    column, kind = _chosen(source, schema, key)
    ends = np.cumsum(counts)

    def split(rows: np.ndarray) -> Iterator[tuple[_File, np.ndarray]]:
        for file, end, count in zip(files, ends, counts, strict=True):
            own = rows[(rows >= end - count) & (rows < end)] - (end - count)
            if len(own):
                yield file, own

    def samples(rows: np.ndarray) -> Iterator[Encoded | np.ndarray]:
        for file, own in split(rows):
            numbers = iter(own)
            for array in file.columns(column, own):
                where = f"{file.path}[{column}]"
                if kind == "array":
                    yield from _numbers(where, array)
                    continue
                content = array.field("bytes") if kind == "struct" else array
                for value in content:
                    row = next(numbers)
                    if not value.is_valid:
                        found = f"row {row} holds no bytes: its image lies in another file"
                        raise DataError(where, found, "images inside the file", "Save them with their bytes")
                    yield Encoded(f"{where} row {row}", value.as_buffer().to_pybytes())

    named = _label_column(schema, features, column)

    def labels(rows: np.ndarray) -> np.ndarray | None:
        found = [array for file, own in split(rows) for array in file.columns(str(named), own)]
        if any(array.null_count for array in found):
            return None
        return np.concatenate([array.to_numpy(zero_copy_only=False) for array in found]).astype(np.int64)

    return Part(
        f"{source}[{column}]" if key else str(source),
        int(ends[-1]),
        kind != "array",
        samples,
        labels if named else None,
    )


def _features(schema: Any) -> dict[str, Any]:
    """What `datasets` wrote of the columns into the schema; {} where it did not."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return found if isinstance(found, dict) else {}
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}


def _is_list(kind: Any) -> bool:
    import pyarrow.types as types

    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _kind(kind: Any) -> str:
    """ "struct" or "bytes" of encoded images, "array" of nested lists of numbers, else ""."""
    import pyarrow.types as types

    kind = getattr(kind, "storage_type", kind)
    if types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return "struct" if at >= 0 and _kind(kind.field(at).type) == "bytes" else ""
    if types.is_binary(kind) or types.is_large_binary(kind):
        return "bytes"
    depth = 0
    while _is_list(kind):
        kind, depth = kind.value_type, depth + 1
    return "array" if depth and (types.is_integer(kind) or types.is_floating(kind)) else ""


def _chosen(source: Path, schema: Any, key: str | None) -> tuple[str, str]:
    """The column of the samples, and its kind."""
    kinds = {field.name: _kind(field.type) for field in schema}
    listing = ", ".join(f"{field.name} ({field.type})" for field in list(schema)[:8])
    listing += f" and {len(schema) - 8} more" if len(schema) > 8 else ""
    if key is not None:
        if not kinds.get(key):
            state = "no column" if key not in kinds else "no images and no arrays in"
            raise DataError(source, f"it has {state} {key!r}", f"one of its columns: {listing}", KEY_REMEDY)
        return key, kinds[key]
    candidates = [name for name, kind in kinds.items() if kind]
    if len(candidates) > 1:
        candidates = [name for name in _IMAGE_NAMES if name in map(str.lower, candidates)][:1] or candidates
        candidates = [name for name in kinds if name.lower() in candidates] or candidates
    if len(candidates) > 1:
        candidates = [name for name in candidates if kinds[name] != "array"] or candidates
    if len(candidates) != 1:
        found = "several columns could be the data" if candidates else "no column holds images or arrays"
        raise DataError(source, found, f"one column of images or arrays; it holds {listing}", KEY_REMEDY)
    return candidates[0], kinds[candidates[0]]


def _label_column(schema: Any, features: dict[str, Any], column: str) -> str | None:
    """The column of the classes: one that `datasets` declares as such, else integers with a name like label."""
    import pyarrow.types as types

    whole = [field.name for field in schema if field.name != column and types.is_integer(field.type)]
    declared = [n for n in whole if isinstance(features.get(n), dict) and features[n].get("_type") == "ClassLabel"]
    named = [name for known in LABEL_NAMES for name in declared or whole if name.lower() == known]
    return (named or declared or [None])[0]


def _numbers(where: str, array: Any) -> Iterator[np.ndarray]:
    """Samples of nested lists, each as an array of its own shape."""
    import pyarrow.compute as pc
    import pyarrow.types as types

    shape, count = [], len(array)
    while _is_list(array.type):
        if array.null_count:
            raise DataError(where, "some of its values are missing", "numbers everywhere")
        inner = array.flatten()
        fixed = types.is_fixed_size_list(array.type)
        lengths = {array.type.list_size} if fixed else set(pc.list_value_length(array).to_pylist())
        if len(lengths) > 1:
            found = f"its samples are ragged: lists of {min(lengths)} and of {max(lengths)} values"
            raise DataError(where, found, "samples of one shape")
        shape.append(lengths.pop() if lengths else 0)
        array = inner
    if array.null_count:
        raise DataError(where, "some of its values are missing", "numbers everywhere")
    yield from array.to_numpy(zero_copy_only=False).reshape(count, *shape)
