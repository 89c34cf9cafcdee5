"""Every remedy that an error offers, and that holds code, an option or a name, is taken from the error and run.

A scan of the sources finds them; one that no test names here makes the last test fail. What needs a network uses real ones of
diffusers, 8 x 8 pixels, with random weights.
"""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sympy as sp
import torch

from numerics.domain import DomainError
from numerics.solvers import Status
from theory import (
    HiddenManifold,
    Isotropic,
    LinearManifold,
    collapse_time,
    critical_dataset_size,
    onset_time,
)
from validation.data import load
from validation.networks import DiffusersScore, ModelScore, NetworkScore

ROOT = Path(__file__).parents[1]
COVERED: dict[str, str] = {}  # words of a remedy -> the test that runs it


def runs(*words):
    """The test that is decorated runs the remedies with these words in them."""

    def mark(test):
        COVERED.update(dict.fromkeys(words, test.__name__))
        return test

    return mark


def remedy(call, *args, error=DomainError, **options):
    """What an error says."""
    with pytest.raises(error) as found:
        call(*args, **options)
    return str(found.value)


def code_in(text):
    """What stands in backticks."""
    found = re.findall(r"`([^`]+)`", text)
    assert found, text
    return found


# --- networks of others -----------------------------------------------------------------------------------------------

X = torch.randn(2, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SMALL = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "norm_num_groups": 4}
PLAIN = {"block_out_channels": (8,), "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
CROSS = {
    "block_out_channels": (8,),
    "down_block_types": ("CrossAttnDownBlock2D",),
    "up_block_types": ("CrossAttnUpBlock2D",),
    "attention_head_dim": 4,
    "cross_attention_dim": 12,
}
CONDITIONAL = {
    "labels": ("UNet2DModel", PLAIN | {"num_class_embeds": 3, "add_attention": False}),
    "timestep labels": ("UNet2DModel", PLAIN | {"class_embed_type": "timestep", "add_attention": False}),
    "embedded labels": ("UNet2DModel", PLAIN | {"class_embed_type": "identity", "add_attention": False}),
    "text": ("UNet2DConditionModel", CROSS),
    "text and labels": ("UNet2DConditionModel", CROSS | {"num_class_embeds": 3}),
    "text and embedded labels": (
        "UNet2DConditionModel",
        CROSS | {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 5},
    ),
}


def network(kind, options, dtype=torch.float32):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    return torch.nn.Module.to(getattr(diffusers, kind)(**SMALL | options), dtype).eval(), diffusers.DDPMScheduler()


@runs(
    "lambda y, step: unet(y, step, {})",
    "encoder_hidden_states=torch.zeros",
    "class_labels=torch.zeros(len(y), {}",
    "class_labels=torch.zeros(len(y), dtype=torch.long",
)
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (kind, dtype)
        for kind in CONDITIONAL
        for dtype in (torch.float32, torch.float64)
        if (kind, dtype) != ("timestep labels", torch.float64)
    ],  # diffusers' own embedding of them is float32 only
)
def test_the_lambda_that_gives_a_condition(kind, dtype):
    """As it stands in the message, with no option beside it: shape and precision are those of the UNet inside."""
    unet, scheduler = network(*CONDITIONAL[kind], dtype)
    (code,) = code_in(remedy(DiffusersScore, unet, scheduler))
    wrapped = eval(code, {"unet": unet, "torch": torch})
    face = DiffusersScore(wrapped, scheduler)
    assert (face.shape, face.dtype) == ((1, 8, 8), dtype)
    t = 0.3
    with torch.no_grad():
        y = (X / (1 + t) ** 0.5).reshape(2, 1, 8, 8).to(dtype)
        step = torch.full((2,), face.timestep(t)).to(torch.promote_types(dtype, torch.float32))
        right = -wrapped(y, step).sample.flatten(1).double() / t**0.5
    torch.testing.assert_close(face.score(X, t), right, rtol=1e-5, atol=1e-5)
    if kind == "labels":
        J, h = face.jacobian(X[:1], t)[0], 1e-6 if dtype == torch.float64 else 1e-2
        assert face.derivative.method == "forward"
        along = (face.score(X[:1] + h * X[1:], t) - face.score(X[:1] - h * X[1:], t))[0] / (2 * h)
        torch.testing.assert_close(along, J @ X[1], rtol=1e-2, atol=1e-2)


