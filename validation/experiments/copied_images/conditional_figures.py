"""Figure: AUC of each signal within the repeated class, over all classes, and for the class itself."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from validation.experiments.copied_images.figures import SIGNALS
from validation.figures import style

__all__ = ["conditional_figure"]

_NAMES = {name: words for name, words in SIGNALS.items() if name not in ("p_value", "shuffled")}
_NAMES |= {"label": "label of the class alone", "shuffled": SIGNALS["shuffled"]}
_WAYS = {
    "within": ("copies within the repeated class", "#D55E00", "o"),
    "pooled": ("copies among samples of all classes", "#0072B2", "s"),
    "classes": ("control: repeated class without its copies,\nagainst the other classes", "0.45", "^"),
}


def conditional_figure(curves: xr.Dataset, table: xr.Dataset, sigma: float = 0.3) -> Figure:
    """Left: share of copies by optimiser step. Right: AUC of each signal in three ways, at the noise nearest to sigma."""
    at = table["auc"].sel(sigma=sigma, method="nearest")
    with style():
        figure = Figure(figsize=(11.2, 4.6), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.7))
        own = (curves["label"] == curves["repeated"]).transpose("member", "label")
        for words, mask, colour in (("repeated class", own, "#D55E00"), ("other classes, mean", ~own, "#0072B2")):
            share = 100 * curves["copies"].where(mask).mean("label").transpose("step", "member").values
            left.plot(curves["step"].values, share, "-", color=colour, lw=0.8, alpha=0.5)
            left.plot(curves["step"].values, share.mean(axis=1), "o-", color=colour, label=words)
        left.set(xlabel="optimiser step", ylabel="samples that are copies [%]", ylim=(-3, 103))
        left.set_title("thin: networks; thick: their mean", loc="left", fontsize=9)
        left.legend(fontsize=8)
        for i, (way, (words, colour, marker)) in enumerate(_WAYS.items()):
            for j, name in enumerate(_NAMES):
                values = at.sel(way=way, probe=name).values
                values = values[np.isfinite(values)]
                if not len(values) or (name == "label" and way != "pooled"):
                    continue
                y = j + 0.22 * (i - 1)
                error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
                label = words if j == 0 else None
                right.errorbar(
                    values.mean(), y, xerr=error, fmt=marker, ms=5, color=colour, ecolor=colour, capsize=2, label=label
                )
        right.axvline(0.5, color="k", lw=0.8, ls=":")
        right.set_yticks(range(len(_NAMES)), list(_NAMES.values()), fontsize=8)
        right.invert_yaxis()
        right.set(xlabel=rf"AUC [1], signals at $\sigma$ = {float(at['sigma']):.2g}", xlim=(0, 1.02))
        right.set_title("bars: standard error over networks", loc="left", fontsize=9)
        figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
        for axis in (left, right):
            axis.grid(alpha=0.25, lw=0.5)
    return figure
