"""Mixtures: times by class, the average over classes, speciation and clones; by identity, in mpmath, and by simulation."""

import mpmath as mp
import numpy as np
import pytest
import sympy as sp
import torch
from scipy.optimize import brentq

from numerics.domain import DomainError
from theory import (
    HiddenManifold,
    Isotropic,
    LinearManifold,
    Mixture,
    PowerLaw,
    Spectrum,
    Subspaces,
    basin_radius,
    cloning_probability,
    collapse_time,
    condensation_time,
    critical_alpha,
    critical_dataset_size,
    excess_entropy,
    free_energy,
    generalization_time,
    onset_time,
    speciation_time,
)
from theory.notation import N as N_
from theory.notation import alpha as alpha_
from theory.notation import t as t_
from theory.speciation import cloning_identity, curvature
from validation.experiments.mixtures import experiment
from validation.experiments.mixtures.probes import clone_agreement, exact_score

TIMES = (onset_time, collapse_time, condensation_time, generalization_time)
MODELS = [Isotropic(1.0), LinearManifold(0.5), Subspaces([0.3, 0.3], [1.0, 0.09])]
THREE = Mixture([0.6, 0.3, 0.1], MODELS)
EVEN = Mixture([0.4, 0.3, 0.3], MODELS)


def clusters(N, weight=0.5, variances=(1.0, 1.0), m=1.0):
    means = m * np.array([np.ones(N), -np.ones(N)])
    return Mixture([weight, 1 - weight], [Isotropic(v) for v in variances], means=means)


# --- times by class -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("time", TIMES, ids=lambda f: f.kind)
def test_a_class_has_the_time_of_its_model_at_its_own_points(time):
    P, N = np.array([1000, 40_000]), 24
    found = time(THREE, P=P, N=N)
    assert found.shape == (2, 3)
    for k, (weight, model) in enumerate(zip(THREE.weights, MODELS, strict=True)):
        assert found[:, k] == pytest.approx(time(model, P=P * weight, N=N), rel=1e-12)
    assert time(THREE, alpha=np.log(P) / N, N=N) == pytest.approx(found, rel=1e-12)
    assert time(Mixture(THREE.weights, MODELS, N=N), P=P) == pytest.approx(found, rel=1e-13)
    assert time(THREE, P=P, N=N, log=True) == pytest.approx(np.log(found))
    solution = time.solve(THREE, P=P, N=N)
    assert solution.ok.all()
    assert solution.value.shape == (2, 3)


def test_isotropic_classes_at_40_digits():
    """t = s/((P pi)^(2/N) - 1), written out in mpmath."""
    model = Mixture([0.9, 0.1], [Isotropic(1.0), Isotropic(0.5)])
    with mp.workdps(40):
        exact = [float(s / ((1000 * w) ** (mp.mpf(2) / 20) - 1)) for w, s in ((mp.mpf("0.9"), 1), (mp.mpf("0.1"), 0.5))]
    assert collapse_time(model, P=1000, N=20) == pytest.approx(exact, rel=1e-13)


def test_rarer_and_flatter_classes_collapse_at_higher_noise():
    """Fewer points at the same law, or variance spread over more directions at the same mean: earlier on the way down."""
    same = collapse_time(Mixture([0.9, 0.1], [Isotropic(1.0)] * 2), P=1000, N=20)
    assert same[1] > same[0]
    flat = collapse_time(Mixture([0.5, 0.5], [Isotropic(1.0), Subspaces([0.25], [4.0])]), P=1000, N=20)
    assert flat[1] < flat[0]


def test_equation_is_solved_by_the_values():
    model = Mixture([0.75, 0.25], [Isotropic(1.0), Subspaces([0.5], [2.0])])
    equations, values = collapse_time.equation(model), collapse_time(model, alpha=0.3, N=30)
    assert len(equations) == 2
    for equation, value in zip(equations, values, strict=True):
        assert float((equation.lhs - equation.rhs).subs({alpha_: 0.3, N_: 30, t_: value})) == pytest.approx(
            0, abs=1e-12
        )


