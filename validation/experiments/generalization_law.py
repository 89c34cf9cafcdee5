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
from theory.drift import finite_size_value
from theory.trajectories import edge_correction
from validation.data import load
from validation.empirical_score import EmpiricalScore
from validation.experiments.presets import chosen
from validation.experiments.result import ExperimentResult, Row, provenance, save
from validation.extrapolation import Estimate, Form, crossing, extrapolate, jackknife, minimum
from validation.measurement import measure, split
from validation.montecarlo import Grids, Measurement, simulate
from validation.neighbours import nearest_neighbours
from validation.prediction import Outcome, Prediction, Verdict, judge

__all__ = ["CASES", "PRESETS", "Case", "Preset", "figure", "run"]

CLAIM = (
    "The held-out cross-entropy of the empirical density is smallest inside the memorisation phase, at a noise variance "
    "equal to the mean squared distance per dimension from a fresh point to its nearest training point."
)
TOLERANCE = 0.03
DATA_TOLERANCE = 0.05  # at one finite N and P, without an extrapolation
NAMES = {
    "law": "t_g / nearest squared distance",
    "optimum": "optimum t_g",
    "phase": "t_g / t_c",
    "inside": "t_g / t_c below 1",
}
_LAW = "[AALMV25]; edge: [ours: docs/derivations/trajectories.md]"
_QUERIES, _FAR_BELOW = 128, 9.0  # log t so far below t_g that log Z is the nearest point's energy


@dataclass(frozen=True)
class Case:
    """A manifold and a load; `activation` bends it, and then only the law itself, not the times, is predicted."""

    label: str
    model: LinearManifold
    alpha: float
    sizes: tuple[int, ...]
    activation: str | None = None  # a name, so that a checkpoint is recognised by another process

    def patterns(self, N: int) -> int:
        """Number of training points, e^{alpha N} rounded."""
        return round(float(np.exp(self.alpha * N)))


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
    total, done, rows, synthetic, real = len(cases) * preset.sizes + len(sets), 0, [], [], []

    def advance() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    for case in cases:
        found = []
        for N in case.sizes[: preset.sizes]:
            path = None if folder is None else folder / "checkpoints" / f"{_slug(case.label)}_N{N}.npz"
            found.append(_measure(case, N, preset, seed, device, path))
            advance()
        case_rows, curves = _compare(case, case.sizes[: preset.sizes], found, declared[case.label])
        rows += case_rows
        synthetic.append(curves)
    for dataset in sets:
        data_rows, curves = _real(dataset, preset, seed, device)
        rows += data_rows
        real.append(curves)
        advance()
    curves = xr.merge(
        [
            xr.concat(synthetic, xr.DataArray([c.label for c in cases], dims="case", name="case"), join="outer"),
            xr.concat(real, xr.DataArray([s.name for s in sets], dims="data", name="data"), join="outer"),
        ]
    )
    result = ExperimentResult(
        "generalization_law",
        CLAIM,
        rows,
        curves,
        provenance(
            command=f"validation.experiments.generalization_law.run(preset={preset.name!r}, seed={seed}, "
            f"device={device!r}, data={[s.name for s in sets[1:]]})",
            preset=vars(preset),
            seed=seed,
            data={s.name: f"P={s.P}, N={s.N}, {s.scale}" for s in sets},
            seconds=round(time.perf_counter() - started, 1),
        ),
    )
    if folder is not None:
        save(result, figure(result), folder)
    return result


# --- synthetic manifolds ----------------------------------------------------------------------------------------------


