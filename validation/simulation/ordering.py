r"""A verdict on an order that several independent systems show: an exact one-sided binomial test.

If the order were chance, a system would show the predicted one with probability at most c, and so k of n with

    p = P(Binomial(n, c) >= k),

and likewise the reverse one. With the level alpha of 3 sigma, one-sided (0.00135):

    disagree       if so many show the reverse order that p <= alpha, and more than show the predicted one
    agree          if so many show the predicted order that p <= alpha, and their share is within the tolerance of 1
    inconclusive   otherwise

A system that shows neither order counts for neither, and in n.
"""

from __future__ import annotations

import math

from scipy.stats import binom, norm

from numerics.domain import DomainError, integer
from validation.simulation.prediction import SIGMAS, Outcome, Prediction, Verdict

__all__ = ["judge_order"]

ALARM = float(norm.sf(SIGMAS))


def judge_order(prediction: Prediction, right: int, reverse: int, count: int, chance: float = 0.5) -> Verdict:
    """Compare the order of `count` independent systems with a predicted one; the rule is in the module's docstring.

    Parameters
    ----------
    prediction : of the share of systems in the predicted order, value 1
    right, reverse : systems that show the predicted order, and the reverse one
    chance : most that the probability of either can be where order is chance, in (0, 1)

    Returns
    -------
    Verdict; `measured` is the share in the predicted order, `error` that of a binomial share with one success and one failure
    added, which does not vanish where all agree, and is not what the verdict rests on

    Raises
    ------
    DomainError : counts that do not fit, chance outside (0, 1)

    The failure that looks normal: systems that are not independent, as several pairs within one network are not. Count such a
    network once.

    >>> judge_order(Prediction("order", 1.0), 12, 0, 12).outcome
    <Outcome.AGREE: 'agree'>
    >>> judge_order(Prediction("order", 1.0), 4, 0, 4).outcome
    <Outcome.INCONCLUSIVE: 'inconclusive'>
    """
    right, reverse, count = (
        integer(name, value, minimum=0) for name, value in (("right", right), ("reverse", reverse), ("count", count))
    )
    if right + reverse > count:
        raise DomainError("count", count, f"at least right + reverse = {right + reverse}")
    if not 0 < chance < 1:
        raise DomainError("chance", chance, "in (0, 1)")
    if not count:
        return Verdict(prediction, math.nan, math.nan, Outcome.INCONCLUSIVE, "nothing was measured")
    p, p_reverse = (float(binom.sf(k - 1, count, chance)) for k in (right, reverse))
    share, smooth = right / count, (right + 1) / (count + 2)
    if p_reverse <= ALARM and reverse > right:
        outcome, reason = Outcome.DISAGREE, f"{reverse} of {count} in the reverse order, p = {p_reverse:.1g}"
    elif p <= ALARM and 1 - share <= prediction.tolerance:
        outcome, reason = Outcome.AGREE, f"{right} of {count} in the predicted order, p = {p:.1g}"
    else:
        outcome, reason = (
            Outcome.INCONCLUSIVE,
            f"{right} of {count} in the predicted order, {reverse} in the reverse one",
        )
        reason += f", p = {p:.1g} and {p_reverse:.1g}"
    return Verdict(prediction, share, math.sqrt(smooth * (1 - smooth) / count), outcome, reason)
