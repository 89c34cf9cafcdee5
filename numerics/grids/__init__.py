"""Sweeps over grids that go on, after a kill, from the rows that are finished; independent tasks, here or on dask."""

from numerics.grids.grid import sweep
from numerics.grids.rows import Rows, forget, mark
from numerics.grids.schedulers import connected, scheduler_text
from numerics.grids.tasks import run_tasks

__all__ = ["Rows", "connected", "forget", "mark", "run_tasks", "scheduler_text", "sweep"]
