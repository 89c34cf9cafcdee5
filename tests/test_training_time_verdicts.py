"""Verdicts on training times rest on what was measured: bounds are no times, orders are counted exactly, results are remade."""

import csv
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import validation.experiments.network_training_time  # by its full name, as commands in provenance have it
from numerics.domain import DomainError
from numerics.store import load_dataset
from validation.experiments import network_training_time, training_time
from validation.experiments.network_training_time import Preset, direction_rows, evaluate, held_out_size
from validation.experiments.shared import named
from validation.experiments.training_time.experiment import _orders
from validation.experiments.training_time.spectra import distance, edges
from validation.simulation import Prediction, judge_order
from validation.training import NoiseLevels, TrainingConfig, Watch
from validation.window import first_crossing, pilot_curves, report_lines, training_times

RESULTS = Path(__file__).parents[1] / "docs/results/network_training_time"
TINY = Preset("by value", (8, 16), (24, 48), (("adam", 6e-3),), 60, 2, levels=2, level=0, samples=0, batch=16)
NAMES = [f"{tau} a doubling of {against}" for tau, against, _ in network_training_time.GROWTHS]


def stacked(
    learn, memorise, checks=(0, 10, 20, 40, 80, 160, 320, 640, 1280, 2560), members=((8, 0), (8, 1), (16, 0), (16, 1))
):
    """Power-law losses of two widths that are half-way learned at `learn` and memorised at `memorise`, (stack, member)."""
    steps = np.array(checks, float)
    shape = (len(learn), len(steps), len(members), 1)
    held, train = np.ones(shape), np.ones(shape)
    for s, m in np.ndindex(np.shape(learn)):
        with np.errstate(divide="ignore"):
            held[s, 1:, m, 0] = np.clip((steps[1:] / learn[s][m]) ** -1.0 / 10, 0.01, 1)
            train[s, 1:, m, 0] = np.clip((steps[1:] / memorise[s][m]) ** -1.0 / 200, 1e-4, 1)
    axes = ("stack", "step", "member", "t")
    coords = {
        "step": list(checks), "member": np.arange(len(members)), "t": [0.1], "sigma": ("t", [0.1**0.5]),
        "stack": ["adam, width 24", "adam, width 48"], "width": ("stack", [24, 48]), "optimizer": ("stack", ["adam"] * 2),
        "P": ("member", [P for P, _ in members]), "replica": ("member", [r for _, r in members]),
    }  # fmt: skip
    return xr.Dataset({"held_out": (axes, held), "train": (axes, train)}, coords)


# --- what is passed at the first check --------------------------------------------------------------------------------


def test_a_time_at_the_first_check_is_a_bound_and_no_growth():
    """All networks have learned half at the first check: no growth of 1 +- 0, but an inconclusive row that says so."""
    found = stacked(np.full((2, 4), 5.0), 400 * np.array([[1, 1.1, 2, 2.2], [0.5, 0.55, 1, 1.1]]))
    curves, rows = evaluate(found, TINY)
    rows = dict(zip(NAMES, rows, strict=True))
    assert curves["tau_learn_early"].values.all()
    for name in ("tau_learn a doubling of P", "tau_learn a doubling of width"):
        assert rows[name].outcome.value == "inconclusive"
        assert np.isnan(rows[name].verdict.error)
        assert "8 of 8 times are before the first check (10 steps)" in rows[name].note
    assert rows["tau_mem a doubling of P"].verdict.measured == pytest.approx(2, rel=1e-6)
    assert not curves["tau_mem_early"].values.any()


def test_slopes_without_spread_measure_no_error():
    """The same slope of every network is a sign of coarse checks: inconclusive, not a thousand sigmas."""
    found = stacked(np.full((2, 4), 100.0), np.full((2, 4), 400.0))
    for row in evaluate(found, TINY)[1]:
        assert row.outcome.value == "inconclusive"
        assert not row.verdict.error > 0


def test_times_seen_by_denser_checks_are_judged():
    """What the first check hides a denser series of checks shows, and the verdict follows."""
    learn = 8 * np.array([[1.0, 1.02, 1.01, 0.99], [0.5, 0.505, 0.498, 0.502]])
    memorise = 400 * np.array([[1, 1.1, 2, 2.2], [0.5, 0.55, 1, 1.1]])
    coarse = evaluate(stacked(learn, memorise), TINY)[1]
    dense = evaluate(stacked(learn, memorise, checks=(0, *range(1, 40), 80, 160, 320, 640, 1280, 2560)), TINY)[1]
    at = NAMES.index("tau_learn a doubling of width")
    assert coarse[at].outcome.value == "inconclusive"
    assert (dense[at].outcome.value, "before" in dense[at].note) == ("agree", False)


