"""The public times against the referee, the contract's reference numbers, their own equations and their domains."""

import itertools
import warnings

import mpmath
import numpy as np
import pytest
import referee
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from numerics.domain import DomainError
from numerics.solvers.solution import Status
from theory import (
    Isotropic,
    LinearManifold,
    Spectrum,
    Subspaces,
    basin_radius,
    collapse_time,
    condensation_time,
    critical_alpha,
    critical_dataset_size,
    free_energy,
    generalization_time,
    onset_time,
)
from theory.rem.closed_forms import NoClosedForm

TIMES = {
    "onset": onset_time,
    "collapse": collapse_time,
    "condensation": condensation_time,
    "generalization": generalization_time,
}
TWO = LinearManifold(0.4, variances=[1.0, 0.09], fractions=[0.3, 0.7])


def test_reference_values_of_the_contract():
    model = LinearManifold(alpha_D=0.5)
    assert onset_time(model, alpha=0.2) == pytest.approx(3.15259830884, abs=1e-11)
    assert collapse_time(model, alpha=0.2) == pytest.approx(1.40961276380, abs=1e-11)
    assert condensation_time(model, alpha=0.2) == pytest.approx(0.97080340433, abs=1e-11)
    assert generalization_time(model, alpha=0.2) == pytest.approx(0.38739543148, abs=1e-11)
    assert basin_radius(model, 0.2, 2.0) ** 2 == pytest.approx(1.24066197078, abs=1e-11)
    assert collapse_time(LinearManifold(0.05), alpha=0.2) == pytest.approx(0.00654305678709, abs=1e-14)


@pytest.mark.parametrize("kind", TIMES)
def test_linear_manifold_agrees_with_the_referee_to_1e_12(kind):
    """alpha in [1e-3, 3], alpha_D in [0.01, 3], t down to 1e-261."""
    alphas = np.geomspace(1e-3, 3, 6)
    worst = 0.0
    for alpha_D in (0.01, 0.1, 0.5, 0.97, 1.0, 1.05, 3.0):
        ours = TIMES[kind](LinearManifold(alpha_D), alphas)
        for alpha, value in zip(alphas, ours, strict=True):
            exact = referee.time(kind, mpmath.mpf(float(alpha)), alpha_D=mpmath.mpf(alpha_D))
            worst = max(worst, abs(float(value / exact - 1)))
    assert worst < 1e-12


@pytest.mark.parametrize("kind", TIMES)
def test_latent_variances_agree_with_the_referee(kind):
    for alpha in (0.01, 0.2, 1.5):
        exact = referee.time(
            kind,
            alpha,
            alpha_D=mpmath.mpf(0.4),
            variances=(1, mpmath.mpf(0.09)),
            fractions=(mpmath.mpf(0.3), mpmath.mpf(0.7)),
        )
        assert abs(float(TIMES[kind](TWO, alpha) / exact - 1)) < 1e-12


@pytest.mark.parametrize("kind", TIMES)
def test_discrete_spectra_agree_with_the_referee(kind):
    for alpha in (1e-3, 0.2, 1.0):
        exact = referee.spectrum_time(kind, alpha, (mpmath.mpf(0.3), mpmath.mpf(0.3)), (1, mpmath.mpf(0.09)))
        ours = TIMES[kind](Subspaces([0.3, 0.3], [1.0, 0.09]), alpha)
        assert abs(float(ours / exact - 1)) < 1e-12
        assert abs(float(TIMES[kind](Isotropic(2.0), alpha) / referee.isotropic_time(kind, alpha, 2) - 1)) < 1e-12


def test_a_spectrum_of_repeated_eigenvalues_is_a_subspace_model():
    spectrum = Spectrum([1.0] * 3 + [0.09] * 3 + [0.0] * 4)
    for time in TIMES.values():
        assert time(spectrum, 0.2) == pytest.approx(time(Subspaces([0.3, 0.3], [1.0, 0.09]), 0.2), rel=1e-13)


def test_equal_latent_variances_take_the_general_path_to_the_same_value():
    """The explicit root for one latent variance against Newton's method for several."""
    for time in TIMES.values():
        for alpha_D in (0.05, 1.0, 2.0):
            split = LinearManifold(alpha_D, variances=[0.7, 0.7])
            one = LinearManifold(alpha_D, variances=[0.7])
            assert time(split, [0.01, 0.3, 2.0]) == pytest.approx(time(one, [0.01, 0.3, 2.0]), rel=2e-12)


def test_scaling_the_data_scales_the_times():
    for time in TIMES.values():
        assert time(LinearManifold(0.5, variances=[4.0]), 0.2) == pytest.approx(
            4 * time(LinearManifold(0.5), 0.2), rel=1e-13
        )


