"""Compiled kernels of the empirical score, and the vector instructions that make them fast."""

from validation.score.kernels.box_kernels import box_pass
from validation.score.kernels.pair_kernels import pair_displacements, pair_energies
from validation.score.kernels.profile_kernels import profile_rows
from validation.score.kernels.tile_kernels import (
    add_sparse_rows,
    screen_rows,
    search_clusters,
    weigh_rows,
)
from validation.score.kernels.vector_math import COMPILED, LANES, exp

__all__ = [
    "COMPILED",
    "LANES",
    "add_sparse_rows",
    "box_pass",
    "exp",
    "pair_displacements",
    "pair_energies",
    "profile_rows",
    "screen_rows",
    "search_clusters",
    "weigh_rows",
]
