"""One policy for compiled kernels: kept where there is a place, right and only slower where there is none."""

import importlib
import itertools
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from numerics import kernel_cache

CALLEE = "from numerics.kernel_cache import njit\n\n\n@njit(cache=True)\ndef inner(x):\n    return x + {constant}\n"
CALLER = (
    "from {package}.callee import inner\nfrom numerics.kernel_cache import njit\n\n\n@njit(cache=True)\ndef outer(x):\n"
)
CALLER += "    total = x\n    for k in range(5):\n        total = total * 3 + inner(k * x)\n    return total\n"
_number = itertools.count()


def expected(x, constant=2):
    total = x
    for k in range(5):
        total = total * 3 + k * x + constant
    return total


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """As in a new process: a package of two files, one calling the other, and no memory of earlier kernels."""
    package = tmp_path / f"kernels{next(_number)}"
    package.mkdir()
    monkeypatch.syspath_prepend(tmp_path)

    def forget():
        for remembered in (kernel_cache.cache_folder, kernel_cache._say, kernel_cache._stamp, kernel_cache._imported):
            remembered.cache_clear()

    def outer(constant=2):
        (package / "__init__.py").write_text("")
        (package / "callee.py").write_text(CALLEE.format(constant=constant))
        (package / "caller.py").write_text(CALLER.format(package=package.name))
        for name in [name for name in sys.modules if name.split(".")[0] == package.name]:
            del sys.modules[name]
        forget()
        importlib.invalidate_caches()
        sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
        try:
            return importlib.import_module(f"{package.name}.caller").outer
        finally:
            sys.dont_write_bytecode = before

    monkeypatch.setenv("GEOMEM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(kernel_cache.log, "propagate", True)
    yield outer
    monkeypatch.undo()
    forget()


@pytest.fixture
def kernels(tmp_path):
    """What lies in the cache folder."""
    return lambda: sorted(path.name.split("-")[0] for path in (tmp_path / "cache").iterdir())


def hits(function):
    return sum(function.stats.cache_hits.values())


def test_kernels_are_found_again_for_each_signature(fresh, kernels):
    function = fresh()
    assert (function(1), function(0.5)) == (expected(1), expected(0.5))
    assert hits(function) == 0
    assert kernels() == ["callee.inner"] * 2 + ["caller.outer"] * 2
    again = fresh()
    assert (again(0.5), again(1)) == (expected(0.5), expected(1))
    assert hits(again) == 2
    assert len(kernels()) == 4


def test_a_changed_callee_makes_a_new_kernel(fresh, kernels):
    """numba's own cache looks at the caller's file alone and would go on with the machine code of the old callee."""
    assert fresh()(1) == expected(1)
    changed = fresh(constant=7)
    assert changed(1) == expected(1, 7)
    assert hits(changed) == 0
    assert fresh()(1) == expected(1)


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 0.5, -1])
def test_a_truncated_kernel_is_compiled_again(fresh, tmp_path, size):
    assert fresh()(1) == expected(1)
    whole = {path: len(path.read_bytes()) for path in (tmp_path / "cache").iterdir()}
    for path, length in whole.items():
        os.truncate(path, size if size >= 1 else length - 1 if size < 0 else int(length * size))
    again = fresh()
    assert again(1) == expected(1)
    assert hits(again) == 0
    assert set((tmp_path / "cache").iterdir()) == set(whole)
    last = fresh()
    assert last(1) == expected(1)
    assert hits(last) == 1


def test_a_damaged_kernel_is_compiled_again(fresh, tmp_path):
    assert fresh()(1) == expected(1)
    for path in (tmp_path / "cache").iterdir():
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    assert fresh()(1) == expected(1)


def test_a_whole_file_that_is_no_kernel_is_compiled_again(fresh, tmp_path):
    """A checksum that is right over what numba cannot rebuild."""
    assert fresh()(1) == expected(1)
    for path in (tmp_path / "cache").iterdir():
        content = kernel_cache.dumps(("not", "a", "kernel"))
        path.write_bytes(kernel_cache.hashlib.sha256(content).digest() + content)
    assert fresh()(1) == expected(1)


