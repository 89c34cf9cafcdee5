"""A probe leaves the user's module, and the process, as it found them: the list of what a training loop would miss."""

import random

import numpy as np
import pytest
import torch

from validation.networks import DiffusersScore, ModelScore, NetworkScore
from validation.spectra import AutogradScore, as_score, jacobian_spectrum, modules_of

N, T = 6, 0.4
X = torch.randn(5, N, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Net(torch.nn.Module):
    """What forgets itself in training mode: dropout, batch statistics, a scratch buffer, a plain tensor, random draws."""

    def __init__(self, dtype=torch.float64, leak=False):
        super().__init__()
        self.first = torch.nn.Linear(N, 16, dtype=dtype)
        self.norm = torch.nn.BatchNorm1d(16, dtype=dtype)
        self.drop = torch.nn.Dropout(0.5)
        self.last = torch.nn.Linear(16, N, dtype=dtype)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.cache, self.leak = torch.zeros(1), leak

    def forward(self, y, level):
        self.calls += 1
        self.cache = y
        self.late = y
        if self.leak:
            torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
            torch.set_grad_enabled(not torch.is_grad_enabled())
            torch.set_autocast_enabled("cpu", True)
        return self.last(self.drop(self.norm(self.first(y)).tanh()))


def in_training(**options):
    """As in the middle of a training: some submodules in training mode, some frozen, statistics and gradients there."""
    torch.manual_seed(0)
    net = Net(**options)
    net.train()
    net.norm.eval()
    net.first.requires_grad_(False)
    net.norm.running_mean.normal_()
    net.norm.running_var.uniform_(0.5, 2.0)
    net.last.weight.grad = torch.ones_like(net.last.weight)
    return net


def picture(net):
    """Everything about a module, and about the process, that a probe could change."""
    return {
        "training": {name: module.training for name, module in net.named_modules()},
        "state": {name: value.clone() for name, value in net.state_dict().items()},
        "buffers": {name: id(value) for name, value in net.named_buffers()},
        "requires_grad": {name: p.requires_grad for name, p in net.named_parameters()},
        "grad": {name: None if p.grad is None else p.grad.clone() for name, p in net.named_parameters()},
        "dtype": {name: value.dtype for name, value in net.state_dict().items()},
        "attributes": {name: id(value) for name, value in vars(net).items()},
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].copy(),  # noqa: NPY002
        "python": random.getstate(),
        "grad mode": torch.is_grad_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
    }


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b


def changed(before, after):
    return [name for name in before if not same(before[name], after[name])]


class Holder:
    def __init__(self, net):
        self.net = net

    def __call__(self, y, level):
        return self.net(y, level)


SCHEDULER = type(
    "Scheduler", (), {"config": {"prediction_type": "epsilon"}, "alphas_cumprod": [0.99, 0.9, 0.5, 0.05]}
)()
FACES = {
    "module": lambda net: as_score(net),
    "lambda": lambda net: as_score(lambda x, t: net(x, t)),
    "lambda in a lambda": lambda net: as_score((lambda inner: lambda x, t: inner(x, t))(lambda x, t: net(x, t))),
    "bound method": lambda net: as_score(net.forward),
    "object": lambda net: as_score(Holder(net)),
    "ModelScore": lambda net: ModelScore(net, predicts="noise"),
    "ModelScore of a lambda": lambda net: ModelScore(lambda y, level: net(y, level), predicts="noise"),
    "ModelScore in another precision": lambda net: ModelScore(net, predicts="noise", dtype=torch.float32),
    "DiffusersScore": lambda net: DiffusersScore(net, SCHEDULER, shape=(N,)),
    "DiffusersScore of a lambda": lambda net: DiffusersScore(lambda y, step: net(y, step), SCHEDULER, shape=(N,)),
}


@pytest.mark.parametrize("leak", [False, True], ids=["", "leaking"])
@pytest.mark.parametrize("face", FACES)
def test_nothing_is_changed(face, leak):
    net = in_training(leak=leak)
    before = picture(net)
    score = FACES[face](net)
    assert changed(before, picture(net)) == []
    with torch.autocast("cpu", enabled=False):
        score.score(X, T)
        jacobian_spectrum(score, X[:2], T)
    assert changed(before, picture(net)) == []
    wrong = picture(net)
    net.leak = False
    net.train()(X, T)  # the picture sees what a call in training mode does
    assert {"training", "state", "attributes"} <= set(changed(wrong, picture(net)))


