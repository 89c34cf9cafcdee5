"""Latents: scaled as the pipelines scale them, made once, their noise in pixels; commands on tiny latent pipelines."""

import numpy as np
import pytest
import torch

from numerics.domain import DomainError
from validation.data import load
from validation.networks import DiffusersScore
from validation.networks.pipelines import Autoencoder, encode_images, load_autoencoder
from validation.networks.pipelines import latents as room

diffusers = pytest.importorskip("diffusers")

DIGITS = load().X[:40]
IMAGES = torch.from_numpy(DIGITS.astype(np.float64)).reshape(-1, 1, 8, 8)
BLOCKS = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
SIZES = {"in_channels": 1, "out_channels": 1, "latent_channels": 2, "block_out_channels": (4, 8)}
TINY = {
    "in_channels": 1,
    "out_channels": 1,
    "latent_channels": 2,
    "encoder_block_out_channels": (4, 4),
    "decoder_block_out_channels": (4, 4),
    "num_encoder_blocks": (1, 1),
    "num_decoder_blocks": (1, 1),
}
KINDS = {
    "KL": ("AutoencoderKL", SIZES | BLOCKS | {"norm_num_groups": 2, "scaling_factor": 0.3}),
    "KL, shift": ("AutoencoderKL", SIZES | BLOCKS | {"norm_num_groups": 2, "scaling_factor": 1.5, "shift_factor": 0.1}),
    "KL, channels": (
        "AutoencoderKL",
        SIZES
        | BLOCKS
        | {"norm_num_groups": 2, "scaling_factor": 0.5, "latents_mean": [0.1, -0.2], "latents_std": [0.7, 1.9]},
    ),
    "tiny": ("AutoencoderTiny", TINY),
    "VQ": ("VQModel", SIZES | BLOCKS | {"norm_num_groups": 2, "num_vq_embeddings": 8, "scaling_factor": 0.4}),
}


def autoencoder(kind, seed=0):
    name, options = KINDS[kind]
    torch.manual_seed(seed)
    return getattr(diffusers, name)(**options).eval()


def scaled_by_hand(kind, module):
    with torch.no_grad():
        answer = module.encode(IMAGES[:3].float())
    raw = answer.latent_dist.mode() if kind.startswith("KL") else answer.latents
    return {
        "KL": lambda z: 0.3 * z,
        "KL, shift": lambda z: (z - 0.1) * 1.5,
        "KL, channels": lambda z: (
            (z - torch.tensor([0.1, -0.2])[:, None, None]) * 0.5 / torch.tensor([0.7, 1.9])[:, None, None]
        ),
        "tiny": lambda z: z,
        "VQ": lambda z: 0.4 * z,
    }[kind](raw)


@pytest.mark.parametrize("kind", KINDS)
def test_scaled_as_the_pipeline_scales(kind):
    module = autoencoder(kind)
    found = encode_images(module, DIGITS, (8, 8))
    size = 4 if kind != "tiny" else found.shape[-1]
    assert found.shape == (2, size, size)
    expected = scaled_by_hand(kind, module).double().flatten(1)
    np.testing.assert_allclose(found.Z[:3], expected, rtol=1e-4, atol=1e-5)
    auto = Autoencoder(module)
    z, spread = auto.encode(IMAGES[:3])
    assert (spread > 0) == kind.startswith("KL")
    with torch.no_grad():
        plain = module.encode(IMAGES[:3].float())
        raw = plain.latent_dist.mode() if kind.startswith("KL") else plain.latents
        decoded = module.decode(raw).sample.double()
    torch.testing.assert_close(auto.decode(z), decoded, rtol=1e-4, atol=1e-5)
    assert ("quantises" in " ".join(found.remarks)) == (kind == "VQ")
    pixels = encode_images(module, 127.5 * (DIGITS + 1), (8, 8), centre=127.5, unit=127.5)
    np.testing.assert_allclose(pixels.Z, found.Z, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["KL, shift", "KL, channels"])
def test_gain_is_that_of_the_decoders_jacobian(kind):
    """Beside the dense Jacobian's Frobenius norm, and beside small noise that is really added."""
    auto = Autoencoder(autoencoder(kind).double())
    z, _ = auto.encode(IMAGES[:1])
    gain, error = auto.gain(z, probes=50)
    J = torch.autograd.functional.jacobian(lambda z: auto.module.decode(z / auto.scale + auto.shift).sample, z).reshape(
        64, -1
    )
    exact = float((J.square().sum() / 64).sqrt())
    assert abs(gain - exact) < 4.5 * error  # 6e-6 of Gaussian errors
    assert error < 0.15 * exact
    noise = 1e-4 * torch.randn(500, *z.shape[1:], generator=torch.Generator().manual_seed(0)).double()
    moved = float((auto.decode(z + noise) - auto.decode(z)).square().mean().sqrt()) / 1e-4
    assert moved == pytest.approx(exact, rel=0.05)


