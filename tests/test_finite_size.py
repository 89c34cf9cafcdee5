"""Finite size: every expectation against brute force, mpmath and Monte Carlo; limits; the 1/N and log N/N corrections."""

import math

import mpmath as mp
import numpy as np
import pytest
import sympy as sp
from scipy.integrate import quad
from scipy.stats import chi2

from numerics.domain import DomainError
from numerics.quadrature.adaptive import integrate_panels
from numerics.quadrature.contour import Inversion, _sums
from theory.finite_size.boltzmann_weight import cumulants, log_transform
from theory.finite_size.draws import finite_spectrum
from theory.finite_size.expectations import expected_log_partition, true_point_weight
from theory.finite_size.law import PartitionLaw
from theory.models.gaussian import Isotropic, LinearManifold, Spectrum, Subspaces


def plain(compiled):
    """The Python function behind a compiled one (itself where the JIT is off)."""
    return getattr(compiled, "py_func", compiled)


def law_of(r, x_square, t, log_P, n=None):
    r = np.atleast_1d(np.asarray(r, float))
    n = np.ones(r.size) if n is None else np.asarray(n, float)
    return PartitionLaw(r / t, n, np.atleast_1d(np.asarray(x_square, float)) / t, log_P)


def G_of(law, v):
    return np.exp(-np.exp(law.one.log_G(np.atleast_1d(np.asarray(v, float)))[0]))


# --- the transform of one Boltzmann weight --------------------------------------------------------------------------


def test_transform_is_the_gaussian_integral():
    """mpmath: E exp(-b (x - xi)^2/2) over xi ~ N(0, r), one coordinate, is exp L; sympy: its energy moments follow."""
    r, x, b = 0.7, 0.9, 1.3
    with mp.workdps(30):
        value = mp.quad(lambda z: mp.npdf(z) * mp.exp(-b * (x - mp.sqrt(r) * z) ** 2 / 2), [-12, 0, 12])
    assert cumulants(b, np.array([r]), np.array([1.0]), np.array([x * x]))[0] == pytest.approx(
        float(mp.log(value)), rel=1e-14
    )
    B, R, X = sp.symbols("b r x", positive=True)
    log_M = -sp.log(1 + B * R) / 2 - B * X**2 / (2 * (1 + B * R))
    assert sp.simplify(-sp.diff(log_M, B).subs(B, 0) - (X**2 + R) / 2) == 0  # E of (x - xi)^2/2
    assert sp.simplify(sp.diff(log_M, B, 2).subs(B, 0) - (R**2 / 2 + R * X**2)) == 0  # its variance


def test_cumulants_are_derivatives_and_the_complex_transform_continues_them():
    rng = np.random.default_rng(0)
    s, p = np.exp(rng.normal(0, 3, 40)), rng.uniform(0, 2, 40)
    n = np.where(np.arange(40) % 3 == 0, 5.0, 1.0)

    def exact(lam):
        return -sum(n_ * mp.log(1 + lam * s_) + lam * p_ / (1 + lam * s_) for s_, n_, p_ in zip(s, n, p)) / 2  # noqa: B905

    with mp.workdps(40):
        reference = [float(d) for d in mp.taylor(exact, 0.37, 3)]
    ours = cumulants(0.37, s, n, p)
    assert ours == pytest.approx([reference[k] * math.factorial(k) for k in range(4)], rel=1e-12)
    lam = np.concatenate([0.37 + 1j * np.geomspace(1e-6, 1e3, 30), [-0.9 / s.max() + 2j, 0.5 + 0j]])
    values = np.array([complex(exact(mp.mpc(z))) for z in lam])
    np.testing.assert_allclose(log_transform(lam, s, n, p), values, rtol=1e-12)
    np.testing.assert_allclose(plain(log_transform)(lam[:4], s, n, p), log_transform(lam[:4], s, n, p), rtol=1e-13)


