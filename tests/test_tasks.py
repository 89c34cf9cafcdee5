"""Independent tasks on a dask scheduler: the numbers of a run here, to the bit, whatever becomes of the workers."""

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from numerics.domain import DomainError
from numerics.grids import Rows, connected, run_tasks, sweep
from numerics.store import load_dataset

distributed = pytest.importorskip("distributed")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def client():
    """Two worker processes."""
    with connected("local:2") as client:
        yield client


def drawn(seed, size=3):
    """A task whose numbers come from its own seed."""
    return {"value": np.random.default_rng(seed).standard_normal(size), "pid": np.array(os.getpid())}


def by_item(found):
    return [result["value"].tobytes() for _, result in sorted(found, key=lambda pair: pair[0])]


def test_tasks_run_in_both_workers_with_the_numbers_of_a_run_here(client):
    here = by_item(run_tasks(drawn, range(20), shared=(5,)))
    seen = []
    there = list(run_tasks(drawn, range(20), shared=(5,), scheduler=client, progress=lambda *a: seen.append(a)))
    assert by_item(there) == here
    processes = {int(result["pid"]) for _, result in there}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert seen == [(done, 20) for done in range(21)]
    for chunk in (7, lambda item: 0.3 * (item + 1)):
        assert by_item(run_tasks(drawn, range(20), shared=(5,), scheduler=client, chunk=chunk)) == here


def fatal(item, folder):
    """The worker that runs item 5 first is killed in it; before that others have been kept."""
    flag = Path(folder) / "killed"
    if item == 5 and not flag.exists():
        flag.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02)
    return drawn(item)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of POSIX")
def test_a_worker_killed_in_the_middle_costs_nothing(client, tmp_path):
    keep = Rows(tmp_path / "x.nc", {"seed": "0"})
    found = list(run_tasks(fatal, range(12), shared=(tmp_path,), keep=keep, scheduler=client))
    assert (tmp_path / "killed").exists()
    assert sorted(i for i, _ in found) == list(range(12))
    assert by_item(found) == by_item(run_tasks(drawn, range(12)))
    assert all(keep.has(i) for i in range(12))


def always_fatal(item):
    if item == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return drawn(item)


@pytest.mark.slow  # a dozen workers die and are started again: 20 s
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of POSIX")
def test_a_task_that_ends_every_worker_ends_in_words_and_the_rest_is_kept(tmp_path):
    keep = Rows(tmp_path / "x.nc", {"seed": "0"})
    with pytest.raises(DomainError, match="workers ended in it"):
        list(run_tasks(always_fatal, range(6), keep=keep, scheduler="local:1"))
    assert [i for i in range(6) if keep.has(i)] == [0, 2, 3, 4, 5]


def test_what_is_kept_is_not_run_again(client, tmp_path):
    keep = Rows(tmp_path / "x.nc", {"seed": "0"})
    for i in (0, 3):
        keep.put(i, {"value": np.full(2, float(i))})
    found = dict(run_tasks(drawn, range(4), keep=keep, scheduler=client))
    assert found[3]["value"].tolist() == [3.0, 3.0]
    assert [i for i in range(4) if "pid" in found[i]] == [1, 2]
    assert list(dict(run_tasks(None, range(4), keep=keep, scheduler=client))) == [0, 1, 2, 3]


def refuses(item):
    from validation.data.stored.raw import DataError

    raise DataError("x.npy", "3 values are not finite", "finite numbers", "Drop them")


def test_an_error_of_the_function_arrives_as_it_was(client):
    from validation.data.stored.raw import DataError

    with pytest.raises(DataError, match="3 values are not finite") as found:
        list(run_tasks(refuses, [1], scheduler=client))
    assert found.value.argument == "x.npy"
    again = pickle.loads(pickle.dumps(DomainError("alpha", -1.0, "a number > 0", "Take another")))
    assert (str(again), again.remedy) == (
        str(DomainError("alpha", -1.0, "a number > 0", "Take another")),
        "Take another",
    )


