"""The empirical score of a network that sees patches: every pixel is denoised from the square around it."""

from validation.score.local.local_score import BORDERS, LocalScore
from validation.score.local.patches import all_patches, pad, patch_at

__all__ = ["BORDERS", "LocalScore", "all_patches", "pad", "patch_at"]
