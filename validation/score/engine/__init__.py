"""How sums over a whole training set are carried out: tiles, screens, online sums, exact differences, and what decides."""

from validation.score.engine.block import Block, Candidates, all_tiles
from validation.score.engine.decision import Part, candidates_of_nearest, decide
from validation.score.engine.double_double import gap, lexicographic_min, relative_error
from validation.score.engine.policy import ACCURACY, POLICIES, Policy, choose_policy
from validation.score.engine.pruning import Clusters
from validation.score.engine.settle import check_ranked, is_hard
from validation.score.engine.tiles import DTYPES, LARGEST, TrainingSet, check_matrix, rounding
from validation.score.engine.workers import alone, block_size, in_threads, thread_count

__all__ = [
    "ACCURACY",
    "DTYPES",
    "LARGEST",
    "POLICIES",
    "Block",
    "Candidates",
    "Clusters",
    "Part",
    "Policy",
    "TrainingSet",
    "all_tiles",
    "alone",
    "block_size",
    "candidates_of_nearest",
    "check_matrix",
    "check_ranked",
    "choose_policy",
    "decide",
    "gap",
    "in_threads",
    "is_hard",
    "lexicographic_min",
    "relative_error",
    "rounding",
    "thread_count",
]
