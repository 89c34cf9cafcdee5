"""Roots of monotone functions: Newton's method kept inside a bracket that it builds on the way.

`monotone_root` is the whole algorithm for one cell; compiled kernels (see `theory.lowering`) run it in parallel over a
grid. The residual it is handed returns value and derivative, `f, df = residual(x, p, w, l)`, with cell parameters `p` and
arrays `w`, `l` shared by all cells. Numba cannot cache a kernel on disk that passes a function as a value, so kernels
that are cached hold a copy specialised to one residual by `specialised_source`.
"""

from __future__ import annotations

import inspect
import math

from numerics.kernel_cache import njit

__all__ = ["MAX_ITERATIONS", "monotone_root", "specialised_source"]

MAX_ITERATIONS = 200
_OK, _NO_BRACKET, _NOT_CONVERGED = 0, 1, 2  # values of numerics.solvers.solution.Status
_EPS = 2.220446049250313e-16
_FAR = 1e15


def _monotone_root(residual, x, p, w, l, sign):
    """Root of a monotone `residual`, `sign` = +1 if it increases with x and -1 if it decreases.

    Newton steps from `x`; a step that leaves the bracket found so far is replaced by bisection, or, while one side is
    still open, by a doubling step. Ends when a step is below rounding, and evaluates the residual once more at the end.

    Returns
    -------
    (x, f, iterations, status)
        with `f` the residual re-evaluated at the returned `x`, and `status` a `numerics.solvers.solution.Status`.
    """
    low, high = -math.inf, math.inf
    stride = 1.0
    status = _NOT_CONVERGED
    n = 0
    while n < MAX_ITERATIONS:
        n += 1
        f, df = residual(x, p, w, l)
        if f == 0.0:
            status = _OK
            break
        if math.isnan(f) or abs(x) > _FAR:
            status = _NO_BRACKET
            break
        if sign * f > 0.0:
            high = x
        else:
            low = x
        step = -f / df if df != 0.0 else math.inf
        new = x + step
        if not (low < new < high) or math.isinf(new):
            if math.isinf(low):
                new = high - stride
                stride *= 2.0
            elif math.isinf(high):
                new = low + stride
                stride *= 2.0
            else:
                new = 0.5 * (low + high)
        moved = abs(new - x)
        scale = max(1.0, abs(x))
        x = new
        if moved <= 2.0 * _EPS * scale or high - low <= 4.0 * _EPS * scale:
            status = _OK
            break
    f, df = residual(x, p, w, l)
    if status == _OK and not abs(f) < 1e-6:
        status = _NO_BRACKET
    return x, f, n, status


monotone_root = njit(_monotone_root)


def specialised_source(name: str, residual: str) -> str:
    """Python source of `monotone_root` with the global function `residual` in place of its first argument.

    >>> specialised_source("root_of_f", "f").splitlines()[1]
    'def root_of_f(x, p, w, l, sign):'
    """
    source = inspect.getsource(_monotone_root)
    source = source.replace("def _monotone_root(residual, ", f"def {name}(").replace(
        "residual(x, p", f"{residual}(x, p"
    )
    constants = {"MAX_ITERATIONS": MAX_ITERATIONS, "_OK": _OK, "_NO_BRACKET": _NO_BRACKET}
    constants |= {"_NOT_CONVERGED": _NOT_CONVERGED, "_EPS": _EPS, "_FAR": _FAR}
    for constant, value in constants.items():
        source = source.replace(constant, repr(value))
    return "@njit(cache=True)\n" + source
