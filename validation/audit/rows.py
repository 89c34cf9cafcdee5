"""What an audit says of one time and of one noise level: the numbers side by side, and a verdict on their differences."""

from __future__ import annotations

import math
from dataclasses import dataclass

from numerics.display import card, number
from theory.noise import t_to_alpha_bar, t_to_sigma
from validation.audit.differences import difference, relative_error
from validation.audit.uncertain_covariance import SAMPLES
from validation.simulation import Estimate

__all__ = ["DRAWS", "NOT_GAUSSIAN", "NOT_KNOWN", "NOT_RESOLVED", "SizeRow", "TimeRow"]

DRAWS = 32  # of x in the exact theory at finite size; its error bars come from them
NOT_GAUSSIAN = "not Gaussian: trust the data"
NOT_KNOWN = "the covariance is not known well enough"
NOT_RESOLVED = "not resolved: the errors span decades"

_MEANING = {
    "onset": "below it every training point is an attractor of the empirical score",
    "collapse": "below it the ideal score draws a noisy training point back to itself: it memorises",
    "condensation": "below it a fresh point sees only a few training points",
    "generalization": "the empirical density is closest to the data's here",
}


@dataclass(frozen=True)
class TimeRow:
    """One time, three ways; values in squared data units.

    kind : its name; theory : of Gaussian data of infinite size
    finite : the exact theory at P and N, or None; its error includes `covariance`
    twin : measured on a Gaussian sample, or None; data : measured on the data; their errors are over probes
    covariance : error of the logarithm of `theory`, `finite` and `twin`, since P points know the covariance only so well
    degrees : of freedom of the error of `data`; draws : of x, behind `finite`
    """

    kind: str
    theory: float
    finite: Estimate | None
    twin: Estimate | None
    data: Estimate
    covariance: float = 0.0
    degrees: float = math.inf
    draws: int = DRAWS

    @property
    def meaning(self) -> str:
        return _MEANING[self.kind]

    def sigma(self, value: float) -> float:
        return t_to_sigma(value) if value >= 0 else math.nan

    def alpha_bar(self, value: float) -> float:
        return t_to_alpha_bar(value) if value >= 0 else math.nan

    @property
    def gaussian(self) -> tuple[Estimate, float] | None:
        """What Gaussian data of this size would give, were the covariance exact, and the degrees of freedom of its error.

        That is the theory at P and N where there is one, or else the twin.
        """
        known = ((self.finite, self.covariance, self.draws - 1), (self.twin, 0.0, self.degrees))
        for estimate, shared, degrees in known:
            if estimate is not None and math.isfinite(estimate.value) and estimate.value > 0:
                own = math.sqrt(max(0.0, relative_error(estimate) ** 2 - shared**2))
                return Estimate(estimate.value, own * estimate.value), degrees
        return None

    def shown(self) -> dict[str, str]:
        """The columns of a table, as text."""
        found = {"theory at P, N": self.finite, "Gaussian twin": self.twin, "measured": self.data}
        columns = {name: "-" if e is None else number(e.value, e.error) for name, e in found.items()}
        sigma = f"{self.sigma(self.data.value):.3g}"
        return {
            "time": self.kind,
            "theory, N → ∞": f"{self.theory:.4g}",
            **columns,
            "sigma": sigma,
            "verdict": self.verdict,
        }

    def _repr_html_(self) -> str:
        return card(self.kind, self.shown())

    @property
    def verdict(self) -> str:
        """Which differences are there, what they may come from, and which number to trust."""
        if not math.isfinite(self.data.value):
            return f"{'infinite' if math.isinf(self.data.value) else 'not measured'}: {self.data.reason}"
        asymptotic = Estimate(self.theory, 0.0)
        if self.gaussian is None:
            apart = difference(
                self.data, asymptotic, self.covariance, degrees=(self.degrees, 1, SAMPLES - 1)
            ).significant
            return "differs from N → ∞: theory or twin at this size would say why" if apart else "agree"
        gaussian, its = self.gaussian
        ideal = difference(self.data, gaussian, degrees=(self.degrees, its))
        found = difference(self.data, gaussian, self.covariance, degrees=(self.degrees, its, SAMPLES - 1))
        if not found.resolved:
            return NOT_KNOWN if ideal.resolved else NOT_RESOLVED
        if found.significant:
            return NOT_GAUSSIAN
        if ideal.significant:
            return NOT_KNOWN
        return "agree at this size" if difference(gaussian, asymptotic, degrees=(its,)).significant else "agree"


@dataclass(frozen=True)
class SizeRow:
    """Samples needed so that a model run down to `sigma` has not collapsed, as logarithms."""

    sigma: float
    theory: float
    data: Estimate
    extrapolated: bool

    @property
    def note(self) -> str:
        if not math.isfinite(self.data.value):
            return self.data.reason
        return "extrapolated from few neighbours: an upper estimate" if self.extrapolated else "measured"
