r"""Did a network reach what it was trained for? Its denoising loss per noise level beside exact references.

    L(s, t) = E |omega + sqrt(t) s(xi + sqrt(t) omega, t)|^2/N  =  E |D - xi|^2/(N t)

On training points the empirical score's loss is the least that any function can have; on fresh points the population's
is. A large finite network sits near the second where it generalises and near the first where it memorises; what is far
from both has not converged, and is not to be compared with either. Between them stands the best linear denoiser of the
training set: what second moments alone give. All scores see the same points and the same noise.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import xarray as xr

from numerics.domain import DomainError, integer, positive
from validation.score import EmpiricalScore
from validation.simulation import generator
from validation.spectra import Empirical, FittedGaussian, as_score

__all__ = ["FACTOR", "FLOOR", "LABELS", "convergence", "denoising_losses"]

FACTOR = 1.1  # a loss at most this times a reference's has reached it
FLOOR = 0.1  # or, where the least training loss vanishes, this share of the way from it to the population's
_SCORES = ("network", "empirical", "population", "linear")
LABELS = ("memorising", "generalising", "both", "between", "unconverged")


def denoising_losses(score: Any, clean: torch.Tensor, noise: torch.Tensor, t: float) -> torch.Tensor:
    """|omega + sqrt(t) s(xi + sqrt(t) omega, t)|^2/N of each point, (B,): 1 for a score that knows nothing at small t.

    score : anything `as_score` takes; clean, noise : (B, N); t : number > 0

    >>> denoising_losses(lambda x, t: -x / t, torch.zeros(1, 2), torch.ones(1, 2), 4.0).tolist()  # the data are a point at 0
    [0.0]
    """
    t, root = float(positive("t", t)), math.sqrt(float(t))
    clean, noise = clean.double(), noise.double()
    if clean.ndim != 2 or clean.shape != noise.shape:
        raise DomainError("noise", tuple(noise.shape), f"of the shape of clean, (B, N); that is {tuple(clean.shape)}")
    return (noise + root * as_score(score).score(clean + root * noise, t)).square().mean(dim=1)


def convergence(
    score: Any,
    X: torch.Tensor,
    t: Any,
    *,
    fresh: torch.Tensor | None = None,
    exact: Any = None,
    points: int = 512,
    seed: int = 0,
    factor: float = FACTOR,
    floor: float = FLOOR,
) -> xr.Dataset:
    r"""Losses of a trained score, of the empirical score and of the population's, on training and on fresh points.

    Parameters
    ----------
    score : ScoreFunction, torch module or callable, e.g. `NetworkScore(trainer.averaged(), m)`
    X : (P, N), its training set; t : (T,) noise variances > 0
    fresh : (F, N), points it has not seen; exact : the population's score, where it is known
    points : training points used (each with noise of its own; all of them several times where P is less)
    factor, floor : see `FACTOR`, `FLOOR`

    Returns
    -------
    Dataset over (t) with `network`, `empirical`, `population`, `linear` on `where` = (training, fresh), standard errors
    `*_error` over points; `linear` is the best linear denoiser of X (over training sets: `theory.finite_sample_loss`);
    `excess` = network/empirical on training points, network/population on fresh ones, with the error of the paired
    difference; `share` = (network - empirical)/(population - empirical) on training points; `label`:

    - memorising: training loss within `factor` of the least, or `share` at most `floor`
    - generalising: loss on fresh points within `factor` of the population's
    - both: the two references are themselves that close, and it is within reach of both
    - between: it has learned more of its training set than the population knows, and less than all
    - unconverged: training loss above `factor` times that of the population's score, which knows nothing of the training set

    NaN where a reference is missing; without `fresh` and `exact` the label is memorising or unconverged.

    The failure that looks normal: at small t the least training loss is 10^-20 and every ratio to it infinite; `share` and the
    loss itself say what is left.

    >>> X = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> str(convergence(EmpiricalScore(X), X, [0.01])["label"].values[0])
    'memorising'
    """
    X = X.detach().double().flatten(1)
    N, levels = X.shape[1], np.atleast_1d(positive("t", t))
    count, face = integer("points", points, minimum=2), as_score(score)
    rows = torch.arange(max(count, len(X)), device=X.device)[:count] % len(X)
    places = {"training": X[rows]}
    if fresh is not None:
        places["fresh"] = fresh.detach().to(X).flatten(1)[:count]
    scores = {"network": face, "empirical": Empirical(EmpiricalScore(X, device=X.device, dtype="float64"))}
    if exact is not None:
        scores["population"] = as_score(exact)
    if len(X) > 1:
        scores["linear"] = FittedGaussian(X)
    values = np.full((len(_SCORES), 2, len(levels), count), np.nan)
    for i, clean in enumerate(places.values()):
        noise = generator(N, (seed, i), X.device).rows(len(clean))
        for name, one in scores.items():
            j = _SCORES.index(name)
            for k, level in enumerate(map(float, levels)):
                values[j, i, k, : len(clean)] = denoising_losses(one, clean, noise, level).cpu().numpy()
    return _dataset(values, levels, factor, floor)


def _dataset(values: np.ndarray, t: np.ndarray, factor: float, floor: float) -> xr.Dataset:
    known = np.isfinite(values).any(axis=-1)
    mean, error = np.full(known.shape, np.nan), np.full(known.shape, np.nan)
    for at in zip(*np.nonzero(known), strict=True):
        row = values[at][np.isfinite(values[at])]
        mean[at], error[at] = row.mean(), row.std(ddof=1) / math.sqrt(len(row))
    out: dict[str, Any] = {}
    for j, name in enumerate(_SCORES):
        out[name] = (("where", "t"), mean[j])
        out[f"{name}_error"] = (("where", "t"), error[j])
    reference = np.stack([mean[1, 0], mean[2, 1]])
    paired = np.stack([values[0, 0] - values[1, 0], values[0, 1] - values[2, 1]])
    counts = np.isfinite(paired).sum(axis=-1)
    spread = np.array(
        [[np.std(row[np.isfinite(row)]) if np.isfinite(row).any() else np.nan for row in p] for p in paired]
    )
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        out["excess"] = (("where", "t"), mean[0] / reference)
        out["excess_error"] = (("where", "t"), spread / np.sqrt(np.maximum(counts, 1)) / reference)
        share = (mean[0, 0] - mean[1, 0]) / (mean[2, 0] - mean[1, 0])
    out["share"] = ("t", share)
    out["label"] = ("t", np.array([_label(mean[:, :, k], float(share[k]), factor, floor) for k in range(len(t))]))
    return xr.Dataset(out, coords={"t": t, "where": ["training", "fresh"]}, attrs={"factor": factor, "floor": floor})


def _label(mean: np.ndarray, share: float, factor: float, floor: float) -> str:
    """`mean` is (network, empirical, population, linear) by (training, fresh) at one level."""
    (own, new), (least, _), (known, best), _ = mean
    memorising = own <= factor * least or (known >= least and share <= floor)
    generalising = new <= factor * best
    if memorising and generalising:
        return "both"
    if memorising or generalising:
        return "memorising" if memorising else "generalising"
    return "between" if own <= factor * known else "unconverged"
