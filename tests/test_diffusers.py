"""DiffusersScore on the package itself: schedulers' own algebra, saved pipelines, Jacobians, samples, training, bad input."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from numerics.domain import DomainError
from theory.noise import t_from_alpha_bar
from validation.audit.networks import audit_pipeline
from validation.networks import DiffusersScore, is_pipeline, pipeline_mark
from validation.simulation.trajectories import integrate, karras_levels
from validation.spectra.observables import jacobian_spectrum

diffusers = pytest.importorskip("diffusers")

X = torch.randn(3, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def unet(dtype=torch.float64, seed=0, **options):
    """A real UNet2DModel with attention, as small as they come: 8 x 8 images of one channel."""
    torch.manual_seed(seed)
    net = diffusers.UNet2DModel(
        **{
            "sample_size": 8,
            "in_channels": 1,
            "out_channels": 1,
            "layers_per_block": 1,
            "block_out_channels": (8, 16),
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
            "norm_num_groups": 4,
        }
        | options
    )
    return torch.nn.Module.to(net, dtype).eval()


def noise_of(scheduler, step):
    return float(t_from_alpha_bar(scheduler.alphas_cumprod[step].double().item()))


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("kind", ["DDPMScheduler", "DDIMScheduler"])
def test_score_is_that_of_the_schedulers_own_step(kind, prediction):
    """s = (x0 - x)/t with the x0 that scheduler.step itself makes of the network's answer, at trained timesteps."""
    scheduler = getattr(diffusers, kind)(prediction_type=prediction, clip_sample=False)
    scheduler.set_timesteps(1000)
    net = unet()
    face = DiffusersScore(net, scheduler)
    wrong = DiffusersScore(
        net, type(scheduler)(prediction_type="sample" if prediction != "sample" else "epsilon", clip_sample=False)
    )
    for step in (5, 300, 900):
        t = noise_of(scheduler, step)
        y = X / (1 + t) ** 0.5
        with torch.no_grad():
            out = net(y.reshape(3, 1, 8, 8), step).sample
        x0 = scheduler.step(out, step, y.reshape(3, 1, 8, 8)).pred_original_sample.flatten(1)
        expected = (x0 - X) / t
        # diffusers keeps alphas_cumprod in float32: x0 is good to 1e-6 of |x| sqrt(t), and the difference cancels
        scale = 1e-5 * (1 + t**0.5) / t
        torch.testing.assert_close(face.score(X, t), expected, rtol=1e-4, atol=scale)
        assert (wrong.score(X, t) - expected).abs().max() > 100 * scale


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of diffusers, with numpy 2
def test_score_is_that_of_euler_in_its_own_units():
    """Euler's samples are x itself (variance exploding), scaled on the way into the network."""
    scheduler = diffusers.EulerDiscreteScheduler(timestep_spacing="trailing")
    scheduler.set_timesteps(1000)
    net, step = unet(), 400
    face = DiffusersScore(net, scheduler)
    place = scheduler.timesteps[999 - step]
    assert place == step
    t = float(scheduler.sigmas[999 - step].double()) ** 2
    assert t == pytest.approx(noise_of(scheduler, step), rel=1e-5)
    x = X.reshape(3, 1, 8, 8)
    with torch.no_grad():
        out = net(scheduler.scale_model_input(x, place), place).sample
    x0 = scheduler.step(out, place, x).pred_original_sample.double().flatten(1)
    torch.testing.assert_close(face.score(X, t), (x0 - X) / t, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "kind", ["PNDMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler"]
)
def test_the_scheduler_does_not_matter_only_its_noise(kind):
    reference = DiffusersScore(unet(), diffusers.DDPMScheduler())
    face = DiffusersScore(unet(), getattr(diffusers, kind)())
    assert torch.equal(face.score(X, 0.3), reference.score(X, 0.3))


