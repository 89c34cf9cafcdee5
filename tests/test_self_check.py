"""The check that runs first: optimal networks read wrong in every way, and the way that is named is the right one."""

import numpy as np
import pytest
import torch
from optimal_networks import Gaussian, ddpm

from numerics.domain import DomainError
from validation.data import load
from validation.networks import DiffusersScore, ModelScore
from validation.networks.pipelines import check_conventions, readings

diffusers = pytest.importorskip("diffusers")

DIGITS = load().X.astype(np.float64)  # in [-1, 1]


WRONG = [  # what it predicts, how it is read, what is named
    ("noise", "x0", "prediction_type epsilon"),
    ("noise", "v", "prediction_type epsilon"),
    ("x0", "noise", "prediction_type sample"),
    ("x0", "v", "prediction_type sample"),
    ("v", "noise", "prediction_type v_prediction"),
    ("v", "x0", "prediction_type v_prediction"),
    ("-v", "v", "prediction_type v_prediction with the opposite sign"),
]


@pytest.mark.parametrize(("truth", "read", "named"), WRONG)
def test_wrong_prediction_type(truth, read, named):
    face = ModelScore(Gaussian(DIGITS, truth, ddpm, lambda a: 1 / a - 1), predicts=read, convention="ddpm")
    best = readings(face, DIGITS)[0]
    assert (best.kind, best.name) == ("prediction", named)
    assert best.ratio < 0.9
    assert len(best.levels) == 3
    with pytest.raises(DomainError, match=named):
        check_conventions(face, DIGITS)


def test_wrong_direction_of_a_flow():
    net = Gaussian(DIGITS, "-velocity", lambda t: 1 / (1 + t**0.5), lambda s: (s / (1 - s)) ** 2)
    face = ModelScore(net, predicts="velocity", convention="flow")
    with pytest.raises(DomainError, match="flow_prediction with the opposite sign"):
        check_conventions(face, DIGITS)


@pytest.mark.parametrize("truth", ["sigma", "t", "c_noise", "log_snr"])
@pytest.mark.parametrize("read", ["sigma", "t"])
def test_wrong_convention_of_noise(truth, read):
    noise_of = {
        "sigma": lambda s: s**2,
        "t": lambda t: t,
        "c_noise": lambda c: torch.exp(8 * c),
        "log_snr": lambda x: torch.exp(-x),
    }[truth]
    face = ModelScore(Gaussian(DIGITS, "x0", lambda t: 1.0, noise_of), predicts="x0", condition=read)
    if truth == read:
        assert check_conventions(face, DIGITS) == ""
        return
    best = readings(face, DIGITS)[0]
    assert best.name == f"noise given as {truth}"
    own = next(r for r in readings(face, DIGITS) if r.kind == "as given")
    if own.ratio > 0.9:
        with pytest.raises(DomainError, match=f"noise given as {truth}"):
            check_conventions(face, DIGITS)


@pytest.mark.parametrize(("truth", "read"), [("squaredcos_cap_v2", "linear"), ("linear", "squaredcos_cap_v2")])
def test_wrong_schedule_of_a_pipeline(truth, read):
    bars = diffusers.DDPMScheduler(beta_schedule=truth).alphas_cumprod.double().numpy()
    log_t = np.log((1 - bars) / bars)
    net = Gaussian(DIGITS, "noise", ddpm, lambda k: np.exp(np.interp(float(k), np.arange(1000), log_t)))
    wrong = DiffusersScore(net, diffusers.DDPMScheduler(beta_schedule=read), shape=(1, 8, 8))
    right = DiffusersScore(net, diffusers.DDPMScheduler(beta_schedule=truth), shape=(1, 8, 8))
    assert check_conventions(right, DIGITS) == ""
    best = readings(wrong, DIGITS)[0]
    assert (best.kind, best.name) == ("noise", f"beta_schedule {truth}")


def colours(seed=0, grey=False):
    """Smooth images (300, 3 x 5 x 5) whose channels differ in mean and in size, in [-1, 1]."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(300, 1, 1, 1)) + 0.3 * rng.normal(size=(300, 1, 5, 5))
    gains = np.ones(3) if grey else np.array([1.0, 0.6, 0.2])
    shifts = np.zeros(3) if grey else np.array([0.3, 0.0, -0.4])
    images = 0.2 * gains[:, None, None] * base + shifts[:, None, None] + 0.02 * rng.normal(size=(300, 3, 5, 5))
    return np.clip(images, -1, 1)


def coloured_face(flat):
    net = Gaussian(flat, "noise", ddpm, lambda a: 1 / a - 1)
    return ModelScore(net, predicts="noise", convention="ddpm", shape=(3, 5, 5))


def test_swapped_channels_are_seen_and_grey_ones_are_not():
    images = colours()
    flat = images.reshape(300, -1)
    face = coloured_face(flat)
    assert check_conventions(face, flat) == ""
    for bad, named in (
        (images[:, ::-1].reshape(300, -1), "channels reversed"),
        (images.transpose(0, 2, 3, 1).reshape(300, -1), "channels last"),
    ):
        assert readings(face, bad)[0].name.startswith(named)
        with pytest.raises(DomainError, match=named):
            check_conventions(face, bad)
    for seed in range(5):
        grey = colours(seed, grey=True)
        flat = grey.reshape(300, -1)
        face = coloured_face(flat)
        assert check_conventions(face, flat) == ""
        assert check_conventions(face, grey[:, ::-1].reshape(300, -1)) == ""


def test_a_network_that_has_learned_nothing_is_no_mistake():
    torch.manual_seed(0)
    net = torch.nn.Linear(64, 64).double()
    said = check_conventions(ModelScore(lambda y, level: net(y), predicts="noise", convention="ddpm"), DIGITS)
    assert said.startswith("on no usual scale of pixels")


def test_pixels_come_first():
    face = ModelScore(Gaussian(DIGITS, "noise", ddpm, lambda a: 1 / a - 1), predicts="noise", convention="ddpm")
    with pytest.raises(DomainError, match=r"--centre 127\.5 --unit 127\.5"):
        check_conventions(face, 127.5 * (DIGITS + 1))
