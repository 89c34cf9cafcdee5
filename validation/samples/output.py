"""What `geomem samples` says and writes: sentences, a table of statistics beside their nulls, a row a sample, two figures."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from numerics.store import atomic, save_dataset
from validation import figures
from validation.samples.command import Samples
from validation.samples.pictures import law_figure, worst_figure
from validation.tables import TableData

__all__ = ["samples_lines", "samples_table", "write_samples"]

COLUMNS = (
    "sample",
    "nearest",
    "distance",
    "ratio",
    "p_value",
    "p_ratio",
    "copy",
    "second",
    "second_distance",
    "change",
)


def samples_table(result: Samples) -> TableData:
    """Every number for the set beside that of fresh points."""
    found = result.found
    rows = [
        (
            "called copies",
            str(found.called),
            str(found.called_fresh),
            f"nearest training point stands out; at most {100 * found.rate:g} % of these calls are false, on average",
        ),
        (
            f"ratio below {found.threshold:.3g}",
            str(found.below),
            str(found.below_fresh),
            "the literature's rule",
        ),
        (
            "effective memorised fraction",
            f"{100 * found.effective:.3g} ± {100 * found.effective_error:.1g} %",
            "0",
            "excess of samples among the lowest twentieth of fresh ratios",
        ),
        (
            "authenticity",
            str(found.authentic),
            str(found.authentic_fresh),
            "farther from the nearest training point than its own neighbour is",
        ),
        (
            "C_T",
            f"{found.copying:.2f}" if math.isfinite(found.copying) else "-",
            "0 ± 1",
            f"far below 0: nearer than held-out points, in {found.copying_cells} cells"
            if math.isfinite(found.copying)
            else "needs 20 held-out points and 20 samples (--test)",
        ),
    ]
    caption = f"Samples beside fresh points ({found.null}); intervals are 95 %."
    return TableData(caption, ("statistic", "samples", "fresh points", "meaning"), rows, text=(0, 3))


def samples_lines(result: Samples) -> Iterator[Any]:
    """What the terminal shows."""
    found, made, known = result.found, result.generated, result.train
    space = f"features of {result.features}" if result.features else made.scale
    changes = ", least over small shifts, mirroring and resizing" if result.transforms else ""
    yield (
        f"{made.P:,} samples of {made.name} against {known.P:,} training points of {known.name}; distances in {space}{changes}."
    )
    yield samples_table(result).shown()
    called, false = found.called, found.called_fresh
    low, high = called.interval
    if not called.count:
        yield (
            f"In short: none of {called.total:,} samples is a copy that chance does not explain "
            f"(at most {100 * high:.2g} % of the model's samples, 95 %)."
        )
    else:
        yield (
            f"In short: {called.count:,} of {called.total:,} samples ({100 * called.value:.3g} %, 95 % interval "
            f"{100 * low:.3g} to {100 * high:.3g}) are copies, of {found.copied_points:,} different training points; of fresh "
            f"points {100 * false.value:.2g} % would be called so."
        )
    if len(found.fresh.ratio) < 100:
        yield f"Note: with {len(found.fresh.ratio)} fresh points no p-value is below {1 / (1 + len(found.fresh.ratio)):.2g}."
    yield from (f"Note: {line}" for line in found.dropped)


def write_samples(result: Samples, folder: Path) -> list[Path]:
    """`samples.csv` (a row a sample), `samples.nc`, the table, the law of ratios, and the worst samples where they are images."""
    found = result.found
    written = [folder / "samples.csv", folder / "samples.nc", folder / "samples-statistics.csv", folder / "samples.png"]
    with atomic(written[0]) as temporary, open(temporary, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        near = found.near
        columns = (
            near.nearest, near.distance, near.ratio, found.p_value, found.p_ratio, found.copy, near.second,
            near.second_distance, near.change,
        )  # fmt: skip
        for i, row in enumerate(zip(*columns, strict=True)):
            table.writerow([i, *(_cell(value) for value in row)])
    save_dataset(found.to_dataset(), written[1])
    samples_table(result).write(written[2])
    figures.save(law_figure(found), written[3])
    picture = worst_figure(result)
    if picture is not None:
        written.append(folder / "samples-worst.png")
        figures.save(picture, written[-1])
    return written


def _cell(value: Any) -> Any:
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    return f"{value:.6g}" if isinstance(value, (float, np.floating)) else value
