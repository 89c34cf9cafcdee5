"""The number of threads asked for is that of torch and of numba, before and after compiled kernels."""

import os
import subprocess
import sys

import pytest

CODE = """
import numpy as np
import torch
from theory.phase_diagram import phase_diagram

phase_diagram(np.geomspace(0.1, 1, 8), np.geomspace(0.1, 1, 8))
import numba
print(torch.get_num_threads(), numba.get_num_threads())
"""


@pytest.mark.parametrize("asked", ["1", "2"])
def test_kernels_leave_the_number_of_threads_as_it_is(asked):
    environment = os.environ | {"OMP_NUM_THREADS": asked}
    environment.pop("NUMBA_NUM_THREADS", None)
    run = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.split() == [asked, asked]
