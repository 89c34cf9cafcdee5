"""Do returns, commitments and the law of t_g obey what holds exactly, and do the experiments notice a wrong theory?"""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from scipy.special import gammaln
from scipy.stats import ks_2samp, norm

from numerics.domain import DomainError
from theory import Isotropic, LinearManifold, collapse_time, critical_alpha, onset_time
from theory.finite_size.drift import weight_exceeds_half
from theory.finite_size.trajectories import commitment_width, edge_correction
from validation import EmpiricalScore
from validation.experiments.generalization_law import experiment as generalization_law
from validation.experiments.generalization_law import nearest_law
from validation.experiments.traps import experiment as traps
from validation.experiments.traps import verdicts as returns_verdicts
from validation.experiments.traps.probes import commitment, measure_commitments, measure_returns
from validation.simulation.prediction import Outcome, Prediction
from validation.simulation.samplers import Sampler

MODEL = LinearManifold(0.5)


def returns_of_many(replicas=16):
    starts = np.geomspace(0.3, 3.0, 3)
    draw = np.random.default_rng(1).standard_normal
    found = [measure_returns(draw((40, 8)), starts, 0.02, 120, weights=120, seed=(2, r)) for r in range(replicas)]
    return {name: np.stack([f[name] for f in found]).mean(axis=1) for name in found[0]}


def sigmas(a, b):
    d = a - b
    return d.mean() / (d.std(ddof=1) / len(d) ** 0.5)


def test_returns_are_the_weights():
    """Exact at every N and P. False-alarm probability 1e-3 (z-test of 16 training sets, three comparisons)."""
    m, bound = returns_of_many(), norm.isf(0.5e-3 / 3)
    assert abs(sigmas(m["return, SDE"], m["own weight"])) < bound
    assert abs(sigmas(m["return, flow"], m["reached, flow"])) < bound
    assert abs(sigmas(m["own weight"], m["participation"])) < bound
    # control: the flow is another dynamics, it returns more often than the weight of the own point says
    assert sigmas(m["return, flow"], m["own weight"]) > 2 * bound


def test_commitment_of_the_sde_is_a_first_passage_of_diffusion():
    """Two-sample Kolmogorov-Smirnov over pooled training sets, level 1e-3; control: the flow's law is another."""
    draw = np.random.default_rng(3).standard_normal
    found = [measure_commitments(draw((30, 8)), 30.0, 0.01, 60, seed=(4, r)) for r in range(10)]
    pooled = {name: np.concatenate([f[name] for f in found]) for name in found[0]}
    assert ks_2samp(pooled["commitment, SDE"], pooled["reversed"]).pvalue > 1e-3
    assert ks_2samp(pooled["commitment, flow"], pooled["reversed"]).pvalue < 1e-6
    assert pooled["left open, SDE"].mean() < 0.02


def test_pure_noise_at_the_top_is_the_noisy_data():
    """N(x; 0, T)/P_T(x) at noisy data is 1 within a tenth or so; at 25 variances it is not, and commitments shift by 3 %."""
    case, N = traps.CASES[1], 36
    X = Sampler(case.model, N, (5, 0)).sample(case.patterns(N)).numpy()
    rng, E = np.random.default_rng(6), EmpiricalScore(X)
    spread = {}
    for T in (25.0, traps._TOP):
        x = X[rng.integers(0, len(X), 2000)] + np.sqrt(T) * rng.standard_normal((2000, N))
        log_ratio = -(x**2).sum(axis=1) / (2 * T) - E.log_partition(x, np.full(2000, T)) + np.log(len(X))
        ratio = np.exp(log_ratio)
        assert abs(ratio.mean() - 1) < 5 * ratio.std() / 2000**0.5  # it integrates to 1
        spread[T] = ratio.std()
    assert spread[traps._TOP] < 0.15 < 0.25 < spread[25.0]


def test_commitment_is_the_last_passage():
    log_t = np.array([3.0, 2.0, 1.0, 0.0])
    odds = np.array([[-1.0, 1.0, -1.0, -2.0], [3.0, 1.0, -1.0, -2.0], [-1.0, 1.0, -1.0, 2.0], [1.0, 1.0, -1.0, 2.0]])
    found = commitment(log_t, odds - np.logaddexp(0, odds))
    np.testing.assert_allclose(found, [0.5, 3.0, 0.0, 1.5], atol=1e-12)


