"""`python -m benchmarks`: the form of its table and files, missing peers, the saddle point's referee. No time is asserted."""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def benchmarks(monkeypatch):
    """The package beside the tests, which is not installed."""
    monkeypatch.syspath_prepend(ROOT)
    import benchmarks.__main__ as module

    return module


def test_table_and_files(benchmarks, tmp_path, capsys):
    rows = benchmarks.main(["--quick", "--only", "finite_size", "--out", str(tmp_path)], tiny=True)
    with (tmp_path / "benchmarks.csv").open() as file:
        written = list(csv.DictReader(file))
    assert list(written[0]) == ["entry", "case", "method", "seconds", "ratio", "error", "error_of", "note"]
    assert [row["method"] for row in written] == [row.method for row in rows]
    ours, peer = rows
    assert ours.ratio == 1
    assert peer.ratio == pytest.approx(peer.seconds / ours.seconds)
    found = json.loads((tmp_path / "benchmarks.json").read_text())
    about = found["entries"]["finite_size"]
    assert {"processor", "flags", "cores", "threads", "versions", "command"} <= set(about)
    assert about["versions"]["numpy"] == np.__version__
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")
    assert "Monte Carlo" in capsys.readouterr().out


def test_another_entry_joins_the_table_and_a_second_run_replaces_its_own(benchmarks, tmp_path):
    first = benchmarks.main(["--quick", "--only", "finite_size", "--out", str(tmp_path)], tiny=True)
    both = benchmarks.main(["--quick", "--only", "linear_times", "--out", str(tmp_path)], tiny=True)
    assert {row.entry for row in both} == {"linear_times", "finite_size"}
    again = benchmarks.main(["--quick", "--only", "finite_size", "--out", str(tmp_path)], tiny=True)
    assert len(again) == len(both)
    assert len(first) == 2


def test_linear_times_agree_with_thirty_digits(benchmarks):
    from benchmarks import linear_times
    from benchmarks.harness import Settings

    rows = linear_times.run(Settings(quick=True, tiny=True))
    assert all(row.error < 1e-12 for row in rows)
    assert linear_times._exact(0.3) != pytest.approx(linear_times._exact(0.3001), rel=1e-9)


@pytest.mark.parametrize("t", [0.574377, 1e-3, 1e-6])
def test_referee_of_the_saddle_point_is_the_kernel_s_number(benchmarks, t):
    from benchmarks import saddle_point
    from numerics.channel.moments import MATCHED
    from theory.models.hidden import HiddenManifold
    from theory.replica.engine import ReplicaEngine

    q, one = 1 - 1.1 * min(t, 0.4), np.ones(1)
    V, engine = (1 - q) * one, ReplicaEngine(HiddenManifold(0.5, "abs"))
    value = float(engine.channel.moments(q * one, one, V, V, one / t, t * one, MATCHED).f_square[0])
    assert saddle_point.referee(q, t, 40) == pytest.approx(value, rel=1e-11)
    assert saddle_point.referee(q, 1.001 * t, 40) != pytest.approx(value, rel=1e-6)


def test_random_features_beside_their_referees(benchmarks):
    from benchmarks import random_features
    from benchmarks.harness import Settings

    rows = {row.method: row for row in random_features.run(Settings(quick=True, tiny=True))}
    assert rows["damped iteration, numpy"].error < 1e-3
    assert rows["eigenvalues of one draw, N = 20"].error < 0.03
    assert rows["ours: the resolvent at z = 0"].error < 1e-9


def test_a_peer_that_is_missing_has_a_row(benchmarks, monkeypatch):
    from benchmarks import empirical_score, saddle_point
    from benchmarks.harness import Settings

    for name in ("tramp", "tramp.channels", "pykeops", "pykeops.torch", "faiss"):
        monkeypatch.setitem(sys.modules, name, None)
    settings = Settings(quick=True, tiny=True)
    rows = saddle_point.run(settings) + empirical_score.run(settings)
    missing = {row.method: row for row in rows if row.note.startswith("skipped")}
    assert set(missing) == {"tramp", "KeOps", "faiss, top 100"}
    assert all(math.isnan(row.ratio) for row in missing.values())
    ours = [row for row in rows if row.method.startswith("ours") and row.entry == "empirical_score"]
    assert all(row.error < 1e-4 for row in ours)


def test_help_of_the_command_loads_no_numba():
    code = "import validation.cli, sys; print({'numba', 'torch', 'sympy', 'matplotlib'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_patterns_on_disk(benchmarks):
    from benchmarks import memory_mapped
    from benchmarks.harness import Settings

    rows = memory_mapped.run(Settings(quick=True, tiny=True))
    names = ["ours: memory-mapped", "torch.cdist + softmax, part by part", "torch flash attention, part by part"]
    assert [row.method for row in rows][:3] == names
    assert all(row.error < 1e-3 for row in rows[:3])
    assert rows[0].error < 1e-5
