"""Two to five training points: every entry is a number, an infinity or "-", and what is no number has its reason in words."""

import math

import numpy as np
import pytest

from numerics.domain import DomainError
from theory import Isotropic, Spectrum, collapse_time
from theory.finite_size import finite_size_times
from validation.audit import audit, audit_facts, audit_model, audit_tables, report_lines, write_audit
from validation.data import Dataset, data_dimension, split
from validation.spectrum import from_data, reading, spectrum, tables
from validation.training import NoiseLevels, TrainingConfig, train


def rows(P, N=8, seed=0):
    return np.random.default_rng(seed).standard_normal((P, N)).astype(np.float32)


# --- the exact theory -----------------------------------------------------------------------------------------------------


def test_two_points_never_collapse():
    """The mean weight of one of two points falls to 1/2 only as t grows without bound; the optimum stays."""
    two = finite_size_times(Isotropic(1.0), P=2, N=8, samples=2)
    for time in (two.onset, two.collapse):
        assert (time.value, time.error, time.quadrature) == (math.inf, 0.0, 0.0)
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
    monkeypatch.setattr("validation.audit.command.DRAWS", 2)  # only how precise the column of the exact theory is
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
    if P < 4:
        assert all(path.stat().st_size for path in write_audit(found, tmp_path))


def test_audit_of_four_rows_in_all_trains_on_two(monkeypatch):
    monkeypatch.setattr("validation.audit.command.DRAWS", 2)
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


@pytest.mark.parametrize("P", [2, 3, 4, 5])
def test_spectrum_of_few_training_points(P, tmp_path):
    np.save(tmp_path / "few.npy", rows(P + 2))  # two are kept back
    subject = from_data(tmp_path / "few.npy")
    assert subject.P == P
    found = spectrum(subject, np.geomspace(0.05, 20, 5), probes=4)
    at_training_points = found["kept"].sel(place=["noisy", "fresh"])
    assert np.isfinite(at_training_points).all()
    cells = [cell for table in tables(found) for row in table.rows for cell in row]
    assert not any("nan" in cell.lower() or "inf" in cell.lower() for cell in cells)
    assert any("the fewest that make a training set" in line for line in reading(found)) == (P < 4)


def test_training_on_few_points(tmp_path):
    np.save(tmp_path / "few.npy", rows(6))
    config = TrainingConfig(2, 4, 1e-3, noise=NoiseLevels(0.1, 2.0))
    source = {"data": str(tmp_path / "few.npy"), "seed": 0}
    train(source, [2, 3, 4, 5], {"kind": "mlp", "width": 8, "blocks": 1}, config, tmp_path / "net.safetensors")
    found = audit_model(tmp_path / "net.safetensors", points=4)
    assert [P for P, _ in found] == [2, 3, 4, 5]
    for P, losses in found:
        lines = report_lines(P, losses)
        assert np.isfinite(losses["network"].sel(where="training")).all()
        assert "nan" not in "".join(lines)
        assert "- on fresh points: fewer than 2 were kept back." in lines
        assert "population" not in lines[1]  # it is not known, and no column says the linear denoiser's numbers twice
        assert "The population is not known: states compare with the linear denoiser of the training set." in lines


# --- eigenvalues of few samples -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("P", "N"), [(2, 30), (5, 30), (50, 200)])
def test_rounding_of_a_sample_covariance_is_zero(P, N, dtype):
    X = 3e4 * rows(P, N, seed=P).astype(dtype)
    X -= X.mean(axis=0)
    values = np.linalg.eigvalsh(X.T @ X / dtype(P - 1))
    assert values.min() < 0
    assert values.dtype == dtype
    found, exact = Spectrum(values), Spectrum.from_samples(X.astype(np.float64))
    assert found.eigenvalues.min() == 0
    np.testing.assert_allclose(found.eigenvalues, exact.eigenvalues, atol=20 * N * np.finfo(dtype).eps * values.max())
    alpha = math.log(P) / N
    assert collapse_time(found, alpha) == pytest.approx(collapse_time(exact, alpha), rel=2e-3)


def test_negative_eigenvalues_beyond_rounding_are_refused_with_a_remedy():
    for values in ([1.0, -1e-12], np.array([1.0, -1e-5], np.float32), [-1.0, -2.0], [1.0, 0.5, -0.1]):
        with pytest.raises(DomainError, match=r"eigenvalues = -.*>= 0.*Spectrum\.from_samples"):
            Spectrum(values)
