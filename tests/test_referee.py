"""The referee's two routes agree with each other, with the reference values, with eigenvalues and with its own page.

The routes share no formula: definitions integrate the Marchenko-Pastur density (or the Stieltjes fixed point in the
complex plane) and differentiate numerically; the curve is algebra. The one statistical test states its false-alarm
probability and carries a negative control.
"""

import doctest
from pathlib import Path

import numpy as np
import pytest
import referee
from mpmath import mp, mpf

from numerics.domain import DomainError

PAGE = Path(__file__).parents[1] / "docs" / "derivations" / "asymptotics.md"
TIGHT = mpf(10) ** -28
REFERENCE = {  # LinearManifold(0.5) at alpha = 0.2, twelve digits
    "onset": "3.15259830884",
    "collapse": "1.40961276380",
    "condensation": "0.97080340433",
    "generalization": "0.38739543148",
}


@pytest.fixture
def slow_digits():
    with mp.workdps(referee.SLOW_DIGITS):
        yield


def integrate(function, spectrum):
    return mp.re(mp.fsum(w * function(r) for w, r in zip(*spectrum, strict=True)))


# The definition of g, and the Marchenko-Pastur law


def test_cumulant_is_the_logarithm_of_a_gaussian_integral(slow_digits):
    # one direction of variance r: E_x log E_xi exp(-beta (x - xi)^2 / 2), both expectations by the trapezoid rule
    beta, r, delta, h = mpf("1.7"), mpf("0.6"), mpf("0.35"), mpf(1) / 8
    grid = [j * h for j in range(-104, 105)]
    normal = [h * mp.exp(-z * z / 2) / mp.sqrt(2 * mp.pi) for z in grid]

    def inner(x):
        terms = (p * mp.exp(-beta * (x - mp.sqrt(r) * z) ** 2 / 2) for p, z in zip(normal, grid, strict=True))
        return mp.log(mp.fsum(terms))

    # the logarithm is a quadratic in x, so two values fix its Gaussian mean; a third checks that it is one
    spread = mp.sqrt(r + delta)
    constant, curvature = inner(mpf(0)), inner(spread) - inner(mpf(0))
    assert abs(inner(2 * spread) - constant - 4 * curvature) < TIGHT
    assert abs(constant + curvature - referee.cumulant(beta, delta, ([mpf(1)], [r]))) < TIGHT


@pytest.mark.parametrize("alpha_D", ["0.01", "0.5", "0.999", "1", "1.001", "3"])
def test_marchenko_pastur_nodes_have_the_exact_moments(alpha_D, slow_digits):
    spectrum = referee.marchenko_pastur(alpha_D)
    c = 1 / mpf(alpha_D)
    exact = [min(mpf(alpha_D), 1), 1, 1 + c, 1 + 3 * c + c**2, 1 + 6 * c + 6 * c**2 + c**3]
    for power, moment in enumerate(exact):
        assert abs(integrate(lambda r, k=power: r**k, spectrum) / moment - 1) < TIGHT


@pytest.mark.parametrize("alpha_D", ["0.25", "4"])
def test_marchenko_pastur_nodes_agree_with_the_plain_rule_in_the_angle(alpha_D, slow_digits):
    # r = centre + radius cos(theta): periodic and analytic, away from alpha_D = 1 and from t -> 0
    c, t, n = 1 / mpf(alpha_D), mpf("0.7"), 200
    plain = mpf(0)
    for j in range(n):
        theta = mp.pi * (2 * j + 1) / (2 * n)
        r = 1 + c + 2 * mp.sqrt(c) * mp.cos(theta)
        plain += 2 * mp.sin(theta) ** 2 / r / n * mp.log1p(r / t)
    assert abs(integrate(lambda r: mp.log1p(r / t), referee.marchenko_pastur(alpha_D)) / plain - 1) < TIGHT


# The two routes


@pytest.mark.parametrize(
    ("alpha_D", "alpha"),
    [("0.5", "0.2"), ("1", "30"), ("2.5", "0.05"), ("3", "0.001"), ("0.01", "3")],
)
@pytest.mark.parametrize("kind", ["onset", "collapse"])
def test_routes_agree(kind, alpha, alpha_D, slow_digits):
    slow = referee.time_by_definition(kind, alpha, referee.marchenko_pastur(alpha_D))
    assert abs(slow / referee.time(kind, alpha, alpha_D=alpha_D) - 1) < TIGHT


