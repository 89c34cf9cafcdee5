"""Training times predicted from pilots: the interval's coverage, a larger set held out, the command, and the growth measured."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from numerics.domain import DomainError
from validation.experiments import network_training_time
from validation.experiments.network_training_time.evaluation import growth_slopes
from validation.training import NoiseLevels, TrainingConfig
from validation.window import default_sizes, extrapolate_time, pilot_curves, predict_window, training_times
from validation.window.scaling import DRIFT, PRIOR

NET = {"kind": "mlp", "width": 96, "blocks": 1}
CONFIG = TrainingConfig(
    steps=1000, batch=32, learning_rate=5e-3, warmup=10, ema=0.95, noise=NoiseLevels(0.1, 2.0), precision="float32"
)


def manifold(P=600, N=32, seed=0):
    """Points near a subspace of four dimensions."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(P, 4, generator=g) @ torch.randn(4, N, generator=g) / 2 + 0.3 * torch.randn(P, N, generator=g)


# --- the power law --------------------------------------------------------------------------------------------------


def test_intervals_cover_at_their_rate():
    """500 draws from the model itself, two pilots of two sizes: 4 standard errors of a coverage of 0.9 are 0.054."""
    rng = np.random.default_rng(0)
    sizes, P = np.repeat([100.0, 200.0], 2), 1600.0
    hit = wrong = 0
    for _ in range(500):
        a, drift = 1 + PRIOR * rng.standard_normal(), DRIFT * rng.standard_normal()
        log_tau = 2 + a * np.log(sizes) + 0.15 * rng.standard_normal(4)
        truth = np.exp(2 + a * np.log(P) + drift * np.log(8) + 0.15 * rng.standard_normal())
        found = extrapolate_time(sizes, np.exp(log_tau), P, exponent=1.0)
        hit += found.low <= truth <= found.high
        other = extrapolate_time(sizes, np.exp(log_tau), P, exponent=0.0, fixed=True)  # negative control
        wrong += other.low <= truth <= other.high
    assert abs(hit / 500 - 0.9) < 0.06
    assert wrong / 500 < 0.7


def test_a_power_law_without_scatter_is_continued():
    found = extrapolate_time([50, 50, 100, 100, 200, 200], [5, 5, 10, 10, 20, 20], 800, exponent=1.0)
    assert found.value == pytest.approx(80, rel=1e-6)
    fixed = extrapolate_time([50, 50], [5, 5], 100, exponent=2.0, fixed=True)
    assert fixed.value == pytest.approx(20, rel=1e-6)
    assert fixed.exponent_error < 1e-5
    assert found.low < 80 < found.high


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([1, 1], [1, -1], 10), {}, "times"),
        (([1, 1, 2], [1, 1], 10), {}, "times"),
        (([1, 2], [1, 2], 10), {}, "replicas"),
        (([2, 2], [1, 2], 10), {}, "sizes"),
        (([1, 1, 2], [1, 1, 2], 0), {}, "P"),
        (([1, 1, 2], [1, 1, 2], 10), {"coverage": 1.0}, "coverage"),
    ],
)
def test_bad_input_is_named(arguments, options, message):
    with pytest.raises(DomainError, match=message):
        extrapolate_time(*arguments, exponent=1.0, **options)


# --- networks -----------------------------------------------------------------------------------------------------------


def test_the_time_of_a_larger_set_is_inside_the_interval():
    """Pilots of 10 and 20 points against a run of 40 that they do not see."""
    X = manifold()
    found = predict_window(X[100:], X[:100], NET, CONFIG, P=40, sizes=[10, 20], levels=3)
    level = int(found["level"])
    assert found.attrs["pilot_steps"] < 500
    at = found.isel(t=level)
    measured = pilot_curves([X[100:140]], X[:100], NET, CONFIG, levels=3, checks=20, stop_early=True)
    tau = training_times(measured)["tau_mem"].values[0, level]
    assert float(at["tau_mem_low"]) < tau < float(at["tau_mem_high"])
    assert float(at["tau_mem_high"]) < 12 * float(at["tau_mem_low"])
    assert tau > 1.5 * at["pilot_tau_mem"].values.max()  # not inside by never moving