def test_timesteps_between_trained_ones():
    scheduler = diffusers.DDPMScheduler()
    face, nearest = DiffusersScore(unet(), scheduler), DiffusersScore(unet(), scheduler, timestep="nearest")
    low, high = noise_of(scheduler, 300), noise_of(scheduler, 301)
    assert face.timestep(low) == pytest.approx(300, abs=1e-6)
    assert face.timestep((low * high) ** 0.5) == pytest.approx(300.5, abs=1e-6)
    torch.testing.assert_close(nearest.score(X, low), face.score(X, low), rtol=1e-6, atol=1e-9)
    assert nearest.timestep(low**0.6 * high**0.4) == 300
    with pytest.raises(DomainError, match="timesteps"):
        face.score(X, 1e-6)


def test_half_precision_does_not_round_timesteps():
    """In bfloat16 513 is 512; the step that reaches the network must be the one that was asked for."""
    seen = []

    class Listening(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones((), dtype=torch.bfloat16))

        def forward(self, y, step):
            seen.append(step)
            return self.weight * y

    scheduler = diffusers.DDPMScheduler()
    for timestep, dtype in (("fractional", torch.float32), ("nearest", torch.long)):
        face = DiffusersScore(Listening(), scheduler, shape=(1, 8, 8), timestep=timestep)
        face.score(X, noise_of(scheduler, 513))
        assert seen[-1].dtype == dtype
        assert seen[-1].tolist() == pytest.approx([513] * 3, abs=1e-3)
    exact = DiffusersScore(unet(), scheduler).score(X, 0.3)
    rough = DiffusersScore(unet(torch.bfloat16), scheduler).score(X, 0.3)
    assert (rough - exact).abs().max() < 0.05 * exact.abs().max()


def test_jacobian_through_attention_is_the_derivative():
    face = DiffusersScore(unet(), diffusers.DDPMScheduler(prediction_type="v_prediction"))
    t, step = 0.3, 1e-5
    J = face.jacobian(X[:1], t)[0]
    for i in (0, 17, 63):
        e = step * torch.eye(64, dtype=torch.float64)[i]
        difference = (face.score(X[:1] + e, t) - face.score(X[:1] - e, t))[0] / (2 * step)
        torch.testing.assert_close(difference, J[:, i], rtol=1e-5, atol=1e-7)
    values = jacobian_spectrum(face, X[:1], t)[0][0]
    symmetric = torch.linalg.eigvalsh(-t * (J + J.T) / 2).flip(0).numpy()
    assert values == pytest.approx(symmetric, abs=1e-9)


def test_learned_variance_and_learned_embedding():
    scheduler = diffusers.DDPMScheduler(variance_type="learned_range")
    net = unet(out_channels=2)
    t = noise_of(scheduler, 200)
    y = (X / (1 + t) ** 0.5).reshape(3, 1, 8, 8)
    with torch.no_grad():
        out = net(y, 200).sample[:, :1].flatten(1)
    torch.testing.assert_close(DiffusersScore(net, scheduler).score(X, t), -out / t**0.5, rtol=1e-5, atol=1e-6)
    net = unet(time_embedding_type="learned", num_train_timesteps=1000)
    face = DiffusersScore(net, diffusers.DDPMScheduler())
    assert torch.isfinite(face.score(X, 0.3)).all()
    with pytest.raises(DomainError, match="nearest"):
        DiffusersScore(net, diffusers.DDPMScheduler(), timestep="fractional")


@pytest.mark.parametrize("kind", ["DDIMScheduler", "DDPMScheduler", "EulerDiscreteScheduler"])
def test_a_last_timestep_without_signal_is_left_out(kind):
    scheduler = getattr(diffusers, kind)(rescale_betas_zero_snr=True, prediction_type="v_prediction")
    face = DiffusersScore(unet(), scheduler)
    assert len(face.log_t) == 999
    assert face.t_range[1] == pytest.approx(noise_of(scheduler, 998))
    assert torch.isfinite(face.score(X, 100.0)).all()


