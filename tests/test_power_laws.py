"""Power-law spectra: the contract's numbers, the sum over directions by three routes, limits and orders, fields, simulation."""

import mpmath as mp
import numpy as np
import pytest
import sympy as sp

from numerics.domain import DomainError
from numerics.quadrature import series_rule
from theory import (
    PowerLaw,
    Spectrum,
    collapse_time,
    condensation_time,
    critical_alpha,
    critical_dataset_size,
    generalization_time,
    onset_time,
)
from theory.notation import N as N_
from theory.notation import t as t_
from theory.rem.power_law import a as a_
from theory.rem.power_law import c as c_
from theory.rem.power_law import log_critical_size, log_P, mutual_information, power_law_time, truncation_shift
from theory.rem.power_law import u as u_

TIMES = {
    "onset": onset_time,
    "collapse": collapse_time,
    "condensation": condensation_time,
    "generalization": generalization_time,
}
EXPONENTS = (1.5, 2.0, 3.0)


# --- the sum over all directions, three independent routes at 40 digits ---------------------------------------------------


def by_mellin(u, a):
    """Its inverse Mellin transform, integrated numerically; the cut at 15 leaves e^(-15 pi) = 3e-21."""
    u, a = mp.mpf(u), mp.mpf(a)
    middle = -(1 + 1 / a) / 2

    def integrand(y):
        s = mp.mpc(middle, y)
        return mp.re(mp.pi / (s * mp.sin(mp.pi * s)) * mp.power(u, -s) * mp.zeta(-a * s))

    return mp.quad(integrand, mp.linspace(0, 15, 6), maxdegree=5) / mp.pi


def by_gamma(u, a):
    r""":math:`\prod_k(1+u/k^a)=1/\prod_j\Gamma(1+u^{1/a}\omega_j)` over the a-th roots of -1 with a minus sign, a = 2, 3."""
    kappa, a = mp.root(mp.mpf(u), int(a)), int(a)
    roots = [-mp.expjpi(mp.mpf(2 * j + 1) / a) for j in range(a)]
    return -mp.re(sum(mp.loggamma(1 + kappa * z) for z in roots))


def by_terms(u, a):
    """Terms one by one; then the series of the logarithm, whose sums are Hurwitz zeta functions."""
    u, a = mp.mpf(u), mp.mpf(a)
    terms = int(20 + (10 * u) ** (1 / a))
    head = mp.fsum(mp.log1p(u * mp.power(k, -a)) for k in range(1, terms + 1))
    n, tail = 1, mp.mpf(0)
    while True:
        with mp.extradps(60):  # a small zeta has few digits otherwise
            term = (-1) ** (n + 1) * u**n / n * mp.zeta(n * a, terms + 1)
        tail += term
        if abs(term) < mp.mpf(10) ** -40:
            return head + tail
        n += 1


def test_three_routes_to_the_sum_agree():
    """Products of Gamma functions, sums of terms and the hyperbolic sine at 30 digits; the Mellin integral at 18."""
    with mp.workdps(40):
        for u in (0.3, 66.25, 400.0):
            for a in (2, 3):
                assert abs(by_gamma(u, a) / by_terms(u, a) - 1) < mp.mpf(10) ** -30
        kappa = mp.mpf(8.1407)
        closed = mp.log(mp.sinh(mp.pi * kappa) / (mp.pi * kappa))
        assert abs(by_gamma(kappa**2, 2) / closed - 1) < mp.mpf(10) ** -35
        exact = by_terms(66.25, 1.5)
    with mp.workdps(20):
        assert abs(by_mellin(66.25, 1.5) / exact - 1) < mp.mpf(10) ** -18


@pytest.mark.parametrize("a", EXPONENTS)
def test_limit_engine_against_40_digits(a):
    """log P = N alpha_c(t) of the compiled kernel is half of the sum, from u = 1e-2 to 1e5."""
    N = 3072
    scale = PowerLaw(a, N).scale
    for u in (1e-2, 1.0, 66.0, 1e5):
        with mp.workdps(40):
            exact = float((by_terms if a == 1.5 else by_gamma)(u, a) / 2)
        assert N * critical_alpha(PowerLaw(a), scale / u, N) == pytest.approx(exact, rel=2e-12)


def test_series_rule_sums_what_it_says():
    for a in (1.02, 1.5, 4.0):
        w, y = series_rule(2 / a, 500 / a)
        rest = np.exp(500 / a - 500) / (a - 1)  # the integral beyond
        assert w @ np.exp(-a * y) + rest == pytest.approx(float(mp.zeta(a)), rel=1e-12)
    with pytest.raises(DomainError, match="reach"):
        series_rule(1.0, 1.0)


# --- the contract ---------------------------------------------------------------------------------------------------------


