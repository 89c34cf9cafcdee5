"""The table of docs/models.md: every filled cell is run, on a tiny pipeline that diffusers saved or a tiny torch module."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from validation.audit import audit_pipeline
from validation.data import load
from validation.networks.torch_modules import call_function
from validation.report.command import _model as network_part
from validation.report.subject import asked
from validation.samples import samples
from validation.spectrum import run, run_samples

diffusers = pytest.importorskip("diffusers")

PAGE = (Path(__file__).parents[1] / "docs" / "models.md").read_text(encoding="utf-8")
TABLE = PAGE[PAGE.index("| kind of pipeline") :].partition("\n\n")[0]  # the page has other tables below
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLE.splitlines() if line.startswith("| ")][
    1:
]
COMMANDS = ("audit --model", "report --model", "spectrum --model", "spectrum --samples", "samples --latents")
NO_LATENTS = "no latents"  # a model of pixels: `samples` compares pixels and asks no model

UNET = {"out_channels": 1, "in_channels": 1, "sample_size": 4, "layers_per_block": 1, "norm_num_groups": 4}
PLAIN = {"block_out_channels": (8,), "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
CROSS = {
    "block_out_channels": (8,),
    "down_block_types": ("CrossAttnDownBlock2D",),
    "up_block_types": ("CrossAttnUpBlock2D",),
    "attention_head_dim": 4,
    "cross_attention_dim": 6,
}
LATENT = {"sample_size": 2, "in_channels": 2, "out_channels": 2}
HEADS = {"num_attention_heads": 2, "attention_head_dim": 4, "num_layers": 1}
SIZES = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4, "projection_class_embeddings_input_dim": 29}
TEXT = {"joint_attention_dim": 6, "pooled_projection_dim": 5}
BLOCKS = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
VAE = BLOCKS | {
    "in_channels": 1,
    "out_channels": 1,
    "latent_channels": 2,
    "block_out_channels": (4, 8),
    "norm_num_groups": 2,
}


def unet(**options):
    return diffusers.UNet2DModel(**UNET | PLAIN | {"add_attention": False} | options)


def sd3():
    more = {"patch_size": 2, "caption_projection_dim": 8, "pos_embed_max_size": 4}
    return diffusers.SD3Transformer2DModel(**HEADS | TEXT | LATENT | more)


def flux():
    more = {
        "patch_size": 1,
        "in_channels": 8,
        "num_single_layers": 1,
        "axes_dims_rope": (2, 2, 4),
        "attention_head_dim": 8,
    }
    return diffusers.FluxTransformer2DModel(**HEADS | TEXT | more)


def dit():
    more = {"patch_size": 2, "num_embeds_ada_norm": 5, "norm_num_groups": 1, "out_channels": 4}
    return diffusers.DiTTransformer2DModel(**HEADS | LATENT | more)


def pixart():
    more = {"patch_size": 2, "out_channels": 4, "cross_attention_dim": 8, "caption_channels": 6, "norm_num_groups": 1}
    return diffusers.PixArtTransformer2DModel(**HEADS | LATENT | more, use_additional_conditions=False)


def text_unet(**options):
    return diffusers.UNet2DConditionModel(**UNET | CROSS | options)


def tiny():
    """AutoencoderTiny halves the images once, as the others here do."""
    sizes = {"encoder_block_out_channels": (4, 4), "decoder_block_out_channels": (4, 4)}
    blocks = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
    return diffusers.AutoencoderTiny(in_channels=1, out_channels=1, latent_channels=2, **sizes, **blocks)


def kl():
    return diffusers.AutoencoderKL(**VAE)


def flow():
    return diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)


KINDS = {  # network, scheduler, autoencoder, options of the condition
    "pixels, DDPM and its relatives": (unet, diffusers.DDPMScheduler, None, {}),
    "pixels, EDM": (unet, diffusers.EDMEulerScheduler, None, {}),
    "pixels, flow matching": (unet, flow, None, {}),
    "pixels, ScoreSdeVe": (lambda: unet(time_embedding_type="fourier"), diffusers.ScoreSdeVeScheduler, None, {}),
    "pixels, classes": (lambda: unet(num_class_embeds=3), diffusers.DDPMScheduler, None, {"label": 1}),
    "pixels, text as embeddings": (
        text_unet,
        diffusers.DDPMScheduler,
        None,
        {"embeddings": ("prompt_embeds",)},
    ),
    "pixels, classes, guided": (
        lambda: unet(num_class_embeds=3),
        diffusers.DDPMScheduler,
        None,
        {"label": 1, "null_label": 2, "guidance": 3.0},
    ),
    "latents, unconditional": (lambda: unet(**LATENT), diffusers.DDIMScheduler, kl, {}),
    "latents, DiT with classes": (dit, diffusers.DDPMScheduler, kl, {"label": 1}),
    "latents, Stable Diffusion with text": (
        lambda: text_unet(**LATENT),
        diffusers.EulerDiscreteScheduler,
        kl,
        {"embeddings": ("prompt_embeds",)},
    ),
    "latents, SDXL with text and sizes": (
        lambda: text_unet(**LATENT | SIZES),
        diffusers.EulerDiscreteScheduler,
        kl,
        {"embeddings": ("prompt_embeds", "pooled_prompt_embeds")},
    ),
    "latents, PixArt with text": (
        pixart,
        diffusers.DPMSolverMultistepScheduler,
        kl,
        {"embeddings": ("prompt_embeds",)},
    ),
    "latents, SD3 with text, flow matching": (sd3, flow, kl, {"embeddings": ("prompt_embeds", "pooled_prompt_embeds")}),
    "latents, Flux with text, flow matching": (
        flux,
        flow,
        kl,
        {"embeddings": ("prompt_embeds", "pooled_prompt_embeds")},
    ),
    "latents, AutoencoderTiny": (lambda: unet(**LATENT), diffusers.DDIMScheduler, tiny, {}),
    "latents, VQModel": (
        lambda: unet(**LATENT),
        diffusers.DDPMScheduler,
        lambda: diffusers.VQModel(**VAE, num_vq_embeddings=8),
        {},
    ),
}


MODULE = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, y, sigma):
        return y / (1 + sigma[:, None, None, None] ** 2) + 0.1 * self.inner(y)


def net():
    return Net()
"""
CONVENTION = {"convention": "edm", "prediction": "x0"}
MODULES = {  # what is given to --model
    "torch module, own code": "nets.py:net",
    "torch module, weights by name": "nets.py:net",
    "torch module, TorchScript": "net.pt",
    "torch module, torch.export": "net.pt2",
}
LIGHT = ("pixels, EDM", "torch module, own code")

