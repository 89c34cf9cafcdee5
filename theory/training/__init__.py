"""What training adds to the ideal score: finitely many samples, and the time that learning and memorising take."""

from theory.training.finite_samples import (
    FiniteSampleEquation,
    LinearDenoiserLoss,
    finite_sample_gain,
    finite_sample_loss,
    finite_sample_noise,
)
from theory.training.learning_curves import LearningCurve
from theory.training.linear_network import linear_network_curve
from theory.training.moments import FeatureMoments, closed_form_moments, feature_moments
from theory.training.random_features import RandomFeatures
from theory.training.windows import (
    generalization_training_time,
    memorization_training_time,
    training_window,
)

__all__ = [
    "FeatureMoments",
    "FiniteSampleEquation",
    "LearningCurve",
    "LinearDenoiserLoss",
    "RandomFeatures",
    "closed_form_moments",
    "feature_moments",
    "finite_sample_gain",
    "finite_sample_loss",
    "finite_sample_noise",
    "generalization_training_time",
    "linear_network_curve",
    "memorization_training_time",
    "training_window",
]
