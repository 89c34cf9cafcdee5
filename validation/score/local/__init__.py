"""The empirical score of a network that sees patches: every pixel is denoised from the square around it."""

from validation.score.local.local_score import BORDERS, LocalScore

__all__ = ["BORDERS", "LocalScore"]
