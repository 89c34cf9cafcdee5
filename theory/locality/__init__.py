"""Locality: a score that sees patches memorises a patch when log P passes what the noisy patch tells of the clean one."""

from theory.loads import patch_load
from theory.locality.information import (
    information_criterion,
    markov_information,
    markov_limit,
    patch_information,
    residual_entropy,
)
from theory.locality.patches import critical_patch, patch_diagram

__all__ = [
    "critical_patch",
    "information_criterion",
    "markov_information",
    "markov_limit",
    "patch_diagram",
    "patch_information",
    "patch_load",
    "residual_entropy",
]
