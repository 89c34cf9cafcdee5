"""Finite size: averages over x and F, curves and times, and the 1/N and log N/N corrections to the asymptotic values."""

import math

import numpy as np
import pytest
from scipy.special import digamma
from scipy.stats import chi2

from numerics.domain import DomainError
from theory import collapse_time, generalization_time, onset_time
from theory.finite_size.boltzmann_weight import cumulants
from theory.finite_size.corrections import (
    collapse_time_first_order,
    generalization_time_first_order,
    log_partition_first_order,
    onset_time_first_order,
)
from theory.finite_size.curves import (
    collapse_curve,
    finite_collapse_time,
    finite_generalization_time,
    finite_onset_time,
    finite_size_times,
    held_out_cross_entropy,
)
from theory.finite_size.draws import annealed_mean, draws, finite_spectrum, linear_control
from theory.finite_size.expectations import expected_log_partition, expected_participation, true_point_weight
from theory.finite_size.law import PartitionLaw
from theory.models.gaussian import Isotropic, LinearManifold, Spectrum, Subspaces


def law_of(r, x_square, t, log_P, n=None):
    r = np.atleast_1d(np.asarray(r, float))
    n = np.ones(r.size) if n is None else np.asarray(n, float)
    return PartitionLaw(r / t, n, np.atleast_1d(np.asarray(x_square, float)) / t, log_P)


# --- averages over everything against Monte Carlo ----------------------------------------------------------------------


def test_averages_over_x_and_F_against_monte_carlo():
    """Everything drawn anew: 8 cells of fresh, planted, excess and weight; false alarm 1e-4 each way of 32 z's."""
    rng = np.random.default_rng(3)
    z = []
    for model, N, P in ((Subspaces([0.4, 0.3], [1.0, 0.2]), 10, 40), (LinearManifold(0.6), 15, 60)):
        for t in (0.6, 2.0):
            for kind in ("noisy", "clean"):
                rows = []
                for _ in range(600):
                    s = finite_spectrum(model, N, rng)
                    r = np.concatenate([np.repeat(s.variance, s.multiplicity.astype(int)), np.zeros(s.zeros)])
                    X = rng.standard_normal((P + 1, N)) * np.sqrt(r)
                    noise = math.sqrt(t) * rng.standard_normal(N) * (kind == "noisy")
                    x = X[0] + noise
                    log_w = -0.5 * ((X - x) ** 2).sum(1) / t
                    fresh = np.logaddexp.reduce(log_w[1:])  # the P others
                    planted = np.logaddexp.reduce(log_w[:-1])  # the point and P - 1 others
                    rows.append([fresh, planted, planted - log_w[0], math.exp(log_w[0] - planted)])
                rows = np.array(rows)
                L = expected_log_partition(model, P=P, N=N, t=t, kind=kind, samples=64, seed=5)
                W = true_point_weight(model, P=P, N=N, t=t, kind=kind, samples=64, seed=5)
                value = np.array([L.value, L.planted, L.excess, W.value])
                error = np.array([L.error, L.planted_error, L.excess_error, W.error])
                z.append((value - rows.mean(0)) / np.hypot(error, rows.std(0, ddof=1) / math.sqrt(600)))
    # the four quantities of a cell are correlated: bound the largest |z| and each quantity's chi-square of 8 cells
    z = np.array(z)
    assert np.abs(z).max() < 4.9  # 32 two-sided normals: 3e-5
    assert (chi2.sf((z**2).sum(0), 8) > 2.5e-5).all()


