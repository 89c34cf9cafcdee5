r"""Does tau_mem of a network grow as P and fall as 1/width, and does tau_gen not move, as [BUBM25] finds for U-Nets?

Times are read off the losses on training and held-out points at fixed noise: tau_gen and tau_mem of
`validation.window.training_times`, and tau_learn, the first step at which the held-out loss is half of the way (in its
logarithm) from its start to the least loss that *all* sizes and widths of this optimiser reach. tau_gen asks each network for
its own least loss, which falls with P and so is reached later.

A growth is 2^b, b the slope of log tau against log2 P over the sizes of one width and replica, or against log2 width over the
widths of one size and replica; the spread of these slopes is the error. A time at or before the first check is only known to
be short, and one that is not reached only to be long: both are left out of slopes, and counted in the row's note. A growth
with fewer than two slopes, or with slopes without spread, is inconclusive.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from scipy import stats

from validation.experiments.network_training_time.presets import Preset
from validation.experiments.shared import Row
from validation.simulation import Prediction, judge
from validation.window import extrapolate_time, first_crossing, training_times

__all__ = ["GROWTHS", "evaluate", "growth_slopes", "held_out_size"]

GROWTHS = (
    ("tau_mem", "P", 2.0),
    ("tau_mem", "width", 0.5),
    ("tau_learn", "P", 1.0),
    ("tau_learn", "width", 0.5),
    ("tau_gen", "P", 1.0),
)
TOLERANCE = 0.15  # of a growth per doubling
_MEASURED = ("train", "train_error", "held_out", "held_out_error", "p", "fraction", "departure_step")


def evaluate(
    curves: xr.Dataset, preset: Preset, growths: Sequence[tuple[str, str, float]] = GROWTHS
) -> tuple[xr.Dataset, list[Row]]:
    """Training times of stored losses, and how they grow; nothing is trained.

    Parameters
    ----------
    curves : losses `train` and `held_out` over (stack, step, member, t), with coordinates P and replica of each member, width
        and optimizer of each stack, as the .nc of `run` has them; times that it has are computed anew
    preset : the optimizers that are judged, and the noise level at which; growths : of `run`

    Returns
    -------
    The losses with their times over (stack, member, t): `tau_mem`, `tau_gen`, `tau_learn` in steps, nan where they are not
    reached, and for each whether it is `_early`: passed already at the first check, where the value is only a bound. And the
    rows, one for each optimiser and growth.
    """
    whole = curves[[name for name in _MEASURED if name in curves]].drop_attrs().assign_attrs(level=preset.level)
    parts = [training_times(whole.isel(stack=s, drop=True)) for s in range(whole.sizes["stack"])]
    times = xr.concat(parts, whole["stack"], coords="minimal").drop_vars("departure_step", errors="ignore").drop_attrs()
    whole = whole.merge(times, compat="override").merge(_learning_times(whole, times), compat="override")
    return whole, [_row(whole, preset, optimizer, *growth) for optimizer, _ in preset.optimizers for growth in growths]


def _learning_times(curves: xr.Dataset, times: xr.Dataset) -> xr.Dataset:
    """tau_learn over (stack, member, t), see the module, and whether it is early; `times` has the least losses."""
    held = curves["held_out"].transpose("stack", "step", "member", "t").values
    least = times["least"].transpose("stack", "member", "t").values
    steps, optimizer = curves["step"].values.astype(float), curves["optimizer"].values
    tau, early = np.full(least.shape, np.nan), np.zeros(least.shape, dtype=bool)
    for s, m, k in np.ndindex(least.shape):
        same = optimizer == optimizer[s]
        reached = least[same, :, k][np.isfinite(least[same, :, k])]  # networks that have diverged reach no level
        level = np.sqrt(held[same, 0, :, k].mean() * reached.max()) if reached.size else np.nan
        tau[s, m, k], before, _ = first_crossing(steps, held[s, :, m, k], float(level))
        early[s, m, k] = before == 0
    axes = ("stack", "member", "t")
    return xr.Dataset({"tau_learn": (axes, tau), "tau_learn_early": (axes, early)})


def _row(whole: xr.Dataset, preset: Preset, optimizer: str, name: str, against: str, value: float) -> Row:
    part = whole.isel(stack=np.flatnonzero(whole["optimizer"].values == optimizer), t=preset.level)
    early = part[f"{name}_early"]
    slopes = growth_slopes(part[name].where(~early), against)
    exponent, error = _mean(slopes)
    measured, spread = 2.0**exponent, np.log(2) * 2.0**exponent * error
    declared = Prediction(f"growth of {name}", value, None, TOLERANCE, "[BUBM25]")
    first, last, count = whole["step"].values[1], whole["step"].values[-1], early.size
    note = f"exponent {exponent:.2f} +- {error:.2f}, {len(slopes)} series, sigma = {float(part['sigma']):.2g}"
    if early.any():
        note += f"; {int(early.sum())} of {count} times are before the first check ({first} steps) and left out"
    if part[name].isnull().any():
        note += f"; {int(part[name].isnull().sum())} of {count} are not reached within {last} steps"
    return Row(f"{name} a doubling of {against}", optimizer, judge(declared, measured, spread), note)


def growth_slopes(tau: xr.DataArray, against: str) -> np.ndarray:
    """Slopes d log tau/d log (P or width) of every series that has at least two known times.

    tau : (stack, member) with coordinates P, replica (member) and width (stack)
    """
    values = tau.transpose("stack", "member").values
    logs = np.log(np.where(values > 0, values, np.nan))
    P, replica, width = (tau[name].values for name in ("P", "replica", "width"))
    if against == "P":
        series = [
            (np.log(P[replica == r]), logs[s, replica == r]) for s in range(len(width)) for r in np.unique(replica)
        ]
    else:
        series = [(np.log(width), logs[:, m]) for m in range(len(P))]
    slopes = []
    for x, y in series:
        ok = np.isfinite(y)
        if ok.sum() >= 2:
            slopes.append(np.polyfit(x[ok], y[ok], 1)[0])
    return np.array(slopes)


def held_out_size(times: xr.Dataset, pilots: Sequence[int], target: int) -> xr.Dataset:
    """tau_mem of the networks on `target` points beside its prediction from those on fewer, as `geomem window` makes it.

    Parameters
    ----------
    times : of `evaluate`; pilots : the sizes that predict, each with two replicas or more; target : the size held out

    Returns
    -------
    Dataset over (case, replica): a case is a kind of network at a noise level that all its pilots have memorised; `measured` (nan
    where it is not reached within `attrs["last"]` steps), and over case `predicted`, `low`, `high`, the 90 % interval
    """
    P, known = times["P"].values, times["tau_mem"].where(~times["tau_mem_early"])
    rows = []
    for s, k in np.ndindex(times.sizes["stack"], times.sizes["t"]):
        tau = known.isel(stack=s, t=k).values
        few = np.isin(P, pilots)
        if np.isfinite(tau[few]).all():
            found = extrapolate_time(P[few], tau[few], target, exponent=1.0)
            name = f"{times['stack'].values[s]}, sigma = {float(times['sigma'][k]):.2g}"
            rows.append((name, found.value, found.low, found.high, tau[target == P]))
    names, predicted, low, high, measured = zip(*rows, strict=True) if rows else ([], [], [], [], np.empty((0, 0)))
    data = {"predicted": ("case", list(predicted)), "low": ("case", list(low)), "high": ("case", list(high))}
    data["measured"] = (("case", "replica"), np.array(measured))
    return xr.Dataset(data, {"case": list(names)}, {"last": int(times["step"][-1])})


def _mean(slopes: np.ndarray) -> tuple[float, float]:
    """Mean and standard error, widened to Student's t so that 3 errors are 3 sigma of a Gaussian."""
    n = len(slopes)
    if n < 2 or np.ptp(slopes) < 1e-9:  # slopes that do not differ have not measured their error
        return (float(slopes.mean()) if n else np.nan), np.nan
    widened = stats.t.isf(stats.norm.sf(3), n - 1) / 3
    return float(slopes.mean()), float(widened * slopes.std(ddof=1) / np.sqrt(n))