@pytest.mark.slow
def test_samples_are_those_of_ddim():
    """Both follow the probability flow: DDIM's first-order steps against Heun's, apart by 0.2 % of a sample's size."""
    scheduler = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(500)
    net, y = unet(), X.reshape(3, 1, 8, 8)
    for step in scheduler.timesteps:
        with torch.no_grad():
            y = scheduler.step(net(y, step).sample, step, y).prev_sample
    theirs = y.double().flatten(1)
    for prediction, within in (("epsilon", True), ("v_prediction", False)):
        face = DiffusersScore(net, diffusers.DDIMScheduler(prediction_type=prediction))
        low, high = face.t_range
        levels = np.append(karras_levels(high * (1 - 1e-7), low * (1 + 1e-7), 75), 0.0)
        ours = integrate(
            lambda x, t, face=face: face.score(x, float(t[0])), X * (1 + high) ** 0.5, levels, scheme="heun"
        )
        assert ((ours - theirs).norm() < 0.005 * theirs.norm()) == within


# --- saved pipelines --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline") / "digits-ddpm"
    diffusers.DDPMPipeline(unet(torch.float32), diffusers.DDPMScheduler()).save_pretrained(folder)
    return folder


def test_a_saved_pipeline_is_the_network_it_was(saved):
    net = unet(torch.float32)
    face = DiffusersScore.from_pretrained(saved)
    assert face.dtype == torch.float32
    assert torch.equal(face.score(X, 0.3), DiffusersScore(net, diffusers.DDPMScheduler()).score(X, 0.3))
    double = DiffusersScore.from_pretrained(saved, dtype=torch.float64)
    torch.testing.assert_close(double.score(X, 0.3), face.score(X, 0.3), rtol=1e-3, atol=1e-4)
    halved = DiffusersScore.from_pretrained(saved, centre=0.5, unit=0.5)
    torch.testing.assert_close(halved.score(0.5 + X / 2, 0.3 / 4), 2 * face.score(X, 0.3), rtol=1e-4, atol=1e-4)
    assert halved.t_range == pytest.approx([t / 4 for t in face.t_range])


def test_what_the_page_on_models_shows_runs(saved, tmp_path, monkeypatch):
    page = (Path(__file__).parents[1] / "docs" / "models.md").read_text()
    (shown,) = [part for part in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "from_pretrained" in part]
    shutil.copytree(saved, tmp_path / "ddpm-digits")
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(shown, found)
    assert found["values"].shape == (1, 64)
    assert np.isfinite(found["values"]).all()


def test_marks_tell_pipelines_apart(saved, tmp_path):
    assert is_pipeline(saved)
    assert not is_pipeline(tmp_path)
    diffusers.DDPMPipeline(unet(torch.float32, seed=1), diffusers.DDPMScheduler()).save_pretrained(tmp_path / "other")
    assert pipeline_mark(saved) == pipeline_mark(saved) != pipeline_mark(tmp_path / "other")


def test_spectrum_and_audit_of_a_saved_pipeline(saved, tmp_path, monkeypatch):
    from validation.spectrum.command import run

    monkeypatch.setattr("validation.figures.save", lambda figure, path: path)  # drawn, not rendered: that takes seconds
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.uniform(-1, 1, (60, 8, 8)).astype(np.float32))
    arguments = {"model": saved, "points": 4, "probes": 2}
    ((result, _),) = run(tmp_path / "x.npy", tmp_path / "s.png", **arguments)
    assert "network" in result["score"]
    assert np.isfinite(result["eigenvalue"].sel(score="network")).all()
    assert result.attrs["data"].startswith("digits-ddpm on ")
    P, losses = audit_pipeline(saved, tmp_path / "x.npy", points=20)
    assert P == 54
    assert np.isfinite(losses["network"]).all()
    assert (losses["label"] == "unconverged").all()
    np.save(tmp_path / "dark.npy", 1e-4 * np.load(tmp_path / "x.npy"))
    np.save(tmp_path / "large.npy", rng.uniform(-1, 1, (30, 9, 9)).astype(np.float32))
    for data, options, match in (
        ("large.npy", {}, r"\(1, 9, 9\); its own are \(1, 8, 8\)"),
        ("dark.npy", {}, "pixels on its scale"),
        ("x.npy", {"sigmas": (1e-3, 1.0)}, "--sigma.*network knows"),
        (None, {"subspaces": "2:1,2:0.1"}, "--subspaces"),
    ):
        with pytest.raises(DomainError, match=match):
            run(None if data is None else tmp_path / data, tmp_path / "s.png", **arguments | options)


