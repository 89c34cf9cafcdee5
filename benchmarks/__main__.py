"""`python -m benchmarks`: one table of ratios to named peers, from one process, with the machine it was measured on.

    python -m benchmarks --quick                        # minutes
    python -m benchmarks --only saddle_point --out DIR  # one entry; others that DIR has already stay
    python -m benchmarks --out docs/results/benchmarks  # everything: an hour, several GB of memory and of disk

Writes benchmarks.csv, benchmarks.json and ratios.png. A peer that is not installed gets a row that says so.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Row, Settings, machine, write_table

ENTRIES = (
    "linear_times",
    "saddle_point",
    "empirical_score",
    "memory_mapped",
    "spectra",
    "finite_size",
    "random_features",
    "stacks",
    "start_up",
)


def main(arguments: Sequence[str] | None = None, tiny: bool = False) -> list[Row]:
    """Measures, prints and writes; `tiny` takes sizes at which only the form of the table means anything."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=ENTRIES, action="append", help="only this entry (may be repeated)")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer cases and repeats")
    parser.add_argument("--out", type=Path, help="folder for the table and the figure")
    parser.add_argument("--device", default="cpu", help="of the empirical score and of training")
    options = parser.parse_args(arguments)
    settings = Settings(options.quick, options.device, tiny)
    command = " ".join(["python -m benchmarks", *(sys.argv[1:] if arguments is None else arguments)])
    kept, entries = _before(options.out)
    for entry in options.only or ENTRIES:
        about = machine(settings)
        rows = importlib.import_module(f"benchmarks.{entry}").run(settings)
        for row in rows:
            told = (
                row.note
                if row.ratio != row.ratio
                else f"{row.seconds:10.3g} s {row.ratio:10.3g} x  {row.error:8.1e}  {row.note}"
            )
            print(f"{row.entry:16s} {row.case:42s} {row.method:32s} {told}", flush=True)
        kept = [row for row in kept if row.entry != entry] + rows
        entries[entry] = about | {"command": command}
        if options.out:
            kept.sort(key=lambda row: ENTRIES.index(row.entry))
            write_table(kept, {"entries": entries}, options.out)
    if options.out:
        from benchmarks.figure import draw

        draw(kept, options.out / "ratios.png")
    return kept


def _before(folder: Path | None) -> tuple[list[Row], dict]:
    """Rows and machines of the entries that the folder has."""
    path = folder and folder / "benchmarks.json"
    if not path or not path.exists():
        return [], {}
    found = json.loads(path.read_text(encoding="utf-8"))
    rows = [Row(**{k: float("nan") if v is None else v for k, v in row.items()}) for row in found["rows"]]
    return rows, found["entries"]


if __name__ == "__main__":
    main()
