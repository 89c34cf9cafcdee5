"""Are a model's samples copies of its training set? Distances calibrated against fresh points, published statistics beside."""

from validation.samples.command import samples
from validation.samples.detection import SampleAudit, audit_samples
from validation.samples.output import samples_lines, write_samples

__all__ = ["SampleAudit", "audit_samples", "samples", "samples_lines", "write_samples"]