def _lines(caplog, level):
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def test_where_kernels_are_kept_is_said_once(fresh, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "geomem"):
        function = fresh()
        function(1)
        function(0.5)
        assert _lines(caplog, logging.INFO) == [
            f"compiled kernels are kept in {tmp_path / 'cache'}: the next run starts faster"
        ]
        caplog.clear()
        fresh()(1)  # nothing is compiled: nothing is said
        assert caplog.records == []


@pytest.mark.parametrize("place", ["a file", "no home", "an unwritable home", "a null character"])
def test_without_a_place_kernels_are_right_and_a_line_says_so_once(fresh, tmp_path, monkeypatch, caplog, place):
    function = fresh()
    (tmp_path / "file").write_text("")
    for name in ("GEOMEM_CACHE_DIR", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    if place == "a file":
        monkeypatch.setenv("GEOMEM_CACHE_DIR", str(tmp_path / "file" / "sub"))
    elif place == "no home":
        monkeypatch.setattr(Path, "home", classmethod(lambda cls: (_ for _ in ()).throw(RuntimeError("no home"))))
    elif place == "an unwritable home":
        monkeypatch.setenv("HOME", str(tmp_path / "file"))
    else:
        monkeypatch.setattr(Path, "home", classmethod(lambda cls: Path("a\0b")))
    assert kernel_cache.cache_folder() is None
    with caplog.at_level(logging.INFO, "geomem"):
        assert (function(1), function(0.5)) == (expected(1), expected(0.5))
    (line,) = _lines(caplog, logging.WARNING)
    assert line.startswith("geomem: no place for compiled kernels")
    assert "set GEOMEM_CACHE_DIR to a folder you can write" in line
    assert len(caplog.records) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"file", function.__module__.split(".")[0]}


