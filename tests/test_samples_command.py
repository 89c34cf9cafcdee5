"""Are samples copies? On ground truth that is known: copies, fresh points, mixtures, and copies that were changed."""

import csv
import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from numerics.domain import DomainError
from validation.data import load
from validation.samples import audit_samples, samples, samples_lines, write_samples
from validation.samples.calibration import Fraction, discoveries, excess, p_values, ratio_p_values
from validation.samples.nearness import nearest_two
from validation.samples.statistics import copying_statistic
from validation.samples.transforms import variants
from validation.score import EmpiricalScore


@pytest.fixture(scope="module")
def digits():
    """(train, held-out, other fresh) digits of 8 x 8 pixels."""
    X = load().X
    order = np.random.default_rng(0).permutation(len(X))
    return X[order[:1000]], X[order[1000:1400]], X[order[1400:]]


@pytest.fixture(scope="module")
def files(tmp_path_factory, digits):
    folder = tmp_path_factory.mktemp("samples")
    train, held_out, fresh = (np.round((part + 1) * 127.5).astype(np.uint8).reshape(-1, 8, 8) for part in digits)
    rng = np.random.default_rng(1)
    copies = np.clip(train[:30].astype(int) + rng.integers(-6, 7, (30, 8, 8)), 0, 255).astype(np.uint8)
    for name, array in (("train", train), ("test", held_out), ("generated", np.concatenate([copies, fresh[:70]]))):
        np.save(folder / f"{name}.npy", array)
    return folder


def _found(digits, generated, **options):
    train, held_out, _ = digits
    return audit_samples(generated.astype(np.float32), train, held_out, **options)


# --- ground truth -------------------------------------------------------------------------------------------------------


def test_samples_of_the_empirical_score_are_all_copies(digits):
    """Reverse diffusion with the training set's own score, down to sigma = 0.05: every sample is a training point."""
    train = digits[0][:300]
    score = EmpiricalScore(train)
    sigmas = np.concatenate([np.geomspace(20, 0.05, 30)])
    x = sigmas[0] * np.random.default_rng(2).standard_normal((60, 64))
    for high, low in pairwise(sigmas):
        x = x + (low - high) / high * (x - score.denoise(x, high**2))
    found = audit_samples(x.astype(np.float32), train, digits[1])
    assert found.copy.all()
    assert found.below.value > 0.9
    assert found.authentic.value == 0
    assert found.copying < -5
    assert found.effective == pytest.approx(1.0, abs=0.01)


def test_held_out_images_are_no_copies(digits):
    """Fresh digits: at most a tenth of a percent of such runs would call more than 2 % (false discoveries are 5 % of none)."""
    found = _found(digits, digits[2])
    assert found.called.value <= 0.02
    assert abs(found.effective) < 4 * found.effective_error
    assert abs(found.copying) < 4
    low, high = found.authentic_fresh.interval
    assert low - 0.1 < found.authentic.value < high + 0.1


@pytest.mark.parametrize("share", [0.1, 0.69])
def test_mixtures_are_measured(digits, share):
    """Copies with a little noise in a share of the samples: it lies in the exact interval, widened by the false calls."""
    copies = round(300 * share)
    noise = 0.03 * np.random.default_rng(3).standard_normal((copies, 64))
    found = _found(digits, np.concatenate([digits[0][:copies] + noise, digits[2][: 300 - copies]]))
    assert found.copy[:copies].mean() > 0.95
    assert found.copy[copies:].mean() < 0.05
    assert found.called.value == pytest.approx(share, abs=0.04)
    assert found.effective == pytest.approx(share, abs=4 * found.effective_error)
    assert found.copying < -1


def test_flat_samples_are_near_but_no_copies():
    """Towards the mean of the data everything is near: C_T, authenticity and the distance are fooled, the verdict is not."""
    rng = np.random.default_rng(11)
    train, held_out, fresh = (
        rng.standard_normal((800, 20)),
        rng.standard_normal((300, 20)),
        rng.standard_normal((200, 20)),
    )
    found = audit_samples(0.5 * fresh, train, held_out)
    assert np.median(found.p_value) < 0.05
    assert found.copying < -5
    assert found.authentic.value < 0.3
    assert found.called.value < 0.03


def test_a_training_point_that_is_there_twice_hides_no_copy(digits):
    train = digits[0].copy()
    train[500] = train[3] + 1e-3
    found = audit_samples(train[[3, 4]] + np.float32(0.01), train, digits[1])
    assert found.near.nearest.tolist()[1] == 4
    assert found.near.nearest[0] in (3, 500)
    assert found.near.second[0] not in (3, 500)
    assert found.copy.all()


