"""Statistics of the order of copies where the answer is known, their negative controls, and the study at toy size."""

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats

from numerics.domain import DomainError
from validation.experiments import copied_images
from validation.experiments.copied_images import ranking as r
from validation.experiments.copied_images.probes import copies_of, describe, drawn
from validation.experiments.copied_images.snapshots import snapshots, subsets
from validation.experiments.copied_images.verdicts import TARGETS, image_table, ranked
from validation.score import EmpiricalScore
from validation.spectra import Empirical
from validation.training import NoiseLevels, TrainingConfig

TOY = copied_images.Preset(
    "toy",
    ((16, 2), (24, 1)),
    TrainingConfig(8, 8, 4e-3, warmup=2, noise=NoiseLevels(0.1, 3.0), precision="float32"),
    (4, 8),
    {"kind": "unet", "width": 4, "levels": 1, "blocks": 1},
    samples=30,
    ideal=30,
    flow=6,
    sigmas=(0.3, 1.0),
    signal_samples=20,
    draws=2,
    probes=2,
)


def test_area_under_curve_is_mann_whitneys():
    rng = np.random.default_rng(0)
    values, marked = rng.integers(0, 9, 60), rng.random(60) < 0.4  # with ties
    u = stats.mannwhitneyu(values[marked], values[~marked]).statistic
    assert r.area_under_curve(values, marked) == pytest.approx(u / (marked.sum() * (~marked).sum()))
    assert np.isnan(r.area_under_curve(values, np.zeros(60, bool)))
    assert r.area_under_curve(-values, marked) == pytest.approx(1 - r.area_under_curve(values, marked))


def test_rank_and_partial_correlation_of_gaussians():
    """Rank correlations within 5 standard errors (1/sqrt(n)) of their known values: false alarm below 1e-5."""
    rng = np.random.default_rng(1)
    n = 4000
    c, x, y = rng.standard_normal((3, n))
    a, b = c + x, c + y  # correlated through c alone
    assert r.rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert abs(r.partial_correlation(a, b, c)) < 5 / n**0.5
    assert r.rank_correlation(a, b) > 0.4
    assert r.partial_correlation(a, a + y, c) > 0.3  # control: what they share beyond c stays
    assert np.isnan(r.partial_correlation(a, b, a))


def test_a_shuffled_order_has_half_of_the_area_and_any_p():
    """AUC within 5 standard errors 1/sqrt(12 n/4) of 1/2: false alarm below 1e-5; p of order is small, of none uniform."""
    rng = np.random.default_rng(2)
    n = 400
    t, marked = rng.random(n), np.arange(n) < n // 2
    assert abs(r.area_under_curve(t, marked) - 0.5) < 5 / (3 * n) ** 0.5
    assert r.area_under_curve(t + marked, marked) == 1
    ordered = [(a, a + rng.standard_normal(50)) for a in rng.standard_normal((3, 50))]
    assert r.permutation_p(ordered, draws=199) == 1 / 200
    none = [r.permutation_p([(rng.random(12), rng.random(12))], draws=99, seed=k) for k in range(200)]
    assert stats.kstest(none, "uniform").pvalue > 1e-4
    constant = (rng.random(5), np.ones(5))
    assert np.isnan(r.permutation_p([constant]))


def test_bootstrap_error_is_the_spread_between_sets():
    rng = np.random.default_rng(3)
    sets = [(rng.standard_normal(80) + (np.arange(80) < 40), np.arange(80) < 40) for _ in range(60)]
    spread = np.std([r.area_under_curve(*s) for s in sets])
    assert r.bootstrap_error(r.area_under_curve, sets[0]) == pytest.approx(spread, rel=0.5)


@pytest.mark.parametrize(("a", "b"), [([1.0, 2.0], [1.0]), (1.0, 1.0), ([1.0], [1.0]), ([1.0, np.nan], [1.0, 2.0])])
def test_ranks_refuse(a, b):
    with pytest.raises(DomainError):
        r.rank_correlation(np.array(a), np.array(b))


def test_copies_are_given_to_their_image_and_its_group():
    rng = np.random.default_rng(4)
    X = rng.standard_normal((40, 20))
    X[31] = X[7]  # twice
    samples = np.concatenate([X[[3, 31, 7]] + 0.01, X[:5] + X[5:10]])
    found = copies_of(samples, X)
    assert found["nearest"].values[:3].tolist() == [3, 7, 7]
    assert found["copy"].values.tolist() == [True] * 3 + [False] * 5
    assert found["close"].values[:3].all()
    known = describe(X, draws=8)
    assert np.flatnonzero(known["rest"].values).tolist() == [31]
    assert sorted(known["shuffled"].values) == sorted(known["t_c"].values)


