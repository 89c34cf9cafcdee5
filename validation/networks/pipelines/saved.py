"""What diffusers has written in a folder: a pipeline, one network with its configuration, or the checkpoint of a training.

Whatever is there is said; what cannot be used is refused with the parts that can.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from numerics.domain import DomainError

__all__ = [
    "Parts",
    "contents",
    "is_diffusers",
    "is_pipeline",
    "load_autoencoder",
    "load_network",
    "load_pipeline",
    "load_scheduler",
    "pipeline_mark",
    "quietly",
]

_INDEX, _CONFIG, _SCHEDULER = "model_index.json", "config.json", "scheduler_config.json"
_WEIGHTS = re.compile(r"diffusion_pytorch_model(?:\.([\w-]+?))?(?:-\d{5}-of-\d{5})?\.(?:safetensors|bin)")
_NETWORKS, _AUTOENCODERS = ("unet", "transformer"), ("vae", "vqvae")
_ASIDE = ("text_encoder", "tokenizer", "feature_extractor", "safety_checker", "image_encoder", "watermark", "_")
_ALLOWED = "a pipeline, or a UNet's folder, that diffusers' save_pretrained wrote"


def is_pipeline(path: str | os.PathLike, *, latent: bool = False) -> bool:
    """Whether this is a folder in which diffusers saved a pipeline, with `latent` one that has an autoencoder."""
    there = (Path(path) / _INDEX).is_file()
    return there and (not latent or any((Path(path) / name / _CONFIG).is_file() for name in _AUTOENCODERS))


def is_diffusers(path: str | os.PathLike) -> bool:
    """Whether a model is to be read by diffusers (a folder) rather than as a checkpoint of `geomem train` (a file).

    Raises
    ------
    DomainError : nothing there, or a file that is one part of what diffusers wrote, with the folder to give instead
    """
    path = Path(path)
    if path.is_dir():
        return True
    if path.is_file():
        folder = path.parent
        if (folder / _CONFIG).is_file() and (path.name == _CONFIG or _WEIGHTS.fullmatch(path.name)):
            whole = folder.parent if is_pipeline(folder.parent) else folder
            raise DomainError("--model", str(path), "its folder", f"Give the whole: `--model {_quoted(whole)}`")
        if path.name == _INDEX:
            raise DomainError("--model", str(path), "its folder", f"Give the whole: `--model {_quoted(folder)}`")
        return False
    allowed = "a checkpoint of geomem train, or a folder that diffusers saved"
    raise DomainError("--model", str(path), allowed, "(no such file)")


def contents(path: str | os.PathLike) -> str:
    """ "pipeline" or "network": what a folder holds.

    Raises
    ------
    DomainError : a folder of neither, with the networks that lie in it
    """
    path = Path(path)
    if is_pipeline(path):
        return "pipeline"
    if _class_of(path):
        return "network"
    inside = sorted(
        (found.parent for pattern in (f"*/{_CONFIG}", f"*/*/{_CONFIG}") for found in path.glob(pattern)),
        key=lambda folder: (len(folder.parts), _natural(folder)),
    )
    parts = [folder for folder in inside if _class_of(folder)]
    if not parts:
        held = sorted(item.name + "/" * item.is_dir() for item in path.iterdir())
        shown = ", ".join(held[:6]) + (", ..." if len(held) > 6 else "")
        raise DomainError("--model", str(path), _ALLOWED, f"(it holds {shown or 'nothing'})")
    choice = " or ".join(f"`--model {_quoted(part)}`" for part in parts[-3:])
    what = "the checkpoint of a training" if len(parts[0].relative_to(path).parts) == 1 else "a folder of them"
    raise DomainError("--model", str(path), _ALLOWED, f"It is {what}, without a {_INDEX}: give {choice}")


@dataclass(frozen=True)
class Parts:
    """What of a pipeline makes a score: network, scheduler, autoencoder of a latent one; remarks : what is to be said of them."""

    network: Any
    scheduler: Any
    autoencoder: Any = None
    remarks: list[str] = field(default_factory=list)


def load_pipeline(path: str | os.PathLike, variant: str | None = None) -> Parts:
    """The parts that make a score of a saved pipeline, or of one known by that name to diffusers.

    Text encoders, tokenizers, safety checkers and the like are left where they are.

    Raises
    ------
    DomainError : not such a folder, a pipeline of other parts, or weights in several variants and none of them plain
    """
    remarks: list[str] = []
    if not is_pipeline(path):
        from diffusers import DiffusionPipeline

        pipeline = quietly(DiffusionPipeline.from_pretrained, path, variant)
        network, autoencoder = _roles(path, {n: part for n, part in pipeline.components.items() if part is not None})
        parts = (getattr(pipeline, name) if name else None for name in (network, autoencoder))
        return Parts(next(parts), pipeline.scheduler, next(parts), remarks)
    folder = Path(path)
    try:
        index = dict(json.loads((folder / _INDEX).read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DomainError("path", str(path), f"{_ALLOWED}, whole", f"({_INDEX}: {_brief(error)})") from error
    held = {n: v for n, v in index.items() if (isinstance(v, list) and any(v)) or (v == [] and not n.startswith("_"))}
    network, autoencoder = _roles(path, held)
    scheduler, _ = load_scheduler(folder / "scheduler", folder / network)
    loaded = []
    for name in (network, autoencoder):
        if name is None:
            loaded.append(None)
            continue
        chosen = _variant(folder / name, variant, remarks if name == network else [])
        loaded.append(quietly(_kind(_class_of(folder / name), folder / name).from_pretrained, folder / name, chosen))
    return Parts(loaded[0], scheduler, loaded[1], remarks)


def load_autoencoder(path: str | os.PathLike, variant: str | None = None) -> tuple[Any, str]:
    """The autoencoder in a pipeline's folder, or in its own, and the mark of its weights.

    Raises
    ------
    DomainError : no autoencoder there
    """
    folder = Path(path)
    if is_pipeline(folder):
        there = [folder / name for name in _AUTOENCODERS if (folder / name / _CONFIG).is_file()]
        folder = there[0] if there else folder
    name = _class_of(folder)
    kind = None if name is None else _kind(name, folder)
    if kind is None or not hasattr(kind, "encode"):
        allowed = "a latent pipeline, or an autoencoder's folder, that diffusers' save_pretrained wrote"
        raise DomainError("--latents", str(path), allowed)
    return quietly(kind.from_pretrained, folder, _variant(folder, variant, [])), pipeline_mark(folder)


def _roles(path: str | os.PathLike, parts: Mapping[str, Any]) -> tuple[str, str | None]:
    """Names of the network and of the autoencoder among a pipeline's parts, or an error that names what else it has."""
    networks, autoencoders = [n for n in _NETWORKS if n in parts], [n for n in _AUTOENCODERS if n in parts]
    other = [n for n in parts if n not in (*_NETWORKS, *_AUTOENCODERS, "scheduler") and not n.startswith(_ASIDE)]
    if len(networks) != 1 or len(autoencoders) > 1 or "scheduler" not in parts or other:
        allowed = "a pipeline of one unet or transformer, a scheduler and perhaps an autoencoder and text encoders"
        raise DomainError("path", str(path), allowed, f"(it has {sorted(parts)})")
    return networks[0], autoencoders[0] if autoencoders else None


