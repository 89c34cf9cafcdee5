"""Random features: moments, resolvent, spectrum, times and learning curves, each by symbols, by many digits and by simulation."""

from dataclasses import replace

import mpmath
import numpy as np
import pytest
import sympy as sp

from numerics.domain import DomainError
from theory import (
    HiddenManifold,
    Isotropic,
    LinearManifold,
    Mixture,
    RandomFeatures,
    Spectrum,
    Subspaces,
    generalization_training_time,
    memorization_training_time,
    training_window,
)
from theory.models import activation
from theory.training import closed_form_moments, feature_moments, finite_sample_loss
from theory.training.action import (
    A,
    Q,
    R,
    R_hat,
    ReplicaAction,
    S,
    S_hat,
    b2,
    psi_n,
    psi_p,
    s2,
    v2,
    z,
)
from theory.training.limits import ManyFeatures
from theory.training.moments import _by_quadrature, _nested
from validation.experiments import training_time
from validation.experiments.training_time import Preset, draw, flow
from validation.experiments.training_time.features import FiniteFeatures, _second_moments

OU_001, OU_01 = np.expm1(0.02), np.expm1(0.2)  # VE times of t = 0.01 and 0.1
PUBLISHED = RandomFeatures(Isotropic(1.0), psi_p=64, psi_n=8, t=OU_001, activation="tanh")
SMALL = RandomFeatures(Isotropic(1.0), psi_p=8, psi_n=3, t=OU_01, activation="erf")
TWO = Subspaces([0.5, 0.5], [1.5, 0.5])


# --- moments ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["erf", "relu", "leaky_relu", "sign", "abs", "quadratic", sp.Symbol("u") ** 3])
def test_closed_moments_agree_with_quadrature(name):
    m = feature_moments(name, 0.3, 1.3)
    assert [m.a, m.v2, m.s2] == pytest.approx(_by_quadrature(activation(name), 1.0, 0.3 / 1.3), rel=1e-10, abs=1e-13)
    assert m.b == pytest.approx(np.sqrt(m.Delta) * m.a)


def test_closed_moments_against_forty_digits():
    c, total = sp.Symbol("c", nonnegative=True), sp.Symbol("Gamma2", positive=True)
    for name in ("erf", "sign", "relu"):
        m = feature_moments(name, 0.5, 0.8)
        exact = [
            sp.N(e.subs({c: sp.Rational(8, 15), total: sp.Rational(13, 15)}), 40) for e in closed_form_moments(name)
        ]
        assert [m.a, m.v2, m.s2] == pytest.approx([float(e) for e in exact], rel=1e-13)


@pytest.mark.parametrize("sigma2", [1e2, 1e4, 1e8])
def test_moments_of_a_saturated_activation(sigma2):
    """s^2 against an integral over the field itself, where tanh is steep; erf by panels against its closed form."""
    t = 0.1
    m = feature_moments("tanh", t, sigma2)
    x, w = np.polynomial.hermite_e.hermegauss(80)
    w = w / w.sum()
    field, h = np.linspace(-24, 24, 4001, retstep=True)
    values = np.tanh(field[:, None] + np.sqrt(m.Delta) * x)
    spread = values**2 @ w - (values @ w) ** 2
    shared = m.decay * sigma2
    density = np.exp(-(field**2) / (2 * shared)) / np.sqrt(2 * np.pi * shared)
    own = h * (density * spread).sum() - m.a**2 * m.Delta
    assert m.s2 == pytest.approx(own, rel=1e-9)
    slope = h * (density * ((1 - values**2) @ w)).sum()
    assert m.a == pytest.approx(slope, rel=1e-9)
    e = feature_moments("erf", t, sigma2)
    assert [e.a, e.v2, e.s2] == pytest.approx(_nested(activation("erf"), e.decay * sigma2, e.Delta), rel=1e-9)


def test_kinked_moments_keep_their_digits_at_any_ratio():
    """relu: s^2 tends to Delta/4, a difference of numbers 10^15 times as large."""
    for sigma2, t in ((1e4, 1e-4), (1e8, 10.0), (1.0, 1e-10)):
        m = feature_moments("relu", t, sigma2)
        kink = np.sqrt(m.decay * sigma2 / m.Delta)  # of s^2, relative to the leading order, 1/kink is the next
        assert abs(m.s2 / (m.Delta / 4) - 1) < 1 / kink


def test_kinks_that_nobody_told_cost_digits_only():
    """Callables that bend or jump, with the places told and without; what is too fine for any panel is refused."""
    for function, places in (
        (lambda x: np.clip(x, -1, 1), [-1, 1]),
        (lambda x: np.clip(x, -0.37, 0.37), [-0.37, 0.37]),
        (lambda x: np.where(np.asarray(x) > 0.37, 1.0, 0.0), [0.37]),
    ):
        told, untold = feature_moments(activation(function, breakpoints=places), 0.2), feature_moments(function, 0.2)
        assert [untold.a, untold.v2, untold.s2] == pytest.approx([told.a, told.v2, told.s2], rel=3e-3)
    steep, jump = feature_moments(lambda x: np.tanh(1000 * x), 0.2), feature_moments("sign", 0.2)
    assert [steep.a, steep.v2, steep.s2] == pytest.approx([jump.a, jump.v2, jump.s2], rel=0.01)
    with pytest.raises(DomainError, match="breakpoints"):
        feature_moments(lambda x: np.sin(1e4 * np.asarray(x)), 0.2)


