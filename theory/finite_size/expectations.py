r"""Expectations at finite N and P, exact in the patterns: E log Z, participation, and the weight of the true point.

P training points :math:`\xi^\mu` are iid from a Gaussian model; :math:`Z(x)=\sum_\mu e^{-\|x-\xi^\mu\|^2/2t}`. At a given x
the average over the patterns is a contour integral (`theory.finite_size.law`), for P from 2 to :math:`e^{500}` and any N;
what is left, the average over x (and over F of a hidden manifold), is taken over few draws, with controls of known mean.

Two settings, always kept apart:

* *fresh*: x does not depend on the P patterns. ``kind="clean"``: x is a new data point; ``kind="noisy"``: that with noise.
* *planted*: x comes from one of the P patterns, ``x = xi^1 + sqrt(t) omega`` (noisy) or ``x = xi^1`` (clean), and its term
  :math:`a=e^{-t\|\omega\|^2/2t}` (or 1) is one of the P terms of Z, beside P - 1 independent ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numerics.display import Shown
from theory.finite_size.draws import linear_control, typical_lambda
from theory.finite_size.law import PartitionLaw
from theory.finite_size.setup import Setup

__all__ = ["Estimate", "LogPartition", "expected_log_partition", "expected_participation", "true_point_weight"]


@dataclass(frozen=True)
class Estimate(Shown):
    """A value and how far it may be off.

    Attributes
    ----------
    value : float, or array of t's shape
    error : standard error (one sigma) of the average over x and over random spectra, the quadrature's error added
    quadrature : largest error estimate of the contour and adaptive quadratures, among the draws
    samples : number of draws averaged
    """

    value: Any
    error: Any
    quadrature: Any
    samples: int


@dataclass(frozen=True)
class LogPartition(Estimate):
    r"""E log Z of P patterns independent of x (`value`, `error`), and with the planted point among the P (`planted`).

    Attributes
    ----------
    value, error : fresh setting, :math:`E\log\sum_{\mu=1}^{P}e^{-\|x-\xi^\mu\|^2/2t}`, all P patterns independent of x
    planted, planted_error : planted setting, :math:`E\log(a+\sum_{\mu=2}^{P}\dots)`: the point that made x is one of the P
    excess, excess_error : :math:`E\log(1+\sum_{\mu=2}^{P}\dots/a)`, N times the excess entropy f(t) for a noisy x
    """

    planted: Any
    planted_error: Any
    excess: Any
    excess_error: Any


def expected_log_partition(
    model, P=None, N=None, t=None, kind: str = "noisy", *, x=None, seed: int = 0, samples: int = 16, log_P=None
) -> LogPartition:
    r"""E log Z at real N and P, in natural logarithms, with and without the planted point.

    .. math:: E\log Z=-\gamma-v_0-\int_{v_0}^\infty G(e^v)^Pdv+\int_{-\infty}^{v_0}(1-G(e^v)^P)\,dv,
              \qquad G(u)=E\,e^{-ue^{-E/t}}

    Parameters
    ----------
    model : Isotropic, LinearManifold, Subspaces or Spectrum
    P : int >= 2, of any size; or `log_P`, its natural logarithm (then P need not be an integer)
    N : int >= 1; may be left out for a Spectrum
    t : number > 0 or array of such
        Noise variance, squared data units.
    kind : "noisy" or "clean"
        Law of x, see the module.
    x : (N,) array, optional
        A given x, in the covariance's eigenbasis by decreasing eigenvalue (for a LinearManifold: that of the F drawn by
        `seed`). The fresh value is then exact; the planted noisy one averages over the noise given x.
    seed : int >= 0
    samples : int >= 1
        Draws of x (and of F), shared by all t. With one draw `error` is NaN.

    Returns
    -------
    LogPartition

    Raises
    ------
    DomainError
        On a model that is not Gaussian, P < 2, N < 1, t <= 0, an unknown kind, or x of the wrong shape.

    Looks normal but is not: `value` falls with t even where the physics is collapsed, since its P patterns do not include
    the point that made x; the collapse is in `planted`. Source: physics section 7, derivation in [ours:
    docs/derivations/finite_size.md].

    >>> from theory.models import Isotropic
    >>> result = expected_log_partition(Isotropic(1.0), P=1000, N=20, t=0.5, x=[0.3] * 20)
    >>> round(float(result.value), 9), bool(result.quadrature < 1e-12)
    (-4.856087252, True)
    """
    setup = Setup(model, P, N, t, kind, x, seed, samples, log_P)
    noisy = setup.noisy
    rows = []
    for t_now in setup.t:
        lam = {}
        fresh, excess, q = [], [], []
        for draw in setup.draws:
            law, offset, log_a = setup.law(draw, t_now)
            value, e1 = law.expected_log()
            others = law.with_count(setup.log_rest)
            beside, e2 = others.log_ratio(log_a)
            control = 0.0
            if x is None:
                if draw.group not in lam:
                    lam[draw.group] = typical_lambda(draw.spectrum, t_now, noisy, setup.log_P)
                control = linear_control(draw.spectrum, t_now, noisy, lam[draw.group], law.one.p)
            fresh.append(offset + value - control)
            excess.append(beside)
            q.append(max(e1, e2))
        excess = setup.controlled(excess, t_now, "log")
        row = [*setup.average(fresh, max(q), exact=x is not None), *setup.average(excess, max(q)), max(q)]
        rows.append(row)
    value, error, excess, excess_error, quadrature = (setup.shaped(column) for column in zip(*rows, strict=True))
    if x is None:
        planted = excess - (0.5 * setup.spectrum.N if noisy else 0.0)
        planted_error = excess_error
    else:
        planted, planted_error = _planted_given_x(setup)
    return LogPartition(value, error, quadrature, len(setup.draws), planted, planted_error, excess, excess_error)


def _planted_given_x(setup):
    rows = []
    for t_now in setup.t:
        values, worst = [], 0.0
        for draw in setup.draws:
            law, offset, log_a = setup.law(draw, t_now)
            value, e = law.with_count(setup.log_rest).log_ratio(log_a)
            values.append(offset + log_a + value)
            worst = max(worst, e)
        rows.append(setup.average(values, worst, exact=not setup.noisy))
    value, error = (setup.shaped(column) for column in zip(*rows, strict=True))
    return value, error


def true_point_weight(
    model, P=None, N=None, t=None, kind: str = "noisy", *, x=None, seed: int = 0, samples: int = 32, log_P=None
) -> Estimate:
    r"""Mean weight of the point that made x among the P, :math:`E\,\frac{a}{a+\sum_{\mu\ge2}e^{-\|x-\xi^\mu\|^2/2t}}`.

    .. math:: E\frac a{a+Z}=\int ae^ve^{-ae^v}\,G(e^v)^{P-1}\,dv

    On a noisy x it crosses 1/2 at the finite-size collapse time, on a clean one at the finite-size onset. The average
    over x uses the annealed weight, whose mean is a contour integral of its own, as a control.

    Parameters, raises: as `expected_log_partition`.

    Returns
    -------
    Estimate, value between 0 and 1 up to `error`

    >>> from theory.models import Isotropic
    >>> w = true_point_weight(Isotropic(1.0), P=1000, N=20, t=[0.3, 1.0, 3.0])
    >>> [round(float(v), 1) for v in w.value]
    [1.0, 0.6, 0.1]
    """
    setup = Setup(model, P, N, t, kind, x, seed, samples, log_P)
    rows = []
    for t_now in setup.t:
        values, q = setup.ask(t_now, PartitionLaw.weight, rest=True)
        values = setup.controlled(values, t_now, "weight")
        rows.append([*setup.average(values, q, exact=x is not None and not setup.noisy), q])
    value, error, quadrature = (setup.shaped(column) for column in zip(*rows, strict=True))
    return Estimate(value, error, quadrature, len(setup.draws))


def expected_participation(
    model,
    P=None,
    N=None,
    t=None,
    kind: str = "noisy",
    *,
    planted: bool = False,
    x=None,
    seed: int = 0,
    samples: int = 16,
    log_P=None,
) -> Estimate:
    r"""Participation :math:`E\sum_\mu w_\mu^2`: 1/P when all patterns count alike, 1 when one has all the weight.

    .. math:: E\sum_\mu w_\mu^2=P\int u^2G''(u)\,G(u)^{P-1}\,\frac{du}{u}

    Its reciprocal is *not* the mean effective number of patterns :math:`E[1/\sum w^2]` (Jensen).

    Parameters
    ----------
    planted : bool
        False: all P patterns independent of x (fresh). True: the point that made x is one of them.
    Others, raises: as `expected_log_partition`.

    Returns
    -------
    Estimate

    >>> from theory.models import Isotropic
    >>> round(float(expected_participation(Isotropic(1.0), P=1000, N=20, t=1e4, samples=2).value), 6)
    0.001002
    """
    setup = Setup(model, P, N, t, kind, x, seed, samples, log_P)
    question = PartitionLaw.participation_beside if planted else lambda law, log_a: law.participation()
    exact = x is not None and not (planted and setup.noisy)
    rows = []
    for t_now in setup.t:
        values, q = setup.ask(t_now, question, rest=planted)
        rows.append([*setup.average(values, q, exact=exact), q])
    value, error, quadrature = (setup.shaped(column) for column in zip(*rows, strict=True))
    return Estimate(value, error, quadrature, len(setup.draws))
