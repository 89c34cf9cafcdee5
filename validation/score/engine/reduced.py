r"""Lower bounds on distances from a few principal coordinates: a product in m + 1 dimensions instead of N.

With p the projection on m orthonormal directions and r the rest of a recentred point,

    x.xi = x_p.xi_p + x_r.xi_r <= x_p.xi_p + |x_r| |xi_r|,    so  |x - xi|^2 >= |x_p - xi_p|^2 + (|x_r| - |xi_r|)^2,

which is the distance of the points (x_p, |x_r|) and (xi_p, |xi_r|). A pattern that is too far in these coordinates weighs
nothing. Small noise leaves few others, in any basis; the principal axes of the data leave fewest. Source: [ours: Cauchy-Schwarz].
"""

from __future__ import annotations

import math
import threading
import weakref

import torch

from validation.score.engine.block import Block
from validation.score.engine.tile_pass import Factors
from validation.score.engine.tiles import TrainingSet

__all__ = ["Reduced"]

SAMPLE = 1024  # rows that fix the axes, at least; 2 N of them while the covariance is formed
LARGEST_COVARIANCE = 1024  # dimensions up to which it is; above, axes come from products of the sample's rows
LEAST = 8  # coordinates worth a product
QUANTILES = 9


class Reduced:
    """Principal axes of a training set, and its patterns in some of them; both made when first asked for."""

    def __init__(self, data: TrainingSet):
        self.data: TrainingSet = weakref.proxy(data)  # which keeps this: a circle would hold both until a collection
        self._lock = threading.RLock()
        self._axes: torch.Tensor | None = None
        self._tiles: dict[int, torch.Tensor] = {}
        self._samples: dict[int, torch.Tensor] = {}
        self._quantiles: torch.Tensor | None = None

    def sizes(self) -> list[int]:
        """Numbers of coordinates to choose from, ascending."""
        N, most = self.data.N, self._rows() if self.data.N > LARGEST_COVARIANCE else self.data.N
        wanted = {max(LEAST, -(-N // part // 8) * 8) for part in self.data.policy.reduced_parts}
        return sorted(m for m in wanted if m <= most and m < N)

    @property
    def axes(self) -> torch.Tensor:
        """(N, M) orthonormal columns, float64, of falling variance in a sample."""
        with self._lock:
            if self._axes is None:
                self._axes = self._principal_axes()
            return self._axes

    def coordinates(self, centred: torch.Tensor, m: int) -> torch.Tensor:
        """(n, m + 1) float64: the first m coordinates of recentred points (n, N), and the length of the rest."""
        inside = centred @ self.axes[:, :m]
        rest = (centred.square().sum(1) - inside.square().sum(1)).clamp(min=0).sqrt()
        return torch.cat([inside, rest[:, None]], dim=1)

    def tile(self, start: int, stop: int, m: int) -> torch.Tensor:
        """(T, m + 1) float32 coordinates of the patterns `start:stop` of the tile order."""
        with self._lock:
            if m not in self._tiles:
                step, P = max(1, self.data.policy.gathered // self.data.N), self.data.P
                made = torch.empty(P, m + 1, dtype=torch.float32, device=self.data.device)
                for first in range(0, P, step):
                    last = min(first + step, P)
                    made[first:last] = self.coordinates(self.data.tile(first, last, torch.float64), m)
                self._tiles[m] = made
        return self._tiles[m][start:stop]

    def factors(self, block: Block, m: int) -> Factors:
        """What is multiplied for the bounds of a block, whose v = x.xi - |xi|^2/2 is never too small."""
        data = self.data
        left = self.coordinates(block.centred, m).float()
        # bfloat16's half norms are those of the unrounded rows
        return Factors(left, lambda a, b: self.tile(a, b, m), lambda a, b: data.norms(a, b, torch.bfloat16))

    def sample(self, m: int) -> torch.Tensor:
        """(S, m + 1) float32 coordinates of some patterns spread over the set, for pilots; all N of them for m = N."""
        with self._lock:
            if m not in self._samples:
                data = self.data
                count = min(data.P, data.policy.pilot_columns)
                rows = data.rows(torch.arange(count, device=data.device) * data.P // count) - data.centre
                self._samples[m] = (rows if m == data.N else self.coordinates(rows, m)).float()
            return self._samples[m]

    def expected_energy(self, block: Block, sigmas: float) -> torch.Tensor:
        r"""(B,) what |x - xi|^2/2 hardly passes for the pattern xi that a query x = xi + sqrt(t) z is a noised copy of.

            |x - xi|^2/2 = t |z|^2/2   and   |x|^2/2 - v,   v = x.xi - |xi|^2/2 = |xi|^2/2 + sqrt(t) z.xi,

        whichever is known better: the first has a standard deviation of t sqrt(N/2), the second of sqrt(t) |xi|.
        """
        t, N, half = block.t, self.data.N, self._half_norms()
        from_noise = t * (N / 2 + sigmas * math.sqrt(N / 2))
        least = (half - sigmas * (2 * half * t[:, None]).sqrt()).amin(1)
        return torch.minimum(from_noise, block.norm.square() / 2 - least)

    def _half_norms(self) -> torch.Tensor:
        """(QUANTILES,) of |xi|^2/2 over the sample."""
        if self._quantiles is None:
            half = self.sample(self.data.N).double().square().sum(1) / 2
            at = torch.linspace(0, 1, QUANTILES, dtype=half.dtype, device=half.device)
            self._quantiles = torch.quantile(half, at)
        return self._quantiles

    def shares(self, centred: torch.Tensor, energy: torch.Tensor, m: int) -> torch.Tensor:
        """Share of the sample, a query, whose bound on |x - xi|^2/2 does not pass `energy` (b,); centred (b, N)."""
        left = centred if m == self.data.N else self.coordinates(centred, m)
        bound = torch.cdist(left.float(), self.sample(m), compute_mode="use_mm_for_euclid_dist").square_()
        return (bound <= 2 * energy[:, None]).double().mean(1)

    def _rows(self) -> int:
        """Rows of the sample."""
        return min(self.data.P, max(SAMPLE, 2 * self.data.N) if self.data.N <= LARGEST_COVARIANCE else SAMPLE)

    def _principal_axes(self) -> torch.Tensor:
        data, most, count = self.data, max(self.sizes()), self._rows()
        rows = data.rows(torch.arange(count, device=data.device) * data.P // count) - data.centre
        if data.N <= LARGEST_COVARIANCE:
            return torch.linalg.eigh(rows.T @ rows).eigenvectors.flip(1)[:, :most].contiguous()
        weights = torch.linalg.eigh(rows @ rows.T).eigenvectors.flip(1)[:, :most]
        return torch.linalg.qr(rows.T @ weights).Q.contiguous()