def test_images_are_encoded_once(monkeypatch, tmp_path):
    monkeypatch.setattr(room, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(room, "keep", lambda name, content: (tmp_path / name).write_bytes(content))
    module, asked = autoencoder("KL"), []
    encode = module.encode
    monkeypatch.setattr(module, "encode", lambda x: asked.append(len(x)) or encode(x))
    first = encode_images(module, DIGITS, (8, 8), mark="weights")
    whole = sum(asked)
    asked.clear()
    again = encode_images(module, DIGITS, (8, 8), mark="weights")
    assert whole >= len(DIGITS)
    assert sum(asked) == 4  # those at which gain and reconstruction are measured
    assert np.array_equal(first.Z, again.Z)
    assert first.remarks == again.remarks
    other = encode_images(autoencoder("KL", seed=1), DIGITS, (8, 8), mark="others")
    assert not np.allclose(other.Z, first.Z)
    (kept,) = [p for p in tmp_path.iterdir() if np.array_equal(np.load(p).reshape(len(DIGITS), -1), first.Z)]
    kept.write_bytes(b"broken")
    assert np.array_equal(encode_images(module, DIGITS, (8, 8), mark="weights").Z, first.Z)


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory):
    """Latent pipelines of three kinds, saved by diffusers: unconditional, class-conditional and by flow matching."""
    home = tmp_path_factory.mktemp("latent")
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=4,
        in_channels=2,
        out_channels=2,
        layers_per_block=1,
        norm_num_groups=4,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        add_attention=False,
    )
    dit = diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=4,
        in_channels=2,
        out_channels=4,
        num_layers=1,
        sample_size=4,
        patch_size=2,
        num_embeds_ada_norm=10,
        norm_num_groups=1,
    )
    index = {"_class_name": "LDMPipeline", "_diffusers_version": diffusers.__version__}
    for name, part, net, scheduler in (
        ("plain", "unet", unet, diffusers.DDIMScheduler()),
        ("flow", "unet", unet, diffusers.FlowMatchEulerDiscreteScheduler()),
        ("dit", "transformer", dit, diffusers.DDPMScheduler()),
    ):
        folder = home / name
        parts = {part: ["diffusers", type(net).__name__], "vae": ["diffusers", "AutoencoderKL"]}
        parts["scheduler"] = ["diffusers", type(scheduler).__name__]
        net.save_pretrained(folder / part)
        autoencoder("KL").save_pretrained(folder / "vae")
        scheduler.save_pretrained(folder / "scheduler")
        (folder / "model_index.json").write_text(str(index | parts).replace("'", '"'))
    return home


def test_commands_measure_in_latents(geomem, pipelines, tmp_path):
    for name, options in (("plain", ()), ("flow", ()), ("dit", ("--class", 1))):
        done = geomem("audit", "digits", "--limit", 60, "--probes", 4, "--model", pipelines / name, *options)
        assert done.returncode == 0, done.stderr
        words = " ".join(done.stdout.split())
        assert "points are latents 2 x 4 x 4 of AutoencoderKL, scaled by 0.3" in words
        assert "sigma in pixels, by the decoder's Jacobian" in words
    face = DiffusersScore.from_pretrained(pipelines / "plain")
    assert type(face.autoencoder).__name__ == "AutoencoderKL"
    assert face.shape == (2, 4, 4)


def test_samples_and_audit_of_data_in_latents(geomem, pipelines, tmp_path):
    np.save(tmp_path / "made.npy", DIGITS[:20].reshape(-1, 8, 8))
    np.save(tmp_path / "train.npy", load().X[:200].reshape(-1, 8, 8))
    for latents in (pipelines / "plain", pipelines / "plain" / "vae"):
        done = geomem("samples", tmp_path / "made.npy", "--train", tmp_path / "train.npy", "--latents", latents)
        assert done.returncode == 0, done.stderr
        assert "100 %" in done.stdout  # copies are copies there too
        assert "points are latents" in " ".join(done.stdout.split())
    done = geomem("samples", tmp_path / "made.npy", "--train", tmp_path / "train.npy", "--latents", tmp_path)
    assert done.returncode == 2
    assert "--latents" in done.stderr


def test_spectrum_of_a_latent_pipeline(pipelines, tmp_path, monkeypatch):
    from validation.spectrum import run

    monkeypatch.setattr("validation.figures.save", lambda figure, path: path)
    monkeypatch.setattr("validation.spectrum.command._with_dimension", lambda result, *_: result)
    arguments = {"model": pipelines / "plain", "points": 4, "probes": 2, "limit": 60}
    ((result, _),) = run(None, tmp_path / "s.png", **arguments)
    assert result.attrs["data"] == "plain on latents of digits"
    assert result.sizes["direction"] == 32
    assert np.isfinite(result["eigenvalue"].sel(score="network")).all()


def test_what_no_autoencoder_takes(pipelines, tmp_path):
    module, _ = load_autoencoder(pipelines / "plain")
    with pytest.raises(DomainError, match="1 channels"):
        encode_images(module, np.zeros((4, 192)), (3, 8, 8))
    with pytest.raises(DomainError, match="halvings divide"):
        encode_images(module, np.random.default_rng(0).normal(size=(4, 81)), (9, 9))
    with pytest.raises(DomainError, match="--latents"):
        load_autoencoder(pipelines / "plain" / "unet")
    with pytest.raises(DomainError, match="autoencoder"):
        Autoencoder(torch.nn.Linear(1, 1))