def test_from_noised_points_the_empirical_score_draws_each_equally_often():
    """2000 samples, a tenth of them around the far point within 5 binomial errors; from Gaussian noise it comes too seldom."""
    X = torch.zeros(10, 4, dtype=torch.float64)
    X[:9] = 0.1 * torch.randn(9, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    X[9, 0] = 9.0
    ideal, noise = Empirical(EmpiricalScore(X, dtype="float64")), NoiseLevels(0.1, 3.0)
    far = [float((drawn(ideal, X, noise, 2000, 16, (0,), noised=n)[:, 0] > 5).double().mean()) for n in (True, False)]
    assert abs(far[0] - 0.1) < 5 * (0.09 / 2000) ** 0.5
    assert far[1] < 0.1 - 5 * (0.09 / 2000) ** 0.5


def made_up(follows, P=60, members=3, samples=1500, seed=0):
    """Curves of networks whose copies follow t_c of their images, or do not."""
    rng = np.random.default_rng(seed)
    t = rng.random((members, P)) + 0.1
    near = np.empty((3, members, samples), int)
    for k, m in np.ndindex(3, members):
        weight = t[m] ** 4 if follows else np.ones(P)
        near[k, m] = rng.choice(P, samples, p=weight / weight.sum())
    copy = rng.random(near.shape) < np.array([0.01, 0.03, 0.3])[:, None, None]
    image = {name: (("member", "image"), rng.random((members, P))) for name in ("neighbour", "norm")}
    return xr.Dataset(
        {
            "t_c": (("member", "image"), t),
            "shuffled": (("member", "image"), rng.permuted(t, axis=1)),
            "rest": (("member", "image"), np.zeros((members, P), bool)),
            **image,
            **{name: (("step", "member", "sample"), copy) for name in ("copy", "close")},
            "nearest": (("step", "member", "sample"), near),
            "ideal_copy": (("member", "ideal_sample"), np.ones((members, samples), bool)),
            "ideal_nearest": (("member", "ideal_sample"), rng.integers(0, P, (members, samples))),
        },
        {"step": [1, 2, 3], "P": ("member", [P] * members)},
    )


def test_an_order_is_found_and_a_shuffled_one_is_not():
    """30 expected copies an image at the last step; shuffled and unordered: |mean rho| < 4/sqrt(3 x 60), false alarm 6e-5."""
    found = ranked(made_up(True))
    assert float(found["rho"].sel(predictor="t_c", target="copies").min()) > 0.7
    assert float(found["auc"].sel(predictor="t_c").mean()) > 0.7
    assert float(found["p_over_networks"].sel(predictor="t_c", target="copies")[0]) <= 0.001
    bound = 4 / 180**0.5
    for unordered in (
        found["rho"].sel(predictor="shuffled", target="copies"),
        found["rho"].sel(predictor="t_c", target="ideal"),
        ranked(made_up(False))["rho"].sel(predictor="t_c", target="copies"),
    ):
        assert abs(float(unordered.mean())) < bound
    assert abs(float(found["auc"].sel(predictor="shuffled").mean()) - 0.5) < bound


def test_near_duplicates_count_as_one_image():
    curves = made_up(True)
    curves["rest"][0, 5] = True
    assert len(image_table(curves, 0)["copies"]) == 59
    assert image_table(curves, 0)["first"].max() <= 0


def test_subsets_are_disjoint_and_snapshots_resume(tmp_path):
    X = torch.randn(40, 1, 4, 4)
    sets, rest = subsets(X, [8, 12])
    rows = torch.cat([*sets, rest]).flatten(1)
    assert len(torch.unique(rows, dim=0)) == 40
    with pytest.raises(DomainError, match="sizes"):
        subsets(X, [30, 20])
    options = {"seeds": [0, 1], "path": tmp_path / "run.safetensors"}
    whole = dict(snapshots(sets, TOY.network, TOY.training, TOY.snapshots, seeds=[0, 1]))
    next(snapshots(sets, TOY.network, TOY.training, TOY.snapshots, **options))  # stopped after the first
    resumed = dict(snapshots(sets, TOY.network, TOY.training, TOY.snapshots, **options))
    x = torch.randn(2, 3, 1, 4, 4)
    for step in TOY.snapshots:
        torch.testing.assert_close(whole[step](x, 1.0), resumed[step](x, 1.0), rtol=0, atol=0)
    assert (tmp_path / "run-step4.safetensors").exists()
    (tmp_path / "run-step4.safetensors").unlink()
    with pytest.raises(DomainError, match="checkpoint"):
        list(snapshots(sets, TOY.network, TOY.training, TOY.snapshots, **options))


def test_the_study_runs_and_goes_on_from_its_files(tmp_path):
    seen = []
    first = copied_images.run(TOY, out=tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1]
    assert {"ranking", "audits", "signals"} <= {f.stem.removeprefix("copied_images_") for f in tmp_path.glob("*.csv")}
    for name in ("copied_images.png", "copied_images_signals.png", "copied_images.nc"):
        assert (tmp_path / name).stat().st_size > 1000
    curves = first.curves
    assert curves["ratio"].dims == ("step", "member", "sample")
    assert curves["t_c"].shape == (3, 24)
    assert curves["t_c"].isel(member=0).notnull().sum() == 16
    assert float(curves["ideal_copy"].mean()) > 0.9  # the empirical score copies
    assert float(curves["copy"].mean()) < 0.1  # eight steps memorise nothing
    assert {"x"}.isdisjoint(curves.data_vars)
    questions = [row.quantity.split(" ")[0] for row in first.rows]
    assert {"concordance", "AUC", "samples"} == set(questions)
    assert len([q for q in questions if q == "concordance"]) == 2 * 4 * len(TARGETS)
    again = copied_images.run(TOY, out=tmp_path)
    xr.testing.assert_equal(first.curves, again.curves)


@pytest.mark.parametrize(
    ("options", "name"), [({"preset": "slow"}, "preset"), ({"data": "linear"}, "data"), ({"pool": 3}, "pool")]
)
def test_run_refuses(options, name):
    with pytest.raises(DomainError) as error:
        copied_images.run(**({"preset": TOY} | options))
    assert error.value.argument == name
