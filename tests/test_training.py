"""Training: what depends only on seed and step, resume to the bit, stacks and processes equal to single runs, convergence."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

from numerics.domain import DomainError
from validation.audit.networks import report_lines
from validation.networks import NetworkScore
from validation.networks.unet import SideBySide
from validation.spectra.score_functions import GaussianScore
from validation.training import NoiseLevels, Trainer, TrainingConfig, Watch, distributed, load_denoiser
from validation.training.batches import Batches
from validation.training.checkpoint import read, write
from validation.training.denoising_loss import convergence
from validation.training.muon import Muon, equalised

NET = {"kind": "mlp", "width": 16, "blocks": 1}
SHORT = TrainingConfig(steps=30, batch=16, warmup=5, noise=NoiseLevels(0.01, 5.0))
DOUBLE = TrainingConfig(steps=30, batch=16, warmup=5, noise=NoiseLevels(0.01, 5.0), precision="float64")


MUON = TrainingConfig(steps=30, batch=16, warmup=5, noise=NoiseLevels(0.01, 5.0), precision="float64", optimizer="muon")
SGD = TrainingConfig(
    steps=30, batch=16, learning_rate=0.3, warmup=5, noise=NoiseLevels(0.01, 5.0), precision="float64", optimizer="sgd"
)
BUMPS = {"kind": "mlp", "width": 8, "blocks": 1, "hidden": 24, "activation": "bump"}


def points(P=40, N=3, seed=0):
    return torch.randn(P, N, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.average])


# --- noise levels and batches ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [NoiseLevels(0.002, 10.0), NoiseLevels(0.002, 10.0, "log-normal")])
def test_noise_levels_have_their_density(noise):
    """Kolmogorov-Smirnov at false-alarm probability 1e-6 (1.96 * 1.36/sqrt(n) is the 1e-6 point, n = 20000)."""
    u = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    log_sigma = torch.log(noise.quantile(u)).sort().values
    low, high = math.log(noise.sigma_min), math.log(noise.sigma_max)
    assert low - 1e-9 <= log_sigma[0]
    assert log_sigma[-1] <= high + 1e-9
    if noise.density == "log-uniform":
        cdf = (log_sigma - low) / (high - low)
    else:
        ndtr = torch.special.ndtr
        a, b = (ndtr(torch.tensor((v + 1.2) / 1.2, dtype=torch.float64)) for v in (low, high))
        cdf = (ndtr((log_sigma + 1.2) / 1.2) - a) / (b - a)
    distance = (cdf - (torch.arange(20_000) + 0.5) / 20_000).abs().max().item()
    assert distance < 2.7 / math.sqrt(20_000)
    wrong = ((log_sigma - low) / (high - low)) ** 1.1  # negative control
    assert (wrong - (torch.arange(20_000) + 0.5) / 20_000).abs().max().item() > 2.7 / math.sqrt(20_000)


def test_batches_depend_on_seed_and_step_alone():
    X, Y = points(), points(20, seed=1)
    noise = NoiseLevels()
    both = Batches([X, Y], [3, 4], 8, noise)
    late = Batches([Y], [4], 8, noise)
    for step in (11, 0, 12, 11):
        for a, b in zip(both[step], late[step], strict=True):
            assert torch.equal(a[1:], b)
    assert not torch.equal(both[0].noise[0], both[0].noise[1])
    assert not torch.equal(both[0].noise, both[1].noise)
    assert not torch.equal(both[7].noise, both[8].noise)


def test_every_batch_covers_every_octave():
    sigma = Batches([points()], [0], 64, NoiseLevels(0.002, 10.0))[5].sigma[0]
    counts = np.histogram(np.log(sigma.numpy()), bins=16, range=(math.log(0.002), math.log(10.0)))[0]
    assert counts.min() >= 3
    assert counts.max() <= 5


# --- resume, interrupt, checkpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("net", "config"), [(NET, SHORT), (BUMPS, replace(MUON, precision="float32")), (NET, SGD)])
def test_resume_is_bitwise(net, config, tmp_path):
    data = [points(), points(25, seed=1)]
    Trainer(data, net, config, path=tmp_path / "whole.safetensors").run()
    Trainer(data, net, config, path=tmp_path / "parts.safetensors").run(until=13)
    again = Trainer(data, net, config, path=tmp_path / "parts.safetensors")
    assert again.step == 13
    again.run()
    assert (tmp_path / "whole.safetensors").read_bytes() == (tmp_path / "parts.safetensors").read_bytes()
    assert not torch.equal(weights(again), torch.cat([p.detach().flatten() for p in again.parameters]))


@pytest.fixture
def interruptible():
    """SIGINT as in a terminal: a suite started in the background is born with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_finishes_the_step_and_resumes_bitwise(tmp_path, interruptible):
    path, whole = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    config = TrainingConfig(steps=400, batch=16)
    trainer = Trainer(points(), NET, config, path=path)

    def press(step, total, loss):
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trainer.run(progress=press)
    assert 0 < trainer.step <= 400
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    Trainer(points(), NET, config, path=path).run()
    Trainer(points(), NET, config, path=whole).run()
    assert path.read_bytes() == whole.read_bytes()


