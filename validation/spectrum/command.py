r"""What `geomem spectrum` does: at which noise a training set's score loses directions, and which first.

Sorted eigenvalues of :math:`-tJ` (1: pure noise, 0: fully inside the data) of the empirical score, beside two controls:
the Gaussian with the data's own covariance, and the empirical score of half of the training set. Only what depends on
the number of training points is memorisation. Errors are over probe points: they do not include what another training
set would change.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from numerics.domain import DomainError, integer, positive
from numerics.grids import Rows, mark
from numerics.store import provenance, save_dataset, versions, writable
from theory import Spectrum, collapse_time, condensation_time
from validation.data import as_columns, available, data_dimension, dimension_variables
from validation.devices import device_of
from validation.networks import is_pipeline
from validation.score import EmpiricalScore
from validation.spectra import (
    Empirical,
    GaussianScore,
    ScoreFunction,
    inflection_dimension,
    jacobian_spectrum,
    largest_gap_dimension,
)
from validation.spectrum.subjects import (
    Subject,
    from_data,
    from_model,
    from_pipeline,
    from_subspaces,
    noise_levels,
)

__all__ = ["PLACES", "identity", "run", "spectrum"]

PLACES = ("noisy", "fresh", "centre")
_ENTRIES = 1 << 25  # Jacobian entries held at once
_DOUBLE = 1 << 26  # entries of X up to which products are made in float64 too


def spectrum(
    subject: Subject,
    t: Any,
    *,
    probes: int = 24,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    rows: Rows | None = None,
) -> xr.Dataset:
    r"""Spectra of -tJ, latent dimensions and posterior variances of every score at every kind of point.

    Parameters
    ----------
    subject : Subject; t : (T,) increasing numbers > 0, squared data units
    probes : int >= 2, points of each kind: *noisy*, training points with noise of variance t; *fresh*, points kept back,
        without noise; *centre*, the data's mean (one point, so no error)
    seed : of the noise and of which points are used; device : torch device
    progress : callable (done, total), once a noise level and kind of point
    rows : where what is measured is kept and found again, one row a level and kind of point; `identity` names the run

    Returns
    -------
    xarray.Dataset over score (empirical, half, gaussian; exact for synthetic data, network), place, t, direction and group:
    `eigenvalue`, sorted; `variance`, posterior variance over t, mean of a group; `gap`, `inflection`: latent dimension;
    `kept`: eigenvalues below 1/2, directions along which the data outweigh the noise; `participation`. Each with
    `_error` over probes. `single_variance` are single probes' values, for errors of what is read off the curves.

    The failure that looks normal: where the data are far from Gaussian the Gaussian control keeps other directions than the
    population does; `half` says whether the difference moves with the number of training points.
    """
    t = np.atleast_1d(positive("t", t))
    probes = integer("--probes", probes, minimum=2)
    rng = np.random.default_rng(seed)
    order = rng.permutation(subject.P)
    half = order[: max(2, subject.P // 2)]
    measured: dict[str, ScoreFunction] = {
        "empirical": _empirical(subject.X, device),
        "half": _empirical(subject.X[half], device),
        **subject.networks,
    }
    own = subject.X[order[: min(probes, len(half))]].to(device)
    noise = torch.from_numpy(rng.standard_normal(tuple(own.shape))).to(device)
    fresh = subject.fresh[:probes].to(device)
    centre = torch.zeros(1, subject.N, dtype=torch.float64, device=device)
    diagonal = {"gaussian": subject.variances} | ({} if subject.exact is None else {"exact": subject.exact})
    scores, rows = [*measured, *diagonal], Rows(None, {}) if rows is None else rows
    jobs = [(float(level), place) for level in t for place in PLACES]
    waiting = [i for i in range(len(jobs)) if not rows.has(i)]
    for done, i in enumerate(waiting, len(jobs) - len(waiting)):
        if progress:
            progress(done, len(jobs))
        level, place = jobs[i]
        x = {"noisy": own + math.sqrt(level) * noise, "fresh": fresh, "centre": centre}[place]
        seen = {name: _seen(face, x, level, subject) for name, face in measured.items()}
        seen |= {name: _diagonal(r, level, subject) for name, r in diagonal.items()}
        rows.put(i, {f"{score}.{name}": values for score, of in seen.items() for name, values in of.items()})
    if progress:
        progress(len(jobs), len(jobs))
    found: dict[tuple[str, str], list[dict[str, np.ndarray]]] = {}
    for i, (_, place) in enumerate(jobs):
        row = rows.get(i)
        for score in scores:
            found.setdefault((score, place), []).append({name: row[f"{score}.{name}"] for name in _UNITS})
    return _labelled(subject, t, scores, found, len(own), seed)


def identity(subject: Subject, t: np.ndarray, *, probes: int, seed: int, device: str) -> dict[str, str]:
    """All that the rows of `spectrum` depend on, as text by name."""
    exact = {} if subject.exact is None else {"exact variances": mark(subject.exact)}
    return {
        "seed": str(seed),
        "probes": str(probes),
        "device": device,
        "threads": str(torch.get_num_threads()),
        "data": subject.name,
        "training points": mark(subject.X.numpy()),
        "fresh points": mark(subject.fresh.numpy()),
        "t": mark(t),
        "groups": ", ".join(subject.groups),
        "networks": f"{', '.join(subject.networks)} {subject.origin}".strip(),
        **exact,
        **versions(),
    }


def _empirical(X: torch.Tensor, device: str) -> Empirical:
    return Empirical(EmpiricalScore(X, device=device, dtype="float64" if X.numel() <= _DOUBLE else "float32"))


def _seen(face: ScoreFunction, x: torch.Tensor, t: float, subject: Subject) -> dict[str, np.ndarray]:
    parts = [jacobian_spectrum(face, part, t)[:2] for part in x.split(max(1, _ENTRIES // subject.N**2))]
    values, along = (np.concatenate(both) for both in zip(*parts, strict=True))
    known = getattr(face, "participation", None)
    participation = known(x, t).cpu().numpy() if known else np.full(len(x), np.nan)
    return _read(values, along, participation, subject)


def _diagonal(variances: np.ndarray, t: float, subject: Subject) -> dict[str, np.ndarray]:
    """The linear score of a Gaussian: -tJ is its value at (1, ..., 1), the same at every point."""
    along = (-t * GaussianScore(variances).score(torch.ones(1, subject.N, dtype=torch.float64), t)).numpy()
    return _read(-np.sort(-along, axis=1), along, np.full(1, np.nan), subject)


def _read(values: np.ndarray, along: np.ndarray, participation: np.ndarray, subject: Subject) -> dict[str, np.ndarray]:
    gap = largest_gap_dimension(values).astype(float)
    flat = np.ptp(values, axis=1) < 0.1  # all noise or all data: no step to find
    bent = inflection_dimension(values) if subject.N > 5 else np.full(len(values), np.nan)
    return {
        "eigenvalue": values,
        "variance": np.stack([1 - along[:, block].mean(axis=1) for block in subject.groups.values()], axis=1),
        "gap": gap,
        "inflection": np.where(flat, gap, bent),
        "kept": (values < 0.5).sum(axis=1).astype(float),
        "participation": participation,
    }


_UNITS = {
    "eigenvalue": "1, of -tJ, sorted",
    "variance": "t, posterior variance per direction",
    "gap": "directions",
    "inflection": "directions",
    "kept": "directions",
    "participation": "training points",
}


def _labelled(subject, t, scores, found, probes, seed) -> xr.Dataset:
    extra = {"eigenvalue": ("direction",), "variance": ("group",)}
    variables: dict[str, Any] = {}
    for name, units in _UNITS.items():
        dims = ("score", "place", "t", *extra.get(name, ()))
        mean, error = [], []
        for score in scores:
            for place in PLACES:
                values = [level[name] for level in found[(score, place)]]
                mean.append([v.mean(axis=0) for v in values])
                error.append([_error(v, exact=score in ("gaussian", "exact")) for v in values])
        shape = (len(scores), len(PLACES), *np.shape(mean[0]))
        variables[name] = (dims, np.array(mean).reshape(shape), {"units": units})
        variables[f"{name}_error"] = (dims, np.array(error).reshape(shape), {"units": units})
    data = xr.Dataset(
        variables,
        {"score": scores, "place": list(PLACES), "t": t, "direction": np.arange(1, subject.N + 1)},
        attrs=provenance(data=subject.name, P=subject.P, N=subject.N, probes=probes, seed=seed),
    ).assign_coords(group=list(subject.groups))
    data["t"].attrs["units"] = "squared data units"
    data["data_variance"] = ("group", [float(subject.variances[b].mean()) for b in subject.groups.values()])
    alpha = math.log(subject.P) / subject.N
    for name, time in (("collapse", collapse_time), ("condensation", condensation_time)):
        data.attrs[f"log_t_{name}"] = float(time(Spectrum(subject.variances), alpha, log=True))
    fewer = math.log(max(2, subject.P // 2)) / subject.N
    data.attrs["log_t_collapse_half"] = float(collapse_time(Spectrum(subject.variances), fewer, log=True))
    for place in ("noisy", "fresh"):
        single = np.array([level["variance"] for level in found[("empirical", place)]])
        data[f"single_variance_{place}"] = (("t", f"probe_{place}", "group"), single)
    return data


def _with_dimension(result: xr.Dataset, subject: Subject, seed: int, device: str) -> xr.Dataset:
    """The dimension of the training points themselves beside the readings of their score's spectrum."""
    if not available():
        return result.assign_attrs(data_dimension="not measured: scikit-dimension is not installed")
    found = data_dimension(subject.X.cpu().numpy(), seed=seed, device=device)
    return result.assign(dimension_variables(found)).assign_attrs(data_dimension=found.report())


