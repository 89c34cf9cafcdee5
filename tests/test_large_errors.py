"""Errors as large as values: differences over decades are judged on the logarithm, and one outlier does not rule a report."""

import math
from dataclasses import replace

import numpy as np
import pytest

from validation.audit import audit, audit_classes, audit_facts, audit_figure, audit_lines, audit_tables, write_audit
from validation.audit.carriers import find_carriers
from validation.audit.differences import FALSE_ALARM, difference
from validation.audit.rows import NOT_GAUSSIAN, NOT_RESOLVED, TimeRow
from validation.data import Dataset, load
from validation.simulation import Estimate


def _row(data, finite):
    return TimeRow("collapse", 6e7, Estimate(*finite), None, Estimate(*data), 0.0, 63)


@pytest.mark.parametrize(
    ("data", "finite", "verdict"),
    [
        ((0.036, 0.001), (1.3e10, 1.2e10), NOT_RESOLVED),  # was "agree"
        ((0.036, 0.001), (1.3e10, 1e9), NOT_GAUSSIAN),
        ((1.0, 0.8), (1.0, 0.01), NOT_RESOLVED),
        ((1e-30, 1e-32), (1e30, 1e28), NOT_GAUSSIAN),
        ((1.3e10, 1e8), (1.3e10, 1e8), "agree at this size"),
    ],
)
def test_verdicts_over_decades(data, finite, verdict):
    assert _row(data, finite).verdict == verdict


def test_the_units_of_the_data_do_not_matter():
    for scale in (1e-20, 1.0, 1e20):
        a, b = Estimate(1.2 * scale, 0.03 * scale), Estimate(scale, 0.05 * scale)
        assert difference(a, b).distance == pytest.approx(math.log(1.2))
        assert difference(a, b).reach == pytest.approx(difference(b, a).reach)


def test_the_stated_rate_of_false_alarms():
    """Two equal numbers with errors from 5 and 40 samples: beyond `reach` in at most `FALSE_ALARM`/4 of all cases."""
    rng, n, calls, gaussian = np.random.default_rng(0), 6000, 0, 0
    for _ in range(n):
        few, many = (1000 + rng.standard_normal(size) * math.sqrt(size) for size in (5, 40))
        a, b = (Estimate(float(p.mean()), float(p.std(ddof=1) / math.sqrt(p.size))) for p in (few, many))
        found = difference(a, b, degrees=(4, 39))
        calls += found.distance > found.reach
        gaussian += found.distance > difference(a, b).reach
    rate = FALSE_ALARM / 4
    assert calls / n < rate + 5 * math.sqrt(rate / n)
    assert gaussian > 2 * calls + 5  # negative control: the Gaussian quantile


@pytest.fixture(scope="module")
def with_outlier():
    X = np.random.default_rng(0).standard_normal((400, 12))
    X[17, 3] = 1e8
    files = tuple(f"face_{i:04d}.png" for i in range(400))
    data = Dataset(X.astype(np.float32), "made", (12,), "data units", "a test", files=files)
    return audit(data, probes=100, finite_size=False)


def test_one_outlier_does_not_rule_the_report(with_outlier):
    """All numbers are those of the other rows, whose variance is 1."""
    result = with_outlier
    assert result.carriers.rows == (17,)
    assert result.spectrum.mean_variance == pytest.approx(1.0, abs=0.1)
    assert all(row.verdict.startswith("agree") for row in result.times)
    assert all(row.theory < 10 for row in result.times)
    assert result.measured.P == 360  # 399 less the tenth that is held out


def test_an_outlier_rules_neither_classes_nor_the_sentences(with_outlier):
    """Classes are those of the rows that are left; single points keep the outlier, and the text says so."""
    result = with_outlier
    typical = result.typical
    assert (typical.P, typical.files[17]) == (399, "face_0018.png")
    labelled = replace(result.data, labels=np.arange(400) % 2)
    assert labelled.without((17,)).labels.tolist() == np.delete(np.arange(400) % 2, 17).tolist()
    rows = audit_classes(labelled.without(result.carriers.rows), t=result.measured.t, probes=32)
    assert all(0.1 < row.theory < 10 for row in rows)
    assert (
        max(row.theory for row in audit_classes(labelled, t=result.measured.t, probes=32)) > 1e3
    )  # control: with the outlier
    said = " ".join(audit_facts(result))
    assert "but for the duplicates, the list of single points and the last table" in said


def test_the_report_names_the_row_and_shows_the_numbers_with_it(with_outlier, tmp_path):
    text = " ".join(audit_facts(with_outlier))
    assert "Row 17 (face_0017.png) carries the covariance: 100 % of all squared distances" in text
    # with the row the theory is about it alone, and no verdict says "agree"
    assert all(row.theory > 1e5 for row in with_outlier.all_rows)
    assert not any(row.verdict.startswith("agree") for row in with_outlier.all_rows)
    assert "with row 17 (face_0017.png)" in audit_tables(with_outlier)[-1].caption
    assert tmp_path / "audit-times-all-rows.csv" in write_audit(with_outlier, tmp_path)
    assert audit_figure(with_outlier)
    assert list(audit_lines(with_outlier))


@pytest.mark.parametrize("P", [8, 20, 100, 3000])
@pytest.mark.parametrize("far", [30.0, 1e8])
def test_outliers_are_found_even_two_at_one_place(P, far):
    X = np.random.default_rng(P).standard_normal((P, 5))
    X[[2, 5]] = far * math.sqrt(max(1, P / 100)) * np.ones(5)
    assert set(find_carriers(X).rows) == {2, 5}


@pytest.mark.parametrize("P", [6, 12, 40, 600])
def test_gaussian_rows_carry_nothing(P):
    """In one direction, where squared distances spread most: at most 1 of 1000 data sets (600 here, at most 5: 1e-4)."""
    rng = np.random.default_rng(P)
    assert sum(len(find_carriers(rng.standard_normal((P, 1)))) > 0 for _ in range(600)) <= 5


@pytest.mark.parametrize("X", [np.zeros((4, 3)), np.eye(6)[:, :1], np.full((50, 2), 1e200), np.ones((3, 1))])
def test_degenerate_rows_carry_nothing(X):
    """Left out, the one row that differs would leave no variance."""
    assert len(find_carriers(X)) == 0


def test_heavy_tails_are_named_and_nothing_is_left_out():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((200, 8)) * (rng.random((200, 1)) ** -2.0)
    found = find_carriers(X)
    assert len(found) > 1
    assert not found.few
    result = audit(Dataset(X, "made", (8,), "data units", "a test"), probes=40, twin=False, finite_size=False)
    assert result.measured.P == 180
    assert result.all_rows is None
    assert any(line.startswith(f"Heavy tails: {len(found)} of 200 rows") for line in audit_facts(result))


def test_a_folder_of_images_knows_the_file_of_each_row(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 255, (4, 4), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    assert load(tmp_path, limit=3, seed=1).file_of(2) in {f"{i}.png" for i in range(6)}
    data = load(tmp_path)
    assert [data.file_of(i) for i in range(6)] == [f"{i}.png" for i in range(6)]
