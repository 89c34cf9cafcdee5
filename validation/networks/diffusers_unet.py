"""A diffusers UNet with its scheduler as a score function: timesteps to t through the scheduler's own alphas_cumprod."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from numerics.domain import DomainError, finite
from theory.noise import t_from_alpha_bar
from validation.networks.adapters import ModelScore

__all__ = ["DiffusersScore"]

_PREDICTION = {"epsilon": "noise", "sample": "x0", "v_prediction": "v"}


class DiffusersScore(ModelScore):
    r"""The score a diffusers UNet has learned, in variance-exploding time :math:`t=(1-\bar\alpha)/\bar\alpha`.

    Parameters
    ----------
    unet : callable (sample, timestep) -> object with `.sample`, a tuple or a tensor; e.g. `UNet2DModel`
    scheduler : has `alphas_cumprod`, (T,) decreasing, and `config.prediction_type`: epsilon, sample or v_prediction
    shape : of one image, (C, H, W); default from `unet.config.in_channels` and `sample_size`
    timestep : "fractional" (interpolated in log t: what sinusoidal embeddings take) or "nearest" (a trained integer, whose t
        differs by up to half a step)
    centre, unit : of `ModelScore`; diffusers' image models are usually trained on pixels 2 x - 1, that is centre=0.5, unit=0.5

    Raises
    ------
    DomainError : a scheduler without these, another prediction type, or t outside the range of its timesteps

    The failure that looks normal: a UNet trained with classifier or text conditioning, called without.
    """

    def __init__(
        self,
        unet: Any,
        scheduler: Any,
        *,
        shape: Sequence[int] | None = None,
        timestep: str = "fractional",
        **options: Any,
    ):
        config = getattr(scheduler, "config", None)
        predicts = _get(config, "prediction_type")
        if predicts not in _PREDICTION:
            raise DomainError("scheduler.config.prediction_type", predicts, ", ".join(_PREDICTION))
        bars = getattr(scheduler, "alphas_cumprod", None)
        if bars is None:
            raise DomainError(
                "scheduler", type(scheduler).__name__, "one with alphas_cumprod", "Use ModelScore for others"
            )
        bars = finite("scheduler.alphas_cumprod", torch.as_tensor(bars).cpu().numpy())
        if bars.ndim != 1 or len(bars) < 2 or not (np.diff(bars) < 0).all() or not (bars[-1] > 0 and bars[0] < 1):
            raise DomainError("scheduler.alphas_cumprod", bars.shape, "decreasing numbers in (0, 1), at least two")
        if timestep not in ("fractional", "nearest"):
            raise DomainError("timestep", timestep, '"fractional" or "nearest"')
        if shape is None:
            config = getattr(unet, "config", None)
            size, channels = _get(config, "sample_size"), _get(config, "in_channels")
            if size is None or channels is None:
                raise DomainError(
                    "shape", None, "(C, H, W) for a unet whose config does not tell sample_size and in_channels"
                )
            shape = (channels, *((size, size) if isinstance(size, int) else size))
        self.log_t = np.log(t_from_alpha_bar(bars))
        self.round = timestep == "nearest"
        super().__init__(
            unet, predicts=_PREDICTION[predicts], convention="ddpm", condition=self.timestep, shape=shape, **options
        )

    @classmethod
    def from_pretrained(cls, path: str, **options: Any) -> DiffusersScore:
        """The unconditional pipeline saved in a folder (or known by that name to diffusers, which must be installed)."""
        try:
            from diffusers import DDPMPipeline
        except ImportError as error:
            raise DomainError(
                "diffusers", "not installed", "installed to load its pipelines", "pip install diffusers"
            ) from error
        pipeline = DDPMPipeline.from_pretrained(path)
        return cls(pipeline.unet, pipeline.scheduler, **options)

    @property
    def t_range(self) -> tuple[float, float]:
        """Noise variances (in the model's units) of the first and last timestep."""
        return float(np.exp(self.log_t[0])), float(np.exp(self.log_t[-1]))

    def timestep(self, t: float) -> float:
        """The timestep at which the scheduler's noise is t."""
        low, high = self.t_range
        if not low * (1 - 1e-9) <= t <= high * (1 + 1e-9):
            allowed = (
                f"in [{low:.4g}, {high:.4g}], the noise of the scheduler's timesteps (in units of the model's data)"
            )
            raise DomainError("t", t, allowed)
        step = float(np.interp(np.log(t), self.log_t, np.arange(len(self.log_t))))
        return float(round(step)) if self.round else step

    def _call(self, y: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        out = self.module(y, level.long() if self.round else level)
        if isinstance(out, torch.Tensor):
            return out
        return out[0] if isinstance(out, tuple) else out.sample


def _get(config: Any, name: str) -> Any:
    return config.get(name) if isinstance(config, dict) else getattr(config, name, None)
