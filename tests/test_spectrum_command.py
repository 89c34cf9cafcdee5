"""`geomem spectrum`: end to end on small data, against the isotropic closed form, and its bad inputs."""

import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from numerics.domain import DomainError
from numerics.store import load_dataset
from validation.spectrum import command as spectrum_command
from validation.spectrum import measurement
from validation.spectrum.command import run, spectrum
from validation.spectrum.departures import losses
from validation.spectrum.figures import reading, tables
from validation.spectrum.subjects import from_data, from_subspaces, noise_levels


def test_command_end_to_end_on_a_file(geomem, tmp_path):
    X = np.random.default_rng(0).standard_normal((60, 8)) * np.geomspace(2, 0.01, 8)
    np.save(tmp_path / "x.npy", X)
    done = geomem("spectrum", "x.npy", "--out", "s.svg", "--points", 6, "--probes", 5)
    assert done.returncode == 0, done.stderr
    assert "depart" in done.stdout
    assert "principal 1-2" in done.stdout
    assert "two-nn" in done.stdout
    assert {p.name for p in tmp_path.iterdir()} == {"x.npy", "s.svg", "s.nc", "s.csv"}
    stored = load_dataset(tmp_path / "s.nc")
    assert stored["eigenvalue"].dims == ("score", "place", "t", "direction")
    assert (np.diff(stored["eigenvalue"].values, axis=-1) <= 1e-12).all()
    assert stored.attrs["seed"] == "0"
    # smallest t: every training point alone; largest: nothing but noise
    at = stored.sel(score="empirical", place="noisy")
    assert float(at["participation"][0]) == pytest.approx(1, abs=1e-6)
    assert float(at["kept"][0]) == float(at["kept"][-1]) == 0


def test_dimension_of_the_data_stands_beside_the_spectrum(tmp_path, monkeypatch):
    """Four of ten directions: in the arrays, in the table, and in words; without scikit-dimension those say so."""
    X = np.random.default_rng(1).standard_normal((200, 4)) @ np.random.default_rng(2).standard_normal((4, 10))
    np.save(tmp_path / "x.npy", X)
    monkeypatch.setattr("validation.figures.save", lambda figure, path: path)  # drawn, not rendered: that takes seconds
    arguments = {"points": 4, "probes": 2, "sigmas": (0.1, 1)}
    ((result, files),) = run(tmp_path / "x.npy", tmp_path / "s.png", **arguments)
    assert result["data_dimension"].sel(estimator="local-pca").item() == pytest.approx(4, abs=0.1)
    assert result["data_dimension"].sel(estimator="two-nn").item() == pytest.approx(4, abs=5 * 0.35)
    head, first = files[2].read_text().splitlines()[:2]
    row = dict(zip(head.split(","), first.split(","), strict=True))
    assert float(row["data_dimension_mle"]) == pytest.approx(result["data_dimension"].sel(estimator="mle").item())
    assert any("local-pca 4" in line for line in reading(result))
    monkeypatch.setattr(spectrum_command, "available", lambda: False)
    ((result, _),) = run(tmp_path / "x.npy", tmp_path / "s.png", **arguments)
    assert "data_dimension" not in result
    assert any("scikit-dimension is not installed" in line for line in reading(result))


def test_equal_seeds_give_equal_numbers_and_other_seeds_do_not():
    def numbers(seed):
        result = spectrum(from_subspaces("2:1,4:0.01", P=40, seed=seed), [0.1, 1.0], probes=4, seed=seed)
        return result["eigenvalue"].sel(score="empirical").values

    assert (numbers(3) == numbers(3)).all()
    assert not np.allclose(numbers(3), numbers(4))


