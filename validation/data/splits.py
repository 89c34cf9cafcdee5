"""Which points are kept back: the source's own, or some drawn by a seed."""

from __future__ import annotations

import numpy as np

from numerics.domain import DomainError

__all__ = ["split"]


def split(X: np.ndarray, held_out: np.ndarray | None, *, seed: int, limit: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Training part and held-out part: the source's own, or a tenth of the rows (at most `limit`), drawn by `seed`."""
    if held_out is not None and len(held_out) >= 2:
        return X, held_out[:limit]
    if len(X) < 4:
        raise DomainError("X", f"{len(X)} rows", "at least 4 rows, so that some can be held out")
    chosen = np.zeros(len(X), dtype=bool)
    count = max(2, min(limit, len(X) // 10))
    chosen[np.random.default_rng(seed).choice(len(X), size=count, replace=False)] = True
    return X[~chosen], np.asarray(X[chosen])