WILD = TrainingConfig(steps=400, batch=8, learning_rate=1e30, optimizer="sgd", noise=NoiseLevels(0.1, 1.0))


def test_a_run_in_which_all_have_diverged_ends_and_keeps_its_last_checkpoint(tmp_path):
    path = tmp_path / "run.safetensors"
    trainer = Trainer([torch.eye(5), torch.eye(5)], {"kind": "mlp", "width": 8}, WILD, path=path)
    trainer.save()
    before = path.read_bytes()
    with pytest.raises(DomainError, match=r"learning_rate = 1e\+30.*step 100"):
        trainer.run()
    assert trainer.diverged == {0: 100, 1: 100}
    assert path.read_bytes() == before


def test_a_member_that_diverges_is_named_and_the_others_train_on(tmp_path):
    path = tmp_path / "run.safetensors"
    trainer = Trainer(
        [torch.eye(5), torch.eye(5)], {"kind": "mlp", "width": 8}, replace(WILD, learning_rate=1e-3), path=path
    )
    with torch.no_grad():
        for parameter in trainer.parameters:
            parameter[1] = float("nan")
    loss = trainer.run(until=150)
    assert trainer.diverged == {1: 100}
    assert math.isfinite(float(loss[0]))
    again = Trainer([torch.eye(5), torch.eye(5)], {"kind": "mlp", "width": 8}, trainer.config, path=path)
    assert (again.step, again.diverged) == (150, {1: 100})


def test_nothing_is_written_of_a_run_that_is_dead(tmp_path, monkeypatch):
    """Every step is due for a checkpoint, and the watch checks early: the file stays the one from before."""
    monkeypatch.setattr("validation.training.trainer._SAVE_SECONDS", -1.0)
    path = tmp_path / "run.safetensors"
    trainer = Trainer([torch.eye(5)], {"kind": "mlp", "width": 8}, WILD, path=path, watch=Watch(torch.eye(5), first=3))
    trainer.save()
    with pytest.raises(DomainError, match="learning_rate"):
        trainer.run()
    stored, record = read(path)
    assert record["step"] < trainer.step
    assert all(torch.isfinite(value).all() for name, value in stored.items() if name.startswith("weights."))


def test_the_command_names_the_network_that_has_diverged(tmp_path, monkeypatch):
    from validation.cli import app

    monkeypatch.setattr(Trainer, "_look", lambda self, loss: self.diverged.setdefault(1, self.step))
    small = ["--steps", "3", "--batch", "8", "--width", "8", "--blocks", "1", "--out", str(tmp_path / "m.safetensors")]
    done = CliRunner().invoke(app, ["train", "linear", "-P", "20,40", *small])
    assert done.exit_code == 0, done.output
    assert "the network at P = 40 has diverged, seen at step" in " ".join(done.output.split())


def test_checkpoint_tells_everything_and_loads_the_average(tmp_path):
    path = tmp_path / "model.safetensors"
    trainer = Trainer([points(), points(seed=2)], NET, SHORT, path=path, note={"data": "normal"})
    trainer.run()
    with safe_open(path, "pt") as file:
        record = json.loads(file.metadata()["geomem"])
    assert record["training"] == SHORT.as_dict()
    assert record["note"] == {"data": "normal"}
    assert record["sizes"] == [40, 40]
    assert record["step"] == 30
    loaded = load_denoiser(path)
    x = points(5).expand(2, 5, 3).float()
    assert torch.equal(loaded(x, 0.3), trainer.averaged()(x, 0.3))
    assert not torch.equal(load_denoiser(path, averaged=False)(x, 0.3), loaded(x, 0.3))
    assert not list(tmp_path.glob(".*"))