def test_a_sweep_gives_the_same_bytes(client, tmp_path):
    axes = {"a": np.arange(1.0, 8.0), "b": np.array([3.0, 4.0])}
    row = partial(np.multiply.outer)

    def rows(a, b):
        return {"product": np.sin(row(a, b))}

    for block in (3, None):
        here, there = (
            sweep(rows, axes, block=block, scheduler=s, out=tmp_path / f"{block}.nc") for s in (None, client)
        )
        assert here.identical(there)
    with pytest.raises(DomainError, match="scheduler"):
        sweep(rows, axes, scheduler=client, executor=client.get_executor())


def test_a_phase_diagram_gives_the_same_bytes(client, tmp_path):
    from theory.phase_diagram import phase_diagram

    axes = ([0.2, 0.4], np.geomspace(0.3, 1.0, 18))
    here, there = (phase_diagram(*axes, scheduler=scheduler) for scheduler in (None, client))
    assert here.identical(there)
    for name in here.data_vars:
        assert here[name].values.tobytes() == there[name].values.tobytes()


@pytest.mark.slow  # three processes that solve the replica equations
def test_a_nonlinear_phase_diagram_gives_the_same_bytes(tmp_path):
    """The first run compiles: a process that does and one that loads what it left differ in the last bit."""
    arguments = ["phase-diagram", "--activation", "abs", "--alpha-d", "0.3,1", "--alpha", "0.2,0.4", "--points", "18"]
    found = []
    for i, more in enumerate(([], [], ["--scheduler", "local:2"])):
        run = [sys.executable, "-c", "from validation.cli import main; main()", *arguments, *more, "--out", f"{i}.png"]
        subprocess.run(run, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
        found.append(load_dataset(tmp_path / f"{i}.nc"))
    _, here, there = found
    for name in here.variables:
        assert here[name].values.tobytes() == there[name].values.tobytes()


# --- experiments and spectra ------------------------------------------------------------------------------------------


def small(name):
    """An experiment at a size that takes a second or two."""
    from validation.experiments import experiment

    module = experiment(name)
    cases, Preset = import_module(f"{module.__name__}.experiment").CASES[:1], type(module.PRESETS["quick"])
    if name in ("linear_times", "nonlinear_times"):
        preset = Preset("small", 3, 1e3, 1e3)
    elif name == "losing_dimensions":
        preset = Preset("small", 7, {100: 3}, {100: 4}, (100,), 2)
    else:
        made = {"frozen_spectrum": (3, 1e3, 64, 64), "traps": (1, 3, 24, 24, 24, 4), "mixtures": (2, 1.0, 50)}
        preset = Preset("small", *made[name])
    return partial(module.run, preset, cases=cases)


def arrays_of(result):
    found = {name: array.values for name, array in result.curves.variables.items()}
    return {name: array.tobytes() for name, array in found.items() if array.dtype.kind in "fiub"}


def test_monte_carlo_gives_the_same_bytes(client, tmp_path):
    """The groups of replicas of the finite-N experiments; the times of day differ, and nothing else."""
    from theory import LinearManifold
    from validation.simulation import Size, measure_sizes

    sizes = [Size("a", LinearManifold(0.5), N, P, 2.1, 70) for N, P in ((16, 25), (20, 55))]
    common = {"seed": 3, "device": "cpu", "workers": 1}
    seen = []

    def keep(stage):
        return Rows(tmp_path / f"{stage}.nc", {})

    here = measure_sizes(sizes, **common)
    there = measure_sizes(
        sizes, **common, scheduler=client, keep=keep, progress=lambda done, total: seen.append((done, total))
    )
    for a, b in zip(here, there, strict=True):
        for one, other in zip(a, b, strict=True):
            assert (one.N, one.P, one.grids, one.seed, repr(one.model)) == (
                other.N, other.P, other.grids, other.seed, repr(other.model),
            )  # fmt: skip
            assert {n: v.tobytes() for n, v in one.arrays.items()} == {n: v.tobytes() for n, v in other.arrays.items()}
    assert seen[-1] == (1, 1)
    assert len(list((tmp_path / "replicas.nc.partial").glob("row_*"))) > 2  # several tasks, kept on this side


@pytest.mark.slow  # whole experiments, twice: 45 s
@pytest.mark.parametrize("name", ["linear_times", "losing_dimensions", "frozen_spectrum", "traps", "mixtures"])
def test_experiments_give_the_same_bytes_and_leave_nothing_behind(client, tmp_path, name):
    run, seen = small(name), []
    here = run()
    there = run(scheduler=client, out=tmp_path, progress=lambda *a: seen.append(a))
    assert arrays_of(here) == arrays_of(there)
    assert [str(row.verdict) for row in here.rows] == [str(row.verdict) for row in there.rows]
    assert seen[-1][0] == seen[-1][1]
    assert not list(tmp_path.glob("*.partial"))


def test_an_interrupted_experiment_goes_on_from_its_replicas(tmp_path, monkeypatch):
    """Without a scheduler too: the second call measures what the first had not."""
    module = import_module("validation.experiments.mixtures.experiment")
    measure, calls = module.true_point_weights, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 100:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(module, "true_point_weights", interrupted)
    preset, cases = module.Preset("small", 2, 1.0, 50), module.CASES[:1]
    with pytest.raises(KeyboardInterrupt):
        module.run(preset, cases=cases, out=tmp_path)
    assert len(list((tmp_path / "mixtures.nc.partial").glob("row_*"))) == 99
    with pytest.raises(DomainError, match=r"rows of another experiment.*seed = 0 \(here 1\)"):
        module.run(preset, 1, cases=cases, out=tmp_path)
    monkeypatch.setattr(module, "_speciation", None)
    calls[:] = calls[:100]
    with pytest.raises(TypeError):  # stopped after the replicas: a result is not needed here
        module.run(preset, cases=cases, out=tmp_path)
    assert len(calls) == 100 + 128 - 99
    assert len(list((tmp_path / "mixtures.nc.partial").glob("row_*"))) == 128


def threads_there(item):
    import torch

    return {"threads": np.array(torch.get_num_threads()), "alone": np.array(item)}


def test_a_task_uses_the_threads_of_this_process(client):
    import torch

    from validation.experiments.shared import measured

    for threads in (3, 1):
        torch.set_num_threads(threads)
        found = measured(threads_there, [1, 2, 3, 4], rows=Rows(None, {}), scheduler=client)
        assert [int(one["threads"]) for one in found] == [threads] * 4


def test_what_a_probe_shows_travels_as_arrays():
    from validation.experiments.losing_dimensions.verdicts import Found
    from validation.spectra import Probe

    numbers = iter(np.arange(30.0))
    kinds = [{k: np.array([next(numbers)]) for k in ("fresh", "centre")} for _ in range(3)]
    there = Found(
        Probe(*kinds, *(np.array([next(numbers)]) for _ in range(5))), *(np.array([next(numbers)]) for _ in "ab")
    )
    assert Found.from_arrays(there.arrays()).arrays() == there.arrays()
    assert len(there.arrays()) == 13


def test_a_spectrum_gives_the_same_bytes(client):
    from validation.spectrum.measurement import spectrum
    from validation.spectrum.subjects import from_subspaces

    subject = from_subspaces("2:1.0,3:0.1", 40)
    here, there = (spectrum(subject, [0.01, 0.1, 1.0], probes=6, scheduler=s) for s in (None, client))
    assert here.identical(there)
    for name in here.data_vars:
        assert here[name].values.tobytes() == there[name].values.tobytes(), name


def test_collapse_of_every_point_gives_the_same_bytes(client, monkeypatch):
    from validation.points import collapse

    monkeypatch.setattr(collapse, "ROWS", 32)
    monkeypatch.setattr(collapse, "TASK", 2)
    X = np.random.default_rng(0).standard_normal((300, 6)).astype(np.float32)
    X[7] = X[3] + np.float32(1e-5)
    here, there = (collapse.point_collapse_times(X, draws=8, scheduler=s) for s in (None, client))
    assert here.identical(there)
    assert int(here.group.max()) == 0
    for name in here.data_vars:
        assert here[name].values.tobytes() == there[name].values.tobytes(), name


@pytest.mark.parametrize("where", [None, "local:1"])
def test_collapse_of_every_point_goes_on_from_its_blocks(tmp_path, monkeypatch, where):
    from numerics.grids import forget
    from validation.points import collapse

    monkeypatch.setattr(collapse, "ROWS", 32)
    X = np.random.default_rng(0).standard_normal((150, 4)).astype(np.float32)
    whole, solve, solved = collapse.point_collapse_times(X, draws=8), collapse._solve, []

    def killed(k, *others):
        if k == 3:
            raise KeyboardInterrupt
        solved.append(k)
        return solve(k, *others)

    monkeypatch.setattr(collapse, "_solve", killed)
    out = tmp_path / "points.nc"
    with pytest.raises(KeyboardInterrupt):
        collapse.point_collapse_times(X, draws=8, out=out)
    monkeypatch.setattr(collapse, "_solve", solve)
    before = sorted(solved)
    assert before[0] == 0
    assert 3 not in before
    with pytest.raises(DomainError, match="seed"):
        collapse.point_collapse_times(X, draws=8, seed=1, out=out)
    for name, other in (("ROWS", 16), ("versions", lambda: {"torch": "0"})):  # rows of other blocks, of another torch
        with monkeypatch.context() as here:
            here.setattr(collapse, name, other)
            with pytest.raises(DomainError, match="blocks" if name == "ROWS" else "torch"):
                collapse.point_collapse_times(X, draws=8, out=out)
    told, stored = [], tmp_path / "points.nc.partial" / f"row_{before[-1]:06d}.npz"
    with np.load(stored) as file:
        row = dict(file)
    np.savez(stored, **row | {"omitted": np.full_like(row["omitted"], 7.0)})
    found = collapse.point_collapse_times(
        X, draws=8, out=out, scheduler=where, progress=lambda *done: told.append(done)
    )
    assert found.drop_vars("omitted").identical(whole.drop_vars("omitted"))
    assert (found.omitted == 7.0).sum() == len(row["omitted"])  # what was finished was read, not done again
    assert told[-1] == (150, 150)
    assert len(list((tmp_path / "points.nc.partial").glob("row_*"))) == 5
    forget(out)
    forget(out)
    assert list(tmp_path.iterdir()) == []


# --- which scheduler --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "local:", "local:0", "local:-1", "local:a", "local:99999", "host", "tcp://", "x.json"]
)
def test_what_names_no_scheduler_is_refused_before_any_work(text):
    with pytest.raises(DomainError, match="local:N") as found:
        list(run_tasks(None, [1], scheduler=text))
    assert found.value.argument == "scheduler"


