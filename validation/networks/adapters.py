"""Any torch module as a score function of `validation.spectra`, whatever it predicts and however it counts noise."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Protocol, runtime_checkable

import torch

from numerics.domain import DomainError, integer, positive
from validation.networks.conventions import CONDITIONS, PREDICTIONS, SCALES, condition_of, mean_of, score_from
from validation.networks.preconditioning import Denoiser
from validation.spectra import AutogradScore, Differentiation, modules_of

__all__ = ["DenoisingModel", "ModelScore", "NetworkScore"]


@runtime_checkable
class DenoisingModel(Protocol):
    """The one face of every network here: flat points x (B, N) in the data's units, float64, and one noise variance t > 0.

    shape : of one point; centre, unit : the network itself sees (x - centre)/unit; t_range : noise variances it knows
    A point's value does not hang on the others of its batch.
    """

    shape: tuple[int, ...] | None
    centre: float
    unit: float

    @property
    def t_range(self) -> tuple[float, float]:
        """Least and largest t."""

    def denoised(self, x: torch.Tensor, t: float) -> torch.Tensor:
        """D(x, t), (B, N)"""

    def score(self, x: torch.Tensor, t: float) -> torch.Tensor:
        """(D - x)/t, (B, N)"""

    def jacobian(self, x: torch.Tensor, t: float) -> torch.Tensor:
        """Of the score, (B, N, N)"""


class _Flat(AutogradScore):
    """Points (B, N) in float64 outside, (B,) + shape in the module's own type and on its device inside: a `DenoisingModel`."""

    centre, unit = 0.0, 1.0

    def __init__(self, module: Any, shape: Sequence[int] | None, chunk: int, dtype: torch.dtype | None = None):
        if not callable(module):
            raise DomainError("model", module, "a torch module or a callable")
        self.shape = None if shape is None else tuple(integer("shape", n, minimum=1) for n in shape)
        self.module, self._dtype = _cast(module, dtype), dtype
        super().__init__(self._flat, chunk)

    @property
    def modules(self) -> list[torch.nn.Module]:
        return modules_of(self.module)

    @property
    def dtype(self) -> torch.dtype:
        """That in which the module is asked: its own, or the one that was given."""
        known = _numbers(self.modules)
        return self._dtype or (torch.float64 if known is None else known.dtype)

    @property
    def device(self) -> torch.device | None:
        """That of the module, None for a callable that holds none."""
        known = _numbers(self.modules)
        return None if known is None else known.device

    @property
    def t_range(self) -> tuple[float, float]:
        """Noise variances that the model knows, in the data's squared units; (0, inf) where it does not say."""
        return 0.0, math.inf

    def cast(self, dtype: torch.dtype) -> None:
        """Ask it in another precision from now on; its modules, which must be its own, are changed in place."""
        for module in self.modules:
            torch.nn.Module.to(module, dtype)
        self._dtype = dtype

    def denoised(self, x: torch.Tensor, t: float) -> torch.Tensor:
        """D(x, t) = x + t s(x, t), (B, N): the clean point as the model knows it."""
        return x + t * self.score(x, t)

    def _flat(self, x: torch.Tensor, t: float) -> torch.Tensor:
        N = math.prod(self.shape) if self.shape else x.shape[-1]
        if x.shape[-1] != N:
            raise DomainError("x", f"an array of shape {tuple(x.shape)}", f"points (B, {N})")
        inside = x.to(dtype=self.dtype, device=self.device)
        inside = inside.reshape(len(x), *self.shape) if self.shape else inside
        return self._score(inside, float(positive("t", t))).reshape(x.shape).to(x)

    def _score(self, x: torch.Tensor, t: float) -> torch.Tensor:
        raise NotImplementedError


def _numbers(modules: Sequence[torch.nn.Module]) -> torch.Tensor | None:
    """The first floating-point parameter, or buffer, of some modules."""
    tensors = chain.from_iterable(chain(m.parameters(), m.buffers()) for m in modules)
    return next((tensor for tensor in tensors if tensor.is_floating_point()), None)


def _cast(module: Any, dtype: torch.dtype | None) -> Any:
    """The module in another precision: a copy, so that the user's own stays as it is."""
    known = _numbers(modules_of(module))
    if dtype is None or known is None or known.dtype == dtype:
        return module
    if isinstance(module, torch.nn.Module):
        return torch.nn.Module.to(copy.deepcopy(module), dtype)
    allowed = f"{known.dtype}, that of the modules in this callable"
    raise DomainError("dtype", str(dtype), allowed, f"Cast them first: `unet.to({dtype})`")


class NetworkScore(_Flat):
    """The score of one of our own denoisers at flat points (B, N), without the cancellation of (D - x)/t.

    Parameters
    ----------
    denoiser : Denoiser; member : which one of its stack; chunk : points differentiated at once
    dtype : it is evaluated in, default float64 (a copy): at t = 1e-5 float32 rounding is already 1e-3 of a frame's values

    >>> from validation.networks import ResidualMLP, Scale
    >>> D = Denoiser(ResidualMLP(2, width=4), (2,), [Scale(0.0, 1.0)])
    >>> NetworkScore(D).score(torch.ones(1, 2, dtype=torch.float64), 1.0).round(decimals=9).tolist()
    [[-0.5, -0.5]]
    """

    def __init__(self, denoiser: Denoiser, member: int = 0, *, chunk: int = 64, dtype: torch.dtype = torch.float64):
        if not isinstance(denoiser, Denoiser):
            raise DomainError("denoiser", type(denoiser), "a Denoiser", "Wrap other modules in ModelScore")
        super().__init__(denoiser.member(member).to(dtype).requires_grad_(False), denoiser.shape, chunk)
        self.differentiation = Differentiation(chunk=chunk, check=False)  # ours: nothing in it is hidden from torch

    @property
    def modules(self) -> list[torch.nn.Module]:
        """None of the user's: the network is a copy, in evaluation mode."""
        return []

    @property
    def dtype(self) -> torch.dtype:
        return self.module.centre.dtype

    @property
    def device(self) -> torch.device:
        return self.module.centre.device

    def _score(self, x: torch.Tensor, t: float) -> torch.Tensor:
        return self.module.score(x, t)