def test_isotropic_gaussian_with_many_points_has_the_closed_form():
    """-tJ = t/(t+1) at large t, in the mean over directions: 4 errors (false alarm 1e-4 a level), sampling of X included."""
    N, P = 6, 5000
    subject = from_subspaces(f"{N}:1", P=P, seed=1)
    t = np.array([4.0, 8.0, 16.0])
    seen = spectrum(subject, t, probes=24, seed=1).sel(score="empirical")
    value = seen["eigenvalue"].mean("direction")
    for place in ("noisy", "fresh"):
        probes = 1 - seen[f"single_variance_{place}"].values[..., 0]
        error = probes.std(axis=1, ddof=1) / math.sqrt(probes.shape[1])
        sampled = t / (t + 1) ** 2 * math.sqrt(2 / (N * P))  # of tr Cov(X)/N
        assert (np.abs(value.sel(place=place) - t / (t + 1)) < 4 * np.hypot(error, sampled)).all()
        # a wrong formula, t/(t + 2), would be seen
        assert (np.abs(value.sel(place=place) - t / (t + 2)) > 10 * np.hypot(error, sampled)).all()


def test_controls_are_the_closed_forms_and_half_moves_where_it_memorises():
    subject = from_subspaces("3:1.0,3:0.04,6:0.0001", P=200, seed=2)
    t = noise_levels(subject, 9)
    seen = spectrum(subject, t, probes=24, seed=2)
    exact = t[:, None] / (t[:, None] + np.repeat([1e-4, 0.04, 1.0], [6, 3, 3]))
    assert seen["eigenvalue"].sel(score="exact", place="fresh").values == pytest.approx(exact, rel=1e-12)
    own = t[:, None] / (t[:, None] + np.sort(subject.X.var(dim=0).numpy()))
    assert seen["eigenvalue"].sel(score="gaussian", place="noisy").values == pytest.approx(own, rel=1e-12)
    noisy = seen["variance"].sel(place="noisy", group="d = 3, variance 1")
    full, half = (noisy.sel(score=s).values for s in ("empirical", "half"))
    assert full[-1] == pytest.approx(half[-1], rel=0.25)  # large t: the same, up to the sample's covariance
    middle = np.argmax(full)
    assert half[:middle].sum() < full[:middle].sum()  # below: fewer points lose more


def test_half_is_half_of_the_points_with_those_looked_at_among_them():
    subject = from_subspaces("3:1.0,3:0.04", P=61, seed=2)
    scene = measurement._Scene(subject, 24, 0, "cpu", 1)
    half = set(scene.half.tolist())
    assert len(scene.half) == len(half) == 30
    assert all(any(torch.equal(x, subject.X[i]) for i in half) for x in scene.own)
    probe = scene.own + 30.0  # so far away that all points weigh: the mean of the half shows
    mean = probe + 1e6 * scene.measured["half"].score(probe, 1e6)
    expected = subject.X[scene.half].mean(dim=0)
    torch.testing.assert_close(mean, expected.expand_as(mean), rtol=0, atol=1e-3)
    assert (subject.X.mean(dim=0) - expected).abs().max() > 1e-2


def test_linear_denoiser_of_the_points_is_the_resolvent_of_theory():
    """Over 30 sets of 60 points in 40 dimensions: gains r/(r + kappa) within 4 errors, and not those of the population."""
    from theory import Spectrum, finite_sample_gain

    t, sets = 0.05, []
    for seed in range(30):
        subject = from_subspaces("20:1.0,20:0.09", P=60, seed=seed)
        seen = spectrum(subject, [t], probes=2, seed=seed).sel(score="linear", place="fresh", t=t)
        C = (subject.X.T @ subject.X / 60).numpy()
        assert seen["eigenvalue"].values == pytest.approx(t / (np.linalg.eigvalsh(C) + t), rel=1e-9)  # noise first
        sets.append(seen["variance"].values)
    mean, error = np.mean(sets, axis=0), np.std(sets, axis=0, ddof=1) / math.sqrt(len(sets))
    expected = finite_sample_gain(Spectrum([1.0] * 20 + [0.09] * 20), np.array([1.0, 0.09]), P=60, N=40, t=t)
    population = np.array([1.0, 0.09]) / (np.array([1.0, 0.09]) + t)
    assert (np.abs(mean - expected) < 4 * error + 0.003).all()  # theory is at infinite size: 1/P^2 is left
    assert (np.abs(mean - population) > 10 * error).all()