def test_conditions_that_no_short_lambda_can_give():
    """Of SDXL's kind: the message says so, and a callable that gives them all runs."""
    extra = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 12,
    }
    unet, scheduler = network("UNet2DConditionModel", CROSS | extra)
    assert "added_cond_kwargs" in remedy(DiffusersScore, unet, scheduler)

    def wrapped(y, step):
        added = {"text_embeds": torch.zeros(len(y), 4), "time_ids": torch.zeros(len(y), 2)}
        return unet(y, step, torch.zeros(len(y), 1, 12), added_cond_kwargs=added)

    assert torch.isfinite(DiffusersScore(wrapped, scheduler).score(X, 0.3)).all()


COVERED["Wrap it in a callable of (y, step) that gives it all its conditions"] = (
    test_conditions_that_no_short_lambda_can_give.__name__
)


@runs("Cast them first: `unet.to({})`")
def test_the_cast_of_a_network_inside_a_callable():
    unet, scheduler = network("UNet2DModel", PLAIN | {"add_attention": False})
    wrapped = lambda y, step: unet(y, step)  # noqa: E731
    (code,) = code_in(remedy(DiffusersScore, wrapped, scheduler, dtype=torch.float64))
    eval(code, {"unet": unet, "torch": torch})
    assert DiffusersScore(wrapped, scheduler, dtype=torch.float64).dtype == torch.float64
    assert torch.isfinite(DiffusersScore(wrapped, scheduler, dtype=torch.float64).jacobian(X[:1], 0.3)).all()


@runs("Use ModelScore for others", "Use ModelScore with convention='flow'", "Wrap other modules in ModelScore")
def test_what_the_adapter_of_diffusers_refuses_runs_in_model_score():
    diffusers = pytest.importorskip("diffusers")
    unet, _ = network("UNet2DModel", PLAIN | {"add_attention": False}, torch.float64)
    for scheduler, name, options in (
        (diffusers.IPNDMScheduler(), "ModelScore", {"convention": "edm", "predicts": "x0"}),
        (
            diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
            "ModelScore with convention='flow'",
            {"convention": "flow", "predicts": "x0", "condition": lambda t: 1 / (1 + t**0.5)},
        ),
    ):
        assert name in remedy(DiffusersScore, unet, scheduler)
        face = ModelScore(unet, shape=(1, 8, 8), **options)
        level = face.condition(0.3)
        with torch.no_grad():
            y = X * face.scale(0.3)
            right = (unet(y.reshape(2, 1, 8, 8), torch.full((2,), level).double()).sample.flatten(1) - X) / 0.3
        torch.testing.assert_close(face.score(X, 0.3), right, rtol=1e-10, atol=1e-10)
    plain = torch.nn.Linear(3, 3)
    assert "ModelScore" in remedy(NetworkScore, plain)
    assert ModelScore(lambda y, level: plain(y), predicts="noise").score(torch.zeros(1, 3).double(), 1.0).shape == (
        1,
        3,
    )


@runs("to measure as it is all the same", "to measure as they are all the same", "in its scheduler_config.json")
def test_a_prediction_type_that_is_wrong_and_measured_all_the_same(geomem, tmp_path):
    """A network that learned noise, in a pipeline that says v: named; corrected it is silent, insisted on measured."""
    diffusers = pytest.importorskip("diffusers")
    from validation.data import load

    unet, scheduler = network("UNet2DModel", PLAIN | {"add_attention": False})
    pixels = torch.from_numpy(load().X).float().reshape(-1, 1, 8, 8)
    optimiser, draw = torch.optim.Adam(unet.train().parameters(), 1e-2), torch.Generator().manual_seed(0)
    for _ in range(150):
        x = pixels[torch.randint(len(pixels), (64,), generator=draw)]
        noise, step = torch.randn(x.shape, generator=draw), torch.randint(1000, (64,), generator=draw)
        loss = (unet(scheduler.add_noise(x, noise, step), step).sample - noise).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    wrong = diffusers.DDPMScheduler(prediction_type="v_prediction")
    diffusers.DDPMPipeline(unet.eval(), wrong).save_pretrained(tmp_path / "p")
    arguments = ("audit", "digits", "--limit", 60, "--probes", 4, "--model", tmp_path / "p")
    done = geomem(*arguments)
    assert done.returncode == 2
    message = " ".join(done.stderr.split())
    assert "prediction_type epsilon" in message
    assert "Correct prediction_type in its scheduler_config.json" in message
    (code,) = code_in(message)
    assert code == "--centre 0 --unit 1"
    assert geomem(*arguments, *code.split()).returncode == 0
    config = tmp_path / "p" / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("v_prediction", "epsilon"))
    assert geomem(*arguments).returncode == 0


