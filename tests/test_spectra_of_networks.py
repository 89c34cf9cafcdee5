"""Products with the Jacobian of UNets as pipelines have them, and spectra from products against the matrix's."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from validation.networks import DiffusersScore
from validation.spectra import AutogradScore, JacobianOperator, effective_dimension, jacobian_spectrum
from validation.spectra.jacobians import plain_kernels
from validation.spectrum import noise_levels, spectrum
from validation.spectrum.products import DENSE, by_products, spectrum_by_products
from validation.spectrum.subjects import principal

N = 64


def _unet():
    """With attention, after which a group norm is given a transposed tensor."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(4, 8),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=4,
    ).eval()


def test_a_unet_with_attention_has_products_by_forward_mode():
    """And by reverse mode, and both are those of central differences, which cost fifty times as many evaluations."""
    import diffusers

    face = DiffusersScore(_unet(), diffusers.DDPMScheduler(), dtype=torch.float64)
    x = torch.randn(2, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    J = JacobianOperator(face, x, 0.5)
    assert J.method == "forward mode"
    v, w = (torch.randn(2, N, generator=torch.Generator().manual_seed(k), dtype=torch.float64) for k in (2, 3))
    step = 1e-5
    quotient = (face.score(x + step * v, 0.5) - face.score(x - step * v, 0.5)) / (2 * step)
    assert torch.allclose(J(v), quotient, rtol=1e-6, atol=1e-6)
    assert torch.allclose((J(v) * w).sum(1), (J.transposed(w) * v).sum(1), rtol=1e-9)
    assert torch.allclose(J.quadratic(v[:, None])[:, 0], J.transposed(v))


def test_plain_group_norms_are_torchs():
    x, weight = torch.randn(3, 8, 5, 4, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    layer = torch.nn.GroupNorm(4, 8).double()
    layer.weight.data = weight
    expected = layer(x), torch.group_norm(x, 2)
    with plain_kernels():
        assert torch.allclose(layer(x), expected[0], rtol=1e-12)
        assert torch.allclose(torch.group_norm(x, 2), expected[1], rtol=1e-12)


class _ReverseOnly(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx, g):
        return g * torch.cos(ctx.saved_tensors[0])


def test_without_forward_mode_reverse_mode_serves_twice():
    matrix = torch.randn(N, N, generator=torch.Generator().manual_seed(4), dtype=torch.float64) / 8
    x = torch.randn(3, N, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    J = JacobianOperator(lambda y, t: _ReverseOnly.apply(y @ matrix.T) - y / t, x, 2.0)
    assert J.method == "reverse mode twice"
    exact = torch.cos(x @ matrix.T)[:, :, None] * matrix - torch.eye(N) / 2
    v = torch.randn(3, N, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    assert torch.allclose(J(v), torch.einsum("bij,bj->bi", exact, v), rtol=1e-10)


def test_products_agree_with_the_matrix_in_float32():
    import diffusers

    double = DiffusersScore(_unet(), diffusers.DDPMScheduler(), dtype=torch.float64)
    single = DiffusersScore(_unet(), diffusers.DDPMScheduler())
    x = torch.randn(2, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = effective_dimension(single, x, 1e-3, probes=N)
    exact = N - jacobian_spectrum(double, x, 1e-3)[0].sum(axis=1)
    np.testing.assert_allclose(found["dimension"].values[0], exact, atol=1e-3)


@pytest.fixture
def turned():
    """Gaussian data of two groups of variances, and the score of their covariance as if it were a network's."""
    rng = np.random.default_rng(0)
    axes = torch.from_numpy(np.linalg.qr(rng.standard_normal((N, N)))[0])
    variances = torch.from_numpy(np.repeat([4.0, 0.01], [16, 48]))
    X = torch.from_numpy(rng.standard_normal((4000, N))) * variances.sqrt() @ axes.T
    face = AutogradScore(lambda x, t: -((x @ axes) / (t + variances)) @ axes.T)
    return principal("two groups", X, X[:50], face)


def test_spectra_by_products_are_those_of_the_matrix(turned):
    t, face = 0.1, turned.networks["network"]
    values, along = spectrum_by_products(face, turned.X[:6], t, [slice(0, 16), slice(16, 64)], seed=0)
    exact, diagonal, _ = jacobian_spectrum(face, turned.X[:6], t)
    assert values.shape == exact.shape
    assert (np.diff(values, axis=1) <= 0).all()
    # |Pv|^2 of a random sign vector is 16 with the variance 2 * 16 * 48/64 = 24: over 12 of them an error of 1.4, here 3.5 of it
    assert abs((values < 0.5).sum(axis=1).mean() - 16) < 5
    known = [1 - diagonal[:, block].mean(axis=1) for block in (slice(0, 16), slice(16, 64))]
    np.testing.assert_allclose(along, np.stack(known, axis=1), atol=0.05)


def test_large_networks_are_measured_without_matrices(turned, monkeypatch):
    """The switch is by numbers a point; the empirical score keeps its gap."""
    face = turned.networks["network"]
    assert by_products(face, DENSE + 1)
    assert not by_products(face, DENSE)
    assert not by_products(face.inner, DENSE + 1)
    monkeypatch.setattr("validation.spectrum.products.DENSE", 10)
    monkeypatch.setattr(AutogradScore, "jacobian", None)
    few = replace(turned, X=turned.X[:60])
    found = spectrum(few, noise_levels(few, 4), probes=2)
    network = found.sel(score="network")
    assert np.isfinite(network["eigenvalue"]).all()
    assert np.isnan(network["gap"]).all()
    assert np.isfinite(found["gap"].sel(score="empirical")).all()
    assert "24 Lanczos steps" in found.attrs["jacobian_network"]
    t = found["t"].values
    exact = np.stack([1 - t / (t + 4.0), 1 - t / (t + 0.01)])
    middle = network["variance"].sel(place="noisy").values
    assert math.isclose(middle[-1, 0], exact[0, -1], abs_tol=0.1)


# --- several vectors in one call ------------------------------------------------------------------------------------------


def _vectors(k, B=3, seed=7):
    return torch.randn(B, k, N, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("kind", ["forward mode", "reverse mode twice"])
def test_several_vectors_are_one_batch_of_copies(kind):
    """The same as one after the other, in fewer calls, none of them larger than the chunk."""
    matrix = torch.randn(N, N, generator=torch.Generator().manual_seed(4), dtype=torch.float64) / 8
    asked = []

    def function(y, t):
        asked.append(len(y))
        bent = torch.sin(y @ matrix.T) if kind == "forward mode" else _ReverseOnly.apply(y @ matrix.T)
        return bent * y.square().mean(dim=1, keepdim=True) - y / t

    x, v = _vectors(1)[:, 0], _vectors(6)
    face = AutogradScore(function, chunk=4)
    J = JacobianOperator(face, x, 2.0)
    assert J.method == kind
    single = {name: torch.stack([act(w) for w in v.unbind(1)], 1) for name, act in (("J", J), ("T", J.transposed))}
    J.each(v), J.quadratic(v)  # each method is compared once
    before, products = len(asked), J.products
    torch.testing.assert_close(J.each(v), single["J"], rtol=1e-12, atol=1e-12)
    assert J.products - products == 6
    assert len(asked) - before == math.ceil(18 / 4)
    assert max(asked[before:]) == 4
    torch.testing.assert_close(J.quadratic(v), single["T"], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(J.symmetric_each(v), 0.5 * (single["J"] + single["T"]), rtol=1e-12, atol=1e-12)


def test_a_network_that_mixes_its_batch_is_asked_one_vector_after_the_other():
    """Its points are B to it, not B copies: stacked, the mean over the batch would be another."""

    def mixing(y, t):
        return torch.sin(y) * y.square().mean() - y / t

    x, v = _vectors(1)[:, 0], _vectors(5)
    face = AutogradScore(mixing)
    J = JacobianOperator(face, x, 2.0)
    alone = torch.stack([J(w) for w in v.unbind(1)], dim=1)
    torch.testing.assert_close(J.each(v), alone, rtol=1e-12, atol=1e-12)
    assert face.apart == {"forward, stacked"}
    step = 1e-5
    quotient = (mixing(x + step * v[:, 2], 2.0) - mixing(x - step * v[:, 2], 2.0)) / (2 * step)
    torch.testing.assert_close(J.each(v)[:, 2], quotient, rtol=1e-5, atol=1e-6)


def test_vectors_of_a_unet_in_float32_differ_by_rounding():
    import diffusers

    face = DiffusersScore(_unet(), diffusers.DDPMScheduler())
    x, v = _vectors(1)[:, 0], _vectors(4)
    J = JacobianOperator(face, x, 0.3)
    alone = torch.stack([J(w) for w in v.unbind(1)], dim=1)
    assert float((J.each(v) - alone).norm() / alone.norm()) < 1e-5
    alone = torch.stack([J.transposed(w) for w in v.unbind(1)], dim=1)
    assert float((J.quadratic(v) - alone).norm() / alone.norm()) < 1e-5
    assert face.compared == {"forward mode", "backward", "forward, stacked", "backward, stacked"}
