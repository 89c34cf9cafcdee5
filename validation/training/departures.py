r"""Do the losses of training points lie below those of held-out points by more than chance? A rank test at a stated rate.

Training and held-out points are parts of one random order. As long as the network knows nothing of single training points,
membership is a label that was drawn afterwards: losses are exchangeable. So is any quantity made of losses and points without
the labels, here the residual of log losses after a regression on the log loss of a reference, the linear denoiser of the
pooled points, which takes out what makes one point harder than another. Mann and Whitney's test asks for the order of
the residuals alone and needs no law of the losses.

    one comparison alarms at p < rate/(checks x levels x networks)

By Bonferroni's inequality at most `rate` of runs that do not memorise alarm, at any check, level or network, whatever
the comparisons share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy import stats

from numerics.domain import DomainError, finite, positive

__all__ = ["departure", "least_p", "reference_losses"]


def departure(
    train: np.ndarray, held_out: np.ndarray, train_reference: np.ndarray, held_out_reference: np.ndarray
) -> np.ndarray:
    """One-sided p-values of "losses of training points are as large as those of held-out points", (L,).

    Parameters
    ----------
    train, held_out : (L, n), (L, m) losses >= 0 at L noise levels; n, m >= 2
    train_reference, held_out_reference : of the same shapes, of a function that does not know which points are which

    Raises
    ------
    DomainError : other shapes, negative or infinite losses

    The failure that looks normal: held-out points of another source than the training points are told apart without any
    memorisation. Ask at a step before training too.

    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.gamma(9, size=(1, 50)), rng.gamma(9, size=(1, 60))
    >>> float(departure(a, b, a, b)[0]) > 0.01, float(departure(a / 3, b, a, b)[0]) < 1e-10
    (True, True)
    """
    arrays = [np.atleast_2d(finite("losses", x)) for x in (train, held_out, train_reference, held_out_reference)]
    shapes = [x.shape for x in arrays]
    paired = shapes[0] == shapes[2] and shapes[1] == shapes[3] and shapes[0][0] == shapes[1][0]
    if not paired or min(shapes[0][1], shapes[1][1]) < 2 or any((x < 0).any() for x in arrays):
        raise DomainError("losses", shapes, "(L, n), (L, m) losses >= 0 and references of the same shapes, n, m >= 2")
    logs = [np.log(np.maximum(x, np.finfo(float).tiny)) for x in arrays]
    y, z = np.concatenate(logs[:2], axis=1), np.concatenate(logs[2:], axis=1)
    y, z = y - y.mean(axis=1, keepdims=True), z - z.mean(axis=1, keepdims=True)
    slope = (y * z).sum(axis=1) / np.maximum((z * z).sum(axis=1), np.finfo(float).tiny)
    residual = y - slope[:, None] * z
    n = shapes[0][1]
    found = stats.mannwhitneyu(residual[:, :n], residual[:, n:], alternative="less", axis=1)
    return np.atleast_1d(found.pvalue)


def least_p(n: int, m: int) -> float:
    """The p-value of complete separation of n and m points: where it is above the threshold, no alarm is possible.

    >>> round(1 / least_p(2, 4))
    15
    """
    losses = np.concatenate([np.full((1, n), 1.0), np.full((1, m), 2.0)], axis=1) + 1e-3 * np.arange(n + m)
    return float(stats.mannwhitneyu(losses[0, :n], losses[0, n:], alternative="less").pvalue)


def reference_losses(clean: np.ndarray, noise: Sequence[Iterable[np.ndarray]], t: np.ndarray) -> np.ndarray:
    r"""|D - xi|^2/(N t) of the linear denoiser of these very points, mean over draws, (L, B).

    With c the points less their mean and C = c^T c/B: D = mean + C (C + t)^{-1} (c + sqrt(t) omega).

    clean : (B, N); noise : for each of L levels its draws, each (B, N); t : (L,) > 0
    """
    c, t = clean - clean.mean(axis=0), positive("t", t)
    _, singular, V = np.linalg.svd(c, full_matrices=False)
    r, modes = singular**2 / len(c), c @ V.T
    out = np.empty((len(t), len(c)))
    for k, level in enumerate(t):  # the points lie in the span of the modes, and so does what the denoiser returns
        gain = r / (r + level)
        errors = [gain * (modes + np.sqrt(level) * (omega @ V.T)) - modes for omega in noise[k]]
        out[k] = np.mean([(e**2).sum(axis=1) for e in errors], axis=0) / (c.shape[1] * level)
    return out
