"""Spectra of scores: differentiation against closed forms, estimators on scores whose answer is known, exact labels."""

import math

import numpy as np
import pytest
import torch

from numerics.domain import DomainError
from validation.score.empirical_score import EmpiricalScore
from validation.spectra.latent_dimension import (
    inflection_dimension,
    largest_gap_dimension,
    second_difference_dimension,
)
from validation.spectra.observables import (
    Average,
    blocks_of,
    frame_columns,
    frame_spectrum,
    jacobian_spectrum,
    measure_spectra,
    posterior_variance,
)
from validation.spectra.score_functions import (
    AutogradScore,
    Empirical,
    GaussianScore,
    NormalisedScore,
    ScoreFunction,
    as_score,
)
from validation.spectra.subspace_probes import BlockData, exact_probe, last_crossing, probe

DATA = BlockData((2, 2, 3), (1.0, 0.09, 1e-4))


def brute_force(X):
    """The empirical score written down once more, differentiable by torch."""

    def score(x, t):
        w = torch.softmax(-(x[:, None] - X[None]).square().sum(-1) / (2 * t), dim=1)
        return (w @ X - x) / t

    return score


def points(seed, count=5, data=DATA):
    return data.sample(count, seed=(seed,))


# --- Jacobians --------------------------------------------------------------------------------------------------------


def test_autograd_of_the_exact_score_is_its_jacobian():
    exact = GaussianScore(DATA.spectrum)
    x = points(0)
    assert torch.allclose(AutogradScore(exact.score).jacobian(x, 0.3), exact.jacobian(x, 0.3), rtol=1e-12, atol=1e-12)


def test_attention_is_differentiated_and_its_fast_paths_are_left_as_they_were():
    """Torch's fused attention, and its fused layer in evaluation mode, have no forward mode."""
    layer = torch.nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).double().eval().requires_grad_(False)
    face = AutogradScore(lambda x, t: layer(x.reshape(-1, 3, 4)).reshape(x.shape))
    x, step = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(2, 12), 1e-6
    J = face.jacobian(x, 1.0)
    for i in range(12):
        e = step * torch.eye(12, dtype=torch.float64)[i]
        difference = (face.score(x + e, 1.0) - face.score(x - e, 1.0)) / (2 * step)
        torch.testing.assert_close(difference, J[:, :, i], rtol=1e-6, atol=1e-6)
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("t", [1.0, 0.05, 1e-3])
def test_autograd_of_the_empirical_score_is_the_posterior_covariance(t):
    X, x = points(1, 40), points(2)
    J = AutogradScore(brute_force(X)).jacobian(x, t)
    w = torch.softmax(-torch.cdist(x, X, compute_mode="donot_use_mm_for_euclid_dist").square() / (2 * t), dim=1)
    mean = w @ X
    covariance = torch.einsum("bp,pi,pj->bij", w, X, X) - mean[:, :, None] * mean[:, None]
    expected = covariance / t**2 - torch.eye(7, dtype=torch.float64) / t
    assert torch.allclose(J, expected, rtol=1e-8, atol=1e-8 / t)


@pytest.mark.parametrize("t", [1.0, 0.05, 1e-3])
def test_the_engine_agrees_with_differentiation(t):
    X, x = points(1, 40), points(2)
    engine = Empirical(EmpiricalScore(X, dtype="float64"))
    by_hand = AutogradScore(brute_force(X))
    assert torch.allclose(engine.score(x, t), by_hand.score(x, t), rtol=1e-9, atol=1e-9 / t)
    assert torch.allclose(engine.jacobian(x, t), by_hand.jacobian(x, t), rtol=1e-7, atol=1e-7 / t)
    assert ((engine.participation(x, t) >= 1 - 1e-9) & (engine.participation(x, t) <= 40)).all()


def test_normalised_score_is_the_gradient_of_its_own_density_and_symmetric():
    score = NormalisedScore(DATA.spectrum)
    x = points(3, 2, BlockData((2, 2, 3), (1.0, 0.09, 1e-4), normalised=True))
    J = score.jacobian(x, 0.1)
    h = 1e-5
    step = torch.zeros_like(x)
    step[:, 2] = h
    column = (score.score(x + step, 0.1) - score.score(x - step, 0.1)) / (2 * h)
    assert torch.allclose(J[:, :, 2], column, rtol=1e-6, atol=1e-6)
    assert torch.allclose(J, J.mT, rtol=1e-9, atol=1e-9)