def test_shifted_and_mirrored_copies_are_found_with_transforms_only():
    rng = np.random.default_rng(4)
    field = rng.standard_normal((900, 1, 12, 12))
    smooth = sum(np.roll(field, (i, j), (2, 3)) for i in range(3) for j in range(3)).astype(np.float32)
    train, held_out = smooth[:600], smooth[600:]
    changed = np.concatenate([np.roll(train[:25], 2, axis=3), train[25:50, :, :, ::-1]])
    flat = [part.reshape(len(part), -1) for part in (changed, train, held_out)]
    plain = audit_samples(*flat)
    seen = audit_samples(*flat, shape=(1, 12, 12))
    assert plain.called.value < 0.1
    assert seen.called.value > 0.9
    assert seen.near.nearest.tolist() == list(range(50))
    assert seen.near.change[30] == "as it is, mirrored"
    assert seen.called_fresh.value < 0.02


def test_without_held_out_points_the_training_points_are_the_null(digits):
    train, _, fresh = digits
    noise = 0.03 * np.random.default_rng(5).standard_normal((40, 64))
    found = audit_samples(np.concatenate([train[:40] + noise, fresh[:200]]).astype(np.float32), train)
    assert found.copy[:40].mean() > 0.95
    assert found.copy[40:].mean() < 0.05
    assert math.isnan(found.copying)


def test_held_out_points_that_are_training_points_are_left_out_and_counted(digits):
    train, held_out, fresh = digits
    found = audit_samples(fresh, train, np.concatenate([held_out, train[:50]]))
    assert len(found.fresh.ratio) <= len(held_out)
    assert any("50 exactly" in line for line in found.dropped)


def test_on_an_accelerator(digits, cuda):
    train, held_out, fresh = (part[:60] for part in digits)
    made = np.concatenate([train[:10] + np.float32(0.02), fresh[:20]])
    here, there = (audit_samples(made, train, held_out, device=device) for device in ("cpu", cuda))
    np.testing.assert_allclose(there.near.distance, here.near.distance, rtol=1e-6)
    assert there.copy.tolist() == here.copy.tolist()
    assert there.copy[:10].all()


# --- parts --------------------------------------------------------------------------------------------------------------


def test_nearness_is_that_of_brute_force(digits):
    train, held_out, _ = digits
    found = nearest_two(held_out, train, np.full(len(train), -1))
    distance = np.sqrt(((held_out[:, None].astype(float) - train[None]) ** 2).mean(axis=2))
    np.testing.assert_allclose(found.distance, np.sort(distance, axis=1)[:, 0])
    np.testing.assert_allclose(found.ratio, found.distance / np.sort(distance, axis=1)[:, 1])
    # of equally near rows any may be named
    np.testing.assert_allclose(distance[np.arange(len(held_out)), found.nearest], found.distance)


def test_p_values_of_fresh_points_are_uniform():
    """In 12 uniform dimensions, sizes 0.05 and 0.005 (the fitted tail) are held: binomial, false alarm below 1e-4."""
    rng = np.random.default_rng(6)
    null, new = rng.uniform(size=(2, 4000)) ** (1 / 12)
    p = ratio_p_values(new, null)
    for size in (0.05, 0.005):
        assert (p <= size).sum() < stats.binom.isf(1e-4, 4000, size) + 4000 * size * 0.3
        assert (p <= size).sum() > 0.4 * 4000 * size
    tail = ratio_p_values(np.array([0.2]), null)[0]
    assert 0.2**12 < tail < 1e-5  # the lower limit of the dimension: never smaller than the true law
    assert p_values(np.array([0.0]), null)[0] == pytest.approx(1 / 4001)


def test_false_discoveries_are_as_rare_as_promised():
    """200 sets of 90 null and 10 shifted values: the mean share of false discoveries is below 5 % (standard error 0.7 %)."""
    rng = np.random.default_rng(7)
    shares = []
    for _ in range(200):
        p = stats.norm.cdf(np.concatenate([rng.standard_normal(90), rng.standard_normal(10) - 4]))
        found = discoveries(p, 0.05)
        shares.append(found[:90].sum() / max(1, found.sum()))
    assert np.mean(shares) < 0.05 + 3 * 0.007
    assert np.mean(shares) > 0.02


def test_copying_statistic_is_standard_normal_under_its_null_and_falls_with_copies():
    """Both sets of one law, one cell: C_T is N(0, 1); 60 runs, chi-square two-sided with false alarm 2e-4."""
    rng = np.random.default_rng(8)
    train = rng.standard_normal((40, 2))
    values = []
    for _ in range(60):
        sets = rng.standard_normal((2, 50, 2))
        distances = tuple(np.abs(s).sum(axis=1) for s in sets)
        values.append(copying_statistic(*sets, distances, train)[0])
    assert stats.chi2.ppf(1e-4, 60) < np.sum(np.square(values)) < stats.chi2.isf(1e-4, 60)
    near = (0.1 * distances[0], distances[1])
    value, cells = copying_statistic(*sets, near, train)
    assert value < -5
    assert cells == 1
    assert math.isnan(copying_statistic(sets[0][:0], sets[1], (distances[0][:0], distances[1]), train)[0])


