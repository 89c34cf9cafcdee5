"""The random energy model, the Gaussian integrals and the saddle point, as symbolic identities."""

import numpy as np
import pytest
import sympy as sp

from theory import LinearManifold
from theory.basins import basin_law
from theory.models.gaussian import Isotropic, Spectrum, Subspaces
from theory.notation import SpectralAverage, V, above_atom, alpha, alpha_D, beta, chi, delta, merge, r, t
from theory.rem.energy_model import RandomEnergyModel
from theory.rem.gaussian import LinearSaddle, MutualInformation, explicit_curve, gaussian_rem, integrals

z = MutualInformation.z


def test_nishimori_identity_holds_for_every_spectrum():
    assert gaussian_rem().nishimori == -sp.Rational(1, 2)


def test_nishimori_identity_fails_for_a_wrong_cumulant():
    wrong = RandomEnergyModel(-SpectralAverage(sp.log(1 + beta * r) + beta * (r + delta) / (1 + 2 * beta * r)) / 2)
    assert wrong.nishimori != -sp.Rational(1, 2)


def test_collapse_and_condensation_coincide_at_a_typical_noisy_point():
    rem = gaussian_rem()
    assert merge(rem.alpha_at("condensation").subs(delta, t) - rem.alpha_at("collapse")) == 0


def test_derrida_rem():
    """Gaussian levels of variance N J^2/2: beta_c = 2 sqrt(log 2)/J, free energy frozen beyond. Source: [D81]."""
    J = sp.Symbol("J", positive=True)
    rem = RandomEnergyModel(beta**2 * J**2 / 4)
    (critical,) = sp.solve(rem.condensation.subs(alpha, sp.log(2)), beta)
    assert sp.simplify(critical - 2 * sp.sqrt(sp.log(2)) / J) == 0
    frozen = rem.condensed_free_energy(critical)
    assert sp.simplify(frozen - beta * J * sp.sqrt(sp.log(2))) == 0
    assert sp.simplify((frozen - rem.free_energy.subs(alpha, sp.log(2))).subs(beta, critical)) == 0
    assert sp.simplify(rem.participation(critical).subs(beta, 2 * critical)) == sp.Rational(1, 2)


def test_definitions_of_the_times_are_those_of_the_contract():
    """physics.md section 3, typed here from the page."""
    expected = {
        "onset": sp.log(1 + r / t) + r / (r + t),
        "collapse": sp.log(1 + r / t),
        "condensation": sp.log(1 + r / t) - r * t / (r + t) ** 2,
        "generalization": (r / (1 + r / t) + r / (1 + r / t) ** 2) / t,
    }
    for kind, integrand in expected.items():
        derived = integrals(gaussian_rem())[kind].subs(delta, 0).integrand
        assert sp.simplify(derived - integrand) == 0, kind


@pytest.mark.parametrize(
    "name", ["onset", "collapse", "condensation", "generalization", "free_entropy", "slope", "trace"]
)
def test_decomposition_reproduces_the_integrand(name):
    average = integrals(gaussian_rem())[name]
    info = MutualInformation.of(average)
    original = average.integrand.subs({r: z * t, delta: info.d * t})
    assert sp.simplify(sp.expand_log(original - info.integrand, force=True)) == 0


def test_decomposition_refuses_what_it_cannot_write():
    with pytest.raises(ValueError, match="not a combination"):
        MutualInformation.of(SpectralAverage(r / (r + t) ** 3 * t**2))
    with pytest.raises(ValueError, match="logarithms"):
        MutualInformation.of(SpectralAverage(sp.log(1 + 2 * r / t)))


def test_saddle_is_stationary_and_its_elimination_is_consistent():
    point = LinearSaddle()
    assert sp.simplify(point.stationarity[0].subs(V, point.V_of_chi)) == 0
    # the total derivative of the value at the saddle is the explicit one used for A, once the constraint holds
    first = point.Lambda(point.y).diff(point.y)
    (on_saddle,) = sp.solve(point.constraint, first)
    difference = sp.expand(point.total_derivative(point.information) + point.A)
    keep = sp.Symbol("second")
    difference = difference.subs(first.diff(point.y), keep).subs(first, on_saddle)
    assert sp.simplify(difference) == 0


