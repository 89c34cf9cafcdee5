"""`geomem spectrum`: whose score, its spectrum against noise, when groups of directions are lost."""

from validation.spectrum.command import run
from validation.spectrum.departures import losses
from validation.spectrum.figures import figure, reading, tables
from validation.spectrum.measurement import spectrum
from validation.spectrum.pipelines import Opened, from_pipeline, latent_dataset, open_pipeline
from validation.spectrum.signals import run_samples, signal_table
from validation.spectrum.subjects import Subject, from_data, from_model, from_subspaces, noise_levels

__all__ = [
    "Opened",
    "Subject",
    "figure",
    "from_data",
    "from_model",
    "from_pipeline",
    "from_subspaces",
    "latent_dataset",
    "losses",
    "noise_levels",
    "open_pipeline",
    "reading",
    "run",
    "run_samples",
    "signal_table",
    "spectrum",
    "tables",
]