@pytest.mark.slow
def test_participation_averages_over_x():
    rng = np.random.default_rng(8)
    model, N, P, t = Isotropic(1.0), 12, 50, 0.5
    rows = []
    for _ in range(1500):
        X = rng.standard_normal((P, N))
        x = X[0] + math.sqrt(t) * rng.standard_normal(N)
        w = np.exp(-0.5 * ((X - x) ** 2).sum(1) / t)
        w2 = np.exp(-0.5 * ((rng.standard_normal((P, N)) - x) ** 2).sum(1) / t)
        rows.append([(w2**2).sum() / w2.sum() ** 2, (w**2).sum() / w.sum() ** 2])
    rows = np.array(rows)
    for column, planted in enumerate((False, True)):
        ours = expected_participation(model, P=P, N=N, t=t, planted=planted, samples=100)
        error = math.hypot(ours.error, rows[:, column].std() / math.sqrt(1500))
        assert abs(ours.value - rows[:, column].mean()) < 4.5 * error  # false alarm 1e-5


# --- what is averaged over, and the controls ------------------------------------------------------------------------


@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize("want", ["weight", "log"])
def test_mean_of_the_annealed_control(noisy, want):
    rng = np.random.default_rng(1)
    spectrum = finite_spectrum(Subspaces([0.5, 0.25], [1.0, 0.3]), 12)
    r = np.repeat(spectrum.variance, spectrum.multiplicity.astype(int))
    t, log_P, M = 0.7, 4.0, 400_000
    z, w = rng.standard_normal((M, r.size)), rng.standard_normal((M, r.size)) * noisy
    x = np.sqrt(r) * z + math.sqrt(t) * w
    delta = log_P - 0.5 * (np.log1p(r / t).sum() + (x**2 / (r + t)).sum(1)) + 0.5 * (w**2).sum(1)
    sample = 1 / (1 + np.exp(delta)) if want == "weight" else np.logaddexp(0, delta)
    exact = annealed_mean(spectrum, t, noisy, log_P, want=want)
    assert abs(sample.mean() - exact) < 4.5 * sample.std() / math.sqrt(M)  # false alarm 1e-5
    assert abs(sample.mean() - exact) < 0.02 * abs(exact)


def test_draws_have_the_moments_of_x_and_the_linear_control_has_mean_zero():
    model, t = Subspaces([0.5, 0.1], [1.0, 0.25]), 0.4
    drawn = draws(model, 10, seed=2, samples=4000)
    for noisy in (True, False):
        p = np.array([d.point(t, noisy)[0] for d in drawn])
        n, r = drawn[0].spectrum.multiplicity, drawn[0].spectrum.variance
        e = (r + t * noisy) / t
        assert np.abs(p.mean(0) - n * e).max() < 4.9 * (e * np.sqrt(2 * n / 4000)).max()
        assert np.abs(p.var(0) / (2 * n * e**2) - 1).max() < 0.35
        control = np.array([linear_control(d.spectrum, t, noisy, 0.6, d.point(t, noisy)[0]) for d in drawn])
        assert abs(control.mean()) < 4.5 * control.std() / math.sqrt(4000)
    # x and its noise are correlated through C and B: cov(sum x_i^2/t, sum omega_i^2) = 2 N per unit of noise variance
    x_square = np.array([d.point(t, True)[0].sum() for d in drawn])
    noise = np.array([-2 * d.point(t, True)[2] for d in drawn])
    products = (x_square - x_square.mean()) * (noise - noise.mean())
    assert abs(products.mean() - 2 * n.sum()) < 4.5 * products.std() / math.sqrt(4000)  # false alarm 1e-5


def test_bidiagonal_spectrum_has_the_wishart_law():
    """Mean log-determinant (digammas), trace and trace of the square of F F^T/D; false alarm 1e-5 each."""
    N, D, draws_ = 30, 12, 600
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(draws_):
        s = finite_spectrum(LinearManifold(0.4), N, rng)
        assert (s.variance.size, s.zeros) == (D, N - D)
        rows.append([np.log(s.variance * D).sum(), s.variance.sum(), (s.variance**2).sum()])
    rows = np.array(rows)
    exact = [
        sum(digamma((N - i) / 2) + math.log(2) for i in range(D)),
        N,
        N * D * (N + D + 1) / D**2,
    ]
    z = (rows.mean(0) - exact) / (rows.std(0, ddof=1) / math.sqrt(draws_))
    assert np.abs(z).max() < 4.7
    dense = finite_spectrum(LinearManifold(0.4, [1.0, 0.5]), N, 0)
    assert (dense.variance.size, dense.zeros) == (D, N - D)
    wide = finite_spectrum(LinearManifold(1.5), 20, 0)
    assert (wide.variance.size, wide.zeros) == (20, 0)


