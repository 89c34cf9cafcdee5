"""When will a network of this kind memorise P points? The answer of a pilot run at two or three small P."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from numerics.domain import DomainError, finite, integer, positive
from validation.training import TrainingConfig
from validation.window.pilot import pilot_curves
from validation.window.scaling import extrapolate_time
from validation.window.times import training_times

__all__ = ["default_sizes", "predict_window", "prediction_lines"]

SMALLEST = 16
FRACTIONS = (1 / 16, 1 / 8)
EXPONENTS = {"tau_mem": 1.0, "tau_gen": 0.0}  # of P, in the theory of random features


def default_sizes(P: int) -> tuple[int, ...]:
    """P/16 and P/8, at least 16 points: a pilot that needs an eighth of the steps.

    >>> default_sizes(1600)
    (100, 200)
    """
    sizes = tuple(max(SMALLEST, round(P * f)) for f in FRACTIONS)
    if sizes[0] == sizes[1] or sizes[1] >= P:
        raise DomainError("P", P, f"at least {round(SMALLEST / FRACTIONS[0])}", "Or give the sizes of the pilots")
    return sizes


def predict_window(
    X: torch.Tensor,
    held_out: torch.Tensor,
    network: Mapping[str, Any],
    config: TrainingConfig,
    *,
    P: int | None = None,
    sizes: Sequence[int] | None = None,
    replicas: int = 2,
    exponent: float | None = None,
    coverage: float = 0.9,
    levels: int = 8,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Predict learning and memorisation time of a network trained on P points, in optimiser steps at a constant rate.

    Times are taken as steps at the full rate, so that a warm-up does not bend the power law.

    Parameters
    ----------
    X : `(n, *shape)`, points to draw the pilots' sets from; held_out : `(H, *shape)`, H >= 2
    network : record of `validation.networks.build`; config : its training; `steps` is the most that the pilots take. Rates do
        not decay in pilots: if they do in your run, it memorises later than predicted
    P : points of the run that is asked about, default n; may be above n
    sizes : of the pilots, smaller than P, default P/16 and P/8; replicas : of each, >= 2, with points and seed of their own
    exponent : of P in tau_mem, taken as known; None: fitted, expected at 1 (see `validation.window.scaling`)
    coverage : of the intervals; levels : noise levels; progress : callable (steps done, of at most)

    Returns
    -------
    Dataset over t: `tau_mem`, `tau_gen`, each with `_low`, `_high`, `_exponent`, `_exponent_error`; nan at levels that not all
    pilots have memorised, `tau_gen` also where a pilot was there at its first step; over (pilot, t): `pilot_tau_mem`,
    `pilot_tau_gen`; `level` is the one memorised first.

    Raises
    ------
    DomainError : arguments outside their domain; no level that all pilots have memorised within `steps`

    The failure that looks normal: a network that cannot hold P points. Its pilots memorise, it does not: the prediction is then
    too early, and stopping there costs learning, not privacy.
    """
    P = len(X) if P is None else integer("P", P, minimum=2)
    chosen = sorted(integer("sizes", size, minimum=2) for size in (default_sizes(P) if sizes is None else sizes))
    if len(set(chosen)) < (1 if exponent is not None else 2) or chosen[-1] >= P or chosen[-1] > len(X):
        raise DomainError("sizes", chosen, f"two or more different sizes below P = {P}, and at most {len(X)} points")
    if exponent is not None:
        exponent = float(finite("exponent", exponent))
    if not 0 < float(positive("coverage", coverage)) < 1:
        raise DomainError("coverage", coverage, "in (0, 1)")
    replicas, sets = integer("replicas", replicas, minimum=2), []
    for i in range(len(chosen) * replicas):
        g = torch.Generator().manual_seed(seed * 1009 + i)
        sets.append(X[torch.randperm(len(X), generator=g)[: chosen[i // replicas]].to(X.device)])
    seeds = [seed * 1009 + i for i in range(len(sets))]
    options = {"seeds": seeds, "levels": levels, "device": device, "stop_early": True, "progress": progress}
    curves = pilot_curves(sets, held_out, network, config, **options)
    times = training_times(curves)
    names = ("", "_low", "_high", "_exponent", "_exponent_error")
    out = {name + part: np.full(levels, np.nan) for name in EXPONENTS for part in names}
    memorised = (np.isfinite(times["tau_mem"]) & ~times["tau_mem_early"]).values.all(axis=0)
    if not memorised.any():
        allowed = "more steps than the pilots need to memorise a noise level"
        remedy = f"Give more, smaller pilots, or a wider network; the pilots had {', '.join(map(str, chosen))} points"
        raise DomainError("steps", config.steps, allowed, remedy)
    of = times["P"].values
    for k in np.flatnonzero(memorised):
        for name, expected in EXPONENTS.items():
            if times[f"{name}_early"].values[:, k].any() or (times[name].values[:, k] == 0).any():
                continue  # passed at the first check, or before: a bound is no time
            tau = np.array([config.clock(max(step, 1.0)) for step in times[name].values[:, k]])
            known = name == "tau_mem" and exponent is not None
            a0 = float(exponent) if known and exponent is not None else expected
            found = (
                extrapolate_time(of, tau, P, exponent=a0, fixed=known, coverage=coverage) if _fits(of, known) else None
            )
            if found:
                steps = [config.step_at(tau) for tau in (found.value, found.low, found.high)]
                values = (*steps, found.exponent, found.exponent_error)
                for part, value in zip(names, values, strict=True):
                    out[name + part][k] = value
    data: dict[str, Any] = {name: ("t", values) for name, values in out.items()}
    data |= {f"pilot_{name}": (("pilot", "t"), times[name].values) for name in EXPONENTS}
    coords = {"t": times["t"].values, "sigma": ("t", times["sigma"].values), "pilot_P": ("pilot", of)}
    data["level"] = ((), int(np.nanargmin(out["tau_mem"])))
    last = int(curves["step"][-1])
    attrs = {
        "P": P,
        "coverage": coverage,
        "exponent": "fitted" if exponent is None else exponent,
        "pilot_steps": last,
        "warmup": config.warmup,
        "seed": seed,
    }
    return xr.Dataset(data, coords, attrs)


def _fits(sizes: np.ndarray, fixed: bool) -> bool:
    return fixed or len(np.unique(sizes)) > 1


def prediction_lines(found: xr.Dataset) -> list[str]:
    """The prediction as text: one line a noise level, and what to do."""
    at = found.isel(t=int(found["level"]))
    sizes = ", ".join(map(str, np.unique(found["pilot_P"].values)))
    share = f"{100 * found.attrs['coverage']:g} %"
    how = "fitted, expected at 1" if found.attrs["exponent"] == "fitted" else f"taken as {found.attrs['exponent']:g}"
    lines = [
        f"P = {found.attrs['P']:,}, from pilots of {sizes} points and {found.attrs['pilot_steps']:,} steps; exponent of P in "
        f"tau_mem {how}; steps at a constant rate, {share} intervals",
        "".join(f"{name:>{w}}" for name, w in (("sigma", 10), ("tau_gen", 26), ("tau_mem", 26), ("exponent", 16))),
    ]
    for k in range(found.sizes["t"]):
        one = found.isel(t=k)
        if np.isfinite(one["tau_mem"]):
            a = f"{float(one['tau_mem_exponent']):.2f} +- {float(one['tau_mem_exponent_error']):.2f}"
            lines.append(
                f"{float(one['sigma']):>10.3g}{_interval(one, 'tau_gen'):>26}{_interval(one, 'tau_mem'):>26}{a:>16}"
            )
    return [
        *lines,
        f"Memorised first at sigma = {float(at['sigma']):.3g}, at about step {_steps(float(at['tau_mem']))}: stop before step "
        f"{_steps(float(at['tau_mem_low']))}.",
    ]


def _steps(value: float) -> str:
    return f"{value:,.0f}" if value < 1e6 else f"{value:.2g}"


def _interval(one: xr.Dataset, name: str) -> str:
    value, low, high = (float(one[name + part]) for part in ("", "_low", "_high"))
    return f"{_steps(value)} ({_steps(low)}-{_steps(high)})" if np.isfinite(value) else "-"