def test_the_order_of_places(fresh, tmp_path, monkeypatch):
    fresh()
    for name in ("GEOMEM_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    for name, inner in (("GEOMEM_CACHE_DIR", "."), ("XDG_CACHE_HOME", "geomem"), ("HOME", ".cache/geomem")):
        kernel_cache.cache_folder.cache_clear()
        assert kernel_cache.cache_folder() == tmp_path / name / inner
        monkeypatch.delenv(name)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    kernel_cache.cache_folder.cache_clear()
    assert kernel_cache.cache_folder() == tmp_path / "numba" / "geomem"


def test_a_folder_that_can_only_be_read_is_used(fresh, monkeypatch, caplog, kernels):
    assert fresh()(1) == expected(1)
    before = kernels()
    again = fresh()
    monkeypatch.setattr(kernel_cache, "_takes_files", lambda folder: False)

    def refuse(**options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(kernel_cache.tempfile, "NamedTemporaryFile", refuse)
    with caplog.at_level(logging.INFO, "geomem"):
        assert again(1) == expected(1)
        assert hits(again) == 1
        assert _lines(caplog, logging.WARNING) == []
        assert again(0.5) == expected(0.5)
    assert len(_lines(caplog, logging.WARNING)) == 1
    assert "Permission denied" in caplog.text
    assert kernels() == before


RUN = """
import json, resource, sys
sys.path.insert(0, sys.argv[1])
if sys.argv[4] != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]),) * 2)
import importlib
function = importlib.import_module(sys.argv[2] + ".caller").outer
values = [function(eval(x)) for x in sys.argv[3].split(",")]
print(json.dumps([values, sum(function.stats.cache_hits.values())]))
"""


def start(function, tmp_path, arguments, limit=0):
    command = [sys.executable, "-B", "-c", RUN, str(tmp_path), function.__module__.split(".")[0], arguments, str(limit)]
    environment = {**os.environ, "GEOMEM_CACHE_DIR": str(tmp_path / "cache")}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_processes_at_once_on_one_cold_cache(fresh, tmp_path, kernels):
    """With unlike signatures first: with one index and numbered files the machine code of one ended under the name of another."""
    function = fresh()
    asked = ["1,0.5", "0.5,1", "True,1,0.5"]
    running = [start(function, tmp_path, arguments) for arguments in asked]
    for arguments, process in zip(asked, running, strict=True):
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert json.loads(out)[0] == [expected(eval(x)) for x in arguments.split(",")]
    out, err = start(function, tmp_path, "1,0.5,True").communicate(timeout=300)
    assert json.loads(out) == [[expected(1), expected(0.5), expected(True)], 3], err
    assert kernels() == ["callee.inner"] * 2 + ["caller.outer"] * 3


@pytest.mark.skipif(sys.platform == "win32", reason="the limit on file sizes is of POSIX")
def test_a_full_disk(fresh, tmp_path, kernels):
    """No file may grow beyond 1000 bytes: kernels cannot be kept, nothing half-written stays, the numbers are right."""
    process = start(fresh(), tmp_path, "1,0.5", limit=1000)
    out, err = process.communicate(timeout=300)
    assert json.loads(out) == [[expected(1), expected(0.5)], 0]
    assert err.count("no place for compiled kernels") == 1
    assert len(err.splitlines()) == 1
    assert kernels() == []


def test_every_kernel_follows_the_policy():
    """numba's own `njit(cache=True)` would write beside the sources, or refuse to be imported where it cannot."""
    root = Path(kernel_cache.__file__).parents[1]
    for floor in ("numerics", "theory", "validation"):
        for path in (root / floor).rglob("*.py"):
            text = path.read_text()
            if path.name != "kernel_cache.py" and "cache=True" in text:
                assert not re.search(r"^(from numba import .*\bnjit|import numba)\b", text, re.MULTILINE), path
                assert "numba.njit(" not in text, path


# --- the kernels of the theory ------------------------------------------------------------------------------------------

TIME = "from theory import *; print(repr(collapse_time(LinearManifold(0.5), 0.2)))"


def _time(cache, **environment):
    environment = {**os.environ, "GEOMEM_CACHE_DIR": str(cache), **environment}
    return subprocess.Popen(
        [sys.executable, "-c", TIME], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def _installed():
    root = Path(kernel_cache.__file__).parents[1]
    return {path for floor in ("numerics", "theory") for path in (root / floor).rglob("*.nb?")}


def test_a_derived_kernel_survives_truncation_and_leaves_the_installation_alone(tmp_path):
    before = _installed()
    out, err = _time(tmp_path).communicate(timeout=600)
    assert float(out) == pytest.approx(1.40961276380, abs=1e-10), err
    assert err == ""  # where the cache is, a library does not say unasked
    assert _installed() == before
    (source,) = tmp_path.glob("geomem_linear_collapse_*.py")
    whole = {path.name for path in tmp_path.iterdir()}
    text = source.read_bytes()
    source.write_bytes(text[: len(text) // 2])
    for path in tmp_path.glob("*.kernel"):
        os.truncate(path, 100)
    out, err = _time(tmp_path).communicate(timeout=600)
    assert float(out) == pytest.approx(1.40961276380, abs=1e-10), err
    assert source.read_bytes() == text
    assert {path.name for path in tmp_path.iterdir()} == whole


@pytest.mark.slow
def test_the_theory_without_a_place_and_in_processes_at_once(tmp_path):
    running = [_time(tmp_path / "cold") for _ in range(3)]
    answers = [process.communicate(timeout=600) for process in running]
    assert len({out for out, _ in answers}) == 1
    assert not list((tmp_path / "cold").glob(".*"))
    (tmp_path / "file").write_text("")
    out, err = _time(tmp_path / "file" / "sub").communicate(timeout=600)
    assert out == answers[0][0]
    assert err.count("no place for compiled kernels") == 1
    assert len(err.splitlines()) == 1
