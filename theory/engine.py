"""What the public functions ask of a data model, and how a Gaussian model answers.

An engine takes and returns arrays and logarithms of times, as `Solution`s with a status per cell; `theory.times` and
`theory.basins` wrap it in checked, friendly functions. A new kind of model registers its engine with `_engine.register`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from typing import Any, Protocol

import numpy as np
from scipy.optimize import elementwise

from numerics.domain import DomainError
from numerics.quadrature import series_rule
from numerics.solvers import Solution, Status
from theory.lowering import kernel
from theory.models import (
    HiddenManifold,
    InfinitePowerLaw,
    Isotropic,
    LinearManifold,
    Mixture,
    PowerLaw,
    Spectrum,
    Subspaces,
)

__all__ = ["Engine", "GaussianEngine", "MixtureEngine", "engine", "needs_dimension"]

_MODELS = "a data model: Isotropic, LinearManifold, Subspaces, Spectrum, PowerLaw, HiddenManifold or Mixture"
_FALL = 500.0  # the list of a power law's variances is followed down to e^-500 of the largest, the rest summed at first order


class Engine(Protocol):
    """Everything the public functions need to know about a model; `kind` is one of `theory.rem.KINDS`."""

    def log_time(self, kind: str, alpha: np.ndarray, delta: Any = 0.0) -> Solution:
        """Logarithm of the time of `kind` at load alpha (`delta` matters for condensation only)."""

    def critical_alpha(self, kind: str, log_t: np.ndarray) -> Solution:
        """The load at which the time of `kind` is exp(log_t)."""

    def free_energy(self, alpha: np.ndarray, t: np.ndarray, delta: np.ndarray) -> Solution:
        """log Z / N of the REM seen at squared distance `delta` per dimension from a data point."""

    def basin_squared(self, alpha: np.ndarray, t: np.ndarray) -> Solution:
        """Squared basin radius per dimension."""


def needs_dimension(model: Any) -> bool:
    """Whether the times of `model` depend on N by itself and not only through the load log P / N."""
    return isinstance(model, Mixture) or (isinstance(model, PowerLaw) and model.N is None)


def engine(model: Any, N: Any = None) -> Engine:
    """The engine of `model`; in dimension `N` where it needs one, or has one already."""
    if isinstance(model, Mixture):
        return MixtureEngine(model, N)
    if isinstance(model, PowerLaw) and model.N is None:
        if N is None:
            raise DomainError(
                "N", None, "a number >= 1", "The limit of a power law has r_k = c k^-a with a c that grows with N"
            )
        model = model.in_dimension(N)
    return _engine(model)


@singledispatch
def _engine(model: Any) -> Engine:
    raise DomainError("model", model, _MODELS)


class GaussianEngine:
    """Times of Gaussian data through compiled spectral integrals (see `theory.lowering`).

    The integrals run over the spectrum itself, or, for a linear manifold, over the latent spectrum at the saddle point.
    """

    def __init__(self, weights, values, *, alpha_D=None):
        weights, values = np.asarray(weights, dtype=np.float64), np.asarray(values, dtype=np.float64)
        self.w = np.ascontiguousarray(weights[values > 0])
        self.l = np.log(values[values > 0])  # the atom at 0 contributes nothing
        self.saddle = alpha_D is not None
        self.alpha_D = np.asarray(1.0 if alpha_D is None else alpha_D, dtype=np.float64)
        self.mass = float(self.w.sum())
        self.mean = float(np.dot(self.w, np.exp(self.l)))

    # --- integrals ----------------------------------------------------------------------------------------------------

    def integral(self, name: str, x, delta=0.0) -> np.ndarray:
        """The integral `name` of `theory.rem.gaussian.integrals` at `x = log t`."""
        x, log_delta, alpha_D = self._broadcast(x, _log(delta))
        h = np.empty(x.size)
        kernel(name, saddle=self.saddle).integrals(x.ravel(), log_delta, alpha_D, self.w, self.l, self.mean, h)
        return h.reshape(x.shape)

    def _broadcast(self, x, log_delta):
        arrays = np.broadcast_arrays(np.asarray(x, dtype=np.float64), log_delta, self.alpha_D)
        x, log_delta, alpha_D = (np.array(a, order="C") for a in arrays)  # kernels are compiled for writable arrays
        return x, log_delta.ravel(), alpha_D.ravel()

    # --- the protocol -------------------------------------------------------------------------------------------------

    def log_time(self, kind: str, alpha, delta=0.0) -> Solution:
        name = "condensation" if kind == "generalization" else kind
        alpha, log_delta, alpha_D = self._broadcast(alpha, _log(delta))
        n = alpha.size
        x, f = np.empty(n), np.empty(n)
        iterations, status = np.empty(n, dtype=np.int32), np.empty(n, dtype=np.int8)
        log_target = np.log(2.0 * alpha.ravel())
        roots = kernel(name, saddle=self.saddle).roots
        roots(log_target, log_delta, alpha_D, self.w, self.l, self.mass, self.mean, x, f, iterations, status)
        x[status != Status.OK] = np.nan
        if kind == "generalization":
            x = x + np.log(self.integral("generalization", x.reshape(alpha.shape)).ravel())
        return Solution(*(a.reshape(alpha.shape) for a in (x, status, f, iterations)))

    def critical_alpha(self, kind: str, log_t) -> Solution:
        if kind != "generalization":
            value = 0.5 * self.integral(kind, log_t)
            return _exact(value)
        # t_g grows with t_cond from 0 to 2 <r>; t_g <= t_cond because the integrand is below 1
        if self.alpha_D.ndim:
            raise DomainError("alpha_D", "an array", "a scalar when kind is 'generalization'")
        log_t = np.asarray(log_t, dtype=np.float64)

        def excess(x, target):
            return x + np.log(self.integral("generalization", x)) - target

        value = np.full(log_t.shape, np.nan)
        status = np.full(log_t.shape, int(Status.NO_SOLUTION), dtype=np.int8)
        below = log_t < np.log(2.0 * self.mean)
        if below.any():
            target = log_t[below]
            bracket = elementwise.bracket_root(excess, target, target + 2.0, xmin=None, args=(target,), maxiter=200)
            root = elementwise.find_root(excess, bracket.bracket, args=(target,), tolerances={"xrtol": 1e-15})
            value[below] = 0.5 * self.integral("condensation", root.x)
            status[below] = np.where(root.success, int(Status.OK), int(Status.NOT_CONVERGED))
            value[below] = np.where(root.success, value[below], np.nan)
        zero = np.zeros(log_t.shape)
        return Solution(value, status, zero, zero.astype(np.int32))

    def free_energy(self, alpha, t, delta) -> Solution:
        alpha, t, delta = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (alpha, t, delta)))
        x = np.log(t)
        star = self.log_time("condensation", alpha, delta)
        # -2g = delta/t + free_entropy;   -2g'(beta_*) = delta + t_* slope
        uncondensed = alpha - 0.5 * (delta / t + self.integral("free_entropy", x, delta))
        slope = self.integral("slope", np.where(np.isnan(star.value), x, star.value), delta)
        condensed = -0.5 * (delta + np.exp(star.value) * slope) / t
        value = np.where(x >= star.value, uncondensed, condensed)
        branch = (x < star.value).astype(np.int8)
        return Solution(np.where(star.ok, value, np.nan), star.status, star.residual, star.iterations, branch)

    def basin_squared(self, alpha, t) -> Solution:
        alpha, t = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (alpha, t)))
        collapse = self.log_time("collapse", alpha)
        x = np.log(t)
        L, A = self.integral("collapse", x), self.integral("trace", x)
        between = t * np.maximum(0.0, 1.0 - (2.0 * alpha - L) / A)  # 0 beyond the onset time
        value = np.where(x <= collapse.value, np.exp(collapse.value), between)
        branch = np.where(x <= collapse.value, 1, 0).astype(np.int8)
        return Solution(
            np.where(collapse.ok, value, np.nan), collapse.status, collapse.residual, collapse.iterations, branch
        )


class MixtureEngine:
    r"""Times of well-separated classes: those of each class at its own load, along a last axis.

    The class models answer for themselves at :math:`\alpha_k=\alpha+\log(\pi_k)/N`.
    """

    def __init__(self, mixture: Mixture, N: Any = None):
        self.mixture, self.N = mixture, mixture.dimension(N)
        self.engines = [engine(model, self.N) for model in mixture.models]

    def _classes(self, ask: Callable[[Engine, Any], Solution], alpha: Any = None) -> Solution:
        """One solution with the answers of all classes to `ask(engine, load)`; the load is None without alpha."""
        loads: Any = [None] * len(self.engines)
        if alpha is not None:
            loads = np.moveaxis(self.mixture.class_loads(alpha, self.N), -1, 0)
        found = [ask(e, load) for e, load in zip(self.engines, loads, strict=True)]
        fields = ("value", "status", "residual", "iterations", "branch")
        columns = ([np.asarray(getattr(f, name)) for f in found] for name in fields)
        return Solution(*(np.stack(np.broadcast_arrays(*column), axis=-1) for column in columns))

    def log_time(self, kind: str, alpha, delta=0.0) -> Solution:
        beside = () if np.all(np.equal(delta, 0.0)) else (delta,)  # which only Gaussian models take
        return self._classes(lambda e, load: e.log_time(kind, load, *beside), alpha)

    def critical_alpha(self, kind: str, log_t) -> Solution:
        found = self._classes(lambda e, _: e.critical_alpha(kind, log_t))
        value = found.value - np.log(self.mixture.weights) / np.asarray(self.N)[..., None]
        return Solution(value, found.status, found.residual, found.iterations, found.branch)

    def free_energy(self, alpha, t, delta) -> Solution:
        return self._classes(lambda e, load: e.free_energy(load, t, delta), alpha)

    def basin_squared(self, alpha, t) -> Solution:
        return self._classes(lambda e, load: e.basin_squared(load, t), alpha)


def _log(delta):
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(delta, dtype=np.float64))


def _exact(value: np.ndarray) -> Solution:
    zero = np.zeros(value.shape)
    return Solution(value, zero.astype(np.int8), zero, zero.astype(np.int32))


@_engine.register
def _(model: Isotropic) -> Engine:
    return GaussianEngine([1.0], [_number("variance", model.variance)])


@_engine.register
def _(model: Subspaces) -> Engine:
    return GaussianEngine(model.fractions, model.variances)


@_engine.register
def _(model: Spectrum) -> Engine:
    return GaussianEngine(np.full(model.N, 1.0 / model.N), model.eigenvalues)


@_engine.register
def _(model: InfinitePowerLaw) -> Engine:
    a = model.exponent
    end = _FALL / a
    weights, log_k = series_rule(2.0 / a, end)  # log(1 + u k^-a) has its singularities at a distance pi/a in log k
    # what follows e^-500 is as many variances of that size as have the same sum: exact where r << t
    weights, log_k = np.append(weights, np.exp(end) / (a - 1.0)), np.append(log_k, end)
    return GaussianEngine(weights / model.N, model.scale * np.exp(-a * log_k))


@_engine.register
def _(model: LinearManifold) -> Engine:
    return GaussianEngine(model.fractions, model.variances, alpha_D=_number("alpha_D", model.alpha_D))


@_engine.register
def _(model: HiddenManifold) -> Engine:
    from theory.replica import ReplicaEngine  # its kernels take a second to load

    return ReplicaEngine(model)


def _number(name: str, value):
    if hasattr(value, "free_symbols"):
        raise DomainError(
            name,
            value,
            "a number",
            "Substitute one; formulas there are of the times, as in `collapse_time.equation(model)`",
        )
    return value