@pytest.mark.parametrize(("r", "x", "t"), [(1.0, 0.3, 1.0), (1.0, 0.3, 0.02), (2.0, 1.5, 100.0), (1.0, 0.0, 1e-3)])
def test_G_against_the_integral_over_one_coordinate(r, x, t):
    law = law_of(r, x * x, t, math.log(2))
    for v in (-12.0, -3.0, 0.0, 0.7, 1.5, 4.0, 9.0):
        u, peak = math.exp(v), x / math.sqrt(r)

        def tail(z, u=u):
            return (
                np.exp(-z * z / 2)
                / math.sqrt(2 * math.pi)
                * -np.expm1(-u * np.exp(-((x - math.sqrt(r) * z) ** 2) / 2 / t))
            )

        width = 6 * math.sqrt(t / r * (1 + max(v, 0)))
        points = [z for z in (peak - width, peak, peak + width) if -12 < z < 12]
        value = quad(tail, -12, 12, points=points, limit=2000, epsabs=0, epsrel=1e-12)[0]
        log_minus, error = law.one.log_G(np.array([v]))
        assert -np.expm1(-np.exp(log_minus[0])) == pytest.approx(value, rel=1e-11)
        assert error[0] < 1e-12


def test_G_and_its_moments_against_a_grid_over_two_coordinates():
    r, x, t = np.array([1.0, 0.4]), np.array([0.8, -0.5]), 0.6
    law = law_of(r, x**2, t, math.log(2))
    z, h = np.linspace(-9, 9, 721, retstep=True)
    density = np.exp(-np.add.outer(z**2, z**2) / 2) / (2 * math.pi) * h * h
    energy = 0.5 * np.add.outer((x[0] - math.sqrt(r[0]) * z) ** 2, (x[1] - math.sqrt(r[1]) * z) ** 2) / t
    for v in (-6.0, -1.0, 0.5, 2.0, 5.0):
        w = np.exp(v - energy)
        assert G_of(law, v)[0] == pytest.approx((density * np.exp(-w)).sum(), rel=1e-12)
        for k in (1, 2):
            value = np.exp(law.one.log_moment(k, np.array([v]))[0][0])
            assert value == pytest.approx((density * w**k * np.exp(-w)).sum(), rel=1e-11)


@pytest.mark.parametrize(
    ("N", "t", "v"), [(1, 0.5, 2.0), (20, 0.5, 12.0), (20, 0.5, 3.0), (300, 2.0, 70.0), (2000, 0.3, 3000.0)]
)
def test_contour_against_mpmath(N, t, v):
    """The Mellin-Barnes integral itself, to 30 digits, on a vertical line of our own choosing."""
    law = law_of(1.0, 1.3 * N, t, math.log(2), n=[N])
    with mp.workdps(40):
        s, n, p = mp.mpf(1) / t, mp.mpf(N), mp.mpf(1.3 * N) / t

        def f(lam):
            return mp.log(mp.gamma(1 - lam) / lam) + lam * v - (n * mp.log(1 + lam * s) + lam * p / (1 + lam * s)) / 2

        # the saddle in (0, 1), where -Gamma(-lambda) = Gamma(1 - lambda)/lambda is positive
        low, high = mp.mpf("1e-9"), 1 - mp.mpf("1e-9")
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if mp.diff(lambda q: mp.re(f(q)), middle) < 0 else (low, middle)
        a, width = low, 1 / mp.sqrt(mp.diff(lambda q: mp.re(f(q)), low, 2))
        g = lambda y: mp.re(mp.exp(f(mp.mpc(a, y)) - f(a)))  # noqa: E731
        knots = [mp.mpf(0)] + [width * mp.mpf(2) ** k for k in range(60) if width * 2**k < 60]
        integral = mp.quad(g, knots) / mp.pi
        log_tail = float(f(a) + mp.log(integral))
    ours = law.one.log_G(np.array([v]))[0][0]
    assert ours == pytest.approx(math.log(-math.log1p(-math.exp(log_tail))), rel=1e-11, abs=1e-11)


