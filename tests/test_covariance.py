"""Covariance spectra: the derivation, four routes to one law (closed form, polynomial roots, moments, samples), bad input."""

import itertools
import math

import mpmath as mp
import numpy as np
import pytest
import sympy as sp

from numerics.domain import DomainError
from numerics.quadrature.rules import double_exponential
from theory import notation as sym
from theory.models.covariance import (
    covariance_cdf,
    covariance_density,
    covariance_edges,
    covariance_law,
    covariance_quantile,
    splitting_alpha_D,
)
from theory.models.gaussian import Isotropic, LinearManifold, Spectrum, Subspaces
from theory.models.marchenko_pastur import continuum
from theory.models.spectral_law import SpectralLaw
from theory.models.stieltjes import StieltjesMap, edges_equation, m, omega, s, stieltjes_equation, y, z
from theory.rem.spectral_average import covariance_moments, spectral_nodes

MANIFOLDS = {
    "one variance": LinearManifold(0.5),
    "thin": LinearManifold(0.01, variances=[3.0]),
    "nearly full rank": LinearManifold(0.999),
    "hard edge": LinearManifold(1.0),
    "over full rank": LinearManifold(2.5),
    "two bulks": LinearManifold(0.5, variances=[1.0, 0.0016], fractions=[0.3, 0.7]),
    "just split": LinearManifold(0.412, variances=[1.0, 0.25]),
    "just merged": LinearManifold(0.413, variances=[1.0, 0.25]),
    "three, hard edge": LinearManifold(1.0, variances=[1.0, 0.09, 1e-4], fractions=[0.3, 0.3, 0.4]),
    "three, over full rank": LinearManifold(3.0, variances=[2.0, 0.3, 1e-3]),
    "with zero variances": LinearManifold(1.4, variances=[1.0, 0.5, 0.0], fractions=[0.2, 0.4, 0.4]),
    "many": LinearManifold(0.6, variances=np.geomspace(1.0, 1e-3, 40)),
}
manifolds = pytest.mark.parametrize("model", MANIFOLDS.values(), ids=MANIFOLDS.keys())


# --- the derivation ---------------------------------------------------------------------------------------------------


def test_r_transform_sums_the_free_cumulants():
    derived = StieltjesMap()
    for n in range(6):
        coefficient = sp.diff(derived.r_transform, omega, n).subs(omega, 0) / sp.factorial(n)
        assert sp.simplify(coefficient - derived.free_cumulant(n + 1)) == 0


def test_stieltjes_equation_at_minus_t_is_the_saddle_point_of_the_linear_manifold():
    """z = -t, m = 1/(t+V) turn it into V = <s/(1 + s chi)> with chi = 1/(alpha_D (t+V))."""
    f1, f2, s1, s2 = 0.3, 0.7, 1.0, 0.09
    equation = stieltjes_equation(LinearManifold(sym.alpha_D, variances=[s1, s2], fractions=[f1, f2]))
    at = (equation.lhs - equation.rhs).subs({z: -sym.t, m: 1 / (sym.t + sym.V)})
    chi = 1 / (sym.alpha_D * (sym.t + sym.V))
    assert sp.simplify(at - (sym.V - f1 * s1 / (1 + s1 * chi) - f2 * s2 / (1 + s2 * chi))) == 0


def test_edges_equation_of_one_variance_gives_the_closed_edges():
    condition, edge = edges_equation(LinearManifold(sym.alpha_D))
    edges = {sp.simplify(edge.rhs.subs(y, root)) for root in sp.solve(condition, y)}
    a = sp.sqrt(sym.alpha_D)
    assert all(any(sp.simplify(found - (1 + sign * a) ** 2 / a**2) == 0 for found in edges) for sign in (1, -1))


