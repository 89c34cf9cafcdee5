"""`import geomem`, the installed package, and what happens when a folder of the user's has the name of one of ours."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _python(*arguments, cwd, path=ROOT):
    environment = {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


def test_face_is_that_of_the_theory_and_lazy():
    import geomem
    import theory

    assert geomem.collapse_time is theory.collapse_time
    assert set(theory.__all__) | set(geomem._MEASUREMENTS) | {"__version__"} == set(dir(geomem))
    assert {"EmpiricalScore", "LocalScore", "audit", "load", "spectrum"} <= set(dir(geomem))
    for name in dir(geomem):
        assert getattr(geomem, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'colapse_time'"):
        geomem.colapse_time  # noqa: B018


def test_import_loads_neither_theory_nor_torch(tmp_path):
    code = "import geomem, sys; print({'torch', 'sympy', 'numba', 'matplotlib'} & set(sys.modules))"
    run = _python("-c", code, cwd=tmp_path)
    assert run.stdout.strip() == "set()", run.stderr


def test_help_loads_no_array_library(tmp_path):
    code = (
        "import sys\nfrom validation.cli import main\nsys.argv = ['geomem', '--help']\n"
        "try:\n    main()\nfinally:\n"
        "    print({'numpy', 'torch', 'sympy', 'numba', 'matplotlib', 'rich.progress'} & set(sys.modules), file=sys.stderr)"
    )
    run = _python("-c", code, cwd=tmp_path)
    assert "phase-diagram" in run.stdout
    assert run.stderr.strip() == "set()"


def test_version_is_that_of_the_project():
    import tomllib

    import geomem

    assert geomem.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.mark.parametrize("floor", ["numerics", "theory", "validation"])
@pytest.mark.parametrize("kind", ["package", "module"])
def test_a_shadow_is_named(tmp_path, floor, kind):
    shadow = tmp_path / floor / "__init__.py" if kind == "package" else tmp_path / f"{floor}.py"
    shadow.parent.mkdir(exist_ok=True)
    shadow.write_text("")
    run = _python("-m", "geomem", "--help", cwd=tmp_path)
    assert run.returncode != 0
    last = run.stderr.strip().splitlines()[-1]
    assert str(shadow) in last
    assert "Run from another folder" in last


def test_a_data_folder_of_that_name_is_no_shadow(tmp_path):
    (tmp_path / "theory").mkdir()
    (tmp_path / "theory" / "notes.txt").write_text("mine")
    run = _python("-c", "import geomem; print(geomem.Isotropic(1.0).variance)", cwd=tmp_path)
    assert run.stdout.strip() == "1.0", run.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = tmp_path_factory.mktemp("source")
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    names = files.stdout.split("\n") if files.returncode == 0 else []
    if not any(names):
        pytest.skip("not a git checkout: what a clone contains is not known")
    for name in filter(None, names):  # a clone's files: leftovers in the work tree must not help
        if not name.startswith(("docs/", "tests/")) and (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)]
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return next(folder.glob("geomem-*.whl"))


def test_wheel_holds_every_module_and_data_file(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for floor in ("geomem", "numerics", "theory", "validation"):
        for path in (ROOT / floor).rglob("*"):
            if path.is_file() and path.suffix not in (".pyc", ".nbi", ".nbc"):
                assert path.relative_to(ROOT).as_posix() in names, f"{path.name} is not in the wheel"
    assert not any(name.startswith(("tests/", "docs/", "benchmarks/")) for name in names)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["times", "--alpha-d", "0.5", "--alpha", "0.2"], id="times"),
        pytest.param(["report", "--out", "report.html"], id="report", marks=pytest.mark.slow),
    ],
)
def test_wheel_runs_away_from_the_checkout(wheel, tmp_path, arguments):
    target = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(target)
    work = tmp_path / "work"
    work.mkdir()
    run = _python("-m", "geomem", *arguments, cwd=work, path=target)
    assert run.returncode == 0, run.stderr
    assert "1.40961" in run.stdout or (work / "report.html").stat().st_size > 100_000


MOVED = {
    "theory.asymptotics": "theory.rem.asymptotics",
    "validation.data_dimension": "validation.data.dimension",
    "validation.empirical_score": "validation.score.empirical_score",
    "validation.measurement": "validation.audit.measurement",
    "validation.score_functions": "validation.spectra.score_functions",
    "validation.spectrum_command": "validation.spectrum.command",
    "validation.spectrum_losses": "validation.spectrum.departures",
    "validation.spectrum_subjects": "validation.spectrum.subjects",
}


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_documented_paths_of_earlier_versions_import(old, new):
    import importlib

    importlib.import_module(old.split(".")[0])
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"is now {new}"):
        module = importlib.import_module(old)
    assert module is importlib.import_module(new)
    assert module.__spec__.name == new
