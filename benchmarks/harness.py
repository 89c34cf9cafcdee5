"""What the entries of `python -m benchmarks` share: medians of repeated calls, rows of one table, and what it was measured on."""

from __future__ import annotations

import csv
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from numerics.store import atomic, versions

__all__ = ["Row", "Settings", "machine", "median_seconds", "ratios", "skipped", "write_table"]

PEERS = ("faiss-cpu", "pykeops", "scikit-learn", "diffusers", "mpmath", "tramp")


@dataclass(frozen=True)
class Settings:
    """How much is measured, and where."""

    quick: bool = False
    device: str = "cpu"
    tiny: bool = False  # sizes for a test: the table's form, not its numbers


@dataclass(frozen=True)
class Row:
    """One method on one case. `ratio`: its seconds over ours, on the same work."""

    entry: str
    case: str
    method: str
    seconds: float = math.nan
    ratio: float = math.nan
    error: float = math.nan
    error_of: str = ""
    note: str = ""


def median_seconds(call: Callable[[], Any], repeats: int = 5, device: str = "cpu", warm: bool = True) -> float:
    """Median over repeats, after one call that is not counted."""
    if warm:
        call()
    spent = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        if device.startswith("cuda"):
            import torch

            torch.cuda.synchronize()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent)


def ratios(entry: str, case: str, error_of: str, measured: Iterable[tuple[str, float, float, str]]) -> list[Row]:
    """Rows of (method, seconds, error, note); the first method is ours."""
    found = list(measured)
    ours = found[0][1]
    return [Row(entry, case, name, spent, spent / ours, error, error_of, note) for name, spent, error, note in found]


def skipped(entry: str, case: str, method: str, reason: str) -> Row:
    """The row of a peer that could not be asked."""
    return Row(entry, case, method, note=f"skipped: {reason}")


def machine(settings: Settings) -> dict[str, Any]:
    """Processor, threads, load and versions: what a ratio may depend on."""
    import numba

    model, flags = platform.processor() or platform.machine(), ""
    with suppress(OSError):
        lines = dict(line.split("\t: ", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if "\t: " in line)
        lines = {name.strip(): value for name, value in lines.items()}
        model, flags = lines.get("model name", model), lines.get("flags", "")
    wanted = ("avx", "avx2", "avx512f", "avx512_bf16", "amx_bf16", "fma")
    found = {
        "processor": model,
        "flags": " ".join(flag for flag in wanted if flag in flags.split()),
        "cores": os.cpu_count(),
        "threads": numba.get_num_threads(),
        "load": [round(value, 1) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "device": settings.device,
    }
    packages = versions()
    for name in PEERS:
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
    if settings.device.startswith("cuda"):
        import torch

        found["device"] = torch.cuda.get_device_name()
    return found | {"versions": packages}


def write_table(rows: list[Row], about: dict[str, Any], folder: Path) -> None:
    """`benchmarks.csv`, and `benchmarks.json` with the machine: what is not a number is empty in one and null in the other."""
    columns = [field.name for field in fields(Row)]
    plain = [{k: _plain(v) for k, v in asdict(row).items()} for row in rows]
    with atomic(folder / "benchmarks.csv") as path, open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(plain)
    with atomic(folder / "benchmarks.json") as path:
        path.write_text(json.dumps(about | {"rows": plain}, indent=1) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.4g}") if math.isfinite(value) else None
