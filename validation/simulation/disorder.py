"""What one draw of the disorder F moves in all measurements on its training set, and how to take it out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from validation.simulation.samplers import Sampler

__all__ = ["information", "without_disorder"]


def information(sampler: Sampler) -> float:
    """Half log det(1 + C/t) at t = the mean variance: by how much one draw of F moves every time of its training set."""
    M = sampler.embed(torch.eye(sampler.latent_dimension, dtype=torch.float64))
    inner = M @ M.T / sampler.model.mean_variance
    return 0.5 * float(torch.logdet(inner + torch.eye(len(inner), dtype=torch.float64)))


def without_disorder(seen: np.ndarray, expected: float) -> Callable[[np.ndarray], np.ndarray]:
    """A function that takes from replica means (R, ...) what is linear in the `information` of their F.

    seen : (R,) information of each replica's F; expected : its mean over F, known from many more draws than there are
    training sets, so that this is a control variate by regression.
    """
    x = seen - seen.mean()

    def corrected(y: np.ndarray) -> np.ndarray:
        slope = np.tensordot(x, y - y.mean(axis=0), axes=(0, 0)) / (x @ x)
        return y - np.multiply.outer(seen - expected, slope)

    return corrected
