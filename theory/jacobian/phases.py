r"""The three geometric phases of generation: trivial, coverage, consolidation, and the times between them.

Named by [VASLA25] for what the spectrum of the score's Jacobian shows as noise decreases: first nothing, then the law of
the data inside the manifold, at last the manifold alone. The boundaries, by a threshold of visibility, are
[ours: docs/derivations/jacobian.md].
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from numerics.display import Shown
from numerics.domain import positive
from theory.jacobian.spectral_gaps import THRESHOLD, visibility
from theory.models import GaussianModel, covariance_law

__all__ = ["Phase", "PhaseTimes", "phase", "phase_times"]


class Phase(StrEnum):
    """The geometric phases of generation, in the order in which the backward process meets them [VASLA25]."""

    TRIVIAL = "trivial"
    COVERAGE = "coverage"
    CONSOLIDATION = "consolidation"

    @property
    def meaning(self) -> str:
        return _MEANING[self]


_MEANING = {
    Phase.TRIVIAL: "no direction differs visibly from noise: the score contracts alike in all directions",
    Phase.COVERAGE: "tangent directions differ visibly among themselves or from full signal: the data's own law is fitted",
    Phase.CONSOLIDATION: "all tangent directions are at full signal, all others at noise: the score projects on the manifold",
}


@dataclass(frozen=True)
class PhaseTimes(Shown):
    """The times that separate the three phases.

    Attributes
    ----------
    coverage : float
        Trivial above, coverage below.
    consolidation : float
        Consolidation below; 0 if it never comes (no normal directions, or tangent variances that reach down to 0).
    """

    coverage: float
    consolidation: float


def phase_times(model: GaussianModel, threshold: float = THRESHOLD) -> PhaseTimes:
    r"""The times between the trivial, coverage and consolidation phases of the exact score.

    A direction's signal :math:`\frac r{t+r}=1+t\lambda` is visible at :math:`\Delta_*` and complete at :math:`1-\Delta_*`:

    .. math:: t_{cov}=r_{max}\frac{1-\Delta_*}{\Delta_*},\qquad t_{cons}=r_{min}\frac{\Delta_*}{1-\Delta_*},

    with :math:`r_{max}` the upper end of the spectrum and :math:`r_{min}` its lower end among tangent directions. So no gap
    is visible in the trivial phase, and only the total gap in consolidation.

    Parameters
    ----------
    model : Isotropic, Subspaces, Spectrum or LinearManifold
    threshold : number in (0, 1/2)
        :math:`\Delta_*`.

    Returns
    -------
    PhaseTimes

    Raises
    ------
    DomainError
        If threshold is not in (0, 1/2), or a parameter of the model is a sympy expression or an array.

    Notes
    -----
    The failure that looks normal: crossovers, not transitions; they move with the threshold. [VASLA25] describes the
    phases by which gaps are open; the definition by edges is [ours: docs/derivations/jacobian.md], and holds too for
    spectra without gaps inside the manifold.

    >>> from theory.models import LinearManifold
    >>> phase_times(LinearManifold(0.25), threshold=0.25)
    PhaseTimes(coverage=27.0, consolidation=0.3333333333333333)
    """
    threshold = visibility(threshold, limit=0.5)
    intervals = covariance_law(model).intervals
    odds = (1 - threshold) / threshold
    normal = len(intervals) > 1 and intervals[0, 1] == 0
    return PhaseTimes(float(intervals[-1, 1] * odds), float(intervals[1, 0] / odds) if normal else 0.0)


def phase(model: GaussianModel, t: Any, threshold: float = THRESHOLD) -> Phase | np.ndarray:
    """The phase of the exact score at time t: trivial, coverage or consolidation.

    Parameters
    ----------
    model : Isotropic, Subspaces, Spectrum or LinearManifold
    t : number or array, > 0
    threshold : number in (0, 1/2)
        As in `phase_times`.

    Returns
    -------
    Phase, or for an array an object array of them; members are also the strings of their names in lower case

    Raises
    ------
    DomainError
        If t is not > 0, threshold not in (0, 1/2), or a parameter of the model is a sympy expression or an array.

    Notes
    -----
    The failure that looks normal: data with no normal directions never consolidate, however small t is.
    Source: names and meaning [VASLA25]; boundaries as in `phase_times`.

    >>> from theory.models import LinearManifold
    >>> [phase(LinearManifold(0.25), t).value for t in (100.0, 1.0, 0.01)]
    ['trivial', 'coverage', 'consolidation']
    """
    t = positive("t", t)
    times = phase_times(model, threshold)
    index = (t <= times.coverage).astype(int) + (t < times.consolidation)
    found = np.array(list(Phase), dtype=object)[index]
    return found if t.ndim else Phase(found)
