"""Modules from files that hold their computation, TorchScript and `torch.export`; nothing in them runs but torch's operators.

TorchScript is interpreted by torch. A `.pt2` file is described in JSON, but torch looks its operators up by name anywhere in
torch, evaluates its expressions of sizes as Python, and falls back to a plain pickle for what it cannot read. Therefore operators
other than torch's own, expressions other than arithmetic and objects other than tensors are refused first.
"""

from __future__ import annotations

import ast
import json
import os
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from numerics.domain import DomainError

__all__ = ["load_exported", "load_script"]

_ALLOWED = "a whole file that torch.export.save wrote, of tensors and torch's own operators"
_OPERATOR = re.compile(
    r"torch\.ops\.(?!load_library)[a-z]\w*\.(?!__)\w+(\.(?!__)\w+)?|torch\._?sym_\w+|math\.[a-z]\w*"
    r"|_operator\.(?!attrgetter|methodcaller|call)[a-z]\w*"
)
_NODES = (
    ast.Expression, ast.BoolOp, ast.boolop, ast.BinOp, ast.operator, ast.UnaryOp, ast.unaryop, ast.Compare, ast.cmpop, ast.IfExp,
    ast.Subscript, ast.Load, ast.keyword, ast.Name, ast.Attribute, ast.Constant, ast.Call,
)  # fmt: skip
_LONGEST = 10_000  # characters of an expression


def load_script(path: str | os.PathLike) -> torch.nn.Module:
    """The module that `torch.jit.save` wrote, on the CPU.

    Raises
    ------
    DomainError : a damaged file
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript altogether
        try:
            return torch.jit.load(str(path), map_location="cpu")
        except (RuntimeError, ValueError, OSError) as error:
            allowed = "a whole file that torch.jit.save wrote"
            raise DomainError("--model", str(path), allowed, f"({_brief(error)})") from error


def load_exported(path: str | os.PathLike) -> torch.nn.Module:
    """The module that `torch.export.save` wrote, for batches of any size.

    One exported for a fixed batch is asked for so many points at a time.

    Raises
    ------
    DomainError : a damaged file, or one that holds more than tensors and torch's own operators
    """
    path = Path(path)
    _inspected(path)
    with warnings.catch_warnings(), _weights_only():
        warnings.simplefilter("ignore")
        try:
            program = torch.export.load(str(path))
            module: torch.nn.Module = program.module()
        except Exception as error:  # of many kinds, all of a file that is not whole
            raise DomainError("--model", str(path), _ALLOWED, f"({_brief(error)})") from error
    inputs = program.graph_signature.user_inputs
    sizes = {node.name: node.meta["val"].shape for node in program.graph.nodes if node.op == "placeholder"}
    if len(inputs) != 2 or not all(name in sizes and len(sizes[name]) for name in inputs):
        raise DomainError("--model", str(path), "exported with two arguments, points (B, ...) and noise (B,)")
    batch = sizes[str(inputs[0])][0]
    return FixedBatch(module, batch) if isinstance(batch, int) else module


class FixedBatch(torch.nn.Module):
    """A module that takes exactly `size` points, asked for any number: the last batch is filled with its last point.

    >>> FixedBatch(lambda y, level: y + level[:, None], 2)(torch.zeros(3, 1), torch.ones(3)).tolist()
    [[1.0], [1.0], [1.0]]
    """

    def __init__(self, inner: Any, size: int):
        super().__init__()
        self.inner, self.size = inner, size

    def forward(self, y: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        n, found = len(y), []
        for start in range(0, n, self.size):
            parts = [a[start : start + self.size] for a in (y, level)]
            missing = self.size - len(parts[0])
            parts = [torch.cat([a, a[-1:].expand(missing, *a.shape[1:])]) if missing else a for a in parts]
            out = self.inner(*parts)
            found.append((out[0] if isinstance(out, (tuple, list)) else out)[: self.size - missing])
        return torch.cat(found)


def _inspected(path: Path) -> None:
    """An error, where a `.pt2` holds anything that could run."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            described = [json.loads(archive.read(name)) for name in names if name.endswith(".json")]
    except (OSError, ValueError, zipfile.BadZipFile, RecursionError) as error:
        raise DomainError("--model", str(path), _ALLOWED, f"({_brief(error)})") from error
    for name in names:
        if re.search(r"constants/(?!tensor_|model_constants)|\.(so|py|pyc)$|aotinductor", name):
            raise DomainError("--model", str(path), _ALLOWED, f"(it holds {name})")
    for key, text in (found for part in described for found in _texts(part)):
        if key == "target" and not _OPERATOR.fullmatch(text):
            raise DomainError("--model", str(path), _ALLOWED, f"(it calls {text})")
        if key in ("expr_str", "guards_code") and not _is_arithmetic(text):
            raise DomainError("--model", str(path), _ALLOWED, f"(it holds the expression {text})")


def _texts(part: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(key, text) of every text in nested JSON; those of a list have the list's key."""
    waiting = [(key, part)]
    while waiting:
        key, part = waiting.pop()
        if isinstance(part, str):
            yield key, part
        elif isinstance(part, dict):
            waiting += part.items()
        elif isinstance(part, list):
            waiting += [(key, item) for item in part]


def _is_arithmetic(text: str) -> bool:
    """Whether an expression of sizes names symbols and sizes alone.

    >>> _is_arithmetic("L['x'].size()[0] == 2*Symbol('s13', positive=True)"), _is_arithmetic("__import__('os')")
    (True, False)
    """
    try:
        if len(text) > _LONGEST:
            return False
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in nodes:
        if not isinstance(node, _NODES):
            return False
        if isinstance(node, ast.Name) and not re.fullmatch(r"[A-Za-z]\w*", node.id):
            return False
        if isinstance(node, ast.Attribute) and node.attr not in ("size", "shape", "stride", "storage_offset"):
            return False
        if isinstance(node, ast.Call) and not (
            isinstance(node.func, ast.Attribute)
            or (
                isinstance(node.func, ast.Name)
                and (node.func.id[0].isupper() or node.func.id in ("floor", "ceiling", "sqrt"))
            )
        ):
            return False
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and not re.fullmatch(r"[A-Za-z]\w*", node.value)
        ):
            return False
    return True


@contextmanager
def _weights_only() -> Iterator[None]:
    """`torch.load` loads tensors alone inside, whatever it is asked."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else text[:157] + "..."
