"""Reader of a folder of image files, recursively and in sorted order, e.g. CelebA's img_align_celeba."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from validation.data.raw import DataError, Raw, reading, regular, room

__all__ = ["IMAGE_SUFFIXES", "image_files", "read_images"]

IMAGE_SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".jp2", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp")
)


def image_files(folder: Path) -> list[Path]:
    """Every image below `folder` by its suffix, sorted by relative path, less hidden files and linked folders."""

    def refuse(error: OSError) -> None:
        remedy = "Change its mode or its owner"
        raise DataError(error.filename, f"cannot be listed ({error.strerror})", "a readable folder", remedy)

    found = [
        Path(root, name)
        for root, _, names in os.walk(folder, onerror=refuse)
        for name in names
        if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
    ]
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def read_images(
    folder: Path, files: list[Path], image_size: int | None, pick: Callable[[int], np.ndarray | None]
) -> tuple[Raw, int]:
    """The images as uint8, (P, H, W) where all are grey and (P, 3, H, W) otherwise; also how many files there were.

    With `image_size` each is cropped to its central square and resampled (Lanczos) unless it has that size already;
    without, all must have one size. Images with several frames give their first; an alpha channel is dropped. Where
    every image lies in a subfolder, the labels number these in sorted order.
    """
    total, chosen = len(files), pick(len(files))
    if chosen is not None:
        files = [files[i] for i in chosen]
    if len(files) < 2:
        raise DataError(folder, f"it holds {len(files)} image", "at least two samples")
    colours, sizes, alpha, frames = set(), {}, 0, 0
    for path in files:
        regular(path)
        with _decoding(path), Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                remedy = "Convert it to 8 bits, or save the numbers as .npy"
                raise DataError(path, f"its pixels are not 8-bit (Pillow mode {image.mode})", "8-bit images", remedy)
            colours.add("L" if image.mode in ("1", "L", "LA", "La") else "RGB")
            alpha += image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
            frames += getattr(image, "n_frames", 1) > 1
            sizes.setdefault(image.size, path)
    if image_size is None and len(sizes) > 1:
        (one, first), (two, second) = list(sizes.items())[:2]
        raise DataError(
            folder,
            f"its images are ragged: {first.name} is {one[0]}x{one[1]}, {second.name} is {two[0]}x{two[1]}",
            "images of one size",
            "Pass image_size= to crop each to its central square and resize it",
        )
    mode = "L" if colours == {"L"} else "RGB"
    width, height = (image_size, image_size) if image_size is not None else next(iter(sizes))
    shape = (height, width) if mode == "L" else (3, height, width)
    room(folder, (len(files), *shape), 5)  # one byte as stored, four once scaled
    array = np.empty((len(files), *shape), np.uint8)
    for row, path in zip(array, files, strict=True):
        with _decoding(path), Image.open(path) as image:
            pixels = np.asarray(_prepared(image, mode, image_size))
        row[...] = pixels if mode == "L" else pixels.transpose(2, 0, 1)
    notes = [f"{alpha} images had an alpha channel, which was dropped"] if alpha else []
    notes += [f"{frames} files had several frames, of which the first was taken"] if frames else []
    if image_size is not None and min(map(min, sizes)) < image_size:
        notes.append(f"images smaller than {image_size} pixels were enlarged")
    names = tuple(path.relative_to(folder).as_posix() for path in files)
    return Raw(array, folder.name, str(folder), _classes(folder, files), None, (0, 255), tuple(notes), names), total


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
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


def _classes(folder: Path, files: list[Path]) -> np.ndarray | None:
    tops = [path.relative_to(folder).parts for path in files]
    names = sorted({parts[0] for parts in tops})
    if any(len(parts) == 1 for parts in tops) or len(names) < 2:
        return None
    return np.array([names.index(parts[0]) for parts in tops])
