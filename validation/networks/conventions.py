r"""What a diffusion model may predict, and of which x, as one score in variance-exploding time.

Input: y = a x with a = 1 (VE, EDM) or a = 1/sqrt(1+t) (VP, Ornstein-Uhlenbeck, DDPM, where y = sqrt(abar) xi + ...).

    noise: s = -w/sqrt(t)            x0:    s = (xi - x)/t
    v:     s = -v/sqrt(t(1+t)) - x/(1+t),  v = (w - sqrt(t) xi)/sqrt(1+t)         score: s = a s_y

Flow matching: a = 1/(1+sqrt(t)), y = (1-r) xi + r w with r = sqrt(t)/(1+sqrt(t)), and u = w - xi. EDM's network F, told of
y = x/sqrt(t+d^2) for data of standard deviation d:

    velocity: s = -(x + u)/(sigma (1+sigma))        edm: s = F d/(sigma sqrt(t+d^2)) - x/(t+d^2),        sigma = sqrt(t)

None of these differences cancels at small t but that of x0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch

from numerics.domain import DomainError
from theory.noise import t_to_alpha_bar, t_to_flow, t_to_log_snr, t_to_ou, t_to_sigma

__all__ = ["CONDITIONS", "PREDICTIONS", "SCALES", "score_from"]

SCALES: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {
        "ve": lambda t: 1.0,
        "edm": lambda t: 1.0,
        "vp": lambda t: t_to_alpha_bar(t) ** 0.5,
        "ddpm": lambda t: t_to_alpha_bar(t) ** 0.5,
        "flow": lambda t: 1 - t_to_flow(t),
    }
)
CONDITIONS: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {
        "t": lambda t: t,
        "sigma": t_to_sigma,
        "c_noise": lambda t: -t_to_log_snr(t) / 8 + 0.0,
        "ou": t_to_ou,
        "alpha_bar": t_to_alpha_bar,
        "flow_time": t_to_flow,
        "log_snr": t_to_log_snr,
    }
)
_BY_CONVENTION = {"ve": "t", "edm": "sigma", "vp": "ou", "ddpm": "alpha_bar", "flow": "flow_time"}
PREDICTIONS = ("noise", "x0", "v", "score", "velocity", "edm")


def condition_of(convention: str) -> str:
    """The name of the noise level that goes with a convention, a key of `CONDITIONS`.

    >>> condition_of("vp")
    'ou'
    """
    return _BY_CONVENTION[convention]


def mean_of(output: Any, shape: Sequence[int]) -> Any:
    """What a model answered, as the one tensor that is meant, for points of shape (B, C, ...).

    The first of a tuple, or the `.sample` of an object, as diffusers has it; of 2C channels the first C: models that learn the
    variance of a step give it in the rest.

    >>> mean_of((torch.zeros(5, 6, 8, 8), None), (5, 3, 8, 8)).shape
    torch.Size([5, 3, 8, 8])
    """
    if not isinstance(output, torch.Tensor):
        output = output[0] if isinstance(output, (tuple, list)) and output else getattr(output, "sample", output)
    if isinstance(output, torch.Tensor) and output.shape == (*shape[:1], 2 * shape[1], *shape[2:]):
        return output[:, : shape[1]]
    return output


def score_from(
    predicts: str, output: torch.Tensor, x: torch.Tensor, t: float, scale: float = 1.0, sigma_data: float = 1.0
) -> torch.Tensor:
    r"""The score at x (variance exploding), from what the model said of y = scale x.

    Parameters
    ----------
    predicts : "noise" (omega of x = xi + sqrt(t) omega), "x0" (xi itself, unscaled), "v", "score" (of the density of y),
        "velocity" (omega - xi) or "edm" (the network F inside EDM's preconditioning)
    output, x : of one shape; t : number > 0; scale : number > 0; sigma_data : number > 0, for "edm"

    The failure that looks normal: x0 at small t. The difference (xi - x)/t keeps no digit below t = eps |x|^2; a model that
    predicts noise or v is the better witness there.

    >>> score_from("noise", torch.tensor([2.0]), torch.tensor([1.0]), 4.0).tolist()
    [-1.0]
    """
    if predicts == "noise":
        return -output / t**0.5
    if predicts == "x0":
        return (output - x) / t
    if predicts == "v":
        return -output / (t * (1 + t)) ** 0.5 - x / (1 + t)
    if predicts == "score":
        return scale * output
    if predicts == "velocity":
        return -(x + output) / (t**0.5 * (1 + t**0.5))
    if predicts == "edm":
        total = t + sigma_data**2
        return output * (sigma_data / (t * total) ** 0.5) - x / total
    raise DomainError("predicts", predicts, ", ".join(map(repr, PREDICTIONS)))
