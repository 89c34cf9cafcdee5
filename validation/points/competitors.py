r"""Which other points can matter to a point at noise t: squared distances to them, and a bound on all that are left out.

At the noisy version of a point, let :math:`e_\nu` be the weight of another one relative to the point's own. Its logarithm is
normal with mean :math:`-s^2/2` and variance :math:`s^2`, where :math:`s=|\xi^\mu-\xi^\nu|/\sqrt t`. Leaving a set O out of the
sum changes the point's mean weight by

.. math:: 0\le W_{\text{kept}}-W\le E\,\frac{\sum_Oe_\nu}{1+\sum_Oe_\nu}\le\sum_OE\frac{e_\nu}{1+e_\nu}
          \le\sum_O\operatorname{erfc}\frac{s_\nu}{2\sqrt2},

the union bound of the errors between two points. Half of a tolerance goes to single pairs: those with
:math:`\operatorname{erfc}(s/2\sqrt2)` below tolerance/2P are passed over. The other half goes to clusters of points, whose
distance is at least that to their centre less their radius: they are left out, and not even their distances formed, while the sum
of their bounds stays below it. Where the data's dimension is large, distances hardly differ at the noise of collapse and nothing
can be left out; then all points are summed.
Source: [ours].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import erfc, erfcinv

from numerics.domain import DomainError
from validation.points.kernels import NearPairs, competing_sums
from validation.score.kernels import COMPILED

__all__ = ["Block", "Points", "reach"]

CLUSTERED = 20_000  # points from which clusters are worth their making
CLUSTERS = 2  # times the root of P
LLOYD_STEPS, SAMPLE = 8, 64  # of k-means, and rows a cluster on which it is done
MOST = 0.6  # share of the points beyond which looking at all of them is simpler
REFINE = 100  # squared distances below this many rounding errors are done again in float64
LARGEST = 1e30  # squared norms that float32 still multiplies
GATHERED = 1 << 22  # numbers gathered at once for that


class Points:
    """The training set in the order of its clusters, centred, in float32 on the device; draws shared by all points.

    X : (P, N); noise : (M, N) standard normal draws. Attributes: `order` (P,) original row of each place, `edges` of the
    clusters, `p` (P, M) products of the points with the draws.
    """

    def __init__(self, X: np.ndarray, noise: np.ndarray, device: torch.device, *, clustered: bool):
        self.X, self.device = X, device
        self.P, self.N = X.shape
        step = max(1, GATHERED // self.N)
        parts = [slice(a, min(a + step, self.P)) for a in range(0, self.P, step)]
        with np.errstate(invalid="ignore", over="ignore"):
            self.mean = sum(X[s].sum(axis=0, dtype=np.float64) for s in parts) / self.P
        if not np.isfinite(self.mean).all():
            raise DomainError("X", "an array with non-finite values", "finite real numbers")
        self.rows = torch.empty(self.P, self.N, dtype=torch.float32, device=device)
        for s in parts:
            self.rows[s] = torch.from_numpy((X[s] - self.mean).astype(np.float32)).to(device)
        self.order, self.edges = np.arange(self.P), np.array([0, self.P])
        if clustered and self.P >= CLUSTERED:
            self._cluster()
        self.place = np.empty(self.P, dtype=np.int64)
        self.place[self.order] = np.arange(self.P)
        draws = torch.from_numpy(noise).to(device)
        self.half_norms = torch.empty(self.P, dtype=torch.float32, device=device)
        self.p = torch.empty(self.P, len(noise), dtype=torch.float32, device=device)
        for s in parts:
            exact = self.rows[s].double()
            self.half_norms[s] = exact.square().sum(1) / 2
            self.p[s] = (exact @ draws.T).float()
        self.rounding = 4 * math.sqrt(self.N) * 2.0**-24  # of a squared distance, relative to |x|^2 + |y|^2
        self.largest = 2 * float(self.half_norms.max())
        if not 0 < self.largest < LARGEST:
            allowed = f"rows that differ, with norms below {LARGEST**0.5:g}"
            raise DomainError("X", f"rows of norms up to {self.largest**0.5:g} about their mean", allowed)
        self.centres = torch.stack([self.rows[a:b].double().mean(0) for a, b in self._clusters()])
        self.radii = np.array(
            [
                float((self.rows[a:b].double() - c).square().sum(1).max().sqrt())
                for (a, b), c in zip(self._clusters(), self.centres, strict=True)
            ]
        )
        self.sizes = np.diff(self.edges)

    def _clusters(self):
        return [(int(a), int(b)) for a, b in zip(self.edges[:-1], self.edges[1:], strict=True)]

    def _cluster(self) -> None:
        """Reorders the rows so that clusters (k-means on a sample, about sqrt(P) of them) lie side by side."""
        K = round(CLUSTERS * math.sqrt(self.P))
        some = torch.randperm(self.P, generator=torch.Generator().manual_seed(0))[: SAMPLE * K]
        rows = self.rows[some.to(self.device)]
        centres = rows[:K].clone()
        for _ in range(LLOYD_STEPS):
            label = _nearest(rows, centres)
            count = torch.bincount(label, minlength=K)[:, None]
            total = torch.zeros_like(centres).index_add_(0, label, rows)
            centres = torch.where(count > 0, total / count.clamp(min=1), centres)
        label = torch.cat([_nearest(self.rows[a : a + 8192], centres) for a in range(0, self.P, 8192)])
        order = torch.argsort(label, stable=True)
        self.rows = self.rows[order]
        self.order = order.cpu().numpy()
        sizes = torch.bincount(label, minlength=K).cpu().numpy()
        self.edges = np.concatenate([[0], np.cumsum(sizes[sizes > 0])])

    def exact(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Squared distances of pairs of places, by float64 differences of the rows as they came."""
        out = np.empty(len(one))
        step = max(1, GATHERED // self.N)
        for start in range(0, len(one), step):
            s = slice(start, start + step)
            difference = self.X[self.order[one[s]]].astype(np.float64) - self.X[self.order[other[s]]]
            out[s] = np.einsum("ij,ij->i", difference, difference)
        return out


def reach(P: int, tolerance: float, *, clean: bool) -> float:
    """Squared distances over t beyond which P points together change a mean weight by less than `tolerance`."""
    return float(2 * math.log(P / tolerance) if clean else 8 * erfcinv(tolerance / P) ** 2)


def _nearest(rows: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    return (rows @ centres.T).sub_(centres.square().sum(1) / 2).argmax(1)


@dataclass(eq=False)
class Block:
    """Some points (places) and their squared distances to the clusters visited so far; what does not compete is infinite.

    apart : pairs (row of the block, place) that belong together, as near-duplicates do, and do not compete
    """

    points: Points
    places: np.ndarray
    apart: tuple[np.ndarray, np.ndarray]

    def __post_init__(self) -> None:
        points = self.points
        chosen = torch.from_numpy(self.places).to(points.device)
        self.left, self.left_norm = points.rows[chosen], points.half_norms[chosen]
        self.own = points.p[chosen]
        gap = torch.cdist(self.left.double(), points.centres, compute_mode="donot_use_mm_for_euclid_dist")
        self.bound = np.maximum(gap.cpu().numpy() - points.radii, 0.0)  # (B, K): no member of a cluster is nearer
        self.visited = np.zeros(len(points.sizes), dtype=bool)
        self.squared, self.p, self.near = None, None, None

    def left_out(self, t: np.ndarray, clean: np.ndarray) -> np.ndarray:
        """(B, K) bounds on what each cluster could change in the mean weight at t (B,), or at the clean point at `clean`."""
        noisy = erfc(self.bound / np.sqrt(8 * t)[:, None])
        return self.points.sizes * np.maximum(noisy, np.exp(-(self.bound**2) / (2 * clean[:, None])))

    def visit(self, t: np.ndarray, clean: np.ndarray, tolerance: float) -> bool:
        """Looks at the clusters that a certificate at t needs; whether there were any new ones."""
        worst = self.left_out(t, clean).max(axis=0)
        order = np.argsort(worst, kind="stable")
        needed = np.ones(len(worst), dtype=bool)
        needed[order[np.cumsum(worst[order]) <= tolerance]] = False
        if self.points.sizes[needed | self.visited].sum() > MOST * self.points.P:
            needed[:] = True
        needed &= ~self.visited
        if not needed.any():
            return False
        self._measure(needed)
        self.visited |= needed
        return True

    def _measure(self, clusters: np.ndarray) -> None:
        points = self.points
        parts, places = [], []
        edges = np.flatnonzero(np.diff(np.concatenate([[0], clusters.astype(np.int8), [0]])))
        for first, last in zip(edges[::2], edges[1::2], strict=True):
            a, b = int(points.edges[first]), int(points.edges[last])
            part = torch.addmm(points.half_norms[None, a:b], self.left, points.rows[a:b].T, alpha=-1)
            parts.append(part.add_(self.left_norm[:, None]).mul_(2).clamp_(min=0))
            places.append(np.arange(a, b))
        squared, columns = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0], np.concatenate(places)
        limit = REFINE * points.rounding * (2 * self.left_norm + points.largest)
        row, column = (v.cpu().numpy() for v in torch.nonzero(squared < limit[:, None], as_tuple=True))
        if len(row):
            exact = points.exact(self.places[row], columns[column])
            squared[row, column] = torch.from_numpy(exact).to(squared)
        rows, others = self.apart
        rows, others = np.concatenate([np.arange(len(self.places)), rows]), np.concatenate([self.places, others])
        at = np.searchsorted(columns, others)
        here = (at < len(columns)) & (columns[np.minimum(at, len(columns) - 1)] == others)
        squared[rows[here], at[here]] = math.inf
        p = points.p[torch.from_numpy(columns).to(points.device)] if len(columns) < points.P else points.p
        if self.squared is None:
            self.squared, self.p = squared, p
        else:
            self.squared, self.p = torch.cat([self.squared, squared], dim=1), torch.cat([self.p, p])

    def listed(self, cut: np.ndarray) -> None:
        """Lists the pairs up to squared distance `cut` (B,), for the sums that follow, where they are few."""
        self.near = None
        if COMPILED and self.points.device.type == "cpu":
            near = NearPairs(self.squared.numpy(), cut)
            self.near = near if near.few else None

    def sums(self, own: torch.Tensor, p: torch.Tensor, t: np.ndarray, rows: np.ndarray, reach: float):
        """`competing_sums` of this block, from the list where that reaches far enough."""
        if self.near is not None and (reach * t[rows] <= self.near.cut[rows]).all():
            return self.near.sums(own.numpy(), p.numpy(), t, rows, reach)
        return competing_sums(self.squared, own, p, t, rows, reach)
