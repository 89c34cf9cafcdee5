"""Fluctuations of log M_x on nonlinear manifolds: against the Gaussian theory, against each other, and what they lead to."""

from collections import Counter
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest

from numerics.channel.replicated import ReplicatedChannel
from numerics.domain import DomainError
from theory import HiddenManifold, LinearManifold, collapse_time
from theory.finite_size.drift import DRIFTS, finite_size_value
from theory.finite_size.drift_cumulants import Cumulants, cumulants
from theory.models.activations import activation
from theory.replica.fluctuations import Fluctuations
from theory.replica.loop import one_loop, rs_inverse, rs_log_det

# finite differences in the number of replicas (skew, loop) and in beta (the other two): relative errors measured 2e-4 and 1e-5
TOLERANCE = {"skew": 5e-4, "loop": 5e-4, "covariance": 3e-5, "gap_variance": 3e-5}


def computed(model, t, eps):
    """Cumulants at this very t, without interpolation."""
    from theory.finite_size.drift_cumulants import _Nonlinear

    return _Nonlinear(model)._evaluate(1 / t, eps)


@pytest.mark.parametrize("eps", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("variances", [(1.0,), (1.0, 0.3)])
def test_the_identity_has_the_cumulants_of_a_linear_manifold(eps, variances):
    """Eight numbers from sympy's polynomials in spectral moments, and the Wishart loop, from the replicated action."""
    t = 0.9
    exact = cumulants(LinearManifold(0.5, variances=variances), t, eps)
    found = computed(HiddenManifold(0.5, "identity", variances=variances), t, eps)
    for name in Cumulants.__dataclass_fields__:
        expected = float(getattr(exact, name))
        assert float(getattr(found, name)) == pytest.approx(expected, rel=TOLERANCE.get(name, 1e-6), abs=1e-9), name


@pytest.mark.parametrize("activation", ["tanh", "relu", "abs"])
def test_nishimori_line(activation):
    """Where the noise is that of the score, gap, covariance, variance of the gap and tilted variance are 0 and one number."""
    c = computed(HiddenManifold(0.5, activation), 0.5, 1.0)
    assert c.gap == pytest.approx(0.0, abs=1e-9)
    assert c.covariance == pytest.approx(c.spread, rel=3e-5)
    assert c.gap_variance == pytest.approx(c.spread, rel=3e-5)
    assert c.variance > c.spread  # by Cauchy and Schwarz, covariance^2 < variance * gap variance


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("eps", [0.0, 0.6])
def test_variance_is_the_second_derivative_of_the_replicated_action(activation, eps):
    """Two routes: the action at order n_1 n_2 in closed form, and saddles with n = +-0.1 and +-0.2 replicas."""
    t = 0.8
    F = Fluctuations(HiddenManifold(0.5, activation, variances=[1.0, 0.4]))
    at = F.saddle(1 / t, eps * t)
    phi = {0: 0.0}
    for side in (-0.1, 0.1):
        start = at.overlaps
        for n in (side, 2 * side):
            phi[round(10 * n)], _, start = F.replicated(n, 1 / t, eps * t, start)
    second = (-phi[-2] + 16 * phi[-1] - 30 * phi[0] + 16 * phi[1] - phi[2]) / 0.12
    first = (phi[-2] - 8 * phi[-1] + 8 * phi[1] - phi[2]) / 1.2
    assert second == pytest.approx(F.variance(at), rel=1e-3)
    assert first == pytest.approx(at.g + eps / 2, rel=1e-3)


def covariance_at_two_temperatures(F, one, two):
    """Of log M_x, over N, for a clean point: the average over (h0, mu_1, mu_2) itself, with the overlap q_12 iterated."""
    (a1, k1, v1), (a2, k2, v2) = (
        (s.averages, s.overlaps[1] / s.overlaps[0], s.overlaps[3] - s.overlaps[1] ** 2 / s.overlaps[0])
        for s in (one, two)
    )
    h, density = a1._teacher[:2]

    def average(left, right, c):
        """c: covariance of the two mean fields given h0."""
        total, det = 0.0, v1 * v2 - c * c
        for i in np.flatnonzero(density > 1e-17):
            x, y = a1.mu - k1 * h[i], a2.mu - k2 * h[i]
            p, q = np.abs(x) < 8.5 * v1**0.5, np.abs(y) < 8.5 * v2**0.5
            x, y = x[p][:, None], y[q]
            weight = np.exp(-(x**2 * v2 - 2 * c * x * y + y**2 * v1) / (2 * det))
            total += density[i] * (left[i][p] @ weight @ right[i][q])
        return total * (a1.mu[1] - a1.mu[0]) * (a2.mu[1] - a2.mu[0]) / (2 * np.pi * det**0.5)

    c = 0.98 * (v1 * v2) ** 0.5
    for _ in range(60):
        last, c = c, one.u[0] * two.u[0] * average(a1.ratios[1], a2.ratios[1], c) / F.alpha_D
        if abs(c - last) < 1e-10:
            break
    means = (a1.weight() * a1.log_i).sum() * (a2.weight() * a2.log_i).sum()
    norms = 2 / F.alpha_D * F._norm_response(one)[0] * F._norm_response(two)[0]
    return average(a1.log_i, a2.log_i, c) - means - F.alpha_D * c * c / (2 * one.u[0] * two.u[0]) + norms


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_gap_variance_from_two_temperatures(activation):
    """The closed form off the Nishimori line against differences of the covariance itself, extrapolated in their step."""
    F, beta = Fluctuations(HiddenManifold(0.5, activation)), 1.0
    F.channel = ReplicatedChannel(F.model.s.function, F.model.s.breakpoints, step=0.12)
    expected = F.slope_variance(*F.rates(beta, 0.0), true=0.0)
    found = []
    for step in (0.3, 0.15):
        one, two = F.saddle(beta * (1 - step), 0.0), F.saddle(beta * (1 + step), 0.0)
        moved = F.variance(one, 0.0) + F.variance(two, 0.0) - 2 * covariance_at_two_temperatures(F, one, two)
        found.append(moved / (2 * step * beta) ** 2)
    assert (4 * found[1] - found[0]) / 3 == pytest.approx(expected, rel=1e-3)
    assert found[0] != pytest.approx(expected, rel=1e-3)  # the differences are those of a curved function


@pytest.mark.parametrize("n", [1, 2, 5])
def test_replica_symmetric_matrices(n):
    """Inverse and determinant for whole n, against the matrix itself."""
    a, b, d, o = 1.1, 0.4, 1.3, 0.5
    full = np.full((n + 1, n + 1), o)
    np.fill_diagonal(full, d)
    full[0, :] = full[:, 0] = b
    full[0, 0] = a
    inverse = np.linalg.inv(full)
    found = rs_inverse((a, b, d, o), n)
    assert found[:3] == pytest.approx([inverse[0, 0], inverse[0, 1], inverse[1, 1]], rel=1e-12)
    assert n == 1 or found[3] == pytest.approx(inverse[1, 2], rel=1e-12)
    assert rs_log_det((a, b, d, o), n) == pytest.approx(np.linalg.slogdet(full)[1], rel=1e-12)


def full_matrix(C, n):
    out = np.full((n + 1, n + 1), C[3])
    np.fill_diagonal(out, C[2])
    out[0, :] = out[:, 0] = C[1]
    out[0, 0] = C[0]
    return out


def determinant_without_symmetry(averages, rho, n, alpha_D, latents):
    """-log det(1 - K)/2 over all pairs of n whole replicas and the teacher, every derivative of C_n taken by itself."""
    weights = [averages.weight(n, hermite=j) for j in range(5)]
    known = {}

    def derivative(*indices):
        count = Counter(indices)
        teacher = count.pop(0, 0)
        key = teacher, tuple(sorted(count.values()))
        if key not in known:
            known[key] = 0.0
            for choice in product(range(n + 1), repeat=teacher):  # of d_0 = D - rho (d_1 + ... + d_n), one term each
                moved = choice.count(0)
                orders = Counter(dict(enumerate(key[1], 1))) + Counter(a for a in choice if a)
                ratios = np.prod([averages.ratios[k] for k in orders.values()], axis=0)
                known[key] += (-rho) ** (teacher - moved) * (weights[moved] * ratios).sum() / weights[0].sum()
        return known[key]

    pairs = list(product(range(n + 1), repeat=2))
    G = np.array([derivative(*pair) for pair in pairs])
    M = np.array([[derivative(*one, *other) for other in pairs] for one in pairs]) - np.outer(G, G)
    spread = sum(f * np.kron(full_matrix(C, n), full_matrix(C, n)) for f, C in latents)
    sign, log_det = np.linalg.slogdet(np.eye(len(pairs)) - spread @ M / (2 * alpha_D))
    assert sign > 0
    return -log_det / 2


@pytest.mark.parametrize(("name", "delta", "n"), [("tanh", 0.0, 4), ("tanh", 0.4, 3), ("relu", 0.0, 3)])
def test_families_of_the_loop_are_the_whole_determinant(name, delta, n):
    """At any overlaps, saddle or not: nothing but permutation symmetry is used."""
    act = activation(name)
    averages = ReplicatedChannel(act.function, act.breakpoints)(1.0, 0.55, 0.95, 0.5, 1.25, delta)
    latents = [(0.6, np.array([1.1, 0.4, 0.9, 0.35])), (0.4, np.array([0.7, 0.2, 0.6, 0.15]))]
    expected = determinant_without_symmetry(averages, 0.55, n, 1.5, latents)
    assert one_loop(averages, 0.55, n, 1.5, latents) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.slow) if k == "generalization" else k for k in DRIFTS]
)
def test_drift_of_the_identity_is_that_of_the_linear_manifold(kind):
    linear, hidden = LinearManifold(0.5), HiddenManifold(0.5, "identity")
    t = 2.1 if kind == "basin" else None
    expected = finite_size_value(kind, linear, 0.2, 40, t=t)
    assert finite_size_value(kind, hidden, 0.2, 40, t=t) == pytest.approx(expected, rel=2e-5)


