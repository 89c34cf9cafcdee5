"""How two times with errors are compared: by their logarithms, at a stated rate of false alarms.

A time is positive and may lie decades away from another, so distances and errors are those of logarithms. Errors from few probes
have Student's quantile in place of the Gaussian one. Gaussian data are called different in at most `FALSE_ALARM` of all audits:
each of the four times has a quarter of that (Bonferroni), and the quantile is taken at a quarter of this again, since errors lack
what another training set would change and are skewed where probes are few. benchmarks/bench_audit_verdicts.py measures the rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t as student

from validation.simulation import Estimate

__all__ = ["FALSE_ALARM", "TOLERANCE", "Difference", "difference", "relative_error"]

FALSE_ALARM = 0.01  # of a whole audit, when the data are Gaussian
TIMES = 4
MARGIN = 4  # z-scores of Gaussian data have rms 0.5 to 1.15, and twice in 260 exceed 3.1, where the lower tail is the longer one
TOLERANCE = math.log(1.1)  # differences below a tenth matter to nobody
DECADE = math.log(10.0)


@dataclass(frozen=True)
class Difference:
    """The distance of two logarithms, and the distance from which on their errors cannot explain it."""

    distance: float
    reach: float

    @property
    def resolved(self) -> bool:
        """Whether a difference of a decade would be noticed; where it would not, errors are as large as values."""
        return self.reach < DECADE

    @property
    def significant(self) -> bool:
        """More than a tenth, and more than errors explain."""
        return self.resolved and self.distance > max(TOLERANCE, self.reach)


def difference(a: Estimate, b: Estimate, *others: float, degrees: Sequence[float] = ()) -> Difference:
    """Compare two positive finite numbers with errors.

    reach = q sqrt(sum of squared relative errors), q Student's quantile for `FALSE_ALARM`/16, both sides, with the degrees
    of freedom of Welch and Satterthwaite, but no more than those of a.

    Parameters
    ----------
    a, b : Estimate, values finite and > 0, standard errors >= 0
    others : errors of log(a/b) that are in neither
    degrees : of freedom of the errors of a, b and the others (one less than the number of samples they come from); infinite
        where not given

    >>> far = difference(Estimate(0.036, 0.001), Estimate(1.3e10, 1.2e10))
    >>> far.significant, far.resolved
    (False, False)
    >>> difference(Estimate(0.036, 0.001), Estimate(1.3e10, 1e9)).significant
    True
    >>> difference(Estimate(1.0, 0.02), Estimate(1.08, 0.001)).significant  # four errors, but less than a tenth
    False
    """
    variances = [relative_error(a) ** 2, relative_error(b) ** 2, *(error**2 for error in others)]
    total = math.fsum(variances)
    known = zip(variances, degrees, strict=False)
    share = math.fsum((v / total) ** 2 / d for v, d in known) if total else 0.0
    # Welch takes estimated variances for true ones: that of two probes may be next to nothing, and must not count for nothing
    freedom = min([1 / share if share else math.inf, *degrees[:1]])
    quantile = float(student.isf(FALSE_ALARM / TIMES / MARGIN / 2, freedom))
    return Difference(abs(math.log(a.value / b.value)), quantile * math.sqrt(total))


def relative_error(estimate: Estimate) -> float:
    """The error of the logarithm."""
    return estimate.error / estimate.value
