"""The two experiments in small: they run, repeat themselves, and say no to a wrong theory."""

import math

import numpy as np
import pytest

from numerics.domain import DomainError
from theory import condensation_time
from theory.subspaces.levels import frozen_eigenvalue
from validation.experiments import EXPERIMENTS, experiment
from validation.experiments.frozen_spectrum import experiment as frozen_spectrum
from validation.experiments.losing_dimensions import experiment as losing_dimensions
from validation.experiments.losing_dimensions.figures import phase_figure
from validation.experiments.losing_dimensions.verdicts import CLAIMS, VIEWS
from validation.simulation.prediction import Outcome
from validation.spectra.subspace_probes import BlockData

TINY = losing_dimensions.Preset("tiny", 7, {100: 3, 1000: 2}, {100: 4, 1000: 4}, (100, 1000), 2)
SMALL = losing_dimensions.Case("d = 2+2", (2, 2, 4), (1.0, 0.09, 1e-4), (100, 1000))
FROZEN = frozen_spectrum.Preset("tiny", 4, 1e6, 2000, 5000)
CASE = frozen_spectrum.CASES[0]


def test_both_are_registered():
    for name in ("losing_dimensions", "frozen_spectrum"):
        assert name in EXPERIMENTS
        assert callable(experiment(name).run)


@pytest.fixture(scope="module")
def headline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    seen = []
    result = losing_dimensions.run(TINY, seed=1, cases=[SMALL], out=folder, progress=lambda *a: seen.append(a))
    return result, folder, seen


def test_headline_writes_everything(headline):
    result, folder, seen = headline
    assert seen[-1] == (10, 10)
    names = {path.name for path in folder.iterdir()}
    assert {
        "losing_dimensions.csv",
        "losing_dimensions_times.csv",
        "losing_dimensions_dimension.csv",
        "losing_dimensions.nc",
        "losing_dimensions.png",
    } <= names
    assert {"losing_dimensions_fixed_norm.png", "losing_dimensions_times.png", "losing_dimensions_phases.png"} <= names
    data = result.curves
    assert data.sizes["P"] == 2
    assert list(data["claim"].values) == list(CLAIMS)
    assert np.isfinite(data["value"]).all()
    claims = [row for row in result.rows if row.quantity.startswith("claim")]
    assert len(claims) == 2 * len(CLAIMS) * len(VIEWS)
    assert all("exact score" in row.note for row in claims)


def test_headline_values_are_those_of_the_exact_score_at_large_t(headline):
    data = headline[0].curves.sel(normalised=False, P=1000).isel(t=-1, case=0)
    t = float(data["t"])
    expected = t / (t + np.array(SMALL.variances))
    # relative fluctuation of a sample variance of 1000 points: 5 % at one sigma, of 1 - value = 0.09
    assert data["value"].sel(kind="fresh").values == pytest.approx(expected, abs=0.02)


def test_dimension_of_the_data_stands_beside_the_scores(headline):
    """Neighbours find the manifold's four directions (three with the norm fixed, and what its noise adds) at either P."""
    data = headline[0].curves.sel(estimator="local-pca").isel(case=0)
    assert data["data_dimension"].sel(normalised=False).values == pytest.approx([4, 4], abs=0.2)
    assert (data["data_dimension"].sel(normalised=True).values < 4.2).all()
    table = np.genfromtxt(
        headline[1] / "losing_dimensions_dimension.csv", delimiter=",", names=True, dtype=None, encoding=None
    )
    assert len(table) == 2 * 2 * 3  # norms, sizes, estimators


def test_exact_participation_agrees_and_the_heuristic_does_not(headline):
    rows = [row for row in headline[0].rows if "(exact finite P)" in row.quantity]
    assert len(rows) == 4
    assert all(row.outcome is not Outcome.DISAGREE for row in rows)
    wrong = [row for row in headline[0].rows if "(heuristic)" in row.quantity and "high" in row.quantity]
    assert any(row.outcome is Outcome.DISAGREE for row in wrong)


@pytest.mark.slow
def test_headline_repeats_itself(headline):
    tiny = losing_dimensions.Preset("tiny", 7, {100: 3}, {100: 4}, (100,), 2)
    again = losing_dimensions.run(tiny, seed=1, cases=[SMALL])
    first = headline[0].curves["value"].sel(P=[100])
    assert np.array_equal(again.curves["value"].values, first.values)


