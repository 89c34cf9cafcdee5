"""Two complex unknowns followed along a path of a complex parameter: Newton's method with tangent predictors and halved steps.

The unknowns (u, v) solve f(u, v) = 0 and h(u, v) = z, both analytic. `system(u, v, p, w, l)` returns f, h and their four
derivatives. `advance` goes from one z to another along the straight line, `trace` along a polyline. A step is halved when
Newton's method needs more than a few iterations or corrects the prediction by much, so that the branch is never left; a
caller that knows the sign of Im u and Im v on its branch has it enforced. Numba cannot cache kernels that take a function as a
value: `path_source` writes the functions out for one system.
"""

from __future__ import annotations

import inspect

__all__ = ["MAX_NEWTON", "advance", "path_source", "polish", "settle", "trace"]

MAX_NEWTON = 30
_FEW = 6  # iterations that a well-predicted step may take
_CLOSE = 0.25  # relative correction of the prediction beyond which a step is halved
_NEAR = 0.05  # the same where a neighbour's solution on the real axis is the starting point
_TIGHT = 2e-15  # relative step at which Newton's method ends
_DOUBLE = 1e-5  # at a double root, where an edge is, it stalls: the least step that is then taken for converged
_SMALLEST = 1e-9  # fraction of a segment below which it is given up
_ROUNDING = 1e-12  # of |u|, off the axis
_REAL = 1e-6  # of |u|: an imaginary part that rounding makes of a real solution, next to an edge its square root
_STRIDE = 10.0  # ratio of the ends of a segment along the ray


def polish(system, u, v, z, p, w, l):
    """Newton's method at fixed z: u, v, iterations, whether it converged, first relative correction."""
    previous = 1e300
    first = 0.0
    for n in range(MAX_NEWTON):
        f, h, fu, fv, hu, hv = system(u, v, p, w, l)
        det = fu * hv - fv * hu
        if det == 0.0:
            return u, v, n, False, 1e300
        du = -(f * hv - fv * (h - z)) / det
        dv = -(fu * (h - z) - f * hu) / det
        u += du
        v += dv
        step = max(abs(du) / abs(u), abs(dv) / abs(v))
        if n == 0:
            first = step
        if not step < 1e300:
            return u, v, n, False, 1e300
        if step <= _TIGHT or (step >= 0.5 * previous and step < _DOUBLE):
            return u, v, n + 1, True, first
        previous = step
    return u, v, MAX_NEWTON, False, first


def on_branch(u, z, sign):
    """Whether Im u has the sign at z, up to rounding: on the real axis both of a pair of complex solutions solve."""
    return sign * u.imag >= -(_ROUNDING if z.imag > 0.0 else _REAL) * abs(u)


def advance(system, u, v, start, stop, sign, p, w, l):
    """From the solution (u, v) at z = start to that at z = stop: u, v, iterations, whether it arrived.

    A solution of which Im u or Im v has not the sign is not accepted; sign 0 accepts all.
    """
    done = 0.0
    size = 1.0
    count = 0
    while done < 1.0:
        if size < _SMALLEST:
            return u, v, count, False
        size = min(size, 1.0 - done)
        z0 = start + done * (stop - start)
        z1 = stop if done + size >= 1.0 else start + (done + size) * (stop - start)
        _, _, fu, fv, hu, hv = system(u, v, p, w, l)
        det = fu * hv - fv * hu
        a = u - fv * (z1 - z0) / det
        b = v + fu * (z1 - z0) / det
        a, b, n, ok, first = polish(system, a, b, z1, p, w, l)
        count += n + 1
        if ok and not (on_branch(a, z1, sign) and on_branch(b, z1, sign)):
            ok = False
        if ok and n <= _FEW and first < _CLOSE:
            u = a
            v = b
            done += size
            size *= 3.0 if n <= 4 else 1.5
        else:
            # at the very end of a segment an edge may slow Newton's method down: accepted if close
            if ok and first < 1e-3:
                u = a
                v = b
                done += size
            else:
                size *= 0.4
    return u, v, count, True


def trace(system, path, u, v, sign, p, w, l, us, vs, ok):
    """Solutions at every point of `path`, from an approximate one (u, v) at path[0]; returns the number of iterations."""
    u, v, total, good, _ = polish(system, u, v, path[0], p, w, l)
    us[0] = u
    vs[0] = v
    ok[0] = good
    for i in range(1, path.size):
        if good:
            u, v, n, good = advance(system, u, v, path[i - 1], path[i], sign, p, w, l)
            total += n
        us[i] = u
        vs[i] = v
        ok[i] = good
    return total


def settle(system, ends, turn, u0, v0, z0, sign, p, w, l, u_end, v_end, ok):
    """Solutions at real z, in decreasing order in `ends`, as limits from above; returns the number of iterations.

    Inside a bulk a neighbour's solution with its tangent is tried first, and is nearly always enough. Else the branch is
    followed along the ray `turn` * z, from (u0, v0) at z0 on, and let down from there.
    """
    total = 0
    warm = False
    for i in range(ends.size):
        z1 = ends[i] + 0j
        u = u0
        v = v0
        good = False
        if warm:
            _, _, fu, fv, hu, hv = system(u_end[i - 1], v_end[i - 1], p, w, l)
            det = fu * hv - fv * hu
            if det != 0.0:
                u = u_end[i - 1] - fv * (z1 - ends[i - 1]) / det
                v = v_end[i - 1] + fu * (z1 - ends[i - 1]) / det
                u, v, n, good, first = polish(system, u, v, z1, p, w, l)
                total += n + 1
                good = good and first < _NEAR and sign * u.imag > 1e-4 * abs(u) and on_branch(v, z1, sign)
        if not good:
            good = True
            # decade by decade: a straight line would spend its least step on the last ones
            while good and abs(z0) > _STRIDE * abs(z1):
                u0, v0, n, good = advance(system, u0, v0, z0, z0 / _STRIDE, sign, p, w, l)
                z0 /= _STRIDE
                total += n
            if good:
                u0, v0, n, good = advance(system, u0, v0, z0, turn * z1, sign, p, w, l)
                z0 = turn * z1
                total += n
            if not good:
                ok[i:] = False
                return total
            u, v, n, good = advance(system, u0, v0, z0, z1, sign, p, w, l)
            total += n
        u_end[i] = u
        v_end[i] = v
        ok[i] = good
        # between bulks other real solutions may be near: no short cut from there
        warm = good and sign * u.imag > 1e-4 * abs(u)
    return total


_FUNCTIONS = (polish, on_branch, advance, trace, settle)
_CONSTANTS = {
    name: globals()[name]
    for name in (
        "MAX_NEWTON",
        "_FEW",
        "_CLOSE",
        "_TIGHT",
        "_NEAR",
        "_DOUBLE",
        "_SMALLEST",
        "_ROUNDING",
        "_REAL",
        "_STRIDE",
    )
}


def path_source() -> str:
    """Python source of the functions, compiled by numba, for a global function named `system`.

    >>> path_source().splitlines()[1]
    'def polish(u, v, z, p, w, l):'
    """
    text = ""
    for function in _FUNCTIONS:
        source = inspect.getsource(function).replace("(system, ", "(")
        for constant, value in _CONSTANTS.items():
            source = source.replace(constant, repr(value))
        text += f"@njit(cache=True)\n{source}\n\n"
    return text