def test_block_sizes():
    s = finite_spectrum(Subspaces([0.5, 0.5], [1.0, 0.25]), 3)
    assert s.multiplicity.sum() == 3
    s = finite_spectrum(Subspaces([0.3, 0.3], [0.09, 1.0]), 10)
    assert (list(s.variance), list(s.multiplicity), s.zeros) == ([1.0, 0.09], [3.0, 3.0], 4)
    s = finite_spectrum(Spectrum([0.0, 2.0, 2.0, 1.0]))
    assert (list(s.variance), list(s.multiplicity), s.zeros, s.N) == ([2.0, 1.0], [2.0, 1.0], 1, 4)


# --- curves and times -----------------------------------------------------------------------------------------------


def test_collapse_curve_tends_to_the_asymptotic_one():
    """f = 0 below t_c and alpha - L(t)/2 above, isotropic; the correction near t_c is of order N^(-1/2)."""
    alpha, N = 0.2, 4000
    t = np.array([0.5, 1.0, 4.0, 8.0])  # t_c = 2.03
    f = collapse_curve(Isotropic(1.0), log_P=alpha * N, N=N, t=t, samples=16)
    limit = np.maximum(alpha - 0.5 * np.log1p(1 / t), 0)
    np.testing.assert_allclose(f.value, limit, atol=1e-9)
    small = collapse_curve(Isotropic(1.0), log_P=alpha * 20, N=20, t=t, samples=64)
    assert (small.value > limit).all()  # rounded


def test_held_out_cross_entropy_against_a_kernel_density():
    rng = np.random.default_rng(0)
    P, N, t = 80, 6, 0.5
    sample = []
    for _ in range(2000):
        X, x = rng.standard_normal((P, N)), rng.standard_normal(N)
        log_p = np.logaddexp.reduce(-0.5 * ((X - x) ** 2).sum(1) / t) - math.log(P) - N / 2 * math.log(2 * math.pi * t)
        sample.append(-log_p / N)
    ours = held_out_cross_entropy(Isotropic(1.0), P=P, N=N, t=t, samples=128)
    assert abs(ours.value - np.mean(sample)) < 4.5 * math.hypot(ours.error, np.std(sample) / math.sqrt(2000))


def test_crossings_are_where_they_say():
    model, P, N = Isotropic(1.0), 200, 15
    times = finite_size_times(model, P=P, N=N, samples=16, seed=1)
    for estimate, kind in ((times.collapse, "noisy"), (times.onset, "clean")):
        w = true_point_weight(model, P=P, N=N, t=estimate.value, kind=kind, samples=16, seed=1)
        assert w.value == pytest.approx(0.5, abs=1e-6)
    best = times.generalization
    h = held_out_cross_entropy(model, P=P, N=N, t=best.value * np.array([0.8, 1.0, 1.25]), samples=16, seed=1)
    assert h.value[1] < min(h.value[0], h.value[2])
    assert best.value < times.collapse.value < times.onset.value
    with pytest.raises(DomainError, match="P"):
        finite_collapse_time(model, log_P=500.0, N=1)


# --- corrections to the asymptotic values ---------------------------------------------------------------------------


