"""A network of others beside the data it was trained on: numbers, images, or their latents, in the units of the network.

Of a diffusers pipeline, or a torch module with its convention.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from numerics.domain import DomainError, positive
from validation.data import Copies, Dataset, load, split
from validation.networks import DiffusersScore, ModelScore, open_module
from validation.networks.pipelines import (
    Autoencoder,
    check_conventions,
    check_latents,
    encode_images,
    is_pipeline,
    load_autoencoder,
    pipeline_mark,
)
from validation.networks.torch_modules import OpenedModule, is_module
from validation.option_names import option_of
from validation.spectra import asymmetry, modules_of
from validation.spectrum.product_precision import reduce_products
from validation.spectrum.products import DENSE
from validation.spectrum.subjects import FRESH, INSIDE, Subject, fresh_parts, principal

_TOGETHER = 1 << 14  # numbers of points that are differentiated at once
_ENCODED = 64  # images that are encoded again on each usual scale of pixels, where latents are not the network's
_HOW = (
    "convention",
    "prediction",
    "level",
    "sigma_data",
    "products",
)  # what the numbers of a torch module depend on beside its file

__all__ = ["Opened", "from_pipeline", "latent_dataset", "open_pipeline"]


@dataclass(frozen=True, eq=False)
class Opened:
    """A network and points of its own.

    face : its score; name : of the data; train, fresh : (P, N) and (F, N) points in its network's space, float64
    encode : images (B, M) in the data's units to points (B, N) of that space; latent : whether these are latents
    pixels : shape of an image; copies, remarks : what is to be said; mark : tells the network from any other
    """

    face: Any
    name: str
    train: torch.Tensor
    fresh: torch.Tensor
    encode: Callable[[np.ndarray], np.ndarray]
    latent: bool
    pixels: tuple[int, ...]
    copies: Copies
    remarks: tuple[str, ...]
    mark: str


def open_pipeline(
    path: str | os.PathLike,
    data: str | os.PathLike | None,
    *,
    device: str = "cpu",
    seed: int = 0,
    scheduler: str | None = None,
    variant: str | None = None,
    centre: float | None = None,
    unit: float | None = None,
    label: int | None = None,
    embeddings: str | None = None,
    prompt: str | None = None,
    guidance: float | None = None,
    null_label: int | None = None,
    convention: str | None = None,
    prediction: str | None = None,
    level: str | None = None,
    sigma_data: float | None = None,
    weights: str | None = None,
    products: str | None = None,
    **options: Any,
) -> Opened:
    """A network of others and a data set: that which it was trained on.

    path : a folder of diffusers, or a torch module, see `validation.networks.torch_modules.forms`
    convention, prediction, level, sigma_data, weights : of a torch module, see `validation.networks.open_module`
    scheduler, variant : see `DiffusersScore.from_pretrained`
    label, embeddings, prompt, guidance, null_label : of a conditional network, see there
    products : precision of products with its Jacobian, see `validation.spectrum.product_precision`
    centre, unit : the network (of a latent pipeline: the autoencoder) was trained on (data - centre)/unit. Where neither is given
        the data's own scale is compared with the usual ones before anything is measured
        (`validation.networks.pipelines.pixel_scale`).
    options : of `validation.data.load`

    The points kept back are fresh to the empirical score. Whether they are to the network, only its trainer knows.

    Raises
    ------
    DomainError : images of another shape than the network's, pixels that are clearly not on its scale; see
        `DiffusersScore.from_pretrained` and `validation.data.load`
    """
    scale = {"centre": 0.0 if centre is None else centre, "unit": 1.0 if unit is None else positive("--unit", unit)}
    known = {"scheduler": scheduler, "variant": variant, "embeddings": embeddings, "prompt": prompt}
    known |= {"label": label, "guidance": guidance, "null_label": null_label}
    of_module = {"convention": convention, "prediction": prediction, "level": level, "sigma_data": sigma_data}
    of_module |= {"weights": weights}
    if is_module(path):
        _only(
            known, "scheduler", "left out with a torch module", "Let a function in file.py wrap it with its condition"
        )
        module = open_module(path, device=device, scheduler=scheduler, **of_module, **scale)
        return _with_module(module, path, data, device, seed, centre is None and unit is None, products, options)
    _only(of_module, "", "left out with a folder of diffusers, whose scheduler knows its convention")
    module, mark = load_autoencoder(path, variant) if is_pipeline(path, latent=True) else (None, "")
    face = None
    if module is None:
        face = DiffusersScore.from_pretrained(path, **known, **scale, dtype=torch.float64)
        module = face.autoencoder
    dataset = load(data, seed=seed, **options)
    shape = dataset.shape if len(dataset.shape) == 3 else (1, *dataset.shape)
    parts = fresh_parts(split(dataset.X, dataset.held_out, seed=seed, limit=FRESH), dataset.name)
    remarks: list[str] = []
    if module is None:

        def encode(X: np.ndarray) -> np.ndarray:
            return np.array(X, dtype=np.float64)

        train, fresh = encode(parts.train), encode(parts.held_out)
    else:
        module.to(device)

        def encode(X: np.ndarray) -> np.ndarray:
            return encode_images(module, X, dataset.shape, mark=mark, **scale).Z

        found = encode_images(module, parts.train, dataset.shape, mark=mark, **scale)
        train, fresh = found.Z, encode(parts.held_out)
        remarks += found.remarks
        own = DiffusersScore.from_pretrained(path, **known, shape=found.shape, dtype=torch.float64)
        face, shape = own, found.shape
    if face is None or shape != face.shape:
        remedy = "Bring the data to it: --image-size, or the DATA it was trained on"
        its_own = None if face is None else face.shape
        raise DomainError("--model", str(path), f"a network of images {shape}; its own are {its_own}", remedy)
    if math.prod(shape) > DENSE:
        face.cast(torch.float32)  # products with J = -(1 - D')/t are good to rounding; its matrix is not made
    face.differentiation.chunk = max(1, _TOGETHER // math.prod(shape))
    face.module.to(device)
    remarks = [*face.remarks, *remarks]
    if centre is None and unit is None:
        if module is None:
            said = check_conventions(face, train, seed=seed)
        else:
            images = parts.train[:_ENCODED]

            def again(c: float, u: float) -> np.ndarray:
                return encode_images(module, images, dataset.shape, centre=c, unit=u).Z

            said = check_latents(face, Autoencoder(module), train, pixels=images, encode=again, seed=seed)
        remarks += filter(None, [said])
    if guidance not in (None, 1.0):
        remarks.append(_guided(face, train, seed))
    remarks += filter(None, [reduce_products(face, products, torch.from_numpy(train), device, seed)])
    points = (torch.from_numpy(part) for part in (train, fresh))
    about = (module is not None, dataset.shape, parts.copies, tuple(remarks), pipeline_mark(path))
    return Opened(face, dataset.name, *points, encode, *about)


def _only(given: Mapping[str, Any], allowed: str, reason: str, remedy: str = "") -> None:
    """An error for options that do not go with this kind of network; all but one that is allowed."""
    for name, value in given.items():
        if value is not None and name != allowed:
            raise DomainError(option_of(name), value, reason, remedy)


def _with_module(
    opened: OpenedModule,
    path: str | os.PathLike,
    data: str | os.PathLike | None,
    device: str,
    seed: int,
    check: bool,
    products: str | None,
    options: dict[str, Any],
) -> Opened:
    """A torch module on a data set: vectors (N,), images (C, H, W) or (1, H, W)."""
    dataset = load(data, seed=seed, **options)
    shape = (1, *dataset.shape) if len(dataset.shape) == 2 else tuple(dataset.shape)
    face = opened.make(shape)
    if face.shape is not None and face.shape != shape:
        remedy = "Bring the data to it: --image-size, or the DATA it was trained on"
        raise DomainError("--model", str(path), f"a network of points {shape}; its own are {face.shape}", remedy)
    parts = fresh_parts(split(dataset.X, dataset.held_out, seed=seed, limit=FRESH), dataset.name)
    face.differentiation.chunk = max(1, _TOGETHER // math.prod(shape))
    for module in modules_of(face.module):
        module.to(device)

    def encode(X: np.ndarray) -> np.ndarray:
        return np.array(X, dtype=np.float64)

    train, fresh = encode(parts.train), encode(parts.held_out)
    remarks = [*opened.remarks, *getattr(face, "remarks", ())]
    if check and isinstance(face, ModelScore):
        remarks += filter(None, [check_conventions(face, train, seed=seed, module=True)])
    remarks += filter(None, [reduce_products(face, products, torch.from_numpy(train), device, seed)])
    points = (torch.from_numpy(part) for part in (train, fresh))
    said = tuple(dict.fromkeys(remarks))
    return Opened(face, dataset.name, *points, encode, False, dataset.shape, parts.copies, said, opened.mark)


def from_pipeline(path: str | os.PathLike, data: str | os.PathLike | None, **options: Any) -> Subject:
    """What `open_pipeline` opens, in principal axes; options and errors are those there."""
    opened = open_pipeline(path, data, **options)
    face, device, N = opened.face, options.get("device", "cpu"), opened.train.shape[1]
    if options.get("products") not in (None, "float32") and N <= DENSE:
        remedy = f"Products are taken above {DENSE} numbers a point, and with --samples"
        raise DomainError("--products", options["products"], f"float32 for {N} numbers, whose matrix is made", remedy)
    space = "latents of " if opened.latent else ""
    name = f"{os.path.basename(os.path.abspath(path))} on {space}{opened.name}"
    seen = principal(name, opened.train, opened.fresh, face, device)
    how = "; ".join(
        [*getattr(face, "remarks", ()), *filter(None, (f"{n}={options[n]}" for n in _HOW if options.get(n)))]
    )
    origin = f"{opened.mark} asked for (x - {face.centre:g})/{face.unit:g}; {how}"
    return replace(seen, origin=origin, t_range=face.t_range, copies=opened.copies, remarks=opened.remarks)


def latent_dataset(
    dataset: Dataset,
    path: str | os.PathLike,
    *,
    variant: str | None = None,
    centre: float | None = None,
    unit: float | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """A data set of images as that of their latents, by the autoencoder of a pipeline (or the autoencoder alone) in `path`.

    centre, unit : pixels in [-1, 1] are (data - centre)/unit; what was measured of the autoencoder is among `dropped`.

    Raises
    ------
    DomainError : no autoencoder there, or images that it does not take
    """
    module, mark = load_autoencoder(path, variant)
    module.to(device)
    options = {"mark": mark, "centre": centre or 0.0, "unit": 1.0 if unit is None else float(positive("--unit", unit))}
    found = encode_images(module, dataset.X, dataset.shape, progress=progress, **options)
    held_out = dataset.held_out
    if held_out is not None:
        held_out = encode_images(module, held_out, dataset.shape, **options).Z
    return replace(
        dataset,
        X=found.Z,
        name=f"latents of {dataset.name}",
        shape=found.shape,
        scale="latents, as the pipeline scales them",
        held_out=held_out,
        dropped=(*dataset.dropped, *found.remarks),
    )


def _guided(face: Any, X: np.ndarray, seed: int) -> str:
    """What guidance has made of a score: how antisymmetric its Jacobian is, at noised training points, in words."""
    clean = torch.from_numpy(np.array(X[:2], dtype=np.float64))
    spread, (low, high) = float(X[:1000].std()), face.t_range
    noise = torch.from_numpy(np.random.default_rng(seed).standard_normal(tuple(clean.shape)))
    parts = []
    for sigma in (0.3, 1.0, 3.0):
        t = min(max((sigma * spread) ** 2, low * (1 + INSIDE)), high * (1 - INSIDE))
        ratio, error = asymmetry(face, clean + math.sqrt(t) * noise, t, probes=4, seed=seed)
        parts.append(f"{ratio:.2g}({error:.1g}) at sigma {math.sqrt(t):.2g}")
    shares = ", ".join(parts)
    return (
        f"guidance {face.guidance:g}: what is measured is no score of any density; the antisymmetric part of its Jacobian is "
        f"{shares} of the symmetric one, and eigenvalues are those of the symmetric part"
    )
