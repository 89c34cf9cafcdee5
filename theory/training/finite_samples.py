r"""The linear denoiser trained on P samples: on average that of the population at a renormalised noise, kappa.

Trained to the end on P samples with all of the noise averaged out, the best linear denoiser is
:math:`W=\hat C(\hat C+t)^{-1}` of the *sample* covariance. Averaged over training sets it is
:math:`\Sigma(\Sigma+\kappa)^{-1}` of the population's, with :math:`\kappa>t`. The equation of kappa follows from an action,
by differentiation, and so do the losses. Source: [W26]; derivation in docs/derivations/finite_samples.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import sympy as sp

from numerics.display import Shown
from numerics.domain import DomainError, positive
from theory.models import GaussianModel, Spectrum
from theory.notation import SpectralAverage, r, t
from theory.rem import covariance_nodes

__all__ = [
    "FiniteSampleEquation",
    "LinearDenoiserLoss",
    "finite_sample_gain",
    "finite_sample_loss",
    "finite_sample_noise",
    "loads",
    "lowered",
]

gamma = sp.Symbol("gamma", positive=True)  # N / P
kappa = sp.Symbol("kappa", positive=True)  # renormalised noise
R, R_hat = sp.symbols("R R_hat", positive=True)  # tr Sigma (C + t)^{-1} / N, and its conjugate
NODES = 160  # of a bulk's quadrature
_ITERATIONS = 100


class FiniteSampleEquation:
    r"""What follows from :math:`\frac1N\log\det(\hat C+t)`, the extremum over (R, R_hat) of

    .. math:: F=\frac1\gamma\log(1+\gamma R)-R\hat R+\int\rho(r)\log(t+r\hat R)\,dr .
    """

    @cached_property
    def action(self) -> sp.Expr:
        return sp.log(1 + gamma * R) / gamma - R * R_hat + SpectralAverage(sp.log(t + r * R_hat))

    def _repr_latex_(self) -> str:
        return rf"$\displaystyle F=\mathrm{{extr}}_{{R,\hat R}}\;{sp.latex(self.action)}$"

    @cached_property
    def stationary(self) -> tuple[sp.Expr, sp.Expr]:
        """dF/dR and dF/dR_hat."""
        return sp.diff(self.action, R), sp.diff(self.action, R_hat)

    @cached_property
    def residual(self) -> sp.Expr:
        r""":math:`\kappa-t-\gamma\kappa\int\rho\frac r{r+\kappa}`: the stationarity conditions with :math:`\hat R=t/\kappa`."""
        by_r, by_hat = self.stationary
        conjugate = sp.solve(by_r, R_hat)[0]  # 1/(1 + gamma R)
        at = sp.solve(sp.Eq(conjugate, t / kappa), R)[0]  # R as a function of kappa
        average = by_hat.subs(R_hat, t / kappa).subs(R, at)
        (inside,) = average.atoms(SpectralAverage)
        average = average.subs(inside, SpectralAverage(sp.simplify(inside.integrand * t / kappa)) * kappa / t)
        return sp.expand(-gamma * t * average)

    @cached_property
    def slope(self) -> sp.Expr:
        r""":math:`\partial_\kappa` of the residual, :math:`1-\gamma\int\rho\frac{r^2}{(r+\kappa)^2}` at the solution."""
        return sp.diff(self.residual, kappa)

    @cached_property
    def train(self) -> sp.Expr:
        r"""Training loss per dimension: :math:`t\,\frac1N\mathrm{tr}\,\hat C(\hat C+t)^{-1}=t(1-t\,\partial_tF)`."""
        trace = sp.diff(self.action, t).subs(R_hat, t / kappa)
        (inside,) = trace.atoms(SpectralAverage)
        return t * (1 - SpectralAverage(sp.simplify(t * inside.integrand)))

    @cached_property
    def test(self) -> sp.Expr:
        r"""Loss on fresh data per dimension, :math:`\frac1N\mathrm{tr}[(1-W)\Sigma(1-W)+tW^2]`.

        :math:`\frac1N\mathrm{tr}\,\Sigma(\hat C+t)^{-1}\Sigma'` at second order needs the response of kappa to t,
        :math:`\kappa'=1/\partial_\kappa(\text{residual})`: with :math:`B=\int\rho\,r/(r+\kappa)^2`,
        :math:`\mathrm{tr}\,(1-W)\Sigma(1-W)/N=\kappa'\kappa^2B` and
        :math:`\mathrm{tr}\,W^2/N=1-2T+t^2\cdot(-\partial_t)(T/t)`, :math:`T(t)=\mathrm{tr}\,t(\hat C+t)^{-1}/N`.
        """
        response = 1 / self.slope
        remainder = SpectralAverage(kappa / (r + kappa))  # T
        fall = SpectralAverage(r / (r + kappa) ** 2)  # dT/dkappa
        square = 1 - 2 * remainder + t**2 * (remainder / t**2 - fall * response / t)
        return response * kappa**2 * fall + t * square


@cache
def lowered(name: str) -> Callable:
    """A property of `FiniteSampleEquation` as a numpy function of (kappa, t, gamma, weights, values)."""
    expression = getattr(FiniteSampleEquation(), name)
    averages = sorted(expression.atoms(SpectralAverage), key=sp.default_sort_key)
    symbols = sp.symbols(f"average:{len(averages)}")
    outer = sp.lambdify((kappa, t, gamma, *symbols), expression.xreplace(dict(zip(averages, symbols, strict=True))))
    inner = [sp.lambdify((r, kappa), average.integrand) for average in averages]

    def function(k, time, load, weights, values):
        found = [(weights * f(values, k[..., None])).sum(axis=-1) for f in inner]
        return outer(k, time, load, *found)

    return function


def loads(model: GaussianModel, P: Any, N: Any, t: Any) -> tuple[np.ndarray, np.ndarray]:
    if N is None and isinstance(model, Spectrum):
        N = model.N
    if N is None:
        raise DomainError("N", N, "a number > 0", "only a Spectrum knows its own N")
    return np.broadcast_arrays(positive("N", N) / positive("P", P), positive("t", t))


def _solved(model: GaussianModel, load: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """kappa, and the spectrum's weights and values."""
    weights, values = covariance_nodes(model, NODES)
    residual, slope = lowered("residual"), lowered("slope")
    # the residual is convex in kappa and negative at 0: Newton's method from a point above the root falls onto it
    k = time + load * np.dot(weights, values)
    for _ in range(_ITERATIONS):
        step = residual(k, time, load, weights, values) / slope(k, time, load, weights, values)
        k = k - step
        if (np.abs(step) <= 4e-16 * np.abs(k)).all():
            break
    off = np.abs(residual(k, time, load, weights, values)) > 1e-12 * (k + load * np.dot(weights, values))
    return np.where(off, np.nan, k), weights, values


