"""Figures of trained networks: spectra beside theory and empirical score, frames at the centre, departures, losses."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from validation.figures import style

__all__ = ["convergence_figure", "departure_figure", "frame_figure", "nonlinear_figure", "spectra_figure"]

_COLOURS = {"high": "#D55E00", "low": "#0072B2", "rest": "#777777"}
STATE_COLOURS = {
    "memorising": "#C44E52",
    "generalising": "#55A868",
    "both": "#BBBBBB",
    "between": "#E5C04B",
    "unconverged": "#000000",
    "no reference": "#FFFFFF",
}
_T = r"noise variance $t$ [data units$^2$]"


def _by_rank(data: Any) -> list[str]:
    """The colour of each sorted value: the largest belong to the normal directions in the population."""
    return [
        _COLOURS[n]
        for n, d in reversed(list(zip(data["subspace"].values, data["dimension"].values, strict=True)))
        for _ in range(int(d))
    ]


def _ranked(ax: Any, t: np.ndarray, values: np.ndarray, colours: list[str]) -> None:
    for i, colour in enumerate(colours):
        ax.plot(t, values[:, i], color=colour, lw=0.6, alpha=0.7)


def _control(ax: Any, t: np.ndarray, exact: np.ndarray) -> None:
    for k, colour in enumerate(_COLOURS.values()):
        ax.plot(t, exact[:, k], color=colour, lw=4.5, alpha=0.22, solid_capstyle="butt")


def state_strip(ax: Any, t: np.ndarray, labels: np.ndarray, low: float, high: float) -> None:
    """One row of colours a replica along the bottom: what the network is at each noise level."""
    middle = np.sqrt(t[1:] * t[:-1])
    edges = np.concatenate([[t[0] ** 1.5 / t[1] ** 0.5], middle, [t[-1] ** 1.5 / t[-2] ** 0.5]])
    height = (high - low) / len(labels)
    for r, row in enumerate(labels):
        for i, label in enumerate(row):
            ax.fill_between(
                edges[i : i + 2],
                low + r * height,
                low + (r + 1) * height,
                color=to_rgba(STATE_COLOURS[str(label)]),
                lw=0,
            )


def _grid(data: Any, titles: list[str], width: float = 3.0):
    sizes = [int(P) for P in data["P"].values]
    fig = Figure(figsize=(width * len(titles) + 0.4, 2.35 * len(sizes) + 1.5))
    axes = fig.subplots(len(sizes), len(titles), sharex=True, squeeze=False)
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=9)
    for ax in axes[-1]:
        ax.set_xlabel(_T, fontsize=8.5)
    for ax in axes.flat:
        ax.set_xscale("log")
        ax.grid(alpha=0.25, lw=0.5)
    return fig, axes, sizes


def _names(data: Any) -> list[Line2D]:
    texts = {"high": "high variance", "low": "low variance", "rest": "normal directions"}
    variances = dict(zip(data["subspace"].values, data["variance"].values, strict=True))
    return [Line2D([], [], color=c, lw=2, label=f"{texts[n]}, {variances[n]:g}") for n, c in _COLOURS.items()]


def _states(data: Any) -> list[Patch]:
    seen = {str(label) for label in data["loss_label"].values.flat}
    return [
        Patch(facecolor=colour, edgecolor="0.6", lw=0.5, label=f"network: {name}")
        for name, colour in STATE_COLOURS.items()
        if name in seen
    ]


def spectra_figure(data: Any, label: str = "") -> Figure:
    r"""Eigenvalues of :math:`-tJ` against t: theory, networks and empirical scores, at fresh and at noised training points."""
    t = data["t"].values
    titles = [
        "theory at fresh points\n(frozen level)",
        "trained network\nfresh points",
        "empirical score\nfresh points",
        "trained network\nnoised training points",
        "empirical score\nnoised training points",
    ]
    with style():
        fig, axes, sizes = _grid(data, titles)
        colours = _by_rank(data)
        for row, P in zip(axes, sizes, strict=True):
            part = data.sel(P=P)
            for k, colour in enumerate(_COLOURS.values()):
                row[0].plot(t, part["frozen_value"].values[:, k], color=colour, lw=1.8)
            _control(row[0], t, data["exact_value"].sel(kind="fresh").values)
            for ax, (who, kind) in zip(
                row[1:], [(w, k) for k in ("fresh", "typical") for w in ("network", "empirical")], strict=True
            ):
                _control(ax, t, data["exact_value"].sel(kind=kind).values)
                _ranked(ax, t, part[f"{who}_eigenvalue"].sel(kind=kind).mean("replica").values, colours)
                mean = part[f"{who}_value"].sel(kind=kind).mean("replica").values
                for k, colour in enumerate(_COLOURS.values()):
                    ax.plot(t, mean[:, k], color=colour, lw=1.8, ls="--")
                if who == "network":
                    state_strip(ax, t, part["loss_label"].values, -0.17, -0.07)
            row[0].set_ylabel(f"P = {P:,}\n" + r"eigenvalues of $-tJ$")
            for ax in row:
                ax.set_ylim(-0.19, 1.25)
        handles = [
            *_names(data),
            Line2D([], [], color="0.5", lw=4.5, alpha=0.35, label="population (P → ∞)"),
            Line2D([], [], color="k", lw=0.7, label="sorted eigenvalues, colour by rank"),
            Line2D([], [], color="k", lw=1.8, ls="--", label="mean over the subspace itself"),
            *_states(data),
        ]
        fig.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=8.5)
        fig.suptitle(
            f"{label + ': ' if label else ''}1 = direction of pure noise, 0 = direction inside the data", fontsize=10
        )
    return fig


def frame_figure(data: Any, label: str = "") -> Figure:
    """The authors' estimator: singular values of the score on the frame at the centre, over the largest."""
    t = data["t"].values
    titles = ["authors' theory\n(Gaussian REM, heuristic)", "trained network", "empirical score", "population (P → ∞)"]
    with style():
        fig, axes, sizes = _grid(data, titles)
        colours = _by_rank(data)
        for row, P in zip(axes, sizes, strict=True):
            part = data.sel(P=P)
            for k, colour in enumerate(_COLOURS.values()):
                row[0].plot(t, part["heuristic"].values[:, k], color=colour, lw=1.8)
                row[0].axvline(float(part["predicted_time"].sel(level="gaussian-rem")[k]), color=colour, ls=":", lw=1)
            _ranked(row[1], t, part["network_frame"].mean("replica").values, colours)
            _ranked(row[2], t, part["empirical_frame"].mean("replica").values, colours)
            _ranked(row[3], t, data["exact_frame"].values, colours)
            row[0].set_ylabel(f"P = {P:,}\nsingular value / largest")
            for ax in row:
                ax.set_ylim(-0.05, 1.1)
        fig.legend(handles=_names(data), loc="outside lower center", ncols=3, fontsize=8.5)
        fig.suptitle(
            f"{label}. Frame at the centre of the data, singular values by rank; dotted: the heuristic's times",
            fontsize=10,
        )
    return fig