def test_values_of_the_contract():
    """N = 3072 eigenvalues give 28.138, the list continued to infinity 28.187, the leading order 39.4."""
    finite, limit = PowerLaw(2.0, N=3072), PowerLaw(2.0)
    assert collapse_time(finite, P=50_000) == pytest.approx(28.138, abs=5e-4)
    assert collapse_time(limit, P=50_000, N=3072) == pytest.approx(28.187, abs=5e-4)
    leading = power_law_time("collapse").leading.subs({a_: 2, c_: finite.scale, log_P: np.log(50_000)})
    assert float(leading) == pytest.approx(39.4, abs=0.05)
    with mp.workdps(40):  # 2 log P = log[sinh(pi k)/(pi k)], t = c/k^2
        kappa = mp.findroot(lambda k: mp.log(mp.sinh(mp.pi * k) / (mp.pi * k)) - 2 * mp.log(50_000), 8)
        c = 3072 / mp.fsum(mp.mpf(k) ** -2 for k in range(1, 3073))
        assert collapse_time(limit, P=50_000, N=3072) == pytest.approx(float(c / kappa**2), rel=1e-13)


def test_model_is_the_spectrum_it_says():
    model = PowerLaw(1.5, N=100, mean=2.5)
    assert model.eigenvalues.mean() == pytest.approx(2.5, rel=1e-14) == model.mean_variance
    assert model.eigenvalues[0] / model.eigenvalues[15] == pytest.approx(16**1.5, rel=1e-13)
    assert isinstance(model, Spectrum)
    assert model == PowerLaw(1.5, 100, 2.5) != PowerLaw(1.5, 100)
    assert repr(PowerLaw()) == "PowerLaw(exponent=2.0, N=None, mean=1.0)"
    for time in TIMES.values():
        assert time(model, P=1000) == time(Spectrum(model.eigenvalues), P=1000)
    in_100 = model.in_dimension(100)
    assert in_100.scale == pytest.approx(model.scale, rel=1e-13)
    assert in_100.mean_variance == pytest.approx(
        2.5 * float(mp.zeta(1.5)) / (1 / model.eigenvalues[0] * 250), rel=1e-12
    )


@pytest.mark.parametrize("time", TIMES.values(), ids=TIMES)
def test_limit_is_that_of_long_lists(time):
    """With the same c, lists of growing length approach the limit as fast as the truncated sum says: as N^(1-a)."""
    c, sizes = 700.0, np.array([500, 2000, 8000])
    lists = [Spectrum(c * np.arange(1, n + 1.0) ** -2) for n in sizes]
    # the optimum's noise is a mean over the dimensions
    found = np.array([time(m, P=3000) * (m.N if time is generalization_time else 1) for m in lists])
    whole = PowerLaw(2.0, mean=c * sum(np.arange(1, 8001.0) ** -2) / 8000)
    limit = time(whole, P=3000, N=8000) * (8000 if time is generalization_time else 1)
    gap = 1 - found / limit
    assert abs(gap[-1]) < 2e-3
    assert (np.abs(gap[1:]) < np.maximum(np.abs(gap[:-1]) / 3.5, 1e-9)).all()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: PowerLaw(1.0), "exponent"),
        (lambda: PowerLaw("steep"), "exponent"),
        (lambda: PowerLaw(np.nan), "exponent"),
        (lambda: PowerLaw(2.0, N=0), "N"),
        (lambda: PowerLaw(2.0, N=2.5), "N"),
        (lambda: PowerLaw(2.0, N=10, mean=0.0), "mean"),
        (lambda: PowerLaw(2.0).eigenvalues, "N"),
        (lambda: PowerLaw.field(0), "shape"),
        (lambda: PowerLaw.field([]), "shape"),
        (lambda: PowerLaw.field(4, exponent=-1), "exponent"),
        (lambda: collapse_time(PowerLaw(2.0), alpha=0.1), "N"),
        (lambda: collapse_time(PowerLaw(2.0), P=100), "P"),
        (lambda: collapse_time(PowerLaw(2.0), alpha=0.1, P=10, N=5), "alpha, P"),
        (lambda: collapse_time(PowerLaw(2.0), P=100, N=0.5), "N"),
        (lambda: critical_alpha(PowerLaw(2.0), 1.0), "N"),
    ],
)
def test_bad_input_is_named(make, named):
    with pytest.raises(DomainError) as error:
        make()
    assert named in error.value.argument


# --- asymptotics ------------------------------------------------------------------------------------------------------------


def test_expansion_is_that_of_the_hyperbolic_sine():
    """At a = 2 the poles give log[sinh(pi k)/(pi k)] up to what is exponentially small, and zeta(-2n) = 0 beyond."""
    k = sp.Symbol("k", positive=True)
    ours = mutual_information(4).subs(a_, 2).subs(u_, k**2)
    assert sp.simplify(sp.expand_log(sp.simplify(ours), force=True) - (sp.pi * k - sp.log(2 * sp.pi) - sp.log(k))) == 0


