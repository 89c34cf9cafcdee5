"""Training times off curves whose times are known, and off the checkpoints of one run; what is no one run is refused."""

import numpy as np
import pytest
import torch
import xarray as xr

from numerics.domain import DomainError
from validation.training import NoiseLevels, TrainingConfig, train
from validation.window import checkpoint_curves, checkpoints_in, training_times

CONFIG = TrainingConfig(steps=200, batch=32, learning_rate=4e-3, warmup=20, ema=0.95, noise=NoiseLevels(0.05, 5.0))
NET = {"kind": "mlp", "width": 32, "blocks": 1}


def curves(steps, held_out, train, **more):
    axes = ("step", "member", "t")
    data = {"held_out": (axes, held_out[:, None, None]), "train": (axes, train[:, None, None])} | more
    return xr.Dataset(data, {"step": steps, "t": [0.1], "P": ("member", [10])})


def test_times_of_known_curves():
    """Power laws, on which linear interpolation of logarithms is exact between checks, to the checks' spacing elsewhere."""
    steps = np.geomspace(1, 1e4, 400)
    held_out = np.maximum(1 / steps, 0.01) * np.maximum(1, steps / 1000)
    train_loss = np.maximum(1 / steps, 0.01) / np.maximum(1, steps / 300)
    copies = 1 / (1 + (2000 / steps) ** 2)
    found = training_times(curves(steps, held_out, train_loss, fraction=(("step", "member"), copies[:, None])))
    assert found["tau_gen"].item() == pytest.approx(100 / 1.1, rel=1e-3)
    assert found["tau_mem"].item() == pytest.approx(600, rel=1e-3)
    assert found["tau_copy"].item() == pytest.approx(2000, rel=2e-2)
    assert 100 <= found["tau_best"].item() <= 1000
    assert found["window"].item() == pytest.approx(6.6, rel=1e-2)
    assert found["tau_mem_before"].item() < 600 < found["tau_mem_at"].item()
    never = training_times(curves(steps, held_out, np.maximum(train_loss, 0.006)))
    assert np.isnan(never["tau_mem"]).all()
    assert np.isnan(never["tau_copy"]).all()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two networks on 15 and 60 points, with the checkpoint of each of 25 checks."""
    home = tmp_path_factory.mktemp("run")
    g = torch.Generator().manual_seed(0)
    X = torch.randn(400, 8, generator=g, dtype=torch.float64) * torch.linspace(1.5, 0.3, 8, dtype=torch.float64)
    np.save(home / "x.npy", X.numpy())
    source = {"data": str(home / "x.npy"), "seed": 0}
    trainer = train(source, [15, 60], NET, CONFIG, home / "m.safetensors", watch={"keep": home / "all"})
    return home, trainer


def test_checkpoints_give_what_the_watch_saw(run):
    home, trainer = run
    found = checkpoint_curves([home / "all"], t=trainer.watch.probes.t, samples=0)
    seen = trainer.watch.curves()
    np.testing.assert_allclose(found["held_out"], seen["held_out"], rtol=1e-5)
    np.testing.assert_allclose(found["train"], seen["train"], rtol=1e-5)
    assert np.isnan(found["fraction"]).all()
    assert found["departure_step"].values.tolist() == seen["departure_step"].values.tolist()
    times = training_times(found)
    small, large = times["tau_mem"].values[:, 2]
    assert small < large or np.isnan(large)  # fewer points are memorised sooner


def test_the_command_draws_the_window(run, geomem, tmp_path):
    home, _ = run
    files = sorted((home / "all").iterdir())
    chosen = [x for file in files[::4] for x in ("--model", file)]
    result = geomem("audit", *chosen, "--out", tmp_path / "out", "--probes", 60)
    assert result.returncode == 0, result.stderr
    assert "tau_mem" in result.stdout
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "training-curves.csv", "training-times.csv", "training-times.png",
    }  # fmt: skip
    result = geomem("audit", home / "x.npy", "--model", home / "all")
    assert result.returncode == 2
    assert "DATA" in result.stderr


def test_what_is_no_one_run_is_refused(run, tmp_path, geomem):
    home, _ = run
    files = sorted((home / "all").iterdir())
    assert [step for step, _ in checkpoints_in([files[3], files[1], files[3]])] == sorted(
        step for step, _ in checkpoints_in([files[1], files[3]])
    )
    with pytest.raises(DomainError, match="two steps"):
        checkpoints_in([files[0]])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DomainError, match="folder with checkpoints"):
        checkpoints_in([tmp_path / "empty"])
    source = {"data": str(home / "x.npy"), "seed": 1}
    train(source, [15, 60], NET, TrainingConfig(steps=2, batch=8), tmp_path / "n.safetensors")
    with pytest.raises(DomainError, match="same run"):
        checkpoints_in([files[0], tmp_path / "n.safetensors"])
    result = geomem("audit", "--model", files[0], "--model", files[0])
    assert result.returncode == 2
    assert "two steps" in result.stderr