def test_data_without_variance_share_nothing():
    m = feature_moments("tanh", 0.2, 0.0)
    assert m.v2 == 0
    assert m.s2 == pytest.approx(feature_moments("tanh", 0.2, 1e-12).s2, rel=1e-9)


def test_moments_that_are_infinite_are_refused():
    with pytest.raises(DomainError, match="finite Gaussian moments"):
        feature_moments(sp.exp(sp.Symbol("x") ** 2), 0.1)
    with pytest.raises(DomainError, match="converge"):
        feature_moments("sin", 10.0, 1e8)


def test_moments_by_their_published_definition():
    """[BUBM25]'s expectations over u, v, w, by nested Gauss-Hermite rules that share nothing with the house."""
    m = feature_moments("tanh", 0.5, 0.8)
    x, w = np.polynomial.hermite_e.hermegauss(90)
    w = w / w.sum()
    shared, noise = np.sqrt(0.8 / 1.5), np.sqrt(0.5 / 1.5)
    field = np.tanh(shared * x[:, None] + noise * x)
    a = w @ (field @ w * x) / shared
    v_squared = w @ (field @ w) ** 2 - a**2 * shared**2
    b = w @ (field * x) @ w
    s_squared = w @ np.tanh(np.hypot(shared, noise) * x) ** 2 - a**2 * shared**2 - v_squared - b**2
    assert [m.a, m.b, m.v2, m.s2] == pytest.approx([a, b, v_squared, s_squared], rel=1e-9)


@pytest.mark.parametrize("name", ["tanh", "erf", "relu", "sign"])
def test_moments_add_up_and_have_their_small_noise_limits(name):
    total = feature_moments(name, 1e-3).v2 + feature_moments(name, 1e-3).s2
    tiny = feature_moments(name, 1e-9)
    assert total == pytest.approx(tiny.v2 + tiny.s2, rel=0.05)
    s = [feature_moments(name, t).s2 for t in (1e-4, 1e-6)]
    order = np.log(s[0] / s[1]) / np.log(100)  # smooth: Delta, kink: Delta too, jump: sqrt(Delta)
    assert order == pytest.approx(0.5 if name == "sign" else 1.0, abs=0.02)


def test_moments_in_symbols():
    c, total = sp.Symbol("c", nonnegative=True), sp.Symbol("Gamma2", positive=True)
    _, shared, own = closed_form_moments("erf")
    assert sp.simplify(shared.subs(c, 0)) == 0
    assert sp.simplify(own.subs(c, total)) == 0
    # Price: d v^2/dc = E s's' - a^2, at c = 0 zero
    assert sp.simplify(sp.diff(shared, c).subs(c, 0)) == 0


# --- action and resolvent -----------------------------------------------------------------------------------------------


def test_the_published_equations_follow_from_the_action():
    """[BUBM25], theorem 3.1, with psi_p/psi_n where a copy has psi_p/psi_p."""
    conditions = ReplicaAction().stationary
    y = 1 + psi_p / psi_n * (A * R + v2 * Q)
    assert sp.simplify(psi_p * conditions[S] - (b2 * psi_p + 1 / Q - S_hat)) == 0
    assert sp.simplify(psi_p * conditions[R] - (psi_p * A / y - R_hat)) == 0
    last = psi_p * (s2 - z) + psi_p * v2 / y + (1 - psi_p) / Q - S / Q**2
    assert sp.simplify(psi_p * conditions[Q] - last) == 0


def test_saddle_solves_all_five_conditions_at_thirty_digits():
    rf = RandomFeatures(TWO, psi_p=12, psi_n=4, t=0.2, activation="tanh")
    resolvent = rf._gram.resolvent
    for at in (0.05 + 0.001j, 20.0 + 0.01j):
        g, x = (complex(v[0]) for v in resolvent.along(np.array([at])))
        with mpmath.workdps(40):
            p, n, a, b, v, s = (mpmath.mpf(float(value)) for value in rf.parameters)

            def conditions(q, s_, r_, sh, rh, zz=mpmath.mpc(at), p=p, n=n, a=a, b=b, v=v, s=s):
                y = 1 + p / n * (a * r_ + v * q)
                mean = [(mpmath.mpf(1) / 2, mpmath.mpf("1.5")), (mpmath.mpf(1) / 2, mpmath.mpf("0.5"))]
                return [
                    b * p + 1 / q - sh,
                    p * a / y - rh,
                    sum(w / (sh + r * rh) for w, r in mean) - s_,
                    sum(w * r / (sh + r * rh) for w, r in mean) - r_,
                    p * (s - zz) + p * v / y + (1 - p) / q - s_ / q**2,
                ]

            s_hat, r_hat = resolvent.conjugates(g, x)
            inverse = 1 / (s_hat + r_hat * resolvent.values)
            start = [resolvent.q(g), resolvent.weights @ inverse, (resolvent.weights * resolvent.values) @ inverse]
            exact = mpmath.findroot(conditions, [mpmath.mpc(complex(v)) for v in (*start, s_hat, r_hat)], tol=1e-30)
            assert abs(resolvent.q(g) / exact[0] - 1) < 1e-12
            assert exact[0].imag > 0