def _kind(name: str | None, folder: Path) -> Any:
    """The class of diffusers that a config.json names."""
    import diffusers

    kind = getattr(diffusers, str(name), None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.ModelMixin)):
        raise DomainError("path", str(folder), f"{_ALLOWED}, whole", f"(its {_CONFIG} says {name})")
    return kind


def load_network(path: str | os.PathLike, variant: str | None = None) -> tuple[Any, list[str]]:
    """The network in a folder with a config.json, and what is to be said of it."""
    import diffusers

    name, remarks = _class_of(Path(path)), []
    kind = getattr(diffusers, str(name), None)
    known = isinstance(kind, type) and issubclass(kind, diffusers.ModelMixin)
    if not known or "timestep" not in inspect.signature(kind.forward).parameters:
        raise DomainError("--model", str(path), _ALLOWED, f"(its {_CONFIG} says {name}, which knows no noise)")
    variant = _variant(Path(path), variant, remarks)
    return quietly(kind.from_pretrained, path, variant), remarks


def load_scheduler(given: Any, network: str | os.PathLike) -> tuple[Any, list[str]]:
    """The noise schedule that a network alone does not know, and where it is from.

    Parameters
    ----------
    given : a scheduler of diffusers, the folder or file of a scheduler_config.json, a class by name (its defaults), or None:
        the one saved beside the network, else the default of diffusers' training scripts, which is said

    Raises
    ------
    DomainError : nothing of the kind
    """
    import diffusers

    if given is not None and not isinstance(given, (str, os.PathLike)):
        return given, []
    allowed = f"a folder with a {_SCHEDULER}, or a scheduler of diffusers by name, as in DDPMScheduler"
    if given is None:
        home = Path(os.path.abspath(network))
        for folder in (home.parent, home.parent.parent):
            if (folder / "scheduler" / _SCHEDULER).is_file():
                given = folder / "scheduler"
                break
        else:
            scheduler = diffusers.DDPMScheduler()
            told = f"{len(scheduler)} steps, {scheduler.config.beta_schedule} beta, {scheduler.config.prediction_type}"
            remark = f"no scheduler lies beside the network: the default is taken, DDPMScheduler of {told}"
            return scheduler, [f"{remark} (another with --scheduler)"]
    file = Path(given) / _SCHEDULER if Path(given).is_dir() else Path(given)
    if file.is_file():
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
            kind = getattr(diffusers, config["_class_name"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DomainError("--scheduler", str(given), allowed, f"({error})") from error
        return kind.from_config(config), [f"scheduler: {kind.__name__} of {file.parent}"]
    kind = getattr(diffusers, str(given), None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
        raise DomainError("--scheduler", str(given), allowed)
    return kind(), [f"scheduler: {given} with its defaults"]


def pipeline_mark(path: str | os.PathLike) -> str:
    """A short hash of all files of a saved pipeline (what it names in its index, where it has one) or network."""
    path, files = Path(path), []
    folders = [path]
    if is_pipeline(path):
        with open(path / _INDEX, encoding="utf-8") as file:
            folders = [path / name for name in json.load(file) if (path / name).is_dir()]
        files = [path / _INDEX]
    files += [p for folder in folders for p in folder.rglob("*") if p.is_file()]
    digest = hashlib.sha256()
    for file in sorted(files):
        with open(file, "rb") as stream:
            digest.update(f"{file.relative_to(path)} {hashlib.file_digest(stream, 'sha256').hexdigest()}".encode())
    return digest.hexdigest()[:16]


def _variant(folder: Path, variant: str | None, remarks: list[str]) -> str | None:
    """Which weights of a network's folder are meant: those asked for, the plain ones, or the only ones there are."""
    found = {match[1] for item in folder.iterdir() if (match := _WEIGHTS.fullmatch(item.name))}
    if variant is not None and variant not in found:
        there = ", ".join(sorted(name or "plain" for name in found)) or "none"
        raise DomainError("--variant", variant, f"one of the weights in {folder}: {there}")
    if variant is None and found and None not in found:
        if len(found) > 1:
            first, *others = sorted(map(str, found))
            allowed = f"chosen where {folder} has weights in several variants: {', '.join([first, *others])}"
            raise DomainError("--variant", "none", allowed, f"Add `--variant {first}`")
        variant = str(next(iter(found)))
    if variant is not None:
        remarks.append(f"weights: variant {variant}")
    return variant


def quietly(load: Any, path: str | os.PathLike, variant: str | None) -> Any:
    """What a `from_pretrained` gives, without its bars and warnings; its errors are errors of the path."""
    from diffusers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity(
        logging.CRITICAL
    )  # an averaged network's config has the average's own entries, of which it warns
    try:
        return load(str(path), **({} if variant is None else {"variant": variant}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, SafetensorError) as error:
        raise DomainError("path", str(path), f"{_ALLOWED}, whole", f"({_brief(error)})") from error
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else text[:157] + "..."


def _class_of(folder: Path) -> str | None:
    """The class that a folder's config.json names, where diffusers wrote it."""
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    name = config.get("_class_name") if isinstance(config, dict) else None
    return name if isinstance(name, str) else None


def _natural(path: Path) -> list[Any]:
    """checkpoint-500 before checkpoint-1000, and an average after its network."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]
