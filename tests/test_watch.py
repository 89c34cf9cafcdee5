"""The watch over training: false alarms at their stated rate, detection, the checkpoint before, and resume to the byte."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from numerics.domain import DomainError
from validation.training import NoiseLevels, Trainer, TrainingConfig, Watch, points, train
from validation.training.checkpoint import read
from validation.training.departures import departure, least_p, reference_losses

NET = {"kind": "mlp", "width": 32, "blocks": 1}
CONFIG = TrainingConfig(steps=240, batch=32, learning_rate=3e-3, warmup=20, noise=NoiseLevels(0.05, 5.0))


def normal(P, N=12, seed=0):
    """Points of unequal variances, so that some are harder than others."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(P, N, generator=g, dtype=torch.float64) * torch.linspace(1.5, 0.2, N, dtype=torch.float64)


def lopsided(count, rng):
    """Losses of points of unequal difficulty, heavy-tailed, and the reference of each: no membership in them."""
    hard = rng.standard_normal(count)
    return np.exp(hard + 0.3 * rng.standard_t(3, count)), np.exp(hard + 0.2 * rng.standard_normal(count))


# --- the test itself ------------------------------------------------------------------------------------------------


def test_p_is_uniform_without_memory_whatever_the_losses():
    """Kolmogorov-Smirnov over 1000 draws of 40 and 90 points, false-alarm probability 1e-4; the labels are all that is random."""
    rng = np.random.default_rng(0)
    loss, reference = lopsided((1000, 130), rng)
    halves = [x for pair in (loss, reference) for x in np.split(pair, [40], axis=1)]
    assert stats.kstest(departure(*halves), "uniform").pvalue > 1e-4
    halves[0] *= 0.9  # negative control: members lose a tenth of their loss
    assert stats.kstest(departure(*halves), "uniform").pvalue < 1e-10


def test_the_reference_sharpens_the_test():
    rng = np.random.default_rng(1)
    loss, reference = lopsided(600, rng)
    loss[:300] *= 0.8
    halves = loss[None, :300], loss[None, 300:]
    flat = departure(*halves, np.ones((1, 300)), np.ones((1, 300)))[0]
    assert departure(*halves, reference[None, :300], reference[None, 300:])[0] < 1e-3 * flat


def test_reference_is_the_linear_denoiser_of_the_points():
    rng = np.random.default_rng(2)
    X, noise, t = rng.standard_normal((9, 4)) + 3, rng.standard_normal((2, 3, 9, 4)), np.array([0.1, 2.0])
    c = X - X.mean(axis=0)
    for k, found in enumerate(reference_losses(X, noise, t)):
        W = np.linalg.solve(c.T @ c / 9 + t[k] * np.eye(4), c.T @ c / 9)
        errors = [(c + t[k] ** 0.5 * omega) @ W - c for omega in noise[k]]
        np.testing.assert_allclose(
            found, np.mean([(e**2).sum(axis=1) for e in errors], axis=0) / (4 * t[k]), rtol=1e-10
        )