def test_a_file_without_an_address_is_refused(tmp_path):
    for text in ("{}", "[]", "address"):
        (tmp_path / "s.json").write_text(text)
        with pytest.raises(DomainError, match="local:N"):
            list(run_tasks(drawn, [1], scheduler=str(tmp_path / "s.json")))


def test_where_nobody_answers_says_so(monkeypatch):
    monkeypatch.setattr("numerics.grids.schedulers.TIMEOUT", 0.3)
    with pytest.raises(DomainError, match="Nobody answers there") as found:
        list(run_tasks(drawn, [1], scheduler="tcp://127.0.0.1:9"))
    assert found.value.argument == "scheduler"


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["phase-diagram"], "--scheduler"),
        (["validate", "--only", "mixtures"], "--scheduler"),
        (["spectrum"], "--dask-scheduler"),
        (["audit"], "--dask-scheduler"),
    ],
    ids=lambda c: c[0],
)
def test_the_commands_name_their_option(geomem, tmp_path, monkeypatch, command, option):
    monkeypatch.setattr("numerics.grids.schedulers.TIMEOUT", 0.3)
    run = geomem(*command, option, "tcp://127.0.0.1:9")
    assert run.returncode == 2
    assert run.stderr.startswith(f"error: {option} = tcp://127.0.0.1:9")
    assert list(tmp_path.iterdir()) == []


