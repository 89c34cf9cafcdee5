"""Which subspace networks trained on P points lose first, beside the empirical score of their training set."""

from validation.experiments.trained_networks.experiment import PRESETS, figure, run

__all__ = ["PRESETS", "figure", "run"]
