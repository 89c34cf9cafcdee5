r"""The weight that competes with a point's own, at its noisy versions, summed over the other points.

With :math:`D_\nu=|\xi^\mu-\xi^\nu|` and :math:`c_{\nu m}=\omega_m\cdot(\xi^\mu-\xi^\nu)`, relative to the own term,

.. math:: S_m=\sum_\nu e^{-D_\nu^2/2t-c_{\nu m}/\sqrt t},\qquad
          \frac{dS_m}{d\log t}=\sum_\nu e^{-D_\nu^2/2t-c_{\nu m}/\sqrt t}\Big[\frac{D_\nu^2}{2t}+\frac{c_{\nu m}}{2\sqrt t}\Big].

All points share the draws :math:`\omega_m`, so that :math:`c_{\nu m}=p_{\mu m}-p_{\nu m}` costs one subtraction a pair.
No exponent exceeds :math:`\max_\nu(c_{\nu m}/D_\nu)^2/2`, half the square of a standard normal number: nothing overflows.
The loop over the other points is compiled; `competing_sums_torch` says the same in plain torch, for accelerators and as its
referee.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit

from validation.score.kernels import COMPILED, exp

__all__ = ["competing_sums", "competing_sums_torch"]

_FLAGS = {"reassoc", "contract", "nsz", "nnan"}  # infinite distances (points that do not count) stay legal


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FLAGS)
def _row(squared, own, p, a, b):
    """Sum and its derivative in log t over one row of squared distances, in their precision."""
    zero, half = squared.dtype.type(0), squared.dtype.type(0.5)
    floor = squared.dtype.type(80)
    s, d = zero, zero
    for j in range(squared.shape[0]):
        x = squared[j] * a
        y = (own - p[j]) * b
        e = exp(-(x + y))
        e = e if x + y < floor else zero
        x = x if x + y < floor else zero
        s += e
        d += e * (x + half * y)
    return s, d


@njit(cache=True, nogil=True, error_model="numpy")
def _block(squared, own, p, t, rows, S, dS):
    one = squared.dtype.type(1)
    step = 4096
    for i in rows:
        a = squared.dtype.type(0.5 / t[i])
        b = one / squared.dtype.type(np.sqrt(t[i]))
        for m in range(p.shape[0]):
            S[i, m] = 0.0
            dS[i, m] = 0.0
        for start in range(0, squared.shape[1], step):
            stop = min(start + step, squared.shape[1])
            part = squared[i, start:stop]
            for m in range(p.shape[0]):
                s, d = _row(part, own[m, i], p[m, start:stop], a, b)
                S[i, m] += s
                dS[i, m] += d


def competing_sums(
    squared: torch.Tensor, own: torch.Tensor, p: torch.Tensor, t: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(S, dS/dlog t), both (len(rows), M) float64, of some rows of a block.

    squared : (B, n) squared distances, infinite for points that do not count; own : (M, B) products of the draws with the
    block's points; p : (M, n) those with the other points; t : (B,) > 0; rows : (R,) of the block
    """
    if not COMPILED or squared.device.type != "cpu":
        return competing_sums_torch(squared, own, p, t, rows)
    S, dS = np.empty((len(squared), len(p))), np.empty((len(squared), len(p)))
    _block(squared.numpy(), own.numpy(), p.numpy(), t, rows, S, dS)
    return S[rows], dS[rows]


def competing_sums_torch(
    squared: torch.Tensor, own: torch.Tensor, p: torch.Tensor, t: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`competing_sums` in plain torch."""
    chosen = torch.from_numpy(rows).to(squared.device)
    level = torch.from_numpy(t[rows]).to(squared)
    x = squared[chosen] / (2 * level[:, None])
    S = torch.empty(len(rows), len(p), dtype=torch.float64, device=squared.device)
    dS = torch.empty_like(S)
    for m in range(len(p)):
        y = (own[m][chosen][:, None] - p[m]) / level.sqrt()[:, None]
        e = torch.exp(-(x + y))
        S[:, m] = e.sum(1)
        dS[:, m] = torch.where(e > 0, e * (x + y / 2), 0.0).sum(1)
    return S.cpu().numpy(), dS.cpu().numpy()
