r"""Times, critical alphas, free energies and basins from the replica saddle: the definitions of the REM with this `g`.

Collapse :math:`\alpha=-\frac12-g(1/t;t)`, onset :math:`\alpha=-g(1/t;0)`, condensation
:math:`\alpha=-(g-\beta g')(1/t;0)`, generalisation :math:`t_g=-2g'(\beta_*;0)`. At given (t, alpha_D) one saddle gives alpha
at once; the inverse in `t` is found along branches sampled in log t. Sources: [AALMV25] for the times, [ours:
docs/derivations/replica.md] for `g`.
"""

from __future__ import annotations

import numpy as np

from numerics.channel import CLEAN, MATCHED
from numerics.solvers import Branches, Family, Solution, Status, invert

__all__ = ["KINDS", "LOG_T_RANGE", "Times"]

KINDS = ("onset", "collapse", "condensation", "generalization")
LOG_T_RANGE = (-23.0, 16.0)  # below, x - s(h) has too few digits left; above, alpha is below 1e-7
SPACING = 0.75
G, G_BETA, G_DELTA, V = 0, 1, 2, 6  # places in the payload of ReplicaEngine.iterate


def alpha_and_slope(kind: str, log_t, payload):
    """`alpha` of the time `kind` from a saddle at ``beta = 1/t``, and its derivative by log t (NaN where it needs g'')."""
    beta = np.exp(-log_t)
    g, g_beta, g_delta = payload[:, G], payload[:, G_BETA], payload[:, G_DELTA]
    if kind == "collapse":
        return -0.5 - g, beta * g_beta - g_delta / beta
    if kind == "onset":
        return -g, beta * g_beta
    return beta * g_beta - g, np.full(g.shape, np.nan)


class Times:
    """Inversion of the times in `t` for the rows `alpha_D` (unique values) of one engine."""

    def __init__(self, engine, rows: np.ndarray):
        self.engine, self.rows = engine, rows
        self._branches: dict[int, Branches] = {}

    def branches(self, mode: int) -> Branches:
        """The sampled branches of the saddle with ``delta = t`` (MATCHED) or ``delta = 0`` (CLEAN)."""
        if mode not in self._branches:
            engine, rows = self.engine, self.rows

            def solve(x, row, start):
                beta = np.exp(-x)
                delta = np.exp(x) if mode == MATCHED else np.zeros(x.size)
                found = engine.iterate(beta, delta, rows[row], mode, start)
                return found.y, found.status == Status.OK, found.payload[:, G], found.payload

            def cold(x, row, kind):
                return engine.start(np.exp(-x), np.exp(x) * (mode == MATCHED), rows[row], mode, kind)

            def distance(y, other):
                return np.abs(y - other).max(axis=1)

            family = Family(rows.size, solve, cold, distance)
            self._branches[mode] = Branches(family, SPACING, *LOG_T_RANGE)
        return self._branches[mode]

    def log_time(self, kind: str, alpha: np.ndarray, row: np.ndarray) -> Solution:
        """log t of the time `kind` at flat `alpha` and row indices."""
        mode = MATCHED if kind == "collapse" else CLEAN

        def value(x, _, payload):
            a, slope = alpha_and_slope(kind, x, payload)
            a = np.where(a > 0, a, np.nan)
            with np.errstate(invalid="ignore"):
                return np.log(a), slope / a

        with np.errstate(all="ignore"):
            found, payload = invert(self.branches(mode), np.log(alpha), row, value, start=0.0)
        if kind != "generalization":
            return found
        # alpha + g - beta g' = 0 at beta_*, also where g' jumps: then -g' is the common tangent's slope
        with np.errstate(invalid="ignore"):
            log_t = np.log(-2 * (alpha + payload[:, G]) * np.exp(found.value))
        return Solution(log_t, found.status, found.residual, found.iterations, found.branch)

    def log_condensation_of_minimum(self, log_t: np.ndarray, row: np.ndarray):
        r"""``(solution in log 1/beta_*, payload)`` of :math:`-2g'(\beta_*;0)=t`."""

        def value(x, _, payload):
            # decreasing in x as `invert` wants: g is convex, so -g' grows with x = log 1/beta
            return -np.log(-2 * payload[:, G_BETA]), np.full(x.size, np.nan)

        with np.errstate(all="ignore"):
            return invert(self.branches(CLEAN), -log_t, row, value, start=0.0)
