"""Folders as diffusers and its training scripts leave them, and pixels on every scale: read right, or refused with what to give.

Real networks of the package, 8 x 8 pixels. Each remedy that a message offers is taken from the message and run.
"""

import json
import re
import shlex
import shutil

import numpy as np
import pytest
import torch

from numerics.domain import DomainError
from validation.data import load
from validation.networks import DiffusersScore, ModelScore, check_scale, pipeline_mark, pixel_scales
from validation.networks.pipelines.saved import contents, load_scheduler

diffusers = pytest.importorskip("diffusers")
from diffusers.training_utils import EMAModel  # noqa: E402 (after the check that diffusers is there)

DIGITS = load().X.astype(np.float64)  # in [-1, 1]
X = torch.randn(3, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def unet(seed=0, **options):
    torch.manual_seed(seed)
    sizes = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "norm_num_groups": 4}
    blocks = {"block_out_channels": (8,), "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    return diffusers.UNet2DModel(**sizes | blocks | {"add_attention": False} | options).eval()


@pytest.fixture(scope="module")
def trained():
    """A network that has learned a little of the digits, in [-1, 1], by diffusers' own loss."""
    net, scheduler = unet(), diffusers.DDPMScheduler()
    pixels = torch.from_numpy(DIGITS).float().reshape(-1, 1, 8, 8)
    optimiser, generator = torch.optim.Adam(net.train().parameters(), 1e-2), torch.Generator().manual_seed(0)
    for _ in range(150):
        x = pixels[torch.randint(len(pixels), (64,), generator=generator)]
        noise, step = torch.randn(x.shape, generator=generator), torch.randint(1000, (64,), generator=generator)
        loss = (net(scheduler.add_noise(x, noise, step), step).sample - noise).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net.eval()


@pytest.fixture(scope="module")
def project(tmp_path_factory, trained):
    """What train_unconditional.py leaves: a pipeline at the end, and on the way checkpoints of accelerate."""
    home = tmp_path_factory.mktemp("output")
    for steps in (500, 1000):
        point = home / f"checkpoint-{steps}"
        trained.save_pretrained(point / "unet")
        average = EMAModel(
            unet(1).parameters(), decay=0.99, model_cls=diffusers.UNet2DModel, model_config=trained.config
        )
        average.save_pretrained(point / "unet_ema")
        for name in ("optimizer.bin", "scheduler.bin", "random_states_0.pkl", "scaler.pt"):
            (point / name).write_bytes(b"\x80\x02}q\x00.")
    return home


@pytest.fixture
def finished(project, tmp_path, trained):
    """The same after the training has ended: the pipeline lies beside its checkpoints."""
    home = tmp_path / "finished"
    shutil.copytree(project, home)
    diffusers.DDPMPipeline(trained, diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2")).save_pretrained(home)
    return home


def words(text):
    """Without the line breaks of a terminal."""
    return " ".join(text.split())


def offered(text):
    """Options in backticks, in the order of the message."""
    return [shlex.split(code) for code in re.findall(r"`(--[^`]*)`", text.replace("\n", ""))]


# --- checkpoints of a training ----------------------------------------------------------------------------------------


def test_a_training_checkpoint_is_called_one_and_its_parts_run(geomem, project):
    done = geomem("audit", "digits", "--limit", 60, "--probes", 4, "--model", project / "checkpoint-500")
    assert done.returncode == 2
    assert done.stdout == ""
    message = done.stderr
    assert "DATA" not in message
    assert "checkpoint of a training" in words(message)
    remedies = offered(message)
    assert remedies == [["--model", str(project / "checkpoint-500" / part)] for part in ("unet", "unet_ema")]
    for remedy in remedies:
        done = geomem("audit", "digits", "--limit", 60, "--probes", 4, *remedy)
        assert done.returncode == 0, done.stderr
        assert "P = 54: denoising loss" in done.stdout
        assert "the default is taken, DDPMScheduler of 1000 steps, linear beta, epsilon" in words(done.stdout)


def test_a_folder_of_checkpoints_offers_the_last(project):
    with pytest.raises(DomainError, match="a folder of them") as error:
        DiffusersScore.from_pretrained(project)
    assert f"`--model {project / 'checkpoint-1000' / 'unet'}`" in str(error.value)
    assert f"`--model {project / 'checkpoint-1000' / 'unet_ema'}`" in str(error.value)


def test_network_and_average_are_what_was_saved(project, trained):
    scheduler = diffusers.DDPMScheduler()
    for part, net in (("unet", trained), ("unet_ema", unet(1))):
        face = DiffusersScore.from_pretrained(project / "checkpoint-500" / part)
        assert torch.equal(face.score(X, 0.3), DiffusersScore(net, scheduler).score(X, 0.3))


def test_scheduler_of_a_network_alone(project, finished, tmp_path):
    """Beside the network, given as folder, file, name or object, or the default; `remarks` says which."""
    alone, part = project / "checkpoint-500" / "unet", finished / "checkpoint-500" / "unet"
    cosine = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    right = DiffusersScore(unet(), cosine).t_range
    found = {
        "beside": DiffusersScore.from_pretrained(part),
        "folder": DiffusersScore.from_pretrained(alone, scheduler=finished / "scheduler"),
        "file": DiffusersScore.from_pretrained(alone, scheduler=finished / "scheduler" / "scheduler_config.json"),
        "object": DiffusersScore.from_pretrained(alone, scheduler=cosine),
    }
    assert {name: face.t_range for name, face in found.items()} == dict.fromkeys(found, right)
    assert found["beside"].remarks == (f"scheduler: DDPMScheduler of {finished / 'scheduler'}",)
    plain = DiffusersScore.from_pretrained(alone)
    named = DiffusersScore.from_pretrained(alone, scheduler="DDIMScheduler")
    assert plain.t_range == named.t_range == DiffusersScore(unet(), diffusers.DDPMScheduler()).t_range != right
    assert named.remarks == ("scheduler: DDIMScheduler with its defaults",)
    (said,) = plain.remarks
    assert "no scheduler lies beside the network" in said
    (broken := tmp_path / "scheduler_config.json").write_text("{}")
    for bad in ("NoScheduler", "UNet2DModel", tmp_path / "nothing", broken):
        with pytest.raises(DomainError, match="--scheduler"):
            load_scheduler(bad, alone)
    with pytest.raises(DomainError, match="the pipeline has its own"):
        DiffusersScore.from_pretrained(finished, scheduler="DDIMScheduler")


def test_a_pipeline_beside_its_checkpoints_is_a_pipeline(finished):
    assert contents(finished) == "pipeline"
    mark = pipeline_mark(finished)
    shutil.rmtree(finished / "checkpoint-1000")
    assert pipeline_mark(finished) == mark  # gigabytes of optimisers are no part of it
    (finished / "scheduler" / "scheduler_config.json").write_text("{}")
    assert pipeline_mark(finished) != mark


# --- variants ---------------------------------------------------------------------------------------------------------


def saved(folder, net, *variants):
    """The pipeline with weights in these variants, None the plain ones."""
    for variant in variants:
        pipeline = diffusers.DDPMPipeline(net, diffusers.DDPMScheduler())
        half = variant == "fp16"
        torch.nn.Module.to(pipeline.unet, torch.float16 if half else torch.float32)
        pipeline.save_pretrained(folder, variant=variant)
    torch.nn.Module.to(net, torch.float32)
    return folder


def test_weights_in_half_precision_alone_are_read(geomem, tmp_path):
    folder = saved(tmp_path / "half", unet(2), "fp16")
    assert not (folder / "unet" / "diffusion_pytorch_model.safetensors").exists()
    face = DiffusersScore.from_pretrained(folder)
    assert face.remarks == ("weights: variant fp16",)
    exact = DiffusersScore(unet(2), diffusers.DDPMScheduler()).score(X, 0.3)
    assert 0 < (face.score(X, 0.3) - exact).abs().max() < 0.01 * exact.abs().max()
    alone = DiffusersScore.from_pretrained(folder / "unet")
    assert torch.equal(alone.score(X, 0.3), face.score(X, 0.3))
    done = geomem("audit", "digits", "--limit", 60, "--probes", 4, "--model", folder)
    assert done.returncode == 0, done.stderr
    assert "variant fp16" in words(done.stdout)


def test_plain_weights_come_first_and_several_variants_are_asked_about(geomem, tmp_path):
    both = saved(tmp_path / "both", unet(2), "fp16", None)
    assert DiffusersScore.from_pretrained(both).remarks == ()
    assert DiffusersScore.from_pretrained(both, variant="fp16").remarks == ("weights: variant fp16",)
    with pytest.raises(DomainError, match=r"ema.*fp16, plain"):
        DiffusersScore.from_pretrained(both, variant="ema")
    several = saved(tmp_path / "several", unet(2), "fp16", "ema")
    arguments = ("audit", "digits", "--limit", 60, "--probes", 4, "--model", several)
    done = geomem(*arguments)
    assert done.returncode == 2
    assert "ema, fp16" in words(done.stderr)
    (remedy,) = offered(done.stderr)
    assert remedy == ["--variant", "ema"]
    assert geomem(*arguments, *remedy).returncode == 0


# --- what is no network -----------------------------------------------------------------------------------------------


def test_files_and_folders_that_are_something_else(geomem, finished, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    adapter = tmp_path / "lora"
    adapter.mkdir()
    (adapter / "pytorch_lora_weights.safetensors").write_bytes(b"")
    state = finished / "checkpoint-500" / "unet"
    text = tmp_path / "text"
    text.mkdir()
    (text / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    for model, said, remedy in (
        (empty, "it holds nothing", None),
        (adapter, "it holds pytorch_lora_weights.safetensors", None),
        (tmp_path / "absent", "no such file", None),
        (text, "AutoencoderKL", None),
        (finished / "model_index.json", "its folder", finished),
        (finished / "unet" / "diffusion_pytorch_model.safetensors", "its folder", finished),
        (state / "diffusion_pytorch_model.safetensors", "its folder", state),
    ):
        for command in ("audit", "spectrum"):
            done = geomem(command, "digits", "--limit", 60, "--model", model)
            assert done.returncode == 2, model
            message = words(done.stderr)
            assert said.split()[-1] in message, message
            assert "DATA" not in message
            assert offered(done.stderr) == ([] if remedy is None else [["--model", str(remedy)]])


def test_options_of_a_network_without_one(geomem, tmp_path):
    for command in ("audit", "spectrum"):
        for options in (("--scheduler", "DDIMScheduler"), ("--variant", "fp16"), ("--centre", 0.5), ("--unit", 2)):
            done = geomem(command, "digits", *options)
            assert done.returncode == 2
            assert options[0] in done.stderr


# --- pixels -----------------------------------------------------------------------------------------------------------

SCALES = {  # data in other units, and the centre and unit with which the network of [-1, 1] sees what it knows
    "[0, 1]": (lambda x: (x + 1) / 2, 0.5, 0.5),
    "[0, 255]": (lambda x: (x + 1) * 127.5, 127.5, 127.5),
    "[0, 16]": (lambda x: (x + 1) * 8, 8.0, 8.0),
}


class Exact(torch.nn.Module):
    """The noise that the optimal denoiser of a Gaussian with the digits' mean and covariance predicts, (x - centre)/unit seen."""

    def __init__(self, centre, unit):
        super().__init__()
        seen = torch.from_numpy((DIGITS - centre) / unit)
        self.register_buffer("mean", seen.mean(dim=0))
        values, axes = torch.linalg.eigh(torch.cov(seen.T))
        self.register_buffer("values", values)
        self.register_buffer("axes", axes)

    def forward(self, y, t):
        t = t[0]
        return ((y - self.mean) @ self.axes * (t.sqrt() / (t + self.values))) @ self.axes.T


@pytest.mark.parametrize("scale", SCALES)
def test_the_likeliest_scale_of_an_exact_network(scale):
    """Optimal networks of every range beside data of every range: the scale that is named is the one that is right."""
    view, centre, unit = SCALES[scale]
    face = ModelScore(Exact(0.0, 1.0), predicts="noise")
    best = pixel_scales(face, view(DIGITS))[0]
    assert (best.name, best.centre, best.unit) == ("[-1, 1]", centre, unit)
    with pytest.raises(DomainError, match=f"--centre {centre:g} --unit {unit:g}"):
        check_scale(face, view(DIGITS))
    assert check_scale(face, DIGITS) == ""
    # and the other way about: the data in [-1, 1], the network of another range
    low, step = {"[0, 1]": (-1.0, 2.0), "[0, 255]": (-1.0, 2 / 255)}.get(scale, (None, None))
    if low is not None:
        with pytest.raises(DomainError, match=re.escape(f"pixels in {scale}")):
            check_scale(ModelScore(Exact(low, step), predicts="noise"), DIGITS)
        assert check_scale(ModelScore(Exact(low, step), predicts="noise"), (DIGITS - low) / step) == ""


def test_no_scale_is_named_for_a_network_that_has_learned_nothing():
    for view in (lambda x: x, *(view for view, _, _ in SCALES.values())):
        said = check_scale(DiffusersScore(unet(5), diffusers.DDPMScheduler()), view(DIGITS))
        assert said.startswith("on no usual scale of pixels")


def test_pixels_on_another_scale_are_said_before_anything_is_measured(geomem, project, tmp_path):
    """A really trained network: refused with the options that are right, which then give the numbers of pixels in [-1, 1]."""
    np.save(tmp_path / "own.npy", DIGITS[:300].reshape(-1, 8, 8))
    np.save(tmp_path / "bytes.npy", (DIGITS[:300].reshape(-1, 8, 8) + 1) * 127.5)
    arguments = ("--probes", 16, "--model", project / "checkpoint-500" / "unet")
    right = geomem("audit", tmp_path / "own.npy", *arguments, "--out", tmp_path / "own")
    assert right.returncode == 0, right.stderr
    for command in ("audit", "spectrum"):
        done = geomem(command, tmp_path / "bytes.npy", *arguments)
        assert done.returncode == 2
        assert done.stdout == ""
        remedy, anyway = offered(done.stderr)
        assert remedy == ["--centre", "127.5", "--unit", "127.5"]
        assert anyway == ["--centre", "0", "--unit", "1"]
    for options, same in ((remedy, True), (anyway, False)):
        done = geomem("audit", tmp_path / "bytes.npy", *arguments, *options, "--out", tmp_path / "other")
        assert done.returncode == 0, done.stderr
        ours, theirs = (
            np.genfromtxt(f, delimiter=",", names=True, dtype=None, encoding=None)
            for f in (tmp_path / "own" / "model-P270.csv", tmp_path / "other" / "model-P270.csv")
        )
        ratio = np.interp(theirs["t"] / 127.5**2, ours["t"], ours["network"]) / theirs["network"]
        assert (np.abs(np.log(ratio)).max() < 0.3) == same
