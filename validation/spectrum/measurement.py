r"""What `geomem spectrum` measures: at which noise a training set's score loses directions, and which first.

Sorted eigenvalues of :math:`-tJ` (1: pure noise, 0: fully inside the data) of the empirical score, beside three controls:
the Gaussian with the population's covariance, the best linear denoiser of the same training points, :math:`t(\hat C+t)^{-1}`
(over training sets: :math:`\kappa(\Sigma+\kappa)^{-1}`, `theory.finite_sample_noise`), and the empirical score of half of the
training set. Only what depends on the number of training points is memorisation. Errors are over probe points: they do not
include what another training set would change.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
import xarray as xr

from numerics.domain import integer, positive
from numerics.grids import Rows, mark, run_tasks
from numerics.store import provenance, versions
from theory import Spectrum, collapse_time, condensation_time
from validation.score import EmpiricalScore
from validation.spectra import (
    METHODS,
    Derivative,
    Empirical,
    GaussianScore,
    ScoreFunction,
    inflection_dimension,
    jacobian_spectrum,
    largest_gap_dimension,
)
from validation.spectrum.products import PROBES, STEPS, by_products, spectrum_by_products
from validation.spectrum.subjects import Subject

__all__ = ["PLACES", "identity", "spectrum"]

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
    scheduler: Any = None,
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
    scheduler : a dask scheduler whose workers measure these rows, see `numerics.grids.run_tasks`; the numbers stay the same

    Returns
    -------
    xarray.Dataset over score (empirical, half, gaussian, linear; exact for synthetic data, network), place, t, direction and
    group: `eigenvalue`, sorted; `variance`, posterior variance over t, mean of a group; `gap`, `inflection`: latent dimension;
    `kept`: eigenvalues below 1/2, directions along which the data outweigh the noise; `participation`. Each with
    `_error` over probes. `single_variance` are single probes' values, for errors of what is read off the curves.

    The failure that looks normal: where the data are far from Gaussian the Gaussian control keeps other directions than the
    population does; `half` says whether the difference moves with the number of training points.
    """
    t = np.atleast_1d(positive("t", t))
    probes = integer("--probes", probes, minimum=2)
    scene = _Scene(subject, probes, seed, device, torch.get_num_threads())
    rows = Rows(None, {}) if rows is None else rows
    jobs = [(float(level), place) for level in t for place in PLACES]
    for _ in run_tasks(_row, jobs, shared=(scene,), keep=rows, scheduler=scheduler, progress=progress):
        pass
    scores = scene.scores
    found: dict[tuple[str, str], list[dict[str, np.ndarray]]] = {}
    for i, (_, place) in enumerate(jobs):
        row = rows.get(i)
        for score in scores:
            found.setdefault((score, place), []).append({name: row[f"{score}.{name}"] for name in _UNITS})
    result = _labelled(subject, t, scores, found, len(scene.own), seed)
    for name in subject.networks:
        by = [rows.get(i)[f"{name}.derivative"] for i in range(len(jobs))]
        method, error = (max(column) for column in zip(*by, strict=True))
        result.attrs[f"jacobian_{name}"] = str(Derivative(METHODS[int(method)], float(error)))
        if by_products(subject.networks[name], subject.N):
            told = (
                f"{STEPS} Lanczos steps from {PROBES} random vectors a point; eigenvalues are quantiles of that density"
            )
            result.attrs[f"jacobian_{name}"] = f"{told}, no gap or inflection is read off them"
    return result.assign_attrs({"remarks": "; ".join(subject.remarks)} if subject.remarks else {})


