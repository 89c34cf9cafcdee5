"""Principal axes by reflections, of more numbers than a matrix is made for: those of the matrix, in spectra and commands."""

import numpy as np
import pytest
import torch

from numerics.domain import DomainError
from validation.spectra import AutogradScore, jacobian_spectrum
from validation.spectrum import noise_levels, spectrum
from validation.spectrum.principal_axes import MatrixAxes, ReflectedAxes, principal_axes
from validation.spectrum.subjects import from_data, principal

P, N = 24, 60


def data(rows=P, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.standard_normal((rows, N)) * np.geomspace(3, 0.1, N))


def both(X):
    centred = X - X.mean(dim=0)
    return principal_axes(centred), principal_axes(centred, most=N - 1)


def test_reflections_are_the_axes_of_the_matrix():
    (values, matrix), (same, reflected) = both(data())
    assert isinstance(matrix, MatrixAxes)
    assert isinstance(reflected, ReflectedAxes)
    torch.testing.assert_close(same, values, rtol=1e-10, atol=1e-12)
    assert int((same > 0).sum()) == P - 1
    columns = reflected.back(torch.eye(N, dtype=torch.float64)).T  # (N, N), axes as columns
    torch.testing.assert_close(columns.T @ columns, torch.eye(N, dtype=torch.float64), rtol=0, atol=1e-12)
    overlap = (columns[:, : P - 1] * matrix.matrix[:, : P - 1]).sum(dim=0).abs()
    torch.testing.assert_close(overlap, torch.ones(P - 1, dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize("k", [0, 1])
def test_there_and_back(k):
    _, axes = both(data())[k]
    x = torch.randn(2, 5, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(axes.back(axes.turned(x)), x, rtol=1e-12, atol=1e-12)
    z = axes.turned(x)
    parts = sum(axes.back(z, block) for block in (slice(0, 7), slice(7, 30), slice(30, N)))
    torch.testing.assert_close(parts, x, rtol=1e-12, atol=1e-12)
    assert float(axes.back(z, slice(0, 7)).norm()) < float(x.norm())
    moved = axes.to("cpu")
    torch.testing.assert_close(moved.turned(x), z)


def network():
    weight = torch.randn(N, N, generator=torch.Generator().manual_seed(3), dtype=torch.float64) / 20
    return AutogradScore(lambda x, t: torch.tanh(x @ weight.T) - x / (1 + t))


def test_a_network_in_reflected_axes_is_that_in_the_matrix(monkeypatch):
    X = data()
    dense = principal("a", X, data(6, 1), network())
    monkeypatch.setattr("validation.spectrum.principal_axes.AXES", N - 1)
    monkeypatch.setattr("validation.spectrum.subjects.AXES", N - 1)
    low = principal("a", X, data(6, 1), network())
    assert isinstance(low.networks["network"].axes, ReflectedAxes)
    np.testing.assert_allclose(low.variances, dense.variances, atol=1e-12)
    np.testing.assert_allclose(low.gaussian, dense.gaussian, rtol=1e-9, atol=1e-12)
    assert low.groups == dense.groups
    own, other = (s.networks["network"] for s in (low, dense))
    torch.testing.assert_close(own.points(low.fresh), data(6, 1), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        own.score(low.X, 0.3).norm(dim=1), other.score(dense.X, 0.3).norm(dim=1), rtol=1e-10, atol=0
    )
    for face, subject in ((own, low), (other, dense)):
        J = face.jacobian(subject.X[:2], 0.3)
        step = 1e-6
        v = torch.randn(2, N, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
        quotient = (face.score(subject.X[:2] + step * v, 0.3) - face.score(subject.X[:2] - step * v, 0.3)) / (2 * step)
        torch.testing.assert_close(torch.einsum("bij,bj->bi", J, v), quotient, rtol=1e-6, atol=1e-7)
    values = [jacobian_spectrum(face, s.X[:3], 0.3)[0] for face, s in ((own, low), (other, dense))]
    np.testing.assert_allclose(values[0], values[1], atol=1e-10)


@pytest.mark.parametrize("by", ["matrix", "products"])
def test_the_measured_spectrum_is_the_same_beyond_the_limit(by, monkeypatch):
    """Every number that is read off, of data, Gaussian control and network: axes without variance are arbitrary in both.

    By products the network is the linear score, diagonal in the axes: signs along these give its group values without sampling.
    """
    X, fresh, net = data(), data(6, 1), network()
    if by == "products":
        monkeypatch.setattr("validation.spectrum.products.DENSE", 10)
        mean, C = X.mean(dim=0), torch.cov(X.T)
        net = AutogradScore(lambda x, t: -torch.linalg.solve(C + t * torch.eye(N), (x - mean).T).T)
    t = noise_levels(principal("a", X, fresh), 4)
    dense = spectrum(principal("a", X, fresh, net), t, probes=3)
    monkeypatch.setattr("validation.spectrum.principal_axes.AXES", N - 1)
    monkeypatch.setattr("validation.spectrum.subjects.AXES", N - 1)
    low = spectrum(principal("a", X, fresh, net), t, probes=3)
    for score in ("gaussian", "linear"):
        np.testing.assert_allclose(low["eigenvalue"].sel(score=score), dense["eigenvalue"].sel(score=score), atol=1e-9)
        np.testing.assert_allclose(low["variance"].sel(score=score), dense["variance"].sel(score=score), atol=1e-9)
    for score in (
        "empirical",
        "half",
    ):  # noise is drawn along the axes, whose signs differ: fresh points and the centre have none
        at = {"score": score, "place": ["fresh", "centre"]}
        np.testing.assert_allclose(low["eigenvalue"].sel(at), dense["eigenvalue"].sel(at), atol=1e-7)
        np.testing.assert_allclose(low["variance"].sel(at), dense["variance"].sel(at), atol=1e-7)
    at = {"score": "network", "place": ["fresh", "centre"]}
    np.testing.assert_allclose(low["eigenvalue"].sel(at), dense["eigenvalue"].sel(at), atol=1e-7)
    np.testing.assert_allclose(low["variance"].sel(at), dense["variance"].sel(at), atol=1e-7)


def test_more_points_and_numbers_than_the_limit(monkeypatch, tmp_path):
    monkeypatch.setattr("validation.spectrum.subjects.AXES", 20)
    with pytest.raises(DomainError, match="at most 20 training points") as error:
        principal("a", data(), data(6, 1))
    assert "`--limit 20`" in str(error.value)
    np.save(tmp_path / "x.npy", data(40).numpy())
    with pytest.raises(DomainError, match="at most 20 training points"):
        from_data(tmp_path / "x.npy")
    monkeypatch.setattr("validation.spectrum.principal_axes.AXES", 20)
    assert from_data(tmp_path / "x.npy", limit=20).N == N  # as the message offers
