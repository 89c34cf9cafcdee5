"""What the spectrum of any score shows: one face for every score, its observables, the latent dimension read off them."""

from validation.spectra.jacobians import METHODS, Derivative, Differentiation
from validation.spectra.latent_dimension import (
    inflection_dimension,
    largest_gap_dimension,
    second_difference_dimension,
)
from validation.spectra.module_state import as_found, modules_of
from validation.spectra.observables import (
    Average,
    Spectra,
    block_means,
    blocks_of,
    frame_columns,
    frame_spectrum,
    jacobian_spectrum,
    measure_spectra,
    posterior_variance,
)
from validation.spectra.operators import JacobianOperator
from validation.spectra.precision import BOUND, PRODUCTS
from validation.spectra.precision_error import product_error
from validation.spectra.score_functions import (
    AutogradScore,
    Empirical,
    FittedGaussian,
    GaussianScore,
    ScoreFunction,
    as_score,
)
from validation.spectra.signals import SIGNALS, sample_signals
from validation.spectra.stochastic import effective_dimension, leading_directions, quadrature, spectral_density
from validation.spectra.subspace_probes import KINDS, BlockData, Probe, exact_probe, last_crossing, probe
from validation.spectra.symmetry import asymmetry

__all__ = [
    "BOUND",
    "KINDS",
    "METHODS",
    "PRODUCTS",
    "SIGNALS",
    "AutogradScore",
    "Average",
    "BlockData",
    "Derivative",
    "Differentiation",
    "Empirical",
    "FittedGaussian",
    "GaussianScore",
    "JacobianOperator",
    "Probe",
    "ScoreFunction",
    "Spectra",
    "as_found",
    "as_score",
    "asymmetry",
    "block_means",
    "blocks_of",
    "effective_dimension",
    "exact_probe",
    "frame_columns",
    "frame_spectrum",
    "inflection_dimension",
    "jacobian_spectrum",
    "largest_gap_dimension",
    "last_crossing",
    "leading_directions",
    "measure_spectra",
    "modules_of",
    "posterior_variance",
    "probe",
    "product_error",
    "quadrature",
    "sample_signals",
    "second_difference_dimension",
    "spectral_density",
]
