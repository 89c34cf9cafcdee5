"""Sweeps over parameter grids that go on, after a kill, from the rows that are finished."""

from numerics.grids.grid import sweep
from numerics.grids.rows import Rows, mark

__all__ = ["Rows", "mark", "sweep"]
