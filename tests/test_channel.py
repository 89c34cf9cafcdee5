"""The compiled channel: exponential, tables, inner integrals against mpmath, outer ones against each other."""

import mpmath
import numpy as np
import pytest
import sympy as sp
from replica_referee import inner, matched_averages

from numerics.channel.clean_rows import clean_rows, kernel_matrix
from numerics.channel.half_lines import BLOCK, block_work, half_line_laws, half_line_moments
from numerics.channel.inner_peak import monotone_runs
from numerics.channel.matched_rows import matched_rows
from numerics.channel.moments import CLEAN, MATCHED, NOISY, Channel
from numerics.domain import DomainError
from numerics.elementary.fast_exp import exp_array, log_array
from numerics.elementary.tabulated import table_values_and_slopes, tabulate
from numerics.solvers.fixed_point import FixedPoint, StableFixedPoint
from numerics.solvers.solution import Status
from theory.models.activations import activation

ONE = np.ones(1)
PIECEWISE = ("relu", "leaky_relu", "abs", "sign")


def moments(channel, q, slope, sigma, V, t, delta, mode):
    return channel.moments(q * ONE, slope * ONE, sigma * ONE, V * ONE, ONE / t, delta * ONE, mode)


def test_exp_against_mpmath():
    x = np.concatenate([np.linspace(-690, 600, 401), np.geomspace(1e-12, 1, 50), -np.geomspace(1e-12, 1, 50)])
    exact = np.array([float(mpmath.exp(mpmath.mpf(v))) for v in x])
    assert np.abs(exp_array(x) / exact - 1).max() < 1e-15


def test_log_against_mpmath():
    x = np.concatenate([np.geomspace(1e-300, 1e300, 401), 1 + np.linspace(-0.4, 0.6, 201), [np.nextafter(1, 0), 1.0]])
    exact = np.array([float(mpmath.log(mpmath.mpf(v))) for v in x])
    assert np.abs(log_array(x) - exact).max() < 2e-16 * 700
    near = np.abs(x - 1) < 0.6
    np.testing.assert_allclose(log_array(x)[near], exact[near], rtol=1e-15)


def test_tables_meet_their_tolerance_and_know_their_critical_points():
    sine = tabulate(np.sin, 16.0)
    h = np.linspace(-16, 16, 4001)
    assert np.abs(sine(h) - np.sin(h)).max() < 2e-14
    np.testing.assert_allclose(sine.critical_points(), np.pi / 2 + np.pi * np.arange(-5, 5), atol=1e-6)
    assert sine.continuous
    assert sine.edges.size == 65  # a smooth function needs no panel below the widest: what splits it would be rounding
    values, slopes = np.empty((2, h.size))
    table_values_and_slopes(sine.edges, sine.coefficients, sine.slope_coefficients, h, h.size, values, slopes)
    np.testing.assert_allclose(values, np.sin(h), atol=2e-14)
    np.testing.assert_allclose(slopes, np.cos(h), atol=1e-12)
    outside = np.array([-17.0, 0.0, 17.0])
    table_values_and_slopes(sine.edges, sine.coefficients, sine.slope_coefficients, outside, 3, values, slopes)
    np.testing.assert_allclose(slopes[:3], [0, 1, 0], atol=1e-12)
    assert not tabulate(np.sign, 4.0, (0.0,)).continuous


def test_rounding_of_the_argument_is_no_roughness():
    far = tabulate(np.sin, 200.0)
    h = np.linspace(-200, 200, 4001)
    assert far.edges.size == 801
    assert np.abs(far(h) - np.sin(h)).max() < 1e-13


def test_an_undeclared_kink_is_an_error():
    with pytest.raises(DomainError, match="rough near h = "):
        tabulate(lambda h: np.abs(h - 0.3), 4.0)


def one_observation(name, x, omega, V, t, slope=0.7):
    """All sums of a block that holds one observation, and the weight of Stein's form."""
    block, weight, stein, out = (np.zeros(BLOCK) for _ in range(4))
    block[0], weight[0], stein[0] = x, 1.0, 0.3
    shape = np.array(activation(name).pieces)
    half_line_moments(block, weight, stein, 1, omega, V, 1 / t, slope, shape, block_work(), out)
    return out


