"""The house style of figures, and the phase diagrams."""

from validation.figures.activations import activation_lines, activation_maps
from validation.figures.house_style import COLOURS, LABELS, NOISE, save, style
from validation.figures.image_grids import image_pairs, is_image
from validation.figures.phase_diagrams import phase_lines, phase_map

__all__ = [
    "COLOURS",
    "LABELS",
    "NOISE",
    "activation_lines",
    "activation_maps",
    "image_pairs",
    "is_image",
    "phase_lines",
    "phase_map",
    "save",
    "style",
]
