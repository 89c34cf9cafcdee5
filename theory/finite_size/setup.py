"""What the expectations at finite N and P share: checked arguments, the draws of x, and averages over them."""

from __future__ import annotations

import math

import numpy as np

from numerics.domain import DomainError, choice, finite, integer, positive, shaped
from theory.finite_size.draws import annealed_slack, draws
from theory.finite_size.law import PartitionLaw

__all__ = ["Setup", "log_counts"]


class Setup:
    """Checked arguments, the draws they share, and the averages over them."""

    def __init__(self, model, P, N, t, kind, x, seed, samples, log_P):
        choice("kind", kind, ("noisy", "clean"))
        if t is None:
            raise DomainError("t", "missing", "a number > 0 or an array of such")
        self.noisy, self.x_given = kind == "noisy", x is not None
        array = positive("t", t, allowed="finite and > 0 (a variance)")
        if array.size == 0:
            raise DomainError("t", t, "a number > 0 or an array of at least one")
        self.shape, self.t = array.shape, array.ravel()
        self.log_P, self.log_rest = log_counts(P, log_P)
        self.draws = draws(model, N, seed=seed, samples=samples, x=x)
        self.spectrum = self.draws[0].spectrum

    def law(self, draw, t, rest=False):
        p, offset, log_a = draw.point(t, self.noisy)
        r, n = draw.spectrum.variance, draw.spectrum.multiplicity
        return PartitionLaw(r / t, n, p, self.log_rest if rest else self.log_P), offset, log_a

    def ask(self, t, question, *, rest=False) -> tuple[np.ndarray, float]:
        """``question(law, log_a) -> (value, error)`` at every draw: the values, and the largest of the quadrature's errors."""
        laws = (self.law(draw, t, rest=rest) for draw in self.draws)
        values, errors = zip(*(question(law, log_a) for law, _, log_a in laws), strict=True)
        return np.array(values), max(errors)

    def average(self, values, quadrature, *, exact=False):
        """Mean over the draws and its standard error, from the means of the groups that share a spectrum."""
        values = np.asarray(values, dtype=float)
        if exact:
            return float(values[0]), float(quadrature)
        group = np.array([draw.group for draw in self.draws])
        means = np.array([values[group == g].mean() for g in np.unique(group)])
        spread = means.std(ddof=1) / math.sqrt(means.size) if means.size > 1 else math.nan
        return float(values.mean()), float(math.hypot(spread, quadrature))

    def controlled(self, values, t, want) -> np.ndarray:
        """Values less a control of mean 0, times a regression coefficient in [0, 1] taken from the *other* draws.

        Independent of the draw it multiplies, so the mean stays exact; below four draws the coefficient is 1.
        """
        y = np.asarray(values, dtype=float)
        if self.x_given:
            return y
        c = annealed_slack(self.draws, t, self.noisy, self.log_rest, want=want)
        if c.size < 4:
            return y - c
        coefficient = np.empty(c.size)
        for i in range(c.size):
            rest = np.arange(c.size) != i
            dc = c[rest] - c[rest].mean()
            coefficient[i] = np.clip(dc @ y[rest] / max(dc @ dc, 1e-300), 0.0, 1.0)
        return y - coefficient * c

    def shaped(self, column):
        array = np.array(column, dtype=float).reshape(self.shape)
        return array if self.shape else float(array)


def log_counts(P, log_P) -> tuple[float, float]:
    """``(log P, log(P - 1))`` of whichever of P and log P was given."""
    if (P is None) == (log_P is None):
        raise DomainError("P, log_P", (P, log_P), "exactly one of them given")
    if log_P is None:
        P = integer("P", P, minimum=2)
        return math.log(P), math.log(P - 1)
    allowed = "a finite number >= log 2"
    if shaped("log_P", log_P).ndim != 0:
        raise DomainError("log_P", log_P, allowed)
    log_P = float(finite("log_P", log_P, allowed=allowed))
    if log_P < math.log(2) - 1e-12:
        raise DomainError("log_P", log_P, allowed)
    return log_P, log_P + math.log1p(-math.exp(-log_P))
