r"""Speciation: when a backward trajectory chooses its class, and how likely two clones of it end in the same one.

At high noise the log-density is a parabola whose curvature along the top direction of the data turns over,

.. math:: -\partial^2\log P_t(0)=\frac1t-\frac\Lambda{t^2}+O(t^{-3})\quad\Rightarrow\quad t_s=\Lambda\ \text{(VE)},\qquad
   \Lambda e^{-2\tau_s}=1\ \text{(VP, OU time, at large }\Lambda\text{)}.

Two clones of one trajectory, split at t, agree with probability :math:`\phi(t)=E\sum_kp_k(x)^2`, :math:`p_k` the probability of
class k given x: exactly, at every N, for the exact score. Source: [BBBM24]; [ours: docs/derivations/mixtures.md].
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import sympy as sp
from scipy.special import expit
from scipy.stats import chi2

from numerics.domain import DomainError, finite, positive
from theory.models import GaussianModel, Mixture, PowerLaw, covariance_law
from theory.noise import t_from_ou
from theory.notation import t
from theory.result import Result

__all__ = ["cloning_identity", "cloning_probability", "curvature", "speciation_equation", "speciation_time"]

Lambda = sp.Symbol("Lambda", positive=True)  # largest eigenvalue of the covariance of the data
_m, _s, _x = sp.symbols("m s x", positive=True)  # |means|/2, variance of a class, coordinate between the means
CONVENTIONS = ("ve", "vp")


@cache
def curvature() -> dict[str, sp.Expr]:
    r"""Curvature of :math:`-\log P_t` at the centre along one direction, VE: at high noise, and exactly for two clusters.

    "high noise" is :math:`-\log P_t=\frac{x^2}{2t}-\log E_\xi e^{x\xi/t-\xi^2/2t}` to second order in the data, by cumulants;
    "two clusters" is :math:`\pm m` with variance s, whose :math:`\Lambda=m^2+s`.

    >>> sp.solve(curvature()["two clusters"], t)  # Lambda - 2 s
    [m**2 - s]
    """
    h = sp.Symbol("h")  # counts powers of the data
    xi, fourth = sp.symbols("xi"), sp.Symbol("M_4", positive=True)
    exponent = sp.exp((h * _x * xi / t) - h**2 * xi**2 / (2 * t))
    series = sp.expand(sp.series(exponent, h, 0, 4).removeO())
    moments = {xi: 0, xi**2: Lambda, xi**3: 0, xi**4: fourth}  # about the centre; odd ones do not enter at this order
    mean = sum(series.coeff(xi, n) * (moments[xi**n] if n else 1) for n in range(4))
    cumulant = sp.series(sp.log(mean), h, 0, 3).removeO().subs(h, 1)
    high = sp.diff(_x**2 / (2 * t) - cumulant, _x, 2)
    two = _x**2 / (2 * (t + _s)) - sp.log(sp.cosh(_m * _x / (t + _s)))
    return {"high noise": sp.simplify(high), "two clusters": sp.simplify(sp.diff(two, _x, 2).subs(_x, 0))}


@cache
def speciation_equation(convention: str = "ve") -> Result:
    r"""The speciation time, solved from `curvature`.

    >>> speciation_equation("ve").equation, speciation_equation("vp").equation
    (Eq(t_s, Lambda), Eq(t_s, log(Lambda)/2))
    """
    (time,) = sp.solve(curvature()["high noise"], t)
    limit = "leading order at high noise: means far apart against the spread of a class"
    if _convention(convention) == "vp":
        tau = sp.Symbol("tau", positive=True)
        # t = e^{2 tau} - 1, of which the one is dropped: it is of the order that the expansion leaves out
        (time,) = sp.solve(sp.Eq(time * sp.exp(-2 * tau), 1), tau)
        time = sp.expand_log(time, force=True)
    return Result(f"speciation time ({convention})", sp.Eq(sp.Symbol("t_s"), time), "Lambda > 0", limit, ("BBBM24",))


def _convention(convention: Any) -> str:
    if convention not in CONVENTIONS:
        raise DomainError("convention", convention, '"ve" (t = sigma^2) or "vp" (Ornstein-Uhlenbeck time)')
    return convention


def speciation_time(data: Any, *, convention: str = "ve", N: Any = None) -> float:
    r"""Speciation time: above it a backward trajectory has not chosen its class yet.

    .. math:: t_s=\Lambda\ \text{(VE)},\qquad t_s=\tfrac12\log\Lambda\ \text{(VP)}

    with :math:`\Lambda` the largest eigenvalue of the covariance of the data, between and within classes. VE: the noise at which
    the curvature of :math:`-\log P_t` at the centre vanishes, to leading order at high noise. VP: [BBBM24]'s
    :math:`\Lambda e^{-2t_s}=1`. The change of variable would make it :math:`\frac12\log(1+\Lambda)`: the two differ by
    :math:`1/2\Lambda`, which the expansion leaves out. Two clusters at :math:`\pm m` with variance s have
    :math:`\Lambda=|m|^2+s` and exactly :math:`t=\Lambda-2s` (VE).

    Parameters
    ----------
    data : Mixture with means; (N, N) covariance; or a model whose covariance is that of the whole data set
        For a model the upper edge of its covariance spectrum, so `Spectrum.from_samples(X)` is a data set's.
    convention : "ve" (default; squared data units) or "vp" (Ornstein-Uhlenbeck time)
        In VP the units of the data count: scale them to a variance of order 1.
    N : number, for a PowerLaw without one

    Returns
    -------
    float

    Raises
    ------
    DomainError
        A mixture without means, a matrix that is not a covariance, an unknown convention, or VP with Lambda <= 1: such data
        do not speciate.

    Notes
    -----
    The failure that looks normal: a top direction that is not one between classes (brightness of images, say). Then the time is
    that of this direction's choice, if it has one.
    Source: [BBBM24]; [ours: docs/derivations/mixtures.md].

    >>> from theory.models import Isotropic
    >>> ones = np.ones(1024)
    >>> two = Mixture([0.5, 0.5], [Isotropic(1.0)] * 2, means=[ones, -ones])
    >>> round(speciation_time(two), 6), round(speciation_time(two, convention="vp"), 4)
    (1025.0, 3.4662)
    """
    _convention(convention)
    top = _largest(data, N)
    if convention == "ve":
        return top
    if top <= 1:
        raise DomainError("Lambda", top, "> 1 in the vp convention", "These data do not speciate, or need other units")
    return 0.5 * math.log(top)


def _largest(data: Any, N: Any) -> float:
    if isinstance(data, Mixture):
        return data.largest_eigenvalue()
    if isinstance(data, PowerLaw) and data.N is None:
        if N is None:
            raise DomainError("N", None, "a number >= 1 for a power law without one")
        return data.in_dimension(N).scale
    if isinstance(data, GaussianModel):
        law = covariance_law(data)
        ends = [*law.atom_values, *law.edges[:, 1]]
        return float(max(ends))
    if hasattr(data, "mean_variance"):
        raise DomainError(
            "data", data, "a model with a covariance spectrum", "Hand over a covariance or Spectrum.from_samples(X)"
        )
    matrix = finite("data", data, allowed="a Mixture, a data model or an (N, N) covariance")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise DomainError("data", f"an array of shape {matrix.shape}", "an (N, N) covariance")
    if not np.allclose(matrix, matrix.T, rtol=1e-8, atol=1e-12 * np.abs(matrix).max()):
        raise DomainError("data", "a matrix that is not symmetric", "an (N, N) covariance")
    values = np.linalg.eigvalsh(matrix)
    if values[0] < -1e-8 * max(values[-1], 0.0) or values[-1] <= 0:
        raise DomainError("data", f"eigenvalues down to {values[0]:.3g}", "a covariance: eigenvalues >= 0, one > 0")
    return float(values[-1])


# --- clones -----------------------------------------------------------------------------------------------------------------


@cache
def cloning_identity() -> tuple[sp.Expr, sp.Expr]:
    r"""Integrands of :math:`\frac12\int\frac{G_+^2+G_-^2}{G_++G_-}` and of :math:`E\sum_kp_k^2`, equal weights: the same.

    >>> a, b = cloning_identity()
    >>> sp.simplify(a - b)
    0
    """
    y, m, v = sp.symbols("y m v", positive=True)
    plus, minus = (sp.exp(-((y - sign * m) ** 2) / (2 * v)) / sp.sqrt(2 * sp.pi * v) for sign in (1, -1))
    density = (plus + minus) / 2
    posterior = [plus / (plus + minus), minus / (plus + minus)]
    return (plus**2 + minus**2) / (plus + minus) / 2, density * sum(p**2 for p in posterior)


def cloning_probability(mixture: Mixture, t: Any, *, convention: str = "ve") -> Any:
    r"""Probability that two clones of a backward trajectory, split at t, end in the same of two Gaussian classes.

    .. math:: \phi(t)=E\sum_kp_k(x)^2=\int\frac{\sum_k(\pi_kG_k)^2}{\sum_k\pi_kG_k}\,dx,\qquad
       \phi=\tfrac12\int\frac{G_+^2+G_-^2}{G_++G_-}\ \text{for equal classes,}

    :math:`G_k` the law of x at noise t from class k. It falls from 1 to :math:`\sum_k\pi_k^2`.

    Parameters
    ----------
    mixture : Mixture of two classes with means
        Classes of one and the same covariance in the coordinates of the means (any spectrum), or both isotropic with different
        variances: then the norm of x tells the classes apart too.
    t : number or array > 0
        VE time, or Ornstein-Uhlenbeck time if `convention` is "vp".
    convention : "ve" or "vp"

    Returns
    -------
    float or array of t's shape; absolute error below 1e-9 while the variances at noise t differ by less than a factor of 30

    Raises
    ------
    DomainError
        Not two classes, no means, other pairs of covariances, t <= 0.

    Notes
    -----
    Exact for the reverse SDE with the exact score; the probability flow makes clones of one x identical.
    The failure that looks normal: classes that a trained network merges or splits; this is the ideal score's.
    Source: [BBBM24] for equal classes; other weights and variances [ours: docs/derivations/mixtures.md].

    >>> from theory.models import Isotropic
    >>> ones = np.ones(1024)
    >>> two = Mixture([0.5, 0.5], [Isotropic(1.0)] * 2, means=[ones, -ones])
    >>> cloning_probability(two, [3.0, 3.5, 4.0], convention="vp").round(3)
    array([0.918, 0.764, 0.632])
    """
    times = positive("t", t)
    noise = np.asarray(t_from_ou(times) if _convention(convention) == "vp" else times)
    if not isinstance(mixture, Mixture) or len(mixture.models) != 2:
        raise DomainError("mixture", mixture, "a Mixture of two classes with means")
    variances, gap = mixture.variances(), mixture.means[0] - mixture.means[1]
    pi = np.array(mixture.weights)
    if np.allclose(variances[0], variances[1], rtol=1e-12, atol=0):
        values = [_equal_covariances(pi, float(np.sum(gap**2 / (variances[0] + s)))) for s in noise.ravel()]
    elif np.ptp(variances, axis=1).max() <= 1e-12 * variances.max():
        values = [_isotropic(pi, variances[:, 0] + s, float(gap @ gap), gap.size) for s in noise.ravel()]
    else:
        raise DomainError("models", mixture.models, "of one covariance, or both isotropic")
    phi = np.array(values).reshape(noise.shape)
    return float(phi) if phi.ndim == 0 else phi


_REACH, _STEP = (
    9.0,
    0.5,
)  # in standard deviations; in log-odds, where the logistic has its poles at i pi: error e^(-4 pi^2)


def _equal_covariances(pi: np.ndarray, square: float) -> float:
    r"""The log-odds of the true class are normal with mean :math:`d^2/2` and variance :math:`d^2`, d the Mahalanobis distance."""
    d = min(math.sqrt(square), 60.0)  # beyond it the classes never mix: 1 - phi < e^(-d^2/8) = 1e-195
    bias = math.log(pi[0] / pi[1])
    z = np.linspace(-_REACH, _REACH, 2 * math.ceil(_REACH * max(d / _STEP, 8.0)) + 1)
    density = np.exp(-(z**2) / 2)
    density /= density.sum()
    odds = d * d / 2 + d * z
    return float(pi[0] * (density @ expit(odds + bias)) + pi[1] * (density @ expit(odds - bias)))


def _isotropic(pi: np.ndarray, v: np.ndarray, square: float, N: int) -> float:
    r"""Variances :math:`v_k` at noise t: averages over the coordinate between the means and over the norm of the others."""
    total, distance = 0.0, math.sqrt(square)
    for own, other in ((0, 1), (1, 0)):
        # log-odds of the own class at its own point: z along the means, q the chi-squared norm of the N - 1 others
        ratio = v[own] / v[other]
        shift = math.log(pi[own] / pi[other]) - 0.5 * N * math.log(ratio)
        q, weight = _chi_squared(N - 1, abs(ratio - 1) / 2)
        width = distance * math.sqrt(v[own]) / v[other] + abs(ratio - 1) * _REACH
        z = np.linspace(-_REACH, _REACH, 2 * math.ceil(_REACH * max(min(width, 400.0) / _STEP, 8.0)) + 1)
        density = np.exp(-(z**2) / 2)
        density /= density.sum()
        along = ((math.sqrt(v[own]) * z + distance) ** 2 / v[other] - z**2) / 2 + shift
        total += pi[own] * float(density @ expit(along[:, None] + (ratio - 1) * q / 2) @ weight)
    return total


def _chi_squared(n: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of a chi-squared law with n degrees for functions of rate times it that vary like the logistic."""
    if n == 0:
        return np.zeros(1), np.ones(1)
    # Gauss-Legendre panels between quantiles 1e-16 apart from the ends, in the square root, whose density is smooth
    low, high = np.sqrt(chi2.ppf(1e-16, n)), np.sqrt(chi2.isf(1e-16, n))
    panels = max(4, math.ceil(min(rate * (high**2 - low**2), 400.0) / 4))
    x, w = np.polynomial.legendre.leggauss(16)
    half = (high - low) / (2 * panels)
    y = (low + half * (2 * np.arange(panels)[:, None] + 1 + x)).ravel()
    weight = np.tile(half * w, panels) * 2 * y * chi2.pdf(y**2, n)
    return y**2, weight / weight.sum()
