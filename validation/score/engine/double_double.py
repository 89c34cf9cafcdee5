r"""Squared distances to twice float64's digits, for queries so far away or noise so small that float64 cannot rank them.

A sum of two float64 numbers, hi + lo with |lo| at most half a unit in the last place of hi, carries 106 bits. The rounding error
of a sum or of a product is itself a float64 number and is computed exactly (T. J. Dekker, "A floating-point technique for
extending the available precision", 1971); squares are added pairwise, so that errors grow with log N.
"""

from __future__ import annotations

import math

import torch

__all__ = ["gap", "half_squared_distance", "lexicographic_min", "relative_error"]

SPLIT = 134217729.0  # 2^27 + 1: halves a 53-bit significand into two of 26 bits


def relative_error(N: int) -> float:
    """Bound on the relative error of `half_squared_distance` in N dimensions: 4 roundings of 2^-104 a level of the tree."""
    return (4 * math.ceil(math.log2(max(N, 2))) + 16) * 2.0**-104


def half_squared_distance(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(hi, lo), each (n,), of `|x - y|^2/2` for rows x, y (n, N) of float64 numbers of size at most 1e150."""
    d, e = _two_sum(x, -y)
    hi, lo = _two_product(d, d)
    lo = lo + (2 * d * e + e * e)
    while hi.shape[1] > 1:
        if hi.shape[1] % 2:
            hi, lo = (torch.nn.functional.pad(part, (0, 1)) for part in (hi, lo))
        total, error = _two_sum(hi[:, 0::2], hi[:, 1::2])
        hi, lo = _fast_two_sum(total, error + (lo[:, 0::2] + lo[:, 1::2]))
    return hi[:, 0] / 2, lo[:, 0] / 2


def gap(a: tuple[torch.Tensor, torch.Tensor], b: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """a - b, rounded once to float64 where the leading parts are close."""
    difference, error = _two_sum(a[0], -b[0])
    return difference + (error + (a[1] - b[1]))


def lexicographic_min(hi: torch.Tensor, lo: torch.Tensor, row: torch.Tensor, rows: int) -> tuple[torch.Tensor, ...]:
    """(hi, lo), each (rows,), of the smallest entry of each row; infinite where a row has none."""
    infinite = hi.new_full((rows,), math.inf)
    least = infinite.scatter_reduce(0, row, hi, "amin")
    rest = torch.where(hi == least[row], lo, math.inf)
    return least, infinite.scatter_reduce(0, row, rest, "amin")


def _two_sum(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    s = a + b
    part = s - a
    return s, (a - (s - part)) + (b - part)


def _fast_two_sum(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    s = a + b
    return s, b - (s - a)


def _two_product(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    p = a * b
    (a1, a2), (b1, b2) = _halves(a), _halves(b)
    return p, ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2


def _halves(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    c = SPLIT * a
    high = c - (c - a)
    return high, a - high
