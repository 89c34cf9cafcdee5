"""The house style of figures, and the phase diagrams."""

from validation.figures.activations import activation_lines, activation_maps
from validation.figures.house_style import COLOURS, LABELS, phase_lines, phase_map, save, style

__all__ = ["COLOURS", "LABELS", "activation_lines", "activation_maps", "phase_lines", "phase_map", "save", "style"]
