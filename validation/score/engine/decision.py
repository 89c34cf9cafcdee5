r"""How the sums of one block are computed: one function that decides, and the methods it chooses from.

A method either gives the sums or gives up, which it does as soon as it meets more candidates than the next would cost. The
page docs/engine.md has the picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from validation.score.engine.block import Block, Candidates
from validation.score.engine.copies import Copies
from validation.score.engine.policy import ACCURACY
from validation.score.engine.pruning import Clusters
from validation.score.engine.reduced import Reduced
from validation.score.engine.settle import settle
from validation.score.engine.sweep import Screened, hopeless, largest_is_near, screen, shares_within, weigh
from validation.score.engine.tile_pass import full_factors

__all__ = ["Part", "candidates_of_nearest", "coordinates_to_screen", "decide"]

TYPICAL = 8.0  # rounding errors are this much below their bound, or further
COMMON = 4e-5  # bound on the error of a weight that many copies of a pattern may share


@dataclass(eq=False)
class Part:
    """Sums of one block relative to the energy (energy, low); displacements from the origin; settled pairs if these are all.

    settled : pairs done in float64; visited : share of pairs looked at; left_out : bound on the weight that clusters left
    out, relative to Z
    """

    energy: torch.Tensor
    low: torch.Tensor
    S: torch.Tensor
    Q: torch.Tensor
    D: torch.Tensor
    pairs: tuple | None
    ranked: torch.Tensor
    origin: torch.Tensor
    method: str
    settled: int
    visited: float = 1.0
    left_out: float = 0.0


def decide(block: Block, cut: float, clusters: Clusters | None = None) -> Part:
    """The sums of a block down to weights of exp(-cut), by the first method, cheapest first, that does not give up."""
    data, policy, floor = block.data, block.policy, None
    if clusters is not None and block.exclude is None:
        part = _by_clusters(block, cut, clusters)
        if part is not None:
            return part
    chosen = coordinates_to_screen(block, cut)
    if chosen is not None:
        part = _by_reduced_screen(block, cut, *chosen)
        if part is not None:
            return part
    wide = torch.full_like(block.t, math.inf)
    if policy.bfloat16 and policy.bfloat16_rows <= data.P:
        wide = cut * block.t + 2 * block.error(torch.bfloat16)
        part, floor = _by_bfloat16_screen(block, cut, wide)
        if part is not None:
            return part
    if data.dtype == torch.float64:
        window = cut * block.t + 2 * block.error(torch.float32)
        finer = float((window / wide).median()) <= policy.repeat  # else it would meet what bfloat16 met
        part = _by_screen(block, cut, torch.float32, window) if finer else None
    else:
        part = _by_sums(block, cut, torch.float32, policy.most(data.P), floor)
    return part if part is not None else _by_sums(block, cut, torch.float64, math.inf, floor)


def _by_clusters(block: Block, cut: float, clusters: Clusters) -> Part | None:
    pruned = clusters.visit(block, cut * block.t, block.policy.most(block.data.P))
    if pruned is None:
        return None
    candidates, bound, share = pruned
    part = _settled(block, candidates, cut, "clusters")
    part.visited, part.left_out = share, clusters.left_out(bound, block.t, part.energy, part.S.log())
    return part


def coordinates_to_screen(block: Block, cut: float) -> tuple[int, float] | None:
    """Pilot: in how many principal coordinates a float32 screen is cheapest (N: all, as they are), and with how
    many standard deviations of room for the nearest pattern; None where none pays.

    Times are in multiplications of a product a pair: those of the screen, its reading, and what is left to settle.
    """
    data, policy = block.data, block.policy
    work = len(block.x) * data.P * data.N
    wanted = policy.reduced and data.device.type == "cpu" and not data.streamed
    if not wanted or policy.reduced_rows > data.P or work < policy.reduced_work:
        return None
    # a float64 multiplication takes as long as two in float32
    bare = 2 * data.N * (2 if data.dtype == torch.float64 else 1)
    reduced, best, least = data.derived(Reduced), None, policy.reduced_worth * bare
    some = torch.arange(0, len(block.x), -(-len(block.x) // policy.pilot_rows), device=block.x.device)
    pilot = block.part(some)
    for sigmas in policy.reduced_sigmas:
        energy = reduced.expected_energy(pilot, sigmas) + cut * pilot.t
        again = policy.reduced_again * bare if sigmas < max(policy.reduced_sigmas) else 0.0
        for m in [data.N, *reduced.sizes()]:
            unavoidable = m + policy.reduced_read + again
            if unavoidable >= least:
                if m == data.N:
                    continue
                break
            share = float(reduced.shares(pilot.centred, energy, m).mean())
            if m == data.N and share > policy.reduced_share:  # in fewer coordinates it only grows
                break
            cost = unavoidable + share * (policy.settled_cost * data.N + policy.settled_fixed)
            if share <= policy.reduced_share and cost < least:
                best, least = (m, sigmas), cost
    return best


def _by_reduced_screen(block: Block, cut: float, m: int, sigmas: float) -> Part | None:
    """Pairs whose bound in m coordinates allows a weight; a row whose nearest pattern is further than expected again."""
    data = block.data
    reach = data.derived(Reduced).expected_energy(block, sigmas) + cut * block.t
    found = _bounded(block, reach, m, cut)
    if found.candidates is None:
        return None
    row, position = found.candidates
    energy, _ = data.pairs(block.x, row, position)
    nearest, _ = data.pairs(block.x, torch.arange(len(block.x), device=row.device), found.place)
    nearest = nearest.scatter_reduce(0, row, energy, "amin")
    again = torch.nonzero(nearest + cut * block.t > reach).view(-1)
    if len(again):
        second = _bounded(block.part(again), (nearest + cut * block.t)[again], m, cut)
        if second.candidates is None:
            return None
        others, places = again[second.candidates[0]], second.candidates[1]
        keep = ~torch.isin(row, again)
        row, position = torch.cat([row[keep], others]), torch.cat([position[keep], places])
        energy = torch.cat([energy[keep], data.pairs(block.x, others, places)[0]])
    return _settled(block, (row, position), cut, f"{m}-coordinate screen", energy)


def _bounded(block: Block, energy: torch.Tensor, m: int, cut: float) -> Screened:
    """All pairs that may weigh and whose |x - xi|^2/2 may reach down to `energy` (B,), by a float32 product of m coordinates."""
    data = block.data
    full = m == data.N
    factors = full_factors(block, torch.float32) if full else data.derived(Reduced).factors(block, m)
    error = block.error(torch.float32, m if full else m + 1)
    limit = block.norm.square() / 2 - energy - error
    window = (
        cut * block.t + 2 * error if full else None
    )  # products of all coordinates also bound the row's best from below
    most = max(block.policy.few, 4 * block.policy.reduced_share * data.P)
    return screen(block, factors, most, window, limit)


def _by_screen(block: Block, cut: float, dtype: torch.dtype, window: torch.Tensor) -> Part | None:
    """Pairs within a window of each row's largest v."""
    factors = full_factors(block, dtype)
    if hopeless(block, factors, window):
        return None
    found = screen(block, factors, block.policy.most(block.data.P), window).candidates
    return None if found is None else _settled(block, found, cut, f"{str(dtype).removeprefix('torch.')} screen")