@pytest.mark.parametrize("kind", ["onset", "collapse", "condensation", "generalization"])
def test_inverse_problem(kind):
    time = next(f for f in TIMES if f.kind == kind)
    alpha = critical_alpha(EVEN, 0.3, 24, kind=kind)
    sizes = critical_dataset_size(EVEN, 0.3, 24, kind=kind)
    for k in range(3):
        assert time(EVEN, alpha=alpha[k], N=24)[k] == pytest.approx(0.3, rel=1e-9)
        assert sizes[k] == pytest.approx(np.exp(24 * alpha[k]), rel=1e-12)
        own = critical_dataset_size(MODELS[k], 0.3, 24, kind=kind)
        assert sizes[k] == pytest.approx(own / EVEN.weights[k], rel=1e-10)
    many = critical_dataset_size(EVEN, [0.3, 0.32], [24, 30], kind=kind, log=True)
    assert many.shape == (2, 3)
    assert many[0] == pytest.approx(np.log(sizes), rel=1e-12)


def test_free_energy_and_basins_by_class():
    t = np.array([0.3, 0.9, 2.0])
    energies, radii = free_energy(THREE, P=3000, N=24, t=t), basin_radius(THREE, P=3000, N=24, t=t)
    assert energies.shape == radii.shape == (3, 3)
    for k, (weight, model) in enumerate(zip(THREE.weights, MODELS, strict=True)):
        assert energies[:, k] == pytest.approx(free_energy(model, P=3000 * weight, N=24, t=t), rel=1e-12)
        assert radii[:, k] == pytest.approx(basin_radius(model, P=3000 * weight, N=24, t=t), rel=1e-9, abs=1e-12)
        at_collapse = free_energy(THREE, P=3000, N=24, t=collapse_time(THREE, P=3000, N=24)[k])
        assert at_collapse[k] == pytest.approx(-0.5, abs=1e-12)


def test_excess_entropy_is_the_average_over_classes():
    """0 below the lowest collapse; at each class's collapse its slope changes by that class's weight; Isotropic by hand."""
    model = Mixture([0.7, 0.3], [Isotropic(1.0), Isotropic(0.25)])
    first, second = sorted(collapse_time(model, P=2000, N=20))
    assert excess_entropy(model, P=2000, N=20, t=0.999 * first) == 0.0
    # slopes in log t: f' = (1/2) s/(s + t) of a class above its collapse
    step = 1e-4
    for at, jump in ((first, 0.15 * 0.25 / (0.25 + first)), (second, 0.35 * 1.0 / (1.0 + second))):
        f = excess_entropy(model, P=2000, N=20, t=at * np.exp([-2 * step, -step, step, 2 * step]))
        assert (f[3] - f[2] - f[1] + f[0]) / step == pytest.approx(jump, rel=5e-3)
    t = 3.0
    by_hand = sum(w * (np.log(2000 * w) / 20 - 0.5 * np.log1p(s / t)) for w, s in ((0.7, 1.0), (0.3, 0.25)))
    assert excess_entropy(model, P=2000, N=20, t=t) == pytest.approx(by_hand, rel=1e-12)
    assert excess_entropy(Isotropic(1.0), P=2000, N=20, t=t) == pytest.approx(np.log(2000) / 20 - 0.5 * np.log1p(1 / t))


def test_one_class_is_its_model_and_the_dimension_is_found():
    assert collapse_time(Mixture([1.0], [PowerLaw(2.0, N=50)]), P=300)[0] == pytest.approx(
        collapse_time(PowerLaw(2.0, N=50), P=300), rel=1e-13
    )
    limit = Mixture([0.5, 0.5], [PowerLaw(2.0), Isotropic(1.0)])
    assert collapse_time(limit, P=600, N=50)[0] == pytest.approx(collapse_time(PowerLaw(2.0), P=300, N=50), rel=1e-13)
    assert Mixture([0.5, 0.5], [Spectrum([1.0, 0.5]), Isotropic(1.0)]).N == 2
    assert clusters(7).N == 7


