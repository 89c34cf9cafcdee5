"""Do the times of the replica theory hold on nonlinear hidden manifolds? The experiment of `linear_times`, for tanh and relu.

The drift with N is that of the replicated action (docs/derivations/replica_drift.md), declared as for linear manifolds; the
same orders are left free.
"""

from __future__ import annotations

from theory import HiddenManifold
from theory.finite_size import finite_size_value
from validation.experiments.linear_times import FORMS, Case, Preset, Study, figure
from validation.experiments.linear_times import run as run_study
from validation.experiments.shared import ExperimentResult, chosen

__all__ = ["CASES", "NONLINEAR", "PRESETS", "figure", "run"]

CASES = (
    Case("tanh, alpha_D=0.5, alpha=0.2", HiddenManifold(0.5, "tanh"), 0.2, (26, 30, 36, 42, 48, 54), 0.87),
    Case("relu, alpha_D=0.5, alpha=0.2", HiddenManifold(0.5, "relu"), 0.2, (26, 30, 36, 42, 48, 54), 0.74),
    Case("tanh, alpha_D=0.25, alpha=0.15", HiddenManifold(0.25, "tanh"), 0.15, (32, 40, 48, 56, 64, 72), 0.98),
    Case("relu, alpha_D=0.25, alpha=0.15", HiddenManifold(0.25, "relu"), 0.15, (32, 40, 48, 56, 64, 72), 0.84),
)
NONLINEAR = Study(
    "nonlinear_times",
    "The collapse, onset and generalization times and the basin radius of the replica theory are the large-N limits of what "
    "the empirical score of a nonlinear hidden manifold does.",
    CASES,
    FORMS,
    finite_size_value,
)
PRESETS = {"quick": Preset("quick", 5, 1.5e6, 1.5e8), "full": Preset("full", 6, 1.2e7, 4e9)}


def run(preset="quick", seed=0, progress=None, out=None, device="cpu", **options) -> ExperimentResult:
    """As `validation.experiments.linear_times.run`, for the cases of this study."""
    preset = chosen(preset, PRESETS)
    return run_study(preset, seed, progress, out, device, study=NONLINEAR, **options)
