"""Which array of an .npz holds the samples: archives as guided diffusion, pytorch-fid and notebooks write them."""

import io
import zipfile

import numpy as np
import pytest

from validation.data import load
from validation.data.stored.raw import DataError

RNG = np.random.default_rng(7)
IMAGES = RNG.integers(0, 256, (12, 6, 5, 3), dtype=np.uint8)
FEATURES = RNG.standard_normal((12, 6))
MOMENTS = {"mu": FEATURES.mean(0), "sigma": np.cov(FEATURES.T)}
SPATIAL = {"mu_s": FEATURES[:, :4].mean(0), "sigma_s": np.cov(FEATURES[:, :4].T)}


def rows(images):
    """Images in [-1, 1], channels first."""
    return (np.moveaxis(images, -1, 1).reshape(len(images), -1) / np.float32(127.5)).astype(np.float32) - np.float32(1)


@pytest.mark.parametrize(
    "arrays",
    [
        {"arr_0": IMAGES, **MOMENTS},
        {**MOMENTS, **SPATIAL, "arr_0": IMAGES},
        {"arr_0": IMAGES, "arr_1": np.arange(12)},  # guided diffusion's samples and their classes
        {"arr_0": IMAGES, "arr_1": np.eye(12)[:, :10]},  # one-hot classes
        {"a": FEATURES, "b": IMAGES},
        {"pool_3": FEATURES, "spatial": FEATURES[:, :3], "arr_0": IMAGES},
        {"Images": IMAGES, "latents": FEATURES},
    ],
)
def test_the_images_are_taken(tmp_path, arrays):
    np.savez(tmp_path / "x.npz", **arrays)
    data = load(tmp_path / "x.npz")
    np.testing.assert_array_equal(data.X, rows(IMAGES))
    assert data.shape == (3, 6, 5)


def test_key_takes_another(tmp_path):
    np.savez(tmp_path / "x.npz", arr_0=IMAGES, **MOMENTS)
    np.testing.assert_array_equal(load(tmp_path / "x.npz", key="sigma").X, MOMENTS["sigma"])


@pytest.mark.parametrize(
    "arrays",
    [
        MOMENTS,
        {**MOMENTS, **SPATIAL},
        {"mean": MOMENTS["mu"], "cov": MOMENTS["sigma"]},
        {**MOMENTS, "mu_clip": np.zeros(5), "sigma_clip": np.eye(5)},  # openai/guided-diffusion 148
    ],
)
def test_statistics_alone_are_no_samples(tmp_path, arrays):
    """A covariance has the shape of samples: read as such it gave times without a word."""
    np.savez(tmp_path / "fid_stats.npz", **arrays)
    with pytest.raises(DataError, match=r"it holds statistics of samples .*Choose with key= \(--key\)"):
        load(tmp_path / "fid_stats.npz")


def test_moments_of_other_features_beside_flat_samples(tmp_path):
    """openai/guided-diffusion 148: `mu_clip`, `sigma_clip` too; here the samples are no images."""
    np.savez(tmp_path / "x.npz", arr_0=FEATURES, mu_clip=np.zeros(5), sigma_clip=np.eye(5), **MOMENTS)
    np.testing.assert_array_equal(load(tmp_path / "x.npz").X, FEATURES)


def test_statistics_in_an_npy_are_refused_with_the_way_out(tmp_path):
    """mseitzer/pytorch-fid 106: a dict of statistics saved as .npy, which is a pickle."""
    np.save(tmp_path / "stats.npy", MOMENTS, allow_pickle=True)
    with pytest.raises(DataError, match=r"Python objects .*a dict of arrays: numpy.savez"):
        load(tmp_path / "stats.npy")


@pytest.mark.parametrize(
    "stored", [FEATURES.astype(">f8"), np.asfortranarray(FEATURES), np.asfortranarray(FEATURES)[::-1]]
)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_the_order_of_bytes_and_of_axes_changes_no_number(tmp_path, stored, suffix):
    """Big-endian arrays from other machines, and arrays saved column by column."""
    np.save(tmp_path / "x.npy", stored) if suffix == "npy" else np.savez(tmp_path / "x.npz", x=stored)
    X = load(tmp_path / f"x.{suffix}").X
    np.testing.assert_array_equal(X, stored)
    assert X.dtype.isnative


def test_a_name_alone_makes_no_covariance(tmp_path):
    np.savez(tmp_path / "x.npz", sigma=FEATURES, y=np.arange(12)[:, None])
    np.testing.assert_array_equal(load(tmp_path / "x.npz").X, FEATURES)


@pytest.mark.parametrize(
    "arrays",
    [
        {"a": FEATURES, "b": FEATURES + 1},
        {"arr_0": IMAGES, "arr_1": IMAGES + 1},
        {f"batch_{k}": IMAGES for k in range(30)},
    ],
)
def test_a_doubt_names_the_arrays_and_the_option(tmp_path, arrays):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(
        DataError, match=r"several arrays could be the data; .* holds .*Choose with key= \(--key\)"
    ) as caught:
        load(tmp_path / "x.npz")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("command", ["audit", "spectrum", "train", "report"])
def test_every_command_that_reads_data_takes_key(geomem, tmp_path, command):
    np.savez(tmp_path / "x.npz", a=FEATURES, b=FEATURES + 1)
    run = geomem(command, tmp_path / "x.npz", "--key", "c")
    assert run.returncode == 2
    assert "it has no array 'c'" in run.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"x.npz"}


def test_train_reads_the_array_of_key(geomem, tmp_path):
    from validation.training import checkpoint

    a, b = RNG.standard_normal((2, 30, 3))
    np.savez(tmp_path / "x.npz", a=a, b=b)
    out = tmp_path / "m.safetensors"
    run = geomem("train", tmp_path / "x.npz", "--key", "b", "--steps", 2, "--width", 4, "--out", out)
    assert run.returncode == 0, run.stderr
    _, record = checkpoint.read(out)
    assert record["note"]["source"]["key"] == "b"
    assert record["sizes"] == [27]
    run = geomem("train", "linear", "--key", "b", "--out", tmp_path / "n.safetensors")
    assert run.returncode == 2
    assert "--key = b is outside its domain: it must be left out with the data of linear" in run.stderr


def test_a_header_of_gigabytes_is_refused_before_it_is_inflated(tmp_path):
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x02\x00" + (1 << 31).to_bytes(4, "little") + b" " * (1 << 20))
    (tmp_path / "bomb.npz").write_bytes(body.getvalue())
    with pytest.raises(DataError, match=r"bomb.npz\[x\]: its header claims 2147483648 bytes"):
        load(tmp_path / "bomb.npz")
