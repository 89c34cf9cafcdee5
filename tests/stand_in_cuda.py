"""A cuda device for machines without one: tensors that say they lie on cuda, and keep their numbers in the CPU's memory.

What a run on a real device forbids is forbidden here: mixing tensors of the two devices in one operation, reading device
memory as numpy, drawing on the device with a generator of the CPU. What cannot be seen here: speed, the device's own rounding,
kernels that only it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["stand_in_cuda"]

CUDA = torch.device("cuda", 0)
_SUBMIT = ThreadPoolExecutor.submit
aten = torch.ops.aten
_ACROSS = {  # operations that take tensors of both devices on a real one, too
    aten.copy_.default,
    aten._to_copy.default,
    aten._foreach_copy_.default,
}
_INDEX = {  # and those whose indices alone may lie on the CPU
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}


class OnCuda(torch.Tensor):
    """`numbers` in the CPU's memory, under a tensor whose device is cuda:0."""

    numbers: torch.Tensor

    @staticmethod
    def __new__(cls, numbers: torch.Tensor) -> OnCuda:
        shape, strides, offset = numbers.shape, numbers.stride(), numbers.storage_offset()
        room = offset + 1 + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        with torch._C._DisableTorchDispatch():
            shell = torch.empty(max(room, 0), dtype=numbers.dtype, device="meta").as_strided(shape, strides, offset)
        found = torch.Tensor._make_subclass(
            cls, shell, numbers.requires_grad, dispatch_device=True, device_for_backend_keys=CUDA
        )
        found.numbers = numbers
        return found

    @property
    def device(self) -> torch.device:
        return CUDA

    @property
    def is_cuda(self) -> bool:
        return True

    @property
    def is_meta(self) -> bool:
        return False

    def __repr__(self, **_: Any) -> str:
        return f"OnCuda({self.numbers!r})"

    def __deepcopy__(self, memo: dict) -> OnCuda:
        return self.clone().detach().requires_grad_(self.requires_grad)

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def tolist(self) -> Any:
        return self.numbers.tolist()

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _carry_out(function, args, kwargs or {})


class _Generator(torch.Generator):
    """A generator of either device: the numbers are the CPU's, the place where it may be used is not."""

    def __new__(cls, device: Any = "cpu") -> _Generator:
        found = super().__new__(cls)
        found.place = torch.device(device).type
        return found


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _carry_out(function, args, kwargs or {})


class _Names(TorchFunctionMode):
    """What has to be seen before torch does.

    "cuda" is cuda:0, as where there is one device; without an index torch would ask a driver that is not there. And a
    generator must belong to the device where it draws.
    """

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        plain = (torch.device, str)
        moved = [CUDA if isinstance(v, plain) and str(v) == "cuda" else v for v in args]
        named = {k: CUDA if isinstance(v, plain) and str(v) == "cuda" else v for k, v in (kwargs or {}).items()}
        generator = named.get("generator")
        if generator is not None:
            place = torch.device(
                named.get("device") or next((v.device for v in moved if isinstance(v, torch.Tensor)), "cpu")
            )
            if generator.place != place.type:
                raise RuntimeError(f"expected a {place.type!r} device type for generator but found {generator.place!r}")
        found = function(*moved, **named)
        return CUDA if isinstance(found, torch.device) and found.type == "meta" else found


def _carry_out(function: Any, args: tuple, kwargs: dict) -> Any:
    if function is torch.ops.prim.device.default:
        return torch.device("meta")  # what torch itself is told; of cuda it would want a driver
    tensors = [v for v in tree_leaves((args, kwargs)) if isinstance(v, torch.Tensor)]
    there = any(isinstance(v, OnCuda) for v in tensors)
    target = kwargs.get("device")
    target = None if target is None else torch.device(target)
    bound = tree_leaves([args[0], *args[2:]]) if function in _INDEX else () if function in _ACROSS else tensors
    bound = [v for v in bound if isinstance(v, torch.Tensor)]
    if there and any(v.dim() and not isinstance(v, OnCuda) for v in bound):
        raise RuntimeError(f"{function}: expected all tensors on the same device, found cuda:0 and cpu")
    result = (
        there if target is None else target.type in ("cuda", "meta")
    )  # meta: where torch itself was told that they lie
    if target is not None and result:
        kwargs = kwargs | {"device": torch.device("cpu")}
    if function is aten._efficientzerotensor.default:
        function, kwargs = aten.zeros.default, kwargs | {"device": torch.device("cpu")}
    inner = tree_map(lambda v: v.numbers if isinstance(v, OnCuda) else v, (args, kwargs))
    for v in tree_leaves(inner):
        if isinstance(v, torch.Tensor) and v.device.type == "meta":
            raise RuntimeError(f"{function}: a tensor was made behind the stand-in's back")
    out = function(*inner[0], **inner[1])
    if not result:
        return out
    out = tree_map(lambda v: OnCuda(v) if isinstance(v, torch.Tensor) else v, out)
    return return_and_correct_aliasing(function, args, kwargs, out) if there else out


def _submit(pool: ThreadPoolExecutor, function: Any, *args: Any, **kwargs: Any) -> Any:
    """As ThreadPoolExecutor.submit; a mode of torch holds in one thread only."""

    def there(*args: Any, **kwargs: Any) -> Any:
        with _Names(), _Operations():
            return function(*args, **kwargs)

    return _SUBMIT(pool, there, *args, **kwargs)


@contextmanager
def stand_in_cuda() -> Iterator[str]:
    """Within it "cuda" is a device; gives its name."""
    swap, lift = torch.__future__.get_swap_module_params_on_conversion(), torch._C._only_lift_cpu_tensors()
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        for name, answer in {
            "_lazy_init": None,
            "is_available": True,
            "is_bf16_supported": True,
            "device_count": 1,
            "current_device": 0,
            "synchronize": None,
            "get_rng_state": None,  # the device draws nothing here
            "set_rng_state": None,
        }.items():
            patch.setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
        patch.setattr(torch, "Generator", _Generator)
        patch.setattr(ThreadPoolExecutor, "submit", _submit)
        torch.__future__.set_swap_module_params_on_conversion(True)
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda") is made on the CPU and moved
        stack.callback(torch.__future__.set_swap_module_params_on_conversion, swap)
        stack.callback(torch._C._set_only_lift_cpu_tensors, lift)
        stack.enter_context(_Names())
        stack.enter_context(_Operations())
        yield "cuda"
