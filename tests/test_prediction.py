"""From curves to verdicts: estimators, fits, the finite-N drift that predictions declare, and the rule that judges them.

The last tests run the experiment itself in small, with the right formula and with a deliberately wrong one.
"""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from scipy.special import ndtr
from scipy.stats import kstest

from numerics.domain import DomainError
from theory import Isotropic, LinearManifold, Spectrum, basin_radius, collapse_time, generalization_time, onset_time
from theory.finite_size.drift import DRIFTS, finite_size_value
from theory.finite_size.drift_cumulants import Moments
from theory.finite_size.expectations import true_point_weight
from theory.models.hidden import HiddenManifold
from validation.experiments.linear_times import experiment as linear_times
from validation.experiments.shared.result import ExperimentResult, Row
from validation.simulation.extrapolation import TERMS, Form, crossing, extrapolate, jackknife, minimum
from validation.simulation.prediction import Outcome, Prediction, judge

# --- curves -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [-0.9, -0.31, 0.0, 0.77])
def test_crossing_of_a_probit_curve_is_exact(at):
    x = np.linspace(-1, 1, 4)
    assert crossing(x, ndtr(2 * (at - x))) == pytest.approx(at, abs=1e-12)
    assert crossing(x, ndtr(2 * (at - x)), level=ndtr(0.1)) == pytest.approx(at - 0.05, abs=1e-12)


def test_crossing_of_a_logistic_curve_is_accurate_between_few_points():
    x = np.linspace(0.3, 0.9, 4)
    assert crossing(x, 1 / (1 + np.exp(3 * (x - 0.55)))) == pytest.approx(0.55, abs=1e-4)


def test_curves_without_one_crossing_give_nan():
    x = np.linspace(0, 1, 5)
    assert np.isnan(crossing(x, np.full(5, 0.6)))
    assert np.isnan(crossing(x, np.array([0.6, 0.4, 0.6, 0.4, 0.3])))
    assert np.isnan(crossing(x[:3], np.array([0.6, 0.4, 0.3])))
    assert np.isnan(crossing(x, np.array([0.6, 0.5, np.nan, 0.4, 0.3])))
    assert np.isnan(minimum(x, x**2))
    assert minimum(x, (x - 0.4) ** 2) == pytest.approx(0.4)


def test_jackknife_of_the_mean_is_the_standard_error():
    rows = np.random.default_rng(1).normal(size=(128, 3))
    estimate = jackknife([0.0, 1.0, 2.0], rows, lambda x, y: y[1], groups=128)
    assert estimate.value == pytest.approx(rows[:, 1].mean())
    assert estimate.error == pytest.approx(rows[:, 1].std(ddof=1) / 128**0.5)


def test_jackknife_error_covers_a_crossing():
    """z = (estimate - truth)/error over 250 experiments is standard normal (Kolmogorov-Smirnov at 1e-3)."""
    draw = np.random.default_rng(2)
    x = np.linspace(-0.5, 0.5, 4)
    z = []
    for _ in range(250):
        hits = draw.normal(size=(200, 1)) > 3 * (x - 0.1)
        estimate = jackknife(x, hits.astype(float), crossing, groups=40)
        z.append((estimate.value - 0.1) / estimate.error)
    assert kstest(z, "norm").pvalue > 1e-3
    assert kstest(np.array(z) + 0.5, "norm").pvalue < 1e-6  # negative control: half an error off is noticed


def test_jackknife_says_why_there_is_none():
    estimate = jackknife([0.0, 1.0, 2.0, 3.0], np.full((5, 4), 0.9), crossing)
    assert np.isnan(estimate.value)
    assert "no single crossing" in estimate.reason
    with pytest.raises(DomainError, match="R >= 2"):
        jackknife([0.0, 1.0], np.ones((1, 2)), crossing)


# --- fits ---------------------------------------------------------------------------------------------------------------

SIZES = np.array([20.0, 26, 32, 40, 50, 64])


@pytest.mark.parametrize("terms", [("1/N",), ("1/N", "1/N^2"), ("N^-3/2",), ("log N/N", "1/N"), ("log N/N^2",)])
def test_fit_recovers_its_own_form(terms):
    coefficients = [3.0, -7.0][: len(terms)]
    known = 2.0 / SIZES
    y = 0.4 + known + sum(c * TERMS[name](SIZES) for c, name in zip(coefficients, terms, strict=True))
    fit = extrapolate(SIZES, y, 1e-3 * np.ones(6), Form(terms, "2/N"), known)
    assert fit.limit == pytest.approx(0.4, abs=1e-10)
    assert list(fit.coefficients.values()) == pytest.approx(coefficients, rel=1e-9)
    assert fit.chi2 < 1e-12
    assert fit.p_value == pytest.approx(1.0)
    assert np.abs(fit.residual()).max() < 1e-6


