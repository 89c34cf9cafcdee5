"""Entry `start_up`: imports, first calls with cold and warm kernels, and `geomem --help`, each in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.harness import Row, Settings, median_seconds, ratios

LINEAR = "from theory import *; collapse_time(LinearManifold(0.5), 0.2)"
SADDLE = "from theory import *; collapse_time(HiddenManifold(0.5, 'tanh'), 0.2)"


def run(settings: Settings) -> list[Row]:
    """Wall seconds; ratios are over a Python that does nothing."""
    repeats = 1 if settings.tiny else 3 if settings.quick else 7
    root = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as cache:
        place = os.environ | {"PYTHONPATH": str(root), "GEOMEM_CACHE_DIR": cache}

        def fresh(*arguments: str) -> None:
            subprocess.run([sys.executable, *arguments], env=place, check=True, stdout=subprocess.DEVNULL)

        measured = []
        for name, arguments in (
            ("python -c pass", ("-c", "pass")),
            ("import geomem", ("-c", "import geomem")),
            ("import theory", ("-c", "import theory")),
            ("geomem --help", ("-m", "geomem", "--help")),
        ):
            measured.append((name, median_seconds(lambda a=arguments: fresh(*a), repeats), float("nan"), ""))
        for name, code in (("linear time", LINEAR), ("saddle of tanh", SADDLE))[: 1 if settings.quick else 2]:
            start = time.perf_counter()
            fresh("-c", code)
            measured.append((f"{name}, cold kernel cache", time.perf_counter() - start, float("nan"), "once"))
            warm = median_seconds(lambda c=code: fresh("-c", c), repeats, warm=False)
            measured.append((f"{name}, second process", warm, float("nan"), "kernels from the cache"))
    return ratios("start_up", "fresh processes", "", measured)
