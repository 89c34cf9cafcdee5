"""The exact score's Jacobian: spectrum against identities and matrices, gaps against brute force, phases by their meaning."""

import math

import numpy as np
import pytest
import sympy as sp
from scipy.optimize import brentq, minimize_scalar

from numerics.domain import DomainError
from numerics.quadrature.rules import double_exponential
from theory.jacobian.gap_equations import Delta, GapDerivation, a, b, positive_roots
from theory.jacobian.phases import Phase, phase, phase_times
from theory.jacobian.spectral_gaps import gap_opening_times, spectral_gaps
from theory.jacobian.spectrum import jacobian_cdf, jacobian_density, jacobian_edges, jacobian_law
from theory.models.covariance import covariance_edges, covariance_law
from theory.models.gaussian import Isotropic, LinearManifold, Spectrum, Subspaces
from theory.models.marchenko_pastur import continuum
from theory.notation import t as time

TWO = LinearManifold(0.3, variances=[1.0, 0.01], fractions=[0.4, 0.6])
MODELS = {
    "one variance": LinearManifold(0.5),
    "hard edge": LinearManifold(1.0),
    "over full rank": LinearManifold(1.7, variances=[1.0, 0.02]),
    "two bulks": TWO,
    "three bulks": LinearManifold(0.2, variances=[2.0, 0.1, 0.001]),
    "subspaces": Subspaces([0.3, 0.3], [1.0, 0.09]),
    "close subspaces": Subspaces([0.3, 0.3], [1.0, 0.9]),  # its total gap is the wider one at all times
    "isotropic": Isotropic(0.7),
    "spectrum": Spectrum([0.0, 0.0, 0.2, 1.0, 5.0]),
}
models = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
times = pytest.mark.parametrize("t", [1e-6, 0.03, 1.0, 1e4])


def saddle_V(model, t):
    """V = sum f s/(1 + s/(alpha_D (t+V))), solved by bisection: physics that shares nothing with the density."""
    f, s = np.array(model.fractions), np.array(model.variances)
    return brentq(
        lambda V: (f * s / (1 + s / (model.alpha_D * (t + V)))).sum() - V, 1e-30, s.max() * 2, xtol=1e-300, rtol=1e-15
    )


# --- spectrum ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["one variance", "hard edge", "over full rank", "two bulks", "three bulks"])
@times
def test_trace_of_the_jacobian_is_the_saddle_points(name, t):
    """tr J/N = -1/(t+V), the Stieltjes transform at -t."""
    model = MODELS[name]
    law = jacobian_law(model, t)
    trace = np.dot(law.atom_masses, law.atom_values) + sum(bulk.mass * bulk.mean for bulk in law.bulks)
    assert trace == pytest.approx(-1 / (t + saddle_V(model, t)), rel=1e-12)


@pytest.mark.parametrize("t", [1e-3, 0.3, 20.0])
def test_mean_of_each_bulk_by_residues(t):
    """int_bulk rho/(t+r) = alpha_D [sum of 1/y over its roots of z(y) = -t - sum of 1/s over its poles]."""
    for model in (TWO, MODELS["three bulks"]):
        c = continuum(model)
        law = jacobian_law(model, t)
        b = np.sqrt(c.alpha_D * c.f) * c.s  # z(y) = -t as an arrowhead eigenvalue problem
        arrow = np.diag(np.concatenate([[c.alpha_D * (-t / c.scale - np.dot(c.f, c.s))], c.s]))
        arrow[0, 1:], arrow[1:, 0] = -b, b
        roots = np.sort(np.linalg.eigvals(arrow).real)[::-1][: c.s.size]  # the least root is the physical one
        for k, bulk in enumerate(law.bulks[::-1]):
            mean = -c.alpha_D * (1 / roots[k] - 1 / c.s[k]) / c.scale
            assert bulk.mass * bulk.mean == pytest.approx(mean, rel=1e-10)


