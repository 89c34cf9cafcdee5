"""Expectations at real N and P, exactly: log-partition, weights, times, frozen spectrum, drift of measured crossings."""

from theory.finite_size.curves import collapse_curve, finite_collapse_time, finite_size_times
from theory.finite_size.drift import finite_size_value
from theory.finite_size.expectations import (
    Estimate,
    LogPartition,
    expected_log_partition,
    expected_participation,
    true_point_weight,
)
from theory.finite_size.frozen import finite_size_eigenvalue
from theory.finite_size.trajectories import commitment_width, edge_correction

__all__ = [
    "Estimate",
    "LogPartition",
    "collapse_curve",
    "commitment_width",
    "edge_correction",
    "expected_log_partition",
    "expected_participation",
    "finite_collapse_time",
    "finite_size_eigenvalue",
    "finite_size_times",
    "finite_size_value",
    "true_point_weight",
]
