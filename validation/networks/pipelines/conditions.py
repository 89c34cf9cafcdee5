r"""A conditional network of diffusers with its condition fixed: a class, embeddings of a text, and guidance if asked for.

    class          UNet2DModel and UNet2DConditionModel with class embeddings, DiTTransformer2DModel
    embeddings     UNet2DConditionModel (SDXL's pooled text and sizes too), PixArt, SD3 and Flux transformers
    guidance w     F(y) = F(y; none) + w (F(y; condition) - F(y; none)): for w other than 1 no score of any density

Tensors are named as the pipelines name them: prompt_embeds, pooled_prompt_embeds, prompt_attention_mask, time_ids, and with
negative_ before them for the condition that guidance goes away from.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from numerics.domain import DomainError, finite, integer
from validation.networks.pipelines.schedules import get

__all__ = ["Conditioned", "conditioned", "load_embeddings"]

_NAMES = {"prompt_embeds": "encoder_hidden_states", "prompt_attention_mask": "encoder_attention_mask"}
_TEXT = ("SD3Transformer2DModel", "FluxTransformer2DModel", "PixArtTransformer2DModel", "UNet2DConditionModel")
_ADDED = "added_cond_kwargs."
_CLASS, _EMBEDDINGS = "label (--class)", "embeddings (--embeddings or --prompt)"


class Conditioned:
    """A network and its condition as one callable (y (B,) + shape, level (B,)) -> (B,) + shape.

    network : of diffusers; condition : argument -> tensor (1, ...), or a value as it is; none : that of guidance
    guidance : w, see the module; flux : whether images are packed into a sequence of 2 x 2 patches
    """

    def __init__(
        self,
        network: torch.nn.Module,
        condition: Mapping[str, Any],
        none: Mapping[str, Any] | None = None,
        guidance: float = 1.0,
        flux: bool = False,
    ):
        self.network, self.condition, self.none = network, dict(condition), none
        self.guidance, self.flux = guidance, flux

    def __call__(self, y: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        given = self._asked(y, level, self.condition)
        if self.none is None:
            return given
        free = self._asked(y, level, self.none)
        return free + self.guidance * (given - free)

    def to(self, device: Any) -> Conditioned:
        """The same on another device; the network itself is moved."""
        self.network.to(device)
        return self

    def _asked(self, y: torch.Tensor, level: torch.Tensor, condition: Mapping[str, Any]) -> torch.Tensor:
        arguments: dict[str, Any] = {}
        for name, value in condition.items():
            place = arguments
            if name.startswith(_ADDED):
                place, name = arguments.setdefault(_ADDED[:-1], {}), name[len(_ADDED) :]
            place[name] = _rows(value, y, shared=name in ("txt_ids", "img_ids"))
        if self.flux:
            return _unpacked(self._tensor(self.network(_packed(y), timestep=level / 1000, **arguments)), y.shape)
        return self._tensor(self.network(y, timestep=level, **arguments), y.shape[1])

    @staticmethod
    def _tensor(answer: Any, channels: int | None = None) -> torch.Tensor:
        out = answer[0] if isinstance(answer, tuple) else getattr(answer, "sample", answer)
        learned_variance = channels is not None and out.shape[1] == 2 * channels
        return out[:, :channels] if learned_variance else out


def conditioned(
    network: Any,
    shape: Sequence[int],
    *,
    label: int | None = None,
    embeddings: Mapping[str, Any] | None = None,
    guidance: float | None = None,
    null_label: int | None = None,
) -> Any:
    """The network with its condition fixed; itself, where it takes none and none is given.

    Parameters
    ----------
    network : a module of diffusers; shape : of one point, (C, H, W)
    label : class, 0 to the number of classes less 1; embeddings : tensors by name, see the module
    guidance : w >= 0; None and 1 are none. For Flux's guidance-distilled networks it is what they are given (default 1)
    null_label : with guidance, the class that stands for none: default that of DiT, no default for a UNet

    Raises
    ------
    DomainError : a condition that is missing, that the network does not take, or of another shape
    """
    config, kind = getattr(network, "config", None), type(network).__name__
    classes = _classes(config, kind)
    given = {} if embeddings is None else dict(embeddings)
    wants_text = kind in _TEXT
    if not wants_text and given and get(config, "class_embed_type") != "identity":
        raise DomainError("embeddings", ", ".join(given), f"left out for a {kind}, which takes none")
    if classes == 0 and label is not None:
        raise DomainError("label", label, f"left out for a {kind} without classes")
    if not wants_text and not classes and guidance is None:
        return network
    distilled = bool(get(config, "guidance_embeds"))
    w = None if guidance is None or distilled else float(finite("guidance", guidance))
    if w is not None and w < 0:
        raise DomainError("guidance", w, "a number >= 0")
    guided = w is not None and w != 1
    both = []
    for negative in (False, True)[: 1 + guided]:
        own = {n.removeprefix("negative_"): v for n, v in given.items() if n.startswith("negative_") == negative}
        chosen = _null(config, kind, null_label) if negative and classes else label
        both.append(_arguments(network, config, kind, classes, chosen, own, shape, negative))
    if distilled:
        both[0]["guidance"] = torch.tensor([1.0 if guidance is None else float(finite("guidance", guidance))])
    flux = kind == "FluxTransformer2DModel"
    return Conditioned(network, both[0], both[1] if guided else None, 1.0 if w is None else w, flux)


def load_embeddings(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Tensors by name from a .safetensors or .npz file.

    Raises
    ------
    DomainError : another kind of file, or one that cannot be read
    """
    path, allowed = Path(path), "a .safetensors or .npz file of tensors by name, prompt_embeds among them"
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: torch.from_numpy(np.array(archive[name])) for name in archive.files}
    except (OSError, ValueError, SafetensorError) as error:
        raise DomainError("--embeddings", str(path), allowed, f"({error})") from error
    raise DomainError("--embeddings", str(path), allowed)