@models
@times
def test_law_is_the_image_of_the_covariance_law(model, t):
    before, after = covariance_law(model), jacobian_law(model, t)
    np.testing.assert_allclose(after.atom_values, -1 / (t + before.atom_values), rtol=1e-15)
    np.testing.assert_allclose(after.masses, before.masses, rtol=1e-15)
    np.testing.assert_allclose(after.edges, -1 / (t + before.edges), rtol=1e-15)
    np.testing.assert_allclose(jacobian_edges(model, t), after.edges, rtol=1e-15)
    assert after.intervals[0, 0] >= -1 / t
    assert after.intervals[-1, 1] < 0
    for image, bulk in zip(after.bulks, before.bulks, strict=True):
        assert image.lower < image.mean < image.upper
        assert image.median == pytest.approx(-1 / (t + bulk.median), rel=1e-15)
        assert image.mean <= -1 / (t + bulk.mean)  # Jensen


@pytest.mark.parametrize("name", ["one variance", "over full rank", "two bulks", "three bulks"])
@pytest.mark.parametrize("t", [0.01, 1.0])
def test_density_integrates_to_the_masses_of_the_bulks(name, t):
    model = MODELS[name]
    u, w = double_exponential(300)
    tolerance = 1e-5 if name == "over full rank" else 1e-9  # that bulk has a neck where the nodes are sparse
    for bulk in jacobian_law(model, t).bulks:
        lam = bulk.lower + (bulk.upper - bulk.lower) * u
        weight = (bulk.upper - bulk.lower) * w * jacobian_density(model, t, lam)
        assert weight.sum() == pytest.approx(bulk.mass, rel=tolerance)
        assert np.dot(weight, lam) == pytest.approx(bulk.mass * bulk.mean, rel=tolerance)


