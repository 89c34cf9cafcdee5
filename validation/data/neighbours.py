"""Nearest neighbours by tiled matrix products: candidates from float32, distances from float64 differences.

A product of tiles gives all squared distances of a tile pair as |x|^2 + |y|^2 - 2 x.y, which cancels where points are
close: its error is about 4 sqrt(N) 2^-24 (|x|^2 + |y|^2). So it only nominates a few candidates a row more than asked
for; their distances are re-evaluated as sums of (x_i - y_i)^2 in float64. A row whose k-th distance is not below the
last candidate's by that error is done again with float64 products, and where these cannot tell either (a far outlier
beside close points) by differences throughout. Nothing of size P x P is ever formed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from numerics.domain import DomainError, integer, shaped
from validation.devices import device_of

__all__ = ["Neighbours", "nearest_neighbours"]

SPARE = 4
SLACK = 1e-4  # relative error of a distance that a row may keep unrefined: ties would otherwise never be settled


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The k nearest rows of each query, nearest first.

    squared_distance : (Q, k) float64, ||x - y||^2 / N, in the data's squared units
    index : (Q, k) int64, rows of X
    variance : mean over coordinates of X's variance, the natural unit of squared_distance
    refined : how many rows float32 products did not settle
    """

    squared_distance: np.ndarray
    index: np.ndarray
    variance: float
    refined: int


def nearest_neighbours(
    X: np.ndarray, k: int = 1, *, queries: np.ndarray | None = None, device: str = "cpu", tile: int | None = None
) -> Neighbours:
    """The k nearest rows of X to each row of X (itself left out), or to each row of `queries`.

        d2(x, y) = (1/N) sum_i (x_i - y_i)^2

    Parameters
    ----------
    X : (P, N) finite reals, P >= 2, memory-mapped or not; float32, float64 or integers
    k : 1 <= k <= P - 1 (P with queries)
    queries : (Q, N), or None for the rows of X themselves; a copy of a row of X given here finds that row, at 0
    device : a torch device, e.g. "cpu" or "cuda"
    tile : rows of a tile; by default 2048 on a CPU and 8192 on an accelerator

    Returns
    -------
    Neighbours. Every distance is exact to float64 for the pair it names; a closer row can have been missed only if
    it is closer by less than 1e-4 of the squared distance.

    Raises
    ------
    DomainError : wrong shapes, non-finite numbers, k or device outside its domain

    Source: [ours: validation/data/neighbours.py]

    >>> import numpy as np
    >>> found = nearest_neighbours(np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]))
    >>> found.index.ravel().tolist(), found.squared_distance.ravel().tolist()
    ([2, 2, 0], [0.5, 9.0, 0.5])
    """
    X = _matrix("X", X)
    same = queries is None
    Y = X if same else _matrix("queries", queries, rows=1)
    if Y.shape[1] != X.shape[1]:
        raise DomainError("queries", f"an array of shape {Y.shape}", f"(Q, {X.shape[1]}), with the columns of X")
    k = integer("k", k, minimum=1)
    available = len(X) - same
    if k > available:
        raise DomainError("k", k, f"an integer <= {available}, the number of other rows")
    torch_device = device_of(device)
    tile = integer("tile", tile or (2048 if torch_device.type == "cpu" else 8192), minimum=1)

    mean, variance = _moments(X, tile)
    if not (np.isfinite(variance) and np.isfinite(mean).all()):
        raise DomainError("X", "an array with non-finite or huge values", "finite real numbers with a finite variance")
    if not same and not all(np.isfinite(Y[s]).all() for s in _slices(len(Y), tile)):
        raise DomainError("queries", "an array with non-finite values", "finite real numbers")
    if not X.dtype == Y.dtype == np.float64:
        mean = mean.astype(np.float32).astype(np.float64)  # X and Y move by the same vector, whatever their precisions
    frame = (mean, np.sqrt(variance) or 1.0)  # products of float32 neither overflow nor cancel a common offset

    few = min(k + SPARE, available)
    rows = np.arange(len(Y))
    with _full_precision():
        coarse, index = _candidates(X, Y, None if same else rows, few, frame, tile, torch_device, torch.float32)
        squared, index = _exact(X, Y, rows, index)
        refined = np.zeros(0, dtype=np.int64)
        if few < available:
            refined = rows[squared[:, k - 1] * (1 - SLACK) > coarse]
        if len(refined):
            fine, again = _candidates(X, Y, refined, few + same, frame, tile, torch_device, torch.float64)
            squared[refined], index[refined] = _exact(X, Y, refined, again, same)
            kth = squared[refined, k - 1]
            open_rows = refined[(kth > 0) & (kth * (1 - SLACK) > fine)]
            if len(open_rows):
                again = _by_differences(X, Y, open_rows, few + same, tile, torch_device)
                squared[open_rows], index[open_rows] = _exact(X, Y, open_rows, again, same)
    return Neighbours(squared[:, :k].copy(), index[:, :k].copy(), float(variance), len(refined))


# --- candidates ----------------------------------------------------------------------------------------------------