@runs("Measure with `--products float32`")
def test_products_that_are_too_coarse(tmp_path):
    """Refused in bfloat16; as the message offers, it is measured."""
    from test_product_precision import Cancelling, X

    from validation.spectrum.product_precision import reduce_products

    face = ModelScore(Cancelling(30.0), predicts="x0", convention="ve")
    (code,) = code_in(remedy(reduce_products, face, "bfloat16", X, "cpu"))
    name, kind = code.split()
    assert name == "--products"
    assert reduce_products(face, kind, X, "cpu") == ""
    assert "cuda" in remedy(reduce_products, face, "tf32", X, "cpu")


@runs("TF32 is cuda's: --device cuda", "Products are taken above")
def test_products_that_are_not_to_be_had_here(cuda):
    from test_product_precision import Cancelling, X

    from validation.spectrum.product_precision import reduce_products

    face = ModelScore(Cancelling(1e-3), predicts="x0", convention="ve")
    found = re.search(r"--device (\w+)", remedy(reduce_products, face, "tf32", X, "cpu"))
    face.module.to(found[1])
    assert reduce_products(face, "tf32", X, cuda).startswith("products in tf32")


@runs("pip install")
def test_the_packages_to_install_are_called_so():
    """The name that each message gives to pip is the name of a distribution that provides what is imported."""
    named = set()
    for text, _ in remedies():
        named |= set(re.findall(r"pip install ([\w-]+)", text))
    assert named == {"diffusers", "transformers", "scikit-dimension", "accelerate", "distributed", "pyarrow"}
    for name in named:
        try:
            provided = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{name} is not installed here")
        assert provided.metadata["Name"] == name


# --- theory -----------------------------------------------------------------------------------------------------------


@runs("declare the kinks and steps with breakpoints=[...]")
def test_declared_breakpoints():
    from numerics.elementary import tabulate
    from theory.models.activations import activation

    def kinked(x):
        return np.maximum(np.asarray(x) - 0.3, 0.0)

    text = remedy(tabulate, kinked, 5.0)
    where = round(float(re.search(r"rough near h = (\S+) ", text)[1]), 3)
    assert where == 0.3
    assert "breakpoints=[...]" in text
    tabulate(kinked, 5.0, breakpoints=[where])
    assert activation(kinked, breakpoints=[where]).breakpoints == (where,)  # where a user's own function declares them


@runs("ask for its logarithm with log=True", "above float range; ask for log=True")
def test_logarithms_where_floats_end():
    assert "log=True" in Status.BELOW_FLOAT_RANGE.advice
    assert collapse_time(Isotropic(1.0), 400.0, log=True) == pytest.approx(-800.0)
    with pytest.warns(RuntimeWarning, match="log=True"):
        values = critical_dataset_size(Isotropic(1.0), np.array([1.0, 1e-3]), N=1000)
    assert np.isnan(values[1])
    logs = critical_dataset_size(Isotropic(1.0), np.array([1.0, 1e-3]), N=1000, log=True)
    assert logs[1] == pytest.approx(500 * np.log1p(1e3))