@models
def test_cdf_runs_from_0_to_1_and_has_the_masses_of_the_law(model):
    t = 0.2
    law = jacobian_law(model, t)
    middles = (law.intervals[:-1, 1] + law.intervals[1:, 0]) / 2
    np.testing.assert_allclose(jacobian_cdf(model, t, middles), np.cumsum(law.masses)[:-1], atol=1e-12)
    ends = [-1e300, -1.001 / t, law.intervals[-1, 1] * 0.999, -1e-300, 0.0, 5.0]
    assert jacobian_cdf(model, t, ends).tolist() == [0.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    assert jacobian_density(model, t, ends).tolist() == [0.0] * 6
    for bulk in law.bulks:
        assert jacobian_cdf(model, t, bulk.median) == pytest.approx(
            jacobian_cdf(model, t, bulk.upper) - bulk.mass / 2, abs=1e-10
        )


def test_arguments_broadcast():
    t = np.array([[0.1], [1.0]])
    lam = np.array([-3.0, -0.5, -0.2])
    grid = jacobian_density(TWO, t, lam)
    assert grid.shape == jacobian_cdf(TWO, t, lam).shape == (2, 3)
    assert grid[1, 2] == jacobian_density(TWO, 1.0, -0.2)
    assert isinstance(jacobian_density(TWO, 1.0, -0.2), float)
    assert isinstance(jacobian_cdf(TWO, 1.0, -0.2), float)
    assert jacobian_edges(TWO, t).shape == (2, 1, 2, 2)


def jacobian_eigenvalues(model, t, N, seed):
    """Eigenvalues of -(Sigma + t I)^{-1} by inverting the matrix, for one draw of F."""
    D = round(model.alpha_D * N)
    latent = np.repeat(model.variances, [round(f * D) for f in model.fractions])
    F = np.random.default_rng(seed).standard_normal((N, D)) * np.sqrt(latent)
    return np.linalg.eigvalsh(-np.linalg.inv(F @ F.T / D + t * np.eye(N)))


def test_eigenvalues_of_a_sampled_jacobian_follow_the_law():
    """N times the Kolmogorov-Smirnov distance has mean 1.95 and deviation 0.37 at N = 400 (150 draws, largest 3.2).

    The tolerance 5/N has a false-alarm probability of about 1e-5 by the Gumbel law with that mean and deviation.
    """
    N, t = 400, 0.05
    sample = jacobian_eigenvalues(TWO, t, N, seed=3)
    tangent = np.arange(N)[round(0.7 * N) :]
    F = jacobian_cdf(TWO, t, sample[tangent])
    assert np.abs(F - (tangent + 0.5) / N).max() < 5 / N
    wrong = jacobian_cdf(TWO, 1.3 * t, sample[tangent])  # another time is seen
    assert np.abs(wrong - (tangent + 0.5) / N).max() > 5 / N


def test_gaps_of_a_sampled_jacobian():
    """The two largest gaps of -t lambda sit at the predicted dimensions and have the predicted sizes.

    Relative deviations over 150 draws at N = 400: 0.047 +- 0.050 (total gap) and 0.014 +- 0.012; the tolerances are six
    deviations away, a false-alarm probability below 1e-6 even for the exponential tail of edge fluctuations.
    """
    N, t = 400, 0.3
    normalised = np.sort(-t * jacobian_eigenvalues(TWO, t, N, seed=5))[::-1]
    gaps = spectral_gaps(TWO, t)
    spacing = -np.diff(normalised)
    largest = np.sort(np.argsort(spacing)[-2:])
    np.testing.assert_array_equal(N - 1 - largest, np.round(N * gaps.dimension))
    measured = spacing[largest]
    assert (np.abs(measured / gaps.size - 1) < [0.35, 0.09]).all()
    # the same variances in orthogonal subspaces, without the spread that the mixing gives them, are told apart
    blocks = spectral_gaps(Subspaces([0.12, 0.18], [1.0 / 0.3, 0.01 / 0.3]), t)
    assert (np.abs(measured / blocks.size - 1) > [0.35, 0.09]).all()


def test_equation_states_m_at_the_image():
    alpha_D = sp.Symbol("alpha_D", positive=True)
    m, lam = sp.Symbol("m"), sp.Symbol("lambda", negative=True)
    equation = jacobian_density.equation(LinearManifold(alpha_D))
    assert equation == sp.Eq(-time - 1 / lam, alpha_D / (alpha_D + m) - 1 / m)


# --- gaps -------------------------------------------------------------------------------------------------------------


def test_gap_formulas_satisfy_their_definitions():
    derived = GapDerivation()
    assert sp.simplify(derived.size - (time / (time + a) - time / (time + b))) == 0
    assert sp.simplify(sp.diff(derived.size, time).subs(time, derived.peak)) == 0
    assert sp.simplify(derived.peak**2 - a * b) == 0
    assert sp.simplify(derived.size.subs(time, derived.peak) - derived.peak_size) == 0
    # opening and closing times multiply to a b, so that they are symmetric about the peak in log t
    A, _, C = derived.visible
    assert sp.simplify(C / A - a * b) == 0
    assert sp.diff(derived.eigenvalue_size, time).subs({a: 1, b: 2, time: 3}) < 0
    assert spectral_gaps.equation(TWO) == gap_opening_times.equation() == sp.Eq(Delta, derived.size)


@models
@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.8])
def test_opening_and_closing_times_are_where_the_gap_is_at_threshold(model, threshold):
    found = gap_opening_times(model, threshold)
    for k in range(found.lower.size):
        seen = not np.isnan(found.opening[k])
        assert seen == (found.peak_size[k] >= threshold)
        if seen:
            edge = spectral_gaps(model, [found.opening[k], max(found.closing[k], 1e-300)]).size[k]
            assert edge[0] == pytest.approx(threshold, rel=1e-10)
            assert edge[1] == pytest.approx(1.0 if found.total[k] else threshold, rel=1e-10)
            inside = math.sqrt(found.opening[k] * max(found.closing[k], 1e-9 * found.opening[k]))
            assert spectral_gaps(model, inside).size[k] > threshold
            assert spectral_gaps(model, found.opening[k] * 1.1).size[k] < threshold
        else:
            assert np.isnan(found.closing[k])


