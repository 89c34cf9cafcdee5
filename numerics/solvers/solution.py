"""What a solve returns: value, status, residual, iterations and branch, never a bare float inside the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from numerics.display import grid

__all__ = ["Solution", "Status"]


class Status(IntEnum):
    """How a solve ended, cell by cell; `advice` says what to do about it."""

    OK = 0
    NO_BRACKET = 1
    NOT_CONVERGED = 2
    BELOW_FLOAT_RANGE = 3
    NO_SOLUTION = 4
    INVALID = 5

    @property
    def advice(self) -> str:
        return _ADVICE[self]


_ADVICE = {
    Status.OK: "converged; the residual was re-evaluated at the returned value",
    Status.NO_BRACKET: "the residual does not change sign on the searched interval; widen it or check the arguments",
    Status.NOT_CONVERGED: "the iteration limit was reached; loosen the tolerance or raise the limit",
    Status.BELOW_FLOAT_RANGE: "the value is below the smallest normal float64; ask for its logarithm with log=True",
    Status.NO_SOLUTION: "the equation has no solution for these arguments; see the function's domain",
    Status.INVALID: "an argument of this cell is not a number",
}


@dataclass(frozen=True)
class Solution:
    """Arrays of one shape: the values of a vectorised solve and how each cell ended.

    Attributes
    ----------
    value : float64 array, NaN where `status` is not OK
    status : int8 array of `Status`
    residual : float64 array, the residual re-evaluated at `value`
    iterations : int32 array
    branch : int8 array; 0 where the solution is unique
    """

    value: np.ndarray
    status: np.ndarray
    residual: np.ndarray
    iterations: np.ndarray
    branch: np.ndarray = field(default=None)  # type: ignore[arg-type]  # filled in below

    def __post_init__(self):
        if self.branch is None:
            object.__setattr__(self, "branch", np.zeros(np.shape(self.value), dtype=np.int8))

    @property
    def ok(self) -> np.ndarray:
        return self.status == Status.OK

    def _repr_html_(self) -> str:
        names = ("value", "status", "residual", "iterations", "branch")
        cells = np.broadcast_arrays(*(np.asarray(getattr(self, name)) for name in names))
        rows = [
            (value, Status(int(status)).name, f"{residual:.1e}", int(iterations), int(branch))
            for value, status, residual, iterations, branch in zip(
                *(cell.ravel().tolist() for cell in cells), strict=True
            )
        ]
        return grid(self.report(), names, rows)

    def report(self) -> str:
        """One line: how many cells ended how, with advice for the failures.

        >>> import numpy as np
        >>> print(Solution(np.array([1.0]), np.array([0]), np.array([0.0]), np.array([3])).report())
        1 of 1 cells OK
        """
        total = self.status.size
        lines = [f"{int(self.ok.sum())} of {total} cells OK"]
        for status in Status:
            count = int((self.status == status).sum())
            if count and status is not Status.OK:
                lines.append(f"{count} {status.name}: {status.advice}")
        return "; ".join(lines)
