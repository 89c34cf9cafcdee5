"""A `--model` that is a torch module, with its convention, as a score in variance-exploding time.

--convention   y given to the network    noise is given as (another with --level)
ve             x                         t
edm            x                         sigma; with --prediction edm x/sqrt(t+sigma_data^2) and log(sigma)/4
vp             x/sqrt(1+t)               tau, of the Ornstein-Uhlenbeck process
ddpm           x/sqrt(1+t)               timestep, of --scheduler or of the weights' own alphas_cumprod
flow           x/(1+sqrt(t))             s = sqrt(t)/(1+sqrt(t))
"""

from __future__ import annotations

import copy
import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import torch

from numerics.domain import DomainError
from validation.networks import CONDITIONS, SCALES, Denoiser, DiffusersScore, ModelScore, NetworkScore
from validation.networks.pipelines import load_scheduler
from validation.networks.torch_modules.archives import load_exported, load_script
from validation.networks.torch_modules.forms import MODULES, form_of
from validation.networks.torch_modules.user_code import call_function
from validation.networks.torch_modules.weights import load_weights
from validation.spectra import as_found, modules_of

__all__ = ["CONVENTIONS", "PREDICTIONS", "OpenedModule", "module_score", "open_module"]

CONVENTIONS = tuple(SCALES)
PREDICTIONS: Mapping[str, str] = MappingProxyType(  # option: `predicts` of ModelScore
    {"epsilon": "noise", "x0": "x0", "v": "v", "flow": "velocity", "score": "score", "edm": "edm"}
)
_OF_SCHEDULER = {"noise": "epsilon", "x0": "sample", "v": "v_prediction"}
_BETAS = ("linear", "scaled_linear", "squaredcos_cap_v2")
_DOUBLE = 512  # numbers a point up to which code of the user's is asked in float64: matrices at small noise need that
_OPTIONS = ("convention", "prediction", "level", "sigma_data", "scheduler")
_READY = "left out: the function returns a score, which has its convention"
_TELL = (
    "a convention with every torch module",
    "For instance `--convention edm --prediction x0`, or let the function return (module, dict(convention=..., prediction=...))",
)


@dataclass(frozen=True, eq=False)
class OpenedModule:
    """make : the score, of the shape of one point; mark : short hash of code and weights; remarks : what is to be said"""

    make: Callable[[Sequence[int]], ModelScore | NetworkScore]
    mark: str
    remarks: tuple[str, ...] = ()


