r"""What a scheduler of diffusers says of a network: scaling of its input, noise conditioning, prediction.

    scheduler                             y given to the network      noise is given as       t from
    with alphas_cumprod (DDPM, Heun ..)   x/sqrt(1+t)                 timestep                (1-abar)/abar, log-interpolated
    Euler, continuous v prediction        x/sqrt(1+t)                 log(sigma)/4            sigma^2
    EDM (Euler, DPM-Solver, cosine)       x/sqrt(t+sigma_data^2)      its precondition_noise  sigma^2
    flow matching (any shift)             x/(1+sqrt(t))               T s, s = sqrt(t)/(1+..) (s/(1-s))^2
    ScoreSdeVe                            x                           sigma                   sigma^2

Which steps a sampler takes (Karras, exponential, beta sigmas, shifts, spacings) does not matter: none is taken with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from numerics.domain import DomainError, finite
from theory.noise import t_from_alpha_bar, t_from_flow, t_to_flow

__all__ = ["Schedule", "get", "schedule_of"]

_PREDICTION = {"epsilon": "noise", "sample": "x0", "v_prediction": "v"}
_SIGNS = {"epsilon": 1.0, "v_prediction": -1.0}  # of the network inside EDM's preconditioning
_FLOW = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
_NO_SCORE = {  # networks that were trained, or distilled, for something else
    "CMStochasticIterativeScheduler": "a consistency model maps noise to the end of its trajectory, not to the posterior mean",
    "SCMScheduler": "a consistency model maps noise to the end of its trajectory, not to the posterior mean",
    "FlowMatchLCMScheduler": "a consistency model maps noise to the end of its trajectory, not to the posterior mean",
    "VQDiffusionScheduler": "its noise is of symbols, not Gaussian",
    "AmusedScheduler": "its noise is of symbols, not Gaussian",
}


@dataclass(frozen=True)
class Schedule:
    """One noise convention, in the network's own units.

    kind : in words; predicts : see `validation.networks.conventions`; scale(t) : y = scale x; level(t) : its noise
    conditioning; t_range : noise variances it was trained on; sigma_data : of EDM's preconditioning; sign : of the output
    whole : levels are integers; log_t : (T,) log t of the integer timesteps, where there are such
    """

    kind: str
    predicts: str
    scale: Callable[[float], float]
    level: Callable[[float], float]
    t_range: tuple[float, float]
    sigma_data: float = 1.0
    sign: float = 1.0
    whole: bool = False
    log_t: np.ndarray | None = None

    def checked(self, t: float) -> float:
        """t, where the network knows that noise; the ends reach as far as rounding does."""
        low, high = self.t_range
        if not low * (1 - 1e-9) <= t <= high * (1 + 1e-9):
            allowed = (
                f"in [{low:.4g}, {high:.4g}], the noise of the scheduler's timesteps (in units of the model's data)"
            )
            raise DomainError("t", t, allowed)
        return t


def schedule_of(scheduler: Any, *, nearest: bool = False) -> Schedule:
    """The noise convention of a scheduler.

    Parameters
    ----------
    scheduler : of diffusers, or an object with `config` and `alphas_cumprod`
    nearest : trained integers only, where the scheduler counts in integers

    Raises
    ------
    DomainError : a scheduler of another kind, by name, with the reason where one is known
    """
    config, names = getattr(scheduler, "config", None), {kind.__name__ for kind in type(scheduler).__mro__}
    for name in sorted(names & set(_NO_SCORE)):
        raise DomainError("scheduler", name, "one of a diffusion model", f"({_NO_SCORE[name]})")
    if "ScoreSdeVeScheduler" in names:
        return _score_sde(config)
    if callable(getattr(scheduler, "precondition_noise", None)) and get(config, "sigma_data") is not None:
        return _edm(scheduler, config)
    if names & set(_FLOW) or get(config, "use_flow_sigmas") or get(config, "prediction_type") == "flow_prediction":
        return _flow(scheduler, config)
    return _alphas(scheduler, config, nearest)


def get(config: Any, name: str) -> Any:
    """One entry of a configuration, a mapping or an object; None where there is none."""
    return config.get(name) if isinstance(config, dict) else getattr(config, name, None)


def _alphas(scheduler: Any, config: Any, nearest: bool) -> Schedule:
    bars = getattr(scheduler, "alphas_cumprod", None)
    if bars is None:
        raise DomainError(
            "scheduler",
            type(scheduler).__name__,
            "one with alphas_cumprod, EDM's, flow matching's or ScoreSdeVeScheduler",
            "Use ModelScore for others",
        )
    predicts = get(config, "prediction_type")
    if predicts not in _PREDICTION:
        raise DomainError("scheduler.config.prediction_type", predicts, ", ".join(_PREDICTION))
    # as diffusers rounds them: in float32 they are the noise that the UNet was trained on
    bars = finite("scheduler.alphas_cumprod", torch.as_tensor(bars).detach().double().cpu().numpy())
    if bars.ndim == 1 and len(bars) and (bars[-1] == 0 or get(config, "rescale_betas_zero_snr")):
        bars = bars[:-1]
    if bars.ndim != 1 or len(bars) < 2 or not (np.diff(bars) < 0).all() or not (bars[-1] > 0 and bars[0] < 1):
        raise DomainError("scheduler.alphas_cumprod", bars.shape, "decreasing numbers in (0, 1), at least two")
    log_t = np.log(t_from_alpha_bar(bars))
    t_range = (float(np.exp(log_t[0])), float(np.exp(log_t[-1])))

    def scale(t: float) -> float:
        return (1 + t) ** -0.5

    if get(config, "timestep_type") == "continuous" and predicts == "v_prediction":
        ends = [get(config, name) for name in ("sigma_min", "sigma_max")]
        t_range = tuple(known if end is None else float(end) ** 2 for end, known in zip(ends, t_range, strict=True))
        return Schedule("continuous Euler", "v", scale, lambda t: math.log(t) / 8, t_range)

    def level(t: float) -> float:
        step = float(np.interp(np.log(t), log_t, np.arange(len(log_t))))
        return float(round(step)) if nearest else step

    kind = f"{len(log_t)} timesteps"
    return Schedule(kind, _PREDICTION[predicts], scale, level, t_range, whole=nearest, log_t=log_t)


def _edm(scheduler: Any, config: Any) -> Schedule:
    sigma_data, predicts = float(get(config, "sigma_data")), get(config, "prediction_type")
    if predicts not in _SIGNS:
        raise DomainError("scheduler.config.prediction_type", predicts, ", ".join(_SIGNS))

    def level(t: float) -> float:
        return float(scheduler.precondition_noise(torch.tensor(t**0.5, dtype=torch.float64)))

    return Schedule(
        f"EDM, sigma_data {sigma_data:g}",
        "edm",
        lambda t: (t + sigma_data**2) ** -0.5,
        level,
        (float(get(config, "sigma_min")) ** 2, float(get(config, "sigma_max")) ** 2),
        sigma_data,
        _SIGNS[predicts],
    )


def _flow(scheduler: Any, config: Any) -> Schedule:
    if get(config, "invert_sigmas"):
        raise DomainError("scheduler.config.invert_sigmas", True, "False", "Use ModelScore with convention='flow'")
    predicts = get(config, "prediction_type") or "flow_prediction"
    known = {"flow_prediction": "velocity", "epsilon": "noise", "sample": "x0"}
    if predicts not in known:
        raise DomainError("scheduler.config.prediction_type", predicts, f"with flow sigmas, {', '.join(known)}")
    steps = int(get(config, "num_train_timesteps"))
    inside = torch.as_tensor(getattr(scheduler, "sigmas", ())).double()
    shift = get(config, "shift")
    if shift is None:  # solvers whose sigmas of construction are those of alphas_cumprod
        shift = get(config, "flow_shift") or 1.0
        unshifted = torch.arange(1, steps, dtype=torch.float64) / steps
        inside = shift * unshifted / (1 + (shift - 1) * unshifted)
    inside = inside[(inside > 0) & (inside < 1)]
    if len(inside) < 2:
        raise DomainError("scheduler.sigmas", tuple(inside.shape), "at least two numbers in (0, 1)")
    t_range = (float(t_from_flow(float(inside.min()))), float(t_from_flow(float(inside.max()))))
    return Schedule(
        f"flow matching, shift {shift:g}",
        known[predicts],
        lambda t: 1 - t_to_flow(t),
        lambda t: steps * t_to_flow(t),
        t_range,
    )


def _score_sde(config: Any) -> Schedule:
    ends = tuple(float(get(config, name)) ** 2 for name in ("sigma_min", "sigma_max"))
    return Schedule("variance exploding", "score", lambda t: 1.0, lambda t: t**0.5, ends)
