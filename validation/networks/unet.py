"""A small U-Net for images of one or three channels and any size: residual blocks, group norm, noise level by modulation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from numerics.domain import DomainError, integer
from validation.networks.embedding import NoiseFeatures

__all__ = ["SideBySide", "UNet"]


class ResidualBlock(nn.Module):
    """norm, silu, convolution, twice, on top of the identity; the noise level scales and shifts the second norm."""

    def __init__(self, fan_in: int, fan_out: int, embedded: int):
        super().__init__()
        self.norm_in = nn.GroupNorm(_groups(fan_in), fan_in)
        self.first = nn.Conv2d(fan_in, fan_out, 3, padding=1)
        self.modulation = nn.Linear(embedded, 2 * fan_out)
        self.norm_out = nn.GroupNorm(_groups(fan_out), fan_out, affine=False)
        self.second = nn.Conv2d(fan_out, fan_out, 3, padding=1)
        self.skip = nn.Conv2d(fan_in, fan_out, 1) if fan_in != fan_out else nn.Identity()
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: torch.Tensor, embedded: torch.Tensor) -> torch.Tensor:
        silu = nn.functional.silu
        h = self.first(silu(self.norm_in(x)))
        scale, shift = self.modulation(embedded)[:, :, None, None].chunk(2, dim=1)
        return self.skip(x) + self.second(silu(self.norm_out(h) * (1 + scale) + shift))


class Attention(nn.Module):
    """Self-attention over all places of the coarsest level, on top of the identity: it lets a pixel see the whole image."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(_groups(channels), channels)
        self.ask = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, C, H, W = x.shape
        asked = self.ask(self.norm(x)).reshape(B, 3, self.heads, C // self.heads, H * W).transpose(3, 4)
        found = nn.functional.scaled_dot_product_attention(*asked.unbind(dim=1))
        return x + self.out(found.transpose(2, 3).reshape(B, C, H, W))


class UNet(nn.Module):
    """Images (B, channels, H, W) and c_noise (B,) to images of the same shape.

    Parameters
    ----------
    channels : 1 or 3 (or any); width : channels of the finest level; levels : halvings of the size + 1
    blocks : residual blocks a level and direction; features : of the noise embedding
    attention : heads of self-attention at the coarsest level; 0: none, and a pixel sees a square of bounded size
    seed : of the initial weights

    Sizes that the halvings do not divide are padded by repeating the border, and cropped again. The image itself is added
    to the output through a gain e^{a(sigma)} - e^{b(sigma)}: group norm forgets the overall size of what it sees, and at small t
    the answer is a multiple of the input that moves with the noise. The first and last convolution stay in float32.

    >>> UNet(1, width=8, levels=2, blocks=1)(torch.zeros(2, 1, 7, 9), torch.zeros(2)).shape
    torch.Size([2, 1, 7, 9])
    """

    def __init__(
        self,
        channels: int = 1,
        width: int = 32,
        levels: int = 3,
        blocks: int = 1,
        features: int = 32,
        attention: int = 0,
        seed: int = 0,
    ):
        super().__init__()
        names = {"channels": channels, "width": width, "levels": levels, "blocks": blocks}
        channels, width, levels, blocks = (integer(name, value, minimum=1) for name, value in names.items())
        self.config = {"kind": "unet", **names, "features": features}
        if heads := integer("attention", attention, minimum=0):
            self.config["attention"] = heads
        self.multiple = 2 ** (levels - 1)
        sizes = [width * min(2**i, 4) for i in range(levels)]
        embedded = 4 * width
        if heads and sizes[-1] % heads:
            raise DomainError("attention", heads, f"a divisor of the {sizes[-1]} channels of the coarsest level")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(integer("seed", seed, minimum=0))
            self.embed = nn.Sequential(
                NoiseFeatures(features),
                nn.Linear(features, embedded),
                nn.SiLU(),
                nn.Linear(embedded, embedded),
                nn.SiLU(),
            )
            self.gain = nn.Linear(embedded, 2)
            self.into = nn.Conv2d(channels, width, 3, padding=1)
            self.down, stack, now = nn.ModuleList(), [], width
            for size in sizes:
                level = nn.ModuleList()
                for _ in range(blocks):
                    level.append(ResidualBlock(now, size, embedded))
                    stack.append(size)
                    now = size
                self.down.append(level)
            self.middle = ResidualBlock(now, now, embedded)
            self.attention = Attention(now, heads) if heads else None
            self.up = nn.ModuleList()
            for size in reversed(sizes):
                level = nn.ModuleList()
                for _ in range(blocks):
                    level.append(ResidualBlock(now + stack.pop(), size, embedded))
                    now = size
                self.up.append(level)
            self.norm = nn.GroupNorm(_groups(now), now)
            self.out = nn.Conv2d(now, channels, 3, padding=1)
        for layer in (self.out, self.gain):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, z: torch.Tensor, c_noise: torch.Tensor) -> torch.Tensor:
        height, width = z.shape[-2:]
        extra = (-width % self.multiple, -height % self.multiple)
        padded = nn.functional.pad(z, (0, extra[0], 0, extra[1]), mode="replicate") if any(extra) else z
        embedded = self.embed(c_noise)
        with torch.autocast(z.device.type, enabled=False):
            rise, fall = self.gain(embedded.to(z.dtype)).exp().chunk(2, dim=1)
            h = self.into(padded)
        kept = []
        for i, level in enumerate(self.down):
            h = nn.functional.avg_pool2d(h, 2) if i else h
            for block in level:
                h = block(h, embedded)
                kept.append(h)
        h = self.middle(h, embedded)
        h = h if self.attention is None else self.attention(h)
        for i, level in enumerate(self.up):
            h = nn.functional.interpolate(h, scale_factor=2.0, mode="nearest") if i else h
            for block in level:
                h = block(torch.cat([h, kept.pop()], dim=1), embedded)
        with torch.autocast(z.device.type, enabled=False):
            h = self.out(nn.functional.silu(self.norm(h.to(z.dtype))))
        return h[..., :height, :width] + (rise - fall)[:, :, None, None] * z