@pytest.mark.parametrize("terms", [0, 1, 2])
@pytest.mark.parametrize("a", [1.5, 2.5])
def test_expansion_leaves_out_the_next_power(a, terms):
    """What is left is zeta(-a n)/n u^-n at n = terms + 1, in size and sign, at 40 digits."""
    with mp.workdps(40):
        f = sp.lambdify((u_, a_), mutual_information(terms), modules="mpmath")
        for u in (mp.mpf(2000), mp.mpf(20000)):
            n = terms + 1
            left, expected = by_terms(u, a) - f(u, mp.mpf(a)), (-1) ** (n + 1) * mp.zeta(-mp.mpf(a) * n) / n / u**n
            assert abs(left / expected - 1) < 0.01


@pytest.mark.parametrize("kind", TIMES)
def test_lambert_solves_the_truncated_equation(kind):
    """Put back into 2 log P = K x - a/2 log(2 pi x) - h, written out here by hand, at 40 digits."""
    if kind == "generalization":
        pytest.skip("a mean of the condensation time's own solution, tested below")
    expression = sp.lambdify((c_, a_, log_P), power_law_time(kind).expression, modules="mpmath")
    with mp.workdps(40):
        for a in map(mp.mpf, (1.2, 2, 3.7)):
            factor = {"onset": 1 + 1 / a, "collapse": 1, "condensation": 1 - a**-2}[kind]
            x = mp.re(expression(mp.mpf(1), a, mp.mpf(11))) ** (-1 / a)
            K, h = factor * mp.pi / mp.sin(mp.pi / a), mp.mpf(0.5 if kind == "onset" else 0)
            assert abs(K * x - a / 2 * mp.log(2 * mp.pi * x) - h - 22) < mp.mpf(10) ** -35


def evaluated(kind, a, N, P, scale):
    value = power_law_time(kind).expression.subs(
        {a_: sp.Float(a, 40), c_: sp.Float(scale, 40), log_P: sp.log(P), N_: N}
    )
    return float(sp.re(value.evalf(30)))


@pytest.mark.parametrize("kind", TIMES)
@pytest.mark.parametrize("a", [1.5, 2.5])
def test_order_of_what_lambert_leaves_out(kind, a):
    """The relative error against the limit falls with the declared power of the number of directions."""
    errors, counts = [], []
    for P in (30, 300, 10**5):
        t = TIMES[kind](PowerLaw(a), P=P, N=3072)
        errors.append(abs(evaluated(kind, a, 3072, P, PowerLaw(a, 3072).scale) / t - 1))
        time = t if kind != "generalization" else condensation_time(PowerLaw(a), P=P, N=3072)
        counts.append((PowerLaw(a, 3072).scale / time) ** (1 / a))
    assert max(errors) < 0.02
    slopes = np.diff(np.log(errors)) / np.diff(np.log(counts))
    assert -slopes[-1] == pytest.approx(float(power_law_time(kind).order.subs(a_, a)), abs=0.35)


@pytest.mark.parametrize("kind", TIMES)
def test_at_a_2_lambert_is_exact_up_to_an_exponential(kind):
    for P in (10, 1000):
        t = TIMES[kind](PowerLaw(2.0), P=P, N=3072)
        count = np.sqrt(PowerLaw(2.0, 3072).scale / condensation_time(PowerLaw(2.0), P=P, N=3072))
        assert (
            abs(evaluated(kind, 2.0, 3072, P, PowerLaw(2.0, 3072).scale) / t - 1)
            < 20 * np.exp(-2 * np.pi * count / 2) + 1e-12
        )


@pytest.mark.parametrize("kind", TIMES)
@pytest.mark.parametrize("a", EXPONENTS)
def test_leading_order_is_slow(a, kind):
    """Off by a quarter to a factor of two at 50 000 samples, within 1 % only from log P of some thousands on."""
    scale, errors = PowerLaw(a, 3072).scale, []
    for log_size in (np.log(50_000), 100, 1000, 5000):
        t = TIMES[kind](PowerLaw(a), alpha=log_size / 3072, N=3072)
        leading = power_law_time(kind).leading.subs({a_: a, c_: scale, log_P: log_size, N_: 3072})
        errors.append(float(leading) / t - 1)
    assert errors[0] > 0.08
    assert (np.diff(errors) < 0).all()
    assert 0 < errors[-1] < 0.01