def test_density_against_thirty_digits_and_its_mass():
    values = np.array([0.021, 0.03, 0.07, 1.0, 3.0, 8.0])  # the first lies between the atom and the lowest bulk
    ours = SMALL.density(values)
    p, n, a, b, v, s = SMALL.parameters
    for value, density in zip(values, ours, strict=True):
        g, x = (complex(u[0]) for u in SMALL._gram.resolvent.on_axis(np.array([value - s])))
        with mpmath.workdps(40):

            def system(gg, xx, value=value):
                omega = (b + gg) / (a * xx)
                m0 = 1 / (1 + omega)
                return [v * xx - gg * (n - m0 - n * xx), s + v * xx + (1 - p) * gg - m0 * gg**2 / (a * xx) - value]

            exact = mpmath.findroot(system, [mpmath.mpc(g), mpmath.mpc(x)], tol=1e-30)
            assert density == pytest.approx(float((1 / (p * exact[0])).imag / mpmath.pi), rel=1e-11, abs=1e-12)
    assert SMALL.masses.sum() + SMALL.atom[1] == pytest.approx(1, abs=1e-7)
    assert SMALL.density(np.array([SMALL.support[0, 1] * 1.05, -1.0, 1e4])).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("model", "psi_p_", "psi_n_"),
    [
        (Isotropic(1.0), 64, 8),
        (TWO, 32, 6),
        (Isotropic(0.5), 4, 16),
        (LinearManifold(0.5), 32, 6),
        (Isotropic(2.0), 0.5, 0.3),
    ],
)
def test_masses_are_the_ranks(model, psi_p_, psi_n_):
    """n - N sample eigenvalues, N that memorise, N that learn, however the bulks merge: all of the mass, in eigenvalues of N."""
    rf = RandomFeatures(model, psi_p=psi_p_, psi_n=psi_n_, t=0.15, activation="erf")
    assert rf.masses.sum() == pytest.approx(min(1, (psi_n_ + 1) / psi_p_), abs=2e-6)
    if psi_p_ > psi_n_ > 1:
        assert rf.masses[rf.support[:, 0] > rf.edges[0, 1]].sum() * psi_p_ == pytest.approx(1, abs=2e-3)


def test_moments_of_the_density_are_traces():
    """int rho lambda = tr U/p = a^2 e^{-2t} + b^2 + v^2 + s^2 for sigma_x = 1."""
    angle = np.pi * (np.arange(400) + 0.5) / 400
    total = SMALL.atom[0] * SMALL.atom[1]
    for low, high in SMALL.support:
        value = 0.5 * (low + high) - 0.5 * (high - low) * np.cos(angle)
        total += (SMALL.density(value) * value * np.sin(angle)).sum() * 0.5 * (high - low) * np.pi / 400
    _, _, a, b, v, s = SMALL.parameters
    assert total == pytest.approx(a + b + v + s, rel=1e-7)


# --- published values, and where they fall short ----------------------------------------------------------------------


def test_published_bulks():
    edges = PUBLISHED.edges
    assert edges.shape == (2, 2)
    assert edges[0] == pytest.approx([0.0873, 0.3762], abs=5e-5)
    assert edges[1] == pytest.approx([10, 45], rel=0.03)


@pytest.mark.parametrize(("n", "tau"), [(4, 2556), (8, 5899), (16, 12878), (32, 22138)])
def test_published_memorization_times(n, tau):
    rf = RandomFeatures(Isotropic(1.0), psi_p=64, psi_n=n, t=OU_01, activation="tanh")
    assert rf.memorization_time == pytest.approx(tau, abs=0.6)
    assert rf.window == (generalization_training_time(OU_01), rf.memorization_time)
    assert training_window(Isotropic(1.0), P=100 * n, N=100, features=6400, t=OU_01)[1] == rf.memorization_time
    assert memorization_training_time(Isotropic(1.0), 10 * n, 10, 640, OU_01) == rf.memorization_time


def test_the_memorising_eigenvalues_lie_below_the_published_bulk():
    """N of the n small eigenvalues split off downwards, to s^2 + v^2 (psi_p/psi_n) Delta/(e^{-2t} r + Delta)."""
    assert PUBLISHED.support.shape == (3, 2)
    assert PUBLISHED.masses * 64 == pytest.approx([1, 7, 1], abs=1e-6)
    assert PUBLISHED.support[0, 1] < PUBLISHED.edges[0, 0] / 8
    m = PUBLISHED.moments
    line = m.s2 + m.v2 * 8 * m.Delta
    assert PUBLISHED.support[0, 0] < line < PUBLISHED.support[0, 1]


