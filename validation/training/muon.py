r"""Muon for stacks of matrices: every step turns the gradient's momentum into the nearest matrix of equal singular values.

    B <- beta B + (1 - beta) G,    O = NS(beta B + (1 - beta) G),    W <- W - rate sqrt(max(1, fan_out/fan_in)) O

NS makes of U S V^T about U V^T. A gradient is dominated by a few directions; those that separate single points are small in it,
and Adam, entry by entry, leaves them small. With equal singular values they are learned at the rate of the rest.
A kernel of a convolution is a matrix (fan_out, fan_in times its places).
`torch.optim.Muon` is the referee of the tests; it takes single matrices only and iterates in bfloat16, in which a stack and
its members alone would not agree.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch

from numerics.domain import DomainError, positive

__all__ = ["Muon", "equalised"]

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024: the steepest quintic at 0 that stays near 1
_STEPS = 5
_TINY = 1e-7


def equalised(G: torch.Tensor) -> torch.Tensor:
    r"""U S' V^T of each G = U S V^T in a stack (M, a, b), S' mostly in 0.7 to 1.2: X <- aX + b(XX^T)X + c(XX^T)^2 X, five times.

    The failure that looks normal: singular values below some 10^-3 of the norm of G do not get there in five steps.

    >>> S = torch.linalg.svdvals(equalised(torch.diag(torch.tensor([30.0, 3.0, -0.5]))[None]))
    >>> bool(((S > 0.65) & (S < 1.25)).all())
    True
    """
    a, b, c = _NEWTON_SCHULZ
    tall = G.shape[-2] > G.shape[-1]
    X = G.mT if tall else G
    X = X / (torch.linalg.matrix_norm(X, keepdim=True) + _TINY)
    for _ in range(_STEPS):
        square = X @ X.mT
        X = a * X + torch.baddbmm(square, square, square, beta=b, alpha=c) @ X
    return X.mT if tall else X


class Muon(torch.optim.Optimizer):
    """The optimiser of the module, for stacks (M, fan_in, fan_out) whose M members share nothing, and kernels of convolutions.

    Parameters
    ----------
    parameters : tensors of three dimensions, or of four (fan_out, fan_in, a, b); lr : positive; momentum : in [0, 1)

    Raises
    ------
    DomainError : a parameter that is neither, or numbers outside their domain

    [Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/]
    """

    def __init__(self, parameters: Iterable[torch.Tensor], lr: float = 0.01, momentum: float = 0.95):
        positive("lr", lr)
        if not 0 <= momentum < 1:
            raise DomainError("momentum", momentum, "in [0, 1)")
        super().__init__(parameters, {"lr": lr, "momentum": momentum})
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim not in (3, 4):
                    allowed = "stacks of matrices (M, fan_in, fan_out) or kernels (fan_out, fan_in, a, b)"
                    raise DomainError("parameters", f"one of shape {tuple(p.shape)}", allowed)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta, alike = group["momentum"], defaultdict(list)
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - beta)
                ahead = p.grad.lerp(buffer, beta)
                if p.ndim == 4:
                    alike[p.shape[0], p[0].numel()].append((p, ahead.flatten(1)))
                    continue
                longer = math.sqrt(max(1.0, p.shape[2] / p.shape[1]))
                p.sub_(equalised(ahead), alpha=group["lr"] * longer)
            for (
                fan_out,
                fan_in,
            ), kernels in alike.items():  # kernels of one shape, in whatever layer and member, as one stack
                moved = equalised(torch.stack([matrix for _, matrix in kernels]))
                longer = math.sqrt(max(1.0, fan_out / fan_in))
                for (p, _), step in zip(kernels, moved, strict=True):
                    p.sub_(step.view_as(p), alpha=group["lr"] * longer)
        return loss
