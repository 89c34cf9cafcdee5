"""The ladder of noise: one training image at every noise that matters, and what each score makes of it."""

from validation.ladder.pictures import ladder_figure, write_ladder
from validation.ladder.rungs import SYMBOLS, Ladder, noise_ladder

__all__ = ["SYMBOLS", "Ladder", "ladder_figure", "noise_ladder", "write_ladder"]