@pytest.mark.parametrize("kind", TIMES)
@pytest.mark.parametrize("alpha_D", [0.01, 0.05, 0.2, 0.5, 0.9, 1.5, 3.0])
def test_duality_of_the_linear_manifold(kind, alpha_D):
    r"""F and its transpose: t(alpha; alpha_D) = t(alpha/alpha_D; 1/alpha_D)/alpha_D, for t_g without the last factor.

    FF^T/D (N x N) and F^TF/N (D x D) have the same non-zero eigenvalues but for the factor N/D, and the atom at 0 enters no
    load, so all sums per point are those of the dual manifold; t_g alone is per *ambient* dimension, -2g'(beta_*).
    """
    alpha = np.geomspace(0.01, 2, 25) * min(alpha_D, 1)
    here = TIMES[kind](LinearManifold(alpha_D), alpha, log=True)
    dual = TIMES[kind](LinearManifold(1 / alpha_D), alpha / alpha_D, log=True)
    factor = 0.0 if kind == "generalization" else np.log(alpha_D)
    assert np.abs(here - (dual - factor)).max() < 1e-10


def test_order_of_the_times_over_a_grid():
    alpha = np.geomspace(1e-3, 20, 40)
    for alpha_D in np.geomspace(0.01, 5, 9):
        logs = [
            TIMES[k](LinearManifold(alpha_D), alpha, log=True)
            for k in ("generalization", "condensation", "collapse", "onset")
        ]
        for low, high in itertools.pairwise(logs):
            # at large load t_cond and t_c agree to rounding
            assert (low <= high + 1e-10).all()
        assert (logs[0] < logs[3]).all()


def test_below_float_range_the_logarithm_is_exact_and_the_time_is_never_zero():
    model = LinearManifold(0.01)
    assert collapse_time(model, 10.0, log=True) == pytest.approx(
        float(referee.log_time("collapse", 10, alpha_D=mpmath.mpf(0.01)))
    )
    # at this load only the limits are left: V = exp(-alpha - 1/2) at alpha_D = 1, <log r> - 2 alpha above
    assert collapse_time(LinearManifold(1.0), 900.0, log=True) == pytest.approx(-1801.0, rel=1e-14)
    assert collapse_time(LinearManifold(2.0), 900.0, log=True) == pytest.approx(-1800 - 0.30685281944005466, rel=1e-14)
    with pytest.warns(RuntimeWarning, match="log=True"):
        assert np.isnan(collapse_time(model, 10.0))
    solution = collapse_time.solve(model, 10.0)
    assert solution.status == Status.OK


def test_broadcasting():
    alpha = np.array([0.1, 0.2, 0.3])
    assert collapse_time(LinearManifold(0.5), alpha).shape == (3,)
    grid = collapse_time(LinearManifold(np.array([[0.5], [1.0]])), alpha)
    assert grid.shape == (2, 3)
    assert grid[0, 1] == collapse_time(LinearManifold(0.5), 0.2)
    assert isinstance(collapse_time(LinearManifold(0.5), 0.2), float)
    assert basin_radius(LinearManifold(0.5), alpha[:, None], np.array([1.0, 2.0])).shape == (3, 2)


def test_load_from_P_and_N():
    model = LinearManifold(0.5)
    assert collapse_time(model, P=50_000, N=784) == collapse_time(model, alpha=np.log(50_000) / 784)
    assert collapse_time(model, P=10**400, N=5000) == pytest.approx(collapse_time(model, alpha=400 * np.log(10) / 5000))
    spectrum = Spectrum([1.0, 0.5, 0.0, 0.0])
    assert collapse_time(spectrum, P=10) == collapse_time(spectrum, P=10, N=4)


@pytest.mark.parametrize("kind", ["onset", "collapse", "condensation"])
def test_critical_alpha_inverts_the_time(kind):
    for model in (LinearManifold(0.5), TWO, Subspaces([0.3], [1.0])):
        t = TIMES[kind](model, np.array([0.05, 0.2, 1.0]))
        assert critical_alpha(model, t, kind=kind) == pytest.approx([0.05, 0.2, 1.0], rel=1e-11)


def test_critical_alpha_of_generalization():
    model = LinearManifold(0.5)
    alpha = np.array([1e-3, 0.2, 1.0])
    assert critical_alpha(model, generalization_time(model, alpha), kind="generalization") == pytest.approx(
        alpha, rel=1e-9
    )
    with pytest.warns(RuntimeWarning, match="no solution"):
        assert np.isnan(critical_alpha(model, 2.5, kind="generalization"))


