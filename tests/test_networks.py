"""Networks and adapters: preconditioning identities, no cancellation, members alone and stacked, every convention."""

import math

import pytest
import torch

from numerics.domain import DomainError
from validation.networks import Denoiser, ModelScore, NetworkScore, ResidualMLP, Scale, SideBySide, UNet
from validation.networks.preconditioning import coefficients
from validation.networks.record import build
from validation.spectra.score_functions import GaussianScore, ScoreFunction

SIGMA = torch.logspace(-3, 2, 11, dtype=torch.float64)
R = (1.0, 0.09, 1e-4)


def stirred(module, seed=0, scale=0.3):
    """A module whose silent layers speak, so that tests see them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(scale * torch.randn(p.shape, generator=generator).to(p) / math.sqrt(p.shape[-1]))
    return module


def mlp(members=1, N=3, seed=0):
    scales = [Scale(0.1 * m, 0.5 + m) for m in range(members)]
    return stirred(Denoiser(ResidualMLP(N, 16, 2, seeds=range(members)), (N,), scales), seed).double()


@pytest.mark.parametrize("s", [0.05, 0.5, 3.0])
def test_preconditioning_identities(s):
    s = torch.tensor(s, dtype=torch.float64)
    c = coefficients(SIGMA, s)
    one = torch.ones_like(SIGMA)
    torch.testing.assert_close(c.into**2 * (SIGMA**2 + s**2), one)
    torch.testing.assert_close(((1 - c.skip) ** 2 * s**2 + c.skip**2 * SIGMA**2) / c.out**2, one)
    torch.testing.assert_close(c.noise.mul(4).exp(), SIGMA)
    best = (1 - c.skip) * s**2 - c.skip * SIGMA**2  # d/d c_skip of the identity above vanishes: c_out is least
    torch.testing.assert_close(best, torch.zeros_like(best), atol=1e-12, rtol=0)


def test_score_is_the_denoiser_without_its_cancellation():
    D = mlp()
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for t in (1e-3, 0.1, 10.0):
        torch.testing.assert_close(D.score(x, t), (D(x, t) - x) / t, rtol=1e-9, atol=1e-9)
    single = D.member(0).float()
    exact, t = D.score(x, 1e-10), 1e-10
    direct = (single(x.float(), t) - x.float()) / t
    stable = single.score(x.float(), t)
    scale = exact.abs().max()
    assert (stable - exact).abs().max() < 2e-5 * scale
    assert (direct - exact).abs().max() > 1e-3 * scale  # float32: the difference loses digits as 1/sigma


def test_residual_is_the_denoising_error_over_c_out():
    D = mlp(2)
    g = torch.Generator().manual_seed(2)
    clean, noise = (torch.randn(2, 5, 3, generator=g, dtype=torch.float64) for _ in range(2))
    sigma = torch.rand(2, 5, generator=g, dtype=torch.float64) + 0.01
    c = coefficients(sigma, D.sigma_data[:, None])
    error = D(clean + sigma[..., None] * noise, sigma**2) - clean
    torch.testing.assert_close(D.residual(clean, noise, sigma), error / c.out[..., None], rtol=1e-9, atol=1e-9)


def test_untrained_residual_is_of_order_one_at_every_level():
    """The weight 1/c_out^2 and c_in make the first loss 1 at every sigma; without the weight it would run over decades."""
    g = torch.Generator().manual_seed(3)
    clean = torch.randn(1, 4000, 3, generator=g) * 0.5
    D = Denoiser(ResidualMLP(3, 16, 1), (3,), [Scale(0.0, 0.5)])
    noise = torch.randn(1, 4000, 3, generator=g)
    for sigma in (0.002, 0.05, 0.5, 5.0):
        loss = D.residual(clean, noise, torch.full((1, 4000), sigma)).square().mean().item()
        assert abs(loss - 1) < 0.08  # 12000 chi-squares: 5 standard deviations are 0.065


def test_members_are_the_same_alone_and_stacked():
    D = mlp(3)
    x = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    t = torch.rand(3, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64) + 0.01
    together = D(x, t)
    for m in range(3):
        torch.testing.assert_close(D.member(m)(x[m], t[m]), together[m], rtol=1e-12, atol=1e-12)
    fresh = [ResidualMLP(3, 8, 2, seeds=[s]).first[1].weight for s in (0, 1)]
    stack = ResidualMLP(3, 8, 2, seeds=[0, 1]).first[1].weight
    assert torch.equal(stack, torch.cat(fresh))


def test_network_score_has_the_jacobian_of_its_score():
    face = NetworkScore(mlp(2), member=1)
    assert isinstance(face, ScoreFunction)
    x, step = torch.zeros(1, 3, dtype=torch.float64) + 0.3, 1e-6
    J = face.jacobian(x, 0.2)[0]
    for i in range(3):
        e = step * torch.eye(3, dtype=torch.float64)[i]
        torch.testing.assert_close(
            (face.score(x + e, 0.2) - face.score(x - e, 0.2))[0] / (2 * step), J[:, i], rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 7, 9), (3, 8, 8), (1, 1, 2)])
def test_unet_any_size(channels, height, width):
    net = UNet(channels, width=8, levels=3, seed=1)
    D = Denoiser(SideBySide([net]), (channels, height, width), [Scale(0.0, 1.0)])
    x = torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(0))
    assert D(x, 0.5).shape == x.shape
    torch.testing.assert_close(D.score(x, 0.5), -x / 1.5)  # silent before training
    stirred(net)
    assert torch.isfinite(D(x, 1e-5)).all()
    assert (D(x, torch.tensor([0.1, 2.0]))[0] - D(x, 0.1)[0]).abs().max() < 1e-5  # points do not see each other
    flat = NetworkScore(D)
    y = x.flatten(1).double()
    assert flat.jacobian(y[:1], 0.5).shape == (1, y.shape[1], y.shape[1])


def test_unet_seeds_do_not_touch_the_global_generator():
    before = torch.get_rng_state()
    a, b, c = UNet(1, width=4, levels=1, seed=0), UNet(1, width=4, levels=1, seed=0), UNet(1, width=4, levels=1, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(a.into.weight, b.into.weight)
    assert not torch.equal(a.into.weight, c.into.weight)


# --- conventions: exact models of Gaussian data, said in every dialect -----------------------------------------------


def exact_model(predicts, convention, told):
    """The optimal model for Gaussian data of variances R, written with the textbook's formula of its own convention."""
    r = torch.tensor(R, dtype=torch.float64)

    def model(y, level):
        level = level[:, None]
        if told == "ou":
            a, b = torch.exp(-level), (1 - torch.exp(-2 * level)).sqrt()
        elif told == "alpha_bar":
            a, b = level.sqrt(), (1 - level).sqrt()
        else:
            a, b = torch.ones_like(level), level.sqrt() if told == "t" else level
        v = a**2 * r + b**2  # y = a xi + b w
        xi, w = a * r / v * y, b / v * y
        if predicts == "v":  # of the variance-preserving pair (cos, sin) of the same signal-to-noise ratio
            norm = (a**2 + b**2).sqrt()
            return (a * w - b * xi) / norm
        return {"noise": w, "x0": xi, "score": -y / v}[predicts]

    return model