def test_errors_covariance_and_chi_squared_are_those_of_the_noise():
    draw = np.random.default_rng(3)
    sigma = np.array([0.01, 0.02, 0.01, 0.03, 0.02, 0.01])
    fits = [extrapolate(SIZES, 1 + 5 / SIZES + sigma * draw.normal(size=6), sigma) for _ in range(2000)]
    limits, slopes = np.array([f.limit for f in fits]), np.array([f.coefficients["1/N"] for f in fits])
    np.testing.assert_allclose(np.cov(limits, slopes), fits[0].covariance, rtol=0.15)
    assert kstest([f.p_value for f in fits], "uniform").pvalue > 1e-3
    # the error is enlarged where the scatter is larger than the errors say, never reduced
    bare = fits[0].covariance[0, 0] ** 0.5
    assert all(f.error == pytest.approx(bare * max(1.0, f.chi2 / f.dof) ** 0.5) for f in fits[:50])


def test_wrong_form_is_rejected():
    fit = extrapolate(SIZES, 1 + 40 / SIZES**2, np.full(6, 2e-3))
    assert fit.p_value < 1e-3


def test_bad_fits():
    with pytest.raises(DomainError, match="at least 3 different sizes"):
        extrapolate([10, 20], [1, 1], [0.1, 0.1])
    with pytest.raises(DomainError, match="equal length"):
        extrapolate([10, 20, 30], [1, 1], [0.1, 0.1, 0.1])
    with pytest.raises(DomainError, match="sigma"):
        extrapolate([10, 20, 30], [1, 1, 1], [0.1, 0.0, 0.1])
    with pytest.raises(DomainError, match="different names among"):
        Form(("1/N", "1/N"))
    with pytest.raises(DomainError, match="different names among"):
        Form(("1/sqrt N",))


# --- the drift that theory declares -------------------------------------------------------------------------------------

LINEAR = LinearManifold(0.5)
LIMITS = {
    "collapse": lambda model, alpha, t: collapse_time(model, alpha),
    "onset": lambda model, alpha, t: onset_time(model, alpha),
    "basin": lambda model, alpha, t: basin_radius(model, alpha, t) ** 2,
    "generalization": lambda model, alpha, t: generalization_time(model, alpha),
}


@pytest.mark.parametrize("kind", DRIFTS)
@pytest.mark.parametrize("model", [Isotropic(1.3), LINEAR, LinearManifold(0.5, variances=[1.0, 0.3])], ids=str)
def test_drift_vanishes_in_the_limit(kind, model):
    t = 1.5 * collapse_time(model, 0.2)
    limit = LIMITS[kind](model, 0.2, t)
    far, farther = (finite_size_value(kind, model, 0.2, N, t=t) / limit - 1 for N in (4e3, 1e6))
    assert abs(farther) < 1e-4
    assert abs(farther) < abs(far) / 50


@pytest.mark.parametrize(("kind", "law"), [("collapse", "noisy"), ("onset", "clean")])
@pytest.mark.parametrize("N", [32, 64])
def test_drift_agrees_with_the_exact_law(kind, law, N):
    """At the declared finite-N value the exact mean weight is 1/2 (isotropic data).

    Allowed: 4 standard errors of the exact mean over draws of x, plus 0.012 for the order left out.
    """
    model, alpha = Isotropic(1.0), 0.2
    t = finite_size_value(kind, model, alpha, N)
    log_P = np.log1p(np.exp(alpha * N))
    exact = true_point_weight(model, log_P=log_P, N=N, t=t, kind=law, samples=64, seed=3)
    assert abs(float(exact.value) - 0.5) < 4 * float(exact.error) + 0.012
    # negative control: at the limit itself it is not, where the drift is large
    if kind == "collapse":
        exact = true_point_weight(model, log_P=log_P, N=N, t=collapse_time(model, alpha), kind=law, samples=64, seed=3)
        assert abs(float(exact.value) - 0.5) > 4 * float(exact.error) + 0.012


