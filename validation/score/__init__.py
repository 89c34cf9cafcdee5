"""The empirical score: weights, log-partition, denoiser and Jacobian of a training set, exact and at scale."""

from validation.score.empirical_score import EmpiricalScore
from validation.score.engine import alone, in_threads

__all__ = ["EmpiricalScore", "alone", "in_threads"]
