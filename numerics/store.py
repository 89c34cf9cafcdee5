"""Files that are never half-written, and what a result must say about its own making."""

from __future__ import annotations

import errno
import glob
import os
import platform
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from numerics.domain import DomainError

__all__ = ["atomic", "load_dataset", "provenance", "save_dataset", "versions", "writable", "writable_folder"]


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and vanishes when it does not.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "numbers.txt"
    >>> with atomic(target) as path:
    ...     _ = path.write_text("1 2 3")
    >>> target.read_text()
    '1 2 3'
    """
    path = writable(path)
    made = [folder for folder in path.parents if not folder.exists()]
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep_up(path)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{_mark(path)}{os.getpid()}-", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        remedy = f"({os.strerror(error.errno)}). Make room, or choose another place"
        raise DomainError("out", str(path), "a path where the whole file can be written", remedy) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        for folder in made:  # only those that are empty
            with suppress(OSError):
                folder.rmdir()


def _mark(path: Path) -> str:
    """How the temporary files of `path` begin that are made on this machine; the number of the process follows."""
    return f".{path.stem[:40]}-{zlib.crc32(platform.node().encode()):08x}-"


def _sweep_up(path: Path) -> None:
    """Remove what killed processes of this machine left beside `path` when they were writing it."""
    if os.name != "posix":  # elsewhere no signal asks whether a process lives without touching it
        return
    for left in path.parent.glob(f"{glob.escape(_mark(path))}*"):
        number = left.name.removeprefix(_mark(path)).split("-")[0]
        with suppress(OSError, ValueError):
            try:
                os.kill(int(number), 0)
            except ProcessLookupError:
                left.unlink()


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def writable(path: str | Path, *, argument: str = "out") -> Path:
    """`path`, or `DomainError` if no file can be written there. Nothing is made: `atomic` makes the folder."""
    path = Path(path)
    try:
        if path.is_dir():
            raise DomainError(argument, str(path), "the name of a file, not of a folder")
        if path.exists() and not path.is_file():
            raise DomainError(argument, str(path), "the name of a regular file, not of a device or a pipe")
        _folder_takes_files(path.parent, path.name)
    except OSError as error:
        raise DomainError(argument, str(path), "a writable path", f"({error.strerror})") from error
    if path.exists() and not os.access(path, os.W_OK):
        raise DomainError(argument, str(path), "a writable path", "(the file is read-only)")
    return path


def writable_folder(path: str | Path, *, argument: str = "out") -> Path:
    """`path`, or `DomainError` if it is no folder and none can be made there. Nothing is made."""
    path = Path(path)
    try:
        _folder_takes_files(path)
    except OSError as error:
        raise DomainError(argument, str(path), "a folder to write into", f"({error.strerror})") from error
    return path


def _folder_takes_files(folder: Path, *names: str) -> None:
    """`OSError` unless a file can be made in the folder, or in the nearest folder above it that exists."""
    parts = (*folder.parts, *names)
    if any("\0" in part for part in parts):
        raise OSError(errno.EINVAL, "a null character in it")
    if any(len(os.fsencode(part)) > 255 for part in parts):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    with tempfile.TemporaryFile(dir=folder):
        pass


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that make numbers here, those that are installed."""
    found = {"python": platform.python_version()}
    for package in ("geomem", "numpy", "scipy", "sympy", "numba", "torch", "xarray"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def provenance(**arguments: Any) -> dict[str, str]:
    """Versions, command and arguments that made a result, as strings; no clock, so that equal runs give equal files.

    >>> provenance(seed=1)["seed"]
    '1'
    """
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return versions() | {"command": command} | {name: str(value) for name, value in arguments.items()}


def save_dataset(dataset: Any, path: str | Path) -> Path:
    """Write an `xarray.Dataset` as NetCDF (`.nc`) or, flattened to a table, as CSV (`.csv`), atomically."""
    path = Path(path)
    with atomic(path) as temporary:
        if path.suffix == ".csv":
            dataset.to_dataframe().reset_index().to_csv(temporary, index=False)
        elif path.suffix in (".nc", ".h5"):
            dataset.to_netcdf(temporary, engine="h5netcdf")
        else:
            raise DomainError("out", str(path), "a file name that ends in .nc, .h5 or .csv")
    return path


def load_dataset(path: str | Path) -> Any:
    """The `xarray.Dataset` written by `save_dataset` as NetCDF, loaded into memory."""
    import xarray as xr

    with xr.open_dataset(path, engine="h5netcdf") as dataset:
        return dataset.load()
