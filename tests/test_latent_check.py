"""The check of conventions in latent space: an optimal network of the latents of digits, and faults of the pipeline around it."""

import dataclasses
import functools
import types

import numpy as np
import pytest
import torch
from optimal_networks import Gaussian, ddpm

from numerics.domain import DomainError
from validation.data import load
from validation.networks import DiffusersScore, ModelScore
from validation.networks.pipelines import Autoencoder, check_latents, encode_images
from validation.networks.pipelines.pixel_scale import level_ratios
from validation.spectrum import pipelines as opened

diffusers = pytest.importorskip("diffusers")

DIGITS = load().X.astype(np.float64)[:300]  # in [-1, 1]
SHAPE = (2, 4, 4)


def autoencoder(seed=0, **config):
    torch.manual_seed(seed)
    sizes = {"in_channels": 1, "out_channels": 1, "latent_channels": 2, "block_out_channels": (4, 8)}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return diffusers.AutoencoderKL(**sizes, **blocks, norm_num_groups=2, **config).eval()


AUTO = autoencoder(scaling_factor=1.0)


@functools.cache
def raw(centre=0.0, unit=1.0):
    """What the encoder gives, unscaled, of images on some scale of pixels."""
    return encode_images(AUTO, DIGITS, (8, 8), centre=centre, unit=unit).Z


RAW = raw()
UNIT = 1 / RAW.std()  # as pipelines scale them: v and noise are nearly the same where all noise is far below 1


def face_of(latents, predicts="noise", read=None):
    net = Gaussian(latents, predicts, ddpm, lambda a: 1 / a - 1)
    return ModelScore(net, predicts=read or predicts, convention="ddpm", shape=SHAPE)


def checked(face, given=lambda pixels: pixels, **config):
    """What is said, of a pipeline with this configuration of its autoencoder, and images on another scale of pixels."""
    auto = Autoencoder(AUTO)
    auto.scale, auto.shift = _scales(**config)
    centre, unit = given(0.0), given(1.0) - given(0.0)  # pixels = centre + unit x

    def encode(c, u):
        return (
            (torch.from_numpy(raw((c - centre) / unit, u / unit)).reshape(-1, *SHAPE) - auto.shift) * auto.scale
        ).numpy()

    return check_latents(
        face,
        auto,
        encode(0.0, 1.0).reshape(len(RAW), -1),
        pixels=given(DIGITS),
        encode=lambda c, u: encode(c, u).reshape(len(RAW), -1)[:64],
    )


def _scales(**config):
    known = Autoencoder(types.SimpleNamespace(config=types.SimpleNamespace(**config), encode=len, decode=len))
    return known.scale, known.shift


TRUE = [(1.0, 0.0), (0.18215, 0.0), (0.3611, 0.1159), (1.5305, 0.0609), (UNIT, 0.0), (2.7, -0.4)]


@pytest.mark.parametrize(("s", "h"), TRUE)
@pytest.mark.parametrize("predicts", ["noise", "v", "x0"])
def test_no_false_alarm(s, h, predicts):
    assert checked(face_of((RAW - h) * s, predicts), scaling_factor=s, shift_factor=h) == ""


FAULTS = [  # trained with (factor, shift), configured with; what is named
    ((0.18215, 0.0), (1.0, 0.0), "Stable Diffusion 1 and 2"),
    ((1.0, 0.0), (0.18215, 0.0), "none"),
    ((0.3611, 0.1159), (0.18215, 0.0), "Flux"),
    ((3.3, 0.0), (1 / 3.3, 0.0), "the inverse"),
    ((0.5, 0.8), (0.5, -0.8), "the other sign"),
    ((0.5, 0.0), (0.5, 0.9), "without its shift_factor"),
    ((UNIT, 0.0), (7 * UNIT, 0.0), "latents of variance 1"),
    ((UNIT, RAW.mean() + 1e-3), (7.0, 0.0), "mean 0 and variance 1"),
]


@pytest.mark.parametrize(("true", "given", "named"), FAULTS)
def test_wrong_scale_of_latents(true, given, named):
    face = face_of((RAW - true[1]) * true[0])
    with pytest.raises(DomainError, match=named) as error:
        checked(face, scaling_factor=given[0], shift_factor=given[1])
    assert "the scale of the latents" in str(error.value)


def test_a_missing_shift_is_seen_by_pairs():
    """Stable Diffusion 3's shift is a tenth of latents of variance 1: the loss changes by less than 1.3 times, and is paired."""
    small = RAW / (1.5305 * RAW.std())
    auto = Autoencoder(AUTO)
    for config, true in (((1.5305, 0.0), 0.0609), ((1.5305, 0.0609), 0.0)):
        auto.scale, auto.shift = config
        Z = (small - auto.shift) * auto.scale
        face = face_of((small - true) * auto.scale)
        assert level_ratios(face, torch.from_numpy(Z), 0).mean() < 0.9
        with pytest.raises(DomainError, match="Stable Diffusion 3" if true else "without its shift_factor"):
            check_latents(face, auto, Z)
        assert check_latents(face_of(Z), auto, Z) == ""