def open_module(
    model: str | os.PathLike,
    *,
    weights: str | os.PathLike | None = None,
    device: str = "cpu",
    centre: float = 0.0,
    unit: float = 1.0,
    **convention: Any,
) -> OpenedModule:
    """The network that `file.py:function`, a TorchScript or a `torch.export` file gives, in evaluation mode.

    Parameters
    ----------
    model : see `validation.networks.torch_modules.forms`. The function returns a module; a pair of it and a dictionary of its
        convention (names as the options here); or a Denoiser, NetworkScore or ModelScore, which has its own.
    weights : for the module that the function returns, see `validation.networks.torch_modules.weights`
    centre, unit : the network was trained on (data - centre)/unit
    convention : convention, prediction, level, sigma_data, scheduler, see `module_score`; what is given here comes before what
        the function returned

    Raises
    ------
    DomainError : a file or function that gives no module, weights of another, a convention that is missing or impossible
    """
    form = form_of(model)
    if form not in MODULES:
        raise DomainError(
            "--model", str(model), "file.py:function, or a file of TorchScript (.pt) or torch.export (.pt2)"
        )
    convention = {name: value for name, value in convention.items() if value is not None}
    if weights is not None and form != "function":
        raise DomainError("--weights", str(weights), "given with --model file.py:function, which builds their module")
    remarks: list[str] = []
    if form == "function":
        built = call_function(model, device)
        source = os.fspath(model).rpartition(":")[0]
    else:
        built = load_script(model) if form == "script" else load_exported(model)
        source = os.fspath(model)
    if isinstance(built, Denoiser):
        built = NetworkScore(built)
    given: Mapping[str, Any] = {}
    if isinstance(built, tuple) and len(built) == 2 and isinstance(built[1], Mapping):
        built, given = built
        unknown = sorted(set(map(str, given)) - {*_OPTIONS, "centre", "unit"})
        if unknown:
            raise DomainError(
                "--model", f"a convention with {unknown[0]}", f"one of {', '.join(_OPTIONS)}, centre, unit"
            )
    ready = isinstance(built, (ModelScore, NetworkScore))
    if not ready and not callable(built):
        allowed = "a function that returns a torch module, (module, convention), a Denoiser or a ModelScore"
        raise DomainError("--model", str(model), allowed, f"(it returns a {type(built).__name__})")
    modules = modules_of(built.module) if ready else modules_of(built)
    found = None
    if weights is not None:
        if len(modules) != 1:
            raise DomainError(
                "--weights", str(weights), f"given for one torch module; the function's result holds {len(modules)}"
            )
        found = load_weights(modules[0], weights)
        remarks.append(found.source)
    scale = {"centre": float(given.get("centre", 0.0)), "unit": float(given.get("unit", 1.0))}
    scale |= {name: value for name, value in (("centre", centre), ("unit", unit)) if value != (name == "unit")}
    if ready:
        for name, value in convention.items():
            raise DomainError(f"--{name.replace('_', '-')}", value, _READY)
        if (centre, unit) != (0.0, 1.0):
            if not isinstance(built, ModelScore):
                raise DomainError("--centre", centre, _READY)
            built = built.rescaled(centre, unit)
        return OpenedModule(lambda shape: built, _mark(source, modules), tuple(remarks))
    known: dict[str, Any] = {name: value for name, value in given.items() if name in _OPTIONS} | convention
    bars = None if found is None else found.alphas_cumprod
    first = module_score(built, (1,), alphas_cumprod=bars, **known)  # an error in the options is one before any work
    stepped = isinstance(first, DiffusersScore)
    remarks += first.remarks if isinstance(first, DiffusersScore) else ()

    def make(shape: Sequence[int]) -> ModelScore:
        said = ""
        small = form == "function" and math.prod(shape) <= _DOUBLE
        for network in dict.fromkeys((_double(built) if small else built, built)):
            for whole in (False, True)[: 1 + stepped]:
                face = module_score(network, shape, alphas_cumprod=bars, nearest=whole, **known, **scale)
                said = said or _fails(face, shape)
                if not _fails(face, shape):
                    return face
        allowed = f"a module of points (B, {', '.join(map(str, shape))}) and noise (B,)"
        raise DomainError("--model", str(model), allowed, f"({said})")

    return OpenedModule(make, _mark(source, modules), tuple(remarks))


def module_score(
    module: Any,
    shape: Sequence[int],
    *,
    convention: str | None = None,
    prediction: str | None = None,
    level: str | None = None,
    sigma_data: float | None = None,
    scheduler: Any = None,
    alphas_cumprod: np.ndarray | None = None,
    nearest: bool = False,
    **options: Any,
) -> ModelScore:
    """A module of (y (B,) + shape, noise (B,)) as a score.

    Parameters
    ----------
    convention : how y relates to x, see the module; prediction : "epsilon", "x0", "v", "flow" (a velocity), "score" or "edm"
        (the network inside EDM's preconditioning)
    level : how noise is given: "t", "sigma", "c_noise", "ou", "alpha_bar", "log_snr", "flow_time" or "timestep"; default that
        of the convention
    sigma_data : of EDM's preconditioning, with prediction "edm" (default 0.5, EDM's own)
    scheduler : with timesteps, what they mean: a scheduler of diffusers (its folder, its name, or one), or the name of a
        schedule of 1000 betas: linear, scaled_linear, squaredcos_cap_v2. Default: alphas_cumprod, where the weights carry it.
    nearest : timesteps are integers, as an embedding of them wants
    options : centre, unit, chunk of `ModelScore`

    Raises
    ------
    DomainError : a convention that is missing or impossible

    >>> face = module_score(lambda y, sigma: y / (1 + sigma[:, None] ** 2), (2,), convention="edm", prediction="x0")
    >>> face.score(torch.ones(1, 2, dtype=torch.float64), 1.0)  # data of variance 1: -x/(1 + t)
    tensor([[-0.5000, -0.5000]], dtype=torch.float64)
    """
    if convention is None or prediction is None:
        raise DomainError("--convention" if convention is None else "--prediction", "nothing", *_TELL)
    if convention not in CONVENTIONS:
        raise DomainError("--convention", convention, ", ".join(CONVENTIONS))
    if prediction not in PREDICTIONS:
        raise DomainError("--prediction", prediction, ", ".join(PREDICTIONS))
    if level is not None and level not in (*CONDITIONS, "timestep"):
        raise DomainError("--level", level, ", ".join((*CONDITIONS, "timestep")))
    predicts = PREDICTIONS[prediction]
    if sigma_data is not None and predicts != "edm":
        raise DomainError("--sigma-data", sigma_data, "left out without --prediction edm")
    stepped = level == "timestep" or (level is None and convention == "ddpm")
    if not stepped:
        if scheduler is not None:
            raise DomainError("--scheduler", str(scheduler), "left out where noise is not given as a timestep")
        more = {"sigma_data": 0.5 if sigma_data is None else sigma_data} if predicts == "edm" else {}
        return _named(module, shape, predicts, convention, condition=level, **more, **options)
    if convention not in ("ddpm", "vp") or predicts not in _OF_SCHEDULER:
        allowed = f"with timesteps, convention ddpm and prediction epsilon, x0 or v, not {convention} and {prediction}"
        raise DomainError("--level", "timestep", allowed)
    bars, remark = _schedule(scheduler, alphas_cumprod)
    known = SimpleNamespace(alphas_cumprod=torch.as_tensor(bars), config={"prediction_type": _OF_SCHEDULER[predicts]})
    # a callable, so that the shape is not looked for in a configuration of another package
    timestep = "nearest" if nearest else "auto"
    face = DiffusersScore(lambda y, step: module(y, step), known, shape=shape, timestep=timestep, **options)
    face.remarks = (f"timesteps of {remark}",)
    return face


