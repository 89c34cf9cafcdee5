"""Finite-size simulations of linear manifolds against the theory of the four times and the basins."""

from validation.experiments.linear_times.experiment import FORMS, PRESETS, Case, Preset, Study, figure, run

__all__ = ["FORMS", "PRESETS", "Case", "Preset", "Study", "figure", "run"]