def test_eigenvalues_of_finite_features_have_the_third_bulk():
    """d = 20, p = 1280, n = 160, noise averaged exactly, no Gaussian equivalence.

    [BUBM25] has n + d = 180 eigenvalues above the lower edge of its memorisation bulk. There are n = 160, a gap, and the
    training loss that is still to be gained once learning is over belongs to what lies below the gap.
    """
    made = draw(np.ones(20), 1280, 160, OU_001, "tanh", np.random.default_rng(3))
    values, vectors = np.linalg.eigh(made.U)
    values, gain = values[::-1], (((vectors.T @ made.V) ** 2).sum(axis=1))[::-1] / values[::-1]
    assert values[19] > 5 > values[20]
    assert values[159] > 0.3 * PUBLISHED.edges[0, 0]
    assert values[159] > 2 * values[160]
    assert values[160] < 0.2 * PUBLISHED.edges[0, 0]
    assert gain[160:].sum() > 5 * gain[20:160].sum()


def test_limits_in_symbols():
    many, R_ = ManyFeatures(), sp.Symbol("R", positive=True)
    assert sp.expand(many.edges[0] - (s2 + v2 * (1 - R_) ** 2)) == 0
    assert sp.expand(many.edges[1] - (s2 + v2 * (1 + R_) ** 2)) == 0
    falls, grows = many.order
    assert falls.is_negative
    assert grows.is_positive


def test_lines_are_approached():
    """The exact bulks close in on the lines as psi_n grows at fixed, large psi_p/psi_n."""
    previous = np.inf
    for n in (10, 100, 1000):
        rf = RandomFeatures(Isotropic(1.0), psi_p=1000 * n, psi_n=n, t=0.2)
        learn, memorise = rf.direction_times(1.0)
        rate = 2 * rf.moments.Delta / rf.psi_p
        low, high = rf.support[0]
        width = max(abs(rate * memorise * low - 1), abs(rate * memorise * high - 1))
        top = abs(rate * learn * rf.support[-1] - 1).max()
        assert width < 0.5 * previous
        assert top < 3 / np.sqrt(n)
        previous = width


def test_low_variance_is_memorised_first_and_learned_last():
    rf = RandomFeatures(Subspaces([0.3, 0.3], [1.0, 0.09]), psi_p=64, psi_n=8, t=0.05)
    learn, memorise = rf.direction_times(np.array([0.0, 0.09, 1.0]))
    assert (np.diff(learn) < 0).all()
    assert (np.diff(memorise) > 0).all()
    # and so says the exact learning curve: half of the final gap
    tau = np.geomspace(1, 1e6, 400)
    half = [tau[np.argmax(c.gap > 0.5 * c.gap[-1])] for c in (rf.learning_curve(tau, r) for r in (0.09, 1.0))]
    assert half[0] < 0.8 * half[1]


def test_what_a_direction_has_left_to_memorise():
    """Between learning and memorising the training loss of a direction is e^{-2t} r/(e^{-2t} r + Delta), at the end nearly 0."""
    rf = RandomFeatures(TWO, psi_p=1e7, psi_n=1e4, t=0.2)
    for r in (1.5, 0.5):
        learn, memorise = rf.direction_times(r)
        assert learn < 1e-3 * memorise
        between, end = rf.learning_curve(np.array([10 * learn, np.inf]), r).train
        signal = rf.moments.decay * r
        assert between == pytest.approx(signal / (signal + rf.moments.Delta), rel=3e-3)
        assert end < 0.01


# --- learning curves ----------------------------------------------------------------------------------------------------


def test_linear_network_of_infinitely_many_samples_learns_the_exact_score():
    """A linear network fits the population: train and test agree, and the distance to the exact score ends at 0."""
    rf = RandomFeatures(Isotropic(1.0), psi_p=6, psi_n=1e9, t=0.3, activation="identity")
    tau = np.array([3.0, 30.0, np.inf])
    curve = rf.learning_curve(tau)
    assert curve.test == pytest.approx(curve.train, abs=1e-7)
    assert curve.distance[-1] == pytest.approx(0, abs=1e-6)


def test_curve_starts_at_one_and_slopes_by_the_traces():
    """dL/dtau at 0 is -4 N^2 |V|^2 per N: minus (4 Delta psi_p/psi_p) b^2 sigma_w^2."""
    curve = SMALL.learning_curve(np.array([0.0, 1e-6]))
    assert curve.train[0] == pytest.approx(1, abs=1e-12)
    assert curve.test[0] == pytest.approx(1, abs=1e-12)
    assert curve.distance[0] == pytest.approx(1, abs=1e-12)  # 1/(e^{-2t} + Delta)
    slope = -4 * SMALL.moments.Delta * SMALL.moments.b**2
    assert (curve.train[1] - 1) / 1e-6 == pytest.approx(slope, rel=1e-5)
    assert (curve.test[1] - 1) / 1e-6 == pytest.approx(slope, rel=1e-5)


