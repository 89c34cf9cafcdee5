"""Classes: labels from any source, and what conditioning on the class costs, on mixtures where the answer is known."""

import csv
import gzip
import math

import numpy as np
import pytest

from numerics.domain import DomainError
from validation.audit import audit_classes, classes_table
from validation.data import Dataset, load, read_labels


def _data(X, labels=None, **more):
    return Dataset(X.astype(np.float32), "made", (X.shape[1],), "data units", "a test", labels=labels, **more)


@pytest.fixture(scope="module")
def random_labels():
    """One Gaussian cloud whose labels mean nothing, one in five points in class 0."""
    rng = np.random.default_rng(0)
    return _data(rng.standard_normal((2500, 6)), rng.choice([0, 1, 1, 1, 1], 2500))


GRID = np.geomspace(0.01, 20, 40)


def test_labels_that_mean_nothing_cost_their_share_of_the_points(random_labels):
    """Of equal laws the factor in P is total over class, and sigma rises as P^(-1/N) falls: by 5^(1/6) and (5/4)^(1/6)."""
    rows = audit_classes(random_labels, t=GRID, probes=250)
    for row, share in zip(rows, (0.2, 0.8), strict=True):
        assert row.factor.value == pytest.approx(math.log(1 / share), abs=5 * row.factor.error + 0.1)
        assert row.factor.error < 0.4
        expected = (1 / share) ** (1 / 6)
        assert row.sigma_ratio.value == pytest.approx(expected, abs=5 * row.sigma_ratio.error + 0.06)
        assert row.collapse.value > row.among_all.value
        assert row.load == pytest.approx(math.log(row.P) / 6)
        assert row.theory == pytest.approx(1 / (math.exp(2 * row.load) - 1), rel=0.2)


def test_classes_that_are_far_apart_cost_nothing():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 1200)
    X = rng.standard_normal((1200, 6)) + 50 * labels[:, None]
    for row in audit_classes(_data(X, labels), t=GRID, probes=100):
        assert row.sigma_ratio.value == pytest.approx(1.0, abs=1e-3)
        assert row.factor.value == pytest.approx(0.0, abs=1e-2)


def test_small_classes_are_listed_without_numbers(random_labels):
    labels = random_labels.labels.copy()
    labels[:5] = 7
    rows = audit_classes(_data(random_labels.X, labels), t=GRID, probes=32)
    assert [row.name for row in rows] == ["0", "1", "7"]
    assert rows[2].P == 5
    assert "fewer than" in rows[2].reason
    assert "fewer than" in classes_table(rows).rows[2][-1]


def test_folders_name_their_classes():
    rng = np.random.default_rng(2)
    files = tuple(f"{'cats' if i % 2 else 'dogs'}/{i}.png" for i in range(160))
    rows = audit_classes(_data(rng.standard_normal((160, 3)), np.arange(160) % 2, files=files), t=GRID, probes=16)
    assert [row.name for row in rows] == ["dogs", "cats"]


@pytest.mark.parametrize("labels", [None, np.zeros(2500, dtype=int), np.arange(2500)])
def test_no_classes_is_an_error(random_labels, labels):
    with pytest.raises(DomainError, match="labels"):
        audit_classes(_data(random_labels.X, labels), t=GRID)


def test_labels_from_every_kind_of_file(tmp_path):
    labels = np.array([3, 1, 1, 2], dtype=np.uint8)
    idx = b"\0\0\x08\x01\0\0\0\x04" + labels.tobytes()
    (tmp_path / "l-idx1-ubyte").write_bytes(idx)
    (tmp_path / "l-idx1-ubyte.gz").write_bytes(gzip.compress(idx))
    np.save(tmp_path / "l.npy", labels[:, None])
    np.savez(tmp_path / "l.npz", other=np.zeros(9), labels=labels)
    (tmp_path / "l.txt").write_text("3\n1\n1\n2\n")
    (tmp_path / "words.txt").write_text("dog\nant\nant\ncat\n")
    for name in ("l-idx1-ubyte", "l-idx1-ubyte.gz", "l.npy", "l.npz", "l.txt"):
        assert read_labels(tmp_path / name, 4).tolist() == [3, 1, 1, 2], name
    assert read_labels(tmp_path / "words.txt", 4).tolist() == [2, 0, 0, 1]
    with pytest.raises(DomainError, match="4 labels"):
        read_labels(tmp_path / "l.npy", 5)
    with pytest.raises(DomainError, match=r"nowhere\.npy"):
        read_labels(tmp_path / "nowhere.npy", 4)
    np.save(tmp_path / "bad.npy", np.zeros((4, 2)))
    with pytest.raises(DomainError, match=r"bad\.npy"):
        read_labels(tmp_path / "bad.npy", 4)


def test_a_limit_draws_labels_with_their_samples(tmp_path):
    X = np.arange(60.0).reshape(60, 1) + np.zeros((60, 3))
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", np.arange(60))
    data = load(tmp_path / "x.npy", limit=20, seed=5)
    assert read_labels(tmp_path / "y.npy", 20, limit=20, seed=5).tolist() == data.X[:, 0].astype(int).tolist()


def test_audit_writes_points_and_classes(geomem, tmp_path):
    """One run of the command on digits of three classes: a row a point, a row a class, the figures."""
    data = load(limit=900)
    np.save(tmp_path / "x.npy", data.X.reshape(-1, 8, 8)[data.labels < 3])
    np.save(tmp_path / "y.npy", data.labels[data.labels < 3])
    out = tmp_path / "out"
    run = geomem(
        "audit", "x.npy", "--labels", "y.npy", "--points", "--no-twin", "--no-finite-size", "--probes", 16, "--out", out
    )
    assert run.returncode == 0, run.stderr
    count = int((data.labels < 3).sum())
    with open(out / "points.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == count
    assert {"point", "class", "t_c", "t_c_error", "sigma", "nearest", "nearest_distance", "group"} <= set(rows[0])
    assert all(float(row["t_c"]) > 0 for row in rows)
    assert [int(row["class"]) for row in rows] == data.labels[data.labels < 3].tolist()
    for name in ("points.nc", "points.png", "points-extremes.png", "audit-classes.csv"):
        assert (out / name).stat().st_size > 0
    assert "Single points: the ideal score memorises" in run.stdout
    assert "A class-conditional model sees one class at a time" in run.stdout
    bad = geomem("audit", "x.npy", "--labels", "nowhere.npy")
    assert bad.returncode == 2
    assert "nowhere.npy" in bad.stderr
