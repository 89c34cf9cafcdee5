"""Every declared limit: the relative error against the solver falls with the declared power."""

import numpy as np
import pytest
import sympy as sp

from theory import (
    Isotropic,
    LinearManifold,
    Subspaces,
    collapse_time,
    condensation_time,
    generalization_time,
    onset_time,
)
from theory.notation import alpha, alpha_D
from theory.rem.asymptotics import all_limits, kappa, log_mean, mean_log, spectral_moments

TIMES = {
    "onset": onset_time,
    "collapse": collapse_time,
    "condensation": condensation_time,
    "generalization": generalization_time,
}
MODELS = [
    Isotropic(2.0),
    Subspaces([0.3, 0.3], [1.0, 0.09]),
    LinearManifold(0.5),
    LinearManifold(2.0),
    LinearManifold(0.4, variances=[1.0, 0.3]),
]
LIMITS = {limit.name: limit for limit in all_limits()}


def _measured_power(limit, model):
    """Slope of log |error| against log |small| over a factor of 16 in load (or of 100 in alpha_D)."""
    if limit.small == alpha_D:
        points = [(LinearManifold(a), 0.7 * a, {alpha_D: a, kappa: 0.7}) for a in (1e-2, 1e-3, 1e-4)]
    else:
        moments = spectral_moments(model)
        scale = float(moments[sp.Symbol("m", positive=True)])
        loads = (1e-3, 1e-4, 1e-5) if limit.small == alpha else (3.5 * scale, 4.25 * scale, 5 * scale)
        points = [(model, a, {**moments, alpha: a}) for a in loads]
    errors, smalls = [], []
    for chosen, load, values in points:
        approximation = float(limit.expression.subs(values))
        errors.append(abs(TIMES[limit.kind](chosen, load) / approximation - 1))
        smalls.append(float(limit.small.subs(values)))
    return np.polyfit(np.log(smalls), np.log(errors), 1)[0], errors


@pytest.mark.parametrize("model", MODELS, ids=str)
@pytest.mark.parametrize("name", LIMITS)
def test_limit_and_its_order(name, model):
    limit = LIMITS[name]
    if limit.small == alpha_D and model != LinearManifold(0.5):
        pytest.skip("a limit in alpha_D, tested once")
    if "infinity" in limit.limit and np.isnan(spectral_moments(model)[log_mean]):
        pytest.skip("<log r> has no closed form for several latent variances")
    power, errors = _measured_power(limit, model)
    assert max(errors) < 0.2
    assert power == pytest.approx(float(limit.order), abs=0.08)


def test_ratios_of_the_contract():
    """alpha -> infinity below alpha_D = 1: t_o/t_c -> e, t_g/t_c -> alpha_D."""
    model = LinearManifold(0.5)
    t_c = collapse_time(model, 8.0)
    assert onset_time(model, 8.0) / t_c == pytest.approx(np.e, rel=1e-10)
    assert generalization_time(model, 8.0) / t_c == pytest.approx(0.5, rel=1e-10)


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.9, 1.5, 3.0])
def test_mean_log_of_marchenko_pastur(ratio):
    """Against direct quadrature of the density."""
    from scipy.integrate import quad

    centre, radius = (1 + 1 / ratio), 2 / np.sqrt(ratio)

    def integrand(angle):  # r = centre + radius cos(angle), density alpha_D sqrt(...)/(2 pi r)
        r = centre + radius * np.cos(angle)
        return ratio * (radius * np.sin(angle)) ** 2 / (2 * np.pi * r) * np.log(r)

    exact = quad(integrand, 0, np.pi, limit=200)[0] / min(ratio, 1)
    closed = float(mean_log("below" if ratio < 1 else "above").subs(alpha_D, ratio))
    assert closed == pytest.approx(exact, rel=1e-9)


def test_second_moment_of_the_generalised_law():
    from theory.rem.asymptotics import M2

    rng = np.random.default_rng(0)
    model = LinearManifold(0.5, variances=[1.0, 0.3])
    values = []
    for _ in range(20):
        F = rng.standard_normal((400, 200)) * np.sqrt(np.repeat([1.0, 0.3], 100)) / np.sqrt(200)
        values.append(np.sum((F.T @ F) ** 2) / 400)
    error = np.std(values) / np.sqrt(20)
    # finite-N bias of <r^2> is (s_2)/D = 0.003; five sigma plus that, false alarm below 1e-6
    assert abs(np.mean(values) - spectral_moments(model)[M2]) < 5 * error + 0.004


def test_unknown_sides_and_kinds_are_refused():
    from theory.rem.asymptotics import few_latents

    with pytest.raises(ValueError, match="side"):
        mean_log("middle")
    with pytest.raises(ValueError, match="kind"):
        few_latents("onset")
