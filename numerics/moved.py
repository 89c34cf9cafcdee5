"""Documented import paths of earlier versions go on working: a finder that redirects them to where the module is now."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["redirect"]


class _Redirect:
    """Finder and loader: the module `old` is the module `new`, and importing it warns.

    The base classes of `importlib.abc` add nothing to it, and their import would be a tenth of `geomem --help`.
    """

    def __init__(self, moved: Mapping[str, str]):
        self.moved = moved
        self.specs: dict[str, ModuleSpec | None] = {}

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self) if name in self.moved else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = self.moved[spec.name]
        warnings.warn(f"{spec.name} is now {new}", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(new)
        self.specs[new] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has run already; the import system has put the old name's spec in place of its own."""
        module.__spec__ = self.specs[module.__name__]


def redirect(moved: Mapping[str, str]) -> None:
    """Let every old dotted name import the module of the new one, with a `DeprecationWarning`."""
    sys.meta_path.append(_Redirect(dict(moved)))
