"""When to stop training: training times of a network from its checkpoints."""

from validation.window.curves import checkpoint_curves, checkpoints_in, draw
from validation.window.figures import curves_figure, write_run
from validation.window.pilot import constant_rate, pilot_curves
from validation.window.times import first_crossing, report_lines, training_times

__all__ = [
    "checkpoint_curves",
    "checkpoints_in",
    "constant_rate",
    "curves_figure",
    "draw",
    "first_crossing",
    "pilot_curves",
    "report_lines",
    "training_times",
    "write_run",
]
