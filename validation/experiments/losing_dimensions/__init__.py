"""Which subspace a small training set loses first: the claim of the literature, and its controls."""

from validation.experiments.losing_dimensions.experiment import CASES, NAMES, PRESETS, Case, figure, run
from validation.experiments.losing_dimensions.verdicts import THETA, Found, claim_rows, claim_shares, time_rows

__all__ = [
    "CASES",
    "NAMES",
    "PRESETS",
    "THETA",
    "Case",
    "Found",
    "claim_rows",
    "claim_shares",
    "figure",
    "run",
    "time_rows",
]
