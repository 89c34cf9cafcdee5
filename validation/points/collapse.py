r"""The noise at which each training point is memorised: where its own weight, averaged over its noise, passes 1/2.

.. math:: W_\mu(t)=E_\omega\frac{1}{1+\sum_{\nu\ne\mu}e^{-|\xi^\mu-\xi^\nu|^2/2t-\omega\cdot(\xi^\mu-\xi^\nu)/\sqrt t}},
          \qquad W_\mu(t_c^\mu)=\tfrac12 .

An audit's one collapse time is a mean over points; this is its law. Isolated points are memorised at higher noise, points of
dense regions at lower. Members of a group of near-duplicates share the weight at every noise that does not tell them apart: for
them W is the weight of the whole group, and the collapse that of the group.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from numerics.domain import DomainError, integer, positive
from numerics.grids import Rows, mark, run_tasks
from numerics.store import versions
from validation.data import Duplicates, find_duplicates
from validation.devices import device_of
from validation.points.competitors import Block, Points, reach
from validation.points.crossing import fall_through_half
from validation.points.groups import duplicate_groups, pairs_within
from validation.score import alone, in_threads

__all__ = ["point_collapse_times"]

ENTRIES = 1 << 25  # squared distances of a block (128 MB)
ROWS = 128  # of a block at most: enough for the products' full speed
FEW = 4  # pairs of draws with which a crossing is found before all of them place it
FIRST_RATIO = 0.4  # collapse over onset, where the first block starts to look
COARSE, FINE = 0.1, 0.01  # last step in log t of the search with few, with all draws; the error is about its square
GROWTH, TURNS = 2.0, 100  # of the noise for which competitors are looked at, a turn; turns (2^100 of noise)
AHEAD = 1.5 * GROWTH  # times as far as is looked at this turn, pairs are listed: the search may look a little beyond
RANGE = 1e-13, 1e6  # of the largest squared distance from the mean: the noise variances looked at
TASK = 8  # blocks that a task on a scheduler has
QUANTITIES = ("t", "error", "onset", "own", "omitted", "visited")


def point_collapse_times(
    X: np.ndarray,
    *,
    rows: Any = None,
    draws: int = 32,
    tolerance: float = 1e-3,
    duplicates: Duplicates | None = None,
    seed: int = 0,
    device: str = "cpu",
    out: str | os.PathLike | None = None,
    scheduler: Any = None,
    progress: Callable[[int, int], None] | None = None,
    argument: str = "out",
) -> Any:
    """Collapse and onset of every training point, with errors, nearest neighbours and groups of near-duplicates.

    Parameters
    ----------
    X : (P, N) finite reals, P >= 3, memory-mapped or not. Kept in float32; distances that float32 cannot resolve are done
        again in float64
    rows : which points, (Q,) distinct row numbers, or None for all; the others still compete
    draws : even, >= 8: noise draws, in pairs of opposite sign, shared by all points. The error falls as its root; the
        cost rises with it
    tolerance : > 0: far clusters of points are left out while a certificate bounds their part of the mean weight by this
    duplicates : of `find_duplicates(X)`, found here if None
    seed : of the draws; device : a torch device
    out : file that the caller will write the whole to, or None. Finished blocks of points are kept in `<out>.partial/`, so
        that the same call after a kill goes on from them, until `numerics.grids.forget(out)`
    scheduler : None, or a dask scheduler whose workers do the blocks, see `numerics.grids.run_tasks`: the same numbers
    progress : called with (points done, points); argument : the name by which the user knows `out`, for errors

    Returns
    -------
    xarray.Dataset over `point` (row numbers of X), noise variances in squared data units and sigma in data units:
    `t_c`, `t_c_error`, `sigma`, `sigma_error`; `t_o` the onset (weight 1/2 at the clean point; no draws, no error beyond
    float32's 1e-3); `own_weight` the point's own weight at `t_c`, below 1/2 where a group shares it; `omitted` the
    certificate, an upper bound on what the points left out could take of the mean weight; `visited` the share of points
    looked at; `nearest`, `nearest_distance` (Euclidean, data units); `group` (-1: none), `group_size`. Members of a
    group carry the geometric mean of their collapse noises and its error. NaN in t_c: the weight stays above 1/2 at every
    noise (a group of half of all points), or below.

    Raises
    ------
    DomainError : wrong shape, non-finite numbers, options outside their domain

    Errors are over draws, at these training points; as points share draws, so do their errors. Cost: about P^2 (2 N + 60 draws)
    operations where no point can be left out. Source: [AALMV25] for the weights; [ours: docs/points.md].

    >>> X = np.random.default_rng(0).standard_normal((300, 5))
    >>> X[7] = 9.0  # far from all others
    >>> found = point_collapse_times(X)
    >>> int(found.t_c.values.argmax()), bool((found.t_c < found.t_o).all())
    (7, True)
    """
    X = _matrix(X)
    chosen = _rows(rows, len(X))
    if integer("draws", draws, minimum=8) % 2:
        raise DomainError("draws", draws, "an even number", "Draws come in pairs of opposite sign")
    tolerance = float(positive("tolerance", tolerance))
    seed = integer("seed", seed, minimum=0)
    torch_device = device_of(device)
    duplicates = find_duplicates(X, device=device) if duplicates is None else duplicates
    if len(duplicates.nearest) != len(X):
        raise DomainError("duplicates", f"of {len(duplicates.nearest)} rows", f"those of X, {len(X)} rows")
    group = duplicate_groups(duplicates)
    half = np.random.default_rng(seed).standard_normal((draws // 2, X.shape[1]))
    noise = np.stack([half, -half], axis=1).reshape(draws, -1)  # a pair side by side
    points = Points(X, noise, torch_device, clustered=rows is None)
    nearest = duplicates.nearest * X.shape[1]
    some = nearest[nearest > 0]
    nearest = np.where(nearest > 0, nearest, np.median(some) if len(some) else points.largest)  # where to start from
    places = points.place[chosen]
    blocks = _blocks(points, places, rows is None)
    found, done = {name: np.full(len(X), np.nan) for name in QUANTITIES}, 0
    depends = {"draws": str(draws), "tolerance": str(tolerance), "seed": str(seed), "device": str(torch_device)}
    if out is not None:
        depends |= {"X": mark(X), "rows": mark(chosen), "groups": mark(group), "nearest": mark(nearest)}
        # rows are stored by block: what a block holds hangs on clusters, which another processor may cut otherwise
        depends |= {
            "order": mark(points.order),
            "blocks": mark(np.array([len(block) for block in blocks])),
        } | versions()
    keep, lock = Rows(out, depends, what="collapse of points", argument=argument), threading.Lock()

    def take(k: int, values: dict[str, np.ndarray]) -> None:
        nonlocal done
        with lock:
            for name in QUANTITIES:
                found[name][points.order[blocks[k]]] = values[name]
            done += len(blocks[k])
            if progress:
                progress(done, len(chosen))

    def one(k: int, ratio: float) -> None:
        if not keep.has(k):
            keep.put(k, _solve(k, points, blocks, group, nearest, ratio, tolerance))
        take(k, keep.get(k))

    with alone(torch_device):
        one(0, FIRST_RATIO)
    ratios = (found["t"] / found["onset"])[points.order[blocks[0]]]
    ratio = float(np.median(ratios[np.isfinite(ratios)])) if np.isfinite(ratios).any() else FIRST_RATIO
    if scheduler is None:
        with alone(torch_device):
            in_threads(lambda k: one(k, ratio), range(1, len(blocks)), torch_device)
    else:
        shared = points, blocks, group, nearest, ratio, tolerance
        options = {"shared": shared, "keep": keep, "scheduler": scheduler, "chunk": TASK}
        for k, values in run_tasks(_task, range(len(blocks)), **options):
            if k:
                take(k, values)
    return _dataset(X, found, chosen, group, duplicates, draws=draws, tolerance=tolerance, seed=seed)


def _task(k: int, points: Points, *others: Any) -> dict[str, np.ndarray]:
    """`_solve` on a worker, on one thread as here."""
    with alone(points.device):
        return _solve(k, points, *others)


def _solve(
    k: int,
    points: Points,
    blocks: list[np.ndarray],
    group: np.ndarray,
    nearest: np.ndarray,
    ratio: float,
    tolerance: float,
) -> dict[str, np.ndarray]:
    """QUANTITIES of one block of points, in its order."""
    places = blocks[k]
    rows = points.order[places]
    left, others = pairs_within(group, rows)
    together = _Together(points, places, left, points.place[others])
    block = Block(points, places, (left, points.place[others]))
    low, high = points.largest * RANGE[0], points.largest * RANGE[1]
    clean = np.clip(nearest[rows] / math.log(points.P), low, high)  # the onset is at least half of that
    t = ratio * clean
    nothing = torch.zeros(len(rows), 1, device=points.device)
    draws = block.own.shape[1]
    tolerance = tolerance / 2
    far, far_clean = (reach(points.P, tolerance, clean=clean) for clean in (False, True))

    def at_rest(level: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        S, dS = block.sums(nothing, torch.zeros_like(block.p[:, :1]), level, which, far_clean)
        w, slope, _ = together.weights(S, dS, level, which, clean=True)
        return w[:, 0], slope[:, 0]

    def noisy(level: np.ndarray, which: np.ndarray, draws: int = draws) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        own, p = (products[:, :draws].contiguous() for products in (block.own, block.p))
        S, dS = block.sums(own, p, level, which, far)
        return together.weights(S, dS, level, which)

    last = np.empty((3, len(rows), draws))  # weights, slopes and own weights where each row was last looked at

    def averaged(some: int):
        def curve(level: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            found = noisy(level, which, some)
            if some == draws:
                last[:, which] = found
            return found[0].mean(axis=1), found[1].mean(axis=1)

        return curve

    for _ in range(TURNS):
        block.visit(t, clean, tolerance)
        block.listed(AHEAD * np.maximum(far * t, far_clean * clean))
        root = fall_through_half(at_rest, clean, low, high, FINE)
        usable = np.where((root > low) & (root < high), root, high)
        level = fall_through_half(averaged(min(2 * FEW, draws)), ratio * usable, low, high, COARSE)
        level = np.where((level > low) & (level < high), level, high)
        if ((level <= t * GROWTH).all() and (usable <= clean * GROWTH).all()) or block.visited.all():
            # all draws move the crossing a little, and with it what a certificate needs
            exact = fall_through_half(averaged(draws), level, low, high, FINE)
            level = np.where((exact > low) & (exact < high), exact, high)
            if not block.visit(level, usable, tolerance):
                break
        # crossings found among too few competitors lie too high: grow towards them, not at once to them
        t, clean = (
            np.where(new > old, np.minimum(new, GROWTH * old), new) for new, old in ((level, t), (usable, clean))
        )
    w, slope, own = last
    pairs = w.reshape(len(w), -1, 2).mean(axis=2)
    error = pairs.std(axis=1, ddof=1) / np.sqrt(pairs.shape[1]) / np.abs(slope.mean(axis=1))
    solved = (exact > low) & (exact < high)
    left_out = block.left_out(level, usable)
    limit = torch.from_numpy(np.minimum(far * level, far_clean * usable)).to(block.squared)[:, None]
    passed_over = ((block.squared > limit) & block.squared.isfinite()).sum(1).cpu().numpy() * (tolerance / points.P)
    return {
        "t": np.where(solved, exact, np.nan),
        "error": np.where(solved, error, np.nan),
        "onset": np.where((root > low) & (root < high), root, np.nan),
        "own": np.where(solved, own.mean(axis=1), np.nan),
        "omitted": np.where(block.visited, 0.0, left_out).sum(axis=1) + passed_over,
        "visited": np.full(len(rows), points.sizes[block.visited].sum() / points.P),
    }


class _Together:
    """The terms of a block's points and of the near-duplicates each belongs with: theirs is the weight that is followed."""

    def __init__(self, points: Points, places: np.ndarray, left: np.ndarray, others: np.ndarray):
        self.left = left
        self.squared = points.exact(places[left], others)
        self.cross = (points.p[places[left]] - points.p[others]).cpu().numpy().astype(np.float64)

    def weights(self, S, dS, t: np.ndarray, rows: np.ndarray, *, clean: bool = False):
        """(weight, its slope in log t, weight of the point alone), each (R, M), from the competing sums of `rows`."""
        G, dG = np.ones_like(S), np.zeros_like(S)
        at = np.full(len(t), -1)
        at[rows] = np.arange(len(rows))
        use = at[self.left] >= 0
        if use.any():
            row = at[self.left[use]]
            level = t[self.left[use]][:, None]
            x = self.squared[use][:, None] / (2 * level)
            y = 0.0 if clean else self.cross[use][:, : S.shape[1]] / np.sqrt(level)
            e = np.exp(-np.minimum(x + y, 700.0))
            np.add.at(G, row, np.broadcast_to(e, (len(row), S.shape[1])))
            np.add.at(dG, row, np.broadcast_to(e * (x + y / 2), (len(row), S.shape[1])))
        total = G + S
        return G / total, (dG * S - G * dS) / total**2, 1 / total


def _blocks(points: Points, places: np.ndarray, clustered: bool) -> list[np.ndarray]:
    """Places cut into blocks, none across the border of two clusters."""
    size = max(8, min(ROWS, ENTRIES // points.P))
    places = np.sort(places)
    cuts = np.searchsorted(places, points.edges) if clustered else np.array([0, len(places)])
    return [places[a : min(a + size, last)] for first, last in pairwise(cuts) for a in range(first, last, size)]


def _dataset(
    X: np.ndarray,
    found: dict[str, np.ndarray],
    chosen: np.ndarray,
    group: np.ndarray,
    duplicates: Duplicates,
    **options,
):
    import xarray as xr

    from numerics.store import provenance

    t, error = found["t"].copy(), found["t"] * found["error"]
    size = np.bincount(group[group >= 0], minlength=1)
    for number in np.unique(group[chosen]):
        if number >= 0:
            members = chosen[group[chosen] == number]
            with np.errstate(invalid="ignore"):
                t[members] = np.exp(np.mean(np.log(found["t"][members])))
            # shared draws: the errors of members are one error, not several that average out
            error[members] = t[members] * found["error"][members].mean()
    columns = {
        "t_c": (t, "squared data units"),
        "t_c_error": (error, "squared data units"),
        "sigma": (np.sqrt(t), "data units"),
        "sigma_error": (error / (2 * np.sqrt(t)), "data units"),
        "t_o": (found["onset"], "squared data units"),
        "own_weight": (found["own"], "1"),
        "omitted": (found["omitted"], "1"),
        "visited": (found["visited"], "1"),
        "nearest": (duplicates.neighbour, "row"),
        "nearest_distance": (np.sqrt(duplicates.nearest * X.shape[1]), "data units"),
        "group": (group, "number, -1 for none"),
        "group_size": (np.where(group >= 0, size[np.maximum(group, 0)], 1), "points"),
    }
    return xr.Dataset(
        {name: ("point", values[chosen], {"units": units}) for name, (values, units) in columns.items()},
        coords={"point": chosen},
        attrs=provenance(P=len(X), N=X.shape[1], **options),
    )


def _matrix(X: Any) -> np.ndarray:
    X = X if isinstance(X, np.ndarray) else np.asarray(X)
    if X.ndim != 2 or len(X) < 3 or X.shape[1] < 1 or X.dtype.kind not in "buif":
        raise DomainError("X", f"an array of shape {X.shape} and dtype {X.dtype}", "(P >= 3, N >= 1) reals")
    return X if X.dtype in (np.float32, np.float64) else X.astype(np.float32 if X.dtype.itemsize <= 2 else np.float64)


def _rows(rows: Any, P: int) -> np.ndarray:
    if rows is None:
        return np.arange(P)
    rows = np.asarray(rows)
    inside = rows.ndim == 1 and rows.dtype.kind in "iu" and len(rows) and rows.min() >= 0 and rows.max() < P
    if not inside or len(np.unique(rows)) != len(rows):
        raise DomainError("rows", rows, f"distinct row numbers from 0 to {P - 1}")
    return rows.astype(np.int64)