def _plain(x: np.ndarray) -> Any:
    return float(x) if np.ndim(x) == 0 else x


def finite_sample_noise(model: GaussianModel, P: Any, N: Any = None, t: Any = None) -> Any:
    r"""The noise variance kappa at which the population's denoiser equals, on average, the one trained on P samples.

    .. math:: \kappa-t=\gamma\,\kappa\int\rho(r)\frac r{r+\kappa}\,dr,\qquad\gamma=N/P .

    For t to 0 it tends to 0 when P exceeds the rank of the covariance, and stays positive below: the denoiser of few
    samples treats directions with :math:`r\ll\kappa` as noise at every t.

    Parameters
    ----------
    model : Isotropic, LinearManifold, Subspaces, Spectrum or HiddenManifold
        The population.
    P : number or array > 0
        Training samples, of known mean.
    N : number or array > 0
        Ambient dimension; a Spectrum knows it.
    t : number or array > 0
        VE time, in squared data units.

    Returns
    -------
    float or array, the shapes of P, N and t broadcast; squared data units. NaN where unsolved.

    Raises
    ------
    DomainError
        An argument <= 0 or not finite, N missing, or a model with symbolic parameters.

    Notes
    -----
    The failure that looks normal: P is held of the order of N and both are large. The *empirical* score, not linear, is
    another thing: it copies its samples at noise of order :math:`P^{-2/N}` of the variance. Source: [W26].

    >>> from theory import Spectrum
    >>> r = 1 / np.arange(1, 257)
    >>> round(finite_sample_noise(Spectrum(r / r.mean()), P=80, t=0.05), 5)
    1.12195
    """
    load, time = loads(model, P, N, t)
    return _plain(_solved(model, load, time)[0])


