r"""Random features at finite size, with the noise averaged exactly: second moments, and gradient flow by eigenvectors.

For a sample the fields :math:`h_i=w_ix_\nu/\sqrt N` are shifted by noise of variance :math:`\Delta|w_i|^2/N` and correlation
:math:`\rho_{ij}=w_iw_j/|w_i||w_j|`. Mehler's expansion in :math:`\rho`, of order :math:`N^{-1/2}` off the diagonal, sums
the noise:

.. math:: E\,s(h_i)s(h_j)=\sum_kc_{ki}c_{kj}\rho_{ij}^k,\qquad c_{ki}=\tfrac1{\sqrt{k!}}E_g\,He_k(g)\,s(h_i+\sigma_ig);

the diagonal is done exactly, the Hermite coefficients in closed form for erf and by quadrature else. No Gaussian
equivalence is used: this is the network whose limit `theory.RandomFeatures` describes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import erf

from theory.models import activation

__all__ = ["FiniteFeatures", "draw", "flow"]

ORDER = 7  # of Mehler's expansion: what is left out is below N^{-4}
_QUADRATURE = 41  # Gauss-Hermite nodes of the noise


@dataclass(frozen=True, eq=False)
class FiniteFeatures:
    """One draw of weights and data.

    Attributes
    ----------
    U, population : (p, p) float64 arrays
        Second moments of the features over the noised training set, and over the noised law of the data.
    V, V_population : (p, N) float64 arrays
        Their correlation with the noise.
    r : (N,) float64 array
        Variance of each coordinate of the data.
    Delta, decay : float
        :math:`1-e^{-2t}`, :math:`e^{-2t}`.
    """

    U: np.ndarray
    population: np.ndarray
    V: np.ndarray
    V_population: np.ndarray
    r: np.ndarray
    Delta: float
    decay: float


def _erf_coefficients(h: np.ndarray, scale: np.ndarray) -> list[np.ndarray]:
    r"""Hermite coefficients of erf: derivatives of :math:`E\,erf(h+\sigma g)=erf(h/\sqrt{1+2\sigma^2})` by h."""
    width = np.sqrt(1 + 2 * scale**2)
    y = h / width
    out = [erf(y)]
    bell = 2 / math.sqrt(math.pi) * np.exp(-(y**2))
    previous, current = np.zeros_like(y), np.ones_like(y)  # physicists' Hermite polynomials
    for k in range(1, ORDER + 1):
        out.append((-1) ** (k - 1) * bell * current * (scale / width) ** k / math.sqrt(math.factorial(k)))
        previous, current = current, 2 * y * current - 2 * (k - 1) * previous
    return out


def _coefficients(function: Callable, h: np.ndarray, scale: np.ndarray) -> list[np.ndarray]:
    """Hermite coefficients by quadrature: list of ORDER + 1 arrays of the shape of h."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_QUADRATURE)
    weights = weights / weights.sum()
    out = [np.zeros_like(h) for _ in range(ORDER + 1)]
    for g, w in zip(nodes, weights, strict=True):
        value = w * function(h + scale * g)
        previous, current = 0.0, 1.0
        for k in range(ORDER + 1):
            out[k] += value * (current / math.sqrt(math.factorial(k)))
            previous, current = current, g * current - k * previous
    return out


def _second_moments(name: str, h: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """E s s^T over noise of given covariance about the fields h (p, n), averaged over n; and E s' per feature."""
    act = activation(name)
    scale = np.sqrt(np.diag(covariance))
    c = _erf_coefficients(h, scale[:, None]) if act.name == "erf" else _coefficients(act.function, h, scale[:, None])
    rho = covariance / np.outer(scale, scale)
    n = h.shape[1]
    total, power = np.zeros_like(rho), np.ones_like(rho)
    for k in range(ORDER + 1):
        total += (c[k] @ c[k].T) / n * power
        power *= rho
    nodes, weights = np.polynomial.hermite_e.hermegauss(_QUADRATURE)
    weights = weights / weights.sum()
    square = sum(w * act.function(h + scale[:, None] * g) ** 2 for g, w in zip(nodes, weights, strict=True))
    np.fill_diagonal(total, square.mean(axis=1))
    return total, c[1].mean(axis=1) / scale


def draw(r: np.ndarray, p: int, n: int, t: float, name: str, rng: np.random.Generator) -> FiniteFeatures:
    """Weights, n samples with coordinate variances r, and the exact second moments.

    Parameters
    ----------
    r : (N,) float64 array; p, n : int; t : VE time; name : activation; rng : generator
    """
    N = r.size
    Delta, decay = t / (1 + t), 1 / (1 + t)
    W = rng.standard_normal((p, N))
    X = np.sqrt(decay * r)[:, None] * rng.standard_normal((N, n))
    U, slope = _second_moments(name, W @ X / math.sqrt(N), Delta * (W @ W.T) / N)
    whole = (W * (decay * r + Delta)) @ W.T / N
    population, mean_slope = _second_moments(name, np.zeros((p, 1)), whole)
    noise = math.sqrt(Delta / N) * W
    return FiniteFeatures(U, population, slope[:, None] * noise, mean_slope[:, None] * noise, r, Delta, decay)


def flow(made: FiniteFeatures, tau: np.ndarray, groups: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """Gradient flow from zero, by eigenvectors of U: train and test loss and distance to the exact score, each (T,).

    Also "eigenvalues", those of U, (p,), descending.

    Parameters
    ----------
    made : FiniteFeatures
    tau : (T,) array of training times, infinity allowed
    groups : names of groups of coordinates and their indices, optional
        For each, "test NAME" and "train NAME" are the losses of the score's components along these alone.
    """
    p, N = made.V.shape
    values, vectors = np.linalg.eigh(made.U)
    values = np.maximum(values, 1e-300)
    v, v_population = vectors.T @ made.V, vectors.T @ made.V_population
    population = vectors.T @ made.population @ vectors
    groups = {"": np.arange(N), **(groups or {})}
    fall = np.exp(-2 * made.Delta * N / p * np.where(np.isfinite(tau), tau, 0)[:, None] * values)
    fall[~np.isfinite(tau)] = 0.0
    h = (1 - fall) / values  # (T, p)
    slow = np.isfinite(tau)
    h[slow] = -np.expm1(-2 * made.Delta * N / p * np.asarray(tau)[slow, None] * values) / values
    exact = 1 / (made.decay * made.r + made.Delta)
    out = {}
    for name, index in groups.items():
        # losses are quadratic forms of h, whose matrices are the same at every time
        own, both = v[:, index], v_population[:, index]
        train = 1 - (h * (1 + fall)) @ np.square(own).mean(axis=1)
        form = population * (own @ own.T / index.size)
        test = 1 - 2 * h @ (own * both).mean(axis=1) + np.einsum("tp,tp->t", h @ form, h)
        distance = (test - 1) / made.Delta + exact[index].mean()
        for kind, value in (("train", train), ("test", test), ("distance", distance)):
            out[f"{kind}{' ' * bool(name)}{name}"] = value
    return out | {"eigenvalues": values[::-1]}