@runs("formulas there are of the times", "a formula is `covariance_density.equation(model)`")
def test_formulas_where_numbers_are_wanted():
    """The code of the message gives an equation in the model's own symbols."""
    from theory import basin_radius, critical_alpha, free_energy
    from theory.models import covariance_density, covariance_law

    s = sp.Symbol("s", positive=True)
    names = {"collapse_time": collapse_time, "covariance_density": covariance_density, "model": Isotropic(s)}
    for call in (
        lambda: critical_alpha(Isotropic(s), 1.0),
        lambda: basin_radius(Isotropic(s), 0.2, 1.0),
        lambda: free_energy(Isotropic(s), 1.0, 0.2),
        lambda: covariance_law(Isotropic(s)),
    ):
        (code,) = code_in(remedy(call))
        assert eval(code, names).has(s)


@runs("has no closed form; see {}_time.equation(model)")
def test_equations_of_what_has_no_closed_form():
    a = sp.Symbol("a", positive=True)
    text = remedy(onset_time, LinearManifold(0.5), a, error=NotImplementedError)
    name = re.search(r"see (\w+)\.equation\(model\)", text)[1]
    assert name == "onset_time"
    assert onset_time.equation(LinearManifold(0.5)) is not None


@runs("theory.finite_size.drift.finite_size_value")
def test_drift_of_nonlinear_models():
    import importlib

    from theory.finite_size import finite_size_times

    text = remedy(finite_size_times, HiddenManifold(0.5), 100, 20)
    module, name = re.search(r"(theory\.finite_size\.drift)\.(finite_size_value)", text).groups()
    function = getattr(
        importlib.import_module(module), name
    )  # its values for hidden manifolds: tests/test_replica_drift.py
    assert np.isfinite(function("collapse", Isotropic(1.0), 0.2, 40))


@runs("call gaussian_equivalent for each", "call small_noise for each", "see discrete_threshold")
def test_functions_of_one_model_at_a_time():
    from theory.replica import gaussian_equivalent
    from theory.replica.small_noise import discrete_threshold, small_noise

    both = HiddenManifold(np.array([0.4, 0.6]), "identity")
    assert "gaussian_equivalent" in remedy(gaussian_equivalent, both)
    assert "small_noise" in remedy(small_noise, both)
    for alpha_D in (0.4, 0.6):
        assert np.isfinite(gaussian_equivalent(HiddenManifold(alpha_D, "identity")).time("collapse", 0.2))
        assert np.isfinite(small_noise(HiddenManifold(alpha_D, "identity")).log_C)
    assert "discrete_threshold" in remedy(small_noise, HiddenManifold(1.0, "sign"))
    assert discrete_threshold(HiddenManifold(1.0, "sign")) > 0


@runs("or use Spectrum.from_samples(X)", "Hand over a covariance or Spectrum.from_samples(X)")
def test_a_spectrum_from_samples():
    from theory import Spectrum, speciation_time

    X = np.random.default_rng(0).standard_normal((50, 3))
    for text in (
        remedy(Spectrum, [1.0, -0.5]),
        remedy(speciation_time, HiddenManifold(0.5, "tanh")),
    ):
        code = re.search(r"Spectrum\.from_samples\(X\)", text)[0]
        assert speciation_time(eval(code, {"Spectrum": Spectrum, "X": X})) > 0


@runs("Build Mixture(weights, models, means=...)", "Build PowerLaw(..., N=...)")
def test_models_built_with_what_they_lack():
    from theory import Mixture, PowerLaw, speciation_time

    weights, models = [0.5, 0.5], [Isotropic(1.0), Isotropic(2.0)]
    assert "Mixture(weights, models, means=...)" in remedy(speciation_time, Mixture(weights, models))
    assert speciation_time(Mixture(weights, models, means=np.array([[1.0] * 9, [-1.0] * 9]))) > 0
    assert "PowerLaw(..., N=...)" in remedy(lambda: PowerLaw(2.0).eigenvalues)
    assert PowerLaw(2.0, N=5).eigenvalues.shape == (5,)


@runs("Patches are those of StationaryField, ImageCovariance")
def test_models_that_have_patches():
    import theory

    text = remedy(collapse_time, Isotropic(1.0), P=100, patch=3)
    names = re.search(r"those of ([\w, ]+)", text)[1].split(", ")
    from theory.models.fields import Field

    assert all(issubclass(getattr(theory, name), Field) for name in names)