def test_too_few_points_are_named():
    assert least_p(2, 4) == pytest.approx(1 / 15)
    trainer = Trainer(normal(4), NET, replace(CONFIG, steps=3), watch=Watch(normal(5, seed=1)))
    trainer.run()
    assert trainer.watch.blind == [4]
    assert any("too few" in line for line in trainer.watch.report())
    assert not trainer.watch.departures()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Watch(normal(1)), "held_out"),
        (lambda: Watch(normal(5), rate=0), "rate"),
        (lambda: Watch(normal(5), rate=1), "rate"),
        (lambda: Watch(normal(5), checks=0), "checks"),
        (lambda: Trainer(normal(9), NET, CONFIG, watch=Watch(normal(5, N=3))), "held_out"),
        (lambda: departure(np.ones((1, 3)), np.ones((1, 3)), np.ones((1, 3)), np.ones((1, 4))), "losses"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(DomainError, match=message):
        make()


# --- runs ---------------------------------------------------------------------------------------------------------------


def test_runs_that_cannot_memorise_alarm_at_most_at_the_stated_rate():
    """12 networks, each on 20 000 points for 60 steps of 32: 1920 draws, so that 9 in 10 points have not been seen.

    At the stated rate of 1/5 a run, 9 or more alarms of 12 have probability 7e-5 at most (binomial). The sets of the next
    test, small enough to be memorised, all alarm.
    """
    config = replace(CONFIG, steps=60)
    alarms = 0
    for seed in range(12):
        X = normal(20_300, seed=seed)
        watch = Watch(X[:200], rate=0.2, checks=4, levels=4, points=200)
        Trainer(X[200:], {"kind": "mlp", "width": 8, "blocks": 1}, config, seeds=[seed], watch=watch).run()
        alarms += bool(watch.departures())
    assert stats.binom.sf(8, 12, 0.2) < 7e-5
    assert alarms < 9


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_small_set_is_seen_to_be_memorised(seed):
    X = normal(230, seed=seed)
    watch = Watch(X[:200], checks=12)
    Trainer(X[200:], NET, CONFIG, seeds=[seed], watch=watch).run()
    (found,) = watch.departures()
    assert 0 < found.before < found.step < 240
    assert found.train < found.held_out
    curves = watch.curves()
    assert (curves.held_out / curves.train).isel(step=-1).max() > 1.3


def test_held_out_points_of_another_source_are_told_before_training():
    watch = Watch(2 * normal(200, seed=1))
    Trainer(normal(200), NET, replace(CONFIG, steps=5), watch=watch).run()
    (found,) = watch.departures()
    assert found.step == 0
    assert "no random part of the same data" in found.report(watch.rate)


# --- checkpoints ------------------------------------------------------------------------------------------------------


def watched(path, *, told=None, **options):
    X = normal(260)
    tell = None if told is None else lambda found, file: told.append((found.P, found.step, file.name))
    watch = Watch(X[:200], checks=12, tell=tell, keep=path.parent / "all")
    return Trainer([X[200:220], X[200:260]], NET, CONFIG, path=path, watch=watch, **options)


def test_a_resumed_run_warns_as_an_uninterrupted_one(tmp_path):
    told, again = [], []
    watched(tmp_path / "whole" / "m.safetensors", told=told).run()
    for until in (1, 60, 61, 150, None):
        watched(tmp_path / "parts" / "m.safetensors", told=again).run(until=until)
    assert again == told
    assert {name for _, _, name in told} == {
        "m-before-memorising-P20.safetensors",
        "m-before-memorising-P60.safetensors",
    }
    files = {p.relative_to(tmp_path / "whole"): p.read_bytes() for p in (tmp_path / "whole").rglob("*") if p.is_file()}
    mine = {p.relative_to(tmp_path / "parts"): p.read_bytes() for p in (tmp_path / "parts").rglob("*") if p.is_file()}
    assert mine == files
    assert "m-losses.csv" in {p.name for p in files}


@pytest.mark.slow
def test_a_run_killed_after_any_save_ends_with_the_same_files(tmp_path, monkeypatch):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    watched(whole / "m.safetensors").run()
    write, count = Trainer._write, iter(range(10_000))
    kills = {7, 12, 17, 20}

    def fragile(self, path):
        if next(count) in kills:
            raise RuntimeError("killed")
        write(self, path)

    monkeypatch.setattr(Trainer, "_write", fragile)
    died = 0
    while True:
        try:
            watched(parts / "m.safetensors").run()
            break
        except RuntimeError:
            died += 1
    assert died == len(kills)
    mine, theirs = (
        {p.relative_to(top): p.read_bytes() for p in top.rglob("*") if p.is_file()} for top in (parts, whole)
    )
    assert mine == theirs


def test_the_kept_checkpoint_is_the_state_before_and_trains_on_as_the_run_did(tmp_path):
    path = tmp_path / "m.safetensors"
    trainer = watched(path)
    trainer.run()
    found = trainer.watch.departures()[0]
    kept = tmp_path / "m-before-memorising-P20.safetensors"
    tensors, record = read(kept)
    assert record["step"] == found.before
    whole, end = path.read_bytes(), read(path)[0]
    path.write_bytes(kept.read_bytes())
    watched(path).run()
    assert path.read_bytes() == whole
    assert not torch.equal(tensors["weights.backbone.into.weight"], end["weights.backbone.into.weight"])


def test_watching_changes_no_weight(tmp_path):
    X = normal(80)
    seen = Trainer(X[20:], NET, replace(CONFIG, steps=40), watch=Watch(X[:20]))
    alone = Trainer(X[20:], NET, replace(CONFIG, steps=40))
    seen.run(), alone.run()
    for a, b in zip(seen.average, alone.average, strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_without_a_watch_is_taken_up_and_another_watch_refused(tmp_path):
    X, path, config = normal(80), tmp_path / "m.safetensors", replace(CONFIG, steps=40)
    Trainer(X[20:], NET, config, path=path).run(until=10)
    Trainer(X[20:], NET, config, path=path, watch=Watch(X[:20])).run(until=30)
    Trainer(X[20:], NET, config, path=path).run(until=31)  # without: what was seen stays
    with pytest.raises(DomainError, match="watch = rate"):
        Trainer(X[20:], NET, config, path=path, watch=Watch(X[:20], rate=0.02))
    history = read(path)[1]["watch"]["history"]
    assert next(entry["step"] for entry in history) > 10
    stale = tmp_path / "m-before-memorising.safetensors"
    stale.write_bytes(b"of another run")
    Trainer(X[20:], NET, config, path=path, resume=False, watch=Watch(X[:20])).run(until=5)
    assert not stale.exists()


# --- the command --------------------------------------------------------------------------------------------------------


def test_held_out_points_can_be_given(tmp_path):
    X = normal(300).numpy()
    np.save(tmp_path / "x.npy", X[:200]), np.save(tmp_path / "h.npy", np.concatenate([X[200:], X[:7]]))
    np.save(tmp_path / "wide.npy", normal(30, N=4).numpy())
    found = points({"data": str(tmp_path / "x.npy"), "seed": 0, "held_out": str(tmp_path / "h.npy")})
    assert len(found.X) == 200
    assert len(found.fresh) == 100
    assert found.copies.count == 7
    with pytest.raises(DomainError, match="held_out"):
        points({"data": str(tmp_path / "x.npy"), "seed": 0, "held_out": str(tmp_path / "wide.npy")})
    source = {"data": "linear", "seed": 0, "held_out": str(tmp_path / "h.npy")}
    with pytest.raises(DomainError, match="--held-out"):
        train(source, [10], NET, CONFIG, tmp_path / "m.safetensors")


def test_the_command_warns_and_keeps(geomem, tmp_path):
    np.save(tmp_path / "x.npy", normal(330).numpy())
    common = ["train", "x.npy", "-P", "25", "--width", 32, "--blocks", 1, "--sigma", "0.05,5", "--batch", 32]
    run = geomem(*common, "--steps", 300, "--learning-rate", 0.003, "--out", "m.safetensors")
    assert run.returncode == 0, run.stderr
    assert "warning: P = 25" in run.stderr
    assert "m-before-memorising.safetensors" in run.stderr
    kept = {p.name for p in tmp_path.iterdir()}
    assert kept == {"x.npy", "m.safetensors", "m-before-memorising.safetensors", "m-losses.csv"}
    run = geomem(*common, "--steps", 20, "--out", "n.safetensors", "--no-watch")
    assert run.returncode == 0, run.stderr
    assert "warning" not in run.stderr
    assert not (tmp_path / "n-losses.csv").exists()
    for bad, name in ((["--false-alarms", 2], "--false-alarms"), (["--snapshots", "s", "--no-watch"], "--snapshots")):
        run = geomem(*common, "--steps", 2, *bad)
        assert run.returncode == 2
        assert name in run.stderr