@pytest.mark.parametrize("model", [Isotropic(1.0), Subspaces([0.3, 0.3], [1.0, 0.09])])
def test_log_N_coefficient_and_constant_of_the_condensed_free_energy(model):
    """At the typical x (x_i^2 at its mean: no sampling) fit A log N + B + (C log^2 N + D log N + E)/N; A = -1/(2 lambda)."""
    alpha, t = 0.2, 0.25
    sizes = np.array([500, 1000, 2000, 4000, 8000, 20_000, 50_000, 100_000])
    excess = []
    for N in sizes:
        s = finite_spectrum(model, int(N))
        law = law_of(s.variance, s.multiplicity * (s.variance + t), t, alpha * N, n=s.multiplicity)
        first = log_partition_first_order(s, alpha * N, t, noisy=True)
        excess.append(law.expected_log()[0] - 0.5 * s.zeros - first["leading"])
    logs = np.log(sizes)
    design = np.stack([logs, np.ones(sizes.size), logs**2 / sizes, logs / sizes, 1 / sizes], axis=1)
    log_coefficient, constant, *_ = np.linalg.lstsq(design, np.array(excess), rcond=None)[0]
    lam = first["lambda_star"]
    assert log_coefficient == pytest.approx(-0.5 / lam, rel=2e-4)
    # at a fixed x the constant lacks the term of x's fluctuation, -Var(lambda L' - L)/(2 lambda^3 L'')
    y, e, n = lam * s.variance / t, lam * (s.variance + t) / t, s.multiplicity
    variance = 0.5 * n @ (e * y / (1 + y) ** 2) ** 2
    curvature = n @ (0.5 * (y / (1 + y)) ** 2 + e * y / (1 + y) ** 3)
    assert constant == pytest.approx(first["constant"] + variance / (2 * lam * curvature), abs=5e-3)


def test_free_energy_averaged_over_x_has_the_stated_constant():
    """N = 4000: exact average against leading + log N + constant; 4.5 standard errors, and the constant is resolved."""
    for model, noisy, t in ((Isotropic(1.0), True, 0.3), (Subspaces([0.3, 0.3], [1.0, 0.09]), False, 0.06)):
        N, alpha = 4000, 0.2
        first = log_partition_first_order(finite_spectrum(model, N), alpha * N, t, noisy=noisy)
        kind = "noisy" if noisy else "clean"
        exact = expected_log_partition(model, log_P=alpha * N, N=N, t=t, kind=kind, samples=48)
        assert abs(exact.value - first["total"]) < 4.5 * exact.error + 0.03
        assert abs(first["constant"]) > 6 * exact.error  # or the comparison would say nothing
    uncondensed = log_partition_first_order(finite_spectrum(Isotropic(1.0), 500), 100.0, 6.0, noisy=True)
    exact = expected_log_partition(Isotropic(1.0), log_P=100.0, N=500, t=6.0, samples=8)
    assert uncondensed["lambda_star"] == 1.0
    assert abs(exact.value - uncondensed["total"]) < 1e-7


def test_drift_of_the_onset():
    """Exact crossing less first order falls like 1/N^2, while the first-order drift itself is 1/N."""
    alpha = 0.2
    limit = onset_time(Isotropic(1.0), alpha=alpha)
    gaps = []
    for N in (400, 1600, 6400):
        exact = finite_onset_time(Isotropic(1.0), log_P=alpha * N, N=N, samples=16).value
        first = onset_time_first_order(Isotropic(1.0), log_P=alpha * N, N=N)
        gaps.append(abs(exact - first))
        assert gaps[-1] < 0.75 * abs(exact - limit)
    slopes = np.diff(np.log(gaps)) / np.log(4)
    assert (slopes < -1.5).all()


def test_drift_of_the_collapse_time():
    """At the first-order time the mean weight is 1/2 within its error; at the asymptotic time it is not."""
    N, alpha = 800, 0.2
    limit = collapse_time(Isotropic(1.0), alpha=alpha)
    first = collapse_time_first_order(Isotropic(1.0), log_P=alpha * N, N=N)
    w = true_point_weight(Isotropic(1.0), log_P=alpha * N, N=N, t=[first, limit], samples=300, seed=4)
    assert abs(w.value[0] - 0.5) < 4 * w.error[0] + 0.003  # the remainder of order N^(-1/2) x 1/N^(1/2)
    assert w.value[1] - 0.5 > 5 * w.error[1]
    assert first > limit


