"""Monte Carlo of the REM: against brute force on the same numbers, against exact finite-size theory, and killed and resumed.

Statistical tests use fixed seeds and 4.5 standard errors between disorder replicas (63 or more degrees of freedom):
false-alarm probability below 3e-5 a comparison, below 1e-3 in total. Each has a negative control.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from numerics.domain import DomainError
from theory import Isotropic, LinearManifold, Subspaces
from theory.finite_size.expectations import expected_log_partition, true_point_weight
from theory.models.hidden import HiddenManifold
from validation.simulation.log_sum_exp import LogSumExp
from validation.simulation.montecarlo import Basin, Grids, simulate
from validation.simulation.samplers import Sampler, generator

LINEAR = LinearManifold(0.5)
GRIDS = Grids(
    noisy=np.log([0.1, 0.7, 2.0, 9.0]),
    clean=np.log([0.3, 3.0]),
    heldout=np.log([0.05, 0.4, 2.0]),
    basins=[Basin(2.0, [0.0, 0.7, 1.5]), Basin(0.5, [1.4])],
)


def z_score(rows, expected, extra=0.0):
    """Deviation of the mean over replicas from `expected`, in standard errors."""
    error = rows.std(axis=0, ddof=1) / len(rows) ** 0.5
    return (rows.mean(axis=0) - expected) / np.hypot(error, extra)


# --- the accumulator ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 3e-6)])
@pytest.mark.parametrize("spread", [1.0, 300.0, 1e5])
def test_online_sums_equal_those_at_once(dtype, tolerance, spread):
    draw = torch.Generator().manual_seed(0)
    A, B = (spread * torch.randn(2, 3, 50, generator=draw, dtype=dtype) for _ in range(2))
    a, b = [-0.5, -2.0, 0.0], [1.0, 0.0, 0.0]
    online = LogSumExp(a, b, (2, 3), torch.device("cpu"), dtype, squares=True)
    for first, last in ((0, 7), (7, 8), (8, 50)):
        online.update(A[..., first:last], B[..., first:last], torch.empty(2, 3, last - first, dtype=dtype))
    exponents = torch.stack([x * A + y * B for x, y in zip(a, b, strict=True)]).double()
    scale = exponents.abs().amax(-1).clamp_min(1)
    assert ((online.log() - exponents.logsumexp(-1)) / scale).abs().max() < tolerance
    assert ((online.log_squares() - (2 * exponents).logsumexp(-1)) / scale).abs().max() < 2 * tolerance


# --- one replica, written out -------------------------------------------------------------------------------------------


def brute_force(model, N, P, grids, queries, seed):
    """The same quantities from all distances at once, without tiles, logs or the two-product trick."""
    sampler = Sampler(model, N, seed)
    xi = sampler.stream(1).sample(queries).numpy()
    omega = generator(N, (*seed, 2)).rows(queries).numpy()
    patterns = sampler.sample(P).numpy()

    def log_weights(x, t, points):
        return -np.square(x[:, None] - points).sum(-1) / (2 * t)

    def own(x, own_point, t):
        others = np.exp(log_weights(x, t, patterns[: P - 1]))
        true = np.exp(-np.square(x - own_point).sum(-1) / (2 * t))
        weights = np.concatenate([true[:, None], others], axis=1)
        return weights / weights.sum(axis=1, keepdims=True)

    result = {}
    noisy = [own(xi + np.sqrt(t) * omega, xi, t) for t in np.exp(grids.noisy)]
    result["noisy"] = [w[:, 0].mean() for w in noisy]
    result["noisy_participation"] = [np.square(w).sum(1).mean() for w in noisy]
    result["clean"] = [own(xi, xi, t)[:, 0].mean() for t in np.exp(grids.clean)]
    Z = [np.exp(log_weights(xi, t, patterns)) for t in np.exp(grids.heldout)]
    result["heldout"] = [(0.5 * g - np.log(z.sum(1)) / N).mean() for g, z in zip(grids.heldout, Z, strict=True)]
    result["heldout_participation"] = [np.square(z / z.sum(1, keepdims=True)).sum(1).mean() for z in Z]
    for i, basin in enumerate(grids.basins):
        result[f"basin{i}"] = [own(xi + np.sqrt(d) * omega, xi, basin.t)[:, 0].mean() for d in basin.delta]
    return result


@pytest.mark.parametrize("model", [LINEAR, Isotropic(0.7), HiddenManifold(0.5, "relu")], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("tile", [1, 7, 512])
def test_equals_brute_force(model, tile):
    measured = simulate(model, 8, 40, grids=GRIDS, replicas=3, queries=5, seed=11, tile=tile)
    for replica in range(3):
        expected = brute_force(model, 8, 40, GRIDS, 5, (11, 8, 40, replica))
        assert set(expected) == set(measured.arrays)
        for name, values in expected.items():
            np.testing.assert_allclose(measured.arrays[name][replica], values, rtol=1e-10, atol=1e-14, err_msg=name)


def test_threads_change_nothing_and_single_precision_little():
    common = {"grids": GRIDS, "replicas": 9, "queries": 64, "seed": 2, "tile": 256}
    reference = simulate(LINEAR, 24, 400, **common)
    threads = torch.get_num_threads()
    parallel = simulate(LINEAR, 24, 400, workers=3, **common)
    assert torch.get_num_threads() == threads
    single = simulate(LINEAR, 24, 400, dtype=torch.float32, **common)
    for name, values in reference.arrays.items():
        assert np.array_equal(values, parallel.arrays[name])
        np.testing.assert_allclose(single.arrays[name], values, atol=2e-5, err_msg=name)


def test_measurement_describes_itself():
    measured = simulate(LINEAR, 8, 40, grids=Grids(clean=[0.0], basins=[Basin(1.0, [0.5])]), replicas=2, queries=3)
    assert measured.alpha == np.log(40) / 8
    assert measured.replicas == 2
    assert measured.basins[0].shape == (2, 1)
    with pytest.raises(AttributeError, match="noisy was not measured; measured: clean, basin0"):
        _ = measured.noisy
    with pytest.raises(ValueError, match="read-only"):
        measured.clean[0] = 0


# --- physics ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nishimori():
    grids = Grids(noisy=np.log([0.8, 1.6, 3.2]))
    return simulate(LINEAR, 20, 60, grids=grids, replicas=512, queries=64, seed=8)


def test_nishimori_identity_holds_at_finite_size(nishimori):
    """Given x, the true index is a sample of the weights: E w_true = E sum w^2 at every N, P and t."""
    difference = nishimori.noisy - nishimori.noisy_participation
    assert np.abs(z_score(difference, 0.0)).max() < 4.5


def test_negative_control_nishimori_fails_at_another_noise(nishimori):
    """The participation at 2 t against the true weight at t: not equal, and the test above would see it."""
    assert np.abs(z_score(nishimori.noisy[:, :-1] - nishimori.noisy_participation[:, 1:], 0.0)).min() > 9


EXACT = [(Isotropic(1.0), 60), (LINEAR, 60), (Subspaces([0.2, 0.4], [1.0, 0.3]), 200)]


@pytest.mark.parametrize(("model", "P"), EXACT, ids=["isotropic", "linear", "subspaces"])
def test_agrees_with_the_exact_law_of_the_partition_function(model, P):
    """theory.finite_size averages over the patterns by a contour integral; it shares no code with the simulation.

    Compared near the crossings, where its own average over few draws of x has a Gaussian error.
    """
    noisy, clean = 1.6 * model.mean_variance, 3.5 * model.mean_variance
    grids = Grids(noisy=[np.log(noisy)], clean=[np.log(clean)], heldout=[np.log(0.5 * noisy)])
    measured = simulate(model, 20, P, grids=grids, replicas=400, queries=64, seed=5)
    for kind, t in (("noisy", noisy), ("clean", clean)):
        exact = true_point_weight(model, P, 20, t, kind, samples=96, seed=1)
        assert np.abs(z_score(measured.arrays[kind], exact.value, exact.error)).max() < 4.5
        # negative control: twice the patterns, and the comparison fails
        other = true_point_weight(model, 2 * P, 20, t, kind, samples=96, seed=1)
        assert np.abs(z_score(measured.arrays[kind], other.value, other.error)).max() > 6
    log_Z = expected_log_partition(model, P, 20, 0.5 * noisy, "clean", samples=48, seed=1)
    expected = 0.5 * np.log(0.5 * noisy) - float(log_Z.value) / 20
    assert np.abs(z_score(measured.heldout, expected, float(log_Z.error) / 20)).max() < 4.5


# --- long runs ----------------------------------------------------------------------------------------------------------

SCRIPT = """
import os, signal, sys
import numpy as np
from theory import LinearManifold
from validation.simulation.montecarlo import Grids, simulate

