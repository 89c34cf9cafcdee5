"""The command line: right numbers, clear errors with status 2, no traceback, nothing half-written."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import validation.cli
from validation import progress_lines


def test_the_installed_command_ends_without_a_traceback():
    """In a process of its own: what a user's shell sees."""
    command = [Path(sys.executable).with_name("geomem"), "times", "--alpha-d", "0.5", "--alpha", "-1"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2
    assert "alpha = -1.0" in run.stderr
    assert "Traceback" not in run.stderr


def test_times_prints_the_reference(geomem):
    run = geomem("times", "--alpha-d", "0.5", "--alpha", "0.2")
    assert run.returncode == 0, run.stderr
    for number in ("3.152598309", "1.409612764", "0.9708034043", "0.3873954315"):
        assert number in run.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("--sigma", "0.5"),
        ("--t", "0.25"),
        ("--alpha-bar", "0.8"),
        ("--ou", "0.11157177565710488"),
        ("--flow", "0.3333333333333333"),
        ("--log-snr", "1.3862943611198906"),
    ],
)
def test_noise_is_one_level_in_every_convention(geomem, arguments):
    run = geomem("noise", *arguments)
    assert run.returncode == 0, run.stderr
    for number in ("0.5", "0.25", "0.8", "0.111572", "0.333333", "1.38629"):
        assert number in run.stdout


def test_noise_of_a_network_with_units_of_its_own(geomem):
    """Trained on data/2: sigma = 1 of the data is 0.5 of the network."""
    for arguments in (("--sigma", "1"), ("--alpha-bar", "0.8")):
        row = geomem("noise", *arguments, "--unit", "2").stdout.split("\n")[-3].strip("│ ")
        assert [float(cell) for cell in row.split("│")[:3]] == [1.0, 1.0, 0.8]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "convention"),
        (("--sigma", "1", "--t", "1"), "convention = --sigma, --t"),
        (("--sigma", "-1"), "sigma = -1"),
        (("--alpha-bar", "1.5"), "alpha_bar = 1.5"),
        (("--flow", "1"), "s = 1"),
        (("--t", "-2"), "t = -2"),
        (("--sigma", "half"), "--sigma = half"),
        (("--sigma", "1", "--unit", "0"), "--unit = 0"),
    ],
)
def test_noise_names_what_is_wrong(geomem, arguments, message):
    run = geomem("noise", *arguments)
    assert run.returncode == 2
    assert message in run.stderr.replace("\n", " ")


def test_times_of_power_laws_and_mixtures(geomem):
    run = geomem("times", "--model", "power-law", "-P", "50000", "-N", "3072")
    assert run.returncode == 0, run.stderr
    assert "28.13765185" in run.stdout
    run = geomem(
        "times", "--model", "mixture", "--fractions", "0.9,0.1", "--variances", "1,0.5", "-P", "1000", "-N", "20"
    )
    assert run.returncode == 0, run.stderr
    for text in ("collapse, class 1", "1.026324731", "collapse, class 2", "0.8548569319"):
        assert text in run.stdout


def test_phase_diagram_writes_figures_and_numbers(geomem, tmp_path):
    run = geomem("phase-diagram", "--out", tmp_path / "d.svg", "--points", 6)
    assert run.returncode == 0, run.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"d.nc", "d.csv", "d-map.svg", "d-lines.svg"}


def test_several_activations_side_by_side(geomem, tmp_path):
    run = geomem(
        "phase-diagram", "--activation", "identity, relu", "--points", 3, "--alpha", "0.1,0.4", "--alpha-d", "0.3,0.9",
        "--out", tmp_path / "d.png",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"d.nc", "d.csv", "d-map.png", "d-lines.png"}


def test_audit_of_a_file(geomem, tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.standard_normal((200, 6)).astype(np.float32))
    run = geomem("audit", tmp_path / "x.npy", "--probes", 30, "--out", tmp_path / "out")
    assert run.returncode == 0, run.stderr
    assert "collapse" in run.stdout
    assert "Gaussian twin" in run.stdout
    assert (tmp_path / "out" / "audit.png").stat().st_size > 10_000