def test_drift_of_tanh_is_what_was_simulated():
    """N = 42, full preset of nonlinear_times (seed 0): t_c = 0.63395(66). Without the third cumulant it would be 1.7 % less."""
    model = HiddenManifold(0.5, "tanh")
    N = 42
    P = round(np.exp(0.2 * N)) + 1
    assert finite_size_value("collapse", model, np.log(P - 1) / N, N) == pytest.approx(0.63395, rel=0.004)
    assert finite_size_value("collapse", model, 0.2, N) > 1.1 * collapse_time(model, 0.2)


def test_bad_input():
    with pytest.raises(DomainError, match="one alpha_D"):
        Fluctuations(HiddenManifold([0.3, 0.5], "tanh"))
    with pytest.raises(DomainError, match="model"):
        finite_size_value("collapse", HiddenManifold([0.3, 0.5], "tanh"), 0.2, 40)
    with pytest.raises(DomainError, match=r"^t = .*resolves"):
        Fluctuations(HiddenManifold(0.3, "tanh")).saddle(1e6, 1e-6)
    with pytest.raises(DomainError, match="delta"):
        ReplicatedChannel(np.tanh, ())(1.0, 0.5, 1.0, 0.5, 1.0, 1e-12)
    with pytest.raises(DomainError, match="below the onset"):
        finite_size_value("basin", HiddenManifold(0.5, "tanh"), 0.2, 40, t=50.0)
    with pytest.raises(DomainError, match="above the collapse"):
        finite_size_value("basin", LinearManifold(0.5), 0.2, 40, t=0.5)


