"""The Jacobian of any function of points: forward mode where torch can, else reverse mode, else central differences.

What stands in the way of forward mode is no property of the score: an `autograd.Function` without a jvp, a checkpoint, a fused
or foreign kernel, a buffer written in place, a branch on data. The methods are tried in this order, each exact but the last:

    forward             one pass for all columns of all points, vectorised
    forward on copies   copies of one point, each with its own tangent: nothing is vectorised
    reverse             one plain pass a point, the rows vectorised
    reverse on copies   copies of one point, each with its own cotangent
    backward            the same through `.backward()`, which is all that a reentrant checkpoint allows
    differences         central differences, see `validation.spectra.differences`

Each result is compared along one random direction with a difference quotient: a derivative that part of the function hides from
torch (`.item()`, `.detach()`, a kernel unknown to autograd) raises no error of its own.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from validation.spectra.differences import Function, central_jacobian, random_direction, slope

__all__ = ["METHODS", "Derivative", "Differentiation"]

_SHARE = 0.02  # of a directional derivative: what kinks of relu at the step of a difference quotient may cost
_ERRORS = 5.0  # of the difference quotient
_NUMBERS, _COLUMNS = (
    1 << 18,
    16,
)  # of tangents at once, each with all activations of a network; but so many columns at least

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Derivative:
    """How a Jacobian was found.

    method : one of `METHODS`; error : relative, in the Frobenius norm, worst point; 0 where it is that of rounding alone
    refused : (method, why it could not serve) for each that came before
    """

    method: str
    error: float = 0.0
    refused: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """One line, for tables and logs, with what stood in the way of forward mode.

        >>> str(Derivative("differences", 2e-6, (("forward", "no jvp"), ("reverse", "no backward"))))
        'central differences, relative error 2e-06 (forward mode: no jvp)'
        """
        text = _WORDS[self.method] + (f", relative error {self.error:.1g}" if self.method == "differences" else "")
        return text + (f" (forward mode: {self.refused[0][1]})" if self.refused else "")


class Differentiation:
    """The Jacobian of `function` (B, N) -> (B, N) that treats points one by one, by the first method that serves.

    Parameters
    ----------
    chunk : points differentiated at once; check : compare with a difference quotient
    """

    def __init__(self, *, chunk: int = 64, check: bool = True):
        self.modules, self.chunk, self.check = (), chunk, check
        self.refused: dict[str, str] = {}
        self.derivative: Derivative | None = None
        _load_forward_mode()

    def __call__(
        self, function: Function, x: torch.Tensor, scale: float, modules: Sequence[torch.nn.Module] = ()
    ) -> torch.Tensor:
        """(B, N, N), entry (i, j) the derivative of component i by coordinate j.

        Parameters
        ----------
        x : (B, N) points; scale : > 0, length over which the function bends
        modules : behind it, whose gradients are to stay as they are; without any, "backward" is not tried
        """
        self.modules = tuple(modules)
        refused = dict(self.refused)
        with torch.inference_mode(False), torch.no_grad(), plain_kernels():
            x = x.clone()
            for method in [m for m in METHODS if m not in refused]:
                try:
                    J, error = _BY_NAME[method](self, function, x, scale)
                except torch.OutOfMemoryError:
                    raise
                except Exception as error:  # torch raises many kinds; the plain call has already succeeded
                    if method == "differences":
                        raise
                    refused[method] = self.refused[method] = f"{type(error).__name__}: {_brief(error)}"
                    continue
                if method == "differences":
                    break
                if not bool(torch.isfinite(J).all()):
                    refused[method] = "not finite at these points"  # at others it may be
                elif hidden := self._hidden(function, x[0], J[0], scale):
                    refused[method] = self.refused[method] = hidden
                else:
                    break
        return self._found(Derivative(method, error, tuple(refused.items())), J)

    def _found(self, derivative: Derivative, J: torch.Tensor) -> torch.Tensor:
        before = self.derivative
        if before is None or before.method != derivative.method:
            level = {"forward": logging.DEBUG, "differences": logging.WARNING}.get(derivative.method, logging.INFO)
            log.log(level, "Jacobian by %s", derivative)
            self.derivative = derivative
        elif derivative.error > before.error:
            self.derivative = derivative
        return J

    def _hidden(self, function: Function, point: torch.Tensor, J: torch.Tensor, scale: float) -> str:
        """What a Jacobian (N, N) lacks against a difference quotient along a random direction, in words."""
        if not self.check:
            return ""
        u = random_direction(point)
        quotient, along = slope(function, point, u, _largest_step(point, scale), self.chunk), J @ u
        gap, size = (float(torch.linalg.vector_norm(v)) for v in (along - quotient.value, quotient.value))
        if not gap > _ERRORS * quotient.error + _SHARE * size:
            return ""
        return f"along a direction it is off by {gap:.2g} of {size:.2g}: part of the function is hidden from torch"


# --- the methods: (differentiation, function, points, scale) -> Jacobians and relative error ------------------------------


def _forward(of: Differentiation, function: Function, x: torch.Tensor, scale: float) -> tuple[torch.Tensor, float]:
    basis = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)

    def at(point: torch.Tensor) -> torch.Tensor:
        def one(y: torch.Tensor) -> torch.Tensor:
            return function(y[None])[0]

        columns = max(_COLUMNS, _NUMBERS // len(point))
        return torch.func.vmap(lambda e: torch.func.jvp(one, (point,), (e,))[1], chunk_size=columns)(basis)

    points = max(1, min(of.chunk, _NUMBERS // x.shape[1] ** 2))
    # columns come out as rows
    return torch.func.vmap(at, chunk_size=points)(x).transpose(-1, -2), 0.0


def _forward_on_copies(of, function: Function, x: torch.Tensor, scale: float) -> tuple[torch.Tensor, float]:
    def columns(point: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        with forward_ad.dual_level():
            out = forward_ad.unpack_dual(function(forward_ad.make_dual(point, e)))
            return torch.zeros_like(e) if out.tangent is None else out.tangent.clone()

    return _on_copies(columns, x, of.chunk).mT, 0.0


def _reverse(of, function: Function, x: torch.Tensor, scale: float) -> tuple[torch.Tensor, float]:
    basis = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)[:, None]
    found = []
    for point in x:
        with torch.enable_grad():
            leaf = point[None].clone().requires_grad_()
            out = function(leaf.clone())  # a function may write into its argument, which a leaf forbids
        rows = [
            torch.autograd.grad(out, leaf, part, retain_graph=True, is_grads_batched=True)[0]
            for part in basis.split(of.chunk)
        ]
        found.append(torch.cat(rows)[:, 0])
    return torch.stack(found), 0.0


def _reverse_on_copies(of, function: Function, x: torch.Tensor, scale: float) -> tuple[torch.Tensor, float]:
    def rows(points: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            leaf = points.requires_grad_()
            out = function(leaf.clone())
        return torch.autograd.grad(out, leaf, e)[0]

    return _on_copies(rows, x, of.chunk), 0.0


def _backward(of, function: Function, x: torch.Tensor, scale: float) -> tuple[torch.Tensor, float]:
    if not of.modules:
        raise RuntimeError("no module is known whose gradients could be kept as they are")

    def rows(points: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            leaf = points.requires_grad_()
            function(leaf.clone()).backward(e)
        if leaf.grad is None:
            raise RuntimeError("the result does not depend on x for torch")
        return leaf.grad

    with _without_parameters(of.modules):
        return _on_copies(rows, x, of.chunk), 0.0


def _differences(of, function: Function, x: torch.Tensor, scale: float) -> tuple[torch.Tensor, float]:
    found, worst = [], 0.0
    for point in x:
        J, error = central_jacobian(function, point, _largest_step(point, scale), of.chunk)
        found.append(J)
        worst = max(worst, error / max(float(torch.linalg.matrix_norm(J)), 1e-300))
    return torch.stack(found), worst


METHODS = ("forward", "forward on copies", "reverse", "reverse on copies", "backward", "differences")
_BY_NAME: dict[str, Callable[..., tuple[torch.Tensor, float]]] = dict(
    zip(
        METHODS,
        (_forward, _forward_on_copies, _reverse, _reverse_on_copies, _backward, _differences),
        strict=True,
    )
)
_WORDS = {
    "forward": "forward mode",
    "forward on copies": "forward mode on copies of each point",
    "reverse": "reverse mode",
    "reverse on copies": "reverse mode on copies of each point",
    "backward": "reverse mode through .backward()",
    "differences": "central differences",
}


# --- parts ------------------------------------------------------------------------------------------------------------


def _on_copies(act: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], x: torch.Tensor, chunk: int) -> torch.Tensor:
    """act(copies of a point, rows of the unit matrix) for each point, (B, N, N)."""
    basis = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    return torch.stack([torch.cat([act(point.expand_as(e).clone(), e) for e in basis.split(chunk)]) for point in x])


def _largest_step(point: torch.Tensor, scale: float) -> float:
    """The noise, over which a score bends, and the size of a coordinate, below which networks in low precision see nothing."""
    return scale + float(torch.linalg.vector_norm(point)) / math.sqrt(len(point))


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 100 else text[:97] + "..."


@contextmanager
def _without_parameters(modules: Sequence[torch.nn.Module]) -> Iterator[None]:
    """No parameter collects a gradient inside."""
    wanted = [p for module in modules for p in module.parameters() if p.requires_grad and p.is_leaf]
    for p in wanted:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in wanted:
            p.requires_grad_(True)


@cache
def _load_forward_mode() -> None:
    """Load torch's forward mode, whose own first call warns of torch's own deprecated decorator."""
    one = torch.ones(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.func.jvp(torch.sin, (one,), (one,))


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Attention as products and a softmax, group norms as means and products: torch's fused kernels lack a forward mode.

    That of a group norm is there, but refuses transposed tensors, as they come out of attention, and is slow.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), _PlainNorms():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class _PlainNorms(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.group_norm, torch.nn.functional.group_norm):
            return _group_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _group_norm(
    input: torch.Tensor,
    num_groups: int,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> torch.Tensor:
    """What `torch.group_norm` gives, under its own argument names."""
    groups = input.reshape(input.shape[0], num_groups, -1)
    centred = groups - groups.mean(dim=-1, keepdim=True)
    out = (centred * (centred.square().mean(dim=-1, keepdim=True) + eps).rsqrt()).reshape(input.shape)
    per_channel = (1, -1, *(1,) * (input.ndim - 2))
    if weight is not None:
        out = out * weight.reshape(per_channel)
    return out if bias is None else out + bias.reshape(per_channel)
