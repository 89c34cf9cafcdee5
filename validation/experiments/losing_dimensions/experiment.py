"""Which dimensions does a small training set lose first? The headline of [AVSP24], in its own setting and with controls.

Linear manifold in N = 30 with subspaces of high and of low variance. In the authors' setting the score is seen on an
orthonormal frame at the centre of the data; the controls are other probe points, infinitely many training points, data
with and without a fixed norm, and labels that say which subspace a value belongs to. "Lost" has two meanings, both
measured: departure from the exact score by a factor 2, and a normalised eigenvalue of noise again (at least `THETA`).
Beside the spectra stands the dimension that neighbours tell of the first training set of each P, which no score knows of.
"""

from __future__ import annotations

import csv
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from numerics.store import atomic, save_dataset
from theory.subspaces import subspace_collapse_times
from validation.data import available, data_dimension, dimension_variables
from validation.experiments.losing_dimensions.curves import beside_controls, curves_of
from validation.experiments.losing_dimensions.verdicts import (
    T_SMALL,
    THETA,
    Found,
    claim_rows,
    claim_shares,
    heuristic_rows,
    marginal_grid,
    time_rows,
)
from validation.experiments.shared import (
    ExperimentResult,
    Kept,
    chosen,
    concluded,
    counter,
    measured,
    save,
    save_figure,
)
from validation.score import EmpiricalScore
from validation.simulation import generator
from validation.spectra import BlockData, Empirical, Probe, exact_probe, probe

__all__ = ["CASES", "PRESETS", "THETA", "Case", "Preset", "figure", "run"]

CLAIM = (
    "With many training points the score keeps the full manifold gap down to small t, with fewer it loses the "
    "high-variance subspace first while the low-variance one is kept, with few it loses all [AVSP24]."
)
NAMES = ("high", "low", "rest")


@dataclass(frozen=True)
class Case:
    """A linear manifold: dimensions and variances of the high-variance, the low-variance and the normal directions."""

    label: str
    dimensions: tuple[int, int, int]
    variances: tuple[float, float, float]
    sizes: tuple[int, ...] = (100, 1000, 10_000, 100_000)


CASES = (
    Case("d = 5+5, variances 1 and 0.3²", (5, 5, 20), (1.0, 0.09, 1e-4)),
    Case("d = 5+5, variances 1 and 0.3", (5, 5, 20), (1.0, 0.3, 1e-4)),
    Case("d = 2+2, variances 1 and 0.3²", (2, 2, 26), (1.0, 0.09, 1e-4)),
)


@dataclass(frozen=True)
class Preset:
    """How much work: noise levels, and for each P the number of training sets and of probe points a kind."""

    name: str
    levels: int
    replicas: Mapping[int, int]
    points: Mapping[int, int]
    sizes_beyond_first: tuple[int, ...]
    exact_points: int

    @property
    def t(self) -> np.ndarray:
        return np.logspace(-5, 1, self.levels)


PRESETS = {
    "quick": Preset(
        "quick",
        19,
        {100: 8, 1000: 8, 10_000: 5, 100_000: 3},
        {100: 16, 1000: 16, 10_000: 4, 100_000: 2},
        (100, 1000),
        4,
    ),
    "full": Preset(
        "full",
        37,
        {100: 48, 1000: 48, 10_000: 24, 100_000: 8},
        {100: 24, 1000: 24, 10_000: 8, 100_000: 4},
        (100, 1000, 10_000, 100_000),
        16,
    ),
}


