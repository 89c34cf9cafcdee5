"""The middle floor: the physics, stated once in sympy, and lowered to compiled kernels.

>>> from theory import LinearManifold, collapse_time
>>> round(collapse_time(LinearManifold(alpha_D=0.5), alpha=0.2), 10)
1.4096127638
"""

from numerics.moved import redirect
from theory.basins import basin_radius, excess_entropy, free_energy
from theory.finite_size import expected_log_partition, expected_participation, true_point_weight
from theory.locality import critical_patch
from theory.models import (
    HiddenManifold,
    ImageCovariance,
    Isotropic,
    LinearManifold,
    Mixture,
    PowerLaw,
    Spectrum,
    StationaryField,
    Subspaces,
)
from theory.speciation import cloning_probability, speciation_time
from theory.subspaces import subspace_collapse_times
from theory.times import (
    collapse_time,
    condensation_time,
    critical_alpha,
    critical_dataset_size,
    generalization_time,
    onset_time,
)
from theory.training import (
    RandomFeatures,
    finite_sample_gain,
    finite_sample_loss,
    finite_sample_noise,
    generalization_training_time,
    memorization_training_time,
    training_window,
)

redirect({"theory.asymptotics": "theory.rem.asymptotics"})

__all__ = [
    "HiddenManifold",
    "ImageCovariance",
    "Isotropic",
    "LinearManifold",
    "Mixture",
    "PowerLaw",
    "RandomFeatures",
    "Spectrum",
    "StationaryField",
    "Subspaces",
    "basin_radius",
    "cloning_probability",
    "collapse_time",
    "condensation_time",
    "critical_alpha",
    "critical_dataset_size",
    "critical_patch",
    "excess_entropy",
    "expected_log_partition",
    "expected_participation",
    "finite_sample_gain",
    "finite_sample_loss",
    "finite_sample_noise",
    "free_energy",
    "generalization_time",
    "generalization_training_time",
    "memorization_training_time",
    "onset_time",
    "speciation_time",
    "subspace_collapse_times",
    "training_window",
    "true_point_weight",
]