def test_width_follows_from_the_odds_of_one_point():
    """Variance N A and slope N A/2 of the log odds, by sampling and by the derivative of the theory."""
    alpha, t = 0.2, collapse_time(MODEL, 0.2)
    rng, F = np.random.default_rng(0), np.random.default_rng(1).standard_normal((400, 200)) / 200**0.5
    r = np.append(np.linalg.eigvalsh(F.T @ F), np.zeros(200))
    w = rng.standard_normal((4000, 400))
    y = (np.sqrt(r) * rng.standard_normal((4000, 400)) + np.sqrt(t) * w) / np.sqrt(r + t)
    odds = (w**2 - y**2).sum(axis=1) / 2
    A = float((r / (r + t)).mean())
    assert odds.var() == pytest.approx(400 * A, rel=4 * (2 / 4000) ** 0.5)
    slope = [critical_alpha(MODEL, t * np.exp(h), kind="collapse") for h in (-1e-4, 1e-4)]
    A = -2 * (slope[1] - slope[0]) / 2e-4
    assert commitment_width(MODEL, alpha) == pytest.approx(2 / A**0.5, rel=1e-6)


def test_weight_exceeds_half_as_often_as_in_samples():
    """404 isotropic points in N = 30: 4 sigma of 2000 draws, and 3 % for the sum of the others, which is taken at its mean."""
    N, P, draws, t = 30, 404, 2000, np.array([0.8, 1.5, 3.0])
    rng, hits = np.random.default_rng(0), np.zeros(3)
    for _ in range(draws):
        others, noise = rng.standard_normal((P - 1, N)), rng.standard_normal(N)
        x = rng.standard_normal(N) + np.sqrt(t)[:, None] * noise
        exponents = -((x[:, None] - others) ** 2).sum(axis=-1) / (2 * t[:, None])
        hits += np.logaddexp.reduce(exponents, axis=1) < -(noise @ noise) / 2
    alpha = np.log(P - 1) / N
    expected = np.array([weight_exceeds_half(Isotropic(1.0), x, alpha, N) for x in t])
    tolerance = 0.03 + 4 * np.sqrt(expected * (1 - expected) / draws)
    assert (np.abs(hits / draws - expected) < tolerance).all()
    shifted = np.array([weight_exceeds_half(Isotropic(1.0), 1.4 * x, alpha, N) for x in t])
    assert (np.abs(hits / draws - shifted) > tolerance)[1:].all()


def test_width_at_finite_size_tends_to_its_limit():
    """From 18 % below at N = 26; as 1/N only for N in the thousands."""
    limit = commitment_width(MODEL, 0.2)
    ratios = np.array([commitment_width(MODEL, 0.2, N) for N in (26, 1000, 100_000)]) / limit
    assert ratios == pytest.approx([0.82, 0.957, 0.996], abs=0.005)


def test_edge_correction_is_that_of_exponential_levels():
    """h'(m) against mpmath, and h itself against levels drawn from the edge (4 sigma, false alarm 6e-5)."""
    m = 0.4
    h = mpmath.diff(lambda x: mpmath.loggamma(1 - x) / x, m)
    assert edge_correction(m, 50) == pytest.approx(float(2 * m / 50 * h), rel=1e-12)
    arrivals = np.random.default_rng(0).standard_exponential((4000, 3000)).cumsum(axis=1)
    log_z = np.log((arrivals ** (-1 / m)).sum(axis=1)) + np.log(arrivals[:, 0]) / m
    error = log_z.std() / len(log_z) ** 0.5
    expected = gammaln(1 - m) / m - np.euler_gamma  # E log Z + E E_min/m, with E E_min = -gamma
    assert abs(log_z.mean() - expected) < 4 * error
    assert abs(log_z.mean()) > 40 * error  # without the edge the law would miss this