def test_moments_of_a_spectrum_are_its_averages():
    r = np.array([2.0, 1.0, 0.5, 0.0])
    m = Moments.of(Spectrum(r), 0.8)
    np.testing.assert_allclose(m.A, [np.mean((r / (r + 0.8)) ** n) for n in range(1, 5)], rtol=1e-7)
    assert m.information == pytest.approx(np.mean(np.log1p(r / 0.8)))
    assert m.loop == m.loop_slope == 0


def test_one_loop_shift_of_the_log_determinant():
    """E log det(1 + F F^T/Dt) - N L(t) of 12 000 real Wishart matrices, within 4.5 standard errors; half of it is not."""
    N, model, t = 24, LinearManifold(0.5, variances=[1.0, 0.3]), 0.4
    draw = np.random.default_rng(5)
    F = draw.normal(size=(12_000, N, 12)) * np.sqrt(np.repeat([1.0, 0.3], 6) / 12)
    values = np.linalg.slogdet(np.eye(12) + F.swapaxes(1, 2) @ F / t)[1]
    m = Moments.of(model, t)
    shift, error = values.mean() - N * m.information, values.std() / 12_000**0.5
    assert abs(shift - m.loop) < 4.5 * error
    assert abs(shift - m.loop / 2) > 6 * error
    # the variance is -2 log(1 - kappa) = -4 loop, up to 1/N; the sample variance of 12 000 is good to 1.3 %
    assert values.var() == pytest.approx(-4 * m.loop, rel=0.1)


def test_drift_bad_input():
    with pytest.raises(DomainError, match="kind"):
        finite_size_value("freezing", LINEAR, 0.2, 30)
    with pytest.raises(DomainError, match="Gaussian"):
        finite_size_value("collapse", HiddenManifold([0.5, 0.6]), 0.2, 30)
    with pytest.raises(DomainError, match="alpha"):
        finite_size_value("collapse", LINEAR, -0.2, 30)
    with pytest.raises(DomainError, match="below the onset time"):
        finite_size_value("basin", LINEAR, 0.2, 30, t=50.0)


# --- verdicts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measured", "error", "p", "outcome"),
    [
        (1.00, 0.005, 0.5, "agree"),
        (1.014, 0.005, 0.5, "agree"),
        (1.016, 0.005, 0.5, "inconclusive"),  # within the tolerance, not within 3 sigma
        (0.969, 0.005, 0.5, "disagree"),
        (1.20, 0.09, 0.5, "inconclusive"),  # not precise enough either way
        (1.00, 0.011, 0.5, "inconclusive"),
        (1.40, 0.09, 0.5, "disagree"),
        (1.00, 0.005, 1e-4, "inconclusive"),  # the declared form does not fit
        (1.40, 0.005, 1e-4, "disagree"),
        (1.00, 0.005, np.nan, "agree"),
        (np.nan, 0.1, 0.5, "inconclusive"),
        (1.00, np.nan, 0.5, "inconclusive"),
        (1.00, 0.0, 0.5, "inconclusive"),
    ],
)
def test_rule(measured, error, p, outcome):
    verdict = judge(Prediction("x", 1.0), measured, error, p)
    assert verdict.outcome == outcome
    assert outcome in str(verdict)
    mirrored = judge(Prediction("x", -1.0), -measured, error, p)
    assert mirrored.outcome == outcome


def test_error_rates_are_those_stated():
    """A right theory: "disagree" in at most 0.27 %, "agree" in at least 99.7 % when precise; off by 2 T: never "agree"."""
    z = np.random.default_rng(7).normal(size=20_000)
    right = Prediction("x", 1.0, tolerance=0.03)
    for error in (0.001, 0.005, 0.0099):
        outcomes = [judge(right, 1 + error * x, error).outcome for x in z]
        # 20000 * 0.0027 = 54 expected, standard deviation 7.3: at most 54 + 5 * 7.3
        assert outcomes.count(Outcome.AGREE) >= 20_000 - 91
        assert outcomes.count(Outcome.DISAGREE) <= 91
        wrong = [judge(right, 1.06 + error * x, error).outcome for x in z]
        assert wrong.count(Outcome.AGREE) <= 28 + 5 * 6
    assert all(judge(right, 1 + 0.02 * x, 0.02).outcome != Outcome.AGREE for x in z[:100])


def test_predictions_are_checked():
    with pytest.raises(DomainError, match="value"):
        Prediction("x", np.nan)
    with pytest.raises(DomainError, match="tolerance"):
        Prediction("x", 1.0, tolerance=0.0)


# --- results ------------------------------------------------------------------------------------------------------------


