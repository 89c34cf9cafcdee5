"""Below t_cond the Jacobian seen from a fresh point stops depending on t."""

from validation.experiments.frozen_spectrum.experiment import PRESETS, figure, run

__all__ = ["PRESETS", "figure", "run"]
