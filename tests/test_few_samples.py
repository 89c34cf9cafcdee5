"""Two to five training points: every entry is a number, an infinity or "-", and what is no number has its reason in words."""

import math

import numpy as np
import pytest

from numerics.domain import DomainError
from theory import Isotropic
from theory.finite_size import finite_size_times
from validation.audit import audit, audit_facts, audit_tables, write_audit
from validation.data import Dataset, data_dimension, split


def rows(P, N=8, seed=0):
    return np.random.default_rng(seed).standard_normal((P, N)).astype(np.float32)


# --- the exact theory -----------------------------------------------------------------------------------------------------


def test_two_points_never_collapse():
    """The mean weight of one of two points falls to 1/2 only as t grows without bound; of three it crosses 1/2."""
    two, three = (finite_size_times(Isotropic(1.0), P=P, N=8, samples=4) for P in (2, 3))
    for kind in ("onset", "collapse"):
        infinite, number = (getattr(times, kind) for times in (two, three))
        assert (infinite.value, infinite.error, infinite.quadrature) == (math.inf, 0.0, 0.0)
        assert 1 < number.value < 100
    assert 0.1 < two.generalization.value < 10


def test_the_weight_of_one_of_two_points_stays_above_one_half():
    """Simulation of the claim: E w at a noisy and at a clean point over 4000 pairs in 8 dimensions, at three t."""
    rng = np.random.default_rng(1)
    xi, other, noise = rng.standard_normal((3, 4000, 8))
    for t in (1.0, 10.0, 100.0):
        for x in (xi, xi + math.sqrt(t) * noise):
            gap = (np.square(x - other).sum(axis=1) - np.square(x - xi).sum(axis=1)) / (2 * t)
            w = 1 / (1 + np.exp(-gap))
            assert w.mean() - 0.5 > -3 * w.std() / math.sqrt(len(w))
    assert w.mean() < 0.55  # and comes down to it


# --- the commands -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("P", [2, 3, 4, 5])
def test_audit_of_few_training_points(P, tmp_path, monkeypatch):
    monkeypatch.setattr("validation.audit.command.DRAWS", 4)  # only how precise the column of the exact theory is
    found = audit(Dataset(rows(P), "few", (8,), "data units", "a generator", held_out=rows(6, seed=1)))
    assert found.measured.P == P
    for row in found.times:
        assert 0 < row.theory < math.inf
        for estimate in (row.finite, row.twin, row.data):
            if estimate is not None and not math.isfinite(estimate.value):
                assert estimate.reason or estimate is row.finite
        infinite = P == 2 and row.kind != "generalization"
        assert math.isinf(row.data.value) == math.isinf(row.twin.value) == infinite
        if row.finite is not None:
            assert math.isinf(row.finite.value) == infinite
        if infinite:
            assert row.verdict.startswith("infinite: of two training points")
        elif not math.isfinite(row.data.value):
            assert row.verdict.startswith("not measured: ")
    cells = [cell for table in audit_tables(found) for row in table.rows for cell in row]
    assert not {"nan", "inf", "nan ± nan"} & {cell.lower() for cell in cells}
    assert ("∞" in cells) == (P == 2)
    assert any("neighbours" in line for line in audit_facts(found))
    assert all(path.stat().st_size for path in write_audit(found, tmp_path))


def test_audit_of_four_rows_in_all_trains_on_two(monkeypatch):
    monkeypatch.setattr("validation.audit.command.DRAWS", 4)
    found = audit(Dataset(rows(4), "few", (8,), "data units", "a generator"), twin=False)
    assert (found.measured.P, found.row("collapse").data.value, found.row("collapse").finite.value) == (
        2,
        math.inf,
        math.inf,
    )
    for P in (2, 3):
        with pytest.raises(DomainError, match="at least 4 rows"):
            split(rows(P), None, seed=0)


@pytest.mark.parametrize("P", [2, 3, 4, 5])
def test_dimension_of_few_points(P):
    found = data_dimension(rows(P))
    assert np.isfinite(found.value).tolist() == [P > 2, False, False]
    assert np.isnan(found.error).all()
    assert "mle - (too few points" in found.report()
    assert "nan" not in found.report()
