"""`geomem spectrum`: whose score, its spectrum against noise, when groups of directions are lost."""

from validation.spectrum.command import run
from validation.spectrum.figures import reading, tables
from validation.spectrum.subjects import from_pipeline

__all__ = ["from_pipeline", "reading", "run", "tables"]