def test_critical_dataset_size():
    assert critical_dataset_size(Isotropic(1.0), 1.0, N=20) == pytest.approx(2**10, rel=1e-13)
    assert critical_dataset_size(Isotropic(1.0), 1.0, N=20, log=True) == pytest.approx(10 * np.log(2), rel=1e-14)
    huge = critical_dataset_size(Isotropic(1.0), 1e-3, N=3072)
    assert float(mpmath.log(huge)) == pytest.approx(1536 * np.log1p(1e3), rel=1e-12)
    with pytest.warns(RuntimeWarning, match="log=True"):
        values = critical_dataset_size(Isotropic(1.0), [1.0, 1e-3], N=3072)
    assert np.isnan(values[1])
    assert np.isnan(values[0]) == (1536 * np.log(2.0) > np.log(np.finfo(float).max))


def test_formulas_for_symbols():
    a, s = sp.symbols("a s", positive=True)
    assert sp.simplify(collapse_time(Isotropic(s), alpha=a) - s / (sp.exp(2 * a) - 1)) == 0
    onset = onset_time(Isotropic(s), alpha=a)
    assert float(onset.subs({s: 2, a: sp.Rational(1, 5)})) == pytest.approx(onset_time(Isotropic(2.0), 0.2), rel=1e-12)
    marginal = collapse_time(Subspaces([0.25], [2.0]), alpha=a)
    assert float(marginal.subs(a, 0.2)) == pytest.approx(collapse_time(Subspaces([0.25], [2.0]), 0.2), rel=1e-12)
    with pytest.raises(NoClosedForm, match="equation"):
        condensation_time(Isotropic(s), alpha=a)


@pytest.mark.parametrize("kind", TIMES)
@pytest.mark.parametrize("model", [Isotropic(2.0), Subspaces([0.3, 0.3], [1.0, 0.09]), LinearManifold(0.5), TWO])
def test_times_solve_their_own_equation(kind, model):
    """`.equation(model)`, evaluated by sympy, against the compiled solver."""
    equation, value = TIMES[kind].equation(model), TIMES[kind](model, 0.2)
    equations = equation.args if isinstance(equation, sp.And) else (equation,)
    load = next(e for e in equations if e.lhs == 2 * sp.Symbol("alpha", positive=True))
    unknown = sorted(load.rhs.free_symbols, key=str)[0]
    start = {"V": 0.5, "chi": 1.0}.get(str(unknown), value)
    root = sp.nsolve(load.rhs - sp.Rational(2, 5), unknown, start, prec=20)
    if len(equations) == 1:
        assert float(root) == pytest.approx(value, rel=1e-12)
    else:
        other = next(e for e in equations if e is not load)
        assert float(other.rhs.subs(unknown, root)) == pytest.approx(value, rel=1e-12)


def test_basin_against_the_referee_and_its_three_regimes():
    model, alpha = LinearManifold(0.5), 0.2
    t_c, t_o = collapse_time(model, alpha), onset_time(model, alpha)
    for t in (t_c * 1.001, 2.0, t_o * 0.999):
        exact = referee.basin_squared(mpmath.mpf(alpha), mpmath.mpf(t), alpha_D=mpmath.mpf(0.5))
        assert basin_radius(model, alpha, t) ** 2 == pytest.approx(float(exact), rel=1e-10)
    assert basin_radius(model, alpha, [t_o * 1.0001, 10.0]).tolist() == [0.0, 0.0]
    assert basin_radius(model, alpha, [1e-6, t_c / 2, t_c]) ** 2 == pytest.approx([t_c] * 3)


def test_free_energy_is_continuous_and_below_condensation_linear():
    model, alpha = LinearManifold(0.5), 0.2
    star = condensation_time(model, alpha)
    near = free_energy(model, alpha, np.array([star * (1 - 1e-9), star * (1 + 1e-9)]), delta=0.0)
    assert near[0] == pytest.approx(near[1], rel=1e-7)
    # condensed: phi = g'(beta_*)/t = -t_g/(2t)
    t_g = generalization_time(model, alpha)
    assert free_energy(model, alpha, [0.1, 0.5], delta=0.0) == pytest.approx([-t_g / 0.2, -t_g / 1.0], rel=1e-12)
    # at the onset the others weigh as much as the point itself, which has zero energy
    assert free_energy(model, alpha, onset_time(model, alpha), delta=0.0) == pytest.approx(0.0, abs=1e-13)