def test_inversion_of_a_known_transform_and_its_error_estimate():
    from scipy.special import loggamma, psi, zeta

    inverse = Inversion(
        lambda z: loggamma(-z), lambda a: (loggamma(-a), -psi(-a), zeta(2, -a), 2 * zeta(3, -a)), low=-np.inf, high=0.0
    )
    v = np.linspace(-25, 4, 60)
    mantissa, exponent, error = inverse(v)
    exact = -np.exp(v)
    assert np.abs(np.log(mantissa) + exponent - exact).max() < 1e-12
    assert (error / mantissa).max() < 1e-12
    contour = inverse.contours[0]
    ours, uncompiled = (sums(v[:3], contour.node, contour.weight) for sums in (_sums, plain(_sums)))
    np.testing.assert_allclose(ours, uncompiled, rtol=1e-10)
    with pytest.raises(DomainError, match="low"):
        Inversion(lambda z: z, lambda a: (a, a, a, a), low=1.0, high=0.0)


def test_adaptive_quadrature_is_honest():
    value, error = integrate_panels(lambda x: np.sqrt(np.abs(x)), [-1.0, 0.3, 1.0], rounds=3)
    assert abs(value[0] - 4 / 3) < 20 * error[0]
    assert error[0] > 1e-9  # three halvings cannot resolve the cusp, and the estimate says so
    with pytest.raises(DomainError, match="breakpoints"):
        integrate_panels(np.sqrt, [1.0])


# --- the sum of P of them -------------------------------------------------------------------------------------------

REGIMES = [
    (N, log_P, t)
    for N in (1, 2, 5, 20, 300, 10_000)
    for log_P in (math.log(2), math.log(50_000), 0.2 * N, 500.0)
    for t in (1e-6, 0.3, 1e3)
    if math.log(2) <= log_P <= 500
]


@pytest.mark.parametrize(("N", "log_P", "t"), REGIMES)
def test_weights_sum_to_one_from_P_2_to_e500_and_N_1_to_10000(N, log_P, t):
    """E sum_mu w_mu = P int (-uG') G^(P-1) dv = 1 uses both transforms, every contour and the adaptive quadrature."""
    law = law_of(1.0, 0.9 * N * (1 + t), t, log_P, n=[N])
    value, error = law.normalisation()
    assert abs(value - 1) < 1e-11
    assert error < 1e-10
    log_Z, error = law.expected_log()
    annealed = log_P + law.one.log_M(1.0)
    assert log_Z <= annealed + 1e-9  # Jensen
    assert error < 1e-13 * abs(log_Z) + 1e-11


def test_many_scales_in_one_spectrum():
    r = np.exp(np.random.default_rng(0).normal(0, 3, 200))
    for t in (1e-4, 1.0, 100.0):
        law = law_of(r, 1.1 * (r + t), t, math.log(50_000))
        assert law.normalisation()[0] == pytest.approx(1.0, abs=1e-11)


@pytest.mark.parametrize("t", [0.05, 0.4, 5.0])
def test_two_patterns_in_one_dimension_by_brute_force(t):
    """P = 2, N = 1: E log Z, participation and the planted averages by a grid over both patterns."""
    x = 0.6
    z, h = np.linspace(-9, 9, 2001, retstep=True)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * h
    energy = (x - z) ** 2 / (2 * t)
    joint = np.outer(density, density)
    e1, e2 = energy[:, None], energy[None, :]
    law = law_of(1.0, x * x, t, math.log(2))
    assert law.expected_log()[0] == pytest.approx(
        float((joint * -np.minimum(e1, e2)).sum() + (joint * np.log1p(np.exp(-np.abs(e1 - e2)))).sum()), rel=1e-4
    )
    w = 1 / (1 + np.exp(np.clip(e1 - e2, -700, 700)))
    assert law.participation()[0] == pytest.approx(float((joint * (w**2 + (1 - w) ** 2)).sum()), rel=1e-4)
    one, log_a = law.with_count(0.0), -0.7  # one pattern beside a point of weight a: smooth, so the grid is exact
    ratio = np.exp(-energy - log_a)
    assert one.log_ratio(log_a)[0] == pytest.approx(float(density @ np.log1p(ratio)), rel=1e-11)
    assert one.weight(log_a)[0] == pytest.approx(float(density @ (1 / (1 + ratio))), rel=1e-11)
    assert one.participation_beside(log_a)[0] == pytest.approx(
        float(density @ ((1 + ratio**2) / (1 + ratio) ** 2)), rel=1e-11
    )
    assert one.expected_log()[0] == pytest.approx(-float(density @ energy), rel=1e-11)


