"""Traces, densities and directions from products against the dense Jacobian, for every kind of score."""

import math

import numpy as np
import pytest
import torch

from numerics.domain import DomainError
from validation.score import EmpiricalScore
from validation.score.local import LocalScore
from validation.spectra import (
    GaussianScore,
    JacobianOperator,
    as_score,
    effective_dimension,
    leading_directions,
    spectral_density,
)

N = 64
RNG = np.random.default_rng(7)
VARIANCES = np.repeat([1.0, 0.2, 1e-4], [6, 10, 48])
X = RNG.normal(size=(300, N)) * np.sqrt(VARIANCES)
T = 0.3
POINTS = torch.from_numpy(X[:3] + math.sqrt(T) * RNG.normal(size=(3, N)))
IMAGES = RNG.normal(size=(40, 8, 8)).cumsum(axis=2)


def _network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(N, 96), torch.nn.SiLU(), torch.nn.Linear(96, N)).double()


NET = _network()


class _NoForwardMode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx, g):
        return g * torch.cos(ctx.saved_tensors[0])


SCORES = {
    "Gaussian": GaussianScore(VARIANCES),
    "empirical": EmpiricalScore(X, dtype="float64"),
    "network": lambda x, t: NET(x) - x / t,
    "without forward mode": lambda x, t: _NoForwardMode.apply(NET(x)) - x / t,
    "without any": lambda x, t: torch.from_numpy(np.sin(NET(x).detach().numpy())) - x / t,
    "local": LocalScore(IMAGES, patch=3, equivariant=False, dtype="float64"),
}


