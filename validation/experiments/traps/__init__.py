"""Noised training points return, and fresh trajectories commit, at t_c and not at t_o."""

from validation.experiments.traps.experiment import PRESETS, figure, run

__all__ = ["PRESETS", "figure", "run"]
