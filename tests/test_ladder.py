"""The ladder of noise: the ideal denoiser is the training point below its collapse and not above, the Gaussian one never."""

import math

import numpy as np
import pytest
import torch

from numerics.domain import DomainError
from validation.data import load
from validation.figures import image_pairs
from validation.ladder import ladder_figure, noise_ladder, write_ladder
from validation.spectra import FittedGaussian

TIMES = {"onset": 1.17, "collapse": 0.61, "condensation": 0.35, "generalization": 0.07}


@pytest.fixture(scope="module")
def digits():
    return load(limit=600)


@pytest.fixture(scope="module")
def ladder(digits):
    return noise_ladder(digits.X, TIMES, shape=digits.shape, seed=3)


def test_rungs_are_the_times_and_those_between(ladder):
    assert ladder.names == ("", "t_o", "", "t_c", "", "t_cond", "", "t_g", "")
    assert (np.diff(ladder.t) < 0).all()
    assert ladder.t[3] == TIMES["collapse"]
    assert ladder.t[2] == pytest.approx(math.sqrt(TIMES["onset"] * TIMES["collapse"]))


def test_denoisers_are_the_posterior_means_by_hand(digits, ladder):
    """Softmax of all distances in float64, and (Sigma + t)^-1 by a linear solver."""
    X = digits.X.astype(np.float64)
    mean, covariance = X.mean(axis=0), np.cov(X.T, ddof=0)
    for k, t in enumerate(ladder.t):
        x = ladder.noisy[k]
        log_w = -((x - X) ** 2).sum(axis=1) / (2 * t)
        w = np.exp(log_w - log_w.max())
        w /= w.sum()
        assert ladder.weight[k] == pytest.approx(w[ladder.row], abs=1e-5)
        np.testing.assert_allclose(ladder.denoised["ideal"][k], w @ X, atol=1e-4)
        gaussian = mean + covariance @ np.linalg.solve(covariance + t * np.eye(64), x - mean)
        np.testing.assert_allclose(ladder.denoised["gaussian"][k], gaussian, atol=1e-9)


def test_the_ideal_denoiser_snaps_to_the_training_image_at_collapse(ladder):
    far = np.sqrt(np.mean((ladder.denoised["ideal"] - ladder.clean) ** 2, axis=1))
    at = ladder.names.index("t_c")
    assert 0.3 < ladder.weight[at] < 0.7
    assert far[at + 3] < 1e-3 < 0.1 < far[at - 2]
    gaussian = np.sqrt(np.mean((ladder.denoised["gaussian"] - ladder.clean) ** 2, axis=1))
    assert gaussian[at + 3] > 0.1  # it knows no single image
    assert ladder.nearest[-1] == ladder.row


def test_another_collapse_time_is_another_image_or_weight(digits, ladder):
    """Negative control: rungs at a wrong collapse time do not show the snap there."""
    wrong = noise_ladder(digits.X, {"collapse": 40 * TIMES["collapse"]}, shape=digits.shape, row=ladder.row, seed=3)
    assert wrong.weight[wrong.names.index("t_c")] < 0.05


def test_times_that_lie_together_share_a_rung(digits):
    found = noise_ladder(digits.X, {"collapse": 0.61, "condensation": 0.63}, shape=digits.shape)
    assert found.names == ("", "t_cond, t_c", "")


def test_a_network_is_blank_at_noise_that_it_does_not_know(digits):
    class Mean:
        def score(self, x, t):
            return -x / t  # the denoiser of data that are all 0

        def jacobian(self, x, t):
            raise NotImplementedError

    found = noise_ladder(digits.X, TIMES, shape=digits.shape, network=Mean(), t_range=(0.1, 1.0))
    values = found.denoised["network"]
    known = (found.t >= 0.1) & (found.t <= 1.0)
    assert np.isnan(values[~known]).all()
    np.testing.assert_allclose(values[known], 0, atol=1e-12)
    figure = ladder_figure(found)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles.count("not trained") == int((~known).sum())


def test_files(tmp_path, digits, ladder):
    import xarray as xr

    files = write_ladder(ladder, tmp_path)
    assert [path.name for path in files] == ["ladder.png", "ladder.nc"]
    with xr.open_dataset(tmp_path / "ladder.nc") as data:
        np.testing.assert_array_equal(data["denoised_ideal"].values, ladder.denoised["ideal"])
        assert data.attrs["row"] == ladder.row
    rows = noise_ladder(digits.X, TIMES)  # of 64 numbers, no image
    assert write_ladder(rows, tmp_path / "none") == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times": {"onset": 1.0}}, "times"),
        ({"times": {"collapse": -1.0}}, "times"),
        ({"times": {"collapse": 1.0, "dawn": 2.0}}, "times"),
        ({"row": 600}, "row"),
        ({"shape": (9, 9)}, "shape"),
        ({"X": np.zeros(5)}, "X"),
    ],
)
def test_bad_input(digits, change, message):
    arguments = {"X": digits.X, "times": TIMES} | change
    with pytest.raises(DomainError, match=f"^{message}"):
        noise_ladder(arguments.pop("X"), arguments.pop("times"), **arguments)


def test_fitted_gaussian_with_fewer_points_than_numbers():
    X = torch.randn(5, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.randn(3, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    face = FittedGaussian(X)
    covariance = torch.cov(X.T, correction=0) + 0.3 * torch.eye(9, dtype=torch.float64)
    expected = -torch.linalg.solve(covariance, (x - X.mean(dim=0)).T).T
    torch.testing.assert_close(face.score(x, 0.3), expected)
    torch.testing.assert_close((face.denoise(x, 0.3) - x) / 0.3, expected)
    torch.testing.assert_close(face.jacobian(x, 0.3)[1], -torch.linalg.inv(covariance))


def test_blank_tiles_and_limits_of_grey():
    images = np.array([[0.0, 1.0, 2.0, 3.0], [np.nan] * 4])
    figure = image_pairs([[("row", images, ["a", "b"])]], (2, 2), "title", limits=(0.0, 2.0))
    shown = [axis.get_images() for axis in figure.axes]
    assert [len(found) for found in shown] == [1, 0]
    np.testing.assert_allclose(shown[0][0].get_array(), [[0, 0.5], [1, 1]])