@pytest.fixture
def bad(tmp_path):
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "corrupt.npz").write_bytes(b"PK\x03\x04 nonsense")
    np.save(tmp_path / "constant.npy", np.ones((20, 3)))
    np.save(tmp_path / "nan.npy", np.array([[1.0, np.nan], [0.0, 1.0]] * 5))
    np.save(tmp_path / "one.npy", np.ones((1, 3)))
    (tmp_path / "nothing").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["times", "--alpha-d", "0.5", "--alpha", "-1"], "alpha = -1.0"),
        (["times", "--alpha-d", "0.5", "--alpha", "nan"], "alpha = nan"),
        (["times", "--alpha-d", "0", "--alpha", "0.1"], "alpha_D = 0.0"),
        (["times", "--alpha", "0.1"], "--alpha-d"),
        (["times", "--alpha-d", "0.5", "-P", "1", "-N", "10"], "P = 1.0"),
        (
            ["times", "--model", "subspaces", "--fractions", "0.7,0.7", "--variances", "1,1", "--alpha", "0.1"],
            "fractions",
        ),
        (["times", "--model", "subspaces", "--fractions", "0.7", "--variances", "-1", "--alpha", "0.1"], "variances"),
        (["times", "--alpha-d", "half", "--alpha", "0.1"], "alpha-d"),
        (["times", "--model", "cubic"], "model"),
        (["times", "--model", "power-law", "--alpha", "0.1"], "-N"),
        (["times", "--model", "power-law", "-P", "50", "-N", "10", "--exponent", "1"], "exponent"),
        (["times", "--model", "mixture", "--alpha", "0.4"], "--fractions"),
        (["phase-diagram", "--out", "x.jpg"], "--out"),
        (["phase-diagram", "--out", "/proc/none/x.png"], "--out"),
        (["phase-diagram", "--alpha", "3,1"], "--alpha"),
        (["phase-diagram", "--variances", "-1"], "variances"),
        (["audit", "empty.npy"], "empty.npy"),
        (["audit", "corrupt.npz"], "corrupt.npz"),
        (["audit", "constant.npy"], "constant.npy"),
        (["audit", "nan.npy"], "nan.npy"),
        (["audit", "one.npy"], "one.npy"),
        (["audit", "nothing"], "nothing"),
        (["audit", "missing.npy"], "missing.npy"),
        (["audit", "--sigma", "a,b"], "--sigma"),
        (["audit", "--device", "quantum"], "device"),
        (["report", "--out", "x.txt"], "--out"),
        (["report", "missing.npy", "--out", "r.html"], "missing.npy"),
        (["validate", "--only", "nothing"], "experiment"),
        (["nonsense"], "nonsense"),
    ],
    ids=lambda a: " ".join(a) if isinstance(a, list) else "",
)
def test_bad_input_is_one_clear_error(geomem, arguments, message, bad):
    before = {p for p in bad.rglob("*") if p.is_file()}
    run = geomem(*arguments, cwd=bad)
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr
    assert message in " ".join(run.stderr.split())
    assert {p for p in bad.rglob("*") if p.is_file()} == before


def test_every_command_has_help_with_an_example(geomem):
    for command in ("times", "phase-diagram", "audit", "spectrum", "train", "window", "validate", "report"):
        run = geomem(command, "--help")
        assert run.returncode == 0
        assert "Example" in run.stdout


def test_readme_numbers_are_what_the_code_prints(capsys):
    """The README's Python block runs, and prints the number it shows."""
    text = (Path(__file__).parents[1] / "README.md").read_text()
    block = text.split("```python\n")[1].split("```")[0]
    exec(block, {})
    printed = capsys.readouterr().out.split()
    claimed = [line.split("# ")[1].split(",")[0] for line in block.splitlines() if line.startswith("print")]
    for ours, theirs in zip(printed, claimed, strict=True):
        assert float(ours) == pytest.approx(float(theirs), rel=1e-12)


def test_ctrl_c_says_how_to_go_on(monkeypatch, capsys):
    """Typer turns Ctrl-C into an exit of its own, which must not swallow the line."""
    monkeypatch.setattr("validation.cli.app", lambda: sys.exit(130))
    with pytest.raises(SystemExit) as stop:
        validation.cli.main()
    assert stop.value.code == 130
    assert "run the same command" in capsys.readouterr().err


def test_progress_in_a_log_is_lines(monkeypatch, capsys):
    monkeypatch.setattr(progress_lines, "EVERY", 0.0)
    clock = iter([0.0, 1.0, 3.0, 5.0])
    monkeypatch.setattr(progress_lines.time, "monotonic", lambda: next(clock))
    tell = progress_lines.progress_lines(Console(stderr=True), "spectra")
    for done in (10, 20, 40):  # the first ten were there before
        tell(done, 40)
    assert capsys.readouterr().err.splitlines() == ["spectra: 10 of 40", "spectra: 20 of 40, about 0.1 minutes left"]