def test_result_round_trips(tmp_path):
    rows = [
        Row("t_c", "A", judge(Prediction("t_c", 1.0), 1.001, 0.001)),
        Row("t_o", "B, C", judge(Prediction("t_o", 2.0), np.nan, 1)),
    ]
    curves = xr.Dataset({"w": ("t", [0.5, 0.25])}, coords={"t": [1.0, 2.0]})
    result = ExperimentResult("demo", "a claim", rows, curves, {"seed": 3, "versions": {"numpy": "2"}})
    assert result.count() == {"agree": 1, "disagree": 0, "inconclusive": 1}
    assert result.row("t_c", "A").outcome == "agree"
    with pytest.raises(DomainError, match="one of: t_c, A; t_o, B, C"):
        result.row("t_c", "Z")
    assert result.table().count("\n") == 2
    path = tmp_path / "folder" / "demo.csv"
    text = result.to_csv(path)
    assert path.read_text() == text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    read = list(csv.DictReader(io.StringIO("\n".join(lines))))
    assert (read[0]["verdict"], read[1]["model"], read[1]["measured"]) == ("agree", "B, C", "")
    result.to_dataset().to_netcdf(tmp_path / "demo.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "demo.nc", engine="h5netcdf") as back:
        assert list(back["row_verdict"].values) == ["agree", "inconclusive"]
        assert back.attrs["claim"] == "a claim"
    (tmp_path / "file").write_text("")
    with pytest.raises(DomainError, match="writable"):
        result.to_csv(tmp_path / "file" / "below.csv")


# --- the experiment, in small -------------------------------------------------------------------------------------------

SMALL = linear_times.Preset("small", 3, 1e6, 1e8)
CASE = replace(linear_times.CASES[0], sizes=(26, 30, 36))
WRONG = {
    "collapse": lambda model, alpha, t: collapse_time(model, alpha / 2),  # alpha in the place of 2 alpha
    "onset": lambda model, alpha, t: onset_time(model, alpha / 2),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("linear_times")
    return folder, linear_times.run(SMALL, seed=1, out=folder, cases=[CASE])


def test_right_theory_is_not_contradicted(small):
    """Four comparisons at 3 sigma (64 jackknife groups): false-alarm probability 1.6 %, at this seed none."""
    _, result = small
    assert [row.outcome for row in result.rows].count(Outcome.DISAGREE) == 0
    for row in result.rows:
        assert abs(row.verdict.sigmas) < 3
        assert row.verdict.error < 0.04 * row.verdict.measured
        assert row.verdict.p_form > 1e-3


def test_deliberately_wrong_formula_comes_out_as_disagree(small):
    folder, result = small
    # same measurements, from the checkpoints of the first run
    wrong = linear_times.run(SMALL, seed=1, out=folder, cases=[CASE], theory=WRONG)
    outcomes = {row.quantity: row.outcome for row in wrong.rows}
    assert outcomes["collapse time t_c"] == Outcome.DISAGREE
    assert outcomes["onset time t_o"] == Outcome.DISAGREE
    assert outcomes["optimum t_g"] != Outcome.DISAGREE
    xr.testing.assert_identical(wrong.curves["measured"], result.curves["measured"])


def test_wrong_by_half_the_factor_is_noticed_too(small):
    """P counted as P^(5/4): alpha off by a quarter."""
    folder, _ = small
    off = {"collapse": lambda model, alpha, t: collapse_time(model, 1.25 * alpha)}
    wrong = linear_times.run(SMALL, seed=1, out=folder, cases=[CASE], theory=off)
    assert wrong.row("collapse time t_c", CASE.label).outcome == Outcome.DISAGREE


def test_experiment_leaves_its_files(small):
    folder, result = small
    assert {p.name for p in folder.iterdir()} == {"checkpoints", *(f"linear_times.{s}" for s in ("csv", "nc", "png"))}
    with xr.open_dataset(folder / "linear_times.nc", engine="h5netcdf") as saved:
        assert saved.sizes["row"] == 4
        assert saved["measured"].shape == (1, 4, 3)
    assert len(linear_times.figure(result).axes) == 4
    assert "seed" in result.provenance


def test_unknown_preset():
    with pytest.raises(DomainError, match="preset"):
        linear_times.run("huge")


@pytest.mark.slow
def test_quick_preset_does_not_contradict_theory():
    result = linear_times.run("quick", seed=2)
    assert result.count()["disagree"] == 0
    assert result.count()["agree"] >= 10
