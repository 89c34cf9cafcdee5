"""Signals of single samples: the Gaussian identities, exactly and on average, and the command on both kinds of model."""

import numpy as np
import pytest
import torch
import xarray as xr

from numerics.domain import DomainError
from validation.data import load
from validation.spectra import GaussianScore, sample_signals
from validation.spectra.score_functions import Empirical

R = np.concatenate([np.full(4, 1.0), np.full(8, 0.1), np.zeros(12)])
N = len(R)
SIGMAS = 4.5  # two-sided 7e-6 of Gaussian errors


def draw(S, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(S, N)) * np.sqrt(R))


def test_every_signal_of_a_gaussian_is_its_formula():
    """At fixed samples: means over noise in closed form; the traces are exact from N probes on."""
    x, t = draw(6), np.array([0.05, 1.0])
    found = sample_signals(GaussianScore(R), x, t, draws=4000, probes=N)
    for k, level in enumerate(t):
        gain = 1 / (level + R)
        energy = x.numpy() ** 2 + level
        dimension = (R * gain).sum()
        np.testing.assert_allclose(found["dimension"][k], dimension, rtol=1e-12)
        np.testing.assert_allclose(
            found["flipd"][k], dimension + level * (x.numpy() ** 2 * gain**2).sum(axis=1), rtol=1e-12
        )
        for name, power in (("square", 2), ("sharpness", 4)):
            off = (found[name][k] - (energy * gain**power).sum(axis=1)) / found[f"{name}_error"][k]
            assert float(abs(off).max()) < SIGMAS
            wrong = (found[name][k] - (energy * gain ** (power + 1)).sum(axis=1)) / found[f"{name}_error"][k]
            assert float(abs(wrong).max()) > SIGMAS


def test_traces_of_powers_over_the_data():
    """Over samples of the density itself: E|s|^2 = -tr J and E|Js|^2 = -tr J^3."""
    t = 0.3
    found = sample_signals(GaussianScore(R), draw(1500, seed=1), [t], draws=2, probes=2, chunk=500)
    J = -1 / (t + R)
    for name, exact, wrong in (("square", -J.sum(), (J**2).sum()), ("sharpness", -(J**3).sum(), (J**4).sum())):
        values = found[name].values[0]
        error = values.std(ddof=1) / np.sqrt(len(values))
        assert abs(values.mean() - exact) < SIGMAS * error
        assert abs(values.mean() - wrong) > 3 * SIGMAS * error


def test_copies_have_no_dimension_left():
    """The empirical score of 40 points: at small noise a training point keeps no direction, a point between two does."""
    X = draw(40, seed=2)
    between = (X[:1] + X[1:2]) / 2
    far = float((X[0] - X[1]).norm())
    face = Empirical(X.numpy())
    found = sample_signals(face, torch.cat([X[:1], between]), [(0.15 * far) ** 2], probes=N)
    own, other = found["dimension"].values[0]
    assert own < 0.05 < 10 * own + 0.05 < other


def test_chunks_and_probes():
    x = draw(5)
    whole = sample_signals(GaussianScore(R), x, [0.2], probes=N)
    parts = sample_signals(GaussianScore(R), x, [0.2], probes=N, chunk=2)
    xr.testing.assert_allclose(whole.drop_attrs(), parts.drop_attrs(), rtol=1e-12)
    few = sample_signals(GaussianScore(R), x[:2], [0.2], probes=N)  # noise of a sample does not hang on the others
    np.testing.assert_allclose(few["square"], whole["square"][:, :2], rtol=1e-12)
    other = sample_signals(GaussianScore(R), x, [0.2], probes=N, seed=1)
    assert not np.allclose(other["square"], whole["square"])


@pytest.mark.parametrize(
    "arguments",
    [
        {"x": torch.zeros(3)},
        {"x": torch.zeros(0, N)},
        {"x": torch.full((1, N), torch.nan)},
        {"t": [0.0]},
        {"draws": 1},
        {"probes": 1},
        {"chunk": 0},
    ],
)
def test_bad_input(arguments):
    with pytest.raises(DomainError):
        sample_signals(GaussianScore(R), **{"x": torch.zeros(1, N), "t": [1.0]} | arguments)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    diffusers = pytest.importorskip("diffusers")
    folder = tmp_path_factory.mktemp("signals") / "pipeline"
    torch.manual_seed(0)
    sizes = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "norm_num_groups": 4}
    blocks = {"block_out_channels": (8,), "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    net = diffusers.UNet2DModel(**sizes | blocks, add_attention=False)
    diffusers.DDPMPipeline(net, diffusers.DDPMScheduler()).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_samples_of_a_pipeline(geomem, pipeline, tmp_path):
    np.save(tmp_path / "made.npy", load().X[:12].reshape(-1, 8, 8))
    common = ("spectrum", "--model", pipeline, "--samples", tmp_path / "made.npy", "--points", 2, "--probes", 2)
    done = geomem(*common, "--out", tmp_path / "alone.png")
    assert done.returncode == 0, done.stderr
    for end in (".png", ".nc", ".csv"):
        assert (tmp_path / f"alone{end}").stat().st_size > 0
    with xr.open_dataset(tmp_path / "alone.nc") as found:
        assert found.sizes == {"t": 2, "sample": 12}
        for name in ("square", "sharpness", "dimension", "flipd"):
            assert np.isfinite(found[name]).all()
            assert (found[f"{name}_error"] > 0).all()
    head = (tmp_path / "alone.csv").read_text().splitlines()
    (columns,) = [line for line in head if "sharpness" in line and not line.startswith("#")]
    assert {"sigma", "origin", "square", "sharpness", "dimension", "flipd"} <= set(columns.split(","))
    done = geomem(*common[:1], "digits", *common[1:], "--limit", 60, "--out", tmp_path / "beside.png")
    assert done.returncode == 0, done.stderr
    with xr.open_dataset(tmp_path / "beside.nc") as found:
        assert set(found["origin"].values) == {"sample", "training", "fresh"}
    assert "training" in done.stdout


def test_samples_of_a_checkpoint(geomem, tmp_path):
    arguments = ("-P", "20", "--steps", 2, "--width", 8, "--blocks", 1, "--network", "mlp")
    done = geomem("train", "digits", *arguments, "--out", tmp_path / "m.safetensors")
    assert done.returncode == 0, done.stderr
    np.save(tmp_path / "made.npy", load().X[:6])
    common = ("spectrum", "--model", tmp_path / "m.safetensors", "--points", 2, "--probes", 2)
    done = geomem(*common, "--samples", tmp_path / "made.npy", "--out", tmp_path / "s.png")
    assert done.returncode == 0, done.stderr
    assert "network of 20 points" in done.stdout
    np.save(tmp_path / "other.npy", load().X[:6, :9])
    for options, said in (
        (("--samples", tmp_path / "other.npy"), "--samples"),
        (("--samples", tmp_path / "made.npy", "--class", 1), "--class"),
        (("digits", "--samples", tmp_path / "made.npy"), "DATA"),
        (("--samples", tmp_path / "made.npy", "--sigma", "2,1"), "--sigma"),
    ):
        done = geomem(*common, *options, "--out", tmp_path / "t.png")
        assert done.returncode == 2
        assert said in done.stderr
    done = geomem("spectrum", "--samples", tmp_path / "made.npy")
    assert done.returncode == 2
    assert "--model" in done.stderr
