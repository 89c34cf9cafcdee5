"""One table of this package and its peers, in one process: `python -m benchmarks [--only NAME] [--quick] [--out FOLDER]`."""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import platform
from dataclasses import asdict
from pathlib import Path

from benchmarks.peers import ENTRIES, Row
from numerics.store import atomic, versions

COLUMNS = ("entry", "case", "peer", "ours", "theirs", "ratio", "quantity", "error_ours", "error_theirs", "note")


def machine() -> dict:
    """Processor, its vector instructions, cores, threads and the versions that were used."""
    cpu, flags = platform.processor() or platform.machine(), set()
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
            elif line.startswith("flags"):
                flags = set(line.split()) & {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return {
        "cpu": cpu,
        "vectors": sorted(flags),
        "cores": os.cpu_count(),
        "OMP_NUM_THREADS": threads,
        "versions": versions(),
    }


def line(row: Row) -> str:
    """One row as aligned text."""
    if math.isnan(row.ours):
        return f"{row.entry:16s} {row.case:34s} {row.peer:44s} {row.note}"
    errors = " ".join("        -" if math.isnan(e) else f"{e:9.1e}" for e in (row.error_ours, row.error_theirs))
    seconds = f"{row.ours:10.3g} {row.theirs:10.3g} {row.ratio:9.3g} x"
    return f"{row.entry:16s} {row.case:34s} {row.peer:44s} {seconds} {errors}  {row.note}"


def save(rows: list[Row], folder: Path) -> None:
    """benchmarks.csv, .json and .png."""
    with atomic(folder / "benchmarks.csv") as path, open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in rows:
            values = asdict(row) | {"ratio": row.ratio}
            writer.writerow({k: format(v, ".4g") if isinstance(v, float) else v for k, v in values.items()})
    with atomic(folder / "benchmarks.json") as path:
        Path(path).write_text(json.dumps(machine(), indent=1) + "\n")
    with atomic(folder / "benchmarks.png") as path:
        ratios(rows).savefig(path, format="png", dpi=120)


def ratios(rows: list[Row]):
    """Times of peers over ours, one mark a row, grouped by entry."""
    from matplotlib.figure import Figure

    known = [row for row in rows if row.ratio > 0]
    figure = Figure(figsize=(9, 1.5 + 0.2 * len(known)), constrained_layout=True)
    axis = figure.add_subplot()
    entries = list(dict.fromkeys(row.entry for row in known))
    for y, row in enumerate(reversed(known)):
        axis.plot(row.ratio, y, "o", color=f"C{entries.index(row.entry)}", ms=5)
    axis.axvline(1, color="0.5", lw=1)
    axis.set_xscale("log")
    axis.set_yticks(range(len(known)), [f"{row.case}: {row.peer}" for row in reversed(known)], fontsize=7)
    axis.set(xlabel="time of the peer over ours, same work")
    axis.set_title("right of the line we are faster", loc="left", fontsize=10)
    for i, entry in enumerate(entries):
        axis.plot([], [], "o", color=f"C{i}", label=entry)
    axis.legend(fontsize=7, loc="lower right")
    axis.grid(axis="x", alpha=0.3)
    return figure


def main(arguments: list[str] | None = None) -> list[Row]:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=tuple(ENTRIES), action="append", help="an entry, can be given several times")
    parser.add_argument("--quick", action="store_true", help="small sizes: a minute or two")
    parser.add_argument("--out", type=Path, help="folder for benchmarks.csv, .json and .png")
    options = parser.parse_args(arguments)
    heads = ("ours, s", "peer, s", "faster", "our error", "peer err.")
    print(f"{'entry':16s} {'case':34s} {'peer':44s} " + "{:>10s} {:>10s} {:>11s} {:>9s} {:>9s}".format(*heads))
    rows = []
    for name in options.only or ENTRIES:
        for row in ENTRIES[name](options.quick):
            rows.append(row)
            print(line(row), flush=True)
    if options.out:
        save(rows, options.out)
        print(f"wrote {options.out}/benchmarks.csv, .json, .png")
    return rows


if __name__ == "__main__":
    main()
