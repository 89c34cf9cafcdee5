"""Quadrature rules: exact moments up to the degree they promise, not beyond, and geometric convergence."""

import math

import numpy as np
import pytest

from numerics.domain import DomainError
from numerics.quadrature.rules import (
    Rule,
    affine,
    chi_squared,
    double_exponential,
    from_jacobi,
    hermite,
    semicircle,
)


def semicircle_moment(k):
    """Catalan numbers over 4^(k/2)."""
    return 0.0 if k % 2 else math.comb(k, k // 2) / (k // 2 + 1) / 4 ** (k // 2)


def normal_moment(k):
    return 0.0 if k % 2 else float(math.prod(range(1, k, 2)))


@pytest.mark.parametrize(("rule", "moment"), [(semicircle, semicircle_moment), (hermite, normal_moment)])
@pytest.mark.parametrize("n", [1, 2, 3, 8, 13])
def test_gauss_rules_are_exact_to_degree_2n_minus_1_and_no_further(rule, moment, n):
    nodes, weights = rule(n)
    for k in range(2 * n):
        size = np.dot(weights, np.abs(nodes) ** k)
        assert abs(np.dot(weights, nodes**k) - moment(k)) <= 1e-13 * max(size, 1)
    beyond = moment(2 * n)
    assert abs(np.dot(weights, nodes ** (2 * n)) - beyond) > 1e-6 * beyond


@pytest.mark.parametrize("n", [50, 300, 1000])
def test_large_hermite_rules_keep_their_moments(n):
    for k, tolerance in ((0, 1e-14), (2, 1e-12), (4, 1e-12), (6, 1e-12)):
        assert hermite(n).integrate(lambda x, k=k: x**k) == pytest.approx(normal_moment(k), rel=tolerance)
    # the characteristic function, entire: exp(-2) at frequency 2
    assert hermite(n).integrate(lambda x: np.cos(2 * x)) == pytest.approx(math.exp(-2), rel=1e-12)


@pytest.mark.parametrize("degrees", [0.7, 1, 5, 24, 1e6])
@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_chi_squared_rules_are_exact_to_degree_2n_minus_1(degrees, n):
    """Moments d (d + 2) ... (d + 2k - 2); the next one is short of the norm of the n-th Laguerre polynomial."""
    rule = chi_squared(n, degrees)
    for k in range(2 * n):
        moment = math.prod(1 + 2 * j / degrees for j in range(k))
        assert rule.integrate(lambda x, k=k: (x / degrees) ** k) == pytest.approx(moment, rel=1e-10)
    beyond = math.prod(1 + 2 * j / degrees for j in range(2 * n))
    missing = math.prod(2 * j * (degrees + 2 * j - 2) / degrees**2 for j in range(1, n + 1))
    assert beyond - rule.integrate(lambda x: (x / degrees) ** (2 * n)) == pytest.approx(
        missing, rel=1e-6, abs=1e-10 * beyond
    )


def test_jacobi_matrices_of_known_laws_give_their_rules():
    n = 24
    k = np.arange(1, n)
    cases = {
        "semicircle": (np.full(n - 1, 0.5), semicircle(n)),
        "normal": (np.sqrt(k), hermite(n)),
        "uniform": (k / np.sqrt(4.0 * k**2 - 1), Rule(*_legendre(n))),
    }
    for name, (off_diagonal, expected) in cases.items():
        rule = from_jacobi(np.zeros(n), off_diagonal)
        np.testing.assert_allclose(rule.nodes, expected.nodes, atol=1e-13, err_msg=name)
        np.testing.assert_allclose(rule.weights, expected.weights, atol=1e-14, err_msg=name)
    assert from_jacobi([3.0], [], mass=0.25).integrate(lambda x: x) == 0.75


def _legendre(n):
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return nodes, weights / 2


def test_semicircle_converges_at_the_rate_of_the_nearest_singularity():
    """int (2/pi) sqrt(1-x^2)/(c-x) = 2(c - sqrt(c^2-1)); the error falls like (c + sqrt(c^2-1))^(-2n)."""
    c = 1.1
    exact = 2 * (c - math.sqrt(c * c - 1))
    n = np.arange(4, 28, 3)
    errors = [abs(semicircle(int(k)).integrate(lambda x: 1 / (c - x)) - exact) for k in n]
    slope = np.polyfit(n, np.log(errors), 1)[0]
    assert slope == pytest.approx(-2 * math.acosh(c), rel=0.01)


def test_affine_carries_moments_and_mass():
    rule = affine(Rule(semicircle(9).nodes, 0.3 * semicircle(9).weights, mass=0.3), -1.0, 5.0)
    assert rule.mass == 0.3
    assert rule.integrate(np.ones_like) == pytest.approx(0.3, rel=1e-15)
    assert rule.integrate(lambda x: x) == pytest.approx(0.3 * 2.0, rel=1e-14)
    assert rule.integrate(lambda x: (x - 2) ** 2) == pytest.approx(0.3 * 9 / 4, rel=1e-14)


@pytest.mark.parametrize(
    ("f", "exact", "tolerance"),
    [
        (lambda x: x**-0.5, 2.0, 1e-13),
        (np.log, -1.0, 1e-13),
        (lambda x: np.sqrt(x * (1 - x)), math.pi / 8, 1e-14),
        (np.exp, math.e - 1, 1e-14),
        (lambda x: 1 / (1e-6 + x), math.log1p(1e6), 1e-9),  # a pole just outside
    ],
)
def test_double_exponential_takes_singular_ends(f, exact, tolerance):
    assert double_exponential(120).integrate(f) == pytest.approx(exact, rel=tolerance)
    assert abs(double_exponential(10).integrate(f) / exact - 1) > 10 * tolerance  # ten nodes are not enough


def test_rules_are_shared_but_cannot_be_changed():
    assert semicircle(5) is semicircle(5)
    with pytest.raises(ValueError, match="read-only"):
        semicircle(5).nodes[0] = 0.0


@pytest.mark.parametrize(
    ("build", "argument"),
    [
        (lambda: semicircle(0), "n"),
        (lambda: chi_squared(0, 3), "n"),
        (lambda: chi_squared(3, 0.0), "degrees"),
        (lambda: semicircle(2.5), "n"),
        (lambda: semicircle([3]), "n"),
        (lambda: hermite(True), "n"),
        (lambda: hermite("many"), "n"),
        (lambda: double_exponential(2), "n"),
        (lambda: affine(semicircle(3), 1.0, 1.0), "lower, upper"),
        (lambda: affine(semicircle(3), 0.0, math.nan), "upper"),
        (lambda: affine(hermite(9), 0.0, 1.0), "rule"),
        (lambda: from_jacobi([0.0, 0.0], [0.0]), "off_diagonal"),
        (lambda: from_jacobi([0.0], [1.0]), "diagonal, off_diagonal"),
        (lambda: from_jacobi([math.inf], []), "diagonal"),
        (lambda: from_jacobi([0.0], [], mass=0.0), "mass"),
        (lambda: Rule([0.0, 0.0], [0.5, 0.5]), "nodes"),
        (lambda: Rule([0.0, 1.0], [1.5, -0.5]), "weights"),
        (lambda: Rule([0.0, 1.0], [0.5, 0.4]), "weights"),
        (lambda: Rule([], []), "nodes, weights"),
    ],
)
def test_bad_input_names_the_argument(build, argument):
    with pytest.raises(DomainError) as caught:
        build()
    assert caught.value.argument == argument
