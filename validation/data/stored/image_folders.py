"""Which files of a folder are images, and what its subfolders mean: splits (train/, val/), classes, shards or nothing."""

from __future__ import annotations

import json
import os
import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from validation.data.stored.raw import DataError

__all__ = ["IMAGE_SUFFIXES", "ImageFolder", "is_clutter", "is_folder", "survey"]

IMAGE_SUFFIXES = frozenset((
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".pbm", ".pcx",
    ".pgm", ".png", ".pnm", ".ppm", ".rgb", ".sgi", ".tga", ".tif", ".tiff", ".webp",
))  # fmt: skip

# Left by notebooks, archivers, photo stations and file systems: hidden copies, thumbnails, deleted files.
_CLUTTER = frozenset(("__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information"))
# whole names, or followed by a year or a word for "set", as COCO's val2017
_SPLIT = re.compile(r"(?P<train>train(ing)?|trn)|(?P<test>test(ing)?|tst)|(?P<val>val(id(ation)?)?)", re.IGNORECASE)
_SPLIT_TAIL = re.compile(r"[-_ ]?(\d{4}|set|data|images?|imgs?|split|org)?$", re.IGNORECASE)


def is_clutter(name: str) -> bool:
    """Whether a folder of this name holds copies that nobody means as data.

    >>> is_clutter(".ipynb_checkpoints"), is_clutter("__MACOSX"), is_clutter("cats")
    (True, True, False)
    """
    return name.startswith(".") or name.lower() in _CLUTTER


def split_of(name: str) -> str | None:
    """ "train", "test" or "val" where a folder's name says so, else None.

    >>> split_of("Training"), split_of("val2017"), split_of("test"), split_of("trains")
    ('train', 'val', 'test', None)
    """
    found = _SPLIT.match(name)
    return found.lastgroup if found and _SPLIT_TAIL.fullmatch(name, found.end()) else None


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """The images of a folder, in order, and what their places say.

    files : training images (or all, where the folder has no splits); labels : (P,) integers, or None
    held_out : images of the test (else validation) split; notes : what was left out, one sentence each
    """

    files: list[Path]
    held_out: list[Path]
    labels: np.ndarray | None
    notes: tuple[str, ...]


def survey(folder: Path) -> ImageFolder:
    """All images below `folder`, sorted by relative path, read as splits and classes by the names of their folders.

    A folder with train/ (training/, train2017/) beside test/ or val/ (valid/, validation/) has splits, at its top or inside
    each class: train/ is the data, test/, else val/, is held out, the rest is left out and counted. What remains of the
    path names the class. Hidden folders, thumbnails and other clutter are no data. Folders that are symbolic links
    are followed, each real folder once.

    Raises
    ------
    DataError : a folder that cannot be listed; test/ and val/ without train/
    """
    found, notes = _walk(folder)
    parts = [path.relative_to(folder).parts for path in found]
    level = _split_level(parts)
    if level is None:
        _refuse_headless(folder, parts)
        return ImageFolder(found, [], _labels(folder, parts), notes)
    names = [p[level] if len(p) > level + 1 else "" for p in parts]
    splits = [split_of(name) for name in names]
    held = "test" if "test" in splits else "val"
    chosen = [i for i, split in enumerate(splits) if split == "train"]
    kept = [i for i, split in enumerate(splits) if split == held]
    rest = Counter(
        name or "beside them" for name, split in zip(names, splits, strict=True) if split not in ("train", held)
    )
    shown = sorted({names[i] for i in kept})
    notes = (f"held-out samples are {', '.join(f'{name}/' for name in shown)}", *notes)
    if rest:
        listed = ", ".join(
            f"{n} {name}" if name == "beside them" else f"{n} in {name}/" for name, n in sorted(rest.items())
        )
        notes += (f"images outside the training and held-out folders were left out: {listed}",)
    inner = [(*parts[i][:level], *parts[i][level + 1 :]) for i in chosen]
    return ImageFolder([found[i] for i in chosen], [found[i] for i in kept], _labels(folder, inner), notes)


