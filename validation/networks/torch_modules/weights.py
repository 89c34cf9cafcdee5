"""Weights by name put into a module of the user's: which of a checkpoint's tensors are meant, under which prefix.

A checkpoint of a training holds several networks: the trained one, its average, their wrappers. The average is taken where
there is one. Understood are nested dictionaries and prefixes in any order:

    lucidrains' denoising-diffusion-pytorch   {step, model, ema, ...}: ema's `ema_model.model.*`; `alphas_cumprod` is its schedule
    EDM2's training states                    {net, ema: {stds, emas: [..]}}: the first of emas
    EDM, Lightning, accelerate, compiled      {net}, {ema}, {state_dict}, `module.*`, `_orig_mod.*`, `model.*`
"""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from numerics.domain import DomainError

__all__ = ["Weights", "load_weights", "read_weights"]

_ALLOWED = "a .safetensors file, or a .pt file of tensors by name (torch.save of a state_dict)"
_AVERAGED = ("ema", "ema_model", "model_ema", "ema_state_dict", "state_dict_ema", "emas")
_PLAIN = ("model", "net", "network", "unet", "state_dict", "model_state_dict", "module", "denoiser")
_PREFIX = re.compile(r"(?:(?:ema|ema_model|online_model|module|_orig_mod|model|net|unet|denoiser)\.)*")
_SCHEDULE = re.compile(
    r".*(?:alphas|betas|snr|loss_weight|initted|step|posterior_\w+|alphas_cumprod\w*)"
)  # buffers of a sampler
_PICKLE = (
    "It holds a pickle of more than tensors, which runs the code that it names, and is not loaded. In the repository that wrote "
    "it: `torch.save(network.state_dict(), 'weights.pt')`, or safetensors.torch.save_file"
)


class Weights(NamedTuple):
    """Which tensors went into a module. source : in words; alphas_cumprod : (T,) of the checkpoint's own schedule, or None"""

    source: str
    alphas_cumprod: np.ndarray | None


def read_weights(path: str | os.PathLike) -> dict[str, Any]:
    """What a file of weights holds, on the CPU; pickles with `weights_only=True` alone.

    Raises
    ------
    DomainError : no such file, another kind of file, or a pickle of more than tensors, which is not run
    """
    path = Path(path)
    if "\0" in str(path) or not path.is_file():
        raise DomainError("--weights", str(path), _ALLOWED, "(no such file)")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path, device="cpu"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that it may not read
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DomainError("--weights", str(path), _ALLOWED, _PICKLE) from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, SafetensorError) as error:
        said = " ".join(str(error).split())[:160]
        raise DomainError("--weights", str(path), _ALLOWED, f"({said})") from error
    if not isinstance(found, Mapping):
        raise DomainError("--weights", str(path), _ALLOWED, f"(it holds a {type(found).__name__})")
    return dict(found)


def load_weights(module: torch.nn.Module, path: str | os.PathLike) -> Weights:
    """Put the weights of a file into a module, in place; every tensor of the module must be found, in its shape.

    Raises
    ------
    DomainError : see `read_weights`; tensors that the module lacks, or that the file lacks, or of other shapes, by name
    """
    held = read_weights(path)
    own = {name: tensor for name, tensor in module.state_dict().items() if isinstance(tensor, torch.Tensor)}
    candidates = list(_candidates(held))
    if not candidates or not own:
        raise DomainError("--weights", str(path), _ALLOWED, "(no tensors by name are in it, or none in the module)")
    reasons = []
    for place, tensors in candidates:
        for prefix in _prefixes(own, tensors):
            gap = _gap(own, tensors, prefix)
            if not gap:
                module.load_state_dict({name: tensors[prefix + name] for name in own}, strict=True)
                what = " ".join(filter(None, [place, f"under {prefix}" if prefix else ""]))
                return Weights(f"weights: {Path(path).name}" + (f", {what}" if what else ""), _alphas(held))
            reasons.append(gap)
    allowed = f"the weights of the function's {type(module).__name__}"
    raise DomainError(
        "--weights", str(path), allowed, min(reasons, key=len) if reasons else f"({_unlike(own, candidates)})"
    )


def _candidates(held: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, torch.Tensor]]]:
    """(place, tensors by name) of every dictionary of tensors, averages first."""
    for name in (*_AVERAGED, *_PLAIN):
        inside = held.get(name)
        if isinstance(inside, (list, tuple)) and inside and isinstance(inside[0], Mapping):
            inside, name = inside[0], f"{name}[0]"  # EDM2 keeps an average for every width, the narrowest first
        if isinstance(inside, Mapping):
            for place, tensors in _candidates(inside):
                yield f"{name} {place}".strip(), tensors
    tensors = {name: value for name, value in held.items() if isinstance(name, str) and isinstance(value, torch.Tensor)}
    if tensors:
        yield "", tensors


def _prefixes(own: Mapping[str, Any], tensors: Mapping[str, Any]) -> list[str]:
    """Known prefixes under which the module's first tensor lies, averages first."""
    first = next(iter(own))
    found = {name.removesuffix(first) for name in tensors if name.endswith(first)}
    return sorted((p for p in found if _PREFIX.fullmatch(p)), key=lambda p: ("ema" not in p, len(p)))


def _gap(own: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor], prefix: str) -> str:
    """What speaks against these being the module's weights, in words; nothing, where they are."""
    missing = [name for name in own if prefix + name not in tensors]
    if missing:
        return f"(of {len(own)} tensors of the module {len(missing)} are not in the file, {missing[0]} among them)"
    for name, tensor in own.items():
        if tensor.shape != tensors[prefix + name].shape:
            return f"({name} is {tuple(tensors[prefix + name].shape)} in the file, {tuple(tensor.shape)} in the module)"
    rest = [name.removeprefix(prefix) for name in tensors if name.startswith(prefix)]
    rest = [n for n in rest if n not in own and not _SCHEDULE.fullmatch(n) and not _PREFIX.match(n)[0]]  # type: ignore[index]
    return f"({len(rest)} tensors of the file are not in the module, {rest[0]} among them)" if rest else ""


def _unlike(own: Mapping[str, Any], candidates: list[tuple[str, Mapping[str, Any]]]) -> str:
    names = list(candidates[0][1])
    return f"the module's tensors are called {', '.join(list(own)[:2])}, ..., the file's {', '.join(names[:2])}, ..."


def _alphas(held: Any) -> np.ndarray | None:
    """The schedule that a checkpoint carries, (T,) products of alphas."""
    waiting = [held]
    while waiting:
        at = waiting.pop()
        for name, value in at.items():
            if isinstance(value, torch.Tensor) and str(name).rpartition(".")[2] == "alphas_cumprod" and value.ndim == 1:
                return value.double().numpy()
            if isinstance(value, Mapping):
                waiting.append(value)
    return None
