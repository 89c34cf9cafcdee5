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
from typing import Any, Protocol, cast

import mpmath
import numpy as np
import sympy as sp

from numerics.domain import DomainError, choice, finite, positive
from numerics.solvers import Solution, Status
from theory.engine import engine, needs_dimension
from theory.loads import load, of_patch, placed
from theory.models import Mixture, Spectrum
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


def _time(
    kind: str, model: Any, alpha: Any, P: Any, N: Any, log: bool, patch: Any = None, equivariant: bool = False
) -> Any:
    model, alpha, P, N = of_patch(model, alpha, P, N, patch, equivariant)
    if needs_dimension(model):
        ready, alpha = placed(model, alpha, P, N)
    else:
        alpha = load(model, alpha, P, N)
        if _symbolic(model, alpha):
            value = closed_form(kind, model, alpha)
            return sp.log(value) if log else value
        ready = engine(model)
    return deliver(ready.log_time(kind, alpha), log=log, what=f"{kind} time")


class TimeFunction(Protocol):
    """A time of a data model: the function itself, the sympy equation it solves, and the solve with its status."""

    kind: str
    equation: Callable[[Any], sp.Basic]
    solve: Callable[..., Solution]

    def __call__(
        self,
        model: Any,
        alpha: Any = None,
        *,
        P: Any = None,
        N: Any = None,
        patch: Any = None,
        equivariant: bool = False,
        log: bool = False,
    ) -> Any: ...


def _equipped(kind: str) -> Callable[[Callable[..., Any]], TimeFunction]:
    """Give a time function its `.equation` and `.solve`."""

    def decorate(function: Callable[..., Any]) -> TimeFunction:
        def equation(model: Any) -> sp.Basic:
            return time_equation(kind, model)

        def solve(model: Any, alpha: Any = None, *, P: Any = None, N: Any = None) -> Solution:
            ready, alpha = placed(model, alpha, P, N)
            return ready.log_time(kind, alpha)

        equation.__doc__ = f"The sympy equation whose solution in t is the {kind} time of `model`."
        solve.__doc__ = f"The {kind} time as a `Solution` for log t: value, status, residual, iterations, branch."
        timed = cast("TimeFunction", function)
        timed.equation, timed.solve, timed.kind = equation, solve, kind
        return timed

    return decorate


@_equipped("onset")
def onset_time(
    model: Any,
    alpha: Any = None,
    *,
    P: Any = None,
    N: Any = None,
    patch: Any = None,
    equivariant: bool = False,
    log: bool = False,
) -> Any:
    r"""Onset (trap-emergence) time: below it a data point is a local attractor of the empirical score.

    .. math:: \alpha+g(1/t_o;0)=0,\qquad\text{Gaussian data: } 2\alpha=\mathcal L(t_o)+\int\rho\,\frac r{r+t_o}

    At :math:`x=\xi^1` the zero energy of the point equals the free energy of all others. The others are not condensed
    there, so these traps do not yet affect typical trajectories.

    Parameters
    ----------
    model : Isotropic, LinearManifold, Subspaces, Spectrum, PowerLaw, HiddenManifold or Mixture
    alpha : number or array > 0, or sympy symbol
        :math:`\log P/N`; alternatively `P` (>= 2) and `N` (`N` is known to a Spectrum). A Mixture without its own N, and a
        PowerLaw without N, need `N` beside alpha too.
    patch, equivariant : odd width, bool
        The time of a score that sees patches of that width of a StationaryField or ImageCovariance: with P, of the P patches
        at one place (the middle of an image); equivariant, of the bag of P times all places. See `theory.locality`.
    log : bool
        Return :math:`\log t`, also where t itself is below float range.

    Returns
    -------
    float or array, shape of alpha broadcast with alpha_D; squared data units. NaN, with a warning, where unsolved. For a
    Mixture one more axis, the last: its classes.

    Raises
    ------
    DomainError
        alpha <= 0 or not finite, P < 2, or a model that is none.

    Source: [AALMV25].

    >>> from theory import LinearManifold
    >>> round(onset_time(LinearManifold(0.5), alpha=0.2), 10)
    3.1525983088
    """
    return _time("onset", model, alpha, P, N, log, patch, equivariant)