def progress(done, total):
    if done >= 40:
        os.kill(os.getpid(), signal.SIGKILL)

simulate(LinearManifold(0.5), 16, 300, grids=Grids(noisy=[0.0, 1.0], heldout=[-1.0]), replicas=64, queries=33, seed=4,
         checkpoint=sys.argv[1], save_every=0.0, progress=progress)
"""
RUN = {"grids": Grids(noisy=[0.0, 1.0], heldout=[-1.0]), "queries": 33, "seed": 4}


def test_killed_and_resumed_run_ends_with_the_same_numbers(tmp_path):
    path = tmp_path / "run.npz"
    root = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    killed = subprocess.run([sys.executable, "-c", SCRIPT, str(path)], env=environment, cwd=root, check=False)
    assert killed.returncode == -signal.SIGKILL
    with np.load(path) as file:
        already = int(file["done"])
    assert 0 < already < 64
    seen = []
    resumed = simulate(
        LINEAR, 16, 300, replicas=64, checkpoint=path, progress=lambda done, total: seen.append((done, total)), **RUN
    )
    assert seen[0] == (already, 64)
    assert seen[-1] == (64, 64)
    whole = simulate(LINEAR, 16, 300, replicas=64, **RUN)
    for name, values in whole.arrays.items():
        assert np.array_equal(resumed.arrays[name], values)
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]
    # finished: nothing is computed again; more replicas continue it
    again = simulate(LINEAR, 16, 300, replicas=64, checkpoint=path, progress=lambda *a: seen.append(a), **RUN)
    assert seen[-1] == (64, 64)
    assert np.array_equal(again.noisy, whole.noisy)
    longer = simulate(LINEAR, 16, 300, replicas=70, checkpoint=path, **RUN)
    assert np.array_equal(longer.noisy, simulate(LINEAR, 16, 300, replicas=70, **RUN).noisy)


def test_checkpoint_of_another_run_or_a_broken_one_is_refused(tmp_path):
    path = tmp_path / "run.npz"
    simulate(LINEAR, 16, 30, replicas=2, checkpoint=path, **RUN)
    with pytest.raises(DomainError, match="a checkpoint of this very run"):
        simulate(LINEAR, 16, 31, replicas=2, checkpoint=path, **RUN)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DomainError, match="a readable checkpoint"):
        simulate(LINEAR, 16, 30, replicas=2, checkpoint=path, **RUN)
    with pytest.raises(DomainError, match="a writable path"):
        simulate(LINEAR, 16, 30, replicas=2, checkpoint=path / "below" / "run.npz", **RUN)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"P": 1}, "P"),
        ({"P": 2.5}, "P"),
        ({"N": 0}, "N"),
        ({"replicas": 0}, "replicas"),
        ({"queries": 0}, "queries"),
        ({"tile": 0}, "tile"),
        ({"workers": 0}, "workers"),
        ({"seed": -1}, "seed"),
        ({"dtype": torch.float16}, "dtype"),
        ({"model": None}, "model"),
    ],
)
def test_bad_input_names_the_argument(change, name):
    arguments = {"model": LINEAR, "N": 8, "P": 10, "grids": GRIDS, "replicas": 2} | change
    model, N, P = (arguments.pop(key) for key in ("model", "N", "P"))
    with pytest.raises(DomainError) as caught:
        simulate(model, N, P, **arguments)
    assert caught.value.argument == name


@pytest.mark.parametrize(
    "build",
    [
        lambda: Grids(),
        lambda: Grids(noisy=[0.0, np.nan]),
        lambda: Grids(clean=[1.0, 0.0]),
        lambda: Grids(heldout=[[0.0]]),
        lambda: Basin(0.0, [1.0]),
        lambda: Basin(1.0, [-1.0, 1.0]),
    ],
)
def test_bad_grids(build):
    with pytest.raises(DomainError):
        build()


def test_accelerator_agrees(cuda):
    here = simulate(LINEAR, 20, 60, grids=GRIDS, replicas=256, seed=8)
    there = simulate(LINEAR, 20, 60, grids=GRIDS, replicas=256, seed=8, device=cuda)
    for name, values in here.arrays.items():
        error = there.arrays[name].std(axis=0, ddof=1) / 16
        assert np.abs(z_score(values, there.arrays[name].mean(axis=0), error)).max() < 4.5