def test_drift_of_the_generalization_optimum():
    """log N/N with coefficient 1/beta_*: N shift/log N tends to it, and the full first order is closer by far."""
    model, alpha, N = Subspaces([0.3, 0.3], [1.0, 0.09]), 0.2, 2500
    limit = generalization_time(model, alpha=alpha)
    exact = finite_generalization_time(model, log_P=alpha * N, N=N, samples=24)
    first = generalization_time_first_order(model, log_P=alpha * N, N=N)
    assert abs(exact.value - first) < 4.5 * exact.error + 0.02 * abs(first - limit)
    assert abs(exact.value - limit) > 20 * abs(exact.value - first)


def test_finite_times_bracket_the_asymptotic_ones_at_large_N():
    model, N, alpha = Isotropic(1.0), 5000, 0.3
    exact = finite_collapse_time(model, log_P=alpha * N, N=N, samples=24)
    assert exact.value == pytest.approx(collapse_time(model, alpha=alpha), rel=5e-3)


def test_what_the_collapse_drift_is_made_of():
    """At a fixed x, log Z = log P M + log Phi(S/sqrt(L'')) at condensation; tau^2 is S's variance given Delta, over L''."""
    from scipy.special import log_ndtr

    gaps = []
    for N in (2500, 40_000):
        t, target = 0.5, np.array([-2.0, -1.0, 0.0, 1.5])
        s, n, p = np.array([1 / t]), np.array([float(N)]), np.array([N * (1 + t) / t])
        L, L1, L2, _ = cumulants(1.0, s, n, p)
        exact = []
        for z in target:  # choose P so that S = log P + L - L' is z sqrt(L'')
            log_P = z * math.sqrt(L2) - L + L1
            exact.append(PartitionLaw(s, n, p, log_P).expected_log()[0] - log_P - L)
        gaps.append(np.abs(np.array(exact) - log_ndtr(target)).max())
    assert gaps[1] < 0.3 * gaps[0] < 0.05  # of order N^(-1/2): a quarter

    t, rng = 0.6, np.random.default_rng(0)
    spectrum = finite_spectrum(Subspaces([0.5, 0.3], [1.0, 0.2]), 50)
    r, n = spectrum.variance, spectrum.multiplicity
    drawn = draws(Subspaces([0.5, 0.3], [1.0, 0.2]), 50, seed=int(rng.integers(100)), samples=4000)
    pairs = []
    for d in drawn:
        p, _, log_a = d.point(t, True)
        L, L1, _, _ = cumulants(1.0, r / t, n, p)
        pairs.append((L - L1, L - log_a))
    S, delta = np.array(pairs).T
    conditional = np.var(S - np.cov(S, delta)[0, 1] / np.var(delta) * delta)
    curvature = cumulants(1.0, r / t, n, n * (r + t) / t)[2]
    m = r / (r + t)
    assert conditional / curvature == pytest.approx(0.5 * (n @ m**2) / (n @ m), rel=4.5 * math.sqrt(2 / 4000))


@pytest.mark.slow
def test_constant_of_the_collapse_drift():
    """alpha = 1.5, N = 400: N (alpha - L/2) at the crossing is E log Phi(tau zeta); not tau = 0, not twice tau^2."""
    alpha, N = 1.5, 400
    first = collapse_time_first_order(Isotropic(1.0), log_P=alpha * N, N=N)
    t = first * np.exp(np.array([0.0, 1 / N]))
    w = true_point_weight(Isotropic(1.0), log_P=alpha * N, N=N, t=t, samples=4000, seed=4)
    slope = (w.value[1] - w.value[0]) * N
    root = first * math.exp(-(w.value[0] - 0.5) / slope)
    constant = N * (alpha - 0.5 * math.log1p(1 / root))
    error = w.error[0] / abs(slope) * 0.5 * N / (1 + root)
    assert abs(constant - 0.8414) < 3.5 * error + 0.02
