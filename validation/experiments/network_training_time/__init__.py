"""When real networks learn and when they memorise: their growth with points, width and a direction's variance."""

from validation.experiments.network_training_time.directions import (
    DIRECTIONS,
    DirectionsPreset,
    directions,
    directions_figure,
)
from validation.experiments.network_training_time.experiment import PRESETS, Preset, figure, run

__all__ = ["DIRECTIONS", "PRESETS", "DirectionsPreset", "Preset", "directions", "directions_figure", "figure", "run"]