@pytest.mark.parametrize(("alpha_D", "alpha"), [("0.5", "0.2"), ("1", "3"), ("2.5", "0.05"), ("0.01", "3")])
def test_routes_agree_with_numerical_derivatives(alpha, alpha_D, slow_digits):
    spectrum = referee.marchenko_pastur(alpha_D)
    beta = referee.condensation_beta(mpf(alpha), mpf(0), spectrum)
    t_g = 2 * referee.energy(beta, mpf(0), spectrum)
    assert abs(1 / beta / referee.time("condensation", alpha, alpha_D=alpha_D) - 1) < TIGHT
    assert abs(t_g / referee.time("generalization", alpha, alpha_D=alpha_D) - 1) < TIGHT


@pytest.mark.parametrize("kind", referee.KINDS)
def test_reference_values(kind):
    # half a unit of the twelfth digit
    assert abs(referee.time(kind, "0.2", alpha_D="0.5") - mpf(REFERENCE[kind])) < mpf("5.01e-12")


def test_reference_value_of_a_thin_manifold():
    assert abs(referee.time("collapse", "0.2", alpha_D="0.05") - mpf("0.00654305678709")) < mpf("1e-14")


@pytest.mark.parametrize("alpha_D", ["0.02", "0.5", "1", "3"])
@pytest.mark.parametrize("t", ["1e-30", "1e-3", "2", "1e4"])
def test_curve_is_the_closed_form_in_V(alpha_D, t):
    with mp.workdps(90):
        a, t = mpf(alpha_D), mpf(t)
        b = a * t + 1 - a  # 1/(t+V) = a (1/V - 1)  <=>  a V^2 + b V - a t = 0
        V = (-b + mp.sqrt(b * b + 4 * a * a * t)) / (2 * a)
        L = mp.log1p(V / t) - a * (mp.log(V) + 1 - V)
        K = a * V * (1 - V) * (1 - a * (1 - V)) / (1 - a * (1 - V) ** 2)
        for value, exact in zip(referee.mutual_information(t, alpha_D=alpha_D), (L, a * (1 - V), K), strict=True):
            assert abs(value / exact - 1) < mpf(10) ** -40


@pytest.mark.parametrize("kind", referee.KINDS)
def test_discrete_spectrum_and_isotropic_routes_agree(kind, slow_digits):
    weights, values = ["0.3", "0.3"], ["1", "0.09"]
    spectrum = ([mpf(w) for w in weights], [mpf(v) for v in values])
    slow = referee.time_by_definition(kind, "0.15", spectrum)
    assert abs(slow / referee.spectrum_time(kind, "0.15", weights, values) - 1) < TIGHT
    one = referee.isotropic_time(kind, "0.4", 3)
    assert abs(referee.time_by_definition(kind, "0.4", ([mpf(1)], [mpf(3)])) / one - 1) < TIGHT
    assert abs(referee.spectrum_time(kind, "0.4", [1], [3]) / one - 1) < mpf(10) ** -45


# Physics that must follow


@pytest.mark.parametrize("alpha_D", ["0.3", "1", "2"])
def test_nishimori_identity_makes_collapse_a_condensation(alpha_D, slow_digits):
    spectrum, alpha = referee.marchenko_pastur(alpha_D), mpf("0.25")
    t = referee.time("collapse", alpha, alpha_D=alpha_D)
    for noise in (t, mpf(3)):  # everywhere on the line delta = t = 1/beta, not only at collapse
        assert abs(referee.energy(1 / noise, noise, spectrum) / noise - mpf(1) / 2) < TIGHT
    assert abs(referee.entropy(alpha, 1 / t, t, spectrum)) < TIGHT
    assert abs(referee.entropy(alpha, 1 / t, t / 2, spectrum)) > 0.01  # and nowhere else


def test_generalization_time_is_the_global_minimum_of_the_divergence():
    weights, values = ["0.4"], ["1"]
    t_g = referee.spectrum_time("generalization", "0.1", weights, values)
    t_cond = referee.spectrum_time("condensation", "0.1", weights, values)
    with mp.workdps(20):
        spectrum = ([mpf("0.4")], [mpf(1)])
        best = referee.divergence(mpf("0.1"), t_g, spectrum)
        slope = mp.diff(lambda x: referee.divergence(mpf("0.1"), mp.exp(x), spectrum), mp.log(t_g), h=mpf("1e-8"))
        assert abs(slope) < mpf("1e-9")
        for factor in (mpf(2) ** j for j in range(-8, 12) if j):
            assert referee.divergence(mpf("0.1"), t_g * factor, spectrum) > best
        # the branches join smoothly at condensation
        below, above = (referee.divergence(mpf("0.1"), t_cond * (1 + s * mpf("1e-10")), spectrum) for s in (-1, 1))
        assert abs(above - below) < mpf("1e-9")