def test_directions_add_up():
    rf = RandomFeatures(TWO, psi_p=12, psi_n=4, t=0.2, activation="tanh")
    tau = np.array([2.0, 50.0, 3e3, np.inf])
    whole, parts = rf.learning_curve(tau), [rf.learning_curve(tau, r) for r in (1.5, 0.5)]
    for kind in ("train", "test", "distance", "gap"):
        assert getattr(whole, kind) == pytest.approx(sum(getattr(c, kind) for c in parts) / 2, rel=1e-12)


@pytest.mark.parametrize("name", ["erf", "tanh"])
def test_gradient_flow_of_finite_features(name):
    """N = 80, two draws: within 2.5 % at every time (corrections are of order 1/N)."""
    rf = RandomFeatures(TWO, psi_p=6, psi_n=3, t=OU_01, activation=name)
    tau, r = np.array([1.0, 10.0, 100.0, 1e3, np.inf]), np.repeat([1.5, 0.5], 40)
    curve = rf.learning_curve(tau)
    runs = [flow(draw(r, 480, 240, OU_01, name, np.random.default_rng([80, i])), tau) for i in range(2)]
    mean = {kind: np.mean([run[kind] for run in runs], axis=0) for kind in ("train", "test")}
    for kind, measured in mean.items():
        assert measured == pytest.approx(getattr(curve, kind), rel=0.025)
    # negative control: the theory of twice the samples is far off
    wrong = RandomFeatures(TWO, psi_p=6, psi_n=6, t=OU_01, activation=name).learning_curve(tau)
    assert np.abs(mean["test"] / wrong.test - 1).max() > 0.1


def test_kolmogorov_distance_falls():
    """Eigenvalues of exact U (noise averaged) against the limit: the distance at N = 40, 80, 160 falls."""
    rf = RandomFeatures(Isotropic(1.0), psi_p=2, psi_n=4, t=0.2, activation="erf")
    z = np.unique(np.concatenate([np.linspace(low, high, 600) for low, high in rf.support]))
    rho = rf.density(z)
    cdf = np.concatenate([[0], np.cumsum((rho[1:] + rho[:-1]) / 2 * np.diff(z))]) + rf.atom[1]
    found = []
    for N in (40, 80, 160):
        made = draw(np.ones(N), 2 * N, 4 * N, 0.2, "erf", np.random.default_rng(N))
        found.append(np.abs(np.searchsorted(np.linalg.eigvalsh(made.U), z, side="right") / (2 * N) - cdf).max())
    assert found[0] > 1.4 * found[1] > 2 * found[2]  # measured 0.110, 0.064, 0.035: like 1/N
    assert found[2] < 0.05


def test_overfitting_begins_at_p_of_order_n():
    """Noise averaged: no peak at p = n but a rise to a plateau; training loss of many features at small noise tends to 0."""
    test = [
        float(RandomFeatures(Isotropic(1.0), psi_p=p, psi_n=4, t=0.05).learning_curve(np.inf).test)
        for p in (0.5, 1, 2, 4, 5, 8, 16, 64)
    ]
    assert int(np.argmin(test)) < 3
    assert (np.diff(test)[3:] > 0).all()
    assert test[-1] > 2 * test[3]
    infinite = RandomFeatures(Isotropic(1.0), psi_p=1e7, psi_n=4, t=1e-3).learning_curve(np.inf)
    assert infinite.train < 0.01


@pytest.mark.parametrize("draws", [1, 2, 4])
def test_interpolation_peak_is_at_p_equal_n_times_the_draws(draws):
    """Noise drawn, not averaged: the test loss is largest at p = n m [U26], where the training loss reaches 0."""
    grid = 3 * draws * np.array([0.5, 0.9, 0.98, 1.0, 1.02, 1.1, 2.0])
    losses = [RandomFeatures(Isotropic(1.0), psi_p=p, psi_n=3, t=OU_01).final_losses(draws) for p in grid]
    train, test = np.array(losses).T
    assert int(np.argmax(test)) == 3
    assert test[3] > 50 * test[0]
    assert train[2] > 1e-3 > 1e-4 > train[4]


def test_many_draws_are_averaged_noise():
    """Two routes: a real saddle with m draws, and contour integrals of the averaged problem."""
    rf = RandomFeatures(TWO, psi_p=8, psi_n=3, t=OU_01, activation="erf")
    assert rf.final_losses(draws=1e7) == pytest.approx(rf.final_losses(), rel=2e-5)