def test_the_level_of_learning_is_common_to_all_widths():
    """A wide network that gets further is not asked for more: tau_learn is the first step below one level for all."""
    found = stacked(np.full((2, 4), 100.0), np.full((2, 4), 400.0))
    further = found["held_out"].where(found["width"] == 24, np.minimum(found["held_out"], found["held_out"] ** 1.5))
    curves, _ = evaluate(found.assign(held_out=further.transpose(*found["held_out"].dims)), TINY)
    tau = curves["tau_learn"].isel(t=0)
    assert (tau.sel(stack="adam, width 48") < tau.sel(stack="adam, width 24")).all()


def test_times_and_report_tell_a_bound():
    steps = np.array([0, 20, 40, 80, 160])
    assert first_crossing(steps, np.array([1, 0.4, 0.3, 0.2, 0.1]), 0.5) == (20, 0, 20)
    axes = ("step", "member", "t")
    losses = {"held_out": np.array([1, 0.4, 0.4, 0.4, 0.5]), "train": np.array([1, 0.4, 0.3, 0.2, 0.1])}
    coords = {"step": steps, "t": [0.1], "P": ("member", [10])}
    times = training_times(xr.Dataset({k: (axes, v[:, None, None]) for k, v in losses.items()}, coords))
    assert (bool(times["tau_gen_early"]), bool(times["tau_mem_early"])) == (True, False)
    lines = report_lines(times, 160)
    assert "<= 20" in lines[2]
    assert "> x" in lines[2]
    assert lines[-1].startswith("<=")
    late = training_times(
        xr.Dataset({k: (axes, v[1:, None, None]) for k, v in losses.items()}, coords | {"step": steps[1:]})
    )
    assert bool(late["tau_gen_early"])  # also without step 0


def test_checks_can_be_denser_and_earlier_and_are_by_default_what_they_were():
    X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    noise = NoiseLevels(0.1, 2.0)
    usual, early = Watch(X), Watch(X, first=1, checks=30)
    for watch in (usual, early):
        watch.begin([X], noise, 1000, None)
    assert usual.steps == [0, *np.unique(np.rint(np.geomspace(10, 1000, 24))).astype(int).tolist()]
    assert early.steps[:5] == [0, 1, 2, 3, 4]
    assert early.steps[-1] == 1000
    config = TrainingConfig(steps=12, batch=4, warmup=1, noise=noise, precision="float32")
    curves = pilot_curves(
        [X[:8]], X[8:], {"kind": "mlp", "width": 8, "blocks": 1}, config, checks=12, first=3, levels=2
    )
    assert curves["step"].values[:3].tolist() == [0, 3, 4]
    with pytest.raises(DomainError, match="first"):
        Watch(X, first=0)
    with pytest.raises(DomainError, match="first"):
        pilot_curves([X[:8]], X[8:], {"kind": "mlp", "width": 8, "blocks": 1}, config, first=13)


# --- orders ---------------------------------------------------------------------------------------------------------------


def subspaces(order, networks):
    """tau_mem of three subspaces in the given ranks, or for "mixed" one network in two reversed."""
    ranks = {"right": (3, 2, 1), "reverse": (1, 2, 3)}
    values = np.empty((1, networks, 3, 2))
    for m in range(networks):
        which = ("right", "reverse")[m % 2] if order == "mixed" else order
        values[0, m] = 100 * np.array(ranks[which])[:, None] * (1 + 0.01 * m)
    axes = ("optimizer", "member", "subspace", "t")
    return xr.Dataset(
        {"tau_mem": (axes, values)},
        {"optimizer": ["adam"], "subspace": [1.0, 0.3, 0.09], "t": [0.01, 0.1], "step": [0, 10, 1000]},
    )


@pytest.mark.parametrize(
    ("order", "networks", "outcome"),
    [("right", 9, "agree"), ("reverse", 9, "disagree"), ("mixed", 9, "inconclusive"), ("right", 5, "inconclusive")],
)
def test_every_verdict_on_the_order_can_be_reached(order, networks, outcome):
    row = direction_rows(subspaces(order, networks))[1]
    assert row.outcome.value == outcome
    assert "p = " in row.note