@pytest.mark.parametrize("predicts", ["noise", "x0", "v", "score"])
@pytest.mark.parametrize(("convention", "told"), [("ve", "t"), ("edm", "sigma"), ("vp", "ou"), ("ddpm", "alpha_bar")])
def test_conventions_give_the_exact_score(predicts, convention, told):
    face = ModelScore(exact_model(predicts, convention, told), predicts=predicts, convention=convention)
    exact = GaussianScore(R)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for t in (1e-4, 0.3, 20.0):
        torch.testing.assert_close(face.score(x, t), exact.score(x, t), rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(face.jacobian(x[:1], t), exact.jacobian(x[:1], t), rtol=1e-7, atol=1e-7)
    wrong = ModelScore(
        exact_model(predicts, convention, told), predicts="noise" if predicts != "noise" else "v", convention=convention
    )
    assert (wrong.score(x, 0.3) - exact.score(x, 0.3)).abs().max() > 0.1


def test_units_and_centre_of_a_model():
    """A model of (data - 2)/3 seen in the data's units."""
    inner = exact_model("x0", "edm", "sigma")
    face = ModelScore(inner, predicts="x0", convention="edm", centre=2.0, unit=3.0)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(face.score(x, 0.7), GaussianScore([9 * r for r in R]).score(x - 2, 0.7))


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: mlp()(torch.zeros(2, 4), 1.0), "x = "),
        (lambda: mlp()(torch.zeros(2, 3), -1.0), "t = "),
        (lambda: mlp()(torch.zeros(2, 3), torch.ones(3)), "t = "),
        (lambda: mlp(2)(torch.zeros(2, 3), 1.0), "x = "),
        (lambda: mlp(2).member(2), "index"),
        (lambda: Scale.of(torch.ones(3, 2)), "vary"),
        (lambda: Scale.of(torch.zeros(0, 2)), "X = "),
        (lambda: ResidualMLP(3, seeds=[]), "seeds"),
        (lambda: SideBySide([]), "networks"),
        (lambda: build({"kind": "cnn"}, shape=(3,), scales=[(0.0, 1.0)], seeds=[0]), "kind"),
        (lambda: build({"kind": "mlp", "depth": 3}, shape=(3,), scales=[(0.0, 1.0)], seeds=[0]), "depth"),
        (lambda: build({"kind": "unet"}, shape=(3,), scales=[(0.0, 1.0)], seeds=[0]), "shape"),
        (lambda: ModelScore(lambda y, c: y, predicts="epsilon"), "predicts"),
        (lambda: ModelScore(lambda y, c: y, predicts="x0", convention="sde"), "convention"),
        (lambda: ModelScore(lambda y, c: y, predicts="x0", condition="beta"), "condition"),
        (lambda: ModelScore(lambda y, c: y[:1], predicts="x0").score(torch.zeros(2, 3), 1.0), "model"),
        (lambda: ModelScore(None, predicts="x0"), "model"),
        (lambda: NetworkScore(torch.nn.Linear(2, 2)), "ModelScore"),
    ],
)
def test_bad_input_names_the_argument(call, match):
    with pytest.raises(DomainError, match=match):
        call()
