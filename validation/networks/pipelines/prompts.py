"""A text as the tensors that a pipeline's own text encoders make of it."""

from __future__ import annotations

import inspect
import os
from typing import Any

import torch

from numerics.domain import DomainError
from validation.networks.pipelines.saved import quietly

__all__ = ["encode_prompt"]

_TEXT = ("prompt_embeds", "negative_prompt_embeds")
_POOLED = ("pooled_prompt_embeds", "negative_pooled_prompt_embeds")
_MASKED = ("prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds", "negative_prompt_attention_mask")
_RETURNS = {  # what `encode_prompt` of each family returns, in its order
    "StableDiffusionPipeline": _TEXT,
    "StableDiffusionXLPipeline": _TEXT + _POOLED,
    "StableDiffusion3Pipeline": _TEXT + _POOLED,
    "FluxPipeline": ("prompt_embeds", "pooled_prompt_embeds", "txt_ids"),
    "PixArtAlphaPipeline": _MASKED,
    "PixArtSigmaPipeline": _MASKED,
}


def encode_prompt(path: str | os.PathLike, prompt: str, guidance: float | None = None) -> dict[str, Any]:
    """Tensors by name, as `validation.networks.pipelines.conditions` takes them; of the empty text too, with guidance.

    Raises
    ------
    DomainError : transformers not installed, or a pipeline whose text encoding is not known here
    """
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise DomainError(
            "--prompt", prompt, "left out where transformers is not installed", "`pip install transformers`"
        ) from error
    from diffusers import DiffusionPipeline

    pipeline = quietly(DiffusionPipeline.from_pretrained, path, None)
    name = next((kind.__name__ for kind in type(pipeline).__mro__ if kind.__name__ in _RETURNS), None)
    if name is None:
        allowed = f"left out for a {type(pipeline).__name__}; texts are encoded for {', '.join(_RETURNS)}"
        raise DomainError("--prompt", prompt, allowed, "Give its tensors in a file")
    known = inspect.signature(pipeline.encode_prompt).parameters
    arguments = {n: prompt for n in ("prompt", "prompt_2", "prompt_3") if n in known}
    arguments |= {"device": "cpu", "num_images_per_prompt": 1}
    if "do_classifier_free_guidance" in known:
        arguments["do_classifier_free_guidance"] = guidance is not None and guidance != 1
    with torch.no_grad():
        found = pipeline.encode_prompt(**arguments)
    return {n: value for n, value in zip(_RETURNS[name], found, strict=False) if isinstance(value, torch.Tensor)}
