"""What asv times from commit to commit can be set up and called, and its configuration points there."""

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_what_asv_times_runs():
    """`asv.conf.json` points at the suite, and each of its classes can be set up and called as asv does."""
    settings = json.loads((ROOT / "asv.conf.json").read_text())
    path = ROOT / settings["benchmark_dir"] / "suite.py"
    spec = importlib.util.spec_from_file_location("suite", path)
    suite = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(suite)
    local = suite.Local()
    for equivariant in local.params:
        local.setup(equivariant)
        local.time_denoise(equivariant)
    score = suite.Score()
    score.setup(1.0)
    assert score.track_error(1.0) < 1e-5