def test_drawn_noise_of_finite_features():
    """N = 60, p = 4 N, n = 3 N, 2 draws: six ridge regressions on the drawn features; control: averaged noise is far off."""
    rf, N, draws, rng = RandomFeatures(Isotropic(1.0), 4, 3, OU_01, "erf"), 60, 2, np.random.default_rng(4)
    Delta, decay, ridge, found = rf.moments.Delta, rf.moments.decay, 1e-3, []
    for _ in range(6):
        W, noise = rng.standard_normal((4 * N, N)), rng.standard_normal((N, 6 * N))
        X = np.repeat(rng.standard_normal((N, 3 * N)), draws, axis=1)
        F = activation("erf").function(W @ (np.sqrt(decay) * X + np.sqrt(Delta) * noise) / np.sqrt(N))
        U, V = F @ F.T / (6 * N), F @ noise.T / (6 * N)
        C = W @ W.T / N  # decay + Delta = 1
        scale = np.sqrt(1 + 2 * np.diag(C))
        population = 2 / np.pi * np.arcsin(2 * C / np.outer(scale, scale))
        V_population = 2 / np.sqrt(np.pi) / scale[:, None] * np.sqrt(Delta / N) * W
        A = np.linalg.solve(U + ridge * np.eye(4 * N), V)
        train = (noise**2).mean() - 2 * (A * V).sum() / N + (A * (U @ A)).sum() / N
        found.append([train, 1 - 2 * (A * V_population).sum() / N + (A * (population @ A)).sum() / N])
    theory = rf.final_losses(draws, ridge)
    assert np.mean(found, axis=0) == pytest.approx(theory, rel=0.04)
    assert abs(np.mean(found, axis=0)[1] / rf.final_losses()[1] - 1) > 0.3


def test_stopping_time_is_the_minimum():
    best = SMALL.stopping_time
    test = SMALL.learning_curve(best * np.array([0.7, 1.0, 1.4])).test
    assert test[1] < min(test[0], test[2])


@pytest.mark.parametrize(
    "rf",
    [
        RandomFeatures(Isotropic(1.0), psi_p=2, psi_n=1e8, t=0.2, activation="identity"),
        RandomFeatures(Isotropic(1.0), psi_p=64, psi_n=8, t=1e6),
        RandomFeatures(Isotropic(1.0), psi_p=64, psi_n=8, t=1e12),
    ],
)
def test_a_rise_by_rounding_is_no_reason_to_stop(rf):
    assert rf.stopping_time == np.inf
    assert rf.learning_curve(np.inf).test <= rf.learning_curve(np.geomspace(1, 1e6, 40)).test.min() * (1 + 1e-9)


def test_contour_has_converged():
    """The same with a wider contour."""
    tau = np.array([0.3, 5.0, 80.0, 1e3, 2e4, np.inf])
    rf = RandomFeatures(Spectrum(1 / np.arange(1, 31.0)), psi_p=20, psi_n=5, t=0.03)
    ours = rf.learning_curve(tau)
    other = replace(rf._losses, lowest=0.7 * rf._losses.lowest, highest=1.5 * rf._losses.highest).curve(tau)
    assert ours.test == pytest.approx(other.test, abs=1e-10)
    assert ours.train == pytest.approx(other.train, abs=1e-10)


# --- bad arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"psi_p": 0}, "psi_p"),
        ({"psi_n": -1}, "psi_n"),
        ({"t": np.nan}, "t"),
        ({"t": [1.0, 2.0]}, "t"),
        ({"activation": "abs"}, "activation"),
        ({"activation": "nonsense"}, "activation"),
        ({"model": 3}, "model"),
    ],
)
def test_bad_arguments(change, name):
    with pytest.raises(DomainError, match=f"^{name} = "):
        RandomFeatures(**{"model": Isotropic(1.0), "psi_p": 4, "psi_n": 2, "t": 0.1} | change)


def test_bad_draws():
    with pytest.raises(DomainError, match=r"^draws = "):
        SMALL.final_losses(0.5)
    with pytest.raises(DomainError, match=r"^ridge = "):
        SMALL.final_losses(2, -1.0)


def test_bad_training_time():
    with pytest.raises(DomainError, match=r"^tau = "):
        SMALL.learning_curve(-1.0)


# --- the experiment ----------------------------------------------------------------------------------------------------


def _with_twice_the_samples(case):
    return RandomFeatures(case.model, case.psi_p, 2 * case.psi_n, case.t, case.activation)


def test_experiment_notices_a_wrong_theory():
    """Negative control: against the theory of 2n samples what depends on n comes out wrong, by 17 to 38 %."""
    preset, cases = Preset("tiny", (10, 14, 20), (30, 20, 10), ()), training_time.CASES[:1]
    wrong = training_time.run(preset, seed=5, cases=cases, counted=None, theory=_with_twice_the_samples)
    for quantity in ("stopping time", "final test loss", "final training loss"):
        assert wrong.row(quantity, cases[0].label).outcome == "disagree"
    assert training_time.figure(wrong).axes[1].get_title(loc="left").startswith("learning curves")


@pytest.mark.slow
def test_experiment_agrees():
    """The quick preset: measured 16 agree, 6 inconclusive, none disagrees (false alarm below 6 % over 22 rows)."""
    result = training_time.run("quick")
    assert result.count()["disagree"] == 0
    assert result.count()["agree"] >= 15


