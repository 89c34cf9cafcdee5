"""The empirical score: weights, log-partition, denoiser and Jacobian of a training set, exact and at scale."""

from validation.score.empirical_score import EmpiricalScore
from validation.score.engine import in_threads

__all__ = ["EmpiricalScore", "in_threads"]
