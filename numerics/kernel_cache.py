"""Where compiled kernels are kept between processes: one policy for every numba kernel of the house, and `njit` that follows it.

The folder is `$GEOMEM_CACHE_DIR`, else `geomem` in `$XDG_CACHE_HOME` or `~/.cache`, else in `$NUMBA_CACHE_DIR`. Where none can be
used, kernels are compiled anew in every process, and a line says so once. An installation is never written to.

numba's own cache beside the sources misses three things that this one has. A kernel is stored under a hash of its file *and of
every file of ours that this imports*: a changed callee makes a new kernel. One file holds one kernel with its checksum, written
whole: processes cannot mix up each other's kernels. What cannot be read is compiled again, never an error.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import pickle
import re
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.serialize import dumps

from numerics.thread_count import keep_thread_count

__all__ = ["cache_folder", "keep", "log", "njit"]

log = logging.getLogger("geomem")
_IMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+import\s+(\([^)]*\)|[^\n]*)|import\s+([\w.]+))", re.MULTILINE)


@cache
def cache_folder() -> Path | None:
    """The folder of compiled kernels, safe to delete; None where there is none that can be used.

    A folder that exists and cannot be written is used all the same: kernels found there are loaded.
    """
    user = os.environ.get("XDG_CACHE_HOME")
    if not user:
        with suppress(RuntimeError):  # no HOME, and a user whom the system does not know
            user = str(Path.home() / ".cache")
    shared = os.environ.get("NUMBA_CACHE_DIR")
    chosen = os.environ.get("GEOMEM_CACHE_DIR")
    places = [Path(chosen)] if chosen else [Path(place) / "geomem" for place in (user, shared) if place]
    return next(filter(_takes_files, places), None) or next(filter(os.path.isdir, places), None)


def _takes_files(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except (OSError, ValueError):
        return False


@cache
def _say(level: int, line: str) -> None:
    """A line on the log, once a process."""
    log.log(level, line)


def keep(name: str, content: bytes) -> None:
    """Write a file into the cache folder, whole or not at all; where that fails, say so once and go on without."""
    folder = cache_folder()
    if folder is None:
        chosen = os.environ.get("GEOMEM_CACHE_DIR")
        return _lost(f"GEOMEM_CACHE_DIR = {chosen} cannot be used" if chosen else "no cache folder can be written")
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".tmp", delete=False) as file:
            temporary = file.name
            file.write(content)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # a folder may be shared
        os.replace(temporary, folder / name)
        _say(logging.INFO, f"compiled kernels are kept in {folder}: the next run starts faster")
    except OSError as error:
        _lost(f"{folder}: {error.strerror}")
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)


def _lost(reason: str) -> None:
    _say(
        logging.WARNING,
        f"geomem: no place for compiled kernels ({reason}). They are compiled anew in every process, which takes up to some "
        "minutes: set GEOMEM_CACHE_DIR to a folder you can write",
    )


# --- what a kernel is made from -----------------------------------------------------------------------------------------


@cache
def _imported(path: str, houses: tuple[str, ...]) -> tuple[str, ...]:
    """The files of ours that a file imports: modules of the packages `houses` that are loaded."""
    found = []
    for module, names, plain in _IMPORT.findall(Path(path).read_text(encoding="utf-8")):
        module = module or plain
        if module.split(".")[0] in houses:
            inner = [f"{module}.{name}" for name in re.findall(r"\w+", names)]
            loaded = [sys.modules[name] for name in (module, *inner) if name in sys.modules]
            found += [file for each in loaded if (file := getattr(each, "__file__", None))]
    return tuple(dict.fromkeys(found))


@cache
def _stamp(path: str, package: str) -> str:
    """A hash of a file and of all files of ours that it imports, however far down."""
    houses = tuple(dict.fromkeys(("numerics", package)))
    digest, seen, waiting = hashlib.sha256(), set(), [path]
    while waiting:
        file = waiting.pop(0)
        if file not in seen:
            seen.add(file)
            digest.update(Path(file).read_bytes())
            waiting += _imported(file, houses)
    return digest.hexdigest()


# --- numba's face -------------------------------------------------------------------------------------------------------


class _Serial(CompileResultCacheImpl):
    """numba's way of turning a compiled function into bytes, without its choice of a place."""

    def __init__(self, function: Callable):
        self._lineno = function.__code__.co_firstlineno
        self._locator = SimpleNamespace(_py_file=inspect.getfile(function))


class _KernelCache(FunctionCache):
    """What numba asks for a kernel, answered from the cache folder."""

    def __init__(self, function: Callable):
        self._name = repr(function)
        self._py_func = function
        self._impl = _Serial(function)
        self.enable()

    @property
    def cache_path(self) -> str:
        return str(cache_folder())

    def flush(self) -> None:
        """Kernels of other sources have other names: there is nothing stale to remove."""

    def _file(self, signature: Any, codegen: Any) -> str:
        """The name of one kernel: module, function, and a hash of all that its machine code depends on."""
        function = self._py_func
        stamp = _stamp(inspect.getfile(function), function.__module__.split(".")[0])
        _, machine, code = self._index_key(signature, codegen)
        key = (
            numba.__version__,
            sys.version_info[:2],
            stamp,
            function.__code__.co_firstlineno,
            repr(signature),
            machine,
            code,
        )
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:24]
        return f"{function.__module__.rpartition('.')[2]}.{function.__name__}-{digest}.kernel"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        folder = cache_folder()
        if folder is None or not self._enabled:
            return None
        target_context.refresh()
        try:
            stored = (folder / self._file(sig, target_context.codegen())).read_bytes()
        except OSError:
            return None
        if hashlib.sha256(stored[32:]).digest() != stored[:32]:
            return None  # truncated or damaged: it is compiled again, and written over
        try:
            return self._impl.rebuild(target_context, pickle.loads(stored[32:]))
        except Exception:  # whatever is wrong with a stored kernel, it can be compiled again
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        if not (self._enabled and self._impl.check_cachable(data)):
            return
        try:
            name = self._file(sig, data.codegen)
        except OSError:  # a source that is nowhere: one that could not be kept, or in a frozen program
            return
        content = dumps(self._impl.reduce(data))
        keep(name, hashlib.sha256(content).digest() + content)


def njit(*function: Callable, **options: Any) -> Any:
    """`numba.njit`, whose `cache=True` follows this module's policy; `parallel=True` kernels are called from Python only."""
    kept = options.pop("cache", False)

    def compiled(f: Callable) -> Any:
        dispatcher = numba.njit(**options)(f)
        if kept and hasattr(dispatcher, "enable_caching"):  # with the JIT disabled it is f itself
            dispatcher._cache = _KernelCache(f)
        return keep_thread_count(dispatcher) if options.get("parallel") else dispatcher

    return compiled(*function) if function else compiled