def departure_figure(data: Any, label: str = "") -> Figure:
    """Mean squared distance of the network from the empirical and from the population score, by subspace, t and training step."""
    from matplotlib import colormaps

    t, steps = data["t"].values, data["step"].values
    shades = [colormaps["viridis"](x) for x in np.linspace(0.92, 0.0, len(steps))]
    columns = [(ref, k) for ref in ("empirical", "population") for k in ("high", "low", "rest")]
    words = {"high": "high variance", "low": "low variance", "rest": "normal directions"}
    titles = [f"from the {ref}{' score' if ref == 'empirical' else ''}\n{words[k]}" for ref, k in columns]
    with style():
        fig, axes, sizes = _grid(data, titles, width=2.7)
        for row, P in zip(axes, sizes, strict=True):
            for ax, (ref, k) in zip(row, columns, strict=True):
                values = data["departure"].sel(P=P, reference=ref, subspace=k)
                for step, shade in zip(steps, shades, strict=True):
                    one = values.sel(step=step)
                    ax.plot(t, one.mean("replica").values, color=shade, lw=1.4)
                ax.fill_between(
                    t, one.min("replica").values, one.max("replica").values, color=shades[-1], alpha=0.25, lw=0
                )
                ax.set_yscale("log")
                ax.set_ylim(1e-4, 300)
            row[0].set_ylabel(f"P = {P:,}\n" + r"$t\,\langle(s-s_{ref})_k^2\rangle/d_k$")
        handles = [Line2D([], [], color=c, lw=2, label=f"step {s:,}") for s, c in zip(steps, shades, strict=True)]
        fig.legend(handles=handles, loc="outside lower center", ncols=len(steps), fontsize=8.5)
        fig.suptitle(
            f"{label}. Departure of the network, in units of the noise: the excess denoising loss by subspace; "
            "from the empirical score at noised training points, from the population's at noised fresh points",
            fontsize=9.5,
        )
    return fig