def test_lowered_forms_are_one_map():
    derived = StieltjesMap()
    assert sp.simplify(sp.diff(derived.primitive, y) - derived.slope / y) == 0
    assert sp.simplify(sp.diff(derived.level, y) - derived.slope) == 0
    # at an edge 1/alpha_D = -<slope>: the level y/alpha_D + <level> becomes <edge>
    assert sp.simplify(-y * derived.slope + derived.level - derived.edge) == 0
    assert sp.simplify(derived.level - (derived.V.subs(m, -sym.alpha_D / y))) == 0


def test_equation_of_atoms_is_the_explicit_transform():
    variance = sp.Symbol("v", positive=True)
    assert covariance_density.equation(Isotropic(variance)) == sp.Eq(m, 1 / (variance - z))
    equation = stieltjes_equation(Subspaces([0.25, 0.25], [2.0, 1.0]))
    assert sp.simplify(equation.rhs - (0.25 / (2 - z) + 0.25 / (1 - z) - 0.5 / z)) == 0
    assert stieltjes_equation(Spectrum([1.0, 3.0])).rhs.subs(z, -1) == pytest.approx(0.375)


# --- one latent variance: closed form ---------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha_D", [0.01, 0.3, 0.5, 0.9, 0.999, 1.0, 1.5, 40.0])
@pytest.mark.parametrize("variance", [1.0, 3e-7])
def test_one_variance_is_marchenko_pastur(alpha_D, variance):
    model = LinearManifold(alpha_D, variances=[variance])
    with mp.workdps(40):
        a, v = mp.mpf(alpha_D), mp.mpf(variance)
        low, high = (v * (1 + sign * mp.sqrt(a)) ** 2 / a for sign in (-1, 1))
        edges = covariance_edges(model)[0]
        assert abs(edges[1] - high) <= 1e-15 * high
        assert abs(edges[0] - low) <= (1e-13 if abs(alpha_D - 1) > 0.01 else 1e-12) * low
        fraction = np.linspace(0.01, 0.99, 25)
        r = float(low) + fraction * float(high - low)
        exact = [float(a / (2 * mp.pi * v) * mp.sqrt((high - x) * (x - low)) / x) for x in r]
    np.testing.assert_allclose(covariance_density(model, r), exact, rtol=1e-12)
    assert covariance_density(model, [float(high) * 1.01, -1.0]).tolist() == [0.0, 0.0]


def test_hard_edge_diverges_as_the_inverse_root():
    r = np.array([1e-12, 1e-8, 1e-4])
    exact = np.sqrt((4 - r) / r) / (2 * np.pi)
    np.testing.assert_allclose(covariance_density(LinearManifold(1.0), r), exact, rtol=1e-12)
    assert covariance_density(LinearManifold(1.0), 0.0) == math.inf
    assert covariance_density(LinearManifold(0.5), 0.0) == 0.0


def test_lower_edge_next_to_full_rank_keeps_its_digits():
    for alpha_D in (1 - 1e-9, 1 + 1e-9):
        with mp.workdps(40):
            exact = (1 - mp.sqrt(mp.mpf(alpha_D))) ** 2 / mp.mpf(alpha_D)
        assert covariance_edges(LinearManifold(alpha_D))[0, 0] == pytest.approx(float(exact), rel=1e-12)


# --- several latent variances: independent routes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["two bulks", "just split", "just merged", "three, hard edge", "three, over full rank"]
)
def test_density_equals_the_root_of_the_polynomial(name):
    """r prod(y - s) = y [prod(y - s)/alpha_D + sum f s prod'(y - s)], its one complex pair found by mpmath."""
    model = MANIFOLDS[name]
    generator = np.random.default_rng(7)
    with mp.workdps(40):
        a = mp.mpf(model.alpha_D)
        for low, high in covariance_edges(model):
            for r in low + (high - low) * generator.uniform(0.01, 0.99, size=4):
                p = sp.Poly((y / sp.Float(a, 40) - sp.Float(float(r), 40)) * sp.prod([y - v for v in _exact(model)]), y)
                for f, v in zip(model.fractions, _exact(model), strict=True):
                    rest = sp.prod([y - w for w in _exact(model) if w != v])
                    p += sp.Poly(sp.Float(f, 40) * v * y * rest, y)
                roots = mp.polyroots([mp.mpf(str(c)) for c in p.all_coeffs()], maxsteps=500, extraprec=400)
                root = max(roots, key=lambda x: mp.im(x))
                exact = float(a / mp.pi * mp.im(root) / abs(root) ** 2)
                assert covariance_density(model, r) == pytest.approx(exact, rel=1e-11)


