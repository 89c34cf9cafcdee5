r"""A residual MLP for vectors, as a stack of M independent networks whose weights are multiplied in one batched product.

    h_0 = W_in z,    h_{l+1} = h_l + W_2 f(e^{a_l(sigma)} W_1 (h_l/|h_l|) + b_l(sigma)),    F = W_out (e^{a(sigma)} h_L)

|h| is the root mean square over the features; f(u) is silu, u/(1 + e^{-u}), or a bump, e^{-u^2/2}. A bump is flat away from
where it acts: the score of a memorised set is a staircase, whose flat steps silu must build by cancellation.

Why gains that depend on the noise level: the ideal F amplifies a direction of variance r by s sigma/(t + r) or so, which
for r = 10^-4 runs over three powers of ten. An exponential of a smooth function of log sigma does that with one number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import nn

from numerics.domain import DomainError, integer
from validation.networks.embedding import NoiseFeatures

__all__ = ["ACTIVATIONS", "ResidualMLP", "StackedLinear"]


def _bump(u: torch.Tensor) -> torch.Tensor:
    return (-0.5 * u.square()).exp()


ACTIVATIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = MappingProxyType(
    {"silu": nn.functional.silu, "bump": _bump}
)


class StackedLinear(nn.Module):
    """M linear maps side by side, (M, B, fan_in) to (M, B, fan_out), one `baddbmm`.

    gain : of the normal weights, whose standard deviation is gain/sqrt(fan_in); 0 for a layer that starts silent
    """

    def __init__(self, generators: Sequence[torch.Generator], fan_in: int, fan_out: int, gain: float = 1.0):
        super().__init__()
        drawn = torch.stack([torch.randn(fan_in, fan_out, generator=g) for g in generators])
        self.weight = nn.Parameter(drawn * (gain / math.sqrt(fan_in)))
        self.bias = nn.Parameter(torch.zeros(len(generators), 1, fan_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class ResidualMLP(nn.Module):
    """M residual MLPs of the same shape, each drawn from its own seed.

    Parameters
    ----------
    N : dimension of a point; width : of the hidden layers, default 128; blocks : residual blocks, default 3
    seeds : M integers; member m is the same network in every stack
    features : of the noise embedding
    hidden : units inside a block, default `width`; activation : "silu" or "bump", see the module

    The first and the last layer stay in float32 under autocast: at small t the noise is smaller than bfloat16's rounding of x.

    >>> ResidualMLP(3, width=8, blocks=1, seeds=[0, 1])(torch.zeros(2, 5, 3), torch.zeros(2, 5)).shape
    torch.Size([2, 5, 3])
    """

    def __init__(
        self,
        N: int,
        width: int = 128,
        blocks: int = 3,
        seeds: Sequence[int] = (0,),
        features: int = 32,
        hidden: int | None = None,
        activation: str = "silu",
    ):
        super().__init__()
        N, width = integer("N", N, minimum=1), integer("width", width, minimum=1)
        hidden = width if hidden is None else integer("hidden", hidden, minimum=1)
        if activation not in ACTIVATIONS:
            raise DomainError("activation", activation, ", ".join(map(repr, ACTIVATIONS)))
        self.activation = ACTIVATIONS[activation]
        self.blocks = integer("blocks", blocks, minimum=0)
        if not len(seeds):
            raise DomainError("seeds", seeds, "one integer a member, at least one")
        self.config = {"kind": "mlp", "N": N, "width": width, "blocks": self.blocks, "features": features}
        self.config |= {"hidden": hidden, "activation": activation}
        draws = [torch.Generator().manual_seed(integer("seed", seed, minimum=0)) for seed in seeds]
        self.features = NoiseFeatures(features)
        self.noise = StackedLinear(draws, features, features)
        self.modulation = StackedLinear(draws, features, 2 * self.blocks * hidden + width, gain=0.1)
        self.splits = [hidden] * (2 * self.blocks) + [width]
        self.into = StackedLinear(draws, N, width)
        self.first = nn.ModuleList(StackedLinear(draws, width, hidden) for _ in range(self.blocks))
        self.second = nn.ModuleList(StackedLinear(draws, hidden, width, gain=0.3) for _ in range(self.blocks))
        self.out = StackedLinear(draws, width, N, gain=0.0)

    @property
    def members(self) -> int:
        return len(self.into.weight)

    def matrices(self) -> list[nn.Parameter]:
        """The weights (M, fan_in, fan_out) of the hidden layers, whose steps `validation.training.muon` can equalise."""
        return [layer.weight for layers in (self.first, self.second) for layer in layers]

    def forward(self, z: torch.Tensor, c_noise: torch.Tensor) -> torch.Tensor:
        with torch.autocast(z.device.type, enabled=False):
            embedded = nn.functional.silu(self.noise(self.features(c_noise)))
            *modulations, last = self.modulation(embedded).split(self.splits, dim=-1)
            h = self.into(z)
        for i in range(self.blocks):
            unit = h * (h.square().mean(dim=-1, keepdim=True) + 1e-4).rsqrt()
            inner = self.activation(modulations[2 * i].exp() * self.first[i](unit) + modulations[2 * i + 1])
            h = h + self.second[i](inner)
        with torch.autocast(z.device.type, enabled=False):
            return self.out(last.exp() * h.to(z.dtype))

    def member(self, index: int) -> ResidualMLP:
        """A copy of one member alone."""
        alone = ResidualMLP(**{k: v for k, v in self.config.items() if k != "kind"})
        alone.to(self.into.weight)
        with torch.no_grad():
            for mine, theirs in zip(alone.parameters(), self.parameters(), strict=True):
                mine.copy_(theirs[index : index + 1])
        return alone