@pytest.mark.parametrize(
    ("truth", "read", "named"),
    [("noise", "v", "epsilon"), ("v", "noise", "v_prediction"), ("x0", "noise", "sample"), ("noise", "x0", "epsilon")],
)
def test_wrong_prediction_type_of_latents(truth, read, named):
    with pytest.raises(DomainError, match=f"the prediction type: prediction_type {named}"):
        checked(face_of(RAW * UNIT, truth, read), scaling_factor=UNIT)


def test_wrong_schedule_of_latents():
    bars = diffusers.DDPMScheduler(beta_schedule="linear").alphas_cumprod.double().numpy()
    log_t = np.log((1 - bars) / bars)
    net = Gaussian(RAW * 0.7, "noise", ddpm, lambda k: np.exp(np.interp(float(k), np.arange(1000), log_t)))
    for schedule in ("linear", "squaredcos_cap_v2"):
        face = DiffusersScore(net, diffusers.DDPMScheduler(beta_schedule=schedule), shape=SHAPE)
        if schedule == "linear":
            assert checked(face, scaling_factor=0.7) == ""
        else:
            with pytest.raises(DomainError, match="the noise convention: beta_schedule linear"):
                checked(face, scaling_factor=0.7)


def test_wrong_pixels_under_the_latents():
    """The network and the autoencoder know pixels in [-1, 1]; they are given in [0, 255]."""
    with pytest.raises(DomainError, match=r"--centre 127\.5 --unit 127\.5"):
        checked(face_of(RAW * 0.7), lambda x: 127.5 * (x + 1), scaling_factor=0.7)


def test_latents_that_no_network_knows_are_no_mistake():
    torch.manual_seed(0)
    net = torch.nn.Linear(32, 32).double()
    face = ModelScore(
        lambda y, level: net(y.flatten(1)).reshape(y.shape), predicts="noise", convention="ddpm", shape=SHAPE
    )
    assert checked(face, scaling_factor=0.7).startswith("the network denoises these latents not much better")


def test_channels_of_their_own_scale():
    raw = RAW.reshape(-1, *SHAPE)
    mean, std = (getattr(raw, m)(axis=(0, 2, 3), keepdims=True) for m in ("mean", "std"))
    face = face_of(((raw - mean) / std).reshape(len(raw), -1))
    right = {"latents_mean": mean.ravel().tolist(), "latents_std": std.ravel().tolist(), "scaling_factor": 1.0}
    assert checked(face, **right) == ""
    with pytest.raises(DomainError, match="latents_mean and latents_std"):
        checked(face, **(right | {"latents_std": (std.ravel()[::-1] * 9).tolist()}))


@pytest.mark.parametrize(("given", "named"), [(0.7, None), (0.18215 * 0.7, "the scale of the latents")])
def test_commands_check_latents_first(given, named, tmp_path, monkeypatch):
    """A saved pipeline whose network is replaced by the optimal one when it is loaded."""
    s = UNIT
    folder = tmp_path / "pipe"
    autoencoder(scaling_factor=s * given / 0.7).save_pretrained(folder / "vae")
    scheduler = diffusers.DDPMScheduler()
    scheduler.save_pretrained(folder / "scheduler")
    unet = diffusers.UNet2DModel(
        sample_size=4,
        in_channels=2,
        out_channels=2,
        layers_per_block=1,
        norm_num_groups=4,
        block_out_channels=(4,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        add_attention=False,
    )
    unet.save_pretrained(folder / "unet")
    index = {"_class_name": "LDMPipeline", "_diffusers_version": diffusers.__version__}
    index |= {name: ["diffusers", kind] for name, kind in (("unet", "UNet2DModel"), ("vae", "AutoencoderKL"))}
    index |= {"scheduler": ["diffusers", "DDPMScheduler"]}
    (folder / "model_index.json").write_text(str(index).replace("'", '"'))
    bars = scheduler.alphas_cumprod.double().numpy()
    log_t = np.log((1 - bars) / bars)
    net = Gaussian(RAW * s, "noise", ddpm, lambda k: np.exp(np.interp(float(k), np.arange(1000), log_t)))
    net.config = unet.config
    from validation.networks.pipelines import diffusers_score

    load_parts = diffusers_score.load_pipeline

    def replaced(*arguments):
        return dataclasses.replace(load_parts(*arguments), network=net)

    monkeypatch.setattr(diffusers_score, "load_pipeline", replaced)
    np.save(tmp_path / "images.npy", DIGITS.reshape(-1, 8, 8))
    if named is None:
        found = opened.open_pipeline(folder, tmp_path / "images.npy")
        assert not [r for r in found.remarks if "denoises" in r]
        return
    with pytest.raises(DomainError, match=named):
        opened.open_pipeline(folder, tmp_path / "images.npy")
    opened.open_pipeline(folder, tmp_path / "images.npy", centre=0.0, unit=1.0)  # as the message offers
