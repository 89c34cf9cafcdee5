"""Rows that are in two places at once (exactly, to the last bit, nearly) are found across every split, left out and counted.

Each kind is held against the same data without them, and against data that have none, however close or discrete they are.
"""

import numpy as np
import pytest
import torch

from numerics.domain import DomainError
from validation.audit import audit, audit_facts, audit_model, audit_tables, measure, report_lines, write_audit
from validation.data import Dataset, data_dimension, find_copies, find_duplicates, load, memorised_fraction, split
from validation.experiments.generalization_law.nearest_law import law_on_data
from validation.spectrum import from_data, reading, spectrum
from validation.training import NoiseLevels, TrainingConfig, members, points, train


def gaussians(seed, P, N, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal((P, N)).astype(dtype)


def last_bit(X, seed=0):
    """The same rows, every number moved to the next one up or down, or left."""
    ends = np.array([-np.inf, np.inf], X.dtype)[np.random.default_rng(seed).integers(0, 2, X.shape)]
    moved = np.nextafter(X, ends)
    return np.where(np.random.default_rng(seed + 1).random(X.shape) < 0.7, moved, X)


# --- near-duplicates inside a set ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("N", [1, 2, 10, 300])
def test_last_bit_copies_are_found_whatever_their_number(N, dtype):
    X = gaussians(0, 500, N, dtype)
    found = find_duplicates(np.concatenate([X, np.nextafter(X[:150], dtype(np.inf))]))
    assert found.exact + found.near == 150
    assert found.keep.tolist() == [True] * 500 + [False] * 150
    if N < 10:
        return
    many = np.concatenate([X, last_bit(np.repeat(X[:1], 200, axis=0))])  # more than there are neighbours to look at
    assert find_duplicates(many).keep.tolist() == [True] * 500 + [False] * 200


def test_dimension_of_data_with_last_bit_copies():
    """Among 1300 points 300 that differ from others in the last bit: two-nn said 0.05 and mle 1.0."""
    X = gaussians(1, 1000, 10)
    alone = data_dimension(X)
    exact, bit = (data_dimension(np.concatenate([X, more])) for more in (X[:300], last_bit(X[:300])))
    assert alone.value[:2] == pytest.approx([9.5, 8.9], abs=0.6)
    assert (exact.copies, exact.near, exact.points) == (300, 0, 1000)
    assert (bit.copies, bit.near, bit.points) == (0, 300, 1000)
    assert bit.value == pytest.approx(alone.value)
    assert "300 near-copies left out" in bit.report()
    assert "drawn from" not in bit.report()
    assert (alone.copies, alone.near) == (0, 0)


def test_a_training_point_that_is_there_twice_hides_no_copy():
    X = gaussians(2, 200, 20)
    samples = np.concatenate([X[:30] + 0.01, gaussians(3, 70, 20)])
    for twice in (X[:30], last_bit(X[:30]), X[:30] + 0.003):
        found = memorised_fraction(samples, np.concatenate([X, twice]))
        assert (found.fraction, found.left_out) == (0.3, 30)
        assert found.index[:30].tolist() == list(range(30))
    assert memorised_fraction(samples, X).left_out == 0
    with pytest.raises(DomainError, match="2 different training points"):
        memorised_fraction(samples, np.repeat(X[:1], 3, axis=0))


# --- across two sets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("N", [2, 10, 300])
def test_points_that_are_training_points_are_found_and_only_these(N, dtype):
    X, points = gaussians(4, 800, N, dtype), gaussians(5, 120, N, dtype)
    step = dtype(1e-5 if N == 2 else 0.01)
    points[:10], points[10:20] = X[:10], last_bit(X[10:20])
    points[20:30] = X[20:30] + step * gaussians(6, 10, N, dtype)
    X = np.concatenate([X, X[:5], last_bit(np.repeat(X[20:21], 60, axis=0)), X[25:27] + step])
    found = find_copies(points, X)
    assert found.exact.tolist() == [True] * 10 + [False] * 110
    assert found.near.tolist() == [False] * 10 + [True] * 20 + [False] * 90
    np.testing.assert_allclose(X[found.row[:30]], points[:30], atol=5 * step)
    assert (found.row[30:] == -1).all()
    assert found.report() == (
        "30 of 120 held-out points left out because the training set has them (10 exactly, 20 nearly)"
    )


def clean_sets():
    """Sets without a duplicate: small genuine distances, integers, few levels, last bits, unions of dimensions."""
    rng = np.random.default_rng(7)
    digits = load().X
    shape = (900, 6)
    yield "Gaussian", rng.standard_normal(shape)
    yield "a line", rng.standard_normal((900, 1))
    yield "close to each other, far from 0", (1 + 1e-5 * rng.standard_normal(shape)).astype(np.float32)
    yield "close clusters", rng.integers(10, size=(900, 1)) * 1e3 + 1e-3 * rng.standard_normal(shape)
    yield "the last bits", (1e6 + rng.standard_normal((900, 2))).astype(np.float32)
    yield "scales of six decades", rng.standard_normal(shape) * 10.0 ** rng.uniform(-6, 0, (900, 1))
    yield "integers", rng.integers(0, 1000, (900, 3))
    yield "large integers", rng.integers(16_000_000, 16_000_400, (900, 3)).astype(np.float32)
    yield "counts", rng.poisson(3.0, shape)
    yield "bits", rng.integers(0, 2, (900, 20))
    yield "sparse bits", (rng.random((900, 40)) < rng.random(40) ** 3).astype(np.float32)
    yield "digits", digits
    yield "digits of five levels", np.round((digits + 1) * 2)
    yield "digits of two levels", (digits > 0).astype(np.uint8)
    flat = rng.standard_normal((900, 60))
    flat[:200, 2:] = 0
    yield "a plane among sixty dimensions", flat


def test_a_set_without_duplicates_loses_nothing():
    """Fifteen sets, 0.01 pairs expected in each, inside and across: more than 2 in all by chance with probability 4e-3."""
    near = 0
    for name, X in clean_sets():
        X = np.random.default_rng(8).permutation(np.unique(X, axis=0))
        inside = find_duplicates(X)
        assert inside.exact == 0, name
        held = len(X) // 4
        across = find_copies(X[:held], X[held:])
        assert not across.exact.any(), name
        near += inside.near + int(across.near.sum())
        assert near <= 2, name


def test_copies_among_few_rows():
    X = gaussians(9, 6, 4)
    assert find_copies(X[:2], X[2:]).count == 0
    assert find_copies(np.stack([X[3], X[4] + 1e-9]), X).near.tolist() == [False, True]
    assert find_copies(np.empty((0, 4)), X).keep.size == 0
    assert find_copies(X[:1], np.repeat(X[:1], 3, axis=0)).exact.tolist() == [True]
    assert find_duplicates(np.concatenate([X, X[:1] + 1e-9])).near == 1
    assert find_duplicates(X[:2]).near == 0
    for bad in (X[:, :2], [["a"]], X[0]):
        with pytest.raises(DomainError, match=r"^points = "):
            find_copies(bad, X)
    with pytest.raises(DomainError, match=r"^near = "):
        find_copies(X, X, near=2)


# --- the split ------------------------------------------------------------------------------------------------------------


def test_split_leaves_out_held_out_points_that_are_training_points():
    X, own = gaussians(10, 400, 8), gaussians(11, 60, 8)
    mixed = np.concatenate([X[:30], own[:30], last_bit(X[30:50]), own[30:]])
    found = split(X, mixed, seed=0)
    np.testing.assert_array_equal(found.held_out, own)
    assert found.copies.counts() == {
        "held_out_looked_at": 110,
        "held_out_exact_copies": 30,
        "held_out_near_copies": 20,
    }
    train, held_out = split(
        X, mixed, seed=0, limit=40
    )  # as many as are asked for, from further on where some are left out
    np.testing.assert_array_equal(held_out, own[:40])
    assert train is X
    none = split(X, own, seed=0)
    assert (len(none.held_out), none.copies.count) == (60, 0)


def test_split_of_rows_with_copies_among_them():
    X = gaussians(12, 300, 8)
    found = split(np.concatenate([X, last_bit(X)]), None, seed=3)
    assert len(found.train) == 540
    assert len(found.held_out) + found.copies.count == 60
    assert found.copies.count > 40
    nearest = np.linalg.norm(found.held_out[:, None] - found.train[None], axis=2).min(axis=1)
    assert nearest.min(initial=1.0) > 0.1
    assert split(X, None, seed=3).copies.count == 0


# --- the audit ------------------------------------------------------------------------------------------------------------

QUICK = {"twin": False, "finite_size": False, "probes": 100, "sigmas": [0.3, 0.5]}


def audited(X, held_out):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("validation.audit.command.available", lambda: False)  # the dimension has a test of its own
        return audit(Dataset(X, "set", X.shape[1:], "data units", "a generator", held_out=held_out), **QUICK)


def test_audit_of_held_out_points_that_are_training_points(tmp_path):
    """A fifth of the held-out points in the training set: t_g and the samples needed are those of the clean ones."""
    X, own = gaussians(13, 600, 8), gaussians(14, 80, 8)
    mixed = np.concatenate([X[:10], own[:50], last_bit(X[10:20]), own[50:]])
    clean, found = audited(X, own), audited(X, mixed)
    for one, other in zip(clean.times, found.times, strict=True):
        assert other.data.value == pytest.approx(one.data.value, rel=1e-9), one.kind
    assert [row.data.value for row in found.sizes] == pytest.approx([row.data.value for row in clean.sizes], rel=1e-9)
    assert (clean.copies.count, found.copies.count) == (0, 20)
    # left in, they move both: the test can fail
    spoilt = measure(X, mixed, t=clean.measured.t, probes=100)
    assert spoilt.nearest.value < 0.85 * clean.measured.nearest.value
    assert abs(spoilt.critical_size(0.09).value - clean.sizes[0].data.value) > 3 * clean.sizes[0].data.error

    sentence = "20 of 100 held-out points left out because the training set has them (10 exactly, 10 nearly)."
    assert sentence in audit_facts(found)
    row = ("held out, copies of a training sample among them", "100", "10", "10")
    assert row in audit_tables(found)[-1].rows
    numbers = found.to_dataset()
    assert [int(numbers[f"held_out_{name}"]) for name in ("looked_at", "exact_copies", "near_copies")] == [100, 10, 10]
    assert "100,10,10" in next(p for p in write_audit(found, tmp_path) if p.name == "audit-points.csv").read_text()


def test_audit_of_rows_drawn_from_data_with_copies():
    """Half of the rows are there twice, to the last bit: t_g is that of the different rows, within 3 errors."""
    X = gaussians(15, 900, 6)
    once, twice = audited(X, None), audited(np.concatenate([X, last_bit(X[:450])]), None)
    assert twice.copies.count > 20
    a, b = once.row("generalization").data, twice.row("generalization").data
    assert abs(a.value - b.value) < 3 * np.hypot(a.error, b.error)
    a, b = once.sizes[1].data, twice.sizes[1].data  # doubled rows count twice among the P: at most log 2
    assert abs(a.value - b.value) < np.log(2) + 3 * np.hypot(a.error, b.error)
    assert any("share their weight" in line for line in audit_facts(twice))
    assert not any("share their weight" in line for line in audit_facts(once))
    assert twice.measured.nearest.value == pytest.approx(once.measured.nearest.value, rel=0.2)


def test_audit_where_every_held_out_point_is_a_training_point(tmp_path):
    X = gaussians(16, 60, 5)
    found = audited(X, X[20:30].copy())
    assert found.copies.count == 10
    assert np.isfinite(found.row("collapse").data.value)
    for kind in ("condensation", "generalization"):
        assert found.row(kind).verdict == "not measured: fewer than 2 held-out points are no copies of training points"
    assert all("no copies" in row.note for row in found.sizes)
    cells = [cell for table in audit_tables(found) for row in table.rows for cell in row]
    assert not {"nan", "inf"} & set(cells)
    assert all(path.stat().st_size for path in write_audit(found, tmp_path))


# --- spectra, training, experiments -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def doubled(tmp_path_factory):
    """200 points of which 80 are there again, to the last bit, as a file."""
    X = gaussians(17, 200, 6)
    path = tmp_path_factory.mktemp("data") / "doubled.npy"
    np.save(path, np.concatenate([X, last_bit(X[:80])]))
    return path


def test_fresh_points_of_a_spectrum_are_no_training_points(doubled):
    subject = from_data(doubled, seed=1)
    left = subject.copies.count
    assert (subject.P, len(subject.fresh) + left) == (252, 28)
    assert left > 5
    assert torch.cdist(subject.fresh, subject.X).min() > 0.1
    found = spectrum(subject, [0.05, 0.5], probes=2)
    assert int(found["held_out_near_copies"]) == left
    assert any(f"{left} of 28 points kept back left out" in line for line in reading(found))


def test_a_spectrum_without_fresh_points_says_why(tmp_path):
    np.save(tmp_path / "same.npy", np.repeat(gaussians(18, 10, 4), 8, axis=0))
    with pytest.raises(DomainError, match="0 points are fresh: 8 of 8 points kept back left out"):
        from_data(tmp_path / "same.npy")


def test_points_kept_back_in_training_are_no_training_points(doubled, tmp_path):
    source = {"data": str(doubled), "seed": 2}
    found = points(source)
    assert len(found.X) == 252
    assert found.copies.count > 5
    assert len(found.fresh) + found.copies.count == 28
    assert torch.cdist(found.fresh, found.X).min() > 0.1
    linear = points({"data": "linear", "seed": 0})
    assert (len(linear.fresh), linear.copies.count) == (512, 0)

    out = tmp_path / "net.safetensors"
    config = TrainingConfig(2, 8, 1e-3, noise=NoiseLevels(0.1, 2.0))
    train(source, [20], {"kind": "mlp", "width": 8, "blocks": 1}, config, out)
    (member,) = members(out)
    assert (member.P, len(member.fresh), member.copies.count) == (20, len(found.fresh), found.copies.count)
    ((P, losses),) = audit_model(out, points=4)
    assert report_lines(P, losses)[-1] == f"{found.copies.report('points kept back')}."


def test_the_law_of_the_nearest_point_is_that_of_points_that_are_no_copies():
    X, own = gaussians(19, 300, 5), gaussians(20, 60, 5)
    mixed = np.concatenate([own[:30], X[:15], last_bit(X[15:30]), own[30:]])
    sets = [Dataset(X, "set", (5,), "data units", "a generator", held_out=held) for held in (own, mixed)]
    (clean, _), (found, _) = (law_on_data(one, probes=60, seed=0, device="cpu") for one in sets)
    assert found[0].verdict.measured == pytest.approx(clean[0].verdict.measured, rel=1e-9)
    assert "30 of 90 held-out points left out" in found[0].note
    assert "left out" not in clean[0].note
