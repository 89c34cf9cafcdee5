"""The linear denoiser of finitely many samples: its equation by symbols and by 40 digits, its losses by simulation."""

import mpmath
import numpy as np
import pytest
import sympy as sp

from numerics.domain import DomainError
from theory import (
    Isotropic,
    LinearManifold,
    Spectrum,
    Subspaces,
    finite_sample_gain,
    finite_sample_loss,
    finite_sample_noise,
)
from theory.notation import SpectralAverage, r, t
from theory.training import FiniteSampleEquation, linear_network_curve

HARMONIC = 1 / np.arange(1, 257)
HARMONIC = Spectrum(HARMONIC / HARMONIC.mean())


def test_the_published_equation_follows_from_the_action():
    gamma, kappa = sp.symbols("gamma kappa", positive=True)
    published = kappa - t - gamma * kappa * SpectralAverage(r / (r + kappa))
    assert sp.expand(FiniteSampleEquation().residual - published) == 0


def test_check_value():
    assert finite_sample_noise(HARMONIC, P=80, N=256, t=0.05) == pytest.approx(1.12195, abs=5e-6)


@pytest.mark.parametrize(("P", "t"), [(80, 0.05), (80, 1e-6), (1000, 1e-6), (3, 2.0), (1e6, 0.3)])
def test_against_forty_digits(P, t):
    with mpmath.workdps(40):
        values = [mpmath.mpf(float(v)) for v in HARMONIC.eigenvalues]

        def residual(k):
            return k - t - 256 / mpmath.mpf(P) * k * mpmath.fsum(v / (v + k) for v in values) / 256

        ours = finite_sample_noise(HARMONIC, P=P, t=t)
        exact = mpmath.findroot(residual, mpmath.mpf(ours))
        assert abs(ours / exact - 1) < 1e-13


def test_isotropic_is_quadratic():
    # kappa^2 + kappa (s - t - gamma s) - t s = 0
    s, gamma, t = 1.7, 2.5, 0.3
    exact = max(np.roots([1, s - t - gamma * s, -t * s]).real)
    assert finite_sample_noise(Isotropic(s), P=40, N=100, t=t) == pytest.approx(exact, rel=1e-14)


@pytest.mark.parametrize("model", [HARMONIC, Subspaces([0.3, 0.2], [1.0, 0.09]), LinearManifold(0.4)])
def test_limits(model):
    many = finite_sample_noise(model, P=1e12, N=256, t=0.2)
    assert many == pytest.approx(0.2, rel=1e-9)
    loss = finite_sample_loss(model, P=1e12, N=256, t=0.2)
    assert loss.train == pytest.approx(loss.population, rel=1e-9)
    assert loss.test == pytest.approx(loss.population, rel=1e-9)
    few = finite_sample_loss(model, P=10, N=256, t=0.2)
    assert few.train < few.population < few.test
    # kappa grows with the noise, falls with P
    P, t = np.array([20, 60, 200]), np.array([[0.01], [0.1], [1.0]])
    kappa = finite_sample_noise(model, P=P, N=256, t=t)
    assert kappa.shape == (3, 3)
    assert (np.diff(kappa, axis=0) > 0).all()
    assert (np.diff(kappa, axis=1) < 0).all()


def test_rank_decides_whether_the_noise_survives_at_zero():
    model = Subspaces([0.25], [1.0])
    assert finite_sample_noise(model, P=80, N=256, t=1e-9) < 1e-7  # P above the rank of 64
    assert finite_sample_noise(model, P=40, N=256, t=1e-9) == pytest.approx(64 / 40 - 1, rel=1e-6)


def _simulated(r, P, t, draws, rng):
    """Train, test loss and gains in each direction of (draws) linear denoisers."""
    N, found, gains = r.size, [], []
    for _ in range(draws):
        X = rng.standard_normal((P, N)) * np.sqrt(r)
        C = X.T @ X / P
        W = np.linalg.solve(C + t * np.eye(N), C)
        rest, noise = np.eye(N) - W, t * (W**2).sum()
        found.append([(rest * (rest @ C)).sum() + noise, (rest * rest * r[:, None]).sum() + noise])
        gains.append(np.diag(W))
    return np.array(found) / N, np.array(gains)


def test_simulation_confirms_gains_and_losses():
    """Means over 60 draws; each comparison is a z-test at 4.5 standard errors (false alarm 7e-6 each, 7 of them)."""
    r, P, t, draws = np.sort(HARMONIC.eigenvalues)[::-1], 80, 0.05, 60
    losses, gains = _simulated(r, P, t, draws, np.random.default_rng(18))
    theory = finite_sample_loss(HARMONIC, P=P, t=t)
    mean, error = losses.mean(axis=0), losses.std(axis=0, ddof=1) / np.sqrt(draws)
    assert abs(mean[0] - theory.train) < 4.5 * error[0] + 2e-3 * theory.train  # 1/N: 0.4 %
    assert abs(mean[1] - theory.test) < 4.5 * error[1] + 2e-3 * theory.test
    # negative control: the population's denoiser, or kappa = t, is far outside
    assert abs(mean[1] - theory.population) > 100 * error[1]
    for j in (0, 2, 10, 50, 200):
        mean, error = gains[:, j].mean(), gains[:, j].std(ddof=1) / np.sqrt(draws)
        gain = finite_sample_gain(HARMONIC, r[j], P=P, t=t)
        assert abs(mean - gain) < 4.5 * error + 4e-3 * gain
        if j >= 10:
            assert abs(mean - r[j] / (r[j] + t)) > 20 * error