def test_dimensions_of_the_control_step_through_the_subspaces():
    """Between the variances the exact spectrum has the dimension of what lies above; the high-variance block departs first."""
    subject = from_subspaces("4:1.0,4:0.01,8:0.000001", P=3000, seed=0)
    seen = spectrum(subject, np.geomspace(1e-4, 4, 13), probes=8)
    exact = seen.sel(score="exact", place="fresh")
    at = {t: exact.sel(t=t, method="nearest") for t in (0.1, 1e-4)}
    assert [float(at[t][name]) for t in at for name in ("kept", "gap")] == [4, 4, 8, 8]
    departure = losses(seen, "noisy")["departure"].values
    assert departure[0, 0] > departure[1, 0] > 0
    assert "first directions to depart from the exact score are d = 4, variance 1" in reading(seen)[0]
    dimension, lost = tables(seen)
    assert len(dimension.rows) == 13
    assert [row[0] for row in lost.rows] == list(subject.groups)


def test_network_of_a_checkpoint_is_measured_beside_its_training_set(tmp_path, monkeypatch):
    from validation.training import TrainingConfig
    from validation.training.command import train

    X = np.random.default_rng(5).standard_normal((60, 3))
    np.save(tmp_path / "x.npy", X)
    source, network = {"data": str(tmp_path / "x.npy"), "seed": 0}, {"kind": "mlp", "width": 8, "blocks": 1}
    train(source, [10, 40], network, TrainingConfig(3, 8), tmp_path / "m.safetensors")
    monkeypatch.setattr("validation.figures.save", lambda figure, path: path)  # drawn, not rendered: that takes seconds
    found = run(None, tmp_path / "s.png", model=tmp_path / "m.safetensors", points=4, probes=2)
    assert [result.attrs["P"] for result, _ in found] == ["10", "40"]
    assert [files[0].name for _, files in found] == ["s-P10.png", "s-P40.png"]
    for result, _ in found:
        assert "network" in result["score"]
        assert np.isfinite(result["eigenvalue"].sel(score="network")).all()


def _bytes(folder):
    stored = load_dataset(folder / "s.nc")
    stored.attrs.pop("command")
    numbers = {
        name: np.ascontiguousarray(stored[name].values).tobytes()
        for name in stored.variables
        if stored[name].dtype.kind == "f"
    }
    return stored.attrs, numbers, (folder / "s.csv").read_bytes()


KILLED = """
import os, signal, sys
from pathlib import Path
from validation.spectrum.command import run
def progress(done, total):
    if done == 7:
        os.kill(os.getpid(), signal.SIGKILL)
run(None, Path(sys.argv[1]), subspaces="2:1,3:0.01", P=30, points=4, probes=3, seed=1, progress=progress)
"""


