r"""Is a network read as it was trained? Its denoising loss on the user's data under every likely mistake, the likeliest by name.

The loss is told in units of a denoiser of single pixels (`validation.networks.pipelines.pixel_scale`); a network that has learned
these images is well below 1 where its conventions are right. Tried are, one at a time: the scale of pixels, what it predicts and
with which sign, the noise schedule or how noise is given, the order of channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from numerics.domain import DomainError
from validation.networks import CONDITIONS, SCALES, ModelScore
from validation.networks.pipelines.latent_scale import latent_scales
from validation.networks.pipelines.latents import Autoencoder
from validation.networks.pipelines.pixel_scale import (
    BETTER,
    LEARNED,
    check_scale,
    level_ratios,
    pixel_scales,
    usual_scales,
)
from validation.networks.pipelines.schedules import schedule_of

__all__ = ["Reading", "check_conventions", "check_latents", "readings"]

_BETAS = ("linear", "scaled_linear", "squaredcos_cap_v2")
_OPTIONS = {"noise": "epsilon", "x0": "x0", "v": "v", "velocity": "flow"}  # of --prediction
_WORDS = {"noise": "epsilon", "x0": "sample", "v": "v_prediction", "velocity": "flow_prediction"}
_CHANNELS = (
    1.02  # times better, and three standard errors: another order of channels changes little where images are grey
)
_SHIFTS = 1.05  # the same for a shift of latents that pipelines have
_SIGMAS_APART = 3.0


@dataclass(frozen=True)
class Reading:
    """One way to read a network. kind : "as given", "prediction", "noise", "channels" or "pixels"; name : in words

    ratio : its loss over the denoiser of single pixels, > 0, geometric mean over noise levels; levels : (T,) at each
    """

    kind: str
    name: str
    ratio: float
    levels: tuple[float, ...] = ()


def readings(face: ModelScore, X: Any, *, seed: int = 0, module: bool = False) -> list[Reading]:
    """Every likely way to read a network, best first, all with the data on the scale they are given.

    Parameters
    ----------
    face : the network as it is read; X : (P, N) finite data that vary, P >= 2, in the network's order of coordinates
    module : names are those of the options that go with a torch module, not those of a scheduler's configuration
    """
    X = torch.as_tensor(np.asarray(X[:512]), dtype=torch.float64)
    found = [_read("as given", "as given", face, X, seed)]
    for kind, name, other in _others(face, module):
        found.append(_read(kind, name, other, X, seed))
    for name, permuted in _orders(face, X):
        found.append(_read("channels", name, face, permuted, seed))
    return sorted(found, key=lambda reading: reading.ratio)


def check_conventions(face: ModelScore, X: Any, *, seed: int = 0, module: bool = False) -> str:
    """An error where another reading is clearly the network's; else what there is to say of it, in words, or nothing.

    The scale of pixels comes first (`check_scale`); other readings are tried where the network denoises on none, and the order of
    channels always. module : as in `readings`

    Raises
    ------
    DomainError : the network denoises the data at least 1.3 times better when it is read in another way, and has learned them
        there; its message names that way
    """
    best = pixel_scales(face, X, seed=seed)[0]
    if best.ratio <= LEARNED:
        said = check_scale(face, X, seed=seed)
        _check_channels(face, X, seed)
        return said
    scaled = face.rescaled(best.centre, best.unit)
    for at in (face, scaled) if (best.centre, best.unit) != (face.centre, face.unit) else (face,):
        first = readings(at, X, seed=seed, module=module)[0]
        own = level_ratios(at, _points(X), seed)
        if first.ratio <= LEARNED and first.ratio * BETTER < _mean(own):
            where = "" if at is face else f" and pixels in {best.name} ({best.options})"
            raise DomainError(
                "--model",
                f"a network whose denoising loss is {_mean(own):.2g} times that of a denoiser of single pixels",
                "one that is read as it was trained",
                f"The likeliest mistake is {_MISTAKES[first.kind]}: {first.name}{where} gives {first.ratio:.2g} times. "
                f"{(_OF_MODULES if module else _REMEDIES)[first.kind]}; to measure as it is all the same, `--centre 0 --unit 1`",
            )
    return check_scale(face, X, seed=seed)


_MISTAKES = {
    "prediction": "the prediction type",
    "noise": "the noise convention",
    "channels": "the order of channels",
}
_REMEDIES = {
    "prediction": "Correct prediction_type in its scheduler_config.json",
    "noise": "Correct the schedule in its scheduler_config.json",
    "channels": "Bring the channels of the data into that order",
}
_OF_MODULES = _REMEDIES | {
    "prediction": "Give that --prediction, or change the sign in the module",
    "noise": "Give that --level, --convention or --scheduler",
}


def check_latents(
    face: ModelScore,
    auto: Autoencoder,
    Z: Any,
    *,
    pixels: Any = None,
    encode: Callable[[float, float], Any] | None = None,
    seed: int = 0,
) -> str:
    """`check_conventions` for latents: a wrong scaling or shift of them, a wrong scale of the pixels that were encoded, a wrong
    prediction type or noise schedule.

    Parameters
    ----------
    face : the network of latents, as it is read; auto : the autoencoder, with the scale of its configuration
    Z : (P, n) latents so scaled; seed : of the noise
    pixels, encode : numbers of the images, and latents of some of them by (centre, unit); tried where another reading is better,
        or none denoises

    Returns
    -------
    What there is to say in words, or nothing.

    Raises
    ------
    DomainError : another reading denoises at least 1.3 times better (a shift that pipelines have: 1.05 times, by a paired test
        over images), and well; its message names it
    """
    shape, points = face.shape or (), _points(Z)
    own = level_ratios(face, points, seed)
    mean = _mean(own)
    found: list[tuple[float, str, str]] = []
    for scale in latent_scales(auto, points, shape):
        other = _levels(face, scale.Z, seed)
        slightly = scale.shifted and scale.usual and _apart(own, other) and _mean(own) > _SHIFTS * _mean(other)
        if slightly or _mean(other) * BETTER < mean:
            found.append((_mean(other), "the scale of the latents", scale.name))
    if encode is not None and (found or mean > LEARNED):
        for name, centre, unit in usual_scales(pixels):
            other = _levels(face, _points(encode(centre, unit)), seed)
            if (centre, unit) != (0.0, 1.0) and _mean(other) * BETTER < mean:
                found.append(
                    (
                        _mean(other),
                        "the scale of the pixels",
                        f"pixels in {name}, `--centre {centre:g} --unit {unit:g}`,",
                    )
                )
    for kind, name, changed in _others(face, False) if mean > LEARNED else ():
        other = _levels(changed, points, seed)
        if _mean(other) * BETTER < mean:
            found.append((_mean(other), _MISTAKES[kind], name))
    best = min(found, default=(math.inf, "", ""))
    if best[0] <= LEARNED:
        raise DomainError(
            "--model",
            f"a network of latents whose denoising loss is {mean:.2g} times that of a denoiser of single numbers",
            "one that is read as it was trained",
            f"The likeliest mistake is {best[1]}: {best[2]} gives {best[0]:.2g} times. {_OF_LATENTS[best[1]]}; to measure as it "
            "is all the same, `--centre 0 --unit 1`",
        )
    if mean > LEARNED:
        return (
            f"the network denoises these latents not much better than number by number ({mean:.2g} times that loss), on no usual "
            "scale of them: it has not learned these images, or its conventions are others"
        )
    return ""


_OF_LATENTS = {
    "the scale of the latents": "Correct scaling_factor and shift_factor in the autoencoder's config.json",
    "the scale of the pixels": "Add these options",
    _MISTAKES["prediction"]: _REMEDIES["prediction"],
    _MISTAKES["noise"]: _REMEDIES["noise"],
}


def _levels(face: ModelScore, X: torch.Tensor, seed: int) -> np.ndarray:
    """`level_ratios`, infinite where this reading makes no sense."""
    try:
        ratios = level_ratios(face, X, seed)
    except (DomainError, OverflowError, ZeroDivisionError):
        return np.full((1, 1), np.inf)
    return np.where(np.isfinite(ratios), ratios, np.inf)


def _apart(own: np.ndarray, other: np.ndarray) -> bool:
    """Whether the other losses are less by three standard errors: paired, the same images and the same noise."""
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = np.log(own.mean(axis=0)) - np.log(other.mean(axis=0))
    return bool(gap.mean() > _SIGMAS_APART * gap.std(ddof=1) / len(gap) ** 0.5)


def _check_channels(face: ModelScore, X: Any, seed: int) -> None:
    points = _points(X)
    own = level_ratios(face, points, seed)
    for name, permuted in _orders(face, points):
        other = level_ratios(face, permuted, seed)
        if _apart(own, other) and _mean(own) > _CHANNELS * _mean(other):
            raise DomainError(
                "DATA",
                "channels in the order as given",
                "channels in the order the network was trained on",
                f"With {name} its denoising loss is {_mean(own) / _mean(other):.3g} times less. {_REMEDIES['channels']}; to "
                "measure as they are all the same, `--centre 0 --unit 1`",
            )


def _read(kind: str, name: str, face: ModelScore, X: torch.Tensor, seed: int) -> Reading:
    try:
        ratios = level_ratios(face, X, seed)
    except (DomainError, OverflowError, ZeroDivisionError):
        return Reading(kind, name, float("inf"))
    mean = _mean(ratios)
    levels = tuple(float(f"{value:.4g}") for value in ratios.mean(axis=1))
    return Reading(kind, name, mean if np.isfinite(mean) else float("inf"), levels)


def _mean(ratios: np.ndarray) -> float:
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return float(np.exp(np.log(ratios.mean(axis=1)).mean()))


def _points(X: Any) -> torch.Tensor:
    return torch.as_tensor(np.asarray(X[:512]), dtype=torch.float64)


def _others(face: ModelScore, module: bool) -> Iterator[tuple[str, str, ModelScore]]:
    """The network with another prediction, sign, schedule or way to be given the noise."""
    flow = face.predicts == "velocity"
    for predicts in ("noise", "x0", "velocity" if flow else "v"):
        for sign in (1.0, -1.0):
            if (predicts, sign) != (face.predicts, face.sign) and not (predicts == "x0" and sign < 0):
                said = f"--prediction {_OPTIONS[predicts]}" if module else f"prediction_type {_WORDS[predicts]}"
                name = said + (" with the opposite sign" if sign < 0 else "")
                yield "prediction", name, face.changed(predicts=predicts, sign=sign)
    if face.predicts == "edm":
        yield "prediction", "the opposite sign", face.changed(sign=-face.sign)
    schedule = getattr(face, "schedule", None)
    if schedule is None:
        for name, condition in CONDITIONS.items():
            if condition is not face.condition:
                yield (
                    "noise",
                    f"--level {name}" if module else f"noise given as {name}",
                    face.changed(condition=condition),
                )
        for name in ("ve", "ddpm", "flow"):
            if SCALES[name] is not face.scale:
                said = f"--convention {name}" if module else f"the input of convention {name}"
                yield "noise", said, face.changed(scale=SCALES[name])
        return
    if schedule.log_t is None:
        return
    import diffusers

    for betas in _BETAS:
        other = schedule_of(diffusers.DDPMScheduler(len(schedule.log_t), beta_schedule=betas), nearest=schedule.whole)
        if other.log_t is not None and np.abs(other.log_t - schedule.log_t).max() > 1e-3:
            # DDPM's own prediction type is left aside: only its noise is taken
            yield "noise", f"--scheduler {betas}" if module else f"beta_schedule {betas}", face.changed(schedule=other)


def _orders(face: ModelScore, X: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """The data with their channels in another order, where there are three."""
    if face.shape is None or len(face.shape) != 3 or face.shape[0] != 3:
        return
    images = X.reshape(-1, *face.shape)
    yield "channels reversed (BGR)", images.flip(1).flatten(1)
    rows, columns = face.shape[1:]
    yield "channels last in memory", X.reshape(-1, rows, columns, 3).permute(0, 3, 1, 2).flatten(1)