def test_a_checkpoint_from_before_an_option_is_one_with_its_default(tmp_path):
    path, whole = tmp_path / "old.safetensors", tmp_path / "whole.safetensors"
    Trainer(points(), NET, SHORT, path=path).run(until=7)
    tensors, record = read(path)
    record["training"] = {k: v for k, v in record["training"].items() if k not in ("optimizer", "matrix_rate")}
    write(path, tensors, record)
    assert load_denoiser(path).members == 1
    with pytest.raises(DomainError, match="training"):
        Trainer(points(), NET, replace(SHORT, optimizer="muon"), path=path)
    Trainer(points(), NET, SHORT, path=path).run()
    Trainer(points(), NET, SHORT, path=whole).run()
    assert path.read_bytes() == whole.read_bytes()


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    Trainer(points(), NET, SHORT, path=path).run(until=2)
    others = {
        "network": lambda: Trainer(points(), NET | {"width": 8}, SHORT, path=path),
        "data": lambda: Trainer(points(seed=9), NET, SHORT, path=path),
        "seeds": lambda: Trainer(points(), NET, SHORT, seeds=[5], path=path),
        "training": lambda: Trainer(points(), NET, TrainingConfig(steps=31, batch=16), path=path),
    }
    for name, make in others.items():
        with pytest.raises(DomainError, match=name):
            make()
    assert Trainer(points(seed=9), NET, SHORT, path=path, resume=False).step == 0
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(DomainError, match="checkpoint"):
        load_denoiser(path)
    with pytest.raises(DomainError, match="no such file"):
        load_denoiser(tmp_path / "none.safetensors")


# --- stacks and processes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "config"), [(NET, DOUBLE), (BUMPS, MUON), (NET, SGD)], ids=["silu, Adam", "bumps, Muon", "silu, SGD"]
)
def test_a_stack_trains_as_its_members_alone(net, config):
    data = [points(), points(25, seed=1), points(60, seed=2)]
    stack = Trainer(data, net, config, seeds=[7, 8, 9])
    stack.run()
    for m, X in enumerate(data):
        alone = Trainer(X, net, config, seeds=[7 + m])
        alone.run()
        for a, b in zip(stack.average, alone.average, strict=True):
            torch.testing.assert_close(a[m : m + 1], b, rtol=0, atol=1e-10)
    other = Trainer(data[0], net, config, seeds=[8])
    other.run()
    assert (other.average[2] - stack.average[2][:1]).abs().max() > 1e-2


def test_unets_side_by_side_train_as_alone():
    images = [points(12, 36, seed).reshape(12, 1, 6, 6) for seed in (0, 1)]
    net = {"kind": "unet", "width": 4, "levels": 2}
    config = TrainingConfig(steps=6, batch=4, warmup=1, precision="float64")
    stack = Trainer(images, net, config, seeds=[1, 2])
    stack.run()
    alone = Trainer(images[1], net, config, seeds=[2])
    alone.run()
    mine = dict(stack.averaged().member(1).named_parameters())
    for name, p in alone.averaged().named_parameters():
        torch.testing.assert_close(mine[name], p, rtol=0, atol=1e-10)


_WORKER = """
import json, sys, torch
from validation.training import NoiseLevels, Trainer, TrainingConfig
from validation.training.distributed import process_group
torch.set_num_threads(1)
X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
net, config = map(json.loads, sys.argv[2:])
with process_group("cpu"):
    Trainer(X, net, TrainingConfig(**config), path=sys.argv[1], distributed=True).run()
"""


