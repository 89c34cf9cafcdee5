r"""Class by class: what a class-conditional model would see, beside what an unconditional one sees of the same points.

A class-conditional model's ideal score knows the class, so only the points of that class compete:

.. math:: \alpha_k=\frac{\log P_k}N\quad\text{in place of}\quad\frac{\log P}N,

and each class collapses at a higher noise than it does among all points, or at the same where other classes are too far to
compete. What that costs is said twice: in noise (sigma with the class known over sigma without), and in samples: the factor by
which the class would have to grow until, alone, it collapses where it does now among all points. For that its collapse is
measured with half of its points too, and :math:`\log t_c` taken as linear in :math:`\log P`:

.. math:: \log\frac{P_{\text{needed}}}{P_k}=\log2\;\frac{\log t_c(P_k)-\log t_c(\text{all})}{\log t_c(P_k/2)-\log t_c(P_k)} .

All are measured on the same points and noise, so that their errors are those of differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from numerics.domain import DomainError
from theory import Spectrum, collapse_time, condensation_time
from theory.models import population_eigenvalues
from validation.data import Dataset, split
from validation.score import EmpiricalScore
from validation.simulation import Estimate, crossing, jackknife
from validation.tables import TableData

__all__ = ["ClassRow", "audit_classes", "class_names", "classes_table"]

FEWEST = 60  # points of a class, below which its law cannot be measured
MOST = 200  # classes
GROUPS = 32  # of the jackknife over probes
NOT_MEASURED = Estimate(math.nan, math.nan)


@dataclass(frozen=True)
class ClassRow:
    """One class; times in squared data units.

    P, held_out : its training points here, and those kept back; load : log P / N
    theory, theory_condensation : Gaussian of the class's own covariance at its own load, N to infinity
    collapse, condensation : measured with the points of the class alone
    among_all, condensation_among_all : the same points, with all points of the data set competing
    sigma_ratio : sigma at collapse with the class known over that without
    factor : logarithm of the factor in P that knowing the class costs
    reason : why nothing was measured, or ""
    """

    name: str
    P: int
    held_out: int
    load: float
    theory: float = math.nan
    theory_condensation: float = math.nan
    collapse: Estimate = NOT_MEASURED
    condensation: Estimate = NOT_MEASURED
    among_all: Estimate = NOT_MEASURED
    condensation_among_all: Estimate = NOT_MEASURED
    sigma_ratio: Estimate = NOT_MEASURED
    factor: Estimate = NOT_MEASURED
    reason: str = ""


def class_names(data: Dataset) -> dict[int, str]:
    """Label to name: the folder its files lie in where classes are folders, else the number."""
    labels = np.asarray(data.labels)
    names = {int(k): str(k) for k in np.unique(labels)}
    if data.files:
        folders = {k: Path(data.files[int(np.argmax(labels == k))]).parent.name for k in names}
        if len(set(folders.values())) == len(names) and all(folders.values()):
            names = folders
    return names


def audit_classes(
    data: Dataset,
    *,
    t: np.ndarray,
    probes: int = 128,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[str], None] | None = None,
) -> tuple[ClassRow, ...]:
    """One row a class of `data.labels`, in order.

    Parameters
    ----------
    data : with labels; t : (K,) increasing grid of noise variances that holds all collapses, e.g. that of the audit
    probes : training points (and at most as many held-out ones) of a class that are probed, a third of them at most
    seed : of the splits and the noise

    Raises
    ------
    DomainError : no labels, fewer than two classes or more than 200
    """
    if data.labels is None:
        raise DomainError("labels", None, "a class label for every sample", "Give them with --labels")
    labels, names = np.asarray(data.labels), class_names(data)
    if not 2 <= len(names) <= MOST:
        raise DomainError("labels", f"{len(names)} classes", f"from 2 to {MOST} classes")
    tell = progress or (lambda line: None)
    parts: dict[int, Any] = {}
    for k in names:
        rows = np.flatnonzero(labels == k)
        if len(rows) >= FEWEST:
            parts[k] = split(data.X[rows], None, seed=seed, limit=probes, device=device)
    others = [data.X[labels == k] for k in names if k not in parts]
    train = np.concatenate([*(part.train for part in parts.values()), *others])
    everything = EmpiricalScore(train, device=device)
    rows_out, start = [], 0
    for k, name in names.items():
        if k not in parts:
            count = int((labels == k).sum())
            why = f"fewer than {FEWEST} points"
            rows_out.append(ClassRow(name, count, 0, math.log(count) / data.N, reason=why))
            continue
        tell(f"class {name}")
        mine, fresh = parts[k]
        rows_out.append(_row(name, mine, fresh, everything, start, t, probes, seed, device))
        start += len(mine)
    return tuple(rows_out)


def _row(name, mine, fresh, everything: EmpiricalScore, start: int, t, probes: int, seed: int, device: str) -> ClassRow:
    load = math.log(len(mine)) / everything.N
    if len(fresh) < 2:
        return ClassRow(name, len(mine), len(fresh), load, reason="all points kept back are duplicates")
    x = np.log(t)
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(mine), size=min(probes, len(mine) // 3), replace=False))
    points, fresh = (np.asarray(part, dtype=np.float64) for part in (mine[rows], fresh[:probes]))
    noise = rng.standard_normal(points.shape)
    others = np.setdiff1d(np.arange(len(mine)), rows)
    half = np.union1d(rows, rng.permutation(others)[: len(mine) // 2 - len(rows)])
    scores = [EmpiricalScore(mine, device=device), everything, EmpiricalScore(mine[half], device=device)]
    own = [rows, start + rows, np.searchsorted(half, rows)]
    weights = [
        np.exp(score.noisy_profile(points, noise, t, own=index)["own_log_weight"].T)
        for score, index in zip(scores, own, strict=True)
    ]
    squares = [1 / score.clean_profile(fresh, t)["participation"].T for score in scores[:2]]
    collapse, among_all = (_exp(jackknife(x, w, crossing)) for w in weights[:2])
    condensation, condensation_among_all = (_exp(jackknife(x, values, crossing), 2.0) for values in squares)
    ratio, factor = _cost(x, *weights, growth=math.log(len(mine) / len(half)))
    spectrum = Spectrum(population_eigenvalues(Spectrum.from_samples(mine).eigenvalues, len(mine)))
    return ClassRow(
        name,
        len(mine),
        len(fresh),
        load,
        theory=float(collapse_time(spectrum, load)),
        theory_condensation=float(condensation_time(spectrum, load)),
        collapse=collapse,
        condensation=condensation,
        among_all=among_all,
        condensation_among_all=condensation_among_all,
        sigma_ratio=ratio,
        factor=factor,
    )


def _cost(x: np.ndarray, known: np.ndarray, unknown: np.ndarray, half: np.ndarray, *, growth: float):
    """(sigma with the class known over sigma without, log of the factor in P), with jackknife errors over common probes.

    known, unknown, half : (R, K) weights among the class, all points, part of the class; growth : log of class over part
    """

    def statistics(keep: np.ndarray) -> list[float]:
        one, all_points, part = (crossing(x, w[keep].mean(axis=0)) for w in (known, unknown, half))
        return [0.5 * (one - all_points), growth * (one - all_points) / (part - one) if part > one else math.nan]

    probes = np.arange(len(known))
    value = np.array(statistics(probes))
    parts = np.array_split(probes, min(GROUPS, len(probes)))
    left_out = np.array([statistics(np.setdiff1d(probes, part)) for part in parts])
    error = np.sqrt((len(parts) - 1) * left_out.var(axis=0))
    ratio, factor = (
        Estimate(float(v), float(e)) if np.isfinite(v + e) else NOT_MEASURED for v, e in zip(value, error, strict=True)
    )
    return _exp(ratio), factor


def _exp(estimate: Estimate, factor: float = 1.0) -> Estimate:
    value = factor * math.exp(estimate.value)
    return Estimate(value, value * estimate.error, estimate.reason)


def classes_table(rows: tuple[ClassRow, ...]) -> TableData:
    """Classes beside the whole; what conditioning costs in sigma and in samples."""
    table = TableData(
        "Classes. A class-conditional model sees one class at a time: its ideal score collapses at higher noise. Times are "
        "t = sigma² (squared data units); theory is that of Gaussian classes, N → ∞.",
        (
            "class", "points", "log P / N", "t_c theory", "t_c, class known", "t_c, unknown", "sigma ratio", "factor in P",
            "points needed", "t_cond theory", "t_cond, known", "t_cond, unknown",
        ),
        [],
        text=(0,),
    )  # fmt: skip
    for row in rows:
        if row.reason:
            table.rows.append((row.name, f"{row.P:,}", f"{row.load:.3g}", *["-"] * 8, row.reason))
            continue
        table.rows.append(
            (
                row.name,
                f"{row.P:,}",
                f"{row.load:.3g}",
                f"{row.theory:.3g}",
                _shown(row.collapse),
                _shown(row.among_all),
                _shown(row.sigma_ratio),
                _factor(row.factor),
                _size(row.factor.value + math.log(row.P)),
                f"{row.theory_condensation:.3g}",
                _shown(row.condensation),
                _shown(row.condensation_among_all),
            )
        )
    return table


def _factor(log_factor: Estimate) -> str:
    value = math.exp(log_factor.value) if log_factor.value < 14 else math.nan
    return _shown(Estimate(value, value * log_factor.error)) if math.isfinite(value) else _size(log_factor.value)


def _size(log_size: float) -> str:
    if not math.isfinite(log_size):
        return "-"
    return f"{math.exp(log_size):,.3g}" if log_size < 14 else f"1e{log_size / math.log(10):.1f}"


def _shown(estimate: Estimate) -> str:
    return f"{estimate.value:.3g} ± {estimate.error:.1g}" if math.isfinite(estimate.value) else "-"
