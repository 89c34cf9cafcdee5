"""How far from the centre a training set has patterns of which there are many copies, or nearly.

Copies share every rounding of their products with a query, which then does not average out over them.
"""

from __future__ import annotations

import math

import torch

from validation.score.engine.tiles import TrainingSet, rounding

__all__ = ["Copies"]

MANY = 64  # patterns that count as many copies
ALIKE = 1e-5  # distance, over the radius of the set, within which their roundings are alike (measured: 1e-4 are not)
NORMS = 16  # rounding errors within which the half norms of such patterns lie
LOOKED_AT, OTHERS = 64, 15  # runs of alike norms whose rows are compared, and how many of the others must be alike


class Copies:
    """`radius`: largest |xi - c| of patterns of which there are many copies; 0 where there are none."""

    def __init__(self, data: TrainingSet):
        self.radius = 0.0
        if data.P < MANY:
            return
        ordered, position = data.half_norms.sort()
        last, first = ordered[MANY - 1 :], ordered[: 1 - MANY]
        found = torch.nonzero(last - first <= NORMS * rounding(torch.float32, data.N)[0] * last).view(-1)
        if not len(found):
            return
        some = found[torch.linspace(0, len(found) - 1, min(LOOKED_AT, len(found)), device=found.device).long()]
        if any(_alike(data.rows(position[k : k + MANY]), ALIKE * data.radius) for k in some.tolist()):
            self.radius = math.sqrt(2 * float(last[found[-1]]))


def _alike(rows: torch.Tensor, within: float) -> bool:
    """Whether some row has enough others near it: one norm alone does not make copies."""
    near = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist") <= within
    return int(near.sum(dim=1).max()) > OTHERS