def test_what_cannot_be_predicted_is_said():
    X = manifold()
    with pytest.raises(DomainError, match="steps"):
        predict_window(X[100:], X[:100], NET, TrainingConfig(steps=5, batch=8), P=64, sizes=[16, 32])
    with pytest.raises(DomainError, match="sizes"):
        predict_window(X[100:], X[:100], NET, CONFIG, P=64, sizes=[16])
    with pytest.raises(DomainError, match="sizes"):
        predict_window(X[100:], X[:100], NET, CONFIG, P=64, sizes=[32, 64])
    with pytest.raises(DomainError, match="replicas"):
        predict_window(X[100:], X[:100], NET, CONFIG, P=64, sizes=[16, 32], replicas=1)
    assert default_sizes(1600) == (100, 200)
    with pytest.raises(DomainError, match="P = 100"):
        default_sizes(100)


def test_the_command_predicts_and_writes(geomem, tmp_path):
    np.save(tmp_path / "x.npy", manifold(300).numpy())
    common = ["window", "x.npy", "-P", 64, "--width", 64, "--blocks", 1, "--batch", 32, "--sigma", "0.1,2"]
    more = ["--learning-rate", 0.005, "--steps", 600, "--out", "out"]
    run = geomem(*common, *more, "--sizes", "8,16")
    assert run.returncode == 0, run.stderr
    assert "stop before step" in run.stdout
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"window.csv", "window-pilots.csv", "window.png"}
    for bad, name in ((["--sizes", "16,100"], "sizes"), (["--coverage", 1], "coverage"), (["--sigma", "1"], "sigma")):
        run = geomem(*common, *bad)
        assert run.returncode == 2
        assert name in run.stderr


# --- the experiment ---------------------------------------------------------------------------------------------------


def test_slopes_of_known_power_laws():
    P, replica, width = np.repeat([32, 64, 128], 2), np.tile([0, 1], 3), np.array([50, 100])
    values = 3 * P[None] ** 1.5 / width[:, None]
    coords = {"P": ("member", P), "replica": ("member", replica), "width": ("stack", width)}
    tau = xr.DataArray(values, dims=("stack", "member"), coords=coords)
    np.testing.assert_allclose(growth_slopes(tau, "P"), 1.5)
    np.testing.assert_allclose(growth_slopes(tau, "width"), -1)
    assert len(growth_slopes(tau, "P")) == 4
    values[0, 2:] = np.nan  # one series has a single time, which is no slope
    assert len(growth_slopes(tau.copy(data=values), "P")) == 2


def test_the_experiment_runs_resumes_and_tells_a_wrong_growth(tmp_path):
    preset = network_training_time.Preset(
        "tiny", (8, 16), (24, 48), (("adam", 6e-3),), 60, 2, levels=2, level=0, samples=0, batch=16
    )
    wrong = (("tau_learn", "P", 30.0),)
    first = network_training_time.run(preset, out=tmp_path)
    assert {row.quantity for row in first.rows} == {
        f"{tau} a doubling of {against}" for tau in ("tau_mem", "tau_learn") for against in ("P", "width")
    } | {"tau_gen a doubling of P"}
    assert float(first.curves["tau_learn"].min()) > 0
    again = network_training_time.run(preset, out=tmp_path, growths=wrong)  # from the finished stacks
    xr.testing.assert_equal(first.curves, again.curves)
    assert str(again.rows[0].outcome) == "disagree"
    assert (tmp_path / "network_training_time.png").stat().st_size > 10_000
    with pytest.raises(DomainError, match="network"):
        network_training_time.run(preset, network="forest")


def test_lower_variance_is_memorised_first_in_training_time(tmp_path):
    """Every pair of subspaces in the order of the theory; with variances exchanged the rows refuse it (negative control)."""
    preset = network_training_time.DirectionsPreset(
        "tiny",
        (24, 48),
        (1.0, 0.2),
        4,
        5,
        {"kind": "mlp", "width": 96, "blocks": 1},
        (("adam", 4e-3),),
        500,
        t=(0.02, 0.06),
        checks=16,
    )
    result = network_training_time.directions(preset, out=tmp_path)
    exponent, order = (row.verdict for row in result.rows)
    assert 0.3 < exponent.measured < 1.3
    assert (order.measured, order.outcome.value) == (1.0, "agree")
    assert (tmp_path / "training_directions.png").stat().st_size > 10_000
    assert result.curves["tau_mem"].dims == ("optimizer", "member", "subspace", "t")
    exchanged = result.curves.assign_coords(subspace=[0.2, 1.0])
    exponent, order = (row.verdict for row in network_training_time.direction_rows(exchanged))
    assert exponent.measured < 0
    assert (order.measured, order.outcome.value) == (0.0, "disagree")
    with pytest.raises(DomainError, match="variances"):
        network_training_time.directions(replace(preset, variances=(1.0,)))
