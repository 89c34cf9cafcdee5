"""The figures of losing dimensions: spectra against noise, the three levels against measurement, which goes first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from theory.subspaces import subspace_collapse_times, variance_ratio_boundary
from validation.figures import style

__all__ = ["phase_figure", "spectra_figure", "times_figure"]

_COLOURS = {"high": "#D55E00", "low": "#0072B2", "rest": "#777777"}
_LEVELS = {"gaussian-rem": ("-.", "Gaussian REM [AVSP24]"), "marginal": (":", "marginal"), "frozen": ("--", "frozen")}
_T = r"noise variance $t$"


def spectra_figure(curves: Any, *, case: str, normalised: bool) -> Figure:
    """One row a P; columns: the authors' theory, the trained network if there is one, the empirical score, and controls."""
    data = curves.sel(case=case, normalised=normalised)
    sizes = [int(P) for P in data["P"].values if np.isfinite(data["column"].sel(P=P)).any()]
    t = data["t"].values
    network = "network_frame" in data
    titles = [
        "authors' theory (heuristic)",
        *(["trained network, frame at centre"] if network else []),
        "empirical score, frame at centre",
        "P → ∞, frame at centre",
        "symmetric frame at centre, by subspace",
        "fresh points, by subspace",
        "typical points, by subspace",
    ]
    with style():
        fig = Figure(figsize=(2.9 * len(titles), 2.5 * len(sizes) + 0.9))
        axes = fig.subplots(len(sizes), len(titles), sharex=True, squeeze=False)
        for row, P in zip(axes, sizes, strict=True):
            part, panels = data.sel(P=P), iter(row)
            _labelled(next(panels), t, part["heuristic"].values)
            if network:
                _sorted(next(panels), t, part["network_frame"].values)
            _sorted(next(panels), t, part["frame"].values)
            _sorted(next(panels), t, data["exact_frame"].values)
            exact = data["exact_symmetric_column"].values
            _measured(next(panels), t, part["symmetric_column"], part["symmetric_column_error"], exact)
            for kind in ("fresh", "typical"):
                ax, at = next(panels), {"kind": kind}
                _measured(ax, t, part["value"].sel(at), part["value_error"].sel(at), data["exact_value"].sel(at).values)
                median = part["value_median"].sel(at).values
                for k, name in enumerate(("high", "low")):
                    ax.plot(t, median[:, k], ":", color=_COLOURS[name], lw=1.2)
            row[0].set_ylabel(f"P = {P:,}{_of_data(part)}" + ("\nvalue / largest" if sizes[0] == P else ""))
            for ax in row:
                ax.set_xscale("log")
                ax.set_ylim(-0.06, 1.22)
                ax.grid(alpha=0.25, lw=0.5)
            for k, name in enumerate(("high", "low")):
                for level, (line, _) in _LEVELS.items():
                    time = float(part["predicted_time"].sel(level=level).values[k])
                    shown = row[0] if level == "gaussian-rem" else row[-2] if level == "frozen" else row[-1]
                    shown.axvline(time, color=_COLOURS[name], ls=line, lw=0.9)
        for ax, title in zip(axes[0], titles, strict=True):
            ax.set_title(title, fontsize=8.5)
        for ax in axes[-1]:
            ax.set_xlabel(_T)
        handles = [
            _line(_COLOURS[n], "-", f"{n}-variance subspace" if n != "rest" else "normal directions") for n in _COLOURS
        ]
        handles += [_line("k", "-", "mean, band: one sigma"), _line("k", ":", "median")]
        handles += [_line("0.5", "-", "exact score (P → ∞)", 3, 0.35)]
        fig.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=9)
        norm = "fixed norm" if normalised else "free norm"
        fig.suptitle(
            f"{case}, {norm}, N = 30. 1 = noise, 0 = data. Vertical lines: Gaussian REM (first column), "
            "frozen departure (fresh), marginal collapse (typical)",
            fontsize=10,
        )
    return fig


def _of_data(part: Any) -> str:
    """What neighbours say of the dimension of the data themselves, where it was asked."""
    if "data_dimension" not in part or not np.isfinite(part["data_dimension"]).any():
        return ""
    low, high = float(part["data_dimension"].min()), float(part["data_dimension"].max())
    return f"\ndimension of the data {low:.1f} to {high:.1f}"


def _labelled(ax, t, values) -> None:
    for k, name in enumerate(_COLOURS):
        ax.plot(t, values[:, k], color=_COLOURS[name], lw=1.6)


def _sorted(ax, t, values) -> None:
    ax.plot(t, values, color="k", lw=0.6, alpha=0.6)


def _measured(ax, t, mean, error, exact) -> None:
    for k, name in enumerate(_COLOURS):
        m, e = mean.values[:, k], np.nan_to_num(error.values[:, k])
        ax.plot(t, exact[:, k], color=_COLOURS[name], lw=4, alpha=0.25)
        ax.plot(t, m, color=_COLOURS[name], lw=1.4)
        ax.fill_between(t, m - e, m + e, color=_COLOURS[name], alpha=0.3, lw=0)


