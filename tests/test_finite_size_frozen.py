"""The frozen spectrum at real N and P: against patterns drawn one by one, an integral by hand, its expansion and its limits."""

import math

import numpy as np
import pytest
from scipy.special import digamma, gammaln

from numerics.domain import DomainError
from theory import Isotropic, LinearManifold, Subspaces, condensation_time
from theory.finite_size.expectations import expected_participation
from theory.finite_size.frozen import finite_size_eigenvalue, finite_size_eigenvalue_first_order
from theory.subspaces.levels import finite_size_beta, frozen_eigenvalue

MODELS = [
    (Subspaces([0.5, 0.5], [1.0, 0.3]), 0.3),
    (Subspaces([0.25, 0.5], [1.0, 0.09]), 0.2),
]


def curvature(model, beta):
    """g'' of the clean point, typed by hand."""
    a, r = np.array(model.fractions), np.array(model.variances)
    return 0.5 * a @ (r**2 / (1 + beta * r) ** 2 + 2 * r**2 / (1 + beta * r) ** 3)


def test_two_points_on_a_line_are_a_double_integral():
    """u = xi_1-xi_2 and s = xi_1+xi_2-2x are independent, of variance 2r and 6r; v = E u^2 w_1 w_2, w_1 w_2 = sech^2(us/4t)/4."""
    r, step = 0.7, 0.01
    u, s = np.arange(-10, 10, step)[:, None], np.arange(-17, 17, step)
    law = np.exp(-(u**2) / (4 * r) - s**2 / (12 * r)) * step**2 / (2 * math.pi * math.sqrt(12) * r)
    t = np.array([0.2, 1.0])
    by_hand = [np.sum(law * u**2 / (4 * np.cosh(np.minimum(np.abs(u * s) / (4 * now), 300)) ** 2)) / now for now in t]
    assert 1 - finite_size_eigenvalue(Isotropic(r), 2, 1, t, tolerance=1e-8)[:, 0] == pytest.approx(by_hand, abs=1e-7)


def drawn(N, P, t, model, count, rng):
    """v_k/t of `count` training sets seen from one fresh point each: (count, T, K)."""
    d = np.array([round(a * N) for a in model.fractions])
    scale = np.sqrt(np.repeat(model.variances, d))
    xi, x = (scale * rng.standard_normal((count, n, d.sum())) for n in (P, 1))
    energy = 0.5 * np.square(x - xi).sum(axis=2)
    out = []
    for now in t:
        w = np.exp(-(energy - energy.min(axis=1, keepdims=True)) / now)
        w /= w.sum(axis=1, keepdims=True)
        mean = np.einsum("cp,cpn->cn", w, xi)
        variance = np.einsum("cp,cpn->cn", w, np.square(xi)) - np.square(mean)
        out.append(np.add.reduceat(variance, np.cumsum(d) - d, axis=1) / d / now)
    return np.array(out).transpose(1, 0, 2)


def test_against_patterns_drawn_one_by_one():
    """Four z-scores, each beyond 5 with probability 6e-7; so do the limit and the edge of the levels alone, somewhere."""
    model, N, P, rng = MODELS[0][0], 8, 40, np.random.default_rng(5)
    t = np.array([0.2, 0.6]) * condensation_time(model, P=P, N=N)
    values = np.concatenate([drawn(N, P, t, model, 2_000, rng) for _ in range(16)])
    mean, error = values.mean(axis=0), values.std(axis=0, ddof=1) / math.sqrt(len(values))
    exact = 1 - finite_size_eigenvalue(model, P, N, t)
    assert np.abs((mean - exact) / error).max() < 5
    frozen = 1 - frozen_eigenvalue(model, P, N, t)
    beta = finite_size_beta(model, P, N)
    edge = beta * np.array(model.variances) / (1 + beta * np.array(model.variances))
    assert np.abs((mean - frozen) / error).min() > 10
    assert np.abs((mean - edge) / error).max() > 5


@pytest.mark.parametrize(("model", "alpha"), MODELS)
@pytest.mark.parametrize("ratio", [0.2, 0.5])
def test_the_expansion_is_met_to_second_order(model, alpha, ratio):
    """Two derivations: contours and Gauss rules on one side, the REM's condensed free energy on the other."""
    t, sizes = ratio * condensation_time(model, alpha), np.array([100, 400, 1600])
    exact, first = (
        np.array([f(model, None, int(N), t, log_P=alpha * N)[0] for N in sizes])
        for f in (finite_size_eigenvalue, finite_size_eigenvalue_first_order)
    )
    gap = np.abs(exact - first).max(axis=1)
    assert (gap * sizes**2 / np.log(sizes) ** 2 < 1.3).all()
    assert (gap[:-1] > 8 * gap[1:]).all()
    frozen = 1 / (1 + np.array(model.variances) / condensation_time(model, alpha))
    assert np.abs(exact - frozen)[-1].min() > 20 * gap[-1]  # what would be left without the corrections


