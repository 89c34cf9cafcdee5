"""`geomem spectrum`: whose score, its spectrum against noise, when groups of directions are lost."""

from validation.spectrum.command import run
from validation.spectrum.departures import losses
from validation.spectrum.figures import figure, reading, tables
from validation.spectrum.measurement import spectrum
from validation.spectrum.subjects import Subject, from_data, from_model, from_pipeline, from_subspaces, noise_levels

__all__ = [
    "Subject",
    "figure",
    "from_data",
    "from_model",
    "from_pipeline",
    "from_subspaces",
    "losses",
    "noise_levels",
    "reading",
    "run",
    "spectrum",
    "tables",
]
