"""Which kind of network a `--model` names, told by its name and by the first names inside a file, before anything is loaded.

file.py:function      the user's own code                           "function"
.pt2                  a `torch.export` file                         "exported"
.pt, .ts, .pth        a TorchScript archive                         "script"
a folder              what diffusers saved                          "diffusers"
.safetensors          a checkpoint of `geomem train`                "own"
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from numerics.domain import DomainError
from validation.networks.pipelines import is_diffusers

__all__ = ["MODULES", "form_of", "is_foreign", "is_module"]

MODULES = ("function", "script", "exported")
_TORCH = (".pt", ".ts", ".pth", ".ckpt", ".bin", ".pkl", ".pickle")
_BUILD = "Write a function that builds the module and give both: `--model file.py:function --weights {}`"
_NVLABS = (
    "A pickle runs the code that it names, as NVlabs' network-snapshot-*.pkl do, and is not loaded. In the repository that wrote "
    "it, save the weights, `torch.save(network.state_dict(), 'weights.pt')`, and give `--model file.py:function --weights "
    "weights.pt` with a function that builds the network"
)


def is_foreign(model: str | os.PathLike) -> bool:
    """Whether a network is measured on data that the user gives: any but a checkpoint of `geomem train`, which knows its own.

    Raises
    ------
    DomainError : see `form_of`
    """
    return form_of(model) != "own"


def is_module(model: str | os.PathLike) -> bool:
    """Whether it is a torch module: the user's code, TorchScript or `torch.export`; errors are those of `form_of`."""
    text = os.fspath(model)
    named = text.rpartition(":")[0].endswith(".py") or Path(text).suffix in (".py", ".pt2", *_TORCH)
    return named and not Path(text).is_dir() and form_of(model) in MODULES


def form_of(model: str | os.PathLike) -> str:
    """The kind of a `--model`: "function", "script", "exported", "diffusers" or "own".

    Raises
    ------
    DomainError : nothing there; a pickle, or weights without the module they belong to, with what to give instead
    """
    text = os.fspath(model)
    file, colon, function = text.rpartition(":")
    if colon and file.endswith(".py"):
        allowed = "file.py:function"
        if "\0" in file or not Path(file).is_file():
            raise DomainError("--model", text, allowed, f"({file}: no such file)")
        if not function.isidentifier():
            raise DomainError("--model", text, allowed, "The function is a name in that file")
        return "function"
    path = Path(text)
    if "\0" not in text and path.suffix == ".py" and path.is_file():
        raise DomainError("--model", text, "file.py:function", "Name the function in it that returns the module")
    if "\0" not in text and path.is_file() and path.suffix in (".pt2", *_TORCH):
        return _in_file(path)
    return "diffusers" if is_diffusers(path) else "own"


def _in_file(path: Path) -> str:
    """What lies in a file of torch."""
    names = names_in(path)
    if path.suffix == ".pt2":
        if not any(name.endswith("models/model.json") for name in names):
            raise DomainError("--model", str(path), "a file that torch.export.save wrote (torch 2.8 or later)")
        return "exported"
    if any("/code/" in name for name in names) and any(name.endswith("/constants.pkl") for name in names):
        return "script"
    allowed = "a TorchScript archive (torch.jit.save), a torch.export file (.pt2) or file.py:function"
    if path.suffix in (".pkl", ".pickle"):
        raise DomainError("--model", str(path), allowed, _NVLABS)
    if not any(name.endswith("/data.pkl") for name in names):
        raise DomainError("--model", str(path), allowed, "(it is none of torch's archives)")
    what = "It holds weights, or a pickled module, and no computation"
    raise DomainError("--model", str(path), allowed, f"{what}. {_BUILD.format(path)}")


def names_in(path: Path) -> list[str]:
    """Names of the entries of a zip archive; none, where it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return []
