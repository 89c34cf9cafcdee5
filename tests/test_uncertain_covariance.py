"""Covariances that P points do not fix: the population's spectrum from the sample's, its error, and what an audit says of it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from numerics.domain import DomainError
from theory import Spectrum, collapse_time, condensation_time, generalization_time, onset_time
from theory.finite_size import finite_size_times
from theory.models import population_eigenvalues, resampled_spectra
from validation.audit import NOT_GAUSSIAN, NOT_KNOWN, NOT_RESOLVED, GaussianReference, TimeRow, audit, measure
from validation.data import Dataset, split
from validation.simulation import Estimate, Sampler
from validation.spectrum import from_data, spectrum

TIMES = (onset_time, collapse_time, condensation_time, generalization_time)


def _population(kind, N):
    return {
        "isotropic": np.ones(N),
        "power law": np.arange(1, N + 1) ** -1.5,
        "two subspaces": np.repeat([1.0, 0.05], [N // 4, N - N // 4]),
        "linear manifold": np.append(np.linspace(0.3, 2.5, N // 3), np.zeros(N - N // 3)),
    }[kind]


def _samples(r, P, seed):
    return np.random.default_rng(seed).standard_normal((P, r.size)) * np.sqrt(r)


def _log_times(r, P):
    alpha = math.log(P) / len(r)
    return np.array([math.log(time(Spectrum(r), alpha)) for time in TIMES])


def _departures(kind, P, N, estimate, seeds=12):
    """(seeds, 4) log of estimated over true times."""
    r = _population(kind, N)
    return np.array([_log_times(estimate(_samples(r, P, seed)), P) for seed in range(seeds)]) - _log_times(r, P)


@pytest.mark.parametrize("P", [40, 100, 400])
@pytest.mark.parametrize("kind", ["isotropic", "power law", "two subspaces", "linear manifold"])
def test_times_of_the_debiased_spectrum_have_no_bias(kind, P):
    """Over 12 data sets the mean of each time is right within 4.5 of its errors (48 of Student's: false alarm 4%)."""
    found = _departures(kind, P, 100, lambda X: Spectrum.from_samples(X, debias=True).eigenvalues)
    error = found.std(axis=0, ddof=1) / math.sqrt(len(found))
    # 0.015: what the grid of atoms and the asymptotic law leave at N = 100
    assert (np.abs(found.mean(axis=0)) < 4.5 * error + 0.015).all()


@pytest.mark.parametrize("kind", ["isotropic", "two subspaces"])
def test_times_of_the_sample_spectrum_have_one(kind):
    """Negative control of the test above: the sample's own spectrum at P = 40, N = 100 is off by far more."""
    found = _departures(kind, 40, 100, lambda X: Spectrum.from_samples(X).eigenvalues, seeds=6).mean(axis=0)
    assert (np.abs(found[1:]) > [0.07, 0.07, 0.2]).all()


def test_linear_shrinkage_gets_two_subspaces_wrong():
    """Ledoit and Wolf's shrinkage is best for the matrix, not for its spectrum: condensation is off by a fifth."""

    def linear(X):
        return np.maximum(np.linalg.eigvalsh(ledoit_wolf(X)[0]), 0)

    assert abs(_departures("two subspaces", 40, 100, linear, seeds=4)[:, 2].mean()) > 0.2


@pytest.mark.slow  # half a minute
def test_the_bootstrap_gives_the_error_of_the_times():
    """z = (estimated - true)/error over 40 data sets: its mean square is 1 (chi-squared with 40 degrees, 1e-3)."""
    z2, rng = [], np.random.default_rng(3)
    for seed in range(40):
        N, P = int(rng.integers(20, 80)), int(rng.integers(20, 300))
        r = _population(("isotropic", "power law", "two subspaces", "linear manifold")[seed % 4], N)
        found = Spectrum.from_samples(_samples(r, P, seed), debias=True).eigenvalues
        here, alpha = math.log(generalization_time(Spectrum(found), math.log(P) / N)), math.log(P) / N
        again = [math.log(generalization_time(Spectrum(s), alpha)) for s in resampled_spectra(found, P, samples=12)]
        square = np.mean((np.array(again) - here) ** 2)
        z2.append((here - math.log(generalization_time(Spectrum(r), alpha))) ** 2 / square)
    # the error is itself estimated from 12 samples: Student's mean square is 12/10
    assert 0.45 < np.mean(z2) / 1.2 < 1.9


def test_where_P_is_large_the_spectrum_is_the_sample_one():
    X = _samples(_population("power law", 30), 20000, 0)
    sample, found = (Spectrum.from_samples(X, debias=d) for d in (False, True))
    assert np.allclose(_log_times(found.eigenvalues, 20000), _log_times(sample.eigenvalues, 20000), atol=5e-3)
    assert found.mean_variance == pytest.approx(sample.mean_variance, rel=1e-12)


@pytest.mark.parametrize(("P", "N"), [(2, 1), (2, 50), (3, 2), (5, 400), (50, 1), (20, 21)])
def test_any_shape_gives_a_spectrum_of_the_same_trace(P, N):
    X = _samples(np.ones(N), P, 1) * 1e5 - 3e7
    found = Spectrum.from_samples(X, debias=True)
    assert found.N == N
    assert found.mean_variance == pytest.approx(Spectrum.from_samples(X).mean_variance, rel=1e-9)


def test_a_subspace_that_the_points_fill_stays_one():
    """100 points in 7 of 30 directions: the other 23 have no variance, and get none."""
    X = np.pad(_samples(np.ones(7), 100, 2), ((0, 0), (0, 23)))
    assert np.count_nonzero(Spectrum.from_samples(X, debias=True).eigenvalues) == 7


def _audit(X, **options):
    data = Dataset(X.astype(np.float32), "made", (X.shape[1],), "data units", "a test")
    return audit(data, **{"probes": 256, "twin": False, **options})


def test_audit_of_iid_normal_data_agrees_with_the_exact_theory():
    """100 x 200: the plug-in spectrum gave 1.315, "not Gaussian"; the exact theory of the true covariance 1.5991."""
    result = _audit(_samples(np.ones(200), 100, 0))
    row = result.row("generalization")
    assert row.verdict.startswith("agree")
    assert abs(row.finite.value - 1.5991) < 3.5 * row.finite.error  # false alarm 5e-4, seeded
    assert 0.005 < row.covariance < 0.03
    assert row.finite.error > row.covariance * row.finite.value
    assert all(other.verdict.startswith("agree") for other in result.times if other.kind != "condensation")
    # negative control: the same measurement beside the plug-in spectrum, with the errors of before
    plug_in = finite_size_times(result.sample, 90, seed=0, samples=8).generalization
    before = replace(row, finite=Estimate(float(plug_in.value), plug_in.error), covariance=0.0)
    assert before.verdict == NOT_GAUSSIAN


@pytest.fixture(scope="module")
def gaussian_sets():
    """10 Gaussian data sets with P/N from 0.3 to 10: reference, measurement and twin of each."""
    sets = []
    for seed in range(10):
        N, ratio = (60, 40, 30, 20, 12)[seed // 2], (0.3, 0.7, 1.5, 4.0, 10.0)[seed // 2]
        X = _samples(_population(("isotropic", "two subspaces")[seed % 2], N), max(24, int(ratio * N)), seed)
        train, held_out = split(X, None, seed=seed)
        sets.append((train, held_out, GaussianReference.of(train, seed)))
    return sets


def _verdicts(train, held_out, reference, spectrum=None):
    """Of the times beside the twin, without the exact theory, which takes ten times as long."""
    measured = measure(train, held_out, dtype="float64")
    sampler = Sampler(spectrum or reference.spectrum, train.shape[1], 7)
    control = [sampler.sample(n).numpy() for n in (len(train), len(held_out))]
    twin = measure(*control, t=measured.t, dtype="float64")
    return [row.verdict for row in reference.times(measured, twin, len(held_out), finite_size=False)]


def test_gaussian_data_are_called_gaussian(gaussian_sets):
    """At most one of 10 audits may say "not Gaussian", at a rate of 1 % each: false alarm 0.4 %. The bench has 200 of them."""
    assert sum(NOT_GAUSSIAN in _verdicts(*one) for one in gaussian_sets) <= 1


def test_the_sample_spectrum_would_not_do(gaussian_sets):
    """Negative control of the test above: a twin of the plug-in spectrum, without its error, where P < N."""
    wrong = 0
    for train, held_out, reference in gaussian_sets[:4]:
        plain = replace(reference, errors=dict.fromkeys(reference.errors, 0.0))
        wrong += NOT_GAUSSIAN in _verdicts(train, held_out, plain, spectrum=reference.sample)
    assert wrong >= 2


@pytest.mark.parametrize("P", [100, 400])
def test_twelve_clusters_are_not_gaussian(P):
    rng = np.random.default_rng(P)
    X = rng.standard_normal((12, 20))[rng.integers(0, 12, P)] + 0.2 * rng.standard_normal((P, 20))
    train, held_out = split(X, None, seed=0)
    assert NOT_GAUSSIAN in _verdicts(train, held_out, GaussianReference.of(train, 0))


def test_the_gaussian_control_of_spectrum_is_the_population(tmp_path):
    """iid data, 100 x 200, at t = 2: no direction outweighs the noise. By the sample's own spectrum a fifth of them would."""
    np.save(tmp_path / "iid.npy", _samples(np.ones(200), 100, 0))
    subject = from_data(tmp_path / "iid.npy")
    seen = spectrum(subject, [2.0], probes=2).sel(score="gaussian", place="noisy", t=2.0)
    assert float(seen["kept"]) == 0
    assert seen["eigenvalue"].values == pytest.approx(np.full(200, 2 / 3), abs=0.05)
    assert (subject.variances > 2.0).sum() > 30  # negative control


def _row(data, finite, covariance=0.0, degrees=63):
    value, error = finite
    total = math.hypot(error, covariance * value)
    return TimeRow("collapse", value, Estimate(value, total), None, Estimate(*data), covariance, degrees)


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (_row((1.6, 0.02), (1.3, 0.005)), NOT_GAUSSIAN),
        (
            _row((1.6, 0.02), (1.3, 0.005), covariance=0.1),
            NOT_KNOWN,
        ),  # the same numbers, and that may be why they differ
        (_row((1.6, 0.02), (1.3, 0.005), covariance=0.03), NOT_GAUSSIAN),
        (_row((1.6, 0.02), (1.6, 0.005), covariance=0.9), NOT_KNOWN),  # equal, but no difference would be seen
        (_row((1.6, 0.1), (1.3, 0.005), degrees=3), "agree"),  # from 4 probes 3 errors say nothing
        (_row((1.6, 0.1), (1.2, 0.005), degrees=63), NOT_GAUSSIAN),
        (_row((1.6, 1e-4), (1.2, 0.02), covariance=0.02, degrees=1), NOT_RESOLVED),  # two probes that agree by chance
    ],
)
def test_the_verdict_says_whether_the_covariance_is_the_cause(row, verdict):
    assert row.verdict == verdict


def test_bad_input_is_refused_by_name():
    with pytest.raises(DomainError, match="P"):
        population_eigenvalues([1.0, 1.0], P=1)
    with pytest.raises(DomainError, match="at most P - 1"):
        population_eigenvalues(np.ones(5), P=4)
    with pytest.raises(DomainError, match="eigenvalues"):
        population_eigenvalues([0.0, 0.0], P=4)
    with pytest.raises(DomainError, match="samples"):
        list(resampled_spectra([1.0], P=4, samples=0))
