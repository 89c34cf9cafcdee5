"""The three levels of losing dimensions: each derivation against an independent route, and every declared limit."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import sympy as sp
from scipy.optimize import brentq

from numerics.domain import DomainError
from theory import Isotropic, Subspaces, collapse_time, condensation_time
from theory.notation import r, t
from theory.subspaces.levels import (
    departure_time,
    finite_size_beta,
    frozen_eigenvalue,
    gaussian_rem_participation,
    predicted_singular_values,
    subspace_collapse_times,
    variance_ratio_boundary,
    visible_window,
)
from theory.subspaces.losing_dimensions import (
    FrozenLevel,
    GaussianLevel,
    L,
    MarginalLevel,
    beta_star,
    c,
    d,
    factor,
    q,
    s,
    theta,
)
from theory.subspaces.normalised_data import normalised_posterior

MODEL = Subspaces([5 / 30, 5 / 30, 20 / 30], [1.0, 0.09, 1e-4])


# --- symbolic ---------------------------------------------------------------------------------------------------------


def test_gaussian_level_is_the_formula_of_the_paper():
    paper = (s + sp.sqrt(s**2 + 4 * c * L * q)) / (4 * L)
    assert sp.simplify(GaussianLevel().time - paper) == 0
    assert sp.simplify(GaussianLevel().time.subs(c, 0) - s / (2 * L)) == 0
    fixed_point = (GaussianLevel().own_time ** 2 - t**2).subs(t, paper)
    assert sp.simplify(fixed_point) == 0


def test_energy_variance_is_that_of_the_energies():
    rng = np.random.default_rng(0)
    variances, time = np.array([1.0, 0.5, 0.2]), 0.3
    xi = rng.standard_normal((400_000, 3)) * np.sqrt(variances)
    energy = -math.sqrt(time) * xi[:, 0] + 0.5 * np.square(xi).sum(axis=1)
    law = GaussianLevel().energy_variance.subs({t: time, s: 1.0, q: float(np.square(variances).sum()), c: 1})
    # relative error of a variance over n draws is about sqrt((kurtosis - 1)/n) < 0.004: five of them
    assert energy.var() == pytest.approx(float(law), rel=0.02)


def test_marginal_level_is_the_collapse_of_the_projection():
    assert sp.simplify(MarginalLevel().time - s / (sp.exp(2 * L / d) - 1)) == 0
    times = subspace_collapse_times(MODEL, 1000, 30, level="marginal")
    for k, (dimension, variance) in enumerate(((5, 1.0), (5, 0.09), (20, 1e-4))):
        assert times[k] == pytest.approx(collapse_time(Isotropic(variance), P=1000, N=dimension), rel=1e-12)


def test_boundary_limits():
    law = MarginalLevel()
    ratio = law.boundary
    assert sp.limit(ratio, L, 0) == law.d2 / law.d1
    at = ratio.subs({law.d1: 3, law.d2: 5})
    assert sp.limit(at / sp.exp(2 * L / 3 - 2 * L / 5), L, sp.oo) == 1
    assert sp.simplify(ratio.subs(law.d1, law.d2)) == 1


def test_boundary_is_where_the_order_changes():
    P, d1, d2 = 500, 4, 9
    edge = variance_ratio_boundary(P, d1, d2)
    assert edge > 1
    for factor_, first in ((1.001, 0), (0.999, 1)):
        model = Subspaces([d1 / 20, d2 / 20], [edge * factor_, 1.0])
        assert int(np.argmax(subspace_collapse_times(model, P, 20, level="marginal"))) == first
    # the larger dimension at higher variance: always first
    assert variance_ratio_boundary(P, 9, 4) < 1


def test_frozen_level_identities():
    law = FrozenLevel()
    assert sp.simplify(law.eigenvalue - 1 / (1 + beta_star * r)) == 0
    assert sp.diff(law.eigenvalue, t) == 0
    assert sp.simplify(law.population - t / (t + r)) == 0
    assert sp.simplify((law.eigenvalue - law.population).subs(t, 1 / beta_star)) == 0  # continuous at t_cond
    assert sp.simplify(law.departure.subs(factor, 2) - r / (1 + 2 * beta_star * r)) == 0
    assert sp.simplify(law.opening - r * theta / (1 - theta)) == 0
    # the two meanings: large variance departs at t_cond/2, small variance at its own r
    departure = law.departure.subs(factor, 2)
    assert sp.limit(departure, r, sp.oo) == 1 / (2 * beta_star)
    assert sp.limit(departure / r, r, 0) == 1
    assert sp.simplify(sp.diff(departure, r) * (1 + 2 * beta_star * r) ** 2) == 1  # increasing


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_two_meanings_have_opposite_orders():
    high, low = departure_time(MODEL, 1000, 30)[:2]
    assert high > low  # (i): high variance first
    opens = visible_window(MODEL, 1000, 30, threshold=0.5)
    assert np.isfinite(opens[0])  # (ii): the high-variance gap is visible and stays
    assert np.isnan(opens[2])
    cond = condensation_time(MODEL, P=1000, N=30)
    assert high < cond / 2


def test_times_at_frozen_ratio_two():
    star = 1 / condensation_time(MODEL, P=1000, N=30)
    for variance, time in zip(MODEL.variances, departure_time(MODEL, 1000, 30), strict=True):
        frozen = frozen_eigenvalue(MODEL, 1000, 30, [time])[0][MODEL.variances.index(variance)]
        assert frozen * (time + variance) / time == pytest.approx(2, rel=1e-12)
        assert frozen == pytest.approx(1 / (1 + star * variance), rel=1e-12)


def test_gaussian_rem_participation_is_a_half_where_the_running_time_is_double():
    star = subspace_collapse_times(MODEL, 1000, 30, level="gaussian-rem")
    assert gaussian_rem_participation(MODEL, 1000, 30, star).diagonal() == pytest.approx([0, 0, 0], abs=1e-12)
    half = gaussian_rem_participation(
        MODEL, 1000, 30, [subspace_collapse_times(MODEL, 1000, 30, level="gaussian-rem")[0] / 10]
    )
    assert 0.5 < half[0, 0] < 1


def test_against_mpmath():
    """Thirty digits of the same formulas, typed here once more by hand."""
    with mpmath.workdps(30):
        log_P, q2 = mpmath.log(1000), 5 * mpmath.mpf(1) + 5 * mpmath.mpf("0.09") ** 2 + 20 * mpmath.mpf("1e-4") ** 2
        by_hand = [
            (v + mpmath.sqrt(v**2 + 4 * log_P * q2)) / (4 * log_P) for v in map(mpmath.mpf, ("1", "0.09", "1e-4"))
        ]
    assert subspace_collapse_times(MODEL, 1000, 30, level="gaussian-rem") == pytest.approx(
        [float(x) for x in by_hand], rel=1e-13
    )


def test_finite_size_beta_solves_the_entropy_and_converges():
    model = Subspaces([0.5, 0.5], [1.0, 0.3])
    N, P = 30, 8103
    weights, values = np.array([0.5, 0.5]), np.array([1.0, 0.3])

    def entropy(b):  # typed by hand
        x = b * values
        g = -0.5 * weights @ (np.log(1 + x) + x / (1 + x))
        slope = -0.5 * weights @ (values / (1 + x) + values / (1 + x) ** 2)
        curvature = 0.5 * weights @ (values**2 / (1 + x) ** 2 + 2 * values**2 / (1 + x) ** 3)
        return math.log(P) + N * (g - b * slope) - 0.5 * math.log(2 * math.pi * N * b * b * curvature)

    assert finite_size_beta(model, P, N) == pytest.approx(brentq(entropy, 1e-3, 1e3), rel=1e-9)
    shifts = [
        1 - finite_size_beta(model, math.exp(0.3 * n), n) * condensation_time(model, 0.3) for n in (50, 100, 200, 400)
    ]
    assert all(a > b > 0 for a, b in itertools.pairwise(shifts))
    scaled = [x * n / math.log(n) for x, n in zip(shifts, (50, 100, 200, 400), strict=True)]
    assert max(scaled) / min(scaled) < 1.2  # log N/N


def test_singular_values_reduce_to_the_exact_score_above_every_time():
    t_grid = np.array([5.0, 20.0])
    value = predicted_singular_values(MODEL, 1000, 30, t_grid, relative=False)
    assert value == pytest.approx(1 / (t_grid[:, None] + np.array(MODEL.variances)), rel=1e-12)


def test_singular_values_depend_on_the_unit_of_length():
    """The heuristic is not homogeneous: lambda_k is 1/t, v_k is 1/t^3. Rescaling data and noise alike changes its shape."""
    unit = 10.0
    scaled = Subspaces(MODEL.fractions, [v * unit for v in MODEL.variances])
    t_grid = np.array([0.3, 0.1])
    here = predicted_singular_values(MODEL, 1000, 30, t_grid)
    there = predicted_singular_values(scaled, 1000, 30, t_grid * unit)
    assert not np.allclose(here, there, rtol=1e-2)
    # what is a theory is homogeneous
    for level in ("gaussian-rem", "marginal", "frozen"):
        ratio = subspace_collapse_times(scaled, 1000, 30, level=level) / subspace_collapse_times(
            MODEL, 1000, 30, level=level
        )
        assert ratio == pytest.approx([unit] * 3, rel=1e-9)


def test_broadcasting_and_isotropic():
    P = np.array([[100.0, 1000.0]])
    for level in ("gaussian-rem", "marginal", "frozen"):
        times = subspace_collapse_times(MODEL, P, 30, level=level)
        assert times.shape == (1, 2, 3)
        assert times[0, 1] == pytest.approx(subspace_collapse_times(MODEL, 1000, 30, level=level), rel=1e-12)
    assert subspace_collapse_times(Isotropic(2.0), 10**400, 30, level="marginal").shape == (1,)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"model": 3}, "model"),
        ({"P": 1}, "P"),
        ({"P": math.nan}, "P"),
        ({"N": 0}, "N"),
        ({"level": "exact"}, "level"),
        ({"level": "marginal", "normalised": True}, "normalised"),
    ],
)
def test_bad_input_names_the_argument(change, name):
    arguments = {"model": MODEL, "P": 1000, "N": 30, "level": "gaussian-rem"} | change
    with pytest.raises(DomainError) as caught:
        subspace_collapse_times(**arguments)
    assert caught.value.argument == name


@pytest.mark.parametrize("bad", [{"times": 1.0}, {"times": -2.0}])
def test_departure_refuses_a_factor_of_one(bad):
    with pytest.raises(DomainError):
        departure_time(MODEL, 1000, 30, **bad)


# --- the exact score at fixed norm ------------------------------------------------------------------------------------


def test_normalised_posterior_against_importance_sampling():
    """Five standard errors of self-normalised importance sampling: false alarms below 1e-5 (48 numbers)."""
    rng = np.random.default_rng(1)
    variances = np.array([1.0, 1.0, 0.4, 0.4, 0.05, 0.01])
    norm = math.sqrt(variances.sum())
    X = rng.standard_normal((300_000, 6)) * np.sqrt(variances)
    X *= norm / np.linalg.norm(X, axis=1, keepdims=True)
    for time in (2.0, 0.4):
        x = X[0] + math.sqrt(time) * rng.standard_normal(6)
        mean, covariance = normalised_posterior(variances, x, time)
        w = np.exp((X @ x - (X @ x).max()) / time)
        w /= w.sum()
        off = w @ X - mean[0]
        error = np.sqrt(np.square(w) @ np.square(X - w @ X))
        assert np.all(np.abs(off) < 5 * error)
        product = X[:, :, None] * X[:, None]
        second = covariance[0] + np.outer(mean[0], mean[0])
        estimate = np.einsum("p,pij->ij", w, product)
        error = np.sqrt(np.einsum("p,pij->ij", np.square(w), np.square(product - estimate)))
        assert np.all(np.abs(estimate - second) < 5 * error)


def test_normalised_posterior_keeps_the_norm_and_reaches_small_t():
    variances = np.repeat([1.0, 0.09, 1e-4], [5, 5, 20])
    rng = np.random.default_rng(2)
    x = rng.standard_normal(30) * np.sqrt(variances)
    x *= math.sqrt(variances.sum()) / np.linalg.norm(x)
    for time in (1.0, 1e-2, 1e-4, 1e-6):
        mean, covariance = normalised_posterior(variances, x, time)
        finer = normalised_posterior(variances, x, time, radii=90, nodes=300)[1]
        assert np.trace(covariance[0]) + mean[0] @ mean[0] == pytest.approx(variances.sum(), rel=1e-10)
        assert np.abs(covariance - finer).max() < 1e-7 * np.abs(finer).max()
    # at t far below every variance but the last: nine tangent directions, the radial one is frozen by the norm
    values = np.sort(np.linalg.eigvalsh(normalised_posterior(variances, x, 1e-6)[1][0]))[::-1] / 1e-6
    assert values[:9] == pytest.approx(np.ones(9), abs=0.02)
    assert values[-1] < 0.01


@pytest.mark.parametrize("bad", [{"variances": [1.0, 0.0]}, {"t": 0.0}, {"x": [[0.0, 0.0, 0.0]]}])
def test_normalised_posterior_refuses(bad):
    arguments = {"variances": [1.0, 0.5], "x": [[0.0, 0.0]], "t": 1.0} | bad
    with pytest.raises(DomainError):
        normalised_posterior(**arguments)
