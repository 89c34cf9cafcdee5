"""The ladder of noise: one training image at every noise that matters, and what each score makes of it."""

from validation.ladder.noise_ladder import SYMBOLS, Ladder, noise_ladder
from validation.ladder.pictures import ladder_figure, write_ladder

__all__ = ["SYMBOLS", "Ladder", "ladder_figure", "noise_ladder", "write_ladder"]
