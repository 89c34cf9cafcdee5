"""The table of peers: an entry runs, its columns are there, its files are whole, and what asv times exists."""

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_one_entry_of_the_table(tmp_path):
    call = [sys.executable, "-m", "benchmarks", "--quick", "--only", "finite-size", "--out", str(tmp_path)]
    run = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Monte Carlo" in run.stdout
    with (tmp_path / "benchmarks.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["entry"] == "finite size"
    assert float(row["ratio"]) == pytest.approx(float(row["theirs"]) / float(row["ours"]), rel=1e-2)
    assert float(row["error_ours"]) < float(row["error_theirs"])
    assert "off" in row["note"]
    found = json.loads((tmp_path / "benchmarks.json").read_text())
    assert found["cores"] >= 1
    assert "torch" in found["versions"]
    assert (tmp_path / "benchmarks.png").stat().st_size > 5000


def test_an_unknown_entry_is_named():
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--only", "tea"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 2
    assert "linear-times" in run.stderr


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