def test_a_network_is_a_score_and_its_asymmetry_is_told():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(7, 16), torch.nn.Tanh(), torch.nn.Linear(16, 7)).double()
    face = as_score(lambda x, t: net(x) / t)
    x = points(4, 3)
    J = face.jacobian(x, 0.5)
    reference = torch.stack([torch.autograd.functional.jacobian(lambda y: net(y) / 0.5, point) for point in x])
    assert torch.allclose(J, reference, rtol=1e-12, atol=1e-12)
    _, _, odd = jacobian_spectrum(face, x, 0.5)
    assert (odd > 0.01).all()
    assert jacobian_spectrum(GaussianScore(DATA.spectrum), x, 0.5)[2].max() == 0
    assert isinstance(as_score(net), AutogradScore)
    assert isinstance(as_score(GaussianScore([1.0])), ScoreFunction)


# --- estimators -------------------------------------------------------------------------------------------------------


def test_eigenvalues_and_variances_of_the_exact_score():
    t = 0.2
    x = points(5)
    eigenvalues, diagonal, _ = jacobian_spectrum(GaussianScore(DATA.spectrum), x, t)
    expected = t / (t + DATA.spectrum)
    assert diagonal == pytest.approx(np.broadcast_to(expected, diagonal.shape), rel=1e-12)
    assert eigenvalues == pytest.approx(np.broadcast_to(np.sort(expected)[::-1], diagonal.shape), rel=1e-12)
    variance = posterior_variance(GaussianScore(DATA.spectrum), x, t, DATA.blocks)
    r = np.array(DATA.variances)
    assert variance == pytest.approx(np.broadcast_to(r / (t + r), variance.shape), rel=1e-12)