def _exact(model):
    return [sp.Float(v, 40) for v in model.variances]


@manifolds
def test_law_integrates_to_one_and_has_the_moments_of_the_free_cumulants(model):
    weights, values = spectral_nodes(model, 120)
    assert (weights >= 0).all()
    assert (np.diff(values) >= 0).all()
    assert weights.sum() == pytest.approx(1, rel=1e-13)
    for n, moment in enumerate(covariance_moments(model, 6), start=1):
        assert np.dot(weights, values**n) == pytest.approx(moment, rel=1e-12)
    law = covariance_law(model)
    assert law.masses.sum() == pytest.approx(1, rel=1e-14)
    mean = sum(bulk.mass * bulk.mean for bulk in law.bulks)
    assert mean == pytest.approx(model.mean_variance, rel=1e-13)


@manifolds
def test_each_bulk_has_its_mass_mean_and_median(model):
    """The density itself, integrated over r between edges and necks, against closed forms from residues."""
    law = covariance_law(model)
    u, w = double_exponential(160)
    c = continuum(model)
    necks = c.scale * c.level(c.curve([c.split(k)[0] for k in range(c.s.size - 1)])).real
    for bulk in law.bulks:
        cuts = np.sort([bulk.lower, *necks[(necks > bulk.lower) & (necks < bulk.upper)], bulk.upper])
        r = cuts[:-1, None] + np.diff(cuts)[:, None] * u
        weight = np.diff(cuts)[:, None] * w * covariance_density(model, r)
        assert weight.sum() == pytest.approx(bulk.mass, rel=1e-11)
        assert (weight * r).sum() == pytest.approx(bulk.mass * bulk.mean, rel=1e-11)
        middle = covariance_cdf(model, bulk.median)
        assert middle == pytest.approx(covariance_cdf(model, bulk.upper) - bulk.mass / 2, abs=1e-14)
        assert bulk.lower < bulk.mean < bulk.upper


def test_means_of_bulks_repel():
    """Closed form for two: the upper mean is s1 [1 + alpha_D f2 s2/(s1-s2)], the lower s2 [1 - alpha_D f1 s1/(s1-s2)]."""
    a, s1, s2 = 0.2, 1.0, 0.3
    lower, upper = covariance_law(LinearManifold(a, variances=[s1, s2], fractions=[0.4, 0.6])).bulks
    assert upper.mean * a == pytest.approx(s1 * (1 + a * 0.6 * s2 / (s1 - s2)), rel=1e-13)
    assert lower.mean * a == pytest.approx(s2 * (1 - a * 0.4 * s1 / (s1 - s2)), rel=1e-13)


