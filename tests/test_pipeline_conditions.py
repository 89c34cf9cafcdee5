"""Conditional networks of diffusers, called as their pipelines call them; guidance; what is missing is named."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from numerics.domain import DomainError
from theory.noise import t_from_flow
from validation.networks import DiffusersScore
from validation.spectra import asymmetry

diffusers = pytest.importorskip("diffusers")

UNET = {"sample_size": 4, "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "norm_num_groups": 4}
PLAIN = {"block_out_channels": (8,), "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
CROSS = {
    "block_out_channels": (8,),
    "down_block_types": ("CrossAttnDownBlock2D",),
    "up_block_types": ("CrossAttnUpBlock2D",),
    "attention_head_dim": 4,
    "cross_attention_dim": 6,
}
SDXL = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 5 + 6 * 4,
}
DIT = {"num_attention_heads": 2, "attention_head_dim": 4, "num_layers": 1, "sample_size": 4, "patch_size": 2}
SD3 = {
    "sample_size": 4,
    "patch_size": 2,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 1,
    "attention_head_dim": 4,
    "num_attention_heads": 2,
    "joint_attention_dim": 6,
    "caption_projection_dim": 8,
    "pooled_projection_dim": 5,
    "pos_embed_max_size": 4,
}
FLUX = {
    "patch_size": 1,
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "joint_attention_dim": 6,
    "pooled_projection_dim": 5,
    "axes_dims_rope": (2, 2, 4),
}
KINDS = {
    "class, UNet": ("UNet2DModel", UNET | PLAIN | {"num_class_embeds": 3, "add_attention": False}),
    "class, DiT": ("DiTTransformer2DModel", DIT | {"in_channels": 4, "out_channels": 8, "num_embeds_ada_norm": 5}),
    "text, UNet": ("UNet2DConditionModel", UNET | CROSS),
    "text and sizes, UNet": ("UNet2DConditionModel", UNET | CROSS | SDXL),
    "text, PixArt": (
        "PixArtTransformer2DModel",
        DIT | {"in_channels": 4, "out_channels": 8, "cross_attention_dim": 8, "caption_channels": 6},
    ),
    "text, SD3": ("SD3Transformer2DModel", SD3),
    "text, Flux": ("FluxTransformer2DModel", FLUX),
    "text, Flux distilled": ("FluxTransformer2DModel", FLUX | {"guidance_embeds": True}),
}
DRAW = torch.Generator().manual_seed(0)
X = torch.randn(3, 64, generator=DRAW, dtype=torch.float64)
Y = X.reshape(3, 4, 4, 4)
TEXT, POOLED = torch.randn(1, 3, 6, generator=DRAW).double(), torch.randn(1, 5, generator=DRAW).double()
NO_TEXT, NO_POOLED = torch.randn(1, 2, 6, generator=DRAW).double(), torch.randn(1, 5, generator=DRAW).double()


def network(kind):
    name, options = KINDS[kind]
    if name == "PixArtTransformer2DModel":
        options = options | {"norm_num_groups": 1, "use_additional_conditions": False}
    if name == "DiTTransformer2DModel":
        options = options | {"norm_num_groups": 1}
    torch.manual_seed(0)
    net = torch.nn.Module.to(getattr(diffusers, name)(**options), torch.float64).eval()
    with torch.no_grad():  # transformers begin with zeros in places, and would not see their condition
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())).double())
    return net


def as_the_pipeline_calls(kind, net, y, level):
    """The network's answer, its condition given as the package's own pipeline gives it."""
    B = len(y)
    text, pooled = TEXT.expand(B, -1, -1), POOLED.expand(B, -1)
    at = torch.full((B,), level, dtype=torch.float64)
    with torch.no_grad():
        if kind.startswith("class"):
            return net(y, timestep=at, class_labels=torch.tensor([2] * B)).sample[:, :4]
        if kind == "text, UNet":
            return net(y, at, encoder_hidden_states=text).sample
        if kind == "text and sizes, UNet":
            ids = torch.tensor([[32.0, 32, 0, 0, 32, 32]], dtype=torch.float64).expand(B, -1)
            return net(y, at, text, added_cond_kwargs={"text_embeds": pooled, "time_ids": ids}).sample
        if kind == "text, PixArt":
            return net(y, text, at, added_cond_kwargs={"resolution": None, "aspect_ratio": None}).sample[:, :4]
        if kind == "text, SD3":
            return net(y, encoder_hidden_states=text, pooled_projections=pooled, timestep=at).sample
        pytest.importorskip("transformers")  # or its pipeline is a placeholder
        pipe = diffusers.FluxPipeline
        packed = pipe._pack_latents(y, B, 4, 4, 4)
        given = {"img_ids": pipe._prepare_latent_image_ids(B, 2, 2, "cpu", torch.float64), "txt_ids": torch.zeros(3, 3)}
        if kind.endswith("distilled"):
            given["guidance"] = torch.full((B,), 1.0)
        out = net(packed, encoder_hidden_states=text, pooled_projections=pooled, timestep=at / 1000, **given).sample
        return pipe._unpack_latents(out, 32, 32, 8)


def condition(kind):
    if kind.startswith("class"):
        return {"label": 2}
    pooled = {} if kind in ("text, UNet", "text, PixArt") else {"pooled_prompt_embeds": POOLED[0]}
    return {"embeddings": {"prompt_embeds": TEXT[0]} | pooled}


@pytest.mark.parametrize("kind", KINDS)
def test_x0_is_that_of_the_pipelines_own_call(kind, tmp_path):
    """At three timesteps, after saving and loading; another condition gives another x0."""
    net = network(kind)
    flow = "Flux" in kind or "SD3" in kind
    scheduler = (
        diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0) if flow else diffusers.DDPMScheduler(clip_sample=False)
    )
    net.save_pretrained(tmp_path / "net")
    scheduler.save_pretrained(tmp_path / "scheduler")
    options = {"shape": (4, 4, 4), "dtype": torch.float64}
    face = DiffusersScore.from_pretrained(
        tmp_path / "net", scheduler=tmp_path / "scheduler", **condition(kind), **options
    )
    for k in (20, 300, 800):
        if flow:
            s = float(scheduler.sigmas[k].double())
            t, scale = t_from_flow(s), 1 - s
            x0 = scale * X - s * as_the_pipeline_calls(kind, net, scale * Y, 1000 * s).flatten(1)
        else:
            bar = float(scheduler.alphas_cumprod[k].double())
            t, scale = (1 - bar) / bar, bar**0.5
            out = as_the_pipeline_calls(kind, net, scale * Y, float(k))
            x0 = scheduler.step(out, k, scale * Y).pred_original_sample.flatten(1)
        torch.testing.assert_close(face.denoised(X, t), x0, rtol=1e-4, atol=1e-4 * (1 + t**0.5))
    other = (
        {"label": 1}
        if "class" in kind
        else {"embeddings": {n: v + 1 for n, v in condition(kind)["embeddings"].items()}}
    )
    assert (DiffusersScore(net, scheduler, **other, **options).denoised(X, t) - x0).abs().max() > 1e-2
    for b in range(3):
        torch.testing.assert_close(face.score(X[b : b + 1], 0.3)[0], face.score(X, 0.3)[b], rtol=1e-6, atol=1e-8)
    J, h = face.jacobian(X[:1], 0.3)[0], 1e-5
    along = (face.score(X[:1] + h * X[1:2], 0.3) - face.score(X[:1] - h * X[1:2], 0.3))[0] / (2 * h)
    torch.testing.assert_close(along, J @ X[1], rtol=1e-3, atol=1e-3 * float(J.abs().max()))


def test_guidance_is_the_pipelines_and_is_no_score():
    scheduler, net = diffusers.DDPMScheduler(), network("class, DiT")
    options = {"dtype": torch.float64}
    faces = {
        name: DiffusersScore(net, scheduler, label=label, guidance=w, **options)
        for name, label, w in (("class", 2, None), ("none", 5, None), ("guided", 2, 4.0), ("one", 2, 1.0))
    }
    score = {name: face.score(X, 0.3) for name, face in faces.items()}
    torch.testing.assert_close(score["guided"], score["none"] + 4 * (score["class"] - score["none"]))
    assert torch.equal(score["one"], score["class"])
    ratio, error = asymmetry(faces["guided"], X, 0.3, probes=16)
    J = faces["guided"].jacobian(X, 0.3)
    dense = float((J - J.mT).norm() / (J + J.mT).norm())
    assert abs(ratio - dense) < 4 * error + 0.05 * dense
    assert ratio > 0.1
    unet = network("class, UNet")
    guided = DiffusersScore(unet, scheduler, label=0, null_label=2, guidance=2.0)
    plain = [DiffusersScore(unet, scheduler, label=k).score(X, 0.3) for k in (0, 2)]
    torch.testing.assert_close(guided.score(X, 0.3), 2 * plain[0] - plain[1])


def test_guidance_by_text_and_distilled():
    scheduler, net = diffusers.FlowMatchEulerDiscreteScheduler(), network("text, SD3")
    both = {"prompt_embeds": TEXT, "pooled_prompt_embeds": POOLED}
    none = {"negative_prompt_embeds": NO_TEXT, "negative_pooled_prompt_embeds": NO_POOLED}
    plain = DiffusersScore(net, scheduler, embeddings=both).score(X, 0.3)
    away = DiffusersScore(net, scheduler, embeddings={n.removeprefix("negative_"): v for n, v in none.items()}).score(
        X, 0.3
    )
    guided = DiffusersScore(net, scheduler, embeddings=both | none, guidance=3.0)
    torch.testing.assert_close(guided.score(X, 0.3), 3 * plain - 2 * away)
    with pytest.raises(DomainError, match="negative_prompt_embeds"):
        DiffusersScore(net, scheduler, embeddings=both, guidance=3.0)
    flux = network("text, Flux distilled")
    scores = [
        DiffusersScore(flux, scheduler, embeddings=both, shape=(4, 4, 4), guidance=w).score(X, 0.3)
        for w in (None, 1.0, 3.5)
    ]
    assert torch.equal(scores[0], scores[1])
    assert (scores[2] - scores[0]).abs().max() > 1e-4


def test_embeddings_from_files(tmp_path):
    tensors = {"prompt_embeds": TEXT[0].clone()}
    save_file(tensors, tmp_path / "e.safetensors")
    np.savez(tmp_path / "e.npz", **{n: v.numpy() for n, v in tensors.items()})
    net = network("text, UNet")
    net.save_pretrained(tmp_path / "net")
    expected = DiffusersScore(net, diffusers.DDPMScheduler(), embeddings=tensors).score(X, 0.3)
    for name in ("e.safetensors", "e.npz"):
        face = DiffusersScore.from_pretrained(tmp_path / "net", embeddings=tmp_path / name, dtype=torch.float64)
        torch.testing.assert_close(face.score(X, 0.3), expected, rtol=1e-4, atol=1e-5)  # weights load in float32
        assert any("embeddings" in remark for remark in face.remarks)
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    for name in ("bad.npz", "e.txt", "none.npz"):
        with pytest.raises(DomainError, match="--embeddings"):
            DiffusersScore.from_pretrained(tmp_path / "net", embeddings=tmp_path / name)


@pytest.mark.parametrize(
    ("kind", "options", "match"),
    [
        ("class, UNet", {}, "num_class_embeds.*--class"),
        ("class, DiT", {}, "label .--class.*0 to 5"),
        ("class, DiT", {"label": 6}, "label = 6"),
        ("class, UNet", {"label": -1}, "label"),
        ("class, UNet", {"label": 1, "guidance": 2.0}, "null_label"),
        ("class, UNet", {"label": 1, "guidance": -2.0}, "guidance"),
        ("class, UNet", {"label": 1, "embeddings": {"prompt_embeds": TEXT}}, "embeddings"),
        ("text, UNet", {"label": 1}, "label = 1"),
        ("text, UNet", {"embeddings": {"prompt_embeds": TEXT[..., :5]}}, r"\(1, length, 6\)"),
        ("text, UNet", {"embeddings": {"prompt_embeds": TEXT.expand(2, -1, -1)}}, r"\(1, length, 6\)"),
        ("text, UNet", {"embeddings": {"pooled_prompt_embeds": POOLED}}, "prompt_embeds"),
        ("text, SD3", {}, "embeddings .--embeddings"),
        ("text, SD3", {"embeddings": {"prompt_embeds": TEXT}}, "pooled_prompt_embeds"),
        ("text, SD3", {"embeddings": {"text": TEXT}}, "embeddings = text"),
    ],
)
def test_what_is_missing_is_named(kind, options, match):
    with pytest.raises(DomainError, match=match):
        DiffusersScore(network(kind), diffusers.DDPMScheduler(), **options)


def test_a_callable_gives_its_own_condition():
    with pytest.raises(DomainError, match="label"):
        DiffusersScore(lambda y, level: y, diffusers.DDPMScheduler(), shape=(4, 4, 4), label=1)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A class-conditional pipeline of pixels, and a UNet of it alone."""
    folder = tmp_path_factory.mktemp("classes") / "pipeline"
    torch.manual_seed(0)
    options = UNET | PLAIN | {"num_class_embeds": 11, "add_attention": False, "sample_size": 8}
    net = diffusers.UNet2DModel(**options | {"in_channels": 1, "out_channels": 1})
    diffusers.DDPMPipeline(net, diffusers.DDPMScheduler()).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_commands_take_a_class_and_report_guidance(geomem, digits):
    arguments = ("audit", "digits", "--limit", 60, "--probes", 4, "--model", digits)
    done = geomem(*arguments)
    assert done.returncode == 2
    assert "--class" in done.stderr
    done = geomem(*arguments, "--class", 3)
    assert done.returncode == 0, done.stderr
    assert "class 3" in done.stdout
    assert "guidance" not in done.stdout
    done = geomem(*arguments, "--class", 3, "--null-class", 10, "--guidance", 3)
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    assert "no score of any density; the antisymmetric part of its Jacobian is" in words
    for options in (("--class", 3), ("--guidance", 2), ("--prompt", "a"), ("--null-class", 1)):
        for command in ("audit", "spectrum"):
            done = geomem(command, "digits", *options)
            assert done.returncode == 2
            assert options[0] in done.stderr