def maximiser(f):
    grid = np.linspace(-25, 25, 4001)
    values = f(np.exp(grid))
    k = int(values.argmax())
    if k in (0, grid.size - 1):
        return 0.0 if k == 0 else math.inf
    best = minimize_scalar(lambda x: -f(math.exp(x)), bounds=(grid[k - 1], grid[k + 1]), method="bounded")
    return math.exp(best.x)


@models
def test_peaks_are_maxima(model):
    found = gap_opening_times(model)
    for k in range(found.lower.size):
        if not found.total[k]:
            assert found.peak[k] == pytest.approx(maximiser(lambda t, k=k: spectral_gaps(model, t).size[k]), rel=1e-3)
            assert spectral_gaps(model, found.peak[k]).size[k] == pytest.approx(found.peak_size[k], rel=1e-12)
        else:
            assert (found.peak[k], found.peak_size[k], found.closing[k] == 0) == (0, 1, not np.isnan(found.opening[k]))
        if not np.isnan(found.relative_peak[k]):
            brute = maximiser(lambda t, k=k: spectral_gaps(model, t).relative[k])
            assert found.relative_peak[k] == pytest.approx(brute, rel=2e-3)
        else:
            assert found.lower.size == 1


@models
def test_total_gap_overtakes_where_the_two_are_equal(model):
    found = gap_opening_times(model)
    if not found.total.any():
        assert np.isnan(found.overtaken).all()
        return
    assert np.isnan(found.overtaken[0])
    for k in range(1, found.lower.size):
        t = found.overtaken[k]
        if np.isinf(t):
            assert (np.diff(spectral_gaps(model, np.logspace(-9, 9, 50)).size[[k, 0]], axis=0) > 0).all()
        else:
            both = spectral_gaps(model, [t * 0.9, t, t * 1.1]).size[[0, k]]
            assert both[0, 1] == pytest.approx(both[1, 1], rel=1e-9)
            assert both[0, 0] > both[1, 0]
            assert both[0, 2] < both[1, 2]


def test_gaps_of_the_two_variance_manifold():
    """Total and intermediate gap, in the order of the spectrum, with the dimensions of the manifold and its subspace."""
    gaps = spectral_gaps(TWO, 0.1)
    assert gaps.total.tolist() == [True, False]
    np.testing.assert_allclose(gaps.dimension, [0.3, 0.12], rtol=1e-12)
    edges = covariance_edges(TWO)
    np.testing.assert_allclose(gaps.lower, [0.0, edges[0, 1]])
    np.testing.assert_allclose(gaps.upper, edges[:, 0])
    image = jacobian_edges(TWO, 0.1)
    np.testing.assert_allclose(gaps.eigenvalue_size, [image[0, 0] + 10.0, image[1, 0] - image[0, 1]], rtol=1e-12)
    np.testing.assert_allclose(gaps.size, 0.1 * gaps.eigenvalue_size, rtol=1e-15)
    whole = 1 - 0.1 / (0.1 + edges[1, 1])
    np.testing.assert_allclose(gaps.relative, gaps.size / whole, rtol=1e-12)
    assert spectral_gaps(TWO, [[0.1, 1.0, 2.0]]).size.shape == (2, 1, 3)


def test_spectra_in_one_piece_have_no_gaps():
    for model in (Isotropic(1.0), LinearManifold(1.0), LinearManifold(2.0)):
        assert spectral_gaps(model, 1.0).size.shape == (0,)
        assert gap_opening_times(model).opening.shape == (0,)


@pytest.mark.parametrize(
    ("coefficients", "roots"),
    [
        ((1.0, -1e8, 1.0), (1e-8, 1e8)),
        ((-1.0, 5.0, 0.0), (5.0, 5.0)),
        ((0.0, -2.0, 1.0), (0.5, 0.5)),
        ((1.0, 1.0, 1.0), (math.nan, math.nan)),
        ((1.0, -1.0, -6.0), (3.0, 3.0)),
    ],
)
def test_positive_roots(coefficients, roots):
    np.testing.assert_allclose([float(x) for x in positive_roots(*coefficients)], roots, rtol=1e-15)


