r"""EDM preconditioning: a denoiser whose network sees and returns numbers of order one at every noise level.

    D(x, t) = m + c_skip (x - m) + c_out F(c_in (x - m), c_noise),      t = sigma^2, variance exploding
    c_skip = s^2/(t + s^2),  c_out = sigma s/sqrt(t + s^2),  c_in = 1/sqrt(t + s^2),  c_noise = log(sigma)/4

s is the standard deviation of the data about their mean m, measured for each data set. The score is never formed as the
difference (D - x)/t, which loses all digits at small t: (1 - c_skip)/t and c_out/t are written out.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from numerics.domain import DomainError, integer, positive

__all__ = ["Coefficients", "Denoiser", "Scale", "coefficients"]


class Coefficients(NamedTuple):
    """c_skip, c_out, c_in, c_noise of one noise level, see the module."""

    skip: torch.Tensor
    out: torch.Tensor
    into: torch.Tensor
    noise: torch.Tensor


def coefficients(sigma: torch.Tensor, sigma_data: torch.Tensor) -> Coefficients:
    r"""The four numbers of EDM (Karras et al. 2022, table 1), for sigma > 0 and sigma_data > 0 in data units.

    They satisfy :math:`c_{in}^2(\sigma^2+s^2)=1` (unit input) and
    :math:`c_{out}^2=(1-c_{skip})^2s^2+c_{skip}^2\sigma^2` (unit target), and make c_out as small as it can be.

    >>> c = coefficients(torch.tensor(0.5), torch.tensor(0.5))
    >>> round(float(c.skip), 6), round(float(c.out), 6)
    (0.5, 0.353553)
    """
    total = sigma.square() + sigma_data.square()
    root = total.sqrt()
    return Coefficients(sigma_data.square() / total, sigma * sigma_data / root, 1 / root, sigma.log() / 4)


class Scale(NamedTuple):
    """Mean and standard deviation of all coordinates of one data set: the m and s of the preconditioning."""

    centre: float
    sigma_data: float

    @classmethod
    def of(cls, X: Any) -> Scale:
        """Measured on the data set X, (P, ...), P >= 1.

        >>> Scale.of(torch.tensor([[1.0, 3.0], [1.0, 3.0]]))
        Scale(centre=2.0, sigma_data=1.0)
        """
        X = torch.as_tensor(X)
        if X.ndim < 2 or X.numel() == 0 or not bool(torch.isfinite(X).all()):
            raise DomainError("X", f"an array of shape {tuple(X.shape)}", "finite data of shape (P, ...), P >= 1")
        centre = float(X.double().mean())
        sigma = math.sqrt(float((X.double() - centre).square().mean()))
        if sigma == 0:
            raise DomainError("X", "data that are all one number", "data that vary")
        return cls(centre, sigma)


class Denoiser(nn.Module):
    """A stack of M denoisers D(x, t), each the posterior mean of the clean point as one network knows it.

    Parameters
    ----------
    backbone : module (z (M, B) + shape, c_noise (M, B)) -> (M, B) + shape, treating members and points one by one
    shape : of one point, e.g. (30,) or (1, 14, 14)
    scales : M times `Scale`, one a member

    Calls take x of shape (M, B) + shape, or (B,) + shape where M = 1, and t > 0: a number, or one an element, (M, B) or (B,).

    Raises
    ------
    DomainError : x or t of another shape, or scales that are not positive

    The failure that looks normal: noise levels outside the range of the training return numbers like any other.

    >>> D = Denoiser(lambda z, c: torch.zeros_like(z), (2,), [Scale(0.0, 1.0)])  # the prior's mean field, x/(1 + t)
    >>> D(torch.ones(1, 2), 1.0).tolist(), D.score(torch.ones(1, 2), 1.0).round(decimals=6).tolist()
    ([[0.5, 0.5]], [[-0.5, -0.5]])
    """

    def __init__(self, backbone: Any, shape: Sequence[int], scales: Sequence[Scale]):
        super().__init__()
        self.backbone = backbone
        self.shape = tuple(integer("shape", n, minimum=1) for n in shape)
        if not self.shape or not scales:
            raise DomainError("shape, scales", (shape, scales), "at least one length, and one Scale a member")
        sigma = positive("sigma_data", [s.sigma_data for s in scales])
        centre = torch.tensor([float(s.centre) for s in scales])
        self.register_buffer("sigma_data", torch.from_numpy(sigma).to(torch.get_default_dtype()))
        self.register_buffer("centre", centre)

    @property
    def members(self) -> int:
        return len(self.sigma_data)

    @property
    def scales(self) -> list[Scale]:
        return [Scale(float(m), float(s)) for m, s in zip(self.centre, self.sigma_data, strict=True)]

    def forward(self, x: torch.Tensor, t: Any) -> torch.Tensor:
        """D(x, t), of the shape of x."""
        x, sigma, back = self._checked(x, t)
        z, c, F = self._network(x, sigma)
        return back(self._wide(self.centre[:, None]) + self._wide(c.skip) * z + self._wide(c.out) * F)

    def score(self, x: torch.Tensor, t: Any) -> torch.Tensor:
        r"""(D - x)/t without its cancellation, :math:`-(x-m)/(t+s^2)+F\,s/(\sigma\sqrt{t+s^2})`."""
        x, sigma, back = self._checked(x, t)
        z, c, F = self._network(x, sigma)
        slope = self._wide(self.sigma_data[:, None] * c.into / sigma)
        return back(slope * F - self._wide(c.into.square()) * z)

    def residual(self, clean: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        r"""(D(clean + sigma noise) - clean)/c_out, (M, B) + shape: its square is EDM's weighted loss, of order 1 at every sigma.

        With z = clean - m it is :math:`F-\bigl(\sigma z-s^2\omega\bigr)/(s\sqrt{t+s^2})`, again free of cancellation.
        """
        s = self.sigma_data[:, None]
        z = clean - self._wide(self.centre[:, None])
        c = coefficients(sigma, s)
        target = self._wide(sigma * c.into / s) * z - self._wide(s * c.into) * noise
        return self.backbone(self._wide(c.into) * (z + self._wide(sigma) * noise), c.noise) - target

    def member(self, index: int) -> Denoiser:
        """A copy of one member alone, in evaluation mode."""
        if not 0 <= integer("index", index, minimum=0) < self.members:
            raise DomainError("index", index, f"a member, 0 to {self.members - 1}")
        backbone = self.backbone if self.members == 1 else self.backbone.member(index)
        alone = Denoiser(copy.deepcopy(backbone), self.shape, [self.scales[index]])
        alone.sigma_data = self.sigma_data[index : index + 1].clone()
        alone.centre = self.centre[index : index + 1].clone()
        return alone.eval()

    def _network(self, x: torch.Tensor, sigma: torch.Tensor) -> tuple[torch.Tensor, Coefficients, torch.Tensor]:
        z = x - self._wide(self.centre[:, None])
        c = coefficients(sigma, self.sigma_data[:, None])
        return z, c, self.backbone(self._wide(c.into) * z, c.noise)

    def _wide(self, value: torch.Tensor) -> torch.Tensor:
        return value.reshape(*value.shape, *(1,) * len(self.shape))

    def _checked(self, x: torch.Tensor, t: Any):
        M, full = self.members, len(self.shape) + 2
        alone = x.ndim == full - 1 and M == 1
        y = x[None] if alone else x
        if y.ndim != full or y.shape[0] != M or tuple(y.shape[2:]) != self.shape:
            allowed = f"of shape ({M}, B, {', '.join(map(str, self.shape))})"
            raise DomainError("x", f"an array of shape {tuple(x.shape)}", allowed + (", or without the 1" * (M == 1)))
        if not isinstance(t, torch.Tensor):
            t = torch.as_tensor(positive("t", t), dtype=y.dtype, device=y.device)
        if t.ndim and t.shape not in ((M, y.shape[1]), (1,), (y.shape[1],) if M == 1 else ()):
            raise DomainError("t", f"an array of shape {tuple(t.shape)}", "a number, or one for each point")
        sigma = t.to(y.dtype).sqrt().expand(y.shape[:2])
        return y, sigma, (lambda out: out[0]) if alone else (lambda out: out)