@pytest.mark.parametrize("kind", ["onset", "collapse", "condensation"])
@pytest.mark.parametrize("a", EXPONENTS)
def test_end_of_the_list_shifts_the_time_as_derived(a, kind):
    """Domain of validity: noise well above the smallest eigenvalue. There Lambert and shift give the exact finite-N time."""
    model, P = PowerLaw(a, 3072), 50_000
    exact, limit = TIMES[kind](model, P=P), TIMES[kind](PowerLaw(a), P=P, N=3072)
    shift = float(truncation_shift(kind).subs({u_: model.scale / limit, a_: a, N_: 3072}))
    assert np.log(exact / limit) == pytest.approx(shift, rel=0.05, abs=2e-5)
    assert evaluated(kind, a, 3072, P, model.scale) * np.exp(shift) == pytest.approx(
        exact, rel=2e-3 if a == 1.5 else 2e-5
    )


@pytest.mark.parametrize("a", EXPONENTS)
def test_critical_size_is_a_stretched_exponential(a):
    """log P_c against (c/t)^(1/a): its slope is pi/(2 sin(pi/a)), and with the logarithm and the constant it is all there is."""
    model = PowerLaw(a, 50_000)
    f = sp.lambdify((t_, a_, c_), log_critical_size().equation.rhs)
    t = model.scale / np.array([12.0, 30.0]) ** a
    exact = critical_dataset_size(model, t, log=True)
    assert f(t, a, model.scale) == pytest.approx(exact, rel=0.02 if a == 1.5 else 1e-3)
    limit = critical_dataset_size(PowerLaw(a), t, 50_000, log=True)
    assert f(t, a, model.scale) == pytest.approx(limit, rel=3e-5)
    assert critical_dataset_size(PowerLaw(a), collapse_time(PowerLaw(a), P=777, N=99), 99) == pytest.approx(
        777, rel=1e-10
    )


# --- fields and simulation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [6, (4, 5), (7,), (2, 3, 4)])
def test_field_has_the_spectrum_of_its_covariance_matrix(shape):
    """Eigenvalues of the matrix of covariances between pixels, built from the power by a Fourier sum over displacements."""
    sides = (shape, shape) if np.ndim(shape) == 0 else tuple(shape)
    places = np.stack(np.meshgrid(*map(np.arange, sides), indexing="ij"), axis=-1).reshape(-1, len(sides))
    waves = np.where(places > np.array(sides) // 2, places - np.array(sides), places)
    power = np.maximum((waves**2).sum(axis=1), 1.0) ** -1.0
    phase = 2 * np.pi * (places / np.array(sides)) @ places.T  # (wave, displacement)
    by_displacement = (power[:, None] * np.cos(phase)).sum(axis=0)
    by_displacement *= 0.7 / by_displacement[0]  # variance of a pixel
    index = (places[:, None] - places[None]) % np.array(sides)
    matrix = by_displacement[np.ravel_multi_index(np.moveaxis(index, -1, 0), sides)]
    np.testing.assert_allclose(
        PowerLaw.field(shape, 2.0, mean=0.7).eigenvalues, np.linalg.eigvalsh(matrix)[::-1], atol=1e-13
    )


def test_field_in_two_dimensions_falls_with_half_the_exponent():
    """The n-th of the eigenvalues of a field with power |k|^-a is about c (n/pi)^(-a/2)."""
    r, n = PowerLaw.field(256, 3.0).eigenvalues, np.array([300, 30_000])
    assert np.log(r[n[1]] / r[n[0]]) / np.log(n[1] / n[0]) == pytest.approx(-1.5, abs=0.02)


def test_monte_carlo_meets_the_exact_crossing_and_rejects_a_wrong_exponent():
    """Mean weight of the true point at the exact finite-size time is 1/2: z-test over 60 training sets, false alarm 1e-3.

    Control: at the time of a spectrum with exponent 1.5 and the same mean it is not.
    """
    from scipy.stats import norm

    from theory.finite_size.curves import finite_collapse_time
    from validation.simulation import Grids, simulate

    model, P = PowerLaw(2.0, N=64), 400
    right = finite_collapse_time(model, P=P, samples=48, seed=1)
    wrong = right.value * collapse_time(PowerLaw(1.5, N=64), P=P) / collapse_time(model, P=P)
    log_t = sorted(np.log([right.value / 1.5, right.value, right.value * 1.5, wrong]))
    rows = simulate(model, None, P, grids=Grids(noisy=log_t), replicas=60, queries=64, seed=3).noisy
    at = log_t.index(np.log(right.value))
    slope = (rows[:, at + 1].mean() - rows[:, at - 1].mean()) / (log_t[at + 1] - log_t[at - 1])
    error = np.hypot(rows[:, at].std(ddof=1) / 60**0.5, slope * right.error / right.value)
    assert abs(rows[:, at].mean() - 0.5) < norm.isf(0.5e-3) * error
    assert error < 0.02
    assert abs(rows[:, log_t.index(np.log(wrong))].mean() - 0.5) > 5 * error