def test_a_prompt_goes_through_the_pipelines_own_encoder(tmp_path):
    transformers = pytest.importorskip("transformers")
    words = {w: i for i, w in enumerate(["<|startoftext|>", "<|endoftext|>", "a</w>", "b</w>", "a", "b"])}
    sizes = {"hidden_size": 6, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    config = transformers.CLIPTextConfig(
        vocab_size=6, max_position_embeddings=5, eos_token_id=1, bos_token_id=0, **sizes
    )
    torch.manual_seed(0)
    net = torch.nn.Module.to(network("text, UNet"), torch.float32)
    scheduler = diffusers.DDIMScheduler(clip_sample=False, steps_offset=1)
    pipeline = diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL(norm_num_groups=4, block_out_channels=(4,), latent_channels=4),
        text_encoder=transformers.CLIPTextModel(config),
        tokenizer=transformers.CLIPTokenizer(words, [], model_max_length=5),
        unet=net,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(tmp_path / "sd")
    found = {}
    for text in ("a", "b"):
        face = DiffusersScore.from_pretrained(tmp_path / "sd", prompt=text)
        assert f"prompt: {text}" in face.remarks
        with torch.no_grad():
            embeds, _ = pipeline.encode_prompt(text, "cpu", 1, False)
        found[text] = face.score(X, 0.3)
        expected = DiffusersScore(net, scheduler, embeddings={"prompt_embeds": embeds}).score(X, 0.3)
        torch.testing.assert_close(found[text], expected, rtol=1e-5, atol=1e-6)
    assert (found["a"] - found["b"]).abs().max() > 1e-4
    guided = DiffusersScore.from_pretrained(tmp_path / "sd", prompt="a", guidance=2.0)
    with torch.no_grad():
        embeds, none = pipeline.encode_prompt("a", "cpu", 1, True)
    free = DiffusersScore(net, scheduler, embeddings={"prompt_embeds": none}).score(X, 0.3)
    torch.testing.assert_close(guided.score(X, 0.3), 2 * found["a"] - free, rtol=1e-4, atol=1e-5)