RELATIVES = [kind for kind in KINDS if re.search("ScoreSdeVe|Stable|SDXL|PixArt|Tiny", kind)]
HEAVY = ("spectrum --model", "report --model")  # dense Jacobians at every point, ladders: seconds each


def _marks(kind, command):
    """What is heavy is run by one kind of each sort; encoding for samples by one; relatives of other kinds by one command."""
    light = command not in HEAVY or kind in LIGHT[: 2 - (command == "report --model")]
    light = light and (kind not in RELATIVES or (command == "audit --model" and "SDXL" in kind))
    light = light and (command != "samples --latents" or kind == "latents, unconditional")
    return [] if light else [pytest.mark.slow]


CELLS = [
    pytest.param(kind, command, marks=_marks(kind, command))
    for kind in (*KINDS, *MODULES)
    for command in COMMANDS
    if command != "samples --latents" or kind.startswith("latents")
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folder, model and options of a kind, made when it is first asked for."""
    home, made = tmp_path_factory.mktemp("kinds"), {}

    def of(kind):
        if kind in MODULES and kind not in made:
            folder = home / str(len(made))
            folder.mkdir()
            made[kind] = folder, *_module(kind, folder)
            _images(folder)
        if kind not in made:
            network, scheduler, autoencoder, options = KINDS[kind]
            torch.manual_seed(0)
            folder = home / str(len(made))
            net = network()
            parts = {"unet" if "UNet" in type(net).__name__ else "transformer": net, "scheduler": scheduler()}
            parts |= {} if autoencoder is None else {"vae": autoencoder()}
            index = {name: ["diffusers", type(part).__name__] for name, part in parts.items()}
            for name, part in parts.items():
                part.save_pretrained(folder / name)
            (folder / "model_index.json").write_text(json.dumps({"_class_name": "DiffusionPipeline"} | index))
            if "embeddings" in options:
                tensors = {"prompt_embeds": torch.ones(3, 6), "pooled_prompt_embeds": torch.ones(5)}
                save_file({name: tensors[name] for name in options["embeddings"]}, folder / "text.safetensors")
                options = options | {"embeddings": str(folder / "text.safetensors")}
            _images(folder)
            made[kind] = folder, folder, options
        return made[kind]

    return of


def _images(folder):
    small = load().X.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4))  # digits of 4 x 4: matrices are small
    np.save(folder / "images.npy", small[:24])
    np.save(folder / "made.npy", small[:4])


def _module(kind, folder):
    """Code, weights, TorchScript and exported module of one network; which of them is given, with its options."""
    torch.manual_seed(0)
    (folder / "nets.py").write_text(MODULE)
    net, example, batch = (
        call_function(folder / "nets.py:net"),
        (torch.zeros(2, 1, 4, 4), torch.ones(2)),
        torch.export.Dim("B"),
    )
    if kind.endswith("name"):
        save_file({f"ema.{name}": tensor for name, tensor in net.state_dict().items()}, folder / "weights.safetensors")
        return folder / "nets.py:net", CONVENTION | {"weights": folder / "weights.safetensors"}
    if kind.endswith("TorchScript"):
        with pytest.warns(DeprecationWarning, match="jit"):
            torch.jit.trace(net, example).save(str(folder / "net.pt"))
    elif kind.endswith("export"):
        torch.export.save(
            torch.export.export(net, example, dynamic_shapes=({0: batch}, {0: batch})), folder / "net.pt2"
        )
    return folder / MODULES[kind], CONVENTION


def test_the_table_has_every_kind_and_no_empty_cell():
    assert [row[0] for row in ROWS] == [*KINDS, *MODULES]
    for row in ROWS:
        assert all(cell.startswith("yes") for cell in row[2:-1]), row
        assert row[-1] == ("yes" if row[0].startswith("latents") else NO_LATENTS)
    head = next(line for line in PAGE.splitlines() if line.startswith("| kind"))
    assert re.findall(r"`([^`]+)`", head) == list(COMMANDS)


@pytest.mark.parametrize(("kind", "command"), CELLS)
def test_a_filled_cell_runs(kind, command, saved, tmp_path, monkeypatch):
    folder, model, options = saved(kind)
    monkeypatch.setattr("validation.figures.save", lambda figure, path: path)  # drawn, not rendered: that takes seconds
    monkeypatch.setattr("validation.spectrum.signals.save", lambda figure, path: path)
    monkeypatch.setattr("validation.spectrum.command._with_dimension", lambda result, *_: result)
    common = {"model": model, "probes": 2, "network": options}
    if command == "audit --model":
        _, losses = audit_pipeline(model, folder / "images.npy", points=4, network=options)
        assert np.isfinite(losses["network"]).all()
        remarks = losses.attrs.get("remarks", "")
    elif command == "report --model":
        subject = asked(folder / "images.npy", model, seed=0, network=options)
        losses, ladders = network_part(subject, tmp_path / "model", "cpu", str)
        assert np.isfinite(losses[0][1]["network"]).all()
        assert ladders
        assert subject.spectrum_subject().P == subject.data.P - 2
        remarks = losses[0][1].attrs.get("remarks", "")
    elif command == "samples --latents":
        found = samples(folder / "made.npy", folder / "images.npy", latents=model)
        assert found.found.below.value == 1  # copies, in latents too
        return
    elif command == "spectrum --model":
        ((result, _),) = run(folder / "images.npy", tmp_path / "s.png", **common, points=4)
        assert np.isfinite(result["eigenvalue"].sel(score="network")).all()
        remarks = result.attrs.get("remarks", "")
    else:
        ((result, _),) = run_samples(folder / "made.npy", tmp_path / "s.png", **common, points=2, draws=2)
        assert np.isfinite(result["sharpness"]).all()
        assert result.sizes["sample"] == 4
        remarks = result.attrs.get("remarks", "")
    assert ("no score of any density" in remarks) == kind.endswith("guided")
    assert ("points are latents" in remarks) == kind.startswith("latents")