@manifolds
def test_cdf_is_the_integral_of_the_density(model):
    """Between quantiles of one bulk, by Gauss-Legendre quadrature; and quantiles invert the cdf."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    c = continuum(model)
    splits = [c.split(k) for k in range(c.s.size - 1)]
    necks = c.scale * c.level(c.curve([y for y, depth in splits if depth > 0.5 * model.alpha_D])).real  # sharp ones
    for bulk in covariance_law(model).bulks:
        q = covariance_cdf(model, bulk.upper) - bulk.mass * np.linspace(0.97, 0.03, 30)
        r = covariance_quantile(model, q)
        np.testing.assert_allclose(covariance_cdf(model, r), q, atol=1e-13)
        inside = 0.5 * (r[:-1, None] + r[1:, None] + np.diff(r)[:, None] * nodes)
        mass = 0.5 * np.diff(r) * (covariance_density(model, inside) @ weights)
        smooth = np.array([not ((left < necks) & (necks < right)).any() for left, right in itertools.pairwise(r)])
        assert smooth.any()
        np.testing.assert_allclose(mass[smooth], np.diff(q)[smooth], rtol=1e-7)


def test_moments_of_marchenko_pastur_are_narayana_polynomials():
    a = sp.Symbol("alpha_D", positive=True)
    moments = covariance_moments(LinearManifold(a), 6)
    for n, moment in enumerate(moments, start=1):
        narayana = sum(sp.binomial(n, k) * sp.binomial(n, k - 1) / n * a ** (k - n) for k in range(1, n + 1))
        assert sp.expand(moment - narayana) == 0


def test_gauss_rule_of_one_variance_is_exact_to_degree_2n_minus_1():
    for alpha_D in (0.2, 1.0, 4.0):
        model = LinearManifold(alpha_D)
        weights, values = spectral_nodes(model, 4)
        moments = covariance_moments(model, 8)
        error = [abs(np.dot(weights, values ** (n + 1)) / moments[n] - 1) for n in range(8)]
        assert max(error[:7]) < 1e-13
        assert error[7] > 1e-7


@pytest.mark.parametrize(("alpha_D", "alpha", "t_c"), [(0.5, 0.2, 1.40961276380), (0.05, 0.2, 0.00654305678709)])
def test_nodes_give_the_reference_collapse_times(alpha_D, alpha, t_c):
    """2 alpha = int rho log(1 + r/t_c), at values found with other code."""
    weights, values = spectral_nodes(LinearManifold(alpha_D), 60)
    assert np.dot(weights, np.log1p(values / t_c)) == pytest.approx(2 * alpha, rel=1e-11)


@pytest.mark.parametrize("alpha_D", [0.5, 0.95, 1.0, 1.05, 2.0])
def test_nodes_converge_geometrically_at_every_alpha_D(alpha_D):
    """Against A = alpha_D (1-V), at the rate set by -t alone: cosh eta = (t + centre)/half-width of the bulk."""
    t = 0.05
    b = alpha_D * (t - 1) + 1
    V = 2 * alpha_D * t / (b + math.sqrt(b * b + 4 * alpha_D**2 * t))
    n = np.arange(6, 36, 3)
    errors = []
    for k in n:
        weights, values = spectral_nodes(LinearManifold(alpha_D), int(k))
        errors.append(abs(np.dot(weights, values / (values + t)) - alpha_D * (1 - V)))
    low, high = covariance_edges(LinearManifold(alpha_D))[0]
    eta = math.acosh((t + (low + high) / 2) / ((high - low) / 2))
    significant = np.array(errors) > 1e-14
    slope = np.polyfit(n[significant], np.log(np.array(errors)[significant]), 1)[0]
    assert slope == pytest.approx(-2 * eta, rel=0.1)


# --- bulks that split -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("s2", "f1"), [(0.25, 0.5), (0.9, 0.2), (1e-4, 0.5), (0.3, 0.01)])
def test_two_bulks_split_at_the_closed_alpha_D(s2, f1):
    critical = (1 - s2) ** 2 / (np.cbrt(f1) + np.cbrt((1 - f1) * s2**2)) ** 3
    found = splitting_alpha_D(LinearManifold(0.5, variances=[1.0, s2], fractions=[f1, 1 - f1]))
    np.testing.assert_allclose(found, [critical], rtol=1e-12)
    for factor, bulks in ((1 - 1e-6, 2), (1 + 1e-6, 1)):
        model = LinearManifold(critical * factor, variances=[1.0, s2], fractions=[f1, 1 - f1])
        assert len(covariance_edges(model)) == bulks


def test_splitting_is_at_the_minimum_between_neighbours():
    s, f = np.array([1.0, 0.7, 0.2, 0.15, 0.01]), np.array([0.1, 0.3, 0.2, 0.15, 0.25])
    found = splitting_alpha_D(LinearManifold(0.5, variances=s, fractions=f))
    for k in range(4):
        grid = np.linspace(s[k + 1], s[k], 20003)[1:-1, None]
        least = (f * s**2 / (grid - s) ** 2).sum(axis=1).min()
        assert found[k] == pytest.approx(1 / least, rel=1e-6)


def test_equal_variances_merge_and_scales_scale():
    one = covariance_law(LinearManifold(0.3, variances=[1.0, 1.0, 1.0]))
    assert one.edges.tolist() == covariance_edges(LinearManifold(0.3)).tolist()
    reference = LinearManifold(0.3, variances=[1.0, 0.05])
    for scale in (1e-150, 1e-9, 1e12, 1e150):
        scaled = LinearManifold(0.3, variances=[scale, 0.05 * scale])
        np.testing.assert_allclose(covariance_edges(scaled), scale * covariance_edges(reference), rtol=1e-14)
        rho = covariance_density(scaled, scale * np.array([0.1, 3.0]))
        np.testing.assert_allclose(scale * rho, covariance_density(reference, [0.1, 3.0]), rtol=1e-12)


# --- finite samples ---------------------------------------------------------------------------------------------------


def eigenvalues(model, N, seed):
    """Eigenvalues of F diag(s) F^T/D for one draw of F."""
    D = round(model.alpha_D * N)
    latent = np.repeat(model.variances, [round(f * D) for f in model.fractions])
    assert latent.size == D
    F = np.random.default_rng(seed).standard_normal((N, D)) * np.sqrt(latent)
    gram = F.T @ F / D if D < N else F @ F.T / D
    return np.concatenate([np.zeros(max(N - D, 0)), np.linalg.eigvalsh(gram)])


def distance(sample, cdf):
    """Kolmogorov-Smirnov distance from a law that may have an atom at 0."""
    sample = np.sort(sample)
    positive = np.flatnonzero(sample > 1e-9)
    F = cdf(sample[positive])
    return max(np.abs(F - positive / sample.size).max(), np.abs(F - (positive + 1) / sample.size).max())


SAMPLED = {
    "one": (LinearManifold(0.5), LinearManifold(0.48)),
    "two": (LinearManifold(0.5, [1.0, 0.09], [0.4, 0.6]), LinearManifold(0.5, [1.0, 0.09], [0.44, 0.56])),
    "hard edge": (LinearManifold(1.0), LinearManifold(1.05)),
    "merged": (
        LinearManifold(1.5, [1.0, 0.3, 0.01], [0.2, 0.4, 0.4]),
        LinearManifold(1.5, [1.0, 0.3, 0.03], [0.2, 0.4, 0.4]),
    ),
}


@pytest.mark.parametrize(("model", "wrong"), SAMPLED.values(), ids=SAMPLED.keys())
def test_sampled_eigenvalues_follow_the_law(model, wrong):
    """Eigenvalues are rigid: N times the distance has mean 3.1 and deviation 0.33 at N = 1000 (100 draws, largest 4.3).

    The tolerance 6/N has a false-alarm probability of about 1e-5 by the Gumbel law with that mean and deviation.
    """
    N = 1000
    sample = eigenvalues(model, N, seed=20)
    assert distance(sample, lambda r: covariance_cdf(model, r)) < 6 / N
    assert distance(sample, lambda r: covariance_cdf(wrong, r)) > 6 / N  # a slightly wrong law is seen


def test_each_bulk_holds_exactly_its_number_of_eigenvalues():
    """Exact separation: at N = 400 the gaps are 20 edge fluctuations wide, and the counts are equal, not close."""
    model = LinearManifold(0.25, variances=[1.0, 0.04, 0.001], fractions=[0.2, 0.3, 0.5])
    law = covariance_law(model)
    assert len(law.bulks) == 3
    for seed in range(5):
        sample = eigenvalues(model, 400, seed)
        middles = (law.intervals[:-1, 1] + law.intervals[1:, 0]) / 2
        counts = np.diff(np.concatenate([[0], np.searchsorted(np.sort(sample), middles), [400]]))
        assert counts.tolist() == np.round(400 * law.masses).astype(int).tolist()
        assert counts[-1] == 20


# --- atoms ------------------------------------------------------------------------------------------------------------


def test_models_of_atoms():
    law = covariance_law(Subspaces([0.3, 0.2, 0.1], [1.0, 0.5, 1.0]))
    assert law.atom_values.tolist() == [0.0, 0.5, 1.0]
    np.testing.assert_allclose(law.atom_masses, [0.4, 0.2, 0.4], rtol=1e-12)
    assert law.edges.shape == (0, 2)
    full = covariance_law(Subspaces([0.1] * 10, np.arange(1.0, 11.0)))  # the fractions add up to 1 but for rounding
    assert full.atom_values[0] == 1.0
    spectrum = Spectrum([0.0, 0.0, 2.0, 5.0])
    assert covariance_cdf(spectrum, [-1.0, 0.0, 1.9, 2.0, 5.0]).tolist() == [0.0, 0.5, 0.5, 0.75, 1.0]
    assert covariance_quantile(spectrum, [0.0, 0.5, 0.6, 1.0]).tolist() == [0.0, 0.0, 2.0, 5.0]
    assert covariance_density(spectrum, [0.0, 2.0]).tolist() == [0.0, 0.0]
    weights, values = spectral_nodes(spectrum, 5)
    assert np.dot(weights, values) == 1.75
    assert covariance_moments(spectrum, 2).tolist() == [1.75, 7.25]
    assert covariance_law(Isotropic(2.0)).atom_values.tolist() == [2.0]
    v = sp.Symbol("v", positive=True)
    assert covariance_moments(Isotropic(v), 2) == (v, v**2)


def test_numbers_in_numbers_out():
    model = LinearManifold(0.5)
    assert isinstance(covariance_density(model, 2.0), float)
    assert isinstance(covariance_cdf(model, 2.0), float)
    assert isinstance(covariance_quantile(model, 0.9), float)
    assert covariance_density(model, [[1.0, 2.0, 3.0]]).shape == (1, 3)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: covariance_density(LinearManifold(0.5), math.nan), "r"),
        (lambda: covariance_cdf(LinearManifold(0.5), "wide"), "r"),
        (lambda: covariance_quantile(LinearManifold(0.5), 1.1), "q"),
        (lambda: covariance_quantile(LinearManifold(0.5), -0.1), "q"),
        (lambda: covariance_law(LinearManifold([0.5, 0.6])), "alpha_D"),
        (lambda: covariance_edges(LinearManifold(sp.Symbol("a", positive=True))), "alpha_D"),
        (lambda: covariance_law(Isotropic(sp.Symbol("v", positive=True))), "variance"),
        (lambda: covariance_density("MNIST", 1.0), "model"),
        (lambda: covariance_moments(LinearManifold(0.5), 0), "order"),
        (lambda: covariance_moments(LinearManifold([0.5, 0.6]), 2), "alpha_D"),
        (lambda: spectral_nodes(LinearManifold(0.5), 2), "n"),
        (lambda: spectral_nodes(LinearManifold(0.5, [1.0, 0.3]), 9), "n"),  # too few to hold the mass of a bulk
        (lambda: splitting_alpha_D(Isotropic(1.0)), "model"),
        (lambda: SpectralLaw([0.0], [0.5]), "masses"),
    ],
)
def test_bad_input_names_the_argument(call, argument):
    with pytest.raises(DomainError) as caught:
        call()
    assert caught.value.argument == argument
    assert str(caught.value).startswith(argument)


def test_summand_symbols_are_the_documented_ones():
    assert StieltjesMap().level.free_symbols == {s, y}
