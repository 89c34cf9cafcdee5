"""Copies counted where the answer is known, images pooled and read from JPEGs, and the study at toy size."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from PIL import Image

from numerics.domain import DomainError
from validation.data.memorisation import memorised_fraction
from validation.experiments.trained_images import experiment as trained_images
from validation.experiments.trained_images.figures import kept_figure
from validation.experiments.trained_images.probes import average_pool, draw
from validation.score.empirical_score import EmpiricalScore
from validation.spectra.score_functions import Empirical
from validation.training import NoiseLevels, TrainingConfig
from validation.training.checkpoint import read

TOY = trained_images.Preset(
    "toy",
    (20, 40),
    {"kind": "unet", "width": 4, "levels": 1, "blocks": 1},
    TrainingConfig(steps=6, batch=8, warmup=2, noise=NoiseLevels(0.02, 8.0), precision="float32"),
    samples=30,
    steps=6,
    levels=3,
    points=2,
    losses=16,
)


def gaussians(P, N=20, seed=0):
    return np.random.default_rng((seed, P)).standard_normal((P, N))


def test_copies_are_all_counted_and_fresh_points_none():
    """Fresh Gaussians in 20 dimensions: the ball of radius d_2/3 holds 3^-20 of that of d_2; false alarm below 1e-6."""
    X = gaussians(200)
    copies = memorised_fraction(X, X)
    assert copies.fraction == copies.high == 1
    np.testing.assert_array_equal(copies.index, np.arange(200))
    near = memorised_fraction(X[:50] + 0.01 * gaussians(50), X)
    assert near.fraction == 1
    fresh = memorised_fraction(gaussians(300), X)
    assert fresh.fraction == fresh.low == 0
    assert 0 < fresh.high < 0.02
    mixed = memorised_fraction(np.vstack([X[:60], gaussians(60, seed=1)]), X)
    assert mixed.fraction == 0.5
    assert mixed.low < 0.5 < mixed.high
    assert mixed.error == pytest.approx(0.5 / 120**0.5)


def test_a_ratio_at_the_threshold_does_not_count():
    X = [[0.0], [3.0]]
    at = memorised_fraction([[1.0]], X, threshold=0.5)  # distances 1 and 2: exact in binary
    assert at.ratio.tolist() == [0.5]
    assert at.fraction == 0
    assert memorised_fraction([[1.0]], X, threshold=np.nextafter(0.5, 1)).fraction == 1
    third = memorised_fraction([[1.0], [0.999]], [[0.0], [4.0]])  # 1 and 3, and just below
    assert third.fraction == 0.5


def test_ratio_is_free_of_units():
    X, samples = gaussians(100), gaussians(80, seed=2) * 0.3
    a, b = memorised_fraction(samples, X), memorised_fraction(1e-3 * samples + 5, 1e-3 * X + 5)
    np.testing.assert_allclose(a.ratio, b.ratio, rtol=1e-9)


def test_a_doubled_training_point_hides_nothing():
    X = np.vstack([gaussians(50), gaussians(50)[:1]])
    near = memorised_fraction(X[:1] + 0.01, X)
    assert (near.fraction, near.left_out, near.index.tolist()) == (1, 1, [0])
    assert memorised_fraction(X[:1], X).fraction == 1


@pytest.mark.parametrize(
    ("samples", "X", "options", "name"),
    [
        ([[0.0]], [[0.0], [1.0]], {"threshold": 0}, "threshold"),
        ([[0.0]], [[0.0], [1.0]], {"threshold": 1.5}, "threshold"),
        ([[0.0]], [[0.0], [1.0]], {"threshold": "third"}, "threshold"),
        ([[0.0]], [[0.0], [1.0]], {"threshold": np.nan}, "threshold"),
        ([[0.0]], [[0.0]], {}, "X"),
        (np.zeros((0, 1)), [[0.0], [1.0]], {}, "samples"),
        ([0.0], [[0.0], [1.0]], {}, "samples"),
        ([[0.0, 1.0]], [[0.0], [1.0]], {}, "queries"),
        ([[np.nan]], [[0.0], [1.0]], {}, "queries"),
    ],
)
def test_memorised_fraction_refuses(samples, X, options, name):
    with pytest.raises(DomainError) as error:
        memorised_fraction(samples, X, **options)
    assert error.value.argument == name


def test_the_empirical_score_draws_only_copies():
    X = torch.from_numpy(gaussians(40))
    start = 8 * torch.from_numpy(gaussians(60, seed=3))
    score = Empirical(EmpiricalScore(X, dtype="float64"))
    samples = draw(score, start, NoiseLevels(0.02, 8.0), 32)
    assert memorised_fraction(samples.numpy(), X.numpy()).fraction == 1
    far = draw(
        score, start, NoiseLevels(2.0, 8.0), 8
    )  # control: a schedule that ends too early leaves averages of points
    assert memorised_fraction(far.numpy(), X.numpy()).fraction < 0.5


def test_average_pool():
    X = torch.arange(32.0).reshape(1, 2, 4, 4)
    pooled = average_pool(X, 2)
    assert pooled.shape == (1, 2, 2, 2)
    assert pooled[0, 0, 0, 0] == X[0, 0, :2, :2].mean()
    assert average_pool(X, 1) is X
    with pytest.raises(DomainError, match="pool"):
        average_pool(X, 3)


def test_bars_count_the_points_that_are_there():
    """Fewer images than points: the rest is NaN, and no part of a standard error."""
    kept = np.full((2, 1, 6), np.nan)
    kept[:, 0, :3] = [[1.0, 2.0, 3.0], [4.0, 6.0, 8.0]]
    names = {
        f"{who}_kept": (("P", "kind", "t", "point"), np.stack([kept, kept], axis=1)) for who in ("network", "empirical")
    }
    data = xr.Dataset(names, {"P": [3, 30], "kind": ["training", "held out"], "t": [0.1], "direction": np.arange(9)})
    (bars,) = kept_figure(data).axes[0].containers
    ends = np.array([[y for _, y in line] for line in bars[2][0].get_segments()])
    np.testing.assert_allclose(np.diff(ends, axis=1)[:, 0], 2 * np.array([1.0, 2.0]) / 3**0.5)


def test_study_from_training_to_figure_and_resumed(tmp_path, monkeypatch):
    seen = []
    first = trained_images.run(TOY, out=tmp_path, progress=lambda done, total: seen.append((done, total)))
    for suffix in ("png", "csv", "nc"):
        assert (tmp_path / f"trained_images.{suffix}").exists()
    assert seen[-1][0] == seen[-1][1]
    curves = first.curves
    assert curves["P"].values.tolist() == [20, 40]
    assert curves["network_gap"].dims == ("P", "kind", "t", "point")
    assert (curves["network_kept"].mean() > 0) & (curves["empirical_kept"].isel(t=0).sel(kind="training") == 0).all()
    table = pd.read_csv(tmp_path / "trained_images_dimension.csv")
    at = table[(table.P == 40) & (table.kind == "held out")].sort_values("t")
    np.testing.assert_allclose(at.network_kept, curves["network_kept"].sel(P=40, kind="held out").mean("point"))
    assert (tmp_path / "trained_images_kept.png").stat().st_size > 1000
    assert curves["sample_image"].shape == (2, 28, 1, 8, 8)
    # the empirical score: all copies, and no dimension left at noised training images at small t
    assert (curves["empirical_fraction"] > 0.9).all()
    assert (curves["empirical_gap"].sel(kind="training").isel(t=0) == 0).all()
    assert np.isfinite(curves["data_dimension"].sel(estimator=["two-nn"])).all()
    assert curves["data_dimension"].sel(estimator="local-pca").isnull().all()  # 40 images have no neighbourhoods of 50
    assert curves["empirical_inflection"].sel(kind="training").isel(t=0).isnull().all()  # a flat spectrum has none
    assert np.isfinite(curves["network_gap"]).all()
    assert (curves["network_fraction"] <= 1).all()
    assert len(first.rows) == 4
    assert "control" in first.rows[0].note
    checkpoint = next((tmp_path / "checkpoints").glob("*.safetensors"))
    assert read(checkpoint)[1]["step"] == TOY.training.steps
    monkeypatch.setattr(trained_images, "save", lambda *_: None)
    again = trained_images.run(TOY, out=tmp_path)  # nothing is left to train
    np.testing.assert_array_equal(curves["network_ratio"].values, again.curves["network_ratio"].values)
    with pytest.raises(DomainError, match="checkpoint"):  # other sizes are another run
        trained_images.run(TOY, out=tmp_path, sizes=(20, 30))


def test_study_of_a_folder_in_the_layout_of_celeba(tmp_path):
    folder = tmp_path / "img_align_celeba"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(30):
        pixels = rng.integers(0, 255, (22, 18, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{k + 1:06d}.jpg", quality=95)
    toy = replace(TOY, levels=2, samples=4)
    result = trained_images.run(toy, data=folder, sizes=(8, 24), image_size=8, pool=2, out=tmp_path / "out")
    assert result.curves["sample_image"].shape == (2, 4, 3, 4, 4)
    assert result.provenance["data"]["shape"] == [3, 4, 4]
    assert "sizes=(8, 24), pool=2" in result.provenance["command"]
    # 27 images of 48 numbers: no Gaussian to hold it against, and six steps memorise nothing
    assert set(result.curves["loss_label"].isel(t=0).values) == {"unconverged"}
    assert result.curves["loss_share"].isnull().all()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"preset": "slow"}, "preset"),
        ({"data": "linear"}, "data"),
        ({"sizes": (100, 100_000)}, "sizes"),
        ({"sizes": (100, 100)}, "sizes"),
        ({"sizes": ()}, "sizes"),
        ({"sizes": (1,)}, "sizes"),
        ({"pool": 3}, "pool"),
        ({"pool": 4}, "pool"),
        ({"limit": 40, "preset": "quick"}, "data"),
    ],
)
def test_run_refuses(options, name):
    with pytest.raises(DomainError) as error:
        trained_images.run(**({"preset": TOY} | options))
    assert error.value.argument == name