def _candidates(X, Y, rows, few, frame, tile, device, dtype):
    """For `rows` of Y (None: every row of X, each pair of tiles once, itself left out) the `few` nearest rows of X.

    Returns a lower bound of every distance left out (per dimension, in the data's units), (Q,), and indices (Q, few).
    """
    symmetric = rows is None
    count = len(X) if symmetric else len(rows)
    best = torch.full((count, few), torch.inf, dtype=dtype, device=device)
    index = torch.full((count, few), -1, dtype=torch.int64, device=device)
    largest = 0.0

    def update(part: slice, squares: torch.Tensor, offset: int) -> None:
        near, where = torch.topk(squares, min(few, squares.shape[1]), dim=1, largest=False, sorted=False)
        near = torch.cat((best[part], near), dim=1)
        where = torch.cat((index[part], where + offset), dim=1)
        best[part], order = torch.topk(near, few, dim=1, largest=False)
        index[part] = torch.gather(where, 1, order)

    norms = torch.zeros(count, dtype=torch.float64)
    for a in _slices(count, tile):
        left = _framed(X, a, frame, dtype, device) if symmetric else _framed(Y, rows[a], frame, dtype, device)
        left_norm = torch.einsum("ij,ij->i", left, left)
        norms[a] = left_norm.double().cpu()
        for b in _slices(len(X), tile, start=a.start if symmetric else 0):
            right = left if symmetric and a == b else _framed(X, b, frame, dtype, device)
            right_norm = torch.einsum("ij,ij->i", right, right)
            largest = max(largest, float(right_norm.max()))
            squares = torch.addmm(right_norm[None, :], left, right.T, alpha=-2).add_(left_norm[:, None])
            if symmetric and a == b:
                squares.fill_diagonal_(torch.inf)
            update(a, squares, b.start)
            if symmetric and a != b:
                update(b, squares.T.contiguous(), a.start)
    N = X.shape[1]
    error = 4 * np.sqrt(N) * (torch.finfo(dtype).eps / 2) * (norms.numpy() + largest)
    bound = (best[:, -1].double().cpu().numpy() - error) * (frame[1] ** 2 / N)
    return bound, index.cpu().numpy()


def _by_differences(X, Y, rows, few, tile, device) -> np.ndarray:
    """(Q, few) nearest rows of X to `rows` of Y, from sums of squared float64 differences."""
    index = np.empty((len(rows), few), dtype=np.int64)
    for a in _slices(len(rows), min(tile, 256)):
        left = torch.from_numpy(Y[rows[a]].astype(np.float64)).to(device)
        best = torch.full((len(left), few), torch.inf, dtype=torch.float64, device=device)
        found = torch.full((len(left), few), -1, dtype=torch.int64, device=device)
        for b in _slices(len(X), tile):
            right = torch.from_numpy(X[b].astype(np.float64)).to(device)
            distance = torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist")
            near, where = torch.topk(distance, min(few, distance.shape[1]), dim=1, largest=False)
            both, places = torch.cat((best, near), dim=1), torch.cat((found, where + b.start), dim=1)
            best, order = torch.topk(both, few, dim=1, largest=False)
            found = torch.gather(places, 1, order)
        index[a] = found.cpu().numpy()
    return index


def _framed(X, rows, frame, dtype, device) -> torch.Tensor:
    """Rows of X, centred in their own precision (one rounding of the difference), in units of the standard deviation."""
    mean, scale = frame
    part = np.subtract(X[rows], mean, dtype=np.float64 if X.dtype == np.float64 else np.float32)
    part /= part.dtype.type(scale)
    return torch.from_numpy(part).to(device=device, dtype=dtype)


def _exact(X, Y, rows, index, leave_self: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances per dimension of the candidates, by float64 differences, and the candidates in that order."""
    N = X.shape[1]
    squared = np.empty(index.shape)
    step = max(1, (1 << 22) // (8 * N))
    for part in _slices(len(rows), step):
        own = Y[rows[part]].astype(np.float64)
        for column in range(index.shape[1]):
            difference = own - X[index[part, column]]
            squared[part, column] = np.einsum("ij,ij->i", difference, difference) / N
    if leave_self:
        squared[index == rows[:, None]] = np.inf
    order = np.argsort(squared, axis=1, kind="stable")
    squared, index = (np.take_along_axis(array, order, axis=1) for array in (squared, index))
    return (squared[:, :-1], index[:, :-1]) if leave_self else (squared, index)


# --- small parts ---------------------------------------------------------------------------------------------------


def _matrix(name: str, X, rows: int = 2) -> np.ndarray:
    X = shaped(name, X)
    if X.ndim != 2 or X.shape[0] < rows or X.shape[1] < 1 or X.dtype.kind not in "buif":
        raise DomainError(name, f"an array of shape {X.shape} and dtype {X.dtype}", f"(P >= {rows}, N >= 1) reals")
    if X.dtype in (np.float32, np.float64, np.uint8):
        return X
    return X.astype(np.float32 if X.dtype in (np.float16, np.bool_) else np.float64)


def _slices(count: int, step: int, start: int = 0) -> Iterator[slice]:
    return (slice(i, min(i + step, count)) for i in range(start, count, step))


def _moments(X: np.ndarray, tile: int) -> tuple[np.ndarray, float]:
    """Mean (N,) in float64 and mean variance, in two passes over tiles."""
    with np.errstate(invalid="ignore", over="ignore"):
        mean = sum(X[s].sum(axis=0, dtype=np.float64) for s in _slices(len(X), tile)) / len(X)
        total = 0.0
        for s in _slices(len(X), min(tile, max(1, (1 << 22) // X.shape[1]))):
            centred = X[s] - mean
            total += float(np.einsum("ij,ij->", centred, centred))
    return mean, total / X.size


@contextmanager
def _full_precision() -> Iterator[None]:
    """float32 products in float32, whatever reduced precision the caller has allowed elsewhere."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