@pytest.mark.slow
def test_a_nonlinear_class():
    found = collapse_time(Mixture([0.5, 0.5], [HiddenManifold(0.5, "tanh"), Isotropic(1.0)]), P=400, N=25)
    assert found[0] == pytest.approx(collapse_time(HiddenManifold(0.5, "tanh"), P=200, N=25), rel=1e-10)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Mixture([0.5, 0.6], MODELS[:2]), "weights"),
        (lambda: Mixture([1.5, -0.5], MODELS[:2]), "weights"),
        (lambda: Mixture([], []), "weights"),
        (lambda: Mixture([0.5, 0.5], MODELS), "models"),
        (lambda: Mixture([0.5, 0.5], [Isotropic(1.0), 3]), "models"),
        (lambda: Mixture([0.5, 0.5], [Isotropic(1.0), THREE]), "models"),
        (lambda: Mixture([0.5, 0.5], MODELS[:2], means=[[0.0, 1.0]]), "means"),
        (lambda: Mixture([0.5, 0.5], MODELS[:2], means=[[0.0, np.nan]] * 2), "means"),
        (lambda: Mixture([0.5, 0.5], MODELS[:2], means=np.zeros((2, 5)), N=6), "N"),
        (lambda: Mixture([0.5, 0.5], MODELS[:2], N=-1), "N"),
        (lambda: collapse_time(THREE, alpha=0.2), "N"),
        (lambda: collapse_time(THREE, P=100), "N"),
        (lambda: collapse_time(Mixture(THREE.weights, MODELS, N=20), P=100, N=30), "N"),
        (lambda: collapse_time(THREE, P=15, N=20), "P"),
        (lambda: collapse_time(THREE, alpha=-0.1, N=20), "alpha"),
        (lambda: collapse_time(THREE, alpha=0.1, P=9, N=20), "alpha, P"),
        (lambda: critical_alpha(THREE, 1.0), "N"),
        (lambda: speciation_time(THREE), "means"),
        (lambda: speciation_time(clusters(4), convention="ddpm"), "convention"),
        (lambda: speciation_time(Isotropic(0.9), convention="vp"), "Lambda"),
        (lambda: speciation_time(HiddenManifold(0.5, "tanh")), "data"),
        (lambda: speciation_time(np.zeros((2, 3))), "data"),
        (lambda: speciation_time([[1.0, 2.0], [0.0, 1.0]]), "data"),
        (lambda: speciation_time(np.diag([1.0, -1.0])), "data"),
        (lambda: speciation_time(PowerLaw(2.0)), "N"),
        (lambda: cloning_probability(THREE, 1.0), "mixture"),
        (lambda: cloning_probability(Isotropic(1.0), 1.0), "mixture"),
        (lambda: cloning_probability(Mixture([0.5, 0.5], MODELS[:2]), 1.0), "means"),
        (lambda: cloning_probability(clusters(4), 0.0), "t"),
        (
            lambda: cloning_probability(
                Mixture([0.5, 0.5], [Isotropic(1.0), Subspaces([0.5], [1.0])], means=np.eye(2, 4)), 1.0
            ),
            "models",
        ),
    ],
)
def test_bad_input_is_named(make, named):
    with pytest.raises(DomainError) as error:
        make()
    assert error.value.argument == named


# --- speciation -----------------------------------------------------------------------------------------------------------------


def test_speciation_times_of_two_clusters():
    for N in (256, 1024, 16_384):
        assert speciation_time(clusters(N)) == pytest.approx(N + 1)
        assert speciation_time(clusters(N), convention="vp") == pytest.approx(0.5 * np.log(N + 1))