# --- phases -----------------------------------------------------------------------------------------------------------


def random_manifold(generator):
    K = int(generator.integers(1, 4))
    fractions = generator.dirichlet(np.full(K, 3.0))
    return LinearManifold(generator.uniform(0.02, 1.3), np.exp(generator.uniform(-6, 2, size=K)), fractions)


def test_phases_mean_what_they_say():
    """Trivial: no gap is visible. Consolidation: the total gap is nearly complete and no other is visible."""
    generator = np.random.default_rng(11)
    seen = set()
    for _ in range(150):
        model, threshold = random_manifold(generator), generator.uniform(0.02, 0.45)
        times = phase_times(model, threshold)
        assert 0 <= times.consolidation < times.coverage
        for t in (times.coverage * 1.0001, times.coverage * 0.9999, times.consolidation * 0.9999):
            if t == 0:
                assert model.alpha_D >= 1
                continue
            found = phase(model, t, threshold)
            seen.add(found)
            gaps = spectral_gaps(model, t)
            if found is Phase.TRIVIAL:
                assert (gaps.size < threshold).all()
            if found is Phase.CONSOLIDATION:
                assert (gaps.size[~gaps.total] < threshold).all()
                assert gaps.size[gaps.total] > 1 - threshold
            if found is Phase.COVERAGE:
                # the largest variance shows; not every tangent direction is complete
                law = covariance_law(model).intervals
                assert law[-1, 1] / (t + law[-1, 1]) >= threshold
                assert t >= times.consolidation
    assert seen == set(Phase)


def test_phases_follow_each_other_as_noise_decreases():
    t = np.logspace(4, -6, 300)
    found = phase(TWO, t, threshold=0.1)
    order = [list(Phase).index(p) for p in found]
    assert order == sorted(order)
    assert set(order) == {0, 1, 2}
    assert found[0] == "trivial"
    assert phase(TWO, 1e4) is Phase.TRIVIAL
    assert all(p.meaning for p in Phase)


@pytest.mark.parametrize("model", [Isotropic(1.0), LinearManifold(1.0), LinearManifold(1.5), Subspaces([1.0], [2.0])])
def test_without_normal_directions_nothing_consolidates(model):
    assert phase_times(model).consolidation == 0
    assert phase(model, 1e-12) is Phase.COVERAGE


def test_phase_times_of_subspaces_in_closed_form():
    found = phase_times(Subspaces([0.2, 0.2], [4.0, 0.5]), threshold=0.2)
    assert (found.coverage, found.consolidation) == (16.0, 0.125)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: jacobian_density(TWO, 0.0, -1.0), "t"),
        (lambda: jacobian_density(TWO, 1.0, math.nan), "lam"),
        (lambda: jacobian_cdf(TWO, -1.0, -1.0), "t"),
        (lambda: jacobian_edges(TWO, math.inf), "t"),
        (lambda: jacobian_law(TWO, [1.0, 2.0]), "t"),
        (lambda: jacobian_law(LinearManifold([0.1, 0.2]), 1.0), "alpha_D"),
        (lambda: spectral_gaps(TWO, 0.0), "t"),
        (lambda: spectral_gaps(Isotropic(sp.Symbol("v", positive=True)), 1.0), "variance"),
        (lambda: gap_opening_times(TWO, 1.0), "threshold"),
        (lambda: gap_opening_times(TWO, 0.0), "threshold"),
        (lambda: gap_opening_times(TWO, [0.1, 0.2]), "threshold"),
        (lambda: phase(TWO, -1.0), "t"),
        (lambda: phase(TWO, 1.0, threshold=0.5), "threshold"),
        (lambda: phase_times(3.0), "model"),
    ],
)
def test_bad_input_names_the_argument(call, argument):
    with pytest.raises(DomainError) as caught:
        call()
    assert caught.value.argument == argument
