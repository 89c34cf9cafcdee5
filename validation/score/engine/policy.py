"""Every choice of the engine that a processor could make differently, and every tuned constant, in one frozen object.

A policy says which products screen, which BLAS multiplies, and whether compiled kernels run. `choose_policy` takes the one
that the processor is fastest with, unless the environment variable GEOMEM_POLICY or the caller names another. Results agree
to the stated accuracy under each; only times differ.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch

from numerics.domain import DomainError
from validation.score.kernels import COMPILED

__all__ = ["ACCURACY", "POLICIES", "VARIABLE", "Accuracy", "Policy", "choose_policy", "multiplies_bfloat16"]

VARIABLE = "GEOMEM_POLICY"


@dataclass(frozen=True)
class Accuracy:
    """What a result of one precision promises: the same on every machine.

    neglect : weight left out by cuts, relative to the sum; tolerance : error of a weight that may stay unsettled;
    profile_neglect, profile_tolerance : the same in noise profiles; resolved, profile_resolved : error of an exponent that
    float64 differences may leave before double-double numbers take over; hidden : trace of C/t, or weight, left out of a support
    """

    neglect: float
    tolerance: float
    profile_neglect: float
    profile_tolerance: float
    resolved: float
    profile_resolved: float
    hidden: float


ACCURACY: Mapping[torch.dtype, Accuracy] = MappingProxyType(
    {
        torch.float32: Accuracy(1e-7, 3e-6, 1e-8, 1e-4, 1e-5, 1e-4, 1e-7),
        torch.float64: Accuracy(1e-14, 1e-13, 1e-14, 1e-11, 1e-10, 1e-6, 1e-14),
    }
)


@dataclass(frozen=True)
class Policy:
    """How a call is carried out. Pairs are (float32, float64) of the training set's precision.

    Attributes
    ----------
    compiled : numba kernels on a CPU; without, the same in plain torch
    bfloat16 : screens by bfloat16 products (where the processor has them they take a third of float32's time or less)
    numpy_float64 : float64 products on a CPU by numpy's BLAS (OpenBLAS multiplies few rows by a long tile up to a third
        faster than MKL; in float32 they are alike)
    reduced : screens in a few principal coordinates, the rest bounded by its norm
    reduced_parts : candidates for their number, as shares of N: powers of two, since a product's time is linear in it
    reduced_rows : patterns from which that is tried (below, the fixed cost of a pilot shows)
    reduced_work : queries x patterns x N from which it is tried, for the same reason
    reduced_read : time of reading one product, in multiplications of a product
    settled_cost, settled_fixed : of settling a pair, a coordinate and once (the three measured at N = 64 and 784, one thread)
    reduced_worth : such a screen is tried when its estimated time is below this share of the two bare products
    reduced_share : and leaves less than this share of the pairs (a list of four times as many is given up)
    reduced_sigmas : how far from its mean the place of a query's own pattern is expected at most, to choose from; rows that
        miss are screened again, which adds about reduced_again of the two bare products where it is 2 (one row in 40)
    bfloat16_rows : patterns from which a bfloat16 copy is worth its memory
    share, few : candidates a query, over P and never less, that are settled before the next method is cheaper
    known_share : the same where the largest weight is known beforehand, so that none is listed in vain
    heavy : share of the patterns within reach from which a query needs the second product
    worthwhile : share of such queries up to which the largest is found beforehand for sums too; float32 sums are too cheap
    repeat : a finer screen whose window is not below this share of the coarser one's would meet the same candidates
    pilot, pilot_bfloat16 : share of a sample of pairs above which a method is given up; profile_pilot : of (query, pattern,
        level) set aside above which float64 products are cheaper
    pilot_rows, pilot_columns : size of that sample; pilot_tiles : pieces of a quarter as many columns for a pilot that has
        seen all patterns, in tiles of pilot_width
    sparse : a row with fewer than 1/sparse of its weights in a tile adds them one by one
    slack : entries a list may hold beyond what is wanted in the end (2^20: 24 MB)
    working_set, float64_set : entries of a block's products by one tile; more would leave a core's own cache between one
        product and the next (float64 is limited by that only up to N = 256)
    device_set : the same on a device, where a tile costs sixty launches
    small : multiplications that one thread has done before another has started
    queries : queries of a block: enough for the products' full speed
    parallel : pairs from which they are shared between threads
    gathered : entries gathered at once for exact differences (32 MB in float64)
    lower_columns : columns of a covariance of which only the lower half is formed; support_rows : rows of a support at once
    exponents : queries times patterns whose exponents are held at once (64 MB); covariance_entries : entries of the
        covariances held at once (0.5 GB)
    lloyd_steps, cluster_sample : steps that fit the centres of clusters, and rows a cluster that these see
    rivals : nearest centres whose slabs are tried
    cluster_share : share of the patterns a query may look at in clusters: above, the products of all are cheaper
    """

    name: str
    compiled: bool
    bfloat16: bool
    numpy_float64: bool = True
    reduced: bool = True
    reduced_parts: tuple[int, ...] = (32, 16, 8, 4, 2)
    reduced_rows: int = 4096
    reduced_work: int = 1 << 26
    reduced_read: float = 12.0
    settled_cost: float = 40.0
    settled_fixed: float = 1e4
    reduced_worth: float = 1.1
    reduced_share: float = 0.01
    reduced_sigmas: tuple[float, ...] = (4.0, 2.0)
    reduced_again: float = 0.1
    bfloat16_rows: int = 4096
    share: float = 4e-3
    few: int = 64
    known_share: tuple[float, float] = (0.01, 0.03)
    heavy: float = 1 / 16
    worthwhile: tuple[float, float] = (0.0, 0.5)
    repeat: float = 0.7
    pilot: tuple[float, float] = (0.01, 1.0)
    pilot_bfloat16: float = 0.1
    profile_pilot: float = 0.02
    pilot_rows: int = 16
    pilot_columns: int = 1024
    pilot_tiles: int = 8
    pilot_width: int = 8192
    sparse: int = 8
    slack: int = 1 << 20
    working_set: int = 1 << 19
    float64_set: int = 3 << 16
    device_set: int = 1 << 24
    small: int = 1 << 24
    queries: int = 256
    parallel: int = 1 << 13
    gathered: int = 1 << 22
    lower_columns: int = 256
    support_rows: int = 4096
    exponents: int = 1 << 23
    covariance_entries: int = 1 << 26
    lloyd_steps: int = 8
    cluster_sample: int = 64
    rivals: int = 3
    cluster_share: float = 0.04

    @staticmethod
    def of(pair: tuple[float, float], dtype: torch.dtype) -> float:
        """The entry of a pair that goes with a precision."""
        return pair[dtype == torch.float64]

    def most(self, P: int) -> float:
        """Candidates a query that are settled before the next method is cheaper."""
        return max(self.few, self.share * P)


POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        policy.name: policy
        for policy in (
            Policy("bfloat16", compiled=True, bfloat16=True, reduced_worth=0.35),  # what a bfloat16 screen takes
            Policy("float32", compiled=True, bfloat16=False),
            Policy("plain", compiled=False, bfloat16=False, numpy_float64=False, reduced=False),
        )
    }
)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the processor multiplies bfloat16 faster than float32: cuda, or a CPU with AVX-512 BF16 or AMX."""
    if device.type != "cpu":
        return device.type == "cuda"
    return any(getattr(torch.cpu, f"_is_{name}_supported", lambda: False)() for name in ("avx512_bf16", "amx_tile"))


def choose_policy(device: torch.device, wanted: str | Policy | None = None) -> Policy:
    """The policy asked for (by the caller, else by GEOMEM_POLICY), else the one that suits the processor."""
    argument, wanted = ("policy", wanted) if wanted is not None else (VARIABLE, os.environ.get(VARIABLE) or None)
    if wanted is None:
        wanted = "bfloat16" if multiplies_bfloat16(device) else "float32"
    policy = wanted if isinstance(wanted, Policy) else POLICIES.get(wanted)
    if policy is None:
        raise DomainError(argument, wanted, f"one of {', '.join(POLICIES)}")
    return (
        policy if COMPILED else replace(policy, compiled=False)
    )  # NUMBA_DISABLE_JIT: compiled code would be interpreted
