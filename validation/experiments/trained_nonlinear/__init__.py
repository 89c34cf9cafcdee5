"""Networks on tanh and relu manifolds beside the empirical score of their training set."""

from validation.experiments.trained_nonlinear.experiment import PRESETS, figure, run

__all__ = ["PRESETS", "figure", "run"]