@pytest.mark.parametrize("face", FACES)
def test_what_is_measured_is_the_network_in_evaluation_mode(face):
    net = in_training()
    plain = FACES[face](net)
    J, s = plain.jacobian(X[:2], T), plain.score(X, T)
    settled = FACES[face](in_training().eval())
    assert torch.equal(s, settled.score(X, T))
    assert torch.equal(J, settled.jacobian(X[:2], T))
    assert plain.derivative.method == "forward on copies"  # `calls` and `cache` are written; exact all the same
    with torch.no_grad():
        assert (in_training().eval()(X, T) - in_training().train()(X, T)).abs().max() > 0.1


def test_a_training_goes_on_as_if_it_had_not_been_probed():
    """Ten steps of Adam with and without a probe after each: equal to the last bit."""

    def trained(probe):
        net = in_training()
        face = ModelScore(net, predicts="noise")
        optimiser = torch.optim.Adam(net.parameters(), 1e-2)
        torch.manual_seed(1)
        for _ in range(10):
            optimiser.zero_grad()
            loss = (net(torch.randn(8, N, dtype=torch.float64), None) - 1).square().mean()
            loss.backward()
            optimiser.step()
            if probe:
                face.score(X, T)
                face.jacobian(X[:1], T)
        return net.state_dict()

    alone, probed = trained(False), trained(True)
    assert all(torch.equal(alone[name], probed[name]) for name in alone)


def test_a_probe_follows_the_training():
    """The face of a module is that of its weights as they are now, unless it was copied to another precision."""
    net = in_training()
    face, copied = ModelScore(net, predicts="noise"), ModelScore(net, predicts="noise", dtype=torch.float32)
    before, rough = face.score(X, T), copied.score(X, T)
    with torch.no_grad():
        net.last.weight.mul_(2.0)
    assert (face.score(X, T) - before).abs().max() > 0.1
    assert torch.equal(copied.score(X, T), rough)
    assert net.last.weight.dtype == torch.float64


def test_everything_is_restored_after_an_error():
    net = in_training()
    before = picture(net)

    def broken(x, t):
        net(x, t)
        raise RuntimeError("after the modules were asked")

    for call in (lambda: as_score(broken).score(X, T), lambda: as_score(broken).jacobian(X, T)):
        with pytest.raises(RuntimeError, match="after the modules"):
            call()
        assert changed(before, picture(net)) == []


@pytest.mark.parametrize("grad", [False, True])
def test_grad_mode_and_autocast_of_the_caller(grad):
    net = in_training(dtype=torch.float32)
    face = ModelScore(net, predicts="noise")
    with torch.set_grad_enabled(grad), torch.autocast("cpu", torch.bfloat16):
        rough = face.score(X, T)
        face.jacobian(X[:1], T)
        assert torch.is_grad_enabled() == grad
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
    assert not torch.is_autocast_enabled("cpu")
    exact = face.score(X, T)
    assert not rough.requires_grad
    assert 0 < (rough - exact).abs().max() < 0.05 * exact.abs().max()  # the caller's autocast is the caller's choice


def test_shared_buffers_stay_shared():
    """One tensor under two names is one copy while it is probed, and the same tensor after."""
    net = in_training()
    net.twin = torch.nn.Module()
    net.twin.register_buffer("running_mean", net.norm.running_mean)
    as_score(net).score(X, T)
    assert net.twin.running_mean is net.norm.running_mean


def test_our_own_networks_are_copies():
    from validation.networks import Denoiser, ResidualMLP, Scale

    denoiser = Denoiser(ResidualMLP(N, 8, 1), (N,), [Scale(0.0, 1.0)]).train()
    before = picture(denoiser)
    face = NetworkScore(denoiser)
    face.jacobian(X[:1], T)
    assert changed(before, picture(denoiser)) == []
    assert modules_of(face.function) == face.modules == []


def test_modules_are_found_wherever_a_callable_keeps_them():
    from functools import partial

    net, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)

    def plain(x, t, inner=net):
        return inner(x)

    for function in (net, net.forward, plain, partial(lambda m, x, t: m(x), net), lambda x, t: [net, other][0](x)):
        assert net in modules_of(function)
    for function in (torch.sin, lambda x, t: -x / t, AutogradScore):
        assert modules_of(function) == []
