"""Sweeps: labels, status, progress, and the same bytes after a kill at any moment."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from numerics.domain import DomainError
from numerics.grids.grid import sweep
from numerics.store import atomic, load_dataset, save_dataset
from theory import LinearManifold, collapse_time
from theory.phase_diagram import phase_diagram

SLOW = """
import sys, time
import numpy as np
from numerics.grids.grid import sweep
def row(a, b):
    time.sleep(0.05)
    return {"value": np.sin(a * b), "status": np.zeros(b.shape, dtype=np.int8)}
sweep(row, {"a": np.linspace(1, 2, 20), "b": np.linspace(0, 1, 5)}, provenance={"seed": "1"}, out=sys.argv[1])
"""


def test_a_killed_sweep_resumes_to_the_same_bytes(tmp_path):
    straight, killed = tmp_path / "straight.nc", tmp_path / "killed.nc"
    subprocess.run([sys.executable, "-c", SLOW, straight], check=True)
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", SLOW, killed])
        partial = tmp_path / "killed.nc.partial"
        before = len(list(partial.glob("row_*"))) if partial.exists() else 0
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and (not partial.exists() or len(list(partial.glob("row_*"))) < before + 4):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not killed.exists()
        assert len(list(partial.glob("row_*"))) >= before + 4
    subprocess.run([sys.executable, "-c", SLOW, killed], check=True)
    a, b = load_dataset(straight), load_dataset(killed)
    assert a.identical(b)
    assert a["value"].values.tobytes() == b["value"].values.tobytes()
    assert not partial.exists()


def test_resume_does_not_redo_rows(tmp_path):
    calls = []

    def row(a, b):
        calls.append(a)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return {"v": a + b}

    axes = {"a": [1, 2, 3, 4], "b": [1, 2]}
    with pytest.raises(KeyboardInterrupt):
        sweep(row, axes, out=tmp_path / "x.nc")
    seen = []
    sweep(row, axes, out=tmp_path / "x.nc", progress=lambda done, total: seen.append((done, total)))
    assert calls == [1, 2, 3, 3, 4]
    assert seen == [(2, 4), (3, 4), (4, 4)]


def test_rows_of_another_sweep_are_refused(tmp_path):
    def stop(a, b):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(stop, {"a": [1, 2], "b": [1]}, out=tmp_path / "x.nc")
    with pytest.raises(DomainError, match=r"rows of another sweep.*Remove"):
        sweep(stop, {"a": [1, 3], "b": [1]}, out=tmp_path / "x.nc")


def test_executor_gives_the_same():
    axes = {"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0]}
    with ThreadPoolExecutor(2) as pool:
        parallel = sweep(lambda a, b: {"v": a * b}, axes, executor=pool)
    assert parallel.identical(sweep(lambda a, b: {"v": a * b}, axes))


@pytest.mark.parametrize(
    ("axes", "out", "message"),
    [
        ({"a": []}, None, "a"),
        ({"a": [np.nan]}, None, "a = nan"),
        ({"a": [[1.0]]}, None, "a"),
        ({"a": [1.0]}, "x.txt", "out"),
        ({"a": [1.0]}, "no\0name.nc", "out|null"),
    ],
)
def test_bad_sweeps(axes, out, message, tmp_path):
    with pytest.raises((DomainError, ValueError), match=message):
        sweep(lambda a: {"v": np.array(a)}, axes, out=tmp_path / out if out else None)


def test_nothing_is_left_when_writing_fails(tmp_path):
    def fail():
        with atomic(tmp_path / "x.txt") as path:
            path.write_text("half")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_phase_diagram_is_labelled_and_right(tmp_path):
    diagram = phase_diagram([0.1, 0.2], [0.5, 1.0], out=tmp_path / "d.nc")
    stored = load_dataset(tmp_path / "d.nc")
    assert stored.identical(diagram)
    assert diagram["log_t_collapse"].dims == ("alpha_D", "alpha")
    assert diagram["log_t_collapse"].attrs["units"] == "squared data units"
    assert np.exp(diagram["log_t_collapse"].sel(alpha=0.2, alpha_D=0.5).item()) == pytest.approx(
        collapse_time(LinearManifold(0.5), 0.2), rel=1e-14
    )
    assert (diagram["status_onset"] == 0).all()
    save_dataset(diagram, tmp_path / "d.csv")
    assert (tmp_path / "d.csv").read_text().splitlines()[0].startswith("alpha_D,alpha,log_t_onset")
    with pytest.raises(DomainError, match="kinds"):
        phase_diagram([0.1], [0.5], kinds=["collaps"])


def test_blocks_of_rows_give_the_same_and_resume_row_by_row(tmp_path):
    calls = []

    def rows(a, b):
        calls.append(a.tolist())
        if len(calls) == 2 and out.with_name("s.nc.partial").exists() and len(calls[0]) == 2:
            raise KeyboardInterrupt
        return {"product": a[:, None] * b}

    out = tmp_path / "s.nc"
    axes = {"a": np.arange(1.0, 6.0), "b": np.array([3.0, 4.0])}
    with pytest.raises(KeyboardInterrupt):
        sweep(rows, axes, out=out, block=2)
    calls.append(None)  # the second run is not interrupted
    resumed = sweep(rows, axes, out=out, block=3)
    assert calls[2:] == [None, [1.0, 2.0, 3.0], [4.0, 5.0]]  # a block with a missing row is evaluated whole
    np.testing.assert_array_equal(resumed["product"], axes["a"][:, None] * axes["b"])
