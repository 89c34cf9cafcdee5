"""Pixels of image files, in a folder or inside another file, as stored: 8 bits, one size or one asked for."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from validation.data.stored.image_folders import ImageFolder
from validation.data.stored.raw import DataError, Raw, reading, regular, room

__all__ = ["Encoded", "read_encoded", "read_images"]

_ORIENTATION = 0x0112

# What Pillow may try: no format that runs another program (EPS) or holds no pixels.
FORMATS = (
    "PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "TGA", "JPEG2000", "AVIF", "PCX", "SGI",
)  # fmt: skip


@dataclass(frozen=True)
class Encoded:
    """An image file inside another file: `name` says where, and is never opened."""

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name


def read_encoded(
    source: Path, items: Callable[[], Iterable[Path | Encoded]], count: int, image_size: int | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """`count` images as uint8, (P, H, W) where all are grey and (P, 3, H, W) otherwise, and notes on what was left out.

    items : called twice, once for what the headers say and once for the pixels; one image is held at a time

    With `image_size` each is cropped to its central square and resampled (Lanczos) unless it has that size already;
    without, all must have one size. Images with several frames give their first; an alpha channel is dropped, an EXIF
    orientation is not applied: as in torchvision and EDM.
    """
    seen = _Seen.of(items())
    if image_size is None and len(seen.sizes) > 1:
        (one, first), (two, second) = list(seen.sizes.items())[:2]
        raise DataError(
            source,
            f"its images are ragged: {first} is {one[0]}x{one[1]}, {second} is {two[0]}x{two[1]}",
            "images of one size",
            "Pass image_size= (--image-size) to crop each to its central square and resize it",
        )
    width, height = (image_size, image_size) if image_size is not None else next(iter(seen.sizes))
    shape = (height, width) if seen.mode == "L" else (3, height, width)
    room(source, (count, *shape), 5)  # one byte as stored, four once scaled
    return _pixels(items(), count, shape, seen.mode, image_size), tuple(seen.notes(image_size))


def read_images(
    folder: Path, found: ImageFolder, image_size: int | None, pick: Callable[[int], np.ndarray | None]
) -> tuple[Raw, int]:
    """The images of a folder, see `read_encoded`; also how many files there were.

    `pick` draws from the training and from the held-out images.
    """
    total = len(found.files)
    files, held_out = _picked(found.files, pick), _picked(found.held_out, pick)
    if len(files) < 2:
        raise DataError(folder, f"it holds {len(files)} image", "at least two samples")
    both = files + held_out
    array, seen = read_encoded(folder, lambda: both, len(both), image_size)
    notes = [*found.notes, *seen]
    if len(held_out) < len(found.held_out):
        notes.append(f"{len(held_out)} of {len(found.held_out)} held-out samples were drawn, as many as limit allows")
    labels = found.labels
    if labels is not None and (chosen := pick(total)) is not None:
        labels = labels[chosen]
    held = array[len(files) :] if held_out else None
    name = folder.name or folder.resolve().name
    names = tuple(path.relative_to(folder).as_posix() for path in files)
    return Raw(array[: len(files)], name, str(folder), labels, held, (0, 255), tuple(notes), names), total


def _picked(files: list[Path], pick: Callable[[int], np.ndarray | None]) -> list[Path]:
    chosen = pick(len(files))
    return files if chosen is None else [files[i] for i in chosen]


@dataclass
class _Seen:
    """What the headers of all images say, before any is decoded."""

    colours: Counter = field(default_factory=Counter)
    sizes: dict[tuple[int, int], str] = field(default_factory=dict)  # and the first image of each
    alpha: int = 0
    frames: int = 0
    turned: int = 0

    @classmethod
    def of(cls, files: Iterable[Path | Encoded]) -> _Seen:
        seen = cls()
        for path in files:
            if isinstance(path, Path):
                regular(path)
            with _opened(path) as image:
                _eight_bits(path, image)
                seen.colours["L" if image.mode in ("1", "L", "LA", "La") else "RGB"] += 1
                seen.alpha += image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
                seen.frames += getattr(image, "n_frames", 1) > 1
                seen.turned += image.getexif().get(_ORIENTATION, 1) not in (0, 1)
                seen.sizes.setdefault(image.size, path.name)
        return seen

    @property
    def mode(self) -> str:
        return "RGB" if self.colours["RGB"] else "L"

    def notes(self, image_size: int | None) -> Iterator[str]:
        if self.alpha:
            yield f"{self.alpha} images had an alpha channel, which was dropped"
        if self.frames:
            yield f"{self.frames} files had several frames, of which the first was taken"
        if self.turned:
            yield f"{self.turned} images have an EXIF orientation, which was not applied: pixels are as stored"
        if self.colours["L"] and self.colours["RGB"]:
            yield f"{self.colours['L']} grey images among {self.colours['RGB']} in colour were read as colour"
        if image_size is not None and min(map(min, self.sizes)) < image_size:
            yield f"images smaller than {image_size} pixels were enlarged"


def _eight_bits(path: Path | Encoded, image: Image.Image) -> None:
    """`DataError` where Pillow would cut pixels to 8 bits, or clip them."""
    depth = f"Pillow mode {image.mode}" if image.mode.startswith(("I", "F")) else _cut(path, image)
    if depth:
        remedy = "Convert it to 8 bits, or save the numbers as .npy"
        raise DataError(path, f"its pixels are not 8-bit ({depth})", "8-bit images", remedy)


def _cut(path: Path | Encoded, image: Image.Image) -> str:
    """The depth of colour images that Pillow opens in an 8-bit mode though their pixels have more bits; else ""."""
    for tile in image.tile:
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if any(isinstance(a, str) and ";16" in a for a in arguments):
            return "16 bits"
        if image.format == "PPM" and any(isinstance(a, int) and a > 255 for a in arguments[1:]):
            return f"levels up to {arguments[-1]}"
    if image.format == "JPEG2000":  # the SIZ marker: 36 bytes of sizes, the number of components, bits - 1 of each
        with path.open("rb") if isinstance(path, Path) else BytesIO(path.content) as file:
            head = file.read(1 << 16)
        at = head.find(b"\xff\x4f\xff\x51")
        bits = (head[at + 42] & 0x7F) + 1 if at >= 0 and len(head) > at + 42 else 8
        return f"{bits} bits" if bits > 8 else ""
    return ""


def _pixels(
    files: Iterable[Path | Encoded], count: int, shape: tuple[int, ...], mode: str, image_size: int | None
) -> np.ndarray:
    array = np.empty((count, *shape), np.uint8)
    for row, path in zip(array, files, strict=True):
        with _opened(path) as image:
            pixels = np.asarray(_prepared(image, mode, image_size))
        row[...] = pixels if mode == "L" else pixels.transpose(2, 0, 1)
    return array


@contextmanager
def _opened(path: Path | Encoded) -> Iterator[Image.Image]:
    """An image, whatever its decoder raises turned into `DataError`.

    Pillow refuses more than 179 million pixels, so that a small file cannot fill the memory; below, its warning is not shown.
    Truncated images are an error even where a program has told Pillow to fill them with grey.
    """
    with _decoding(path), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        filled, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
        try:
            with Image.open(path if isinstance(path, Path) else BytesIO(path.content), formats=_formats()) as image:
                yield image
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = filled


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@contextmanager
def _decoding(path: Path | Encoded) -> Iterator[None]:
    expected, remedy = "an intact image file", "Remove the file or download it again"
    with reading(path, expected, remedy):
        try:
            yield
        except (DataError, OSError, MemoryError):
            raise
        except Exception as error:  # on broken files Pillow's decoders raise more than they document
            raise DataError(path, f"cannot be read ({type(error).__name__}: {error})", expected, remedy) from error


def _prepared(image: Image.Image, mode: str, image_size: int | None) -> Image.Image:
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns when a transparent palette goes to RGB directly
    image = image.convert(mode)
    if image_size is None:
        return image
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    return image if side == image_size else image.resize((image_size, image_size), Image.Resampling.LANCZOS)
