r"""Principal axes of points: an N x N matrix where that is small, else an orthogonal map made of reflections.

P points span P - 1 directions about their mean. Their thin singular value decomposition gives these; Householder reflections
complete them to an orthogonal map of R^N, of which only the N x P numbers of the reflections are held:

.. math:: A=H_1\cdots H_r,\qquad A_{\cdot i}=\pm v_i\ (i\le r).

Nothing is left out: the other N - r axes are an arbitrary basis of the directions without variance, as the matrix's are.
"""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["AXES", "MatrixAxes", "ReflectedAxes", "principal_axes"]

AXES = 8192  # numbers a point up to which the matrix is made; beyond, training points at most


class MatrixAxes:
    """Axes as the columns of an orthogonal matrix (N, N)."""

    def __init__(self, matrix: torch.Tensor):
        self.matrix = matrix

    def turned(self, x: torch.Tensor) -> torch.Tensor:
        """(..., N) coordinates along the axes."""
        return x @ self.matrix

    def back(self, z: torch.Tensor, block: slice = slice(None)) -> torch.Tensor:
        """(..., N) points from coordinates (..., N); from those of a block of axes alone, the others taken as 0."""
        return z[..., block] @ self.matrix[:, block].T

    def to(self, device: Any) -> MatrixAxes:
        """The same on another device."""
        return MatrixAxes(self.matrix.to(device))


class ReflectedAxes:
    """Axes of which the first are, up to their signs, orthonormal columns (N, r), r <= N; see the module."""

    def __init__(self, columns: torch.Tensor):
        self.reflections, self.factors = torch.geqrf(columns)

    def turned(self, x: torch.Tensor) -> torch.Tensor:
        """(..., N) coordinates along the axes."""
        return self._act(x, transpose=False)

    def back(self, z: torch.Tensor, block: slice = slice(None)) -> torch.Tensor:
        """(..., N) points from coordinates (..., N); from those of a block of axes alone, the others taken as 0."""
        inside = torch.zeros_like(z)
        inside[..., block] = z[..., block]
        return self._act(inside, transpose=True)

    def to(self, device: Any) -> ReflectedAxes:
        """The same on another device."""
        other = object.__new__(ReflectedAxes)
        other.reflections, other.factors = self.reflections.to(device), self.factors.to(device)
        return other

    def _act(self, rows: torch.Tensor, *, transpose: bool) -> torch.Tensor:
        flat = rows.reshape(-1, rows.shape[-1])
        return torch.ormqr(self.reflections, self.factors, flat, left=False, transpose=transpose).reshape(rows.shape)


def principal_axes(X: torch.Tensor, most: int | None = None) -> tuple[torch.Tensor, MatrixAxes | ReflectedAxes]:
    """Variances (N,) of centred points X (P, N) along their principal axes, decreasing, and the axes.

    most : numbers a point up to which the matrix is made (default `AXES`); beyond, P <= `most` is for the caller to see to

    >>> values, axes = principal_axes(torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    >>> [round(v, 6) for v in values.tolist()], axes.turned(torch.eye(2)).abs().round().tolist()
    ([2.666667, 0.666667], [[1.0, 0.0], [0.0, 1.0]])
    """
    P, N = X.shape
    if (AXES if most is None else most) >= N:
        values, axes = torch.linalg.eigh(X.T @ X / (P - 1))
        return _cleared(values.flip(0).clamp_min(0)), MatrixAxes(axes.flip(1))
    _, s, rows = torch.linalg.svd(X, full_matrices=False)
    values = torch.zeros(N, dtype=X.dtype, device=X.device)
    values[: len(s)] = s.square() / (P - 1)
    values = _cleared(values)
    return values, ReflectedAxes(rows[: int((values > 0).sum())].T)


def _cleared(values: torch.Tensor) -> torch.Tensor:
    return torch.where(values < 1e-12 * values[0], 0.0, values)
