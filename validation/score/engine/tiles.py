"""The training set as a stream of recentred tiles, in memory or memory-mapped, with exact float64 differences on demand.

A product x.xi cancels in |x - xi|^2 unless both are small, so tiles hold xi - c with c near the mean; what the products
cannot resolve is re-evaluated from the untouched rows as sum_i (x_i - xi_i)^2 in float64.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch

from numerics.domain import DomainError, shaped
from validation.devices import plain_tensor
from validation.score.engine.double_double import half_squared_distance
from validation.score.engine.policy import Policy, choose_policy
from validation.score.engine.workers import in_threads, thread_count
from validation.score.kernels import pair_displacements, pair_energies

__all__ = ["DTYPES", "LARGEST", "TrainingSet", "rounding"]

Derived = TypeVar("Derived")
DTYPES = {"float32": torch.float32, "float64": torch.float64}
CENTRE_ROWS = 8192  # rows that fix the centre: any point near the data does, and a memory-mapped file is read once less
LARGEST = 1e15  # entries whose products stay in float32


def rounding(dtype: torch.dtype, N: int) -> tuple[float, float, float]:
    """(u, c, tiny): a product x.xi of N terms in `dtype` errs by at most c |x||xi| + tiny, other roundings by u.

    c = 2 (sqrt(N) + 4) u is the probabilistic bound (rounding errors are nearly independent; measured ones reach half of
    it at worst), tiny is what underflow can add. For bfloat16 u is that of the float32 accumulation.
    """
    info = torch.finfo(torch.float32 if dtype == torch.bfloat16 else dtype)
    u = info.eps / 2
    return u, 2 * (math.sqrt(N) + 4) * u, N * info.tiny


class TrainingSet:
    r"""`P` patterns in `R^N`: recentred tiles for the products, exact differences for what they cannot resolve.

    X : (P, N) finite reals, numpy (memory-mapped or not) or torch; on its device it is kept as it is, beside a recentred
        copy; a memory-mapped one is streamed, never copied
    device : a torch device; dtype : of the products, torch.float32 or torch.float64
    policy : how calls on it are carried out, by default what suits the processor
    order : (P,) permutation in which tiles run through the rows (clusters contiguous), or None

    Public attributes: `P`, `N`, `centre` (N,) float64, `half_norms` (P,) float64 of `|xi - c|^2/2` in tile order,
    `radius` the largest `|xi - c|`, `index` (P,) original row of each position or None.
    """

    def __init__(
        self,
        X: Any,
        *,
        device: torch.device,
        dtype: torch.dtype,
        order: np.ndarray | None = None,
        policy: Policy | None = None,
    ):
        self.source = check_matrix("X", X)
        self.device, self.dtype, self.policy = device, dtype, policy or choose_policy(device)
        self.P, self.N = map(int, self.source.shape)
        self.order = order
        self.streamed = isinstance(self.source, np.memmap)
        if isinstance(self.source, torch.Tensor):
            self.source = self.source.to(device)
        elif device.type != "cpu" and not self.streamed:
            self.source = torch.from_numpy(np.array(self.source)).to(device)
        on_cpu = (
            device.type == "cpu" and self.policy.compiled and str(self.source.dtype).removeprefix("torch.") in DTYPES
        )
        self._rows = np.asarray(self.source) if on_cpu else None
        step = max(1, self.P // CENTRE_ROWS)
        self.centre = self._float64(slice(0, self.P, step)).mean(0)
        self._copies: dict[torch.dtype, torch.Tensor] = {}
        self._lock = threading.RLock()
        self._derived: dict[type, Any] = {}
        self.half_norms = torch.empty(self.P, dtype=torch.float64, device=device)
        rounded_norms = torch.empty_like(self.half_norms)
        self._norms = {torch.float64: self.half_norms}
        copy = None if self.streamed else torch.empty(self.P, self.N, dtype=dtype, device=device)
        rows = max(1, self.policy.gathered // self.N)
        for start in range(0, self.P, rows):
            exact = self._recentred(start, min(start + rows, self.P), torch.float64)
            here = slice(start, start + len(exact))
            # products of rounded rows go with norms of rounded rows: together they are one exact squared distance
            self.half_norms[here] = exact.square().sum(1) / 2
            rounded_norms[here] = exact.float().double().square_().sum(1) / 2
            if copy is not None:
                copy[here] = exact
        within = (self.half_norms <= self.N * LARGEST**2).all() & (self.centre.abs() <= LARGEST).all()
        if not bool(within):  # also false for NaN
            allowed = f"real numbers of size at most {LARGEST:g}"
            raise DomainError("X", "an array with NaN, infinite or huge entries", allowed, "Rescale the data")
        if copy is not None:
            self._copies[dtype] = copy
        self.radius = math.sqrt(2 * float(self.half_norms.max()))
        self._norms[torch.float32] = rounded_norms.float()
        self._norms[torch.bfloat16] = self.half_norms.float()

    def tile(self, start: int, stop: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        """(T, N) rows `start:stop` (in tile order), less the centre, in `dtype` (default: the set's own)."""
        dtype = dtype or self.dtype
        if dtype in self._copies:
            return self._copies[dtype][start:stop]
        if self.streamed or dtype == torch.float64:
            return self._recentred(start, stop, dtype)
        with self._lock:
            if dtype not in self._copies:
                self._copies[dtype] = self._copies[self.dtype].to(dtype)
        return self._copies[dtype][start:stop]

    def norms(self, start: int, stop: int, dtype: torch.dtype) -> torch.Tensor:
        """(T,) half squared norms that go with products in `dtype`: of the rounded rows, in `dtype` (float32 for bfloat16)."""
        return self._norms[dtype][start:stop]

    def derived(self, kind: type[Derived]) -> Derived:
        """`kind(self)`, made when first asked for and kept."""
        with self._lock:
            if kind not in self._derived:
                self._derived[kind] = kind(self)
            return self._derived[kind]

    def tiles(self, width: int) -> Iterator[tuple[int, int]]:
        """Bounds `(start, stop)` of tiles of `width` rows."""
        for start in range(0, self.P, width):
            yield start, min(start + width, self.P)

    def rows(self, positions: torch.Tensor) -> torch.Tensor:
        """(n, N) float64 exact rows at `positions` of the tile order."""
        return self._float64(positions)

    def original(self, positions: torch.Tensor) -> torch.Tensor:
        """Row numbers in X of positions in the tile order."""
        if self.order is None:
            return positions
        return torch.as_tensor(self.order, device=positions.device)[positions]

    def positions(self, original: torch.Tensor) -> torch.Tensor:
        """Positions in the tile order of row numbers in X."""
        if self.order is None:
            return original
        return torch.as_tensor(np.argsort(self.order), device=original.device)[original]

    def pairs(
        self, x: torch.Tensor, row: torch.Tensor, position: torch.Tensor, other: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        r"""`|x_r - xi_p|^2/2`, and `other_r . (x_r - xi_p)` when `other` is given, in float64 by direct differences.

        x, other : (B, N) float64; row, position : (n,) integers. Returns (n,) float64 each.
        """
        energy = torch.empty(len(row), dtype=torch.float64, device=x.device)
        cross = None if other is None else torch.empty_like(energy)
        if self._rows is not None:
            second = np.empty((1, 0)) if other is None else other.numpy()
            place, out = self.original(position).numpy(), np.empty(0) if cross is None else cross.numpy()

            def settle(part: slice) -> None:
                arrays = row.numpy()[part], place[part], energy.numpy()[part], out[part]
                pair_energies(self._rows, x.numpy(), second, *arrays)

            in_threads(settle, self._parts(row), self.device)
            return energy, cross
        step = max(1, self.policy.gathered // self.N)
        for s in range(0, len(row), step):
            r = row[s : s + step]
            d = x[r] - self._float64(position[s : s + step])
            energy[s : s + step] = torch.linalg.vector_norm(d, dim=1).square_() / 2
            if cross is not None:
                cross[s : s + step] = (d * other[r]).sum(1)
        return energy, cross

    def precise(self, x: torch.Tensor, row: torch.Tensor, position: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`|x_r - xi_p|^2/2` as double-double numbers (hi, lo), (n,) each; x (B, N) float64, row and position (n,)."""
        step = max(1, self.policy.gathered // (8 * self.N))
        parts = [
            half_squared_distance(x[row[s : s + step]], self._float64(position[s : s + step]))
            for s in range(0, len(row), step)
        ] or [(x.new_empty(0), x.new_empty(0))]
        hi, lo = zip(*parts, strict=True)
        return torch.cat(hi), torch.cat(lo)

    def displacements(
        self, x: torch.Tensor, row: torch.Tensor, position: torch.Tensor, weight: torch.Tensor
    ) -> torch.Tensor:
        """(B, N) float64 sums of `weight (xi_p - x_r)` over the pairs of each row, from any points x (B, N).

        row : (n,) sorted; weight : (n,) float64
        """
        total = torch.zeros_like(x)
        if self._rows is not None:
            place = self.original(position).numpy()

            def add(part: slice) -> None:
                arrays = row.numpy()[part], place[part], weight.numpy()[part], total.numpy()
                pair_displacements(self._rows, x.numpy(), *arrays)

            in_threads(add, self._parts(row), self.device)
            return total
        step = max(1, self.policy.gathered // self.N)
        for s in range(0, len(row), step):
            r = row[s : s + step]
            total.index_add_(0, r, (self._float64(position[s : s + step]) - x[r]) * weight[s : s + step, None])
        return total

    def _parts(self, row: torch.Tensor) -> list[slice]:
        """Pairs as parts, one a thread when there are many; where `row` is sorted, none of its rows is in two of them."""
        n, threads = len(row), thread_count(self.device)
        if n < self.policy.parallel:
            return [slice(0, n)]
        inner = torch.searchsorted(row.contiguous(), row[[n * k // threads for k in range(1, threads)]]).tolist()
        return [slice(*ends) for ends in pairwise(sorted({0, *inner, n}))]

    def _recentred(self, start: int, stop: int, dtype: torch.dtype) -> torch.Tensor:
        part = self._float64(slice(start, stop) if self.order is None else torch.arange(start, stop))
        return part.sub_(self.centre).to(dtype)

    def _float64(self, rows: slice | torch.Tensor) -> torch.Tensor:
        """A fresh float64 copy on the device of some rows of the source (positions in the tile order)."""
        if isinstance(rows, torch.Tensor) and self.order is not None:
            rows = torch.as_tensor(self.order)[rows.cpu()]
        if isinstance(self.source, torch.Tensor):
            part = self.source[rows.to(self.source.device) if isinstance(rows, torch.Tensor) else rows]
            return part.to(device=self.device, dtype=torch.float64, copy=True)
        part = self.source[rows.cpu().numpy() if isinstance(rows, torch.Tensor) else rows]
        return torch.from_numpy(np.array(part, dtype=np.float64)).to(self.device)


def check_matrix(name: str, X: Any) -> np.ndarray | torch.Tensor:
    """A (P, N) real array, P >= 1 and N >= 1, numpy or torch, unchanged, or `DomainError`; entries are not read."""
    allowed = "a real array of shape (P, N) with P >= 1 and N >= 1"
    if isinstance(X, torch.Tensor):
        X = plain_tensor(name, X, allowed)
        real = not X.dtype.is_complex
    else:
        X = shaped(name, X, allowed=allowed)
        real = X.dtype.kind in "fiub"
    if X.ndim != 2 or 0 in X.shape or not real:
        raise DomainError(name, f"an array of shape {tuple(X.shape)} and dtype {X.dtype}", allowed)
    return X
