"""Do the samplers follow the law they claim? On Gaussian data, where both are known exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2, norm

from numerics.domain import DomainError
from validation.simulation.trajectories import SCHEMES, Scheme, integrate, karras_levels

VARIANCES = np.array([2.0, 0.3, 0.01])
HIGH, LOW = 4.0, 0.05
STEPS = (32, 64, 128, 256)
FLOWS = [name for name, s in SCHEMES.items() if not s.stochastic]
STOCHASTIC = [name for name, s in SCHEMES.items() if s.stochastic]


def gaussian(variances=VARIANCES):
    """The exact score of N(0, diag(r))."""
    r = torch.as_tensor(variances)
    return lambda x, t: -x / (r + t[:, None])


def order(steps, errors):
    """Minus the slope of log error against log steps."""
    return -np.polyfit(np.log(steps), np.log(np.abs(errors)), 1)[0]


def response(scheme, steps, rho=7.0):
    """Gain and noise variance of a linear run, with no sampling: the answer to a unit start and to each unit of noise."""
    N = len(VARIANCES)
    x = torch.zeros(steps + 1, N, dtype=torch.float64)
    x[0] = 1.0

    def kick(k):
        z = torch.zeros_like(x)
        z[k + 1] = 1.0
        return z

    noise = kick if SCHEMES[scheme].stochastic else None
    final = integrate(gaussian(), x, karras_levels(HIGH, LOW, steps, rho), scheme=scheme, noise=noise)
    return final[0].numpy(), final[1:].square().sum(0).numpy()


def exact_conditional():
    """Mean gain and variance at LOW given the state at HIGH, of the reverse SDE on N(0, r)."""
    gain = (VARIANCES + LOW) / (VARIANCES + HIGH)
    return gain, (VARIANCES + LOW) * (HIGH - LOW) / (VARIANCES + HIGH)


@pytest.mark.parametrize("name", FLOWS)
def test_flow_converges_at_its_order(name):
    exact = np.sqrt((VARIANCES + LOW) / (VARIANCES + HIGH))
    errors = np.array([response(name, n)[0] - exact for n in STEPS])
    for column in errors.T:
        assert order(STEPS, column) == pytest.approx(SCHEMES[name].weak_order, abs=0.15)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_conditional_law_converges_at_its_weak_order(name):
    gain, variance = exact_conditional()
    found = [response(name, n) for n in STEPS]
    worst = [max(np.abs(g - gain).max(), np.abs(v - variance).max()) for g, v in found]
    assert order(STEPS, worst) == pytest.approx(SCHEMES[name].weak_order, abs=0.15)


def test_edm_keeps_marginals_to_second_order():
    """Noise up and flow down both keep P_t, so only Heun's error is left in the marginal, whatever the churn."""
    exact = VARIANCES + LOW
    errors = []
    for n in STEPS:
        gain, variance = response("edm", n)
        errors.append(np.abs(gain**2 * (VARIANCES + HIGH) + variance - exact).max())
    assert order(STEPS, errors) == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_paths_converge_at_their_strong_order(name):
    """One Brownian path seen through steps of several lengths, against the path of 4096 steps."""
    B, finest = 64, 4096
    fine = karras_levels(HIGH, LOW, finest)
    increments = torch.from_numpy(np.random.default_rng(5).standard_normal((finest, B, len(VARIANCES))))
    increments *= torch.from_numpy(np.sqrt(-np.diff(fine)))[:, None, None]
    start = torch.from_numpy(np.random.default_rng(6).standard_normal((B, len(VARIANCES)))) * math.sqrt(HIGH)

    def run(scheme, n):
        levels = fine[:: finest // n]
        coarse = increments.reshape(n, finest // n, B, -1).sum(1)
        coarse /= torch.from_numpy(np.sqrt(-np.diff(levels)))[:, None, None]
        return integrate(gaussian(), start, levels, scheme=scheme, noise=lambda k: coarse[k])

    reference = run("stochastic-heun", finest)
    errors = [float((run(name, n) - reference).square().mean().sqrt()) for n in (16, 32, 64, 128)]
    assert order((16, 32, 64, 128), errors) == pytest.approx(SCHEMES[name].strong_order, abs=0.15)


def sampled_variance(scheme, seed=3, B=4000):
    start = np.random.default_rng(seed).standard_normal((B, 3)) * np.sqrt(VARIANCES + HIGH)
    final = integrate(gaussian(), start, karras_levels(HIGH, LOW, 400), scheme=scheme, seed=seed)
    return final.var(axis=0, ddof=0) + final.mean(axis=0) ** 2, B


@pytest.mark.parametrize("name", SCHEMES)
def test_final_variance_is_exact_within_its_error(name):
    """False-alarm probability 1e-4 a scheme (chi^2 with 3 x 4000 degrees of freedom, plus 0.5 % for the steps)."""
    found, B = sampled_variance(name)
    ratio = found / (VARIANCES + LOW)
    bound = norm.isf(1e-4 / 6) * math.sqrt(2 / B) + 0.005
    assert np.abs(ratio - 1).max() < bound


def test_the_variance_test_can_fail():
    """Half the noise, or the flow's drift with the SDE's noise, is caught."""

    def weak(score, x, t, u, z):
        return SCHEMES["euler-maruyama"].step(score, x, t, u, z / math.sqrt(2))

    def mixed(score, x, t, u, z):
        return SCHEMES["heun"].step(score, x, t, u, None) + (t - u).sqrt() * z

    for step in (weak, mixed):
        found, B = sampled_variance(Scheme("wrong", step, True, 1, 1, 1, False))
        assert np.abs(found / (VARIANCES + LOW) - 1).max() > 2 * (4 * math.sqrt(2 / B) + 0.005)


def test_a_single_point_is_reached_exactly_by_the_bridge():
    """The score of one training point: ancestral steps end at N(xi, u), whatever their number."""
    xi = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    start = xi + 2.0 * torch.from_numpy(np.random.default_rng(0).standard_normal((3000, 2)))
    for steps in (1, 7):
        levels = np.append(karras_levels(4.0, 0.04, steps), 0.0)
        seen = {}
        final = integrate(
            lambda x, t: (xi - x) / t[:, None],
            start,
            levels,
            scheme="ancestral",
            observe=lambda k, t, x, seen=seen: seen.update({k: x.clone()}),
        )
        assert torch.allclose(final, xi.expand_as(final), atol=1e-12)
        energy = float(((seen[steps] - xi) ** 2).sum() / 0.04)
        assert 1e-4 < chi2.sf(energy, 6000) < 1 - 1e-4


def test_levels_are_those_of_the_paper():
    sigma_max, sigma_min, rho, n = 80.0, 0.002, 7, 18
    k = np.arange(n)
    paper = (sigma_max ** (1 / rho) + k / (n - 1) * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho
    np.testing.assert_allclose(karras_levels(sigma_max**2, sigma_min**2, n - 1), paper**2, rtol=1e-12)
    own = karras_levels(np.array([4.0, 9.0]), 1e-3, 5, rho=np.inf)
    assert own.shape == (6, 2)
    np.testing.assert_allclose(own[:, 1], karras_levels(9.0, 1e-3, 5, rho=np.inf), rtol=1e-14)


def test_numbers_depend_on_the_seed_alone():
    x, levels = np.ones((7, 3)), karras_levels(HIGH, LOW, 10)
    calls = []
    one = integrate(gaussian(), x, levels, scheme="edm", seed=4, progress=lambda done, of: calls.append((done, of)))
    parts = integrate(gaussian(), torch.from_numpy(x), levels[:, None].repeat(7, 1), scheme="edm", seed=4, batch=3)
    assert isinstance(one, np.ndarray)
    np.testing.assert_allclose(one, parts.numpy(), rtol=1e-13)
    assert calls == [(k, 10) for k in range(1, 11)]
    assert np.abs(one - integrate(gaussian(), x, levels, scheme="edm", seed=5)).max() > 0.01
    # trajectories with levels of their own are those run alone
    mixed = karras_levels(np.array([4.0, 2.0]), np.array([0.1, 0.2]), 10)
    both = integrate(gaussian(), x[:2], mixed, scheme="heun")
    alone = integrate(gaussian(), x[:1], mixed[:, 1], scheme="heun")
    np.testing.assert_allclose(both[1:], alone, rtol=1e-13)
    assert integrate(gaussian(), x.astype(np.float32), levels).dtype == np.float32


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"scheme": "rk4"}, "scheme"),
        ({"levels": [1.0, 1.0]}, "levels"),
        ({"levels": [1.0]}, "levels"),
        ({"levels": np.ones((3, 4)).cumsum(0)[::-1]}, "levels"),
        ({"levels": [1.0, 0.0], "scheme": "euler-maruyama"}, "levels"),
        ({"x": np.ones(3)}, "x"),
        ({"x": [[np.nan, 1.0, 1.0]]}, "x"),
        ({"score": lambda x, t: x[:, :1]}, "score"),
        ({"score": lambda x, t: x * math.inf}, "score"),
        ({"score": 1.0}, "score"),
        ({"batch": 0}, "batch"),
        ({"noise": lambda k: torch.zeros(1), "scheme": "edm"}, "noise"),
    ],
)
def test_bad_arguments_are_named(change, named):
    arguments = {"score": gaussian(), "x": np.ones((2, 3)), "levels": [1.0, 0.5], **change}
    with pytest.raises(DomainError) as caught:
        integrate(arguments.pop("score"), arguments.pop("x"), arguments.pop("levels"), **arguments)
    assert caught.value.argument.startswith(named)


@pytest.mark.parametrize(
    "arguments", [(1.0, 2.0, 5), (1.0, 0.0, 5, math.inf), (-1.0, 0.1, 5), (1.0, 0.1, 0), (1.0, 0.1, 5, 0.0)]
)
def test_bad_schedules_are_named(arguments):
    with pytest.raises(DomainError):
        karras_levels(*arguments)
