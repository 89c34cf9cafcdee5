"""Nearest neighbours agree with brute force in float64; planted duplicates are found, and none is invented."""

from pathlib import Path

import numpy as np
import pytest

from numerics.domain import DomainError
from validation.data.dataset import load
from validation.data.duplicates import find_duplicates
from validation.data.neighbours import nearest_neighbours


def brute(X, k, queries=None):
    X = np.asarray(X, dtype=np.float64)
    Y = X if queries is None else np.asarray(queries, dtype=np.float64)
    squared = np.stack([((row - X) ** 2).mean(axis=1) for row in Y])
    if queries is None:
        np.fill_diagonal(squared, np.inf)
    return np.sort(squared, axis=1)[:, :k], np.argsort(squared, axis=1, kind="stable")[:, :k]


def clusters(rng):
    """Ten clusters a thousand apart, a thousandth wide: float32 products cannot tell their members apart."""
    return rng.integers(10, size=(300, 1)) * 1e3 + 1e-3 * rng.standard_normal((300, 40))


SETS = {
    "float32": lambda rng: rng.standard_normal((500, 30)).astype(np.float32),
    "offset": lambda rng: 1e6 + rng.standard_normal((300, 20)),
    "tiny": lambda rng: 1e-30 * rng.standard_normal((100, 7)),
    "huge": lambda rng: 1e30 * rng.standard_normal((100, 7)),
    "clusters": clusters,
    "uint8": lambda rng: rng.integers(0, 256, (200, 50), dtype=np.uint8),
    "line": lambda rng: rng.standard_normal((400, 1)),
    "two": lambda rng: rng.standard_normal((2, 5)),
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("tile", [None, 37])
def test_neighbours_agree_with_brute_force(name, tile):
    X = SETS[name](np.random.default_rng(7))
    k = min(5, len(X) - 1)
    found = nearest_neighbours(X, k, tile=tile)
    squared, index = brute(X, k)
    np.testing.assert_allclose(found.squared_distance, squared, rtol=1e-12)
    distinct = np.diff(squared, axis=1).min(axis=1, initial=np.inf) > 1e-9 * squared[:, -1]
    np.testing.assert_array_equal(found.index[distinct], index[distinct])
    np.testing.assert_allclose(found.variance, X.astype(np.float64).var(axis=0).mean(), rtol=1e-9)
    assert (found.refined > 0) == (name == "clusters")


def test_neighbours_of_queries_and_of_a_memory_map(tmp_path):
    rng = np.random.default_rng(8)
    X, Y = rng.standard_normal((300, 12)), rng.standard_normal((41, 12))
    Y[3] = X[7]
    np.save(tmp_path / "x.npy", X)
    found = nearest_neighbours(load(tmp_path / "x.npy").X, 3, queries=Y, tile=64)
    squared, index = brute(X, 3, Y)
    np.testing.assert_allclose(found.squared_distance, squared, rtol=1e-12)
    np.testing.assert_array_equal(found.index, index)
    assert (found.squared_distance[3, 0], found.index[3, 0]) == (0, 7)


def test_ties_and_equal_rows_are_settled():
    rng = np.random.default_rng(9)
    X = rng.integers(0, 2, (400, 12))  # at most 4096 values, distances in twelfths: ties and copies everywhere
    np.testing.assert_allclose(nearest_neighbours(X, 4).squared_distance, brute(X, 4)[0], rtol=1e-12)
    same = nearest_neighbours(np.ones((30, 4)), 3)
    assert (same.squared_distance == 0).all()
    assert (same.index != np.arange(30)[:, None]).all()


@pytest.mark.parametrize("dimension", [1, 2, 10, 100])
def test_planted_duplicates_are_found_and_only_these(dimension):
    rng = np.random.default_rng(10 + dimension)
    X = rng.standard_normal((600, dimension))
    step = {1: 1e-10, 2: 1e-5}.get(dimension, 0.01)
    X[[100, 101]], X[200] = X[5], X[6]
    X[300] = X[7] + step * rng.standard_normal(dimension)
    X[[301, 302]] = X[8] + step * rng.standard_normal((2, dimension))  # three near-copies of one sample
    found = find_duplicates(X, tile=128)
    assert found.exact == 3
    assert {tuple(p) for p in found.exact_pairs.tolist()} == {(5, 100), (5, 101), (6, 200)}
    assert {tuple(p) for p in found.near_pairs.tolist()} == {(7, 300), (8, 301), (8, 302), (301, 302)}
    assert found.near == 4
    assert np.flatnonzero(~found.keep).tolist() == [100, 101, 200, 300, 301, 302]
    squared, _ = brute(X, 1)
    np.testing.assert_allclose(found.nearest, squared[:, 0], rtol=1e-12)
    np.testing.assert_allclose(((X - X[found.neighbour]) ** 2).mean(axis=1), squared[:, 0], rtol=1e-12)
    assert found.report().startswith("3 exact duplicates, e.g. rows ")


def sample_sets(rng, P):
    yield rng.standard_normal((P, 1))
    yield rng.standard_normal((P, 2))
    yield rng.random((P, 3))
    yield rng.standard_normal((P, 300)).astype(np.float32)
    yield np.tanh(rng.standard_normal((P, 8)) @ rng.standard_normal((8, 100)))
    flat = rng.standard_normal((P, 60))  # a plane of samples among samples of sixty dimensions
    flat[: P // 4, 2:] = 0
    yield flat
    yield rng.standard_normal((P, 30)) * rng.choice([0.01, 1], size=(P, 1))


def test_no_duplicates_are_invented():
    # 140 data sets at 0.01 expected pairs each: more than 6 pairs by chance with probability 6e-4
    rng = np.random.default_rng(11)
    found = [find_duplicates(X) for _ in range(20) for X in sample_sets(rng, 300)]
    assert sum(result.exact for result in found) == 0
    assert sum(result.near for result in found) <= 6
    # control: the alarms are as many as announced when a hundred a data set are allowed, so the law is the right one
    loose = np.mean([find_duplicates(rng.random((2000, 2)), near=1, false_alarms=100).near for _ in range(5)])
    assert 30 < loose <= 100


def test_float_zero_signs_and_few_rows():
    assert find_duplicates(np.array([[0.0, 1.0], [-0.0, 1.0]])).exact == 1
    few = find_duplicates(np.random.default_rng(0).standard_normal((5, 3)))
    assert (few.near, np.isnan(few.dimension)) == (0, True)
    assert "fewer than 12" in few.criterion
    constant = find_duplicates(np.ones((4, 2), np.float32))
    assert (constant.exact, constant.nearest.tolist(), constant.variance) == (3, [0.0] * 4, 0.0)
    assert constant.report() == "3 exact duplicates, e.g. rows 0 and 1; 0 near-duplicate pairs"


@pytest.mark.parametrize(
    ("X", "options", "name"),
    [
        (np.ones(5), {}, "X"),
        (np.ones((1, 5)), {}, "X"),
        (np.array([["a"], ["b"]]), {}, "X"),
        (np.array([[np.nan], [1.0], [2.0]]), {}, "X"),
        (np.array([[np.inf], [1.0], [2.0]]), {}, "X"),
        (np.eye(3), {"near": 0}, "near"),
        (np.eye(3), {"near": 1.5}, "near"),
        (np.eye(3), {"false_alarms": -1}, "false_alarms"),
        (np.eye(3), {"device": "abacus"}, "device"),
        (np.eye(3), {"tile": -2}, "tile"),
    ],
)
def test_arguments_outside_their_domain(X, options, name):
    with pytest.raises(DomainError, match=f"^{name} = "):
        find_duplicates(X, **options)


def test_neighbour_arguments_outside_their_domain():
    for options, name in (({"k": 3}, "k"), ({"k": 0}, "k"), ({"queries": np.eye(2)}, "queries")):
        with pytest.raises(DomainError, match=f"^{name} = "):
            nearest_neighbours(np.eye(3), **options)
    with pytest.raises(DomainError, match="queries"):
        nearest_neighbours(np.eye(3), queries=np.full((1, 3), np.nan))


def test_the_accelerator_agrees(cuda):
    X = np.random.default_rng(12).standard_normal((5000, 300)).astype(np.float32)
    one, two = nearest_neighbours(X, 5), nearest_neighbours(X, 5, device=cuda)
    np.testing.assert_array_equal(one.index, two.index)
    np.testing.assert_array_equal(one.squared_distance, two.squared_distance)


SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not here")
def test_mnist_has_no_duplicates_but_planted_ones_show():
    X = load(SHARED / "mnist10k.npz", limit=3000).X
    assert find_duplicates(X).report() == "0 exact duplicates; 0 near-duplicate pairs"
    X = np.concatenate([X, X[:2], X[2:4] + np.float32(0.02)])
    found = find_duplicates(X)
    assert (found.exact, found.near) == (2, 2)
    assert sorted(found.near_pairs.tolist()) == [[2, 3002], [3, 3003]]