@_equipped("collapse")
def collapse_time(
    model: Any,
    alpha: Any = None,
    *,
    P: Any = None,
    N: Any = None,
    patch: Any = None,
    equivariant: bool = False,
    log: bool = False,
) -> Any:
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
    return _time("collapse", model, alpha, P, N, log, patch, equivariant)


@_equipped("condensation")
def condensation_time(
    model: Any,
    alpha: Any = None,
    *,
    P: Any = None,
    N: Any = None,
    patch: Any = None,
    equivariant: bool = False,
    log: bool = False,
) -> Any:
    r"""Condensation time of the REM seen from a fresh data point, :math:`t_{cond}=1/\beta_*(\alpha;0)`.

    .. math:: \alpha+g-\beta\,\partial_\beta g=0\ (\delta=0),\qquad
       \text{Gaussian data: } 2\alpha=\int\rho\left[\log(1+r/t)-\frac{rt}{(r+t)^2}\right]

    Below it a fresh point sees only a few training points. Takes and raises what `onset_time` does: a model, and
    alpha = log P/N or P and N; returns t in squared data units, or log t. Source: [AALMV25].

    >>> from theory import LinearManifold
    >>> round(condensation_time(LinearManifold(0.5), alpha=0.2), 10)
    0.9708034043
    """
    return _time("condensation", model, alpha, P, N, log, patch, equivariant)


@_equipped("generalization")
def generalization_time(
    model: Any,
    alpha: Any = None,
    *,
    P: Any = None,
    N: Any = None,
    patch: Any = None,
    equivariant: bool = False,
    log: bool = False,
) -> Any:
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
    return _time("generalization", model, alpha, P, N, log, patch, equivariant)


def critical_alpha(model: Any, t: Any, N: Any = None, *, kind: str = "collapse", log: bool = False) -> Any:
    r"""The load :math:`\alpha=\log P/N` at which the time of `kind` is `t`; for collapse :math:`\frac12\mathcal L(t)`.

    Parameters
    ----------
    model : a data model
    t : number or array > 0, VE time in squared data units (its logarithm if `log`)
    N : number > 0, for models that need it: a Mixture, whose class k has :math:`\frac12\mathcal L_k(t)-\log(\pi_k)/N`, and the
        limit of a PowerLaw
    kind : "collapse" (default), "onset", "condensation" or "generalization"

    Returns
    -------
    float or array; for a Mixture the load of the whole at which each class has that time, classes along the last axis. For
    "generalization" NaN, with a warning, where t is above :math:`2\langle r\rangle`, the limit of :math:`t_g` at small load.

    >>> from theory import LinearManifold
    >>> round(critical_alpha(LinearManifold(0.5), 1.40961276380), 9)
    0.2
    """
    choice("kind", kind, KINDS)
    log_t = finite("t", t) if log else np.log(positive("t", t))
    return deliver_value(engine(model, N).critical_alpha(kind, log_t), "critical alpha")


def critical_dataset_size(model: Any, t: Any, N: Any = None, *, kind: str = "collapse", log: bool = False) -> Any:
    r"""Number of samples needed so that a model run down to noise `t` has not collapsed, :math:`P_c=e^{N\mathcal L(t)/2}`.

    Parameters
    ----------
    model, t, kind : as in `critical_alpha`
    N : number > 0
        Ambient dimension (known to a Spectrum, and to a Mixture that has one).
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
    if N is None and isinstance(model, (Spectrum, Mixture)):
        N = model.N
    if N is None:
        raise DomainError("N", N, "a number > 0", "the ambient dimension")
    size = positive("N", N)[..., None] if isinstance(model, Mixture) else positive("N", N)
    log_P = np.asarray(size * critical_alpha(model, t, N if needs_dimension(model) else None, kind=kind))
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
