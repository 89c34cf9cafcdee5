"""Shared settings of the test suite."""

import os
import sys
from types import SimpleNamespace

# pytest-xdist's workers share the cores: more threads than cores make small products ten times slower
_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _workers > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // _workers)))

import matplotlib
import pytest
import torch
from stand_in_cuda import stand_in_cuda

matplotlib.use("Agg")
os.environ.setdefault("KMP_DUPLICATE_LIB_OK", "TRUE")


_threads = torch.get_num_threads()


@pytest.fixture(autouse=True)
def threads_as_found():
    """Every test begins with the same number of torch's threads, whatever those before it set."""
    torch.set_num_threads(_threads)


@pytest.fixture
def cuda():
    """The name of a cuda device: a real one where there is one, else the stand-in."""
    if torch.cuda.is_available():
        yield "cuda"
    else:
        with stand_in_cuda() as name:
            yield name


@pytest.fixture
def geomem(monkeypatch, capsys, tmp_path):
    """Run the command in this process, in an empty folder unless told; gives returncode, stdout and stderr."""

    def run(*arguments, cwd=tmp_path):
        from validation.cli import main

        monkeypatch.setattr(sys, "argv", ["geomem", *map(str, arguments)])
        monkeypatch.chdir(cwd)
        status = 0
        try:
            main()
        except SystemExit as stop:
            status = stop.code or 0
        out = capsys.readouterr()
        return SimpleNamespace(returncode=status, stdout=out.out, stderr=out.err)

    return run