def test_the_order_is_counted_exactly():
    """p of k of n against the sum of binomial terms; a share below the tolerance is no agreement, however significant."""
    order = Prediction("order", 1.0, None, 0.1)
    assert judge_order(order, 10, 0, 10).outcome.value == "agree"  # 2^-10 = 0.00098 < 0.00135
    assert judge_order(order, 9, 0, 9).outcome.value == "inconclusive"  # 0.00195
    assert judge_order(order, 9, 0, 9, chance=1 / 3).outcome.value == "agree"
    assert judge_order(order, 80, 0, 100).outcome.value == "inconclusive"  # p = 6e-10, but a share of 0.8
    assert judge_order(order, 0, 0, 0).outcome.value == "inconclusive"
    rng = np.random.default_rng(
        0
    )  # false alarms of chance, both ways: 4 errors above 2 x 0.00135 in 20 000 draws of 20
    right = rng.binomial(20, 0.5, 20_000)
    alarms = sum(judge_order(order, int(k), int(20 - k), 20).outcome.value != "inconclusive" for k in right)
    assert alarms <= 0.0027 * 20_000 + 4 * (0.0027 * 20_000) ** 0.5
    for bad in ((3, 3, 5), (-1, 0, 5)):
        with pytest.raises(DomainError):
            judge_order(order, *bad)
    with pytest.raises(DomainError, match="chance"):
        judge_order(order, 1, 0, 1, chance=1.0)


def test_subspaces_passed_at_the_first_check_have_no_order():
    found = subspaces("right", 9)
    early = found.assign(tau_mem=found["tau_mem"].clip(max=10))
    exponent, order = direction_rows(early)
    assert exponent.outcome.value == order.outcome.value == "inconclusive"
    assert np.isnan(order.verdict.measured)


def test_the_order_of_random_features_is_judged_and_a_wrong_theory_refused():
    """Twelve draws of N = 16 in the order of the limit; with the theory's variances exchanged both rows disagree."""
    case, preset = training_time.CASES[1], training_time.Preset("tiny", (12, 14, 16), (4, 4, 4), ())
    result = training_time.run(preset, seed=3, cases=[case], counted=None, law=None)
    for name in ("draws in which r = 1.6 is learned first", "draws in which r = 0.4 is memorised first"):
        assert result.row(name, case.label).outcome.value == "agree"
    x = np.log([1.0, 10.0, 100.0, 1000.0])
    gap = {"gap 0.4": np.array([0, 0.6, 1, 1.0]), "gap 1.6": np.array([0, 0.1, 0.6, 1.0])}
    distances = {"distance 0.4": np.array([1, 0.9, 0.1, 0.0]), "distance 1.6": np.array([1, 0.4, 0.1, 0.0])}
    expected = gap | distances
    found = [{name: np.repeat(curve[None], 12, axis=0) for name, curve in expected.items()}]
    exchanged = {
        name.replace(*pair): curve for name, curve in expected.items() for pair in [("0.4", "1.6")] if "0.4" in name
    }
    exchanged |= {name.replace("1.6", "0.4"): curve for name, curve in expected.items() if "1.6" in name}
    assert {r.outcome.value for r in _orders("", ["0.4", "1.6"], x, expected, found, [16])} == {"agree"}
    assert {r.outcome.value for r in _orders("", ["0.4", "1.6"], x, exchanged, found, [16])} == {"disagree"}


# --- edges -----------------------------------------------------------------------------------------------------------------


class Semicircle:
    """The limit of symmetric Gaussian matrices, as `RandomFeatures` gives its own."""

    psi_p, support, masses = 1, np.array([[-2.0, 2.0]]), np.array([1.0])

    def density(self, x):
        return np.sqrt(np.clip(4 - np.square(x), 0, None)) / (2 * np.pi)


def symmetric(N, rng):
    g = rng.standard_normal((N, N))
    return np.linalg.eigvalsh((g + g.T) / np.sqrt(2 * N))


def test_edges_of_symmetric_gaussian_matrices():
    """400 matrices of N = 50: within 4 errors of +-2 once the mean of Tracy and Widom's law is off, 20 errors away before."""
    rng = np.random.default_rng(0)
    values = np.array([symmetric(50, rng)[::-1] for _ in range(400)])
    for (_, value, (found,)), raw in zip(edges(Semicircle(), [values], [50]), values[:, [0, -1]].T, strict=True):
        assert abs(found.value - value) < 4 * found.error + 0.01  # the next correction, of order 1/N
        assert abs(raw.mean() - value) > 20 * found.error  # negative control


def test_distance_of_laws():
    rng = np.random.default_rng(1)
    near, far = (distance(Semicircle(), [scale * symmetric(200, rng) for _ in range(4)]).value for scale in (1.0, 1.2))
    assert near < 0.02  # some 2/N
    assert far > 0.05  # of another law: max |F(x) - F(x/1.2)| = 0.056


# --- how results were made -------------------------------------------------------------------------------------------------


