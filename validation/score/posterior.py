r"""The Jacobian of the empirical score: the covariance of the patterns under the weights, as matrix, operator, or spectrum.

    J(x, t) = -I/t + C/t^2,   C = sum_mu w_mu (xi_mu - m)(xi_mu - m)^T,   m = sum_mu w_mu xi_mu

Only the effective support enters: the patterns whose weight could still show in C against t. When it has n < N members
the eigenvalues come from the n x n matrix of their products, not from C. Patterns enter as float64 differences from m.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from numerics.domain import DomainError
from validation.score.engine import ACCURACY, Block, Clusters, TrainingSet, all_tiles
from validation.score.queries import Queries
from validation.score.sharded import Shards
from validation.score.weights import WeightSums, weight_sums

__all__ = ["Jacobian", "PosteriorCovariance"]

ORTHONORMAL = 1e-5  # how far the products of a basis may be from the identity
KEPT = 1 << 24  # positions and weights of supports that are kept between products (0.25 GB)


class PosteriorCovariance:
    """The covariances C of a batch of queries x (B, N) at t (B,), float64; nothing of size (B, P, N) is formed.

    `matrices` and `eigenvalues` take an orthonormal basis U (N, k) to restrict to, or None; `apply` multiplies.
    """

    def __init__(
        self, data: TrainingSet, shards: Shards, x: torch.Tensor, t: torch.Tensor, clusters: Clusters | None = None
    ):
        self.data, self.shards, self.x, self.t = data, shards, x, t
        self.sums: WeightSums = weight_sums(data, shards, x, t, clusters, sharper=True)
        self.mean = self.sums.mean
        self.place: list[tuple[int, int]] = [(0, 0)] * len(x)
        self._supports: list[tuple[int, torch.Tensor, torch.Tensor]] | None = None
        for block, (rows, _) in enumerate(self.sums.supports):
            for local, row in enumerate(rows.tolist()):
                self.place[row] = (block, local)

    def matrices(self, basis: torch.Tensor | None = None, queries: Sequence[int] | None = None) -> torch.Tensor:
        """(b, k, k) float64 covariances (of all queries, or some), restricted to the basis."""
        queries = range(len(self.x)) if queries is None else queries
        size = self.data.N if basis is None else basis.shape[1]
        total = torch.zeros(len(queries), size, size, dtype=torch.float64, device=self.x.device)
        for local, position, weight in self.supports(queries):
            total[local] = self._matrix(queries[local], position, weight, basis)
        return self.shards.sum(total)

    def eigenvalues(self, basis: torch.Tensor | None = None) -> torch.Tensor:
        """(B, k) float64 eigenvalues of the covariances, descending."""
        size = self.data.N if basis is None else basis.shape[1]
        out = torch.zeros(len(self.x), size, dtype=torch.float64, device=self.x.device)
        if self.shards.alone:
            for row, position, weight in self.supports():
                if len(position) < size:
                    scaled = self._scaled(row, position, weight, basis, exact=True)
                    out[row, : len(position)] = torch.linalg.eigvalsh(scaled @ scaled.T).flip(0)
                else:
                    out[row] = torch.linalg.eigvalsh(self._matrix(row, position, weight, basis)).flip(0)
        else:  # every process in step, a few queries at a time
            for rows in torch.arange(len(self.x)).split(max(1, self.data.policy.covariance_entries // size**2)):
                out[rows] = torch.linalg.eigvalsh(self.matrices(basis, rows.tolist())).flip(1)
        return out.clamp_(min=0)

    def diagonal(self) -> torch.Tensor:
        """(B, N) float64: the posterior variance of every coordinate."""
        out = torch.zeros_like(self.x)
        for row, position, weight in self.supports():
            for some, w in self._pieces(position, weight):
                out[row] += self._scaled(row, some, w, None, exact=True).square().sum(0)
        return self.shards.sum(out)

    def apply(self, v: torch.Tensor) -> torch.Tensor:
        """C v for v (B, k, N) float64: sum_mu w_mu (xi_mu - m) ((xi_mu - m).v)."""
        out = torch.zeros_like(v)
        for row, position, weight in self._kept():
            for some, w in self._pieces(position, weight):
                centred = self.data.rows(some).sub_(self.mean[row])
                out[row] += (centred @ v[row].T * w[:, None]).T @ centred
        return self.shards.sum(out)

    def _kept(self) -> list[tuple[int, torch.Tensor, torch.Tensor]] | Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """The supports of all queries, found once for all products where they fit into memory."""
        if len(self.x) * self.data.P > KEPT:
            return self.supports()
        if self._supports is None:
            self._supports = list(self.supports())
        return self._supports

    def _held(self, row: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The whole support of one query, when the sums already settled it."""
        block, local = self.place[row]
        support = self.sums.supports[block][1]
        if support is None:
            return None
        first, last = torch.searchsorted(
            support.row, torch.tensor([local, local + 1], device=support.row.device)
        ).tolist()
        return support.position[first:last], support.log_weight[first:last].exp()

    def supports(
        self, queries: Sequence[int] | None = None, moment: int = 2
    ) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """(index in `queries`, positions, weights) of every query's support: least patterns whose omission does not show in
        the covariance against t (moment 2), or in the weights (moment 0)."""
        spread, queries = [], range(len(self.x)) if queries is None else queries
        for index, row in enumerate(queries):
            held = self._held(row)
            if held is None:
                spread.append((index, row))
            else:
                yield index, *held
        at_once = max(1, self.data.policy.exponents // self.data.P)
        for start in range(0, len(spread), at_once):
            yield from self._select(spread[start : start + at_once], moment)

    def _select(self, spread: list[tuple[int, int]], moment: int) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """Supports that the sums did not settle: least patterns whose omission moves no eigenvalue of C by more than
        `hidden` t (moment 2), or no more than `hidden` of the weight (moment 0), chosen by products, weighed by differences."""
        rows = torch.tensor([row for _, row in spread], device=self.x.device)
        data, x, t = self.data, self.x[rows], self.t[rows]
        block = Block(data, x, t)
        left, half = block.centred.to(data.dtype), block.centred.square().sum(1) / 2
        energy = torch.empty(len(rows), data.P, dtype=data.dtype, device=x.device)
        for start, stop in all_tiles(data, len(rows)):
            torch.mm(left, data.tile(start, stop).T, out=energy[:, start:stop])
            energy[:, start:stop].neg_().add_(data.norms(start, stop, data.dtype)).add_(half.to(data.dtype)[:, None])
        # |xi - m|^2 <= 2 |xi - x|^2 + 2 |x - m|^2, and the rounding of the energy is on the safe side
        sums, shift = self.sums, self.sums.displacement[rows].square().sum(1)
        error = block.error(data.dtype)
        for k, (index, row) in enumerate(spread):
            level = (energy[k].double() - error[k]).clamp_(min=0)
            one = torch.full((1,), row, device=x.device)
            share = torch.exp(sums.log_weight(level, one))
            if moment == 2:
                share.mul_((4 * level + 2 * shift[k]) / t[k])
            ascending, by_share = torch.sort(share)
            hidden = ACCURACY[data.dtype].hidden * data.P / self.shards.total
            position = by_share[torch.searchsorted(ascending.cumsum(0), hidden) :].sort().values
            yield index, position, sums.exact_log_weight(data, self.x, one.expand(len(position)), position).exp()

    def _matrix(
        self, row: int, position: torch.Tensor, weight: torch.Tensor, basis: torch.Tensor | None
    ) -> torch.Tensor:
        size = self.data.N if basis is None else basis.shape[1]
        total = torch.zeros(size, size, dtype=torch.float64, device=self.x.device)
        for some, w in self._pieces(position, weight):
            _add_square(total, self._scaled(row, some, w, basis), self.data.policy.lower_columns)
        lower = total.tril()
        return lower + lower.tril(-1).T

    def _pieces(self, position: torch.Tensor, weight: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """A support, some rows at once."""
        rows = self.data.policy.support_rows
        return zip(position.split(rows), weight.split(rows), strict=True)

    def _scaled(self, row: int, position, weight, basis, exact: bool = False) -> torch.Tensor:
        """(n, k) rows sqrt(w) (xi - m), differences in float64, then in the products' dtype unless `exact`."""
        scaled = self.data.rows(position).sub_(self.mean[row]).mul_(weight.sqrt()[:, None])
        scaled = scaled if basis is None else scaled @ basis
        return scaled if exact else scaled.to(self.data.dtype)


def _add_square(total: torch.Tensor, scaled: torch.Tensor, columns: int) -> None:
    """total += scaled^T scaled, its lower half only, by blocks of columns."""
    for start in range(0, scaled.shape[1], columns):
        stop = min(start + columns, scaled.shape[1])
        total[start:stop, :stop] += scaled[:, start:stop].T @ scaled[:, :stop]


class Jacobian:
    """The Jacobian of the score at a batch of points: `J(v)`, `J.matrix()`, `J.eigenvalues()`, `J.diagonal()`.

    Made by `EmpiricalScore.jacobian_operator`; everything is handed back as the queries came (kind, device, dtype).
    """

    def __init__(self, covariance: PosteriorCovariance, queries: Queries):
        self._covariance, self._queries = covariance, queries
        self._t = covariance.t[:, None]

    def __call__(self, v: Any) -> Any:
        """J v for v of the shape of x, or (B, k, N) for k vectors a query ((k, N) for a single point)."""
        B, N = self._covariance.x.shape
        shapes = [(B, N), (B, -1, N)] if not self._queries.single else [(N,), (-1, N)]
        given = torch.as_tensor(v).detach().to(self._covariance.x.device, torch.float64)
        fits = [
            s for s in shapes if given.ndim == len(s) and all(a in (b, -1) for a, b in zip(s, given.shape, strict=True))
        ]
        if not fits or given.numel() == 0 or not bool(torch.isfinite(given).all()):
            allowed = f"finite, of shape {shapes[0]} or {shapes[1]} with any number in place of -1".replace("-1", "k")
            raise DomainError("v", f"an array of shape {tuple(given.shape)}", allowed)
        vectors = given.reshape(B, -1, N)
        t = self._t[:, :, None]
        image = (self._covariance.apply(vectors) / t - vectors) / t
        return self._queries.back(image.reshape(B, *given.shape[(0 if self._queries.single else 1) :]))

    def matrix(self, basis: Any = None) -> Any:
        """(B, N, N), or (B, k, k) restricted to the orthonormal columns of `basis` (N, k)."""
        U = check_basis(basis, self._covariance.data.N, self._covariance.x.device)
        C, t = self._covariance.matrices(U), self._t[:, :, None]
        identity = torch.eye(C.shape[1], dtype=C.dtype, device=C.device)
        return self._queries.back((C / t - identity) / t)

    def eigenvalues(self, basis: Any = None) -> Any:
        """(B, N) (or (B, k)) eigenvalues, ascending: the directions normal to the data, at -1/t, come first."""
        U = check_basis(basis, self._covariance.data.N, self._covariance.x.device)
        values = self._covariance.eigenvalues(U).flip(1)
        return self._queries.back((values / self._t - 1) / self._t)

    def diagonal(self) -> Any:
        """(B, N), the diagonal of the matrix, which is not formed."""
        return self._queries.back((self._covariance.diagonal() / self._t - 1) / self._t)


def check_basis(basis: Any, N: int, device: torch.device) -> torch.Tensor | None:
    """(N, k) orthonormal columns in float64, or None for None, or `DomainError`."""
    if basis is None:
        return None
    allowed = f"a finite array of shape ({N}, k), 1 <= k <= {N}, with orthonormal columns"
    U = torch.as_tensor(basis).detach().to(device, torch.float64)
    if U.ndim != 2 or U.shape[0] != N or not 1 <= U.shape[1] <= N or not bool(torch.isfinite(U).all()):
        raise DomainError("basis", f"an array of shape {tuple(U.shape)}", allowed)
    error = float((U.T @ U - torch.eye(U.shape[1], dtype=U.dtype, device=device)).abs().max())
    if error > ORTHONORMAL:
        raise DomainError(
            "basis", f"columns whose products miss the identity by {error:.1e}", allowed, "Use a QR factor"
        )
    return U
