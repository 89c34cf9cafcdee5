"""Large numbers compared or subtracted: exponents up to 1e18, data far from zero, thirty decades of t, half-precision input.

The referee is mpmath at 60 digits on the stored numbers, or float64 differences where these are exact.
"""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch

from numerics.domain import DomainError
from validation.data.neighbours import nearest_neighbours
from validation.score import EmpiricalScore
from validation.score.engine.double_double import gap, half_squared_distance, relative_error
from validation.simulation.trajectories import SCHEMES, integrate, karras_levels

TOLERANCE = {"float32": 2e-5, "float64": 1e-10}
rng = np.random.default_rng(7)


def exact(X, x, t):
    """(log Z, weights, mean, score) of one query to 60 digits, rounded to float64 at the end."""
    with mpmath.workdps(60):
        t = mpmath.mpf(float(t))
        q = [mpmath.mpf(float(v)) for v in x]
        rows = [[mpmath.mpf(float(v)) for v in row] for row in X]
        exponents = [-sum((a - b) ** 2 for a, b in zip(q, row, strict=True)) / (2 * t) for row in rows]
        top = max(exponents)
        weights = [mpmath.exp(e - top) for e in exponents]
        total = mpmath.fsum(weights)
        mean = [mpmath.fsum(w * row[n] for w, row in zip(weights, rows, strict=True)) / total for n in range(len(q))]
        score = [float((m - v) / t) for m, v in zip(mean, q, strict=True)]
        log_w = [float(e - top - mpmath.log(total)) for e in exponents]
        return (
            float(top + mpmath.log(total)),
            np.array([float(w / total) for w in weights]),
            np.array([float(m) for m in mean]),
            np.array(score),
            np.array(log_w),
        )


def agree(E, X, x, t):
    log_z, weights, mean, score, log_w = exact(X, x, t)
    tolerance = TOLERANCE[E.dtype]
    size = np.linalg.norm
    assert abs(E.log_partition(x, t) - log_z) <= tolerance * max(1, abs(log_z))
    assert np.abs(E.weights(x, t) - weights).max() < tolerance
    assert abs(E.participation(x, t) * (weights**2).sum() - 1) < tolerance
    assert size(E.score(x, t) - score) <= tolerance * size(score)
    assert size(E.denoise(x, t) - mean) <= tolerance * max(size(mean), 1e-300)
    k = int(weights.argmax())
    assert abs(E.log_weight(x, t, k) - log_w[k]) < tolerance


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("clusters", [None, 20])
def test_exponents_of_1e18_keep_their_largest_weight(dtype, compiled, clusters):
    """The window exp(-cut) is far below one unit in the last place of |x - xi|^2/2t."""
    X = rng.standard_normal((200, 5))
    x = X[3] + 0.3 * rng.standard_normal(5)
    E = EmpiricalScore(X, dtype=dtype, clusters=clusters, policy="float32" if compiled else "plain")
    for exponent in (1e6, 1e12, 1e16, 1e18, 1e25):
        t = ((x - X) ** 2).sum(1).min() / (2 * exponent)
        agree(E, X, x, max(t, 1e-30))
        assert 0 <= E.statistics["left_out"] < 1e-6


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gaps_far_below_the_rounding_of_the_exponents_still_decide(dtype):
    """Patterns mirrored about the query up to a few units in the last place: weights 0.5, 0.88, ... at exponents of 1e17."""
    base = rng.standard_normal(6)
    step = np.spacing(np.abs(base).max())
    X = np.stack([base, -base, np.roll(base, 1), base + 0, rng.standard_normal(6) + 4])
    X[1, 0] += 4 * step
    X[2, 2] -= 2 * step
    x = np.zeros(6)
    E = EmpiricalScore(X, dtype=dtype)
    energy = (base**2).sum() / 2
    seen = []
    for t in (energy / 1e14, energy / 1e15, energy / 3e15, energy / 1e16, energy / 1e17):
        agree(E, X, x, t)
        seen.append(E.weights(x, t)[:4])
    seen = np.array(seen)
    assert ((seen > 0.01) & (seen < 0.99)).sum() >= 8  # the case is a real mixture
    plain = -((X.astype(np.float32) - x) ** 2).sum(1) / (2 * t)  # negative control: exponents subtracted in float32
    wrong = np.exp(plain - plain.max())
    assert np.abs(wrong / wrong.sum() - E.weights(x, t)).max() > 0.1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_cannot_be_ranked_is_an_error_and_copies_are_not(dtype):
    X = np.array([[1.0, 2.0], [1.0, 2.0], [-3.0, 4.0], [2.0, -1.0 + 3e-16]])
    E = EmpiricalScore(X, dtype=dtype)
    for t in (1e-18, 1e-26, 1e-30):
        far = np.array([1.0, 3.0])
        assert E.weights(far, t)[:2].tolist() == [0.5, 0.5]  # copies share, at any exponent
        assert E.participation(far, t) == 2.0
    third = np.array([1.0, 1.0]) / 3
    A = np.stack([third + np.array([0.7, 0.1]), third + np.array([0.1, 0.7])])
    x = third * (1 + 1e-16)
    E = EmpiricalScore(A, dtype=dtype)
    agree(E, A, x, 1e-16)
    with pytest.raises(DomainError, match=r"1e\+18.*clearly the nearest"):
        E.score(np.array([3e7, 3e7 + 1e-9]), 1e-30)


