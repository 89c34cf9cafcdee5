"""When random features learn and when they memorise: theory of the limit against exact gradient flow at finite size."""

from validation.experiments.training_time.experiment import (
    CASES,
    COUNTED,
    LAW,
    PRESETS,
    Preset,
    TrainingCase,
    figure,
    run,
)
from validation.experiments.training_time.features import FiniteFeatures, draw, flow

__all__ = [
    "CASES",
    "COUNTED",
    "LAW",
    "PRESETS",
    "FiniteFeatures",
    "Preset",
    "TrainingCase",
    "draw",
    "figure",
    "flow",
    "run",
]
