"""Where the weights of one size cross 1/2 and its likelihood is best: a coarse pilot looks, the run proper measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from numerics.domain import DomainError
from validation.simulation.extrapolation import Estimate, crossing, jackknife, minimum
from validation.simulation.montecarlo import Basin, Grids, Measurement, simulate

__all__ = ["QUERIES", "estimates", "measure", "pilot_curves"]

QUERIES = 128  # a replica


def measure(
    model: Any,
    N: int,
    P: int,
    t_basin: float,
    *,
    label: str,
    replicas: int,
    seed: int,
    device: str,
    workers: int,
    checkpoint: Path | None,
    progress: Callable[[int, int], None],
) -> tuple[Measurement, Measurement]:
    """The run proper and its pilot, over three decades of t, which finds the crossings without a look at theory.

    model, N, P, replicas, seed, device, workers, checkpoint, progress : see `validation.simulation.montecarlo.simulate`
    t_basin : noise at which the basin is probed; label : the case's name, for errors

    Raises
    ------
    DomainError : a crossing or the optimum lies outside of the pilot's three decades
    """
    common = {"queries": QUERIES, "workers": workers, "device": device, "dtype": torch.float32}
    scale = float(np.log(model.mean_variance))
    wide, low = scale + np.linspace(-3.0, 3.0, 25), scale + np.linspace(-5.0, 1.5, 27)
    radii = t_basin * np.exp(np.linspace(-4.0, 1.5, 23))
    grids = Grids(noisy=wide, clean=wide, heldout=low, basins=[Basin(t_basin, radii)])
    pilot = simulate(model, N, P, grids=grids, replicas=4, seed=(seed, 1), **common)
    bottom = minimum(low, pilot.heldout.mean(axis=0))
    if not np.isfinite(bottom):
        raise DomainError("case", label, "a case whose optimal noise lies within three decades of its variance")
    fine = Grids(
        noisy=_around(wide, pilot.noisy.mean(axis=0), label),
        clean=_around(wide, pilot.clean.mean(axis=0), label),
        heldout=np.round(bottom, 2) + np.linspace(-0.4, 0.4, 6),
        basins=[Basin(t_basin, np.exp(_around(np.log(radii), pilot.basins[0].mean(axis=0), label)))],
    )
    main = simulate(
        model, N, P, grids=fine, replicas=replicas, seed=seed, checkpoint=checkpoint, progress=progress, **common
    )
    return main, pilot


def _around(x: np.ndarray, weight: np.ndarray, label: str) -> np.ndarray:
    """Four points over the range where a pilot's falling curve goes from 0.7 to 0.3, rounded to absorb its last bits.

    Where it starts lower, as in a basin at a noise close to the onset, from nine tenths of the way above 1/2.
    """
    if not weight[0] > 0.55 > 0.45 > weight[-1]:
        raise DomainError("case", label, "a case whose crossings lie within three decades of its variance")
    levels = min(0.7, 0.05 + 0.9 * weight[0]), max(0.3, 0.05 + 0.9 * weight[-1])
    first, last = (np.interp(-level, -np.minimum.accumulate(weight), x) for level in levels)
    return np.round(np.linspace(first, last, 4), 2)


def estimates(measured: Measurement) -> dict[str, Estimate]:
    """Logarithms of the crossings and of the optimum, with jackknife errors over replicas."""
    g = measured.grids
    return {
        "collapse": jackknife(g.noisy, measured.noisy, crossing),
        "onset": jackknife(g.clean, measured.clean, crossing),
        "basin": jackknife(np.log(g.basins[0].delta) / 2, measured.basins[0], crossing),
        "generalization": jackknife(g.heldout, measured.heldout, minimum),
    }


def pilot_curves(model: Any, pilots: Sequence[Measurement]) -> dict[str, Any]:
    """Mean curves over three decades of log(t/variance), with their errors over the pilot's replicas."""
    scale, curves = float(np.log(model.mean_variance)), {}
    for name in ("noisy", "clean", "heldout", "heldout_participation"):
        rows = np.array([getattr(pilot, name) for pilot in pilots])
        axis = "log_t_heldout" if name.startswith("heldout") else "log_t"
        curves[f"curve_{name}"] = (("size", axis), rows.mean(axis=1))
        curves[f"curve_{name}_error"] = (("size", axis), rows.std(axis=1, ddof=1) / rows.shape[1] ** 0.5)
        grid = getattr(pilots[0].grids, name.split("_")[0])
        curves[axis] = (axis, np.round(np.array(grid) - scale, 9), {"long_name": "log(t / mean variance)"})
    return curves
