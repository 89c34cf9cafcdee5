"""Patches: loads, information, critical patch; sympy, mpmath and simulation against the same numbers."""

import math

import mpmath
import numpy as np
import pytest
import sympy as sp

from numerics.domain import DomainError
from theory.finite_size import true_point_weight
from theory.locality import (
    critical_patch,
    information_criterion,
    markov_information,
    markov_limit,
    patch_diagram,
    patch_information,
    patch_load,
    residual_entropy,
)
from theory.models import ImageCovariance, Isotropic, Spectrum, StationaryField
from theory.notation import r, t
from theory.rem import time_equation
from theory.times import collapse_time, critical_alpha
from validation.score import EmpiricalScore

FIELD = StationaryField.power_law(32, exponent=2.0)


def test_criterion_of_information_and_condition_of_the_rem_are_one_equation():
    v = sp.Symbol("v", positive=True)
    equation = time_equation("collapse", Isotropic(v))  # 2 alpha = L(t)
    alpha = sp.Symbol("alpha", positive=True)
    rem = sp.solve(equation, alpha)[0].subs(v, r)
    assert sp.simplify(sp.expand_log(rem - information_criterion().equation, force=True)) == 0


def test_largest_patches_of_the_reference_field():
    """Width at which the information first exceeds log P, P = 50 000: 7, 5, 5, 3 at sigma = 1, 0.5, 0.25, 0.1."""
    assert critical_patch(FIELD, np.array([1.0, 0.5, 0.25, 0.1]) ** 2, 50_000).tolist() == [5, 3, 3, 1]


def test_information_of_a_patch_to_thirty_digits():
    C = mpmath.matrix(9, 9)
    with mpmath.workdps(40):
        n = 32
        k = [mpmath.mpf(i if i < n // 2 else i - n) for i in range(n)]
        power = [[1 / max(a * a + b * b, 1) for b in k] for a in k]
        scale = mpmath.mpf(n * n) / sum(sum(row) for row in power)
        cosine = [mpmath.cos(2 * mpmath.pi * i / n) for i in range(n)]
        sine = [mpmath.sin(2 * mpmath.pi * i / n) for i in range(n)]
        for a in range(9):
            for b in range(9):
                i, j = a // 3 - b // 3, a % 3 - b % 3
                total = sum(
                    power[p][q] * (cosine[p * i % n] * cosine[q * j % n] - sine[p * i % n] * sine[q * j % n])
                    for p in range(n)
                    for q in range(n)
                )
                C[a, b] = total * scale / (n * n)
        exact = mpmath.log(mpmath.det(mpmath.eye(9) + C / mpmath.mpf("0.3"))) / 2
    assert abs(patch_information(FIELD, 0.3, 3) / float(exact) - 1) < 1e-12


def test_collapse_of_a_patch_is_where_information_equals_the_load():
    for width, equivariant in ((3, False), (5, True)):
        load = float(patch_load(FIELD, 1000, equivariant=equivariant))
        t_c = collapse_time(FIELD.patch(width), alpha=load / width**2)
        assert patch_information(FIELD, t_c, width, equivariant=equivariant) == pytest.approx(load, rel=1e-12)
        assert critical_alpha(FIELD.patch(width), t_c) * width**2 == pytest.approx(load, rel=1e-10)
        assert collapse_time(FIELD, P=1000, patch=width, equivariant=equivariant) == pytest.approx(t_c, rel=1e-13)
        assert residual_entropy(FIELD, t_c * 0.99, 1000, width, equivariant=equivariant) == 0
        assert residual_entropy(FIELD, t_c * 1.01, 1000, width, equivariant=equivariant) > 0


def test_all_times_of_a_patch_keep_their_order():
    from theory import condensation_time, generalization_time, onset_time

    times = [
        f(FIELD, P=[100, 10_000], patch=3) for f in (generalization_time, condensation_time, collapse_time, onset_time)
    ]
    assert (np.diff(np.array(times), axis=0) > 0).all()


def test_a_patch_collapses_below_the_image():
    small, image = collapse_time(FIELD, P=50_000, patch=5), collapse_time(FIELD, P=50_000)
    assert small < image / 3
    whole = StationaryField.power_law(5)
    assert collapse_time(whole, P=100, patch=5) == pytest.approx(collapse_time(whole, P=100), rel=1e-12)


def test_long_patches_of_a_markov_chain_reach_szegos_limit_at_1_over_n():
    rho, noise, sizes = 0.9, 0.1, np.array([64, 128, 256])
    exact = []
    for n in sizes:
        C = rho ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
        exact.append(patch_information(Spectrum(np.linalg.eigvalsh(C)), noise) / n)
    gap = np.array(exact) - markov_limit(rho, noise)
    assert np.allclose(gap * sizes, gap[-1] * sizes[-1], rtol=1e-3)
    assert 0 < gap[-1] < 0.01


def test_szegos_limit_is_the_integral_over_the_power_spectrum():
    value = markov_information().subs(
        {sp.Symbol("rho", real=True): sp.Rational(7, 10), sp.Symbol("s", positive=True): 2, t: sp.Rational(1, 5)}
    )
    with mpmath.workdps(40):
        S = lambda k: 2 * (1 - mpmath.mpf("0.49")) / (1 - mpmath.mpf("1.4") * mpmath.cos(k) + mpmath.mpf("0.49"))  # noqa: E731
        integral = mpmath.quad(lambda k: mpmath.log(1 + S(k) * 5), [0, mpmath.pi / 2, mpmath.pi]) / mpmath.pi / 2
        assert abs(mpmath.mpf(str(sp.N(value, 35))) - integral) < mpmath.mpf(10) ** -30


def test_own_weight_of_a_patch_follows_the_finite_theory():
    """Simulation: images of the field, cut to 3 x 3, weight of the own patch at three noise levels; a wrong width disagrees."""
    rng, P, width = np.random.default_rng(11), 300, 3
    levels = np.array([0.5, 1.0, 2.0]) * collapse_time(FIELD, P=P, patch=width)
    weights = np.zeros((3, 24, 40))
    for draw in range(24):
        noise = np.fft.fft2(rng.normal(size=(P, 32, 32)), norm="ortho")
        images = np.fft.ifft2(noise * np.sqrt(FIELD.power), norm="ortho").real
        patches = images[:, 8 : 8 + width, 20 : 20 + width].reshape(P, -1)
        E = EmpiricalScore(patches, dtype="float64")
        profile = E.noisy_profile(patches[:40], rng.normal(size=(40, width**2)), levels, own=np.arange(40))
        weights[:, draw] = np.exp(profile["own_log_weight"])
    mean, error = weights.mean(axis=(1, 2)), weights.mean(axis=2).std(axis=1, ddof=1) / math.sqrt(24)
    for measured, spread, level in zip(mean, error, levels, strict=True):
        expected = true_point_weight(FIELD.patch(width), P=P, t=level)
        value = getattr(expected, "value", expected)
        assert abs(measured - value) < 4 * spread
        wrong = true_point_weight(FIELD.patch(5), P=P, t=level)
        assert abs(measured - getattr(wrong, "value", wrong)) > 8 * spread


def test_bag_of_a_data_set_knows_its_means():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(4000, 1, 6, 7)) + np.linspace(-2, 2, 42).reshape(1, 1, 6, 7)
    model = ImageCovariance.from_images(X)
    assert (model.N, model.places) == (42, 42)
    padded = np.pad(X, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3)).reshape(-1, 9)
    measured = np.linalg.eigvalsh(np.cov(windows.T, bias=True))
    np.testing.assert_allclose(np.sort(model.patch(3, equivariant=True).eigenvalues), measured, rtol=2e-3)
    corner = model.patch(3, place=(0, 0))
    assert corner.N == 4
    np.testing.assert_allclose(
        np.sort(corner.eigenvalues), np.linalg.eigvalsh(np.cov(X[:, 0, :2, :2].reshape(-1, 4).T)), rtol=1e-9
    )


