r"""What theory says before a run, and the verdict after it: agree, disagree or inconclusive.

With the measured limit m, its standard error s, the prediction v and its relative tolerance T:

    disagree       if |m - v| > 3 s and |m - v| > T |v|
    agree          if |m - v| <= 3 s, 3 s <= T |v|, and the declared finite-size form fits (p >= 0.001)
    inconclusive   otherwise: not precise enough, or precise and off by less than the tolerance, or the form does not fit

For Gaussian errors and a right theory the chance of "disagree" is at most 0.27 % (0.4 % with the 63 degrees of freedom
of a jackknife in 64 groups), and that of missing "agree" when precise enough at most 0.4 % more for the form. A theory
off by twice its tolerance is called "agree" with chance at most 0.14 %: the error must be below T/3, so that it sits
3 standard errors outside the accepted interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from numerics.display import card, number
from numerics.domain import finite, positive
from validation.simulation.extrapolation import Form

__all__ = ["Outcome", "Prediction", "Verdict", "judge"]

SIGMAS = 3.0
P_FORM = 1e-3


class Outcome(StrEnum):
    """How a comparison ended."""

    AGREE = "agree"
    DISAGREE = "disagree"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Prediction:
    """A number, and how a finite system is expected to approach it; declared before anything is measured.

    Parameters
    ----------
    name : str
    value : float, not 0
        The limit N to infinity.
    correction_form : Form or None
        The finite-size form the data will be fitted with; None where the prediction is for the measured size itself.
    tolerance : float > 0
        Relative: what counts as agreement in substance.
    source : str
        Where the prediction comes from.

    Raises
    ------
    DomainError
        For a value that is not finite (a solver without a solution predicts nothing) or a tolerance <= 0.
    """

    name: str
    value: float
    correction_form: Form | None = None
    tolerance: float = 0.03
    source: str = ""

    def __post_init__(self):
        object.__setattr__(self, "value", float(finite("value", self.value)))
        object.__setattr__(self, "tolerance", float(positive("tolerance", self.tolerance)))


@dataclass(frozen=True)
class Verdict:
    """The outcome of one comparison, with its numbers."""

    prediction: Prediction
    measured: float
    error: float
    outcome: Outcome
    reason: str
    p_form: float = math.nan

    @property
    def deviation(self) -> float:
        """(measured - predicted)/|predicted|."""
        return (self.measured - self.prediction.value) / abs(self.prediction.value)

    @property
    def sigmas(self) -> float:
        """(measured - predicted)/error."""
        return (self.measured - self.prediction.value) / self.error if self.error > 0 else math.nan

    def _repr_html_(self) -> str:
        entries = {
            "theory": self.prediction.value,
            "measured": number(self.measured, self.error),
            "off by": f"{100 * self.deviation:+.2f} %, {self.sigmas:+.1f} sigma",
            "verdict": f"{self.outcome}: {self.reason}",
        }
        return card(self.prediction.name, entries)

    def __str__(self) -> str:
        p = self.prediction
        return (
            f"{p.name}: theory {p.value:.6g}, measured {self.measured:.6g} +- {self.error:.2g} "
            f"({100 * self.deviation:+.2f} %, {self.sigmas:+.1f} sigma): {self.outcome}; {self.reason}"
        )


def judge(prediction: Prediction, measured: float, error: float, p_form: float = math.nan) -> Verdict:
    """Compare a measurement with a prediction declared before it; the rule is in the module's docstring.

    Parameters
    ----------
    prediction : Prediction
    measured, error : float
        The measured limit and its standard error; NaN where the measurement failed.
    p_form : float
        Probability of the fit's chi^2 if the declared form is right; NaN where nothing was fitted.

    Returns
    -------
    Verdict

    The failure that looks normal: an error taken from queries that share one disorder is too small, and turns every
    comparison into "disagree" (or, with a lucky fluctuation, "agree"). Hand over errors between replicas only.

    Source: [ours: docs/derivations/finite_n_drift.md].

    >>> judge(Prediction("t_c", 1.41), 1.42, 0.01).outcome
    <Outcome.AGREE: 'agree'>
    >>> judge(Prediction("t_c", 1.41), 1.42, 0.03).outcome  # 3 errors are more than 3 %
    <Outcome.INCONCLUSIVE: 'inconclusive'>
    >>> judge(Prediction("t_c", 1.41), 2.0, 0.05).outcome
    <Outcome.DISAGREE: 'disagree'>
    """
    measured, error = float(measured), float(error)
    tolerance = prediction.tolerance * abs(prediction.value)
    off = abs(measured - prediction.value)

    def verdict(outcome: Outcome, reason: str) -> Verdict:
        return Verdict(prediction, measured, error, outcome, reason, float(p_form))

    if not (math.isfinite(measured) and math.isfinite(error) and error > 0):
        return verdict(Outcome.INCONCLUSIVE, "nothing was measured")
    if off > SIGMAS * error and off > tolerance:
        return verdict(Outcome.DISAGREE, f"off by more than {SIGMAS:g} sigma and by more than the tolerance")
    if p_form < P_FORM:
        return verdict(Outcome.INCONCLUSIVE, f"the declared finite-size form does not fit (p = {p_form:.1g})")
    if SIGMAS * error > tolerance:
        return verdict(
            Outcome.INCONCLUSIVE, f"{SIGMAS:g} sigma exceed the tolerance: more replicas or sizes are needed"
        )
    if off > SIGMAS * error:
        return verdict(Outcome.INCONCLUSIVE, f"within the tolerance, but off by more than {SIGMAS:g} sigma")
    return verdict(Outcome.AGREE, f"within {SIGMAS:g} sigma, which are within the tolerance")