# --- data -------------------------------------------------------------------------------------------------------------


@runs("numpy.save('data.npy', X)", "numpy.stack(list_of_equal_arrays), then numpy.save", "array.reshape(-1, 1)")
def test_saving_samples_as_numpy_arrays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [np.arange(3.0) + i for i in range(5)]
    (tmp_path / "data.xyz").write_text("1 2 3")
    code = re.search(r"(numpy\.save\(.*?\))", remedy(load, "data.xyz"))[1]
    exec(code, {"numpy": np, "X": np.array(rows)})
    assert load("data.npy").P == 5
    ragged = np.empty(5, dtype=object)
    ragged[:] = rows
    np.save("objects.npy", ragged)
    assert "numpy.stack(list_of_equal_arrays)" in remedy(load, "objects.npy")
    np.save("objects.npy", np.stack(rows))
    assert load("objects.npy").N == 3
    np.save("scalars.npy", np.arange(4.0))
    code = re.search(r"array\.reshape\(.*?\)", remedy(load, "scalars.npy"))[0]
    np.save("scalars.npy", eval(code, {"array": np.arange(4.0)}))
    assert load("scalars.npy").X.shape == (4, 1)


def images(folder, sizes):
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(0)
    for i, size in enumerate(sizes):
        Image.fromarray(rng.integers(0, 256, (size, size), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


@runs("image_size=", "limit=")
def test_options_of_load_in_python_and_on_the_command_line(geomem, tmp_path, monkeypatch):
    ragged = images(tmp_path / "ragged", [8, 9, 8, 10, 8, 8])
    text = remedy(load, ragged)
    assert "image_size=" in text
    assert "--image-size" in text
    assert load(ragged, image_size=8).shape == (8, 8)
    done = geomem("audit", ragged, "--image-size", 8, "--no-twin", "--no-finite-size")
    assert done.returncode == 0, done.stderr
    large = images(tmp_path / "large", [16] * 30)
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PHYS_PAGES": 5, "SC_PAGE_SIZE": 4096}[name])
    text = remedy(load, large)
    assert "limit=" in text
    assert "--limit" in text
    assert load(large, limit=8).P == 8


@runs("Choose with key=")
def test_the_key_of_an_archive(geomem, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "two.npz", first=rng.standard_normal((30, 4)), second=rng.standard_normal((30, 5)))
    assert "key=" in remedy(load, tmp_path / "two.npz")
    assert load(tmp_path / "two.npz", key="second").N == 5
    done = geomem("audit", tmp_path / "two.npz", "--key", "second", "--no-twin", "--no-finite-size")
    assert done.returncode == 0, done.stderr


@runs("Or give `sizes`")
def test_sizes_of_a_small_set_of_images():
    from validation.experiments.trained_images.experiment import _sizes

    (name,) = code_in(remedy(_sizes, (100, 400), None, 50, 64))
    assert _sizes((100, 400), available=50, N=64, **{name: [20, 40]}) == [20, 40]


def test_a_device_that_is_there():
    from validation.data import nearest_neighbours

    rows = np.random.default_rng(0).standard_normal((6, 3))
    name = re.search(r"Try (?:device=')?(\w+)", remedy(nearest_neighbours, rows, 1, device="cuda:99"))[1]
    assert nearest_neighbours(rows, 1, device=name).index.shape == (6, 1)


@runs("Try .to_dense()")
def test_a_sparse_tensor_made_dense():
    from validation.devices import plain_tensor

    sparse = torch.eye(3).to_sparse()
    (code,) = re.findall(r"\.\w+\(\)", remedy(plain_tensor, "X", sparse, "numbers"))
    assert torch.equal(plain_tensor("X", eval(f"sparse{code}", {"sparse": sparse}), "numbers"), torch.eye(3))


@runs("Give them with --labels")
def test_labels_from_a_file(geomem, tmp_path):
    from validation.audit.classes import audit_classes

    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.standard_normal((80, 3)))
    np.save(tmp_path / "y.npy", np.arange(80) % 2)
    option = re.search(r"--\w+", remedy(audit_classes, load(tmp_path / "x.npy"), t=np.geomspace(1e-3, 10, 20)))[0]
    done = geomem("audit", tmp_path / "x.npy", option, tmp_path / "y.npy", "--no-twin", "--no-finite-size")
    assert done.returncode == 0, done.stderr


# --- scores and training ----------------------------------------------------------------------------------------------


@runs("Load it with np.array(X)")
def test_a_memory_map_loaded(tmp_path):
    from validation.score import EmpiricalScore

    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((64, 3)).astype(np.float32))
    X = np.load(tmp_path / "x.npy", mmap_mode="r")
    code = re.search(r"np\.array\(X\)", remedy(EmpiricalScore, X, clusters=4))[0]
    assert EmpiricalScore(eval(code, {"np": np, "X": X}), clusters=4).P == 64


