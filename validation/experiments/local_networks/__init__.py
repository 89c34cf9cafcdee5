"""Do trained U-Nets denoise as local scores of patches, and memorise at the noise where those do?"""

from validation.experiments.local_networks.experiment import PRESETS, Preset, figure, run

__all__ = ["PRESETS", "Preset", "figure", "run"]