class SideBySide(nn.Module):
    """M modules that know nothing of each other as one stack, one after the other: (M, B, ...) and (M, B) to (M, B, ...).

    The form of any network that has no batched product of its own, and the referee of those that have.
    """

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        if not len(networks):
            raise DomainError("networks", networks, "at least one module")
        self.networks = nn.ModuleList(networks)
        self.config = dict(getattr(networks[0], "config", {"kind": "custom"}))

    @classmethod
    def of(cls, make: Callable[[int], nn.Module], seeds: Sequence[int]) -> SideBySide:
        """One network a seed."""
        return cls([make(seed) for seed in seeds])

    @property
    def members(self) -> int:
        return len(self.networks)

    def forward(self, z: torch.Tensor, c_noise: torch.Tensor) -> torch.Tensor:
        return torch.stack([net(a, b) for net, a, b in zip(self.networks, z, c_noise, strict=True)])

    def matrices(self) -> list[nn.Parameter]:
        """What Muon trains: kernels inside the residual blocks of U-Nets.

        Raises
        ------
        DomainError : modules of another kind
        """
        blocks = [m for m in self.networks.modules() if isinstance(m, ResidualBlock)]
        if not blocks:
            allowed = 'networks of kind "mlp" or "unet"'
            raise DomainError("optimizer", "muon", allowed, 'Train others with optimizer = "adam"')
        return [layer.weight for block in blocks for layer in (block.first, block.second)]

    def member(self, index: int) -> SideBySide:
        """One of them as a stack of its own."""
        return SideBySide([self.networks[index]])


def _groups(channels: int) -> int:
    return next(g for g in (8, 4, 2, 1) if channels % g == 0)
