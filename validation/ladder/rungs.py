r"""One training point under more and more noise, and its denoised versions: ideal, Gaussian, and a network's.

With one draw :math:`\omega` of the noise at every level, :math:`x=\xi+\sqrt t\,\omega`, each score gives a denoiser

.. math:: D(x,t)=x+t\,s(x,t),

the posterior mean of the clean point: of the empirical score :math:`\sum_\mu w_\mu\xi^\mu`, of the Gaussian with the data's own
mean and covariance :math:`m+\Sigma(\Sigma+t)^{-1}(x-m)`. Going down in noise the first snaps to :math:`\xi` where its own weight
passes 1/2; the second one never does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from numerics.domain import DomainError, integer, positive
from validation.score import EmpiricalScore
from validation.simulation import crossing
from validation.spectra import FittedGaussian, ScoreFunction

__all__ = ["SYMBOLS", "Ladder", "noise_ladder"]

SYMBOLS = {"onset": "t_o", "collapse": "t_c", "condensation": "t_cond", "generalization": "t_g"}
CANDIDATES = 64  # training points among which the one is looked for that collapses nearest to t_c
WINDOW = 64.0  # times t_c either way: where a candidate's crossing is looked for
LEVELS = 65  # of that window
BEYOND = 4.0  # times the largest and below the smallest time: the two outermost rungs
APART = 1.15  # ratio of t below which two times share a rung
COVARIANCE = 20_000  # points at most behind the Gaussian's covariance


@dataclass(frozen=True, eq=False)
class Ladder:
    """Rungs from much noise to little; K of them, points of N numbers.

    t : (K,) noise variances, squared data units; names : the times of the theory at each rung, "" between them
    row : which training point; clean : (N,) itself; noisy : (K, N)
    denoised : by score ("ideal", "gaussian", "network"), (K, N) each; NaN at noise that a network does not know
    weight : (K,) the point's own weight in the empirical score; nearest : (K,) row of the largest weight
    """

    t: np.ndarray
    names: tuple[str, ...]
    row: int
    clean: np.ndarray
    noisy: np.ndarray
    denoised: dict[str, np.ndarray]
    weight: np.ndarray
    nearest: np.ndarray
    shape: tuple[int, ...]
    attrs: dict[str, Any] = field(default_factory=dict)

    def to_dataset(self) -> Any:
        """All numbers behind the picture as one `xarray.Dataset` over rung and number."""
        import xarray as xr

        images = {"noisy": self.noisy, **{f"denoised_{name}": values for name, values in self.denoised.items()}}
        return xr.Dataset(
            {
                **{name: (("rung", "number"), values, {"units": "data units"}) for name, values in images.items()},
                "clean": ("number", self.clean, {"units": "data units"}),
                "t": ("rung", self.t, {"units": "squared data units"}),
                "time": ("rung", np.array(self.names, dtype=str)),
                "own_weight": ("rung", self.weight, {"units": "1"}),
                "nearest": ("rung", self.nearest, {"units": "row"}),
            },
            attrs={"row": self.row, "shape": " ".join(map(str, self.shape)), **self.attrs},
        )


def noise_ladder(
    X: np.ndarray,
    times: Mapping[str, float],
    *,
    shape: Sequence[int] | None = None,
    network: ScoreFunction | None = None,
    t_range: tuple[float, float] = (0.0, math.inf),
    gaussian: FittedGaussian | None = None,
    row: int | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Ladder:
    """A training point at the times of the theory and between them, and what each score's denoiser makes of it.

    Parameters
    ----------
    X : (P, N) training points, P >= 2; shape : of one point, for the picture
    times : noise variances > 0 by name, "collapse" among them; names as in `SYMBOLS`
    network : a trained score in the units of X; t_range : noise variances that it knows
    gaussian : the Gaussian with the covariance of X, fitted here (to 20 000 points at most) if None
    row : which training point; default: of 64 the one whose own weight, with its draw of the noise, passes 1/2 nearest to the
        collapse time
    seed : of the candidates and the noise; device : torch device

    Raises
    ------
    DomainError : wrong shape, times that are no numbers > 0 or lack "collapse", a row outside X

    Source: [AALMV25] for the weights; [ours: docs/audit.md].

    >>> X = np.random.default_rng(0).standard_normal((200, 6))
    >>> ladder = noise_ladder(X, {"collapse": 0.3, "onset": 0.9})
    >>> ladder.names
    ('', 't_o', '', 't_c', '')
    >>> bool(ladder.weight[-1] > 0.9 > 0.1 > ladder.weight[0])
    True
    """
    X = X if isinstance(X, np.ndarray) else np.asarray(X)
    if X.ndim != 2 or len(X) < 2 or X.dtype.kind not in "buif":
        raise DomainError("X", f"an array of shape {X.shape} and dtype {X.dtype}", "(P >= 2, N) reals")
    unknown = sorted(set(times) - set(SYMBOLS))
    if unknown or "collapse" not in times:
        raise DomainError("times", sorted(times), f"collapse, and some of {', '.join(SYMBOLS)}")
    shape = (X.shape[1],) if shape is None else tuple(shape)
    if math.prod(shape) != X.shape[1]:
        raise DomainError("shape", shape, f"one of {X.shape[1]} numbers")
    t, names = _rungs({name: float(positive("times", value)) for name, value in times.items()})
    score = EmpiricalScore(X, device=device)
    row, noise = _point(score, X, times["collapse"], row, seed)
    clean = np.asarray(X[row], dtype=np.float64)
    noisy = clean + np.sqrt(t)[:, None] * noise
    if gaussian is None:
        chosen = np.random.default_rng(seed).permutation(len(X))[:COVARIANCE]
        gaussian = FittedGaussian(torch.from_numpy(np.asarray(X[np.sort(chosen)], dtype=np.float64)))
    points = torch.from_numpy(noisy)
    denoised = {
        "ideal": np.asarray(score.denoise(noisy, t)),
        "gaussian": torch.cat([gaussian.denoise(x[None], float(v)) for x, v in zip(points, t, strict=True)]).numpy(),
    }
    if network is not None:
        denoised["network"] = np.stack(
            [_by_network(network, x, float(v), t_range, device) for x, v in zip(points, t, strict=True)]
        )
    weights = score.weights(noisy, t)
    return Ladder(
        t, names, row, clean, noisy, denoised, weights[:, row], weights.argmax(axis=1), shape,
        {"seed": seed, "P": len(X), "N": X.shape[1]},
    )  # fmt: skip


def _rungs(times: dict[str, float]) -> tuple[np.ndarray, tuple[str, ...]]:
    """The times from the largest to the smallest, one rung between two of them and one beyond either end."""
    groups: list[tuple[float, list[str]]] = []
    for name, t in sorted(times.items(), key=lambda item: -item[1]):
        if groups and groups[-1][0] < APART * t:
            groups[-1][1].append(SYMBOLS[name])
        else:
            groups.append((t, [SYMBOLS[name]]))
    levels, names = [groups[0][0] * BEYOND], [""]
    for k, (t, symbols) in enumerate(groups):
        if k:
            levels.append(math.sqrt(t * groups[k - 1][0]))
            names.append("")
        levels.append(t)
        names.append(", ".join(symbols))
    return np.array([*levels, groups[-1][0] / BEYOND]), (*names, "")


def _point(score: EmpiricalScore, X: np.ndarray, collapse: float, row: int | None, seed: int) -> tuple[int, np.ndarray]:
    """Which training point, and its draw of the noise (N,)."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(X), size=min(CANDIDATES, len(X)), replace=False)
    if row is not None:
        if not 0 <= integer("row", row, minimum=0) < len(X):
            raise DomainError("row", row, f"a row of X, 0 to {len(X) - 1}")
        rows = np.array([row])
    noise = rng.standard_normal((len(rows), X.shape[1]))
    if len(rows) == 1:
        return int(rows[0]), noise[0]
    t = collapse * np.geomspace(1 / WINDOW, WINDOW, LEVELS)
    own = score.noisy_profile(np.asarray(X[rows], dtype=np.float64), noise, t, own=rows)["own_log_weight"]
    at = np.array([crossing(np.log(t), weight) for weight in np.exp(own.T)])
    off = np.where(np.isfinite(at), np.abs(at - math.log(collapse)), np.inf)
    best = int(np.argmin(off))
    return int(rows[best]), noise[best]


def _by_network(
    network: ScoreFunction, x: torch.Tensor, t: float, t_range: tuple[float, float], device: str
) -> np.ndarray:
    if not t_range[0] <= t <= t_range[1]:
        return np.full(len(x), np.nan)
    return (x + t * network.score(x[None].to(device), t)[0].cpu()).detach().numpy()
