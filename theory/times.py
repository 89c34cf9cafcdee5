r"""The times of the theory: when traps appear, when the score collapses, when it condenses, where it generalises best.

All times are variance-exploding, :math:`t=\sigma^2`; `theory.noise` converts. Each function takes the load as
:math:`\alpha=\log P/N`, or as `P` with `N`; broadcasts over arrays; gives a formula when handed sympy symbols; and carries

- `.equation(model)`: the sympy equation it solves;
- `.solve(model, alpha)`: the same solve with status, residual and iterations per cell (the value is :math:`\log t`).

Definitions and source: [AALMV25]; physics in docs/derivations/gaussian.md.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import sympy as sp

from numerics.domain import DomainError, choice, finite, positive
from numerics.solvers import Solution, Status
from theory.engine import engine
from theory.models import Spectrum
from theory.rem import KINDS, closed_form, time_equation

__all__ = [
    "collapse_time",
    "condensation_time",
    "critical_alpha",
    "critical_dataset_size",
    "generalization_time",
    "onset_time",
]

_LOG_MIN, _LOG_MAX = math.log(np.finfo(float).tiny), math.log(np.finfo(float).max)


def load(model: Any, alpha: Any = None, P: Any = None, N: Any = None) -> Any:
    r"""The load :math:`\alpha=\log P/N`, checked, from whichever of `alpha` and (`P`, `N`) is given."""
    if alpha is not None:
        if P is not None or N is not None:
            raise DomainError("alpha, P, N", (alpha, P, N), "either alpha, or P together with N")
        if isinstance(alpha, sp.Expr) and not alpha.is_number:
            return alpha
        return positive("alpha", alpha)
    if N is None and isinstance(model, Spectrum):
        N = model.N
    if P is None or N is None:
        raise DomainError("alpha, P, N", (alpha, P, N), "either alpha, or P together with N")
    N = positive("N", N)
    if isinstance(P, int):  # of any size
        if P < 2:
            raise DomainError("P", P, "numbers >= 2")
        return math.log(P) / N
    P = finite("P", P, allowed="numbers >= 2")
    if (P < 2).any():
        raise DomainError("P", float(P[P < 2].flat[0]), "numbers >= 2")
    return np.log(P) / N


def deliver(solution: Solution, *, log: bool, what: str) -> Any:
    """The values of a solve for log t, as times or as their logarithms; NaN with a warning where there is none."""
    value, status = solution.value, solution.status
    if not log:
        low = solution.ok & (value < _LOG_MIN)
        if low.any():
            status = np.where(low, Status.BELOW_FLOAT_RANGE, status)
            value = np.where(low, np.nan, value)
        value = np.exp(value)
    return deliver_value(Solution(value, status, solution.residual, solution.iterations, solution.branch), what)


def deliver_value(solution: Solution, what: str) -> Any:
    """The plain values of a solve: a float for a scalar; NaN with a warning where there is none."""
    if not solution.ok.all():
        warnings.warn(f"{what}: {solution.report()}", RuntimeWarning, stacklevel=4)
    return float(solution.value) if solution.value.ndim == 0 else solution.value


def _symbolic(model: Any, alpha: Any) -> bool:
    parameters = [getattr(model, name, None) for name in ("variance", "alpha_D")]
    return any(isinstance(p, sp.Expr) and not p.is_number for p in [alpha, *parameters])


def _time(kind: str, model: Any, alpha: Any, P: Any, N: Any, log: bool) -> Any:
    alpha = load(model, alpha, P, N)
    if _symbolic(model, alpha):
        value = closed_form(kind, model, alpha)
        return sp.log(value) if log else value
    return deliver(engine(model).log_time(kind, alpha), log=log, what=f"{kind} time")


def _equipped(kind: str) -> Callable:
    """Give a time function its `.equation` and `.solve`."""

    def decorate(function):
        def equation(model):
            return time_equation(kind, model)

        def solve(model, alpha=None, *, P=None, N=None):
            return engine(model).log_time(kind, load(model, alpha, P, N))

        equation.__doc__ = f"The sympy equation whose solution in t is the {kind} time of `model`."
        solve.__doc__ = f"The {kind} time as a `Solution` for log t: value, status, residual, iterations, branch."
        function.equation, function.solve, function.kind = equation, solve, kind
        return function

    return decorate


@_equipped("onset")
def onset_time(model, alpha=None, *, P=None, N=None, log=False):
    r"""Onset (trap-emergence) time: below it a data point is a local attractor of the empirical score.

    .. math:: \alpha+g(1/t_o;0)=0,\qquad\text{Gaussian data: } 2\alpha=\mathcal L(t_o)+\int\rho\,\frac r{r+t_o}

    At :math:`x=\xi^1` the zero energy of the point equals the free energy of all others. The others are not condensed
    there, so these traps do not yet affect typical trajectories.

    Parameters
    ----------
    model : Isotropic, LinearManifold, Subspaces, Spectrum or HiddenManifold
    alpha : number or array > 0, or sympy symbol
        :math:`\log P/N`; alternatively `P` (>= 2) and `N` (`N` is known to a Spectrum).
    log : bool
        Return :math:`\log t`, also where t itself is below float range.

    Returns
    -------
    float or array, shape of alpha broadcast with alpha_D; squared data units. NaN, with a warning, where unsolved.

    Raises
    ------
    DomainError
        alpha <= 0 or not finite, P < 2, or a model that is none.

    Source: [AALMV25].

    >>> from theory import LinearManifold
    >>> round(onset_time(LinearManifold(0.5), alpha=0.2), 10)
    3.1525983088
    """
    return _time("onset", model, alpha, P, N, log)


@_equipped("collapse")
def collapse_time(model, alpha=None, *, P=None, N=None, log=False):
    r"""Collapse time: below it a typical noisy point is drawn to the training point that generated it.

    .. math:: \alpha+g(1/t_c;t_c)=-\tfrac12,\qquad\text{Gaussian data: } 2\alpha=\mathcal L(t_c)=\int\rho\log(1+r/t_c)

    By the Nishimori identity this is also where the REM seen from a typical noisy point condenses. Takes and raises what
    `onset_time` does: a model, and alpha = log P/N or P and N; returns t in squared data units, or log t. A single training
    point has collapsed at every t: `P >= 2`. Source: [BBBM24], [AALMV25].

    >>> from theory import Isotropic, LinearManifold
    >>> round(collapse_time(LinearManifold(alpha_D=0.5), alpha=0.2), 10)
    1.4096127638
    >>> a, s = sp.symbols("a s", positive=True)
    >>> collapse_time(Isotropic(s), alpha=a)
    s/(exp(2*a) - 1)
    """
    return _time("collapse", model, alpha, P, N, log)


@_equipped("condensation")
def condensation_time(model, alpha=None, *, P=None, N=None, log=False):
    r"""Condensation time of the REM seen from a fresh data point, :math:`t_{cond}=1/\beta_*(\alpha;0)`.

    .. math:: \alpha+g-\beta\,\partial_\beta g=0\ (\delta=0),\qquad
       \text{Gaussian data: } 2\alpha=\int\rho\left[\log(1+r/t)-\frac{rt}{(r+t)^2}\right]

    Below it a fresh point sees only a few training points. Takes and raises what `onset_time` does: a model, and
    alpha = log P/N or P and N; returns t in squared data units, or log t. Source: [AALMV25].

    >>> from theory import LinearManifold
    >>> round(condensation_time(LinearManifold(0.5), alpha=0.2), 10)
    0.9708034043
    """
    return _time("condensation", model, alpha, P, N, log)


@_equipped("generalization")
def generalization_time(model, alpha=None, *, P=None, N=None, log=False):
    r"""Generalization time: the noise at which the empirical density is closest to the data distribution.

    .. math:: t_g=\arg\min_tKL(P_0\|P_t)=-2\,\partial_\beta g(\beta_*;0)
       =\int\rho\left[\frac r{1+\beta_*r}+\frac r{(1+\beta_*r)^2}\right]\text{ for Gaussian data}

    It lies in the condensed phase, and equals the mean squared distance per dimension from a fresh sample to its nearest
    training point, for every data model. Takes and raises what `onset_time` does: a model, and alpha = log P/N or P and N;
    returns t in squared data units, or log t. Source: [AALMV25].

    >>> from theory import LinearManifold
    >>> round(generalization_time(LinearManifold(0.5), alpha=0.2), 10)
    0.3873954315
    """
    return _time("generalization", model, alpha, P, N, log)


def critical_alpha(model, t, *, kind="collapse", log=False):
    r"""The load :math:`\alpha=\log P/N` at which the time of `kind` is `t`; for collapse :math:`\frac12\mathcal L(t)`.

    Parameters
    ----------
    model : a data model
    t : number or array > 0, VE time in squared data units (its logarithm if `log`)
    kind : "collapse" (default), "onset", "condensation" or "generalization"

    Returns
    -------
    float or array. For "generalization" NaN, with a warning, where t is above :math:`2\langle r\rangle`, the limit of
    :math:`t_g` at small load.

    >>> from theory import LinearManifold
    >>> round(critical_alpha(LinearManifold(0.5), 1.40961276380), 9)
    0.2
    """
    choice("kind", kind, KINDS)
    log_t = finite("t", t) if log else np.log(positive("t", t))
    return deliver_value(engine(model).critical_alpha(kind, log_t), "critical alpha")


def critical_dataset_size(model, t, N=None, *, kind="collapse", log=False):
    r"""Number of samples needed so that a model run down to noise `t` has not collapsed, :math:`P_c=e^{N\mathcal L(t)/2}`.

    Parameters
    ----------
    model, t, kind : as in `critical_alpha`
    N : number > 0
        Ambient dimension (known to a Spectrum).
    log : bool
        Return :math:`\log P_c`.

    Returns
    -------
    float; an mpmath number where it is above float range (arrays: NaN there, with a warning; ask for the logarithm).

    >>> from theory import Isotropic
    >>> round(critical_dataset_size(Isotropic(1.0), t=1.0, N=20))
    1024
    >>> print(critical_dataset_size(Isotropic(1.0), t=1e-3, N=3072))
    4.6424048175...e+4608
    """
    if N is None and isinstance(model, Spectrum):
        N = model.N
    if N is None:
        raise DomainError("N", N, "a number > 0", "the ambient dimension")
    log_P = np.asarray(positive("N", N) * critical_alpha(model, t, kind=kind))
    if log:
        return float(log_P) if log_P.ndim == 0 else log_P
    if log_P.ndim == 0:
        return math.exp(log_P) if log_P < _LOG_MAX else mpmath.exp(float(log_P))
    over = log_P >= _LOG_MAX
    if over.any():
        warnings.warn(
            f"critical dataset size: {int(over.sum())} values are above float range; ask for log=True",
            RuntimeWarning,
            stacklevel=2,
        )
    return np.exp(np.where(over, np.nan, log_P))