finite_sample_noise.equation = lambda: sp.Eq(FiniteSampleEquation().residual, 0)


def finite_sample_gain(model: GaussianModel, r: Any, P: Any, N: Any = None, t: Any = None) -> Any:
    r"""Average gain of the linear denoiser of P samples in a direction of variance r, :math:`r/(r+\kappa)`.

    Parameters
    ----------
    r : number or array >= 0
        Variances of directions; broadcast with P, N and t.
    model, P, N, t : as in `finite_sample_noise`

    Returns
    -------
    float or array in [0, 1]

    Raises
    ------
    DomainError
        As `finite_sample_noise`; r not finite or < 0.

    Source: [W26].

    >>> from theory import Isotropic
    >>> round(finite_sample_gain(Isotropic(1.0), 1.0, P=200, N=100, t=1.0), 6)
    0.438447
    """
    variance = np.asarray(r, dtype=float)
    if not np.isfinite(variance).all() or (variance < 0).any():
        raise DomainError("r", r, "finite and >= 0")
    k = np.asarray(finite_sample_noise(model, P, N, t))
    return _plain(variance / (variance + k))


@dataclass(frozen=True)
class LinearDenoiserLoss(Shown):
    """Expected loss per dimension of the linear denoiser, in squared data units: floats, or arrays of one shape.

    Attributes
    ----------
    train : on its own P samples, noise averaged
    test : on fresh data
    population : of the best linear denoiser, at P to infinity
    """

    train: Any
    test: Any
    population: Any


def finite_sample_loss(model: GaussianModel, P: Any, N: Any = None, t: Any = None) -> LinearDenoiserLoss:
    r"""Expected denoising loss of the linear denoiser trained to the end on P samples, :math:`\frac1NE\|W(\xi+\sqrt
    t\omega)-\xi\|^2`.

    .. math:: \text{train}=t\int\rho\frac r{r+\kappa},\qquad
       \text{test}=t\int\rho\frac r{r+\kappa}+\frac{\kappa^2-t^2}{1-\gamma\int\rho\frac{r^2}{(r+\kappa)^2}}\int\rho\frac
       r{(r+\kappa)^2}.

    Parameters
    ----------
    model, P, N, t : as in `finite_sample_noise`

    Returns
    -------
    LinearDenoiserLoss

    Raises
    ------
    DomainError
        As `finite_sample_noise`.

    Source: [W26] for kappa; losses [ours: docs/derivations/finite_samples.md].

    >>> from theory import Isotropic
    >>> loss = finite_sample_loss(Isotropic(1.0), P=200, N=100, t=1.0)
    >>> round(loss.train, 6), round(loss.test, 6), loss.population
    (0.438447, 0.574644, 0.5)
    """
    load, time = loads(model, P, N, t)
    k, weights, values = _solved(model, load, time)
    train, test = (lowered(name)(k, time, load, weights, values) for name in ("train", "test"))
    population = lowered("train")(np.asarray(time, dtype=float), time, load, weights, values)
    return LinearDenoiserLoss(_plain(train), _plain(test), _plain(population))