def _walk(folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Image files below `folder`, and notes on what is no image, hidden, or linked twice."""
    images: list[Path] = []
    others: Counter[str] = Counter()
    hidden: Counter[str] = Counter()
    again: list[str] = []
    nowhere: list[str] = []
    seen: set[tuple[int, int]] = set()
    waiting, linked = deque([folder]), deque()
    while waiting or linked:
        # real folders first: where a link leads to one of them, it keeps its own name
        here = waiting.popleft() if waiting else linked.popleft()
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in seen:
            again.append(here.relative_to(folder).as_posix())
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in _listed(here):
            path = Path(entry.path)
            image = path.suffix.lower() in IMAGE_SUFFIXES
            if is_folder(entry):
                if is_clutter(entry.name):
                    hidden[f"{entry.name}/"] += sum(1 for _ in _images_below(path))
                else:
                    (linked if entry.is_symlink() else waiting).append(path)
            elif entry.name.startswith("."):
                hidden["hidden files"] += image
            elif image:
                images.append(path)
            elif entry.is_symlink() and not os.path.exists(path):
                nowhere.append(path.relative_to(folder).as_posix())
            else:
                others[path.suffix.lower() or "no suffix"] += 1
    notes = []
    if bare := _without_images(folder, images):
        notes.append(f"{len(bare)} folders hold no images and are no classes ({_first(bare)})")
    if total := sum(hidden.values()):
        where = ", ".join(name for name in sorted(hidden) if hidden[name])
        notes.append(f"{total} hidden images were left out ({where})")
    if others:
        listed = ", ".join(f"{n} {suffix}" for suffix, n in sorted(others.items()))
        notes.append(f"{sum(others.values())} files are no images by their suffix and were left out ({listed})")
    if again:
        notes.append(f"{len(again)} linked folders lead to folders read already and were left out ({_first(again)})")
    if nowhere:
        notes.append(f"{len(nowhere)} links lead nowhere or in a circle and were left out ({_first(nowhere)})")
    return sorted(images, key=lambda path: path.relative_to(folder).parts), tuple(notes)


def _first(names: list[str]) -> str:
    """A few names, and dots for the rest."""
    return ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")


def _without_images(folder: Path, images: list[Path]) -> list[str]:
    """Folders directly below that look like classes (others have images) and have none themselves."""
    full = {parts[0] for path in images if len(parts := path.relative_to(folder).parts) > 1}
    here = (entry.name for entry in _listed(folder) if is_folder(entry) and not is_clutter(entry.name))
    return sorted(set(here) - full) if full else []


def is_folder(entry: os.DirEntry) -> bool:
    """Whether an entry is a folder or leads to one; a link that leads in a circle or nowhere does not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _listed(folder: Path) -> list[os.DirEntry]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        remedy = "Change its mode or its owner"
        raise DataError(folder, f"cannot be listed ({error.strerror})", "a readable folder", remedy) from error


def _images_below(folder: Path) -> Iterator[str]:
    """Names of images below a folder that is not read: what cannot be listed is not counted, links are not followed."""
    for _, _, names in os.walk(folder):
        yield from (name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES)


def _split_level(parts: list[tuple[str, ...]]) -> int | None:
    """0 where the splits are the top folders, 1 where every class has its own, None where there are none."""
    for level in (0, 1):
        names = {p[level] for p in parts if len(p) > level + 1}
        kinds = {split_of(name) for name in names}
        whole = level == 0 or (None not in kinds and all(len(p) > level + 1 for p in parts))
        if "train" in kinds and kinds & {"test", "val"} and whole:
            return level
        if names and kinds == {"train"}:  # train/ alone: its subfolders are the classes
            return None
    return None


def _refuse_headless(folder: Path, parts: list[tuple[str, ...]]) -> None:
    tops = {p[0] for p in parts if len(p) > 1}
    kinds = {split_of(name) for name in tops}
    if len(tops) > 1 and None not in kinds and "train" not in kinds and all(len(p) > 1 for p in parts):
        names = ", ".join(f"{name}/" for name in sorted(tops))
        raise DataError(folder, f"it holds {names} and no training images", "train/ beside them", "Give one of them")


# --- classes ----------------------------------------------------------------------------------------------------------


def _labels(folder: Path, parts: list[tuple[str, ...]]) -> np.ndarray | None:
    """A number for each image's top folder; from dataset.json where the folder is EDM's, whose subfolders are shards."""
    listed = _edm_labels(folder)
    if listed is not None:
        labels = [listed.get("/".join(p)) for p in parts]
        return np.array(labels) if labels and all(isinstance(label, int) for label in labels) else None
    depth = 0
    while parts and all(len(p) > depth + 1 for p in parts) and len({p[depth] for p in parts}) == 1:
        depth += 1  # one folder around all, such as train/
    if any(len(p) <= depth + 1 for p in parts):
        return None
    names = sorted(
        {p[depth] for p in parts}, key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name)
    )
    number = {name: i for i, name in enumerate(names)}
    return np.array([number[p[depth]] for p in parts]) if names else None


def _edm_labels(folder: Path) -> dict[str, int] | None:
    """File -> label of EDM's (and StyleGAN's) dataset.json; {} where it has none; None where the folder is not EDM's."""
    path = folder / "dataset.json"
    try:
        if path.stat().st_size > 1 << 28:
            return None
        record = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or "labels" not in record:
        return None
    try:
        return {str(name): label for name, label in record["labels"] or ()}
    except (TypeError, ValueError):
        return {}
