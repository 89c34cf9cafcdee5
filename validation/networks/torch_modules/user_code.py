"""What the user's own function returns: `--model file.py:function`. The file is run, as `python file.py` would run it."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from numerics.domain import DomainError

__all__ = ["call_function"]

_ALLOWED = "file.py:function, of no argument or of `device`"


def call_function(model: str | os.PathLike, device: str = "cpu") -> Any:
    """Run the file and call its function, with `device` where it takes that.

    Modules beside the file are found, as they are by `python file.py`.

    Raises
    ------
    DomainError : no such function, one of other arguments, or one that fails, with the line
    """
    file, _, name = os.fspath(model).rpartition(":")
    path = Path(file).resolve()
    spec = importlib.util.spec_from_file_location(f"geomem_model_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise DomainError("--model", str(model), _ALLOWED)
    code = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    sys.modules[spec.name] = code  # dataclasses look their module up
    try:
        try:
            spec.loader.exec_module(code)
        except (Exception, SystemExit) as error:
            raise _failed(model, path, error) from error
        function = getattr(code, name, None)
        if not callable(function):
            functions = [n for n, f in vars(code).items() if inspect.isfunction(f) and f.__module__ == spec.name]
            known = ", ".join(functions[:6]) or "none"
            raise DomainError("--model", str(model), _ALLOWED, f"(functions in {path.name}: {known})")
        try:
            parameters = inspect.signature(function).parameters.values()
        except ValueError:
            parameters = ()
        takes = [p.name for p in parameters if p.name == "device"]
        if [p.name for p in parameters if p.default is p.empty and p.kind in _NEEDED and p.name != "device"]:
            raise DomainError("--model", str(model), _ALLOWED, f"(it is {name}{inspect.signature(function)})")
        try:
            return function(**dict.fromkeys(takes, device))
        except DomainError:
            raise
        except (Exception, SystemExit) as error:
            raise _failed(model, path, error) from error
    finally:
        sys.path.remove(str(path.parent))


_NEEDED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _failed(model: str | os.PathLike, path: Path, error: BaseException) -> DomainError:
    """The error of the user's code on one line, with the last line of their file."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path]
    where = f"{path.name}, line {frames[-1].lineno}: " if frames else ""
    said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return DomainError("--model", str(model), "code that runs", f"({where}{said})")