def test_optimum_is_the_mean_squared_distance_under_its_own_weights():
    """dC/dt = 0 is N t_g = E <|x - xi|^2>_w exactly, by brute force."""
    rng = np.random.default_rng(0)
    train, held = rng.standard_normal((200, 6)), rng.standard_normal((150, 6))
    ratio, t_g, d2 = nearest_law.law(train, held, "cpu")
    squares = ((held[:, None] - train) ** 2).sum(axis=2)
    w = np.exp(-(squares - squares.min(axis=1, keepdims=True)) / (2 * t_g.value))
    mean = ((w * squares).sum(axis=1) / w.sum(axis=1)).mean() / 6
    assert t_g.value == pytest.approx(mean, rel=2e-4)
    assert d2 == pytest.approx(squares.min(axis=1).mean() / 6, rel=1e-12)
    assert ratio.value == pytest.approx(t_g.value / d2, rel=1e-9)


@pytest.mark.parametrize(
    ("measured", "error", "outcome"),
    [(0.5, 0.1, "agree"), (1.5, 0.1, "disagree"), (0.9, 0.1, "inconclusive"), (np.nan, 0.1, "inconclusive")],
)
def test_a_bound_is_judged_by_three_errors(measured, error, outcome):
    assert nearest_law.below(Prediction("ratio", 1.0), measured, error).outcome is Outcome(outcome)


def test_small_law_run_is_whole_and_reproducible(tmp_path):
    X = np.random.default_rng(0).standard_normal((300, 10)).astype(np.float32)
    np.save(tmp_path / "cloud.npy", X)
    preset = generalization_law.Preset("tiny", 4, 1e6, 64, 64)
    case = generalization_law.Case("bent", MODEL, 0.2, (20, 22, 24, 26), "tanh")
    seen = []
    common = {"cases": [case], "data": tmp_path / "cloud.npy", "seed": 3}
    first = generalization_law.run(preset, progress=lambda *p: seen.append(p), out=tmp_path / "out", **common)
    assert seen == [(k, 6) for k in range(1, 7)]
    assert [row.model for row in first.rows if row.quantity == "t_g / t_c below 1"][1] == "cloud, P=270, N=10"
    for name in ("generalization_law.csv", "generalization_law.png", "generalization_law.nc"):
        assert (tmp_path / "out" / name).stat().st_size > 1000
    again = generalization_law.run(preset, out=tmp_path / "out", **common)
    assert [r.verdict.measured for r in again.rows] == [r.verdict.measured for r in first.rows]
    assert len(generalization_law.figure(first).axes) == 3


def test_small_trap_run_is_whole_and_notices_the_wrong_time(tmp_path, monkeypatch):
    """With the onset time in the place of the collapse time the returns disagree: the control of the experiment."""
    monkeypatch.setattr(returns_verdicts, "_DRAWS", 300)
    preset = traps.Preset("tiny", 1, 3, 8, 8, weights=1500, replicas=4)
    case = traps.Case("linear", MODEL, 0.2, (14, 20, 30))
    seen = []
    result = traps.run(
        preset, seed=1, cases=[case], theory=onset_time, out=tmp_path, progress=lambda *p: seen.append(p)
    )
    assert seen[-1][0] == seen[-1][1]
    assert result.row(traps.NAMES["return, SDE"], "linear").outcome is Outcome.DISAGREE
    for name in ("identity, SDE", "identity, flow", "reversal"):
        assert result.row(traps.NAMES[name], "linear").outcome is not Outcome.DISAGREE
    for name in ("traps.csv", "traps.png", "traps.nc"):
        assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["traps", "generalization_law"])
def test_no_quick_preset_disagrees(name):
    module = {"traps": traps, "generalization_law": generalization_law}[name]
    assert module.run("quick", seed=5).count()["disagree"] == 0


def test_bad_arguments_are_named():
    X = np.random.default_rng(0).standard_normal((10, 3))
    for module in (traps, generalization_law):
        with pytest.raises(DomainError, match="preset"):
            module.run("huge")
    with pytest.raises(DomainError, match="low"):
        measure_returns(X, [0.1, 1.0], 0.2, 4, weights=4)
    with pytest.raises(DomainError, match="weights"):
        measure_returns(X, [0.1, 1.0], 0.01, 4, weights=2)
    with pytest.raises(DomainError, match="top"):
        measure_commitments(X, -1.0, 0.01, 4)
