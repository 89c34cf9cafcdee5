"""`geomem spectrum`: arguments to subjects, spectra and files; what is interrupted goes on where it was."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from numerics.domain import DomainError, integer
from numerics.grids import Rows
from numerics.store import save_dataset, writable
from validation.data import as_columns, available, data_dimension, dimension_variables
from validation.devices import device_of
from validation.networks import is_foreign
from validation.option_names import option_of
from validation.spectrum.measurement import identity, spectrum
from validation.spectrum.pipelines import from_pipeline
from validation.spectrum.subjects import (
    Subject,
    from_data,
    from_model,
    from_subspaces,
    noise_levels,
)

__all__ = ["run", "spectrum"]


def _with_dimension(result: xr.Dataset, subject: Subject, seed: int, device: str) -> xr.Dataset:
    """The dimension of the training points themselves beside the readings of their score's spectrum."""
    if not available():
        return result.assign_attrs(data_dimension="not measured: scikit-dimension is not installed")
    found = data_dimension(subject.X.cpu().numpy(), seed=seed, device=device)
    return result.assign(dimension_variables(found)).assign_attrs(data_dimension=found.report())


def run(
    data: str | os.PathLike | None,
    out: Path,
    *,
    subspaces: str | None = None,
    P: int | None = None,
    model: str | os.PathLike | None = None,
    sigmas: Sequence[float] | None = None,
    points: int = 25,
    probes: int = 24,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    network: Mapping[str, Any] | None = None,
    scheduler: Any = None,
    **options: Any,
) -> list[tuple[xr.Dataset, list[Path]]]:
    """Measure, write figure (`out`), .nc and .csv (all but single eigenvalues) beside it; one result a network with `model`.

    model : a checkpoint of `geomem train`, which knows its data, or the folder of a diffusers pipeline or UNet, to go with `data`
    network : scheduler, variant, centre, unit of the latter, see `validation.spectrum.open_pipeline`

    scheduler : a dask scheduler whose workers measure, see `numerics.grids.run_tasks`; not with a network of others

    Beside the spectra stands the dimension of the training points themselves (`validation.data.dimension`).

    What is measured is kept in `<out>.partial/`, its name ending in .nc, until every file is written: the same call after
    a kill goes on from there and ends with the same numbers.

    Raises
    ------
    DomainError : more than one source of data, options that do not go with it, bad ranges, unreadable data, unwritable
        `out`, or one beside which another run was interrupted
    """
    from validation.figures import save
    from validation.spectrum.figures import figure

    if out.suffix not in (".png", ".pdf", ".svg"):
        raise DomainError("--out", str(out), "a file name that ends in .png, .pdf or .svg")
    # which, unlike a checkpoint, does not know its data
    pipeline = model if model is not None and is_foreign(model) else None
    if network and pipeline is None:
        name = next(iter(network))
        raise DomainError(option_of(name), network[name], "left out without a network of others in --model")
    sources = {"DATA": data, "--subspaces": subspaces, "--model": None if pipeline is not None else model}
    given = [name for name, value in sources.items() if value is not None]
    if len(given) > 1:
        raise DomainError(given[1], str(subspaces if given[1] == "--subspaces" else model), f"left out with {given[0]}")
    if scheduler is not None and pipeline is not None:
        raise DomainError("--dask-scheduler", scheduler, "left out with a network of others in --model")
    if P is not None and subspaces is None:
        raise DomainError("-P", P, "left out without --subspaces", "Use --limit to take fewer samples of a data set")
    if pipeline is not None and subspaces is not None:
        raise DomainError("--subspaces", subspaces, "left out with the pipeline of --model")
    if options and given[-1:] in (["--subspaces"], ["--model"]):
        name = next(iter(options))
        raise DomainError("--" + name.replace("_", "-"), options[name], f"left out with {given[-1]}")
    if sigmas is not None and len(sigmas) != 2:
        raise DomainError("--sigma", str(sigmas), "two numbers low,high with 0 < low < high")
    probes = integer("--probes", probes, minimum=2)
    writable(out, argument="--out")
    device_of(device, "--device")
    if pipeline is not None:
        subjects = [from_pipeline(pipeline, data, device=device, seed=seed, **(network or {}), **options)]
    elif model is not None:
        subjects = list(from_model(model, device=device))
    elif subspaces is not None:
        subjects = [from_subspaces(subspaces, 1000 if P is None else P, seed=seed)]
    else:
        subjects = [from_data(data, seed=seed, **options)]
    grids = [noise_levels(subject, points, sigmas) for subject in subjects]
    paths = [out if len(subjects) == 1 else out.with_name(f"{out.stem}-P{s.P}{out.suffix}") for s in subjects]
    common: dict[str, Any] = {"probes": probes, "seed": seed, "device": device}
    stores = [
        Rows(path.with_suffix(".nc"), identity(subject, t, **common), what="spectrum", argument="--out")
        for subject, t, path in zip(subjects, grids, paths, strict=True)
    ]
    results = []
    for k, (subject, t, path, rows) in enumerate(zip(subjects, grids, paths, stores, strict=True)):

        def told(done: int, total: int, before: int = k) -> None:
            if progress:
                progress(before * total + done, total * len(subjects))

        result = spectrum(subject, t, **common, progress=told, rows=rows, scheduler=scheduler)
        result = _with_dimension(result, subject, seed, device)
        save(figure(result), path)
        numbers = save_dataset(result, path.with_suffix(".nc"))
        single = [name for name in result.data_vars if {"direction", "group"} & set(result[name].dims)]
        short = as_columns(result.drop_vars(single).drop_dims(["direction", "group"]))
        summary = save_dataset(short, path.with_suffix(".csv"))
        results.append((result, [path, numbers, summary]))
    for rows in stores:
        rows.clear()
    return results