@runs("Call torch.distributed.init_process_group first")
def test_a_group_of_one_process():
    import torch.distributed as dist

    from validation.score import EmpiricalScore

    X = np.random.default_rng(0).standard_normal((8, 3))
    assert "torch.distributed.init_process_group" in remedy(EmpiricalScore, X, group=True)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        assert EmpiricalScore(X, group=True).P == 8
    finally:
        dist.destroy_process_group()


@runs('"ancestral" or "edm"')
def test_schemes_that_end_at_zero():
    from validation.simulation import integrate

    start = np.random.default_rng(0).standard_normal((4, 3))
    arguments = (lambda x, t: -x / (1 + float(t[0])), torch.from_numpy(start), np.array([1.0, 0.5, 0.0]))
    text = remedy(integrate, *arguments, scheme="euler-maruyama")
    for scheme in re.findall(r'"(\w+)"', text.split("use ")[1]):
        assert torch.isfinite(integrate(*arguments, scheme=scheme, seed=0)).all()


@runs("Start it with torchrun or accelerate launch")
def test_several_processes_are_launched(tmp_path):
    from validation.training import TrainingConfig, train

    source, config = {"data": "linear", "seed": 0}, TrainingConfig(2, 8)
    text = remedy(
        train, source, [20], {"kind": "mlp", "width": 8}, config, tmp_path / "m.safetensors", distributed=True
    )
    assert "torchrun or accelerate launch" in text
    for program in (("torch.distributed.run",), ("accelerate.commands.launch", "--cpu")):
        help_text = subprocess.run(
            [sys.executable, "-m", program[0], "--help"], capture_output=True, text=True, check=True
        ).stdout
        assert "--nproc" in help_text or "--num_processes" in help_text


@runs("Give another path, or start anew (--no-resume)", 'Train others with optimizer = "adam"')
@pytest.mark.slow  # three trainings and their audits
def test_training_anew_and_with_adam(geomem, tmp_path):
    common = (
        "train",
        "linear",
        "-P",
        20,
        "--steps",
        2,
        "--batch",
        8,
        "--network",
        "mlp",
        "--out",
        tmp_path / "m.safetensors",
    )
    assert geomem(*common, "--width", 8).returncode == 0
    done = geomem(*common, "--width", 4)
    assert done.returncode == 2
    assert "--no-resume" in done.stderr
    assert geomem(*common, "--width", 4, "--no-resume").returncode == 0
    digits = ("train", "digits", "-P", 20, "--steps", 1, "--batch", 4, "--network", "unet", "--width", 4)
    done = geomem(*digits, "--optimizer", "muon", "--out", tmp_path / "u.safetensors")
    assert done.returncode == 2
    name = re.search(r'optimizer = "(\w+)"', " ".join(done.stderr.split()))[1]
    assert geomem(*digits, "--optimizer", name, "--out", tmp_path / "u.safetensors").returncode == 0


@runs("Use convergence() for others")
def test_convergence_of_a_network_that_knows_no_data(tmp_path):
    from validation.networks import Denoiser, ResidualMLP, Scale
    from validation.training import convergence, members

    denoiser = Denoiser(ResidualMLP(3, 4, 1), (3,), [Scale(0.0, 1.0)])
    from validation.training.checkpoint import write

    record = {"network": {"kind": "mlp", "width": 4}, "shape": [3], "note": {}}
    path = write(tmp_path / "own.safetensors", dict(denoiser.named_parameters()), record)
    assert "convergence()" in remedy(lambda: next(iter(members(path))))
    X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    losses = convergence(NetworkScore(denoiser), X, [0.3], points=8)
    assert np.isfinite(losses["network"].sel(where="training")).all()