@pytest.mark.parametrize("act", ["tanh", "relu", "sign"])
@pytest.mark.parametrize(
    ("psi_p", "psi_n", "t"), [(64, 8, 0.02), (0.5, 4, 1.0), (4, 0.3, 0.1), (3, 3, 1e-3), (64, 8, 1e-6)]
)
def test_end_of_training_by_the_resolvent_at_zero(act, psi_p, psi_n, t):
    """Two routes: z = 0 alone, and the contour around the spectrum."""
    rf = RandomFeatures(TWO, psi_p, psi_n, t, act)
    end = rf.learning_curve(np.inf)
    assert rf.final_losses() == pytest.approx((float(end.train), float(end.test)), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("model", "psi_p", "psi_n", "t", "act"),
    [
        (Isotropic(1.0), 64, 8, 1e-12, "tanh"),  # the lowest bulk at 1e-13 of the highest
        (Isotropic(1.0), 64, 8, 100.0, "tanh"),  # a bulk 1e-6 above the atom
        (Isotropic(1.0), 64, 8, 1e6, "tanh"),  # and one that rounding does not tell from it
        (Isotropic(1.0), 64, 0.01, 0.1, "tanh"),
        (Isotropic(1.0), 1e-3, 1e3, 0.1, "tanh"),
        (Isotropic(1.0), 1, 4, 0.1, "identity"),  # a hard edge at 0
        (Subspaces([0.5, 0.5], [1e4, 1e-6]), 8, 4, 1e-4, "relu"),  # ten decades of eigenvalues
    ],
)
def test_masses_at_the_ends_of_the_domain(model, psi_p, psi_n, t, act):
    rf = RandomFeatures(model, psi_p, psi_n, t, act)
    assert rf.masses.sum() + rf.atom[1] == pytest.approx(1, abs=2e-6)


def test_density_is_followed_over_ten_decades():
    """A bulk alone, with nothing above it asked for on the way."""
    rf = RandomFeatures(Subspaces([0.5, 0.5], [1e4, 1e-6]), 8, 4, 1e-4, "relu")
    low, high = rf.support[0]
    inside = low + (high - low) * np.array([0.1, 0.5, 0.9])
    assert (rf.density(inside) > 0).all()
    assert rf.density(inside)[0] == pytest.approx(rf.density(np.append(inside, 100.0))[0], rel=1e-9)


@pytest.mark.parametrize(("features", "samples"), [(0.5, 4), (64, 0.5), (64, 0.01)])
def test_without_a_bulk_of_samples_edges_are_the_support(features, samples):
    rf = RandomFeatures(Isotropic(1.0), features, samples, 0.1)
    assert rf.edges.tolist() == rf.support.tolist()
    assert rf.memorization_time == pytest.approx(features / (rf.moments.Delta * rf.support[0, 0]))
    assert PUBLISHED.edges.tolist() != PUBLISHED.support.tolist()


def test_linear_features_memorise_nothing():
    rf = RandomFeatures(Isotropic(1.0), 8, 4, 0.1, "identity")
    assert rf.window == (pytest.approx(11), np.inf)
    assert rf.direction_times(1.0)[1] == np.inf
    with pytest.raises(DomainError, match=r"psi_p = 1\.0"):
        _ = RandomFeatures(Isotropic(1.0), 1, 4, 0.1, "identity").stopping_time


@pytest.mark.parametrize(
    ("ask", "name"),
    [
        (lambda: SMALL.learning_curve("a"), "tau = a"),
        (lambda: SMALL.learning_curve([1.0, np.nan]), "tau = nan"),
        (lambda: SMALL.learning_curve(1.0, [1, 0.5]), "variance = "),
        (lambda: SMALL.final_losses("x"), "draws = x"),
        (lambda: SMALL.final_losses(0.5), "draws = 0.5"),
        (lambda: SMALL.final_losses(2, [1.0, 2.0]), "ridge = "),
        (lambda: RandomFeatures(TWO, [1, 2], 3, 0.1), "psi_p = "),
    ],
)
def test_bad_arguments_are_named(ask, name):
    with pytest.raises(DomainError, match=name):
        ask()


def _curved_and_gaussian(model, N, rng):
    """Losses of erf features on a curved manifold less those on Gaussian data of its covariance, same F and W."""
    tau, t, D, p = np.array([20.0, 100.0, np.inf]), 0.1, int(model.alpha_D * N), 8 * N
    F, W = rng.standard_normal((N, D)), rng.standard_normal((p, N))
    _, linear, rest = model.s.linear_and_noise(model.field_variance)
    Delta, decay = t / (1 + t), 1 / (1 + t)
    found = []
    for law in (model.s.function, lambda h: linear * h + np.sqrt(rest) * rng.standard_normal(h.shape)):
        moments = []
        for count in (4 * N, 30 * N):
            X = law(F @ rng.standard_normal((D, count)) / np.sqrt(D))
            moments.append(_second_moments("erf", W @ (np.sqrt(decay) * X) / np.sqrt(N), Delta * W @ W.T / N))
        (U, slope), (population, mean_slope) = moments
        V = np.sqrt(Delta / N) * W
        made = FiniteFeatures(U, population, slope[:, None] * V, mean_slope[:, None] * V, np.ones(N), Delta, decay)
        losses = flow(made, tau)
        found.append([losses["train"], losses["test"]])
    return np.subtract(*found)


