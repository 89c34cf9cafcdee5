"""Finite-size simulations of tanh and relu manifolds against the replica theory."""

from validation.experiments.nonlinear_times.experiment import PRESETS, figure, run

__all__ = ["PRESETS", "figure", "run"]