def test_curvature_turns_at_high_noise_as_derived():
    """Exactly at m^2 - s = Lambda - 2 s for two clusters; the high-noise form is its leading order. At 40 digits."""
    m, s = sp.symbols("m s", positive=True)
    Lambda = sp.Symbol("Lambda", positive=True)
    high, two = curvature()["high noise"], curvature()["two clusters"]
    assert sp.simplify(two.subs(s, 0) - high.subs(Lambda, m**2)) == 0
    # expanded in the squares of the data, the orders kept by the high-noise form agree
    h = sp.Symbol("h", positive=True)
    data = sp.series(two.subs({m: sp.sqrt(h) * m, s: h * s}), h, 0, 2).removeO()
    assert sp.simplify(data - high.subs(Lambda, h * (m**2 + s))) == 0
    with mp.workdps(40):
        m, s, t = mp.mpf(7), mp.mpf(2), mp.mpf(47)

        def log_density(x):
            return mp.log(mp.exp(-((x - m) ** 2) / (2 * (s + t))) + mp.exp(-((x + m) ** 2) / (2 * (s + t))))

        assert abs(mp.diff(log_density, 0, 2)) < mp.mpf(10) ** -15
        assert float(two.subs({sp.Symbol("m", positive=True): 7, sp.Symbol("s", positive=True): 2, t_: 47})) == 0


def test_largest_eigenvalue_by_three_routes():
    rng = np.random.default_rng(0)
    means, weights = rng.standard_normal((3, 12)), [0.5, 0.3, 0.2]
    same = Mixture(weights, [Isotropic(0.7)] * 3, means=means)
    assert same.largest_eigenvalue() == pytest.approx(np.linalg.eigvalsh(same.covariance())[-1], rel=1e-12)
    models = [Isotropic(0.7), Subspaces([0.5, 0.25], [3.0, 0.1]), PowerLaw(2.0)]
    mixed = Mixture(weights, models, means=means)
    assert speciation_time(mixed) == pytest.approx(speciation_time(mixed.covariance()), rel=1e-12)
    # 200 000 samples: the largest of 12 eigenvalues is known to sqrt(2/200000) = 0.3 %; five times that
    spread = np.sqrt(mixed.variances())
    label = rng.choice(3, 200_000, p=weights)
    X = means[label] + spread[label] * rng.standard_normal((len(label), 12))
    assert speciation_time(Spectrum.from_samples(X)) == pytest.approx(speciation_time(mixed), rel=0.016)
    assert speciation_time(LinearManifold(0.25)) == pytest.approx(9.0)


def test_curvature_of_an_empirical_density_turns_where_theory_says():
    """Jacobian of the empirical score at the centre, -1/t + Cov_w/t^2: its largest eigenvalue crosses 0 at Lambda - 2 s.

    The root is found without theory, in 12 data sets of 2000 points; they scatter by 3 %. Control: Lambda itself is off by more.
    """
    N, s, roots = 6, 2.0, []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        sign = rng.permuted(np.repeat([-1.0, 1.0], 1000))
        X = 3.0 * sign[:, None] + np.sqrt(s) * rng.standard_normal((2000, N))
        X -= X.mean(axis=0)

        def top(t, X=X):
            w = np.exp(-(X**2).sum(axis=1) / (2 * t))
            w /= w.sum()
            centre = w @ X
            return np.linalg.eigvalsh(-np.eye(N) / t + ((X - centre).T * w) @ (X - centre) / t**2)[-1]

        roots.append(brentq(top, 20.0, 120.0))
    theory = speciation_time(clusters(N, variances=(s, s), m=3.0))
    error = np.std(roots, ddof=1) / 12**0.5
    assert theory == pytest.approx(9 * N + s)
    # p < 1e-3 for 11 degrees of freedom beyond 4.4 errors
    assert abs(np.mean(roots) - (theory - 2 * s)) < 4.4 * error
    assert abs(np.mean(roots) - theory) > 4.4 * error


# --- clones ---------------------------------------------------------------------------------------------------------------------


def test_cloning_values_of_the_contract():
    for N in (256, 1024, 4096, 16_384):
        assert cloning_probability(clusters(N), 0.5 * np.log(N), convention="vp") == pytest.approx(0.7752, abs=5e-5)
    found = cloning_probability(clusters(1024), [3.0, 3.5, 4.0], convention="vp")
    assert found == pytest.approx([0.918, 0.764, 0.632], abs=5e-4)
    assert cloning_probability(clusters(1024), np.expm1([6.0, 7.0, 8.0])) == pytest.approx(found, rel=1e-12)


