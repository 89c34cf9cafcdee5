"""Consoles that cannot show everything: files are written first, what is printed is spelled as the console can."""

import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import validation.cli
from validation import progress_lines
from validation.cli.terminal import notes, stages

ENCODINGS = ["ascii", "cp1252", "cp437", "latin-1"]


class Strict(io.TextIOWrapper):
    """A stream of a narrow encoding, as a console or a pipe on Windows is."""

    def __init__(self, encoding):
        super().__init__(io.BytesIO(), encoding=encoding, errors="strict", newline="\n")

    @property
    def text(self):
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)


@pytest.fixture
def shown(monkeypatch, tmp_path):
    """Run a command in this process with streams of an encoding; gives returncode, stdout and stderr."""

    def run(encoding, *arguments):
        out, err = Strict(encoding), Strict(encoding)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["geomem", *map(str, arguments)])
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            patch.chdir(tmp_path)
            status = 0
            try:
                validation.cli.main()
            except SystemExit as stop:
                status = stop.code or 0
        return SimpleNamespace(returncode=status, stdout=out.text, stderr=err.text)

    return run


@pytest.fixture
def rows(tmp_path):
    """Data under a name with brackets, accents and a character of another alphabet; its path has a "[/" as in markup."""
    (tmp_path / "[").mkdir()
    path = tmp_path / "[" / "x] dé[red] σ².npy"
    np.save(path, np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32))
    return path


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "arguments",
    [
        ["times", "--alpha-d", "0.5", "--alpha", "0.2"],
        ["--help"], ["audit", "--help"], ["report", "--help"], ["times", "--alpha-d", "σ", "--alpha", "0.2"],
    ],
    ids=lambda a: "-".join(a[:2]),
)  # fmt: skip
def test_words_are_spelled(shown, encoding, arguments):
    run = shown(encoding, *arguments)
    assert run.returncode == (2 if "σ" in arguments else 0), run.stderr
    assert "\\u" not in run.stdout + run.stderr
    if "0.2" in arguments and run.returncode == 0:
        assert ("t = sigma^2" if encoding == "ascii" else "t = sigma²") in run.stdout
        assert "1.409612764" in run.stdout


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_audit_writes_its_files_and_prints(shown, encoding, rows, tmp_path):
    out = tmp_path / "out é±σ"
    run = shown(encoding, "audit", rows, "--probes", 8, "--no-twin", "--no-finite-size", "--out", out)
    assert run.returncode == 0, run.stderr
    assert "sigma^2" in run.stdout or "sigma²" in run.stdout
    assert "[red]" in run.stdout  # brackets in names are no markup
    assert {path.name for path in out.iterdir()} == {
        "audit.png", "audit.nc", "audit-times.csv", "audit-sizes.csv", "audit-growth.csv", "audit-points.csv",
        "points.csv", "points.nc", "points.png",
    }  # fmt: skip
    assert "²" in (out / "audit-times.csv").read_text(encoding="utf-8")  # files hold everything, whatever the console


def test_audit_writes_its_files_before_it_prints(shown, rows, tmp_path, monkeypatch):
    from validation.cli import terminal

    def broken(*items, **options):
        raise UnicodeEncodeError("ascii", "²", 0, 1, "a console that fails")

    monkeypatch.setattr(terminal.console, "print", broken)
    with pytest.raises(UnicodeEncodeError):
        shown("ascii", "audit", rows, "--probes", 8, "--no-twin", "--no-finite-size", "--out", tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 9


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_spectrum_and_its_files(shown, encoding, rows, tmp_path):
    run = shown(encoding, "spectrum", rows, "--points", 4, "--probes", 2, "--out", tmp_path / "s.svg")
    assert run.returncode == 0, run.stderr
    assert "[red]" in run.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"[", "s.svg", "s.nc", "s.csv"}