def _error(values: np.ndarray, *, exact: bool) -> np.ndarray:
    if exact:
        return np.zeros(values.shape[1:])
    if len(values) < 2:
        return np.full(values.shape[1:], np.nan)
    return values.std(axis=0, ddof=1) / math.sqrt(len(values))


# --- the command ------------------------------------------------------------------------------------------------------


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
    **options: Any,
) -> list[tuple[xr.Dataset, list[Path]]]:
    """Measure, write figure (`out`), .nc and .csv (all but single eigenvalues) beside it; one result a network with `model`.

    model : a checkpoint of `geomem train`, which knows its data, or the folder of a diffusers pipeline, to go with `data`

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
    pipeline = model is not None and is_pipeline(model)  # which, unlike a checkpoint, does not know its data
    sources = {"DATA": data, "--subspaces": subspaces, "--model": None if pipeline else model}
    given = [name for name, value in sources.items() if value is not None]
    if len(given) > 1:
        raise DomainError(given[1], str(subspaces if given[1] == "--subspaces" else model), f"left out with {given[0]}")
    if P is not None and subspaces is None:
        raise DomainError("-P", P, "left out without --subspaces", "Use --limit to take fewer samples of a data set")
    if pipeline and subspaces is not None:
        raise DomainError("--subspaces", subspaces, "left out with the pipeline of --model")
    if options and given[-1:] in (["--subspaces"], ["--model"]):
        name = next(iter(options))
        raise DomainError("--" + name.replace("_", "-"), options[name], f"left out with {given[-1]}")
    if sigmas is not None and len(sigmas) != 2:
        raise DomainError("--sigma", str(sigmas), "two numbers low,high with 0 < low < high")
    probes = integer("--probes", probes, minimum=2)
    writable(out, argument="--out")
    device_of(device, "--device")
    if pipeline:
        subjects = [from_pipeline(model, data, device=device, seed=seed, **options)]
    elif model is not None:
        subjects = list(from_model(model, device=device))
    elif subspaces is not None:
        subjects = [from_subspaces(subspaces, 1000 if P is None else P, seed=seed)]
    else:
        subjects = [from_data(data, seed=seed, **options)]
    grids = [noise_levels(subject, points, sigmas) for subject in subjects]
    paths = [out if len(subjects) == 1 else out.with_name(f"{out.stem}-P{s.P}{out.suffix}") for s in subjects]
    common = {"probes": probes, "seed": seed, "device": device}
    stores = [
        Rows(path.with_suffix(".nc"), identity(subject, t, **common), what="spectrum", argument="--out")
        for subject, t, path in zip(subjects, grids, paths, strict=True)
    ]
    results = []
    for k, (subject, t, path, rows) in enumerate(zip(subjects, grids, paths, stores, strict=True)):

        def told(done: int, total: int, before: int = k) -> None:
            if progress:
                progress(before * total + done, total * len(subjects))

        result = _with_dimension(spectrum(subject, t, **common, progress=told, rows=rows), subject, seed, device)
        save(figure(result), path)
        numbers = save_dataset(result, path.with_suffix(".nc"))
        single = [name for name in result.data_vars if {"direction", "group"} & set(result[name].dims)]
        short = as_columns(result.drop_vars(single).drop_dims(["direction", "group"]))
        summary = save_dataset(short, path.with_suffix(".csv"))
        results.append((result, [path, numbers, summary]))
    for rows in stores:
        rows.clear()
    return results