@pytest.mark.parametrize(("P", "t"), [(80, 0.05), (600, 1e-3), (20, 2.0)])
def test_linear_network_ends_at_the_finite_sample_loss(P, t):
    """Two routes: contour integrals of one- and two-point functions, and the equation of kappa at z = -t."""
    curve, end = linear_network_curve(HARMONIC, [0.0, np.inf], P=P, t=t), finite_sample_loss(HARMONIC, P=P, t=t)
    assert curve.train == pytest.approx([HARMONIC.mean_variance, end.train], rel=1e-11)
    assert curve.test == pytest.approx([HARMONIC.mean_variance, end.test], rel=1e-11)


@pytest.mark.parametrize("model", [Isotropic(1.0), HARMONIC])
def test_linear_network_is_best_before_its_end_where_noise_is_large(model):
    """tau = log(1 + <r^2>/(gamma <r>^2))/2t for t far above r, error of order r/t; far below the loss only falls."""
    N, t = 256, 1e5
    P = 0.5 * N
    square = float(np.mean(model.eigenvalues**2)) if isinstance(model, Spectrum) else 1.0
    best = np.log1p(square / (2 * model.mean_variance**2)) / (2 * t)
    tau = best * np.linspace(0.98, 1.02, 401)
    assert tau[linear_network_curve(model, tau, P=P, N=N, t=t).test.argmin()] == pytest.approx(best, rel=1e-3)
    small = linear_network_curve(model, np.append(np.geomspace(1e-3, 1e6, 60), np.inf), P=P, N=N, t=0.01).test
    assert (np.diff(small) < 1e-12).all()


def test_linear_network_follows_gradient_flow():
    """N = 60, P = 25, 150 draws: 4.5 standard errors (false alarm 7e-6 each), 1.5 % for 1/N; control: the population."""
    r, P, t, tau = np.sort(1 / np.arange(1, 61.0))[::-1], 25, 0.02, np.array([0.1, 1.0, 10.0])
    rng, found = np.random.default_rng(7), []
    for _ in range(150):
        X = rng.standard_normal((P, r.size)) * np.sqrt(r)
        values, vectors = np.linalg.eigh(X.T @ X / P)
        values = np.maximum(values, 0)
        f = (t + values * np.exp(-2 * tau[:, None] * (values + t))) / (values + t)
        rest = (vectors * f[:, None]) @ vectors.T
        found.append(
            [(np.square(rest) * r).sum(axis=(1, 2)) + t * np.square(1 - f).sum(axis=1), (values * f**2).sum(axis=1)]
        )
    mean = np.mean(found, axis=0) / r.size
    error = np.std(found, axis=0, ddof=1) / r.size / np.sqrt(150)
    curve = linear_network_curve(Spectrum(r), tau, P=P, t=t)
    assert (np.abs(mean[0] - curve.test) < 4.5 * error[0] + 0.015 * curve.test).all()
    f = (t + r * np.exp(-2 * tau[:, None] * (r + t))) / (r + t)
    population = (r * f**2 + t * (1 - f) ** 2).mean(axis=1)
    assert np.abs(mean[0] / population - 1).max() > 0.2


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"P": 0, "N": 10, "t": 1.0}, "P"),
        ({"P": 10, "t": 1.0}, "N"),
        ({"P": 10, "N": 10, "t": -1.0}, "t"),
        ({"P": 10, "N": np.nan, "t": 1.0}, "N"),
    ],
)
def test_bad_arguments(arguments, name):
    with pytest.raises(DomainError, match=f"^{name} = "):
        finite_sample_noise(Isotropic(1.0), **arguments)
    with pytest.raises(DomainError, match=r"^r = "):
        finite_sample_gain(Isotropic(1.0), -1.0, P=10, N=10, t=1.0)


def test_the_linear_column_of_networks_is_the_theorys_mean_over_training_sets():
    """Ten training sets; training and fresh loss within 5 standard errors and 1/P, which taking the mean out costs."""
    import torch

    from validation.training import convergence

    P, N, t, variance = 80, 40, 0.5, 1.5
    found = []
    for seed in range(10):
        g = torch.Generator().manual_seed(seed)
        X, fresh = (variance**0.5 * torch.randn(n, N, generator=g, dtype=torch.float64) for n in (P, 400))
        found.append(convergence(lambda x, t: 0 * x, X, [t], fresh=fresh, points=400, seed=seed)["linear"].values[:, 0])
    mean, error = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / np.sqrt(10)
    loss = finite_sample_loss(Isotropic(variance), P=P, N=N, t=t)
    expected = np.array([loss.train, loss.test]) / t
    assert (abs(mean - expected) < 5 * error + expected / P).all()
    assert abs(mean[1] - loss.population / t) > 0.1  # negative control: the population's own loss is not it