def _line(colour: str, style_: str, label: str, width: float = 1.6, alpha: float = 1.0):
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, ls=style_, lw=width, alpha=alpha, label=label)


def times_figure(times: Sequence[Mapping[str, Any]]) -> Figure:
    """Measured times of both meanings against P, free norm, beside the three levels."""
    labels = list(dict.fromkeys(row["model"].rsplit(", P", 1)[0] for row in times if "free" in row["model"]))
    meanings = {"departure of the mean": "o", "gap of the median closes": "v"}
    with style():
        fig = Figure(figsize=(5.0 * len(labels), 8.2))
        axes = fig.subplots(2, len(labels), sharex=True, sharey=True, squeeze=False)
        for column, label in zip(axes.T, labels, strict=True):
            for ax, kind in zip(column, ("fresh", "typical"), strict=True):
                for name in ("high", "low"):
                    mine = [
                        r
                        for r in times
                        if (r["probe"], r["subspace"]) == (kind, name) and r["model"].startswith(f"{label}, P")
                    ]
                    line = [r for r in mine if r["meaning"] == "departure of the mean"]
                    for level, (dash, _) in _LEVELS.items():
                        ax.plot([r["P"] for r in line], [r[level] for r in line], dash, color=_COLOURS[name], lw=1.3)
                    for shift, (meaning, marker) in enumerate(meanings.items()):
                        rows = [r for r in mine if r["meaning"] == meaning]
                        x = np.array([r["P"] for r in rows]) * (1 + 0.12 * shift)
                        y, e = (np.array([r[n] for r in rows]) for n in ("t", "error"))
                        ax.errorbar(
                            x, y, e, fmt=marker, ms=6, color=_COLOURS[name], capsize=2, mfc="w" if shift else None
                        )
                ax.set(xscale="log", yscale="log", title=f"{label}\n{kind} points")
                ax.grid(alpha=0.25, lw=0.5)
        for ax in axes[-1]:
            ax.set_xlabel("training points P")
        for ax in axes[:, 0]:
            ax.set_ylabel("time t [data units²]")
        handles = [_line("k", dash, text) for dash, text in _LEVELS.values()]
        handles += [_line(_COLOURS[n], "-", f"{n} variance") for n in ("high", "low")]
        from matplotlib.lines import Line2D

        handles += [
            Line2D([], [], ls="", marker="o", color="k", label="departs from the exact score (x2)"),
            Line2D([], [], ls="", marker="v", color="k", mfc="w", label="median gap closes: noise again"),
        ]
        fig.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=9)
    return fig


def phase_figure() -> Figure:
    r"""Which subspace collapses first at the marginal level, in the plane of dimensions' and variances' ratios.

    The higher variance goes first above the line of its load :math:`2\log P/d_{low}`; below it the lower variance does.
    """
    ratio = np.logspace(0, 1, 200)  # d_low / d_high
    with style():
        fig = Figure(figsize=(10.5, 4.4))
        left, right = fig.subplots(1, 2)
        for i, load in enumerate((1e-3, 0.5, 1.0, 2.0, 4.0)):
            d_low = 20.0
            P = float(np.exp(load * d_low / 2))
            boundary = variance_ratio_boundary(max(P, 2.0), d_low / ratio, d_low) if P >= 2 else ratio
            name = "few samples: $d_2/d_1$" if P < 2 else rf"$2\log P/d_2={load:g}$"
            left.plot(ratio, boundary, color=f"C{i}", lw=1.8, label=name)
        left.set(xscale="log", yscale="log", ylim=(1, 1e4), xlabel=r"$d_2/d_1$ (low over high variance's dimension)")
        left.set_ylabel(r"variance ratio $\sigma_1^2/\sigma_2^2$")
        left.set_title("marginal level: which subspace collapses first")
        left.legend(
            fontsize=8, loc="center left", bbox_to_anchor=(0.0, 0.62), facecolor="w", frameon=True, edgecolor="w"
        )
        left.text(1.05, 4e3, "higher variance first", fontsize=9)
        left.text(4.2, 1.25, "lower variance first", fontsize=9)
        P = np.logspace(1, 6, 200)
        for (d1, d2), dash in zip(((5, 5), (3, 12)), ("-", "--"), strict=True):
            from theory import Subspaces

            model = Subspaces([d1 / 30, d2 / 30], [1.0, 0.09])
            times = subspace_collapse_times(model, P, 30, level="marginal")
            for k, name in enumerate(("high", "low")):
                right.loglog(P, times[:, k], dash, color=_COLOURS[name], lw=1.6, label=f"{name}, d = {(d1, d2)[k]}")
        right.set(xlabel="training points P", ylabel="marginal collapse time [data units²]", ylim=(1e-5, 10))
        right.set_title("variances 1 and 0.3²: equal dimensions, and 3 against 12")
        right.legend(fontsize=8)
        for ax in (left, right):
            ax.grid(alpha=0.25, lw=0.5)
    return fig