class ModelScore(_Flat):
    """Any model of noisy data as a score in variance-exploding time.

    Parameters
    ----------
    model : torch module or callable (y (B,) + shape, level (B,)) -> (B,) + shape, a tuple that begins with it, or an object
        that has it as `.sample`. Of twice as many channels (a learned variance) the first half is taken.
    predicts : "noise", "x0", "v", "score", "velocity" (flow matching) or "edm" (the network F inside EDM's preconditioning),
        see `validation.networks.conventions`
    convention : how y relates to x: "ve" and "edm", y = x; "vp" and "ddpm", y = x/sqrt(1+t); "flow", y = x/(1+sqrt(t)).
        With predicts="edm" the input is c_in x = x/sqrt(t + sigma_data^2).
    condition : how the model is given the noise: "t", "sigma", "c_noise" (log(sigma)/4), "ou" (tau), "alpha_bar",
        "log_snr", "flow_time" (s in (0, 1)), or a callable of t; default that of the convention: t, sigma, tau, alpha-bar
        and s; c_noise with predicts="edm"
    shape : of one point where the model wants images, e.g. (1, 28, 28)
    sigma_data : of EDM's preconditioning, in the model's units
    centre, unit : the model was trained on (data - centre)/unit; x, t and the score are in the data's own units
    dtype : y is given in; default that of the model's parameters, also of modules inside a callable. A module of another type
        is copied and cast; the user's own stays as it is, in this as in everything else.

    The failure that looks normal: the wrong convention. The score is then smooth and finite, and wrong by a factor that
    moves with t; check a model on points of its own data with `validation.training.convergence`.

    >>> exact = ModelScore(lambda y, tau: y * (1 - torch.exp(-2 * tau[:, None])).sqrt(), predicts="noise", convention="vp")
    >>> exact.score(torch.ones(1, 2, dtype=torch.float64), 1.0)  # data of variance 1: -x/(1 + t)
    tensor([[-0.5000, -0.5000]], dtype=torch.float64)
    """

    sign = 1.0  # of the output

    def __init__(
        self,
        model: Any,
        *,
        predicts: str,
        convention: str = "ve",
        condition: str | Callable[[float], float] | None = None,
        shape: Sequence[int] | None = None,
        centre: float = 0.0,
        unit: float = 1.0,
        sigma_data: float = 1.0,
        chunk: int = 64,
        dtype: torch.dtype | None = None,
    ):
        if predicts not in PREDICTIONS:
            raise DomainError("predicts", predicts, ", ".join(map(repr, PREDICTIONS)))
        if convention not in SCALES:
            raise DomainError("convention", convention, ", ".join(map(repr, SCALES)))
        if (predicts == "velocity") != (convention == "flow") and (predicts == "velocity" or predicts == "v"):
            raise DomainError("predicts", predicts, f'"velocity" with convention "flow" only, not with {convention!r}')
        if predicts == "edm" and convention not in ("ve", "edm"):
            raise DomainError("convention", convention, '"edm" with predicts="edm"')
        if condition is None:
            condition = "c_noise" if predicts == "edm" else condition_of(convention)
        if not callable(condition) and condition not in CONDITIONS:
            raise DomainError("condition", condition, f"a callable of t, or one of {', '.join(CONDITIONS)}")
        super().__init__(model, shape, chunk, dtype)
        self.predicts, self.scale = predicts, SCALES[convention]
        self.sigma_data = float(positive("sigma_data", sigma_data))
        if predicts == "edm":
            self.scale = lambda t: (t + self.sigma_data**2) ** -0.5
        self.condition = condition if callable(condition) else CONDITIONS[condition]
        self.centre, self.unit = float(centre), float(positive("unit", unit))

    def _score(self, x: torch.Tensor, t: float) -> torch.Tensor:
        x, t = (x - self.centre) / self.unit, t / self.unit**2
        scale = self.scale(t)
        level = self._level(x, t)
        out = mean_of(self.module(scale * x, level), x.shape)
        if not isinstance(out, torch.Tensor) or out.shape != x.shape:
            raise DomainError("model", getattr(out, "shape", type(out)), f"one whose result has shape {tuple(x.shape)}")
        return score_from(self.predicts, self.sign * out, x, t, scale, self.sigma_data) / self.unit

    def rescaled(self, centre: float, unit: float) -> ModelScore:
        """The same network, for data on another scale: it is asked for (x - centre)/unit."""
        return self.changed(centre=float(centre), unit=float(positive("unit", unit)))

    def changed(self, **attributes: Any) -> ModelScore:
        """The same network with other conventions: attributes of this object, e.g. predicts="x0"."""
        other = copy.copy(self)
        other.__dict__.update(attributes)
        AutogradScore.__init__(other, other._flat, self.chunk)
        return other

    def _level(self, x: torch.Tensor, t: float) -> torch.Tensor:
        """(B,) how the model is given the noise."""
        return torch.full((len(x),), float(self.condition(t)), dtype=x.dtype, device=x.device)