@pytest.mark.parametrize(
    ("alpha_D", "variances", "fractions"), [("0.1", (1,), (1,)), ("1", (1,), (1,)), ("3", (1, 0.1), (0.25, 0.75))]
)
@pytest.mark.parametrize("alpha", [1e-3, 0.1, 1.0, 3.0])
def test_order_of_the_times_and_scaling_with_the_variance(alpha, alpha_D, variances, fractions):
    model = {"alpha_D": alpha_D, "fractions": fractions}
    o, c, cond, g = (referee.time(kind, alpha, variances=variances, **model) for kind in referee.KINDS)
    assert 0 < g < cond < c < o
    scaled = [4 * s for s in variances]
    for kind, value in zip(referee.KINDS, (o, c, cond, g), strict=True):
        assert abs(referee.time(kind, alpha, variances=scaled, **model) / value / 4 - 1) < mpf(10) ** -45


@pytest.mark.parametrize("kind", referee.KINDS)
def test_duality_of_manifold_and_ambient_dimension(kind):
    alpha_D, alpha = mpf("0.3"), mpf("0.2")
    with mp.workdps(60):
        factor = 1 if kind == "generalization" else 1 / alpha_D
        dual = factor * referee.time(kind, alpha / alpha_D, alpha_D=1 / alpha_D)
        assert abs(referee.time(kind, alpha, alpha_D=alpha_D) / dual - 1) < mpf(10) ** -45


@pytest.mark.parametrize("t", ["0.1", "0.39", "0.45", "0.8", "1"])
def test_basin_follows_from_the_free_energy(t):
    # two below collapse (0.414), two between collapse and onset (0.940), one above onset
    weights, values = ["0.4", "0.2"], ["1", "0.3"]
    with mp.workdps(25):
        slow = referee.basin_squared_by_definition("0.3", t, ([mpf("0.4"), mpf("0.2")], [mpf(1), mpf("0.3")]))
        assert abs(slow - referee.spectrum_basin_squared("0.3", t, weights, values)) <= mpf("1e-18")


def test_basin_of_a_manifold_follows_from_the_free_energy():
    with mp.workdps(15):
        spectrum = referee.marchenko_pastur("0.5")
        slow = referee.basin_squared_by_definition("0.2", 2, spectrum)
        assert abs(slow - referee.basin_squared("0.2", 2, alpha_D="0.5")) <= mpf("1e-10")
    assert referee.basin_squared("0.2", "3.16", alpha_D="0.5") == 0


def test_basin_reference_value_and_spectrum_route():
    assert abs(referee.basin_squared("0.2", 2, alpha_D="0.5") - mpf("1.24066197078")) < mpf("5.01e-12")
    isotropic = referee.spectrum_basin_squared("0.4", 1, [1], [1])  # delta_b / t = 1 - (2 alpha - log 2) / (1/2)
    assert abs(isotropic - (1 - 2 * (mpf("0.8") - mp.log(2)))) < mpf("1e-14")


# Latent variances


LATENT = {"alpha_D": "0.5", "variances": ["1", "0.09"], "fractions": ["0.25", "0.75"]}


@pytest.mark.parametrize(
    "model", [LATENT, {"alpha_D": "3", "variances": ["1", "0.25", "0"], "fractions": ["0.5", "0.3", "0.2"]}]
)
def test_latent_integrals_against_the_stieltjes_contour(model, slow_digits):
    spectrum = referee.generalised_marchenko_pastur("0.01", **model)
    for t in (mpf("0.01"), mpf("0.4"), mpf(30)):
        L, y, K = referee.mutual_information(t, **model)
        assert abs(integrate(lambda r, t=t: mp.log(1 + r / t), spectrum) / L - 1) < TIGHT
        assert abs(integrate(lambda r, t=t: r / (r + t), spectrum) / y - 1) < TIGHT
        assert abs(integrate(lambda r, t=t: r * t / (r + t) ** 2, spectrum) / K - 1) < TIGHT


@pytest.mark.parametrize("kind", ["onset", "collapse", "condensation"])
def test_latent_times_are_roots_of_their_definitions(kind, slow_digits):
    t, alpha = referee.time(kind, "0.2", **LATENT), mpf("0.2")
    spectrum = referee.generalised_marchenko_pastur(t / 2, **LATENT)
    below, above = (referee.residual(kind, alpha, t * (1 + s * TIGHT), spectrum) for s in (-1, 1))
    assert below < 0 < above


