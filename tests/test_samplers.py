"""Samplers: the law of the points given the disorder, frozen disorder, streams that do not depend on their tiles.

Statistical tests compare covariances entry by entry at 4.7 standard errors: with at most 300 entries a test, each raises
a false alarm with probability below 300 * 2.6e-6 < 1e-3; seeds are fixed.
"""

import numpy as np
import pytest
import sympy as sp
import torch

from numerics.domain import DomainError
from theory import Isotropic, LinearManifold, Spectrum, Subspaces
from theory.models.activations import ACTIVATIONS as THEORY_ACTIVATIONS
from theory.models.activations import activation as theory_activation
from theory.models.hidden import HiddenManifold
from validation.simulation.samplers import ACTIVATIONS, Sampler, torch_activation

MODELS = [
    Isotropic(2.0),
    LinearManifold(0.5),
    LinearManifold(1.5, variances=[1.0, 0.2, 0.05], fractions=[0.5, 0.25, 0.25]),
    Subspaces([0.25, 0.5], [1.0, 0.09]),
    Spectrum([3.0, 1.0, 1.0, 0.5, 0.1, 0.0, 0.0, 0.0]),
]


def covariance(sampler):
    """The covariance of the points given the disorder, written out from F and the model's definition."""
    model, N = sampler.realised, sampler.N
    if sampler.F is not None:
        F, D = sampler.F.numpy(), sampler.latent_dimension
        s = np.repeat(model.variances, np.rint(np.array(model.fractions) * D).astype(int))
        return F @ np.diag(s) @ F.T / D
    if isinstance(model, Isotropic):
        return model.variance * np.eye(N)
    if isinstance(model, Spectrum):
        return np.diag(model.eigenvalues)
    r = np.repeat(model.variances, np.rint(np.array(model.fractions) * N).astype(int))
    return np.diag(np.concatenate([r, np.zeros(N - r.size)]))


def worst_entry(points, C):
    """Largest deviation of the sample covariance (mean known to be 0) from C, in standard errors."""
    X = points.numpy()
    scatter = X.T @ X / len(X) - C
    error = np.sqrt((np.outer(np.diag(C), np.diag(C)) + C**2) / len(X))
    assert np.all(scatter[error == 0] == 0)
    return np.max(np.abs(scatter[error > 0]) / error[error > 0])


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_covariance_given_the_disorder(model):
    sampler = Sampler(model, 8, seed=3)
    points = sampler.sample(20_000)
    assert points.shape == (20_000, 8)
    assert points.dtype == torch.float64
    assert worst_entry(points, covariance(sampler)) < 4.7


def test_negative_control_another_disorder_is_noticed():
    sampler, other = (Sampler(LinearManifold(0.5), 8, seed=seed) for seed in (3, 4))
    assert worst_entry(sampler.sample(20_000), covariance(other)) > 20


def test_disorder_is_frozen_and_streams_differ():
    sampler = Sampler(LinearManifold(0.5), 10, seed=1)
    F = sampler.F.clone()
    first, second = sampler.sample(50), sampler.sample(50)
    assert torch.equal(sampler.F, F)
    assert not torch.equal(first, second)
    assert torch.linalg.matrix_rank(torch.cat([first, second])) == 5
    other = sampler.stream(1)
    assert torch.equal(other.F, F)
    assert not torch.equal(other.sample(50), first)
    assert torch.equal(sampler.stream(0).sample(50), first)
    assert torch.equal(Sampler(LinearManifold(0.5), 10, seed=1).sample(50), first)
    assert not torch.equal(Sampler(LinearManifold(0.5), 10, seed=(1, 0)).sample(50), first)


