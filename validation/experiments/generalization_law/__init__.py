"""The best noise floor is the mean squared distance to the nearest training point."""

from validation.experiments.generalization_law.experiment import PRESETS, figure, run

__all__ = ["PRESETS", "figure", "run"]
