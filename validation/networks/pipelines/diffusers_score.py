"""A network of diffusers with its scheduler as a score function: the scheduler's own convention of noise becomes t."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from numerics.domain import DomainError
from validation.networks import ModelScore
from validation.networks.pipelines.conditions import conditioned, load_embeddings
from validation.networks.pipelines.prompts import encode_prompt
from validation.networks.pipelines.saved import contents, load_network, load_pipeline, load_scheduler
from validation.networks.pipelines.schedules import get, schedule_of
from validation.spectra import modules_of

__all__ = ["DiffusersScore"]

_CONDITIONS = ("class_embed_type", "num_class_embeds", "cross_attention_dim", "addition_embed_type")
_TIMESTEP = ("auto", "fractional", "nearest")
_CONVENTION = {"velocity": "flow", "edm": "edm", "score": "ve"}


class DiffusersScore(ModelScore):
    r"""The score a network of diffusers has learned, in variance-exploding time t.

    Parameters
    ----------
    unet : callable (sample, timestep) -> object with `.sample`, a tuple or a tensor; e.g. `UNet2DModel`, or a lambda that
        gives one its condition. Of twice as many channels (a learned variance) the first half is taken.
    scheduler : with `alphas_cumprod`, (T,) decreasing (DDPM, DDIM, PNDM, Euler, Heun, DPM-Solver, UniPC, ...: t is
        (1 - abar)/abar), EDM's, flow matching's or ScoreSdeVe's, see `validation.networks.pipelines.schedules`; its
        `config.prediction_type` is epsilon, sample, v_prediction or flow_prediction. Steps are not taken with it.
    shape : of one image, (C, H, W); default from `config.in_channels` and `sample_size` of the UNet, also of one in a lambda
    label, embeddings, guidance, null_label : the condition of a network that takes one, see
        `validation.networks.pipelines.conditions`: a class; tensors by name; w of classifier-free guidance, for which the
        result is no score (`validation.spectra.asymmetry` measures how little); the class that stands for none
    timestep : "fractional" (interpolated in log t: what sinusoidal embeddings take), "nearest" (a trained integer, whose t
        differs by up to half a step) or "auto": nearest for a learned embedding of integers, else fractional
    dtype : the UNet is evaluated in, a copy if it is not its own. float64 for Jacobians at small t.
    centre, unit, chunk : of `ModelScore`; diffusers' image models are usually trained on pixels 2 x - 1, that is centre=0.5,
        unit=0.5 for pixels in [0, 1], and nothing for pixels in [-1, 1]

    Raises
    ------
    DomainError : a scheduler of another kind, or with timesteps that are not those of alphas_cumprod, another prediction type, a
        UNet that wants labels or text, or t outside the range of its timesteps. A last timestep without any signal
        (rescale_betas_zero_snr) is t = infinity and left out.

    `remarks` : what is to be said of a loaded one: where its scheduler is from, which variant its weights are
    `autoencoder` : of a loaded latent pipeline, else None; points are then its latents (`validation.networks.pipelines.latents`)

    The failure that looks normal: pixels on another scale than the UNet was trained on. And what a scheduler does to x0 while
    it samples (clip_sample, thresholding) is no part of the score.
    """

    def __init__(
        self,
        unet: Any,
        scheduler: Any,
        *,
        shape: Sequence[int] | None = None,
        timestep: str = "auto",
        label: int | None = None,
        embeddings: Mapping[str, Any] | None = None,
        guidance: float | None = None,
        null_label: int | None = None,
        **options: Any,
    ):
        config = _config_of(unet)
        if timestep not in _TIMESTEP:
            raise DomainError("timestep", timestep, ", ".join(_TIMESTEP))
        learned = get(config, "time_embedding_type") == "learned"
        self.schedule = schedule_of(scheduler, nearest=learned or timestep == "nearest")
        if learned and timestep == "fractional":
            raise DomainError("timestep", timestep, '"nearest" for a unet that has learned an embedding of integers')
        shape = _shape_of(config) if shape is None else shape
        condition = {"label": label, "embeddings": embeddings, "guidance": guidance, "null_label": null_label}
        if isinstance(unet, torch.nn.Module):
            if all(value is None for value in condition.values()):
                _refuse_conditions(config)
            if (dtype := options.get("dtype")) is not None and getattr(unet, "dtype", dtype) != dtype:
                unet = torch.nn.Module.to(copy.deepcopy(unet), dtype)
            unet = conditioned(unet, shape, **condition)
        elif any(value is not None for value in condition.values()):
            name = next(name for name, value in condition.items() if value is not None)
            raise DomainError(name, condition[name], "left out with a callable, which gives the network its condition")
        self.guidance = guidance
        self.autoencoder: torch.nn.Module | None = None
        self.remarks: tuple[str, ...] = ()
        predicts = self.schedule.predicts
        super().__init__(
            unet,
            predicts=predicts,
            convention=_CONVENTION.get(predicts, "ddpm"),
            condition=self.timestep,
            shape=shape,
            sigma_data=self.schedule.sigma_data,
            **options,
        )
        self.scale, self.sign = self.schedule.scale, self.schedule.sign

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike,
        *,
        scheduler: Any = None,
        variant: str | None = None,
        embeddings: Any = None,
        prompt: str | None = None,
        shape: Sequence[int] | None = None,
        **options: Any,
    ) -> DiffusersScore:
        """The pipeline, or the network alone, in a folder that diffusers saved (which must be installed).

        Parameters
        ----------
        path : a pipeline's folder (or a name that diffusers knows), or a network's, e.g. checkpoint-500/unet of a training script
        scheduler : with a network alone: the folder of a scheduler_config.json, a class by name, or a scheduler. Default: the one
            saved beside it, else DDPMScheduler with its defaults; `remarks` says which.
        variant : of the weights, e.g. "fp16"; default the plain ones, or the only ones there are
        embeddings : tensors by name, or a .safetensors or .npz file of them; prompt : a text instead, for the pipeline's own
            text encoders (which need the package transformers)
        shape : of one point; default the network's own. Of a latent pipeline, that of its latents.
        options : of `DiffusersScore`

        Raises
        ------
        DomainError : diffusers not installed, nothing there, a training checkpoint (with its parts), or a pipeline of parts
            that make no score
        """
        try:
            import diffusers  # noqa: F401
        except ImportError as error:
            raise DomainError(
                "diffusers", "not installed", "installed to load its pipelines", "`pip install diffusers`"
            ) from error
        autoencoder = None
        alone = Path(path).is_dir() and contents(path) == "network"
        if alone:
            network, remarks = load_network(path, variant)
            scheduler, told = load_scheduler(scheduler, path)
            remarks += told
        else:
            if scheduler is not None:
                raise DomainError("--scheduler", str(scheduler), "left out: the pipeline has its own")
            parts = load_pipeline(path, variant)
            network, scheduler, autoencoder, remarks = parts.network, parts.scheduler, parts.autoencoder, parts.remarks
        if prompt is not None:
            if embeddings is not None or alone:
                allowed = "left out with --embeddings" if embeddings is not None else "left out with a network alone"
                raise DomainError("--prompt", prompt, allowed)
            embeddings = encode_prompt(path, prompt, options.get("guidance"))
            remarks.append(f"prompt: {prompt}")
        elif isinstance(embeddings, (str, os.PathLike)):
            remarks.append(f"embeddings: {embeddings}")
            embeddings = load_embeddings(embeddings)
        if options.get("dtype") is not None:  # this one is ours: no copy is needed
            torch.nn.Module.to(network, options["dtype"])
        face = cls(network, scheduler, shape=shape, embeddings=embeddings, **options)
        face.autoencoder = autoencoder
        if options.get("label") is not None:
            remarks.append(f"class {options['label']}")
        face.remarks = tuple(remarks)
        return face

    @property
    def t_range(self) -> tuple[float, float]:
        """Noise variances, in the data's squared units, of the first and last timestep."""
        low, high = (self.unit**2 * end for end in self.schedule.t_range)
        return low, high

    @property
    def log_t(self) -> np.ndarray:
        """Logarithms of the noise variances of the integer timesteps, (T,), of a scheduler that counts in such."""
        if self.schedule.log_t is None:
            raise DomainError("scheduler", self.schedule.kind, "one with integer timesteps")
        return self.schedule.log_t

    @property
    def round(self) -> bool:
        """Whether the network is asked at trained integers only."""
        return self.schedule.whole

    def timestep(self, t: float) -> float:
        """What the network is told of noise t, in the model's units."""
        return self.schedule.level(self.schedule.checked(t))

    def _level(self, x: torch.Tensor, t: float) -> torch.Tensor:
        # not in the type of a half-precision UNet: bfloat16 knows no integer between 512 and 514
        dtype = torch.long if self.round else torch.promote_types(x.dtype, torch.float32)
        return torch.full((len(x),), self.timestep(t), dtype=torch.float64, device=x.device).to(dtype)