def test_training_and_the_audit_of_its_networks(shown, tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.standard_normal((40, 3)))
    run = shown("ascii", "train", tmp_path / "x.npy", "--steps", 2, "--width", 4, "--out", tmp_path / "σ.safetensors")
    assert run.returncode == 0, run.stderr
    assert "wrote" in run.stdout
    run = shown("ascii", "audit", "--model", tmp_path / "σ.safetensors", "--probes", 8, "--out", tmp_path / "out")
    assert run.returncode == 0, run.stderr
    assert [path.suffix for path in (tmp_path / "out").iterdir()] == [".csv"]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_phase_diagram_validate_and_report(shown, encoding, tmp_path, monkeypatch):
    """Of the two long commands only what they print is tried."""
    out = tmp_path / "σ.svg"
    run = shown(encoding, "phase-diagram", "--points", 3, "--view", "map", "--out", out)
    assert run.returncode == 0, run.stderr
    assert out.exists()
    result = SimpleNamespace(claim="σ² ≥ 1 [/x]", table=lambda: "t = σ² ± 1")
    module = SimpleNamespace(run=lambda **options: result)
    monkeypatch.setattr("validation.experiments.experiment", lambda name: module)
    run = shown(encoding, "validate", "--only", "linear_times", "--out", tmp_path / "v")
    assert run.returncode == 0, run.stderr
    assert "[/x]" in run.stdout
    assert ("t = sigma^2 +- 1" if encoding == "ascii" else "t = sigma² ± 1") in run.stdout
    monkeypatch.setattr("validation.report.write_report", lambda out, **options: [out])
    run = shown(encoding, "report", "--out", tmp_path / "[b]σ.html")
    assert run.returncode == 0, run.stderr
    assert "[b]sigma.html" in run.stdout.replace("\n", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("where", ["stdout", "stderr", "both"])
def test_a_full_disk_behind_the_streams(tmp_path, where):
    """In a process of its own: what the interpreter does at exit counts too."""
    command = [Path(sys.executable).with_name("geomem"), "times", "--alpha-d", "0.5", "--alpha", "0.2"]
    with open("/dev/full", "w") as full:
        streams = {"stdout": full if where != "stderr" else subprocess.PIPE}
        streams["stderr"] = full if where != "stdout" else subprocess.PIPE
        run = subprocess.run(command, text=True, **streams)
    if where == "stderr":
        assert run.returncode == 0
        assert "1.409612764" in run.stdout
        return
    assert run.returncode == 2
    if where == "stdout":
        assert "Traceback" not in run.stderr
        assert "standard output = No space left on device" in " ".join(run.stderr.split())


# --- progress where nothing can be drawn ----------------------------------------------------------------------------------


def test_stages_are_lines_with_their_time(monkeypatch, capsys):
    clock = iter([0.0, 0.0, 2.0, 3.0, 50.0, 51.0, 60.0])
    monkeypatch.setattr(progress_lines.time, "monotonic", lambda: next(clock))
    assert not notes.is_terminal
    with stages("audit") as tell:
        tell("theory [1]")
        tell("simulation: 1 of 9")
        tell("simulation: 2 of 9")  # a second later: not said
        tell("simulation: 8 of 9")  # most of a minute later: said
        tell("simulation: 9 of 9")
    assert capsys.readouterr().err.splitlines() == [
        "audit, 0 s: theory [1]",
        "audit, 2 s: simulation: 1 of 9",
        "audit, 50 s: simulation: 8 of 9",
        "audit, 60 s: done",
    ]


def test_audit_says_its_stages(geomem, tmp_path, rows):
    run = geomem("audit", rows, "--probes", 8)
    assert run.returncode == 0, run.stderr
    said = [line.split(" s: ")[1] for line in run.stderr.splitlines() if line.startswith("audit, ")]
    assert "spectrum of 54 x 4" in said
    stages = ["empirical score of its Gaussian twin", "exact theory at this P and N", "done"]
    assert [stage for stage in said if stage in stages] == stages
    assert said[-1] == "done"


@pytest.mark.slow
def test_report_says_its_stages(geomem, tmp_path):
    run = geomem("report", "--out", tmp_path / "r.html", "--limit", 100)
    assert run.returncode == 0, run.stderr
    said = [line.split(" s: ")[1] for line in run.stderr.splitlines() if line.startswith("report, ")]
    assert said[:2] == ["theory", "phase diagrams"]
    assert any(line.startswith("experiment linear_times") for line in said)
    assert any(line.startswith("audit of digits") for line in said)
    assert said[-1] == "done"
