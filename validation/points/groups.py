"""Points that belong together: chains of exact and near-duplicates, whose members share the weight at every larger noise."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from validation.data import Duplicates

__all__ = ["duplicate_groups", "pairs_within"]


def duplicate_groups(found: Duplicates) -> np.ndarray:
    """(P,) number of the group of near-duplicates a point belongs to, counted from 0 in the order of rows; -1 for none."""
    P = len(found.nearest)
    pairs = np.concatenate([found.exact_pairs, found.near_pairs])
    graph = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(P, P))
    label = connected_components(graph, directed=False)[1]
    size = np.bincount(label)
    first = np.unique(label, return_index=True)[1]
    numbers = np.full(len(size), -1)
    many = np.flatnonzero(size > 1)
    numbers[many[np.argsort(first[many])]] = np.arange(len(many))
    return numbers[label]


def pairs_within(group: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(place in `rows`, row) of every pair of a row of `rows` with another member of its group, in the order of `rows`."""
    order = np.argsort(group, kind="stable")
    edges = np.searchsorted(group[order], np.arange(group.max(initial=-1) + 2))
    left, right = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for i, row in enumerate(rows):
        if group[row] >= 0:
            others = order[edges[group[row]] : edges[group[row] + 1]]
            others = others[others != row]
            left.append(np.full(len(others), i))
            right.append(others)
    return np.concatenate(left), np.concatenate(right)
