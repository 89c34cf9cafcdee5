r"""Reverse-time trajectories of any score: the stochastic equation and the probability flow, step by step, seeded.

In variance-exploding time, run from a large :math:`t` down to a small one,

.. math:: dx=s(x,t)\,(-dt)+dW\ \text{(reverse SDE)},\qquad \frac{dx}{dt}=-\tfrac12s(x,t)\ \text{(probability flow)},

both with the marginals of :math:`s=\nabla\log P_t`. A scheme is only its step; `integrate` does everything around it.
Sources: [BBBM24]; T. Karras et al., "Elucidating the design space of diffusion-based generative models" (2022), algorithms
1 and 2 and equation 5; orders measured in [ours: docs/derivations/trajectories.md].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from numerics.domain import DomainError, finite, integer, nonnegative, positive
from validation.simulation.samplers import generator

__all__ = ["SCHEMES", "Scheme", "integrate", "karras_levels"]

Score = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Step = Callable[[Score, torch.Tensor, torch.Tensor, torch.Tensor, Any], torch.Tensor]


@dataclass(frozen=True)
class Scheme:
    """One step from t down to u, and the orders it is tested for.

    Attributes
    ----------
    step : callable (score, x, t, u, z) -> x at u; x, z (B, N), t, u (B, 1) float64; z standard normal, None for the flow.
        Sums in float64; `score` is handed x and t in the dtype of the states.
    stochastic : whether it follows the reverse SDE (and takes z) or the probability flow
    weak_order : of the law at u given the state at t; strong_order : of the path, given the noise
    evaluations : scores a step
    ends_at_zero : whether the last level may be 0
    """

    name: str
    step: Step
    stochastic: bool
    weak_order: int
    strong_order: int
    evaluations: int
    ends_at_zero: bool


def _euler(score, x, t, u, z):
    sigma, lower = t.sqrt(), u.sqrt()
    return x + (sigma - lower) * sigma * score(x, t)


def _heun(score, x, t, u, z):
    # [Karras et al. 2022, algorithm 1]: dx/dsigma = -sigma s; at sigma = 0 the slope is not defined, Euler remains
    sigma, lower = t.sqrt(), u.sqrt()
    slope = -sigma * score(x, t)
    ahead = x + (lower - sigma) * slope
    if not bool((u > 0).all()):
        return ahead
    return x + (lower - sigma) * (slope - lower * score(ahead, u)) / 2


def _euler_maruyama(score, x, t, u, z):
    return x + (t - u) * score(x, t) + (t - u).sqrt() * z


def _stochastic_heun(score, x, t, u, z):
    # the noise is additive, so averaging the drift over predictor and corrector gives weak order 2
    kick, drift = (t - u).sqrt() * z, score(x, t)
    ahead = x + (t - u) * drift + kick
    return x + (t - u) * (drift + score(ahead, u)) / 2 + kick


def _ancestral(score, x, t, u, z):
    # the bridge from x at t to one data point at 0, its place taken by the posterior mean x + t s: no noise remains at u = 0
    return x + (t - u) * score(x, t) + (u * (t - u) / t).sqrt() * z


def _edm(score, x, t, u, z):
    # [Karras et al. 2022, algorithm 2]: up by t - u with noise, down with Heun; this much churn is the reverse SDE
    raised = 2 * t - u
    return _heun(score, x + (t - u).sqrt() * z, raised, u, None)


SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {
        scheme.name: scheme
        for scheme in (
            Scheme("euler", _euler, False, 1, 1, 1, True),
            Scheme("heun", _heun, False, 2, 2, 2, True),
            Scheme("euler-maruyama", _euler_maruyama, True, 1, 1, 1, False),
            Scheme("stochastic-heun", _stochastic_heun, True, 2, 1, 2, False),
            Scheme("ancestral", _ancestral, True, 1, 1, 1, True),
            Scheme("edm", _edm, True, 1, 1, 2, True),
        )
    }
)


def karras_levels(t_max: Any, t_min: Any, steps: int, rho: float = 7.0) -> np.ndarray:
    r"""Noise variances from t_max down to t_min, evenly spaced in a power of the standard deviation.

    .. math:: t_k=\Big(\sigma_{\max}^{1/\rho}+\tfrac kK\big(\sigma_{\min}^{1/\rho}-\sigma_{\max}^{1/\rho}\big)\Big)^{2\rho}

    Parameters
    ----------
    t_max, t_min : numbers, or (B,) arrays for one schedule a trajectory; t_max > t_min >= 0, in squared data units
    steps : int >= 1
    rho : number > 0, or infinity for even spacing in log t (then t_min > 0)

    Returns
    -------
    (steps + 1,) or (steps + 1, B), strictly decreasing

    Source: Karras et al. 2022, equation 5 (there rho = 7).

    >>> np.round(karras_levels(4.0, 1.0, 2, rho=1.0), 12).tolist()
    [4.0, 2.25, 1.0]
    >>> np.round(karras_levels(4.0, 1.0, 2, rho=np.inf), 12).tolist()
    [4.0, 2.0, 1.0]
    """
    high, low = positive("t_max", t_max), nonnegative("t_min", t_min)
    steps = integer("steps", steps, minimum=1)
    if not (isinstance(rho, (int, float, np.number)) and rho > 0):
        raise DomainError("rho", rho, "a number > 0, or infinity")
    if high.ndim > 1 or low.ndim > 1 or (high.ndim and low.ndim and high.shape != low.shape):
        raise DomainError("t_max, t_min", (high.shape, low.shape), "numbers, or arrays of one shape (B,)")
    if not (high > low).all():
        raise DomainError("t_min", low.tolist(), f"below t_max = {high.tolist()}")
    if np.isinf(rho) and not (low > 0).all():
        raise DomainError("t_min", low.tolist(), "> 0 where rho is infinite")
    part = np.linspace(0.0, 1.0, steps + 1).reshape(-1, *[1] * np.broadcast(high, low).ndim)
    if np.isinf(rho):
        levels = np.exp((1 - part) * np.log(high) + part * np.log(low))
    else:
        root = 1 / (2 * rho)
        levels = ((1 - part) * high**root + part * low**root) ** (2 * rho)
    levels[0], levels[-1] = high, low
    return levels


def integrate(
    score: Score,
    x: Any,
    levels: Any,
    *,
    scheme: str | Scheme = "heun",
    seed: int | Sequence[int] = 0,
    noise: Callable[[int], torch.Tensor] | None = None,
    batch: int | None = None,
    observe: Callable[[int, torch.Tensor, torch.Tensor], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Any:
    r"""Follow trajectories down a schedule of noise variances.

    Parameters
    ----------
    score : callable (x (B, N), t (B,)) -> (B, N), tensors on the device and in the dtype of x
        `EmpiricalScore(X).score`, an exact score, or a network.
    x : (B, N) finite reals, numpy or torch
        The states at the first level, kept in this dtype from step to step.
    levels : (K+1,) or (K+1, B), strictly decreasing, > 0; the last may be 0 where the scheme allows it
    scheme : a name in `SCHEMES`, or a `Scheme`
    seed : int >= 0 or sequence of such; of the noise. Row b of step k is the same whatever `batch` is.
    noise : callable k -> (B, N) standard normals of step k, instead of the seeded ones
    batch : rows given to the score at once; None for all
    observe : called with (k, t (B,), x (B, N)) at every level, the first and the last included; must not change x
    progress : callable (steps done, steps)

    Returns
    -------
    (B, N) states at the last level, of the kind and dtype of x

    Raises
    ------
    DomainError
        For bad arguments, a score of another shape, or states that stop being finite (with the step and its t).

    The failure that looks normal: the flow and the SDE share their marginals at every t, so samples and variances agree,
    while the two send the same x to different training points, with different probabilities at finite N.
    Source: see the module; [ours: docs/derivations/trajectories.md].

    >>> final = integrate(lambda x, t: -x / (1 + t[:, None]), np.array([[2.0]]), karras_levels(3.0, 0.0, 256))
    >>> round(float(final[0, 0]), 3)  # a unit Gaussian: the flow is x(t) = x(3) sqrt((1 + t)/4)
    1.0
    """
    chosen = _scheme(scheme)
    points, like = _points(x)
    B, N = points.shape
    t = _levels(levels, B, chosen, points.dtype)
    batch = B if batch is None else integer("batch", batch, minimum=1)
    if noise is not None and not callable(noise):
        raise DomainError("noise", noise, "None or a callable of the step")
    draw = None
    if chosen.stochastic:
        stream = generator(N, seed, points.device, points.dtype) if noise is None else None
        draw = noise if noise is not None else lambda k: stream.rows(B)
    # differences of levels and of their roots are taken in float64, whatever the states are kept in
    levels_of = torch.from_numpy(t).to(points.device)
    checked = _checked(score, points.dtype)
    state, steps = points.clone(), len(t) - 1
    for k in range(steps):
        if observe is not None:
            observe(k, levels_of[k].to(points.dtype), state)
        z = None if draw is None else _normals(draw(k), points, k)
        parts = [slice(i, i + batch) for i in range(0, B, batch)]
        state = torch.cat(
            [
                chosen.step(
                    checked, state[p], levels_of[k][p, None], levels_of[k + 1][p, None], None if z is None else z[p]
                )
                for p in parts
            ]
        ).to(points.dtype)
        if not bool(torch.isfinite(state).all()):
            raise DomainError(
                "score",
                f"states that are not finite after step {k + 1} of {steps}, at t = {t[k + 1].max():.3g}",
                "a score that keeps them finite",
                "Take more steps, or end at a larger t",
            )
        if progress is not None:
            progress(k + 1, steps)
    if observe is not None:
        observe(steps, levels_of[-1].to(points.dtype), state)
    return state if like is None else state.cpu().numpy().astype(like, copy=False)


def _checked(score: Score, dtype: torch.dtype) -> Score:
    if not callable(score):
        raise DomainError("score", score, "a callable of x (B, N) and t (B,)")

    def evaluate(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        x = x.to(dtype)
        value = score(x, t.reshape(-1).to(dtype))
        if not (torch.is_tensor(value) and value.shape == x.shape):
            found = f"a value of shape {tuple(np.shape(value))}"
            raise DomainError("score", found, f"a tensor of the shape of x, {tuple(x.shape)}")
        return value

    return evaluate


def _scheme(scheme: str | Scheme) -> Scheme:
    if isinstance(scheme, Scheme):
        return scheme
    if scheme not in SCHEMES:
        raise DomainError("scheme", scheme, f"one of {', '.join(SCHEMES)}, or a Scheme")
    return SCHEMES[scheme]


def _points(x: Any) -> tuple[torch.Tensor, np.dtype | None]:
    """The states as a floating tensor, and the numpy dtype to hand back (None for torch)."""
    if torch.is_tensor(x):
        points, like = (x if x.dtype.is_floating_point else x.double()).detach(), None
    else:
        array = np.asarray(x)
        like = np.dtype(np.float32 if array.dtype == np.float32 else np.float64)
        points = torch.from_numpy(finite("x", array).astype(like))
    if points.ndim != 2 or 0 in points.shape or not bool(torch.isfinite(points).all()):
        raise DomainError("x", f"an array of shape {tuple(points.shape)}", "finite reals of shape (B >= 1, N >= 1)")
    return points, like


def _levels(levels: Any, B: int, scheme: Scheme, dtype: torch.dtype) -> np.ndarray:
    values = nonnegative("levels", levels)
    allowed = f"(K + 1,) or (K + 1, {B}), K >= 1, strictly decreasing"
    if values.ndim not in (1, 2) or len(values) < 2 or (values.ndim == 2 and values.shape[1] not in (1, B)):
        raise DomainError("levels", f"an array of shape {values.shape}", allowed)
    if (np.diff(values, axis=0) >= 0).any():
        raise DomainError("levels", "a schedule that does not decrease at every step", allowed)
    if (values[-1] == 0).any() and not scheme.ends_at_zero:
        remedy = 'End at t > 0 and denoise once, or use "ancestral" or "edm"'
        raise DomainError("levels", "a schedule that ends at 0", f"> 0 at the end for {scheme.name!r}", remedy)
    held = torch.from_numpy(values).to(dtype)
    lost = (~torch.isfinite(held) | ((held == 0) & torch.from_numpy(values > 0))).numpy()
    if lost.any():
        name, info = str(dtype).removeprefix("torch."), torch.finfo(dtype)
        allowed = f"between {info.tiny:.3g} and {info.max:.3g}, which {name} states can tell the score"
        raise DomainError("levels", float(values[lost].flat[0]), allowed, "Start from float32 or float64 states")
    values = values[:, None] if values.ndim == 1 else values
    return np.broadcast_to(values, (len(values), B)).copy()


def _normals(z: Any, like: torch.Tensor, k: int) -> torch.Tensor:
    if not (torch.is_tensor(z) and z.shape == like.shape):
        raise DomainError(f"noise({k})", f"a value of shape {tuple(np.shape(z))}", f"a tensor {tuple(like.shape)}")
    return z.to(like)
