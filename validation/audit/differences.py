"""How two times with errors are compared: by their logarithms, at a stated rate of false alarms.

A time is positive and may lie decades away from another, so distances and errors are those of logarithms. Where errors come from
few probes Student's quantile takes the place of the Gaussian one. Gaussian data are called different in at most `FALSE_ALARM` of
all audits: each of the four times has a quarter of that (Bonferroni). benchmarks/bench_audit_verdicts.py measures the rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.stats import t as student

from validation.simulation import Estimate

__all__ = ["FALSE_ALARM", "TOLERANCE", "Difference", "difference", "relative_error"]

FALSE_ALARM = 0.01  # of a whole audit, when the data are Gaussian
TIMES = 4
TOLERANCE = math.log(1.1)  # differences below a tenth matter to nobody
DECADE = math.log(10.0)


@dataclass(frozen=True)
class Difference:
    """The distance of two logarithms, and the distance from which on their errors cannot explain it."""

    distance: float
    reach: float

    @property
    def significant(self) -> bool:
        """More than a tenth, and more than errors explain."""
        return self.distance > max(TOLERANCE, self.reach)

    @property
    def resolved(self) -> bool:
        """Whether a difference of a decade would be noticed."""
        return self.reach < DECADE


def difference(a: Estimate, b: Estimate, *, degrees: float = math.inf, also: float = 0.0) -> Difference:
    """Compare two positive finite numbers with errors.

    reach = q sqrt((error_a/a)^2 + (error_b/b)^2 + also^2), q Student's quantile for `FALSE_ALARM`/4, both sides.

    Parameters
    ----------
    a, b : Estimate, values finite and > 0, standard errors >= 0
    degrees : of freedom of the errors (one less than the number of probes that they come from)
    also : error of log(a/b) that is in neither

    >>> far = difference(Estimate(0.036, 0.001), Estimate(1.3e10, 1.2e10))
    >>> far.significant, far.resolved
    (True, False)
    >>> difference(Estimate(1.0, 0.02), Estimate(1.08, 0.001)).significant  # three errors, but less than a tenth
    False
    """
    error = math.hypot(relative_error(a), relative_error(b), also)
    return Difference(abs(math.log(a.value / b.value)), float(student.isf(FALSE_ALARM / TIMES / 2, degrees)) * error)


def relative_error(estimate: Estimate) -> float:
    """The error of the logarithm."""
    return estimate.error / estimate.value