def _declare(case: Case, theory: Callable[[Any, float], float]) -> dict[str, Prediction]:
    if case.activation is not None:
        return {"law": Prediction(f"{NAMES['law']}, {case.label}", 1.0, Form(("1/N", "log N/N^2")), TOLERANCE, _LAW)}
    t_g = theory(case.model, case.alpha)
    ratio = t_g / collapse_time(case.model, case.alpha)
    forms = {
        "law": (1.0, Form(("1/N^2", "log N/N^2"), "edge of the random energy model")),
        "optimum": (t_g, Form(("1/N^2",), "finite-N drift of theory.drift")),
        "phase": (ratio, Form(("N^-3/2",), "finite-N drifts of theory.drift")),  # the collapse leaves N^-3/2
    }
    return {k: Prediction(f"{NAMES[k]}, {case.label}", v, form, TOLERANCE, _LAW) for k, (v, form) in forms.items()}


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
    quantities = [name for name in NAMES if name != "inside"]
    nan = np.full((len(quantities), len(N)), np.nan)
    table = {name: nan.copy() for name in ("measured", "error", "known")}
    limits = {name: np.full(len(quantities), np.nan) for name in ("limit", "limit_error", "predicted")}
    for i, quantity in enumerate(quantities):
        y, sigma = (np.array([getattr(e[quantity], part) for e in found]) for part in ("value", "error"))
        table["measured"][i], table["error"][i] = np.exp(y), np.exp(y) * sigma
        if quantity not in declared:
            continue
        prediction, good = declared[quantity], np.isfinite(y)
        known = np.array([_known(case, quantity, n) if prediction.correction_form.known else 0.0 for n in N])
        table["known"][i] = np.exp(known)
        value = error = p_form = np.nan
        note = "too few sizes with an optimum"
        if good.sum() > 1 + len(prediction.correction_form.free):
            fit = extrapolate(N[good], y[good], sigma[good], prediction.correction_form, known[good])
            value, p_form = float(np.exp(fit.limit)), fit.p_value
            error = value * fit.error
            (term, coefficient), *_ = fit.coefficients.items()
            note = f"N = {sizes[0]}..{sizes[-1]}; coefficient of {term}: {coefficient:.3g}; chi2/dof = {fit.chi2:.2f}/{fit.dof}"
        verdict = judge(prediction, value, error, p_form)
        rows.append(Row(NAMES[quantity], case.label, verdict, f"{verdict.reason}; {note}"))
        limits["limit"][i], limits["limit_error"][i], limits["predicted"][i] = value, error, prediction.value
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


# --- real data --------------------------------------------------------------------------------------------------------


def _real(dataset: Any, preset: Preset, seed: int, device: str) -> tuple[list[Row], xr.Dataset]:
    """The law at eight sizes of the training set, the phase at the largest; judged there."""
    label = f"{dataset.name}, P={{}}, N={dataset.N}"
    law = Prediction(f"{NAMES['law']}, edge removed, {dataset.name}", 1.0, None, DATA_TOLERANCE, _LAW)
    inside = Prediction(f"{NAMES['inside']}, {dataset.name}", 1.0, None, TOLERANCE, "[AALMV25]")
    train, held_out = split(dataset.X, dataset.held_out, seed=seed, limit=preset.probes)
    order = np.random.default_rng((seed, 5)).permutation(len(train))
    sizes = sorted({max(8, len(train) >> k) for k in range(6)})
    table = {name: np.full(len(sizes), np.nan) for name in ("t_g", "t_g_error", "d2", "ratio", "ratio_error")}
    for i, P in enumerate(sizes):
        ratio, t_g, d2 = _law(np.ascontiguousarray(train[order[:P]]), held_out, device)
        table["t_g"][i], table["t_g_error"][i], table["d2"][i] = t_g.value, t_g.value * t_g.error, d2
        table["ratio"][i], table["ratio_error"][i] = ratio.value, ratio.value * ratio.error
    m = measure(train, held_out, probes=min(preset.probes, 512), seed=seed, device=device)
    t_g, t_c = m.generalization, m.collapse
    share = t_g.value / t_c.value
    error = share * np.hypot(t_g.error / t_g.value, t_c.error / t_c.value)
    label = label.format(len(train))
    edge = edge_correction(min(t_g.value / m.condensation.value, 0.99), m.N)
    value, error_of = (float(table[name][-1]) / (1 + edge) for name in ("ratio", "ratio_error"))
    verdict = judge(law, value, error_of)
    note = f"before removing the edge's {edge:+.2%}: {table['ratio'][-1]:.5g}; errors over held-out points"
    rows = [
        Row(NAMES["law"], label, verdict, f"{verdict.reason}; {note}"),
        Row(
            NAMES["inside"], label, _below(inside, share, float(error)), f"t_g = {t_g.value:.4g}, t_c = {t_c.value:.4g}"
        ),
    ]
    curves = xr.Dataset(
        {f"data_{name}": ("subset", values) for name, values in table.items()}
        | {"data_P": ("subset", np.array(sizes, dtype=float)), "data_N": dataset.N, "data_collapse": t_c.value}
        | {"data_optimum": t_g.value, "data_t": ("point", m.t), "data_cross_entropy": ("point", m.cross_entropy.mean)}
        | {"data_own_weight": ("point", m.own_weight.mean)},
        coords={"subset": np.arange(len(sizes)), "point": np.arange(len(m.t))},
    )
    return rows, curves


