"""kill -9 at five random moments of each long command, then the same command: the numbers of a run that was left alone."""

import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr
from safetensors.numpy import load_file

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of POSIX")]

COMMANDS = {
    "phase-diagram": ["--activation", "relu", "--alpha", "0.1,0.5", "--alpha-d", "0.3,0.9", "--points", "5", "--out", "d.png"],
    "spectrum": ["../x.npy", "--points", "12", "--out", "s.png"],
    "train": ["../x.npy", "-P", "20,60", "--steps", "1500", "--width", "32", "--out", "m.safetensors"],
    "audit": ["../x.npy", "--out", "out"],
}  # fmt: skip
RUN = [sys.executable, "-c", "from validation.cli import main; main()"]


def numbers(folder):
    """All arrays of all files that a command wrote, and its tables but for the command line in them."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".nc":
            with xr.open_dataset(path, engine="h5netcdf") as data:
                found |= {(path.name, name): data[name].values for name in data.variables}
        elif path.suffix == ".safetensors":
            found |= {(path.name, name): array for name, array in load_file(path).items()}
        elif path.suffix == ".csv":
            found[path.name] = np.array(
                [line for line in path.read_text().splitlines() if not line.startswith("# command")]
            )
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_a_killed_command_goes_on_to_the_same_numbers(tmp_path, command):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((120, 6)).astype(np.float32))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    arguments = [*RUN, command, *COMMANDS[command]]
    for _ in range(2):  # the second time kernels are compiled
        started = time.monotonic()
        subprocess.run([*arguments, *(["--no-resume"] if command == "train" else [])], cwd=whole, check=True)
        seconds = time.monotonic() - started
    rng = random.Random(command)
    ends = []
    for _ in range(5):
        process = subprocess.Popen(arguments, cwd=killed)
        try:
            ends.append(process.wait(rng.uniform(0.15, 0.95) * seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            ends.append(process.wait())
    assert -signal.SIGKILL in ends
    subprocess.run(arguments, cwd=killed, check=True)
    expected, found = numbers(whole), numbers(killed)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=str(name))
    left = {path.name for path in killed.rglob("*")} - {path.name for path in whole.rglob("*")}
    assert not {name for name in left if name.endswith(".partial")}
