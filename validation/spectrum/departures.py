r"""At which noise each group of directions is lost, read off what `geomem spectrum` measured.

"Lost" has two meanings, whose orders are opposite (see `theory.subspaces`): *departure*, the mean of
:math:`-tJ` over a group of directions is twice the control's; *noise*, it is at least 0.9.
"""

from __future__ import annotations

import math

import numpy as np
import xarray as xr

from validation.experiments.losing_dimensions import THETA
from validation.simulation import jackknife
from validation.spectra import last_crossing

__all__ = ["losses"]

DEPARTURE = 2.0
_RESOLVED = 0.7  # largest error of log t that is still told: a factor of two


def losses(data: xr.Dataset, place: str) -> dict[str, xr.DataArray]:
    """Noise t, with its error, at which each group of directions is lost in either meaning; NaN where that is not on the grid.

    - departure: coming from large t, the mean of -tJ passes twice the control's (the exact control's where known);
    - half: departure of the score of half of the points, without an error; where it is the same, the data are not Gaussian
      there, where it is larger, it is the number of points that counts;
    - noise: the mean value of -tJ in the group, having been below 0.9 at larger t, is 0.9 again; the control's never is
    """
    control = data["variance"].sel(score="exact" if "exact" in data["score"] else "gaussian", place=place)
    x = np.log(data["t"].values)
    out: dict[str, list[tuple[float, float]]] = {"departure": [], "half": [], "noise": []}
    for group in data["group"].values:
        known = control.sel(group=group).values
        rows = data[f"single_variance_{place}"].sel(group=group).values.T

        def departed(x, curve, known=known):
            return _passes(x, (1 - curve) / (1 - known), DEPARTURE)

        def noise(x, curve):
            return _passes(x, 1 / np.maximum(curve, 1e-300), 1 / (1 - THETA), at_large=True)

        for name, statistic in (("departure", departed), ("noise", noise)):
            found = jackknife(x, rows, statistic)
            resolved = math.isfinite(found.value) and found.error < _RESOLVED
            t = math.exp(found.value) if resolved else math.nan
            out[name].append((t, t * found.error))
        fewer = data["variance"].sel(score="half", place=place, group=group).values
        out["half"].append((math.exp(departed(x, fewer)), math.nan))
    return {name: xr.DataArray(values, dims=("group", "part")) for name, values in out.items()}


def _passes(x: np.ndarray, ratio: np.ndarray, level: float, *, at_large: bool = False) -> float:
    """Largest t below which `ratio` exceeds `level`. At large t every direction is noise: `at_large` starts below that."""
    if at_large:
        inside = np.flatnonzero(ratio < level)
        if inside.size == 0:
            return math.nan
        x, ratio = x[: inside[-1] + 1], ratio[: inside[-1] + 1]
    return math.nan if ratio[-1] > level or len(x) < 2 else last_crossing(x, ratio, level)
