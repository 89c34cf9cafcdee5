"""The random energy model: its four times for any generating function, for Gaussian data, in closed form and in limits."""

from theory.rem.closed_forms import closed_form, time_equation
from theory.rem.energy_model import KINDS, RandomEnergyModel
from theory.rem.gaussian import LinearSaddle, MutualInformation, gaussian_rem, integrals
from theory.rem.spectral_average import covariance_nodes, spectral_nodes

__all__ = [
    "KINDS",
    "LinearSaddle",
    "MutualInformation",
    "RandomEnergyModel",
    "closed_form",
    "covariance_nodes",
    "gaussian_rem",
    "integrals",
    "spectral_nodes",
    "time_equation",
]