def test_command_takes_a_pipeline(geomem, saved):
    done = geomem("audit", "--model", saved, "--probes", 8)
    assert done.returncode == 0, done.stderr
    assert "P = 1618" in done.stdout
    assert "unconverged" in done.stdout


# --- bad input --------------------------------------------------------------------------------------------------------


def _write(folder, index):
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda at: DiffusersScore(unet(), diffusers.IPNDMScheduler()), "alphas_cumprod.*ModelScore"),
        (lambda at: DiffusersScore(unet(), diffusers.CMStochasticIterativeScheduler()), "consistency model"),
        (
            lambda at: DiffusersScore(unet(), diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True)),
            "invert_sigmas.*ModelScore",
        ),
        (
            lambda at: DiffusersScore(
                unet(), SimpleNamespace(config={"prediction_type": "flow"}, alphas_cumprod=[0.9, 0.1])
            ),
            "prediction_type",
        ),
        (
            lambda at: DiffusersScore(
                unet(), SimpleNamespace(config={"prediction_type": "sample"}, alphas_cumprod=[0.1, 0.9])
            ),
            "decreasing",
        ),
        (lambda at: DiffusersScore(unet(num_class_embeds=3), diffusers.DDPMScheduler()), "num_class_embeds.*Wrap"),
        (lambda at: DiffusersScore(unet(sample_size=None), diffusers.DDPMScheduler()), "shape"),
        (lambda at: DiffusersScore(unet(), diffusers.DDPMScheduler(), timestep="last"), "timestep"),
        (lambda at: DiffusersScore(unet(), diffusers.DDPMScheduler()).score(X[:, :9], 1.0), "x = "),
        (lambda at: DiffusersScore.from_pretrained(at / "nothing"), "save_pretrained"),
        (
            lambda at: DiffusersScore.from_pretrained(
                _write(at / "latent", {"_class_name": "A", "vae": [], "unet": []})
            ),
            "pipeline of one unet or transformer",
        ),
    ],
)
def test_bad_input_names_the_argument(call, match, tmp_path):
    with pytest.raises(DomainError, match=match):
        call(tmp_path)


def test_diffusers_missing_is_said(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(DomainError, match="pip install diffusers"):
        DiffusersScore.from_pretrained(tmp_path)


# --- trained ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_trained_unet_has_nearly_the_exact_score():
    """Gaussian pixels of variance 1/4, diffusers' own loss: the score is that of the Gaussian, -x/(t + 1/4), to some percent."""
    torch.manual_seed(0)
    scheduler = diffusers.DDPMScheduler()
    net = unet(torch.float32, block_out_channels=(16, 16)).train()
    steps = 400
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        clean, noise = 0.5 * torch.randn(32, 1, 8, 8), torch.randn(32, 1, 8, 8)
        at = torch.randint(0, 1000, (32,))
        loss = (net(scheduler.add_noise(clean, noise, at), at).sample - noise).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    face = DiffusersScore(net, scheduler)
    wrong = DiffusersScore(net, diffusers.DDPMScheduler(prediction_type="sample"))
    for t, within in ((0.05, 0.25), (0.25, 0.1), (2.0, 0.1)):  # measured 0.13, 0.04, 0.04
        x = (t + 0.25) ** 0.5 * torch.randn(200, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        exact = -x / (t + 0.25)
        assert (face.score(x, t) - exact).norm() < within * exact.norm()
        assert (wrong.score(x, t) - exact).norm() > 1.5 * within * exact.norm()
        values = jacobian_spectrum(face, x[:4], t)[0]
        assert values.mean() == pytest.approx(t / (t + 0.25), rel=within)