def test_interrupted_anywhere_it_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    """Ctrl-C inside a row, then a kill between two: each finished row is made once, and the numbers are the straight run's."""
    arguments = {"subspaces": "2:1,3:0.01", "P": 30, "points": 4, "probes": 3, "seed": 1}
    straight, killed = tmp_path / "straight" / "s.png", tmp_path / "killed" / "s.png"
    monkeypatch.setattr("validation.figures.save", lambda figure, path: path.touch())  # rendering takes seconds
    run(None, straight, **arguments)
    assert {p.name for p in straight.parent.iterdir()} == {"s.png", "s.nc", "s.csv"}
    seen, calls = measurement._seen, []

    def interrupting(*some):
        calls.append(some)
        if len(calls) == 8:  # empirical and half, three rows and then the second score of the fourth
            raise KeyboardInterrupt
        return seen(*some)

    monkeypatch.setattr(measurement, "_seen", interrupting)
    with pytest.raises(KeyboardInterrupt):
        run(None, killed, **arguments)
    partial = killed.parent / "s.nc.partial"
    assert [p.name for p in killed.parent.iterdir()] == [partial.name]
    assert sorted(p.name for p in partial.iterdir()) == ["manifest.json", *(f"row_{i:06d}.npz" for i in range(3))]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run([sys.executable, "-c", KILLED, killed], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert sorted(p.name for p in partial.iterdir()) == ["manifest.json", *(f"row_{i:06d}.npz" for i in range(7))]
    for other, named in (
        ({"seed": 2}, "seed = 1 .here 2"),
        ({"probes": 4}, "probes = 3 .here 4"),
        ({"P": 31}, "points = .30"),
    ):
        with pytest.raises(DomainError, match=rf"--out = .*another spectrum: .*{named}.*Remove .*partial"):
            run(None, killed, **arguments | other)
    told = []
    run(None, killed, **arguments, progress=lambda *both: told.append(both))
    assert told == [(done, 12) for done in range(7, 13)]
    assert len(calls) == 8 + 2 * 5
    assert _bytes(killed.parent) == _bytes(straight.parent)
    assert {p.name for p in killed.parent.iterdir()} == {"s.png", "s.nc", "s.csv"}
    run(None, killed, **arguments | {"seed": 2})  # nothing is left that could be mixed in
    assert _bytes(killed.parent)[1] != _bytes(straight.parent)[1]


def test_unreadable_rows_are_told_by_name(tmp_path, monkeypatch):
    arguments = {"subspaces": "2:1,3:0.01", "P": 30, "points": 4, "probes": 3}
    monkeypatch.setattr("validation.figures.save", lambda figure, path: 1 / 0)  # everything measured, nothing written
    with pytest.raises(ZeroDivisionError):
        run(None, tmp_path / "s.png", **arguments)
    row = tmp_path / "s.nc.partial" / "row_000002.npz"
    row.write_bytes(row.read_bytes()[:50])
    with pytest.raises(DomainError, match=r"row_000002.npz.*readable row.*Remove it"):
        run(None, tmp_path / "s.png", **arguments)
    (row.parent / "manifest.json").write_text("{}")
    with pytest.raises(DomainError, match=r"manifest.*Remove"):
        run(None, tmp_path / "s.png", **arguments)


BAD = [
    (["--subspaces", "5"], "--subspaces"),
    (["--subspaces", "2:-1,3:1"], "--subspaces"),
    (["--subspaces", "2.5:1"], "--subspaces"),
    (["--subspaces", "2:0,3:0"], "--subspaces"),
    (["--subspaces", "1:1"], "--subspaces"),
    (["--subspaces", "2:1,3:nan"], "--subspaces"),
    (["--subspaces", "2:1,2:0.1", "-P", "1"], "-P"),
    (["--subspaces", "2:1,2:0.1", "--limit", "9"], "--limit"),
    (["-P", "100"], "-P"),
    (["missing.npy"], "missing.npy"),
    (["missing.npy", "--subspaces", "2:1,2:0.1"], "--subspaces"),
    (["--model", "missing.safetensors"], "missing.safetensors"),
    (["--out", "x.txt"], "--out"),
    (["--sigma", "3,1"], "--sigma"),
    (["--sigma", "1"], "--sigma"),
    (["--sigma", "a,b"], "--sigma"),
    (["--probes", "1"], "--probes"),
    (["--device", "quantum"], "device"),
]


@pytest.mark.parametrize("command", [("spectrum", "--points", 4), ("audit", "--no-finite-size")])
def test_four_samples_are_enough(geomem, command, tmp_path):
    """Two of them to train on: too few for any dimension of the data, which is no reason to refuse the rest."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((4, 5)))
    done = geomem(command[0], tmp_path / "x.npy", "--probes", 2, *command[1:])
    assert done.returncode == 0, done.stderr
    assert "two-nn - (too few points" in " ".join(done.stdout.split())


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_bad_input_is_one_clear_error(geomem, arguments, message, tmp_path):
    done = geomem("spectrum", *arguments)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert message in " ".join(done.stderr.split())
    assert not list(tmp_path.iterdir())


def test_one_number_a_sample_has_no_spectrum(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(10.0)[:, None])
    with pytest.raises(DomainError, match="DATA"):
        from_data(tmp_path / "x.npy")