# --- options of commands ----------------------------------------------------------------------------------------------


@runs("Use --limit to take fewer samples of a data set", "Bring the data to it: --image-size")
def test_options_that_a_command_names(geomem, tmp_path):
    out = ("--out", tmp_path / "s.png", "--points", 4, "--probes", 2)
    done = geomem("spectrum", "digits", "-P", 50, *out)
    assert done.returncode == 2
    assert "--limit" in done.stderr
    assert geomem("spectrum", "digits", "--limit", 50, *out).returncode == 0
    pytest.importorskip("diffusers")
    import diffusers

    unet, scheduler = network("UNet2DModel", PLAIN | {"add_attention": False})
    diffusers.DDPMPipeline(unet, scheduler).save_pretrained(tmp_path / "model")
    folder = images(tmp_path / "images", [12] * 20)
    arguments = ("audit", folder, "--model", tmp_path / "model", "--probes", 4)
    done = geomem(*arguments)
    assert done.returncode == 2
    assert "--image-size" in done.stderr
    assert geomem(*arguments, "--image-size", 8).returncode == 0


@runs("Or tell with --level how else the network is given the noise")
def test_how_else_a_module_is_given_the_noise():
    from validation.networks.torch_modules import module_score

    def noise(y, sigma):
        """Of standard normal data: E[omega | y]."""
        return y * (sigma / (1 + sigma**2).sqrt())[:, None]

    options = {"convention": "ddpm", "prediction": "epsilon"}
    assert "--level" in remedy(module_score, noise, (2,), **options)
    face = module_score(noise, (2,), level="sigma", **options)
    assert face.score(torch.ones(1, 2, dtype=torch.float64), 1.0).numpy() == pytest.approx(-0.5 * np.ones((1, 2)))


@runs("Draw fewer: `--limit {}`; or --samples, or validation.spectra")
def test_spectra_beyond_principal_axes(tmp_path, monkeypatch):
    from validation.spectra import effective_dimension
    from validation.spectrum.subjects import from_data

    for place in ("subjects", "principal_axes"):
        monkeypatch.setattr(f"validation.spectrum.{place}.AXES", 20)
    X = np.random.default_rng(0).standard_normal((60, 30))
    np.save(tmp_path / "x.npy", X)
    said = remedy(from_data, tmp_path / "x.npy")
    (code,) = code_in(said)
    assert from_data(tmp_path / "x.npy", limit=int(code.removeprefix("--limit "))).N == 30
    assert "validation.spectra" in said
    found = effective_dimension(lambda x, t: -x / (1 + t), torch.from_numpy(X[:1]), 1.0, probes=4)
    assert found["dimension"].item() == pytest.approx(15)


# these are taken from their messages and run in tests/test_checkpoint_layouts.py
COVERED |= dict.fromkeys(
    (
        "Give the whole: `--model {}`",
        "`--model {}`",
        "Add `--variant {}`",
        "`--centre {} --unit {}`",
        "another with --scheduler",
    ),
    "tests/test_checkpoint_layouts.py",
)


