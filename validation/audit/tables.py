"""What an audit says: sentences, tables of times and of sizes, and the files they go into."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numerics.store import save_dataset
from validation import figures
from validation.audit.command import Audit
from validation.audit.figures import audit_figure
from validation.tables import TableData

__all__ = ["audit_facts", "audit_lines", "audit_tables", "ideal_answer", "log_size", "write_audit"]


def _estimate(estimate: Any) -> str:
    if estimate is not None and math.isinf(estimate.value):
        return "∞"
    if estimate is None or not math.isfinite(estimate.value):
        return "-"
    return f"{estimate.value:.4g} ± {estimate.error:.1g}"


_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def log_size(log_p: float) -> str:
    """A number of samples from its logarithm, in words: 4,704 or 2.3 × 10⁶; "-" where it is not finite."""
    if not math.isfinite(log_p):
        return "-"
    if log_p < 14:
        return f"{math.exp(log_p):,.0f}"
    power, fraction = divmod(log_p / math.log(10), 1)
    return f"{10**fraction:.1f} × 10{str(int(power)).translate(_SUPERSCRIPT)}"


def audit_tables(result: Audit) -> list[TableData]:
    """The times, the sizes, what more data buys, the points all of it is made of, and the times with rows left out."""
    times = TableData(
        "Times in VE units t = sigma² (squared data units); sigma and DDPM alpha-bar are those of the measured value.",
        ("time", "theory, N → ∞", "theory at P, N", "Gaussian twin", "measured", "sigma", "alpha-bar", "verdict"),
        [
            (
                row.kind,
                f"{row.theory:.4g}",
                _estimate(row.finite),
                _estimate(row.twin),
                _estimate(row.data),
                f"{row.sigma(row.data.value):.3g}" if math.isfinite(row.data.value) else "-",
                f"{row.alpha_bar(row.data.value):.4g}" if math.isfinite(row.data.value) else "-",
                row.verdict,
            )
            for row in result.times
        ],
        text=(0, 7),
    )
    sizes = TableData(
        "Samples needed so that the ideal score, run down to sigma, has not collapsed.",
        ("sigma", "theory (Gaussian)", "from the data", "note"),
        [
            (
                f"{row.sigma:g}",
                log_size(row.theory),
                ("<= " if row.extrapolated and math.isfinite(row.data.value) else "") + log_size(row.data.value),
                row.note,
            )
            for row in result.sizes
        ],
        text=(3,),
    )
    growth = TableData(
        "What more data buys: collapse noise of the ideal score, predicted by the theory.",
        ("samples", "sigma at collapse"),
        [(f"{factor:,} x {result.measured.P:,}", f"{sigma:.4g}") for factor, sigma in result.growth],
    )
    d, counts = result.duplicates, result.copies.counts()
    points = TableData(
        "Points. Held-out points that the training set has too are left out of every measurement.",
        ("points", "number", "exact copies", "near copies"),
        [
            ("all samples, copies of an earlier one among them", f"{result.data.P:,}", f"{d.exact:,}", f"{d.near:,}"),
            (
                "held out, copies of a training sample among them",
                f"{counts['held_out_looked_at']:,}",
                f"{counts['held_out_exact_copies']:,}",
                f"{counts['held_out_near_copies']:,}",
            ),
        ],
    )
    tables = [times, sizes, growth, points]
    if result.all_rows is not None:
        with_them = TableData(
            f"The times with {carriers_named(result)}; no other time here has {'it' if len(result.carriers) == 1 else 'them'}.",
            ("time", "theory, N → ∞", "theory at P, N", "measured", "verdict"),
            [
                (row.kind, f"{row.theory:.4g}", _estimate(row.finite), _estimate(row.data), row.verdict)
                for row in result.all_rows
            ],
            text=(0, 4),
        )
        tables.append(with_them)
    return tables


def carriers_named(result: Audit) -> str:
    """The rows that carry the covariance, by number and by file where that is known."""
    rows = [
        f"{row}" + (f" ({name})" if (name := result.data.file_of(row)) else "") for row in result.carriers.rows[:10]
    ]
    more = f" and {len(result.carriers) - 10} more" if len(result.carriers) > 10 else ""
    return f"row{'s' if len(result.carriers) > 1 else ''} {', '.join(rows)}{more}"


def _carriers_fact(result: Audit) -> str:
    """What to say of them: outliers are left out, a heavy tail is named."""
    found, named = result.carriers, carriers_named(result)
    share = f"{100 * sum(found.share):.4g} % of all squared distances from the centre"
    if found.few:
        verb = "carries" if len(found) == 1 else "carry"
        return (
            f"{named[0].upper()}{named[1:]} {verb} the covariance: {share}. All numbers here are without "
            f"{'it' if len(found) == 1 else 'them'}, but for the duplicates, the list of single points and the last table."
        )
    return (
        f"Heavy tails: {len(found)} of {result.data.P:,} rows have {share} ({named}). The covariance, and with it theory "
        "and twin, are about these few."
    )


def _covariance_fact(result: Audit) -> str:
    """How well P points know the covariance."""
    collapse, optimum = (100 * result.row(kind).covariance for kind in ("collapse", "generalization"))
    return (
        f"{result.measured.P:,} points know the covariance of {result.measured.N:,} numbers so well that its sampling leaves "
        f"{collapse:.2g} % in the theory's t_c and {optimum:.2g} % in its t_g; the error bars at P, N have it."
    )


def ideal_answer(result: Audit) -> str | None:
    """At what noise the ideal denoiser copies, in words with the error; None where no collapse was measured."""
    found = result.row("collapse").data
    if not math.isfinite(found.value) or found.value <= 0:
        return None
    sigma = math.sqrt(found.value)
    error = f" ± {found.error / (2 * sigma):.1g}" if math.isfinite(found.error) else ""
    return (
        f"the ideal denoiser of these {result.measured.P:,} samples copies them below sigma = {sigma:.3g}{error} (the measured "
        "collapse): there it draws a noisy training point back to itself."
    )


def audit_facts(result: Audit) -> list[str]:
    """What the data are, in sentences."""
    m, data = result.measured, result.data
    facts = [
        f"{data.name}: {data.P:,} samples of {data.N:,} numbers ({' x '.join(map(str, data.shape))}), {data.scale}; from "
        f"{data.source}. {m.P:,} of them are the training set of every measurement here, so alpha = log P / N = "
        f"{result.alpha:.4g}.",
        f"Mean variance per coordinate {result.spectrum.mean_variance:.4g}; effective dimension (participation of the "
        f"covariance eigenvalues) {result.spectrum.effective_dimension:.1f}; {result.duplicates.report()}.",
        f"{result.copies.report()}.",
        f"Nearest training point of a held-out sample: mean squared distance per dimension {_estimate(m.nearest)}. "
        "Theory says that this is the best noise variance t_g, for every kind of data.",
    ]
    facts.insert(2, _covariance_fact(result))
    if result.carriers:
        facts.insert(1, _carriers_fact(result))
    if (told := ideal_answer(result)) is not None:
        facts.append(
            f"In short: {told} How many samples lower noise needs is in the table of sizes. A trained network is not the ideal "
            "denoiser: `--model` measures one, and `geomem samples` what it generates."
        )
    if result.dimension is not None:
        facts.insert(
            3 + bool(result.carriers), f"Dimension seen at the distance of neighbours: {result.dimension.report()}."
        )
    blank = [
        f"the Gaussian twin's {row.kind}: {row.twin.reason}" for row in result.times if row.twin and row.twin.reason
    ]
    if result.duplicates.exact + result.duplicates.near:
        facts.append(
            "Samples that are there more than once share their weight: as a group the ideal score memorises them at higher noise "
            "than the collapse that is measured here, row by row."
        )
    if blank:
        facts.append(f"Note: no number for {'; '.join(blank)}.")
    return facts + [f"Note: {line}" for line in data.dropped]


def audit_lines(result: Audit) -> Iterator[Any]:
    """What the terminal shows: sentences and tables."""
    yield from audit_facts(result)
    yield from (table.shown() for table in audit_tables(result))


def write_audit(result: Audit, folder: Path) -> list[Path]:
    """Figure, curves and tables of an audit into `folder`."""
    written = [folder / "audit.png", folder / "audit.nc"]
    figures.save(audit_figure(result), written[0])
    save_dataset(result.to_dataset(), written[1])
    for name, table in zip(
        ("times", "sizes", "growth", "points", "times-all-rows"), audit_tables(result), strict=False
    ):
        written.append(table.write(folder / f"audit-{name}.csv"))
    return written