@pytest.mark.parametrize("model", [*MODELS, HiddenManifold(0.5, "tanh")], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("tiles", [[1] * 40, [3, 37], [39, 1], [16, 16, 8]])
def test_the_stream_does_not_depend_on_its_tiles(model, tiles):
    whole = Sampler(model, 8, seed=5).sample(40)
    sampler = Sampler(model, 8, seed=5)
    # the normals are the same numbers; the product with F may round differently for other numbers of rows
    torch.testing.assert_close(torch.cat([sampler.sample(n) for n in tiles]), whole, rtol=1e-13, atol=1e-14)


def test_realised_model_has_integer_dimensions():
    sampler = Sampler(LinearManifold(0.33, variances=[1.0, 0.3]), 10)
    assert sampler.F.shape == (10, 3)
    assert sampler.realised.alpha_D == 0.3
    assert sampler.realised.fractions == pytest.approx((2 / 3, 1 / 3))
    blocks = Sampler(Subspaces([0.26, 0.31], [1.0, 0.1]), 10)
    assert blocks.realised.fractions == pytest.approx((0.3, 0.3))
    assert int((blocks.sample(5) != 0).any(0).sum()) == 6


@pytest.mark.parametrize("name", sorted(THEORY_ACTIVATIONS))
def test_activations_are_those_of_theory(name):
    h = torch.linspace(-3, 3, 61, dtype=torch.float64)
    expected = theory_activation(name).function(h.numpy())
    for form in (name, theory_activation(name), THEORY_ACTIVATIONS[name]):
        np.testing.assert_allclose(torch_activation(form)(h).numpy(), expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize(
    ("activation", "reference"),
    [
        (torch.nn.functional.softplus, lambda h: np.log1p(np.exp(h))),
        (lambda h: np.arctan(h), np.arctan),
        (sp.exp(-(sp.Symbol("x") ** 2)), lambda h: np.exp(-(h**2))),
        (sp.Max(sp.Symbol("x"), 0) ** 2, lambda h: np.maximum(h, 0) ** 2),
    ],
)
def test_hidden_manifold_takes_any_elementwise_function(activation, reference):
    linear = Sampler(LinearManifold(0.5), 8, seed=2)
    bent = Sampler(LinearManifold(0.5), 8, seed=2, activation=activation)
    np.testing.assert_allclose(bent.sample(20).numpy(), reference(linear.sample(20).numpy()), rtol=1e-12, atol=1e-14)


def test_hidden_manifold_applies_its_activation():
    z = Sampler(LinearManifold(0.5), 8, seed=2).sample(20)
    assert torch.equal(Sampler(HiddenManifold(0.5, "relu"), 8, seed=2).sample(20), torch.relu(z))
    assert Sampler(HiddenManifold(0.51, "relu"), 8).realised.alpha_D == 0.5


def test_float32_points_and_spectrum_knows_its_dimension():
    assert Sampler(Isotropic(), 4, dtype=torch.float32).sample(2).dtype == torch.float32
    assert Sampler(Spectrum([2.0, 1.0, 0.0])).sample(2).shape == (2, 3)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"model": LinearManifold(0.5), "N": 0}, "N"),
        ({"model": LinearManifold(0.01), "N": 10}, "N"),
        ({"model": LinearManifold(0.1, variances=[1, 0.3]), "N": 10}, "N"),
        ({"model": Subspaces([0.01], [1.0]), "N": 10}, "N"),
        ({"model": Spectrum([1.0, 2.0]), "N": 3}, "N"),
        ({"model": Isotropic(sp.Symbol("s", positive=True)), "N": 3}, "variance"),
        ({"model": LinearManifold([0.5, 1.0]), "N": 3}, "alpha_D"),
        ({"model": "linear", "N": 3}, "model"),
        ({"model": Isotropic(), "N": 3, "seed": -1}, "seed"),
        ({"model": Isotropic(), "N": 3, "seed": ()}, "seed"),
        ({"model": Isotropic(), "N": 3, "dtype": torch.int64}, "dtype"),
        ({"model": Isotropic(), "N": 3, "activation": "gelu"}, "activation"),
        ({"model": Isotropic(), "N": 3, "activation": lambda h: h.sum()}, "activation"),
        ({"model": Isotropic(), "N": 3, "activation": lambda h: h - h.mean()}, "activation"),
        ({"model": Isotropic(), "N": 3, "activation": sp.Symbol("x") * sp.Symbol("y")}, "activation"),
        ({"model": Isotropic(), "N": 3, "activation": 7}, "activation"),
    ],
)
def test_bad_input_names_the_argument(arguments, name):
    with pytest.raises(DomainError) as caught:
        Sampler(**arguments)
    assert caught.value.argument == name


def test_sample_needs_a_positive_number():
    with pytest.raises(DomainError, match="n = 0"):
        Sampler(Isotropic(), 3).sample(0)


def test_streams_on_an_accelerator_do_not_depend_on_tiles(cuda):
    whole = Sampler(LinearManifold(0.5), 8, seed=5, device=cuda).sample(3000)
    sampler = Sampler(LinearManifold(0.5), 8, seed=5, device=cuda)
    assert whole.device.type == "cuda"
    torch.testing.assert_close(torch.cat([sampler.sample(n) for n in (1, 1700, 1299)]), whole)


def test_every_named_activation_of_theory_has_a_torch_twin():
    assert set(THEORY_ACTIVATIONS) <= set(ACTIVATIONS)