def test_double_double_distances_against_mpmath():
    for N in (1, 2, 7, 300):
        x = torch.from_numpy(rng.standard_normal((4, N)) * 10.0 ** rng.uniform(-6, 12, (4, 1)))
        y = torch.from_numpy(rng.standard_normal((4, N)))
        hi, lo = half_squared_distance(x, y)
        with mpmath.workdps(60):
            sums = [
                mpmath.fsum((mpmath.mpf(a) - mpmath.mpf(b)) ** 2 for a, b in zip(p, q, strict=True)) / 2
                for p, q in zip(x.tolist(), y.tolist(), strict=True)
            ]
            for k, s in enumerate(sums):
                assert abs(mpmath.mpf(float(hi[k])) + mpmath.mpf(float(lo[k])) - s) < relative_error(N) * s
            difference = gap((hi[:1], lo[:1]), (hi[1:2], lo[1:2]))
            assert abs(float(difference) - float(sums[0] - sums[1])) <= 4e-16 * abs(float(sums[0] - sums[1]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("offset", [0.0, 1e6, 1e11])
def test_a_common_offset_changes_no_weight(dtype, offset):
    """Multiples of 2^-8 (2^-14 at 1e11 is still exact) moved by an integer: centred data give the right values."""
    X = np.round(rng.standard_normal((120, 16)) * 256) / 256
    x = np.round((X[:5] + 0.7 * rng.standard_normal((5, 16))) * 256) / 256
    for t in (1e-6, 0.1, 1.0, 30.0):
        here, there = (EmpiricalScore(X + s, dtype=dtype) for s in (0.0, offset))
        wanted = np.stack([exact(X, q, t)[3] for q in x[:1]])
        moved = there.score(x + offset, t)
        assert np.linalg.norm(moved[:1] - wanted) < TOLERANCE[dtype] * np.linalg.norm(wanted)
        np.testing.assert_allclose(moved, here.score(x, t), rtol=1e-4, atol=TOLERANCE[dtype] * np.abs(moved).max())
        spectra = [E.jacobian_eigenvalues(q, t) for E, q in ((here, x), (there, x + offset))]
        np.testing.assert_allclose(*spectra, rtol=1e-4, atol=TOLERANCE[dtype] * np.abs(spectra[0]).max() * 10)
        assert there.nearest(x + offset).index.tolist() == ((x[:, None] - X) ** 2).sum(2).argmin(1).tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_far_queries_have_exact_weights_means_and_covariances(dtype):
    """|x| up to 1e13 radii: the posterior mean is not x + (m - x), nor exponents differences of |x - xi|^2/2t."""
    X = rng.standard_normal((60, 4))
    direction = np.array([0.5, -0.5, 0.5, 0.5])
    for distance in (1e3, 1e8, 1e13):
        x, t = distance * direction, distance  # gaps x.xi/t are of order 1
        E = EmpiricalScore(X, dtype=dtype)
        agree(E, X, x, t)
        _, weights, mean, _, _ = exact(X, x, t)
        C = np.einsum("p,pi,pj->ij", weights, X - mean, X - mean)
        found = E.jacobian_operator(x, t)._covariance.matrices()[0].numpy()
        assert np.abs(found - C).max() < TOLERANCE[dtype] * np.abs(C).max()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_thirty_decades_of_t_and_of_scale(dtype):
    X = rng.standard_normal((40, 3)).astype(np.float32).astype(np.float64)
    for scale in (1e-12, 1.0, 1e12):
        E = EmpiricalScore(X * scale, dtype=dtype)
        for t in np.geomspace(1e-30, 1e30, 13):
            x = X[5] * scale + min(np.sqrt(t), 1e3 * scale) * np.array([0.3, -0.2, 0.5])
            agree(E, X * scale, x, t)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_profiles_at_large_exponents(dtype, compiled):
    base = rng.standard_normal(6)
    X = np.stack([base, -base, np.roll(base, 1), rng.standard_normal(6) + 2])
    X[1, 0] += 4 * np.spacing(abs(base[0]))
    grid = (base**2).sum() / 2 / np.array([1e17, 1e16, 1e12, 1e2, 1.0])
    E = EmpiricalScore(X, dtype=dtype, policy="float32" if compiled else "plain")
    found = E.clean_profile(np.zeros(6), grid)
    tolerance = 3e-4 if dtype == "float32" else 1e-6
    for k, t in enumerate(grid):
        log_z, weights, *_ = exact(X, np.zeros(6), t)
        assert abs(found["log_partition"][k] - log_z) <= max(tolerance, 4e-16 * abs(log_z))
        assert abs(found["participation"][k] * (weights**2).sum() - 1) < tolerance
        without = E.clean_profile(np.zeros(6), [t], exclude=0)
        _, weights, *_ = exact(X[1:], np.zeros(6), t)
        assert abs(without["participation"][0] * (weights**2).sum() - 1) < tolerance
    noise = rng.standard_normal(6)
    noisy = E.noisy_profile(np.zeros(6), noise, grid, own=3)
    for k, t in enumerate(grid):
        log_z, weights, _, _, log_w = exact(X, np.sqrt(t) * noise, t)
        assert abs(noisy["log_partition"][k] - log_z) <= max(tolerance, 4e-16 * abs(log_z))
        assert abs(noisy["participation"][k] * (weights**2).sum() - 1) < tolerance
        assert abs(noisy["own_log_weight"][k] - log_w[3]) <= max(tolerance, 4e-16 * abs(log_w[3]))
    with pytest.raises(DomainError, match="noise"):
        E.noisy_profile(base, 1e9 * noise, grid)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_half_precision_input(dtype):
    X = rng.standard_normal((30, 5)).astype(np.float16)
    x = (X[:3] + 0.1 * rng.standard_normal((3, 5))).astype(np.float16)
    for given in (X, torch.from_numpy(X)):
        E = EmpiricalScore(given, dtype=dtype)
        for q in x:
            agree(E, X, q, 0.01)
    score = E.score(torch.from_numpy(x), 0.01)
    assert score.dtype == torch.float16
    wanted = np.stack([exact(X, q, 0.01)[3] for q in x])
    assert np.abs(score.numpy() - wanted).max() < 1e-3 * np.abs(wanted).max()
    with pytest.raises(DomainError, match=r"float16.*6.55e\+04"):
        E.score(torch.from_numpy(x) + 1, 1e-6)
    with pytest.raises(DomainError, match="Pass float64"):
        E.score(torch.from_numpy(x).float() + 1e15, 1e-30)


def test_nearest_pattern_among_distances_that_round_alike():
    base = rng.standard_normal(5)
    X = np.stack([rng.standard_normal(5) + 3, base, -base, base])
    X[2, 1] -= np.copysign(np.spacing(base[1]), X[2, 1])  # nearer by a part in 1e16
    found = EmpiricalScore(X).nearest(np.zeros(5))
    assert found.index == 2
    assert EmpiricalScore(X[[0, 1, 3]]).nearest(np.zeros(5)).index == 1


def test_neighbours_beside_a_far_outlier_and_across_precisions():
    X = rng.standard_normal((400, 8))
    X[17] = 1e12  # the products' rounding hides every other distance
    found = nearest_neighbours(X, 2)
    squared = ((X[:, None] - X) ** 2).mean(2)
    np.fill_diagonal(squared, np.inf)
    rest = np.arange(400) != 17
    assert (found.index[rest] == np.argsort(squared, 1)[rest, :2]).all()
    Y = (1000.3 + 1e-5 * rng.standard_normal((300, 3))).astype(np.float32)
    q = Y[:50].astype(np.float64) + 1e-6 * rng.standard_normal((50, 3))
    found = nearest_neighbours(Y, queries=q)
    assert (found.squared_distance[:, 0] == ((q[:, None] - Y.astype(np.float64)) ** 2).mean(2).min(1)).all()


@pytest.mark.parametrize("name", [name for name, scheme in SCHEMES.items() if not scheme.stochastic])
def test_float32_trajectories_through_fine_levels_and_many_decades(name):
    """A unit Gaussian: x(t) is proportional to sqrt(1 + t), here over twelve decades in 5000 steps."""
    levels = karras_levels(1e6, 1e-6, 5000, rho=np.inf)
    x = torch.tensor([[3.0e3]])
    final = integrate(lambda x, t: -x / (1 + t[:, None]), x, levels, scheme=name)
    right = 3.0e3 / np.sqrt(1 + 1e6)
    coarse = 1.5e-3 if name == "euler" else 2e-4  # the scheme's own error, and float32 states
    assert abs(float(final) / right - 1) < coarse
    assert final.dtype == torch.float32


def test_levels_that_the_states_dtype_cannot_tell():
    score = lambda x, t: -x / (1 + t[:, None])  # noqa: E731
    with pytest.raises(DomainError, match="levels"):
        integrate(score, torch.ones(1, 2).half(), [1e6, 1.0])
    with pytest.raises(DomainError, match="levels"):
        integrate(score, torch.ones(1, 2), [1.0, 1e-60])
    assert integrate(score, torch.ones(1, 2).half(), [1e4, 1.0, 0.0]).dtype == torch.float16
