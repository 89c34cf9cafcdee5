"""When random features learn and when they memorise: theory of the limit against exact gradient flow at finite size."""

from validation.experiments.training_time.features import FiniteFeatures, draw, flow

__all__ = ["FiniteFeatures", "draw", "flow"]