class _Scene:
    """What all rows have in common: the points looked at, and the scores, which are made where they are first asked for."""

    def __init__(self, subject: Subject, probes: int, seed: int, device: str, threads: int):
        self.subject, self.seed, self.device, self.threads = subject, seed, device, threads
        rng = np.random.default_rng(seed)
        order = rng.permutation(subject.P)
        self.half = order[: max(2, subject.P // 2)]
        self.own = subject.X[order[: min(probes, len(self.half))]]
        self.noise = torch.from_numpy(rng.standard_normal(tuple(self.own.shape)))
        self.fresh = subject.fresh[:probes]
        self.diagonal = {"gaussian": subject.gaussian} | ({} if subject.exact is None else {"exact": subject.exact})

    @property
    def scores(self) -> list[str]:
        """Names, in the order of the result."""
        return ["empirical", "half", *self.subject.networks, *self.diagonal, "linear"]

    @cached_property
    def measured(self) -> dict[str, ScoreFunction]:
        X = self.subject.X
        both = {"empirical": _empirical(X, self.device), "half": _empirical(X[self.half], self.device)}
        return both | dict(self.subject.networks)

    @cached_property
    def linear(self) -> tuple[np.ndarray, np.ndarray | None]:
        return _linear(self.subject)

    def points(self, level: float, place: str) -> torch.Tensor:
        if place == "centre":
            return torch.zeros(1, self.subject.N, dtype=torch.float64, device=self.device)
        if place == "fresh":
            return self.fresh.to(self.device)
        return self.own.to(self.device) + math.sqrt(level) * self.noise.to(self.device)


def _row(job: tuple[float, str], scene: _Scene) -> dict[str, np.ndarray]:
    """What every score shows at one noise level and kind of point."""
    torch.set_num_threads(scene.threads)  # on a worker as in the process that asks
    (level, place), subject = job, scene.subject
    x = scene.points(level, place)
    seen = {name: _seen(face, x, level, subject, scene.seed) for name, face in scene.measured.items()}
    seen |= {name: _diagonal(r, level, subject) for name, r in scene.diagonal.items()}
    seen["linear"] = _ridge(*scene.linear, level, subject)
    found_by = {f"{name}.derivative": np.array(_derivative(face)) for name, face in subject.networks.items()}
    return {f"{score}.{name}": v for score, of in seen.items() for name, v in of.items()} | found_by


def identity(subject: Subject, t: np.ndarray, *, probes: int, seed: int, device: str) -> dict[str, str]:
    """All that the rows of `spectrum` depend on, as text by name."""
    exact = {} if subject.exact is None else {"exact variances": mark(subject.exact)}
    return {
        "seed": str(seed),
        "probes": str(probes),
        "device": device,
        "threads": str(torch.get_num_threads()),
        "data": subject.name,
        "gaussian": mark(subject.gaussian),
        "training points": mark(subject.X.numpy()),
        "fresh points": mark(subject.fresh.numpy()),
        "t": mark(t),
        "groups": ", ".join(subject.groups),
        "networks": f"{', '.join(subject.networks)} {subject.origin}".strip(),
        "references": "gaussian, linear",
        **exact,
        **versions(),
    }


def _derivative(face: ScoreFunction) -> tuple[float, float]:
    """How a network's last Jacobian was found, as its place in `METHODS`, and its error."""
    derivative: Derivative | None = getattr(face, "derivative", None)
    return (0.0, 0.0) if derivative is None else (float(METHODS.index(derivative.method)), derivative.error)


def _empirical(X: torch.Tensor, device: str) -> Empirical:
    return Empirical(EmpiricalScore(X, device=device, dtype="float64" if X.numel() <= _DOUBLE else "float32"))


def _seen(face: ScoreFunction, x: torch.Tensor, t: float, subject: Subject, seed: int) -> dict[str, np.ndarray]:
    if by_products(face, subject.N):
        blocks = list(subject.groups.values())
        return _from_products(*spectrum_by_products(face, x, t, blocks, seed))  # type: ignore[arg-type]
    parts = [jacobian_spectrum(face, part, t)[:2] for part in x.split(max(1, _ENTRIES // subject.N**2))]
    values, along = (np.concatenate(both) for both in zip(*parts, strict=True))
    known = getattr(face, "participation", None)
    participation = known(x, t).cpu().numpy() if known else np.full(len(x), np.nan)
    return _read(values, along, participation, subject)


def _from_products(values: np.ndarray, variance: np.ndarray) -> dict[str, np.ndarray]:
    unknown = np.full(len(values), np.nan)
    kept = (values < 0.5).sum(axis=1).astype(float)
    parts = {"gap": unknown, "inflection": unknown, "kept": kept, "participation": unknown}
    return {"eigenvalue": values, "variance": variance} | parts


def _diagonal(variances: np.ndarray, t: float, subject: Subject) -> dict[str, np.ndarray]:
    """The linear score of a Gaussian: -tJ is its value at (1, ..., 1), the same at every point."""
    along = (-t * GaussianScore(variances).score(torch.ones(1, subject.N, dtype=torch.float64), t)).numpy()
    return _read(-np.sort(-along, axis=1), along, np.full(1, np.nan), subject)


def _linear(subject: Subject) -> tuple[np.ndarray, np.ndarray | None]:
    """Eigenvalues (N,) of the training points' second moments, and squared components (N, N) of each axis; None: one to one."""
    if subject.exact is None:
        return subject.variances, None
    values, vectors = torch.linalg.eigh(subject.X.T @ subject.X / subject.P)
    return values.clamp(min=0).numpy(), vectors.square().numpy()


def _ridge(values: np.ndarray, squares: np.ndarray | None, t: float, subject: Subject) -> dict[str, np.ndarray]:
    """The best linear denoiser of the training points: -tJ = t/(C + t), the same at every point."""
    kept = t / (values + t)
    along = kept if squares is None else squares @ kept
    return _read(-np.sort(-kept)[None], along[None], np.full(1, np.nan), subject)


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
                error.append([_error(v, exact=score in ("gaussian", "exact", "linear")) for v in values])
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
    if subject.copies is not None:
        for name, count in subject.copies.counts().items():
            data[name] = ((), count, {"units": "points"})
        data.attrs["held_out_copies"] = subject.copies.report("points kept back")
    alpha = math.log(subject.P) / subject.N
    for name, time in (("collapse", collapse_time), ("condensation", condensation_time)):
        data.attrs[f"log_t_{name}"] = float(time(Spectrum(subject.gaussian), alpha, log=True))
    fewer = math.log(max(2, subject.P // 2)) / subject.N
    data.attrs["log_t_collapse_half"] = float(collapse_time(Spectrum(subject.gaussian), fewer, log=True))
    for place in ("noisy", "fresh"):
        single = np.array([level["variance"] for level in found[("empirical", place)]])
        data[f"single_variance_{place}"] = (("t", f"probe_{place}", "group"), single)
    return data


def _error(values: np.ndarray, *, exact: bool) -> np.ndarray:
    if exact:
        return np.zeros(values.shape[1:])
    if len(values) < 2:
        return np.full(values.shape[1:], np.nan)
    return values.std(axis=0, ddof=1) / math.sqrt(len(values))