def test_frame_estimators_on_a_linear_score():
    """Linear: the symmetric frame is the Jacobian at any point and in any frame; the plain one only at the centre."""
    t, exact = 0.2, GaussianScore(DATA.spectrum)
    Q = torch.linalg.qr(torch.randn(7, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0].T
    expected = np.sort(t / (t + DATA.spectrum))[::-1]
    x = points(6, 2)
    for frame in (None, Q):
        symmetric = frame_spectrum(exact, x, t, symmetric=True, frame=frame)
        assert symmetric == pytest.approx(np.broadcast_to(expected, symmetric.shape), rel=1e-9)
        plain = frame_spectrum(exact, torch.zeros_like(x), t, frame=frame)
        assert plain == pytest.approx(np.broadcast_to(expected, plain.shape), rel=1e-9)
    away = frame_spectrum(exact, x, t)
    assert (away[:, 0] > 1.1 * expected[0]).all()  # the score at x itself
    S = frame_columns(exact, torch.zeros(1, 7, dtype=torch.float64), t)[0].numpy()
    assert np.diag(np.diag(S)) == pytest.approx(S, abs=1e-12)


def test_measure_spectra_moves_the_points_with_the_noise():
    exact, seen = GaussianScore(DATA.spectrum), []

    def moving(t):
        seen.append(t)
        return points(7, 2)

    S = measure_spectra(exact, moving, [0.1, 1.0], DATA.blocks, frame="symmetric")
    assert seen == [0.1, 1.0]
    assert S.eigenvalues.shape == (2, 2, 7)
    assert S.frame.shape == (2, 2, 7)
    assert np.isnan(S.participation).all()
    assert S.eigenvalues == pytest.approx(S.frame, rel=1e-9)


def test_average_uses_replicas_for_its_error():
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((20, 1, 1)) + 0.01 * rng.standard_normal((20, 500, 1))
    average = Average.of(shared)
    assert average.error[0] == pytest.approx(1 / math.sqrt(20), rel=0.5)  # not 1/sqrt(20 * 500)
    assert average.quantiles.shape == (5, 1)
    assert np.isnan(Average.of(shared[:1]).error).all()


# --- the latent dimension ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimension", [1, 4, 15, 29])
def test_both_readings_of_a_clean_step(dimension):
    values = np.r_[np.full(dimension, 0.05), np.ones(30 - dimension)]
    assert largest_gap_dimension(values) == dimension
    if 3 < dimension < 27:
        assert inflection_dimension(values) == dimension


def test_first_bend_of_a_spectrum():
    """The estimate of [AVSP24], against a plain search over the definition."""
    rng = np.random.default_rng(0)
    ramp = np.r_[1 + np.linspace(2, 0, 5) ** 2, 1 - 1e-3 * np.arange(40), 0.3 - 2e-3 * np.arange(19)]
    spectra = ramp + 1e-4 * rng.standard_normal((6, 64))
    found = second_difference_dimension(rng.permuted(spectra, axis=1))
    for one, dimension in zip(spectra, found, strict=True):
        s = sorted(one, reverse=True)[5:]
        bend = [abs(s[i + 1] - 2 * s[i] + s[i - 1]) for i in range(1, len(s) - 1)]
        first = next(i for i, b in enumerate(bend, 1) if b > 10 * np.median(bend))
        assert dimension == len(s) - first == 20  # the nineteen below the step, and the last above it
    assert second_difference_dimension(np.linspace(1, 0, 64) ** 2) == 64  # bends nowhere more than elsewhere
    assert second_difference_dimension(spectra, discard=0).max() > 40  # the large values themselves
    assert (second_difference_dimension(spectra, factor=1e5) == 64).all()


@pytest.mark.parametrize("P", [5, 400])
@pytest.mark.parametrize("t", [1e-4, 0.05, 0.3, 20.0])
def test_empirical_spectrum_without_its_matrix(P, t):
    """Fewer points than dimensions and more, few within reach and all, against the matrix's own eigenvalues."""
    g = torch.Generator().manual_seed(1)
    X = torch.randn(P, 12, generator=g, dtype=torch.float64) * torch.linspace(0.1, 2, 12, dtype=torch.float64)
    x = X[:4] + t**0.5 * torch.randn(4, 12, generator=g, dtype=torch.float64)
    J = -t * EmpiricalScore(X, dtype="float64").jacobian(x, t)
    values, diagonal, odd = jacobian_spectrum(Empirical(X), x, t)
    np.testing.assert_allclose(values, torch.linalg.eigvalsh(J).flip(1), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(diagonal, J.diagonal(dim1=1, dim2=2), rtol=1e-9, atol=1e-9)
    assert (odd == 0).all()


def test_dimension_of_the_exact_score_steps_through_the_subspaces():
    x = torch.zeros(1, 7, dtype=torch.float64)
    found = [
        int(largest_gap_dimension(jacobian_spectrum(GaussianScore(DATA.spectrum), x, t)[0][0]))
        for t in (30.0, 0.5, 3e-3, 1e-8)
    ]
    assert found == [0, 2, 4, 7]  # all noise; high variance; the manifold; below the normal directions' own variance


# --- probes -----------------------------------------------------------------------------------------------------------


def test_exact_probe_agrees_with_theory_free_and_fixed_norm():
    t = np.array([0.05, 0.5])
    free = exact_probe(DATA, t, points=3, seed=(0,))
    r = np.array(DATA.variances)
    for kind in ("fresh", "typical"):
        assert free.value[kind] == pytest.approx(
            np.broadcast_to((t[:, None] / (t[:, None] + r))[:, None], (2, 3, 3)), rel=1e-9
        )
    fixed = exact_probe(BlockData((2, 2, 3), (1.0, 0.09, 1e-4), normalised=True), t, points=2, seed=(0,))
    # a circle has one tangent direction of two: fixing the norm leaves the high-variance subspace part lost, for ever
    assert fixed.value["fresh"][0, :, 0].mean() > 4 * free.value["fresh"][0, 0, 0]
    # the columns at the empty centre exceed noise: geometry
    assert fixed.column[0, 0] > 1.2


def test_probe_of_a_score_without_training_set():
    seen = probe(GaussianScore(DATA.spectrum), DATA, np.array([0.1, 1.0]), points=2, seed=(1,), kinds=("fresh",))
    assert set(seen.value) == {"fresh"}
    assert np.isnan(seen.squares).all()
    assert seen.frame == pytest.approx(seen.symmetric, rel=1e-9)


def test_normalised_samples_have_the_norm():
    data = BlockData((2, 2, 3), (1.0, 0.09, 1e-4), normalised=True)
    norms = torch.linalg.vector_norm(data.sample(50, seed=(0,)), dim=1)
    assert torch.allclose(norms, torch.full_like(norms, data.norm), rtol=1e-12)


def test_last_crossing_takes_the_largest_t():
    x = np.linspace(0, 3, 31)
    values = np.exp(np.where(x > 1.5, 2 - x, x - 1))
    assert last_crossing(x, values, 1.0) == pytest.approx(2.0, abs=1e-9)
    assert math.isnan(last_crossing(x, np.full(31, 0.5), 1.0))


# --- bad input --------------------------------------------------------------------------------------------------------


def test_bad_input():
    exact, x = GaussianScore(DATA.spectrum), points(8, 2)
    for call in (
        lambda: jacobian_spectrum(exact, x, 0.0),
        lambda: jacobian_spectrum(exact, x[0], 1.0),
        lambda: jacobian_spectrum(exact, x * math.nan, 1.0),
        lambda: jacobian_spectrum("score", x, 1.0),
        lambda: jacobian_spectrum(lambda y, t: y[:, :2], x, 1.0),
        lambda: frame_columns(exact, x, 1.0, frame=torch.ones(7, 7, dtype=torch.float64)),
        lambda: measure_spectra(exact, x, [1.0], DATA.blocks, frame="both"),
        lambda: blocks_of([2, 0]),
        lambda: Average.of(np.zeros(3)),
        lambda: largest_gap_dimension(1.0),
        lambda: inflection_dimension(np.ones(4), window=5),
        lambda: second_difference_dimension(np.ones(7)),
        lambda: second_difference_dimension(np.ones(9), factor=0.0),
        lambda: BlockData((2, 2), (1.0,)),
    ):
        with pytest.raises(DomainError):
            call()