def test_large_integers_and_log_P_agree():
    model = Isotropic(1.0)
    a = expected_log_partition(model, P=10**100, N=50, t=0.5, x=np.full(50, 1.0))
    b = expected_log_partition(model, log_P=100 * math.log(10), N=50, t=0.5, x=np.full(50, 1.0))
    assert a.value == pytest.approx(b.value, rel=1e-13)
    assert a.error < 1e-10
    tiny = true_point_weight(model, log_P=500.0, N=1, t=1e-6, x=[0.3], kind="clean")
    assert 0 < tiny.value < 1e-200


def test_nothing_fails_when_the_point_has_all_the_weight_or_none():
    law = law_of(1.0, 2000.0, 0.3, math.log(100), n=[1000])
    for log_a, weight in ((0.0, 1.0), (-5000.0, 0.0)):
        assert law.weight(log_a)[0] == pytest.approx(weight, abs=1e-12)
        assert law.participation_beside(log_a)[0] <= 1 + 1e-12
    assert law.log_ratio(-5000.0)[0] == pytest.approx(law.expected_log()[0] + 5000.0, abs=1e-9)


# --- Monte Carlo over the same disorder -----------------------------------------------------------------------------

CELLS = [
    (Isotropic(1.0), 10, 60, 0.3),
    (Isotropic(1.0), 20, 100, 0.8),
    (Subspaces([0.3, 0.3], [1.0, 0.09]), 30, 100, 0.3),
    (Subspaces([0.3, 0.3], [1.0, 0.09]), 20, 40, 1.5),
    (LinearManifold(0.5), 40, 100, 0.5),
    (LinearManifold(0.5, [1.0, 0.1]), 24, 60, 0.2),
]


def monte_carlo_chi_square(distort=1.0):
    """Sum of squared z over cells and quantities; x and spectrum fixed, only the patterns are drawn. Independent batches."""
    rng = np.random.default_rng(20)
    total, count = 0.0, 0
    for model, N, P, t in CELLS:
        spectrum = finite_spectrum(model, N, np.random.default_rng(7))
        r = np.concatenate([np.repeat(spectrum.variance, spectrum.multiplicity.astype(int)), np.zeros(spectrum.zeros)])
        x = rng.standard_normal(N) * np.sqrt(r + t)
        square = np.add.reduceat(
            x[: N - spectrum.zeros] ** 2, np.r_[0, np.cumsum(spectrum.multiplicity)[:-1]].astype(int)
        )
        law = law_of(distort * spectrum.variance, square, t, math.log(P), n=spectrum.multiplicity)
        offset = -(x[N - spectrum.zeros :] ** 2).sum() / (2 * t)
        log_a = law.expected_log()[0]  # a point that competes
        predicted = [
            law.expected_log()[0] + offset,
            law.participation()[0],
            law.weight(log_a)[0],
            law.log_ratio(log_a)[0],
            law.participation_beside(log_a)[0],
        ]
        for q, value in enumerate(predicted):
            X = rng.standard_normal((500, P, N)) * np.sqrt(r)
            log_w = -0.5 * ((X - x) ** 2).sum(-1) / t - (0 if q == 0 else offset)
            if q > 1:
                log_w = np.concatenate([np.full((500, 1), log_a), log_w], axis=1)
            top = log_w.max(1, keepdims=True)
            w = np.exp(log_w - top)
            Z = w.sum(1)
            w /= Z[:, None]
            log_Z = np.log(Z) + top[:, 0]
            sample = [log_Z, (w**2).sum(1), w[:, 0], log_Z - log_a, (w**2).sum(1)][q]
            total += ((sample.mean() - value) / (sample.std(ddof=1) / math.sqrt(500))) ** 2
            count += 1
    return total, count