def test_no_scheduler_needs_no_dask():
    code = (
        "import sys; sys.modules['dask'] = sys.modules['distributed'] = None\n"
        "from numerics.grids import run_tasks; print(list(run_tasks(abs, [-1])))\n"
        "try: list(run_tasks(abs, [-1], scheduler='local:1'))\n"
        "except ValueError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.splitlines()[0] == "[(0, 1)]"
    assert "pip install distributed" in run.stdout


def slow(item, wait):
    time.sleep(wait)
    return {"value": np.array(item)}


def test_workers_of_other_versions_are_refused(client, monkeypatch):
    """Here the version is the number of the process: every worker has another."""
    from numerics.grids import schedulers

    schedulers._same_versions(client, "tcp://x:1", "--scheduler")
    monkeypatch.setattr(schedulers, "versions", lambda: {"numpy": str(__import__("os").getpid())})
    with pytest.raises(DomainError, match=rf"--scheduler = tcp://x:1 .* has numpy \d+ \(here {os.getpid()}\)"):
        schedulers._same_versions(client, "tcp://x:1", "--scheduler")


@pytest.mark.slow  # a scheduler and a worker as processes; dask tries for a while to reach them again
@pytest.mark.filterwarnings("ignore")
def test_a_worker_may_come_late_and_a_scheduler_that_goes_away_ends_in_words(tmp_path):
    """The worker comes three seconds after the tasks; what is finished when the scheduler is killed is kept."""
    file = tmp_path / "s.json"
    start = [sys.executable, "-m", "dask"]
    common = {"env": {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(
        [*start, "scheduler", "--scheduler-file", file, "--no-dashboard", "--port", "0"], **common
    ) as one:
        while not file.exists() or not file.read_text():
            time.sleep(0.1)
        where = ["--scheduler-file", file, "--nthreads", "1", "--no-dashboard", "--death-timeout", "10"]
        with subprocess.Popen(["bash", "-c", 'sleep 3; exec "$@"', "-", *start, "worker", *where], **common) as two:
            keep = Rows(tmp_path / "x.nc", {})

            def run():
                for done, _ in enumerate(run_tasks(slow, range(100), shared=(0.2,), keep=keep, scheduler=str(file))):
                    if done == 3:
                        one.kill()

            with pytest.raises(DomainError, match="gone away"):
                run()
            two.terminate()
    assert 4 <= sum(map(keep.has, range(100))) < 100


# --- the page -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow  # a scheduler, two workers and the command, as processes
@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_the_script_of_the_page_runs_where_srun_is_a_function(tmp_path):
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    (script,) = (block for block in re.findall(r"^```bash\n(.*?)^```", page, re.M | re.S) if "#SBATCH" in block)
    from theory.phase_diagram import phase_diagram

    start = """srun() { n=${1#--ntasks=}; shift; for i in $(seq $n); do "$@" & done; wait; }
geomem() { python -c "from validation.cli import main; main()" "$@"; }
SLURM_NTASKS=3; SLURM_JOB_ID=7
"""
    (tmp_path / "job.sh").write_text(start + script.replace("--points 512", "--points 20"))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path}
    run = subprocess.run(["bash", "job.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert "wrote diagram.nc" in run.stdout
    assert not (tmp_path / "scheduler-7.json").exists()
    here = phase_diagram(*(np.geomspace(*ends, 20) for ends in ((0.001, 3), (0.01, 3))))
    assert (
        here["log_t_collapse"].values.tobytes()
        == load_dataset(tmp_path / "diagram.nc")["log_t_collapse"].values.tobytes()
    )