@pytest.mark.parametrize("name", PIECEWISE)
@pytest.mark.parametrize(
    ("x", "omega", "V", "t"),
    [(0.3, 0.1, 0.5, 0.2), (-0.7, 1.2, 0.3, 0.05), (2.0, -1.5, 0.9, 1e-2), (1e-3, 0.02, 1e-3, 1e-4)],
)
def test_erf_forms_against_mpmath_quadrature(name, x, omega, V, t):
    got = one_observation(name, x, omega, V, t)
    with mpmath.workdps(30):
        log_i, mean, variance, square = (float(v) for v in inner(name, x, omega, V, 1 / mpmath.mpf(t)))
    f = mean / np.sqrt(V)
    expected = [log_i, f * f, (variance - 1) / V, square, 1.0]
    np.testing.assert_allclose(got[[0, 1, 2, 4, 6]], expected, rtol=2e-12, atol=1e-14)


def test_the_teachers_derivative_is_that_of_f():
    """``out[3]`` is ``dw f + slope df/dx``: by a difference of `f` itself."""
    x, omega, V, t, h = 1.3, 0.1, 0.5, 0.2, 1e-5
    root = [np.sqrt(one_observation("leaky_relu", x + s * h, omega, V, t)[1]) for s in (-1, 0, 1)]
    expected = 0.3 * root[1] + 0.7 * (root[2] - root[0]) / (2 * h)
    assert one_observation("leaky_relu", x, omega, V, t)[3] == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("side", [0, 1])
def test_the_law_of_one_side_integrates_to_its_mass(side):
    """relu's active half: ``s(h) + noise`` for ``h ~ N(omega, sigma), h > 0``; the mean of h by Stein."""
    x = np.linspace(-4, 6, 96)
    step, omega, sigma, delta = x[1] - x[0], 0.2, 0.6, 0.05
    law, stein = np.zeros(BLOCK), np.zeros(BLOCK)
    shape = np.array(activation("relu").pieces)
    half_line_laws(x, np.full(96, step), 96, omega, sigma, delta, side, shape, block_work(), law, stein)
    from scipy.stats import norm

    z = omega / np.sqrt(sigma)
    sign = 2 * side - 1
    assert law.sum() == pytest.approx(norm.cdf(sign * z), abs=1e-10)
    assert stein.sum() == pytest.approx(sign * norm.pdf(z) / np.sqrt(sigma), abs=1e-10)


@pytest.mark.parametrize("name", PIECEWISE)
@pytest.mark.parametrize("mode", [CLEAN, MATCHED])
def test_closed_forms_agree_with_the_table_kernel(name, mode):
    """Two kernels, two meshes, one integral."""
    act = activation(name)
    exact = act.channel(16.0)
    table = Channel(tabulate(act.function, 16.0, act.breakpoints), None, act.parity)
    t, V = 0.4, 0.35
    arguments = (1 - V, 1.0, V, V, t, t, mode) if mode == MATCHED else (0.6, 0.93, 0.5, V, t, 0.0, mode)
    a, b = moments(exact, *arguments), moments(table, *arguments)
    for field in ("log_i", "f_square", "f_slope", "f_star", "square", "variance", "mass"):
        np.testing.assert_allclose(getattr(a, field), getattr(b, field), rtol=3e-8, err_msg=field)
    np.testing.assert_allclose(a.log_i, b.log_i, rtol=1e-10)


def linear_moments(q, slope, sigma, V, t, delta):
    square = (slope - 1) ** 2 * q + sigma + delta
    return -0.5 * np.log1p(V / t) - 0.5 * square / (V + t), square / (V + t) ** 2, -1 / (V + t), 1 / (V + t)


