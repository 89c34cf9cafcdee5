"""Parallel kernels leave torch's number of threads as it is, and numba runs on the number that was asked for.

torch's own number is at most that of the cores, as MKL counts them: on two hyperthreads of one core it is 1 where 2 are asked.
"""

import os
import subprocess
import sys

import pytest

CODE = """
import numpy as np
import torch
from theory.phase_diagram import phase_diagram

before = torch.get_num_threads()
phase_diagram(np.geomspace(0.1, 1, 8), np.geomspace(0.1, 1, 8))
import numba
print(before, torch.get_num_threads(), numba.get_num_threads())
"""
LATE = """
import numpy as np
from theory.phase_diagram import phase_diagram

phase_diagram(np.geomspace(0.1, 1, 8), np.geomspace(0.1, 1, 8))
import torch
print(torch.get_num_threads())
"""


def run(code, asked):
    environment = os.environ | {"OMP_NUM_THREADS": asked}
    environment.pop("NUMBA_NUM_THREADS", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


# more threads than there are cores: numba's number and torch's then differ on every machine
@pytest.mark.parametrize("asked", ["1", "2", str(2 * (os.cpu_count() or 1) + 1)])
def test_kernels_leave_the_number_of_threads_as_it_is(asked):
    before, after, numba = run(CODE, asked)
    assert after == before
    assert numba == asked


def test_torch_imported_after_kernels_has_its_own_number():
    asked = str(2 * (os.cpu_count() or 1) + 1)
    assert run(LATE, asked) == run("import torch\nprint(torch.get_num_threads())", asked)


def test_an_error_in_a_kernel_leaves_the_number_as_it_is():
    torch = pytest.importorskip("torch")
    from numerics.thread_count import keep_thread_count

    before = torch.get_num_threads()

    def fails():
        torch.set_num_threads(before + 1)
        raise ZeroDivisionError

    try:
        with pytest.raises(ZeroDivisionError):
            keep_thread_count(fails)()
        assert torch.get_num_threads() == before
    finally:
        torch.set_num_threads(before)
