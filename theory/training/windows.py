"""When to stop training, in the units of a training set: numbers of samples, dimension and features."""

from __future__ import annotations

from typing import Any

from numerics.domain import positive
from theory.models import GaussianModel
from theory.training.random_features import RandomFeatures

__all__ = ["generalization_training_time", "memorization_training_time", "training_window"]


def generalization_training_time(t: Any) -> Any:
    r"""Scale of the training time at which a score network starts to generalise, :math:`\tau_{gen}=1/\Delta=(1+t)/t`.

    Parameters
    ----------
    t : number or array > 0
        VE time.

    It depends neither on the number of samples nor on that of features. Source: [BUBM25].

    >>> generalization_training_time(1.0)
    2.0
    """
    t = positive("t", t)
    found = (1 + t) / t
    return float(found) if found.ndim == 0 else found


def memorization_training_time(
    model: GaussianModel, P: float, N: float, features: float, t: float, activation: Any = "tanh"
) -> float:
    r"""Training time at which a random-feature network starts to memorise P samples, :math:`\psi_p/(\Delta\lambda_{min})`.

    Proportional to P for :math:`p\gg P\gg N`: :math:`\tau_{mem}\to P/(N\Delta v^2)`.

    Parameters
    ----------
    model : Isotropic, LinearManifold, Subspaces, Spectrum or HiddenManifold
    P, N, features : numbers > 0
        Training samples, dimension, number of random features.
    t : number > 0
        VE time.
    activation : as in `RandomFeatures`

    Returns
    -------
    float, in the time of :math:`\dot A=-N^2\nabla L`

    Source: [BUBM25]; see `RandomFeatures` for what it leaves out.

    >>> from theory import Isotropic
    >>> import numpy as np
    >>> round(memorization_training_time(Isotropic(1.0), P=800, N=100, features=6400, t=np.expm1(0.2)))
    5899
    """
    N = float(positive("N", N))
    return RandomFeatures(
        model, positive("features", features) / N, positive("P", P) / N, t, activation
    ).memorization_time


def training_window(
    model: GaussianModel, P: float, N: float, features: float, t: float, activation: Any = "tanh"
) -> tuple[float, float]:
    """The training times between which to stop: (generalization_training_time, memorization_training_time).

    Parameters, returns, source: as `memorization_training_time`.

    >>> from theory import Isotropic
    >>> import numpy as np
    >>> [round(x, 1) for x in training_window(Isotropic(1.0), P=800, N=100, features=6400, t=np.expm1(0.2))]
    [5.5, 5899.4]
    """
    return generalization_training_time(t), memorization_training_time(model, P, N, features, t, activation)