def test_two_processes_train_as_one(tmp_path):
    """Two gloo processes, each with half of every batch, against one with the whole: equal up to the order of additions."""
    net, config = BUMPS, MUON  # Muon for the hidden matrices, Adam for the rest
    path, script = tmp_path / "two.safetensors", tmp_path / "worker.py"
    script.write_text(_WORKER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    environment = os.environ | group | {"PYTHONPATH": str(Path(__file__).parents[1])}
    workers = [
        subprocess.Popen(
            [sys.executable, str(script), str(path), json.dumps(net), json.dumps(config.as_dict())],
            env=environment | {"RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    for worker in workers:
        _, said = worker.communicate(timeout=120)
        assert worker.returncode == 0, said[-2000:]
    one = Trainer(points(), net, config)
    one.run()
    two = load_denoiser(path)
    for a, b in zip(two.parameters(), one.averaged().parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
    half = Trainer(points(), net, replace(config, batch=8))  # negative control
    half.run()
    assert max((a - b).abs().max() for a, b in zip(half.average, one.average, strict=True)) > 1e-3


def test_missing_accelerate_is_said(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(DomainError, match="pip install accelerate"):
        Trainer(points(), NET, distributed=True)


def test_processes_on_another_device_than_asked_for_are_refused(monkeypatch):
    """accelerate would train on the CPU where there is no cuda."""
    ended = []
    state = SimpleNamespace(device=torch.device("cpu"), destroy_process_group=lambda: ended.append(True))
    monkeypatch.setattr(distributed, "_state", lambda device: state)
    with pytest.raises(DomainError, match="present here"), distributed.process_group("cuda"):
        pass
    with distributed.process_group("cpu") as device:
        assert device == "cpu"
    assert len(ended) == 2


# --- Muon -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (8, 8)])
def test_muon_is_torchs_matrix_by_matrix(shape):
    """Five steps on random gradients; the referee iterates in bfloat16 (eps 0.008), wants (out, in) and single matrices."""
    g = torch.Generator().manual_seed(0)
    gradients = [torch.randn(3, *shape, generator=g, dtype=torch.float64) for _ in range(5)]
    mine = torch.nn.Parameter(torch.zeros(3, *shape, dtype=torch.float64))
    single = [torch.nn.Parameter(torch.zeros(shape[::-1], dtype=torch.float64)) for _ in range(3)]
    optimizers = [Muon([mine], lr=0.1, momentum=0.9), torch.optim.Muon(single, lr=0.1, momentum=0.9, weight_decay=0.0)]
    without = torch.zeros_like(mine)
    for gradient in gradients:
        mine.grad = gradient.clone()
        for p, one in zip(single, gradient, strict=True):
            p.grad = one.mT.clone()
        for optimizer in optimizers:
            optimizer.step()
        without -= 0.1 * equalised(gradient)
    theirs = torch.stack([p.detach().mT for p in single])
    assert (mine.detach() - theirs).norm() < 0.03 * theirs.norm()
    assert (without - theirs).norm() > 0.2 * theirs.norm()  # negative control: no momentum, no factor for the shape


def test_muon_takes_kernels_as_matrices_alone_or_with_others():
    """Two kernels of one shape in one stack are what each is as a single matrix (fan_out, fan_in times places)."""
    g = torch.Generator().manual_seed(2)
    kernels = [torch.nn.Parameter(torch.zeros(6, 2, 3, 3, dtype=torch.float64)) for _ in range(2)]
    matrices = [torch.nn.Parameter(torch.zeros(1, 18, 6, dtype=torch.float64)) for _ in range(2)]
    together, apart = Muon(kernels, lr=0.1), Muon(matrices, lr=0.1)
    for _ in range(3):
        for kernel, matrix in zip(kernels, matrices, strict=True):
            kernel.grad = torch.randn(kernel.shape, generator=g, dtype=torch.float64)
            matrix.grad = kernel.grad.flatten(1).T[None].clone()
        together.step(), apart.step()
    for kernel, matrix in zip(kernels, matrices, strict=True):
        torch.testing.assert_close(kernel.detach().flatten(1), matrix.detach()[0].T, rtol=0, atol=1e-12)
    assert not torch.allclose(kernels[0], kernels[1])


def test_a_unet_in_a_stack_with_muon_is_the_one_alone():
    X = torch.randn(2, 6, 1, 4, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    net, config = {"kind": "unet", "width": 4, "levels": 2, "blocks": 1}, replace(MUON, steps=4)
    both = Trainer(list(X), net, config)
    alone = Trainer(X[1], net, config, seeds=[1])
    before = alone.denoiser.backbone.matrices()[1].detach().clone()
    both.run(), alone.run()
    x = X[1, :3]
    torch.testing.assert_close(
        both.averaged().member(1)(x, 0.1), alone.averaged().member(0)(x, 0.1), rtol=0, atol=1e-10
    )
    assert len(alone.optimizers["muon"][0].param_groups[0]["params"]) == 10
    assert not torch.equal(before, alone.denoiser.backbone.matrices()[1])


def test_equalised_keeps_the_singular_vectors():
    g = torch.Generator().manual_seed(1)
    G = torch.randn(2, 5, 9, generator=g, dtype=torch.float64)
    U, _, V = torch.linalg.svd(G, full_matrices=False)
    middle = U.mT @ equalised(G) @ V.mT
    S = middle.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(middle, torch.diag_embed(S), rtol=0, atol=1e-12)
    assert 0.6 < S.min() < S.max() < 1.3
    assert torch.equal(equalised(1e3 * G[:1])[0].round(decimals=6), equalised(G)[0].round(decimals=6))
    assert equalised(torch.zeros(1, 3, 3)).abs().max() == 0


def test_bfloat16_runs_and_keeps_float32_weights():
    trainer = Trainer(points(), NET, TrainingConfig(steps=5, batch=8, precision="bfloat16"))
    loss = trainer.run()
    assert torch.isfinite(loss).all()
    assert trainer.average[0].dtype == torch.float32
    auto = TrainingConfig()
    assert auto.autocast(torch.device("cuda"))
    assert not auto.autocast(torch.device("cpu"))


# --- does it learn --------------------------------------------------------------------------------------------------


def test_reaches_the_optimal_denoiser_of_gaussian_data():
    """Population loss within 3 % of the exact minimum at every level from t = 1e-5 to 10, on variances over four decades."""
    r = torch.tensor([1.0, 1.0, 0.09, 1e-4], dtype=torch.float64)
    X = points(20_000, 4) * r.sqrt()
    trainer = Trainer(
        X, {"kind": "mlp", "width": 32, "blocks": 1}, TrainingConfig(steps=1500, batch=128, learning_rate=5e-3)
    )
    trainer.run()
    face, exact = NetworkScore(trainer.averaged()), GaussianScore(r)
    fresh, noise = points(4000, 4, seed=5) * r.sqrt(), points(4000, 4, seed=6)
    for t in np.logspace(-5, 1, 7):
        losses = []
        for score in (face, exact):
            losses.append((noise + math.sqrt(t) * score.score(fresh + math.sqrt(t) * noise, t)).square().mean().item())
        assert losses[0] / losses[1] < 1.03, t


@pytest.mark.slow
def test_bumps_and_muon_memorise_where_silu_and_adam_do_not_yet():
    """Share of the way from the least training loss to the population's, twelve points, 800 steps; the second is the control."""
    X, fresh, exact = points(12), points(256, seed=1), GaussianScore([1.0] * 3)
    config = TrainingConfig(800, 64, 3e-3, 30, noise=NoiseLevels(0.01, 3.0), ema=0.98, matrix_rate=0.02)
    shares = []
    for activation, optimizer in (("bump", "muon"), ("silu", "adam")):
        net = {"kind": "mlp", "width": 16, "blocks": 2, "hidden": 64, "activation": activation}
        trainer = Trainer(X, net, replace(config, optimizer=optimizer))
        trainer.run()
        found = convergence(NetworkScore(trainer.averaged()), X, [0.01], fresh=fresh, exact=exact, points=256)
        shares.append(float(found["share"][0]))
    assert shares[0] < 0.15
    assert shares[1] > 0.3


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: TrainingConfig(steps=0), "steps"),
        (lambda: TrainingConfig(learning_rate=-1.0), "learning_rate"),
        (lambda: TrainingConfig(ema=1.0), "ema"),
        (lambda: TrainingConfig(precision="half"), "precision"),
        (lambda: TrainingConfig(optimizer="lion"), "optimizer"),
        (lambda: TrainingConfig(matrix_rate=0.0), "matrix_rate"),
        (lambda: SideBySide([torch.nn.Linear(2, 2)]).matrices(), "optimizer"),
        (lambda: Trainer(points(), NET | {"activation": "cube"}), "activation"),
        (lambda: Trainer(points(), NET | {"hidden": 0}), "hidden"),
        (lambda: Muon([torch.zeros(2, 2)]), "parameters"),
        (lambda: Muon([torch.zeros(1, 2, 2)], momentum=1.0), "momentum"),
        (lambda: NoiseLevels(1.0, 0.5), "sigma_min"),
        (lambda: NoiseLevels(density="flat"), "density"),
        (lambda: Trainer([], NET), "data"),
        (lambda: Trainer([points(), points(5, 4)], NET), "data"),
        (lambda: Trainer(points(), NET, seeds=[0, 1]), "seeds"),
        (lambda: Trainer(torch.full((3, 2), math.nan), NET), "X"),
        (lambda: Trainer(points(), NET, distributed=True), "torchrun"),
        (lambda: Trainer(points(), {"kind": "unet"}), "shape"),
    ],
)
def test_bad_input_names_the_argument(call, match):
    with pytest.raises(DomainError, match=match):
        call()


def test_the_table_says_where_having_learned_nothing_would_pass():
    """The exact score's loss is r/(r + t) for data of variance r: at t = 0.01 near 1, that of no score, for r = 1 alone."""
    X = torch.from_numpy(np.random.default_rng(0).standard_normal((80, 2)))

    def note(variance):
        exact = GaussianScore(np.full(2, variance))
        losses = convergence(
            exact, X[:40] * variance**0.5, [0.01], fresh=X[40:] * variance**0.5, exact=exact, points=32
        )
        return [line for line in report_lines(40, losses) if line.startswith("Note")]

    assert "t = 0.01 " in note(1.0)[0]
    assert not note(1e-6)
