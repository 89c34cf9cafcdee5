"""Ratios to one peer of each entry of `python -m benchmarks`, and times of three calls that every user makes, for `asv`."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # last: the package measured is the installed one

PEERS = {
    "linear_times": "scipy brentq + quad",
    "finite_size": "Monte Carlo to 1 %",
    "empirical_score": "torch.cdist + softmax",
    "stacks": "ours, one after the other",
}


class Ratios:
    """Geometric mean over the entry's cases of the peer's time over ours, and our own largest error."""

    params = tuple(PEERS)
    param_names = ("entry",)
    timeout = 600

    def setup_cache(self) -> dict:
        from importlib import import_module

        from benchmarks.harness import Settings

        return {entry: import_module(f"benchmarks.{entry}").run(Settings(quick=True)) for entry in PEERS}

    setup_cache.timeout = 900

    def track_ratio(self, rows: dict, entry: str) -> float:
        """Higher is better."""
        ratios = [row.ratio for row in rows[entry] if row.method == PEERS[entry]]
        return math.exp(sum(map(math.log, ratios)) / len(ratios))

    track_ratio.unit = "times ours"

    def track_error(self, rows: dict, entry: str) -> float:
        """NaN where an entry has no error."""
        return max((row.error for row in rows[entry] if row.method.startswith("ours:")), default=math.nan)

    track_error.unit = "error"


class Calls:
    """Seconds of a call, kernels compiled."""

    def setup(self) -> None:
        import numpy as np

        from theory import LinearManifold, collapse_time
        from validation import EmpiricalScore

        rng = np.random.default_rng(0)
        self.times, self.model, self.alpha = collapse_time, LinearManifold(0.5), rng.uniform(1e-3, 3, 10_000)
        X = rng.standard_normal((5000, 64), dtype=np.float32)
        self.engine, self.x = EmpiricalScore(X), X[:64] + 0.5
        self.time_linear_times()
        self.time_score()

    def time_linear_times(self) -> None:
        self.times(self.model, self.alpha)

    def time_score(self) -> None:
        self.engine.score(self.x, 1.0)


class StartUp:
    """Seconds of fresh processes."""

    def time_help(self) -> None:
        subprocess.run([sys.executable, "-m", "geomem", "--help"], check=True, stdout=subprocess.DEVNULL)

    def time_import_theory(self) -> None:
        subprocess.run([sys.executable, "-c", "import theory"], check=True)
