"""When to stop training: training times of a network from its checkpoints, and predicted by a pilot run."""

from validation.window.curves import checkpoint_curves, checkpoints_in, draw
from validation.window.figures import curves_figure, prediction_figure, write_prediction, write_run
from validation.window.pilot import constant_rate, pilot_curves
from validation.window.prediction import default_sizes, predict_window, prediction_lines
from validation.window.scaling import Extrapolated, extrapolate_time
from validation.window.times import first_crossing, report_lines, training_times

__all__ = [
    "Extrapolated",
    "checkpoint_curves",
    "checkpoints_in",
    "constant_rate",
    "curves_figure",
    "default_sizes",
    "draw",
    "extrapolate_time",
    "first_crossing",
    "pilot_curves",
    "predict_window",
    "prediction_figure",
    "prediction_lines",
    "report_lines",
    "training_times",
    "write_prediction",
    "write_run",
]
