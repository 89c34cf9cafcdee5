r"""Training times read off losses against steps: when a network has learned, when it memorises, and the window between.

At each noise level, with L the loss of held-out points and L_train that of training points,

    tau_gen :   first step from which L <= 1.1 min L          (as good as it gets, `validation.training.FACTOR`)
    tau_best:   step of min L
    tau_mem :   first step at which L_train <= min L/2         (half of what no law of the data can tell is known by heart)

A time that is passed already at the first check is only known to be at most that check: it is called early.

min L over the run stands for the population's optimum, which is not known for real data. Where the empirical score's own
loss is above half of it (noise above the collapse) no network ever reaches tau_mem: nan. Between two checks the logarithm of
the loss is taken as linear in that of the step.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from numerics.domain import DomainError
from validation.training import FACTOR

__all__ = ["first_crossing", "report_lines", "training_times"]

SHARE = 0.5


def first_crossing(steps: np.ndarray, values: np.ndarray, level: float) -> tuple[float, float, float]:
    """(tau, before, at): where `values` first fall to `level`, and the checks about it; nan where they do not.

    Where they are there at the first check after step 0, tau is that check, which is a bound, and `before` is 0.

    >>> tuple(round(x, 3) for x in first_crossing(np.array([10.0, 100.0, 1000.0]), np.array([4.0, 1.0, 0.25]), 0.5))
    (316.228, 100.0, 1000.0)
    """
    steps, values = np.asarray(steps, float), np.asarray(values, float)
    below = np.flatnonzero(values <= level)
    if not len(below):
        return np.nan, np.nan, np.nan
    k = int(below[0])
    if k == 0 or steps[k - 1] <= 0:  # already at the first check: no logarithm before it
        return float(steps[k]), 0.0, float(steps[k])
    high, low = np.log(values[k - 1]), np.log(max(values[k], np.finfo(float).tiny))
    share = (high - np.log(level)) / (high - low) if high > low else 1.0
    x = np.log(steps[k - 1]) + share * np.log(steps[k] / steps[k - 1])
    return float(np.exp(x)), float(steps[k - 1]), float(steps[k])


def training_times(curves: xr.Dataset) -> xr.Dataset:
    """tau_gen, tau_best, tau_mem of every network and noise level, and the step at which half of the samples are copies.

    Parameters
    ----------
    curves : of `checkpoint_curves`, or of `Watch.curves`: `train`, `held_out` over (step, member, t)

    Returns
    -------
    Dataset over (member, t): `tau_gen`, `tau_best`, `tau_mem`, `least` (the least held-out loss), `tau_mem_before`,
    `tau_mem_at` (the checks about it, nan where not reached), `tau_gen_early`, `tau_mem_early` (true where the value is the
    first check, and a bound), `window` = tau_mem/tau_gen, nan where tau_mem is early or tau_gen 0; over member: `tau_copy`, nan
    without samples or where half is not reached, and `departure_step`, -1 where there is none. All in optimiser steps.

    Raises
    ------
    DomainError : fewer than 2 steps

    The failure that looks normal: a run that has not reached its least held-out loss. Then tau_best is the last step, and
    tau_gen and the halves are of a loss that would still fall.
    """
    steps = curves["step"].values.astype(float)
    if len(steps) < 2:
        raise DomainError("curves", f"{len(steps)} steps", "at least 2")
    held, train = (curves[name].transpose("step", "member", "t").values for name in ("held_out", "train"))
    shape = held.shape[1:]
    out = {name: np.full(shape, np.nan) for name in ("tau_gen", "tau_best", "tau_mem", "tau_mem_before", "tau_mem_at")}
    early = {name: np.zeros(shape, dtype=bool) for name in ("tau_gen_early", "tau_mem_early")}
    least = held.min(axis=0)
    for m, k in np.ndindex(shape):
        out["tau_gen"][m, k], before, _ = first_crossing(steps, held[:, m, k], FACTOR * least[m, k])
        early["tau_gen_early"][m, k] = before == 0
        out["tau_best"][m, k] = steps[held[:, m, k].argmin()]
        found = first_crossing(steps, train[:, m, k], SHARE * least[m, k])
        out["tau_mem"][m, k], out["tau_mem_before"][m, k], out["tau_mem_at"][m, k] = found
        early["tau_mem_early"][m, k] = found[1] == 0
    data: dict = {name: (("member", "t"), values) for name, values in (out | early).items()}
    data |= {"least": (("member", "t"), least)}
    with np.errstate(divide="ignore", invalid="ignore"):
        known = ~early["tau_mem_early"] & (out["tau_gen"] > 0)  # at 0 nothing was learned that lasts
        window = np.where(known, out["tau_mem"] / out["tau_gen"], np.nan)
    data["window"] = (("member", "t"), window)
    copies = np.full(shape[0], np.nan)
    if "fraction" in curves:
        for m in range(shape[0]):
            copies[m] = _first_half(steps, curves["fraction"].transpose("step", "member").values[:, m])
    data["tau_copy"] = ("member", copies)
    if "departure_step" in curves:
        data["departure_step"] = ("member", curves["departure_step"].values)
    coords = {name: curves[name] for name in ("member", "P", "t", "sigma") if name in curves.coords}
    return xr.Dataset(data, coords, {"factor": FACTOR, "share": SHARE, "units": "optimiser steps"})


def _first_half(steps: np.ndarray, fraction: np.ndarray) -> float:
    """First step at which half of the samples are copies, linear in log step."""
    above = np.flatnonzero(np.nan_to_num(fraction) >= 0.5)
    if not len(above):
        return np.nan
    k = int(above[0])
    if k == 0 or steps[k - 1] <= 0:
        return float(steps[k])
    share = (0.5 - fraction[k - 1]) / (fraction[k] - fraction[k - 1])
    return float(steps[k - 1] * (steps[k] / steps[k - 1]) ** share)


def report_lines(times: xr.Dataset, last: int) -> list[str]:
    """The times as aligned text, one line a network and noise level; `last` : last step seen."""

    def cell(value: float, beyond: str = "-") -> str:
        return f"{value:,.0f}" if np.isfinite(value) else beyond

    lines, bound = [], False
    for m in range(times.sizes["member"]):
        at = times.isel(member=m)
        lines.append(f"P = {int(at['P'])}: training times in steps, of {last:,} seen")
        lines.append("".join(f"{name:>12}" for name in ("sigma", "tau_gen", "tau_best", "tau_mem", "window")))
        for k, t in enumerate(at["t"].values):
            one = at.isel(t=k)
            early = {name: bool(one.get(f"{name}_early", False)) for name in ("tau_gen", "tau_best", "tau_mem")}
            bound = bound or any(early.values())
            row = [f"{t**0.5:.3g}", *("<= " * early[name] + cell(float(one[name])) for name in early)]
            ratio = float(one["window"])
            opened = "> " * early["tau_gen"] + f"x {ratio:.2g}" if np.isfinite(ratio) else "-"
            lines.append("".join(f"{x:>12}" for x in (*row, opened)))
        gone = int(at["departure_step"]) if "departure_step" in at else -1
        lines.append(
            (f"First significant departure: step {gone:,}. " if gone >= 0 else "No significant departure. ")
            + (f"Half of the samples are copies: step {cell(float(at['tau_copy']))}."
               if np.isfinite(float(at["tau_copy"])) else "Half of the samples being copies: not reached, or not asked.")
        )  # fmt: skip
    lines.append("- in tau_mem: the training loss has not fallen to half of the least held-out loss.")
    return [*lines, "<=: passed already at the first check; earlier checks would tell when."] if bound else lines
