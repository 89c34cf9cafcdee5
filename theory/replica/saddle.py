"""Saddle points of a replica action, as arrays, and the branch that dominates where there are two."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from numerics.solvers import Status

__all__ = ["Saddle", "dominant"]


@dataclass(frozen=True)
class Saddle:
    r"""Saddle points, arrays of one shape.

    Attributes
    ----------
    g, g_beta, g_delta : free entropy and its explicit derivatives
    m, q, Q, V, sigma : overlaps; ``V = Q - q``, ``sigma`` the variance of the teacher's field given the student's
    c_hat, m_hat, q_hat : their conjugates
    residual : largest change of a conjugate (in the variable iterated, logarithmic when large) in one more iteration
    iterations, status : evaluations of the channel, `Status`
    branch : 0 where one saddle was found, 1 (2) where two were and the uninformative (informative) one dominates
    gap : free entropy of the informative saddle minus that of the uninformative one, 0 where they are one
    exps : exponentials spent
    """

    g: np.ndarray
    g_beta: np.ndarray
    g_delta: np.ndarray
    m: np.ndarray
    q: np.ndarray
    Q: np.ndarray
    V: np.ndarray
    sigma: np.ndarray
    c_hat: np.ndarray
    m_hat: np.ndarray
    q_hat: np.ndarray
    residual: np.ndarray
    iterations: np.ndarray
    status: np.ndarray
    branch: np.ndarray
    gap: np.ndarray
    exps: np.ndarray

    @property
    def ok(self) -> np.ndarray:
        return self.status == Status.OK

    def reshape(self, shape) -> Saddle:
        """The same with every array reshaped."""
        return Saddle(*(getattr(self, f.name).reshape(shape) for f in fields(self)))

    def take(self, cells) -> Saddle:
        """The cells `cells`."""
        return Saddle(*(getattr(self, f.name)[cells] for f in fields(self)))

    def replaced(self, cells, other: Saddle) -> Saddle:
        """A copy with the cells `cells` taken from `other`."""
        parts = []
        for f in fields(self):
            part = getattr(self, f.name).copy()
            part[cells] = getattr(other, f.name)
            parts.append(part)
        return Saddle(*parts)


def dominant(low: Saddle, high: Saddle) -> Saddle:
    """Cell by cell the saddle of larger free entropy; `branch` and `gap` say whether there were two."""
    distinct = low.ok & high.ok & (np.abs(low.V - high.V) > 1e-5 * np.maximum(low.V, high.V))
    gap = np.where(distinct, high.g - low.g, 0.0)
    pick_high = np.where(distinct, gap > 0, ~low.ok)
    out = low.replaced(pick_high, high.take(pick_high))
    branch = np.where(distinct, 1 + pick_high, 0).astype(np.int8)
    parts = {f.name: getattr(out, f.name) for f in fields(out)}
    parts.update(branch=branch, gap=gap, iterations=low.iterations + high.iterations, exps=low.exps + high.exps)
    return Saddle(**parts)
