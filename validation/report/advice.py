"""What to do: at which noise to stop, how many samples it would take, which duplicates to remove, which classes are small."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from validation.audit import Audit, ClassRow, log_size
from validation.report.page import Section
from validation.tables import TableData

__all__ = ["advice_section", "duplicates_table", "small_classes"]

GROUPS = 30  # of duplicates listed
RATIO = 1.05  # of sigma at collapse, class known over unknown, from which a class is called small
SIGMAS = 2.0  # by how many errors it must be above 1
AFFORDABLE = math.log(1e3)  # times the samples: more than that no one collects


def advice_section(
    result: Audit, points: Any | None, classes: Sequence[ClassRow] | None, command: str, folder: str
) -> Section:
    """The answers in the order in which they can be acted on.

    points : of `validation.points.audit_points`, or None; classes : of `validation.audit.audit_classes`, or None
    command : that repeats the audit; folder : where its files lie, relative to the page
    """
    section = Section(
        "What to do", ["Each of these is about the ideal score of this training set, unless a model is named."]
    )
    section.points += [_stop(result), _samples(result)]
    headline, words, table = _duplicates(points)
    section.points.append((headline, words))
    if table is not None:
        section.tables.append(table)
    section.points.append(_classes(classes))
    section.made = (
        f"Numbers: {folder}/audit-times.csv, audit-sizes.csv, audit-growth.csv" + (", points.csv" if points is not None else "")
        + (", audit-classes.csv" if classes else "") + f". Made by `{command}`."
    )  # fmt: skip
    return section


def _stop(result: Audit) -> tuple[str, str]:
    found = result.row("generalization").data
    if not math.isfinite(found.value) or found.value <= 0:
        return "Where to stop is not known", f"No best noise t_g could be measured: {found.reason or 'it is infinite'}."
    sigma = math.sqrt(found.value)
    error = f" ± {found.error / (2 * sigma):.1g}" if math.isfinite(found.error) else ""
    nearest = math.sqrt(result.measured.nearest.value)
    return (
        f"End sampling at sigma = {sigma:.3g}{error}",
        f"This is the square root of t_g, where the density of the ideal score is closest to the data: held-out samples have "
        f"their largest likelihood there. Below it noise is only taken off towards single training images. By theory it is the "
        f"root mean square distance (per number) from a new sample to its nearest training point, here {nearest:.3g}.",
    )


def _samples(result: Audit) -> tuple[str, str]:
    P = result.measured.P
    lowest = min(
        (row for row in result.sizes if math.isfinite(row.data.value)), key=lambda row: row.sigma, default=None
    )
    now, ten = result.growth[0][1], result.growth[1][1]
    more = f"In theory (Gaussian) ten times as many samples lower the collapse from sigma = {now:.3g} to {ten:.3g}."
    if lowest is None:
        return "How many more samples", f"{more} From these data it could not be measured."
    needed = lowest.data.value
    size = log_size(needed)
    bound = "at most " if lowest.extrapolated else ""
    factor = needed - math.log(P)
    if factor <= 0:
        headline, words = (
            "No more samples for that noise",
            f"{P:,} samples are enough down to sigma = {lowest.sigma:g}.",
        )
    elif factor <= AFFORDABLE:
        headline = f"{bound}{math.exp(factor):.3g} times as many samples".capitalize()
        words = (
            f"So many keep the ideal score from collapsing down to sigma = {lowest.sigma:g}: {size} in place of {P:,}."
        )
    else:
        headline = "More samples alone will not do"
        words = (
            f"To keep the ideal score from collapsing down to sigma = {lowest.sigma:g} would take {bound}{size} samples in "
            f"place of {P:,}. Stop at higher noise, or rely on a network that is not ideal, and measure it."
        )
    return headline, f"{words} {more}"


def duplicates_table(points: Any) -> TableData | None:
    """Groups of near-duplicates: which row is kept, which can go; None where there are none."""
    group, data = points.points.group.values, points.data
    count = int(group.max(initial=-1)) + 1
    if not count:
        return None

    def name(row: int) -> str:
        return data.file_of(row) or f"row {row}"

    sizes = np.bincount(group[group >= 0])
    order = np.argsort(-sizes, kind="stable")[:GROUPS]
    sigma = points.points.sigma.values
    rows = []
    for k in order:
        members = np.flatnonzero(group == k)
        others = ", ".join(name(int(row)) for row in members[1:9]) + (", ..." if len(members) > 9 else "")
        at = f"{sigma[members[0]]:.3g}" if np.isfinite(sigma[members[0]]) else "any"
        rows.append((name(int(members[0])), others, f"{len(members)}", at))
    left = f"; the {GROUPS} largest of {count:,} groups, all are in points.csv" if count > GROUPS else ""
    return TableData(
        f"Near-duplicates: keep one of each group{left}. The ideal score memorises a group below this sigma.",
        ("keep", "remove", "size", "sigma"),
        rows,
        text=(0, 1),
    )


def _duplicates(points: Any | None) -> tuple[str, str, TableData | None]:
    if points is None:
        return "Duplicates", "Single points were not looked at: add `--points` to the audit.", None
    table = duplicates_table(points)
    if table is None:
        return "No duplicates to remove", "No sample is there twice, exactly or nearly.", None
    group = points.points.group.values
    extra = int((group >= 0).sum()) - (int(group.max()) + 1)
    words = "A group shares its weight: the ideal score memorises it at higher noise than a single sample. The table names them."
    return f"Remove {extra:,} duplicates", words, table


def small_classes(classes: Sequence[ClassRow]) -> list[ClassRow]:
    """Classes whose ideal score collapses at clearly higher noise when the class is known, or too small to be measured."""
    small = []
    for row in classes:
        ratio = row.sigma_ratio
        clear = math.isfinite(ratio.value) and ratio.value > RATIO and ratio.value - 1 > SIGMAS * ratio.error
        if row.reason or clear:
            small.append(row)
    return small


def _classes(classes: Sequence[ClassRow] | None) -> tuple[str, str]:
    if not classes:
        return "Classes", "The data have no labels: give them to `geomem audit --labels` to see classes one by one."
    small = small_classes(classes)
    if not small:
        return (
            "No class is too small",
            "A class-conditional ideal score collapses at the noise of one for all classes, within errors or to 5 % in sigma.",
        )
    said, clear, unknown = "", [row for row in small if not row.reason], [row for row in small if row.reason]
    if clear:
        told = []
        for row in clear:
            needed = row.factor.value + math.log(row.P)
            size = f", {log_size(needed)} samples would make up for it" if math.isfinite(needed) else ""
            ratio = f"{row.sigma_ratio.value:.2f} ± {row.sigma_ratio.error:.1g}"
            told.append(f"{row.name} ({row.P:,} samples: at {ratio} times the sigma{size})")
        said += f"With the class known the ideal score collapses at higher noise than among all samples: {'; '.join(told)}. "
    if unknown:
        told = [f"{row.name} ({row.P:,} samples)" for row in unknown]
        reasons = sorted({row.reason for row in unknown})
        said += f"Too small to measure ({'; '.join(reasons)}): {', '.join(told)}."
    return f"{len(small)} of {len(classes)} classes are small for a class-conditional model", said.strip()
