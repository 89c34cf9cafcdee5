"""Do signals find copies where one class of a conditional network is a few images, repeated, or do they only tell classes apart?

Several networks, each with another class repeated (`conditional_networks`), are sampled class by class. AUC of every signal for
"this sample is a copy" is taken in three ways, at each network's snapshot with nearest to half of copies in the repeated class:

    within    samples of the repeated class alone, copies against others
    pooled    samples of all classes; beside the AUC of the label "of the repeated class" alone
    classes   the control: samples of the repeated class that are no copies, against those of the other classes
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from numerics.domain import DomainError
from numerics.store import save_dataset
from validation.data import THRESHOLD, load
from validation.experiments.copied_images.conditional_figures import conditional_figure
from validation.experiments.copied_images.conditional_networks import (
    RepeatedClass,
    class_score,
    conditional_snapshots,
    repeated_class,
)
from validation.experiments.copied_images.probes import COMPETITORS, SIGNS, copies_of, drawn, signals_of
from validation.experiments.copied_images.ranking import area_under_curve, bootstrap_error
from validation.experiments.shared import ExperimentResult, Row, counter, provenance, replica_error, save
from validation.simulation import Prediction, judge
from validation.training import NoiseLevels

__all__ = ["CONDITIONAL", "WAYS", "ConditionalPreset", "area_table", "run_conditional"]

CLAIM = "In a conditional network with one repeated class signals of single samples do not show its copies (AUC 1/2)."
WAYS = ("within", "pooled", "classes")
_NOISE = NoiseLevels(0.1, 3.0)
_NETWORK = {
    "layers_per_block": 1,
    "block_out_channels": (24, 48),
    "down_block_types": ("DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D"),
    "norm_num_groups": 8,
    "add_attention": False,
}
_LITTLE = 5  # samples of a kind, below which an AUC says nothing


@dataclass(frozen=True)
class ConditionalPreset:
    """Networks by their repeated class, the sets, the training, and how much is drawn and measured.

    repeated : one class a network; few : its images, each `copies` times; others : images of every other class
    steps : ascending optimiser steps; samples : of the repeated class, of every `other` class; flow : steps of the sampler
    """

    name: str
    repeated: tuple[int, ...] = (3, 8, 0, 5)
    few: int = 10
    copies: int = 10
    others: int = 100
    network: dict[str, Any] = field(default_factory=lambda: dict(_NETWORK))
    steps: tuple[int, ...] = (1000, 1300, 1600, 2000)
    batch: int = 64
    rate: float = 3e-3
    samples: int = 120
    other: int = 20
    flow: int = 16
    sigmas: tuple[float, ...] = (0.1, 0.3, 1.0)
    draws: int = 2
    probes: int = 4


CONDITIONAL = {
    "quick": ConditionalPreset("quick", (3, 8), steps=(1300, 1600), samples=80, other=10, sigmas=(0.3,)),
    "full": ConditionalPreset("full"),
}


def run_conditional(
    preset: str | ConditionalPreset = "quick",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    out: str | os.PathLike | None = None,
    device: str = "cpu",
) -> ExperimentResult:
    """Train the networks on scikit-learn's digits, sample every class, and judge the signals.

    Parameters
    ----------
    preset : "quick" (two networks, minutes), "full" (four) or a `ConditionalPreset`
    seed : int; progress : callable (work done, of all); device : torch device
    out : folder, optional: copied_images_conditional.csv, .nc, .png and copied_images_conditional_auc.csv

    Returns
    -------
    ExperimentResult
        Rows: AUCs against 1/2 with errors over networks. Curves: `copies`, `close` (share by the ratio and by one radius) over
        (step, member, label); `signal` over (member, probe, sigma, judged) with `judged_copy`, `judged_label`.

    Raises
    ------
    DomainError : an unknown preset, classes that are not there or too small, no diffusers installed

    The failure that looks normal: a signal that only tells classes apart has a high pooled AUC. Compare `within` and `classes`.
    """
    if isinstance(preset, str):
        if preset not in CONDITIONAL:
            raise DomainError("preset", preset, f"one of {', '.join(CONDITIONAL)}, or a ConditionalPreset")
        preset = CONDITIONAL[preset]
    started = time.perf_counter()
    dataset = load(None)
    labels = np.asarray(dataset.labels)
    X = torch.from_numpy(np.array(dataset.X, dtype=np.float64)).reshape(len(labels), 1, *dataset.shape)
    sets = [
        repeated_class(X, labels, k, few=preset.few, copies=preset.copies, others=preset.others, seed=1000 * seed + m)
        for m, k in enumerate(preset.repeated)
    ]
    step = counter(progress, len(sets) * (preset.steps[-1] + len(preset.steps) + 1))
    found = [_member(data, preset, 1000 * seed + m, device, step) for m, data in enumerate(sets)]
    curves = xr.concat(found, "member")
    curves.attrs = {"threshold": THRESHOLD, "data": "digits", "shape": list(X.shape[1:])}
    table = area_table(curves)
    command = f"validation.experiments.copied_images.run_conditional(preset={preset.name!r}, seed={seed})"
    seconds = round(time.perf_counter() - started, 1)
    made = provenance(command=command, preset=asdict(preset), seed=seed, seconds=seconds)
    rows = [*_share_rows(curves), *_area_rows(table)]
    result = ExperimentResult("copied_images_conditional", CLAIM, rows, curves, made)
    if out is not None:
        save(result, conditional_figure(curves, table), out)
        save_dataset(table, Path(out) / "copied_images_conditional_auc.csv")
    return result


def _member(
    data: RepeatedClass, preset: ConditionalPreset, seed: int, device: str, step: Callable[..., None]
) -> xr.Dataset:
    """One network: shares of copies by class at every snapshot, and signals at that with nearest to half of copies."""
    classes = list(data.distinct)
    rows = torch.cat(list(data.distinct.values())).flatten(1).double().numpy()
    options = {"batch": preset.batch, "rate": preset.rate, "seed": seed, "device": device}
    counts = {k: preset.samples if k == data.repeated else preset.other for k in classes}
    labels = np.repeat(classes, list(counts.values()))
    shares, best = [], None
    networks = conditional_snapshots(data, preset.network, preset.steps, **options, progress=lambda done: step())
    for at, net in networks:
        x = []
        for k, count in counts.items():
            own = data.rows_of(k).flatten(1).double().to(device)
            x.append(drawn(class_score(net, k), own, _NOISE, count, preset.flow, (seed, at, k)).cpu())
        near = copies_of(torch.cat(x).numpy(), rows, device=device)
        shares.append([[near[rule].values[labels == k].mean() for k in classes] for rule in ("copy", "close")])
        gap = abs(shares[-1][0][classes.index(data.repeated)] - 0.5)
        if best is None or gap < best[0]:
            best = (gap, at, net, x, near["copy"].values)
        step()
    assert best is not None
    _, at, net, x, copied = best
    parts = [
        signals_of(
            class_score(net, k),
            own.to(device),
            rows,
            data.fresh[k].flatten(1).double().numpy(),
            preset.sigmas,
            draws=preset.draws,
            probes=preset.probes,
            seed=seed,
            device=device,
        )
        for k, own in zip(classes, x, strict=True)
    ]
    step()
    signal = xr.concat([part.to_dataarray("probe") for part in parts], "sample").rename(sample="judged")
    order = ("probe", "sigma", "judged")
    share = np.array(shares)
    return xr.Dataset(
        {
            "signal": signal.transpose(*order),
            "judged_copy": ("judged", copied),
            "judged_label": ("judged", labels),
            "copies": (("step", "label"), share[:, 0]),
            "close": (("step", "label"), share[:, 1]),
            "repeated": data.repeated,
            "judged_step": at,
        },
        {"step": list(preset.steps), "label": classes},
    )


def area_table(curves: xr.Dataset) -> xr.Dataset:
    """AUC of every signal over (way, probe, sigma, member) with bootstrap errors; of "label", and of "shuffled", the null.

    curves : as of `run_conditional`. Directions are those of `SIGNS`; `shuffled` is the dimension of other samples.
    """
    names = [*SIGNS, *COMPETITORS, "label", "shuffled"]
    found = curves["signal"].transpose("member", "probe", "sigma", "judged")
    auc, error = np.full((2, len(WAYS), len(names), found.sizes["sigma"], found.sizes["member"]), np.nan)
    for m in range(found.sizes["member"]):
        at, rng = found.isel(member=m), np.random.default_rng(m)
        own = (curves["judged_label"] == curves["repeated"]).values[m]
        copied = curves["judged_copy"].values[m] == 1
        ways = {"within": (own, copied), "pooled": (np.full(len(own), True), copied), "classes": (~copied, own)}
        for i, way in enumerate(WAYS):
            among, marked = ways[way][0], ways[way][1][ways[way][0]]
            if min(marked.sum(), (~marked).sum()) < _LITTLE:
                continue
            for j, name in enumerate(names):
                if name == "label":
                    values = np.tile(own.astype(float), (found.sizes["sigma"], 1))
                else:
                    values = SIGNS.get(name, -1) * at.sel(probe="dimension" if name == "shuffled" else name).values
                values = values[:, among]
                values = rng.permuted(values, axis=1) if name == "shuffled" else values
                for k, row in enumerate(values):
                    auc[i, j, k, m] = area_under_curve(row, marked)
                    error[i, j, k, m] = bootstrap_error(area_under_curve, (row, marked), seed=m)
    axes = ("way", "probe", "sigma", "member")
    coords = {"way": list(WAYS), "probe": names, "sigma": curves["sigma"].values}
    return xr.Dataset({"auc": (axes, auc), "auc_error": (axes, error), "repeated": curves["repeated"]}, coords)


# --- rows ---------------------------------------------------------------------------------------------------------------


def _share_rows(curves: xr.Dataset) -> list[Row]:
    """At the judged snapshot: the share of samples that are no copies, in the repeated class and in the others."""
    own = curves["label"] == curves["repeated"]
    at = curves.sel(step=curves["judged_step"])
    asked = (curves["judged_label"] == curves["repeated"]).sum()
    rows = []
    for words, mask, n in (
        ("the repeated class", own, asked),
        ("the other classes", ~own, curves["judged_label"].size - asked),
    ):
        for rule, name in (("copies", "ratio < 1/3"), ("close", "one radius")):
            values = at[rule].where(mask).mean("label").values
            declared = Prediction("share of samples", 1.0, None, 0.02, "no copies")
            error = max(replica_error(values), 1 / int(n))  # none of n is no proof of none
            verdict = judge(declared, 1 - float(values.mean()), error)
            note = f"{verdict.reason}; copies {_told(values)}"
            rows.append(Row(f"share of samples that are no copies, in {words}", name, verdict, note))
    return rows


def _area_rows(table: xr.Dataset) -> list[Row]:
    rows = []
    for way in WAYS:
        for name in table["probe"].values.tolist():
            for k, sigma in enumerate(table["sigma"].values):
                if k and name in ("norm", "label", *COMPETITORS):
                    continue  # they ask no network
                at = table.sel(way=way, probe=name).isel(sigma=k)
                values = at["auc"].values
                where = way if name in ("norm", "label", *COMPETITORS) else f"{way}, sigma = {sigma:.2g}"
                declared = Prediction("AUC", 0.5, None, 0.1, "no order")
                known = values[np.isfinite(values)]
                mean = float(known.mean()) if len(known) else float("nan")
                verdict = judge(declared, mean, replica_error(known))
                note = f"{_told(values)}, +- {_mean(at['auc_error'].values):.3f} over samples of one"
                rows.append(Row(f"AUC of {name}", where, verdict, f"{verdict.reason}; {note}"))
    return rows


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _told(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    if not len(known):
        return "unknown"
    spread = known.std(ddof=1) / len(known) ** 0.5 if len(known) > 1 else float("nan")
    return f"{known.mean():.3f} +- {spread:.3f} ({len(known)} networks)"
