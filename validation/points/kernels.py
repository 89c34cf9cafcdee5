r"""The weight that competes with a point's own, at its noisy versions, summed over the other points.

With :math:`D_\nu=|\xi^\mu-\xi^\nu|` and :math:`c_{\nu m}=\omega_m\cdot(\xi^\mu-\xi^\nu)`, relative to the own term,

.. math:: S_m=\sum_\nu e^{-D_\nu^2/2t-c_{\nu m}/\sqrt t},\qquad
          \frac{dS_m}{d\log t}=\sum_\nu e^{-D_\nu^2/2t-c_{\nu m}/\sqrt t}\Big[\frac{D_\nu^2}{2t}+\frac{c_{\nu m}}{2\sqrt t}\Big].

All points share the draws :math:`\omega_m`, so that :math:`c_{\nu m}=p_{\mu m}-p_{\nu m}` costs one subtraction a pair and draw.
No exponent exceeds :math:`\max_\nu(c_{\nu m}/D_\nu)^2/2`, half the square of a standard normal number: nothing overflows. Pairs
with :math:`D_\nu^2` above `reach` t are passed over; `validation.points.competitors` says what that can change.
The loop over the other points is compiled; `competing_sums_torch` says the same in plain torch, for accelerators and as its
referee.
"""

from __future__ import annotations

import numpy as np
import torch

from numerics.kernel_cache import njit
from validation.score.kernels import COMPILED, exp

__all__ = ["NearPairs", "competing_sums", "competing_sums_torch"]

_FLAGS = {"reassoc", "contract", "nsz"}
_FLUSH = 256  # terms summed in float32 before the sum goes into float64


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FLAGS)
def _add(x, own, p, b, half, s, d):
    """Adds the terms of one other point, all draws, to the sums s and their derivatives d."""
    for m in range(own.shape[0]):
        y = (own[m] - p[m]) * b
        e = exp(-(x + y))
        s[m] += e
        d[m] += e * (x + half * y)


@njit(cache=True, nogil=True, error_model="numpy")
def _block(squared, own, p, t, reach, rows, S, dS):
    real = squared.dtype.type
    half, M = real(0.5), p.shape[1]
    s, d = np.empty(M, squared.dtype), np.empty(M, squared.dtype)
    for i in rows:
        a, b, cut = real(0.5 / t[i]), real(1.0 / np.sqrt(t[i])), real(reach * t[i])
        S[i], dS[i] = 0.0, 0.0
        s[:], d[:] = real(0), real(0)
        terms = 0
        for j in range(squared.shape[1]):
            if squared[i, j] > cut:
                continue
            _add(squared[i, j] * a, own[i], p[j], b, half, s, d)
            terms += 1
            if terms == _FLUSH or j == squared.shape[1] - 1:
                S[i] += s
                dS[i] += d
                s[:], d[:] = real(0), real(0)
                terms = 0
        S[i] += s
        dS[i] += d


@njit(cache=True, nogil=True, error_model="numpy")
def _count(squared, cut, counts):
    for i in range(squared.shape[0]):
        counts[i] = 0
        for j in range(squared.shape[1]):
            counts[i] += squared[i, j] <= cut[i]


@njit(cache=True, nogil=True, error_model="numpy")
def _gather(squared, cut, near, index):
    for i in range(squared.shape[0]):
        k = 0
        for j in range(squared.shape[1]):
            if squared[i, j] <= cut[i]:
                near[i, k], index[i, k] = squared[i, j], j
                k += 1


@njit(cache=True, nogil=True, error_model="numpy")
def _listed(near, index, counts, own, p, t, reach, rows, S, dS):
    real = near.dtype.type
    half, M = real(0.5), p.shape[1]
    s, d = np.empty(M, near.dtype), np.empty(M, near.dtype)
    for i in rows:
        a, b, cut = real(0.5 / t[i]), real(1.0 / np.sqrt(t[i])), real(reach * t[i])
        S[i], dS[i] = 0.0, 0.0
        s[:], d[:] = real(0), real(0)
        for k in range(counts[i]):
            if near[i, k] <= cut:
                _add(near[i, k] * a, own[i], p[index[i, k]], b, half, s, d)
            if k % _FLUSH == _FLUSH - 1:
                S[i] += s
                dS[i] += d
                s[:], d[:] = real(0), real(0)
        S[i] += s
        dS[i] += d


class NearPairs:
    """The pairs of a block whose squared distance is at most `cut` (B,), listed once for many noise levels.

    Worth its making where they are few; `sums` is `competing_sums` for levels that look no farther.
    """

    def __init__(self, squared: np.ndarray, cut: np.ndarray):
        self.cut, self.counts = cut, np.empty(len(squared), dtype=np.int64)
        _count(squared, cut.astype(squared.dtype), self.counts)
        width = int(self.counts.max(initial=0))
        self.few = 4 * width < squared.shape[1]
        if self.few:
            self.near = np.empty((len(squared), width), dtype=squared.dtype)
            self.index = np.empty((len(squared), width), dtype=np.int32)
            _gather(squared, cut.astype(squared.dtype), self.near, self.index)

    def sums(self, own: np.ndarray, p: np.ndarray, t: np.ndarray, rows: np.ndarray, reach: float):
        S, dS = np.empty((len(own), p.shape[1])), np.empty((len(own), p.shape[1]))
        _listed(self.near, self.index, self.counts, own, p, t, reach, rows, S, dS)
        return S[rows], dS[rows]


def competing_sums(
    squared: torch.Tensor, own: torch.Tensor, p: torch.Tensor, t: np.ndarray, rows: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """(S, dS/dlog t), both (len(rows), M) float64, of some rows of a block.

    squared : (B, n) squared distances, infinite for points that do not count; own : (B, M) products of the draws with the
    block's points; p : (n, M) those with the other points; t : (B,) > 0; rows : (R,) of the block; reach : > 0
    """
    if not COMPILED or squared.device.type != "cpu":
        return competing_sums_torch(squared, own, p, t, rows, reach)
    S, dS = np.empty((len(squared), p.shape[1])), np.empty((len(squared), p.shape[1]))
    _block(squared.numpy(), own.numpy(), p.numpy(), t, reach, rows, S, dS)
    return S[rows], dS[rows]


def competing_sums_torch(
    squared: torch.Tensor, own: torch.Tensor, p: torch.Tensor, t: np.ndarray, rows: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """`competing_sums` in plain torch."""
    chosen = torch.from_numpy(rows).to(squared.device)
    level = torch.from_numpy(t[rows]).to(squared)
    near = squared[chosen]
    near = torch.where(near > reach * level[:, None], torch.inf, near)
    x = near / (2 * level[:, None])
    S = torch.empty(len(rows), p.shape[1], dtype=torch.float64, device=squared.device)
    dS = torch.empty_like(S)
    for m in range(p.shape[1]):
        y = (own[chosen, m][:, None] - p[:, m]) / level.sqrt()[:, None]
        e = torch.exp(-(x + y))
        S[:, m] = e.sum(1)
        dS[:, m] = torch.where(e > 0, e * (x + y / 2), 0.0).sum(1)
    return S.cpu().numpy(), dS.cpu().numpy()
