"""The first screen: the answer in words with its number and error, a traffic light and its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from validation.audit import Audit, ideal_answer
from validation.report.page import Answer
from validation.tables import TableData
from validation.training import FACTOR

__all__ = ["QUESTION", "answer_of", "exposed_table", "light_of", "model_words", "samples_words"]

QUESTION = "Does a diffusion model trained on this copy its training set?"
SHOWN = 20
_ORDER = ("green", "amber", "red")


def answer_of(result: Audit, losses: Sequence[tuple[int, Any]] = (), samples: Any | None = None) -> Answer:
    """What was measured, the model first where there is one.

    losses : (P, dataset) of `validation.audit.audit_model`; samples : of `validation.samples.samples`, or None
    """
    words = []
    if samples is not None:
        words.append(samples_words(samples))
    if losses:
        words += [model_words(P, found, result) for P, found in losses]
    told = ideal_answer(result)
    if told is None:
        told = f"the ideal denoiser of these {result.measured.P:,} samples has no collapse that could be measured: "
        told += f"{result.row('collapse').data.reason or 'it memorises at every noise'}."
    words.append(told[0].upper() + told[1:])
    if not losses and samples is None:
        words.append(
            "No model was measured. Networks are not ideal: they often generalise at noise where the ideal denoiser copies. "
            "`--model` measures one, `--samples` what it generated."
        )
    light, reason = light_of(result, losses, samples)
    return Answer(f"{QUESTION[:-1]}: {result.data.name}?", words, light, reason)


def samples_words(samples: Any) -> str:
    """Copies among a model's samples beside the share that fresh points would have."""
    called, false = samples.found.called, samples.found.called_fresh
    low, high = called.interval
    return (
        f"Of {called.total:,} samples of the model {called.count:,} ({100 * called.value:.3g} %, 95 % interval {100 * low:.2g} "
        f"to {100 * high:.2g} %) are copies of training points; of points it cannot have seen {100 * false.value:.2g} % would be "
        f"called so ({samples.found.null})."
    )


def below_collapse(losses: Any, result: Audit) -> Any:
    """The losses at noise where the ideal score of this training set has collapsed."""
    collapse = result.row("collapse").data.value
    return losses.isel(t=np.flatnonzero(losses["t"].values < collapse)) if math.isfinite(collapse) else losses


def remembered(losses: Any, result: Audit) -> np.ndarray:
    """Training over fresh denoising loss of a network at each noise below the collapse: 1 where it remembers no single point."""
    below = below_collapse(losses, result)
    with np.errstate(divide="ignore", invalid="ignore"):
        return below["network"].sel(where="training").values / below["network"].sel(where="fresh").values


def model_words(P: int, losses: Any, result: Audit) -> str:
    """How a network did at the noise where the ideal score has collapsed, in words."""
    below = below_collapse(losses, result)
    sigma = np.sqrt(below["t"].values)
    if not len(sigma):
        return f"The network of {P:,} points knows no noise below the collapse of the ideal score."
    ratio = remembered(losses, result)
    if not np.isfinite(ratio).all():
        return f"The network of {P:,} points has no fresh points beside it: whether it remembers was not measured."
    words = (
        f"Where the ideal score has collapsed (sigma {sigma.min():.2g} to {sigma.max():.2g}) the denoising loss of the network "
        f"of {P:,} points is on training points {ratio.min():.2g} to {ratio.max():.2g} times that on fresh ones."
    )
    own = sigma[below["label"].values == "memorising"]
    if len(own):
        words += f" It has reached the ideal score's training loss at {len(own)} of {len(sigma)} levels "
        words += f"(sigma {own.min():.2g} to {own.max():.2g})."
    return words


def light_of(result: Audit, losses: Sequence[tuple[int, Any]] = (), samples: Any | None = None) -> tuple[str, str]:
    """("red" | "amber" | "green", why).

    Only what was measured on a model makes red or green: red, copies among its samples beyond what fresh points show, or a
    network that has reached the least training loss at noise where the ideal score has collapsed; green, no copies, or a
    network whose loss on training points is, at all those levels, within a tenth of that on fresh points. All else is amber.
    """
    found: list[tuple[str, str]] = []
    if samples is not None:
        called, null = samples.found.called, samples.found.called_fresh.value
        if not called.count:
            found.append(("green", f"none of {called.total:,} samples can be told from fresh data as a copy"))
        elif called.interval[0] > null:
            found.append(("red", f"{called.count:,} of {called.total:,} samples are copies, more than chance gives"))
        else:
            found.append(
                ("amber", f"{called.count:,} of {called.total:,} samples look like copies, as chance could give")
            )
    for P, one in losses:
        ratio = remembered(one, result)
        if "memorising" in below_collapse(one, result)["label"].values:
            found.append(("red", f"the network of {P:,} points has memorised: its training loss is the ideal score's"))
        elif not len(ratio) or not np.isfinite(ratio).all():
            found.append(("amber", f"what the network of {P:,} points remembers was not measured"))
        elif len(ratio) and (ratio >= 1 / FACTOR).all():
            found.append(
                ("green", f"the network of {P:,} points denoises fresh points as well as those it was trained on")
            )
        else:
            found.append(
                (
                    "amber",
                    f"the network of {P:,} points remembers more than fresh points show, not all",
                )
            )
    if not found:
        collapse = result.row("collapse").data.value
        where = f"sigma = {math.sqrt(collapse):.3g}" if math.isfinite(collapse) and collapse > 0 else "all noise"
        return (
            "amber",
            f"Only the ideal score was measured. It copies below {where}, where samplers end; whether a network follows it "
            "depends on its size and training, and was not measured.",
        )
    worst = max(found, key=lambda item: _ORDER.index(item[0]))[0]
    reasons = "; ".join(reason for light, reason in found if light == worst)
    return worst, f"{reasons[0].upper()}{reasons[1:]}."


def exposed_table(points: Any) -> TableData:
    """The points that the ideal score memorises at the highest noise, as rows, where they are no images."""
    p = points.points
    rows = [
        (
            points.data.file_of(int(i)) or f"row {i}",
            f"{p.sigma.values[i]:.3g} ± {p.sigma_error.values[i]:.1g}",
            f"{p.nearest_distance.values[i]:.3g}",
        )
        for i in points.order()[:SHOWN]
    ]
    return TableData(
        "Most exposed: samples that the ideal score memorises at the highest noise.",
        ("sample", "memorised below sigma", "distance to the nearest"),
        rows,
    )