@pytest.mark.parametrize(("model", "alpha"), MODELS)
def test_the_expansion_by_hand(model, alpha):
    """log N/N as `finite_size_beta` has it; the dependence on t from log Gamma(1 - t/t_cond) alone."""
    t_cond, r, N = condensation_time(model, alpha), np.array(model.variances), 400
    beta, size = 1 / t_cond, r / (1 + r / t_cond) ** 2
    small, large = (
        finite_size_eigenvalue_first_order(model, None, n, 0.3 * t_cond, log_P=alpha * n)[0] for n in (N, 4 * N)
    )
    frozen = 1 / (1 + beta * r)
    assert 4 * N * (large - frozen) - N * (small - frozen) == pytest.approx(
        math.log(4) * size / (2 * beta * curvature(model, beta)), rel=1e-5
    )
    cold, warm = 0.1, 0.6
    thaw = [-m * digamma(1 - m) - gammaln(1 - m) for m in (cold, warm)]
    values = finite_size_eigenvalue_first_order(model, None, N, np.array([cold, warm]) * t_cond, log_P=alpha * N)
    assert N * (values[1] - values[0]) == pytest.approx(
        size / (beta * curvature(model, beta)) * (thaw[1] - thaw[0]), rel=1e-5
    )
    assert thaw[0] == pytest.approx(math.pi**2 / 12 * cold**2, rel=0.15)


def test_the_weights_are_those_of_poisson_and_dirichlet():
    """v = E[1 - sum w^2] r/(1 + beta_* r) with E sum w^2 = 1 - t/t_cond: the participation by another integral."""
    model, alpha = MODELS[0]
    N, m, r = 4000, 0.4, np.array(model.variances)
    t_cond = condensation_time(model, alpha)
    x = np.sqrt(np.repeat(r, N // 2))
    participation = expected_participation(model, N=N, t=m * t_cond, kind="clean", x=x, log_P=alpha * N).value
    assert 1 - participation == pytest.approx(m, rel=0.01)
    v = m * t_cond * (1 - finite_size_eigenvalue(model, None, N, m * t_cond, log_P=alpha * N)[0])
    assert v * (1 + r / t_cond) / r == pytest.approx([1 - participation] * 2, rel=0.01)


def test_above_condensation_it_is_the_exact_score():
    model, alpha = MODELS[0]
    t = np.array([4.0, 40.0]) * condensation_time(model, alpha)
    expected = t[:, None] / (t[:, None] + np.array(model.variances))
    assert finite_size_eigenvalue(model, None, 100, t, log_P=30.0) == pytest.approx(expected, abs=1e-4)
    assert finite_size_eigenvalue(model, None, 400, t, log_P=120.0) == pytest.approx(expected, abs=1e-9)


def test_more_nodes_change_nothing():
    model, t = MODELS[0][0], 0.1 * condensation_time(MODELS[0][0], P=60, N=20)
    coarse, fine = (finite_size_eigenvalue(model, 60, 20, t, tolerance=tolerance) for tolerance in (1e-5, 1e-8))
    assert np.abs(coarse - fine).max() < 1e-6  # the rule that is kept is better than its distance from the one before


def test_numbers_of_points_beyond_any_memory_and_small_noise():
    model = Subspaces([0.5, 0.3], [1.0, 1e-4])
    t = np.array([1e-6, 0.3]) * condensation_time(model, 200 / 800)
    values = finite_size_eigenvalue(model, None, 800, t, log_P=200.0)
    assert values == pytest.approx(frozen_eigenvalue(model, float(np.exp(200.0)), 800, t), rel=0.02)
    again = finite_size_eigenvalue(model, round(math.exp(200.0)), 800, t)  # an integer of 87 digits
    assert again == pytest.approx(values, abs=1e-9)


def test_blocks_keep_their_order():
    up = finite_size_eigenvalue(Subspaces([0.5, 0.25, 0.25], [0.3, 1.0, 0.0]), 100, 12, 0.1, tolerance=1e-4)
    down = finite_size_eigenvalue(Subspaces([0.25, 0.5], [1.0, 0.3]), 100, 12, 0.1, tolerance=1e-4)
    assert up[0, 2] == 1
    assert up[0, [1, 0]] == pytest.approx(down[0], abs=1e-12)


@pytest.mark.parametrize(
    ("argument", "change"),
    [
        ("model", {"model": LinearManifold(0.5)}),
        ("model", {"model": Subspaces([0.2] * 5, [1.0, 0.8, 0.6, 0.4, 0.2])}),
        ("P", {"P": 1}),
        ("P, log_P", {"log_P": 5.0}),
        ("N", {"N": 0}),
        ("N", {"N": 1}),
        ("t", {"t": -0.1}),
        ("t", {"t": [[0.1]]}),
        ("tolerance", {"tolerance": 0.0}),
        ("tolerance", {"tolerance": 1e-15}),
        ("tolerance", {"model": Subspaces([0.5, 0.5], [1.0, 1e-12])}),
    ],
)
def test_bad_input(argument, change):
    arguments = {"model": Subspaces([0.5, 0.25], [1.0, 0.3]), "P": 100, "N": 20, "t": 0.1} | change
    with pytest.raises(DomainError) as caught:
        finite_size_eigenvalue(**arguments)
    assert caught.value.argument == argument


def test_the_expansion_ends_at_condensation():
    model, alpha = MODELS[0]
    with pytest.raises(DomainError) as caught:
        finite_size_eigenvalue_first_order(model, None, 100, 2 * condensation_time(model, alpha), log_P=30.0)
    assert caught.value.argument == "t"
