"""When a subspace of the data is lost: the Gaussian, the marginal and the frozen level of theory, and data of fixed norm."""

from theory.subspaces.levels import (
    LEVELS,
    departure_time,
    finite_size_beta,
    frozen_eigenvalue,
    gaussian_rem_participation,
    predicted_singular_values,
    subspace_blocks,
    subspace_collapse_times,
    variance_ratio_boundary,
    visible_window,
)
from theory.subspaces.normalised_data import normalised_posterior

__all__ = [
    "LEVELS",
    "departure_time",
    "finite_size_beta",
    "frozen_eigenvalue",
    "gaussian_rem_participation",
    "normalised_posterior",
    "predicted_singular_values",
    "subspace_blocks",
    "subspace_collapse_times",
    "variance_ratio_boundary",
    "visible_window",
]
