"""Which images networks copy first, how their copies are detected, and which signals give them away."""

from validation.experiments.copied_images.duplicated_class import CONDITIONAL, ConditionalPreset, run_conditional
from validation.experiments.copied_images.experiment import PRESETS, Preset, figure, run

__all__ = ["CONDITIONAL", "PRESETS", "ConditionalPreset", "Preset", "figure", "run", "run_conditional"]
