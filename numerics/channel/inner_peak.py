"""The inner integral of a scalar channel at one or several observations: sums over nodes, with as few exponentials as possible.

For given ``omega`` and ``x`` (`V` prior variance, `beta` inverse noise variance):
``I(x; omega) = E_{h ~ N(omega, V)} exp(-beta (x - s(h))^2 / 2)``. The nodes depend on ``omega`` only. When the integrand is a
narrow peak they are many, but each ``x`` uses only those within the peak, found by bisection on the monotone runs of ``s``;
so the cost is that of some fifty nodes for every noise level. Equally spaced observations share two exponentials a node,
because the ratio of neighbouring rows is itself an exponential.
"""

from __future__ import annotations

import numpy as np

from numerics.elementary import exp_block
from numerics.kernel_cache import njit

__all__ = ["ROWS", "SHORT", "inner_at", "inner_run", "monotone_runs", "widest_run"]

ROWS = 8  # observations that `inner_run` treats together
GROUP = 4  # and those that share the load of a node where a loop over nodes serves several
LEAST = 1e-130  # of such a sum over nodes: below, the peak was not found
SHORT = 96  # inner nodes up to which every observation takes them all
RUN = 20.0  # longest run of observations, in noise widths, that one pair of exponentials serves
LOWEST, HIGHEST = -690.0, 600.0  # exponents end here
STRIDE = 8  # nodes between those at which the peak is looked for: 6 widths


@njit(cache=True, error_model="numpy")
def widest_run(step, beta):
    """How many neighbours of a mesh of spacing `step`, of a multiple of `ROWS` points, `inner_run` may take: 8, 4 or 1."""
    run = ROWS
    while run > 1 and (run - 1) * step * np.sqrt(beta) > RUN:
        run //= 2
    return run if run > 2 else 1  # two exponentials for two rows save nothing


@njit(cache=True, error_model="numpy", fastmath={"contract", "nsz", "nnan", "reassoc"})
def exponents(x, beta, s, log_w, n, stride, out):
    """``out = log_w - beta (x-s)^2/2 - top``, at most `HIGHEST`; returns `top`, the largest at every `stride`-th node.

    Indices are plain, or the loop would not vectorise; nor would it with a search for the maximum inside.
    """
    half = 0.5 * beta
    d = x - s[n - 1]
    top = log_w[n - 1] - half * d * d
    for j in range(0, n, stride):
        d = x - s[j]
        top = max(top, log_w[j] - half * d * d)
    for j in range(n):
        d = x - s[j]
        out[j] = min(log_w[j] - half * d * d - top, HIGHEST)
    return top


@njit(cache=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"})
def _sums(x, s, y, n, p):
    s0 = s1 = s2 = d1 = d2 = c = 0.0
    for j in range(n):
        w = p[j]
        v = y[j]
        d = x - s[j]
        wv = w * v
        wd = w * d
        s0 += w
        s1 += wv
        s2 += wv * v
        d1 += wd
        d2 += wd * d
        c += wv * d
    return s0, s1, s2, d1, d2, c


@njit(cache=True, error_model="numpy")
def _lower_bound(s, first, last, value, increasing):
    """First index in ``[first, last)`` whose `s` is not before `value` in the run's direction."""
    low, high = first, last
    while low < high:
        middle = (low + high) // 2
        if (s[middle] < value) if increasing else (s[middle] > value):
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, error_model="numpy")
def monotone_runs(s, n):
    """Starts of the monotone runs of ``s[:n]``, with `n` at the end."""
    starts = [0]
    direction = 0
    for j in range(1, n):
        change = s[j] - s[j - 1]
        # rounding noise where s is flat is no turning point
        now = 0 if abs(change) < 1e-14 * (1.0 + abs(s[j])) else (1 if change > 0.0 else -1)
        if now != 0 and direction != 0 and now != direction:
            starts.append(j)
            direction = 0
        elif now != 0:
            direction = now
    starts.append(n)
    return np.array(starts)


