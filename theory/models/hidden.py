"""The nonlinear hidden manifold model: a data model whose law is not Gaussian, so that times need the replica method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from numerics.display import Shown
from numerics.domain import DomainError
from theory.models.activations import Activation, activation
from theory.models.gaussian import LinearManifold

__all__ = ["HiddenManifold"]


@dataclass(frozen=True)
class HiddenManifold(Shown):
    r"""Hidden manifold model, :math:`\xi_i=s(F_i\cdot z/\sqrt D)` with Gaussian `F` (N x D) and :math:`D=\alpha_DN`.

    Parameters
    ----------
    alpha_D : number > 0, or array of such
        Latent over ambient dimension. An array broadcasts with the other arguments of a function.
    activation : str, sympy expression in one symbol, callable, or `theory.models.activations.Activation`
        :math:`s`; names: identity, tanh, erf, relu, leaky_relu, sign, abs, sin, quadratic. What is expensive (tables, drifts) is
        kept for each activation; a callable is known by identity, so a lambda written anew in every call is computed anew:
        keep one function, or pass a sympy expression.
    variances, fractions : sequences, optional
        Latent variances :math:`s_k` of fractions :math:`f_k` of the D latent directions (default: one, equal to 1).

    Raises
    ------
    DomainError
        alpha_D or variances not positive, unknown activation. Source: [GMKZ20].

    >>> HiddenManifold(0.5, "relu").field_variance
    1.0
    """

    alpha_D: Any
    activation: Any = "tanh"
    variances: Any = (1.0,)
    fractions: Any = None

    _law = r"\xi_i=s(F_i\cdot z/\sqrt D),\quad D=\alpha_DN"

    def __post_init__(self):
        latent = LinearManifold(self.alpha_D, self.variances, self.fractions)
        if not isinstance(latent.alpha_D, (float, np.ndarray)):
            raise DomainError("alpha_D", self.alpha_D, "a number > 0 or an array of such", "no closed form exists")
        for name in ("alpha_D", "variances", "fractions"):
            object.__setattr__(self, name, getattr(latent, name))
        activation(self.activation)

    @property
    def s(self) -> Activation:
        """The activation, resolved."""
        return activation(self.activation)

    @property
    def field_variance(self) -> float:
        r"""Variance of the local field, :math:`\rho_h=\sum_kf_ks_k`."""
        return float(np.dot(self.fractions, self.variances))

    @property
    def mean_variance(self) -> float:
        r"""Data variance per dimension, :math:`E s^2-(E s)^2`, conditional on `F`."""
        _, linear, rest = self.s.linear_and_noise(self.field_variance)
        return linear**2 * self.field_variance + rest