def _shape_of(config: Any) -> tuple[int, ...]:
    """(C, H, W) as a configuration has it."""
    size, channels = get(config, "sample_size"), get(config, "in_channels")
    if size is None or channels is None:
        raise DomainError("shape", None, "(C, H, W) for a unet whose config does not tell sample_size and in_channels")
    return (channels, *((size, size) if isinstance(size, int) else size))


def _config_of(unet: Any) -> Any:
    """The configuration of a UNet, or of the first module in a callable that has one."""
    return next((m.config for m in (unet, *modules_of(unet)) if hasattr(m, "config")), None)


def _refuse_conditions(config: Any) -> None:
    """An error for a UNet that wants labels or text, with a callable that gives it some."""
    wanted = [n for n in _CONDITIONS if get(config, n) is not None]
    if not wanted:
        return
    value, allowed = get(config, wanted[0]), "None, or given with its condition (--class, --embeddings, --prompt)"
    if "addition_embed_type" in wanted:
        remedy = "Wrap it in a callable of (y, step) that gives it all its conditions, added_cond_kwargs among them"
        raise DomainError(f"unet.config.{wanted[0]}", value, allowed, remedy)
    arguments, kind = [], get(config, "class_embed_type")
    if (width := get(config, "cross_attention_dim")) is not None:
        width = width if isinstance(width, int) else width[0]
        arguments.append(f"encoder_hidden_states=torch.zeros(len(y), 1, {width}, dtype=y.dtype, device=y.device)")
    if kind in ("identity", "projection", "simple_projection"):
        width = 4 * get(config, "block_out_channels")[0]
        width = width if kind == "identity" else get(config, "projection_class_embeddings_input_dim")
        arguments.append(f"class_labels=torch.zeros(len(y), {width}, dtype=y.dtype, device=y.device)")
    elif set(wanted) & {"class_embed_type", "num_class_embeds"}:
        arguments.append("class_labels=torch.zeros(len(y), dtype=torch.long, device=y.device)")
    remedy = (
        f"Wrap it with the condition that is meant, here 0: `lambda y, step: unet(y, step, {', '.join(arguments)})`"
    )
    raise DomainError(f"unet.config.{wanted[0]}", value, allowed, remedy)