def test_integrand_is_that_of_the_posterior():
    a, b = cloning_identity()
    assert sp.simplify(a - b) == 0


def _integral(pi, centres, variances):
    """The integral over one coordinate, as written in the paper, at 30 digits."""
    with mp.workdps(30):
        pi, centres, variances = ([mp.mpf(float(z)) for z in row] for row in (pi, centres, variances))

        def f(y):
            parts = [
                p * mp.exp(-((y - c) ** 2) / (2 * v)) / mp.sqrt(2 * mp.pi * v)
                for p, c, v in zip(pi, centres, variances, strict=True)
            ]
            return sum(part**2 for part in parts) / sum(parts)

        reach = 14 * mp.sqrt(max(variances))
        return mp.quad(f, mp.linspace(min(centres) - reach, max(centres) + reach, 31))


@pytest.mark.parametrize(("weight", "d"), [(0.5, 0.3), (0.5, 2.0), (0.8, 5.0), (0.01, 1.0)])
def test_equal_classes_against_30_digits(weight, d):
    t, N = 1.7, 9
    m = d / 2 * np.sqrt(1 + t) / np.sqrt(N)
    exact = _integral([weight, 1 - weight], [d / 2, -d / 2], [1, 1])
    assert cloning_probability(clusters(N, weight, m=m), t) == pytest.approx(float(exact), abs=1e-11)
    # the same classes with a spectrum, the means along the second axis
    spectrum = Spectrum([3.0, 0.5, 0.0])
    means = np.array([[0, d * np.sqrt(0.5 + t), 0], [0, 0, 0]])
    tilted = Mixture([weight, 1 - weight], [spectrum] * 2, means=means)
    assert cloning_probability(tilted, t) == pytest.approx(float(exact), abs=1e-11)


@pytest.mark.parametrize(("variances", "t"), [((1.0, 0.5), 1.0), ((3.0, 0.1), 0.2), ((30.0, 0.9), 0.1)])
def test_unequal_variances_in_one_dimension_against_30_digits(variances, t):
    exact = _integral([0.6, 0.4], [1.3, -1.3], [v + t for v in variances])
    assert cloning_probability(clusters(1, 0.6, variances, 1.3), t) == pytest.approx(float(exact), abs=1e-9)


@pytest.mark.parametrize(("N", "t"), [(3, 1.0), (24, 30.0)])
def test_unequal_variances_in_many_dimensions_against_sampling(N, t):
    """Posterior of 200 000 draws of x; z-test, false alarm 1e-3. Control: the coordinate between the means alone."""
    weight, variances, m = 0.3, (2.0, 0.1), 0.4
    rng = np.random.default_rng(N)
    own = rng.random(200_000) < weight
    v = np.array(variances) + t
    x = np.where(own, m, -m)[:, None] + np.sqrt(np.where(own, *v))[:, None] * rng.standard_normal((len(own), N))
    logs = [
        np.log(p) - N / 2 * np.log(s) - ((x - c) ** 2).sum(1) / (2 * s)
        for p, s, c in zip((0.3, 0.7), v, (m, -m), strict=True)
    ]
    p = 1 / (1 + np.exp(logs[1] - logs[0]))
    draws = p**2 + (1 - p) ** 2
    error = draws.std() / len(draws) ** 0.5
    assert abs(cloning_probability(clusters(N, weight, variances, m), t) - draws.mean()) < 3.3 * error
    projected = float(_integral([0.3, 0.7], [m * N**0.5, -m * N**0.5], v))
    assert abs(projected - draws.mean()) > 6 * error


