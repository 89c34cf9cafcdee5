"""WebDataset tars: samples are members of one name and several suffixes (`000.png`, `000.cls`), read in place.

Nothing is extracted: a member is a stretch of bytes, and its name, hostile or not, is text. Links, devices and sparse members are
left out and counted.
"""

from __future__ import annotations

import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from math import prod
from pathlib import Path

import numpy as np

from validation.data.stored.array_files import npy_header, numeric
from validation.data.stored.containers import Part, parts_by_split
from validation.data.stored.image_folders import IMAGE_SUFFIXES, split_of
from validation.data.stored.images import Encoded
from validation.data.stored.raw import DataError, reading, regular

__all__ = ["open_folder", "open_parts"]

_EXPECTED = "an intact, uncompressed tar of samples: key.png (or another image, or .npy) and key.cls"
_LABEL = 32  # bytes of a label


@dataclass
class _Index:
    """Where every sample lies: shard, first byte and size, the name of its member, and its class."""

    shard: list[int] = field(default_factory=list)
    offset: list[int] = field(default_factory=list)
    size: list[int] = field(default_factory=list)
    name: list[str] = field(default_factory=list)
    label: list[int | None] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def open_parts(path: Path, key: str | None) -> tuple[Part, Part | None] | None:
    """The samples of a tar; None where `path` is none."""
    return (_part(path, [path]), None) if path.is_file() and path.suffix.lower() == ".tar" else None


def open_folder(path: Path, key: str | None) -> tuple[Part, Part | None] | None:
    """The samples of a folder's tars by split; None where there is none."""
    files = sorted(file for file in path.glob("*.tar") if not file.name.startswith("."))
    if not files:
        return None
    by_split: dict[str, list[Path]] = {}
    for file in files:
        words = re.split(r"[-_.]", file.stem)
        by_split.setdefault(next((word for word in words if split_of(word)), "data"), []).append(file)
    return parts_by_split(path, by_split, _part)


def _part(source: Path, files: list[Path]) -> Part:
    index = _Index()
    for shard, path in enumerate(files):
        regular(path)
        with reading(path, _EXPECTED):
            try:
                _indexed(path, shard, index)
            except tarfile.TarError as error:
                raise DataError(path, f"cannot be read ({type(error).__name__}: {error})", _EXPECTED) from error
    if not index.name:
        listed = ", ".join(f"{n} {kind}" for kind, n in sorted(index.left_out.items()))
        raise DataError(source, f"no images and no arrays in it (it holds {listed or 'nothing'})", _EXPECTED)
    arrays = sum(name.lower().endswith(".npy") for name in index.name)
    if arrays not in (0, len(index.name)):
        found = f"{arrays} of its {len(index.name)} samples are .npy arrays, the others images"
        raise DataError(source, found, "samples of one kind")
    where = np.array([index.shard, index.offset, index.size], dtype=np.int64)

    def samples(rows: np.ndarray) -> Iterator[Encoded | np.ndarray]:
        shard, file = -1, None
        try:
            for row in rows:
                number, offset, size = (int(n) for n in where[:, row])
                if number != shard or file is None:
                    if file is not None:
                        file.close()
                    shard, file = number, open(files[number], "rb")  # noqa: SIM115
                file.seek(offset)
                member = f"{files[number]}[{index.name[row]}]"
                content = file.read(size)
                if len(content) < size:
                    raise DataError(member, f"it is truncated: {len(content)} of {size} bytes", _EXPECTED)
                yield _array(member, content) if arrays else Encoded(member, content)
        finally:
            if file is not None:
                file.close()

    def labels(rows: np.ndarray) -> np.ndarray | None:
        found = [index.label[row] for row in rows]
        return None if None in found else np.array(found, dtype=np.int64)

    notes = ()
    if index.left_out:
        listed = ", ".join(f"{n} {kind}" for kind, n in sorted(index.left_out.items()))
        notes = (f"{sum(index.left_out.values())} members are no samples and no classes and were left out ({listed})",)
    names = None if len(files) > 1 else lambda rows: [index.name[row] for row in rows]
    return Part(str(source), len(index.name), not arrays, samples, labels, names, notes)


def _indexed(path: Path, shard: int, index: _Index) -> None:
    """Read all headers of one tar, and its labels; memory is that of the index."""
    with tarfile.open(path, "r:") as tar:
        key, label, sample = None, None, False
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # tarfile keeps every header
            if member.isdir():
                continue
            if not member.isreg() or member.sparse is not None:
                index.left_out["links, devices or sparse files"] += 1
                continue
            folder, _, name = member.name.rpartition("/")
            stem, _, suffix = name.partition(".")
            if (folder, stem) != key:
                key, label, sample = (folder, stem), None, False
            suffix = suffix.lower()
            if suffix == "cls":
                label = _class(tar, member, path)
                if sample:
                    index.label[-1] = label
            elif suffix == "npy" or f".{suffix}" in IMAGE_SUFFIXES:
                if sample:
                    found = f"sample {member.name!r} is the second image of {stem!r}"
                    raise DataError(path, found, "one image (or one .npy) for each key", "Keep one of them")
                index.shard.append(shard)
                index.offset.append(member.offset_data)
                index.size.append(member.size)
                index.name.append(member.name)
                index.label.append(label)
                sample = True
            else:
                index.left_out[f".{suffix}" if suffix else "no suffix"] += 1


def _class(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> int:
    file = tar.extractfile(member)  # its bytes, through memory
    text = file.read(_LABEL + 1) if file is not None and member.size <= _LABEL else b""
    if not re.fullmatch(rb"\s*-?\d{1,18}\s*", text):
        raise DataError(f"{path}[{member.name}]", f"it holds {text[:20]!r}", "a class as an integer")
    return int(text)


def _array(member: str, content: bytes) -> np.ndarray:
    """The array of an .npy member, one sample."""
    with BytesIO(content) as file:
        shape, dtype = npy_header(file, member)
        numeric(member, (1, *shape), dtype)
        need, found = prod(shape) * dtype.itemsize, len(content) - file.tell()
        if found < need:
            raise DataError(
                member, f"it is truncated: {found} of {need} data bytes", f"the whole array {shape} {dtype}"
            )
        file.seek(0)
        with reading(member, "an .npy array written by numpy.save"):
            return np.lib.format.read_array(file, allow_pickle=False)