@njit(cache=True, error_model="numpy")
def windows(x, spread, beta, s, runs, slack, spans):
    """Index ranges of the nodes that matter within `spread` of `x`: ``beta d^2/2`` within `slack` of the least one.

    Whole vectors where the run is long enough: the remainder of a vectorised loop costs as much again.
    """
    nearest = np.inf
    for r in range(runs.size - 1):
        a, b = s[runs[r]], s[runs[r + 1] - 1]
        nearest = min(nearest, max(min(a, b) - x, x - max(a, b), 0.0))
    nearest += spread
    radius = np.sqrt(nearest * nearest + 2.0 * slack / beta) + spread
    count = 0
    for r in range(runs.size - 1):
        first, last = runs[r], runs[r + 1]
        increasing = s[last - 1] >= s[first]
        left, right = (x - radius, x + radius) if increasing else (x + radius, x - radius)
        i = max(first, _lower_bound(s, first, last, left, increasing) - 1)
        j = min(last, _lower_bound(s, first, last, right, increasing) + 1)
        if j > i:
            j = min(last, i + (j - i + 15) // 16 * 16)
            i = max(first, j - (j - i + 15) // 16 * 16)
            spans[count, 0], spans[count, 1] = i, j
            count += 1
    return count


@njit(cache=True, error_model="numpy")
def _posterior(top, sums, out, row):
    s0, s1, s2, d1, d2, c0 = sums
    mean = s1 / s0
    gap = d1 / s0
    square = d2 / s0
    out[row, 0] = top + np.log(s0)
    out[row, 1] = mean
    out[row, 2] = s2 / s0 - mean * mean
    out[row, 3] = square
    out[row, 4] = square - gap * gap
    out[row, 5] = c0 / s0 - mean * gap


@njit(cache=True, error_model="numpy")
def _sane(total):
    """Whether the peak had been found: else the largest exponent is far from 0, and a tail may have been cut."""
    return 1e-100 < total < 1e100


@njit(cache=True, error_model="numpy")
def _one_window(x, beta, s, log_w, y, n, e, p, scale, bits, out, row):
    top = exponents(x, beta, s, log_w, n, STRIDE, e)
    exp_block(e, n, 0.0, p, scale, bits)
    sums = _sums(x, s, y, n, p)
    if not _sane(sums[0]):
        top = exponents(x, beta, s, log_w, n, 1, e)
        exp_block(e, n, 0.0, p, scale, bits)
        sums = _sums(x, s, y, n, p)
    _posterior(top, sums, out, row)
    return n


@njit(cache=True, error_model="numpy")
def _several_windows(x, beta, s, log_w, y, spans, parts, e, p, scale, bits, out, row):
    top, used = -np.inf, 0
    for c in range(parts):
        i, j = spans[c, 0], spans[c, 1]
        top = max(top, exponents(x, beta, s[i:j], log_w[i:j], j - i, 1, e))
    s0 = s1 = s2 = d1 = d2 = c0 = 0.0
    for c in range(parts):
        i, j = spans[c, 0], spans[c, 1]
        here = exponents(x, beta, s[i:j], log_w[i:j], j - i, 1, e)
        exp_block(e, j - i, top - here, p, scale, bits)
        t0, t1, t2, b1, b2, c1 = _sums(x, s[i:j], y[i:j], j - i, p)
        s0 += t0
        s1 += t1
        s2 += t2
        d1 += b1
        d2 += b2
        c0 += c1
        used += j - i
    _posterior(top, (s0, s1, s2, d1, d2, c0), out, row)
    return used


@njit(cache=True, error_model="numpy")
def inner_at(x, beta, s, log_w, y, n, runs, slack, e, p, scale, bits, spans, out, row):
    """The inner integral at `x` into ``out[row]``; returns the exponentials spent.

    Its log, mean and variance of ``y``, of ``d = x - s`` mean square and variance, covariance of `d` with `y`. ``e, p, scale``
    are work arrays of `n` numbers (bare arguments: a tuple of them, or a slice, costs as much as twenty exponentials).
    """
    if n <= SHORT:
        return _one_window(x, beta, s, log_w, y, n, e, p, scale, bits, out, row)
    parts = windows(x, 0.0, beta, s, runs, slack, spans)
    if parts == 1:
        i, j = spans[0, 0], spans[0, 1]
        return _one_window(x, beta, s[i:j], log_w[i:j], y[i:j], j - i, e, p, scale, bits, out, row)
    return _several_windows(x, beta, s, log_w, y, spans, parts, e, p, scale, bits, out, row)


@njit(cache=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"})
def _step_sums(origin, s, y, n, p, ratio):
    """Sums of the row `p`, with ``d = s - origin``, and the next row: ``p *= ratio``."""
    s0 = s1 = s2 = d1 = d2 = c = 0.0
    for j in range(n):
        w = p[j]
        v = y[j]
        d = s[j] - origin
        wv = w * v
        wd = w * d
        s0 += w
        s1 += wv
        s2 += wv * v
        d1 += wd
        d2 += wd * d
        c += wv * d
        p[j] = w * ratio[j]
    return s0, s1, s2, d1, d2, c


@njit(cache=True, error_model="numpy")
def _window_run(first, step, count, beta, s, log_w, y, n, e, p, scale, bits, ratio, out):
    """`inner_run` over all of the nodes handed in; returns whether it can be trusted."""
    top_a = exponents(first, beta, s, log_w, n, STRIDE, p)
    top_b = exponents(first + step * (count - 1), beta, s, log_w, n, STRIDE, e)
    share = 1.0 / (count - 1)
    for j in range(n):
        e[j] = (max(e[j], LOWEST) - max(p[j], LOWEST)) * share
    exp_block(e, n, 0.0, ratio, scale, bits)
    # (not in place: the compiler makes vectors only of arrays that do not overlap)
    for j in range(n):
        e[j] = p[j]
    exp_block(e, n, 0.0, p, scale, bits)
    good = True
    bend = 0.5 * beta * step * step
    slope = (top_b - top_a) * share
    for k in range(count):
        s0, s1, s2, d1, d2, c0 = _step_sums(first + step * k, s, y, n, p, ratio)
        good = good and _sane(s0)
        _posterior(top_a + slope * k + bend * k * (count - 1 - k), (s0, s1, s2, -d1, d2, -c0), out, k)
    return good


@njit(cache=True, error_model="numpy")
def inner_run(first, step, count, beta, s, log_w, y, n, runs, slack, e, p, scale, bits, ratio, spans, out):
    """`inner_at` for ``first + step k``, ``k < count``, into ``out[k]``: two exponentials a node for all of them.

    The exponents are parabolas in `k` of one curvature. With `a`, `b` their values at the two ends less the largest there,
    ``exp(a + k (b-a)/(count-1))`` is each row up to a factor common to all nodes: one multiplication a row, and no overflow.
    Returns the exponentials spent, and the integrands that they served.
    """
    if n <= SHORT:
        if _window_run(first, step, count, beta, s, log_w, y, n, e, p, scale, bits, ratio, out):
            return 2 * n, count * n
    else:
        half = 0.5 * step * (count - 1)
        parts = windows(first + half, half, beta, s, runs, slack, spans)
        i, j = spans[0, 0], spans[parts - 1, 1]
        # windows of neighbouring runs with a short gap between are one
        if (parts == 1 or j - i <= 2 * SHORT) and _window_run(
            first, step, count, beta, s[i:j], log_w[i:j], y[i:j], j - i, e, p, scale, bits, ratio, out
        ):
            return 2 * (j - i), count * (j - i)
    spent = 0
    for k in range(count):
        spent += inner_at(first + step * k, beta, s, log_w, y, n, runs, slack, e, p, scale, bits, spans, out, k)
    return spent, spent
