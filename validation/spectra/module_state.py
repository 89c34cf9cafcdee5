"""A module that is probed is left as it was found: training mode, buffers, gradients, random state, autocast, grad mode.

While it is probed every submodule is in evaluation mode and works on copies of its buffers, so that neither dropout nor batch
statistics (nor a scratch buffer that is written in place) know of the probe. The modules of a plain callable are those that
it holds: in its closure, among the globals it names, as a bound object, in a `functools.partial` or as attributes.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

__all__ = ["as_found", "modules_of"]

_DEPTH = 4  # how many callables may lie one in another


def modules_of(function: Any) -> list[torch.nn.Module]:
    """The torch modules that a callable holds, outermost first; of a module, itself.

    >>> net = torch.nn.Linear(2, 2)
    >>> modules_of(lambda x, t: net(x) / t) == [net], modules_of(partial(net)) == [net], modules_of(torch.sin)
    (True, True, [])
    """
    found: list[torch.nn.Module] = []
    seen: set[int] = set()

    def look(thing: Any, depth: int) -> None:
        if id(thing) in seen or depth > _DEPTH:
            return
        seen.add(id(thing))
        if isinstance(thing, torch.nn.Module):
            found.append(thing)
        elif isinstance(thing, (list, tuple)):
            for part in thing[:64]:
                look(part, depth + 1)
        elif isinstance(thing, dict):
            for part in list(thing.values())[:64]:
                look(part, depth + 1)
        elif callable(thing) and not isinstance(thing, type):
            for part in _held(thing):
                look(part, depth + 1)

    look(function, 0)
    return found


def _held(function: Any) -> Iterator[Any]:
    if isinstance(function, partial):
        yield from (function.func, *function.args, *function.keywords.values())
    bound = getattr(function, "__self__", None)
    if bound is not None and not inspect.ismodule(bound):
        yield bound
    plain = getattr(function, "__func__", function)
    if inspect.isfunction(plain):
        known = inspect.getclosurevars(plain)
        yield from (*known.nonlocals.values(), *known.globals.values())
        yield from (*(plain.__defaults__ or ()), *(plain.__kwdefaults__ or {}).values())
    yield from getattr(function, "__dict__", {}).values()


@contextmanager
def as_found(modules: Sequence[torch.nn.Module]) -> Iterator[None]:
    """Evaluation mode inside; after it, however it ends, everything about the modules is what it was."""
    inner = list({id(m): m for module in modules for m in module.modules()}.values())
    with ExitStack() as stack:
        stack.enter_context(_global_state(inner))
        for restore in (*map(_in_evaluation, inner), *_on_copies(inner)):
            stack.callback(restore)
        yield


def _in_evaluation(module: torch.nn.Module) -> Callable[[], None]:
    training = module.training
    if not training:
        return partial(_set_training, module, False)
    module.training = False  # not .eval(): a module may do more in it (merge adapters) than .train() undoes
    return partial(_set_training, module, True)


def _set_training(module: torch.nn.Module, training: bool) -> None:
    if module.training != training:
        module.training = training


def _on_copies(modules: Sequence[torch.nn.Module]) -> Iterator[Callable[[], None]]:
    """Put copies in the place of all buffers (and of tensors kept as plain attributes); yields what brings the own ones back."""
    copies: dict[int, torch.Tensor] = {}
    for module in modules:
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for place in (module._buffers, module.__dict__):
            own = {name: value for name, value in place.items() if isinstance(value, torch.Tensor)}
            for name, value in own.items():
                place[name] = copies.setdefault(id(value), value.detach().clone())
            yield partial(_put_back, place, own, set(place))


def _put_back(place: dict[str, Any], own: dict[str, torch.Tensor], names: set[str]) -> None:
    for name in [n for n, value in place.items() if n not in names and isinstance(value, torch.Tensor)]:
        del place[name]  # made by the probe, from what it was called with
    place.update(own)


@contextmanager
def _global_state(modules: Sequence[torch.nn.Module]) -> Iterator[None]:
    """Random state of torch, numpy and Python, grad mode, autocast: what a module's forward may change."""
    devices = sorted({p.device.index or 0 for m in modules for p in m.parameters(recurse=False) if p.is_cuda})
    kinds = ("cpu", "cuda") if devices else ("cpu",)
    grad = torch.is_grad_enabled()
    autocast = [(kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in kinds]
    python, array = random.getstate(), np.random.get_state()  # noqa: NPY002 (the global one is what is restored)
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            torch.set_grad_enabled(grad)
            for kind, enabled, dtype in autocast:
                torch.set_autocast_enabled(kind, enabled)
                torch.set_autocast_dtype(kind, dtype)
            random.setstate(python)
            np.random.set_state(array)  # noqa: NPY002
