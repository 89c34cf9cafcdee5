"""Collapse of single training points: against brute force, with certificates that hold and groups that share."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, special

from numerics.domain import DomainError
from validation import point_collapse_times
from validation.data import find_duplicates
from validation.points import competitors
from validation.points.crossing import fall_through_half
from validation.points.groups import duplicate_groups
from validation.points.kernels import NearPairs, competing_sums, competing_sums_torch


def _weight(X, mu, t, noise, group=()):
    """Weight of point mu (and of its group) at its noisy versions, one a row of `noise`, in plain float64."""
    difference = X[mu] - X
    exponent = -(difference**2).sum(1) / (2 * t) - noise @ difference.T / math.sqrt(t)
    return np.exp(exponent[:, [mu, *group]]).sum(1) / np.exp(exponent).sum(1)


def _shared_draws(seed, draws, N):
    half = np.random.default_rng(seed).standard_normal((draws // 2, N))
    return np.concatenate([half, -half])


@pytest.fixture(scope="module")
def clouds():
    """Two clouds of different density, an outlier, and a pair of near-duplicates."""
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.standard_normal((150, 6)), 4 + 0.3 * rng.standard_normal((150, 6))])
    X[0], X[5] = 12.0, X[6] + 1e-4 * rng.standard_normal(6)
    return X


@pytest.fixture(scope="module")
def found(clouds):
    return point_collapse_times(clouds, draws=64, seed=3)


def test_crossings_are_those_of_brute_force_on_the_same_draws(clouds, found):
    noise = _shared_draws(3, 64, 6)
    for mu in (0, 1, 17, 149, 150, 200, 299):

        def excess(log_t, mu=mu):
            return _weight(clouds, mu, math.exp(log_t), noise).mean() - 0.5

        around = math.log(float(found.t_c[mu]))
        exact = math.exp(optimize.brentq(excess, around - 1, around + 1))
        assert float(found.t_c[mu]) == pytest.approx(exact, rel=3e-3)
        D2 = ((clouds[mu] - clouds) ** 2).sum(1)
        D2[mu] = np.inf
        assert np.exp(-D2 / (2 * float(found.t_o[mu]))).sum() == pytest.approx(1.0, rel=3e-3)


def test_errors_are_those_over_draws(clouds):
    """The mean over 24 seeds of (t - truth)^2/error^2 is near 1: chi-square with 24 degrees of freedom, both tails 1e-4.

    Truth is the mean over those seeds of 64 draws each. Negative control: errors half as large would fail."""
    rows = [3, 160, 280]
    runs = [point_collapse_times(clouds, rows=rows, draws=64, seed=100 + s) for s in range(24)]
    t = np.array([np.log(r.t_c) for r in runs])
    error = np.array([r.t_c_error / r.t_c for r in runs])
    ratio = ((t - t.mean(axis=0)) ** 2).sum(axis=0) / (error**2).mean(axis=0)
    low, high = special.chdtri(23, [1 - 1e-4, 1e-4])
    assert (ratio > low).all()
    assert (ratio < high).all()
    assert (4 * ratio > high).all()


def test_isolated_points_are_memorised_at_higher_noise(found):
    assert int(found.t_c.values.argmax()) == 0
    inner, outer = found.t_c[150:].median(), found.t_c[1:150].median()
    assert float(outer) > 3 * float(inner)
    assert bool((found.t_c < found.t_o).all())


def test_near_duplicates_collapse_as_a_group(clouds, found):
    assert found.group[[5, 6]].values.tolist() == [0, 0]
    assert found.group_size[[5, 6]].values.tolist() == [2, 2]
    assert int((found.group >= 0).sum()) == 2
    t = float(found.t_c[5])
    assert t == float(found.t_c[6])
    noise = _shared_draws(3, 64, 6)
    assert _weight(clouds, 5, t, noise, (6,)).mean() == pytest.approx(0.5, abs=2e-3)
    assert found.own_weight[[5, 6]].values == pytest.approx([0.25, 0.25], abs=0.01)
    without = point_collapse_times(np.delete(clouds, 6, axis=0), rows=[5], draws=64, seed=3)
    # each noise is easier to tell from the rest with two points there than with one
    assert t == pytest.approx(float(without.t_c[0]), rel=0.35)
    assert t > float(without.t_c[0])


def test_exact_copies_are_one_group_of_three():
    X = np.random.default_rng(1).standard_normal((200, 4)).astype(np.float32)
    X[[50, 120]] = X[7]
    found = point_collapse_times(X, seed=1)
    assert found.group[[7, 50, 120]].values.tolist() == [0, 0, 0]
    assert len(np.unique(found.t_c[[7, 50, 120]])) == 1
    assert found.nearest_distance[50] == 0
    assert found.own_weight[50] == pytest.approx(1 / 6, abs=0.01)
    assert np.isfinite(found.t_c).all()


def test_chains_of_duplicates_make_one_group():
    found = find_duplicates(np.random.default_rng(0).standard_normal((40, 9)))
    found = type(found)(
        **{**found.__dict__, "exact_pairs": np.array([[3, 8]]), "near_pairs": np.array([[8, 30], [1, 2]])}
    )
    group = duplicate_groups(found)
    assert group[[3, 8, 30]].tolist() == [1, 1, 1]
    assert group[[1, 2]].tolist() == [0, 0]
    assert (np.delete(group, [1, 2, 3, 8, 30]) == -1).all()


def test_far_clusters_are_left_out_under_a_certificate_that_holds(monkeypatch):
    """With pruning forced, t_c of every point is that of all pairs, and the omitted weight is below its bound."""
    rng = np.random.default_rng(4)
    X = (6 * rng.standard_normal((12, 5)))[rng.integers(0, 12, 900)] + 0.5 * rng.standard_normal((900, 5))
    full = point_collapse_times(X, seed=2, tolerance=1e-9)
    assert bool((full.visited == 1).all())
    monkeypatch.setattr(competitors, "CLUSTERED", 100)
    pruned = point_collapse_times(X, seed=2)
    assert float(pruned.visited.mean()) < 0.6
    assert bool((pruned.omitted <= 1e-3).all())
    assert bool((pruned.omitted > 0).any())
    np.testing.assert_allclose(pruned.t_c, full.t_c, rtol=2e-2)
    assert float(abs(np.log(pruned.t_c / full.t_c)).mean()) < 2e-3
    np.testing.assert_allclose(pruned.t_o, full.t_o, rtol=4e-3)
    noise = _shared_draws(2, 32, 5)
    for mu in (0, 300, 899):
        assert _weight(X, mu, float(pruned.t_c[mu]), noise).mean() == pytest.approx(0.5, abs=3e-3)


@pytest.mark.parametrize("s", [0.1, 1.0, 3.0, 8.0])
def test_the_bound_on_one_point_is_one(s):
    """E e/(1+e), log e ~ N(-s^2/2, s^2), is below erfc(s/sqrt 8), and above a third of it: the bound is not idle."""

    def term(g):
        return special.expit(-(s**2) / 2 + s * g) * math.exp(-g * g / 2) / math.sqrt(2 * math.pi)

    exact = integrate.quad(term, -12, 12, points=[s / 2], epsabs=1e-16)[0]
    assert exact < special.erfc(s / math.sqrt(8)) < 3 * exact + 1e-15


def test_far_from_zero_and_close_together_float32_does_not_lie():
    """Clusters of spread 1e-2 at distances of 1e3: products of float32 cancel there, and are done again."""
    rng = np.random.default_rng(5)
    centres = 1e3 * rng.standard_normal((4, 3))
    X = centres[rng.integers(0, 4, 300)] + 1e-2 * rng.standard_normal((300, 3))
    found = point_collapse_times(X, draws=32, seed=6)
    noise = _shared_draws(6, 32, 3)
    for mu in range(0, 300, 60):
        assert _weight(X, mu, float(found.t_c[mu]), noise).mean() == pytest.approx(0.5, abs=0.02)


def test_compiled_sums_are_those_of_torch():
    rng = np.random.default_rng(7)
    squared = torch.from_numpy(rng.uniform(0, 60, (5, 5000)).astype(np.float32))
    squared[2, 10] = math.inf
    own, p = (torch.from_numpy(rng.standard_normal(s).astype(np.float32)) for s in ((5, 6), (5000, 6)))
    t, rows = rng.uniform(0.3, 3, 5), np.array([0, 2, 4])
    for a, b in zip(
        competing_sums(squared, own, p, t, rows, 25.0),
        competing_sums_torch(squared, own, p, t, rows, 25.0),
        strict=True,
    ):
        assert a.shape == (3, 6)
        np.testing.assert_allclose(a, b, rtol=2e-5)


def test_sums_over_a_list_of_near_pairs_are_those_over_all():
    rng = np.random.default_rng(7)
    squared = rng.uniform(0, 400, (5, 5000)).astype(np.float32)
    own, p = (rng.standard_normal(s).astype(np.float32) for s in ((5, 6), (5000, 6)))
    t, rows = rng.uniform(0.3, 3, 5), np.array([0, 2, 4])
    near = NearPairs(squared, 25.0 * t)
    assert near.few
    assert near.counts.tolist() == (squared <= (25 * t)[:, None]).sum(axis=1).tolist()
    full = competing_sums(*(torch.from_numpy(v) for v in (squared, own, p)), t, rows, 25.0)
    for a, b in zip(near.sums(own, p, t, rows, 25.0), full, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_two_thirds_of_the_points_in_one_group_never_fall_below_one_half():
    X = np.random.default_rng(8).standard_normal((30, 3))
    X[:20] = X[0]
    found = point_collapse_times(X)
    assert np.isnan(found.t_c[:20]).all()
    assert np.isfinite(found.t_c[20:]).all()


def test_newton_survives_flat_and_steep_curves():
    centre, width = np.array([-20.0, 0.0, 9.0]), np.array([0.02, 1.0, 3.0])

    def curve(t, rows):
        x = (np.log(t[rows]) - centre[rows]) / width[rows]
        value = special.expit(-x)
        return value, -value * (1 - value) / width[rows]

    found = fall_through_half(curve, np.full(3, 5.0), 1e-15, 1e9, 1e-4)
    np.testing.assert_allclose(np.log(found), centre, atol=2e-3)
    assert fall_through_half(
        lambda t, r: (np.ones(len(r)), np.zeros(len(r))), np.ones(2), 1e-3, 1e3, 1e-4
    ).tolist() == [
        math.inf,
        math.inf,
    ]


def test_on_an_accelerator(cuda, clouds):
    rows = [0, 5, 6, 200]
    same = {"rows": rows, "draws": 8, "seed": 1, "duplicates": find_duplicates(clouds)}
    here = point_collapse_times(clouds, **same)
    there = point_collapse_times(clouds, **same, device=cuda)
    np.testing.assert_allclose(there.t_c, here.t_c, rtol=5e-3)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"X": np.zeros(4)}, "X"),
        ({"X": np.zeros((2, 2))}, "X"),
        ({"X": np.full((5, 2), np.nan)}, "X"),
        ({"X": np.ones((5, 2))}, "X"),
        ({"rows": [0, 0]}, "rows"),
        ({"rows": [50]}, "rows"),
        ({"draws": 9}, "draws"),
        ({"draws": 2}, "draws"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"device": "nowhere"}, "device"),
    ],
)
def test_bad_input_is_named(arguments, name):
    X = np.random.default_rng(0).standard_normal((50, 2))
    with pytest.raises(DomainError) as error:
        point_collapse_times(**{"X": X, **arguments})
    assert error.value.argument == name
