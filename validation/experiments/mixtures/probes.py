r"""What is measured on a mixture: weights of true points among the points of all classes, and cloned backward trajectories.

At :math:`x=\xi^1+\sqrt t\,\omega` the weight of the true point is :math:`w=1/(1+R)`, R the sum over all others of
:math:`e^{-\|d\|^2/2t-\omega\cdot d/\sqrt t}`, d their displacement; its mean gives the collapse, and
:math:`f=E[-\log w]/N` is the excess entropy of [BBBM24]. Its scatter is mostly that of the norms of x and of the noise, whose
share, :math:`\|\omega\|^2/2-\|x-\mu\|^2/2(r+t)`, has mean 0 and is taken out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from theory import Mixture
from validation.simulation import LogSumExp, Sampler, generator, integrate, karras_levels

__all__ = ["clone_agreement", "exact_score", "true_point_weights"]

_STEPS = 20  # of the reverse SDE, evenly spaced in log t, weak order 2: the bias is below 1e-3 (tests/test_mixtures.py)
_RESOLVED = 100.0  # classes are read off where t is this much below the speciation time


def true_point_weights(
    mixture: Mixture, counts: Sequence[int], t: np.ndarray, queries: int, seed: Sequence[int], device: str
) -> tuple[np.ndarray, np.ndarray]:
    """Mean weight of the true point, and f, of one training set of isotropic classes: two (K, T) arrays.

    `counts` points of each class about its mean; `queries` noisy points come from points of each class.
    """
    N = int(mixture.N)
    device_ = torch.device(device)
    points = []
    for k, (model, count) in enumerate(zip(mixture.models, counts, strict=True)):
        sampler = Sampler(model, N, seed=(*seed, k), device=device, dtype=torch.float64)
        points.append(sampler.sample(count) + torch.tensor(mixture.means[k], device=device_))
    X = torch.cat(points)
    first = np.concatenate([[0], np.cumsum(counts)])
    weights, entropies = np.empty((2, len(counts), len(t)))
    for k, count in enumerate(counts):
        # the points of a class come in no order: its first ones serve as true points
        own = torch.arange(first[k], first[k] + min(queries, count), device=device_)
        true = X[own]
        omega = generator(N, (*seed, len(counts) + k), device).rows(len(own))
        square = X.square().sum(1) + true.square().sum(1, keepdim=True) - 2 * true @ X.T
        along = (omega * true).sum(1, keepdim=True) - omega @ X.T
        rows = torch.arange(len(own), device=device_)
        square.clamp_min_(0)[rows, own] = torch.inf  # the others only
        along[rows, own] = 0.0
        rest = LogSumExp(-0.5 / t, -1 / np.sqrt(t), (len(own),), device_, torch.float32)
        rest.update(square.float(), along.float(), torch.empty_like(square, dtype=torch.float32))
        log_rest = rest.log()  # (T, queries)
        weights[k] = torch.sigmoid(-log_rest).mean(1).cpu().numpy()
        levels = torch.tensor(t, device=device_)[:, None]
        x = true - torch.tensor(mixture.means[k], device=device_) + levels.sqrt()[:, :, None] * omega  # (T, queries, N)
        norms = omega.square().sum(1) / 2 - x.square().sum(2) / (2 * (float(mixture.models[k].variance) + levels))
        entropies[k] = (torch.nn.functional.softplus(log_rest) - norms).mean(1).cpu().numpy() / N
    return weights, entropies


def exact_score(mixture: Mixture) -> Any:
    """The score of isotropic Gaussian classes at noise t, and the probabilities of the classes, as a function of (x, t)."""
    means = torch.as_tensor(np.array(mixture.means))
    variances = torch.tensor([float(model.variance) for model in mixture.models], dtype=torch.float64)
    log_pi = torch.log(torch.tensor(mixture.weights, dtype=torch.float64))
    N = means.shape[1]

    def evaluate(x: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        v, centres = variances.to(x) + t[:, None], means.to(x)  # (B, K), (K, N)
        square = x.square().sum(1, keepdim=True) - 2 * x @ centres.T + centres.square().sum(1)
        p = torch.softmax(log_pi.to(x) - 0.5 * N * torch.log(v) - square / (2 * v), dim=1)
        pull = p / v
        return pull @ centres - pull.sum(1, keepdim=True) * x, p

    return evaluate


def clone_agreement(mixture: Mixture, t: float, t_s: float, pairs: int, seed: Sequence[int], device: str) -> np.ndarray:
    """Whether two clones, split at noise t from typical states there, end in the same class: (pairs,) of 0 and 1."""
    rng = np.random.default_rng([*seed, 0])
    label = rng.choice(len(mixture.weights), pairs, p=mixture.weights)
    v = np.array([float(model.variance) for model in mixture.models])[label] + t
    x = mixture.means[label] + np.sqrt(v)[:, None] * rng.standard_normal((pairs, int(mixture.N)))
    evaluate = exact_score(mixture)
    end = min(t, t_s) / _RESOLVED
    levels = karras_levels(t, end, _STEPS, rho=np.inf)
    start = torch.as_tensor(x, device=torch.device(device)).repeat(2, 1)
    final = integrate(lambda x, t: evaluate(x, t)[0], start, levels, scheme="stochastic-heun", seed=(*seed, 1))
    classes = evaluate(final, torch.full((2 * pairs,), end, dtype=torch.float64, device=final.device))[1].argmax(1)
    return (classes[:pairs] == classes[pairs:]).double().cpu().numpy()
