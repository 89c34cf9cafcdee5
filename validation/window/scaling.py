r"""From times at two or three small P to the time at a large one: a power law, with what is not known about its exponent.

    log tau = c + a log P + e,     a ~ Normal(a_0, PRIOR^2),  a_0 = 1 for tau_mem and 0 for tau_gen,  e of variance s^2

a_0 is the theory of random features (docs/derivations/training_time.md): tau_mem proportional to P, tau_gen independent of it.
Pilots of one P differ by e: s^2 comes from replicas alone, with their degrees of freedom nu. The prediction at P has

    v = s^2 + x^T (X^T X/s^2 + diag(0, PRIOR^-2))^-1 x,     x = (1, log P)
    half width of log tau = root of (T v^(1/2))^2 + (z DRIFT log(P/P_last))^2

with the quantiles T of Student's t with nu degrees of freedom and z of the normal law. The last term says that the exponent
between the pilots and P need not be the one among the pilots: it grows as a network fills up, from 1 to 2 in MLPs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from numerics.display import Shown
from numerics.domain import DomainError, finite, nonnegative, positive

__all__ = ["DRIFT", "PRIOR", "Extrapolated", "extrapolate_time"]

PRIOR = 0.5  # of the exponent about the theory's: pairs of sizes of MLPs have 0.8 to 2.0
DRIFT = 0.7  # of the exponent from one doubling of P to the next: up to 1.0 in MLPs that come near their capacity
LEAST_SCATTER = 0.05  # of log tau: half of the spacing of the checks at which times are read


@dataclass(frozen=True)
class Extrapolated(Shown):
    """A predicted time and its interval; exponent and its error as the pilots and the prior have them."""

    value: float
    low: float
    high: float
    exponent: float
    exponent_error: float
    scatter: float


def extrapolate_time(
    sizes: object,
    times: object,
    P: float,
    *,
    exponent: float,
    fixed: bool = False,
    coverage: float = 0.9,
) -> Extrapolated:
    """The time at P from times at smaller P.

    Parameters
    ----------
    sizes, times : (n,) training points and steps of each pilot, > 0, at least two replicas of one size among them
    P : > 0; exponent : a_0, its expected exponent; fixed : take it as known
    coverage : of the interval, in (0, 1)

    Raises
    ------
    DomainError : arguments outside their domain, one size only where the exponent is not fixed, no replicas

    >>> found = extrapolate_time([10, 10, 20, 20], [100, 104, 200, 208], 80, exponent=1.0)
    >>> found.low < 816 < found.high, round(found.exponent, 2)
    (True, 1.0)
    """
    n, tau = (np.atleast_1d(positive(name, x)) for name, x in (("sizes", sizes), ("times", times)))
    if n.ndim != 1 or n.shape != tau.shape:
        raise DomainError("times", tau.shape, f"one time for each of the {n.size} pilots")
    target, a0 = float(positive("P", P)), float(finite("exponent", exponent))
    if not 0 < float(nonnegative("coverage", coverage)) < 1:
        raise DomainError("coverage", coverage, "in (0, 1)")
    groups = [np.log(tau[n == size]) for size in np.unique(n)]
    nu = sum(len(g) - 1 for g in groups)
    if nu < 1:
        raise DomainError("replicas", 1, "at least 2 of some size: nothing else tells how far two networks differ")
    if len(groups) < 2 and not fixed:
        raise DomainError("sizes", float(n[0]), "at least two different sizes, or a fixed exponent")
    s = max(float(np.sqrt(sum(((g - g.mean()) ** 2).sum() for g in groups) / nu)), LEAST_SCATTER)
    centre = np.log(n).mean()
    X = np.stack([np.ones(len(n)), np.log(n) - centre], axis=1)
    prior = 1e-6 if fixed else PRIOR  # a millionth: the same formula for both
    precision = X.T @ X / s**2 + np.diag([0.0, prior**-2])
    covariance = np.linalg.inv(precision)
    c, a = covariance @ (X.T @ np.log(tau) / s**2 + np.array([0.0, a0 * prior**-2]))
    x = np.array([1.0, np.log(target) - centre])
    drift = DRIFT * max(np.log(target / n.max()), 0.0)
    quantile = 0.5 + coverage / 2
    scatter = stats.t.ppf(quantile, nu) * np.sqrt(s**2 + x @ covariance @ x)
    width = np.hypot(scatter, stats.norm.ppf(quantile) * drift)
    y = x @ [c, a]
    return Extrapolated(*np.exp([y, y - width, y + width]).tolist(), float(a), float(np.sqrt(covariance[1, 1])), s)
