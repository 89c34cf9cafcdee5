"""U-Nets on P images: which samples are copies, and the latent dimension against noise."""

from validation.experiments.trained_images.experiment import PRESETS, figure, run

__all__ = ["PRESETS", "figure", "run"]
