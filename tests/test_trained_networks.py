"""Convergence labels, departures as excess loss, and the headline experiment from training to figures, at toy size."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

from numerics.domain import DomainError
from validation.audit.networks import audit_model, report_lines
from validation.cli import app
from validation.experiments.losing_dimensions.experiment import CASES
from validation.experiments.shared.network_probes import Departures
from validation.experiments.trained_networks import experiment as trained_networks
from validation.experiments.trained_nonlinear import experiment as trained_nonlinear
from validation.score.empirical_score import EmpiricalScore
from validation.spectra.score_functions import GaussianScore
from validation.spectra.subspace_probes import BlockData
from validation.training import TrainingConfig
from validation.training.denoising_loss import convergence, denoising_losses
from validation.training.source import split

DATA = BlockData((2, 2), (1.0, 0.01))
X, FRESH = DATA.sample(60, (0,)), DATA.sample(512, (1,))
T = [1e-4, 0.03, 30.0]


def test_losses_of_the_exact_score_are_the_posterior_variance():
    """E|D - xi|^2/(N t) = mean of r/(r + t); 5 standard errors: false alarm below 1e-6."""
    fresh = DATA.sample(20_000, (5,))
    noise = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for t in T:
        losses = denoising_losses(DATA.exact(), fresh, noise, t)
        expected = float(np.mean(DATA.spectrum / (DATA.spectrum + t)))
        assert abs(losses.mean().item() - expected) < 5 * losses.std().item() / math.sqrt(20_000)


def test_the_references_carry_their_own_labels():
    exact = DATA.exact()
    memory = convergence(EmpiricalScore(X, dtype="float64"), X, T, fresh=FRESH, exact=exact)
    assert list(memory["label"].values) == ["memorising", "memorising", "both"]
    np.testing.assert_allclose(memory["excess"].sel(where="training"), 1, rtol=1e-6)
    truth = convergence(exact, X, T, fresh=FRESH, exact=exact)
    assert list(truth["label"].values) == ["generalising", "generalising", "both"]
    np.testing.assert_allclose(truth["excess"].sel(where="fresh"), 1, rtol=1e-9)
    np.testing.assert_allclose(truth["share"][:2], 1, rtol=1e-6)
    np.testing.assert_array_equal(memory["empirical"], truth["empirical"])  # common random numbers
    ignorant = convergence(lambda x, t: 0 * x, X, T, fresh=FRESH, exact=exact)
    assert list(ignorant["label"].values[1:]) == ["unconverged", "unconverged"]

    def half(x, t):  # half way in loss is one over root two of the way in score
        return exact.score(x, t) + (memory_score.score(x, t) - exact.score(x, t)) * 0.5

    memory_score = EmpiricalScore(X, dtype="float64")
    assert convergence(half, X, T, fresh=FRESH, exact=exact)["label"].values[1] == "between"


def test_convergence_without_a_population():
    found = convergence(EmpiricalScore(X, dtype="float64"), X, T)
    assert list(found["label"].values) == ["memorising"] * 3
    assert np.isnan(found["population"]).all()
    with pytest.raises(DomainError, match="noise"):
        denoising_losses(DATA.exact(), X, X[:3], 0.1)


def test_departure_is_the_excess_loss_by_subspace():
    """B_k for a scaled score against its closed form; the sum over subspaces is the excess loss (5 standard errors)."""
    exact, fresh = DATA.exact(), DATA.sample(20_000, (6,))
    wrong = GaussianScore([1.0, 1.0, 0.02, 0.02])
    watch = Departures(X, fresh, exact, [0.03], DATA.blocks, points=20_000, seed=(0,))
    _, population = watch.of(wrong)[:, 0]
    t, r, other = 0.03, 0.01, 0.02
    assert abs(population[0]) < 1e-12
    expected = t * (1 / (t + other) - 1 / (t + r)) ** 2 * (t + r)
    assert abs(population[1] - expected) < 5 * expected * math.sqrt(2 / 40_000)
    noise = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    excess = denoising_losses(wrong, fresh, noise, t) - denoising_losses(exact, fresh, noise, t)
    assert abs(excess.mean().item() - population.mean()) < 5 * excess.std().item() / math.sqrt(20_000)


TOY = replace(
    trained_networks.PRESETS["quick"],
    name="toy",
    sizes=(50, 200),
    replicas=2,
    network={"kind": "mlp", "width": 8, "blocks": 1},
    training=TrainingConfig(steps=20, batch=16, warmup=5),
    snapshots=(5, 20),
    levels=7,
    points=2,
    losses=32,
    cases=(CASES[2],),
)


@pytest.mark.slow
def test_experiment_resumes_from_its_checkpoints_with_the_same_numbers(tmp_path):
    first = trained_networks.run(TOY, out=tmp_path / "a")
    assert {p.name for p in (tmp_path / "a").glob("*.png")} == {
        "trained_networks.png",
        "trained_networks_departure.png",
        "trained_networks_convergence.png",
        "trained_networks_frames.png",
    }
    (tmp_path / "a" / "checkpoints" / "toy-0.09-seed0-step20.safetensors").unlink()
    again = trained_networks.run(TOY, out=tmp_path / "a")
    np.testing.assert_array_equal(first.curves["departure"].values, again.curves["departure"].values)
    np.testing.assert_array_equal(first.curves["network_value"].values, again.curves["network_value"].values)
    assert first.curves["departure"].dims == ("case", "P", "replica", "step", "reference", "t", "subspace")
    row = first.row(
        "network's eigenvalue at t = 0.01, high variance, against the population", f"{CASES[2].label}, P = 50"
    )
    assert "unconverged" in row.note
    assert math.isnan(row.verdict.measured)  # not compared


def test_train_and_audit_commands(tmp_path):
    path = tmp_path / "model.safetensors"
    runner = CliRunner()
    small = ["--steps", "5", "--batch", "8", "--width", "8", "--blocks", "1", "--out", str(path)]
    done = runner.invoke(app, ["train", "linear", "-P", "20,40", *small])
    assert done.exit_code == 0, done.output
    assert "P = 40" in done.output
    again = runner.invoke(app, ["audit", "--model", str(path), "--probes", "8", "--out", str(tmp_path / "audit")])
    assert again.exit_code == 0, again.output
    assert (tmp_path / "audit" / "model-P20.csv").exists()
    (P, losses), _ = audit_model(path, t=[0.01], points=8)
    assert "population" in report_lines(P, losses)[1]  # exactly known here
    assert P == 20
    assert float(losses["empirical"].sel(where="training")[0]) < 1e-6
    refused = runner.invoke(app, ["train", "linear", "-P", "2000000", *small])
    assert isinstance(refused.exception, DomainError)
    refused = runner.invoke(app, ["train", "linear", "-P", "30", *small])  # the checkpoint is of another run
    assert isinstance(refused.exception, DomainError)


def test_train_takes_the_options_that_memorise(tmp_path):
    path = tmp_path / "model.safetensors"
    small = ["--steps", "3", "--batch", "8", "--width", "8", "--blocks", "1", "--out", str(path)]
    options = ["--activation", "bump", "--hidden", "12", "--optimizer", "muon"]
    done = CliRunner().invoke(app, ["train", "linear", "-P", "20", *small, *options])
    assert done.exit_code == 0, done.output
    with safe_open(path, "pt") as file:
        record = json.loads(file.metadata()["geomem"])
    assert record["network"] | {"hidden": 12, "activation": "bump"} == record["network"]
    assert record["training"]["optimizer"] == "muon"
    for bad in (["--optimizer", "lion"], ["--activation", "relu"], ["--network", "unet", "--activation", "bump"]):
        refused = CliRunner().invoke(app, ["train", "linear", "-P", "20", *small, *bad])
        assert isinstance(refused.exception, DomainError), bad


def test_split_keeps_points_back(tmp_path, monkeypatch):
    X, fresh, exact = split({"data": "digits", "seed": 3})
    other, _, _ = split({"data": "digits", "seed": 4})
    assert exact is None
    assert not torch.equal(X, other)
    assert torch.cdist(fresh.flatten(1), X.flatten(1)).min() > 0
    (tmp_path / "digits").mkdir()  # what a checkpoint was trained on does not depend on the folder it is read in
    monkeypatch.chdir(tmp_path)
    assert torch.equal(split({"data": "digits", "seed": 3})[0], X)


@pytest.mark.slow
def test_nonlinear_study_runs_from_training_to_figures(tmp_path):
    toy = replace(
        trained_nonlinear.PRESETS["quick"],
        name="toy",
        sizes=(50, 200),
        replicas=2,
        network={"kind": "mlp", "width": 8, "blocks": 1},
        training=TrainingConfig(steps=10, batch=16, warmup=5),
        control=2000,
        levels=6,
        points=2,
        losses=32,
    )
    result = trained_nonlinear.run(toy, out=tmp_path)
    assert (tmp_path / "trained_nonlinear.png").exists()
    assert len(result.rows) == 2 * 2 * 2 * 2 * 2
    assert result.curves["network"].dims == ("activation", "P", "replica", "kind", "t", "direction")
    lowest = result.curves["control"].sel(kind="fresh").values[..., -1, -toy.D :]  # at t = 10 all is noise
    assert (lowest > 0.5).all()
    collapsed = [row for row in result.rows if "the control has collapsed" in row.note]
    assert all(math.isnan(row.verdict.measured) for row in collapsed)
