r"""Does the spectrum freeze? From a clean fresh point, below t_cond, the posterior variance over t stops depending on t.

For each N the posterior variance per direction of every subspace, v_k, is measured at fresh points over a grid of t/t_cond
and averaged over many training sets. Theory (`theory.subspaces`): :math:`v_k/t\to\beta_*r/(1+\beta_*r)` below t_cond; at the N
and P of the run the mean is known exactly (`theory.finite_size.frozen`), is met size by size, and is the drift of the limit, with
1/N left free. The mean hides wide fluctuations: single values are kept and shown beside the law of a Poisson-Dirichlet measure,
which is what the condensed weights of a random energy model become.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
import xarray as xr

from theory import Subspaces, condensation_time
from theory.finite_size import finite_size_eigenvalue
from theory.subspaces import frozen_eigenvalue
from validation.experiments.shared import (
    Case,
    ExperimentResult,
    Kept,
    Row,
    chosen,
    concluded,
    counter,
    measured,
    save,
    side_by_side,
)
from validation.simulation import Form, Prediction, Sampler, extrapolate, judge
from validation.spectra import blocks_of

__all__ = ["CASES", "PRESETS", "RATIOS", "Case", "Preset", "figure", "poisson_dirichlet_spread", "run"]

CLAIM = (
    "Below t_cond the mean posterior variance of a direction of variance r, seen from a fresh point, is t times "
    "beta_* r/(1 + beta_* r): the normalised Jacobian eigenvalue 1/(1 + beta_* r) no longer depends on t."
)
RATIOS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.5, 2.5)  # t / t_cond
_JUDGED = (0.2, 0.5)  # deep enough below t_cond, and with enough points in the average
_FLAT = (0.1, 0.5)
TOLERANCE = 0.05
FORM = Form(("1/N",), "exact v/t at N and P less its limit, theory.finite_size.frozen")
_FLAT_FORM = Form(("1/N",), "exact ratio at N and P less 1, theory.finite_size.frozen")
AT_SIZE_TOLERANCE = 0.01
_AT_SIZE_FORM = Form((), "nothing: measured over exact at every N")
_ACCURACY = 3e-5  # asked of the exact means; two Gauss rules in a row differ by less
_QUERIES = 64


CASES = (
    Case("a = (1/2, 1/2), r = (1, 0.3), alpha = 0.3", Subspaces([0.5, 0.5], [1.0, 0.3]), 0.3, (14, 18, 22, 26, 30, 34)),
    Case(
        "a = (1/4, 1/2), r = (1, 0.09), alpha = 0.2", Subspaces([0.25, 0.5], [1.0, 0.09]), 0.2, (20, 24, 32, 40, 44, 48)
    ),
)


@dataclass(frozen=True)
class Preset:
    """Sizes used, and the points measured at each: `effort` pattern-point pairs, between the two bounds."""

    name: str
    sizes: int
    effort: float
    fewest: int
    most: int

    def replicas(self, P: int) -> int:
        return max(8, round(min(max(self.effort / P, self.fewest), self.most) / _QUERIES))


PRESETS = {"quick": Preset("quick", 5, 4e7, 8_000, 60_000), "full": Preset("full", 6, 4e8, 24_000, 400_000)}


def run(
    preset: str | Preset = "quick",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    out: str | os.PathLike | None = None,
    device: str = "cpu",
    *,
    cases: Sequence[Case] = CASES,
    theory: Callable[[Any, int, int, Any], np.ndarray] = frozen_eigenvalue,
    scheduler: Any = None,
) -> ExperimentResult:
    """Measure v(r)/t at fresh points for several N, extrapolate, and compare with the frozen spectrum.

    Parameters
    ----------
    preset : "quick" (some 75 s on one core, a third of it for the exact means), "full" (a quarter of an hour) or a `Preset`
    seed : int; progress : callable (replicas done, of all); device : torch device
    out : folder, optional, for frozen_spectrum.csv, .nc and .png; an interrupted run goes on from the replicas kept there
    cases, theory : what is simulated, and the normalised eigenvalue (model, P, N, t) -> (T, K) it is compared with
    scheduler : a dask scheduler on whose workers the replicas run, see `numerics.grids.run_tasks`; the numbers stay the same

    Returns
    -------
    ExperimentResult
        Rows: the limit of v/t for each subspace deep below t_cond; v/t over its exact mean at N and P, all sizes together;
        and its flatness, the ratio of v/t at 0.1 and 0.5 t_cond.

    Raises
    ------
    DomainError : unknown preset, unwritable `out`
    """
    preset = chosen(preset, PRESETS)
    started = time.perf_counter()
    cases = tuple(cases)
    items = [
        (case, N, condensation_time(case.model, P=case.patterns(N), N=N), (seed, N, replica))
        for case in cases
        for N in case.sizes[: preset.sizes]
        for replica in range(preset.replicas(case.patterns(N)))
    ]
    step = counter(progress, len(items))
    keep = Kept("frozen_spectrum", out, preset=preset, seed=seed, device=device, cases=cases)
    replicas = measured(
        _one, items, shared=(device,), rows=keep(""), scheduler=scheduler, chunk=4, step=lambda _: step()
    )
    by_size: dict[tuple[str, int], list[np.ndarray]] = {}
    for (case, N, *_), one in zip(items, replicas, strict=True):
        by_size.setdefault((case.label, N), []).append(one["v"])
    found = {case.label: [np.array(by_size[case.label, N]) for N in case.sizes[: preset.sizes]] for case in cases}
    rows, curves = [], []
    for case in cases:
        more, part = _compare(case, found[case.label], theory, seed)
        rows += more
        curves.append(part)
    curves = side_by_side(curves, [case.label for case in cases])
    made = {"preset": preset, "seed": seed, "device": device, "started": started}
    result = concluded("frozen_spectrum", CLAIM, rows, curves, **made)
    if out is not None:
        save(result, figure(result), out)
    keep.clear()
    return result


def _one(item: tuple[Case, int, float, tuple[int, ...]], device: str) -> dict[str, np.ndarray]:
    """v_k/t of one training set: (T, queries, K), only the diagonal of the covariance, from two products a noise level."""
    case, N, t_cond, seed = item
    P, K = case.patterns(N), len(case.model.variances)
    sampler = Sampler(case.model, N, seed=seed, device=device, dtype=torch.float64)
    X, x = sampler.sample(P), sampler.stream(1).sample(_QUERIES)
    blocks = blocks_of(np.rint(np.diff(np.rint(np.cumsum(case.model.fractions) * N), prepend=0)).astype(int).tolist())
    # float64 products: t is never below 0.05 t_cond, so cancellation costs 1e-14; weights then live in float32
    energy = X.square().sum(1) / 2 - x @ X.T
    energy = (energy - energy.amin(dim=1, keepdim=True)).float()
    squares = torch.stack([X[:, block].square().sum(1) for block in blocks], dim=1).float()
    X = X.float()
    out = np.empty((len(RATIOS), _QUERIES, K))
    for i, ratio in enumerate(RATIOS):
        t = ratio * t_cond
        w = torch.exp(energy * (-1 / t))
        w /= w.sum(1, keepdim=True)
        mean, square = w @ X, w @ squares
        for k, block in enumerate(blocks):
            size = block.stop - block.start
            spread = (square[:, k] - mean[:, block].square().sum(1)).clamp_min(0.0)
            out[i, :, k] = (spread / (size * t)).cpu().numpy()
    return {"v": out}


@cache
def _exact(case: Case, N: int) -> np.ndarray:
    """The exact mean of v_k/t at N and P over the grid of t/t_cond: (T, K)."""
    P = case.patterns(N)
    t = np.array(RATIOS) * condensation_time(case.model, P=P, N=N)
    return 1 - finite_size_eigenvalue(case.model, P, N, t, tolerance=_ACCURACY)


def _compare(case: Case, found: Sequence[np.ndarray], theory: Callable, seed: int) -> tuple[list[Row], xr.Dataset]:
    N = np.array(case.sizes[: len(found)], dtype=float)
    P = np.array([case.patterns(int(n)) for n in N])
    means = np.array([f.mean(axis=(0, 2)) for f in found])  # (size, T, K)
    errors = np.array([f.mean(axis=2).std(axis=0, ddof=1) / math.sqrt(len(f)) for f in found])
    # every prediction belongs to the load that is simulated: P is rounded, so alpha = log P / N differs a little with N
    t_cond = np.array([condensation_time(case.model, P=int(p), N=int(n)) for p, n in zip(P, N, strict=True)])
    limit_t = condensation_time(case.model, case.alpha)
    # theory takes P and N: at N = 100 the rounding of P = e^(alpha N) no longer matters
    limit = 1 - theory(case.model, round(math.exp(case.alpha * 100)), 100, np.array(RATIOS) * limit_t)
    r = np.array(case.model.variances)
    exact = np.array([_exact(case, int(n)) for n in N])  # (size, T, K)
    drift = exact - r / (limit_t + r)  # from the frozen level itself, whatever `theory` is on trial
    names, rows, ratios = [f"r = {value:g}" for value in r], [], np.array(RATIOS)
    low, high = (RATIOS.index(x) for x in _FLAT)
    flat, flat_error = np.empty((2, len(N), len(r)))
    source = "[ours: losing_dimensions.md]"
    for k, name in enumerate(names):
        for ratio in _JUDGED:
            i = RATIOS.index(ratio)
            what = f"v/t at t = {ratio:g} t_cond, {name}"
            prediction = Prediction(f"v/t, {name}", float(limit[i, k]), FORM, TOLERANCE, source)
            fit = extrapolate(N, means[:, i, k], errors[:, i, k], FORM, drift[:, i, k])
            verdict = judge(prediction, fit.limit, fit.error, fit.p_value)
            note = (
                f"at N = {int(N[-1])}: {means[-1, i, k]:.4g} +- {errors[-1, i, k]:.2g}; exact score would give "
                f"{r[k] / (ratio * limit_t + r[k]):.4g}; coefficient of 1/N {fit.coefficients['1/N']:.2g} +- "
                f"{math.sqrt(fit.covariance[1, 1]):.2g}; chi2/dof = {fit.chi2:.2f}/{fit.dof}"
            )
            rows.append(Row(what, case.label, verdict, f"{verdict.reason}; {note}"))
            over, error = means[:, i, k] / exact[:, i, k], errors[:, i, k] / exact[:, i, k]
            at_size = Prediction(f"v/t over exact, {name}", 1.0, _AT_SIZE_FORM, AT_SIZE_TOLERANCE, source)
            fit = extrapolate(N, over, error, _AT_SIZE_FORM)
            verdict = judge(at_size, fit.limit, fit.error, fit.p_value)
            note = ", ".join(f"{int(n)}: {x:.4f} +- {e:.4f}" for n, x, e in zip(N, over, error, strict=True))
            rows.append(Row(f"{what}, over its exact mean at N and P", case.label, verdict, f"at N = {note}"))
        flat[:, k], flat_error[:, k] = zip(*(_ratio(f[:, low, :, k], f[:, high, :, k]) for f in found), strict=True)
        exact_flat = exact[:, low, k] / exact[:, high, k]
        fit = extrapolate(N, flat[:, k], flat_error[:, k], _FLAT_FORM, exact_flat - 1)
        prediction = Prediction(f"flatness, {name}", 1.0, _FLAT_FORM, 2 * TOLERANCE, source)
        verdict = judge(prediction, fit.limit, fit.error, fit.p_value)
        thawed = (_FLAT[1] * limit_t + r[k]) / (_FLAT[0] * limit_t + r[k])
        note = (
            f"at N = {int(N[-1])}: {flat[-1, k]:.4g} +- {flat_error[-1, k]:.2g}, exact mean {exact_flat[-1]:.4g}, at N = "
            f"{int(N[0])}: {flat[0, k]:.4g} +- {flat_error[0, k]:.2g}, exact mean {exact_flat[0]:.4g}; "
            f"exact score would give {thawed:.4g}"
        )
        rows.append(Row(f"flatness: v/t at {_FLAT[0]:g} over {_FLAT[1]:g} t_cond, {name}", case.label, verdict, note))
    single = found[-1].transpose(1, 0, 2, 3).reshape(len(RATIOS), -1, len(r))
    quantile = np.linspace(0.01, 0.99, 99)
    spread = {ratio: poisson_dirichlet_spread(ratio, 4000, seed) for ratio in RATIOS if ratio < 1}
    law = np.full((len(RATIOS), 99, len(r)), np.nan)
    for i, ratio in enumerate(RATIOS):
        if ratio in spread:
            # (1 - sum w^2) times the tilted variance, over t = ratio/beta_*
            tilted = 1 / t_cond[-1] * r / (1 + r / t_cond[-1])
            law[i] = np.quantile(spread[ratio], quantile)[:, None] * tilted / ratio
    dims = ("size", "ratio", "subspace")
    curves = xr.Dataset(
        {
            "v": (dims, means, {"long_name": "mean posterior variance over t"}),
            "v_error": (dims, errors),
            "limit": (("ratio", "subspace"), limit),
            "finite_theory": (dims, exact, {"long_name": "exact mean posterior variance over t at N and P"}),
            "flatness": (("size", "subspace"), flat),
            "flatness_error": (("size", "subspace"), flat_error),
            "exact_score": (("ratio", "subspace"), r / (ratios[:, None] * limit_t + r)),
            "quantiles": (
                ("ratio", "probability", "subspace"),
                np.quantile(single, quantile, axis=1).transpose(1, 0, 2),
            ),
            "quantiles_theory": (("ratio", "probability", "subspace"), law),
            "N": ("size", N),
            "P": ("size", P.astype(float)),
            "t_cond": ("size", t_cond),
            "variance": ("subspace", r),
        },
        coords={"ratio": ratios, "probability": quantile, "size": np.arange(len(N)), "subspace": np.arange(len(r))},
    )
    return rows, curves


def _ratio(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Ratio of two means over (replicas, points) with its error between replicas."""
    a, b = a.mean(axis=1), b.mean(axis=1)
    value = a.mean() / b.mean()
    error = (a - value * b).std(ddof=1) / math.sqrt(len(a)) / b.mean()
    return float(value), float(error)


def poisson_dirichlet_spread(m: float, count: int, seed: int, sticks: int = 2000) -> np.ndarray:
    r"""Draws of :math:`1-\sum w^2` for Poisson-Dirichlet weights of index m, the condensed weights of a REM at m = t/t_cond.

    Stick breaking: the j-th stick is Beta(1 - m, j m); what 2000 sticks leave counts as dust. The mean is m. Source: [D81].

    >>> spread = poisson_dirichlet_spread(0.3, 4000, 0)
    >>> bool(abs(spread.mean() - 0.3) < 0.015)
    True
    """
    rng = np.random.default_rng(seed)
    total, left = np.zeros(count), np.ones(count)
    for j in range(1, sticks + 1):
        cut = rng.beta(1 - m, j * m, count)
        total += np.square(left * cut)
        left *= 1 - cut
        if left.max() < 1e-4:
            break
    return 1 - total


def figure(result: ExperimentResult) -> Any:
    """v/t against t for every N, its limit and the exact score; and the distribution of single values."""
    from validation.experiments.frozen_spectrum.figures import frozen_figure

    return frozen_figure(result.curves)
