"""What an experiment hands over: rows of theory against measurement with verdicts, curves, and how they were made."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from numerics.display import grid, number
from numerics.domain import DomainError
from numerics.store import atomic, save_dataset, versions
from validation.simulation import Outcome, Verdict

__all__ = ["ExperimentResult", "Row", "command", "concluded", "provenance", "save", "save_figure", "side_by_side"]

_COLUMNS = ("quantity", "model", "theory", "measured", "error", "deviation_percent", "sigmas", "p_form", "verdict")


@dataclass(frozen=True)
class Row:
    """One comparison: `quantity` of `model`, and its verdict; `note` says what else a reader should know."""

    quantity: str
    model: str
    verdict: Verdict
    note: str = ""

    @property
    def outcome(self) -> Outcome:
        return self.verdict.outcome

    def _repr_html_(self) -> str:
        return self.verdict._repr_html_()

    def cells(self) -> dict[str, Any]:
        v = self.verdict
        values = (v.prediction.value, v.measured, v.error, 100 * v.deviation, v.sigmas, v.p_form, str(v.outcome))
        return dict(zip(_COLUMNS, (self.quantity, self.model, *values), strict=True)) | {"note": self.note or v.reason}


@dataclass(frozen=True)
class ExperimentResult:
    """The product of one experiment.

    Attributes
    ----------
    name, claim : str
        The experiment, and the sentence it puts to the test.
    rows : tuple of Row
    curves : xarray.Dataset
        What the figure draws.
    provenance : mapping
        Arguments, seed, versions, seconds; see `provenance`.
    """

    name: str
    claim: str
    rows: Sequence[Row]
    curves: xr.Dataset
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "rows", tuple(self.rows))

    def row(self, quantity: str, model: str) -> Row:
        """The row of one quantity and model label."""
        for row in self.rows:
            if (row.quantity, row.model) == (quantity, model):
                return row
        known = "; ".join(f"{row.quantity}, {row.model}" for row in self.rows)
        raise DomainError("quantity, model", (quantity, model), f"one of: {known}")

    def count(self) -> dict[str, int]:
        """How many rows ended how."""
        return {str(outcome): sum(row.outcome is outcome for row in self.rows) for outcome in Outcome}

    def _repr_html_(self) -> str:
        columns = ("quantity", "model", "theory", "measured", "off by", "sigma", "verdict", "note")
        rows = []
        for row in self.rows:
            c = row.cells()
            offset = (f"{c['deviation_percent']:+.2f} %", f"{c['sigmas']:+.1f}")
            rows.append(
                (
                    row.quantity,
                    row.model,
                    c["theory"],
                    number(c["measured"], c["error"]),
                    *offset,
                    c["verdict"],
                    c["note"],
                )
            )
        verdicts = ", ".join(f"{count} {outcome}" for outcome, count in self.count().items())
        return grid(f"{self.name}: {self.claim} {verdicts}.", columns, rows)

    def to_dataset(self) -> xr.Dataset:
        """Curves, rows (dimension `row`) and provenance (attributes, JSON) in one dataset, ready for NetCDF."""
        cells = [row.cells() for row in self.rows]
        columns = {
            f"row_{name}": ("row", np.array([c[name] for c in cells], dtype=object if _is_text(cells, name) else float))
            for name in (*_COLUMNS, "note")
        }
        text = {key: value if isinstance(value, str) else json.dumps(value) for key, value in self.provenance.items()}
        return self.curves.assign(columns).assign_attrs({"name": self.name, "claim": self.claim, **text})

    def table(self) -> str:
        """The rows as aligned text."""
        lines = [("quantity", "model", "theory", "measured", "error", "off by", "sigma", "verdict")]
        for row in self.rows:
            c = row.cells()
            numbers = (f"{c['theory']:.5g}", f"{c['measured']:.5g}", f"{c['error']:.2g}")
            offset = (f"{c['deviation_percent']:+.2f} %", f"{c['sigmas']:+.1f}")
            lines.append((row.quantity, row.model, *numbers, *offset, c["verdict"]))
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        return "\n".join(
            "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines
        )

    def to_csv(self, path: str | os.PathLike | None = None) -> str:
        """The rows as CSV, provenance in `#` lines above; also written to `path`, atomically, if given."""
        buffer = io.StringIO()
        for key, value in {"experiment": self.name, "claim": self.claim, **self.provenance}.items():
            buffer.write(f"# {key}: {value if isinstance(value, str) else json.dumps(value)}\n")
        writer = csv.DictWriter(buffer, (*_COLUMNS, "note"), lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({k: _number(v) if isinstance(v, float) else v for k, v in row.cells().items()})
        if path is not None:
            with atomic(path) as temporary:
                temporary.write_text(buffer.getvalue(), encoding="utf-8")
        return buffer.getvalue()


def provenance(**arguments: Any) -> dict[str, Any]:
    """The given arguments with the versions of everything that made the numbers."""
    return {**arguments, "versions": versions(), "machine": f"{platform.machine()}, {os.cpu_count()} CPUs"}


def command(experiment: str, function: str, arguments: Mapping[str, Any]) -> str:
    """The call that made a result, as code that runs once `validation.experiments.<experiment>` is imported.

    >>> command("linear_times", "run", {"preset": "quick", "seed": 0})
    "validation.experiments.linear_times.run(preset='quick', seed=0)"
    """
    module = f"validation.experiments.{experiment}"
    shown = [f"{key}={f'{module}.' if is_dataclass(value) else ''}{value!r}" for key, value in arguments.items()]
    return f"{module}.{function}({', '.join(shown)})"


def concluded(
    name: str,
    claim: str,
    rows: Sequence[Row],
    curves: xr.Dataset,
    *,
    preset: Any,
    seed: int,
    device: str,
    started: float,
    arguments: Mapping[str, Any] | None = None,
    **told: Any,
) -> ExperimentResult:
    """The result of an experiment that began at `started` (`time.perf_counter`), with its provenance.

    `preset` is its record, a dataclass with a `name`; `arguments` are further arguments of `run` that the command tells, or
    others for the same: a preset without a name there (see `named`) is told by its value. `told` is what else a reader should
    know of the run.
    """
    shown = {"preset": preset.name, "seed": seed, "device": device, **(arguments or {})}
    seconds = round(time.perf_counter() - started, 1)
    made = provenance(command=command(name, "run", shown), preset=asdict(preset), seed=seed, **told, seconds=seconds)
    return ExperimentResult(name, claim, rows, curves, made)


def side_by_side(parts: Sequence[xr.Dataset], labels: Sequence[str], dimension: str = "case") -> xr.Dataset:
    """Curves of several cases along a new dimension, NaN where one has no value.

    >>> both = side_by_side([xr.Dataset({"N": ("size", [20, 24])}), xr.Dataset({"N": ("size", [30, 36])})], ["a", "b"])
    >>> dict(both.sizes), int(both.sel(case="b")["N"][0])
    ({'case': 2, 'size': 2}, 30)
    """
    return xr.concat(parts, xr.DataArray(list(labels), dims=dimension, name=dimension), join="outer")


def save(result: ExperimentResult, figure: Any, folder: str | os.PathLike) -> list[Path]:
    """Figure, rows and curves of an experiment as `<folder>/<name>.png`, `.csv` and `.nc`, each whole or not at all."""
    paths = [Path(folder) / f"{result.name}{suffix}" for suffix in (".png", ".csv", ".nc")]
    save_figure(figure, paths[0])
    result.to_csv(paths[1])
    save_dataset(result.to_dataset(), paths[2])
    return paths


def save_figure(figure: Any, path: str | os.PathLike) -> None:
    """A matplotlib figure as PNG."""
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)


def _is_text(cells: Sequence[Mapping[str, Any]], name: str) -> bool:
    return any(isinstance(c[name], str) for c in cells)


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.10g}"
