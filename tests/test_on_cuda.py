"""What takes a device, on cuda (a real one where there is one, else the stand-in), against the same on the CPU."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import test_trained_images
import test_trained_networks
import torch
import xarray as xr
from test_training import BUMPS, DOUBLE, MUON, NET, SHORT, points

from theory import LinearManifold
from validation import EmpiricalScore
from validation.experiments.frozen_spectrum import experiment as frozen_spectrum
from validation.experiments.generalization_law import experiment as generalization_law
from validation.experiments.losing_dimensions import experiment as losing_dimensions
from validation.experiments.trained_images import experiment as trained_images
from validation.experiments.trained_networks import experiment as trained_networks
from validation.experiments.traps.probes import measure_returns
from validation.networks import NetworkScore
from validation.score.engine import POLICIES
from validation.score.local import LocalScore
from validation.spectra.observables import frame_spectrum, jacobian_spectrum
from validation.spectra.subspace_probes import BlockData
from validation.training import Trainer, load_denoiser, train
from validation.training.denoising_loss import convergence, denoising_losses
from validation.window import checkpoint_curves

HERE = torch.cuda.is_available()


def leaves(found):
    """All numbers of a result, as numpy arrays on the CPU."""
    if isinstance(found, torch.Tensor):
        return [found.detach().cpu().numpy()]
    if isinstance(found, dict):
        return leaves(list(found.values()))
    if isinstance(found, tuple | list):
        return [array for part in found for array in leaves(part)]
    return [np.asarray(found)]


def close(found, wanted, tolerance):
    for a, b in zip(leaves(found), leaves(wanted), strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= tolerance * max(np.abs(b).max(), 1e-300)


# --- the stand-in ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(HERE, reason="a real device forbids these itself")
@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x + torch.ones(3),
        lambda x: x.numpy(),
        lambda x: np.asarray(x),
        lambda x: torch.randn(3, device="cuda", generator=torch.Generator()),
        lambda x: torch.nn.Linear(3, 2)(x),
        lambda x: torch.cat([x, torch.ones(3)]),
        lambda x: torch.ones(3)[x > 0],
        lambda x: x.index_put_((torch.tensor([0, 1]),), torch.ones(2)),
    ],
)
def test_stand_in_forbids_what_a_device_forbids(cuda, wrong):
    x = torch.ones(3, device=cuda)
    assert x.device.type == "cuda"
    assert (x.cpu() + torch.ones(3)).sum() == 6
    with pytest.raises((RuntimeError, TypeError)):
        wrong(x)


# --- the empirical score ---------------------------------------------------------------------------------------------

rng = np.random.default_rng(0)
X = rng.standard_normal((3000, 64)) * np.where(np.arange(64) < 8, 1.0, 0.05)
BASE, NOISE, OWN = X[:12], rng.standard_normal((12, 64)), np.arange(12)
CALLS = {
    "log_partition": lambda E, x, t: E.log_partition(x, t),
    "denoise": lambda E, x, t: E.denoise(x, t),
    "score": lambda E, x, t: E.score(x, t),
    "participation": lambda E, x, t: E.participation(x, t),
    "weights": lambda E, x, t: E.weights(x, t),
    "log_weight": lambda E, x, t: 1 + E.log_weight(x, t, OWN[: len(x)]),
    "nearest": lambda E, x, t: tuple(E.nearest(x, exclude=OWN[: len(x)])),
    "jvp": lambda E, x, t: E.jvp(x, t, x + 1),
    "jacobian": lambda E, x, t: E.jacobian(x[:3], t),
    "jacobian_eigenvalues": lambda E, x, t: E.jacobian_eigenvalues(x[:3], t),
}
T = (1e-6, 1e-3, 0.02, 0.1, 3.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CALLS)
def test_empirical_score(cuda, name, dtype):
    call, engine = CALLS[name], EmpiricalScore(X, dtype=dtype, device=cuda)
    reference = EmpiricalScore(X, dtype="float64")
    for t in T:
        x = BASE + np.sqrt(t) * NOISE
        wanted = call(reference, x, t)
        found = call(engine, x, t)
        assert all(isinstance(part, np.ndarray) for part in (found if isinstance(found, tuple) else (found,)))
        close(found, wanted, 1e-10 if dtype == "float64" else 1e-5)
    there = call(engine, torch.from_numpy(x).to(cuda), t)
    assert all(part.device.type == "cuda" for part in (there if isinstance(there, tuple) else (there,)))
    close(there, wanted, 1e-10 if dtype == "float64" else 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["clusters", "memory-mapped"])
def test_empirical_score_by_clusters_and_from_a_file(cuda, tmp_path, kind, dtype):
    np.save(tmp_path / "X.npy", X)
    source, options = (
        (X, {"clusters": "auto"}) if kind == "clusters" else (np.load(tmp_path / "X.npy", mmap_mode="r"), {})
    )
    engine = EmpiricalScore(source, dtype=dtype, device=cuda, **options)
    reference = EmpiricalScore(X, dtype="float64")
    for t in T:
        x = BASE + np.sqrt(t) * NOISE
        for name in ("score", "log_partition", "jacobian_eigenvalues", "nearest"):
            close(CALLS[name](engine, x, t), CALLS[name](reference, x, t), 1e-10 if dtype == "float64" else 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_empirical_score_by_several_tiles(cuda, dtype):
    policy = replace(POLICIES["bfloat16"], device_set=1 << 17)  # tiles of 1024 patterns
    engine = EmpiricalScore(X, dtype=dtype, device=cuda, policy=policy)
    reference = EmpiricalScore(X, dtype="float64")
    for t in T:
        x = BASE + np.sqrt(t) * NOISE
        for name in ("score", "participation", "nearest"):
            close(CALLS[name](engine, x, t), CALLS[name](reference, x, t), 1e-10 if dtype == "float64" else 1e-5)


def test_profiles(cuda):
    reference, engine = (EmpiricalScore(X, dtype="float64", device=device) for device in ("cpu", cuda))
    grid = np.array([1e-4, 0.01, 0.3])
    close(engine.noisy_profile(BASE, NOISE, grid, own=OWN), reference.noisy_profile(BASE, NOISE, grid, own=OWN), 1e-9)
    close(engine.clean_profile(BASE, grid, exclude=OWN), reference.clean_profile(BASE, grid, exclude=OWN), 1e-9)


# --- networks and their training -------------------------------------------------------------------------------------

NETWORKS = {
    "mlp, muon": (BUMPS, MUON, (3,)),
    "mlp, adam": (NET, SHORT, (3,)),
    "u-net": ({"kind": "unet", "width": 4, "levels": 2, "blocks": 1}, replace(SHORT, precision="float64"), (1, 8, 8)),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_training(cuda, tmp_path, kind):
    """Resumed on the device, as trained on the CPU; the checkpoint is read on either."""
    network, config, shape = NETWORKS[kind]
    config = replace(config, precision="float64", steps=12)
    data = [points(P, math.prod(shape)).reshape(P, *shape) for P in (20, 40)]
    here = Trainer(data, network, config)
    here.run()
    path = tmp_path / "there.safetensors"
    Trainer(data, network, config, device=cuda, path=path).run(until=5)
    there = Trainer(data, network, config, device=cuda, path=path)
    assert there.step == 5
    assert there.run().device.type == "cpu"
    for a, b in zip(there.average, here.average, strict=True):
        assert a.device.type == "cuda"
        torch.testing.assert_close(a.cpu(), b, rtol=0, atol=1e-9)
    for device in ("cpu", cuda):
        for a, b in zip(load_denoiser(path, device=device).parameters(), here.averaged().parameters(), strict=True):
            assert a.device.type == torch.device(device).type
            torch.testing.assert_close(a.cpu(), b, rtol=0, atol=1e-9)


def test_losses_and_spectra_of_a_network(cuda):
    X = BlockData((2, 2), (1.0, 0.01)).sample(60, (0,))
    trainer = Trainer([X], NET, DOUBLE)
    trainer.run()
    found = []
    for device in ("cpu", cuda):
        face, clean = NetworkScore(trainer.averaged().to(device), 0, dtype=torch.float64), X[:3].to(device)
        losses = denoising_losses(face, clean, torch.ones_like(clean), 0.1)
        found.append([losses, jacobian_spectrum(face, clean, 0.1), frame_spectrum(face, clean, 0.1)])
        labels = convergence(face, X.to(device), [0.01, 1.0], fresh=X[:20].to(device), points=32)["label"]
        assert labels.shape == (2,)
    for there, here in zip(found[1], found[0], strict=True):
        close(there, here, 1e-8)


def test_the_watch_over_training_and_the_run_it_leaves(cuda, tmp_path):
    np.save(tmp_path / "x.npy", BlockData((2, 2), (1.0, 0.01)).sample(80, (0,)).numpy())
    source = {"data": str(tmp_path / "x.npy"), "seed": 0}
    seen = []
    for device in ("cpu", cuda):
        folder = tmp_path / device.split(":")[0]
        options = {"device": device, "watch": {"keep": folder / "all", "checks": 1, "levels": 2, "points": 30}}
        trainer = train(source, [20, 60], NET, DOUBLE, folder / "m.safetensors", **options)
        curves = checkpoint_curves([folder / "all"], t=[0.1], points_asked=30, samples=4, steps=4, device=device)
        seen.append([trainer.watch.curves(), curves])
    for there, here in zip(seen[1], seen[0], strict=True):
        copies = [name for name in there.data_vars if str(name).startswith("fraction")]  # of samples from other noise
        xr.testing.assert_allclose(there.drop_vars(copies), here.drop_vars(copies), rtol=1e-6)
    assert np.isfinite(seen[1][1]["fraction"]).all()


# --- experiments and commands ----------------------------------------------------------------------------------------


def run_losing_dimensions(**options):
    preset = losing_dimensions.Preset("tiny", 3, {60: 2}, {60: 2}, (60,), 1)
    case = losing_dimensions.Case("d = 2+2", (2, 2, 4), (1.0, 0.09, 1e-4), (60,))
    return losing_dimensions.run(preset, cases=[case], **options)


def run_frozen_spectrum(**options):
    preset = frozen_spectrum.Preset("tiny", 4, 1e6, 16, 32)
    return frozen_spectrum.run(preset, cases=[frozen_spectrum.CASES[0]], **options)


def run_generalization_law(**options):
    preset = generalization_law.Preset("tiny", 4, 1e6, 64, 64)
    case = generalization_law.Case("linear", LinearManifold(0.5), 0.2, (20, 22, 24, 26))
    return generalization_law.run(preset, cases=[case], **options)


def run_trained_networks(**options):
    return trained_networks.run(replace(test_trained_networks.TOY, levels=3, points=1), **options)


def run_trained_images(**options):
    return trained_images.run(test_trained_images.TOY, **options)


EXPERIMENTS = [
    pytest.param(run_losing_dimensions, False, id="losing_dimensions"),
    pytest.param(run_frozen_spectrum, False, id="frozen_spectrum", marks=pytest.mark.slow),
    pytest.param(run_generalization_law, False, id="generalization_law", marks=pytest.mark.slow),
    pytest.param(run_trained_networks, False, id="trained_networks", marks=pytest.mark.slow),
    pytest.param(run_trained_images, True, id="trained_images", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("run", "same"), EXPERIMENTS)
def test_experiment(cuda, run, same):
    """Streams of random numbers are the device's own, so that only experiments that draw on the CPU repeat its numbers."""
    here, there = run(seed=1), run(seed=1, device=cuda)
    assert [(row.quantity, row.model) for row in there.rows] == [(row.quantity, row.model) for row in here.rows]
    assert any(np.isfinite(row.verdict.measured) for row in there.rows)
    for name, curve in here.curves.data_vars.items():
        assert there.curves[name].shape == curve.shape
        if same and curve.dtype.kind == "f":
            np.testing.assert_allclose(there.curves[name], curve, rtol=1e-3, atol=1e-4)


