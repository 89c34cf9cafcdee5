"""Phase diagrams: the times of the theory over a grid of load and latent dimension, as labelled arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from numerics.domain import DomainError, positive
from numerics.grid import sweep
from numerics.store import provenance
from theory.engine import engine
from theory.gaussian_equivalence import gaussian_equivalent
from theory.hidden import HiddenManifold
from theory.models import LinearManifold
from theory.rem import KINDS

__all__ = ["activation_diagrams", "phase_diagram"]

_BLOCK = 16  # rows between two savings
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
        partial(_rows, family, tuple(kinds)),
        {"alpha_D": alpha_D, "alpha": alpha},
        attributes=about,
        provenance=provenance(family=name, kinds=",".join(kinds)),
        out=out,
        progress=progress,
        executor=executor,
        block=_BLOCK,
    )


def _rows(
    family: Callable[[float], Any], kinds: tuple[str, ...], alpha_D: np.ndarray, alpha: np.ndarray
) -> dict[str, np.ndarray]:
    models = [family(float(a)) for a in alpha_D]
    if all(
        isinstance(m, HiddenManifold) and replace(m, alpha_D=1.0) == replace(models[0], alpha_D=1.0) for m in models
    ):
        # one engine for all: its fixed points are solved in batches
        joint = np.array([m.alpha_D for m in models])[:, None]
        found = [_times(engine(replace(models[0], alpha_D=joint)), kinds, alpha[None, :])]
    else:
        found = [_times(engine(m), kinds, alpha[None, :]) for m in models]
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
    out : path ending in .nc, optional; each activation's rows are kept beside it until all is done, so it can be resumed
    progress : callable `(done, total)`, in rows of all diagrams

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
    import xarray as xr

    from numerics.store import save_dataset

    if len(activations) == 0:
        raise DomainError("activations", activations, "at least one activation")
    alpha_D = np.atleast_1d(positive("alpha_D", alpha_D))
    parts, linear, variance = [], [], []
    for i, chosen in enumerate(activations):
        model = HiddenManifold(1.0, chosen, variances, fractions)
        family = _Activated(chosen, tuple(variances), None if fractions is None else tuple(fractions))
        place = None if out is None else Path(out).with_name(f"{Path(out).stem}-{i}.nc")
        report = progress and partial(_shifted, progress, i * alpha_D.size, len(activations) * alpha_D.size)
        part = phase_diagram(alpha, alpha_D, family=family, kinds=kinds, out=place, progress=report)
        shortcuts = [gaussian_equivalent(family(a)) for a in alpha_D]
        for kind in kinds:
            if kind in ("collapse", "onset"):
                with np.errstate(invalid="ignore"):
                    rows = np.log([s.time(kind, part["alpha"].values) for s in shortcuts])
                part[f"log_shortcut_{kind}"] = (("alpha_D", "alpha"), rows)
        parts.append(part)
        _, kappa, _ = model.s.linear_and_noise(model.field_variance)
        linear.append(kappa if abs(kappa) > 1e-12 else 0.0)
        variance.append(model.mean_variance)
    names = [str(chosen) for chosen in activations]
    whole = xr.concat(parts, xr.DataArray(names, dims="activation", name="activation"), combine_attrs="drop_conflicts")
    about = {"long_name": "data variance per dimension", "units": "squared data units"}
    whole = whole.assign_coords(
        variance=("activation", variance, about),
        linear=("activation", linear, {"long_name": "linear coefficient kappa_1", "units": "1"}),
    )
    if out is not None:
        save_dataset(whole, out)
        for i in range(len(activations)):
            Path(out).with_name(f"{Path(out).stem}-{i}.nc").unlink(missing_ok=True)
    return whole


class _Activated:
    """Hidden manifolds of one activation, told apart in a file's provenance."""

    def __init__(self, activation: Any, variances: tuple[float, ...], fractions: tuple[float, ...] | None):
        self.activation, self.variances, self.fractions = activation, variances, fractions

    def __call__(self, alpha_D: float) -> HiddenManifold:
        return HiddenManifold(alpha_D, self.activation, self.variances, self.fractions)

    def __repr__(self) -> str:
        return f"HiddenManifold({self.activation}, {self.variances}, {self.fractions})"


def _shifted(progress, offset: int, total: int, done: int, _: int) -> None:
    progress(offset + done, total)
