"""Compiled kernels agree with mpmath on the same sympy expression, by two routes, with the JIT on and off."""

import os
import subprocess
import sys

import mpmath
import numpy as np
import pytest
import sympy as sp

from numerics.domain import DomainError
from numerics.elementary.special import log1pmx, log_expm1, log_positive_root, logistic, softplus
from numerics.solvers.roots import monotone_root
from theory.engine import GaussianEngine
from theory.lowering import kernel, mpmath_function
from theory.notation import V, alpha_D, delta, r, t
from theory.rem.gaussian import explicit_curve, gaussian_rem, integrals

NAMES = ["onset", "collapse", "condensation", "generalization", "free_entropy", "slope", "trace"]


@pytest.mark.parametrize("name", NAMES)
def test_spectral_kernel_agrees_with_mpmath(name):
    """Over 40 decades of r/t, where the textbook forms cancel or overflow."""
    integrand = mpmath_function([r, t, delta], integrals(gaussian_rem())[name].integrand)
    weights, values = np.array([0.3, 0.2]), np.array([1.0, 0.04])
    engine = GaussianEngine(weights, values)
    for log_t in (-46.0, -5.0, -0.7, 0.0, 2.0, 12.0, 46.0):
        for d in (0.0, 0.3):
            with mpmath.workdps(60):
                time = mpmath.exp(mpmath.mpf(log_t))
                exact = sum(
                    mpmath.mpf(w) * integrand(mpmath.mpf(v), time, mpmath.mpf(d))
                    for w, v in zip(weights, values, strict=True)
                )
            ours = float(engine.integral(name, log_t, d))
            assert ours == pytest.approx(float(exact), rel=3e-14), (name, log_t, d)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ratio", [0.05, 0.5, 1.5])
def test_saddle_kernel_agrees_with_the_explicit_curve(name, ratio):
    value, time, _ = explicit_curve(integrals(gaussian_rem())[name])
    pair = mpmath_function([V, alpha_D, delta, t], sp.Tuple(value, time))
    engine = GaussianEngine([1.0], [1.0], alpha_D=ratio)
    low = max(0.0, 1 - 1 / ratio)
    for fraction in (1e-9, 1e-3, 0.2, 0.9, 0.999):
        with mpmath.workdps(60):
            v = mpmath.mpf(low) + (1 - mpmath.mpf(low)) * mpmath.mpf(fraction)
            _, when = pair(v, mpmath.mpf(ratio), mpmath.mpf(0), mpmath.mpf(1))
            exact, _ = pair(v, mpmath.mpf(ratio), mpmath.mpf("0.3"), when)
            log_t = mpmath.log(when)
        assert float(engine.integral(name, float(log_t), 0.3)) == pytest.approx(float(exact), rel=1e-12), fraction


def test_special_functions_at_40_digits():
    with mpmath.workdps(40):
        for u in (-800.0, -30.0, -1e-9, 0.0, 0.5, 40.0, 800.0):
            e = mpmath.exp(mpmath.mpf(u))
            assert softplus(u) == pytest.approx(float(mpmath.log1p(e)), rel=4e-16, abs=0)
            assert logistic(u) == pytest.approx(float(e / (1 + e)), rel=4e-16, abs=0)
        for z in (-0.999, -0.31, -0.3, -1e-3, 1e-12, 0.1, 0.3, 0.31, 5.0):
            exact = mpmath.log1p(mpmath.mpf(z)) - mpmath.mpf(z)
            assert log1pmx(z) == pytest.approx(float(exact), rel=2e-15)
        for v in (1e-12, 1.0, 39.0, 41.0, 1e4):
            assert log_expm1(v) == pytest.approx(float(mpmath.log(mpmath.expm1(mpmath.mpf(v)))), rel=1e-14)
        for log_a, b in ((0.0, 1.0), (-5.0, -2.0), (-300.0, 1e-9), (30.0, 1e3), (-2000.0, 0.5), (-4000.0, 0.0)):
            a, bb = mpmath.exp(mpmath.mpf(log_a)), mpmath.mpf(b)
            z = 2 / (bb + mpmath.sqrt(bb**2 + 4 * a)) if b >= 0 else (mpmath.sqrt(bb**2 + 4 * a) - bb) / (2 * a)
            assert log_positive_root(log_a, b) == pytest.approx(float(mpmath.log(z)), rel=1e-14, abs=1e-14)


def _cubic(x, p, w, l):
    return x**3 + x - p[0], 3 * x**2 + 1


def _flat(x, p, w, l):
    return 1.0 + 0.0 * x, 0.0


def test_monotone_root_and_its_failures():
    empty = np.empty(0)
    for target in (-1e6, -1.0, 0.0, 1e-9, 1e9):
        x, f, n, status = monotone_root.py_func(_cubic, 100.0, (target,), empty, empty, 1.0)
        assert status == 0
        assert n < 60
        assert abs(x**3 + x - target) <= 1e-12 * max(1.0, abs(target))
        assert f == x**3 + x - target
    *_, status = monotone_root.py_func(_flat, 0.0, (0.0,), empty, empty, 1.0)
    assert status != 0


def test_kernels_run_without_the_jit():
    code = (
        "from theory import LinearManifold, Subspaces, collapse_time;"
        "print(collapse_time(LinearManifold(0.5), 0.2), collapse_time(LinearManifold(0.4, [1, .3]), 0.2),"
        " collapse_time(Subspaces([.3, .3], [1, .09]), 0.2))"
    )
    values = []
    for disabled in ("0", "1"):
        environment = {**os.environ, "NUMBA_DISABLE_JIT": disabled}
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
        values.append(np.array(run.stdout.split(), dtype=float))
    assert values[0] == pytest.approx(values[1], rel=1e-14)


def test_kernels_are_found_again():
    assert kernel("collapse", saddle=True) is kernel("collapse", saddle=True)


def test_an_unknown_model_is_refused():
    from theory.engine import engine

    with pytest.raises(DomainError, match="model"):
        engine(3.0)