def test_explicit_curves_of_the_contract():
    collapse, time, parameter = explicit_curve(integrals(gaussian_rem())["collapse"])
    onset, _, _ = explicit_curve(integrals(gaussian_rem())["onset"])
    assert parameter == V
    assert sp.simplify(time - (V / (alpha_D * (1 - V)) - V)) == 0
    printed = -sp.log(1 - alpha_D * (1 - V)) - alpha_D * (sp.log(V) + 1 - V)
    assert sp.simplify(sp.expand_log(sp.expand(collapse) - sp.expand(printed), force=True)) == 0
    assert sp.simplify(sp.expand(onset) - sp.expand(-sp.log(1 - alpha_D * (1 - V)) - alpha_D * sp.log(V))) == 0


def test_latent_variances_of_the_contract():
    """L = log(1+V/t) - V/(t+V) + alpha_D sum f log(1+s chi) with chi = 1/(alpha_D (t+V))."""
    f, s = (sp.Rational(1, 3), sp.Rational(2, 3)), (sp.Integer(1), sp.Rational(1, 10))
    value, time, parameter = explicit_curve(integrals(gaussian_rem())["collapse"], s, f)
    assert parameter == chi
    posterior = sum(a * b / (1 + b * chi) for a, b in zip(f, s, strict=True))
    assert sp.simplify(chi - 1 / (alpha_D * (time + posterior))) == 0
    latent = alpha_D * sum(a * sp.log(1 + b * chi) for a, b in zip(f, s, strict=True))
    printed = sp.log(1 + posterior / time) - posterior / (time + posterior) + latent
    at = {alpha_D: sp.Rational(2, 5), chi: sp.Rational(7, 10)}
    assert abs(sp.N((value - printed).subs(at), 30)) < 1e-28


def test_equal_latent_variances_reduce_to_one():
    value, time, _ = explicit_curve(integrals(gaussian_rem())["collapse"], (1, 1), (sp.Rational(1, 2),) * 2)
    one, time_one, _ = explicit_curve(integrals(gaussian_rem())["collapse"])
    at = {alpha_D: sp.Rational(3, 5), chi: sp.Rational(9, 7), V: sp.Rational(7, 16)}
    assert abs(sp.N((value - one).subs(at), 30)) < 1e-28
    assert sp.simplify((time - time_one).subs(at)) == 0


def test_basin_law():
    A, L = sp.symbols("A L", positive=True)
    assert sp.simplify(basin_law() - (1 - (2 * alpha - L) / A)) == 0


def test_spectral_average_is_linear_and_normalised():
    average = SpectralAverage(r / (r + t))
    assert average.free_symbols == {t}
    assert merge(2 * average + SpectralAverage(2 * t / (r + t))) == 2
    assert above_atom(merge(SpectralAverage((r + delta) / (r + t)))).integrand.subs(r, 0) == 0
    assert average.over([sp.Rational(1, 2)], [t]) == sp.Rational(1, 4)
    assert sp.simplify(average.diff(t).integrand + r / (r + t) ** 2) == 0


def test_moments_of_models_agree_with_samples():
    rng = np.random.default_rng(0)
    D, N = 60, 100
    F = rng.standard_normal((N, D))
    spectrum = Spectrum(np.maximum(np.linalg.eigvalsh(F @ F.T / D), 0))
    # fluctuation of the trace of a Wishart matrix: sqrt(2/(N D)) = 0.018; five sigma, false alarm 1e-6
    assert abs(spectrum.mean_variance - LinearManifold(D / N).mean_variance) < 5 * np.sqrt(2 / (N * D))
    assert Isotropic(2.0).mean_variance == 2.0
    assert Subspaces([0.5], [2.0]).mean_variance == 1.0
