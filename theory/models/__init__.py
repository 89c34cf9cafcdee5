"""Data models: what is known of the law of the data, from isotropic to hidden manifolds and mixtures, and their spectra."""

from theory.models.activations import Activation, activation
from theory.models.covariance import covariance_cdf, covariance_density, covariance_law
from theory.models.fields import Field, ImageCovariance, StationaryField
from theory.models.gaussian import GaussianModel, Isotropic, LinearManifold, Spectrum, Subspaces
from theory.models.hidden import HiddenManifold
from theory.models.marchenko_pastur import continuum
from theory.models.mixture import Mixture
from theory.models.population_spectrum import population_eigenvalues, resampled_spectra
from theory.models.power_law import InfinitePowerLaw, PowerLaw
from theory.models.spectral_law import Bulk, SpectralLaw
from theory.models.stieltjes import StieltjesMap, atoms, stieltjes_equation

__all__ = [
    "Activation",
    "Bulk",
    "Field",
    "GaussianModel",
    "HiddenManifold",
    "ImageCovariance",
    "InfinitePowerLaw",
    "Isotropic",
    "LinearManifold",
    "Mixture",
    "PowerLaw",
    "SpectralLaw",
    "Spectrum",
    "StationaryField",
    "StieltjesMap",
    "Subspaces",
    "activation",
    "atoms",
    "continuum",
    "covariance_cdf",
    "covariance_density",
    "covariance_law",
    "population_eigenvalues",
    "resampled_spectra",
    "stieltjes_equation",
]