def _by_bfloat16_screen(block: Block, cut: float, window: torch.Tensor) -> tuple[Part | None, torch.Tensor | None]:
    """The same in bfloat16; where too many were listed before the largest v was met, again with that known beforehand.

    Beside the sums, or None, a floor (B,) of the largest v for the methods that follow, or None.
    """
    data, policy, dtype = block.data, block.policy, torch.bfloat16
    factors, best = full_factors(block, dtype), None
    known, worthwhile = policy.of(policy.known_share, data.dtype), policy.of(policy.worthwhile, data.dtype)
    if not hopeless(block, factors, window):
        found = screen(block, factors, policy.most(data.P), window)
        if found.candidates is not None:
            return _settled(block, found.candidates, cut, "bfloat16 screen"), None
        best = found.best
    if data.streamed or not largest_is_near(block, factors, window, policy.heavy if worthwhile else known):
        return None, None
    nothing = torch.full_like(block.t, math.inf)
    if best is None:
        some = torch.arange(0, len(block.x), -(-len(block.x) // policy.pilot_rows), device=block.x.device)
        few_rows = block.part(some)
        top = screen(few_rows, full_factors(few_rows, dtype), 0, limit=nothing[some]).best
        shares = shares_within(block, factors, window, nothing.index_copy(0, some, top))
    else:
        shares = shares_within(block, factors, window, best)
    few = float(shares.mean()) < known / 2
    if best is None and (few or float((shares > policy.heavy).double().mean()) < worthwhile):
        best = screen(block, factors, 0, limit=nothing).best
    if best is None:
        return None, None
    floor = best - block.error(dtype)
    if few:
        found = screen(block, factors, known * data.P, window, limit=floor - window).candidates
        if found is not None:
            return _settled(block, found, cut, "bfloat16 screen"), floor
    return None, floor


def _settled(block: Block, candidates: Candidates, cut: float, method: str, energy: torch.Tensor | None = None) -> Part:
    """All the weight from float64 differences, whose energies may be known already."""
    one = settle(block, candidates, cut, energy)
    return Part(
        one.energy, one.low, one.S, one.Q, one.D, one.pairs, one.ranked, block.origin, method, len(candidates[0])
    )


def _by_sums(block: Block, cut: float, dtype: torch.dtype, most: float, floor: torch.Tensor | None) -> Part | None:
    """Online sums of products, with the pairs whose rounding would show settled by differences."""
    error, tolerance = block.error(dtype) / block.t, ACCURACY[block.data.dtype].tolerance
    reach = cut + 2 * error
    typical = error / TYPICAL
    depth = torch.minimum((typical / tolerance).log() + 2 * error, reach)
    depth = torch.where(error > 0.1, reach, depth)
    depth = torch.where(typical > tolerance, depth, -1.0)
    if dtype == torch.float32 and (copies := block.data.derived(Copies).radius) > 0:
        depth = torch.where(block.error(dtype, radius=copies) > COMMON * block.t, reach, depth)
    found = weigh(block, dtype, cut, reach, depth, most, floor)
    if found is None:
        return None
    top, S, Q, mean, candidates = found
    one, some = settle(block, candidates, cut), S > 0
    # the products' v = |x|^2/2 - E becomes an energy; its gap to the settled reference is small wherever its sum counts
    bulk = block.centred.to(dtype).double().square().sum(1) / 2 - top
    energy = torch.where(one.energy < math.inf, one.energy, bulk)
    scale = torch.where(some, torch.exp((energy - bulk) / block.t), 0.0)
    D = one.D + (mean - S[:, None] * block.shift) * scale[:, None]
    method = f"{str(dtype).removeprefix('torch.')} sums"
    whole = None if bool(some.any()) else one.pairs
    S, Q = one.S + S * scale, one.Q + Q * scale.square()
    return Part(energy, one.low, S, Q, D, whole, one.ranked, block.origin, method, len(candidates[0]))


def candidates_of_nearest(block: Block) -> Candidates:
    """Every pair that may be a row's nearest, by the first precision that leaves few."""
    data, policy = block.data, block.policy
    dtypes = [torch.bfloat16] if policy.bfloat16 and policy.bfloat16_rows <= data.P else []
    for dtype in [*dtypes, torch.float32]:
        factors, window = full_factors(block, dtype), 2 * block.error(dtype)
        if not hopeless(block, factors, window):
            found = screen(block, factors, policy.most(data.P), window).candidates
            if found is not None:
                return found
    window = 2 * block.error(torch.float64)
    return screen(block, full_factors(block, torch.float64), math.inf, window).candidates
