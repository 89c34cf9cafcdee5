"""Results of a simulation, replica by replica, in one file from which an interrupted run goes on to the same numbers."""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path

import numpy as np

from numerics.domain import DomainError
from numerics.store import atomic, writable

__all__ = ["ReplicaStore"]


class ReplicaStore:
    """Per-replica results in one .npz, replaced atomically; refuses a file written by a different run."""

    def __init__(self, path: str | os.PathLike | None, identity: str, every: float):
        self.path, self.identity, self.every = None if path is None else Path(path), identity, every
        self.last = time.perf_counter()

    def load(self) -> tuple[int, float, dict[str, np.ndarray]]:
        """Replicas done, seconds spent on them, and their results by name."""
        if self.path is None or not self.path.exists():
            return 0, 0.0, {}
        try:
            with open(self.path, "rb") as handle, np.load(handle) as file:
                content = {name: file[name] for name in file.files}
            identity, done, seconds = str(content.pop("identity")), int(content.pop("done")), content.pop("seconds")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            remedy = "Remove it or choose another path"
            raise DomainError("checkpoint", str(self.path), f"a readable checkpoint ({error})", remedy) from error
        if identity != self.identity:
            remedy = f"It holds {identity}; this run is {self.identity}. Remove it or choose another path"
            raise DomainError("checkpoint", str(self.path), "a checkpoint of this very run", remedy)
        return done, float(seconds), content

    def save(self, rows: dict[str, list[np.ndarray]], done: int, seconds: float, *, final: bool) -> None:
        """Write what is done if the last time was long ago, or if it is the last."""
        if self.path is None or not (final or time.perf_counter() - self.last >= self.every):
            return
        writable(self.path, argument="checkpoint")
        try:
            with atomic(self.path) as temporary, open(temporary, "wb") as file:
                arrays = {name: np.concatenate(parts) for name, parts in rows.items()}
                np.savez(file, identity=self.identity, done=done, seconds=seconds, **arrays)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DomainError("checkpoint", str(self.path), f"a writable path ({error})") from error
        self.last = time.perf_counter()
