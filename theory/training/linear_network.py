r"""The linear network against training time: the first row of the theory, where a mode's rate is its noised variance.

Gradient flow from zero on :math:`\frac1N E\|W(\xi+\sqrt t\omega)-\xi\|^2`, N of the sample covariance :math:`\hat C` taken
as the time unit, is exactly solvable, :math:`\dot W=-2[W(\hat C+t)-\hat C]`:

.. math:: W(\tau)=\hat C(\hat C+t)^{-1}\big(1-e^{-2\tau(\hat C+t)}\big),\qquad 1-W=f_\tau(\hat C).

Losses are contour integrals, as in `theory.training.learning_curves`, with the one-point function
:math:`\frac1N\mathrm{tr}(\hat C-z)^{-1}=-\frac1z\int\rho\frac\kappa{r+\kappa}` and the two-point function

.. math:: \tfrac1N\mathrm{tr}(\hat C-z_1)^{-1}\Sigma(\hat C-z_2)^{-1}
   =\frac{\kappa_1\kappa_2}{z_1z_2}\,\frac{\int\rho\frac
   r{(r+\kappa_1)(r+\kappa_2)}}{1-\gamma\int\rho\frac{r^2}{(r+\kappa_1)(r+\kappa_2)}},

kappa(z) the root of `finite_sample_noise`'s equation at t = -z. At the end of training it is `finite_sample_loss`. Source:
rates [WP25], kappa [W26], curves at finite P [ours: docs/derivations/training_time.md].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numerics.domain import DomainError, times
from theory.models import GaussianModel
from theory.rem import covariance_nodes
from theory.training.finite_samples import NODES, LinearDenoiserLoss, finite_sample_loss, loads, lowered

__all__ = ["linear_network_curve"]

_HEIGHT, _NODES_PER_E_FOLD, _LEAST_NODES = 1.25, 20, 160  # of the ellipse in log(z + t)
_FAR, _STEPS = 1e4, 200  # the branch kappa = -z is followed from this many times the largest |z|


def linear_network_curve(model: GaussianModel, tau: Any, P: Any, N: Any = None, t: Any = None) -> LinearDenoiserLoss:
    r"""Expected denoising loss per dimension of a linear network after training time tau on P samples.

    A direction of variance r is learned at rate 2(r + t): high variance first. What a direction ends at is set by the samples.

    Parameters
    ----------
    model : Isotropic, LinearManifold, Subspaces, Spectrum or HiddenManifold
    tau : number or array >= 0; infinity is allowed
        Training time, :math:`\dot W=-\nabla_W[\mathrm{tr}(1-W)\hat C(1-W)^\top+t\,\mathrm{tr}WW^\top]`, in inverse squared
        data units.
    P, N, t : numbers > 0
        Training samples, dimension (known to a Spectrum), VE time.

    Returns
    -------
    LinearDenoiserLoss with arrays of the shape of tau; `population` is the loss at P to infinity *and* the end of training

    Raises
    ------
    DomainError
        tau < 0 or NaN; P, N or t not a number > 0.

    Notes
    -----
    The failure that looks normal: the end of training need not be its best moment. For noise far below the data's variances
    the test loss only falls. For noise far above them it is least at
    :math:`\tau=\frac1{2t}\log(1+\langle r^2\rangle/(\gamma\langle r\rangle^2))`; in between, and with few samples, the end may be
    worse by a tenth or more (isotropic, t = 10: 7.5 % at P = 0.4 N, 18 % at P = 0.05 N).
    Source: [WP25], [W26], [ours: docs/derivations/training_time.md].

    >>> from theory import Isotropic
    >>> curve = linear_network_curve(Isotropic(1.0), [0.0, 0.5, np.inf], P=50, N=100, t=0.2)
    >>> curve.test.round(4).tolist()
    [1.0, 0.6295, 0.591]
    """
    tau = times("tau", tau)
    load, noise = (x for x in loads(model, P, N, t))
    if load.ndim or noise.ndim:
        raise DomainError("P, N, t", (P, N, t), "one number each")
    gamma, noise = float(load), float(noise)
    weights, values = covariance_nodes(model, NODES)
    z, dz = _contour(noise, values.max() * (1 + np.sqrt(gamma)) ** 2)
    kappa = _followed(z, gamma, weights, values)
    inverse = 1 / (values + kappa[:, None])
    one = -(kappa / z) * (inverse @ weights)
    two = [_pairs(kappa, z, inverse, weights, values, gamma, other) for other in (np.asarray, np.conj)]
    finite = np.where(np.isfinite(tau.ravel()), tau.ravel(), 0.0)[:, None]
    fall = np.where(np.isfinite(tau.ravel())[:, None], np.exp(-2 * finite * (z + noise)), 0.0)
    f = (noise + z * fall) / (z + noise)
    rest = _one_point(z * f**2, one, dz)
    square = noise * _one_point((1 - f) ** 2, one, dz)
    F = f * dz
    spread = np.einsum("ti,ij,tj->t", F, two[0], F) - np.einsum("ti,ij,tj->t", F, two[1], F.conj())
    test = -spread.real / (2 * np.pi**2) + square
    population = np.full(tau.shape, finite_sample_loss(model, P, N, t).population)
    return LinearDenoiserLoss((rest + square).reshape(tau.shape), test.reshape(tau.shape), population)


def _contour(noise: float, highest: float) -> tuple[np.ndarray, np.ndarray]:
    """Upper half of an ellipse in log(z + t) about [0, highest], and dz: the pole at -t stays outside."""
    half = 0.5 * np.log1p(highest / noise)
    n = max(_LEAST_NODES, int(2 * half * _NODES_PER_E_FOLD))
    angle = np.pi * (np.arange(n) + 0.5) / n
    wide = np.hypot(half, _HEIGHT)
    shifted = noise * np.exp(half + wide * np.cos(angle) + 1j * _HEIGHT * np.sin(angle))
    return shifted - noise, shifted * (-wide * np.sin(angle) + 1j * _HEIGHT * np.cos(angle)) * np.pi / n


def _followed(z: np.ndarray, gamma: float, weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """kappa along the contour, from kappa = -z far up: Newton's method, each node from the last."""
    residual, slope = lowered("residual"), lowered("slope")
    far = 1j * _FAR * np.abs(z).max()
    path = np.concatenate([far * (z[0] / far) ** (np.arange(_STEPS) / _STEPS), z])
    k, found = -far, []
    for point in path:
        for _ in range(60):
            step = residual(np.array(k), -point, gamma, weights, values) / slope(
                np.array(k), -point, gamma, weights, values
            )
            k = k - step
            if abs(step) < 1e-14 * abs(k):
                break
        found.append(k)
    return np.array(found[_STEPS:])


def _pairs(kappa, z, inverse, weights, values, gamma, other) -> np.ndarray:
    """The two-point function at (z_i, z_j), or at (z_i, conj z_j)."""
    first, second = ((inverse * (weights * values**k)) @ other(inverse).T for k in (1, 2))
    ratio = kappa / z
    return np.outer(ratio, other(ratio)) * first / (1 - gamma * second)


def _one_point(f: np.ndarray, one: np.ndarray, dz: np.ndarray) -> np.ndarray:
    """tr f(C)/N."""
    return -(f * one * dz).imag.sum(axis=1) / np.pi