@dataclass
class Unhashable:
    slope: float = 1.0

    def __call__(self, x):
        return np.tanh(self.slope * x)


@pytest.mark.parametrize("model", [LinearManifold(0.5), HiddenManifold(0.5, "tanh")])
def test_bad_numbers(model):
    for t in (0.0, -1.0, np.nan, np.inf, "a", [0.5, np.nan]):
        with pytest.raises(DomainError, match=r"^t = "):
            cumulants(model, t, 1.0)
    for eps in (-0.1, np.nan, [0.0, 1.0], "a", None):
        with pytest.raises(DomainError, match=r"^eps = "):
            cumulants(model, 0.8, eps)
    for bad in ({"alpha": [0.1, 0.2]}, {"N": [30, 40]}, {"N": np.nan}, {"alpha": "a"}):
        with pytest.raises(DomainError, match=f"^{next(iter(bad))} = "):
            finite_size_value("collapse", model, **{"alpha": 0.2, "N": 40} | bad)
    with pytest.raises(DomainError, match=r"^t = "):
        finite_size_value("basin", model, 0.2, 40)


def test_activation_without_a_hash():
    with pytest.raises(DomainError, match="activation"):
        cumulants(HiddenManifold(0.5, Unhashable()), 0.8, 1.0)


@pytest.mark.parametrize("shape", [(0,), (2,), (1, 2)])
def test_shapes(shape):
    t = np.linspace(0.8, 0.9, 2)[: int(np.prod(shape))].reshape(shape)
    found, alone = cumulants(HiddenManifold(0.5, "tanh"), t, 1.0), cumulants(HiddenManifold(0.5, "tanh"), 0.8, 1.0)
    assert all(getattr(found, name).shape == shape for name in Cumulants.__dataclass_fields__)
    assert not t.size or found.mean.flat[0] == alone.mean
