"""Are a model's samples copies of its training set? Distances calibrated against fresh points, published statistics beside."""

from validation.samples.calibration import p_values
from validation.samples.command import samples, samples_of
from validation.samples.detection import SampleAudit, audit_samples
from validation.samples.nearness import Nearness, leave_one_out, nearest_two
from validation.samples.output import samples_lines, samples_table, write_samples
from validation.samples.pictures import worst_figure

__all__ = [
    "Nearness",
    "SampleAudit",
    "audit_samples",
    "leave_one_out",
    "nearest_two",
    "p_values",
    "samples",
    "samples_lines",
    "samples_of",
    "samples_table",
    "worst_figure",
    "write_samples",
]
