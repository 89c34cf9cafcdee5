"""Solvers that return value, status, residual, iterations and branch: roots, fixed points, continuation, inversion."""

from numerics.solvers.analytic_path import path_source
from numerics.solvers.continuation import Branches, Family
from numerics.solvers.fixed_point import FixedPoint, FixedPoints, StableFixedPoint
from numerics.solvers.inversion import invert
from numerics.solvers.roots import specialised_source
from numerics.solvers.solution import Solution, Status

__all__ = [
    "Branches",
    "Family",
    "FixedPoint",
    "FixedPoints",
    "Solution",
    "StableFixedPoint",
    "Status",
    "invert",
    "path_source",
    "specialised_source",
]