def test_a_network_can_be_passed():
    tiny = losing_dimensions.Preset("tiny", 5, {100: 2}, {100: 2}, (100,), 1)
    result = losing_dimensions.run(tiny, cases=[SMALL], network=lambda X, seed: lambda x, t: -x / (t + 1.0))
    frame = result.curves["network_frame"].isel(case=0, normalised=0, P=0)
    assert frame.values == pytest.approx(np.ones_like(frame.values), rel=1e-9)
    losing_dimensions.figure(result)


def test_phase_figure_has_two_panels():
    assert len(phase_figure().axes) == 2


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frozen")
    return frozen_spectrum.run(FROZEN, seed=2, cases=[CASE], out=folder), folder


@pytest.mark.slow
def test_frozen_spectrum_is_not_contradicted(frozen):
    """Four limits and two ratios, each called "disagree" by chance with probability 0.3 % at most: 2 % in all."""
    result, folder = frozen
    assert (folder / "frozen_spectrum.png").exists()
    assert result.count()["disagree"] == 0
    flat = [row for row in result.rows if row.quantity.startswith("flatness")]
    assert all(abs(row.verdict.deviation) < 0.25 for row in flat)


@pytest.mark.slow
def test_a_wrong_frozen_spectrum_is_refused():
    """The negative control: the exact score's spectrum, which does not freeze, in the place of the frozen one."""

    def thawed(model, P, N, t):
        return np.asarray(t)[:, None] / (np.asarray(t)[:, None] + np.array(model.variances))

    result = frozen_spectrum.run(FROZEN, seed=2, cases=[CASE], theory=thawed)
    (row,) = [row for row in result.rows if row.quantity == "v/t at t = 0.5 t_cond, r = 0.3"]
    assert row.outcome is Outcome.DISAGREE


def test_a_wrong_mean_at_finite_size_is_refused(monkeypatch):
    """The limit itself in the place of the exact mean at N and P, which lies 7 to 30 % above it."""
    model, limit = CASE.model, condensation_time(CASE.model, CASE.alpha)
    value = np.array(model.variances) / (limit + np.array(model.variances))
    monkeypatch.setattr(frozen_spectrum, "_exact", lambda case, N: np.tile(value, (len(frozen_spectrum.RATIOS), 1)))
    result = frozen_spectrum.run(FROZEN, seed=2, cases=[CASE])
    rows = [row for row in result.rows if "over its exact mean" in row.quantity]
    assert len(rows) == 4
    assert all(row.outcome is Outcome.DISAGREE for row in rows)


def test_frozen_is_continuous_and_flat():
    model, t = CASE.model, np.logspace(-3, 1, 41)
    values = frozen_eigenvalue(model, 8103, 30, t)
    assert (np.diff(values, axis=0) >= -1e-15).all()
    assert np.ptp(values[t < 0.1], axis=0) == pytest.approx([0, 0], abs=1e-14)


@pytest.mark.parametrize("m", [0.2, 0.6])
def test_poisson_dirichlet_spread_has_mean_m(m):
    """Five standard errors of 4000 draws."""
    spread = frozen_spectrum.poisson_dirichlet_spread(m, 4_000, 0)
    assert abs(spread.mean() - m) < 5 * spread.std() / math.sqrt(4_000) + 1e-4
    # the REM's second moment: E Y^2 = E sum w^4 + E sum_{i != j} w_i^2 w_j^2 = (1-m)(2-m)(3-m)/6 + m (1-m)^2/6
    Y = 1 - spread
    second = (1 - m) * (2 - m) * (3 - m) / 6 + m * (1 - m) ** 2 / 6
    assert abs(np.square(Y).mean() - second) < 5 * np.square(Y).std() / math.sqrt(4_000) + 1e-4


@pytest.mark.parametrize("module", [losing_dimensions, frozen_spectrum])
def test_unknown_preset(module):
    with pytest.raises(DomainError) as caught:
        module.run("huge")
    assert caught.value.argument == "preset"


def test_block_data_is_the_model_of_theory():
    data = BlockData((5, 5, 20), (1.0, 0.09, 1e-4))
    assert data.model.mean_variance * 30 == pytest.approx(data.spectrum.sum())