@runs("Train with --held-out", "Give more data or --held-out")
def test_held_out_points_of_ones_own(geomem, tmp_path):
    """Six points, of which none is kept back: refused, and answered with points of one's own."""
    from validation.training import Trainer, TrainingConfig, training_data

    X = np.random.default_rng(0).standard_normal((60, 8))
    np.save(tmp_path / "x.npy", X[:6]), np.save(tmp_path / "h.npy", X[6:])
    common = ["--width", 32, "--blocks", 1, "--steps", 600, "--batch", 16, "--learning-rate", 0.01, "--sigma", "0.05,2"]
    window = ["window", "x.npy", "-P", 9, "--sizes", "3,5", *common]
    run = geomem(*window)
    assert run.returncode == 2
    assert "--held-out" in run.stderr
    run = geomem(*window, "--held-out", "h.npy")
    assert run.returncode == 0, run.stderr
    source = {"data": str(tmp_path / "x.npy"), "seed": 0}
    data, _, network = training_data(source, {"kind": "mlp", "width": 8})
    for steps in (1, 2):
        config, path = TrainingConfig(steps=2, batch=4), tmp_path / "m.safetensors"
        Trainer(data, network, config, path=path, note={"source": source}).run(until=steps)
        (tmp_path / f"{steps}.safetensors").write_bytes(path.read_bytes())
    run = geomem("audit", "--model", "1.safetensors", "--model", "2.safetensors")
    assert run.returncode == 2
    assert "Train with --held-out" in run.stderr
    run = geomem(
        "train",
        "x.npy",
        *common[:4],
        "--steps",
        4,
        "--held-out",
        "h.npy",
        "--snapshots",
        "all",
        "--out",
        "w.safetensors",
    )
    assert run.returncode == 0, run.stderr
    run = geomem("audit", "--model", "all", "--probes", 20)
    assert run.returncode == 0, run.stderr


def test_examples_of_the_commands_are_accepted():
    """Each example under a command's --help parses with its options; what they compute is tested elsewhere."""
    import shlex

    import typer

    from validation.cli.terminal import app

    group, seen = typer.main.get_command(app), 0
    for name, command in group.commands.items():
        for example in code_in(command.epilog):
            program, said, *arguments = shlex.split(example)
            assert (program, said) == ("geomem", name)
            command.make_context(name, arguments)  # raises where an option or a value is refused
            seen += 1
    assert seen >= len(group.commands)


# --- nothing is forgotten ---------------------------------------------------------------------------------------------

CODE = re.compile(
    r"`|pip install|(?<![\w-])--[a-z]|\w=(?=\S|$)|\w\(|\.\w+\(|\w+_\w+|[a-z][A-Z]|torchrun|\b\w+ = \"|\"\w+\"|\.equation"
)


def texts(node):
    """All string constants below a node, formatted parts as {}."""
    if isinstance(node, ast.JoinedStr):
        yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            yield node.value
    else:
        for child in ast.iter_child_nodes(node):
            yield from texts(child)


def remedies():
    """(text, place) of what an error offers: the last argument of DomainError and DataError, and whatever is called remedy."""
    found = []
    for folder in ("numerics", "theory", "validation", "geomem"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                parts = []
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("DomainError", "DataError"):
                    parts = [*node.args[3:], *(k.value for k in node.keywords if k.arg == "remedy")]
                elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "NoClosedForm":
                    parts = node.args
                elif isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn":
                    parts = node.args[:1]
                elif isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "remedy" for t in node.targets):
                    parts = [node.value]
                elif isinstance(node, ast.FunctionDef):
                    spec = node.args
                    defaults = zip(reversed(spec.args), reversed(spec.defaults), strict=False)
                    parts = [default for arg, default in defaults if arg.arg == "remedy"]
                found += [(text, f"{path.relative_to(ROOT)}:{node.lineno}") for part in parts for text in texts(part)]
    return found


NO_CODE = {  # words that look like code and are none: names of things, not of what to type
    "(it has {})": "what was found",
    "(it holds {})": "what was found",
    "The limit of a power law has r_k": "a formula",
    "The loads of the classes, alpha + log(pi_k)/N, need it": "a formula",
    "pickles that ask for anything but NumPy arrays": "a name",
}


def test_no_remedy_with_code_is_without_its_test():
    known = {**COVERED, **NO_CODE}
    missing = sorted(
        {
            f"{place}: {text}"
            for text, place in remedies()
            if CODE.search(text) and not any(words in text for words in known)
        }
    )
    assert not missing, "remedies with code that no test runs:\n" + "\n".join(missing)
    everything = "\n".join(text for text, _ in remedies())
    elsewhere = "".join(p.read_text() for f in ("theory", "numerics", "validation") for p in (ROOT / f).rglob("*.py"))
    gone = [words for words in COVERED if words not in everything and words.replace("{}", "") not in elsewhere]
    assert [w for w in gone if "{" not in w] == [], "tests of remedies that nothing offers any more"