def test_features_see_the_covariance_of_a_curved_manifold():
    """Gaussian equivalence: at equal F and W the difference falls as 1/N to 0, far below that of a wrong spectrum."""
    model, rng = HiddenManifold(0.3, "tanh"), np.random.default_rng(5)
    small, large = (
        np.array([_curved_and_gaussian(model, N, rng) for _ in range(count)]) for N, count in ((24, 10), (48, 5))
    )
    error = [x.std(axis=0, ddof=1) / np.sqrt(len(x)) for x in (small, large)]
    left = 2 * large.mean(axis=0) - small.mean(axis=0)
    spread = np.hypot(2 * error[1], error[0])
    assert np.abs(small.mean(axis=0))[1, 2] > 10 * error[0][1, 2]  # there is a difference to fall
    assert (np.abs(left) < 4.5 * spread + 0.01).all()
    features = RandomFeatures(model, 8, 4, 0.1, "erf")
    control = RandomFeatures(Isotropic(model.mean_variance), 8, 4, 0.1, "erf")
    assert control.final_losses()[1] - features.final_losses()[1] > 0.5
    assert finite_sample_loss(model, P=80, N=256, t=0.05).population == pytest.approx(
        float(np.mean([r * 0.05 / (r + 0.05) for r in _eigenvalues_of(model)])), rel=0.01
    )


def _eigenvalues_of(model, N=1500):
    """Of the covariance of one draw of F, sampled without the theory: linear coefficient and rest by quadrature."""
    D = int(model.alpha_D * N)
    F = np.random.default_rng(0).standard_normal((N, D)) / np.sqrt(D)
    x, w = np.polynomial.hermite_e.hermegauss(60)
    w = w / w.sum()
    linear = w @ (np.tanh(x) * x)
    return linear**2 * np.linalg.eigvalsh(F @ F.T) + w @ np.tanh(x) ** 2 - linear**2


def test_models_without_one_covariance_are_refused():
    with pytest.raises(DomainError, match="model = Mixture"):
        RandomFeatures(Mixture([0.5, 0.5], [Isotropic(1.0), Isotropic(0.5)]), 8, 4, 0.1)
    with pytest.raises(DomainError, match="alpha_D"):
        RandomFeatures(HiddenManifold([0.3, 0.5], "tanh"), 8, 4, 0.1)


def test_density_stays_on_its_branch():
    """Far below the largest eigenvalue: a long step once led to another solution, with a negative density."""
    rf = RandomFeatures(Isotropic(1.0), 32, 6, OU_001, "tanh")
    for low, high in rf.support:
        assert (rf.density(np.geomspace(low, high, 60)[1:-1]) > 0).all()
    assert rf.density(rf.support.ravel()) == pytest.approx(0, abs=1e-3 * rf.density(rf.support.mean(axis=1)).max())


@pytest.mark.parametrize("seed", range(3))
def test_any_model_has_a_positive_density_that_adds_up(seed):
    rng = np.random.default_rng(seed)
    for _ in range(8):
        psi_p, psi_n, t = 10 ** rng.uniform([-0.7, -0.7, -4], [2.5, 2.5, 1.5])
        model = [Isotropic(10 ** rng.uniform(-1, 1)), Subspaces([0.3, 0.4], 10 ** rng.uniform(-4, 1.5, 2))][
            rng.integers(2)
        ]
        rf = RandomFeatures(model, psi_p, psi_n, t, ["tanh", "relu", "erf", "sign"][rng.integers(4)])
        assert rf.masses.sum() + rf.atom[1] == pytest.approx(1, abs=1e-5)
        for low, high in rf.support:
            assert (rf.density(np.geomspace(low, high, 20)[1:-1]) >= 0).all()
        end = rf.learning_curve(np.inf)
        assert rf.final_losses() == pytest.approx((float(end.train), float(end.test)), rel=1e-6, abs=1e-9)


def test_bulks_of_a_manifold_are_not_the_lines_of_its_quadrature():
    """One bulk and one atom of the data's covariance: at most two bulks for each and that of the samples."""
    rf = RandomFeatures(LinearManifold(0.5), 64, 8, OU_001)
    assert len(rf.support) == 4
    assert rf.masses.sum() + rf.atom[1] == pytest.approx(1, abs=1e-5)
    assert rf.masses[-1] * 64 == pytest.approx(0.5, abs=1e-4)  # the directions on the manifold, learned
    assert rf.masses[-2] * 64 == pytest.approx(0.5, abs=1e-4)  # and those off it
    assert len(rf._coarse.support) > 4  # control: with the nodes that are enough for losses