def _named(module: Any, shape: Sequence[int], predicts: str, convention: str, **options: Any) -> ModelScore:
    """A ModelScore, whose errors name the options."""
    try:
        return ModelScore(module, predicts=predicts, convention=convention, shape=shape, **options)
    except DomainError as error:
        names = {"predicts": "--prediction", "convention": "--convention", "sigma_data": "--sigma-data"}
        if error.argument not in names:
            raise
        raise DomainError(names[error.argument], error.value, error.allowed, error.remedy) from error


def _double(module: Any) -> Any:
    """A copy in float64; itself, where it is no module."""
    return copy.deepcopy(module).to(torch.float64) if isinstance(module, torch.nn.Module) else module


def _schedule(scheduler: Any, alphas_cumprod: np.ndarray | None) -> tuple[Any, str]:
    """(alphas_cumprod (T,), where they are from)."""
    if scheduler is None:
        if alphas_cumprod is None:
            allowed = (
                "a schedule with timesteps: a scheduler's folder or name, linear, scaled_linear or squaredcos_cap_v2"
            )
            raise DomainError(
                "--scheduler", "nothing", allowed, "Or tell with --level how else the network is given the noise"
            )
        return alphas_cumprod, f"the weights' own alphas_cumprod, {len(alphas_cumprod)} of them"
    try:
        import diffusers
    except ImportError as error:
        raise DomainError(
            "--scheduler", str(scheduler), "left out without diffusers", "`pip install diffusers`"
        ) from error
    if scheduler in _BETAS:
        return diffusers.DDPMScheduler(beta_schedule=scheduler).alphas_cumprod, f"1000 {scheduler} betas"
    found, told = load_scheduler(scheduler, Path())
    bars = getattr(found, "alphas_cumprod", None)
    if bars is None:
        raise DomainError("--scheduler", str(scheduler), "one with alphas_cumprod; others by --convention and --level")
    return bars, (told or [f"scheduler: {type(found).__name__}"])[0]


def _fails(face: ModelScore, shape: Sequence[int]) -> str:
    """What the module says against two points of zeros, in words; nothing, where it takes them."""
    low, high = face.t_range
    t = math.sqrt(max(low, 1e-2) * min(high, 1e2))
    try:
        with as_found(face.modules), torch.no_grad():
            face.function(torch.zeros(2, math.prod(shape), dtype=torch.float64), t)
    except Exception as error:  # of the user's code, of any kind
        return " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return ""


def _mark(source: str, modules: Sequence[torch.nn.Module]) -> str:
    """Of the file and of all tensors in the modules."""
    digest = hashlib.sha256(Path(source).read_bytes())
    for module in modules:
        for name, tensor in module.state_dict().items():
            if isinstance(tensor, torch.Tensor):
                digest.update(
                    name.encode() + tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
                )
    return digest.hexdigest()[:16]