def test_a_command_can_be_pasted_and_tells_what_was_run(tmp_path):
    unet = replace(TINY, widths=(4,), steps=6, checks=4)
    X = torch.rand(80, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    np.save(tmp_path / "x.npy", X.numpy())
    result = network_training_time.run(unet, data=tmp_path / "x.npy", pool=2, network="unet")
    assert result.provenance["preset"]["network"]["kind"] == "unet"
    call = result.provenance["command"]
    assert "pool=2" in call
    assert "network='unet'" in call
    preset = call[call.index("preset=") + len("preset=") : call.index(", seed=")]
    assert eval(preset, {"validation": validation}) == unet
    again = eval(call, {"validation": validation})
    xr.testing.assert_equal(again.curves, result.curves)
    assert named(network_training_time.PRESETS["full"], network_training_time.PRESETS) == "full"


def test_stacks_of_other_arguments_are_refused(tmp_path):
    network_training_time.run(replace(TINY, steps=6), out=tmp_path)
    with pytest.raises(DomainError, match="stacks of these arguments"):
        network_training_time.run(replace(TINY, steps=8), out=tmp_path)


STORED = sorted(path.relative_to(RESULTS) for path in RESULTS.glob("**/network_training_time.nc"))


@pytest.mark.parametrize("path", STORED, ids=str)
def test_stored_verdicts_are_those_of_the_stored_curves(path):
    curves = load_dataset(RESULTS / path)
    text = [line for line in (RESULTS / path).with_suffix(".csv").read_text().splitlines() if not line.startswith("#")]
    stored = list(csv.DictReader(text))
    asked = {row["quantity"] for row in stored}
    growths = [growth for name, growth in zip(NAMES, network_training_time.GROWTHS, strict=True) if name in asked]
    rows = evaluate(curves, Preset(**json.loads(curves.attrs["preset"])), growths)[1]
    assert [(row.quantity, row.model, row.outcome.value, row.note) for row in rows] == [
        (row["quantity"], row["model"], row["verdict"], row["note"]) for row in stored
    ]
    for row, cells in zip(rows, stored, strict=True):
        assert float(cells["measured"] or "nan") == pytest.approx(row.verdict.measured, rel=1e-6, nan_ok=True)
    assert curves.attrs["command"].startswith("validation.experiments.network_training_time.run(")


@pytest.mark.parametrize("path", ["directions", "directions/full"])
def test_stored_orders_are_those_of_the_stored_curves(path):
    curves = load_dataset(RESULTS / path / "training_directions.nc")
    text = (RESULTS / path / "training_directions.csv").read_text().splitlines()
    stored = list(csv.DictReader(line for line in text if not line.startswith("#")))
    found = [(row.quantity, row.model, row.outcome.value, row.note) for row in direction_rows(curves)]
    assert found == [(row["quantity"], row["model"], row["verdict"], row["note"]) for row in stored]


def test_the_full_preset_of_random_features_goes_to_four_hundred():
    assert training_time.PRESETS["full"].sizes == (50, 100, 200, 400)


def test_presets_see_the_start_of_training():
    for preset in network_training_time.PRESETS.values():
        assert preset.first == 1
        assert preset.warmup <= 2
    assert asdict(TINY)["first"] is None


def test_networks_that_have_diverged_do_not_set_the_common_level():
    """Two of six U-Nets with SGD: the others still have a learning time."""
    stored = load_dataset(RESULTS / "unets_sgd/to4096.nc")
    curves, _ = evaluate(stored, Preset(**json.loads(stored.attrs["preset"])))
    tau = curves["tau_learn"].isel(stack=0, t=0)
    assert np.isnan(curves["train"].isel(stack=0, t=0, step=-1)).values.tolist() == [
        False,
        False,
        False,
        True,
        True,
        False,
    ]
    assert np.isfinite(tau).values.tolist() == [True, True, True, False, False, True]


@pytest.mark.parametrize(
    ("file", "pilots", "target", "memorised", "factor"),
    [
        ("network_training_time.nc", (32, 64), 128, 24, 1.21),
        ("unets/network_training_time.nc", (32, 64), 128, 22, 1.26),
        ("to4096/network_training_time.nc", (128, 256), 512, 6, 1.64),
        ("to4096_sgd/network_training_time.nc", (128, 256), 512, 4, 1.25),
    ],
)
def test_the_larger_set_held_out_lies_inside_the_interval(file, pilots, target, memorised, factor):
    """What docs/stopping.md says; networks that have not memorised it in their run had intervals that reach beyond its end."""
    found = held_out_size(load_dataset(RESULTS / file), pilots, target)
    measured, reached = found["measured"], np.isfinite(found["measured"])
    assert int(reached.sum()) == memorised
    assert bool(((measured >= found["low"]) & (measured <= found["high"])).where(reached, True).all())
    assert float(np.exp(np.log(measured / found["predicted"]).mean())) == pytest.approx(factor, abs=0.005)
    assert bool(np.broadcast_to(found["high"] > found.attrs["last"], reached.T.shape)[~reached.T.values].all())
