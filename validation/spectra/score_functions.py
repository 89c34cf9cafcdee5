r"""One face for every score: exact, empirical, or a trained network, as `score(x, t)` with a Jacobian behind it.

    score(x, t) = grad log P_t(x),    J = d score/dx = Cov(xi|x)/t^2 - 1/t

Closed forms give the Jacobian from the posterior covariance; anything else that torch can evaluate gives it by differentiation
(`validation.spectra.jacobians`). What `validation.spectra` measures, it measures through this face alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from numerics.domain import DomainError, nonnegative, positive
from theory.subspaces import normalised_posterior
from validation.score import EmpiricalScore
from validation.spectra.jacobians import Derivative, Differentiation
from validation.spectra.module_state import as_found, modules_of

__all__ = [
    "AutogradScore",
    "Empirical",
    "FittedGaussian",
    "GaussianScore",
    "NormalisedScore",
    "ScoreFunction",
    "as_score",
]


@runtime_checkable
class ScoreFunction(Protocol):
    """A score and its Jacobian at float64 points x of shape (B, N) and one noise variance t > 0."""

    def score(self, x: torch.Tensor, t: float) -> torch.Tensor:
        """(B, N)"""

    def jacobian(self, x: torch.Tensor, t: float) -> torch.Tensor:
        """(B, N, N), entry (i, j) the derivative of component i by coordinate j."""


class GaussianScore:
    r"""The exact score of Gaussian data with independent coordinates, :math:`-x_i/(t+\sigma_i^2)`.

    Parameters
    ----------
    variances : (N,) numbers >= 0

    >>> GaussianScore([1.0, 0.0]).score(torch.ones(1, 2, dtype=torch.float64), 1.0).tolist()
    [[-0.5, -1.0]]
    """

    def __init__(self, variances: Any):
        self.variances = torch.from_numpy(np.array(nonnegative("variances", variances)))

    def score(self, x: torch.Tensor, t: float) -> torch.Tensor:
        return -x / (t + self.variances.to(x.device))

    def jacobian(self, x: torch.Tensor, t: float) -> torch.Tensor:
        return torch.diag_embed((-1 / (t + self.variances.to(x.device))).expand(len(x), -1))


class FittedGaussian:
    r"""The score of the Gaussian with a sample's mean and covariance, and its denoiser.

    .. math:: s(x,t)=-(\Sigma+t)^{-1}(x-m),\qquad D(x,t)=x+t\,s(x,t).

    Parameters
    ----------
    X : (P, N) float64 tensor

    `axes` (k, N) are the principal directions, one a row, k = min(P, N), and `variances` (k,) along them, largest first: off
    these axes the sample has none. Variances below 1e-16 of the largest are rounding.

    >>> X = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]], dtype=torch.float64)
    >>> FittedGaussian(X).denoise(torch.ones(1, 2, dtype=torch.float64), 2.0).round(decimals=6).tolist()
    [[0.2, 0.5]]
    """

    def __init__(self, X: torch.Tensor):
        P, N = X.shape
        self.mean = X.mean(dim=0)
        if N <= P:
            centred = X - self.mean
            values, axes = torch.linalg.eigh(centred.T @ centred / P)
            self.variances, self.axes = values.flip(0).clamp_min(0), axes.T.flip(0)
        else:
            _, s, self.axes = torch.linalg.svd(X - self.mean, full_matrices=False)
            self.variances = s.square() / P

    def score(self, x: torch.Tensor, t: float) -> torch.Tensor:
        z = x - self.mean
        along = z @ self.axes.T
        inside = -(along / (t + self.variances)) @ self.axes
        return inside if len(self.axes) == z.shape[-1] else inside - (z - along @ self.axes) / t

    def denoise(self, x: torch.Tensor, t: float) -> torch.Tensor:
        """The posterior mean of the clean point, (B, N), without the cancellation of x + t s."""
        return self.mean + ((x - self.mean) @ self.axes.T * (self.variances / (t + self.variances))) @ self.axes

    def jacobian(self, x: torch.Tensor, t: float) -> torch.Tensor:
        pull = (self.axes.T * (self.variances / (t * (t + self.variances)))) @ self.axes
        return (pull - torch.eye(x.shape[1], dtype=x.dtype, device=x.device) / t).expand(len(x), -1, -1)


class NormalisedScore:
    """The exact score of Gaussian data rescaled to a fixed norm, see `theory.subspaces.normalised_data`.

    Parameters
    ----------
    variances : (N,) numbers >= 0, before rescaling; norm : the fixed norm (default the root of their sum)
    radii, nodes : of the quadrature

    The failure that looks normal: its time is 0.05 s a point, since each is a double integral.
    """

    def __init__(self, variances: Any, norm: float | None = None, *, radii: int = 40, nodes: int = 120):
        self.variances = np.array(nonnegative("variances", variances))
        self.norm = float(np.sqrt(self.variances.sum())) if norm is None else float(positive("norm", norm))
        self.options = {"radii": radii, "nodes": nodes}

    def _moments(self, x: torch.Tensor, t: float) -> tuple[torch.Tensor, torch.Tensor]:
        moments = normalised_posterior(self.variances, x.cpu().numpy(), t, norm=self.norm, **self.options)
        return tuple(torch.from_numpy(m).to(x.device) for m in moments)

    def score(self, x: torch.Tensor, t: float) -> torch.Tensor:
        return (self._moments(x, t)[0] - x) / t

    def jacobian(self, x: torch.Tensor, t: float) -> torch.Tensor:
        return self._moments(x, t)[1] / t**2 - torch.eye(x.shape[1], dtype=x.dtype, device=x.device) / t


class Empirical:
    """The empirical score of a training set, by `EmpiricalScore`, in float64.

    Parameters
    ----------
    X : (P, N) finite reals, or an `EmpiricalScore`
    device : torch device
    """

    def __init__(self, X: Any, device: str = "cpu"):
        self.engine = X if isinstance(X, EmpiricalScore) else EmpiricalScore(X, device=device, dtype="float64")

    def score(self, x: torch.Tensor, t: float) -> torch.Tensor:
        return self.engine.score(x, t)

    def jacobian(self, x: torch.Tensor, t: float) -> torch.Tensor:
        return self.engine.jacobian(x, t)

    def spectrum(self, x: torch.Tensor, t: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Eigenvalues (B, N) of the Jacobian, ascending, and its diagonal (B, N), from the support of the weights alone."""
        operator = self.engine.jacobian_operator(x, t)
        return operator.eigenvalues(), operator.diagonal()

    def participation(self, x: torch.Tensor, t: float) -> torch.Tensor:
        r"""Effective number of training points, :math:`1/\sum_\mu w_\mu^2`, (B,)."""
        return self.engine.participation(x, t)


