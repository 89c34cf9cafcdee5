"""`geomem audit --model`: how far from the optimum a network ended, beside the empirical score of its training set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from validation.data import Copies
from validation.spectra import FittedGaussian
from validation.spectrum import from_pipeline
from validation.training import convergence, members, read

__all__ = ["audit_model", "audit_pipeline", "report_lines"]

_PER_DIRECTION = 4  # points for each of N numbers, from which on a covariance is a reference


def audit_model(
    path: str | os.PathLike, *, t: Any = None, points: int = 256, device: str = "cpu"
) -> list[tuple[int, xr.Dataset]]:
    """Each network of a checkpoint beside the empirical score of its own training set, on training and on kept-back points.

    The population's score is exact for "linear". For other data, whose population is not known, the Gaussian with the training
    set's covariance stands in for it, the same as `linear`, and the attribute `known` is 0: it knows less than the population
    does, and a network may lie below it on fresh points.

    Returns
    -------
    (P, Dataset of `validation.training.convergence`) for each member.

    Raises
    ------
    DomainError : not a checkpoint of `geomem train`, or its data are no longer what they were
    """
    noise = read(path)[1]["training"]["noise"]
    t = np.geomspace(noise["sigma_min"] ** 2, noise["sigma_max"] ** 2, 13) if t is None else t
    found = []
    for member in members(path, device=device):
        P, face, flat, new, exact = member
        reference = exact if exact is not None else FittedGaussian(flat)
        new = new if len(new) > 1 else None
        losses = convergence(face, flat, t, fresh=new, exact=reference, points=points)
        found.append((P, losses.assign_attrs(_left_out(member.copies) | {"known": int(exact is not None)})))
    return found


def audit_pipeline(
    path: str | os.PathLike,
    data: str | os.PathLike | None,
    *,
    points: int = 256,
    seed: int = 0,
    device: str = "cpu",
    network: Mapping[str, Any] | None = None,
    **options: Any,
) -> tuple[int, xr.Dataset]:
    """A diffusers pipeline, or UNet, as `audit_model` has it, on data that are given: those it was trained on.

    The population is that of the Gaussian with their covariance, where there are enough of them to know it. Points kept back
    are fresh to the empirical score, and to the network only if its trainer kept them back too.

    network : scheduler, variant, centre, unit, see `validation.spectrum.open_pipeline`

    Raises
    ------
    DomainError : see there
    """
    subject = from_pipeline(path, data, device=device, seed=seed, **(network or {}), **options)
    low, high = max(subject.t_range[0], 2e-3**2), min(subject.t_range[1], 10.0**2)
    t = np.geomspace(low * (1 + 1e-6), high * (1 - 1e-6), 13)
    X, fresh = subject.X.to(device), subject.fresh.to(device)
    reference = FittedGaussian(X) if len(X) >= _PER_DIRECTION * subject.N else None
    losses = convergence(subject.networks["network"], X, t, fresh=fresh, exact=reference, points=points, seed=seed)
    remarks = {"remarks": "; ".join(subject.remarks)} if subject.remarks else {}
    return len(X), losses.assign_attrs(_left_out(subject.copies) | remarks | {"known": 0})


def _cell(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "-"


def _left_out(copies: Copies) -> dict[str, str]:
    return {"held_out_copies": copies.report("points kept back")} if copies.count else {}


def report_lines(P: int, losses: xr.Dataset) -> list[str]:
    """The losses of one network as aligned text, one line a noise level."""
    left_out = [f"{losses.attrs['held_out_copies']}."] if "held_out_copies" in losses.attrs else []
    few = np.isnan(losses["population"].sel(where="training")).all()
    stands_in = not few and not losses.attrs.get("known", 1)  # the population is then the linear denoiser over again
    references = ("empirical", "linear") if stands_in else ("empirical", "linear", "population")
    head = ("net/train", *references, "net/fresh", *references)
    first = "".join(f"{name:>9}" for name in ("t", "sigma"))
    lines = [f"P = {P}: denoising loss E|D - xi|^2/(N t)", first + "".join(f"{name:>11}" for name in head) + "  state"]
    for k, t in enumerate(losses["t"].values):
        at = losses.isel(t=k)
        own, new = ([float(at[n].sel(where=w)) for n in ("network", *references)] for w in ("training", "fresh"))
        numbers = "".join(f"{_cell(value):>9}" for value in (t, t**0.5))
        numbers += "".join(f"{_cell(value):>11}" for value in (*own, *new))
        lines.append(f"{numbers}  {at['label'].item()}")
    if "remarks" in losses.attrs:
        lines.append(f"Of the network: {losses.attrs['remarks']}.")
    if np.isnan(losses["network"].sel(where="fresh")).all():
        lines.append("- on fresh points: fewer than 2 were kept back.")
    if few:
        lines.append("- for the population: too few training points for a covariance.")
    if stands_in:
        lines.append("The population is not known: states compare with the linear denoiser of the training set.")
    # a score of zero has the loss 1: where that is within the factor of the population's, every network passes
    generalising = np.isin(losses["label"].values, ("generalising", "both"))
    idle = generalising & (losses.attrs["factor"] * losses["population"].sel(where="fresh").values >= 1)
    if idle.any():
        levels = ", ".join(f"{t:.3g}" for t in losses["t"].values[idle])
        lines.append(
            f"Note: at t = {levels} a network that has learned nothing (loss 1) would be called generalising too; "
            "the state says nothing about learning there."
        )
    return lines + left_out
