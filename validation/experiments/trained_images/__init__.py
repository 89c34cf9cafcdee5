"""U-Nets on P images: which samples are copies, and the latent dimension against noise."""

from validation.experiments.trained_images.experiment import PRESETS, figure, run
from validation.experiments.trained_images.probes import average_pool

__all__ = ["PRESETS", "average_pool", "figure", "run"]
