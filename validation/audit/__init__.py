"""`geomem audit`: at what noise a data set memorises, theory beside measurement."""

from validation.audit.classes import ClassRow, audit_classes, classes_table
from validation.audit.command import Audit, audit
from validation.audit.figures import audit_figure
from validation.audit.ladders import audit_ladder, model_ladders
from validation.audit.measurement import measure
from validation.audit.networks import audit_model, audit_pipeline, report_lines
from validation.audit.pixel_networks import ImageNetwork, image_networks
from validation.audit.reference import GaussianReference
from validation.audit.rows import NOT_GAUSSIAN, NOT_KNOWN, NOT_RESOLVED, SizeRow, TimeRow
from validation.audit.tables import audit_facts, audit_lines, audit_tables, ideal_answer, log_size, write_audit

__all__ = [
    "NOT_GAUSSIAN",
    "NOT_KNOWN",
    "NOT_RESOLVED",
    "Audit",
    "ClassRow",
    "GaussianReference",
    "ImageNetwork",
    "SizeRow",
    "TimeRow",
    "audit",
    "audit_classes",
    "audit_facts",
    "audit_figure",
    "audit_ladder",
    "audit_lines",
    "audit_model",
    "audit_pipeline",
    "audit_tables",
    "classes_table",
    "ideal_answer",
    "image_networks",
    "log_size",
    "measure",
    "model_ladders",
    "report_lines",
    "write_audit",
]