class AutogradScore:
    """Any `function(x, t)` on (B, N) points that treats them one by one: a network, or a formula in torch.

    Parameters
    ----------
    function : callable (x (B, N), t float) -> (B, N), e.g. a `torch.nn.Module`. Its modules are in evaluation mode while they
        are asked, and left as they were found (`validation.spectra.module_state`).
    chunk : points differentiated at once

    `derivative` says how the last Jacobian was found: forward mode, or what else the function allows, with its error
    (`validation.spectra.jacobians`); None before the first.

    The failure that looks normal: a function that mixes the points of a batch has a Jacobian that depends on the company a
    point keeps.

    >>> face = AutogradScore(lambda x, t: -x / t)
    >>> face.jacobian(torch.ones(1, 2, dtype=torch.float64), 0.5).diagonal(dim1=1, dim2=2).tolist()
    [[-2.0, -2.0]]
    >>> print(face.derivative)
    forward mode
    """

    def __init__(self, function: Callable[[torch.Tensor, float], torch.Tensor], chunk: int = 64):
        if not callable(function):
            raise DomainError("function", function, "a callable of (x, t) that returns the score at x")
        self.function = function
        self.differentiation = Differentiation(chunk=chunk)
        self.products = "float32"  # precision of products with its Jacobian, see `validation.spectra.precision`
        self.compared: set[str] = set()  # products with its Jacobian that agreed with difference quotients, or stacked
        self.apart: set[str] = set()  # products that several vectors change: the function mixes its batch

    @property
    def chunk(self) -> int:
        """Points differentiated at once."""
        return self.differentiation.chunk

    @property
    def modules(self) -> list[torch.nn.Module]:
        """Those that the function asks, looked up at every call: a name in it may have come to mean another."""
        return modules_of(self.function)

    @property
    def derivative(self) -> Derivative | None:
        return self.differentiation.derivative

    def score(self, x: torch.Tensor, t: float) -> torch.Tensor:
        with as_found(self.modules):
            return self._checked(x, t)

    def jacobian(self, x: torch.Tensor, t: float) -> torch.Tensor:
        modules = self.modules
        with as_found(modules):
            self._checked(x[:1], t)
            return self.differentiation(lambda points: self.function(points, t), x, float(t) ** 0.5, modules)

    def _checked(self, x: torch.Tensor, t: float) -> torch.Tensor:
        with torch.no_grad():
            value = self.function(x.clone(), t)  # which may write into it
        if not isinstance(value, torch.Tensor) or value.shape != x.shape:
            raise DomainError(
                "function", getattr(value, "shape", value), f"one whose result has shape {tuple(x.shape)}"
            )
        return value.detach()


def as_score(score: Any) -> ScoreFunction:
    """Whatever has a score, as a `ScoreFunction`: one already, an `EmpiricalScore`, a torch module, or a callable (x, t)."""
    if isinstance(score, EmpiricalScore):
        return Empirical(score)
    if isinstance(score, ScoreFunction):
        return score
    if callable(score):
        return AutogradScore(score)
    raise DomainError("score", score, "a ScoreFunction, an EmpiricalScore, a torch module or a callable of (x, t)")
