"""When real networks learn and when they memorise: their growth with points, width and a direction's variance."""

from validation.experiments.network_training_time.directions import (
    DIRECTIONS,
    DirectionsPreset,
    direction_rows,
    directions,
    directions_figure,
)
from validation.experiments.network_training_time.evaluation import GROWTHS, evaluate, held_out_size
from validation.experiments.network_training_time.experiment import figure, run
from validation.experiments.network_training_time.presets import PRESETS, Preset

__all__ = [
    "DIRECTIONS",
    "GROWTHS",
    "PRESETS",
    "DirectionsPreset",
    "Preset",
    "direction_rows",
    "directions",
    "directions_figure",
    "evaluate",
    "figure",
    "held_out_size",
    "run",
]
