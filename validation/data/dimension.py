"""Intrinsic dimension of the data themselves by scikit-dimension: a cross-check of spectra that never looks at a score.

Estimators read neighbours, so each answers at its own scale: directions in which neighbours do not differ are not there for
it. They are chosen for what they read, and measured on known manifolds (docs/results/data_dimension.md). *two-nn* (Facco et al.
2017) reads the nearest two distances, the smallest scale there is. *mle* (Levina and Bickel 2004), twenty distances, is the most
quoted. Both are biased low in high dimension. *local-pca* (Fukunaga and Olsen 1971) counts the directions of neighbourhoods
of fifty with at least a twentieth of the largest variance: hardly biased up to half of those fifty, and the nearest kin of a
spectrum. *danco* (Ceruti et al. 2012) corrects distances and angles by a table; integers, mostly, and its compilation takes
seconds, so it is measured on request.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr

from numerics.domain import DomainError, finite, integer, shaped
from validation.data.duplicates import find_duplicates, first_equal_row
from validation.data.neighbours import nearest_neighbours

__all__ = ["ESTIMATORS", "DataDimension", "as_columns", "available", "data_dimension", "dimension_variables"]

ESTIMATORS = ("two-nn", "mle", "local-pca")
_NEIGHBOURS: Mapping[str, int] = MappingProxyType({"two-nn": 2, "mle": 20, "local-pca": 50, "danco": 10})
_ANCHORS = 200  # neighbourhoods of local-pca; half as many in half of the points, so that its error is that of them all
_TABLE = 5000, 100  # points and dimensions up to which danco's table goes
_SPLITS = 4


@dataclass(frozen=True, eq=False)
class DataDimension:
    """What the estimators said; arrays over them.

    estimator : names; value : dimensions, NaN where there are too few points or ties
    error : standard error, from disjoint halves of the points; half : mean value of those halves, NaN where they are too few
    radius : median distance to the farthest neighbour that is used, data units
    points : used; copies : rows left out because an equal one is there; rows : of the data in all
    near : rows left out because one that is nearly equal (`validation.data.nearness`) is among the points
    """

    estimator: tuple[str, ...]
    value: np.ndarray
    error: np.ndarray
    half: np.ndarray
    radius: np.ndarray
    points: int
    copies: int
    rows: int
    near: int = 0

    def report(self) -> str:
        """One line: every estimator with its error and with what half of the points say."""
        parts = []
        for name, value, error, half in zip(self.estimator, self.value, self.error, self.half, strict=True):
            if not math.isfinite(value):
                parts.append(f"{name} - (too few points, or their distances are tied)")
                continue
            more = f" ± {error:.2g} ({half:.3g} from half of them)" if math.isfinite(error) else ""
            parts.append(f"{name} {value:.3g}{more}")
        left = [f"{self.copies:,} exact copies left out"] if self.copies else []
        left += [f"{self.near:,} near-copies left out"] if self.near else []
        left += [f"drawn from {self.rows:,}"] if self.points + self.copies + self.near < self.rows else []
        return ", ".join(parts) + f"; from {self.points:,} points" + (f", {', '.join(left)}" if left else "")


def available() -> bool:
    """Whether scikit-dimension is installed."""
    return importlib.util.find_spec("skdim") is not None


def data_dimension(
    X: Any,
    *,
    estimators: Sequence[str] = ESTIMATORS,
    limit: int | None = 5000,
    seed: int = 0,
    device: str = "cpu",
) -> DataDimension:
    """Intrinsic dimension of the rows of X by several estimators, each with an error and a sign of its bias.

        error = rms over four random splits into halves a, b of (d_a - d_b)/2

    Parameters
    ----------
    X : (P, N) finite reals, P >= 2, N >= 2
    estimators : of "two-nn", "mle", "local-pca", "danco"
        Rows that are others again, exactly or nearly, are left out: at their distances there is no manifold.
    limit : points used at most, drawn by the seed; None: all (danco stops at 5000). Work grows with its square.
    seed : of the points drawn, of the halves and of local-pca's neighbourhoods; device : torch device of the neighbour search

    Returns
    -------
    DataDimension. An estimator is NaN where there are no more different points than the neighbours it needs (2, 20, 50, 10),
    and where nearly all distances are tied. (Where many are, as in binary data, two-nn is too large.)

    Raises
    ------
    DomainError : bad X, limit or estimator; scikit-dimension not installed

    The failure that looks normal: a number that is not the manifold's. Fewer points see a larger scale: directions narrower
    than the distance between neighbours are missed by distances, and `half` below `value` says that more points would find
    more. Nor does the error know of any bias: a Gaussian of 20 dimensions is "14.6 ± 0.3" for the mle of 1000 points.
    Noise counts as dimensions once it is as wide as the distance between neighbours.

    Source: the estimators of scikit-dimension (Bac et al., Entropy 23, 1368 (2021)); errors [ours: validation/data/dimension.py]

    >>> rng = np.random.default_rng(0)
    >>> X = np.hstack([rng.standard_normal((500, 3)), np.zeros((500, 4))])
    >>> found = data_dimension(X)
    >>> dict(zip(found.estimator, found.value.round(1).tolist()))
    {'two-nn': 3.0, 'mle': 3.1, 'local-pca': 3.0}
    """
    X = shaped("X", X)
    if X.ndim != 2 or min(X.shape) < 2:
        raise DomainError("X", f"an array of shape {X.shape}", "(P >= 2, N >= 2) numbers")
    X = finite("X", X)
    names = (estimators,) if isinstance(estimators, str) else tuple(estimators)
    unknown = [name for name in names if name not in _NEIGHBOURS]
    if unknown or not names:
        raise DomainError("estimators", unknown or names, f"some of {', '.join(_NEIGHBOURS)}")
    limit = len(X) if limit is None else integer("limit", limit, minimum=3)
    if not available():
        raise DomainError("scikit-dimension", "not installed", "installed", "pip install scikit-dimension")
    distinct = np.unique(first_equal_row(X))
    rng = np.random.default_rng(seed)
    used = X[rng.permutation(distinct)[:limit]]
    drawn = len(used)
    if drawn > 1:
        used = used[find_duplicates(used, device=device).keep]
    value, radius = _all(used, names, _ANCHORS, device)
    pairs = np.full((_SPLITS, 2, len(names)), np.nan)
    half = len(used) // 2
    if half > min(_NEIGHBOURS[name] for name in names):
        for k in range(_SPLITS):
            order = rng.permutation(len(used))
            for side in range(2):
                part = used[order[side * half : (side + 1) * half]]
                pairs[k, side] = _all(part, names, _ANCHORS // 2, device)[0]
    error = np.sqrt(np.square(pairs[:, 0] - pairs[:, 1]).mean(axis=0)) / 2
    return DataDimension(
        estimator=names,
        value=value,
        error=error,
        half=pairs.mean(axis=(0, 1)),
        radius=radius,
        points=len(used),
        copies=len(X) - len(distinct),
        rows=len(X),
        near=drawn - len(used),
    )


def dimension_variables(found: DataDimension) -> dict[str, Any]:
    """`data_dimension`, its `_error`, `_half` and `_radius` over `estimator`, for an `xarray.Dataset`."""
    parts = {"": found.value, "_error": found.error, "_half": found.half, "_radius": found.radius}
    units = {"_radius": "data units"}
    made_by = {"estimated_by": f"scikit-dimension {version('scikit-dimension')}"}  # which only this needs
    variables: dict[str, Any] = {
        f"data_dimension{end}": ("estimator", values, {"units": units.get(end, "directions"), **made_by})
        for end, values in parts.items()
    }
    for name in ("points", "copies", "near"):
        variables[f"data_dimension_{name}"] = ((), getattr(found, name), {"units": "points"})
    return variables | {"estimator": ("estimator", list(found.estimator))}


def as_columns(data: xr.Dataset) -> xr.Dataset:
    """The same with one number an estimator, `data_dimension_<estimator>` and its error, for a table; the rest is left out."""
    kept = {name: data[name] for name in ("data_dimension", "data_dimension_error") if name in data}
    columns = {
        name.replace("dimension", f"dimension_{estimator}"): values.sel(estimator=estimator, drop=True)
        for estimator in data.get("estimator", xr.DataArray([])).values
        for name, values in kept.items()
    }
    rest = data.drop_dims("estimator") if "estimator" in data.dims else data
    return rest.drop_vars([name for name in rest.data_vars if name.startswith("data_dimension")]).assign(columns)


# --- the estimators ---------------------------------------------------------------------------------------------------


def _all(X: np.ndarray, names: Sequence[str], anchors: int, device: str) -> tuple[np.ndarray, np.ndarray]:
    """Values and radii of all estimators on the same points, from one search for neighbours."""
    enough = {name: len(X) > _NEIGHBOURS[name] for name in names}
    most = max((_NEIGHBOURS[name] for name in names if enough[name]), default=0)
    value, radius = np.full(len(names), np.nan), np.full(len(names), np.nan)
    if not most:
        return value, radius
    near = nearest_neighbours(X, most, device=device)
    distance = np.sqrt(near.squared_distance * X.shape[1])
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of points dropped for tied distances, and of no variance left: no news to us
        for k, name in enumerate(names):
            if enough[name]:
                with suppress(ValueError):  # no two points without tied distances
                    value[k] = _ESTIMATE[name](X, distance, near.index, anchors)
                radius[k] = np.median(distance[:, _NEIGHBOURS[name] - 1])
    return np.where(np.isfinite(value), value, np.nan), radius


def _two_nn(X: np.ndarray, distance: np.ndarray, index: np.ndarray, anchors: int) -> float:
    from skdim.id import TwoNN

    return float(TwoNN(dist=True, method="mle").fit(distance[:, :2]).dimension_)


def _mle(X: np.ndarray, distance: np.ndarray, index: np.ndarray, anchors: int) -> float:
    from skdim.id import MLE

    k = _NEIGHBOURS["mle"]
    return float(MLE().fit(X, precomputed_knn_arrays=(distance[:, :k], index[:, :k])).dimension_)


def _local_pca(X: np.ndarray, distance: np.ndarray, index: np.ndarray, anchors: int) -> float:
    from skdim.id import lPCA

    k = _NEIGHBOURS["local-pca"]
    first = index[:anchors, :k]  # the points come in random order
    centred = X - X.mean(axis=0)  # far from 0 covariances would be lost in rounding
    return float(lPCA().fit_pw(centred, precomputed_knn=first, n_neighbors=k).dimension_pw_.mean())


def _danco(X: np.ndarray, distance: np.ndarray, index: np.ndarray, anchors: int) -> float:
    from skdim.id import DANCo

    points, largest = _TABLE
    if len(X) < 20:
        return math.nan
    return float(DANCo(ver="DANCoFit", D=min(X.shape[1], largest)).fit(X[:points]).dimension_)


_ESTIMATE: Mapping[str, Callable[[np.ndarray, np.ndarray, np.ndarray, int], float]] = MappingProxyType(
    {"two-nn": _two_nn, "mle": _mle, "local-pca": _local_pca, "danco": _danco}
)
