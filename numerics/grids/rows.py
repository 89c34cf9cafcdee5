"""Finished rows of a long run, kept beside its output until it is whole, so that a killed run goes on from them."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from numerics.domain import DomainError
from numerics.store import atomic, writable

__all__ = ["Rows", "forget", "mark"]

PARTIAL = ".partial"
_BAD = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


def mark(array: np.ndarray) -> str:
    """What tells one array from another: shape, ends and a hash of its bytes, short enough for an error's text.

    >>> mark(np.array([1.0, 2.0]))
    '(2,) from 1 to 2, dc91ce9a50ddc828'
    >>> mark(np.array([1.0, 2.0])) == mark(np.array([1.0, 2.5]))
    False
    """
    array = np.ascontiguousarray(array)
    ends = f" from {array.flat[0]:.6g} to {array.flat[-1]:.6g}" if array.size else ""
    return f"{array.shape}{ends}, {hashlib.sha256(array.reshape(-1).view(np.uint8)).hexdigest()[:16]}"


def forget(out: str | Path) -> None:
    """Remove the rows beside `out`, if there are any: to be called when the whole is written."""
    out = Path(out)
    shutil.rmtree(out.with_name(out.name + PARTIAL), ignore_errors=True)


class Rows:
    """Rows by number: in memory, or one file each in `<out>.partial/` with a manifest that says of which run they are.

    Parameters
    ----------
    out : file the whole will be written to, or None: rows are then held in memory
    identity : everything the rows depend on, as text by name. Rows that are already there must be of the same
    what : what a run is called in errors; argument : the name by which the user knows `out`

    Raises
    ------
    DomainError : `out` cannot be written; rows of another run are there (the error tells what differs); unreadable rows

    The failure that looks normal: an identity that leaves something out. Its rows are then those of two runs.

    >>> import tempfile
    >>> out = Path(tempfile.mkdtemp()) / "x.nc"
    >>> Rows(out, {"seed": "1"}).put(0, {"v": np.ones(2)})
    >>> Rows(out, {"seed": "1"}).get(0)["v"].tolist()
    [1.0, 1.0]
    >>> Rows(out, {"seed": "2"})
    Traceback (most recent call last):
    ...
    numerics.domain.DomainError: out = ...x.nc is outside its domain: it must be an output without the rows of another run: ...
    """

    def __init__(
        self, out: str | Path | None, identity: Mapping[str, str], *, what: str = "run", argument: str = "out"
    ):
        self.memory: dict[int, dict[str, np.ndarray]] = {}
        self.folder, self.argument = None, argument
        if out is None:
            return
        out = writable(out, argument=argument)
        self.folder = out.with_name(out.name + PARTIAL)
        path, told = self.folder / "manifest.json", {what: dict(identity)}
        if path.exists():
            differs = _differences(_manifest(path, what, argument), told[what])
            if differs:
                allowed = f"an output without the rows of another {what}: those there have {differs}"
                raise DomainError(argument, str(out), allowed, f"Remove {self.folder} or choose another name")
            return
        if self.folder.exists() and not self.folder.is_dir():
            raise DomainError(argument, str(out), f"an output beside which there is no file {self.folder.name}")
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(told, indent=1))

    def has(self, i: int) -> bool:
        return i in self.memory if self.folder is None else self._path(i).exists()

    def put(self, i: int, row: Mapping[str, np.ndarray]) -> None:
        row = {name: np.asarray(values) for name, values in row.items()}
        if self.folder is None:
            self.memory[i] = row
            return
        with atomic(self._path(i)) as temporary, open(temporary, "wb") as file:
            np.savez(file, **row)

    def get(self, i: int) -> dict[str, np.ndarray]:
        if self.folder is None:
            return self.memory[i]
        try:
            with open(self._path(i), "rb") as file, np.load(file) as stored:
                return {name: stored[name] for name in stored.files}
        except _BAD as error:
            raise DomainError(
                self.argument, str(self._path(i)), f"a readable row ({error})", "Remove it: it is then made again"
            ) from error

    def clear(self) -> None:
        """Remove the files: to be called when the whole is written."""
        if self.folder is not None:
            shutil.rmtree(self.folder)

    def _path(self, i: int) -> Path:
        return self.folder / f"row_{i:06d}.npz"


def _manifest(path: Path, what: str, argument: str) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_text())[what])
    except (*_BAD, TypeError) as error:
        allowed = f"the manifest of a {what} that this version began"
        raise DomainError(argument, str(path), allowed, f"Remove {path.parent} or choose another name") from error


def _differences(there: Mapping[str, str], here: Mapping[str, str]) -> str:
    names = [name for name in [*here, *there] if there.get(name) != here.get(name)]
    return "; ".join(f"{n} = {there.get(n, 'none')} (here {here.get(n, 'none')})" for n in dict.fromkeys(names))