def test_monte_carlo_over_the_same_disorder():
    """chi-square of 30 independent cells; false alarm 1e-4. Negative control: eigenvalues 10 % off must fail."""
    total, count = monte_carlo_chi_square()
    assert 1e-4 < chi2.sf(total, count) < 1 - 1e-4
    total, count = monte_carlo_chi_square(distort=1.1)
    assert chi2.sf(total, count) < 1e-6


def test_given_x_off_the_manifold_shifts_log_Z_exactly():
    model, t = Subspaces([0.5], [1.0]), 0.3
    x = np.array([0.4, -0.2, 0.0, 0.0])
    on = expected_log_partition(model, P=10, N=4, t=t, x=x, samples=3)
    off = expected_log_partition(model, P=10, N=4, t=t, x=[0.4, -0.2, 1.0, 2.0], samples=3)
    assert off.value == pytest.approx(on.value - 5.0 / (2 * t), rel=1e-13)
    assert off.planted == pytest.approx(on.planted - 5.0 / (2 * t), rel=1e-13)
    clean = expected_log_partition(model, P=10, N=4, t=t, x=x, kind="clean", samples=1)
    assert clean.planted == pytest.approx(clean.excess, rel=1e-13)
    assert clean.planted > clean.value


def test_seed_reproduces_and_arrays_broadcast():
    model, t = LinearManifold(0.5), [[0.2, 1.0], [3.0, 9.0]]
    a = true_point_weight(model, P=100, N=10, t=t, seed=4, samples=6)
    b = true_point_weight(model, P=100, N=10, t=t, seed=4, samples=6)
    assert a.value.shape == a.error.shape == (2, 2)
    assert (a.value == b.value).all()
    assert np.isnan(true_point_weight(model, P=100, N=10, t=1.0, samples=1).error)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"P": 1}, "P"),
        ({"P": 2.5}, "P"),
        ({"P": None}, "P, log_P"),
        ({"log_P": 3.0}, "P, log_P"),
        ({"P": None, "log_P": 0.1}, "log_P"),
        ({"P": None, "log_P": math.nan}, "log_P"),
        ({"N": 0}, "N"),
        ({"N": None}, "N"),
        ({"t": 0.0}, "t"),
        ({"t": None}, "t"),
        ({"t": [1.0, math.nan]}, "t"),
        ({"kind": "dirty"}, "kind"),
        ({"x": [1.0, 2.0]}, "x"),
        ({"samples": 0}, "samples"),
        ({"seed": -1}, "seed"),
        ({"model": "isotropic"}, "model"),
        ({"model": LinearManifold([0.3, 0.5])}, "alpha_D"),
        ({"model": Isotropic(sp.Symbol("s", positive=True))}, "variance"),
        ({"model": Spectrum([1.0, 2.0])}, "N"),
        ({"model": Subspaces([0.01], [1.0])}, "N"),
        ({"model": LinearManifold(0.5, [1.0, 0.1]), "N": 10_000}, "N"),
    ],
)
def test_bad_input_names_the_argument(change, name):
    arguments = {"model": Isotropic(1.0), "P": 10, "N": 5, "t": 1.0} | change
    with pytest.raises(DomainError) as error:
        expected_log_partition(**arguments)
    assert error.value.argument == name


def test_nonlinear_manifolds_are_refused_with_the_reason():
    from theory.models.hidden import HiddenManifold

    with pytest.raises(DomainError, match="coupled"):
        true_point_weight(HiddenManifold(0.5, "tanh"), P=100, N=10, t=1.0)
