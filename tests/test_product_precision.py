"""Products in bfloat16 and TF32: their measured error, the bound that refuses, flags left as they were; on the stand-in too."""

import numpy as np
import pytest
import torch
from test_spectra_of_networks import _unet

from numerics.domain import DomainError
from validation.networks import DiffusersScore, ModelScore
from validation.spectra import BOUND, AutogradScore, JacobianOperator, product_error
from validation.spectra.precision import products_in
from validation.spectrum import run_samples
from validation.spectrum.pipelines import from_pipeline
from validation.spectrum.product_precision import reduce_products

N = 64
X = 0.3 * torch.randn(20, N, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def tame():
    """A UNet whose Jacobian is as small as a trained one's: at random weights it is larger than any denoiser's."""
    net = _unet()
    with torch.no_grad():
        net.conv_out.weight.mul_(0.1)
    return net


def unet_face(**options):
    diffusers = pytest.importorskip("diffusers")
    return DiffusersScore(tame(), diffusers.DDPMScheduler(), **options)


def test_bfloat16_moves_products_by_its_rounding_and_the_score_not_at_all():
    face = unet_face()
    before = face.score(X[:2], 0.3)
    error = product_error(face, X[:2], 0.3, "bfloat16")
    assert 1e-5 < error < BOUND
    assert product_error(face, X[:2], 0.3, "float32") == 0
    assert face.products == "float32"
    said = reduce_products(face, "bfloat16", X, "cpu")
    assert face.products == "bfloat16"
    assert said.startswith("products in bfloat16")
    torch.testing.assert_close(face.score(X[:2], 0.3), before, rtol=0, atol=0)
    J = JacobianOperator(face, X[:2], 0.3)
    assert J.method == "forward mode"  # compared with quotients in float32: bfloat16 alone might fail there
    v = torch.randn(2, 60, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64).sign()
    reduced = J.each(v)
    face.products = "float32"
    exact = J.each(v)
    measured = 0.3 * float((reduced - exact).square().mean().sqrt())
    assert measured == pytest.approx(error, rel=0.5)  # the stated error, from four vectors
    assert not torch.is_autocast_enabled("cpu")


def test_float32_products_of_float64_networks_are_untouched():
    face = unet_face(dtype=torch.float64)
    v = torch.randn(2, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact = JacobianOperator(face, X[:2], 0.3)(v)
    face.products = "bfloat16"  # what autocast does not know stays as it is
    torch.testing.assert_close(JacobianOperator(face, X[:2], 0.3)(v), exact, rtol=0, atol=0)


class Cancelling(torch.nn.Module):
    """Two large products that nearly cancel: float32 keeps the difference, bfloat16 does not."""

    def __init__(self, size):
        super().__init__()
        self.first, self.second = (torch.nn.Linear(N, N, bias=False) for _ in range(2))
        with torch.no_grad():
            self.first.weight.copy_(size * torch.randn(N, N, generator=torch.Generator().manual_seed(2)))
            self.second.weight.copy_(self.first.weight * (1 + 1e-3))

    def forward(self, y, level):
        return self.first(y) - self.second(y)


def test_a_network_that_bfloat16_does_not_suit_is_refused():
    face = ModelScore(Cancelling(30.0), predicts="x0", convention="ve")
    with pytest.raises(DomainError, match=r"at most 0\.02 of \|v\|; here by") as error:
        reduce_products(face, "bfloat16", X, "cpu")
    assert "--products float32" in str(error.value)
    assert face.products == "float32"
    face = ModelScore(Cancelling(30.0), predicts="x0", convention="ve")
    face.products = "bfloat16"
    found = JacobianOperator(face, X[:2], 0.3)
    assert found.method == "forward mode"  # derivatives are compared with quotients in float32
    assert found.has_transposed
    small = ModelScore(Cancelling(1e-3), predicts="x0", convention="ve")
    assert reduce_products(small, "bfloat16", X, "cpu")


@pytest.mark.parametrize(("kind", "allowed"), [("float16", "bfloat16"), ("", "tf32"), ("tf32", "on a CPU")])
def test_kinds_that_are_not_to_be_had(kind, allowed):
    with pytest.raises(DomainError, match=allowed):
        reduce_products(unet_face(), kind, X, "cpu")


def test_only_networks_of_torch():
    with pytest.raises(DomainError, match="not of float32"):
        reduce_products(AutogradScore(lambda x, t: -x), "bfloat16", X, "cpu")
    with pytest.raises(DomainError, match="kind"):
        product_error(lambda x, t: -x, X[:1], 1.0, "half")
    assert reduce_products(None, None, X, "cpu") == ""
    assert reduce_products(None, "float32", X, "cpu") == ""


@pytest.mark.parametrize("kind", ["float32", "tf32", "bfloat16"])
def test_flags_of_cuda_inside_and_after(kind):
    """Torch leaves cuda's convolutions to TF32: "float32" must say no."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    found = (matmul.allow_tf32, cudnn.allow_tf32, matmul.allow_bf16_reduced_precision_reduction)
    if kind == "bfloat16" and not torch.cuda.is_available():
        kind = "float32"  # autocast of an absent device warns; on the stand-in below
    with products_in(kind, "cuda:0"):
        assert matmul.allow_tf32 == cudnn.allow_tf32 == (kind == "tf32")
        assert not matmul.allow_bf16_reduced_precision_reduction
    assert found == (matmul.allow_tf32, cudnn.allow_tf32, matmul.allow_bf16_reduced_precision_reduction)


@pytest.mark.parametrize("kind", ["tf32", "bfloat16"])
def test_on_cuda(kind, cuda):
    """The stand-in has no TF32 of its own: products are float32's there, and the report says an error of 0."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(N, 32), torch.nn.SiLU(), torch.nn.Linear(32, N))
    here = ModelScore(lambda y, level: net(y), predicts="x0", convention="ve")
    v = torch.randn(2, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact = JacobianOperator(here, X[:2], 0.3)(v)
    net.to(cuda)
    there = ModelScore(lambda y, level: net(y), predicts="x0", convention="ve")
    said = reduce_products(there, kind, X, cuda)
    assert said.startswith(f"products in {kind}, sums in float32")
    found = JacobianOperator(there, X[:2].to(cuda), 0.3)(v.to(cuda))
    assert found.device.type == "cuda"
    assert 0.3 * float((found.cpu() - exact).square().mean().sqrt()) < BOUND


def test_commands_take_it_with_products_alone(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    diffusers.DDPMPipeline(tame(), diffusers.DDPMScheduler()).save_pretrained(tmp_path / "p")
    images = np.tanh(X.numpy().reshape(-1, 8, 8))
    np.save(tmp_path / "x.npy", images)
    options = {"centre": 0.0, "unit": 1.0, "products": "bfloat16"}
    with pytest.raises(DomainError, match="64 numbers, whose matrix is made"):
        from_pipeline(tmp_path / "p", tmp_path / "x.npy", **options)
    found = run_samples(
        tmp_path / "x.npy", tmp_path / "s.png", model=tmp_path / "p", points=2, probes=2, network=options, limit=4
    )
    assert "products in bfloat16" in found[0][0].attrs["remarks"]
