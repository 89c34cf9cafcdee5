"""The points of a data set as an audit tells of them: files with a row a point, the law of their collapse, and pictures."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from numerics.grids import forget
from numerics.store import atomic, save_dataset
from validation import figures
from validation.data import Dataset, Duplicates
from validation.points.collapse import point_collapse_times
from validation.points.pictures import extremes_figure, law_figure
from validation.simulation import Sampler

__all__ = ["CHEAP", "PointsReport", "audit_points", "cost", "points_lines", "write_points"]

CHEAP = 3e10  # operations below which the points of a data set are looked at unasked: a few seconds
NUMBERS = "points.nc"
TWIN_POINTS = 500  # of the Gaussian twin whose collapse is shown beside


@dataclass(frozen=True, eq=False)
class PointsReport:
    """`points` of `point_collapse_times` for all samples of `data`; `twin` for some of a Gaussian sample, or None."""

    data: Dataset
    points: Any
    twin: Any | None

    def order(self) -> np.ndarray:
        """Points with a collapse, from the highest noise to the lowest."""
        t = self.points.t_c.values
        order = np.argsort(-t, kind="stable")
        return order[np.isfinite(t[order])]


def cost(P: int, N: int, draws: int = 32) -> float:
    """Operations that all pairs of P points of N numbers take, about: products, and exponentials of every draw."""
    return float(P) ** 2 * (2 * N + 60 * draws)


def audit_points(
    data: Dataset,
    *,
    duplicates: Duplicates | None = None,
    spectrum: Any | None = None,
    draws: int = 32,
    seed: int = 0,
    device: str = "cpu",
    folder: Path | None = None,
    scheduler: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> PointsReport:
    """Collapse of every sample of a data set, and of some points of a Gaussian sample of this spectrum, at the same P and N.

    duplicates, draws, seed, device, scheduler, progress : of `point_collapse_times`
    spectrum : `theory.Spectrum`, or None for no twin
    folder : that `write_points` will write to, optional: long work goes on from what is kept there after a kill
    """
    options = {"draws": draws, "seed": seed, "device": device}
    out = folder / NUMBERS if folder and cost(data.P, data.N, draws) > CHEAP else None
    more = {"out": out, "argument": "--out", "scheduler": scheduler, "progress": progress}
    points = point_collapse_times(data.X, duplicates=duplicates, **more, **options)
    twin = None
    if spectrum is not None:
        sample = Sampler(spectrum, data.N, seed, device=device).sample(data.P).float().cpu().numpy()
        twin = point_collapse_times(sample, rows=np.arange(min(TWIN_POINTS, data.P)), **options)
    return PointsReport(data, points, twin)


def points_lines(report: PointsReport) -> Iterator[str]:
    """What the terminal shows of the points."""
    points, order = report.points, report.order()
    sigma = points.sigma.values[order]
    if not len(order):
        yield "Single points: none has a collapse of its own (all belong to one group of duplicates)."
        return
    q = np.quantile(sigma, [0.05, 0.5, 0.95])
    error = float(np.median((points.sigma_error / points.sigma).values[order]))
    line = (
        f"Single points: the ideal score memorises half of them below sigma = {q[1]:.3g}, the most exposed twentieth already "
        f"below {q[2]:.3g}, the least exposed only below {q[0]:.3g} (error of one point {100 * error:.2g} %)."
    )
    if report.twin is not None:
        twin = report.twin.sigma.values
        twin = np.quantile(twin[np.isfinite(twin)], [0.05, 0.95]) if np.isfinite(twin).any() else [math.nan] * 2
        line += f" In a Gaussian sample of the same spectrum these two are {twin[1]:.3g} and {twin[0]:.3g}."
    yield line
    yield (
        f"Most exposed: {', '.join(_name(report, i) for i in order[:3])}; least: "
        f"{', '.join(_name(report, i) for i in order[-3:][::-1])}."
    )
    groups = int(points.group.max()) + 1
    if groups:
        inside = points.group.values[points.group.values >= 0]
        yield (
            f"{len(inside):,} points lie in {groups:,} groups of duplicates (the largest of {np.bincount(inside).max()}): a "
            "group shares its weight, and is listed with the collapse of the group."
        )


def _name(report: PointsReport, i: int) -> str:
    return report.data.file_of(int(i)) or f"row {i}"


def write_points(report: PointsReport, folder: Path) -> list[Path]:
    """`points.csv` and `points.nc` (a row a point), the law of the collapse, and for images the extremes."""
    points, data = report.points, report.data
    written = [folder / "points.csv", folder / NUMBERS, folder / "points.png"]
    dataset = points
    if data.labels is not None:
        dataset = dataset.assign({"class": ("point", np.asarray(data.labels))})
    if data.files:
        dataset = dataset.assign(file=("point", np.array(data.files, dtype=str)))
    names = [str(name) for name in dataset.data_vars]
    first = [name for name in ("file", "class") if name in names]
    columns = ["point", *first, *(name for name in names if name not in first)]
    with atomic(written[0]) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(zip(*(map(_cell, dataset[name].values) for name in columns), strict=True))
    if report.twin is not None:
        dataset = dataset.assign(twin_t_c=("twin_point", report.twin.t_c.values, {"units": "squared data units"}))
    save_dataset(dataset, written[1])
    forget(written[1])
    figures.save(law_figure(report), written[2])
    picture = extremes_figure(report)
    if picture is not None:
        written.append(folder / "points-extremes.png")
        figures.save(picture, written[-1])
    return written


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, np.floating) else value
