"""Torch modules of others: every form, every prefix of weights, every refusal; no code but the user's own runs."""

import io
import json
import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from numerics.domain import DomainError
from validation.data import load
from validation.networks import form_of, is_foreign
from validation.networks.torch_modules import load_exported, load_weights, module_score, open_module, read_weights
from validation.report.subject import asked
from validation.spectra import FittedGaussian, effective_dimension
from validation.spectrum import open_pipeline

NETS = '''
import torch
from safetensors.torch import load_file

from validation.networks import Denoiser, ModelScore, ResidualMLP, Scale


class Gaussian(torch.nn.Module):
    """D(y, sigma) of Gaussian data."""

    def __init__(self):
        super().__init__()
        self.mean, self.values = (torch.nn.Parameter(torch.zeros(16)) for _ in range(2))
        self.axes = torch.nn.Parameter(torch.eye(16))

    def forward(self, y: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        z = (y.flatten(1) - self.mean) @ self.axes
        gain = self.values / (self.values + sigma[:, None] ** 2)
        return (self.mean + (z * gain) @ self.axes.T).reshape(y.shape)


def bare():
    return Gaussian()


def told():
    net = Gaussian()
    net.load_state_dict(load_file("plain.safetensors"))
    return net, {"convention": "edm", "prediction": "x0"}


def ready(device):
    net = told()[0].to(device)
    return ModelScore(net, predicts="x0", convention="edm", shape=(1, 4, 4))


def ours():
    return Denoiser(ResidualMLP(16, width=4), (16,), [Scale(0.0, 1.0)])


class Steps(torch.nn.Module):
    """The noise of Gaussian data, given a timestep: its schedule is in the weights' alphas_cumprod."""

    def __init__(self):
        super().__init__()
        self.inner = Gaussian()

    def forward(self, y, step):
        bar = torch.exp(-step / 50 - 0.01)[:, None, None, None]  # alphas_cumprod[step]
        sigma = ((1 - bar) / bar).sqrt()
        x = y / bar.sqrt()
        return (x - self.inner(x, sigma.flatten())) / sigma


def steps():
    return Steps()


def embedded():
    class Integers(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(1000, 1)

        def forward(self, y, step):
            return y * self.table(step)[:, :, None, None]

    return Integers()


def single(y=1, *, z):
    return None


def number():
    return 3


def fails():
    return 1 / 0


def unknown():
    return Gaussian(), {"predicts": "x0"}


def plain():
    return lambda y, sigma: y
'''
EDM = {"convention": "edm", "prediction": "x0"}


class Trap:
    """A pickle that makes a folder where it is loaded."""

    def __reduce__(self):
        return os.mkdir, ("sprung",)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with code, weights, TorchScript, exported modules and images; the optimal weights by name."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "nets.py").write_text(NETS)
    X = load().X.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4))[:400]
    np.save(folder / "images.npy", X)
    flat = torch.from_numpy(np.array(X.reshape(len(X), -1), dtype=np.float64))
    values, axes = torch.linalg.eigh(flat.T.cov())
    state = {"mean": flat.mean(0), "values": values.clamp_min(1e-6), "axes": axes}
    state = {name: tensor.float().contiguous() for name, tensor in state.items()}
    save_file(state, folder / "plain.safetensors")
    space = {}
    exec(NETS, space)
    net = space["Gaussian"]()
    net.load_state_dict(state)
    with pytest.warns(DeprecationWarning, match="jit"):
        torch.jit.trace(net, (torch.zeros(2, 1, 4, 4), torch.ones(2))).save(str(folder / "net.pt"))
    example, batch = (torch.zeros(3, 1, 4, 4), torch.ones(3)), torch.export.Dim("B")
    torch.export.save(torch.export.export(net, example), folder / "fixed.pt2")
    dynamic = torch.export.export(net, example, dynamic_shapes=({0: batch}, {0: batch}))
    torch.export.save(dynamic, folder / "net.pt2")
    before = os.getcwd()
    os.chdir(folder)
    yield folder, state, flat
    os.chdir(before)


FORMS = [
    ("nets.py:bare", EDM | {"weights": "plain.safetensors"}),
    ("nets.py:told", {}),
    ("nets.py:told", {"prediction": "x0"}),
    ("nets.py:ready", {}),
    ("net.pt", EDM),
    ("net.pt2", EDM),
    ("fixed.pt2", EDM),
]