def run(
    preset: str | Preset = "quick",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    out: str | os.PathLike | None = None,
    device: str = "cpu",
    *,
    cases: Sequence[Case] = CASES,
    network: Callable[[torch.Tensor, int], Any] | None = None,
    scheduler: Any = None,
) -> ExperimentResult:
    """Probe empirical scores of many training sets, and compare with the three levels of theory and with the claims.

    Parameters
    ----------
    preset : "quick" (about a minute; P up to 1000 beyond the first case), "full" (some 15 minutes) or a `Preset`
    seed : int; progress : callable (training sets probed, of all); device : torch device
    out : folder, optional
        losing_dimensions.csv (verdicts), losing_dimensions_times.csv (all times), losing_dimensions_dimension.csv (the
        dimension of the training points themselves), .nc and figures are written there; an interrupted run goes on from the
        probes kept there.
    cases : what is probed
    network : callable (X (P, N), seed) -> score, optional
        A score trained on X (anything `validation.spectra.score_functions.as_score` takes); then the frame at the centre is
        measured on it too, for the first training set of each P, and fills the middle panels of the figure.
    scheduler : a dask scheduler on whose workers training sets are probed, see `numerics.grids.run_tasks`

    Returns
    -------
    ExperimentResult
        Rows: participation and condensation at the centre against the authors' heuristic and against the exact finite-P
        theory, departure times against the frozen spectrum, and each claim as the share of training sets that show it.

    Raises
    ------
    DomainError : unknown preset, unwritable `out`
    """
    preset = chosen(preset, PRESETS)
    started = time.perf_counter()
    jobs = [
        (case, normalised, P)
        for case in cases
        for normalised in (False, True)
        for P in case.sizes
        if P in preset.replicas and (case is cases[0] or P in preset.sizes_beyond_first)
    ]
    items = [(case, normalised, P, replica) for case, normalised, P in jobs for replica in range(preset.replicas[P])]
    step = counter(progress, len(items))
    keep = Kept("losing_dimensions", out, preset=preset, seed=seed, device=device, cases=tuple(cases))
    common = {"shared": (preset, seed, device), "scheduler": scheduler, "step": lambda _: step()}
    probes = iter(measured(_flat, items, rows=keep(""), **common))
    rows, curves, times = [], {}, []
    controls: dict[tuple[str, bool], Probe] = {}
    shares: dict[tuple[str, bool], dict[int, Any]] = defaultdict(dict)
    for case, normalised, P in jobs:
        data = BlockData(case.dimensions, case.variances, normalised)
        key = (case.label, normalised)
        if key not in controls:
            controls[key] = exact_probe(data, preset.t, points=preset.exact_points, seed=(seed, 7))
        found = [Found.from_arrays(next(probes)) for _ in range(preset.replicas[P])]
        trained = None if network is None else _network(network, data, P, preset, seed, device)
        rows += heuristic_rows(case.label, data, P, preset.t, found)
        rows += time_rows(case.label, data, P, preset.t, found, controls[key], times)
        shares[key][P] = (len(found), claim_shares(preset.t, [f.probe for f in found]))
        part = curves_of(data, P, preset.t, [f.probe for f in found], trained)
        curves[(*key, P)] = part.assign(_dimension(data, P, seed))
    for (label, normalised), by_size in shares.items():
        rows += claim_rows(label, normalised, preset.t, by_size, controls[(label, normalised)])
    result = concluded(
        "losing_dimensions",
        CLAIM,
        rows,
        beside_controls(curves, controls, preset.t, NAMES),
        preset=preset,
        seed=seed,
        device=device,
        started=started,
        threshold=THETA,
        t_small=T_SMALL,
    )
    if out is not None:
        _save(result, times, Path(out))
    keep.clear()
    return result


def _flat(item: tuple[Case, bool, int, int], preset: Preset, seed: int, device: str) -> dict[str, np.ndarray]:
    """What one training set shows, as arrays by name."""
    case, normalised, P, replica = item
    data = BlockData(case.dimensions, case.variances, normalised)
    return _one(data, P, preset, (seed, P, replica), device).arrays()


def _one(data: BlockData, P: int, preset: Preset, seed: tuple[int, ...], device: str) -> Found:
    X = data.sample(P, (*seed, 0), device)
    face = Empirical(EmpiricalScore(X, device=device, dtype="float64"))
    seen = probe(face, data, preset.t, points=preset.points[P], seed=seed, X=X, device=device)
    predicted = subspace_collapse_times(data.model, P, data.N, level="gaussian-rem", normalised=data.normalised)
    axes = torch.eye(data.N, dtype=torch.float64, device=device)
    squares, weights = [], []
    noise = generator(data.N, (*seed, 9), device).rows(min(64, P))
    for k, block in enumerate(data.blocks[:2]):
        t = float(predicted[k])
        at = 1 / face.participation(math.sqrt(t) * axes[block], t)
        squares.append(float(at.mean()))
        own = np.arange(len(noise))
        part = X[:, block].contiguous()
        engine = EmpiricalScore(part, device=device, dtype="float64")
        grid = np.exp(marginal_grid(data, P, k))
        profile = engine.noisy_profile(part[: len(own)], noise[:, block].contiguous(), grid, own=own)
        weights.append(np.exp(np.asarray(profile["own_log_weight"].cpu())).mean(axis=1))
    return Found(seen, np.array(squares), np.array(weights))


def _dimension(data: BlockData, P: int, seed: int) -> dict[str, Any]:
    """The dimension of the first training set itself; of more than 5000 points as many are drawn."""
    if not available():
        return {}
    return dimension_variables(data_dimension(data.sample(P, (seed, P, 0, 0)).numpy(), seed=seed))


def _network(network: Callable, data: BlockData, P: int, preset: Preset, seed: int, device: str) -> Probe:
    X = data.sample(P, (seed, P, 0, 0), device)
    return probe(network(X, seed), data, preset.t, points=preset.points[P], seed=(seed, P, 0), X=X, device=device)


def figure(result: ExperimentResult) -> Any:
    """The authors' setting and the controls for the first case, free norm; see `.figures`."""
    from validation.experiments.losing_dimensions.figures import spectra_figure

    return spectra_figure(result.curves, case=str(result.curves["case"].values[0]), normalised=False)


def _save(result: ExperimentResult, times: Sequence[Mapping[str, Any]], folder: Path) -> None:
    from validation.experiments.losing_dimensions.figures import phase_figure, spectra_figure, times_figure

    first = str(result.curves["case"].values[0])
    pages = {
        "losing_dimensions_fixed_norm": spectra_figure(result.curves, case=first, normalised=True),
        "losing_dimensions_times": times_figure(times),
        "losing_dimensions_phases": phase_figure(),
    }
    for name, page in pages.items():
        save_figure(page, folder / f"{name}.png")
    save(result, figure(result), folder)
    if "data_dimension" in result.curves:
        names = [name for name in result.curves.data_vars if name.startswith("data_dimension")]
        save_dataset(result.curves[names], folder / "losing_dimensions_dimension.csv")
    with (
        atomic(folder / "losing_dimensions_times.csv") as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, list(times[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in times)