@pytest.mark.parametrize("t", [1.0, 1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("wide", [True, False])
def test_table_kernel_is_exact_for_the_identity(t, wide):
    """Also where the inner peak is a thousand times narrower than the prior."""
    channel = Channel(tabulate(lambda h: h, 16.0), None, 0)
    V = 0.6 if wide else min(t, 0.6)
    for mode, arguments in (
        (CLEAN, (1 - V, 1 - 0.2 * np.sqrt(V), 1.3 * V, V, t, 0.0)),
        (MATCHED, (1 - V, 1.0, V, V, t, t)),
    ):
        got = moments(channel, *arguments, mode)
        exact = linear_moments(*arguments)
        np.testing.assert_allclose([got.log_i[0], got.f_square[0], got.f_slope[0], got.f_star[0]], exact, rtol=1e-10)
        assert abs(got.mass[0] - 1) < 1e-12


@pytest.mark.parametrize(
    ("name", "mode", "cell", "most"),
    [
        # a lattice of thousands of nodes: no matrix of all its pairs, and none where the teacher's window is as long as it
        ("tanh", CLEAN, (9999.95, 1.0, 0.05, 0.05, 1.0, 0.0), 1e7),
        ("tanh", CLEAN, (1.0, 0.5, 1e4, 9990.0, 1.0, 0.0), 3e7),
        # windows much narrower than a panel of the table: no node more than their own slopes ask for
        ("quadratic", MATCHED, (1 - 7.3e-5, 1.0, 7.3e-5, 7.3e-5, 1.4e-7, 1.4e-7), 1e6),
        # observations far apart: none reads the nodes of its neighbours
        ("quadratic", CLEAN, (0.9997, 1.0, 3.5e-5, 2.6e-4, 1.13e-6, 0.0), 1.2e6),
    ],
)
def test_far_cells_keep_their_mass_at_a_bounded_price(name, mode, cell, most):
    got = moments(activation(name).channel(1600.0 if cell[3] > 1 or cell[0] > 2 else 16.0), *cell, mode)
    assert abs(got.mass[0] - 1) < 1e-12
    assert got.exps[0] < most


def nodes(function, count, V, omega=0.3):
    """Inner nodes of one omega as the kernels take them, and their work arrays."""
    y = np.linspace(-8.5, 8.5, count)
    s = np.ascontiguousarray(function(omega + np.sqrt(V) * y))
    log_w = np.log(y[1] - y[0]) - 0.5 * y**2 - 0.5 * np.log(2 * np.pi)
    e, p, scale, ratio, gap = np.empty((5, max(1000, count)))
    return s, log_w, y, [gap, ratio, e, p, scale, scale.view(np.int64), np.empty((8, 2), np.int64), np.empty((7, 1000))]


@pytest.mark.parametrize(
    ("function", "count", "V", "t", "low", "high"),
    [
        (np.tanh, 48, 0.5, 0.5, -4.0, 4.0),  # all nodes, one run of rows
        (np.tanh, 48, 0.5, 0.05, -1.5, 2.0),  # several runs
        (np.tanh, 2000, 0.5, 1e-4, -0.6, 0.9),  # windows
        (np.square, 4000, 0.5, 1e-4, 0.0, 2.0),  # two windows far apart: one observation after the other
    ],
)
def test_chains_of_products_are_the_sums_one_by_one(function, count, V, t, low, high):
    s, log_w, y, work = nodes(function, count, V)
    step, beta, out = 0.6 * np.sqrt(t), 1 / t, np.zeros(9)
    runs = monotone_runs(s, count)
    result = np.empty((8, 6))
    arguments = (s, log_w, y, count, runs, 80.0)
    exps, served = matched_rows(low, high, step, 0.7, V, beta, *arguments, *work, result, out)
    rows = (max(2, int(np.ceil((high - low) / step)) + 1) + 3) // 4 * 4
    x, h = np.linspace(low, high, rows, retstep=True)
    w = 0.7 * h * np.where((x == x[0]) | (x == x[-1]), 0.5, 1.0)
    d = x[:, None] - s
    inner = np.exp(log_w - 0.5 * beta * d**2)
    total = inner.sum(1)
    mean, gap = (inner * y).sum(1) / total, (inner * d).sum(1) / total
    w = w * total
    expected = [
        (w * np.log(total)).sum(), (w * mean**2).sum() / V, -(w * mean**2).sum() / V, 0.0, w.sum() * t,
        w.sum() * t - (w * gap**2).sum(), w.sum(),
    ]  # fmt: skip
    np.testing.assert_allclose(out[:7], expected, rtol=1e-12, atol=1e-14)
    if function is np.tanh:  # few exponentials, if any of this is to make sense
        assert exps < 0.2 * served


@pytest.mark.parametrize(
    ("function", "count", "V", "t"),
    [(np.tanh, 48, 0.5, 0.5), (np.tanh, 2000, 0.5, 1e-4), (np.square, 4000, 0.5, 1e-4), (np.tanh, 48, 0.5, 1e-4)],
)
@pytest.mark.parametrize("shared", [False, True])
def test_noiseless_rows_are_the_sums_one_by_one(function, count, V, t, shared):
    """By groups of four and from a shared matrix, in windows and without; where all weights underflow too (the last case)."""
    s, log_w, y, work = nodes(function, count, V)
    rng = np.random.default_rng(3)
    x = np.sort(function(0.3 + np.sqrt(V) * rng.standard_normal(28)))
    weight, chain, stein = rng.random((3, 28))
    beta, out, result = 1 / t, np.zeros(9), np.empty((8, 6))
    kernel = kernel_matrix(x, beta, s) if shared else np.empty((0, 0))
    w, _, e, p, scale, bits, spans, sums = work
    clean_rows(
        x, weight, chain, stein, 28, V, beta, s, log_w, y, count, monotone_runs(s, count), 80.0, kernel, 0, 0,
        w, e, p, scale, bits, spans, sums, result, out,
    )  # fmt: skip
    d = x[:, None] - s
    inner = np.exp(log_w - 0.5 * beta * d**2)
    top = inner.sum(1)
    inner /= top[:, None]
    mean, shift, square = (inner * y).sum(1), (inner * d).sum(1), (inner * d * d).sum(1)
    spread, cross = (inner * y * y).sum(1) - mean**2, (inner * y * d).sum(1) - mean * shift
    expected = [
        (weight * np.log(top)).sum(), (weight * mean**2).sum() / V, (weight * (spread - 1)).sum() / V,
        (weight * (chain * cross + stein * mean / np.sqrt(V))).sum(), (weight * square).sum(),
        (weight * (square - shift**2)).sum(), weight.sum(),
    ]  # fmt: skip
    np.testing.assert_allclose(out[:7], expected, rtol=1e-10)


@pytest.mark.parametrize("name", ["tanh", "erf", "sin", "relu", "abs", "sign"])
def test_noisy_mode_meets_matched_mode(name):
    """Three outer dimensions against two, at the point where both apply."""
    channel = activation(name).channel(16.0)
    V, t = 0.3, 0.5
    a = moments(channel, 1 - V, 1.0, V, V, t, t, MATCHED)
    b = moments(channel, 1 - V, 1.0, V, V, t, t, NOISY)
    for field, rtol in (("log_i", 1e-10), ("f_square", 1e-7), ("f_slope", 1e-7), ("square", 1e-9), ("variance", 1e-8)):
        np.testing.assert_allclose(getattr(a, field), getattr(b, field), rtol=rtol, err_msg=field)
    # Nishimori: the student's force is the teacher's
    np.testing.assert_allclose(a.f_square, -a.f_slope, rtol=1e-7)
    np.testing.assert_allclose(b.f_square, -b.f_slope, rtol=1e-7)
    np.testing.assert_allclose(b.square, t, rtol=1e-9)  # which the matched kernel of smooth functions takes for granted
    np.testing.assert_allclose(b.f_star, a.f_square, rtol=1e-7)


def test_refining_the_rule_converges():
    """The error falls at least tenfold from a coarse to the default rule, and is then below 1e-12 in log I."""
    channel = activation("tanh").channel(16.0)
    arguments = (0.5, 1.0, 0.5, 0.5, 0.3, 0.3, MATCHED)
    best = moments(channel.with_rule(channel.rule.refined(2.0)), *arguments).log_i[0]
    default = abs(moments(channel, *arguments).log_i[0] / best - 1)
    coarse = abs(moments(channel.with_rule(channel.rule.refined(0.35)), *arguments).log_i[0] / best - 1)
    assert default < 1e-12
    assert coarse > 10 * default


@pytest.mark.slow
def test_matched_averages_against_mpmath():
    channel = activation("tanh").channel(16.0)
    got = moments(channel, 0.45, 1.0, 0.55, 0.55, 0.6, 0.6, MATCHED)
    with mpmath.workdps(20):
        log_i, force = matched_averages("tanh", "0.45", "0.6", steps=(3, 3), inner_points=60)
    np.testing.assert_allclose([got.log_i[0], got.f_square[0]], [float(log_i), float(force)], rtol=1e-12)


def test_users_own_activation_in_three_ways():
    h = sp.Symbol("y")
    channels = [activation(a).channel(16.0) for a in ("tanh", sp.tanh(h), np.tanh)]
    values = [moments(c, 0.5, 1.0, 0.5, 0.5, 0.3, 0.3, MATCHED).log_i[0] for c in channels]
    assert max(values) - min(values) < 1e-13


@pytest.mark.parametrize(
    ("bad", "keywords", "message"),
    [
        ("gelu", {}, "one of identity"),
        (sp.Symbol("x") * sp.Symbol("y"), {}, "exactly one symbol"),
        (lambda x: 1 / (x * 0), {}, "finite"),
        (np.tanh, {"slope": np.cos}, "derivative"),
        (3, {}, "callable"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_bad_activations(bad, keywords, message):
    with pytest.raises(DomainError, match=message):
        activation(bad, **keywords)


def test_anderson_solves_and_reports():
    A = np.array([[0.5, -0.6], [0.3, 0.4]])
    found = FixedPoint().solve(lambda y, cells: (np.tanh(y @ A.T) + 0.3, y[:, :1]), np.zeros((4, 2)))
    assert (found.status == Status.OK).all()
    assert (np.abs(np.tanh(found.y @ A.T) + 0.3 - found.y) < 1e-11).all()
    lost = FixedPoint(limit=5).solve(lambda y, cells: (y + 1, y), np.zeros((1, 1)))
    assert lost.status[0] == Status.NOT_CONVERGED


def test_stable_fixed_point_avoids_the_unstable_one():
    """``tanh(2 y)``: 0 is a fixed point that plain iteration leaves; a start of 1e-3 must end at +0.9575."""
    found = StableFixedPoint().solve(lambda y, cells: (np.tanh(2 * y), y), np.array([[1e-3], [-1e-3], [5.0]]))
    np.testing.assert_allclose(found.y[:, 0], [0.957504024, -0.957504024, 0.957504024], atol=1e-9)


def test_kernels_run_in_the_interpreter_too():
    """Without numba's compiler the same functions give the same numbers: what is compiled is what is written."""
    import os
    import subprocess
    import sys

    code = (
        "import numpy as np; from numerics.channel import *; from theory.models.activations import activation\n"
        "for name, mode in (('tanh', MATCHED), ('tanh', CLEAN), ('relu', NOISY), ('sign', CLEAN)):\n"
        "    c = activation(name).channel(16.0).with_rule(Rule(1.4, 1.2, 0.5, 0.5))\n"
        "    d = 0.5 if mode == MATCHED else 0.2 if mode == NOISY else 0.0\n"
        "    m = c.moments(*(np.array([v]) for v in (0.5, 1.0, 0.5, 0.5, 2.0, d)), mode)\n"
        "    print(m.log_i[0], m.f_square[0], m.f_slope[0], m.f_star[0], m.square[0])\n"
    )
    outputs = []
    for disabled in ("0", "1"):
        environment = {**os.environ, "NUMBA_DISABLE_JIT": disabled}
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
        outputs.append(np.array(run.stdout.split(), dtype=float))
    assert outputs[0].size == 20
    np.testing.assert_allclose(*outputs, rtol=1e-12)
