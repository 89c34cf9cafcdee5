"""The patches of a data set of images: at what noise each width is memorised, and which width a network sees."""

from validation.locality.collapse import PatchAudit, PatchRow, audit_patches, patch_widths
from validation.locality.network_patch import receptive_field
from validation.locality.report import (
    field_figure,
    field_lines,
    locality_figure,
    locality_lines,
    locality_table,
    write_field,
    write_locality,
)

__all__ = [
    "PatchAudit",
    "PatchRow",
    "audit_patches",
    "field_figure",
    "field_lines",
    "locality_figure",
    "locality_lines",
    "locality_table",
    "patch_widths",
    "receptive_field",
    "write_field",
    "write_locality",
]
