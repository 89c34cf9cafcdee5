"""Do trained U-Nets denoise as local scores of patches, and memorise at the noise where those do?"""

from validation.experiments.local_networks.experiment import PRESETS, Preset, figure, run
from validation.experiments.local_networks.probes import measure_locality

__all__ = ["PRESETS", "Preset", "figure", "measure_locality", "run"]
