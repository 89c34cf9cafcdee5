r"""Weights of listed pairs from exact differences, never from differences of large numbers.

    E_mu = |x - xi_mu|^2/2,   w_mu proportional to exp(-(E_mu - E_min)/t)

Energies come from float64 differences x - xi; only their gaps to the smallest are divided by t and exponentiated. Where the
rounding of E itself, of about sqrt(N) 2^-53 E, would show after that division, the pairs that matter are done again in
double-double numbers. What even those cannot rank is marked, and becomes an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from numerics.domain import DomainError
from validation.score.engine.block import Block, Candidates
from validation.score.engine.double_double import gap, lexicographic_min, relative_error
from validation.score.engine.policy import ACCURACY
from validation.score.engine.tiles import TrainingSet, rounding

__all__ = ["EXACT_EXPONENT", "Settled", "check_ranked", "is_hard", "settle"]

EXACT_EXPONENT = 1e18  # |x - xi|^2/2t of the nearest pattern up to which weights are exact for any data
TYPICAL = 8.0  # rounding errors are this much below their bound, or further


@dataclass(frozen=True, eq=False)
class Settled:
    """Sums over listed pairs of each row of a block, relative to its smallest energy.

    energy, low : (B,), the smallest E as a double-double number (low is 0 where float64 is enough; energy is infinite where a
        row has no pair); S, Q : (B,) sums of weights and of their squares; D : (B, N) sum of weights times (xi - origin);
    pairs : (row, position, exponent) of what weighs, exponent = -(E - energy)/t; ranked : (B,) bool, False where the order
        of the nearest patterns is not resolved
    """

    energy: torch.Tensor
    low: torch.Tensor
    S: torch.Tensor
    Q: torch.Tensor
    D: torch.Tensor
    pairs: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    ranked: torch.Tensor


def is_hard(data: TrainingSet, energy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Where the rounding of a float64 energy shows in the exponent E/t."""
    relative = rounding(torch.float64, data.N)[1] / TYPICAL
    return relative * energy > ACCURACY[data.dtype].resolved * t


def settle(block: Block, candidates: Candidates, cut: float, energy: torch.Tensor | None = None) -> Settled:
    """All weight of the candidates (row, position) of a block, down to exp(-cut) of the largest.

    energy : (n,) |x - xi|^2/2 of the candidates in float64, where it is known already
    """
    data, x, t = block.data, block.x, block.t
    row, position = candidates
    if energy is None:
        energy, _ = data.pairs(x, row, position)
    least = torch.full_like(t, math.inf).scatter_reduce(0, row, energy, "amin")
    # what cannot weigh, whatever the rounding of energies, goes before anything is sorted
    error = 2 * rounding(torch.float64, data.N)[1] * torch.where(least < math.inf, least, 0.0)
    near = energy <= (least + cut * t + error)[row]
    row, by_row = torch.sort(row[near], stable=True)
    position, energy = position[near][by_row], energy[near][by_row]
    low, above, ranked = torch.zeros_like(t), energy - least[row], torch.ones_like(t, dtype=torch.bool)
    hard = is_hard(data, least, t) & (least < math.inf)
    if bool(hard.any()):
        chosen = torch.nonzero(hard[row] & (above <= (cut * t + error)[row])).view(-1)
        some = row[chosen]
        fine = data.precise(x, some, position[chosen])
        best = lexicographic_min(*fine, some, len(t))
        above[chosen] = gap(fine, (best[0][some], best[1][some]))
        least, low = (torch.where(hard, value, other) for value, other in zip(best, (least, low), strict=True))
        ranked = _ranked(data, some, position[chosen], above[chosen], least, t, cut)
    exponent = -above / t[row]
    keep = exponent > -cut
    row, position, exponent = row[keep], position[keep], exponent[keep]
    weight = torch.exp(exponent)
    zero = torch.zeros_like(t)
    S, Q = zero.index_add(0, row, weight), zero.index_add(0, row, weight.square())
    D = data.displacements(block.origin, row, position, weight)
    return Settled(least, low, S, Q, D, (row, position, exponent), ranked)


def _ranked(data: TrainingSet, row, position, above, least, t, cut: float) -> torch.Tensor:
    """(B,) whether double-double numbers resolve the exponents of all pairs that may weigh, or these are copies of one row."""
    error = 2 * relative_error(data.N) * torch.where(least < math.inf, least, 0.0)
    coarse = error > ACCURACY[data.dtype].resolved * t
    ranked = torch.ones_like(coarse)
    if bool(coarse.any()):
        near = torch.nonzero(coarse[row] & (above <= (cut * t + error)[row])).view(-1)
        rows = data.rows(position[near])
        first = torch.full_like(t, len(near), dtype=torch.int64)
        first.scatter_reduce_(0, row[near], torch.arange(len(near), device=row.device), "amin")
        unlike = (rows != rows[first[row[near]]]).any(1)
        ranked[row[near][unlike]] = False
    return ranked


def check_ranked(ranked: torch.Tensor, exponent: torch.Tensor) -> None:
    """`DomainError` naming the largest |x - xi|^2/2t of a query whose nearest patterns cannot be told apart."""
    if not bool(ranked.all()):
        worst = float(torch.where(ranked, 0.0, exponent).max())
        raise DomainError(
            "x, t",
            f"a query with |x - xi|^2/2t = {worst:.3g} for its nearest patterns, which differ by less than rounding",
            f"such that this is at most {EXACT_EXPONENT:g}, or such that one pattern is clearly the nearest",
            "Take a larger t, or a query nearer to the data",
        )
