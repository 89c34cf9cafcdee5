"""When real networks learn and when they memorise: exponents of both times against points and width, for two optimisers."""

from validation.experiments.network_training_time.experiment import PRESETS, Preset, figure, run

__all__ = ["PRESETS", "Preset", "figure", "run"]
