"""The phase diagram with sliders: a small grid of the theory's times, and the data set as a point in it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from theory.phase_diagram import activation_diagrams, phase_diagram
from validation.audit import Audit

__all__ = ["diagram_html", "diagrams", "place_of"]

LOADS, LATENT = (2e-3, 2.0, 48), (0.02, 2.0, 25)  # least, largest, number: of the linear manifold, fast
FEWER = (5e-3, 2.0, 12), (0.1, 2.0, 6)  # of the nonlinear ones, half a minute each
NAMES = {"linear": "linear manifold", "tanh": "tanh manifold", "relu": "relu manifold"}


def diagrams(activations: Sequence[str] = ("tanh",)) -> dict[str, Any]:
    """By model: the times over load and latent dimension, as `theory.phase_diagram` gives them."""
    found = {"linear": phase_diagram(np.geomspace(*LOADS), np.geomspace(*LATENT))}
    for name in activations:
        grid = (np.geomspace(*axis) for axis in FEWER)
        found[name] = activation_diagrams([name], *grid, kinds=("onset", "collapse"))
    return found


def place_of(result: Audit) -> dict[str, Any] | None:
    """Where an audited data set lies: its load, effective over ambient dimension, measured collapse over its mean variance."""
    found, r = result.row("collapse").data, result.spectrum.mean_variance
    if not math.isfinite(found.value):
        return None
    return {
        "name": result.data.name,
        "alpha": result.alpha,
        "alpha_D": result.spectrum.effective_dimension / result.spectrum.N,
        "t": found.value / r,
        "error": found.error / r if math.isfinite(found.error) else 0.0,
    }


def diagram_html(found: Mapping[str, Any], place: Mapping[str, Any] | None, N: int | None = None) -> Markup:
    """Sliders, two panels and their numbers; the script of the page draws them.

    found : by model, over (alpha_D, alpha), times in squared data units; drawn over the model's variance of the data
    place : of `place_of`; N : numbers a sample has, for P beside the load
    """
    models = {}
    for name, data in found.items():
        data = data.isel(activation=0) if "activation" in data.dims else data
        shift = math.log(float(data["variance"])) if "variance" in data.coords else 0.0
        kinds = [str(v).removeprefix("log_t_") for v in data.data_vars if str(v).startswith("log_t_")]
        models[name] = {
            "alpha": _short(data["alpha"].values),
            "alpha_D": _short(data["alpha_D"].values),
            "log10_t": {
                kind: [
                    _short((row - shift) / math.log(10))
                    for row in data[f"log_t_{kind}"].transpose("alpha_D", "alpha").values
                ]
                for kind in kinds
            },
        }
    numbers = json.dumps({"models": models, "point": place, "N": N}, allow_nan=False).replace("<", "\\u003c")
    first = next(iter(models.values()))
    latent, loads = np.asarray(first["alpha_D"]), np.log10(first["alpha"])
    start = int(np.argmin(np.abs(np.log(latent) - math.log(place["alpha_D"])))) if place else len(latent) // 2
    load = min(max(math.log10(place["alpha"]), loads[0]), loads[-1]) if place else loads.mean()
    options = Markup("").join(
        Markup('<option value="{}">{}</option>').format(name, NAMES.get(name, name)) for name in models
    )
    return Markup(
        '<script type="application/json" id="diagram-data">{numbers}</script>\n'
        '<div class="sliders">'
        '<label>Model<select id="model">{options}</select></label>'
        '<label><span>latent dimension <i>α<sub>D</sub></i> = <output id="latent-value"></output></span>'
        '<input id="latent" type="range" min="0" max="{last}" step="1" value="{start}"></label>'
        '<label><span>load <i>α</i> = <output id="load-value"></output></span>'
        '<input id="load" type="range" min="{low:.4f}" max="{high:.4f}" step="0.01" value="{load:.4f}"></label>'
        "</div>\n"
        '<p>At these, over the variance of the data: <span id="diagram-told"></span>.</p>\n'
        '<div class="panels"><div id="diagram-lines"></div><div id="diagram-map"></div></div>\n'
        "<noscript><p>The sliders need JavaScript; the numbers are in the files beside this page.</p></noscript>"
    ).format(
        numbers=Markup(numbers),
        options=options,
        last=len(latent) - 1,
        start=start,
        low=loads[0],
        high=loads[-1],
        load=load,
    )


def _short(values: np.ndarray) -> list[float | None]:
    return [float(f"{v:.5g}") if math.isfinite(v) else None for v in values.tolist()]
