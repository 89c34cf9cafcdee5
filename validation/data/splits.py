"""Which points are kept back: the source's own, or some drawn by a seed; without those that the training set has too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from numerics.domain import DomainError, shaped
from validation.data.copies import Copies, find_copies

__all__ = ["Split", "split"]


@dataclass(frozen=True, eq=False)
class Split:
    """Training part and held-out part, which unpack as a pair; copies: which of the points looked at were left out."""

    train: np.ndarray
    held_out: np.ndarray
    copies: Copies

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter((self.train, self.held_out))


def split(X: np.ndarray, held_out: np.ndarray | None, *, seed: int, limit: int = 1000, device: str = "cpu") -> Split:
    """Training part and held-out part: the source's own, or a tenth of the rows (at most `limit`), drawn by `seed`.

    Held-out points that are training points, exactly or nearly (`find_copies`), are left out: so fewer than 2 may be left.
    Of the source's own the first `limit` are looked at, and as many more as it takes to have `limit` that are no copies.

    >>> X = np.random.default_rng(0).standard_normal((200, 8))
    >>> found = split(np.concatenate([X, X[:50]]), None, seed=0)
    >>> len(found.train), len(found.held_out), found.copies.count
    (225, 16, 9)
    """
    X = shaped("X", X)
    if X.ndim != 2:
        raise DomainError("X", f"an array of shape {X.shape}", "samples of shape (P, N)")
    if held_out is not None and len(held_out) >= 2:
        parts, copies, seen = [], [], 0
        while seen < len(held_out) and (missing := limit - sum(map(len, parts))) > 0:
            block = np.asarray(held_out[seen : seen + missing])
            seen += len(block)
            copies.append(find_copies(block, X, device=device))
            parts.append(block[copies[-1].keep])
        return Split(X, np.concatenate(parts), Copies.joined(copies))
    if len(X) < 4:
        raise DomainError("X", f"{len(X)} rows", "at least 4 rows, so that some can be held out")
    chosen = np.zeros(len(X), dtype=bool)
    count = max(2, min(limit, len(X) // 10))
    chosen[np.random.default_rng(seed).choice(len(X), size=count, replace=False)] = True
    train, kept_back = X[~chosen], np.asarray(X[chosen])
    found = find_copies(kept_back, train, device=device)
    return Split(train, kept_back[found.keep], found)
