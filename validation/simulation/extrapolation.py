r"""From curves to numbers, and from finite N to the limit: crossings, optima, jackknife errors, fits in 1/N.

The functional form of a fit is a `Form`, stated before the data are seen; its goodness (chi^2 per degree of freedom and
its p-value) is part of the result. Source: [ours: docs/derivations/finite_n_drift.md].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import ndtri
from scipy.stats import chi2 as chi2_law

from numerics.domain import DomainError, finite, integer, positive

__all__ = [
    "TERMS",
    "Estimate",
    "Extrapolation",
    "Form",
    "Limit",
    "crossing",
    "extrapolate",
    "jackknife",
    "limit_of_logs",
    "minimum",
]

TERMS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = MappingProxyType(
    {
        "1/N": lambda N: 1 / N,
        "1/N^2": lambda N: N**-2.0,
        "N^-2/3": lambda N: N ** (-2 / 3),  # edges of spectra
        "N^-3/2": lambda N: N**-1.5,
        "log N/N": lambda N: np.log(N) / N,
        "log N/N^2": lambda N: np.log(N) * N**-2.0,
    }
)


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error; NaN where the curve gave none (`reason` says why)."""

    value: float
    error: float
    reason: str = ""


def crossing(x: np.ndarray, weight: np.ndarray, level: float = 0.5) -> float:
    r"""Abscissa where a falling curve of mean weights passes `level`; NaN if it does not do so once on the grid.

    The weights of a REM fall like the probit :math:`\Phi(a-bx)` of a Gaussian free-energy difference, so the cubic
    spline goes through :math:`\Phi^{-1}(w)`, which is almost straight.

    >>> from scipy.special import ndtr
    >>> x = np.linspace(-1, 1, 5)
    >>> round(crossing(x, ndtr(0.3 - x)), 12)
    0.3
    """
    y = ndtri(np.clip(weight, 1e-300, 1 - 1e-16)) - ndtri(level)
    return _single_root(CubicSpline(x, y), x, y) if len(x) >= 4 and np.isfinite(y).all() else float("nan")


def minimum(x: np.ndarray, y: np.ndarray) -> float:
    """Abscissa of the minimum of a smooth curve, from the spline's derivative; NaN at the edge of the grid.

    >>> x = np.linspace(-1, 2, 7)
    >>> round(minimum(x, (x - 0.4) ** 2), 12)
    0.4
    """
    i = int(np.argmin(y))
    if len(x) < 5 or not np.isfinite(y).all() or i in (0, len(x) - 1):
        return float("nan")
    slope = CubicSpline(x, y).derivative()
    near = np.array([x[i - 1], x[i], x[i + 1]])
    return _single_root(slope, near, slope(near))


def _single_root(curve, x: np.ndarray, y: np.ndarray) -> float:
    changes = np.flatnonzero(np.signbit(y[1:]) != np.signbit(y[:-1]))
    if len(changes) != 1:
        return float("nan")
    low, high = x[changes[0]], x[changes[0] + 1]
    roots = curve.roots(extrapolate=False)
    roots = roots[(roots >= low) & (roots <= high)]
    return float(roots[0]) if len(roots) == 1 else float("nan")


def jackknife(
    x: np.ndarray, rows: np.ndarray, statistic: Callable[[np.ndarray, np.ndarray], float], groups: int = 64
) -> Estimate:
    r"""`statistic(x, mean curve)` with its delete-a-group jackknife error over independent disorder replicas.

    .. math:: \sigma^2=\frac{G-1}{G}\sum_g\left(s_{(g)}-\bar s\right)^2

    with `G` groups of (nearly) equal size, the statistic recomputed without each.

    Parameters
    ----------
    x : (K,) grid
    rows : (R, K), one row a replica, R >= 2
    statistic : callable of (x, (K,) mean curve)
    groups : int >= 2

    The failure that looks normal: if a leave-out curve leaves the grid the error would be too small; the estimate is
    then NaN with a reason instead.
    """
    x, rows = finite("x", x), finite("rows", rows)
    if rows.ndim != 2 or rows.shape[1] != x.size or len(rows) < 2:
        raise DomainError("rows", rows.shape, f"an array of shape (R, {x.size}) with R >= 2 replicas")
    groups = min(integer("groups", groups, minimum=2), len(rows))
    total, R = rows.sum(axis=0), len(rows)
    value = statistic(x, total / R)
    parts = np.array_split(np.arange(R), groups)
    left_out = np.array([statistic(x, (total - rows[part].sum(axis=0)) / (R - len(part))) for part in parts])
    if not (np.isfinite(value) and np.isfinite(left_out).all()):
        return Estimate(float("nan"), float("nan"), "the curve has no single crossing or interior optimum on its grid")
    spread = np.square(left_out - left_out.mean()).sum()
    return Estimate(float(value), float(np.sqrt((groups - 1) / groups * spread)))


@dataclass(frozen=True)
class Form:
    """A finite-size form, limit + known part + sum of coefficients * terms(N), stated before the data are seen.

    Parameters
    ----------
    free : names in `TERMS`, whose coefficients are fitted
    known : str
        What the known part is, in words ("" for none); its values at the sizes of the fit go to `extrapolate`.

    >>> Form(free=("1/N", "log N/N")).text
    'y(N) = y + c1 1/N + c2 log N/N'
    """

    free: tuple[str, ...] = ("1/N",)
    known: str = ""

    def __post_init__(self):
        object.__setattr__(self, "free", tuple(self.free))
        unknown = [name for name in self.free if name not in TERMS]
        if unknown or len(set(self.free)) < len(self.free):
            raise DomainError("free", self.free, f"different names among {', '.join(TERMS)}")

    @property
    def text(self) -> str:
        known = [f"[{self.known}]"] if self.known else []
        return "y(N) = " + " + ".join(["y", *known, *(f"c{i} {name}" for i, name in enumerate(self.free, 1))])

    def design(self, N: np.ndarray) -> np.ndarray:
        """Columns of the fit: one, then the free terms; (len(N), 1 + len(free))."""
        return np.stack([np.ones_like(N), *(TERMS[name](N) for name in self.free)], axis=1)