def _points(name):
    if name != "local":
        return POINTS
    flat = torch.from_numpy(IMAGES[:2].reshape(2, -1))
    return flat + math.sqrt(T) * torch.randn(2, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _dense(name):
    J = as_score(SCORES[name]).jacobian(_points(name), T)
    return np.asarray(J)


@pytest.mark.parametrize("name", SCORES)
def test_products_are_those_of_the_matrix(name):
    x, J = _points(name), _dense(name)
    operator = JacobianOperator(SCORES[name], x, T)
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    np.testing.assert_allclose(operator(v).numpy(), np.einsum("bij,bj->bi", J, v.numpy()), rtol=2e-6, atol=2e-6)
    if name == "without any":
        with pytest.raises(DomainError, match="reverse mode"):
            operator.transposed(v)
    else:
        np.testing.assert_allclose(
            operator.transposed(v).numpy(), np.einsum("bji,bj->bi", J, v.numpy()), rtol=1e-8, atol=1e-8
        )


@pytest.mark.parametrize("name", SCORES)
def test_dimension_agrees_within_its_error_and_exactly_with_all_vectors(name):
    x = _points(name)
    exact = N + T * np.trace(_dense(name), axis1=1, axis2=2)
    few = effective_dimension(SCORES[name], x, T, probes=24, seed=4)
    pull = (few["dimension"].values[0] - exact) / np.maximum(few["error"].values[0], 1e-9)
    assert (np.abs(pull) < 5).all()
    full = effective_dimension(SCORES[name], x, T, probes=N)
    np.testing.assert_allclose(full["dimension"].values[0], exact, rtol=1e-5, atol=1e-5)
    assert (full["error"] == 0).all()


def test_errors_are_standard_errors_and_a_control_makes_them_small_without_bias():
    exact = N + T * np.trace(_dense("empirical"), axis1=1, axis2=2)
    pulls, plain, controlled = [], [], []
    for seed in range(40):
        a = effective_dimension(SCORES["empirical"], POINTS, T, probes=12, seed=seed)
        b = effective_dimension(SCORES["empirical"], POINTS, T, probes=12, seed=seed, control=SCORES["Gaussian"])
        pulls.append((b["dimension"].values[0] - exact) / b["error"].values[0])
        plain.append(a["dimension"].values[0] - exact)
        controlled.append(b["dimension"].values[0] - exact)
    assert abs(np.mean(controlled)) < 4 * np.std(controlled) / math.sqrt(np.size(controlled))
    assert 0.8 < np.std(pulls) < 1.6


def test_a_control_that_is_the_score_itself_leaves_no_error():
    rotation = np.linalg.qr(RNG.normal(size=(N, N)))[0]
    C = torch.from_numpy(rotation @ np.diag(-1 / (T + VARIANCES)) @ rotation.T)

    class Rotated:
        def score(self, x, t):
            return x @ C

        def jacobian(self, x, t):
            return C.expand(len(x), -1, -1)

    plain = effective_dimension(Rotated(), POINTS, T, probes=8)
    known = effective_dimension(Rotated(), POINTS, T, probes=8, control=Rotated())
    assert float(plain["error"].max()) > 1e-3 > 1e-9 > float(known["error"].max())
    np.testing.assert_allclose(known["dimension"], (VARIANCES / (VARIANCES + T)).sum(), rtol=1e-9)


def test_flipd_and_the_identity_of_gaussian_data():
    """E|s|^2 = -tr H, so that FLIPD is 0 on average at the data's own noisy points; d is the posterior variance over t."""
    clean = RNG.normal(size=(4000, N)) * np.sqrt(VARIANCES)
    x = torch.from_numpy(clean + math.sqrt(T) * RNG.normal(size=clean.shape))
    found = effective_dimension(SCORES["Gaussian"], x, T, probes=2)
    np.testing.assert_allclose(found["dimension"], (VARIANCES / (VARIANCES + T)).sum(), rtol=1e-10)
    gap = found["flipd"].values[0] - N
    assert abs(gap.mean()) < 4 * gap.std() / math.sqrt(gap.size)


@pytest.mark.parametrize("name", [name for name in SCORES if name != "without any"])  # Lanczos takes (J + J^T)/2
def test_density_and_directions_kept_against_dense_eigenvalues(name):
    x, J = _points(name), _dense(name)
    a = np.linalg.eigvalsh(-T * 0.5 * (J + J.transpose(0, 2, 1)))
    few = spectral_density(SCORES[name], x, T, steps=24, probes=12, seed=1)
    pull = (few["kept"].values - (a < 0.5).sum(axis=1)) / np.maximum(few["kept_error"].values, 1e-6)
    assert (np.abs(pull) < 5).all()
    if few.attrs["method"] in ("forward mode", "central differences"):  # the same code, at a hundred times the time
        return
    exact = spectral_density(SCORES[name], x, T, steps=N, probes=N)
    np.testing.assert_allclose(exact["kept"], (a < 0.5).sum(axis=1), atol=1e-6)
    grid = exact["a"].values
    bumps = np.exp(-0.5 * ((grid - a.reshape(-1, 1)) / 0.02) ** 2).mean(axis=0) / (0.02 * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(exact["density"], bumps, atol=1e-4 * bumps.max())


def test_asymmetry_is_measured_and_unknown_where_it_cannot_be():
    J = _dense("network")
    low = np.linalg.norm(J - J.transpose(0, 2, 1)) / np.linalg.norm(J + J.transpose(0, 2, 1))
    found = spectral_density(SCORES["network"], POINTS, T, probes=40, steps=4)
    assert found.attrs["asymmetry"] == pytest.approx(low, rel=0.1)
    assert spectral_density(SCORES["empirical"], POINTS, T, probes=2, steps=4).attrs["asymmetry"] == 0
    assert math.isnan(spectral_density(SCORES["without any"], POINTS, T, probes=2, steps=4).attrs["asymmetry"])


@pytest.mark.parametrize("name", ["Gaussian", "empirical", "network", "local"])
def test_leading_directions_are_the_eigenvectors(name):
    x, J = _points(name), _dense(name)
    found = leading_directions(SCORES[name], x, T, k=4)
    a, u = np.linalg.eigh(-T * 0.5 * (J + J.transpose(0, 2, 1)))
    np.testing.assert_allclose(found["value"], a[:, :4], atol=1e-7)
    assert float(found["residual"].max()) < 1e-6
    overlap = np.linalg.norm(np.einsum("bkn,bnj->bkj", found["direction"].values, u[:, :, :4]), axis=2)
    if a[:, 4].min() - a[:, 3].max() > 1e-3:
        np.testing.assert_allclose(overlap, 1.0, atol=1e-5)


def test_a_large_empirical_score_needs_no_matrix():
    """784 coordinates: 16 products against the dense eigenvalues."""
    rng = np.random.default_rng(1)
    data = rng.normal(size=(400, 784)) * np.arange(1, 785) ** -0.7
    E = EmpiricalScore(data, dtype="float64")
    t = 0.02
    x = torch.from_numpy(data[:2] + math.sqrt(t) * rng.normal(size=(2, 784)))
    a = -t * E.jacobian_eigenvalues(x, t).numpy()
    found = effective_dimension(E, x, t, probes=16)
    assert (np.abs(found["dimension"].values[0] - (1 - a).sum(axis=1)) < 5 * found["error"].values[0] + 1e-8).all()
    kept = spectral_density(E, x, t, steps=30, probes=4)
    assert (np.abs(kept["kept"].values - (a < 0.5).sum(axis=1)) <= 5 * kept["kept_error"].values + 1e-6).all()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: effective_dimension(SCORES["Gaussian"], POINTS, -1.0), "t = -1"),
        (lambda: effective_dimension(SCORES["Gaussian"], POINTS, T, probes=1), "probes = 1"),
        (lambda: effective_dimension(SCORES["Gaussian"], torch.full((1, N), math.nan), T), "x"),
        (lambda: spectral_density(SCORES["Gaussian"], POINTS, [T, T]), "t"),
        (lambda: spectral_density(SCORES["Gaussian"], POINTS, T, broadening=0.0), "broadening"),
        (lambda: leading_directions(SCORES["Gaussian"], POINTS, T, k=N), "k = 64"),
        (lambda: leading_directions("no score", POINTS, T), "score"),
    ],
)
def test_bad_input_is_named(call, match):
    with pytest.raises(DomainError, match=match):
        call()
