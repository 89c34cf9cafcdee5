"""From counts, audits and signals to rows with errors and nulls, and to the tables that are written beside them.

Every statistic is taken network by network. The error of its mean over networks is that of their spread, widened to Student's t
(`replica_error`); the note has the plain standard error, the mean bootstrap error over images or samples, and the permutation p.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from validation.experiments.copied_images.probes import COMPETITORS, SIGNS
from validation.experiments.copied_images.ranking import (
    area_under_curve,
    bootstrap_error,
    partial_correlation,
    permutation_p,
    rank_correlation,
)
from validation.experiments.shared import Row, replica_error
from validation.simulation import Prediction, judge

__all__ = ["PREDICTORS", "RULES", "TARGETS", "conclude", "copied_area", "image_table", "ranked", "signal_table"]

PREDICTORS = ("t_c", "neighbour", "norm", "shuffled")
TARGETS = ("copies", "first", "copies, fixed radius", "first, fixed radius", "ideal")
RULES = {"ratio < 1/3": "copied", "one radius": "copied, fixed radius"}
_WORDS = {
    "t_c": "t_c",
    "neighbour": "distance to the nearest other image",
    "norm": "distance from the mean image",
    "shuffled": "t_c, shuffled",
}
_HALF, _TOLERANCE = 0.5, 0.1  # no order, and what is told apart from it: 0.45 to 0.55
_LITTLE = 5  # copies and other samples, or copied and other images, below which an AUC says nothing


def conclude(curves: xr.Dataset) -> tuple[list[Row], dict[str, xr.Dataset]]:
    """Rows of all three questions, and tables `ranking`, `audits`, `signals`."""
    ranking, audits, signals = ranked(curves), _audits(curves), signal_table(curves)
    rows = [*_ranking_rows(ranking), *_audit_rows(curves, audits), *_signal_rows(signals)]
    return rows, {"ranking": ranking, "audits": audits, "signals": signals}


# --- images -----------------------------------------------------------------------------------------------------------


def image_table(curves: xr.Dataset, member: int) -> dict[str, np.ndarray]:
    """Columns over the images of one network, groups of near-duplicates as one image.

    t_c, neighbour, norm, shuffled; `copies` of it among all samples of all snapshots; `first`, the rank of the snapshot of its
    first copy, negative so that early is large; `copied`, at the snapshot where nearest to half of the images are; these by one
    radius for all images (`close` of `copies_of`); `ideal`, copies among samples of the empirical score.
    """
    at = curves.isel(member=member)
    known = np.isfinite(at["t_c"].values) & (at["rest"].fillna(1).values == 0)
    image = np.arange(at.sizes["image"])
    steps = at.sizes["step"]

    def counts(rule: str, nearest: str, samples: str) -> np.ndarray:
        """(step, image)"""
        found = np.stack([at[name].values.reshape(-1, at.sizes[samples]) for name in (rule, nearest)]).astype(int)
        return np.stack([np.bincount(n[r == 1], minlength=len(image)) for r, n in zip(*found, strict=True)])

    columns = {name: at[name].values for name in PREDICTORS}
    for rule, words in (("copy", ""), ("close", ", fixed radius")):
        by_step = counts(rule, "nearest", "sample")
        seen = by_step > 0
        half = np.abs(seen[:, known].mean(axis=1) - 0.5).argmin()
        columns |= {
            f"copies{words}": by_step.sum(axis=0),
            f"first{words}": -np.where(seen.any(axis=0), seen.argmax(axis=0), steps),
            f"copied{words}": seen[half],
        }
    columns["ideal"] = counts("ideal_copy", "ideal_nearest", "ideal_sample").sum(axis=0)
    return {name: values[known] for name, values in columns.items()}


def ranked(curves: xr.Dataset) -> xr.Dataset:
    """Rank correlations (predictor, target, member) with permutation p over networks of one P, partial ones given the neighbour's
    distance, and AUCs of `copied` (predictor, rule, member), with bootstrap errors."""
    images = [image_table(curves, m) for m in range(curves.sizes["member"])]
    shape = (len(PREDICTORS), len(TARGETS), len(images))
    rho, error, partial = np.full((3, *shape), np.nan)
    auc, auc_error = np.full((2, len(PREDICTORS), len(RULES), len(images)), np.nan)
    for m, table in enumerate(images):
        for i, predictor in enumerate(PREDICTORS):
            a = table[predictor]
            for j, target in enumerate(TARGETS):
                rho[i, j, m] = rank_correlation(a, table[target])
                error[i, j, m] = bootstrap_error(rank_correlation, (a, table[target]), seed=m)
                if predictor != "neighbour":
                    partial[i, j, m] = partial_correlation(a, table[target], table["neighbour"])
            for j, rule in enumerate(RULES.values()):
                auc[i, j, m] = copied_area(table, predictor, rule)
                auc_error[i, j, m] = bootstrap_error(area_under_curve, (a, table[rule]), seed=m)
    P = curves["P"].values
    p = np.full((len(PREDICTORS), len(TARGETS), len(images)), np.nan)
    for size in np.unique(P):
        for i, predictor in enumerate(PREDICTORS):
            for j, target in enumerate(TARGETS):
                pairs = [(images[m][predictor], images[m][target]) for m in np.flatnonzero(size == P)]
                p[i, j, size == P] = permutation_p(pairs)
    axes = ("predictor", "target", "member")
    return xr.Dataset(
        {
            "rho": (axes, rho),
            "rho_error": (axes, error),
            "rho_given_neighbour": (axes, partial),
            "p_over_networks": (axes, p),
            "auc": (("predictor", "rule", "member"), auc),
            "auc_error": (("predictor", "rule", "member"), auc_error),
            "images": ("member", [len(table["t_c"]) for table in images]),
            "copied": (("rule", "member"), [[int(table[rule].sum()) for table in images] for rule in RULES.values()]),
        },
        {"predictor": list(PREDICTORS), "target": list(TARGETS), "rule": list(RULES), "P": ("member", P)},
    )


def copied_area(table: dict[str, np.ndarray], predictor: str, rule: str) -> float:
    """AUC of a number of each image for `rule`, "copied" or that with one radius; NaN with fewer than five of either kind."""
    copied = table[rule]
    few = min(copied.sum(), (~copied).sum()) < _LITTLE
    return float("nan") if few else float(area_under_curve(table[predictor], copied))


def _ranking_rows(ranking: xr.Dataset) -> list[Row]:
    rows = []
    for P in np.unique(ranking["P"].values):
        part = ranking.isel(member=np.flatnonzero(ranking["P"].values == P))
        for target in TARGETS:
            for predictor in PREDICTORS:
                at = part.sel(predictor=predictor, target=target)
                note = f"rank correlation {_told(at['rho'].values, at['rho_error'].values, 'images')}"
                note += f", permutation p {float(at['p_over_networks'][0]):.2g}"
                partial = at["rho_given_neighbour"].values
                if np.isfinite(partial).any():
                    note += f"; with the neighbour's distance taken out {_told(partial)}"
                quantity = f"concordance (1 + rho)/2 of {_WORDS[predictor]} with {_targets(target)}"
                rows.append(_row(quantity, f"P = {P}", (1 + at["rho"].values) / 2, note))
        for rule in RULES:
            for predictor in PREDICTORS:
                at = part.sel(predictor=predictor, rule=rule)
                note = f"AUC {_told(at['auc'].values, at['auc_error'].values, 'images')}"
                note += f"; {at['copied'].values.tolist()} of {at['images'].values.tolist()} images copied"
                quantity = f"AUC of {_WORDS[predictor]} for copied at all, {rule}"
                rows.append(_row(quantity, f"P = {P}", at["auc"].values, note))
    return rows


def _targets(target: str) -> str:
    return {
        "copies": "the number of copies",
        "first": "how early it is first copied",
        "copies, fixed radius": "the number of copies within one radius for all images",
        "first, fixed radius": "how early it is first copied within one radius for all images",
        "ideal": "the number of copies by the empirical score (control)",
    }[target]


# --- audits -----------------------------------------------------------------------------------------------------------

_NUMBERS = (
    "called", "called_null", "below", "below_null", "effective", "effective_error", "copying", "authentic", "authentic_null",
)  # fmt: skip


def _audits(curves: xr.Dataset) -> xr.Dataset:
    found = curves[list(_NUMBERS)]
    truth = curves["copy"].mean("sample")
    distinct = np.zeros(truth.shape, dtype=int)
    for k, m in np.ndindex(*truth.shape):
        at = curves.isel({truth.dims[0]: k, truth.dims[1]: m})
        distinct[k, m] = len(np.unique(at["nearest"].values[at["copy"].values == 1]))
    return found.assign(truth=truth, images_copied=(truth.dims, distinct), P=curves["P"])


def _audit_rows(curves: xr.Dataset, audits: xr.Dataset) -> list[Row]:
    """Shares called over shares of copies, pooled over the networks of one P, where at least one sample in twenty is a copy."""
    rows = []
    S = curves.sizes["sample"]
    for P in np.unique(audits["P"].values):
        part = audits.isel(member=np.flatnonzero(audits["P"].values == P))
        ratio, truth = part["called"] / part["truth"], part["truth"]
        for step in part["step"].values:
            at, share = ratio.sel(step=step).values, truth.sel(step=step).values
            some = share >= 0.05
            null = _told(part["called_null"].sel(step=step).values)
            note = f"copies {_told(share)} of {S} samples a network; called of held-out images {null}"
            measured = at[some] if some.any() else np.array([np.nan])
            declared = Prediction("called/copies", 1.0, None, 0.2, "both rules find the same copies")
            verdict = judge(declared, float(measured.mean()), replica_error(measured))
            quantity = "samples called copies, for each with ratio < 1/3"
            rows.append(Row(quantity, f"P = {P}, step {step}", verdict, f"{verdict.reason}; {note}"))
    return rows


# --- signals ----------------------------------------------------------------------------------------------------------


def signal_table(curves: xr.Dataset, *, errors: bool = True) -> xr.Dataset:
    """AUC of every signal for "this sample is a copy" over (probe, sigma, member), with bootstrap errors; see `SIGNS`.

    Of competitors (distances to the training set) and of `norm` too; `shuffled`, the dimension of other samples, is the null.
    """
    names = [*SIGNS, *COMPETITORS, "shuffled"]
    shape = (len(names), curves.sizes["sigma"], curves.sizes["member"])
    auc, error = np.full((2, *shape), np.nan)
    marked = curves["judged_copy"].transpose("member", "judged").values == 1
    rng = np.random.default_rng(0)
    for i, name in enumerate(names):
        values = curves["signal"].sel(probe="dimension" if name == "shuffled" else name)
        values = SIGNS.get(name, -1) * values.transpose("sigma", "member", "judged").values
        values = rng.permuted(values, axis=2) if name == "shuffled" else values
        for k, m in np.ndindex(*shape[1:]):
            if min(marked[m].sum(), (~marked[m]).sum()) >= _LITTLE:
                auc[i, k, m] = area_under_curve(values[k, m], marked[m])
                error[i, k, m] = (
                    bootstrap_error(area_under_curve, (values[k, m], marked[m]), seed=m) if errors else np.nan
                )
    axes = ("probe", "sigma", "member")
    coords = {"probe": names, "sigma": curves["sigma"].values, "P": ("member", curves["P"].values)}
    share = ("member", marked.mean(axis=1))
    return xr.Dataset({"auc": (axes, auc), "auc_error": (axes, error), "copies": share}, coords)


def _signal_rows(signals: xr.Dataset) -> list[Row]:
    rows = []
    for P in np.unique(signals["P"].values):
        part = signals.isel(member=np.flatnonzero(signals["P"].values == P))
        copies = ", ".join(f"{share:.2f}" for share in part["copies"].values)
        for name in part["probe"].values.tolist():
            for k, sigma in enumerate(part["sigma"].values):
                if k and name in ("norm", *COMPETITORS):
                    continue  # they ask no network
                at = part.sel(probe=name).isel(sigma=k)
                note = f"AUC {_told(at['auc'].values, at['auc_error'].values, 'samples')}; share of copies {copies}"
                where = "" if name in ("norm", *COMPETITORS) else f", sigma = {sigma:.2g}"
                rows.append(_row(f"AUC of {name} for a copy", f"P = {P}{where}", at["auc"].values, note))
    return rows


# --- words ------------------------------------------------------------------------------------------------------------


def _row(quantity: str, model: str, values: np.ndarray, note: str) -> Row:
    values = values[np.isfinite(values)]
    declared = Prediction(quantity, _HALF, None, _TOLERANCE, "no order")
    mean = float(values.mean()) if len(values) else float("nan")
    verdict = judge(declared, mean, replica_error(values))
    return Row(quantity, model, verdict, f"{verdict.reason}; {note}")


def _told(values: np.ndarray, errors: np.ndarray | None = None, over: str = "") -> str:
    known = np.isfinite(values)
    if not known.any():
        return "unknown"
    n = int(known.sum())
    spread = values[known].std(ddof=1) / n**0.5 if n > 1 else float("nan")
    told = f"{values[known].mean():.3f} +- {spread:.3f} ({n} networks)"
    if errors is not None and np.isfinite(errors[known]).any():
        told += f", +- {np.nanmean(errors[known]):.3f} over {over} of one"
    return told
