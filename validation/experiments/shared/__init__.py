"""What the experiments share: cases, presets, progress, results and the probes of networks."""

from validation.experiments.shared.cases import Case, PlantedCase
from validation.experiments.shared.network_figures import (
    STATE_COLOURS,
    convergence_figure,
    departure_figure,
    frame_figure,
    nonlinear_figure,
    spectra_figure,
    state_strip,
)
from validation.experiments.shared.network_probes import Departures, replica_error
from validation.experiments.shared.presets import checkpoint, chosen, named
from validation.experiments.shared.progress import counter
from validation.experiments.shared.replicas import Kept, measured
from validation.experiments.shared.result import (
    ExperimentResult,
    Row,
    command,
    concluded,
    provenance,
    save,
    save_figure,
    side_by_side,
)

__all__ = [
    "STATE_COLOURS",
    "Case",
    "Departures",
    "ExperimentResult",
    "Kept",
    "PlantedCase",
    "Row",
    "checkpoint",
    "chosen",
    "command",
    "concluded",
    "convergence_figure",
    "counter",
    "departure_figure",
    "frame_figure",
    "measured",
    "named",
    "nonlinear_figure",
    "provenance",
    "replica_error",
    "save",
    "save_figure",
    "side_by_side",
    "spectra_figure",
    "state_strip",
]
