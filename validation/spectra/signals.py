r"""What a score says of a sample without the training set: its size, its sharpness, its effective dimension, FLIPD.

At a sample x and noise t, averaged over noise :math:`\omega`, with :math:`y=x+\sqrt t\,\omega` and J the score's Jacobian:

.. math:: E|s(y)|^2,\qquad E|J s(y)|^2,\qquad d(t)=E[N+t\,\mathrm{tr}J(y)],\qquad
   \mathrm{FLIPD}=N+t\,(\mathrm{tr}J(x)+|s(x)|^2).

For points y of the density itself :math:`E|s|^2=-E\,\mathrm{tr}J`, and for Gaussian data :math:`E|Js|^2=-\mathrm{tr}J^3`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import xarray as xr

from numerics.domain import DomainError, integer, positive
from validation.spectra.operators import JacobianOperator
from validation.spectra.score_functions import as_score
from validation.spectra.stochastic import effective_dimension

__all__ = ["SIGNALS", "sample_signals"]

SIGNALS = ("square", "sharpness", "dimension", "flipd")


def sample_signals(
    score: Any,
    x: Any,
    t: Any,
    *,
    draws: int = 4,
    probes: int = 8,
    chunk: int = 32,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    r"""The four signals of the module at every sample and noise level, from a few products with J each.

    Parameters
    ----------
    score : whatever `as_score` takes; x : (S, N) samples; t : (T,) numbers > 0, squared data units
    draws : of noise a sample and level, >= 2; probes : random signs for a trace, >= 2 (from N on traces are exact)
    chunk : samples at once; seed : of the noise (a sample's own does not hang on the others') and of the signs
    progress : callable (done, total), once a level and chunk

    Returns
    -------
    Dataset over (t, sample): `square`, `sharpness`, `dimension` with `_error`, one standard error over draws of noise;
    `flipd` with that over probes. Attribute `products`: with J, in all.

    Raises
    ------
    DomainError : samples, noise, draws or probes outside their domain

    The failure that looks normal: at t far below what the network was trained on every sample has the same signals.
    Source: [AVSP24] for the dimension; [ours] for the identities.

    >>> from validation.spectra.score_functions import GaussianScore
    >>> found = sample_signals(GaussianScore([1.0, 1.0, 0.0]), torch.zeros(2, 3, dtype=torch.float64), [1.0], probes=3)
    >>> found["dimension"].values.tolist(), found["flipd"].values.tolist()
    ([[1.0, 1.0]], [[1.0, 1.0]])
    """
    face, levels = as_score(score), np.atleast_1d(positive("t", t))
    draws, probes = integer("draws", draws, minimum=2), integer("probes", probes, minimum=2)
    points = torch.as_tensor(x).detach().double()
    if points.ndim != 2 or len(points) == 0 or not bool(torch.isfinite(points).all()):
        raise DomainError("x", tuple(points.shape), "finite samples of shape (S, N)")
    S, N = points.shape
    noise = np.stack([np.random.default_rng((seed, i)).standard_normal((draws, N)) for i in range(S)])
    omega = torch.from_numpy(noise).to(points.device)
    names = ("square", "sharpness", "dimension")
    values = {name: np.empty((len(levels), S, draws)) for name in names}
    flipd, flipd_error = np.empty((2, len(levels), S))
    starts, products = range(0, S, integer("chunk", chunk, minimum=1)), 0
    for k, level in enumerate(map(float, levels)):
        for j, start in enumerate(starts):
            if progress:
                progress(k * len(starts) + j, len(levels) * len(starts))
            at = slice(start, start + chunk)
            noisy = (points[at, None] + math.sqrt(level) * omega[at]).reshape(-1, N)
            own = face.score(noisy, level).double()
            J = JacobianOperator(face, noisy, level)
            moved = J(own)
            found = effective_dimension(face, noisy, level, probes=probes, seed=seed)
            clean = effective_dimension(face, points[at], level, probes=probes, seed=seed)
            for name, array in (("square", own.square().sum(dim=1)), ("sharpness", moved.square().sum(dim=1))):
                values[name][k, at] = array.cpu().numpy().reshape(-1, draws)
            values["dimension"][k, at] = found["dimension"].values.reshape(-1, draws)
            flipd[k, at], flipd_error[k, at] = clean["flipd"].values[0], clean["error"].values[0]
            products += J.products + found.attrs["products"] + clean.attrs["products"]
    if progress:
        progress(len(levels) * len(starts), len(levels) * len(starts))
    variables = {name: (("t", "sample"), value.mean(axis=2)) for name, value in values.items()}
    errors = {f"{n}_error": (("t", "sample"), v.std(axis=2, ddof=1) / math.sqrt(draws)) for n, v in values.items()}
    variables |= {"flipd": (("t", "sample"), flipd), "flipd_error": (("t", "sample"), flipd_error)}
    attrs = {"N": N, "draws": draws, "probes": probes, "products": products}
    return xr.Dataset(variables | errors, {"t": levels}, attrs)