def test_trajectories(cuda):
    """Reverse dynamics by the empirical score: the way is short, so that rounding has no time to grow."""
    here, there = (
        measure_returns(X[:40, :5], [0.3, 1.0], 0.01, 6, weights=12, device=device) for device in ("cpu", cuda)
    )
    for name, values in here.items():
        np.testing.assert_allclose(there[name], values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("equivariant", [True, False])
def test_local_score(cuda, equivariant):
    """On a GPU patches are written out and go to the engine; on the CPU their distances are box sums."""
    rng = np.random.default_rng(0)
    images, x = rng.normal(size=(12, 2, 5, 6)), rng.normal(size=(2, 2, 5, 6))
    here, there = (LocalScore(images, 3, equivariant, dtype="float64", device=device) for device in ("cpu", cuda))
    assert (here.method, there.method) == ("boxes", "products")
    queries = torch.from_numpy(x)
    close(there.denoise(queries.to(cuda), 0.4), here.denoise(queries, 0.4), 1e-10)
    close(there.score(queries.to(cuda), 0.4), here.score(queries, 0.4), 1e-9)


@pytest.mark.slow
def test_the_script_for_a_gpu_runs_every_step_and_none_twice(tmp_path):
    root = Path(__file__).parents[1]
    settings = os.environ | {"DEVICE": "cuda" if HERE else "cpu", "QUICK": "1", "PYTHON": sys.executable}
    for again in (False, True):
        run = subprocess.run(
            ["bash", "benchmarks/gpu.sh", str(tmp_path)],
            cwd=root,
            env=settings,
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.count("done before") == (6 if again else 0), run.stdout
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert set(found["steps"]) == {"engine", "training", "local", "spectrum", "headline", "images"}
    assert all(step["seconds"] > 0 and step["result"] for step in found["steps"].values())
    assert found["steps"]["training"]["result"]["speed_up"] > 0
    assert all(row["verdict"] for row in found["steps"]["headline"]["result"]["rows"])
