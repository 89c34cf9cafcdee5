"""Nonlinear hidden manifolds: the replica action, its saddle points, times, basins and fluctuations, from one expression."""

from theory.replica.engine import ReplicaEngine
from theory.replica.fluctuations import Fluctuations
from theory.replica.gaussian_equivalence import gaussian_equivalent

__all__ = ["Fluctuations", "ReplicaEngine", "gaussian_equivalent"]