def test_generalization_time_minimises_the_divergence():
    """t_g from its definition: the minimum of log t / 2 - phi(delta=0)."""
    model = TWO
    t_g = generalization_time(model, 0.3)
    t = t_g * np.exp(np.linspace(-0.3, 0.3, 601))
    divergence = 0.5 * np.log(t) - free_energy(model, 0.3, t, delta=0.0)
    assert np.log(t[divergence.argmin()] / t_g) == pytest.approx(0.0, abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(alpha=st.floats(1e-6, 50), variance=st.floats(1e-12, 1e12))
def test_isotropic_closed_form(alpha, variance):
    assert collapse_time(Isotropic(variance), alpha, log=True) == pytest.approx(
        np.log(variance) - np.log(np.expm1(2 * alpha)), rel=1e-12, abs=1e-12
    )


BAD = [
    (lambda: collapse_time(LinearManifold(0.5), alpha=0.0), "alpha = 0.0"),
    (lambda: collapse_time(LinearManifold(0.5), alpha=-0.1), "alpha = -0.1"),
    (lambda: collapse_time(LinearManifold(0.5), alpha=[0.1, np.nan]), "alpha = nan"),
    (lambda: collapse_time(LinearManifold(0.5), alpha="much"), "alpha = much"),
    (lambda: collapse_time(LinearManifold(0.5)), "alpha, P, N"),
    (lambda: collapse_time(LinearManifold(0.5), alpha=0.1, P=10), "alpha, P, N"),
    (lambda: collapse_time(LinearManifold(0.5), P=1, N=10), "P = 1"),
    (lambda: collapse_time(LinearManifold(0.5), P=10, N=0), "N = 0"),
    (lambda: collapse_time("tanh", alpha=0.1), "model = tanh"),
    (lambda: LinearManifold(0.0), "alpha_D = 0.0"),
    (lambda: LinearManifold(-1), "alpha_D = -1.0"),
    (lambda: LinearManifold(np.nan), "alpha_D = nan"),
    (lambda: LinearManifold(0.5, variances=[-1.0]), "variances = -1.0"),
    (lambda: LinearManifold(0.5, variances=[1.0, 2.0], fractions=[0.5, 0.6]), "fractions"),
    (lambda: LinearManifold(0.5, variances=[]), "fractions"),
    (lambda: Subspaces([0.7, 0.7], [1.0, 1.0]), "fractions"),
    (lambda: Subspaces([0.5], [1.0, 2.0]), "equal length"),
    (lambda: Subspaces([0.5], [0.0]), "variances"),
    (lambda: Isotropic(-1.0), "variance = -1.0"),
    (lambda: Isotropic([1.0, 2.0]), "variance"),
    (lambda: Spectrum([]), "eigenvalues"),
    (lambda: Spectrum([0.0, 0.0]), "eigenvalues"),
    (lambda: Spectrum([1.0, -1e-3]), "eigenvalues = -0.001"),
    (lambda: Spectrum.from_samples(np.ones((1, 3))), "X"),
    (lambda: Spectrum.from_samples(np.full((5, 3), 0.1)), "not all the same"),
    (lambda: Spectrum.from_samples(np.array([[1.0, np.inf], [0.0, 1.0]])), "X = inf"),
    (lambda: basin_radius(LinearManifold(0.5), 0.2, -1.0), "t = -1.0"),
    (lambda: free_energy(LinearManifold(0.5), 0.2, 1.0, delta=-1.0), "delta = -1.0"),
    (lambda: critical_alpha(LinearManifold(0.5), 0.0), "t = 0.0"),
    (lambda: critical_alpha(LinearManifold(0.5), 1.0, kind="colapse"), "kind = colapse"),
    (lambda: critical_dataset_size(LinearManifold(0.5), 1.0), "N = None"),
    (lambda: collapse_time(LinearManifold(sp.Symbol("a")), 0.2), "closed form"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[m for _, m in BAD])
def test_bad_input_is_named(call, message):
    with pytest.raises((DomainError, NoClosedForm), match=message.replace("(", r"\(")):
        call()


def test_from_samples_is_right_for_both_shapes():
    rng = np.random.default_rng(1)
    for P, N in ((50, 8), (8, 50), (2, 3)):
        X = rng.standard_normal((P, N)).astype(np.float32)
        exact = np.maximum(np.linalg.eigvalsh(np.cov(X.T.astype(float))), 0)[::-1]
        assert Spectrum.from_samples(X, block=3).eigenvalues == pytest.approx(exact, abs=1e-12)
        assert Spectrum.from_samples(X).N == N
    assert (Spectrum.from_samples(rng.standard_normal((5, 40))).eigenvalues == 0).sum() == 36


def test_a_wrong_formula_would_be_seen():
    """Negative control of the tolerance: 2 alpha replaced by alpha is far outside it."""
    assert abs(collapse_time(LinearManifold(0.5), 0.1) / float(referee.time("collapse", 0.2, alpha_D=0.5)) - 1) > 0.5


def test_no_warning_in_normal_use():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        collapse_time(LinearManifold(0.5), np.linspace(0.1, 1, 5))
