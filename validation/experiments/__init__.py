"""One file a claim: each experiment declares its prediction, measures, and gives a verdict.

Every module offers `run(preset="quick"|"full", seed=0, progress=None, out=None, device="cpu") -> ExperimentResult` and
`figure(result) -> matplotlib Figure`.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from numerics.domain import DomainError

__all__ = ["EXPERIMENTS", "IN_QUICK_REPORT", "ON_A_SCHEDULER", "experiment"]

EXPERIMENTS = {
    "linear_times": "t_o, t_c, t_g and basins of linear manifolds: finite N against theory",
    "nonlinear_times": "the same for tanh and relu hidden manifolds, against the replica theory",
    "losing_dimensions": "which subspace a small training set loses first: the claim of the literature, and controls",
    "trained_networks": "the same with networks trained on P points, beside the empirical score of their training set",
    "trained_nonlinear": "networks on tanh and relu manifolds, beside the empirical score of theirs and of many points",
    "trained_images": "U-Nets on P images: samples that are copies, and the latent dimension against noise",
    "frozen_spectrum": "below t_cond the Jacobian seen from a fresh point stops depending on t",
    "traps": "noised training points return, and fresh trajectories commit, at t_c and not at t_o",
    "mixtures": "each class of a mixture collapses at its own load, and clones choose their class as predicted",
    "training_time": "when random features learn and when they memorise: exact learning curves and spectra, by direction",
    "copied_images": "which training images networks copy first, whether copies are found, and signals without the training set",
    "network_training_time": "when real networks learn and when they memorise, against points, width and optimiser",
    "local_networks": "U-Nets beside local scores: the patch they see, where they memorise, which patches they copy",
    "generalization_law": "the best noise floor is the mean squared distance to the nearest training point",
}


# whose replicas or cells can run on a dask scheduler: their `run` has the argument `scheduler`
ON_A_SCHEDULER = ("linear_times", "nonlinear_times", "losing_dimensions", "frozen_spectrum", "traps", "mixtures")
IN_QUICK_REPORT = ("linear_times", "frozen_spectrum")  # `geomem report` keeps under five minutes; --full runs them all


def experiment(name: str) -> ModuleType:
    """The module of one experiment."""
    if name not in EXPERIMENTS:
        raise DomainError("experiment", name, f"one of {', '.join(EXPERIMENTS)}")
    return import_module(f"validation.experiments.{name}")