@pytest.mark.parametrize(("model", "options"), FORMS, ids=[f"{model} {len(options)}" for model, options in FORMS])
def test_every_form_is_the_score_it_holds(home, model, options):
    """Against the Gaussian's own score, in float64 where the code is the user's, else in the file's float32."""
    _, _, flat = home
    assert is_foreign(model)
    opened = open_pipeline(model, "images.npy", **options)
    exact = FittedGaussian(flat)
    x = opened.train[:5] + 0.3
    score = opened.face.score(x, 0.5)
    assert float((score - exact.score(x, 0.5)).norm() / score.norm()) < 0.02  # a tenth of the images was kept back
    assert not opened.remarks or "weights" in opened.remarks[0]
    found = effective_dimension(opened.face, x, 0.5, probes=16)
    assert found["dimension"].values[0] == pytest.approx(
        np.full(5, float((exact.variances / (exact.variances + 0.5)).sum())), rel=0.02
    )


def test_our_own_denoiser_is_taken(home):
    opened = open_module("nets.py:ours")
    assert opened.make((16,)).score(torch.ones(1, 16, dtype=torch.float64), 1.0).shape == (1, 16)


PREFIXES = [
    "",
    "ema.",
    "ema_model.",
    "module.",
    "_orig_mod.",
    "model.",
    "module._orig_mod.",
    "ema_model.model.",
    "net.",
]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_prefixes_of_weights(home, tmp_path, prefix, suffix):
    _, state, _ = home
    held = {prefix + name: tensor for name, tensor in state.items()}
    path = tmp_path / f"w{suffix}"
    save_file(held, path) if suffix == ".safetensors" else torch.save(held, path)
    net = _net()
    said = load_weights(net, path)
    assert torch.equal(net.axes, state["axes"])
    assert f"{path.name}, under {prefix}" in said.source or not prefix


def _net():
    space = {}
    exec(NETS, space)
    return space["Gaussian"]()


