"""Phase diagrams: the times of the theory over a grid of load and latent dimension, as labelled arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from numerics.domain import DomainError, positive
from numerics.grid import sweep
from numerics.store import provenance
from theory.engine import engine
from theory.models import LinearManifold
from theory.rem import KINDS

__all__ = ["phase_diagram"]

_UNITS = {"units": "squared data units", "convention": "variance-exploding time t = sigma^2"}


def phase_diagram(
    alpha: Any,
    alpha_D: Any,
    *,
    family: Callable[[float], Any] = LinearManifold,
    kinds: Sequence[str] = KINDS,
    out: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    executor: Any = None,
) -> Any:
    r"""All times over a grid of :math:`(\alpha_D,\alpha)`.

    Parameters
    ----------
    alpha, alpha_D : one-dimensional arrays of numbers > 0
        :math:`\log P/N` and :math:`D/N`.
    family : callable
        The model at a given alpha_D (default `LinearManifold`; for instance `lambda a: HiddenManifold(a, "relu")`).
    kinds : which times, of `theory.rem.KINDS`
    out, progress, executor : see `numerics.grid.sweep`; with `out` the sweep can be killed and resumed.

    Returns
    -------
    xarray.Dataset
        For each kind `log_t_<kind>` (natural logarithm, never below float range), `status_<kind>` (0 where solved, see
        `numerics.solution.Status`) and `branch_<kind>`, with dimensions (alpha_D, alpha).

    >>> diagram = phase_diagram([0.1, 0.2], [0.5])
    >>> round(float(np.exp(diagram["log_t_collapse"].sel(alpha=0.2, alpha_D=0.5))), 6)
    1.409613
    """
    for kind in kinds:
        if kind not in KINDS:
            raise DomainError("kinds", kind, f"some of {', '.join(KINDS)}")
    alpha, alpha_D = (np.atleast_1d(positive(n, v)) for n, v in (("alpha", alpha), ("alpha_D", alpha_D)))
    about = {
        "alpha": {"long_name": "load log P / N", "units": "1"},
        "alpha_D": {"long_name": "latent over ambient dimension D / N", "units": "1"},
    }
    for kind in kinds:
        about[f"log_t_{kind}"] = {"long_name": f"log of the {kind} time", **_UNITS}
        about[f"status_{kind}"] = {"long_name": "solver status, 0 = OK"}
    name = getattr(family, "__name__", repr(family))
    return sweep(
        partial(_row, family, tuple(kinds)),
        {"alpha_D": alpha_D, "alpha": alpha},
        attributes=about,
        provenance=provenance(family=name, kinds=",".join(kinds)),
        out=out,
        progress=progress,
        executor=executor,
    )


def _row(
    family: Callable[[float], Any], kinds: tuple[str, ...], alpha_D: float, alpha: np.ndarray
) -> dict[str, np.ndarray]:
    machine = engine(family(float(alpha_D)))
    row = {}
    for kind in kinds:
        solution = machine.log_time(kind, alpha)
        row[f"log_t_{kind}"] = np.where(solution.ok, solution.value, np.nan)
        row[f"status_{kind}"] = solution.status.astype(np.int8)
        row[f"branch_{kind}"] = solution.branch.astype(np.int8)
    return row
