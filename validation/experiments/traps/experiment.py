r"""Do traps matter before collapse? Trajectories of the empirical score, noised and fresh, against the times of `theory`.

Training points noised to t run back under the reverse SDE and the probability flow: how many reach their own point? And
where do trajectories from pure noise commit, that is: what is the last t at which the weight of the point they end on passes
1/2? What holds at every N and P (see `validation.experiments.traps.probes`) is checked on the same trajectories.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from theory import LinearManifold, collapse_time
from validation.experiments.shared import (
    ExperimentResult,
    Kept,
    PlantedCase,
    chosen,
    concluded,
    counter,
    measured,
    save,
    side_by_side,
)
from validation.experiments.traps.probes import DYNAMICS, measure_commitments, measure_returns
from validation.experiments.traps.verdicts import FORMS, NAMES, TOLERANCE, compare, declare, start_levels
from validation.simulation import Sampler, information

__all__ = ["CASES", "FORMS", "NAMES", "PRESETS", "Case", "Preset", "figure", "run"]

CLAIM = (
    "Traps exist from t_o on but do not matter before t_c: noised training points return to themselves, and fresh "
    "trajectories commit to a training point, at the collapse time."
)
_TOP = 100.0  # variances at which pure noise begins; from 25 commitments shift by 3 %
_BOTTOM = 30.0  # the end at t_c/30
Case = PlantedCase
CASES = (
    Case("alpha_D=0.5, alpha=0.2", LinearManifold(0.5), 0.2, (26, 30, 34, 38, 44)),
    Case("alpha_D=0.25, alpha=0.15", LinearManifold(0.25), 0.15, (36, 40, 44, 48, 56)),
)


@dataclass(frozen=True)
class Preset:
    """How much work: cases, sizes of each, noised training points and fresh trajectories in all at
    the largest size; `weights` points a replica at which only the weights are taken."""

    name: str
    cases: int
    sizes: int
    returns: int
    fresh: int
    weights: int = 400
    replicas: int = 24

    def per_replica(self, P: int, largest: int) -> tuple[int, int]:
        """Noised points and fresh trajectories a replica: more at small sizes, where they are cheap."""
        more = min(4.0, (largest / P) ** 0.5)
        return max(2, round(more * self.returns / self.replicas)), max(2, round(more * self.fresh / self.replicas))


PRESETS = {
    "quick": Preset("quick", 1, 4, 240, 360, replicas=24),
    "full": Preset("full", 2, 5, 480, 2000, weights=800, replicas=48),
}


def run(
    preset: str | Preset = "quick",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    out: str | os.PathLike | None = None,
    device: str = "cpu",
    *,
    cases: Sequence[Case] = CASES,
    theory: Callable[[Any, float], float] = collapse_time,
    scheduler: Any = None,
) -> ExperimentResult:
    """Run trajectories for every case and size, extrapolate, and compare with the collapse time.

    Parameters
    ----------
    preset : "quick" (about a minute on two cores), "full" (some ten minutes) or a `Preset`
    seed : int
    progress : callable (work done, total work), in millions of pairs of a training point and a step of a trajectory
    out : folder, optional; traps.csv, .nc and .png are written there; an interrupted run goes on from the replicas kept there
    device : torch device
    cases : what is simulated
    theory : the time that is predicted, a function of model and alpha; another one is a negative control
    scheduler : a dask scheduler on whose workers the replicas run, see `numerics.grids.run_tasks`; the numbers stay the same

    Returns
    -------
    ExperimentResult; curves by case and size

    Raises
    ------
    DomainError : unknown preset, unwritable `out`

    Source: [AALMV25], [BBBM24]; the identities and the width are [ours: docs/derivations/trajectories.md].
    """
    preset = chosen(preset, PRESETS)
    cases, started = tuple(cases)[: preset.cases], time.perf_counter()
    declared = {case.label: declare(case, theory) for case in cases}  # before anything is drawn
    jobs = [(case, N, r) for case in cases for N in case.sizes[: preset.sizes] for r in range(preset.replicas)]
    work = [_cost(case, N, preset) / 1e6 for case, N, _ in jobs]
    step = counter(progress, sum(work))
    items = [(case, N, preset, (seed, N, r)) for case, N, r in jobs]
    keep = Kept("traps", out, preset=preset, seed=seed, device=device, cases=cases)
    replicas = measured(
        _replica, items, shared=(device,), rows=keep(""), scheduler=scheduler, step=lambda i: step(work[i])
    )
    found: dict[tuple[str, int], list[dict[str, np.ndarray]]] = {}
    for (case, N, _), replica in zip(jobs, replicas, strict=True):
        found.setdefault((case.label, N), []).append(replica)
    rows, curves = [], []
    for case in cases:
        sizes = case.sizes[: preset.sizes]
        stacked = [_stack(found[case.label, N]) for N in sizes]
        case_rows, case_curves = compare(case, sizes, stacked, declared[case.label], seed)
        rows += case_rows
        curves.append(case_curves)
    result = concluded(
        "traps",
        CLAIM,
        rows,
        side_by_side(curves, [case.label for case in cases]),
        preset=preset,
        seed=seed,
        device=device,
        started=started,
        schemes={name: {"scheme": scheme, "N dlog t": step} for name, (scheme, step) in DYNAMICS.items()},
    )
    if out is not None:
        save(result, figure(result), out)
    keep.clear()
    return result


# --- one training set -------------------------------------------------------------------------------------------------


def _cost(case: Case, N: int, preset: Preset) -> float:
    P, largest = case.patterns(N), case.patterns(case.sizes[preset.sizes - 1])
    released, fresh = preset.per_replica(P, largest)
    return (len(start_levels(case)) * released + 3 * fresh + preset.weights / 5) * (P + 2000) * N


def _replica(item: tuple[Case, int, Preset, tuple[int, ...]], device: str) -> dict[str, np.ndarray]:
    """Every measurement on one training set with its own disorder."""
    case, N, preset, seed = item
    P = case.patterns(N)
    released, fresh = preset.per_replica(P, case.patterns(case.sizes[preset.sizes - 1]))
    sampler = Sampler(case.model, N, (*seed, 0))
    X = sampler.sample(P).numpy()
    low, top = collapse_time(case.model, case.alpha) / _BOTTOM, _TOP * case.model.mean_variance
    common = {"seed": seed, "device": device}
    found = measure_returns(X, start_levels(case), low, released, weights=preset.weights, **common)
    found |= measure_commitments(X, top, low, fresh, **common)
    return found | {"information": np.array(information(sampler))}


def _stack(replicas: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.stack([replica[name] for replica in replicas]) for name in replicas[0]}


def figure(result: ExperimentResult) -> Any:
    """Returns against the starting noise; distribution of commitment times; extrapolations; one row of panels a case."""
    from validation.experiments.traps.figures import returns_figure

    return returns_figure(result.curves, [name for name in FORMS if name != "width"], TOLERANCE)
