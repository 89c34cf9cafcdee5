"""The audit: right on Gaussian data, honest on others, and reproducible."""

import math

import numpy as np
import pytest

from numerics.domain import DomainError
from theory import LinearManifold, Spectrum, collapse_time
from validation.audit.command import audit
from validation.audit.measurement import measure
from validation.audit.tables import audit_facts
from validation.data.dataset import Dataset, load
from validation.data.splits import split


def _dataset(X, name="made"):
    return Dataset(X, name, (X.shape[1],), "data units", "a test")


@pytest.fixture(scope="module")
def gaussian():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((3000, 20)) @ np.diag(np.repeat([1.0, 0.3], 10))
    return audit(_dataset(X.astype(np.float32)), probes=400, seed=1)


def test_gaussian_data_are_their_own_twin(gaussian):
    """Data and twin have one law: each time agrees within 5 errors (eight comparisons, false alarm 5e-6)."""
    for row in gaussian.times:
        sigma = math.hypot(row.data.error, row.twin.error)
        # errors are over probes; both training sets are random too, which the factor allows for
        assert abs(row.data.value - row.twin.value) < 5 * 1.5 * sigma, row.kind


def test_the_facts_say_in_words_at_what_noise_the_ideal_denoiser_copies(gaussian):
    collapse = gaussian.row("collapse").data
    sigma = collapse.value**0.5
    noise = f"sigma = {sigma:.3g} ± {collapse.error / (2 * sigma):.1g}"
    words = f"the ideal denoiser of these 2,700 samples copies them below {noise}"
    assert any(words in line for line in audit_facts(gaussian))
    assert not any("samples memorise" in line for line in audit_facts(gaussian))  # no model was measured


def test_nearest_neighbour_law_of_t_g(gaussian):
    """t_g is the mean squared nearest distance per dimension, in the condensed phase."""
    m = gaussian.measured
    assert m.generalization.value == pytest.approx(m.nearest.value, rel=0.15)


def test_heavy_clusters_differ_from_their_twin_and_the_audit_says_so():
    rng = np.random.default_rng(2)
    centres = rng.standard_normal((30, 20)) * 3
    X = centres[rng.integers(0, 30, 2000)] + 0.1 * rng.standard_normal((2000, 20))
    result = audit(_dataset(X.astype(np.float32)), probes=200)
    assert "not Gaussian" in result.row("generalization").verdict
    assert "trust the data" in result.row("generalization").verdict


def test_measurement_matches_brute_force():
    rng = np.random.default_rng(3)
    X, held = rng.standard_normal((40, 5)), rng.standard_normal((10, 5))
    t = np.array([0.1, 1.0, 10.0, 100.0])
    m = measure(X, held, t=t, probes=40, dtype="float64")
    energy = ((held[:, None] - X[None]) ** 2).sum(-1) / 2
    for k, time in enumerate(t):
        z = np.exp(-energy / time)
        assert m.participation.mean[k] == pytest.approx(((z / z.sum(1, keepdims=True)) ** 2).sum(1).mean(), rel=1e-9)
        assert m.cross_entropy.mean[k] == pytest.approx(np.mean(0.5 * np.log(time) - np.log(z.sum(1)) / 5), rel=1e-9)
        clean = np.exp(-((X[:, None] - X[None]) ** 2).sum(-1) / 2 / time)
        assert m.clean_weight.mean[k] == pytest.approx((1 / clean.sum(1)).mean(), rel=1e-9)
    assert m.nearest.value == pytest.approx(2 * energy.min(1).mean() / 5, rel=1e-9)


def test_critical_size_extrapolates_in_P():
    """Where the rest of the sum is made of many points, P_c found from 500 points holds for 4000."""
    rng = np.random.default_rng(4)
    X = rng.standard_normal((4500, 8))
    small = measure(X[:500], X[4000:], probes=500, dtype="float64")
    large = measure(X[:4000], X[4000:], probes=500, dtype="float64")
    t = small.collapse.value * 5
    a, b = small.critical_size(t), large.critical_size(t)
    assert abs(a.value - b.value) < 4 * math.hypot(a.error, b.error)  # false alarm 6e-5
    assert math.hypot(a.error, b.error) < 0.2
    with pytest.raises(DomainError, match="grid"):
        small.critical_size(1e9)


def test_audit_is_reproducible_and_saves(tmp_path):
    from validation.audit.tables import audit_lines, write_audit

    data = load(limit=300)
    a, b = audit(data, probes=50, seed=5), audit(data, probes=50, seed=5)
    assert a.to_dataset().equals(b.to_dataset())
    files = write_audit(a, tmp_path)
    assert {p.name for p in files} == {
        "audit.png",
        "audit.nc",
        "audit-times.csv",
        "audit-sizes.csv",
        "audit-growth.csv",
        "audit-points.csv",
    }
    assert all(p.stat().st_size > 0 for p in files)
    assert any("neighbours: two-nn" in str(line) for line in audit_lines(a))
    assert any("effective dimension" in str(line) for line in audit_lines(a))


def test_theory_column_is_the_theory():
    data = load(limit=400)
    result = audit(data, probes=20, twin=False)
    train, _ = split(data.X, None, seed=0)
    assert result.row("collapse").theory == collapse_time(Spectrum.from_samples(train, debias=True), P=len(train))
    assert result.twin is None


def test_split_is_disjoint_and_complete():
    X = np.arange(100.0)[:, None] * np.ones((1, 2))
    train, held = split(X, None, seed=0)
    assert len(train) == 90
    assert sorted(np.concatenate([train, held])[:, 0]) == list(range(100))
    own = np.zeros((7, 2))
    assert split(X, own, seed=0).held_out is not None
    assert len(split(X, own, seed=0).train) == 100
    with pytest.raises(DomainError, match="at least 4"):
        split(X[:3], None, seed=0)


@pytest.mark.parametrize(
    ("kw", "message"), [({"sigmas": [-1.0]}, "sigmas"), ({"probes": 1}, "probes"), ({"sigmas": [np.nan]}, "sigmas")]
)
def test_bad_arguments(kw, message):
    with pytest.raises(DomainError, match=message):
        audit(load(limit=50), **kw)


def test_model_repr_is_readable():
    assert str(LinearManifold(0.5)) == "LinearManifold(alpha_D=0.5, variances=(1.0,), fractions=(1.0,))"
