"""Each class of a well-separated mixture collapses at its own load, and clones of a trajectory agree with phi(t)."""

from validation.experiments.mixtures.experiment import PRESETS, figure, run

__all__ = ["PRESETS", "figure", "run"]