LAYOUTS = {
    "lucidrains": lambda old, new: {
        "step": 7,
        "model": {f"model.{n}": v for n, v in old.items()} | {"betas": torch.ones(4), "alphas_cumprod": torch.ones(4)},
        "ema": {f"online_model.model.{n}": v for n, v in old.items()}
        | {f"ema_model.model.{n}": v for n, v in new.items()}
        | {"ema_model.alphas_cumprod": torch.linspace(0.9, 0.1, 4), "initted": torch.ones(()), "step": torch.ones(())},
    },
    "EDM2": lambda old, new: {"net": old, "ema": {"stds": [0.05, 0.1], "emas": [new, old]}, "state": {"cur_nimg": 5}},
    "EDM": lambda old, new: {"ema": {f"model.{n}": v for n, v in new.items()}, "net": old},
    "Lightning": lambda old, new: {"epoch": 3, "state_dict": {f"model.{n}": v for n, v in new.items()}},
    "one dictionary": lambda old, new: (
        {f"model.{n}": v for n, v in old.items()} | {f"ema.{n}": v for n, v in new.items()}
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_checkpoints_give_the_average(home, tmp_path, layout):
    _, new, _ = home
    old = {name: tensor + 1 for name, tensor in new.items()}
    torch.save(LAYOUTS[layout](old, new), tmp_path / "w.pt")
    net = _net()
    found = load_weights(net, tmp_path / "w.pt")
    assert torch.equal(net.values, new["values"])
    assert (found.alphas_cumprod is not None) == (layout == "lucidrains")


def test_timesteps_are_those_of_the_weights_or_of_a_scheduler(home, tmp_path):
    _, state, flat = home
    bars = torch.exp(-torch.arange(200, dtype=torch.float64) / 50 - 0.01)
    held = {f"ema_model.model.inner.{n}": v for n, v in state.items()} | {"ema_model.alphas_cumprod": bars}
    torch.save({"step": 3, "ema": held}, tmp_path / "w.pt")
    options = {"convention": "ddpm", "prediction": "epsilon", "weights": tmp_path / "w.pt"}
    opened = open_pipeline("nets.py:steps", "images.npy", **options)
    x = opened.train[:3] + 0.2
    exact = FittedGaussian(flat).score(x, 0.7)
    assert float((opened.face.score(x, 0.7) - exact).norm() / exact.norm()) < 0.02
    assert "200 of them" in opened.remarks[1]
    with pytest.raises(DomainError, match="--scheduler = nothing"):
        open_module("nets.py:steps", convention="ddpm", prediction="epsilon")
    for name in ("squaredcos_cap_v2", "DDIMScheduler"):
        pytest.importorskip("diffusers")
        (said,) = open_module("nets.py:steps", convention="ddpm", prediction="epsilon", scheduler=name).remarks
        assert name in said


def test_an_embedding_of_integers_is_asked_at_integers(home):
    pytest.importorskip("diffusers")
    face = open_module("nets.py:embedded", convention="ddpm", prediction="epsilon", scheduler="linear").make((1, 4, 4))
    assert face.round
    assert face.score(torch.ones(2, 16, dtype=torch.float64), 1.0).isfinite().all()


def test_wrong_conventions_are_named_before_anything_is_measured(home):
    for wrong, words in (
        ({"prediction": "epsilon"}, "--prediction x0"),
        ({"convention": "ve"}, "--level sigma"),
    ):
        options = EDM | {"weights": "plain.safetensors"} | wrong
        with pytest.raises(DomainError, match=words):
            open_pipeline("nets.py:bare", "images.npy", **options)
    np.save("large.npy", 127.5 * np.load("images.npy") + 127.5)
    with pytest.raises(DomainError, match=r"--centre 127.5 --unit 127.5"):
        open_pipeline("nets.py:told", "large.npy")


REFUSED = [  # --model, options, words
    ("nets.py", {}, "file.py:function"),
    ("none.py:f", {}, "no such file"),
    ("nets.py:", {}, "a name in that file"),
    ("nets.py:nothing", {}, "functions in nets.py: bare, told"),
    ("nets.py:single", {}, "of no argument or of `device`"),
    ("nets.py:number", {}, "it returns a int"),
    ("nets.py:fails", {}, r"nets.py, line \d+: ZeroDivisionError"),
    ("nets.py:unknown", {}, "a convention with predicts"),
    ("nets.py:bare", {}, "--convention = nothing"),
    ("nets.py:bare", {"convention": "edm"}, "--prediction = nothing"),
    ("nets.py:bare", {"convention": "xy", "prediction": "x0"}, "--convention = xy"),
    ("nets.py:bare", {"convention": "ve", "prediction": "xy"}, "--prediction = xy"),
    ("nets.py:bare", {"convention": "ve", "prediction": "flow"}, "--prediction = velocity"),
    ("nets.py:bare", {"convention": "vp", "prediction": "edm"}, "--convention = vp"),
    ("nets.py:bare", EDM | {"level": "xy"}, "--level = xy"),
    ("nets.py:bare", EDM | {"level": "timestep"}, "--level = timestep"),
    ("nets.py:bare", EDM | {"sigma_data": 0.5}, "--sigma-data = 0.5"),
    ("nets.py:bare", {"convention": "edm", "prediction": "edm", "sigma_data": -1.0}, "--sigma-data = -1.0"),
    ("nets.py:bare", EDM | {"scheduler": "linear"}, "--scheduler = linear"),
    ("nets.py:ready", {"convention": "edm"}, "--convention = edm"),
    ("nets.py:plain", EDM | {"weights": "plain.safetensors"}, "holds 0"),
    ("net.pt", EDM | {"weights": "plain.safetensors"}, "--weights = plain"),
    ("net.pt", EDM | {"label": 1}, "--class = 1"),
    ("state.pt", EDM, "It holds weights, or a pickled module"),
    ("whole.pt", EDM, "It holds weights, or a pickled module"),
    ("snapshot.pkl", EDM, "NVlabs"),
    ("junk.pt", EDM, "none of torch's archives"),
    ("junk.pt2", EDM, "torch.export.save wrote"),
    ("damaged.pt", EDM, "torch.jit.save wrote"),
    ("nets.py:bare", EDM | {"weights": "none.pt"}, "no such file"),
    ("nets.py:bare", EDM | {"weights": "snapshot.pkl"}, "not loaded"),
    ("nets.py:bare", EDM | {"weights": "whole.pt"}, "not loaded"),
    ("nets.py:bare", EDM | {"weights": "junk.pt"}, "--weights = junk.pt"),
    ("nets.py:bare", EDM | {"weights": "junk.safetensors"}, "--weights = junk.safetensors"),
    ("nets.py:bare", EDM | {"weights": "tensor.pt"}, "holds a Tensor"),
    ("nets.py:bare", EDM | {"weights": "less.pt"}, "1 are not in the file, axes"),
    ("nets.py:bare", EDM | {"weights": "more.pt"}, "not in the module, other"),
    ("nets.py:bare", EDM | {"weights": "shape.pt"}, r"axes is \(15, 16\)"),
    ("nets.py:bare", EDM | {"weights": "else.pt"}, "the file's head.weight"),
]


@pytest.fixture(scope="module")
def bad(home):
    """Files that are refused."""
    folder, state, _ = home
    torch.save(state, folder / "state.pt")
    torch.save(torch.nn.Linear(2, 2), folder / "whole.pt")
    (folder / "snapshot.pkl").write_bytes(pickle.dumps({"ema": Trap()}))
    for name in ("junk.pt", "junk.pt2", "junk.safetensors"):
        (folder / name).write_bytes(b"nonsense")
    torch.save(torch.ones(3), folder / "tensor.pt")
    torch.save({n: v for n, v in state.items() if n != "axes"}, folder / "less.pt")
    torch.save(state | {"other.weight": torch.ones(2)}, folder / "more.pt")
    torch.save(state | {"axes": torch.ones(15, 16)}, folder / "shape.pt")
    torch.save({"head.weight": torch.ones(2)}, folder / "else.pt")
    _rewritten(
        folder / "net.pt", folder / "damaged.pt", lambda name, content: content[:20] if "/code/" in name else content
    )
    return folder


def _rewritten(source, target, change, more=None):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
        for name, content in (more or {}).items():
            new.writestr(name, content)


@pytest.mark.parametrize(("model", "options", "words"), REFUSED, ids=[f"{m} {w}" for m, _, w in REFUSED])
def test_what_cannot_be_used_is_refused_in_words(bad, model, options, words):
    with pytest.raises(DomainError, match=words) as caught:
        open_pipeline(model, "images.npy", **options)
    assert str(caught.value).isprintable()
    assert not (bad / "sprung").exists()


def test_options_of_modules_are_refused_for_diffusers(home, tmp_path):
    (tmp_path / "unet").mkdir()
    with pytest.raises(DomainError, match="--convention = edm"):
        open_pipeline(tmp_path / "unet", "images.npy", convention="edm")


EVIL = {
    "operator": lambda name, c: c.replace(b"torch.ops.aten.div.Tensor", b"torch.os.system"),
    "expression": lambda name, c: c.replace(b"Symbol('", b"__import__('os').mkdir('sprung') or Symbol('"),
    "guard": lambda name, c: _with_guard(c) if name.endswith("model.json") else c,
    "sample inputs": lambda name, c: _trapped() if "sample_inputs" in name else c,
}


def _with_guard(content):
    described = json.loads(content)
    return json.dumps(described | {"guards_code": ["__import__('os').mkdir('sprung') or True"]}).encode()


def _trapped():
    body = io.BytesIO()
    torch.save((Trap(), {}), body)
    return body.getvalue()


@pytest.mark.parametrize("kind", EVIL)
def test_no_code_of_an_exported_file_runs(home, tmp_path, kind):
    folder, _, _ = home
    _rewritten(folder / "net.pt2", tmp_path / "net.pt2", EVIL[kind])
    with zipfile.ZipFile(folder / "net.pt2") as a, zipfile.ZipFile(tmp_path / "net.pt2") as b:
        assert any(a.read(n) != b.read(n) for n in a.namelist())
    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    with pytest.raises(DomainError, match="torch's own operators"):
        load_exported(tmp_path / "net.pt2")
    assert not (folder / "sprung").exists()
    assert os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD") == before


def test_an_exported_file_with_opaque_objects_is_refused(home, tmp_path):
    folder, _, _ = home
    _rewritten(
        folder / "net.pt2",
        tmp_path / "net.pt2",
        lambda _, c: c,
        {"net/data/constants/opaque_obj_0": pickle.dumps(Trap())},
    )
    with pytest.raises(DomainError, match="it holds net/data/constants/opaque_obj_0"):
        load_exported(tmp_path / "net.pt2")
    assert not (folder / "sprung").exists()


def test_a_pickle_of_code_is_not_run(bad):
    with pytest.raises(DomainError, match=r"weights\.pt"):
        read_weights("snapshot.pkl")
    assert not (bad / "sprung").exists()


def test_a_page_repeats_the_options_of_a_module(home, monkeypatch):
    network = EDM | {"weights": "plain.safetensors"}
    found = asked("images.npy", "nets.py:bare", seed=0, network=network)
    assert found.pipeline
    command = found.command("audit", "--model", "nets.py:bare")
    assert "--convention=edm" in command
    assert "--weights=plain.safetensors" in command
    assert "--convention" not in found.command("audit", "--points")  # which would be refused without --model


def test_forms_are_told_by_name(home):
    assert [form_of(m) for m in ("nets.py:bare", "net.pt", "net.pt2", ".")] == [
        "function",
        "script",
        "exported",
        "diffusers",
    ]
    shutil.copy("plain.safetensors", "own.safetensors")
    assert form_of("own.safetensors") == "own"


def test_edm_networks_take_their_own_sigma_data():
    face = module_score(lambda y, c: y, (2,), convention="edm", prediction="edm", sigma_data=2.0)
    assert face.sigma_data == 2.0
    assert module_score(lambda y, c: y, (2,), convention="edm", prediction="edm").sigma_data == 0.5