def test_excess_undoes_the_mixture():
    value, error = excess(Fraction(280, 400), Fraction(400, 1000))
    assert value == pytest.approx(0.5)
    assert error == pytest.approx(math.hypot(0.0229, 0.5 * 0.0155) / 0.6, rel=0.02)


def test_variants_hold_the_image_itself_and_each_shift_once():
    X = np.random.default_rng(9).standard_normal((3, 50))
    found = dict(variants(X, (2, 5, 5)))
    assert len(found) == 2 * (25 + 2)
    assert (found["as it is"] == X).all()
    images, moved = X.reshape(3, 2, 5, 5), found["shift 1 down and 2 left"].reshape(3, 2, 5, 5)
    assert (moved[:, :, 1:, :3] == images[:, :, :-1, 2:]).all()
    assert all(rows.shape == X.shape for rows in found.values())


# --- command ------------------------------------------------------------------------------------------------------------


def test_command_writes_a_row_a_sample(geomem, files, tmp_path):
    out = tmp_path / "out"
    run = geomem(
        "samples", files / "generated.npy", "--train", files / "train.npy", "--test", files / "test.npy", "--out", out
    )
    assert run.returncode == 0, run.stderr
    with open(out / "samples.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 100
    assert {"nearest", "distance", "ratio", "p_value", "copy"} <= set(rows[0])
    assert [int(row["nearest"]) for row in rows[:30]] == list(range(30))
    assert sum(row["copy"] == "True" for row in rows[:30]) >= 29
    assert sum(row["copy"] == "True" for row in rows[30:]) <= 3
    assert all(0 <= float(row["p_value"]) <= 1 and 0 <= float(row["ratio"]) <= 1 for row in rows)
    for name in ("samples.nc", "samples.png", "samples-worst.png", "samples-statistics.csv"):
        assert (out / name).stat().st_size > 0
    assert "are copies" in run.stdout.replace("\n", " ")


def test_features_of_ones_own(files, digits, tmp_path):
    """Features that forget all but the class of copies: distances are taken there."""
    rng = np.random.default_rng(10)
    train, test = rng.standard_normal((1000, 10)), rng.standard_normal((400, 10))
    generated = np.concatenate([train[100:150] + 1e-3, rng.standard_normal((50, 10))])
    np.savez(tmp_path / "features.npz", generated=generated, train=train, test=test)
    names = [files / f"{name}.npy" for name in ("generated", "train", "test")]
    result = samples(*names, features=tmp_path / "features.npz")
    assert result.found.near.nearest[:50].tolist() == list(range(100, 150))
    assert result.found.copy[:50].all()
    assert result.found.copy[50:].sum() <= 5
    text = " ".join(line for line in samples_lines(result) if isinstance(line, str))
    assert "features of" in text
    assert (tmp_path / "o" / "samples.csv") in write_samples(result, tmp_path / "o")


def test_a_training_set_with_its_own_held_out_samples_needs_no_test(files, digits, tmp_path):
    train, test = np.load(files / "train.npy"), np.load(files / "test.npy")
    np.savez(tmp_path / "all.npz", images=train, test_images=test)
    result = samples(files / "generated.npy", tmp_path / "all.npz")
    assert "held-out" in result.found.null


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["nowhere.npy", "--train", "train.npy"], "nowhere.npy"),
        (["generated.npy", "--train", "other.npy"], "(5,)"),
        (["huge.npy", "--train", "train.npy"], "GENERATED"),
        (["generated.npy", "--train", "train.npy", "--transforms"], "--transforms"),
        (["generated.npy", "--train", "train.npy", "--features", "train.npy"], "--features"),
        (["generated.npy", "--train", "train.npy", "--features", "few.npz"], "--features"),
        (["generated.npy", "--train", "train.npy", "--rate", "1.5"], "rate"),
        (["generated.npy", "--train", "train.npy", "--threshold", "0"], "threshold"),
        (["generated.npy", "--train", "train.npy", "--device", "nowhere"], "device"),
    ],
)
def test_bad_input_ends_with_one_line_and_status_2(geomem, files, tmp_path, arguments, word):
    rng = np.random.default_rng(0)
    np.save(files / "other.npy", rng.standard_normal((20, 5)))
    np.save(files / "huge.npy", 1e4 * rng.standard_normal((20, 8, 8)))
    np.savez(files / "few.npz", generated=np.zeros((3, 4)), train=np.zeros((1000, 4)))
    run = geomem("samples", *arguments, "--out", tmp_path / "out", cwd=files)
    assert run.returncode == 2
    assert word in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "out" / "samples.csv").exists()


def test_options_of_the_python_face_are_checked(digits):
    with pytest.raises(DomainError, match="held_out"):
        _found((digits[0], digits[0][:5], None), digits[2])