_LINEAR = Form()


@dataclass(frozen=True)
class Extrapolation:
    """A weighted fit to N -> infinity.

    `error` is the standard error of the limit from the data's own errors; where chi^2/dof > 1 it is enlarged by the
    square root of that ratio. `covariance` (limit first, then the free coefficients) is not enlarged.
    """

    limit: float
    error: float
    coefficients: Mapping[str, float]
    covariance: np.ndarray
    chi2: float
    dof: int
    form: Form
    N: np.ndarray
    y: np.ndarray
    sigma: np.ndarray
    known: np.ndarray

    @property
    def p_value(self) -> float:
        """Probability of a chi^2 this large if the form is right; NaN without degrees of freedom."""
        return float(chi2_law.sf(self.chi2, self.dof)) if self.dof > 0 else float("nan")

    def residual(self) -> np.ndarray:
        """Fit minus data, in errors, at the sizes of the fit."""
        best = np.array([self.limit, *self.coefficients.values()])
        return (self.known + self.form.design(self.N) @ best - self.y) / self.sigma


def extrapolate(
    N: Sequence[float],
    y: Sequence[float],
    sigma: Sequence[float],
    form: Form = _LINEAR,
    known: Sequence[float] | float = 0.0,
) -> Extrapolation:
    r"""Weighted least squares of `y(N)` with the given form, :math:`\min\sum_i(y_i-y(N_i))^2/\sigma_i^2`.

    Parameters
    ----------
    N, y, sigma : sequences of equal length
        Sizes, measurements and their standard errors, independent of each other.
    form : Form
    known : sequence of that length, or 0
        The known part of the form at each size; it vanishes as N grows.

    Raises
    ------
    DomainError
        If there are fewer sizes than coefficients plus one (no degree of freedom would be left to test the form).

    >>> fit = extrapolate([10, 20, 40], [1.1, 1.05, 1.025], [1e-3] * 3)
    >>> round(fit.limit, 9), round(fit.coefficients["1/N"], 9), fit.dof
    (1.0, 1.0, 1)
    """
    N, y, sigma = positive("N", N), finite("y", y), positive("sigma", sigma)
    if N.ndim != 1 or not N.shape == y.shape == sigma.shape:
        raise DomainError(
            "N, y, sigma", (N.shape, y.shape, sigma.shape), "three one-dimensional arrays of equal length"
        )
    design = form.design(N)
    if len(np.unique(N)) <= design.shape[1]:
        raise DomainError(
            "N", N.tolist(), f"at least {design.shape[1] + 1} different sizes", f"The form is {form.text}"
        )
    # columns scaled to one: 1, 1/N and 1/N^2 differ by orders of magnitude and the normal matrix squares that
    scale = np.abs(design).max(axis=0)
    weighted = design / scale / sigma[:, None]
    inverse = np.linalg.pinv(weighted.T @ weighted)
    known = np.broadcast_to(finite("known", known), N.shape)
    solution = np.linalg.lstsq(weighted, (y - known) / sigma, rcond=None)[0]
    residual = weighted @ solution - (y - known) / sigma
    chi2, dof = float(residual @ residual), len(N) - design.shape[1]
    best, covariance = solution / scale, inverse / np.outer(scale, scale)
    error = float(np.sqrt(covariance[0, 0] * max(1.0, chi2 / dof)))
    coefficients = dict(zip(form.free, map(float, best[1:]), strict=True))
    return Extrapolation(float(best[0]), error, coefficients, covariance, chi2, dof, form, N, y, sigma, known)


@dataclass(frozen=True)
class Limit:
    """What an extrapolated logarithm is the logarithm of; NaN, and no `fit`, where too few sizes had a value."""

    value: float = float("nan")
    error: float = float("nan")
    p_value: float = float("nan")
    fit: Extrapolation | None = None


def limit_of_logs(N: np.ndarray, y: np.ndarray, sigma: np.ndarray, form: Form, known: np.ndarray) -> Limit:
    """`extrapolate` for logarithms `y`, NaN at sizes where nothing was measured: those are left out.

    >>> N, y = np.array([10.0, 20.0, 40.0, 80.0]), np.log(2.0) + 1 / np.array([10.0, 20.0, 40.0, np.nan])
    >>> limit = limit_of_logs(N, y, np.full(4, 1e-3), Form(), np.zeros(4))
    >>> round(limit.value, 9), limit.fit.N.tolist()
    (2.0, [10.0, 20.0, 40.0])
    >>> limit_of_logs(N[2:], y[2:], np.full(2, 1e-3), Form(), np.zeros(2)).value
    nan
    """
    good = np.isfinite(y)
    if good.sum() <= 1 + len(form.free):
        return Limit()
    fit = extrapolate(N[good], y[good], sigma[good], form, known[good])
    value = float(np.exp(fit.limit))
    return Limit(value, value * fit.error, fit.p_value, fit)
