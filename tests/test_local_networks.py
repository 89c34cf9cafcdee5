"""Networks beside local scores: probes against networks whose locality is known, and the experiment from end to end."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from numerics.domain import DomainError
from theory import StationaryField
from validation.experiments.local_networks import PRESETS, run
from validation.experiments.local_networks.experiment import nearest_kind
from validation.experiments.local_networks.probes import copied_patches, half_crossing, measure_locality
from validation.networks.unet import Attention
from validation.score.local import LocalScore
from validation.training import NoiseLevels

SIDE = 6
LEVELS = np.geomspace(0.01, 2, 4)


@pytest.fixture(scope="module")
def images():
    """Gaussian images, stationary on a torus of 12 x 12, of which a corner is taken."""
    power = StationaryField.power_law(2 * SIDE, exponent=2.0).power
    white = np.fft.fft2(np.random.default_rng(5).normal(size=(240, 2 * SIDE, 2 * SIDE)))
    return torch.from_numpy(np.fft.ifft2(white * np.sqrt(power)).real[:, None, :SIDE, :SIDE])


@pytest.fixture(scope="module")
def measured(images):
    """A network that is the local score of 3 x 3 patches of its 60 training images."""
    network = LocalScore(images[:60], 3, equivariant=False, dtype="float32")
    return measure_locality(
        network, images[:60], images[60:], LEVELS, widths=(1, 3, 5), points=12, losses=60, samples=24, steps=12,
        noise=NoiseLevels(0.02, 4.0), spectra=1,
    )  # fmt: skip


def test_a_local_score_is_found_to_be_one(measured):
    assert nearest_kind(measured) == "LS"
    assert (measured["best"].sel(kind="LS") == 3).all()
    assert float(measured["r2"].sel(kind="LS", width=3).min()) > 0.999
    assert float(measured["r2"].sel(kind="LS", width=1).min()) < 0.99  # another patch is told apart


def test_it_memorises_where_its_local_score_does(measured):
    network, local = (measured["memorised"].sel(score=s).item() for s in ("network", "LS"))
    assert network == pytest.approx(local, rel=1e-3)
    error = measured["memorised_error"].sel(score="LS").item()
    assert 0.01 < error < 1
    # patches collapse at less noise than images
    whole = measured["memorised"].sel(score="empirical").item()
    assert not whole < math.inf or math.log(whole / local) > 4 * error
    assert measured["ratio"].sel(score="network").values == pytest.approx(
        measured["ratio"].sel(score="LS").values, rel=1e-3
    )


def test_its_samples_are_made_of_training_patches_and_are_no_training_images(measured):
    pixels, patches, wide = measured["excess"].values
    assert pixels == 1.0  # every pixel is a training pixel
    assert patches > 5 * measured["excess_error"].sel(width=3).item()
    assert wide < 0.8
    control = measured[["control", "control_error"]]
    assert (abs(control["control"]) < 4.5 * control["control_error"]).all()


def test_its_jacobian_keeps_what_that_of_its_local_score_keeps(measured):
    kept = measured["kept"]
    assert (abs(kept.sel(score="network") - kept.sel(score="LS")) <= 1).all()
    assert (kept.sel(score="empirical") < kept.sel(score="LS")).any()


def test_copies_are_counted_in_proportion(images):
    """Half of the samples are training images, half others: an excess of one half."""
    samples = torch.cat([images[:20], images[200:220]])
    found = copied_patches(samples, images[:60], images[60:200], [3])
    assert abs(found["excess"].item() - 0.5) < 4 * found["excess_error"].item()
    none = copied_patches(images[200:], images[:60], images[60:200], [3])
    assert abs(none["excess"].item()) < 4 * none["excess_error"].item()


def test_ties_count_half():
    flat = torch.zeros(40, 1, 3, 3)
    assert copied_patches(flat[:4], flat[:20], flat, [1, 3])["excess"].values.tolist() == [0.0, 0.0]


def test_no_crossing_is_said():
    assert math.isnan(half_crossing(LEVELS, np.ones(5)))


def test_attention_is_softmax_over_places():
    torch.manual_seed(0)
    layer = Attention(8, 2)
    torch.nn.init.normal_(layer.out.weight)
    x = torch.randn(3, 8, 2, 5)
    ask = layer.ask(layer.norm(x)).reshape(3, 3, 2, 4, 10)
    q, k, v = ask[:, 0], ask[:, 1], ask[:, 2]
    weights = torch.softmax(torch.einsum("bhcq,bhck->bhqk", q, k) / 2.0, dim=-1)
    found = torch.einsum("bhqk,bhck->bhcq", weights, v).reshape(3, 8, 2, 5)
    assert torch.allclose(layer(x), x + layer.out(found), atol=1e-5)


@pytest.fixture(scope="module")
def tiny():
    quick = PRESETS["quick"]
    training = replace(quick.training, steps=12, warmup=4, batch=8)
    return replace(
        quick, name="tiny", network=quick.network | {"width": 8}, training=training, sizes=(16,), attention=(0, 1),
        widths=(1,), t=(0.1, 1.0), points=2, losses=8, samples=3, steps=3, spectra=1,
    )  # fmt: skip


def test_the_experiment_ends_with_rows_curves_and_figures(tiny, tmp_path):
    seen = []
    result = run(tiny, out=tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == 12
    assert sum("r^2" in row.quantity for row in result.rows) == 2
    names = {path.name for path in tmp_path.iterdir()}
    assert {f"local_networks{end}" for end in (".csv", ".nc", ".png", "_ratio.png", "_samples.png")} <= names
    once = replace(tiny, attention=(1,))
    again = run(once, out=tmp_path)  # from its checkpoint: no step is left to train
    xr.testing.assert_allclose(again.curves, result.curves.sel(attention=[1]))


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: run("huge"), "preset"),
        (lambda: run("quick", sizes=(100, 100)), "sizes"),
        (lambda: run("quick", sizes=(5000,)), "sizes"),
        (lambda: run("quick", pool=3), "pool"),
        (
            lambda: copied_patches(torch.zeros(2, 1, 3, 3), torch.zeros(9, 1, 3, 3), torch.zeros(5, 1, 3, 3), [1]),
            "fresh",
        ),
        (
            lambda: copied_patches(torch.zeros(2, 1, 4, 3), torch.zeros(9, 1, 3, 3), torch.zeros(16, 1, 3, 3), [1]),
            "samples",
        ),
    ],
)
def test_bad_input_is_named(call, argument):
    with pytest.raises(DomainError) as caught:
        call()
    assert caught.value.argument == argument