@pytest.mark.parametrize("kind", referee.KINDS)
def test_latent_variances_reduce_to_one(kind):
    with mp.workdps(60):
        one = referee.time(kind, "0.2", alpha_D="0.5")
        split = referee.time(kind, "0.2", alpha_D="0.5", variances=[1, 1], fractions=["0.3", "0.7"])
        assert abs(split / one - 1) < mpf(10) ** -45
        # half of the latent directions silent: D is halved, and the rest have half the variance per D
        silent = referee.time(kind, "0.2", alpha_D=1, variances=[2, 0], fractions=["0.5", "0.5"])
        assert abs(silent / one - 1) < mpf(10) ** -45


@pytest.mark.parametrize("alpha_D", [0.5, 2.0])
def test_latent_integrals_against_eigenvalues(alpha_D):
    # Linear statistics fluctuate by O(1) in all, O(1/N) per dimension. Measured over 300 draws at N = 200 and 60 at 400:
    # standard deviation of one draw below 1.0/N, bias below 0.31/N. For the mean of 4 draws the bound 4/N is 7 standard
    # deviations beyond the bias: false-alarm probability below 1e-10.
    N, t, variances, fractions = 400, 0.05, (1.0, 0.09), (0.25, 0.75)
    D = int(alpha_D * N)
    rng = np.random.default_rng(20250711)
    scale = np.sqrt(np.repeat(variances, [D // 4, D - D // 4]))
    log_integral, ratio = [], []
    for _ in range(4):
        F = rng.standard_normal((N, D)) * scale / np.sqrt(D)
        r = np.linalg.eigvalsh(F @ F.T if N <= D else F.T @ F)  # the non-zero ones
        log_integral.append(np.log1p(r / t).sum() / N)
        ratio.append((r / (r + t)).sum() / N)
    L, y, _ = (
        float(x) for x in referee.mutual_information(t, alpha_D=alpha_D, variances=variances, fractions=fractions)
    )
    assert abs(np.mean(log_integral) - L) < 4 / N
    assert abs(np.mean(ratio) - y) < 4 / N
    # negative controls: independent directions (no Marchenko-Pastur), and one latent variance equal to the mean
    independent = sum(alpha_D * f * np.log1p(s / alpha_D / t) for f, s in zip(fractions, variances, strict=True))
    averaged, _, _ = referee.mutual_information(t, alpha_D=alpha_D, variances=[np.dot(fractions, variances)])
    assert abs(np.mean(log_integral) - independent) > 20 / N
    assert abs(np.mean(log_integral) - float(averaged)) > 20 / N


# The face of the module


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: referee.time("collapse", 0, alpha_D=0.5), "alpha"),
        (lambda: referee.time("collapse", float("nan"), alpha_D=0.5), "alpha"),
        (lambda: referee.time("collapse", 0.2, alpha_D=-1), "alpha_D"),
        (lambda: referee.time("collapse", "much", alpha_D=1), "alpha"),
        (lambda: referee.time("melting", 0.2, alpha_D=1), "kind"),
        (lambda: referee.time("collapse", 0.2, alpha_D=1, variances=[1, 2]), "fractions, variances"),
        (lambda: referee.time("collapse", 0.2, alpha_D=1, variances=[0]), "variances"),
        (lambda: referee.time("collapse", 0.2, alpha_D=1, variances=[1, 2], fractions=[0.5, 0.4]), "fractions"),
        (lambda: referee.spectrum_time("onset", 0.2, [], []), "weights"),
        (lambda: referee.spectrum_time("onset", 0.2, [0.6, 0.6], [1, 2]), "weights"),
        (lambda: referee.basin_squared(0.2, 0, alpha_D=0.5), "t"),
    ],
)
def test_bad_arguments_are_named(call, argument):
    with pytest.raises(DomainError) as caught:
        call()
    assert caught.value.argument == argument


@pytest.mark.parametrize("alpha_D", ["0.5", "3"])
def test_small_alpha_does_not_cancel(alpha_D):
    M2 = 1 + 1 / mpf(alpha_D)
    assert abs(referee.time("collapse", "1e-30", alpha_D=alpha_D) * mpf("2e-30") - 1) < mpf("1e-14")
    assert abs(referee.time("condensation", "1e-40", alpha_D=alpha_D) / mp.sqrt(3 * M2 / mpf("4e-40")) - 1) < 1e-14


def test_no_underflow():
    value = referee.time("generalization", 3, alpha_D=mpf("0.01"))
    assert mpf("1e-262") < value < mpf("1e-260")
    assert abs(referee.log_time("generalization", 3, alpha_D=mpf("0.01")) - mp.log(value)) < mpf("1e-12")
    assert referee.time("collapse", 50, alpha_D=mpf("0.01")) > 0


def test_the_page_on_limits_prints_what_it_says():
    with mp.workdps(60):
        result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted > 20
    assert result.failed == 0