def convergence_figure(data: Any, label: str = "") -> Figure:
    """Denoising losses per noise level on training and on fresh points: network, empirical score, population."""
    t = data["t"].values
    styles = {"network": ("k", "-"), "empirical": ("#C44E52", "--"), "population": ("#55A868", "-.")}
    words = {"empirical": "empirical score", "population": "population's score", "network": "network"}
    with style():
        fig, axes, sizes = _grid(data, ["on training points", "on fresh points"], width=4.2)
        for row, P in zip(axes, sizes, strict=True):
            part = data.sel(P=P)
            for ax, where in zip(row, ("training", "fresh"), strict=True):
                for who, (colour, dash) in styles.items():
                    for r in range(part.sizes["replica"]):
                        at = part.isel(replica=r).sel(where=where)
                        y, e = at[f"loss_{who}"].values, at[f"loss_{who}_error"].values
                        ax.errorbar(t, y, e, color=colour, ls=dash, lw=1.2, elinewidth=0.8)
                ax.set_yscale("log")
                ax.set_ylim(2e-3, 30)
                state_strip(ax, t, part["loss_label"].values, 2.1e-3, 3.6e-3)
            row[0].set_ylabel(f"P = {P:,}\n" + r"$E|D-\xi|^2/(Nt)$")
        handles = [Line2D([], [], color=c, ls=d, label=words[w]) for w, (c, d) in styles.items()]
        fig.legend(handles=[*handles, *_states(data)], loc="outside lower center", ncols=4, fontsize=8.5)
        fig.suptitle(f"{label}\nDenoising loss of each replica against the two exact references", fontsize=10)
    return fig


def nonlinear_figure(data: Any) -> Figure:
    """Curved manifolds: sorted eigenvalues at fresh and at noised training points, network, empirical score and control."""
    t, D = data["t"].values, int(data.attrs["D"])
    jobs = [(a, P) for a in data["activation"].values for P in data["P"].values]
    columns = [(who, kind) for kind in ("fresh", "typical") for who in ("network", "empirical", "control")]
    words = {"network": "trained network", "empirical": "its empirical score", "control": "score of many points"}
    places = {"fresh": "fresh points", "typical": "noised training points"}
    with style():
        fig = Figure(figsize=(2.7 * len(columns) + 0.4, 2.1 * len(jobs) + 1.4))
        axes = fig.subplots(len(jobs), len(columns), sharex=True, squeeze=False)
        for row, (a, P) in zip(axes, jobs, strict=True):
            part = data.sel(activation=a, P=P)
            for ax, (who, kind) in zip(row, columns, strict=True):
                values = part[who].sel(kind=kind).mean("replica").values
                ax.plot(t, values[:, :-D], color=_COLOURS["rest"], lw=0.6, alpha=0.8)
                ax.plot(t, values[:, -D:], color=_COLOURS["high"], lw=0.7)
                if who == "control":
                    few = t[part["shared"].sel(kind=kind).median("replica").values < 30]
                    if len(few):
                        ax.axvspan(t[0], few.max(), color="0.6", alpha=0.25, lw=0)
                if who == "network":
                    state_strip(ax, t, part["loss_label"].values, -0.17, -0.07)
                ax.set_xscale("log")
                ax.set_ylim(-0.19, 1.25)
                ax.grid(alpha=0.25, lw=0.5)
            row[0].set_ylabel(f"{a}, P = {int(P):,}\n" + r"eigenvalues of $-tJ$")
        for ax, (who, kind) in zip(axes[0], columns, strict=True):
            ax.set_title(f"{words[who]}\n{places[kind]}", fontsize=9)
        for ax in axes[-1]:
            ax.set_xlabel(_T, fontsize=8.5)
        handles = [
            Line2D([], [], color=_COLOURS["high"], label=f"{D} lowest (latent dimension {D})"),
            Line2D([], [], color=_COLOURS["rest"], label="the others"),
            Patch(color="0.6", alpha=0.25, label="fewer than 30 points share the control's weight"),
            *_states(data),
        ]
        fig.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8.5)
    return fig