def test_diagram_over_noise_patch_and_size():
    data = patch_diagram(FIELD, [0.01, 0.25, 1.0], [100, 50_000], widths=[1, 3, 5])
    assert data["critical_patch"].sel(P=50_000).values.tolist() == [1, 3, 5]
    assert (data["information"].diff("width") > 0).all()
    assert float(data["residual_entropy"].sel(width=5, t=0.01, P=100)) == 0


def test_one_dimension_and_flat_power():
    white = StationaryField(np.ones(64))
    assert patch_information(white, 1.0, 7) == pytest.approx(3.5 * math.log(2))
    assert StationaryField.power_law(64, 1.5, dimensions=1).patch(5).N == 5


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: FIELD.patch(4), "patch = 4"),
        (lambda: FIELD.patch(33), "patch = 33"),
        (lambda: StationaryField(np.array([1.0, 2.0, 3.0])), "power"),
        (lambda: critical_patch(Isotropic(1.0), 1.0, 100), "model"),
        (lambda: critical_patch(FIELD, 1.0, 1), "P = 1"),
        (lambda: critical_patch(FIELD, -1.0, 100), "t = -1"),
        (lambda: collapse_time(Isotropic(1.0), alpha=0.1, patch=3), "patch"),
        (lambda: collapse_time(FIELD, alpha=0.1, patch=3), "P"),
        (lambda: collapse_time(FIELD, P=100, equivariant=True), "equivariant"),
        (lambda: ImageCovariance(np.eye(4), (3, 3)), "covariance"),
        (lambda: ImageCovariance.from_images(np.ones((5, 4))), "images"),
    ],
)
def test_bad_input_is_named(call, match):
    with pytest.raises(DomainError, match=match):
        call()
