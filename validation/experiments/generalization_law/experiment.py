r"""Is the best noise floor the mean squared distance to the nearest training point? Linear manifolds, images, any data.

The held-out cross-entropy :math:`C(t)=\frac12\log t-\frac1NE\log Z` is smallest at :math:`t_g`. There the weights are
condensed, so :math:`t_g\to d^2`, the mean squared distance per dimension from a held-out point to its nearest training
point, *for every data model*, and :math:`t_g<t_c`: the best empirical density is one that has memorised. At finite N, with
:math:`h(m)=\frac1m\log\Gamma(1-m)` from the levels at the edge of the random energy model,

.. math:: \frac{t_g}{d^2}=1+\frac{2m}Nh'(m)+O(N^{-2}\log N),\qquad m=t_g/t_\mathrm{cond},

the logarithm because :math:`t_\mathrm{cond}` itself drifts as log N/N.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from numerics.domain import DomainError
from theory import LinearManifold, collapse_time, condensation_time, generalization_time
from theory.finite_size import edge_correction, finite_size_value
from validation.data import load
from validation.experiments.generalization_law.nearest_law import LAW, SOURCE, law_on_data
from validation.experiments.shared import Case as Simulated
from validation.experiments.shared import ExperimentResult, Row, chosen, concluded, counter, save, side_by_side
from validation.simulation import (
    Estimate,
    Form,
    Grids,
    Measurement,
    Prediction,
    crossing,
    jackknife,
    judge,
    limit_of_logs,
    minimum,
    simulate,
)

__all__ = ["CASES", "PRESETS", "Case", "Preset", "figure", "run"]

CLAIM = (
    "The held-out cross-entropy of the empirical density is smallest inside the memorisation phase, at a noise variance "
    "equal to the mean squared distance per dimension from a fresh point to its nearest training point."
)
TOLERANCE = 0.03
NAMES = {"law": LAW, "optimum": "optimum t_g", "phase": "t_g / t_c"}
_QUERIES, _FAR_BELOW = 128, 9.0  # log t so far below t_g that log Z is the nearest point's energy


@dataclass(frozen=True)
class Case(Simulated):
    """A manifold and a load; `activation` bends it, and then only the law itself, not the times, is predicted."""

    activation: str | None = None  # a name, so that a checkpoint is recognised by another process


CASES = (
    Case("linear, alpha_D=0.5, alpha=0.2", LinearManifold(0.5), 0.2, (26, 30, 34, 38, 42, 46)),
    Case("linear, alpha_D=0.25, alpha=0.15", LinearManifold(0.25), 0.15, (36, 40, 44, 52, 56, 60)),
    Case("tanh, alpha_D=0.5, alpha=0.2", LinearManifold(0.5), 0.2, (26, 30, 34, 38, 42, 46), "tanh"),
)


@dataclass(frozen=True)
class Preset:
    """How much work: sizes of each case, pattern-query pairs a size (with bounds on replicas), probes of real data."""

    name: str
    sizes: int
    pairs: float
    replicas: int
    probes: int

    def replicas_at(self, P: int) -> int:
        return int(np.clip(self.pairs / (_QUERIES * P), 64, self.replicas))


PRESETS = {"quick": Preset("quick", 4, 5e7, 250, 256), "full": Preset("full", 6, 6e8, 2000, 1000)}


def run(
    preset: str | Preset = "quick",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    out: str | os.PathLike | None = None,
    device: str = "cpu",
    *,
    cases: Sequence[Case] = CASES,
    data: str | os.PathLike | Sequence[str | os.PathLike | None] = (),
    theory: Callable[[Any, float], float] = generalization_time,
) -> ExperimentResult:
    """Measure t_g and nearest distances on synthetic manifolds, scikit-learn's digits, and data sets given by path.

    Parameters
    ----------
    preset : "quick" (under a minute on two cores), "full" (some ten minutes) or a `Preset`
    seed : int
    progress : callable (sizes and data sets done, all)
    out : folder, optional; generalization_law.csv, .nc, .png and checkpoints are written there
    device : torch device
    cases : what is simulated
    data : a path or several, anything `validation.data.load` reads, measured besides digits
    theory : the optimum that is predicted, a function of model and alpha; another one is a negative control

    Returns
    -------
    ExperimentResult; on real data errors are over held-out points, at one training set

    Raises
    ------
    DomainError : unknown preset, unreadable data, unwritable `out`

    Source: [AALMV25], [BM24].
    """
    preset = chosen(preset, PRESETS)
    folder, started = None if out is None else Path(out), time.perf_counter()
    paths = [None, *([data] if isinstance(data, (str, os.PathLike)) else data)]
    sets = [load(path, seed=seed) for path in paths]
    declared = {case.label: _declare(case, theory) for case in cases}  # before anything is drawn
    step = counter(progress, len(cases) * preset.sizes + len(sets))
    rows, synthetic, real = [], [], []
    for case in cases:
        found = []
        for N in case.sizes[: preset.sizes]:
            found.append(_measure(case, N, preset, seed, device, case.checkpoint(folder, N)))
            step()
        case_rows, curves = _compare(case, case.sizes[: preset.sizes], found, declared[case.label])
        rows += case_rows
        synthetic.append(curves)
    for dataset in sets:
        data_rows, curves = law_on_data(dataset, probes=preset.probes, seed=seed, device=device)
        rows += data_rows
        real.append(curves)
        step()
    cases_and_data = (
        side_by_side(synthetic, [case.label for case in cases]),
        side_by_side(real, [dataset.name for dataset in sets], "data"),
    )
    result = concluded(
        "generalization_law",
        CLAIM,
        rows,
        xr.merge(cases_and_data),
        preset=preset,
        seed=seed,
        device=device,
        started=started,
        arguments={"data": [dataset.name for dataset in sets[1:]]},
        data={s.name: f"P={s.P}, N={s.N}, {s.scale}" for s in sets},
    )
    if folder is not None:
        save(result, figure(result), folder)
    return result


# --- synthetic manifolds ----------------------------------------------------------------------------------------------


def _declare(case: Case, theory: Callable[[Any, float], float]) -> dict[str, Prediction]:
    if case.activation is not None:
        return {"law": Prediction(f"{NAMES['law']}, {case.label}", 1.0, Form(("1/N", "log N/N^2")), TOLERANCE, SOURCE)}
    t_g = theory(case.model, case.alpha)
    ratio = t_g / collapse_time(case.model, case.alpha)
    forms = {
        "law": (1.0, Form(("1/N^2", "log N/N^2"), "edge of the random energy model")),
        "optimum": (t_g, Form(("1/N^2",), "finite-N drift of theory.finite_size.drift")),
        "phase": (
            ratio,
            Form(("N^-3/2",), "finite-N drifts of theory.finite_size.drift"),
        ),  # the collapse leaves N^-3/2
    }
    return {k: Prediction(f"{NAMES[k]}, {case.label}", v, form, TOLERANCE, SOURCE) for k, (v, form) in forms.items()}


def _measure(
    case: Case, N: int, preset: Preset, seed: int, device: str, checkpoint: Path | None
) -> dict[str, Estimate]:
    """Logarithms of the quantities and of the nearest distance at one size; a coarse pilot finds where to look."""
    P = case.patterns(N)
    common = {"queries": _QUERIES, "device": device, "dtype": torch.float32, "activation": case.activation}
    common["workers"] = min(2, os.cpu_count() or 1)
    wide = np.linspace(-5.0, 2.5, 31)
    pilot = simulate(case.model, N, P, grids=Grids(noisy=wide, heldout=wide), replicas=6, seed=(seed, 1), **common)
    bottom = minimum(wide, pilot.heldout.mean(axis=0))
    middle = crossing(wide, pilot.noisy.mean(axis=0))
    if not (np.isfinite(bottom) and np.isfinite(middle)):
        raise DomainError("case", case.label, "a case whose times lie within three decades of 1")
    low = round(bottom - _FAR_BELOW, 2)
    grids = Grids(
        noisy=np.round(middle, 2) + np.linspace(-0.6, 0.6, 5),
        heldout=[low, *(np.round(bottom, 2) + np.linspace(-0.4, 0.4, 6))],
    )
    replicas = preset.replicas_at(P)
    m = simulate(case.model, N, P, grids=grids, replicas=replicas, seed=seed, checkpoint=checkpoint, **common)
    return _estimates(m)


def _estimates(m: Measurement) -> dict[str, Estimate]:
    low, fine, K = m.grids.heldout[0], np.array(m.grids.heldout[1:]), len(m.grids.noisy)

    def nearest(y: np.ndarray) -> float:  # C(t) = (log t)/2 + d^2/2t
        return float(np.log(2 * np.exp(low) * (y[0] - low / 2)))

    def joint(statistic: Callable[[np.ndarray], float]) -> Estimate:
        rows = np.concatenate([m.heldout, m.noisy], axis=1)
        return jackknife(np.arange(rows.shape[1], dtype=float), rows, lambda _, y: statistic(y))

    def optimum(y: np.ndarray) -> float:
        return minimum(fine, y[1:-K])

    return {
        "law": joint(lambda y: optimum(y) - nearest(y)),
        "optimum": joint(optimum),
        "phase": joint(lambda y: optimum(y) - crossing(np.array(m.grids.noisy), y[-K:])),
        "nearest": joint(nearest),
    }


def _known(case: Case, quantity: str, N: float) -> float:
    """The declared part of the finite-N correction, of the logarithm, at the P that is simulated."""
    model, alpha, P = case.model, case.alpha, case.patterns(int(N))
    if quantity == "law":
        m = generalization_time(model, alpha) / condensation_time(model, alpha)
        return float(np.log1p(edge_correction(m, N)))
    drift = np.log(finite_size_value("generalization", model, np.log(P) / N, N) / generalization_time(model, alpha))
    if quantity == "phase":
        drift -= np.log(finite_size_value("collapse", model, np.log(P - 1) / N, N) / collapse_time(model, alpha))
    return float(drift)


def _compare(
    case: Case, sizes: Sequence[int], found: Sequence[Mapping[str, Estimate]], declared: Mapping[str, Prediction]
) -> tuple[list[Row], xr.Dataset]:
    N, rows = np.array(sizes, dtype=float), []
    quantities = list(NAMES)
    nan = np.full((len(quantities), len(N)), np.nan)
    table = {name: nan.copy() for name in ("measured", "error", "known")}
    limits = {name: np.full(len(quantities), np.nan) for name in ("limit", "limit_error", "predicted")}
    for i, quantity in enumerate(quantities):
        y, sigma = (np.array([getattr(e[quantity], part) for e in found]) for part in ("value", "error"))
        table["measured"][i], table["error"][i] = np.exp(y), np.exp(y) * sigma
        if quantity not in declared:
            continue
        prediction = declared[quantity]
        known = np.array([_known(case, quantity, n) if prediction.correction_form.known else 0.0 for n in N])
        table["known"][i] = np.exp(known)
        limit = limit_of_logs(N, y, sigma, prediction.correction_form, known)
        note = "too few sizes with an optimum"
        if fit := limit.fit:
            (term, coefficient), *_ = fit.coefficients.items()
            note = f"N = {sizes[0]}..{sizes[-1]}; coefficient of {term}: {coefficient:.3g}; chi2/dof = {fit.chi2:.2f}/{fit.dof}"
        verdict = judge(prediction, limit.value, limit.error, limit.p_value)
        rows.append(Row(NAMES[quantity], case.label, verdict, f"{verdict.reason}; {note}"))
        for name, entry in zip(limits, (limit.value, limit.error, prediction.value), strict=True):
            limits[name][i] = entry
    nearest = np.exp([e["nearest"].value for e in found])
    return rows, xr.Dataset(
        {name: (("quantity", "size"), values) for name, values in table.items()}
        | {name: ("quantity", values) for name, values in limits.items()}
        | {
            "N": ("size", N),
            "nearest": ("size", nearest, {"long_name": "mean squared nearest distance per dimension"}),
        },
        coords={"quantity": quantities, "size": np.arange(len(N))},
    )


def figure(result: ExperimentResult) -> Any:
    """t_g against the nearest distance; their ratio against 1/N; the cross-entropy of each data set, with its times."""
    from validation.experiments.generalization_law.figures import nearest_law_figure

    return nearest_law_figure(result.curves, TOLERANCE)
