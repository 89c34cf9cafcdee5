"""Losses of a stack of networks against training steps, taken while they train, without a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xarray as xr

from validation.training import Trainer, TrainingConfig, Watch
from validation.window.curves import copied_fraction
from validation.window.times import training_times

__all__ = ["constant_rate", "pilot_curves"]

CHECKS = 48  # 10 % from one to the next over two decades
_EVERY = 8  # checks from one drawing of samples to the next
_BEYOND = 1.5  # once all have memorised a level, train on to so many times that step


def constant_rate(config: TrainingConfig) -> TrainingConfig:
    """The same training without the decay of its rates: the clock of a short run is then that of a long one.

    >>> constant_rate(TrainingConfig(steps=10, warmup=1)).schedule(9)
    1.0
    """
    return replace(config, decay_from=1 - 1e-9)


def pilot_curves(
    sets: Sequence[torch.Tensor],
    held_out: torch.Tensor,
    network: Mapping[str, Any],
    config: TrainingConfig,
    *,
    seeds: Sequence[int] | None = None,
    checks: int = CHECKS,
    first: int | None = None,
    levels: int = 8,
    device: str = "cpu",
    stop_early: bool = False,
    samples: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Train one network on each of the sets at a constant rate, and return the losses of `Watch.curves`.

    Parameters
    ----------
    sets : M of shape (P_m, *shape); held_out : (H, *shape); network, config : of `Trainer`, whose rate does not decay here
    checks, first, levels : of `Watch`; stop_early : end at 1.5 times the step at which all networks have memorised one level
    samples : drawn from each network at every eighth check, 0 for none; progress : callable (steps done, of all)

    Returns
    -------
    Dataset of `Watch.curves`; with `samples` also `fraction` over (step, member), the share of copies, nan between
    """
    watch = Watch(held_out, checks=checks, first=first, levels=levels)
    trainer = Trainer(sets, network, constant_rate(config), seeds=seeds, device=device, watch=watch)
    told = (lambda done, total, loss: progress(done, total)) if progress else None
    end, fractions = np.inf, {}
    for k, step in enumerate(watch.steps[1:]):
        trainer.run(until=step, progress=told)
        if samples and (k % _EVERY == _EVERY - 1 or step == config.steps):
            fractions[step] = [
                copied_fraction(trainer.averaged(), m, X, config.noise, samples) for m, X in enumerate(trainer.data)
            ]
        if stop_early and step >= end:
            break
        if stop_early and np.isinf(end) and len(watch.history) > 2:
            tau = training_times(watch.curves())["tau_mem"].values
            memorised = np.isfinite(tau).all(axis=0)
            if memorised.any():
                end = _BEYOND * step
    if progress:
        progress(config.steps, config.steps)
    curves = watch.curves()
    if samples:
        shape = (len(curves["step"]), len(sets), 3)
        rows = [fractions.get(int(step), np.full(shape[1:], np.nan)) for step in curves["step"].values]
        curves["fraction"] = (("step", "member"), np.array(rows).reshape(shape)[..., 0])
    return curves