def test_limits_of_the_cloning_probability():
    model = clusters(20, 0.7, (1.0, 0.4))
    assert cloning_probability(model, 1e9) == pytest.approx(0.7**2 + 0.3**2, abs=1e-7)
    assert cloning_probability(clusters(20, 0.7, (1.0, 0.4), m=3.0), 1e-6) == pytest.approx(1.0, abs=1e-9)
    phi = cloning_probability(model, np.geomspace(0.01, 1e4, 40))
    assert (np.diff(phi) <= 1e-12).all()
    # far above t_s: phi = 1/2 + d^2/8 + O(d^4), d the distance in standard deviations; from the logistic's own series
    z, d = sp.symbols("z d")
    series = sp.series(1 / (1 + sp.exp(-(d**2 / 2 + d * z))), d, 0, 3).removeO()
    mean = sum(series.expand().coeff(z, n) * (1, 0, 1)[n] for n in range(3))
    assert sp.simplify(mean - sp.Rational(1, 2) - d**2 / 8) == 0
    assert cloning_probability(clusters(10), 40_000.0) == pytest.approx(0.5 + 40 / 40_001 / 8, abs=1e-7)


# --- by simulation --------------------------------------------------------------------------------------------------------------


def test_exact_score_is_the_gradient_of_the_log_density():
    x = torch.tensor(np.random.default_rng(0).standard_normal((5, 3)) * 2, requires_grad=True)
    t = torch.tensor([0.1, 0.5, 1.0, 3.0, 9.0], dtype=torch.float64)
    model = clusters(3, 0.3, (1.0, 0.4), 1.2)
    parts = []
    for pi, mean, law in zip(model.weights, model.means, model.models, strict=True):
        v = law.variance + t
        parts.append(np.log(pi) - 1.5 * torch.log(v) - (x - torch.tensor(mean)).square().sum(1) / (2 * v))
    (gradient,) = torch.autograd.grad(torch.logsumexp(torch.stack(parts), 0).sum(), x)
    score, p = exact_score(model)(x.detach(), t)
    torch.testing.assert_close(score, gradient)
    torch.testing.assert_close(p.T, torch.softmax(torch.stack(parts), 0).detach())


@pytest.mark.parametrize(("weight", "variances"), [(0.5, (1.0, 1.0)), (0.75, (1.0, 0.5))])
def test_clones_of_backward_trajectories_agree_as_predicted(weight, variances):
    """12 000 pairs run down the reverse SDE with the exact score; z-test, false alarm 1e-3. Control: clones split at 1.5 t."""
    model = clusters(4, weight, variances, 3.0)
    t_s = speciation_time(model)
    same = clone_agreement(model, t_s, t_s, 12_000, (5,), "cpu")
    error = same.std() / len(same) ** 0.5
    assert abs(same.mean() - cloning_probability(model, t_s)) < 3.3 * error
    assert abs(same.mean() - cloning_probability(model, 1.5 * t_s)) > 5 * error


def test_experiment_finds_the_theory_and_rejects_wrong_ones():
    """Wrong: the load of the whole set in every class, and clones split at twice the noise. The right theory is not rejected."""
    tiny = experiment.Preset("tiny", 2, 2e4, 3000)
    arguments = {"seed": 1, "cases": experiment.CASES[1:]}

    def whole(mixture, P):
        return np.array([collapse_time(model, P=P, N=mixture.N) for model in mixture.models])

    def whole_entropy(mixture, P, t):
        parts = [excess_entropy(model, P=P, N=mixture.N, t=t) for model in mixture.models]
        return np.array(mixture.weights) @ np.array(parts)

    right = experiment.run(tiny, **arguments)
    assert right.count()["disagree"] == 0
    assert right.count()["agree"] >= 3
    wrong = experiment.run(
        tiny, times=whole, entropy=whole_entropy, clones=lambda m, t: cloning_probability(m, 2 * t), **arguments
    )
    assert [row.quantity for row in wrong.rows] == [row.quantity for row in right.rows]
    for row in wrong.rows:
        # a class with three quarters of the points has nearly the load of the whole: the test of it is weak
        assert row.outcome == "disagree" or "pi = 0.75" in row.quantity
    assert experiment.figure(right).axes