def _law(train: np.ndarray, held_out: np.ndarray, device: str) -> tuple[Estimate, Estimate, float]:
    """t_g over the nearest squared distance, from the same held-out points (relative errors), t_g, and the distance."""
    d2 = nearest_neighbours(train, 1, queries=held_out, device=device).squared_distance[:, 0]
    x = np.log(d2.mean()) + np.linspace(-1.5, 2.5, 33)
    cross = (
        x / 2
        - EmpiricalScore(train, device=device).clean_profile(held_out, np.exp(x))["log_partition"].T / train.shape[1]
    )
    # the extra column carries the distance through the jackknife
    both, axis = np.column_stack([cross, d2]), np.append(x, x[-1] + 1)
    ratio = jackknife(axis, both, lambda _, y: minimum(x, y[:-1]) - float(np.log(y[-1])))
    t_g = jackknife(axis, both, lambda _, y: minimum(x, y[:-1]))
    exp = [Estimate(float(np.exp(e.value)), e.error, e.reason) for e in (ratio, t_g)]
    return exp[0], exp[1], float(d2.mean())


def _below(prediction: Prediction, measured: float, error: float) -> Verdict:
    """A bound instead of a value: agree or disagree where it holds, or fails, by three errors."""
    if not np.isfinite(measured + error):
        return Verdict(prediction, measured, error, Outcome.INCONCLUSIVE, "nothing was measured")
    gap = (prediction.value - measured) / error
    if abs(gap) < 3:
        return Verdict(prediction, measured, error, Outcome.INCONCLUSIVE, "closer to the bound than 3 sigma")
    reason = f"{'below' if gap > 0 else 'above'} the bound by {abs(gap):.0f} sigma"
    return Verdict(prediction, measured, error, Outcome.AGREE if gap > 0 else Outcome.DISAGREE, reason)


# --- figure and files -------------------------------------------------------------------------------------------------


def figure(result: ExperimentResult) -> Any:
    """t_g against the nearest distance; their ratio against 1/N; the cross-entropy of each data set, with its times."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    curves = result.curves
    fig = Figure(figsize=(15, 4.8), layout="constrained")
    law, ratio, entropy = fig.subplots(1, 3)
    ends = []
    for i, label in enumerate(curves["case"].values):
        part = curves.sel(case=label)
        near, t_g = part["nearest"].values, part["measured"].sel(quantity="optimum").values
        law.plot(near, t_g, "o", ms=4, color=f"C{i}", label=label)
        ends += [near.min(), near.max()]
        row, inverse = part.sel(quantity="law"), 1 / part["N"].values
        ratio.errorbar(inverse, row["measured"], row["error"], fmt="o", ms=4, color=f"C{i}", capsize=2, label=label)
        ratio.errorbar(
            -0.0008 * (i + 1), row["limit"], row["limit_error"], fmt="s", mfc="white", color=f"C{i}", capsize=3
        )
        if np.isfinite(row["known"]).all() and not np.allclose(row["known"], 1):
            ratio.plot(np.append(inverse, 0), np.append(row["known"], 1), "-", lw=1, color=f"C{i}", alpha=0.7)
    for i, name in enumerate(curves["data"].values):
        part, color = curves.sel(data=name), f"C{i + curves.sizes['case']}"
        label = f"{name}, N = {int(part['data_N'])}"
        law.errorbar(
            part["data_d2"], part["data_t_g"], part["data_t_g_error"], fmt="^-", ms=4, lw=0.8, color=color, label=label
        )
        ends += [float(part["data_d2"].min()), float(part["data_d2"].max())]
        x, y = part["data_t"].values / float(part["data_optimum"]), part["data_cross_entropy"].values
        entropy.plot(x, y - np.nanmin(y), color=color, label=label)
        entropy.plot(x, part["data_own_weight"], "--", color=color, lw=1, alpha=0.7)
        entropy.axvline(float(part["data_collapse"] / part["data_optimum"]), color=color, lw=0.8, ls=":")
    line = np.array([min(ends) / 1.5, max(ends) * 1.5])
    law.plot(line, line, "-", color="0.5", lw=1, zorder=0)
    law.set(xscale="log", yscale="log", xlabel="mean squared nearest distance per dimension", ylabel="$t_g$")
    law.set_title("line: equality; data sets at P/32 ... P")
    for axis in (law.xaxis, law.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    ratio.axhspan(1 - TOLERANCE, 1 + TOLERANCE, color="0.9", zorder=0)
    ratio.axhline(1.0, color="0.5", lw=1)
    ratio.set(
        xlabel="1/N", ylabel="$t_g$ / nearest squared distance", title="● at N, □ extrapolated; lines: theory, no fit"
    )
    entropy.set(xscale="log", ylim=(-0.02, 1.05), xlabel="$t/t_g$", ylabel="cross-entropy above its minimum")
    entropy.set_title("dashed: weight of the own point; dotted: $t_c$")
    for ax in (law, ratio, entropy):
        ax.legend(fontsize=8)
    return fig


def _slug(label: str) -> str:
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in label)
