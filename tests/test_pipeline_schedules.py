"""Every scheduler's convention of noise: the score is (x0 - x)/t with the x0 that the scheduler itself makes."""

import importlib.util
import math

import numpy as np
import pytest
import torch

from numerics.domain import DomainError
from validation.networks import Denoiser as OwnDenoiser
from validation.networks import DenoisingModel, DiffusersScore, ModelScore, NetworkScore, ResidualMLP, Scale
from validation.networks.pipelines import schedule_of

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # of diffusers, with numpy 2

X = torch.randn(3, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
IMAGES = X.reshape(3, 1, 8, 8)


def unet(**options):
    torch.manual_seed(0)
    sizes = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "norm_num_groups": 4}
    blocks = {"block_out_channels": (8,), "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    net = diffusers.UNet2DModel(**sizes | blocks | {"add_attention": False} | options)
    return torch.nn.Module.to(net, torch.float64).eval()


def asked(net, y, level):
    """What the network answers where the scheduler's own loop would ask it."""
    with torch.no_grad():
        return net(y, torch.as_tensor(level, dtype=torch.float64)).sample


# Each gives (t, x in variance-exploding units, x0 of the scheduler) at places of its own schedule.


def by_step(scheduler, net, k):
    """Schedulers in VE units whose step tells its x0: Euler, Heun, EDM's Euler."""
    sigma, place = float(scheduler.sigmas[k].double()), scheduler.timesteps[k]
    x = sigma * IMAGES
    scheduler._step_index = k
    answer = asked(net, scheduler.scale_model_input(x, place), place)
    return sigma**2, x, scheduler.step(answer, place, x).pred_original_sample


def by_preconditioning(scheduler, net, k):
    sigma = scheduler.sigmas[k].double()
    x = float(sigma) * IMAGES
    answer = asked(net, scheduler.precondition_inputs(x, sigma), scheduler.precondition_noise(sigma))
    return float(sigma) ** 2, x, scheduler.precondition_outputs(x, answer, sigma)


def by_flow(scheduler, net, k):
    """x0 is where a straight line from y along the scheduler's own step meets s = 0."""
    while scheduler.sigmas[k] == scheduler.sigmas[k + 1]:  # Heun has every level twice
        k += 1
    s, after, place = scheduler.sigmas[k].double(), scheduler.sigmas[k + 1].double(), scheduler.timesteps[k]
    y = IMAGES.clone()
    scheduler._step_index, scheduler.dt = k, None
    moved = scheduler.step(asked(net, y, place), place, y).prev_sample.double()
    x0 = y - s * (moved - y) / (after - s)
    return float((s / (1 - s)) ** 2), y / (1 - s), x0


def by_conversion(scheduler, net, k):
    """Multistep solvers with flow sigmas, asked at 1000 s, which they themselves cut to an integer."""
    s = scheduler.sigmas[k].double()
    scheduler._step_index = k
    x0 = scheduler.convert_model_output(asked(net, IMAGES, 1000 * s), sample=IMAGES)
    return float((s / (1 - s)) ** 2), IMAGES / (1 - s), x0


CASES = [
    ("EulerDiscreteScheduler", {"use_karras_sigmas": True}, by_step, {}),
    ("EulerDiscreteScheduler", {"timestep_type": "continuous", "prediction_type": "v_prediction"}, by_step, {}),
    (
        "EulerDiscreteScheduler",
        {"timestep_type": "continuous", "prediction_type": "v_prediction", "sigma_min": 0.002, "sigma_max": 700.0}
        | {"use_karras_sigmas": True},
        by_step,
        {},
    ),
    ("EulerDiscreteScheduler", {"timestep_type": "continuous"}, by_step, {}),
    ("HeunDiscreteScheduler", {"use_karras_sigmas": True}, by_step, {}),
    ("HeunDiscreteScheduler", {"prediction_type": "v_prediction"}, by_step, {}),
    ("HeunDiscreteScheduler", {"prediction_type": "sample"}, by_step, {}),
    ("EDMEulerScheduler", {}, by_step, {}),
    ("EDMEulerScheduler", {"prediction_type": "v_prediction", "sigma_data": 1.3}, by_step, {}),
    ("EDMEulerScheduler", {"sigma_schedule": "exponential"}, by_step, {}),
    ("EDMDPMSolverMultistepScheduler", {"sigma_data": 0.7}, by_preconditioning, {}),
    pytest.param(
        *("CosineDPMSolverMultistepScheduler", {}, by_preconditioning, {}),
        marks=pytest.mark.skipif(
            importlib.util.find_spec("torchsde") is None, reason="diffusers wants torchsde for it"
        ),
    ),
    ("FlowMatchEulerDiscreteScheduler", {}, by_flow, {}),
    ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, by_flow, {}),
    ("FlowMatchEulerDiscreteScheduler", {"use_karras_sigmas": True}, by_flow, {}),
    ("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True}, by_flow, {"mu": 0.7}),
    ("FlowMatchHeunDiscreteScheduler", {"shift": 2.0}, by_flow, {}),
    ("UniPCMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}, by_conversion, {}),
    (
        "DPMSolverMultistepScheduler",
        {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0},
        by_conversion,
        {},
    ),
    ("UniPCMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "epsilon"}, by_conversion, {}),
]


@pytest.mark.parametrize(("kind", "options", "place", "more"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_score_is_that_of_the_schedulers_own_x0(kind, options, place, more):
    scheduler, net = getattr(diffusers, kind)(**options), unet()
    face = DiffusersScore(net, scheduler)
    scheduler.set_timesteps(12, **more)
    checked = 0
    # sigmas are float32; Euler and Heun with plain steps interpolate sigma, not its logarithm, between trained timesteps
    between = place is by_step and not kind.startswith("EDM") and "use_karras_sigmas" not in options
    for k in (1, 5, 8, 10):
        t, x, x0 = place(scheduler, net, k)
        if not face.t_range[0] <= t <= face.t_range[1]:
            continue
        checked += 1
        denoised = face.denoised(x.flatten(1), t)
        allowed, share = (2e-5 * (1 + t**0.5), 1e-4) if between else (1e-6 * (1 + t**0.5), 4e-5)
        torch.testing.assert_close(denoised, x0.double().flatten(1), rtol=share, atol=allowed)
        if t > 0.01:  # the comparison sees a twentieth of t
            wrong = face.denoised(x.flatten(1), t / 1.05)
            assert (wrong - x0.flatten(1)).abs().max() > 2 * (allowed + share * x0.abs().max())
    assert checked >= 3


def test_score_sde_predicts_the_score_itself():
    scheduler, net = diffusers.ScoreSdeVeScheduler(sigma_max=50.0), unet(time_embedding_type="fourier")
    face = DiffusersScore(net, scheduler)
    assert face.t_range == pytest.approx((0.01**2, 50.0**2))
    scheduler.set_timesteps(100)
    scheduler.set_sigmas(100)
    for k in (10, 50, 90):
        sigma = float(scheduler.discrete_sigmas[99 - k].double())
        with torch.no_grad():
            answer = net(IMAGES, torch.tensor([sigma] * 3, dtype=torch.float64)).sample
        moved = scheduler.step_pred(answer, scheduler.timesteps[k], IMAGES).prev_sample_mean
        index = int((scheduler.timesteps[k] * 99).long())
        gap = scheduler.discrete_sigmas[index].double() ** 2 - scheduler.discrete_sigmas[index - 1].double() ** 2
        score = ((moved - IMAGES) / gap).flatten(1)
        assert index == 99 - k or abs(index - (99 - k)) == 1  # float32 times 99, cut off
        sigma = float(scheduler.discrete_sigmas[index].double())
        with torch.no_grad():
            answer = net(IMAGES, torch.tensor([sigma] * 3, dtype=torch.float64)).sample.flatten(1)
        torch.testing.assert_close(face.score(X, sigma**2), answer, rtol=1e-5, atol=1e-8)
        if index == 99 - k:
            torch.testing.assert_close(face.score(X, sigma**2), score, rtol=1e-2, atol=1e-5)


def test_noise_outside_the_training_is_an_error():
    for scheduler, inside in (
        (diffusers.EDMEulerScheduler(), (0.002**2, 80.0**2)),
        (diffusers.FlowMatchEulerDiscreteScheduler(), ((1 / 999) ** 2, 999.0**2)),
    ):
        face = DiffusersScore(unet(), scheduler)
        assert face.t_range == pytest.approx(inside, rel=1e-3)
        for t in (inside[0] / 2, 2 * inside[1]):
            with pytest.raises(DomainError, match="scheduler's timesteps"):
                face.score(X, t)


def test_small_noise_does_not_cancel():
    """At t = 1e-6 flow and EDM scores keep their digits in float64, where (D - x)/t would have lost ten."""
    net = unet()
    for face in (
        ModelScore(net, predicts="velocity", convention="flow", shape=(1, 8, 8)),
        ModelScore(net, predicts="edm", convention="edm", sigma_data=0.5, shape=(1, 8, 8)),
    ):
        t = 1e-6
        low, high = face.score(X, t), face.score(X, t * (1 + 1e-9))
        assert (low - high).abs().max() < 1e-7 * low.abs().max()


def test_plain_torch_in_the_new_conventions_is_the_exact_score():
    """Gaussian data of variance r: the networks that are optimal there, written by hand."""
    r, t = 0.7, 0.3
    x, exact = X, -X / (t + r)

    def velocity(y, s):
        s = s[:, None]
        gain = (s - (1 - s) * r) / ((1 - s) ** 2 * r + s**2)
        return gain * y

    def inside(y, c):
        sigma, d = torch.exp(4 * c)[:, None], 0.5
        total = (sigma**2 + d**2).sqrt()
        x = y * total
        return (x * r / (r + sigma**2) - x * d**2 / total**2) * total / (sigma * d)

    flow = ModelScore(velocity, predicts="velocity", convention="flow")
    edm = ModelScore(inside, predicts="edm", convention="edm", sigma_data=0.5)
    for face in (flow, edm):
        torch.testing.assert_close(face.score(x, t), exact, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(face.denoised(x, t), x * r / (r + t), rtol=1e-10, atol=1e-12)
    shifted = flow.rescaled(3.0, 2.0)
    torch.testing.assert_close(shifted.score(3 + 2 * x, 4 * t), exact / 2, rtol=1e-10, atol=1e-12)
    for bad in (
        {"predicts": "velocity", "convention": "ddpm"},
        {"predicts": "v", "convention": "flow"},
        {"predicts": "edm", "convention": "vp"},
    ):
        with pytest.raises(DomainError):
            ModelScore(velocity, **bad)


def test_one_face_for_every_network():
    own = NetworkScore(OwnDenoiser(ResidualMLP(64, width=4), (64,), [Scale(0.0, 1.0)]))
    theirs = DiffusersScore(unet(), diffusers.EDMEulerScheduler(), centre=0.5, unit=0.5)
    for face in (own, theirs, ModelScore(lambda y, t: y, predicts="noise")):
        assert isinstance(face, DenoisingModel)
        whole = face.denoised(X, 0.3)
        torch.testing.assert_close(whole, X + 0.3 * face.score(X, 0.3))
        for k in range(3):  # a point's value does not hang on its company
            torch.testing.assert_close(face.denoised(X[k : k + 1], 0.3)[0], whole[k], rtol=1e-9, atol=1e-11)
    assert (theirs.centre, theirs.unit, theirs.shape) == (0.5, 0.5, (1, 8, 8))
    assert theirs.t_range == pytest.approx((0.25 * 0.002**2, 0.25 * 80.0**2))
    assert own.t_range == (0.0, math.inf)


def test_schedules_tell_what_they_are():
    assert schedule_of(diffusers.EDMEulerScheduler()).kind == "EDM, sigma_data 0.5"
    assert schedule_of(diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)).kind == "flow matching, shift 3"
    assert schedule_of(diffusers.HeunDiscreteScheduler()).kind == "1000 timesteps"
    with pytest.raises(DomainError, match="integer timesteps"):
        _ = DiffusersScore(unet(), diffusers.EDMEulerScheduler()).log_t
    assert np.diff(DiffusersScore(unet(), diffusers.DDPMScheduler()).log_t).min() > 0