# --- which arguments --------------------------------------------------------------------------------------------------


def _arguments(
    network: Any,
    config: Any,
    kind: str,
    classes: int | None,
    label: int | None,
    given: dict[str, Any],
    shape: Sequence[int],
    negative: bool,
) -> dict[str, Any]:
    """What the network is called with beside y and its noise."""
    out: dict[str, Any] = {}
    before = "negative_" if negative else ""
    if classes:
        if label is None:
            raise DomainError(_CLASS, None, f"an integer from 0 to {classes - 1}: this {kind} has classes")
        out["class_labels"] = torch.tensor([integer("label", label, minimum=0, maximum=classes - 1)])
    if kind not in _TEXT:
        return out
    flux, sd3 = kind == "FluxTransformer2DModel", kind == "SD3Transformer2DModel"
    named = {_NAMES.get(name, name): torch.as_tensor(value) for name, value in given.items()}
    pooled = named.pop("pooled_prompt_embeds", None)
    if pooled is not None:
        named["pooled_projections" if flux or sd3 else _ADDED + "text_embeds"] = pooled
    if "time_ids" in named:
        named[_ADDED + "time_ids"] = named.pop("time_ids")
    width = get(config, "joint_attention_dim") or get(config, "cross_attention_dim") or get(config, "caption_channels")
    if kind == "PixArtTransformer2DModel":
        width = get(config, "caption_channels") or width
        out |= {_ADDED + "resolution": None, _ADDED + "aspect_ratio": None}
    width = width if isinstance(width, int) else width[0]
    wanted = {"encoder_hidden_states": (2, width, "prompt_embeds")}
    if flux or sd3:
        wanted["pooled_projections"] = (1, get(config, "pooled_projection_dim"), "pooled_prompt_embeds")
    if get(config, "addition_embed_type") == "text_time":
        size, ids = get(config, "addition_time_embed_dim"), 6
        text = get(config, "projection_class_embeddings_input_dim") - ids * size
        wanted[_ADDED + "text_embeds"] = (1, text, "pooled_prompt_embeds")
        high, wide = (8 * n for n in shape[-2:])  # pixels of a latent: nothing is cropped
        named.setdefault(_ADDED + "time_ids", torch.tensor([[high, wide, 0, 0, high, wide]], dtype=torch.float32))
    known = set(inspect.signature(network.forward).parameters)
    for name, value in named.items():
        if name.split(".")[0] not in known:
            raise DomainError("embeddings", name, f"tensors that a {kind} takes: {', '.join(_offered(wanted, before))}")
        value = torch.as_tensor(value)
        axes, last, _ = wanted.get(name, (value.ndim - 1, None, ""))
        value = value[None] if value.ndim == axes else value
        if value.ndim != axes + 1 or len(value) != 1 or (last is not None and value.shape[-1] != last):
            shown = "(1, length, {})" if axes == 2 else "(1, {})"
            raise DomainError(f"embeddings[{name!r}]", tuple(value.shape), shown.format(last))
        out[name] = value
    for name in wanted:
        if name not in out:
            raise DomainError(_EMBEDDINGS, None, f"given with {', '.join(_offered(wanted, before))}: this is a {kind}")
    if flux:
        length = out["encoder_hidden_states"].shape[1]
        out.setdefault("txt_ids", torch.zeros(length, 3))
        rows, columns = (n // 2 for n in shape[-2:])
        grid = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), dim=-1)
        out.setdefault("img_ids", torch.nn.functional.pad(grid.reshape(-1, 2), (1, 0)).float())
    return out


def _offered(wanted: Mapping[str, tuple], before: str) -> list[str]:
    return [before + plain for _, _, plain in wanted.values()]


def _classes(config: Any, kind: str) -> int:
    """How many classes, or 0."""
    if kind == "DiTTransformer2DModel":
        return int(get(config, "num_embeds_ada_norm")) + 1  # the last one is none
    count = get(config, "num_class_embeds")
    if count is None and get(config, "class_embed_type") == "timestep":
        return 1 << 31
    return 0 if count is None else int(count)


def _null(config: Any, kind: str, null_label: int | None) -> int:
    if null_label is not None:
        return null_label
    if kind == "DiTTransformer2DModel":
        return int(get(config, "num_embeds_ada_norm"))
    raise DomainError(
        "null_label (--null-class)", None, f"with guidance, the class that a {kind} was trained on as none"
    )


# --- tensors ----------------------------------------------------------------------------------------------------------


def _rows(value: Any, y: torch.Tensor, *, shared: bool) -> Any:
    """A tensor (1, ...) for each point, in the network's precision; other values as they are."""
    if not isinstance(value, torch.Tensor):
        return value
    value = value.to(device=y.device, dtype=y.dtype if value.is_floating_point() else None)
    return value if shared else value.expand(y.shape[0], *value.shape[1:])


def _packed(y: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) to (B, HW/4, 4C), as Flux's pipeline packs."""
    B, C, H, W = y.shape
    return y.reshape(B, C, H // 2, 2, W // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(B, H * W // 4, 4 * C)


def _unpacked(z: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    B, C, H, W = shape
    return z.reshape(B, H // 2, W // 2, C, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(B, C, H, W)
