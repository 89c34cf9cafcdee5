"""Phase diagrams: the times of the theory over a grid of load and latent dimension, as labelled arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from numerics.domain import DomainError, positive
from numerics.grids import sweep
from numerics.store import provenance
from theory.engine import engine
from theory.models import HiddenManifold, LinearManifold
from theory.rem import KINDS
from theory.replica import gaussian_equivalent

__all__ = ["activation_diagrams", "phase_diagram"]

_BLOCK = 16  # rows between two savings
_AXES = {
    "alpha": {"long_name": "load log P / N", "units": "1"},
    "alpha_D": {"long_name": "latent over ambient dimension D / N", "units": "1"},
}
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
    scheduler: Any = None,
) -> Any:
    r"""All times over a grid of :math:`(\alpha_D,\alpha)`.

    Parameters
    ----------
    alpha, alpha_D : one-dimensional arrays of numbers > 0
        :math:`\log P/N` and :math:`D/N`.
    family : callable
        The model at a given alpha_D (default `LinearManifold`; for instance `lambda a: HiddenManifold(a, "relu")`).
    kinds : which times, of `theory.rem.KINDS`
    out, progress, executor, scheduler : see `numerics.grids.grid.sweep`; with `out` the sweep can be killed and resumed.

    Returns
    -------
    xarray.Dataset
        For each kind `log_t_<kind>` (natural logarithm, never below float range), `status_<kind>` (0 where solved, see
        `numerics.solvers.solution.Status`) and `branch_<kind>`, with dimensions (alpha_D, alpha).

    >>> diagram = phase_diagram([0.1, 0.2], [0.5])
    >>> round(float(np.exp(diagram["log_t_collapse"].sel(alpha=0.2, alpha_D=0.5))), 6)
    1.409613
    """
    kinds = _known(kinds)
    alpha, alpha_D = (np.atleast_1d(positive(n, v)) for n, v in (("alpha", alpha), ("alpha_D", alpha_D)))
    name = getattr(family, "__name__", repr(family))
    return sweep(
        partial(_rows, family, kinds),
        {"alpha_D": alpha_D, "alpha": alpha},
        attributes=_attributes(kinds),
        provenance=provenance(family=name, kinds=",".join(kinds)),
        out=out,
        progress=progress,
        executor=executor,
        scheduler=scheduler,
        block=_BLOCK,
    )


def _known(kinds: Sequence[str]) -> tuple[str, ...]:
    for kind in kinds:
        if kind not in KINDS:
            raise DomainError("kinds", kind, f"some of {', '.join(KINDS)}")
    return tuple(kinds)


def _attributes(kinds: Sequence[str]) -> dict[str, dict[str, str]]:
    about = dict(_AXES)
    for kind in kinds:
        about[f"log_t_{kind}"] = {"long_name": f"log of the {kind} time", **_UNITS}
        about[f"log_shortcut_{kind}"] = {"long_name": f"log of the {kind} time of the Gaussian shortcut", **_UNITS}
        about[f"status_{kind}"] = {"long_name": "solver status, 0 = OK"}
    return about


def _rows(
    family: Callable[[float], Any], kinds: tuple[str, ...], alpha_D: np.ndarray, alpha: np.ndarray
) -> dict[str, np.ndarray]:
    return _solved([family(float(a)) for a in alpha_D], kinds, alpha)


def _solved(models: Sequence[Any], kinds: tuple[str, ...], alpha: np.ndarray) -> dict[str, np.ndarray]:
    """The times of every model, neighbours that differ in alpha_D only by one engine: its fixed points come in batches."""
    found = []
    for nonlinear, group in groupby(
        models, lambda m: replace(m, alpha_D=1.0) if isinstance(m, HiddenManifold) else None
    ):
        if nonlinear is None:
            found += [_times(engine(m), kinds, alpha[None, :]) for m in group]
        else:
            joint = np.array([m.alpha_D for m in group])[:, None]
            found.append(_times(engine(replace(nonlinear, alpha_D=joint)), kinds, alpha[None, :]))
    return {name: np.concatenate([f[name] for f in found]) for name in found[0]}


def _times(machine: Any, kinds: tuple[str, ...], alpha: np.ndarray) -> dict[str, np.ndarray]:
    row = {}
    for kind in kinds:
        solution = machine.log_time(kind, alpha)
        row[f"log_t_{kind}"] = np.where(solution.ok, solution.value, np.nan)
        row[f"status_{kind}"] = solution.status.astype(np.int8)
        row[f"branch_{kind}"] = solution.branch.astype(np.int8)
    return row


def activation_diagrams(
    activations: Sequence[Any],
    alpha: Any,
    alpha_D: Any,
    *,
    kinds: Sequence[str] = ("collapse", "onset"),
    variances: Sequence[float] = (1.0,),
    fractions: Sequence[float] | None = None,
    out: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    scheduler: Any = None,
) -> Any:
    r"""Phase diagrams of several activations side by side, with the Gaussian-equivalence shortcut beside each.

    Multiplying `s` by a constant multiplies every time by its square. So the diagrams at matched second moment are
    :math:`t/\mathrm{Var}(s)` (times do not see the mean), at matched linear coefficient :math:`t/\kappa_1^2`: both
    coordinates come with the result.

    Parameters
    ----------
    activations : names, sympy expressions or callables, see `theory.HiddenManifold`
    alpha, alpha_D : one-dimensional arrays of numbers > 0
    kinds : which times; the shortcut is given for "collapse" and "onset"
    variances, fractions : of the latent directions
    out : path ending in .nc, optional; finished rows are kept beside it until all is done, so that it can be resumed
    progress : callable `(done, total)`, in rows of all diagrams
    scheduler : a dask scheduler whose workers solve the rows, see `numerics.grids.schedulers`

    Returns
    -------
    xarray.Dataset
        As `phase_diagram`, with a first dimension `activation`, variables `log_shortcut_<kind>`, and the coordinates
        `variance` and `linear` (:math:`\kappa_1`, 0 for an even function) along it.

    >>> both = activation_diagrams(["identity", "tanh"], [0.2], [0.5])
    >>> np.exp(both["log_t_collapse"]).squeeze().round(6).values.tolist()
    [1.409613, 0.574377]
    >>> np.exp(both["log_shortcut_collapse"]).squeeze().round(4).values.tolist()
    [1.4096, 0.5935]
    """
    if len(activations) == 0:
        raise DomainError("activations", activations, "at least one activation")
    kinds = _known(kinds)
    alpha, alpha_D = (np.atleast_1d(positive(n, v)) for n, v in (("alpha", alpha), ("alpha_D", alpha_D)))
    # all are made, and so checked, before any work
    models = [HiddenManifold(a, chosen, variances, fractions) for chosen in activations for a in alpha_D.tolist()]
    firsts = models[:: alpha_D.size]
    linear = [m.s.linear_and_noise(m.field_variance)[1] for m in firsts]
    names = [str(chosen) for chosen in activations]

    def rows(index: np.ndarray, alpha: np.ndarray) -> dict[str, np.ndarray]:
        here = [models[int(i)] for i in index]
        shortcuts = [gaussian_equivalent(m) for m in here]
        drawn = [kind for kind in kinds if kind in ("collapse", "onset")]
        beside = {f"log_shortcut_{k}": np.log([s.time(k, alpha) for s in shortcuts]) for k in drawn}
        return _solved(here, kinds, alpha) | beside

    def finish(whole: Any) -> Any:
        shape = (len(names), alpha_D.size, alpha.size)
        dims = ("activation", "alpha_D", "alpha")
        stacked = {n: (dims, v.values.reshape(shape), v.attrs) for n, v in whole.data_vars.items()}
        coordinates = {
            "activation": names,
            "alpha_D": ("alpha_D", alpha_D, _AXES["alpha_D"]),
            "alpha": ("alpha", alpha, _AXES["alpha"]),
            "variance": (
                "activation",
                [m.mean_variance for m in firsts],
                {"long_name": "data variance per dimension", "units": "squared data units"},
            ),
            "linear": (
                "activation",
                [kappa if abs(kappa) > 1e-12 else 0.0 for kappa in linear],
                {"long_name": "linear coefficient kappa_1", "units": "1"},
            ),
        }
        return type(whole)(stacked, coordinates, whole.attrs)

    told = {"activations": ",".join(names), "alpha_D": alpha_D.tolist(), "kinds": ",".join(kinds)}
    told |= {"variances": list(models[0].variances), "fractions": list(models[0].fractions)}
    return sweep(
        rows,
        {"model": np.arange(len(models)), "alpha": alpha},
        attributes=_attributes(kinds),
        provenance=provenance(**told),
        out=out,
        progress=progress,
        scheduler=scheduler,
        block=_BLOCK,
        finish=finish,
    )
