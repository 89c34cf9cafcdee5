"""Jacobians where forward mode cannot go: a stand-in of each mechanism, with the analytic value, and the method that is named.

Every stand-in computes tanh(x A) row by row, whose Jacobian is known; none is recognised by name.
"""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from numerics.domain import DomainError
from validation.networks import DiffusersScore, ModelScore
from validation.spectra import AutogradScore, jacobian_spectrum
from validation.spectra.differences import central_jacobian
from validation.spectra.jacobians import METHODS

N, T = 4, 0.3
A = torch.randn(N, N, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
X = torch.randn(3, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def exact(x, scale=1.0):
    """d tanh(x A)_i/dx_j = (1 - tanh^2)_i A_ji."""
    slope = 1 - torch.tanh(scale * x @ A).square()
    return scale * slope[:, :, None] * A.T


class Tanh(torch.autograd.Function):
    """As older libraries write a function: forward and backward, no jvp and no rule for vmap."""

    @staticmethod
    def forward(ctx, x):
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return grad * (1 - y.square())


class OwnCheckpoint(torch.autograd.Function):
    """A hand-written checkpoint that differentiates inside its backward and frees what it kept: good for one backward."""

    @staticmethod
    def forward(ctx, run, x, *parameters):
        ctx.run, ctx.kept, ctx.parameters = run, [x], list(parameters)
        with torch.no_grad():
            return run(x)

    @staticmethod
    def backward(ctx, grad):
        inputs = [x.detach().requires_grad_(True) for x in ctx.kept]
        with torch.enable_grad():
            out = ctx.run(*[x.view_as(x) for x in inputs])
        grads = torch.autograd.grad(out, inputs + ctx.parameters, grad, allow_unused=True)
        del ctx.kept
        return (None, *grads)


class Net(torch.nn.Module):
    """tanh(x A) with A a parameter, so that there are gradients to disturb."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        self.A = torch.nn.Parameter(A.to(dtype))
        self.register_buffer("scratch", torch.zeros(256, N, dtype=dtype))

    def forward(self, x, t):
        return torch.tanh(x @ self.A)


class CustomFunction(Net):
    def forward(self, x, t):
        return Tanh.apply(x @ self.A)


class Reentrant(Net):
    def forward(self, x, t):
        return checkpoint(lambda y: torch.tanh(y @ self.A), x, use_reentrant=True)


class HandWrittenCheckpoint(Net):
    def forward(self, x, t):
        return OwnCheckpoint.apply(lambda y: torch.tanh(y @ self.A), x, self.A)


class ForeignBackward(Net):
    """A hand-written kernel whose backward is not made of torch operations: it cannot be vectorised."""

    class Kernel(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y = torch.from_numpy(np.tanh(x.detach().numpy()))
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx, grad):
            return torch.from_numpy(grad.numpy() * (1 - ctx.saved_tensors[0].numpy() ** 2))

    def forward(self, x, t):
        return self.Kernel.apply(x @ self.A)


class InPlaceBuffer(Net):
    def forward(self, x, t):
        self.scratch[: len(x)] = x @ self.A
        return torch.tanh(self.scratch[: len(x)])


class BranchOnData(Net):
    def forward(self, x, t):
        y = x @ self.A
        return torch.tanh(y) if y.square().mean() < 1e6 else y


class BranchByItem(Net):
    def forward(self, x, t):
        y = x @ self.A
        return torch.tanh(y) if max(y.abs().max().item(), 1.0) < 1e6 else y


class WritesIntoItsArgument(Net):
    def forward(self, x, t):
        x.add_(1.0).sub_(1.0)
        return torch.tanh(x @ self.A)


class ThroughNumpy(Net):
    """A kernel of another library: torch sees no derivative at all."""

    def forward(self, x, t):
        return torch.from_numpy(np.tanh((x @ self.A).detach().numpy()))


class HiddenPart(Net):
    """Half of the function is cut out of the graph; what is left gives a derivative, of half the size, and no error."""

    def forward(self, x, t):
        y = torch.tanh(x @ self.A)
        return 0.5 * y + 0.5 * y.detach()


class ScaledByItem(Net):
    """A scale that passes through a Python number and so has no derivative for torch: tanh(x A) all the same."""

    def forward(self, x, t):
        y = x @ self.A
        size = [row.abs().max().item() for row in y]
        unit = torch.tensor(size, dtype=y.dtype)[:, None]
        return torch.tanh(y / y.abs().amax(1, keepdim=True).clamp_min(1e-9) * unit)


MECHANISMS = {
    CustomFunction: "reverse",
    ForeignBackward: "reverse on copies",
    Reentrant: "backward",
    HandWrittenCheckpoint: "reverse on copies",
    InPlaceBuffer: "forward on copies",
    BranchOnData: "forward on copies",
    BranchByItem: "forward on copies",
    WritesIntoItsArgument: "forward",
    ThroughNumpy: "differences",
    HiddenPart: "differences",
    ScaledByItem: "differences",
}


WORDS = {
    "forward": "forward mode",
    "forward on copies": "forward mode on copies",
    "reverse": "reverse mode (",
    "reverse on copies": "reverse mode on copies",
    "backward": "reverse mode through .backward()",
    "differences": "central differences, relative error ",
}


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")  # torch's, of plain calls
@pytest.mark.parametrize("kind", MECHANISMS)
def test_each_mechanism_has_the_right_jacobian(kind):
    net = kind()
    net.A.grad = torch.full_like(net.A, 7.0)
    face = AutogradScore(net, chunk=3)
    J = face.jacobian(X, T)
    derivative = face.derivative
    assert derivative.method == MECHANISMS[kind], derivative
    assert [name for name, _ in derivative.refused] == list(METHODS[: METHODS.index(derivative.method)])
    off = torch.linalg.matrix_norm(J - exact(X)) / torch.linalg.matrix_norm(exact(X))
    if derivative.method == "differences":
        assert off.max() < derivative.error < 1e-8
    else:
        torch.testing.assert_close(J, exact(X), rtol=1e-12, atol=1e-13)
        assert derivative.error == 0
    assert str(derivative).startswith(WORDS[derivative.method])
    assert torch.equal(face.jacobian(X, T), J)  # the second time the method is known
    assert (net.A.grad == 7).all()
    assert net.A.requires_grad
    assert (net.scratch == 0).all()


def test_attention_in_a_fused_kernel_that_the_module_insists_on():
    """The processor's flash kernel, chosen inside the module: no forward mode, yet the Jacobian of plain attention."""

    def attention(kernel):
        def score(x, t):
            q = x.reshape(len(x), 1, 2, 4)
            with sdpa_kernel(kernel):
                return torch.nn.functional.scaled_dot_product_attention(q, 2 * q, q.tanh()).reshape(x.shape)

        return AutogradScore(score)

    x = torch.randn(2, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    plain, fused = attention(SDPBackend.MATH), attention(SDPBackend.FLASH_ATTENTION)
    J = plain.jacobian(x, T)
    assert plain.derivative.method == "forward"
    torch.testing.assert_close(fused.jacobian(x, T), J, rtol=1e-9, atol=1e-10)
    assert fused.derivative.method.startswith("reverse")


def test_an_operator_without_autograd_is_found_out():
    """A registered operator of which torch knows no derivative, beside a path of which it does: never half a Jacobian."""

    @torch.library.custom_op("geomem_tests::sine", mutates_args=())
    def sine(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.sin(x.numpy()))

    face = AutogradScore(lambda x, t: x + sine(x))
    J = face.jacobian(X, T)
    assert face.derivative.method == "differences"
    torch.testing.assert_close(J, torch.diag_embed(1 + X.cos()), rtol=1e-9, atol=1e-9)


def test_each_point_takes_its_own_branch():
    """tanh(x A) where the mean is positive, tanh(2 x A) elsewhere: the company of other points does not decide."""

    def score(x, t):
        return torch.tanh(x @ A) if x.mean() > 0 else torch.tanh(2 * x @ A)

    J = AutogradScore(score).jacobian(X, T)
    positive = X.mean(dim=1) > 0
    assert positive.any()
    assert not positive.all()
    torch.testing.assert_close(J, torch.where(positive[:, None, None], exact(X), exact(X, 2.0)), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("dtype", "good"), [(torch.float64, 1e-11), (torch.float32, 2e-5), (torch.bfloat16, 0.3)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_stated_error_of_differences_holds(dtype, good, scale):
    """sin(A x/scale) at 60 points, whatever the precision inside and the units outside: nobody tells the step."""
    points = torch.randn(60, N, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def function(x):
        return torch.sin((x / scale).to(dtype) @ A.to(dtype)).to(x)

    stated = []
    for point in points:
        J, error = central_jacobian(function, scale * point, scale)
        right = (torch.cos(point @ A)[:, None] * A.T) / scale
        size = torch.linalg.matrix_norm(right)
        assert torch.linalg.matrix_norm(J - right) < error
        stated.append(float(error / size))
    assert np.median(stated) < good  # a few times eps^(4/5): 3e-13, 3e-6, 0.02


def test_a_flat_function_has_no_slope():
    face = AutogradScore(lambda x, t: torch.from_numpy(np.ones(x.shape)))
    assert (face.jacobian(X, T) == 0).all()
    assert jacobian_spectrum(face, X, T)[0].tolist() == [[0.0] * N] * 3


def test_not_finite_at_one_point_is_no_verdict_on_the_method():
    """A root of squares has no derivative at 0, where forward mode says NaN; elsewhere it is exact."""
    face = AutogradScore(lambda x, t: x * x.square().sum(dim=1, keepdim=True).sqrt())
    J = face.jacobian(torch.zeros(1, N, dtype=torch.float64), T)
    assert face.derivative.method == "differences"
    assert J.abs().max() < 1e-8
    J = face.jacobian(X[:1], T)
    assert face.derivative.method == "forward"
    right = X[0].norm() * torch.eye(N, dtype=torch.float64) + X[0][:, None] * X[0] / X[0].norm()
    torch.testing.assert_close(J[0], right, rtol=1e-12, atol=1e-12)


def test_inference_mode_and_the_log(caplog):
    with torch.inference_mode(), caplog.at_level(logging.INFO):
        J = AutogradScore(CustomFunction()).jacobian(X.clone(), T)
        AutogradScore(ThroughNumpy()).jacobian(X.clone(), T)
    torch.testing.assert_close(J, exact(X), rtol=1e-12, atol=1e-13)
    (reverse, differences) = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert reverse[0] == "INFO"
    assert reverse[1].startswith("Jacobian by reverse mode (forward mode: RuntimeError")
    assert differences[0] == "WARNING"
    assert differences[1].startswith("Jacobian by central differences, relative error")


def test_out_of_memory_is_not_a_reason_to_try_what_needs_more():
    def score(x, t):
        if torch._C._functorch.peek_interpreter_stack() is not None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return -x / t

    with pytest.raises(torch.OutOfMemoryError):
        AutogradScore(score).jacobian(X, T)


# --- what a model answers: one rule -----------------------------------------------------------------------------------


class LearnedVariance(torch.nn.Module):
    """Predicts noise and, in as many channels again, a variance."""

    def __init__(self, wrap, channels=3):
        super().__init__()
        self.mix = torch.nn.Conv2d(channels, 2 * channels, 1).double()
        self.wrap = wrap

    def forward(self, y, level):
        return self.wrap(self.mix(y))


@pytest.mark.parametrize(
    "wrap",
    [lambda out: out, lambda out: (out,), lambda out: [out, None], lambda out: SimpleNamespace(sample=out)],
    ids=["tensor", "tuple", "list", "sample"],
)
def test_learned_variance_is_left_out_by_every_adapter(wrap):
    torch.manual_seed(0)
    net = LearnedVariance(wrap)
    scheduler = SimpleNamespace(
        config={"prediction_type": "epsilon"}, alphas_cumprod=torch.linspace(0.99, 0.01, 50, dtype=torch.float64)
    )
    x = torch.randn(2, 3 * 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    faces = [
        ModelScore(net, predicts="noise", convention="ddpm", shape=(3, 2, 2)),
        DiffusersScore(net, scheduler, shape=(3, 2, 2)),
    ]
    weight, bias = net.mix.weight[:3, :, 0, 0].detach(), net.mix.bias[:3].detach()
    y = x.reshape(2, 3, 4) / (1 + T) ** 0.5
    right = -(torch.einsum("ij,bjp->bip", weight, y) + bias[:, None]).flatten(1) / T**0.5
    slope = -torch.kron(weight, torch.eye(4, dtype=torch.float64)) / (T * (1 + T)) ** 0.5
    for face in faces:
        torch.testing.assert_close(face.score(x, T), right, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(face.jacobian(x, T), slope.expand(2, -1, -1), rtol=1e-12, atol=1e-12)


def test_other_shapes_are_refused_by_every_adapter():
    for channels in (1, 3, 4):  # of 2 channels, whose learned variance would make 4: the last is taken
        face = ModelScore(lambda y, level, n=channels: y[:, :1].expand(-1, n, -1, -1), predicts="x0", shape=(2, 2, 2))
        if channels == 4:
            assert face.score(torch.zeros(1, 8, dtype=torch.float64), T).shape == (1, 8)
        else:
            with pytest.raises(DomainError, match="model"):
                face.score(torch.zeros(1, 8, dtype=torch.float64), T)
