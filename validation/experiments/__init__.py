"""One file a claim: each experiment declares its prediction, measures, and gives a verdict.

Every module offers `run(preset="quick"|"full", seed=0, progress=None, out=None, device="cpu") -> ExperimentResult` and
`figure(result) -> matplotlib Figure`.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from numerics.domain import DomainError

__all__ = ["EXPERIMENTS", "experiment"]

EXPERIMENTS = {
    "linear_times": "t_o, t_c, t_g and basins of linear manifolds: finite N against theory",
}


def experiment(name: str) -> ModuleType:
    """The module of one experiment."""
    if name not in EXPERIMENTS:
        raise DomainError("experiment", name, f"one of {', '.join(EXPERIMENTS)}")
    return import_module(f"validation.experiments.{name}")
